//! Are the judge's probabilities calibrated? Proper scores of the distribution over the scale, and reliability bins.

use super::intervals::quantile;
use super::{EvalError, Measured, Undefined, all_finite, at_least, mean, same_length};
use crate::eval::metrics::Grid;

/// Mean proper scores of score distributions (renormalised over the scale) for labels. Lower is better for all.
#[derive(Clone, Debug, PartialEq)]
pub struct ProperScores {
    /// Ranked probability score, Σ_k (CDF_p - CDF_y)²: 0 to K - 1.
    pub rps: Measured,
    /// Negative log-likelihood of the label, nats. Infinite if a label has probability 0.
    pub nll: Measured,
    /// Brier score, Σ_k (p_k - 1[y = k])²: 0 to 2.
    pub brier: Measured,
}

/// Proper scores of `probabilities` (one probability per scale value in each row) for human scores.
///
/// # Errors
/// Columns of different length; rows that are not a distribution over the scale. Human scores between the values of the scale
/// make the figures undefined.
pub fn proper_scores(probabilities: &[Vec<f64>], human: &[f64], grid: &Grid) -> Result<ProperScores, EvalError> {
    check_distributions(probabilities, human, grid)?;
    let labels = at_least(1, human.len()).and_then(|()| grid.exact_labels(human));
    let score = |f: fn(&[f64], usize) -> f64| -> Measured {
        let labels = labels.as_ref().map_err(Clone::clone)?;
        Ok(mean(&probabilities.iter().zip(labels).map(|(p, &y)| f(p, y)).collect::<Vec<_>>()))
    };
    Ok(ProperScores { rps: score(rps), nll: score(|p, y| -p[y].ln()), brier: score(brier) })
}

fn check_distributions(probabilities: &[Vec<f64>], human: &[f64], grid: &Grid) -> Result<(), EvalError> {
    same_length("the probability column", probabilities.len(), "the human column", human.len())?;
    let expected = grid.values().len();
    for (row, p) in probabilities.iter().enumerate() {
        let valid = p.len() == expected && p.iter().all(|x| (0.0..=1.0).contains(x));
        if !valid || (p.iter().sum::<f64>() - 1.0).abs() > 1e-4 {
            return Err(EvalError::Probabilities { row, expected, found: p.clone() });
        }
    }
    Ok(())
}

fn rps(p: &[f64], label: usize) -> f64 {
    let mut below = 0.0;
    let mut total = 0.0;
    for (k, share) in p.iter().enumerate().take(p.len() - 1) {
        below += share;
        total += (below - f64::from(u8::from(k >= label))).powi(2);
    }
    total
}

fn brier(p: &[f64], label: usize) -> f64 {
    p.iter().enumerate().map(|(k, share)| (share - f64::from(u8::from(k == label))).powi(2)).sum()
}

/// Ordinal expected calibration error. For each threshold k of the scale: the gap between the predicted P(y <= k) and the share
/// of human scores at or below k, in at most ten bins of equal size, weighted by size. The result is the mean over thresholds, 0
/// to 1.
///
/// # Errors
/// As [`proper_scores`].
pub fn ordinal_ece(probabilities: &[Vec<f64>], human: &[f64], grid: &Grid) -> Result<Measured, EvalError> {
    check_distributions(probabilities, human, grid)?;
    let labels = match at_least(1, human.len()).and_then(|()| grid.exact_labels(human)) {
        Ok(labels) => labels,
        Err(reason) => return Ok(Err(reason)),
    };
    let thresholds = grid.values().len() - 1;
    let mut total = 0.0;
    for k in 0..thresholds {
        let predicted: Vec<f64> = probabilities.iter().map(|p| p[..=k].iter().sum()).collect();
        let happened: Vec<f64> = labels.iter().map(|&y| f64::from(u8::from(y <= k))).collect();
        let bins = reliability(&happened, &predicted, BINS)?.unwrap_or_default();
        total += total_gap(&bins) / human.len() as f64;
    }
    Ok(Ok(total / thresholds as f64))
}

/// Expected calibration error of the most likely label: the gap between its probability and its frequency among people, in at
/// most ten bins of equal size, weighted by size. 0 to 1.
///
/// # Errors
/// As [`proper_scores`].
pub fn top_label_ece(probabilities: &[Vec<f64>], human: &[f64], grid: &Grid) -> Result<Measured, EvalError> {
    check_distributions(probabilities, human, grid)?;
    let labels = match at_least(1, human.len()).and_then(|()| grid.exact_labels(human)) {
        Ok(labels) => labels,
        Err(reason) => return Ok(Err(reason)),
    };
    let top = |p: &Vec<f64>| (0..p.len()).fold(0, |best, k| if p[k] > p[best] { k } else { best });
    let predicted: Vec<f64> = probabilities.iter().map(|p| p[top(p)]).collect();
    let right: Vec<f64> = probabilities.iter().zip(&labels).map(|(p, y)| f64::from(u8::from(top(p) == *y))).collect();
    let bins = reliability(&right, &predicted, BINS)?.unwrap_or_default();
    Ok(Ok(total_gap(&bins) / human.len() as f64))
}

/// The most bins of a calibration error.
const BINS: usize = 10;

/// The gaps of the bins, summed over rows.
fn total_gap(bins: &[ReliabilityBin]) -> f64 {
    bins.iter().map(|b| (b.judge - b.human).abs() * b.n as f64).sum()
}

/// The probability on score tokens before renormalisation: the best early warning of a judge that forgets its format.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreMass {
    /// Mean over rows.
    pub mean: Measured,
    /// The 5th percentile.
    pub p5: Measured,
}

/// Mean and 5th percentile of the rows' score mass.
///
/// # Errors
/// Masses that are not finite. Undefined without rows.
pub fn score_mass(masses: &[f64]) -> Result<ScoreMass, EvalError> {
    all_finite("the mass column", masses)?;
    let mut ascending = masses.to_vec();
    ascending.sort_by(f64::total_cmp);
    let defined = at_least(1, masses.len());
    let of = |f: &dyn Fn() -> f64| defined.clone().map(|()| f());
    Ok(ScoreMass { mean: of(&|| mean(masses)), p5: of(&|| quantile(&ascending, 0.05)) })
}

/// All metrics of one judge's probabilities by name: `rps`, `nll`, `brier`, `ece_top_label`, `ece_ordinal`.
///
/// # Errors
/// As [`proper_scores`].
pub fn probability_metrics(
    probabilities: &[Vec<f64>],
    human: &[f64],
    grid: &Grid,
) -> Result<Vec<(&'static str, Measured)>, EvalError> {
    let ProperScores { rps, nll, brier } = proper_scores(probabilities, human, grid)?;
    let finite = |x: Measured| x.and_then(|x| if x.is_finite() { Ok(x) } else { Err(Undefined::ImpossibleLabel) });
    Ok(vec![
        ("rps", rps),
        ("nll", finite(nll)),
        ("brier", brier),
        ("ece_top_label", top_label_ece(probabilities, human, grid)?),
        ("ece_ordinal", ordinal_ece(probabilities, human, grid)?),
    ])
}

/// Rows with similar judge scores, and their human scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReliabilityBin {
    /// Rows in the bin.
    pub n: usize,
    /// Mean judge score.
    pub judge: f64,
    /// Mean human score; equal to `judge` for a calibrated judge.
    pub human: f64,
    /// Standard error of `human`; `None` for a bin of one row.
    pub standard_error: Option<f64>,
}

/// Rows in order of the judge's score, cut into at most `bins` bins of (nearly) equal size. Equal scores stay together, so a
/// judge with few values has few bins. Empty bins are left out.
///
/// # Errors
/// Columns of different length. Undefined without rows.
pub fn reliability(human: &[f64], judge: &[f64], bins: usize) -> Result<Result<Vec<ReliabilityBin>, Undefined>, EvalError> {
    same_length("the human column", human.len(), "the judge column", judge.len())?;
    if let Err(reason) = at_least(1, human.len()) {
        return Ok(Err(reason));
    }
    let mut rows: Vec<(f64, f64)> = judge.iter().copied().zip(human.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut found = Vec::new();
    let mut start = 0;
    for bin in 1..=bins.max(1) {
        let mut end = (rows.len() * bin / bins.max(1)).max(start);
        while end > start && end < rows.len() && rows[end].0 == rows[end - 1].0 {
            end += 1;
        }
        if end > start {
            found.push(reliability_bin(&rows[start..end]));
            start = end;
        }
    }
    Ok(Ok(found))
}

fn reliability_bin(rows: &[(f64, f64)]) -> ReliabilityBin {
    let (judge, human): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
    let (n, centre) = (rows.len(), mean(&human));
    let squares: f64 = human.iter().map(|h| (h - centre).powi(2)).sum();
    let standard_error = (n > 1).then(|| (squares / (n - 1) as f64 / n as f64).sqrt());
    ReliabilityBin { n, judge: mean(&judge), human: centre, standard_error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proper_scores_match_manual_values() {
        let grid = Grid::new(&[1.0, 2.0, 3.0]).unwrap();
        let scores = proper_scores(&[vec![0.5, 0.3, 0.2]], &[2.0], &grid).unwrap();
        assert!((scores.rps.unwrap() - (0.25 + 0.04)).abs() < 1e-12);
        assert!((scores.nll.unwrap() + 0.3_f64.ln()).abs() < 1e-12);
        assert!((scores.brier.unwrap() - (0.25 + 0.49 + 0.04)).abs() < 1e-12);
        assert!(proper_scores(&[vec![0.5, 0.5]], &[2.0], &grid).is_err());
        assert!(proper_scores(&[vec![0.5, 0.5, 0.5]], &[2.0], &grid).is_err());
        let between = proper_scores(&[vec![0.5, 0.3, 0.2]], &[2.5], &grid).unwrap();
        assert_eq!(between.rps, Err(Undefined::BetweenLabels(2.5)));
    }

    #[test]
    fn ordinal_ece_is_zero_only_for_calibrated_probabilities() {
        let grid = Grid::new(&[1.0, 2.0, 3.0]).unwrap();
        let human: Vec<f64> = (0..100).map(|k| [1.0, 1.0, 2.0, 3.0][k % 4]).collect();
        let ece = |p: [f64; 3]| ordinal_ece(&vec![p.to_vec(); 100], &human, &grid).unwrap().unwrap();
        assert!(ece([0.5, 0.25, 0.25]) < 1e-12);
        // P(y <= 1) is 0.2 off, P(y <= 2) is right.
        assert!((ece([0.3, 0.45, 0.25]) - 0.1).abs() < 1e-12);
        assert!(ordinal_ece(&[vec![1.0]], &[1.0], &grid).is_err());
        assert_eq!(ordinal_ece(&[], &[], &grid).unwrap(), Err(Undefined::TooFewRows { found: 0, needed: 1 }));
    }

    #[test]
    fn top_label_ece_and_score_mass_match_manual_values() {
        let grid = Grid::new(&[1.0, 2.0, 3.0]).unwrap();
        // Predicts 0.8 and is right 3 times of 4.
        let p = vec![vec![0.1, 0.8, 0.1]; 4];
        let ece = top_label_ece(&p, &[2.0, 2.0, 2.0, 1.0], &grid).unwrap().unwrap();
        assert!((ece - 0.05).abs() < 1e-12, "{ece}");
        let impossible = probability_metrics(&[vec![0.0, 1.0, 0.0]], &[1.0], &grid).unwrap();
        assert_eq!(impossible[1], ("nll", Err(Undefined::ImpossibleLabel)));
        let masses: Vec<f64> = (0..=100).map(|k| f64::from(k) / 100.0).collect();
        assert_eq!(score_mass(&masses).unwrap().p5, Ok(0.05));
        assert!(score_mass(&[]).unwrap().mean.is_err() && score_mass(&[f64::NAN]).is_err());
    }

    #[test]
    fn bins_keep_ties_together() {
        let judge = [1.0, 1.0, 1.0, 2.0, 3.0, 3.0];
        let bins = reliability(&[1.0, 2.0, 3.0, 2.0, 4.0, 4.0], &judge, 4).unwrap().unwrap();
        assert_eq!(bins.iter().map(|b| b.n).collect::<Vec<_>>(), [3, 1, 2]);
        assert_eq!((bins[0].judge, bins[0].human), (1.0, 2.0));
        assert_eq!(bins[1].standard_error, None);
        assert_eq!(bins[2].standard_error, Some(0.0));
        assert!(reliability(&[], &[], 4).unwrap().is_err());
    }
}
