//! Prepares a pair of columns once, so that any re-weighting of its rows is counted in O(n log K). Point estimates and thousands
//! of resamples share this work.
//!
//! A [`Sample`] sorts the rows by the judge's score and merges equal rows into one *pair of values*. A [`Tally`] assigns counts
//! to these pairs (each row once, or as often as a resample drew it). It computes the ingredients of metrics on first use:
//! moments, ranks, concordant pairs, the table of labels. The metrics themselves are in [`super::correlation`],
//! [`super::agreement`], [`super::variance`] and [`super::distribution`].

use super::{EvalError, Grid, Undefined, all_finite, same_length};
use std::cell::OnceCell;

/// Rows of two columns as distinct pairs of values.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The index in `pairs` of each row, in the order of the rows.
    pub(crate) pair_of_row: Vec<u32>,
    /// Distinct pairs, ascending by judge, then by human.
    value_pairs: Vec<ValuePair>,
    /// Distinct values, ascending.
    pub(crate) human: Vec<f64>,
    pub(crate) judge: Vec<f64>,
    labels: Option<SampleLabels>,
}

#[derive(Clone, Copy, Debug)]
struct ValuePair {
    human: u32,
    judge: u32,
}

/// The label of each distinct value.
#[derive(Clone, Debug)]
struct SampleLabels {
    scale: Vec<f64>,
    human: Result<Vec<usize>, Undefined>,
    judge: Vec<usize>,
}

impl Sample {
    /// Rows of two columns. A scale enables label metrics.
    ///
    /// # Errors
    /// Columns of different length, and values that are not finite.
    pub fn new(human: &[f64], judge: &[f64], grid: Option<&Grid>) -> Result<Self, EvalError> {
        same_length("the human column", human.len(), "the judge column", judge.len())?;
        all_finite("the human column", human)?;
        all_finite("the judge column", judge)?;
        Ok(Sample::of(human, judge, grid))
    }

    /// Like [`Sample::new`] for columns that were checked; surplus rows of the longer column are ignored.
    pub(crate) fn of(human: &[f64], judge: &[f64], grid: Option<&Grid>) -> Self {
        let rows = human.len().min(judge.len());
        let (human_index, human) = distinct(&human[..rows]);
        let (judge_index, judge) = distinct(&judge[..rows]);
        let pack = |row: usize| (u64::from(judge_index[row]) << 32) | u64::from(human_index[row]);
        let mut order: Vec<(u64, u32)> = (0..rows).map(|row| (pack(row), row as u32)).collect();
        order.sort_unstable();
        let mut value_pairs: Vec<ValuePair> = Vec::new();
        let mut pair_of_row = vec![0; rows];
        for run in order.chunk_by(|a, b| a.0 == b.0) {
            for &(_, row) in run {
                pair_of_row[row as usize] = value_pairs.len() as u32;
            }
            value_pairs.push(ValuePair { human: run[0].0 as u32, judge: (run[0].0 >> 32) as u32 });
        }
        let labels = grid.map(|grid| SampleLabels {
            scale: grid.values().to_vec(),
            human: grid.exact_labels(&human),
            judge: judge.iter().map(|&s| grid.label(s)).collect(),
        });
        Sample { pair_of_row, value_pairs, human, judge, labels }
    }

    /// Like [`Sample::of`], but rows are neither sorted nor merged. Enough for means and moments, and several times as fast.
    pub(crate) fn unsorted(human: &[f64], judge: &[f64]) -> Self {
        let rows = human.len().min(judge.len()) as u32;
        let column = |values: &[f64]| {
            let values = &values[..rows as usize];
            // A constant column keeps a single value, so that it is recognised as constant.
            let constant = super::is_constant(values);
            (constant, values.iter().copied().take(if constant { 1 } else { values.len() }).collect::<Vec<f64>>())
        };
        let ((constant_human, human), (constant_judge, judge)) = (column(human), column(judge));
        let index = |row: u32, constant: bool| if constant { 0 } else { row };
        let value_pairs =
            (0..rows).map(|row| ValuePair { human: index(row, constant_human), judge: index(row, constant_judge) }).collect();
        Sample { pair_of_row: (0..rows).collect(), value_pairs, human, judge, labels: None }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.pair_of_row.len()
    }

    /// Counts every row once.
    pub fn tally(&self) -> Tally<'_> {
        let mut counts = vec![0; self.value_pairs.len()];
        self.pair_of_row.iter().for_each(|&pair| counts[pair as usize] += 1);
        Tally::new(self, counts)
    }

    /// Counts each row as often as `times` says.
    pub(crate) fn tally_of(&self, times: &[u32]) -> Tally<'_> {
        let mut counts = vec![0; self.value_pairs.len()];
        self.pair_of_row.iter().zip(times).for_each(|(&pair, times)| counts[pair as usize] += times);
        Tally::new(self, counts)
    }
}

/// The index of each value among the distinct values, and these, ascending. -0 and 0 are one value.
fn distinct(column: &[f64]) -> (Vec<u32>, Vec<f64>) {
    let mut order: Vec<(f64, u32)> = column.iter().zip(0..).map(|(x, row)| (x + 0.0, row)).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut index, mut values) = (vec![0; column.len()], Vec::new());
    for run in order.chunk_by(|a, b| a.0 == b.0) {
        run.iter().for_each(|(_, row)| index[*row as usize] = values.len() as u32);
        values.push(run[0].0);
    }
    (index, values)
}

/// The count of each pair of values in a sample, and statistics of them.
#[derive(Debug)]
pub struct Tally<'a> {
    pub(crate) sample: &'a Sample,
    counts: Vec<u32>,
    /// The number of rows with each distinct value.
    pub(crate) human_counts: Vec<u64>,
    pub(crate) judge_counts: Vec<u64>,
    n: u64,
    moments: OnceCell<ColumnMoments>,
    pairs: OnceCell<PairCounts>,
    table: OnceCell<Result<LabelTable, Undefined>>,
}

impl<'a> Tally<'a> {
    fn new(sample: &'a Sample, counts: Vec<u32>) -> Self {
        let (mut human_counts, mut judge_counts) = (vec![0; sample.human.len()], vec![0; sample.judge.len()]);
        for (pair, &count) in sample.value_pairs.iter().zip(&counts) {
            human_counts[pair.human as usize] += u64::from(count);
            judge_counts[pair.judge as usize] += u64::from(count);
        }
        let n = human_counts.iter().sum();
        let (moments, pairs, table) = Default::default();
        Tally { sample, counts, human_counts, judge_counts, n, moments, pairs, table }
    }

    /// The total count of rows.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Checks that there are at least `needed` rows.
    pub(crate) fn at_least(&self, needed: usize) -> Result<(), Undefined> {
        super::at_least(needed, self.n as usize)
    }

    pub(crate) fn human_constant(&self) -> bool {
        is_constant(&self.human_counts)
    }

    pub(crate) fn judge_constant(&self) -> bool {
        is_constant(&self.judge_counts)
    }

    /// Checks that there are two rows, and two values in each column.
    pub(crate) fn varied(&self) -> Result<(), Undefined> {
        self.at_least(2)?;
        match (self.human_constant(), self.judge_constant()) {
            (true, _) => Err(Undefined::ConstantHuman),
            (_, true) => Err(Undefined::ConstantJudge),
            _ => Ok(()),
        }
    }

    /// The pairs with a positive count, with that count.
    fn counted(&self) -> impl Iterator<Item = (&ValuePair, f64)> {
        self.sample.value_pairs.iter().zip(&self.counts).filter(|(_, c)| **c > 0).map(|(pair, c)| (pair, f64::from(*c)))
    }

    /// Mean over rows of `f(human, judge)`.
    pub(crate) fn mean_of(&self, f: impl Fn(f64, f64) -> f64) -> f64 {
        let (human, judge) = (&self.sample.human, &self.sample.judge);
        let sum: f64 = self.counted().map(|(c, times)| times * f(human[c.human as usize], judge[c.judge as usize])).sum();
        sum / self.n as f64
    }

    pub(crate) fn moments(&self) -> &ColumnMoments {
        self.moments.get_or_init(|| {
            let of = |values: &[f64], counts: &[u64]| Spread::of(values, counts, self.n);
            let (human, judge) = (of(&self.sample.human, &self.human_counts), of(&self.sample.judge, &self.judge_counts));
            let product = |c: &ValuePair| {
                human.deviation(self.sample.human[c.human as usize]) * judge.deviation(self.sample.judge[c.judge as usize])
            };
            let products = self.counted().map(|(pair, times)| times * product(pair)).sum();
            ColumnMoments { human, judge, products }
        })
    }

    /// Pearson correlation of average ranks. Both columns must vary.
    pub(crate) fn rank_correlation(&self) -> f64 {
        let (human, judge) = (centred_ranks(&self.human_counts, self.n), centred_ranks(&self.judge_counts, self.n));
        let squares = |ranks: &[f64], counts: &[u64]| ranks.iter().zip(counts).map(|(r, &c)| r * r * c as f64).sum::<f64>();
        let products: f64 = self.counted().map(|(c, times)| times * human[c.human as usize] * judge[c.judge as usize]).sum();
        ratio(products, squares(&human, &self.human_counts), squares(&judge, &self.judge_counts))
    }

    pub(crate) fn pairs(&self) -> &PairCounts {
        self.pairs.get_or_init(|| self.count_pairs())
    }

    /// In ascending order of the judge, a pair is concordant if its human scores ascend too (after Knight 1966). The tree holds
    /// human scores, of which there are few, so a million rows cost little more than reading them.
    fn count_pairs(&self) -> PairCounts {
        let mut tree = vec![0_u64; self.sample.human.len() + 1];
        let (mut seen, mut concordant, mut discordant, mut tied_both) = (0, 0, 0, 0);
        let mut start = 0;
        for run in self.sample.value_pairs.chunk_by(|a, b| a.judge == b.judge) {
            let counts = &self.counts[start..start + run.len()];
            start += run.len();
            let rows = || run.iter().zip(counts).filter(|(_, c)| **c > 0).map(|(pair, c)| (pair.human as usize, u64::from(*c)));
            for (human, times) in rows() {
                let below = prefix(&tree, human);
                let equal = if below == seen { 0 } else { prefix(&tree, human + 1) - below };
                concordant += times * below;
                discordant += times * (seen - below - equal);
                tied_both += pairs_among(times);
            }
            for (human, times) in rows() {
                add(&mut tree, human, times);
                seen += times;
            }
        }
        let tied = |counts: &[u64]| counts.iter().map(|&c| pairs_among(c)).sum();
        PairCounts {
            total: pairs_among(self.n),
            tied_human: tied(&self.human_counts),
            tied_judge: tied(&self.judge_counts),
            tied_both,
            concordant,
            discordant,
        }
    }

    /// Rows by the labels of people and judge.
    ///
    /// # Errors
    /// Undefined without rows, without a scale, or for human scores that are not labels.
    pub(crate) fn table(&self) -> Result<&LabelTable, Undefined> {
        self.table.get_or_init(|| self.count_labels()).as_ref().map_err(Clone::clone)
    }

    fn count_labels(&self) -> Result<LabelTable, Undefined> {
        self.at_least(1)?;
        let labels = self.sample.labels.as_ref().ok_or(Undefined::NoScale)?;
        let human_labels = labels.human.as_ref().map_err(Clone::clone)?;
        let size = labels.scale.len();
        let mut counts = vec![0; size * size];
        for (pair, times) in self.counted() {
            counts[human_labels[pair.human as usize] * size + labels.judge[pair.judge as usize]] += times as u64;
        }
        Ok(LabelTable { scale: labels.scale.clone(), counts, n: self.n })
    }

    /// Share of rows with each label of the judge.
    ///
    /// # Errors
    /// Undefined without rows or without a scale.
    pub(crate) fn judge_shares(&self) -> Result<Vec<f64>, Undefined> {
        self.at_least(1)?;
        let labels = self.sample.labels.as_ref().ok_or(Undefined::NoScale)?;
        let mut shares = vec![0.0; labels.scale.len()];
        labels.judge.iter().zip(&self.judge_counts).for_each(|(&label, &c)| shares[label] += c as f64);
        shares.iter_mut().for_each(|s| *s /= self.n as f64);
        Ok(shares)
    }
}

fn is_constant(counts: &[u64]) -> bool {
    counts.iter().filter(|c| **c > 0).take(2).count() < 2
}

/// Mean and sum of squares of one column, in units of a power of two near its largest value. Squares then neither overflow nor
/// underflow, and the scaling is exact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    unit: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn of(values: &[f64], counts: &[u64], n: u64) -> Self {
        let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        let unit = if largest > 0.0 { f64::exp2(largest.log2().floor().clamp(-1020.0, 1020.0)) } else { 1.0 };
        let weighted = |f: &dyn Fn(f64) -> f64| values.iter().zip(counts).map(|(v, &c)| f(v / unit) * c as f64).sum::<f64>();
        let mean = weighted(&|v| v) / n.max(1) as f64;
        // The rounded mean of a constant would otherwise give a small variance.
        let squares = if is_constant(counts) { 0.0 } else { weighted(&|v| (v - mean).powi(2)) };
        Spread { unit, mean, squares }
    }

    fn deviation(&self, value: f64) -> f64 {
        value / self.unit - self.mean
    }

    pub(crate) fn mean(&self) -> f64 {
        self.mean * self.unit
    }

    /// Σ (x - mean)².
    pub(crate) fn squares(&self) -> f64 {
        self.squares * self.unit * self.unit
    }

    /// Square root of Σ (x - mean)².
    pub(crate) fn root(&self) -> f64 {
        self.squares.sqrt() * self.unit
    }
}

/// First and second moments of both columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnMoments {
    pub human: Spread,
    pub judge: Spread,
    products: f64,
}

impl ColumnMoments {
    /// Σ (human - mean)(judge - mean).
    pub(crate) fn products(&self) -> f64 {
        if self.human.squares == 0.0 || self.judge.squares == 0.0 {
            0.0
        } else {
            self.products * self.human.unit * self.judge.unit
        }
    }

    /// Pearson correlation. Both columns must vary.
    pub(crate) fn correlation(&self) -> f64 {
        ratio(self.products, self.human.squares, self.judge.squares)
    }
}

fn ratio(products: f64, human: f64, judge: f64) -> f64 {
    let both = human * judge;
    let root = if both.is_normal() { both.sqrt() } else { human.sqrt() * judge.sqrt() };
    (products / root).clamp(-1.0, 1.0)
}

/// Average rank of each value, minus the mean of all ranks.
fn centred_ranks(counts: &[u64], n: u64) -> Vec<f64> {
    let mut before = 0;
    let rank = |&count: &u64| {
        let rank = before as f64 + (count as f64 + 1.0) / 2.0 - (n as f64 + 1.0) / 2.0;
        before += count;
        rank
    };
    counts.iter().map(rank).collect()
}

/// Counts of the n (n - 1) / 2 pairs of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairCounts {
    pub total: u64,
    pub tied_human: u64,
    pub tied_judge: u64,
    pub tied_both: u64,
    pub concordant: u64,
    pub discordant: u64,
}

pub(crate) fn pairs_among(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

/// Sum of the first `end` entries of a Fenwick tree.
pub(crate) fn prefix(tree: &[u64], end: usize) -> u64 {
    let (mut sum, mut at) = (0, end);
    while at > 0 {
        sum += tree[at];
        at &= at - 1;
    }
    sum
}

/// Adds to entry `index` of a Fenwick tree.
pub(crate) fn add(tree: &mut [u64], index: usize, count: u64) {
    let mut at = index + 1;
    while at < tree.len() {
        tree[at] += count;
        at += at & at.wrapping_neg();
    }
}

/// The number of rows to which people gave label h and the judge label s.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelTable {
    /// The values of the scale.
    pub(crate) scale: Vec<f64>,
    counts: Vec<u64>,
    n: u64,
}

impl LabelTable {
    /// Rows with label `human` from people and label `judge` from the judge.
    pub fn rows(&self, human: usize, judge: usize) -> u64 {
        self.counts[human * self.scale.len() + judge]
    }

    /// Values of the scale.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// The total number of rows.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Each nonempty entry of the table: human label, judge label, rows.
    pub(crate) fn nonempty(&self) -> impl Iterator<Item = (usize, usize, f64)> + Clone {
        let size = self.scale.len();
        self.counts.iter().enumerate().filter(|(_, c)| **c > 0).map(move |(at, &c)| (at / size, at % size, c as f64))
    }

    /// Rows with each label, from people and from the judge.
    pub(crate) fn margins(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut human, mut judge) = (vec![0.0; self.scale.len()], vec![0.0; self.scale.len()]);
        for (h, s, rows) in self.nonempty() {
            human[h] += rows;
            judge[s] += rows;
        }
        (human, judge)
    }
}
