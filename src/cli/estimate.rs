//! `jurist estimate`: people's mean score of many rows, from few labels and a judge's scores.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::places::Places;
use super::score_columns::{ScoreColumns, Wanted};
use super::{CliError, Context, EstimateArgs, TerminalProgress, print, print_json};
use crate::data::name_of;
use crate::eval::estimate::{
    self, EstimateNames, EstimateOptions, Estimates, Quantiles, ScoredRows, Simulation, SimulationOptions,
};
use crate::files::same_place;
use crate::judge::Scale;
use crate::progress::Progress;
use crate::words::count;

/// A table, and its JSON.
struct Shown {
    text: String,
    json: Value,
}

/// Estimates the mean of one system, or of two and their difference.
pub fn run(args: &EstimateArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let inputs = args.files.iter().chain(&args.versus);
    inputs
        .fold(Places::default(), |places, file| places.reads(Some(file), "a file of rows"))
        .writes(args.plot.as_deref(), "--plot")
        .check()?;
    let all: Vec<&PathBuf> = args.files.iter().chain(&args.versus).collect();
    let again = |at: &usize| all[..*at].iter().any(|other| same_place(other, all[*at]));
    if let Some(at) = (0..all.len()).find(again) {
        let problem = "the file is given twice, and its rows would count twice";
        return Err(CliError::Usage(format!("{}: {problem}; name it once", all[at].display())));
    }
    let scale: Scale = args.scale.parse()?;
    let options = EstimateOptions {
        level: args.level,
        quantiles: if args.normal { Quantiles::Normal } else { Quantiles::Student },
        weight: args.judge_weight,
        scale: Some((scale.min(), scale.max())),
    };
    let wanted = Wanted {
        human: &args.human,
        judge: &args.judge,
        cluster: args.cluster.as_deref(),
        group: args.by.as_deref(),
        weight: args.weight.as_deref(),
        id: args.id.as_deref(),
        propensity: args.propensity.as_deref(),
        scale: &scale,
        skip_bad: args.skip_bad,
        max_decompressed: args.max_decompressed,
    };
    let first = read(args, &wanted, &args.files, ScoreColumns::default(), &mut progress)?;
    if let Some(labels) = &args.simulate {
        return simulate(args, &first, labels, &options, &mut progress);
    }
    let mut systems = vec![(names(&args.files), first)];
    if let Some(column) = &args.by {
        systems = parted(column, systems.remove(0).1)?;
    } else if !args.versus.is_empty() {
        let second = read(args, &wanted, &args.versus, systems[0].1.beside(), &mut progress)?;
        systems.push((names(&args.versus), second));
    }
    let mut shown = Vec::new();
    let cluster = args.cluster.clone();
    let mut show = |found: &Estimates, of: Vec<String>| {
        let told = found.warnings(cluster.is_some());
        let name = of.join(" minus ");
        told.iter().for_each(|warning| progress.warn(&format!("{name}: {warning}")));
        let names = EstimateNames { systems: of, cluster: cluster.clone() };
        let mut json = found.to_json(&names, &options);
        if !told.is_empty() {
            json["warnings"] = json!(told);
        }
        shown.push(Shown { text: found.to_text(&names, &options), json });
    };
    for (name, rows) in &systems {
        let found = estimate::mean(&scored(rows), &options).map_err(|error| of_system(name, &systems, error))?;
        show(&found, vec![name.clone()]);
    }
    if let [(one, first), (other, second)] = &systems[..] {
        let found = estimate::difference(&scored(first), &scored(second), &options)?;
        show(&found, vec![one.clone(), other.clone()]);
    }
    if !args.json {
        return print(&shown.into_iter().map(|shown| shown.text).collect::<Vec<_>>().join("\n"));
    }
    let mut objects: Vec<Value> = shown.into_iter().map(|shown| shown.json).collect();
    let object = match objects.pop() {
        Some(difference) if !objects.is_empty() => json!({"systems": objects, "difference": difference}),
        only => only.unwrap_or_default(),
    };
    print_json(&object)
}

/// Reads the files of one system.
fn read(
    args: &EstimateArgs,
    wanted: &Wanted,
    files: &[PathBuf],
    mut into: ScoreColumns,
    progress: &mut TerminalProgress,
) -> Result<ScoreColumns, CliError> {
    for file in files {
        wanted.read(file, &mut into)?;
    }
    into.check(files.first().map_or(Path::new("-"), |file| file), args.strict, progress)?;
    Ok(into)
}

/// What the files of a system are called.
fn names(files: &[PathBuf]) -> String {
    files.iter().map(|file| name_of(file)).collect::<Vec<_>>().join(" and ")
}

/// The rows of each of the two values of a column, in the order of the values.
fn parted(column: &str, rows: ScoreColumns) -> Result<Vec<(String, ScoreColumns)>, CliError> {
    let mut values = rows.groups.clone();
    values.sort();
    values.dedup();
    let [one, other] = &values[..] else {
        let shown: Vec<&str> = values.iter().take(5).map(String::as_str).collect();
        let more = if values.len() > shown.len() { ", …" } else { "" };
        let found = format!("{} value{} ({}{more})", values.len(), if values.len() == 1 { "" } else { "s" }, shown.join(", "));
        return Err(CliError::Failed(format!("--by {column}: the column has {found}; it needs two, one for each system")));
    };
    let of = |value: &String| (value.clone(), rows.filtered(|row| rows.groups[row] == *value));
    Ok(vec![of(one), of(other)])
}

fn scored(rows: &ScoreColumns) -> ScoredRows<'_> {
    ScoredRows {
        human: &rows.human,
        judge: &rows.judge,
        clusters: rows.clusters(),
        weights: (!rows.weights.is_empty()).then_some(&rows.weights),
    }
}

/// An error, with the system that it is of where there are two.
fn of_system(name: &str, systems: &[(String, ScoreColumns)], error: crate::eval::EvalError) -> CliError {
    if systems.len() > 1 { CliError::Failed(format!("{name}: {error}")) } else { error.into() }
}

/// How often intervals contain the mean of rows that are all labelled.
fn simulate(
    args: &EstimateArgs,
    rows: &ScoreColumns,
    labels: &[u32],
    options: &EstimateOptions,
    progress: &mut TerminalProgress,
) -> Result<(), CliError> {
    let labelled = rows.filtered(|row| rows.human[row].is_some());
    let human: Vec<f64> = labelled.human.iter().flatten().copied().collect();
    let labels: Vec<usize> = labels.iter().map(|labels| *labels as usize).collect();
    let simulated = SimulationOptions { labels: &labels, draws: args.draws as usize, seed: args.seed };
    let found = Simulation::new(&human, &labelled.judge, labelled.clusters(), options, &simulated)?;
    for labels in labels.iter().filter(|labels| found.points.iter().all(|point| point.labels != **labels)) {
        progress.warn(&format!("--simulate {labels}: left out, since there are only {}", count(human.len(), "labelled row")));
    }
    match args.json {
        true => print_json(&found.to_json())?,
        false => print(&found.to_text())?,
    }
    if let Some(plot) = &args.plot {
        crate::files::write(plot, found.plot(&format!("{}: few labels and a judge", names(&args.files))).as_bytes())?;
    }
    Ok(())
}
