//! `jurist agree`: how well any judge agrees with people, from columns of a file that somebody else wrote.

use std::path::Path;

use serde_json::{Value, json};

use super::gates::{Gates, Known, LENGTH_BIAS, MASSES, Measured, PROBABILITIES, verdict};
use super::outcome::require_judged;
use super::places::Places;
use super::repeated_rows::{ID, RowNames};
use super::score_columns::{human_at, score_at};
use super::{AgreeArgs, CliError, Context, TerminalProgress, print, print_json};
use crate::data::{DataError, RowCells, WantedColumns, name_of, read_columns_within};
use crate::eval::Grid;
use crate::eval::clusters::ClusterNumbers;
use crate::eval::drift::RunRecord;
use crate::eval::evaluation::{ColumnEvaluation, ColumnNames, Columns, holm_of, holm_table};
use crate::eval::intervals::{Bootstrap, is_level};
use crate::judge::Scale;
use crate::progress::Progress;
use crate::words::count;

/// Measures each file.
pub fn run(args: &AgreeArgs, context: &Context) -> Result<(), CliError> {
    let scale: Scale = args.scale.parse()?;
    let grid = Grid::new(scale.values())?;
    if !is_level(args.level) {
        return Err(CliError::Usage(format!("--level is {}; expected a share between 0 and 1, such as 0.95", args.level)));
    }
    let threshold = args.threshold.unwrap_or(grid.midpoint());
    let words = scale.words();
    let gates = Gates::read(&args.gates, &known(args, words.as_deref()), args.files.len(), context)?;
    let places = args.files.iter().fold(Places::default(), |places, file| places.reads(Some(file), "an input"));
    Gates::places(&args.gates, places).check()?;
    let bootstrap = Bootstrap { resamples: args.resamples, level: args.level, seed: args.seed, clusters: None };
    let mut progress = context.progress();
    let (mut found, mut unjudged, mut measured) = (Vec::new(), Vec::new(), Vec::new());
    let mut clusters = Vec::new();
    for file in &args.files {
        let (mut columns, ids, bad) = read(args, file, &scale, &mut progress)?;
        if columns.human.is_empty() {
            let column = &args.human;
            return Err(CliError::Failed(format!("{}: no row has a number in the column `{column}`", name_of(file))));
        }
        if bad > 0 {
            progress.warn(&format!("{}: {}, taken for empty", name_of(file), count(bad, "bad cell")));
        }
        let judges = [Some(&columns.judge), columns.judge2.as_ref()].into_iter().flatten();
        unjudged.extend(judges.map(|scores| (scores.iter().filter(|s| s.is_none()).count(), scores.len())));
        let names = ColumnNames {
            file: name_of(file),
            human: args.human.clone(),
            judge: args.judge.clone(),
            judge2: args.judge2.clone(),
            cluster: args.cluster.clone(),
        };
        let evaluation = ColumnEvaluation::measure(names, &columns, &grid, words.clone(), threshold, &bootstrap)?;
        let record = gates.wants_rows().then(|| RunRecord {
            judge: args.judge.clone(),
            scale: grid.values().to_vec(),
            words: words.clone(),
            rows: ids,
            human: std::mem::take(&mut columns.human),
            scores: std::mem::take(&mut columns.judge),
            ..RunRecord::default()
        });
        measured.push((name_of(file), evaluation.figures(), record));
        clusters.push(columns.clusters);
        found.push(evaluation);
    }
    let measured = measured.into_iter().zip(&clusters).map(|((name, figures, record), clusters)| {
        let bootstrap = Bootstrap { clusters: clusters.as_deref(), ..bootstrap };
        Measured { name, figures, record, bootstrap }
    });
    let checked = gates.check(measured.collect())?;
    let corrected = holm_of(&found);
    if args.json {
        let mut objects: Vec<Value> =
            found.iter().zip(&checked).map(|(found, gates)| gates.with_figures(found.to_json())).collect();
        let object = match objects.len() {
            1 => objects.remove(0),
            _ => json!({"data_sets": objects, "holm": corrected}),
        };
        print_json(&object)?;
    } else {
        let mut text: Vec<String> = found.iter().zip(&checked).map(|(found, gates)| found.to_text() + &gates.to_text()).collect();
        if found.len() > 1 && args.judge2.is_some() {
            text.push(holm_table(&found, &corrected));
        }
        print(&text.join("\n"))?;
    }
    gates.write("agree", &checked)?;
    unjudged.iter().try_for_each(|&(failed, rows)| require_judged(failed, rows, args.strict, None))?;
    verdict(&checked)
}

/// The figures that can be required.
fn known(args: &AgreeArgs, words: Option<&[String]>) -> Known {
    const REPEATS: [&str; 5] = ["exact_repeat_agreement", "within_row_sd", "icc_1_1", "repeat_alpha_interval", "flip_rate"];
    let known = Known::of_scores(words)
        .with_flag(&REPEATS, "--repeats", !args.repeats.is_empty())
        .with_flag(&PROBABILITIES, "--probs", args.probs.is_some())
        .with_flag(&MASSES, "--mass", args.mass.is_some())
        .with_flag(&[LENGTH_BIAS], "--length", args.length.is_some());
    match args.judge2 {
        Some(_) => known.with("judge2.", Known::of_scores(words)).and_differences(),
        None => known,
    }
}

/// Reads one file: a few numbers a row are kept. Also the names of the rows, where there is a column of them, and how many cells
/// `--skip-bad` took for empty.
fn read(
    args: &AgreeArgs,
    file: &Path,
    scale: &Scale,
    progress: &mut TerminalProgress,
) -> Result<(Columns, Vec<String>, usize), CliError> {
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
    let (required, id) = (names.len() + usize::from(args.id.is_some()), names.len());
    names.push(args.id.as_deref().unwrap_or(ID));
    let is_cluster = args.cluster.as_deref() == Some(names[id]);
    let mut row_names = RowNames::default();
    let mut columns = Columns {
        judge2: judge2.map(|_| Vec::new()),
        clusters: cluster.map(|_| Vec::new()),
        lengths: length.map(|_| Vec::new()),
        repeats: (!repeats.is_empty()).then(Vec::new),
        probabilities: probs.map(|_| Vec::new()),
        masses: mass.map(|_| Vec::new()),
        ..Columns::default()
    };
    let mut numbers = ClusterNumbers::default();
    let (mut bad, mut ids) = (0, Vec::new());
    read_columns_within(file, WantedColumns { names: &names, required }, args.max_decompressed, &mut |cells| {
        // A bad score is an error, or, counted, none.
        let mut good = |found: Result<Option<f64>, DataError>| match found {
            Err(_) if args.skip_bad => {
                bad += 1;
                Ok(None)
            }
            found => found,
        };
        let Some(human) = good(human_at(cells, 0, scale))? else {
            columns.unlabelled += 1;
            return Ok(());
        };
        let mut number = |column: usize| good(score_at(cells, column, scale));
        columns.human.push(human);
        let judge = number(1)?;
        columns.judge.push(judge);
        if let (Some(at), Some(judge2)) = (judge2, &mut columns.judge2) {
            judge2.push(number(at)?);
        }
        if let (Some(at), Some(clusters)) = (cluster, &mut columns.clusters) {
            let name = cells.text(at).ok_or_else(|| cells.fault(at, "no group".into(), "name the group of every row"))?;
            clusters.push(numbers.number(&name));
        }
        if let (Some(at), Some(lengths)) = (length, &mut columns.lengths) {
            let text = cells.text(at);
            let characters = text.as_ref().map(|text| text.chars().count() as f64);
            // What looks like a list of scores is a response all the same.
            let listed = text.is_some_and(|text| text.trim_start().starts_with('['));
            lengths.push(if listed { characters } else { cells.number(at).unwrap_or(characters) });
        }
        if let Some(rows) = &mut columns.repeats {
            let answers = std::iter::once(Ok(judge)).chain(repeats.clone().map(&mut number));
            rows.push(answers.collect::<Result<_, DataError>>()?);
        }
        if let (Some(at), Some(rows)) = (probs, &mut columns.probabilities) {
            rows.push(probabilities(cells, at, scale)?);
        }
        if let (Some(at), Some(masses)) = (mass, &mut columns.masses) {
            masses.extend(cells.number(at)?);
        }
        if !is_cluster {
            row_names.take(cells, id, "", args.id.is_some())?;
        }
        if args.id.is_some() {
            ids.extend(cells.text(id).map(|name| name.into_owned()));
        }
        Ok(())
    })?;
    row_names.warn(progress);
    Ok((columns, ids, bad))
}

/// Probabilities in ascending order of the scale's values, renormalised over it.
fn probabilities(cells: &RowCells, column: usize, scale: &Scale) -> Result<Option<Vec<f64>>, DataError> {
    let Some(value) = cells.json(column)? else { return Ok(None) };
    if let (Some(p), [low, high]) = (value.as_f64(), scale.order()) {
        return match (0.0..=1.0).contains(&p) {
            true => Ok(Some(vec![1.0 - p, p])),
            false => {
                let (low, high) = (&scale.texts()[*low], &scale.texts()[*high]);
                let found = format!("{p} is no probability of `{high}` against `{low}`");
                Err(cells.fault(column, found, "give a number from 0 to 1"))
            }
        };
    }
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
