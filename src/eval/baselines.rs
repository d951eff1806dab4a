//! Baselines that do not read the text. Every table of metrics contains them.

use super::{EvalError, Undefined, all_finite, at_least, is_constant, mean, same_length};

/// A linear predictor of one column, fitted by least squares: score = intercept + slope · x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Score at x = 0.
    pub intercept: f64,
    /// Score per unit of x.
    pub slope: f64,
}

/// The constant baseline: every row gets the mean of the training scores, the constant with the smallest squared error. Without
/// training scores pass the test scores themselves; the baseline is then slightly too good.
///
/// # Errors
/// Undefined without training scores.
pub fn constant(train: &[f64], rows: usize) -> Result<Vec<f64>, Undefined> {
    at_least(1, train.len())?;
    Ok(vec![mean(train); rows])
}

/// The length baseline: linear in ln(1 + length) of the response (in words, tokens or characters).
///
/// # Errors
/// Columns of different length, or scores that are not finite.
pub fn fit_length(lengths: &[usize], scores: &[f64]) -> Result<Result<Line, Undefined>, EvalError> {
    same_length("the length column", lengths.len(), "the score column", scores.len())?;
    all_finite("the score column", scores)?;
    Ok(least_squares(&logs(lengths), scores))
}

/// The overlap baseline: linear in the share of shared words ([`word_overlap`]).
///
/// # Errors
/// As [`fit_length`].
pub fn fit_overlap(overlaps: &[f64], scores: &[f64]) -> Result<Result<Line, Undefined>, EvalError> {
    same_length("the overlap column", overlaps.len(), "the score column", scores.len())?;
    all_finite("the score column", scores)?;
    Ok(least_squares(overlaps, scores))
}

/// The number of distinct words that two texts share, divided by the number of distinct words of both: 0 to 1, and 0 for two
/// texts without words. A word is a run of letters and digits, in lower case.
pub fn word_overlap(one: &str, other: &str) -> f64 {
    let words = |text: &str| -> std::collections::BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
    };
    let (one, other) = (words(one), words(other));
    let shared = one.intersection(&other).count();
    shared as f64 / (one.len() + other.len() - shared).max(1) as f64
}

impl Line {
    /// The scores for these values of x.
    pub fn predict(&self, x: &[f64]) -> Vec<f64> {
        x.iter().map(|x| self.intercept + self.slope * x).collect()
    }

    /// The length baseline's scores for responses of these lengths.
    pub fn predict_lengths(&self, lengths: &[usize]) -> Vec<f64> {
        self.predict(&logs(lengths))
    }
}

fn logs(lengths: &[usize]) -> Vec<f64> {
    lengths.iter().map(|&n| (n as f64).ln_1p()).collect()
}

fn least_squares(x: &[f64], y: &[f64]) -> Result<Line, Undefined> {
    at_least(2, x.len())?;
    if is_constant(x) {
        return Err(Undefined::ConstantPredictor);
    }
    let (x_mean, y_mean) = (mean(x), mean(y));
    let covariance: f64 = x.iter().zip(y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let variance: f64 = x.iter().map(|x| (x - x_mean).powi(2)).sum();
    let slope = covariance / variance;
    Ok(Line { intercept: y_mean - slope * x_mean, slope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_fitted_by_least_squares() {
        assert_eq!(constant(&[1.0, 2.0, 6.0], 2).unwrap(), [3.0, 3.0]);
        assert!(constant(&[], 2).is_err());
        let lengths = [3, 10, 50, 200];
        let scores: Vec<f64> = lengths.iter().map(|&n| 1.0 + 0.5 * (n as f64).ln_1p()).collect();
        let line = fit_length(&lengths, &scores).unwrap().unwrap();
        assert!((line.slope - 0.5).abs() < 1e-12 && (line.intercept - 1.0).abs() < 1e-12);
        assert!((line.predict_lengths(&[50])[0] - scores[2]).abs() < 1e-12);
        assert_eq!(fit_length(&[4, 4], &[1.0, 2.0]).unwrap(), Err(Undefined::ConstantPredictor));
        assert!(fit_length(&[4], &[1.0, 2.0]).is_err());
        assert_eq!(word_overlap("The cat sat.", "the CAT ran, ran"), 0.5);
        assert_eq!(word_overlap("", "!"), 0.0);
        let line = fit_overlap(&[0.0, 1.0], &[1.0, 5.0]).unwrap().unwrap();
        assert_eq!(line.predict(&[0.5]), [3.0]);
    }
}
