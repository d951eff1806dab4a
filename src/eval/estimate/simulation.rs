//! How often the intervals contain people's mean, and how wide they are: on rows that are all labelled, most labels are hidden,
//! many times.
//!
//! Each draw takes as many rows (or whole clusters) as there are, at random and with replacement, so that the rows' own mean is
//! the truth, and keeps the labels of a few.

use serde_json::{Value, json};

use super::{EstimateOptions, Estimates, FEWEST, ScoredRows, mean};
use crate::eval::clusters::rows_by_cluster;
use crate::eval::panels::{Line, LinePoint, Panel, draw};
use crate::eval::table::{Cell, Table, fixed};
use crate::eval::{EvalError, all_finite, same_length};
use crate::random::Stream;
use crate::words::count;

/// The random streams of this module.
const STREAM: u64 = 0x7265_6865 << 32;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct SimulationOptions<'a> {
    /// Numbers of labels.
    pub labels: &'a [usize],
    /// Draws of each.
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// A simulation.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// People's mean on all rows.
    pub truth: f64,
    /// The judge's.
    pub judge: f64,
    /// The level of the intervals.
    pub level: f64,
    /// Rows.
    pub rows: usize,
    /// Draws of each number of labels.
    pub draws: usize,
    /// By the number of labels.
    pub points: Vec<SimulationPoint>,
}

/// What so many labels gave.
#[derive(Clone, Debug)]
pub struct SimulationPoint {
    /// Labels of a draw; whole clusters may make it a few more.
    pub labels: usize,
    /// Each way to estimate: labels alone, judge alone, PPI, PPI++.
    pub ways: Vec<WayFigures>,
}

/// The figures of one way to estimate.
#[derive(Clone, Copy, Debug, Default)]
pub struct WayFigures {
    /// Draws in which all ways had an interval. The figures are of these.
    pub defined: usize,
    /// The share of these intervals that contain the truth.
    pub coverage: f64,
    /// Their mean width.
    pub width: f64,
    /// The root mean squared error of the estimate.
    pub error: f64,
}

/// The ways to estimate, with the colours of their lines.
const WAYS: [(&str, &str); 4] = [("labels alone", "s0"), ("judge alone", "s5"), ("PPI", "s2"), ("PPI++", "s1")];

impl Simulation {
    /// Simulates on rows that are all labelled.
    ///
    /// # Errors
    /// Columns of different length, values that are not finite; numbers of labels that leave too few rows, or are too few
    /// for an estimate.
    pub fn new(
        human: &[f64],
        judge: &[f64],
        clusters: Option<&[usize]>,
        options: &EstimateOptions,
        simulated: &SimulationOptions,
    ) -> Result<Self, EvalError> {
        same_length("the human column", human.len(), "the judge column", judge.len())?;
        all_finite("the human column", human)?;
        all_finite("the judge column", judge)?;
        let labels: Vec<usize> = simulated.labels.iter().copied().filter(|labels| labels + FEWEST <= human.len()).collect();
        if simulated.draws == 0 {
            return Err(EvalError::NoDraws);
        }
        if labels.is_empty() {
            let needed = simulated.labels.iter().min().map_or(human.len() + 1, |least| least + FEWEST);
            return Err(EvalError::TooFewLabels { what: "a simulation", unit: "row", found: human.len(), needed });
        }
        let truth = super::super::mean(human);
        let units = rows_by_cluster(human.len(), clusters);
        let mut points = Vec::new();
        for (k, &labels) in labels.iter().enumerate() {
            let (mut sums, mut failed) = ([WayFigures::default(); 4], None);
            for draw in 0..simulated.draws {
                let purpose = STREAM | (k as u64) << 24 | draw as u64;
                let drawn = Drawn::new(human, judge, &units, labels, &mut Stream::new(simulated.seed, purpose));
                let clusters = clusters.map(|_| &drawn.clusters[..]);
                let rows = ScoredRows { human: &drawn.human, judge: &drawn.judge, clusters, weights: None };
                match mean(&rows, options) {
                    Ok(found) => add(&mut sums, &found, truth),
                    Err(error) => failed = Some(error.of_draw(labels)),
                }
            }
            if let (Some(error), 0) = (failed, sums[0].defined) {
                return Err(error);
            }
            points.push(SimulationPoint { labels, ways: sums.iter().map(WayFigures::of_sums).collect() });
        }
        Ok(Simulation {
            truth,
            judge: super::super::mean(judge),
            level: options.level,
            rows: human.len(),
            draws: simulated.draws,
            points,
        })
    }

    /// A JSON object.
    pub fn to_json(&self) -> Value {
        let way =
            |way: &WayFigures| json!({"defined": way.defined, "coverage": way.coverage, "width": way.width, "rmse": way.error});
        let point = |point: &SimulationPoint| {
            let mut object = json!({"labels": point.labels});
            for (name, figures) in ["labels_alone", "judge", "ppi", "ppi_plus"].into_iter().zip(&point.ways) {
                object[name] = way(figures);
            }
            object
        };
        let points: Vec<Value> = self.points.iter().map(point).collect();
        json!({"human_mean": self.truth, "judge_mean": self.judge, "level": self.level, "rows": self.rows, "draws": self.draws,
            "points": points})
    }

    /// The table.
    pub fn to_text(&self) -> String {
        let mut table = Table::new(["labels", "", "covered", "mean width", "of labels alone", "RMSE"]);
        for point in &self.points {
            for (k, ((name, _), way)) in WAYS.iter().zip(&point.ways).enumerate() {
                let labels = if k == 0 { point.labels.to_string() } else { String::new() };
                let figures = match way.defined {
                    0 => ["–"; 4].map(String::from),
                    _ => [
                        format!("{} %", fixed(100.0 * way.coverage, 1)),
                        fixed(way.width, 3),
                        format!("{} %", fixed(100.0 * way.width / point.ways[0].width, 0)),
                        fixed(way.error, 3),
                    ],
                };
                table.row([labels, (*name).into()].into_iter().chain(figures).map(Cell::from));
            }
        }
        let bias = self.judge - self.truth;
        let left_out = |point: &SimulationPoint| self.draws - point.ways[0].defined;
        let left_out: String = (self.points.iter().filter(|point| left_out(point) > 0))
            .map(|point| format!("{} labels: {} without an interval left out.\n", point.labels, count(left_out(point), "draw")))
            .collect();
        format!(
            "{table}\n{left_out}People's mean {}, the judge's {} ({}{}). {} each of {}, drawn with replacement; intervals of level {}.\n",
            fixed(self.truth, 3),
            fixed(self.judge, 3),
            if bias > 0.0 { "+" } else { "" },
            fixed(bias, 3),
            count(self.draws, "draw"),
            count(self.rows, "row"),
            self.level
        )
    }

    /// The image: coverage and width over the number of labels.
    pub fn plot(&self, title: &str) -> String {
        let lines = |ways: &[usize], figure: fn(&WayFigures) -> f64| {
            let of = |point: &SimulationPoint, k: usize| LinePoint {
                labels: point.labels as f64,
                value: figure(&point.ways[k]),
                spread: None,
            };
            let line = |k: usize| {
                let points = self.points.iter().map(|point| of(point, k)).collect();
                Line { name: WAYS[k].0.into(), class: WAYS[k].1, points }
            };
            ways.iter().map(|&k| line(k)).collect::<Vec<_>>()
        };
        draw(
            title,
            &[
                Panel {
                    title: "intervals that contain people's mean".into(),
                    lines: lines(&[0, 1, 2, 3], |way| way.coverage),
                    mark: Some((self.level, "promised".into())),
                    reach: vec![0.0, 1.0],
                },
                Panel {
                    title: "closer, without the judge alone".into(),
                    lines: lines(&[0, 2, 3], |way| way.coverage),
                    mark: Some((self.level, "promised".into())),
                    reach: vec![1.0],
                },
                Panel {
                    title: "width of an interval".into(),
                    lines: lines(&[0, 2, 3], |way| way.width),
                    mark: None,
                    reach: vec![0.0],
                },
            ],
        )
    }
}

impl WayFigures {
    /// Shares and means from sums.
    fn of_sums(sums: &WayFigures) -> Self {
        let n = sums.defined.max(1) as f64;
        WayFigures { defined: sums.defined, coverage: sums.coverage / n, width: sums.width / n, error: (sums.error / n).sqrt() }
    }
}

fn add(sums: &mut [WayFigures; 4], found: &Estimates, truth: f64) {
    // The ways are compared on the same draws.
    let (Ok(labels), Ok(judge), Ok(ppi), Ok(tuned)) = (&found.labels, &found.judge, &found.ppi, &found.tuned) else { return };
    for (sum, figure) in sums.iter_mut().zip([labels, judge, ppi, tuned]) {
        sum.defined += 1;
        sum.coverage += f64::from(u8::from((figure.low..=figure.high).contains(&truth)));
        sum.width += figure.high - figure.low;
        sum.error += (figure.value - truth).powi(2);
    }
}

/// Rows that were drawn.
struct Drawn {
    human: Vec<Option<f64>>,
    judge: Vec<f64>,
    clusters: Vec<usize>,
}

impl Drawn {
    fn new(human: &[f64], judge: &[f64], units: &[Vec<usize>], labels: usize, stream: &mut Stream) -> Self {
        let mut drawn = Drawn { human: Vec::new(), judge: Vec::new(), clusters: Vec::new() };
        for unit in 0..units.len() {
            let labelled = drawn.human.len() < labels;
            for &row in &units[stream.below(units.len())] {
                drawn.human.push(labelled.then_some(human[row]));
                drawn.judge.push(judge[row]);
                drawn.clusters.push(unit);
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_biased_judge_alone_covers_nothing() {
        let mut stream = Stream::new(6, 6);
        let human: Vec<f64> = (0..500).map(|_| 3.0 + stream.normal()).collect();
        let judge: Vec<f64> = human.iter().map(|h| 0.8 * h + 1.5 + 0.4 * stream.normal()).collect();
        let simulated = SimulationOptions { labels: &[30, 100, 5000], draws: 300, seed: 1 };
        let found = Simulation::new(&human, &judge, None, &EstimateOptions::default(), &simulated).unwrap();
        assert_eq!(found.points.len(), 2);
        for point in &found.points {
            let [labels, judge, ppi, tuned] = point.ways[..] else { panic!("{point:?}") };
            assert!(labels.coverage > 0.91 && ppi.coverage > 0.91 && tuned.coverage > 0.91 && judge.coverage < 0.02, "{point:?}");
            assert!(tuned.width < 0.7 * labels.width && tuned.error < labels.error, "{point:?}");
        }
        let (text, image) = (found.to_text(), found.plot("simulation"));
        assert!(text.contains("300 draws each of 500 rows") && image.contains("PPI++") && !image.contains("NaN"), "{text}");
        assert_eq!(found.to_json()["points"][1]["ppi_plus"]["defined"], 300);
        let few = SimulationOptions { labels: &[3], ..simulated };
        let error = Simulation::new(&human, &judge, None, &EstimateOptions::default(), &few).unwrap_err().to_string();
        assert!(error.contains("an estimate needs at least 5"), "{error}");
        // Draws of ten labels that are all the same have no interval: all ways are compared on the others.
        let human: Vec<f64> = (0..500).map(|row| if row % 12 == 0 { 1.0 } else { 5.0 }).collect();
        let found =
            Simulation::new(&human, &judge, None, &EstimateOptions::default(), &SimulationOptions { labels: &[10], ..simulated })
                .unwrap();
        let defined = found.points[0].ways[0].defined;
        assert!(defined < 250 && found.points[0].ways.iter().all(|way| way.defined == defined), "{found:?}");
        assert!(found.to_text().contains(&format!("10 labels: {} draws without an interval left out.", 300 - defined)));
        let human: Vec<f64> = (0..500).map(|_| 3.0 + stream.normal()).collect();
        // Clusters are drawn whole.
        let clusters: Vec<usize> = (0..500).map(|row| row / 10).collect();
        let message = |simulated| Simulation::new(&human, &judge, Some(&clusters), &EstimateOptions::default(), simulated);
        let few = SimulationOptions { labels: &[30], ..simulated };
        let error = message(&few).unwrap_err().to_string();
        assert!(error.contains("30 labels are 3 clusters in a draw,") && error.contains("at least 5"), "{error}");
        let found = message(&SimulationOptions { labels: &[100], ..simulated }).unwrap();
        assert_eq!(found.points[0].ways[3].defined, 300);
    }
}
