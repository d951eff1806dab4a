//! Does the judge order items as people do? Pearson, Spearman, Kendall tau-b, pairwise accuracy.
//!
//! All functions take two columns of equal length without NaN (see [`crate::eval::metrics`] for the checks) and compare
//! row by row; surplus rows of the longer column are ignored.

use super::{Measured, Undefined, at_least, is_constant, mean, paired};

/// Pearson correlation, two passes in f64: covariance / (sd sd), in [-1, 1].
///
/// # Errors
/// Undefined for fewer than two rows or a constant column.
pub fn pearson(human: &[f64], judge: &[f64]) -> Measured {
    let (human, judge) = varied(human, judge)?;
    let (human, judge) = (deviations(human), deviations(judge));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let r = dot(&human, &judge) / (dot(&human, &human).sqrt() * dot(&judge, &judge).sqrt());
    Ok(r.clamp(-1.0, 1.0))
}

/// Spearman's rho: Pearson of average ranks.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(human: &[f64], judge: &[f64]) -> Measured {
    let (human, judge) = paired(human, judge);
    pearson(&average_ranks(human), &average_ranks(judge))
}

/// Kendall's tau-b, (C - D) / sqrt((P - T_h)(P - T_s)), in O(n log n) (Knight 1966).
///
/// # Errors
/// As [`pearson`].
pub fn kendall_tau_b(human: &[f64], judge: &[f64]) -> Measured {
    let (human, judge) = varied(human, judge)?;
    let pairs = PairCounts::of(human, judge);
    let difference = pairs.concordant() as f64 - pairs.discordant as f64;
    let human_differ = (pairs.total - pairs.tied_human) as f64;
    let judge_differ = (pairs.total - pairs.tied_judge) as f64;
    Ok((difference / (human_differ.sqrt() * judge_differ.sqrt())).clamp(-1.0, 1.0))
}

/// Over pairs of rows with different human scores: right order 1, judge tie 1/2, wrong order 0; the mean of it.
///
/// # Errors
/// Undefined for fewer than two rows or if all human scores are the same.
pub fn pairwise_accuracy(human: &[f64], judge: &[f64]) -> Measured {
    let (human, judge) = paired(human, judge);
    at_least(2, human.len())?;
    if is_constant(human) {
        return Err(Undefined::ConstantHuman);
    }
    let pairs = PairCounts::of(human, judge);
    let judge_ties = pairs.tied_judge - pairs.tied_both;
    Ok((pairs.concordant() as f64 + 0.5 * judge_ties as f64) / (pairs.total - pairs.tied_human) as f64)
}

/// Length bias: Spearman's rho of judge and response length with the human score held fixed (partial correlation of
/// ranks, (r_sl - r_sh r_lh) / sqrt((1 - r_sh²)(1 - r_lh²))). Near 0 for a judge that likes length no more than people do.
///
/// # Errors
/// Undefined where one of the three correlations is, or where the human score explains judge or length completely.
pub fn length_bias(human: &[f64], judge: &[f64], length: &[f64]) -> Measured {
    if is_constant(length) {
        return Err(Undefined::ConstantPredictor);
    }
    let judge_length = spearman(length, judge)?;
    let (judge_human, length_human) = (spearman(human, judge)?, spearman(human, length)?);
    let unexplained = (1.0 - judge_human.powi(2)) * (1.0 - length_human.powi(2));
    if unexplained < 1e-12 {
        return Err(Undefined::NoVariance);
    }
    Ok(((judge_length - judge_human * length_human) / unexplained.sqrt()).clamp(-1.0, 1.0))
}

/// Ranks from 1; equal values share the mean of their places.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| key(values[a]).total_cmp(&key(values[b])));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared = start as f64 + (run.len() as f64 + 1.0) / 2.0;
        for &row in run {
            ranks[row] = shared;
        }
        start += run.len();
    }
    ranks
}

/// How the n (n - 1) / 2 pairs of rows fall.
struct PairCounts {
    total: u64,
    tied_human: u64,
    tied_judge: u64,
    tied_both: u64,
    discordant: u64,
}

impl PairCounts {
    fn of(human: &[f64], judge: &[f64]) -> Self {
        let mut rows: Vec<(f64, f64)> = human.iter().zip(judge).map(|(&h, &s)| (key(h), key(s))).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let tied_human = tied_pairs(rows.chunk_by(|a, b| a.0 == b.0));
        let tied_both = tied_pairs(rows.chunk_by(|a, b| a == b));
        // Sorted by human score, a pair is discordant exactly if its judge scores are inverted.
        let mut judge: Vec<f64> = rows.iter().map(|row| row.1).collect();
        let discordant = sort_counting_inversions(&mut judge);
        let tied_judge = tied_pairs(judge.chunk_by(|a, b| a == b));
        PairCounts { total: pairs_among(rows.len()), tied_human, tied_judge, tied_both, discordant }
    }

    fn concordant(&self) -> u64 {
        self.total + self.tied_both - self.tied_human - self.tied_judge - self.discordant
    }
}

fn pairs_among(n: usize) -> u64 {
    let n = n as u64;
    n * n.saturating_sub(1) / 2
}

fn tied_pairs<'a, T: 'a>(runs: impl Iterator<Item = &'a [T]>) -> u64 {
    runs.map(|run| pairs_among(run.len())).sum()
}

/// Merge sort; returns how many pairs stood in the wrong order.
fn sort_counting_inversions(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let middle = values.len() / 2;
    let (left, right) = values.split_at_mut(middle);
    let mut inversions = sort_counting_inversions(left) + sort_counting_inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (0, 0);
    while l < left.len() && r < right.len() {
        if right[r] < left[l] {
            inversions += (left.len() - l) as u64;
            merged.push(right[r]);
            r += 1;
        } else {
            merged.push(left[l]);
            l += 1;
        }
    }
    merged.extend_from_slice(&left[l..]);
    merged.extend_from_slice(&right[r..]);
    values.copy_from_slice(&merged);
    inversions
}

/// The rows both columns share: at least two, with two values in each column.
fn varied<'a>(human: &'a [f64], judge: &'a [f64]) -> Result<(&'a [f64], &'a [f64]), Undefined> {
    let (human, judge) = paired(human, judge);
    at_least(2, human.len())?;
    if is_constant(human) {
        return Err(Undefined::ConstantHuman);
    }
    if is_constant(judge) {
        return Err(Undefined::ConstantJudge);
    }
    Ok((human, judge))
}

/// Deviations from the mean, scaled to at most 1 so that squares neither overflow nor vanish.
fn deviations(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let unit: Vec<f64> = values.iter().map(|v| v / largest).collect();
    let centre = mean(&unit);
    let centred: Vec<f64> = unit.iter().map(|v| v - centre).collect();
    let spread = centred.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    centred.iter().map(|v| v / spread).collect()
}

/// -0 and 0 are one value for a comparison by bits.
fn key(x: f64) -> f64 {
    x + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_places() {
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(average_ranks(&[0.0, -0.0]), [1.5, 1.5]);
    }

    #[test]
    fn order_metrics_of_a_case_counted_by_hand() {
        // Pairs: (1,2) concordant, (1,3) judge tie, (1,4) concordant, (2,3) human tie, (2,4) discordant, (3,4) concordant.
        let (human, judge) = ([1.0, 2.0, 2.0, 3.0], [1.0, 3.0, 1.0, 2.0]);
        let tau = kendall_tau_b(&human, &judge).unwrap();
        assert!((tau - 2.0 / 5.0).abs() < 1e-15, "{tau}");
        assert!((pairwise_accuracy(&human, &judge).unwrap() - 3.5 / 5.0).abs() < 1e-15);
    }

    #[test]
    fn undefined_is_not_zero() {
        assert_eq!(pearson(&[1.0, 2.0], &[3.0, 3.0]), Err(Undefined::ConstantJudge));
        assert_eq!(spearman(&[1.0, 1.0], &[3.0, 4.0]), Err(Undefined::ConstantHuman));
        assert_eq!(kendall_tau_b(&[1.0], &[3.0]), Err(Undefined::TooFewRows { found: 1, needed: 2 }));
        assert_eq!(pairwise_accuracy(&[2.0, 2.0], &[3.0, 4.0]), Err(Undefined::ConstantHuman));
        // A constant that does not survive a naive mean: 0.1 + 0.1 + 0.1 != 0.3.
        assert_eq!(pearson(&[1.0, 2.0, 3.0], &[0.1; 3]), Err(Undefined::ConstantJudge));
    }

    #[test]
    fn length_bias_is_what_people_do_not_explain() {
        let mut stream = crate::random::Stream::new(5, 1);
        let n = 4000;
        let human: Vec<f64> = (0..n).map(|_| stream.below(5) as f64).collect();
        let length: Vec<f64> = human.iter().map(|h| h + 2.0 * stream.normal()).collect();
        let fair: Vec<f64> = human.iter().map(|h| h + stream.normal()).collect();
        let biased: Vec<f64> = fair.iter().zip(&length).map(|(s, l)| s + l).collect();
        assert!(spearman(&length, &fair).unwrap() > 0.3);
        assert!(length_bias(&human, &fair, &length).unwrap().abs() < 0.05);
        assert!(length_bias(&human, &biased, &length).unwrap() > 0.8);
        assert_eq!(length_bias(&human, &fair, &vec![3.0; n]), Err(Undefined::ConstantPredictor));
        assert_eq!(length_bias(&human, &human, &length), Err(Undefined::NoVariance));
    }

    #[test]
    fn extreme_sizes() {
        let (human, judge) = ([1.0, 2.0, 4.0], [1e300, 2e300, 4e300]);
        assert!((pearson(&human, &judge).unwrap() - 1.0).abs() < 1e-15);
        let close = [1e8, 1e8 + 1.0, 1e8 + 3.0];
        assert!((pearson(&human, &close).unwrap() - 1.0).abs() < 1e-9);
        let tiny = [1e-300, 2e-300, 4e-300];
        assert!((pearson(&human, &tiny).unwrap() - 1.0).abs() < 1e-15);
    }

    /// A plain double loop over pairs agrees with the merge sort.
    #[test]
    fn pair_counts_by_force() {
        let mut stream = crate::random::Stream::new(3, 9);
        let human: Vec<f64> = (0..150).map(|_| stream.below(5) as f64).collect();
        let judge: Vec<f64> = (0..150).map(|_| stream.below(7) as f64 / 2.0).collect();
        let counts = PairCounts::of(&human, &judge);
        let mut discordant = 0;
        let mut concordant = 0;
        for i in 0..150 {
            for j in 0..i {
                let sign = (human[i] - human[j]) * (judge[i] - judge[j]);
                discordant += u64::from(sign < 0.0);
                concordant += u64::from(sign > 0.0);
            }
        }
        assert_eq!((counts.discordant, counts.concordant()), (discordant, concordant));
    }
}
