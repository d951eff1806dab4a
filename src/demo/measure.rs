//! The demo's table: contenders, floors and ceiling on every test set, with intervals.

use super::data::DemoData;
use super::{DemoError, Item, Judged};
use crate::eval::intervals::Bootstrap;
use crate::eval::table::{Cell, Table as TextTable, fixed};
use crate::eval::{Measured, floors, pearson, rmse, spearman};
use crate::miniature::{verdicts_right, word_count_floor};

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
    pub judged: Vec<Judged>,
}

/// Figures of one contender on one test set.
#[derive(Clone, Debug)]
pub struct Figures {
    pub name: String,
    pub role: Role,
    pub pearson: Measured,
    pub interval: Option<(f64, f64)>,
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
    pub fn judge(name: &str, data: &DemoData, judged: &[Vec<Judged>]) -> Result<Self, DemoError> {
        let sets = data.tests.iter().zip(judged).map(|(test, judged)| {
            let right = |(j, item): (&Judged, &Item)| {
                let each: Vec<f64> = j.chains.iter().map(|chain| verdicts_right(chain, item)).collect();
                each.iter().sum::<f64>() / each.len().max(1) as f64
            };
            let verdicts = judged.iter().zip(&test.items).map(right).sum::<f64>() / judged.len().max(1) as f64;
            let scores = judged.iter().map(|j| j.judgement.expected.unwrap_or(3.0)).collect();
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
        length.push(line.as_ref().map_or_else(|_| vec![mean; test.items.len()], |l| l.of_lengths(&lengths(&test.items))));
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
            let figures: Result<Vec<_>, _> = contenders.iter().map(|c| figures(c, index, &human, seed)).collect();
            sets.push(TestSet { name: test.split.name().into(), rows: human.len(), figures: figures? });
        }
        Ok(Table { sets })
    }

    /// For the terminal.
    pub fn to_text(&self) -> String {
        let heads = ["Pearson", "95 % interval", "Spearman", "RMSE", "modal share", "verdicts right"];
        let show = |set: &TestSet| {
            let title = format!("{} ({} rows)", set.name, set.rows);
            let mut table = TextTable::new([title.as_str()].into_iter().chain(heads));
            for f in &set.figures {
                let interval = f.interval.map_or(String::new(), |(l, h)| format!("{} to {}", fixed(l, 3), fixed(h, 3)));
                let verdicts = f.verdicts.map_or(String::new(), |v| format!("{:.0} %", 100.0 * v));
                table.row([
                    Cell::from(f.name.as_str()),
                    Cell::number(&f.pearson, 3),
                    Cell::from(interval),
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

fn figures(contender: &Contender, set: usize, human: &[f64], seed: u64) -> Result<Figures, DemoError> {
    let scores = &contender.sets[set].scores;
    let bootstrap = Bootstrap { resamples: RESAMPLES, level: 0.95, seed, clusters: None };
    let interval = match contender.role {
        Role::Judge => bootstrap.interval(pearson, human, scores)?.ok().map(|i| (i.low, i.high)),
        _ => None,
    };
    Ok(Figures {
        name: contender.name.clone(),
        role: contender.role,
        pearson: pearson(human, scores),
        interval,
        spearman: spearman(human, scores),
        rmse: rmse(human, scores),
        modal_share: modal_share(scores),
        verdicts: contender.sets[set].verdicts,
    })
}

/// Share of the fullest bin of width 0.25: how much a judge clusters.
fn modal_share(scores: &[f64]) -> f64 {
    let mut bins = std::collections::BTreeMap::new();
    for s in scores {
        *bins.entry((s * 4.0).round() as i64).or_insert(0usize) += 1;
    }
    bins.values().copied().max().unwrap_or(0) as f64 / scores.len().max(1) as f64
}
