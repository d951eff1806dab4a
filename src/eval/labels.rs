//! Labels that are words (pass and fail; bad, ok and good): accuracy, precision, recall and F1 beside the kappas and alphas that
//! every scale has. The judge's label is the one nearest to its score.
//!
//! A figure that scikit-learn sets to 0 with a warning (the precision of a label that the judge never gives) is undefined here.

use serde_json::{Map, Value, json};

use super::figures::Figure;
use super::intervals::{Bootstrap, Interval};
use super::tally::LabelTable;
use super::{EvalError, Grid, Measured, Sample, Undefined};

/// Figures of all labels together: `accuracy` is the share of rows with the same label, `balanced_accuracy` the mean recall of
/// the labels that people give, `f1_macro` the mean F1 of the labels that anybody gives, `mcc` Matthews' correlation.
pub const OVERALL: [&str; 4] = ["accuracy", "balanced_accuracy", "f1_macro", "mcc"];

/// Figures of one label, each named with it: `recall(fail)`.
pub const OF_LABEL: [&str; 3] = ["precision", "recall", "f1"];

/// The name of a figure of one label.
pub fn name_of(figure: &str, label: &str) -> String {
    format!("{figure}({label})")
}

/// Figures of labels with their intervals.
#[derive(Clone, Debug)]
pub struct LabelFigures {
    labels: Vec<String>,
    /// Rows with each label from people, and from the judge; `None` where the human scores are no labels.
    margins: Option<Vec<[u64; 2]>>,
    /// Those of [`OVERALL`], then those of [`OF_LABEL`] for each label.
    pub figures: Vec<Figure>,
}

impl LabelFigures {
    /// Measures rows that both have a score. `labels` are the words of the scale by ascending value.
    ///
    /// # Errors
    /// Columns or clusters of different length; values that are not finite; a level that is no share.
    pub fn measure(
        human: &[f64],
        judge: &[f64],
        grid: &Grid,
        labels: &[String],
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        let sample = Sample::new(human, judge, Some(grid))?;
        let measure = |times: &[u32]| {
            let tally = sample.tally_of(times);
            figures_of(tally.table(), labels.len())
        };
        let (values, intervals) = (measure(&vec![1; human.len()]), bootstrap.intervals_of(human.len(), &measure)?);
        let human_labels = grid.exact_labels(human).unwrap_or_default();
        let given: Vec<usize> = judge.iter().map(|score| grid.label(*score)).collect();
        let of_label = labels.iter().flat_map(|label| OF_LABEL.map(|figure| name_of(figure, label)));
        let names = OVERALL.map(String::from).into_iter().chain(of_label);
        let honest = |at: usize, value: &Measured, interval: Result<Interval, Undefined>| match at.checked_sub(OVERALL.len()) {
            None if at == 0 => bootstrap.of_share(value, interval, 0..human.len()),
            Some(at) if at % OF_LABEL.len() == 0 => bootstrap.of_share(value, interval, rows_with(&given, at / OF_LABEL.len())),
            Some(at) if at % OF_LABEL.len() == 1 => {
                bootstrap.of_share(value, interval, rows_with(&human_labels, at / OF_LABEL.len()))
            }
            _ => interval,
        };
        let mut figures = Vec::new();
        for (at, ((name, value), interval)) in names.zip(values).zip(intervals).enumerate() {
            let interval = honest(at, &value, interval);
            figures.push(Figure::resampled(name, value, interval));
        }
        let margins = sample.tally().table().ok().map(|table| {
            let (human, judge) = table.margins();
            human.iter().zip(&judge).map(|(h, s)| [*h as u64, *s as u64]).collect()
        });
        Ok(LabelFigures { labels: labels.to_vec(), margins, figures })
    }

    /// Puts the figures into a judge's object, and counts and figures by label under `per_label`.
    pub fn put_into(&self, object: &mut Map<String, Value>) {
        let mut per_label = Map::new();
        for (label, name) in self.labels.iter().enumerate() {
            let [people, judge] = self.margins.as_ref().map_or([None; 2], |margins| margins[label].map(Some));
            let mut of_label = Map::from_iter([("people".to_string(), json!(people)), ("judge".to_string(), json!(judge))]);
            for (figure, name) in self.of_label(label).iter().zip(OF_LABEL) {
                of_label.insert(name.into(), json!(figure.value.as_ref().ok()));
            }
            per_label.insert(name.clone(), Value::Object(of_label));
        }
        object.insert("per_label".into(), Value::Object(per_label));
        self.figures.iter().for_each(|figure| figure.put_into(object));
    }

    /// The figures of one label.
    fn of_label(&self, label: usize) -> &[Figure] {
        let start = OVERALL.len() + label * OF_LABEL.len();
        &self.figures[start..start + OF_LABEL.len()]
    }
}

/// The rows with a label.
fn rows_with(labels: &[usize], label: usize) -> impl Iterator<Item = usize> {
    labels.iter().enumerate().filter(move |(_, own)| **own == label).map(|(row, _)| row)
}

/// All figures in the order of [`LabelFigures::figures`].
fn figures_of(table: Result<&LabelTable, Undefined>, labels: usize) -> Vec<Measured> {
    let table = match table {
        Ok(table) => table,
        Err(reason) => return vec![Err(reason); OVERALL.len() + labels * OF_LABEL.len()],
    };
    let counts = Counts::of(table);
    let mut figures = vec![counts.accuracy(), counts.balanced_accuracy(), counts.f1_macro(), counts.mcc()];
    for label in 0..labels {
        figures.extend([counts.precision(label), counts.recall(label), counts.f1(label)]);
    }
    figures
}

/// Rows by label.
struct Counts {
    n: f64,
    people: Vec<f64>,
    judge: Vec<f64>,
    /// Rows to which both give the label.
    same: Vec<f64>,
}

impl Counts {
    fn of(table: &LabelTable) -> Self {
        let (people, judge) = table.margins();
        let same = (0..people.len()).map(|label| table.rows(label, label) as f64).collect();
        Counts { n: table.n() as f64, people, judge, same }
    }

    fn accuracy(&self) -> Measured {
        Ok(self.same.iter().sum::<f64>() / self.n)
    }

    fn recall(&self, label: usize) -> Measured {
        if self.people[label] == 0.0 { Err(Undefined::LabelAbsent) } else { Ok(self.same[label] / self.people[label]) }
    }

    fn precision(&self, label: usize) -> Measured {
        if self.judge[label] == 0.0 { Err(Undefined::LabelUnused) } else { Ok(self.same[label] / self.judge[label]) }
    }

    /// The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).
    fn f1(&self, label: usize) -> Measured {
        let either = self.people[label] + self.judge[label];
        if either == 0.0 { Err(Undefined::LabelAbsent) } else { Ok(2.0 * self.same[label] / either) }
    }

    /// The mean recall of the labels that people give. With one label it would only say how often the judge gives that.
    fn balanced_accuracy(&self) -> Measured {
        let recalls: Vec<f64> = (0..self.people.len()).filter_map(|label| self.recall(label).ok()).collect();
        if recalls.len() < 2 { Err(Undefined::ConstantHuman) } else { Ok(super::mean(&recalls)) }
    }

    fn f1_macro(&self) -> Measured {
        let figures: Vec<f64> = (0..self.people.len()).filter_map(|label| self.f1(label).ok()).collect();
        Ok(super::mean(&figures))
    }

    /// Matthews' correlation of several labels (Gorodkin 2004).
    fn mcc(&self) -> Measured {
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let square = self.n * self.n;
        let (people, judge) = (square - sum(&self.people, &self.people), square - sum(&self.judge, &self.judge));
        match (people == 0.0, judge == 0.0) {
            (true, _) => Err(Undefined::ConstantHuman),
            (_, true) => Err(Undefined::ConstantJudge),
            _ => {
                let covariance = self.same.iter().sum::<f64>() * self.n - sum(&self.people, &self.judge);
                Ok(covariance / (people.sqrt() * judge.sqrt()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    /// Figures of scikit-learn and krippendorff for two and three labels, with labels that nobody gives, and columns of one label.
    /// `scripts/make_gate_reference.py` makes the file.
    #[test]
    fn figures_match_scikit_learn() {
        let reference: Value = serde_json::from_str(include_str!("testdata/labels_reference.json")).unwrap();
        let mut agreed = 0;
        for case in reference["cases"].as_array().unwrap() {
            let labels: Vec<String> = serde_json::from_value(case["labels"].clone()).unwrap();
            let grid = Grid::new(&(0..labels.len()).map(|k| k as f64).collect::<Vec<_>>()).unwrap();
            let column = |key: &str| -> Vec<f64> { serde_json::from_value(case[key].clone()).unwrap() };
            let (human, judge) = (column("human"), column("judge"));
            let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
            let found = LabelFigures::measure(&human, &judge, &grid, &labels, &bootstrap).unwrap();
            let sample = Sample::new(&human, &judge, Some(&grid)).unwrap();
            let tally = sample.tally();
            for (name, expected) in case["expect"].as_object().unwrap() {
                let own = found.figures.iter().find(|figure| figure.name == *name).map(|figure| figure.value.clone());
                let value = own.unwrap_or_else(|| (crate::eval::metrics::metric(name).unwrap())(&tally));
                match (value, expected.as_f64()) {
                    (Ok(found), Some(expected)) => {
                        assert!((found - expected).abs() < 1e-12, "{name}: {found}, {expected}\n{case}")
                    }
                    (Err(_), None) => {}
                    (found, _) => panic!("{name}: {found:?}, expected {expected}\n{case}"),
                }
                agreed += 1;
            }
        }
        assert!(agreed > 300, "{agreed}");
    }

    #[test]
    fn one_label_and_a_constant_judge_have_reasons() {
        let grid = Grid::new(&[0.0, 1.0]).unwrap();
        let bootstrap = Bootstrap { resamples: 50, ..Bootstrap::default() };
        let measure = |human: &[f64], judge: &[f64]| {
            let found = LabelFigures::measure(human, judge, &grid, &words(&["fail", "pass"]), &bootstrap).unwrap();
            move |name: &str| found.figures.iter().find(|figure| figure.name == name).unwrap().clone()
        };
        let one_class = measure(&[1.0, 1.0, 1.0], &[1.0, 0.0, 1.0]);
        for (name, reason) in [
            ("recall(fail)", Undefined::LabelAbsent),
            ("balanced_accuracy", Undefined::ConstantHuman),
            ("mcc", Undefined::ConstantHuman),
        ] {
            assert_eq!(one_class(name).value, Err(reason), "{name}");
        }
        assert_eq!(one_class("precision(fail)").value, Ok(0.0));
        let constant = measure(&[0.0, 1.0, 1.0, 0.0], &[1.0; 4]);
        assert_eq!(constant("precision(fail)").value, Err(Undefined::LabelUnused));
        assert_eq!((constant("mcc").value, constant("recall(pass)").value), (Err(Undefined::ConstantJudge), Ok(1.0)));
        // Two of two rows: no certainty.
        assert!(constant("recall(pass)").interval.unwrap().unwrap().low < 0.2);
        let means = LabelFigures::measure(&[0.5, 1.0], &[0.4, 0.8], &grid, &words(&["fail", "pass"]), &bootstrap).unwrap();
        assert!(means.figures.iter().all(|figure| matches!(figure.value, Err(Undefined::BetweenLabels(_)))));
        let mut object = Map::new();
        means.put_into(&mut object);
        assert!(object["per_label"]["fail"]["people"].is_null() && object["undefined"]["accuracy"].is_string());
    }
}
