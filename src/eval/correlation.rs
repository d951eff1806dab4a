//! Does the judge order items as people do? Pearson, Spearman and Kendall tau-b with their p-values, and pairwise accuracy.
//!
//! The functions over two columns expect equal lengths and no NaN ([`crate::eval::metrics`] checks this). They compare row by row
//! and ignore surplus rows of the longer column. The methods of [`Tally`] compute the same metrics on a resample.

use super::special::{normal_two_sided, t_two_sided};
use super::tally::{Sample, Tally, add, pairs_among, prefix};
use super::{Measured, Undefined, is_constant};

/// Pearson correlation, two passes in f64: covariance / (sd sd), in [-1, 1].
///
/// # Errors
/// Undefined for fewer than two rows or a constant column.
pub fn pearson(human: &[f64], judge: &[f64]) -> Measured {
    Sample::unsorted(human, judge).tally().pearson()
}

/// Spearman's rho: Pearson of average ranks.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(human: &[f64], judge: &[f64]) -> Measured {
    Sample::of(human, judge, None).tally().spearman()
}

/// Kendall's tau-b, (C - D) / sqrt((P - T_h)(P - T_s)), in O(n log n).
///
/// # Errors
/// As [`pearson`].
pub fn kendall_tau_b(human: &[f64], judge: &[f64]) -> Measured {
    Sample::of(human, judge, None).tally().kendall_tau_b()
}

/// The mean over pairs of rows with different human scores, where the right order counts 1, a tie of the judge 1/2 and the wrong
/// order 0.
///
/// # Errors
/// Undefined for fewer than two rows or if all human scores are the same.
pub fn pairwise_accuracy(human: &[f64], judge: &[f64]) -> Measured {
    Sample::of(human, judge, None).tally().pairwise_accuracy()
}

impl Tally<'_> {
    /// [`pearson`]
    pub fn pearson(&self) -> Measured {
        self.varied()?;
        Ok(self.moments().correlation())
    }

    /// [`spearman`]
    pub fn spearman(&self) -> Measured {
        self.varied()?;
        Ok(self.rank_correlation())
    }

    /// [`kendall_tau_b`]
    pub fn kendall_tau_b(&self) -> Measured {
        self.varied()?;
        let pairs = self.pairs();
        let difference = pairs.concordant as f64 - pairs.discordant as f64;
        let human_differ = (pairs.total - pairs.tied_human) as f64;
        let judge_differ = (pairs.total - pairs.tied_judge) as f64;
        Ok((difference / (human_differ.sqrt() * judge_differ.sqrt())).clamp(-1.0, 1.0))
    }

    /// [`pairwise_accuracy`]
    pub fn pairwise_accuracy(&self) -> Measured {
        self.at_least(2)?;
        if self.human_constant() {
            return Err(Undefined::ConstantHuman);
        }
        let pairs = self.pairs();
        let judge_ties = pairs.tied_judge - pairs.tied_both;
        Ok((pairs.concordant as f64 + 0.5 * judge_ties as f64) / (pairs.total - pairs.tied_human) as f64)
    }

    /// Two-sided p-value of no linear association (Student's t with n - 2 degrees of freedom; 1 for two rows).
    ///
    /// # Errors
    /// As [`pearson`].
    pub fn pearson_p(&self) -> Measured {
        let r = self.pearson()?;
        Ok(if self.n() == 2 { 1.0 } else { correlation_p(r, self.n()) })
    }

    /// Two-sided p-value of no monotone association, by the same t approximation on ranks.
    ///
    /// # Errors
    /// As [`pearson`], and for fewer than three rows.
    pub fn spearman_p(&self) -> Measured {
        let r = self.spearman()?;
        self.at_least(3)?;
        Ok(correlation_p(r, self.n()))
    }

    /// Two-sided p-value of tau. Exact without ties up to 33 rows (and where at most one pair is out of order), else the normal
    /// approximation with the variance of tied ranks.
    ///
    /// # Errors
    /// As [`pearson`].
    pub fn kendall_tau_b_p(&self) -> Measured {
        self.varied()?;
        let (pairs, n) = (self.pairs(), self.n());
        let rarer = pairs.discordant.min(pairs.total - pairs.discordant);
        if pairs.tied_human == 0 && pairs.tied_judge == 0 && (n <= 33 || rarer <= 1) {
            return Ok(exact_kendall_p(n, rarer));
        }
        let sums = |counts: &[u64]| {
            let each = |f: fn(f64) -> f64| counts.iter().map(|&c| c as f64).map(|c| c * (c - 1.0) * f(c)).sum::<f64>();
            (each(|c| c - 2.0), each(|c| 2.0 * c + 5.0))
        };
        let ((human_0, human_1), (judge_0, judge_1)) = (sums(&self.human_counts), sums(&self.judge_counts));
        let (n, twice) = (n as f64, 2.0 * pairs.total as f64);
        let thrice = if n > 2.0 { human_0 * judge_0 / (9.0 * twice * (n - 2.0)) } else { 0.0 };
        let variance = (twice * (2.0 * n + 5.0) - human_1 - judge_1) / 18.0
            + 2.0 * pairs.tied_human as f64 * pairs.tied_judge as f64 / twice
            + thrice;
        Ok(normal_two_sided((pairs.concordant as f64 - pairs.discordant as f64) / variance.sqrt()))
    }
}

fn correlation_p(r: f64, n: u64) -> f64 {
    let df = n as f64 - 2.0;
    t_two_sided(r * (df / ((1.0 + r) * (1.0 - r))).sqrt(), df)
}

/// Twice the probability that a random order of `n` items has at most `rarer` inversions.
fn exact_kendall_p(n: u64, rarer: u64) -> f64 {
    if 4 * rarer == n * (n - 1) {
        return 1.0;
    }
    let rarer = rarer as usize;
    let mut share = vec![0.0; rarer + 1];
    share[0] = 1.0;
    // The k-th item comes after 0 to k - 1 of the earlier items.
    for k in 2..=n {
        let before = share.clone();
        let mut window = 0.0;
        for (inversions, probability) in share.iter_mut().enumerate() {
            window += before[inversions];
            if let Some(out) = inversions.checked_sub(k as usize) {
                window -= before[out];
            }
            *probability = window / k as f64;
        }
    }
    (2.0 * share.iter().sum::<f64>()).min(1.0)
}

/// Accuracy over all pairs, where a tie is an answer too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TieCalibrated {
    /// Share of correct pairs: people tie and the judge's scores lie within the margin, or people differ and the judge differs by
    /// more than the margin in the same direction.
    pub accuracy: f64,
    /// The margin with the largest accuracy, in units of the judge's score.
    pub margin: f64,
}

/// The most rows for the choice of a margin.
const MAX_MARGIN_ROWS: usize = 2000;

/// Pairwise accuracy that includes human ties (Deutsch, Foster and Freitag 2023). The judge's scores count as tied below a
/// margin, which is chosen to maximise the accuracy. The choice is exact up to 2,000 rows; with more rows it uses 2,000 evenly
/// spaced ones. The accuracy is then counted over all pairs in O(n log n).
///
/// # Errors
/// Undefined for fewer than two rows.
pub fn tie_calibrated(human: &[f64], judge: &[f64]) -> Result<TieCalibrated, Undefined> {
    let rows = human.len().min(judge.len());
    super::at_least(2, rows)?;
    let step = rows.div_ceil(MAX_MARGIN_ROWS);
    let subsample = |column: &[f64]| column[..rows].iter().copied().step_by(step).collect::<Vec<_>>();
    let margin = best_margin(&subsample(human), &subsample(judge));
    let right = count_correct_pairs(&human[..rows], &judge[..rows], margin);
    Ok(TieCalibrated { accuracy: right as f64 / pairs_among(rows as u64) as f64, margin })
}

/// The smallest margin with the most correct pairs.
fn best_margin(human: &[f64], judge: &[f64]) -> f64 {
    // At a margin equal to its distance a pair becomes a tie. This is right where people tie, and wrong where the pair was in the
    // right order.
    let mut changes: Vec<(f64, i32)> = Vec::new();
    for i in 0..human.len() {
        for j in 0..i {
            let (people, gap) = (human[i] - human[j], judge[i] - judge[j]);
            let right_before = people * gap > 0.0;
            if people == 0.0 || right_before {
                changes.push((gap.abs(), if right_before { -1 } else { 1 }));
            }
        }
    }
    changes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut margin, mut best, mut balance) = (0.0, 0, 0);
    for run in changes.chunk_by(|a, b| a.0 == b.0) {
        balance += run.iter().map(|change| change.1).sum::<i32>();
        if run[0].0 == 0.0 {
            best = balance;
        } else if balance > best {
            (margin, best) = (run[0].0, balance);
        }
    }
    margin
}

/// Counts the correct pairs at a margin: sweeps the rows in order of the human score, with a tree over the judge's scores.
fn count_correct_pairs(human: &[f64], judge: &[f64], margin: f64) -> u64 {
    let mut values: Vec<f64> = judge.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let mut rows: Vec<(f64, f64)> = human.iter().copied().zip(judge.iter().copied()).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut tree = vec![0; values.len() + 1];
    let mut right = 0;
    for run in rows.chunk_by(|a, b| a.0 == b.0) {
        let mut first = 0;
        for (k, &(_, s)) in run.iter().enumerate() {
            while s - run[first].1 > margin {
                first += 1;
            }
            right += (k - first) as u64;
            right += prefix(&tree, values.partition_point(|v| s - v > margin));
        }
        for (_, s) in run {
            add(&mut tree, values.partition_point(|v| v < s), 1);
        }
    }
    right
}

/// Length bias: Spearman's rho of judge score and response length with the human score held fixed (partial correlation of ranks,
/// (r_sl - r_sh r_lh) / sqrt((1 - r_sh²)(1 - r_lh²))). Near 0 for a judge that prefers length no more than people do.
///
/// # Errors
/// Undefined where one of the three correlations is undefined, or where the human score explains judge or length completely.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn equal_scores_share_a_rank() {
        // Ranks 3.5, 1, 3.5, 2 against 4, 1, 3, 2.
        let rho = spearman(&[3.0, 1.0, 3.0, 2.0], &[9.0, 1.0, 5.0, 2.0]).unwrap();
        assert!((rho - 4.5 / (4.5_f64 * 5.0).sqrt()).abs() < 1e-15, "{rho}");
        assert_eq!(spearman(&[0.0, -0.0], &[1.0, 2.0]), Err(Undefined::ConstantHuman));
    }

    #[test]
    fn order_metrics_match_a_manual_count() {
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
        // A constant whose naive mean differs from it: 0.1 + 0.1 + 0.1 != 0.3.
        assert_eq!(pearson(&[1.0, 2.0, 3.0], &[0.1; 3]), Err(Undefined::ConstantJudge));
    }

    /// Values of scipy.stats: pearsonr, spearmanr, kendalltau (exact, then with ties), on the same columns.
    #[test]
    fn p_values_match_scipy() {
        let human = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let judge = [2.0, 1.0, 4.0, 3.0, 7.0, 5.5, 6.0];
        let sample = Sample::of(&human, &judge, None);
        let near = |found: Measured, expected: f64| {
            assert!((found.clone().unwrap() - expected).abs() < 1e-12, "{found:?}, expected {expected}")
        };
        near(sample.tally().pearson_p(), P_VALUES[0]);
        near(sample.tally().spearman_p(), P_VALUES[1]);
        near(sample.tally().kendall_tau_b_p(), P_VALUES[2]);
        let tied = Sample::of(&[1.0, 2.0, 2.0, 4.0, 4.0, 4.0, 7.0], &judge, None);
        near(tied.tally().kendall_tau_b_p(), P_VALUES[3]);
        assert_eq!(Sample::of(&[1.0, 2.0], &[1.0, 2.0], None).tally().pearson_p(), Ok(1.0));
        assert!(Sample::of(&[1.0, 2.0], &[1.0, 2.0], None).tally().spearman_p().is_err());
    }

    const P_VALUES: [f64; 4] = [0.018242408169814976, 0.0234488083456915, 0.06904761904761905, 0.080716258431121];

    /// Compares the fast count and the margin with a double loop over pairs that tries every distance as the margin.
    #[test]
    fn tie_calibrated_accuracy_matches_brute_force() {
        let mut stream = Stream::new(8, 2);
        let human: Vec<f64> = (0..60).map(|_| stream.below(4) as f64).collect();
        let judge: Vec<f64> = human.iter().map(|h| ((h + stream.normal()) * 4.0).round() / 4.0).collect();
        let right_at = |margin: f64| {
            let pairs = (0..60).flat_map(|i| (0..i).map(move |j| (i, j)));
            let right = pairs.filter(|&(i, j)| {
                let (people, gap) = (human[i] - human[j], judge[i] - judge[j]);
                if people == 0.0 { gap.abs() <= margin } else { gap.abs() > margin && people * gap > 0.0 }
            });
            right.count() as u64
        };
        let best = (0..40).map(|k| right_at(f64::from(k) / 4.0)).max().unwrap();
        let found = tie_calibrated(&human, &judge).unwrap();
        assert_eq!((found.accuracy * pairs_among(60) as f64).round() as u64, best);
        assert_eq!(right_at(found.margin), best);
        // Perfect labels need no margin. If people give a single score, all pairs are ties, and any margin that wide is right.
        assert_eq!(tie_calibrated(&human, &human).unwrap(), TieCalibrated { accuracy: 1.0, margin: 0.0 });
        assert_eq!(tie_calibrated(&[2.0; 3], &[1.0, 2.0, 4.0]).unwrap(), TieCalibrated { accuracy: 1.0, margin: 3.0 });
    }

    #[test]
    fn length_bias_ignores_length_that_people_prefer_too() {
        let mut stream = Stream::new(5, 1);
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
    fn extreme_magnitudes_do_not_overflow() {
        let (human, judge) = ([1.0, 2.0, 4.0], [1e300, 2e300, 4e300]);
        assert!((pearson(&human, &judge).unwrap() - 1.0).abs() < 1e-15);
        let close = [1e8, 1e8 + 1.0, 1e8 + 3.0];
        assert!((pearson(&human, &close).unwrap() - 1.0).abs() < 1e-9);
        let tiny = [1e-300, 2e-300, 4e-300];
        assert!((pearson(&human, &tiny).unwrap() - 1.0).abs() < 1e-15);
    }

    /// Compares the counts of the tree with a double loop over pairs.
    #[test]
    fn pair_counts_match_brute_force() {
        let mut stream = Stream::new(3, 9);
        let human: Vec<f64> = (0..150).map(|_| stream.below(5) as f64).collect();
        let judge: Vec<f64> = (0..150).map(|_| stream.below(7) as f64 / 2.0).collect();
        let sample = Sample::of(&human, &judge, None);
        let tally = sample.tally();
        let counts = tally.pairs();
        let mut discordant = 0;
        let mut concordant = 0;
        for i in 0..150 {
            for j in 0..i {
                let sign = (human[i] - human[j]) * (judge[i] - judge[j]);
                discordant += u64::from(sign < 0.0);
                concordant += u64::from(sign > 0.0);
            }
        }
        assert_eq!((counts.discordant, counts.concordant), (discordant, concordant));
        assert_eq!(counts.total + counts.tied_both, concordant + discordant + counts.tied_human + counts.tied_judge);
    }
}
