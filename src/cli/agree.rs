//! `jurist agree`: how well any judge agrees with people, from columns of a file that somebody else wrote.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::outcome::require_judged;
use super::{AgreeArgs, CliError, Context, print};
use crate::data::{Cells, DataError, name_of, read_columns_within};
use crate::eval::calibration::{named, score_mass};
use crate::eval::compare::{Comparison, holm};
use crate::eval::correlation::length_bias;
use crate::eval::intervals::{Bootstrap, Method, NamedInterval, to_json};
use crate::eval::repeats::Repeats;
use crate::eval::table::{Cell, Table, fixed};
use crate::eval::{Agreement, Grid, Measured, Sample};
use crate::judge::Scale;
use crate::progress::Progress;

/// Measures each file.
pub fn run(args: &AgreeArgs, context: &Context) -> Result<(), CliError> {
    let scale: Scale = args.scale.parse()?;
    let mut values = scale.values().to_vec();
    values.sort_by(f64::total_cmp);
    let grid = Grid::new(&values)?;
    if !(0.0..1.0).contains(&args.level) || args.level == 0.0 {
        return Err(CliError::Usage(format!("--level is {}; expected a share between 0 and 1, such as 0.95", args.level)));
    }
    let mut progress = context.progress();
    let (mut found, mut unjudged) = (Vec::new(), Vec::new());
    for file in &args.files {
        let columns = Columns::read(args, file, &scale)?;
        if columns.human.is_empty() {
            let column = &args.human;
            return Err(CliError::Failed(format!("{}: no row has a number in the column `{column}`", name_of(file))));
        }
        if columns.bad > 0 {
            progress.warn(&format!("{}: {} bad cells, taken for empty", name_of(file), columns.bad));
        }
        unjudged.extend(columns.unjudged());
        found.push((name_of(file), Findings::measure(args, &columns, &grid, &scale)?));
    }
    let corrected = corrected(&found);
    if args.json {
        let mut objects: Vec<Value> = found.iter().map(|(file, f)| f.to_json(args, file, &grid)).collect();
        let object = match objects.len() {
            1 => objects.remove(0),
            _ => json!({"data_sets": objects, "holm": corrected}),
        };
        print(&(serde_json::to_string_pretty(&object).unwrap_or_default() + "\n"))?;
        return unjudged.iter().try_for_each(|&(failed, rows)| require_judged(failed, rows, args.strict, None));
    }
    let mut text: Vec<String> = found.iter().map(|(file, f)| f.to_text(args, file)).collect();
    if found.len() > 1 && args.judge2.is_some() {
        text.push(holm_table(&found, &corrected));
    }
    print(&text.join("\n"))?;
    unjudged.iter().try_for_each(|&(failed, rows)| require_judged(failed, rows, args.strict, None))
}

/// What is kept of a file: a few numbers a row.
#[derive(Default)]
struct Columns {
    human: Vec<f64>,
    judge: Vec<Option<f64>>,
    judge2: Vec<Option<f64>>,
    clusters: Vec<usize>,
    lengths: Vec<Option<f64>>,
    /// The judge's answer and its repeats.
    repeats: Vec<Vec<Option<f64>>>,
    probabilities: Vec<Option<Vec<f64>>>,
    masses: Vec<f64>,
    /// Rows without a human score.
    unlabelled: usize,
    /// Cells that `--skip-bad` took for empty.
    bad: usize,
}

impl Columns {
    fn read(args: &AgreeArgs, file: &Path, scale: &Scale) -> Result<Self, CliError> {
        let mut names: Vec<&str> = vec![&args.human, &args.judge];
        let optional = [&args.judge2, &args.cluster, &args.length, &args.probs, &args.mass];
        let mut places = [None; 5];
        for (place, name) in places.iter_mut().zip(optional) {
            if let Some(name) = name {
                *place = Some(names.len());
                names.push(name);
            }
        }
        let [judge2, cluster, length, probs, mass] = places;
        let repeats = names.len()..names.len() + args.repeats.len();
        names.extend(args.repeats.iter().map(String::as_str));
        let mut columns = Columns::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        read_columns_within(file, &names, args.max_decompressed, &mut |cells| {
            let Some(human) = columns.number(cells, 0, args.skip_bad, scale)? else {
                columns.unlabelled += 1;
                return Ok(());
            };
            if !(scale.min()..=scale.max()).contains(&human) {
                if args.skip_bad {
                    (columns.bad, columns.unlabelled) = (columns.bad + 1, columns.unlabelled + 1);
                    return Ok(());
                }
                let found = format!("the human score {human} is outside the scale {} to {}", scale.min(), scale.max());
                return Err(cells.fault(0, found, "give the right --scale, or leave such rows out with --skip-bad"));
            }
            columns.human.push(human);
            let judge = columns.number(cells, 1, args.skip_bad, scale)?;
            columns.judge.push(judge);
            if let Some(at) = judge2 {
                let other = columns.number(cells, at, args.skip_bad, scale)?;
                columns.judge2.push(other);
            }
            if let Some(at) = cluster {
                let name = cells.text(at).ok_or_else(|| cells.fault(at, "no group".into(), "name the group of every row"))?;
                let next = known.len();
                let number = match known.get(&*name) {
                    Some(number) => *number,
                    None => *known.entry(name.into_owned()).or_insert(next),
                };
                columns.clusters.push(number);
            }
            if let Some(at) = length {
                let text = cells.text(at);
                let characters = text.as_ref().map(|text| text.chars().count() as f64);
                // What looks like a list of scores is a response all the same.
                let listed = text.is_some_and(|text| text.trim_start().starts_with('['));
                columns.lengths.push(if listed { characters } else { cells.number(at).unwrap_or(characters) });
            }
            if !repeats.is_empty() {
                let mut row = vec![judge];
                for at in repeats.clone() {
                    row.push(columns.number(cells, at, args.skip_bad, scale)?);
                }
                columns.repeats.push(row);
            }
            if let Some(at) = probs {
                columns.probabilities.push(probabilities(cells, at, scale)?);
            }
            if let Some(at) = mass {
                columns.masses.extend(cells.number(at)?);
            }
            Ok(())
        })?;
        Ok(columns)
    }

    /// Rows without a score, of how many, for each judge.
    fn unjudged(&self) -> impl Iterator<Item = (usize, usize)> {
        let of = |scores: &[Option<f64>]| (scores.iter().filter(|s| s.is_none()).count(), scores.len());
        [of(&self.judge), of(&self.judge2)].into_iter()
    }

    /// A score; a bad one is an error, or, counted, none.
    fn number(&mut self, cells: &Cells, column: usize, skip_bad: bool, scale: &Scale) -> Result<Option<f64>, DataError> {
        match cells.score(column, &|word| value_of(scale, word)) {
            Err(_) if skip_bad => {
                self.bad += 1;
                Ok(None)
            }
            Err(DataError::Field { file, place, field, found, .. }) => {
                Err(DataError::Field { file, place, field, found, fix: what_counts(scale) })
            }
            other => other,
        }
    }
}

/// What to write into a cell of scores: a word, where the scale has words.
fn what_counts(scale: &Scale) -> String {
    let words = scale.texts().iter().any(|text| text.parse::<f64>().is_err());
    let known = if words { format!("write {} or a number, or ", scale.texts().join(", ")) } else { String::new() };
    format!("{known}leave it empty where there is no score")
}

/// The value of a word of the scale, in small or capital letters where that is not ambiguous. Where the two scores are worth
/// 0 and 1, true is 1 and false is 0.
fn value_of(scale: &Scale, word: &str) -> Option<f64> {
    let value = |index: usize| scale.values()[index];
    if let Some(index) = scale.texts().iter().position(|text| text == word) {
        return Some(value(index));
    }
    let lower = word.to_lowercase();
    let mut alike = (0..scale.len()).filter(|index| scale.texts()[*index].to_lowercase() == lower);
    match (alike.next(), alike.next(), lower.as_str()) {
        (Some(index), None, _) => Some(value(index)),
        (None, _, "true" | "false") if (scale.len(), scale.min(), scale.max()) == (2, 0.0, 1.0) => {
            Some(f64::from(u8::from(lower == "true")))
        }
        _ => None,
    }
}

/// The scale's texts by rising value, where they are words and not numbers.
fn labels(scale: &Scale) -> Option<Vec<&str>> {
    let texts: Vec<&str> = scale.order().iter().map(|index| scale.texts()[*index].as_str()).collect();
    texts.iter().any(|text| text.parse::<f64>().is_err()).then_some(texts)
}

/// How many rows people called the first label of a pair and the judge the second; none where people gave no labels.
fn label_counts(agreement: &Agreement, labels: &[&str]) -> Option<Vec<Vec<u64>>> {
    let table = agreement.table()?;
    Some((0..labels.len()).map(|human| (0..labels.len()).map(|judge| table.rows(human, judge)).collect()).collect())
}

/// Probabilities in ascending order of the scale's values, renormalised over it.
fn probabilities(cells: &Cells, column: usize, scale: &Scale) -> Result<Option<Vec<f64>>, DataError> {
    let Some(value) = cells.json(column)? else { return Ok(None) };
    let given: Option<Vec<f64>> = match &value {
        Value::Array(list) if list.len() == scale.values().len() => list.iter().map(Value::as_f64).collect(),
        Value::Object(map) => scale.texts().iter().map(|text| map.get(text)?.as_f64()).collect(),
        _ => None,
    };
    let sum: f64 = given.iter().flatten().sum();
    match given {
        Some(given) if sum > 0.0 && sum.is_finite() && given.iter().all(|p| *p >= 0.0) => {
            Ok(Some(scale.order().iter().map(|&k| given[k] / sum).collect()))
        }
        _ => {
            let found = format!("{value} is no list of probabilities of the {} scores", scale.values().len());
            Err(cells.fault(column, found, "give a list in the scale's order or an object by score, and the right --scale"))
        }
    }
}

/// Everything about one file.
struct Findings {
    unlabelled: usize,
    judge: Judged,
    judge2: Option<Judged>,
    comparison: Option<Comparison>,
    length_bias: Option<Measured>,
    repeats: Option<Repeats>,
    probabilities: Option<Calibration>,
    mass: Option<[(&'static str, Measured); 2]>,
    bootstrap: Value,
    /// The words of the scale and how often each met each, where the scale has words.
    labels: Option<(Vec<String>, Vec<Vec<u64>>)>,
}

/// One judge with intervals, over the rows it scored.
struct Judged {
    agreement: Agreement,
    intervals: Vec<NamedInterval>,
    /// Rows resampled, and clusters if there are any.
    bootstrap: Value,
}

impl Judged {
    fn measure(columns: &Columns, judge: &[Option<f64>], grid: &Grid, bootstrap: &Bootstrap) -> Result<Self, CliError> {
        let rows: Vec<usize> = (0..judge.len()).filter(|&row| judge[row].is_some()).collect();
        let human: Vec<f64> = rows.iter().map(|&row| columns.human[row]).collect();
        let scores: Vec<f64> = rows.iter().filter_map(|&row| judge[row]).collect();
        let clusters = bootstrap.clusters.map(|clusters| rows.iter().map(|&row| clusters[row]).collect::<Vec<_>>());
        let bootstrap = Bootstrap { clusters: clusters.as_deref(), ..*bootstrap };
        Ok(Judged {
            agreement: Agreement::measure(&columns.human, judge, grid)?,
            intervals: bootstrap.all(&Sample::new(&human, &scores, Some(grid))?)?,
            bootstrap: bootstrap.to_json(rows.len()),
        })
    }

    fn to_json(&self) -> Map<String, Value> {
        let Value::Object(mut object) = self.agreement.to_json() else { return Map::new() };
        object.insert("intervals".into(), to_json(&self.intervals));
        object
    }
}

impl Findings {
    fn measure(args: &AgreeArgs, columns: &Columns, grid: &Grid, scale: &Scale) -> Result<Self, CliError> {
        let clusters = args.cluster.as_ref().map(|_| columns.clusters.as_slice());
        let bootstrap = Bootstrap { resamples: args.resamples, level: args.level, seed: args.seed, clusters };
        let judge = Judged::measure(columns, &columns.judge, grid, &bootstrap)?;
        let other = args.judge2.as_ref();
        let judge2 = other.map(|_| Judged::measure(columns, &columns.judge2, grid, &bootstrap)).transpose()?;
        let compare = |_| Comparison::measure(&columns.human, &columns.judge, &columns.judge2, grid, &bootstrap);
        let comparison = other.map(compare).transpose()?;
        let repeats =
            || Repeats::measure(&columns.repeats, grid, args.threshold.unwrap_or(f64::midpoint(scale.min(), scale.max())));
        let mass = args.mass.as_ref().map(|_| score_mass(&columns.masses)).transpose()?;
        let counts = |labels: Vec<&str>| {
            let counts = label_counts(&judge.agreement, &labels)?;
            Some((labels.into_iter().map(String::from).collect(), counts))
        };
        Ok(Findings {
            labels: labels(scale).and_then(counts),
            unlabelled: columns.unlabelled,
            bootstrap: judge.bootstrap.clone(),
            judge,
            judge2,
            comparison,
            length_bias: args.length.as_ref().map(|_| length_bias_of(columns)),
            repeats: (!args.repeats.is_empty()).then(repeats).transpose()?,
            probabilities: args.probs.as_ref().map(|_| calibration(columns, grid)).transpose()?,
            mass: mass.map(|m| [("score_mass_mean", m.mean), ("score_mass_p5", m.p5)]),
        })
    }

    /// The judge's figures at the top, by the names of the Python libraries; everything else in objects beside them.
    fn to_json(&self, args: &AgreeArgs, file: &str, grid: &Grid) -> Value {
        let mut object = self.judge.to_json();
        object.insert("file".into(), json!(file));
        object.insert("human".into(), json!(args.human));
        object.insert("judge".into(), json!(args.judge));
        object.insert("scale".into(), json!(grid.values()));
        object.insert("n_unlabelled".into(), json!(self.unlabelled));
        if let Some((labels, counts)) = &self.labels {
            object.insert("labels".into(), json!(labels));
            object.insert("counts".into(), json!(counts));
        }
        object.insert("bootstrap".into(), self.bootstrap.clone());
        let mut reasons = Map::new();
        let mut put = |name: &str, value: &Measured| {
            object.insert(name.into(), json!(value.as_ref().ok()));
            if let Err(reason) = value {
                reasons.insert(name.into(), json!(reason.to_string()));
            }
        };
        self.length_bias.iter().for_each(|value| put("length_bias", value));
        self.probabilities.iter().flat_map(|(_, figures)| figures).for_each(|(name, value)| put(name, value));
        self.mass.iter().flatten().for_each(|(name, value)| put(name, value));
        if let Some((rows, _)) = &self.probabilities {
            object.insert("n_probabilities".into(), json!(rows));
            object.insert("probabilities".into(), json!("renormalised over the scale"));
        }
        if !reasons.is_empty() {
            let all = object.entry("undefined").or_insert_with(|| json!({}));
            all.as_object_mut().into_iter().for_each(|all| all.extend(reasons.clone()));
        }
        if let Some(repeats) = &self.repeats {
            object.insert("repeats".into(), repeats.to_json());
        }
        if let (Some(judge2), Some(comparison)) = (&self.judge2, &self.comparison) {
            let mut second = judge2.to_json();
            second.insert("judge".into(), json!(args.judge2));
            object.insert("judge2".into(), Value::Object(second));
            object.insert("comparison".into(), comparison.to_json());
        }
        Value::Object(object)
    }

    fn to_text(&self, args: &AgreeArgs, file: &str) -> String {
        let percent = format!("{} % interval", fixed(100.0 * args.level, 1).trim_end_matches(".0"));
        let mut header = vec![file.to_string(), args.judge.clone(), percent.clone()];
        if let Some(other) = &args.judge2 {
            header.extend([other.clone(), percent.clone(), format!("{} − {other}", args.judge), percent]);
        }
        let mut table = Table::new(header);
        let second = self.judge2.as_ref().zip(self.comparison.as_ref());
        for (k, (name, interval)) in self.judge.intervals.iter().enumerate() {
            let mut row = vec![Cell::from(*name)];
            row.extend(cells(interval));
            if let Some((judge2, comparison)) = second {
                row.extend(cells(&judge2.intervals[k].1));
                row.extend(cells(&comparison.differences[k].1));
            }
            table.row(row);
        }
        let without =
            self.judge.agreement.iter().filter(|(name, _)| !self.judge.intervals.iter().any(|(known, _)| known == name));
        let measured = self.length_bias.iter().map(|value| ("length_bias", value));
        let probabilities = self.probabilities.iter().flat_map(|(_, f)| f).chain(self.mass.iter().flatten());
        for (name, value) in without.chain(measured).chain(probabilities.map(|(name, value)| (*name, value))) {
            let mut row = vec![Cell::from(name), cell(name, value), Cell::from("")];
            if let Some((judge2, _)) = second {
                row.extend(judge2.agreement.get(name).map(|value| cell(name, value)));
            }
            table.row(row);
        }
        for (name, value) in self.repeats.iter().flat_map(Repeats::figures) {
            table.row([Cell::from(name), Cell::number(value, 3)]);
        }
        format!("{table}{}{}", self.counts_text(args), self.remarks(args))
    }

    /// A row for each word of people, a column for each of the judge.
    fn counts_text(&self, args: &AgreeArgs) -> String {
        let Some((labels, counts)) = &self.labels else { return String::new() };
        let mut table = Table::new([format!("{} \\ {}", args.human, args.judge)].into_iter().chain(labels.iter().cloned()));
        for (label, row) in labels.iter().zip(counts) {
            table.row([Cell::from(label.as_str())].into_iter().chain(row.iter().map(|n| Cell::from(n.to_string()))));
        }
        format!("\n{table}\n")
    }

    fn remarks(&self, args: &AgreeArgs) -> String {
        let a = &self.judge.agreement;
        let mut text = format!(
            "n {}, without a judge score {} (coverage {}), without a human score {}\n",
            a.n,
            a.n_unparsed,
            fixed(a.coverage(), 4),
            self.unlabelled
        );
        let drawn = |key: &str| self.bootstrap[key].as_u64().unwrap_or_default();
        let unit = match &args.cluster {
            Some(column) => format!("{} clusters of `{column}`", drawn("clusters")),
            None => "rows".to_string(),
        };
        let normal = self.judge.intervals.iter().any(|(_, i)| i.as_ref().is_ok_and(|i| i.method == Method::Normal));
        let how = if normal {
            "estimate ± z · their standard deviation, since there are too many rows for more"
        } else {
            "percentiles; BCa in --json"
        };
        text += &format!("intervals: {} resamples of {unit}, {how}\n", drawn("resamples"));
        let redrawn = self.judge.intervals.iter().filter_map(|(_, i)| i.as_ref().ok()).map(|i| i.redrawn).max().unwrap_or(0);
        if redrawn > 0 {
            text += &format!("up to {redrawn} resamples had no value and were drawn again\n");
        }
        let Some(comparison) = &self.comparison else { return text };
        text += &format!("both judges: n {}\n", comparison.n);
        if let Ok(test) = &comparison.sign_flip {
            let how = if test.exact { "all" } else { "random" };
            text += &format!(
                "mean absolute error, difference {}: p {} ({how} {} sign patterns)\n",
                fixed(test.difference, 4),
                p_text(test.p),
                test.flips
            );
        }
        for (name, tests) in [("Pearson", &comparison.pearson), ("Spearman", &comparison.spearman)] {
            if let Ok(tests) = tests {
                let steiger = tests.steiger.map_or("–".into(), |t| format!("Z {}, p {}", fixed(t.statistic, 3), p_text(t.p)));
                let williams = tests.williams;
                text += &format!(
                    "{name}: Williams t {}, p {}; Steiger {steiger}\n",
                    fixed(williams.statistic, 3),
                    p_text(williams.p)
                );
            }
        }
        text
    }
}

fn length_bias_of(columns: &Columns) -> Measured {
    let rows = columns.human.iter().zip(&columns.judge).zip(&columns.lengths);
    let (mut human, mut judge, mut length) = (Vec::new(), Vec::new(), Vec::new());
    for ((h, s), l) in rows {
        if let (Some(s), Some(l)) = (s, l) {
            human.push(*h);
            judge.push(*s);
            length.push(*l);
        }
    }
    length_bias(&human, &judge, &length)
}

/// Rows with probabilities, and their figures by name.
type Calibration = (usize, Vec<(&'static str, Measured)>);

fn calibration(columns: &Columns, grid: &Grid) -> Result<Calibration, CliError> {
    let (human, probabilities): (Vec<f64>, Vec<Vec<f64>>) =
        columns.human.iter().zip(&columns.probabilities).filter_map(|(h, p)| Some((*h, p.clone()?))).unzip();
    Ok((human.len(), named(&probabilities, &human, grid)?))
}

/// A figure and its interval.
fn cells(interval: &Result<crate::eval::intervals::Interval, crate::eval::Undefined>) -> [Cell; 2] {
    match interval {
        Ok(i) => [Cell::from(fixed(i.estimate, 3)), Cell::from(format!("{} to {}", fixed(i.low, 3), fixed(i.high, 3)))],
        Err(reason) => [Cell::Missing(reason.to_string()), Cell::from("")],
    }
}

fn cell(name: &str, value: &Measured) -> Cell {
    match value {
        Ok(p) if name.ends_with("_p") => Cell::from(p_text(*p)),
        other => Cell::number(other, 3),
    }
}

fn p_text(p: f64) -> String {
    match p {
        0.0 => "< 1e-300".into(),
        p if p < 1e-4 => format!("{p:.1e}"),
        p => fixed(p, 4),
    }
}

/// The p-value of a comparison, where there is one.
type PValue = fn(&Comparison) -> Option<f64>;

/// The tests of a comparison that Holm corrects over data sets.
const TESTS: [(&str, PValue); 3] = [
    ("sign_flip", |c| c.sign_flip.as_ref().ok().map(|t| t.p)),
    ("williams_pearson", |c| c.pearson.as_ref().ok().map(|t| t.williams.p)),
    ("williams_spearman", |c| c.spearman.as_ref().ok().map(|t| t.williams.p)),
];

/// For each test and file the corrected p; null where the test is undefined, which then does not count among them.
fn corrected(found: &[(String, Findings)]) -> Value {
    let of = |p: PValue| {
        let each: Vec<Option<f64>> = found.iter().map(|(_, f)| f.comparison.as_ref().and_then(p)).collect();
        let mut adjusted = holm(&each.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
        each.iter().map(|p| p.and_then(|_| adjusted.next())).collect::<Vec<Option<f64>>>()
    };
    Value::Object(TESTS.iter().map(|(name, p)| (name.to_string(), json!(of(*p)))).collect())
}

fn holm_table(found: &[(String, Findings)], corrected: &Value) -> String {
    let mut table = Table::new(["p after Holm", "MAE, sign flips", "Pearson, Williams", "Spearman, Williams"]);
    for (k, (file, _)) in found.iter().enumerate() {
        let p = |test: &str| corrected[test][k].as_f64().map_or(Cell::from("–"), |p| Cell::from(p_text(p)));
        table.row([Cell::from(file.as_str())].into_iter().chain(TESTS.iter().map(|(name, _)| p(name))));
    }
    table.to_string()
}
