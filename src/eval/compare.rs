//! Is one judge better than another on the same rows? All tests are paired, since both judges see the same easy and hard rows.
//!
//! | question | test |
//! |---|---|
//! | How large is the difference of each metric? | difference with its bootstrap interval ([`super::intervals`]) |
//! | Is its error smaller? | sign-flip permutation of per-row absolute errors ([`sign_flip`]) |
//! | Is its correlation higher? | Williams' t and Steiger's Z for two correlations that share the human column |
//! | Does this hold on any of several data sets? | Holm's correction of their p-values ([`holm`]) |

use super::clusters::rows_by_cluster;
use super::intervals::{self, Bootstrap, NamedInterval};
use super::metrics::{METRICS, Metric, figure};
use super::special::{normal_two_sided, t_two_sided};
use super::{EvalError, Grid, Measured, Sample, Undefined, all_finite, at_least, pearson, same_length, spearman};
use crate::random::Stream;
use serde_json::{Map, Value, json};

/// Two judges on the rows that both of them scored.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Rows with a score of both.
    pub n: usize,
    /// For each metric, the judge's minus the other's.
    pub values: Vec<Measured>,
    /// The same with intervals.
    pub differences: Vec<NamedInterval>,
    /// The test of the mean absolute error.
    pub sign_flip: Result<SignFlip, Undefined>,
    /// The tests of Pearson's correlation with people.
    pub pearson: Result<DependentCorrelations, Undefined>,
    /// The tests of Spearman's correlation with people.
    pub spearman: Result<DependentCorrelations, Undefined>,
}

impl Comparison {
    /// Compares two judges row by row. Rows that one of them did not score are left out for both.
    ///
    /// # Errors
    /// Columns of different length, values that are not finite.
    pub fn measure(
        human: &[f64],
        judge: &[Option<f64>],
        other: &[Option<f64>],
        grid: &Grid,
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        same_length("the human column", human.len(), "the judge column", judge.len())?;
        same_length("the human column", human.len(), "the second judge's column", other.len())?;
        if let Some(clusters) = bootstrap.clusters {
            same_length("the human column", human.len(), "the cluster column", clusters.len())?;
        }
        let rows: Vec<usize> = (0..human.len()).filter(|&row| judge[row].is_some() && other[row].is_some()).collect();
        let scores = |column: &[Option<f64>]| rows.iter().filter_map(|&row| column[row]).collect::<Vec<f64>>();
        let (judge, other, human) = (scores(judge), scores(other), rows.iter().map(|&row| human[row]).collect::<Vec<f64>>());
        let clusters = bootstrap.clusters.map(|clusters| rows.iter().map(|&row| clusters[row]).collect::<Vec<usize>>());
        let clusters = clusters.as_deref();
        let (one, two) = (Sample::new(&human, &judge, Some(grid))?, Sample::new(&human, &other, Some(grid))?);
        let (of_judge, of_other) = (one.tally(), two.tally());
        let value = |(_, metric): &(&str, Metric)| Ok(figure(*metric, &of_judge)? - figure(*metric, &of_other)?);
        Ok(Comparison {
            n: rows.len(),
            values: METRICS.iter().map(value).collect(),
            differences: Bootstrap { clusters, ..*bootstrap }.differences(&one, &two)?,
            sign_flip: sign_flip(&human, &judge, &other, clusters, bootstrap.seed)?,
            pearson: dependent_correlations(&human, &judge, &other, Correlation::Pearson),
            spearman: dependent_correlations(&human, &judge, &other, Correlation::Spearman),
        })
    }

    /// A JSON object: `n`, `differences`, `sign_flip`, and under `pearson` and `spearman` the tests of Williams and Steiger.
    /// Undefined values are null, with the reason under `undefined`.
    pub fn to_json(&self) -> Value {
        let mut reasons = Map::new();
        let test = |test: &Test| json!({"statistic": test.statistic, "p": test.p});
        let dependent = |found: &DependentCorrelations| {
            json!({"r_judge": found.r[0], "r_judge2": found.r[1], "r_between": found.r[2], "williams": test(&found.williams),
                "steiger": found.steiger.as_ref().map(test)})
        };
        let mut object = Map::from_iter([
            ("n".to_string(), json!(self.n)),
            ("differences".to_string(), intervals::to_json(&self.differences)),
        ]);
        let mut add = |name: &str, value: Result<Value, &Undefined>| {
            if let Err(reason) = value {
                reasons.insert(name.into(), json!(reason.to_string()));
            }
            object.insert(name.into(), value.unwrap_or_default());
        };
        add(
            "sign_flip",
            self.sign_flip.as_ref().map(
                |found| json!({"mae_difference": found.difference, "p": found.p, "flips": found.flips, "exact": found.exact}),
            ),
        );
        add("pearson", self.pearson.as_ref().map(dependent));
        add("spearman", self.spearman.as_ref().map(dependent));
        if !reasons.is_empty() {
            object.insert("undefined".into(), Value::Object(reasons));
        }
        Value::Object(object)
    }
}

/// A statistic with its two-sided p-value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    /// The statistic: a difference of means, t or Z.
    pub statistic: f64,
    /// Probability of a statistic at least as far from 0 if the judges are equally good.
    pub p: f64,
}

/// Sign-flip permutation test of the difference in mean absolute error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignFlip {
    /// Mean absolute error of the judge minus that of the other: negative where the judge is better.
    pub difference: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// Sign patterns tried; all patterns if `exact`.
    pub flips: usize,
    /// Whether p is exact or estimated from random patterns as (1 + as extreme) / (1 + flips).
    pub exact: bool,
}

/// Random sign patterns of a test.
const MAX_FLIPS: usize = 10_000;
/// For long columns the patterns are limited to this many signs in total.
const MAX_SIGNS: usize = 200_000_000;
/// The fewest random patterns.
const MIN_FLIPS: usize = 999;
/// Up to this many rows (or clusters) all patterns are tried.
const MAX_EXACT_UNITS: usize = 13;

/// Sign-flip test. If both judges were equally good, each row's difference of absolute errors could equally have the other sign.
/// With clusters, all rows of a cluster change sign together.
///
/// # Errors
/// Columns of different length, values that are not finite. Undefined without rows, or if no row differs.
pub fn sign_flip(
    human: &[f64],
    judge: &[f64],
    other: &[f64],
    clusters: Option<&[usize]>,
    seed: u64,
) -> Result<Result<SignFlip, Undefined>, EvalError> {
    for column in [judge, other] {
        same_length("the human column", human.len(), "the judge column", column.len())?;
        all_finite("the judge column", column)?;
    }
    all_finite("the human column", human)?;
    if let Some(clusters) = clusters {
        same_length("the human column", human.len(), "the cluster column", clusters.len())?;
    }
    let row_differences: Vec<f64> =
        (0..human.len()).map(|row| (judge[row] - human[row]).abs() - (other[row] - human[row]).abs()).collect();
    // A unit without a difference has no sign.
    let units: Vec<f64> = cluster_sums(&row_differences, clusters).into_iter().filter(|d| *d != 0.0).collect();
    if let Err(reason) = at_least(1, human.len()) {
        return Ok(Err(reason));
    }
    if units.is_empty() {
        return Ok(Err(Undefined::NoVariance));
    }
    let observed: f64 = units.iter().sum();
    // Sums of the same terms in another order may differ in the last digits.
    let threshold = observed.abs() * (1.0 - 1e-12) - 1e-300;
    let exact = units.len() <= MAX_EXACT_UNITS;
    let flips = if exact { 1 << units.len() } else { MAX_FLIPS.min((MAX_SIGNS / units.len()).max(MIN_FLIPS)) };
    let extreme = if exact {
        let sum = |pattern: usize| units.iter().enumerate().map(|(k, d)| signed(*d, (pattern >> k) as u64 & 1)).sum::<f64>();
        (0..flips).filter(|&pattern| sum(pattern).abs() >= threshold).count()
    } else {
        (0..flips).filter(|&k| flipped_sum(&units, seed, k as u64).abs() >= threshold).count()
    };
    let p = if exact { extreme as f64 / flips as f64 } else { (1 + extreme) as f64 / (1 + flips) as f64 };
    Ok(Ok(SignFlip { difference: observed / human.len() as f64, p, flips, exact }))
}

/// The sum of each cluster's rows.
fn cluster_sums(row_differences: &[f64], clusters: Option<&[usize]>) -> Vec<f64> {
    let Some(clusters) = clusters else { return row_differences.to_vec() };
    let sum = |rows: &Vec<usize>| rows.iter().map(|&row| row_differences[row]).sum();
    rows_by_cluster(row_differences.len(), Some(clusters)).iter().map(sum).collect()
}

/// The random stream of sign flips: "flip" in ASCII.
const SIGN_STREAM: u64 = 0x666C_6970 << 32;

/// The sum with the k-th random pattern. Each draw gives 64 signs.
fn flipped_sum(units: &[f64], seed: u64, k: u64) -> f64 {
    let mut stream = Stream::new(seed, SIGN_STREAM | k);
    let block_sum = |block: &[f64]| {
        let mut bits = stream.bits();
        let mut sum = 0.0;
        for d in block {
            sum += signed(*d, bits & 1);
            bits >>= 1;
        }
        sum
    };
    units.chunks(64).map(block_sum).sum()
}

/// `d`, or -`d` if the lowest bit is 1.
fn signed(d: f64, bit: u64) -> f64 {
    f64::from_bits(d.to_bits() ^ (bit << 63))
}

/// Tests of two correlations with the same human column. Both tests assume Pearson correlations of normal columns; on ranks they
/// are the usual approximation.
#[derive(Clone, Debug, PartialEq)]
pub struct DependentCorrelations {
    /// The correlations of people with the judge, of people with the other judge, and of the two judges.
    pub r: [f64; 3],
    /// Williams' t with n - 3 degrees of freedom (Williams 1959, in Steiger's 1980 form).
    pub williams: Test,
    /// Steiger's Z from Fisher's transform with pooled correlations (Steiger 1980, equation 14). `None` where a correlation is
    /// ±1, whose transform is infinite.
    pub steiger: Option<Test>,
}

/// The kind of correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correlation {
    /// Of the scores.
    Pearson,
    /// Of their ranks.
    Spearman,
}

/// Williams' and Steiger's tests of the difference of two correlations that share `human`.
///
/// # Errors
/// Undefined for fewer than four rows, where a correlation is undefined, or where the judges' scores are perfectly correlated.
pub fn dependent_correlations(
    human: &[f64],
    judge: &[f64],
    other: &[f64],
    kind: Correlation,
) -> Result<DependentCorrelations, Undefined> {
    let correlate = |a: &[f64], b: &[f64]| -> Measured {
        match kind {
            Correlation::Pearson => pearson(a, b),
            Correlation::Spearman => spearman(a, b),
        }
    };
    at_least(4, human.len())?;
    from_correlations([correlate(human, judge)?, correlate(human, other)?, correlate(judge, other)?], human.len())
}

fn from_correlations(r: [f64; 3], rows: usize) -> Result<DependentCorrelations, Undefined> {
    let ([first, second, between], n) = (r, rows as f64);
    let determinant = 1.0 - r.iter().map(|r| r * r).sum::<f64>() + 2.0 * first * second * between;
    let pooled = (first + second) / 2.0;
    let square = 2.0 * (n - 1.0) / (n - 3.0) * determinant.max(0.0) + pooled * pooled * (1.0 - between).powi(3);
    if 1.0 - between < 1e-12 || square <= 0.0 {
        return Err(Undefined::NoVariance);
    }
    let t = (first - second) * ((n - 1.0) * (1.0 + between) / square).sqrt();
    let williams = Test { statistic: t, p: t_two_sided(t, n - 3.0) };
    let alone = 1.0 - pooled * pooled;
    let shared =
        between * (1.0 - 2.0 * pooled * pooled) - 0.5 * pooled * pooled * (1.0 - 2.0 * pooled * pooled - between * between);
    let covariance = shared / (alone * alone);
    let z = (first.atanh() - second.atanh()) * ((n - 3.0) / (2.0 - 2.0 * covariance)).sqrt();
    let steiger = z.is_finite().then(|| Test { statistic: z, p: normal_two_sided(z) });
    Ok(DependentCorrelations { r, williams, steiger })
}

/// Holm's step-down correction (1979): adjusts the p-values of several tests so that the probability of any false alarm stays
/// below the level. Keeps the given order (`statsmodels multipletests(method="holm")`).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut largest) = (vec![0.0; p.len()], 0.0_f64);
    for (k, &test) in order.iter().enumerate() {
        largest = largest.max((p.len() - k) as f64 * p[test]).min(1.0);
        adjusted[test] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_flips_of_few_rows_are_all_tried() {
        // Differences 1, 2, 3: of 8 patterns only +++ and --- reach 6.
        let found = sign_flip(&[0.0; 3], &[1.0, 2.0, 3.0], &[0.0; 3], None, 0).unwrap().unwrap();
        assert_eq!(found, SignFlip { difference: 2.0, p: 0.25, flips: 8, exact: true });
        // In one cluster they change sign together: the test cannot decide.
        assert_eq!(sign_flip(&[0.0; 3], &[1.0, 2.0, 3.0], &[0.0; 3], Some(&[7; 3]), 0).unwrap().unwrap().p, 1.0);
        assert_eq!(sign_flip(&[0.0; 3], &[1.0; 3], &[-1.0; 3], None, 0).unwrap(), Err(Undefined::NoVariance));
        assert!(sign_flip(&[0.0; 3], &[1.0; 2], &[1.0; 3], None, 0).is_err());
    }

    /// Many rows, so that the normal approximation is accurate.
    #[test]
    fn random_sign_flips_match_the_normal_approximation() {
        let mut stream = Stream::new(4, 4);
        let human = vec![0.0; 500];
        let judge: Vec<f64> = (0..500).map(|_| stream.normal()).collect();
        let other: Vec<f64> = (0..500).map(|_| 1.1 * stream.normal()).collect();
        let found = sign_flip(&human, &judge, &other, None, 1).unwrap().unwrap();
        let differences: Vec<f64> = judge.iter().zip(&other).map(|(a, b)| a.abs() - b.abs()).collect();
        let z = differences.iter().sum::<f64>() / differences.iter().map(|d| d * d).sum::<f64>().sqrt();
        assert!(!found.exact && (found.p - normal_two_sided(z)).abs() < 0.02, "{found:?}, z {z}");
    }

    /// Steiger (1980) does not work out a t. The expected values are the formulas evaluated with numpy and scipy.
    #[test]
    fn dependent_correlations_match_the_formula() {
        let found = from_correlations([0.63, 0.42, 0.5], 60).unwrap();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-10, "{found}, expected {expected}");
        near(found.williams.statistic, STEIGER[0]);
        near(found.williams.p, STEIGER[1]);
        near(found.steiger.unwrap().statistic, STEIGER[2]);
        near(found.steiger.unwrap().p, STEIGER[3]);
        assert_eq!(from_correlations([0.5, 0.5, 1.0], 60), Err(Undefined::NoVariance));
        let human = [1.0, 2.0, 3.0, 4.0];
        assert!(dependent_correlations(&human[..3], &human[..3], &human[..3], Correlation::Pearson).is_err());
        let perfect = dependent_correlations(&human, &human, &[2.0, 1.0, 4.0, 3.0], Correlation::Spearman).unwrap();
        assert_eq!(perfect.steiger, None);
    }

    const STEIGER: [f64; 4] = [2.0289989681309697, 0.04713823008057695, 1.984104297142746, 0.04724421419687126];

    #[test]
    fn holm_steps_down() {
        assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
        assert_eq!(holm(&[0.9, 0.5]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
