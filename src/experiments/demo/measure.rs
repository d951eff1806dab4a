//! The demo's table: contenders, floors and ceiling on every test set, with intervals.

use super::data::DemoData;
use super::{DemoError, Item, SFT, ScoredRow};
use crate::eval::distribution::{bin_shares, modal_share};
use crate::eval::intervals::Bootstrap;
use crate::eval::paired::PairedSets;
use crate::eval::table::{Cell, Table as TextTable, fixed};
use crate::eval::{Measured, floors, pearson, rmse, spearman};
use crate::experiments::synthetic::{verdicts_right, word_count_floor};
use crate::random::Stream;
use serde_json::{Value, json};

/// Resamples of an interval.
const RESAMPLES: usize = 2000;

/// What a row of the table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Floor,
    Judge,
    Ceiling,
}

/// Scores of one judge, floor or ceiling on every test set.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub role: Role,
    pub sets: Vec<ContenderSet>,
}

/// Its scores on one test set.
#[derive(Clone, Debug)]
pub struct ContenderSet {
    pub scores: Vec<f64>,
    /// Share of the criteria whose verdict in the chain is right.
    pub verdicts: Option<f64>,
    /// The judgements themselves, for examples.
    pub judged: Vec<ScoredRow>,
}

/// Figures of one baseline on one test set.
#[derive(Clone, Debug)]
pub struct Figures {
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

/// All contenders on one test set.
#[derive(Clone, Debug)]
pub struct TestSet {
    pub name: String,
    pub rows: usize,
    pub figures: Vec<Figures>,
}

/// Every test set.
#[derive(Clone, Debug)]
pub struct Table {
    pub sets: Vec<TestSet>,
}

/// Human scores of a test set: the mean of its annotators.
pub fn labels(items: &[Item]) -> Vec<f64> {
    items.iter().map(|item| item.score).collect()
}

impl Contender {
    /// A judge's scores; a row that could not be judged would be an error of the demo, and gets the middle of the scale.
    pub fn judge(name: &str, data: &DemoData, judged: &[Vec<ScoredRow>]) -> Result<Self, DemoError> {
        let sets = data.tests.iter().zip(judged).map(|(test, judged)| {
            let right = |(j, item): (&ScoredRow, &Item)| {
                let each: Vec<f64> = j.chains.iter().map(|chain| verdicts_right(chain, item)).collect();
                each.iter().sum::<f64>() / each.len().max(1) as f64
            };
            let verdicts = judged.iter().zip(&test.items).map(right).sum::<f64>() / judged.len().max(1) as f64;
            let scores = judged.iter().map(|j| j.record.expected.unwrap_or(3.0)).collect();
            ContenderSet { scores, verdicts: Some(verdicts), judged: judged.clone() }
        });
        Ok(Contender { name: name.into(), role: Role::Judge, sets: sets.collect() })
    }

    fn plain(name: &str, role: Role, sets: Vec<Vec<f64>>) -> Self {
        let set = |scores| ContenderSet { scores, verdicts: None, judged: Vec::new() };
        Contender { name: name.into(), role, sets: sets.into_iter().map(set).collect() }
    }
}

/// What can be had without reading, fitted on the training items.
fn trivial(data: &DemoData) -> Result<Vec<Contender>, DemoError> {
    let train = labels(&data.train_items);
    let lengths = |items: &[Item]| items.iter().map(Item::response_length).collect::<Vec<_>>();
    let line = floors::fit_length(&lengths(&data.train_items), &train)?;
    let (mut constant, mut length, mut words) = (Vec::new(), Vec::new(), Vec::new());
    for test in &data.tests {
        let mean = train.iter().sum::<f64>() / train.len().max(1) as f64;
        constant.push(vec![mean; test.items.len()]);
        length.push(line.as_ref().map_or_else(|_| vec![mean; test.items.len()], |l| l.predict_lengths(&lengths(&test.items))));
        words.push(word_count_floor(&data.train_items, &test.items)?);
    }
    Ok(vec![
        Contender::plain("constant", Role::Floor, constant),
        Contender::plain("response length", Role::Floor, length),
        Contender::plain("word counts", Role::Floor, words),
    ])
}

impl Table {
    /// Measures floors, `judges` and the ceiling on all test sets, and on the three out-of-domain ones together.
    pub fn measure(data: &DemoData, judges: &[Contender], seed: u64) -> Result<Self, DemoError> {
        let mut contenders = trivial(data)?;
        contenders.extend(judges.iter().cloned());
        let ceiling = data.tests.iter().map(|t| t.ceiling.clone()).collect();
        contenders.push(Contender::plain("150 annotators (ceiling)", Role::Ceiling, ceiling));
        let mut sets = Vec::new();
        for (index, test) in data.tests.iter().enumerate() {
            let human = labels(&test.items);
            let figures: Result<Vec<_>, _> = contenders.iter().map(|c| figures(c, &contenders, index, &human, seed)).collect();
            sets.push(TestSet { name: test.split.name().into(), rows: human.len(), figures: figures? });
        }
        sets.insert(1, out_of_domain(data, &contenders, &sets, seed));
        Ok(Table { sets })
    }

    /// All figures, for `docs/demo.md` and other tools.
    pub fn to_json(&self, seed: u64) -> Value {
        let figure = |f: &Figures| {
            json!({
                "name": f.name, "pearson": f.pearson.as_ref().ok(), "spearman": f.spearman.as_ref().ok(),
                "rmse": f.rmse.as_ref().ok(), "modal_share": f.modal_share, "verdicts": f.verdicts,
                "gain_over_sft": f.gain.map(|(gain, low, high)| json!({"pearson": gain, "low": low, "high": high})),
            })
        };
        let sets: Vec<Value> = self
            .sets
            .iter()
            .map(|s| json!({"name": s.name, "rows": s.rows, "figures": s.figures.iter().map(figure).collect::<Vec<_>>()}))
            .collect();
        json!({ "seed": seed, "sets": sets })
    }

    /// Whether a text is such an object.
    pub fn is_json(text: &str) -> bool {
        let value: Option<Value> = serde_json::from_str(text).ok();
        value.is_some_and(|v| v["seed"].is_u64() && v["sets"][0]["figures"].is_array())
    }

    /// For the terminal.
    pub fn to_text(&self) -> String {
        let heads = ["Pearson", "minus SFT (95 %)", "Spearman", "RMSE", "modal share", "verdicts right"];
        let show = |set: &TestSet| {
            let title = format!("{} ({} rows)", set.name, set.rows);
            let mut table = TextTable::new([title.as_str()].into_iter().chain(heads));
            for f in &set.figures {
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
        self.sets.iter().map(show).collect::<Vec<_>>().join("\n")
    }
}

fn bootstrap(seed: u64) -> Bootstrap<'static> {
    Bootstrap { resamples: RESAMPLES, level: 0.95, seed, clusters: None }
}

/// The supervised start, which everything is compared with.
fn start(contenders: &[Contender]) -> Option<&Contender> {
    contenders.iter().find(|c| c.name == SFT)
}

fn figures(baseline: &Contender, all: &[Contender], set: usize, human: &[f64], seed: u64) -> Result<Figures, DemoError> {
    let scores = &baseline.sets[set].scores;
    let is_judge = baseline.role == Role::Judge;
    let interval = match is_judge {
        true => bootstrap(seed).interval(|t| t.pearson(), human, scores)?.ok().map(|i| (i.low, i.high)),
        false => None,
    };
    let gain = match start(all).filter(|s| is_judge && s.name != baseline.name) {
        Some(start) => {
            let other = &start.sets[set].scores;
            bootstrap(seed).difference(|t| t.pearson(), human, scores, other)?.ok().map(|i| (i.estimate, i.low, i.high))
        }
        None => None,
    };
    Ok(Figures {
        name: baseline.name.clone(),
        role: baseline.role,
        pearson: pearson(human, scores),
        interval,
        gain,
        spearman: spearman(human, scores),
        rmse: rmse(human, scores),
        modal_share: modal_share(&bin_shares(scores, 0.25)),
        verdicts: baseline.sets[set].verdicts,
    })
}

/// The mean over the out-of-domain sets (all but the first), with paired intervals from resampling the rows of each.
fn out_of_domain(data: &DemoData, contenders: &[Contender], sets: &[TestSet], seed: u64) -> TestSet {
    let outside = || 1..data.tests.len();
    let human: Vec<Vec<f64>> = data.tests.iter().map(|t| labels(&t.items)).collect();
    let count = outside().len() as f64;
    let average = |index: usize, of: &dyn Fn(&Figures) -> Measured| -> Measured {
        let mut sum = 0.0;
        for set in outside() {
            sum += of(&sets[set].figures[index])?;
        }
        Ok(sum / count)
    };
    let one = |(index, baseline): (usize, &Contender)| {
        let plain = |of: &dyn Fn(&Figures) -> f64| outside().map(|set| of(&sets[set].figures[index])).sum::<f64>() / count;
        let verdicts: Option<Vec<f64>> = outside().map(|set| sets[set].figures[index].verdicts).collect();
        let rival = start(contenders).filter(|s| baseline.role == Role::Judge && s.name != baseline.name);
        Figures {
            name: baseline.name.clone(),
            role: baseline.role,
            pearson: average(index, &|f| f.pearson.clone()),
            interval: None,
            gain: rival.and_then(|rival| paired_gain(baseline, rival, &human, seed)),
            spearman: average(index, &|f| f.spearman.clone()),
            rmse: average(index, &|f| f.rmse.clone()),
            modal_share: plain(&|f| f.modal_share),
            verdicts: verdicts.map(|v| v.iter().sum::<f64>() / count),
        }
    };
    let rows = outside().map(|set| human[set].len()).sum();
    TestSet { name: "ood mean".into(), rows, figures: contenders.iter().enumerate().map(one).collect() }
}

/// Mean difference of Pearson over the out-of-domain sets and its percentile interval.
fn paired_gain(a: &Contender, b: &Contender, human: &[Vec<f64>], seed: u64) -> Option<(f64, f64, f64)> {
    let sets = PairedSets { human: &human[1..], judge: vec![outside(a)], other: vec![outside(b)] };
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

/// Its scores on the out-of-domain sets.
fn outside(baseline: &Contender) -> Vec<&[f64]> {
    baseline.sets[1..].iter().map(|set| set.scores.as_slice()).collect()
}
