//! All metrics of one judge at once, named as in the usual Python libraries.

use super::correlation::tie_calibrated;
use super::tally::{LabelTable, Sample, Tally};
use super::{EvalError, Measured, Undefined, all_finite, same_length};
use serde_json::{Map, Value, json};

/// A metric of the rows of one judge.
pub type Metric = fn(&Tally) -> Measured;

/// Every metric of two columns that can be computed on a resample, in the order of tables.
pub const METRICS: [(&str, Metric); 25] = [
    ("pearson", |t| t.pearson()),
    ("spearman", |t| t.spearman()),
    ("kendall_tau_b", |t| t.kendall_tau_b()),
    ("mae", |t| t.mae()),
    ("rmse", |t| t.rmse()),
    ("bias", |t| t.bias()),
    ("pairwise_accuracy", |t| t.pairwise_accuracy()),
    ("ccc", |t| t.ccc()),
    ("icc_2_1", |t| t.icc_2_1()),
    ("icc_3_1", |t| t.icc_3_1()),
    ("wasserstein_1", |t| t.wasserstein_1()),
    ("sd_ratio", |t| t.sd_ratio()),
    ("exact_agreement", |t| t.exact_agreement()),
    ("adjacent_agreement", |t| t.adjacent_agreement()),
    ("kappa_unweighted", |t| t.kappa_unweighted()),
    ("kappa_linear", |t| t.kappa_linear()),
    ("kappa_quadratic", |t| t.kappa_quadratic()),
    ("krippendorff_nominal", |t| t.krippendorff_nominal()),
    ("krippendorff_ordinal", |t| t.krippendorff_ordinal()),
    ("krippendorff_interval", |t| t.krippendorff_interval()),
    ("js_divergence_bits", |t| t.js_divergence_bits()),
    ("judge_entropy_bits", |t| t.judge_entropy_bits()),
    ("range_use", |t| t.range_use()),
    ("modal_share", |t| t.modal_share()),
    ("labels_used", |t| t.labels_used()),
];

/// The metrics that are shares of rows.
pub const SHARES: [&str; 2] = ["exact_agreement", "adjacent_agreement"];

/// The metric called `name` in [`METRICS`].
pub fn metric(name: &str) -> Option<Metric> {
    METRICS.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric)
}

/// `metric` of `tally`. A figure that is not finite is undefined.
pub(crate) fn figure(metric: Metric, tally: &Tally) -> Measured {
    metric(tally).and_then(|x| if x.is_finite() { Ok(x) } else { Err(Undefined::TooLarge) })
}

/// The values of a score scale, ascending, in whatever order they were given. A label is an index into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid(Vec<f64>);

impl Grid {
    /// # Errors
    /// [`EvalError::Scale`] for fewer than two values, a value that is not finite, or one that is there twice.
    pub fn new(values: &[f64]) -> Result<Self, EvalError> {
        let mut ascending = values.to_vec();
        ascending.sort_by(f64::total_cmp);
        let distinct = ascending.windows(2).all(|pair| pair[0] < pair[1]);
        if values.len() < 2 || !distinct || !values.iter().all(|v| v.is_finite()) {
            return Err(EvalError::Scale(values.to_vec()));
        }
        Ok(Grid(ascending))
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle of the scale.
    pub fn midpoint(&self) -> f64 {
        f64::midpoint(self.0[0], self.0[self.0.len() - 1])
    }

    /// The nearest label of a raw score; halfway scores are rounded up.
    pub fn label(&self, score: f64) -> usize {
        self.0.windows(2).take_while(|pair| score >= f64::midpoint(pair[0], pair[1])).count()
    }

    /// The labels of scores that lie on the scale.
    ///
    /// # Errors
    /// [`Undefined::BetweenLabels`] for the first score that is not a value of the scale.
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
    /// Rows with a judge score. All figures are over these.
    pub n: usize,
    /// Rows without one.
    pub n_unparsed: usize,
    metrics: Vec<NamedMetric>,
    table: Option<LabelTable>,
}

impl Agreement {
    /// Compares `judge` (`None`: no score could be parsed) with `human`, row by row.
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
        let sample = Sample::of(&h, &s, Some(grid));
        let tally = sample.tally();
        let mut metrics: Vec<NamedMetric> = METRICS.iter().map(|(name, metric)| (*name, figure(*metric, &tally))).collect();
        let p_values: [(&str, Metric); 3] =
            [("pearson_p", |t| t.pearson_p()), ("spearman_p", |t| t.spearman_p()), ("kendall_tau_b_p", |t| t.kendall_tau_b_p())];
        metrics.extend(p_values.map(|(name, metric)| (name, figure(metric, &tally))));
        let calibrated = tie_calibrated(&h, &s);
        metrics.push(("pairwise_accuracy_tie_calibrated", calibrated.as_ref().map(|t| t.accuracy).map_err(Clone::clone)));
        metrics.push(("tie_margin", calibrated.map(|t| t.margin)));
        let n_unparsed = human.len() - h.len();
        // Dropping rows flatters a broken judge, so some metrics are repeated with the middle of the scale as the missing score.
        let filled: Vec<f64> = judge.iter().map(|s| s.unwrap_or(grid.midpoint())).collect();
        let filled = (n_unparsed > 0).then(|| Sample::of(human, &filled, None));
        let filled_tally = filled.as_ref().map(Sample::tally);
        let midpoint: [(&str, Metric); 3] = [
            ("pearson_midpoint", |t| t.pearson()),
            ("spearman_midpoint", |t| t.spearman()),
            ("kendall_tau_b_midpoint", |t| t.kendall_tau_b()),
        ];
        metrics.extend(midpoint.map(|(name, metric)| (name, figure(metric, filled_tally.as_ref().unwrap_or(&tally)))));
        let table = tally.table().ok().cloned();
        Ok(Agreement { n: h.len(), n_unparsed, metrics, table })
    }

    /// The metric called `key`, for example "pearson"; `None` if there is no such metric.
    pub fn get(&self, key: &str) -> Option<&Measured> {
        self.metrics.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All metrics in the order of tables.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Measured)> {
        self.metrics.iter().map(|(name, value)| (*name, value))
    }

    /// Rows by the labels of people and judge, if the human scores are labels.
    pub fn table(&self) -> Option<&LabelTable> {
        self.table.as_ref()
    }

    /// Share of rows with a judge score; 0 without rows.
    pub fn coverage(&self) -> f64 {
        self.n as f64 / (self.n + self.n_unparsed).max(1) as f64
    }

    /// A JSON object: `n`, `n_unparsed`, `coverage`, every metric (null where undefined), and under `undefined` the reason of
    /// every null.
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

type NamedMetric = (&'static str, Measured);
