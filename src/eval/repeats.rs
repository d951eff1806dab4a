//! Does a judge repeat its answers? These metrics are for sampled answers. A judge that decodes greedily, or whose expected score
//! is computed on one fixed chain, repeats itself by construction, and its report should say so.

use super::variance::{Level, krippendorff_alpha};
use super::{EvalError, Grid, Measured, Undefined, all_finite, at_least, mean};
use serde_json::{Map, Value, json};

/// Agreement of a judge with itself. Rows are items; each has as many answers as could be parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeats {
    /// Rows with at least two answers. All figures are over these.
    pub n: usize,
    /// Share of pairs of answers to the same row with the same label.
    pub exact: Measured,
    /// Mean over rows of the standard deviation (n - 1) of a row's answers.
    pub within_sd: Measured,
    /// ICC(1,1) of Shrout & Fleiss, from a one-way analysis of variance. Needs the same number of answers in all rows.
    pub icc_1_1: Measured,
    /// Krippendorff's alpha, interval level, on raw scores.
    pub alpha_interval: Measured,
    /// Share of rows whose answers lie on both sides of the threshold (below it, and at or above it).
    pub flip_rate: Measured,
    /// The threshold.
    pub threshold: f64,
}

impl Repeats {
    /// Measures rows of repeated answers (`None`: not parsed).
    ///
    /// # Errors
    /// Answers that are not finite.
    pub fn measure(rows: &[Vec<Option<f64>>], grid: &Grid, threshold: f64) -> Result<Self, EvalError> {
        let answers: Vec<Vec<f64>> =
            rows.iter().map(|row| row.iter().flatten().copied().collect::<Vec<f64>>()).filter(|row| row.len() > 1).collect();
        for row in &answers {
            all_finite("the repeated answers", row)?;
        }
        let mean_over_rows = |f: &dyn Fn(&[f64]) -> f64| -> Measured {
            if answers.is_empty() {
                Err(Undefined::NoRepeats)
            } else {
                Ok(mean(&answers.iter().map(|row| f(row)).collect::<Vec<_>>()))
            }
        };
        let flips = |row: &[f64]| f64::from(u8::from(row.iter().any(|x| *x < threshold) && row.iter().any(|x| *x >= threshold)));
        Ok(Repeats {
            n: answers.len(),
            exact: same_label(&answers, grid),
            within_sd: mean_over_rows(&|row| (squared_deviations(row) / (row.len() - 1) as f64).sqrt()),
            icc_1_1: one_way_icc(&answers),
            alpha_interval: krippendorff_alpha(rows, Level::Interval),
            flip_rate: mean_over_rows(&flips),
            threshold,
        })
    }

    /// The figures by name.
    pub fn figures(&self) -> [(&'static str, &Measured); 5] {
        [
            ("exact_repeat_agreement", &self.exact),
            ("within_row_sd", &self.within_sd),
            ("icc_1_1", &self.icc_1_1),
            ("repeat_alpha_interval", &self.alpha_interval),
            ("flip_rate", &self.flip_rate),
        ]
    }

    /// A JSON object. Undefined figures are null, with the reasons under `undefined`.
    pub fn to_json(&self) -> Value {
        let mut object = Map::from_iter([("n".to_string(), json!(self.n)), ("threshold".to_string(), json!(self.threshold))]);
        let mut reasons = Map::new();
        for (name, figure) in self.figures() {
            object.insert(name.into(), json!(figure.as_ref().ok()));
            if let Err(reason) = figure {
                reasons.insert(name.into(), json!(reason.to_string()));
            }
        }
        if !reasons.is_empty() {
            object.insert("undefined".into(), Value::Object(reasons));
        }
        Value::Object(object)
    }
}

fn squared_deviations(row: &[f64]) -> f64 {
    let centre = mean(row);
    row.iter().map(|x| (x - centre).powi(2)).sum()
}

fn same_label(rows: &[Vec<f64>], grid: &Grid) -> Measured {
    let (mut same, mut pairs) = (0, 0);
    for row in rows {
        let mut counts = vec![0_u64; grid.values().len()];
        row.iter().for_each(|x| counts[grid.label(*x)] += 1);
        same += counts.into_iter().map(super::tally::pairs_among).sum::<u64>();
        pairs += super::tally::pairs_among(row.len() as u64);
    }
    if pairs == 0 { Err(Undefined::NoRepeats) } else { Ok(same as f64 / pairs as f64) }
}

fn one_way_icc(rows: &[Vec<f64>]) -> Measured {
    at_least(2, rows.len())?;
    let k = rows[0].len();
    if rows.iter().any(|row| row.len() != k) {
        return Err(Undefined::Unbalanced);
    }
    let means: Vec<f64> = rows.iter().map(|row| mean(row)).collect();
    let (n, k) = (rows.len() as f64, k as f64);
    let between = k * squared_deviations(&means) / (n - 1.0);
    let within = rows.iter().map(|row| squared_deviations(row)).sum::<f64>() / (n * (k - 1.0));
    let total = between + (k - 1.0) * within;
    if total == 0.0 { Err(Undefined::NoVariance) } else { Ok((between - within) / total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of pingouin (`intraclass_corr`, ICC1) and krippendorff for the same table.
    #[test]
    fn repeats_match_pingouin_and_krippendorff() {
        let grid = Grid::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let rows = [[1.0, 1.0, 2.0], [3.0, 3.0, 3.0], [5.0, 4.0, 4.5], [2.0, 4.0, 3.0]].map(|row| row.map(Some).to_vec());
        let found = Repeats::measure(&rows, &grid, 3.0).unwrap();
        // Labels: 1 1 2, 3 3 3, 5 4 5, 2 4 3: 1 + 3 + 1 + 0 of 12 pairs.
        assert!((found.exact.clone().unwrap() - 5.0 / 12.0).abs() < 1e-15);
        assert_eq!(found.flip_rate, Ok(0.25));
        let near = |found: &Measured, expected: f64| assert!((found.clone().unwrap() - expected).abs() < 1e-9, "{found:?}");
        near(&found.icc_1_1, REPEATS[0]);
        near(&found.alpha_interval, REPEATS[1]);
        near(&found.within_sd, (1.0 / 3.0_f64.sqrt() + 0.5 + 1.0) / 4.0);
        // Without repeats every figure is undefined, with a reason.
        let once = Repeats::measure(&[vec![Some(1.0), None], vec![Some(2.0)]], &grid, 3.0).unwrap();
        assert_eq!((once.n, &once.exact), (0, &Err(Undefined::NoRepeats)));
        assert_eq!(once.to_json()["undefined"]["flip_rate"], "no row has two answers");
        let unequal = Repeats::measure(&[vec![Some(1.0); 2], vec![Some(2.0); 3]], &grid, 3.0).unwrap();
        assert_eq!(unequal.icc_1_1, Err(Undefined::Unbalanced));
        assert!(Repeats::measure(&[vec![Some(f64::NAN), Some(1.0)]], &grid, 3.0).is_err());
    }

    const REPEATS: [f64; 2] = [0.7956989247311828, 0.7611428571428571];
}
