//! All metrics of one judge at once, by the names of the usual Python libraries.

use super::agreement::{Weights, kappa, label_agreement, label_shares};
use super::correlation::pairwise_accuracy;
use super::distribution::{entropy_bits, js_divergence_bits, modal_share, sd_ratio, wasserstein_1};
use super::variance::{Icc, Level, concordance, icc, krippendorff_alpha};
use super::{EvalError, Measured, Undefined, all_finite, at_least, same_length};
use super::{bias, kendall_tau_b, mae, pearson, rmse, spearman};
use serde_json::{Map, Value, json};

/// The values of a score scale, ascending. A label is a place on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid(Vec<f64>);

impl Grid {
    /// # Errors
    /// [`EvalError::Scale`] for fewer than two values, a value that is not finite, or values out of order.
    pub fn new(values: &[f64]) -> Result<Self, EvalError> {
        let ascending = values.windows(2).all(|pair| pair[0] < pair[1]);
        if values.len() < 2 || !ascending || !values.iter().all(|v| v.is_finite()) {
            return Err(EvalError::Scale(values.to_vec()));
        }
        Ok(Grid(values.to_vec()))
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Middle of the scale.
    pub fn midpoint(&self) -> f64 {
        f64::midpoint(self.0[0], self.0[self.0.len() - 1])
    }

    /// The nearest label of a raw score; a score half way goes up.
    pub fn label(&self, score: f64) -> usize {
        self.0.windows(2).take_while(|pair| score >= f64::midpoint(pair[0], pair[1])).count()
    }

    /// The labels of scores that lie on the scale.
    ///
    /// # Errors
    /// [`Undefined::BetweenLabels`] for the first score that is no value of the scale.
    pub fn exact_labels(&self, scores: &[f64]) -> Result<Vec<usize>, Undefined> {
        let tolerance = 1e-9 * (self.0[self.0.len() - 1] - self.0[0]);
        let exact = |&score: &f64| {
            let label = self.label(score);
            if (self.0[label] - score).abs() <= tolerance { Ok(label) } else { Err(Undefined::BetweenLabels(score)) }
        };
        scores.iter().map(exact).collect()
    }
}

/// How well one judge agrees with people.
///
/// Correlations and errors use the judge's raw score; kappa, agreement, Krippendorff's alpha and the histogram metrics use
/// its nearest label, and need human scores that are labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Rows with a judge score: all figures are over these.
    pub n: usize,
    /// Rows without one.
    pub n_unparsed: usize,
    metrics: Vec<(&'static str, Measured)>,
}

impl Agreement {
    /// Compares `judge` (`None`: no score could be read) with `human`, row by row.
    ///
    /// # Errors
    /// Columns of different length, and scores that are NaN or infinite.
    pub fn measure(human: &[f64], judge: &[Option<f64>], grid: &Grid) -> Result<Self, EvalError> {
        same_length("the human column", human.len(), "the judge column", judge.len())?;
        all_finite("the human column", human)?;
        if let Some((row, value)) = judge.iter().enumerate().find_map(|(r, s)| s.filter(|s| !s.is_finite()).map(|s| (r, s))) {
            return Err(EvalError::NotFinite { column: "the judge column", row, value });
        }
        let parsed: Vec<(f64, f64)> = human.iter().zip(judge).filter_map(|(&h, &s)| s.map(|s| (h, s))).collect();
        let (h, s): (Vec<f64>, Vec<f64>) = parsed.iter().copied().unzip();
        let mut metrics = score_metrics(&h, &s);
        metrics.extend(label_metrics(&h, &s, grid));
        metrics.extend(midpoint_metrics(human, judge, grid));
        Ok(Agreement { n: h.len(), n_unparsed: human.len() - h.len(), metrics })
    }

    /// The metric called `key`, for example "pearson"; `None` if there is no such metric.
    pub fn get(&self, key: &str) -> Option<&Measured> {
        self.metrics.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All metrics in the order of tables.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Measured)> {
        self.metrics.iter().map(|(name, value)| (*name, value))
    }

    /// Share of rows with a judge score; 0 without rows.
    pub fn coverage(&self) -> f64 {
        self.n as f64 / (self.n + self.n_unparsed).max(1) as f64
    }

    /// One object: `n`, `n_unparsed`, `coverage`, every metric (null where undefined), and under `undefined` the reason
    /// of every null.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("n".into(), json!(self.n));
        object.insert("n_unparsed".into(), json!(self.n_unparsed));
        object.insert("coverage".into(), json!(self.coverage()));
        let mut reasons = Map::new();
        for (name, value) in &self.metrics {
            object.insert((*name).into(), json!(value.as_ref().ok()));
            if let Err(reason) = value {
                reasons.insert((*name).into(), json!(reason.to_string()));
            }
        }
        if !reasons.is_empty() {
            object.insert("undefined".into(), Value::Object(reasons));
        }
        Value::Object(object)
    }
}

type Named = (&'static str, Measured);

fn score_metrics(human: &[f64], judge: &[f64]) -> Vec<Named> {
    vec![
        ("pearson", pearson(human, judge)),
        ("spearman", spearman(human, judge)),
        ("kendall_tau_b", kendall_tau_b(human, judge)),
        ("mae", mae(human, judge)),
        ("rmse", rmse(human, judge)),
        ("bias", bias(human, judge)),
        ("pairwise_accuracy", pairwise_accuracy(human, judge)),
        ("ccc", concordance(human, judge)),
        ("icc_2_1", icc(human, judge, Icc::Absolute)),
        ("icc_3_1", icc(human, judge, Icc::Consistency)),
        ("wasserstein_1", wasserstein_1(human, judge)),
        ("sd_ratio", sd_ratio(human, judge)),
    ]
}

fn label_metrics(human: &[f64], judge: &[f64], grid: &Grid) -> Vec<Named> {
    let labels = grid.values().len();
    let of_judge: Vec<usize> = judge.iter().map(|&s| grid.label(s)).collect();
    let shares = label_shares(&of_judge, labels);
    let of_human = at_least(1, human.len()).and_then(|()| grid.exact_labels(human));
    let both = |metric: &dyn Fn(&[usize]) -> Measured| of_human.as_ref().map_err(Clone::clone).and_then(|h| metric(h));
    let alone = |value: f64| at_least(1, judge.len()).map(|()| value);
    let kappa_of = |weights| both(&|h| kappa(h, &of_judge, labels, weights));
    let alpha_of = |level| both(&|h| krippendorff_alpha(h, &of_judge, grid.values(), level));
    vec![
        ("exact_agreement", both(&|h| label_agreement(h, &of_judge, 0))),
        ("adjacent_agreement", both(&|h| label_agreement(h, &of_judge, 1))),
        ("kappa_unweighted", kappa_of(Weights::Unweighted)),
        ("kappa_linear", kappa_of(Weights::Linear)),
        ("kappa_quadratic", kappa_of(Weights::Quadratic)),
        ("krippendorff_nominal", alpha_of(Level::Nominal)),
        ("krippendorff_ordinal", alpha_of(Level::Ordinal)),
        ("krippendorff_interval", alpha_of(Level::Interval)),
        ("js_divergence_bits", both(&|h| Ok(js_divergence_bits(&label_shares(h, labels), &shares)))),
        ("judge_entropy_bits", alone(entropy_bits(&shares))),
        ("range_use", alone(entropy_bits(&shares) / (labels as f64).log2())),
        ("modal_share", alone(modal_share(&shares))),
        ("labels_used", alone(shares.iter().filter(|p| **p > 0.0).count() as f64)),
    ]
}

/// The correlations with every unparsed row set to the middle of the scale: dropping rows flatters a broken judge.
fn midpoint_metrics(human: &[f64], judge: &[Option<f64>], grid: &Grid) -> Vec<Named> {
    let filled: Vec<f64> = judge.iter().map(|s| s.unwrap_or(grid.midpoint())).collect();
    vec![
        ("pearson_midpoint", pearson(human, &filled)),
        ("spearman_midpoint", spearman(human, &filled)),
        ("kendall_tau_b_midpoint", kendall_tau_b(human, &filled)),
    ]
}
