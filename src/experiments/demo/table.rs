//! The demo's table: judges, baselines and the ceiling on every test split, with intervals.

use super::data::DemoData;
use super::{DemoError, Item, SFT, ScoredRow};
use crate::eval::distribution::{bin_shares, modal_share};
use crate::eval::intervals::Bootstrap;
use crate::eval::paired::PairedSets;
use crate::eval::report::Role;
use crate::eval::table::{Cell, Table as TextTable, fixed};
use crate::eval::{Measured, baselines, pearson, rmse, spearman};
use crate::experiments::synthetic::{verdicts_right, word_count_baseline};
use crate::random::Stream;
use serde_json::{Value, json};

/// Resamples of an interval.
const RESAMPLES: usize = 2000;

/// What predicts scores: a judge, a baseline or the ceiling. With its scores on every test split.
#[derive(Clone, Debug)]
pub struct Predictor {
    pub name: String,
    pub role: Role,
    pub splits: Vec<SplitPredictions>,
}

/// The scores of a predictor on one test split.
#[derive(Clone, Debug)]
pub struct SplitPredictions {
    pub scores: Vec<f64>,
    /// Share of the criteria whose verdict in the chain is right.
    pub verdicts: Option<f64>,
    /// The judged rows, for the examples of the report; empty for baselines and the ceiling.
    pub judged: Vec<ScoredRow>,
}

/// Metrics of one predictor on one test split.
#[derive(Clone, Debug)]
pub struct PredictorMetrics {
    pub name: String,
    pub role: Role,
    pub pearson: Measured,
    pub interval: Option<(f64, f64)>,
    /// Pearson minus that of the supervised start on the same rows, with its 95 % interval.
    pub gain: Option<(f64, f64, f64)>,
    pub spearman: Measured,
    pub rmse: Measured,
    /// Share of the most used score, in bins of a quarter.
    pub modal_share: f64,
    pub verdicts: Option<f64>,
}

/// All predictors on one test split.
#[derive(Clone, Debug)]
pub struct SplitTable {
    pub name: String,
    pub rows: usize,
    pub metrics: Vec<PredictorMetrics>,
}

/// The tables of all test splits.
#[derive(Clone, Debug)]
pub struct DemoTable {
    pub splits: Vec<SplitTable>,
}

/// Human scores of items: the mean of the annotators of each.
pub fn human_scores(items: &[Item]) -> Vec<f64> {
    items.iter().map(|item| item.score).collect()
}

impl Predictor {
    /// A judge's scores. Every row of the synthetic task can be judged; one that could not would get the middle of the scale.
    pub fn judge(name: &str, data: &DemoData, judged: &[Vec<ScoredRow>]) -> Result<Self, DemoError> {
        let splits = data.tests.iter().zip(judged).map(|(test, judged)| {
            let right = |(j, item): (&ScoredRow, &Item)| {
                let each: Vec<f64> = j.chains.iter().map(|chain| verdicts_right(chain, item)).collect();
                each.iter().sum::<f64>() / each.len().max(1) as f64
            };
            let verdicts = judged.iter().zip(&test.items).map(right).sum::<f64>() / judged.len().max(1) as f64;
            let scores = judged.iter().map(|j| j.record.expected.unwrap_or(3.0)).collect();
            SplitPredictions { scores, verdicts: Some(verdicts), judged: judged.clone() }
        });
        Ok(Predictor { name: name.into(), role: Role::Judge, splits: splits.collect() })
    }

    fn of_scores(name: &str, role: Role, splits: Vec<Vec<f64>>) -> Self {
        let predictions = |scores| SplitPredictions { scores, verdicts: None, judged: Vec::new() };
        Predictor { name: name.into(), role, splits: splits.into_iter().map(predictions).collect() }
    }
}

/// Predictors that do not read the response, fitted on the training items.
fn baselines(data: &DemoData) -> Result<Vec<Predictor>, DemoError> {
    let train = human_scores(&data.train_items);
    let lengths = |items: &[Item]| items.iter().map(Item::response_length).collect::<Vec<_>>();
    let line = baselines::fit_length(&lengths(&data.train_items), &train)?;
    let (mut constant, mut length, mut words) = (Vec::new(), Vec::new(), Vec::new());
    for test in &data.tests {
        let mean = train.iter().sum::<f64>() / train.len().max(1) as f64;
        constant.push(vec![mean; test.items.len()]);
        length.push(line.as_ref().map_or_else(|_| vec![mean; test.items.len()], |l| l.predict_lengths(&lengths(&test.items))));
        words.push(word_count_baseline(&data.train_items, &test.items)?);
    }
    Ok(vec![
        Predictor::of_scores("constant", Role::Baseline, constant),
        Predictor::of_scores("response length", Role::Baseline, length),
        Predictor::of_scores("word counts", Role::Baseline, words),
    ])
}

impl DemoTable {
    /// Measures baselines, `judges` and the ceiling on all test splits, and on the three out-of-domain ones together.
    pub fn measure(data: &DemoData, judges: &[Predictor], seed: u64) -> Result<Self, DemoError> {
        let mut predictors = baselines(data)?;
        predictors.extend(judges.iter().cloned());
        let ceiling = data.tests.iter().map(|t| t.ceiling.clone()).collect();
        predictors.push(Predictor::of_scores("150 annotators (ceiling)", Role::Ceiling, ceiling));
        let mut splits = Vec::new();
        for (index, test) in data.tests.iter().enumerate() {
            let human = human_scores(&test.items);
            let metrics: Result<Vec<_>, _> =
                predictors.iter().map(|p| metrics_on_split(p, &predictors, index, &human, seed)).collect();
            splits.push(SplitTable { name: test.split.name().into(), rows: human.len(), metrics: metrics? });
        }
        splits.insert(1, out_of_domain(data, &predictors, &splits, seed));
        Ok(DemoTable { splits })
    }

    /// The table as JSON, for `docs/demo.md` and other tools.
    pub fn to_json(&self, seed: u64) -> Value {
        let metrics = |f: &PredictorMetrics| {
            json!({
                "name": f.name, "pearson": f.pearson.as_ref().ok(), "spearman": f.spearman.as_ref().ok(),
                "rmse": f.rmse.as_ref().ok(), "modal_share": f.modal_share, "verdicts": f.verdicts,
                "gain_over_sft": f.gain.map(|(gain, low, high)| json!({"pearson": gain, "low": low, "high": high})),
            })
        };
        let sets: Vec<Value> = self
            .splits
            .iter()
            .map(|s| json!({"name": s.name, "rows": s.rows, "figures": s.metrics.iter().map(metrics).collect::<Vec<_>>()}))
            .collect();
        json!({ "seed": seed, "sets": sets })
    }

    /// Whether a text is such JSON.
    pub fn is_json(text: &str) -> bool {
        let value: Option<Value> = serde_json::from_str(text).ok();
        value.is_some_and(|v| v["seed"].is_u64() && v["sets"][0]["figures"].is_array())
    }

    /// For the terminal.
    pub fn to_text(&self) -> String {
        let heads = ["Pearson", "minus SFT (95 %)", "Spearman", "RMSE", "modal share", "verdicts right"];
        let show = |split: &SplitTable| {
            let title = format!("{} ({} rows)", split.name, split.rows);
            let mut table = TextTable::new([title.as_str()].into_iter().chain(heads));
            for f in &split.metrics {
                let signed = |x: f64| format!("{}{}", if x > 0.0 { "+" } else { "" }, fixed(x, 3));
                let gain = f.gain.map_or(String::new(), |(g, l, h)| format!("{} [{}, {}]", signed(g), signed(l), signed(h)));
                let verdicts = f.verdicts.map_or(String::new(), |v| format!("{:.0} %", 100.0 * v));
                table.row([
                    Cell::from(f.name.as_str()),
                    Cell::number(&f.pearson, 3),
                    Cell::from(gain),
                    Cell::number(&f.spearman, 3),
                    Cell::number(&f.rmse, 3),
                    Cell::from(fixed(f.modal_share, 2)),
                    Cell::from(verdicts),
                ]);
            }
            table.to_string()
        };
        self.splits.iter().map(show).collect::<Vec<_>>().join("\n")
    }
}

fn bootstrap(seed: u64) -> Bootstrap<'static> {
    Bootstrap { resamples: RESAMPLES, level: 0.95, seed, clusters: None }
}

/// The judge of supervised training, which the other judges start from and are compared with.
fn supervised(predictors: &[Predictor]) -> Option<&Predictor> {
    predictors.iter().find(|c| c.name == SFT)
}

fn metrics_on_split(
    predictor: &Predictor,
    all: &[Predictor],
    split: usize,
    human: &[f64],
    seed: u64,
) -> Result<PredictorMetrics, DemoError> {
    let scores = &predictor.splits[split].scores;
    let is_judge = predictor.role == Role::Judge;
    let interval = match is_judge {
        true => bootstrap(seed).interval(|t| t.pearson(), human, scores)?.ok().map(|i| (i.low, i.high)),
        false => None,
    };
    let gain = match supervised(all).filter(|s| is_judge && s.name != predictor.name) {
        Some(start) => {
            let other = &start.splits[split].scores;
            bootstrap(seed).difference(|t| t.pearson(), human, scores, other)?.ok().map(|i| (i.estimate, i.low, i.high))
        }
        None => None,
    };
    Ok(PredictorMetrics {
        name: predictor.name.clone(),
        role: predictor.role,
        pearson: pearson(human, scores),
        interval,
        gain,
        spearman: spearman(human, scores),
        rmse: rmse(human, scores),
        modal_share: modal_share(&bin_shares(scores, 0.25)),
        verdicts: predictor.splits[split].verdicts,
    })
}

/// The mean over the out-of-domain splits (all but the first), with paired intervals from resampling the rows of each.
fn out_of_domain(data: &DemoData, predictors: &[Predictor], splits: &[SplitTable], seed: u64) -> SplitTable {
    let ood = || 1..data.tests.len();
    let human: Vec<Vec<f64>> = data.tests.iter().map(|t| human_scores(&t.items)).collect();
    let count = ood().len() as f64;
    let average = |index: usize, of: &dyn Fn(&PredictorMetrics) -> Measured| -> Measured {
        let mut sum = 0.0;
        for split in ood() {
            sum += of(&splits[split].metrics[index])?;
        }
        Ok(sum / count)
    };
    let one = |(index, predictor): (usize, &Predictor)| {
        let mean =
            |of: &dyn Fn(&PredictorMetrics) -> f64| ood().map(|split| of(&splits[split].metrics[index])).sum::<f64>() / count;
        let verdicts: Option<Vec<f64>> = ood().map(|split| splits[split].metrics[index].verdicts).collect();
        let start = supervised(predictors).filter(|s| predictor.role == Role::Judge && s.name != predictor.name);
        PredictorMetrics {
            name: predictor.name.clone(),
            role: predictor.role,
            pearson: average(index, &|f| f.pearson.clone()),
            interval: None,
            gain: start.and_then(|start| paired_gain(predictor, start, &human, seed)),
            spearman: average(index, &|f| f.spearman.clone()),
            rmse: average(index, &|f| f.rmse.clone()),
            modal_share: mean(&|f| f.modal_share),
            verdicts: verdicts.map(|v| v.iter().sum::<f64>() / count),
        }
    };
    let rows = ood().map(|split| human[split].len()).sum();
    SplitTable { name: "ood mean".into(), rows, metrics: predictors.iter().enumerate().map(one).collect() }
}

/// Mean difference of Pearson over the out-of-domain splits, and its percentile interval.
fn paired_gain(a: &Predictor, b: &Predictor, human: &[Vec<f64>], seed: u64) -> Option<(f64, f64, f64)> {
    let sets = PairedSets::new(&human[1..], &[ood_scores(a)], &[ood_scores(b)]);
    let draw = |k: u64| {
        let rows = human.iter().enumerate().skip(1).map(|(set, people)| {
            let mut stream = Stream::new(seed, (k << 8) | set as u64);
            (0..people.len()).map(|_| stream.below(people.len())).collect()
        });
        (vec![0], rows.collect())
    };
    let (low, high) = sets.interval(RESAMPLES as u64, draw)?;
    Some((sets.difference(&sets.full_sample())?, low, high))
}

/// The scores on the out-of-domain splits.
fn ood_scores(predictor: &Predictor) -> Vec<&[f64]> {
    predictor.splits[1..].iter().map(|split| split.scores.as_slice()).collect()
}
