//! Estimates as text and as JSON.

use serde_json::{Map, Value, json};

use super::{Estimate, EstimateOptions, Estimates, Quantiles};
use crate::eval::Undefined;
use crate::eval::table::{Cell, Table, fixed};
use crate::words::count;

/// A difference of the judge's means this unlikely says that the labelled rows are no random ones.
const UNLIKE: f64 = 0.001;

/// What the tables and messages call things.
#[derive(Clone, Debug)]
pub struct EstimateNames {
    /// The systems: one, or two whose difference is estimated.
    pub systems: Vec<String>,
    /// The column of the clusters.
    pub cluster: Option<String>,
}

impl Estimates {
    /// What to tell before anybody reads the figures.
    pub fn warnings(&self, clustered: bool) -> Vec<String> {
        let mut told = Vec::new();
        if self.alike < UNLIKE {
            told.push(format!(
                "the judge's scores of labelled and unlabelled rows differ by more than chance (p = {:.1e}): the labelled rows were not \
                 drawn at random from all, and no interval below holds",
                self.alike
            ));
        }
        for best in self.unbounded.iter().flatten() {
            if *best > FAR {
                told.push(format!(
                    "the judge's scores vary less than they should: a weight of {best:.2} would be best, and 1 is the most; give its scores \
                     on people's scale (jurist calibrate, with other labels)"
                ));
            } else if *best < 0.0 {
                told.push("the judge's scores fall where people's rise, so its weight is 0: is it the right column?".into());
            }
        }
        if self.units < FEW {
            let few = "intervals from so few labels are rough, most of all where nearly all people's scores are the same";
            told.push(format!("{} labelled: {few}", count(self.units, if clustered { "cluster" } else { "row" })));
        }
        told
    }

    /// A JSON object. Undefined figures are null, with the reasons under `undefined`.
    pub fn to_json(&self, names: &EstimateNames, options: &EstimateOptions) -> Value {
        let mut reasons = Map::new();
        let mut object = Map::from_iter([
            ("systems".to_string(), json!(names.systems)),
            ("cluster".to_string(), json!(names.cluster)),
            ("labelled".to_string(), json!(self.labelled)),
            ("unlabelled".to_string(), json!(self.unlabelled)),
            ("labelled_units".to_string(), json!(self.units)),
            ("level".to_string(), json!(options.level)),
            ("quantiles".to_string(), json!(quantiles(options.quantiles))),
        ]);
        let mut add = |name: &str, value: Result<Value, &Undefined>| {
            if let Err(reason) = value {
                reasons.insert(name.into(), json!(reason.to_string()));
            }
            object.insert(name.into(), value.unwrap_or_default());
        };
        for (name, figure) in [("labels", &self.labels), ("judge", &self.judge), ("ppi", &self.ppi), ("ppi_plus", &self.tuned)] {
            add(name, figure.as_ref().map(to_json));
        }
        let weights: Result<Vec<f64>, &Undefined> = self.weights.iter().map(|weight| weight.as_ref().copied()).collect();
        add("judge_weight", weights.map(|weights| json!(weights)));
        add("worth_labels", self.worth.as_ref().map(|worth| json!(worth)));
        object.insert("judge_alike_p".into(), json!(self.alike));
        if !reasons.is_empty() {
            object.insert("undefined".into(), Value::Object(reasons));
        }
        Value::Object(object)
    }

    /// The table, with what its figures mean.
    pub fn to_text(&self, names: &EstimateNames, options: &EstimateOptions) -> String {
        let what = match &names.systems[..] {
            [first, second] => format!("people's mean score, {first} minus {second}"),
            systems => format!("people's mean score of {}", systems.join(", ")),
        };
        let mut table = Table::new([what.as_str(), "estimate", "low", "high", "width"]);
        let weight = |weights: &[Result<f64, Undefined>]| {
            let shown: Vec<String> = weights.iter().flatten().map(|weight| fixed(*weight, 2)).collect();
            if shown.is_empty() { String::new() } else { format!(", judge's weight {}", shown.join(" and ")) }
        };
        let tuned = if options.weight.is_some() { "PPI" } else { "PPI++" };
        let rows = [
            ("labels alone".to_string(), &self.labels),
            ("judge alone".to_string(), &self.judge),
            ("PPI, judge's weight 1".to_string(), &self.ppi),
            (format!("{tuned}{}", weight(&self.weights)), &self.tuned),
        ];
        for (name, figure) in rows {
            let missing = |reason: &Undefined| vec![Cell::Missing(reason.to_string()); 4];
            let shown = |e: &Estimate| [e.value, e.low, e.high, e.high - e.low].map(|x| Cell::from(fixed(x, 3))).to_vec();
            table.row([Cell::from(name)].into_iter().chain(figure.as_ref().map_or_else(missing, shown)));
        }
        let mut text = table.to_string() + "\n";
        for (k, (labelled, unlabelled)) in self.labelled.iter().zip(&self.unlabelled).enumerate() {
            let name = if names.systems.len() > 1 { format!("{}: ", names.systems[k]) } else { String::new() };
            text += &format!("{name}{} with people's score, {unlabelled} without.\n", count(*labelled, "row"));
        }
        if let Some(cluster) = &names.cluster {
            text +=
                &format!("Intervals allow for rows of one `{cluster}` being alike; {} labelled.\n", count(self.units, "cluster"));
        }
        text += &format!(
            "Intervals of level {}, {}.\n",
            options.level,
            match options.quantiles {
                Quantiles::Student => "Student's t",
                Quantiles::Normal => "normal",
            }
        );
        if let Ok(worth) = &self.worth {
            let each = if names.systems.len() > 1 { " of each" } else { "" };
            let unit = if names.cluster.is_some() { "clusters" } else { "rows" };
            let by = match worth / self.units as f64 {
                gain if gain < 1.05 => "the judge adds next to nothing to the labels".to_string(),
                _ => format!("{tuned} is as precise as {worth:.0} labelled {unit}{each} alone"),
            };
            text += &format!("{}{}.\n", by[..1].to_uppercase(), &by[1..]);
        }
        text += "The labelled rows must have been drawn at random. \"judge alone\" takes the judge's errors for none.\n";
        text
    }
}

/// A judge whose best weight is this far above 1 would help more on another scale.
const FAR: f64 = 1.2;
/// With fewer labelled rows or clusters, intervals are rough.
const FEW: usize = 20;

fn quantiles(quantiles: Quantiles) -> &'static str {
    match quantiles {
        Quantiles::Student => "student",
        Quantiles::Normal => "normal",
    }
}

fn to_json(figure: &Estimate) -> Value {
    json!({"estimate": figure.value, "standard_error": figure.error, "low": figure.low, "high": figure.high})
}
