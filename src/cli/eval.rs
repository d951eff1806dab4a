//! `jurist eval`: how well a judge agrees with people, compared with baselines.

use serde_json::Value;

use super::columns::{CLUSTERS, column};
use super::gates::{Gates, Known, LENGTH_BIAS, MASSES, Measured, PROBABILITIES, verdict};
use super::outcome::require_judged;
use super::places::Places;
use super::scoring::{ScoreCounts, Single, Sink, Work, judge_rows};
use super::{CliError, Context, EvalArgs, Interrupt, print, print_json, row_hashes};
use crate::data::Example;
use crate::eval::clusters::clusters_of;
use crate::eval::drift::RunRecord;
use crate::eval::evaluation::{JudgeEvaluation, JudgedRows, PageText};
use crate::eval::intervals::Bootstrap;
use crate::eval::{Grid, baselines, report};
use crate::files::is_unfinished;
use crate::hub;
use crate::judge::{JudgeSettings, Scale, ScoreRecord};
use crate::progress::Progress;

/// Columns that tell kinds of rows apart, where none is named.
const CATEGORIES: [&str; 3] = ["category", "data_source", "source"];

/// Rows shown whole.
const WORST: usize = 12;

/// Measures scored rows, or scores and measures.
pub fn run(args: &EvalArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let interrupt = Interrupt::watch(&context.ranks)?;
    let places = Places::default()
        .reads(args.scored.as_deref(), "the scored rows")
        .reads(args.input.as_deref(), "--input")
        .reads_judge(args.model.as_deref(), &args.judging, context)
        .grows(args.output.as_deref(), "--output")
        .writes(args.report.as_deref(), "--report");
    Gates::places(&args.gates, places).check()?;
    if let Some(model) = &args.model {
        context.fetch(model, hub::Wanted::Description, &mut progress)?;
    }
    let gates = Gates::read(&args.gates, &known(args, context)?, 1, context)?;
    let (mut swap, mut tally) = (None, ScoreCounts::default());
    let (rows, judgements, scale) = match (&args.scored, &args.model, &args.input) {
        (Some(file), _, _) => {
            if is_unfinished(file) {
                let line = "its last rows are missing; jurist score --resume continues with them";
                progress.warn(&format!("{}: {line}", file.display()));
            }
            let rows = args.judging.labelled_rows((file, None), context, &mut progress)?;
            let judgements = rows.examples.iter().map(|e| stored(e, &args.judge_column)).collect::<Result<Vec<_>, _>>()?;
            let scale = scale_of(args.judging.judge.scale.as_deref(), &judgements)?;
            (rows, judgements, scale)
        }
        (None, Some(model), Some(input)) => {
            let sink = match &args.output {
                None => Sink::None,
                Some(output) => Sink::open(output, args.resume, &context.ranks)?,
            };
            let rows = args.judging.labelled_rows((input, Some(model)), context, &mut progress)?;
            let judge = args.judging.open(model, &rows, true, context, &mut progress)?;
            judge.settings().calibration_advice(&args.judging.judging()).into_iter().for_each(|advice| progress.warn(advice));
            let interrupt = interrupt.stops_after(sink.at_interrupt());
            let work = Work {
                judge: &judge,
                judging: args.judging.judging(),
                rows: &rows.examples,
                sides: [&rows.examples],
                form: &Single,
                column: &args.judge_column,
                ranks: &context.ranks,
                interrupt: &interrupt,
            };
            let mut judgements: Vec<ScoreRecord> = Vec::new();
            let judged = judge_rows(&work, sink, &mut progress, |[judgement]| judgements.push(judgement))?;
            let Some(judged) = judged else { return Ok(()) };
            tally = judged;
            swap = args.judging.chain_swap(&judge, (&rows, &judgements), &interrupt)?;
            let fitted_on = judge.settings().calibration.as_ref().and_then(|calibration| calibration.fitted_on.as_ref());
            if fitted_on.is_some_and(|known| *known == row_hashes::of_set(&rows.examples)) {
                judgements.iter_mut().for_each(|judgement| judgement.calibrated = None);
                progress
                    .warn("the judge was calibrated on these rows, so the calibrated score is left out: evaluate it on others");
            }
            (rows, judgements, judge.settings().scale.clone())
        }
        _ => return Err(CliError::Failed("give a scored file, or --model with --input".into())),
    };
    let human: Vec<f64> = rows.examples.iter().filter_map(|e| e.record.score).collect();
    if let Some((e, label)) = rows.examples.iter().zip(&human).find(|(_, h)| !(scale.min()..=scale.max()).contains(*h)) {
        let (min, max) = (scale.min(), scale.max());
        return Err(CliError::Failed(format!(
            "{}: the label {label} is outside the scale {min} to {max}; give the right --scale or --label-column",
            e.row.location()
        )));
    }
    let columns = JudgedRows {
        expected: judgements.iter().map(|j| j.expected).collect(),
        decoded: judgements.iter().map(|j| j.decoded).collect(),
        medians: judgements.iter().map(|j| j.median(&scale)).collect(),
        calibrated: judgements.iter().map(|j| j.calibrated.clone()).collect(),
        distributions: judgements.iter().map(|j| j.distribution(&scale)).collect(),
        masses: judgements.iter().filter_map(|j| j.mass).collect(),
        lengths: rows.examples.iter().map(Example::characters).collect(),
        overlaps: rows.examples.iter().map(|e| e.compared().map(|(one, other)| baselines::word_overlap(one, other))).collect(),
        clusters: column(&rows, args.cluster.as_deref(), &CLUSTERS, &mut progress)?,
        words: scale.words(),
        human,
    };
    let bootstrap = Bootstrap { resamples: args.resamples, seed: args.judging.seed, ..Default::default() };
    let mut evaluation = JudgeEvaluation::measure(&columns, &Grid::new(scale.values())?, &bootstrap)?;
    if let Some(swap) = swap {
        evaluation.add_chain_swap(swap);
    }
    let name = match &args.model {
        Some(model) => format!("{} on {}", model.display(), rows.file),
        None => rows.file.clone(),
    };
    let clusters = columns.clusters.as_ref().map(|(_, texts)| clusters_of(texts));
    let record = gates.wants_rows().then(|| RunRecord {
        judge: args.model.as_ref().map_or_else(|| args.judge_column.clone(), |model| model.display().to_string()),
        scale: evaluation.scale.clone(),
        words: columns.words.clone(),
        rows: row_hashes::of_rows(&rows.examples),
        human: columns.human.clone(),
        scores: if columns.words.is_some() { columns.decoded.clone() } else { columns.expected.clone() },
        ..RunRecord::default()
    });
    let of_record = Bootstrap { clusters: clusters.as_deref(), ..bootstrap };
    let measured = Measured { name, figures: evaluation.figures(), record, bootstrap: of_record };
    let checked = gates.check(vec![measured])?;
    let outcome = &checked[0];
    match args.json {
        true => print_json(&outcome.with_figures(evaluation.to_json()))?,
        false => print(&(evaluation.to_text() + &outcome.to_text()))?,
    }
    gates.write("eval", &checked)?;
    // After the figures, which a page that cannot be written must not cost.
    if let Some(path) = &args.report {
        let page = evaluation.page(PageText {
            file: rows.file.clone(),
            judge: args.model.as_ref().map(|model| model.display().to_string()),
            categories: column(&rows, args.category.as_deref(), &CATEGORIES, &mut progress)?,
            worst: evaluation.worst(WORST).into_iter().filter_map(|row| shown(&rows.examples[row], &judgements[row])).collect(),
        });
        crate::files::write(path, page.to_html()?.as_bytes())?;
    }
    let failed = judgements.iter().filter(|j| j.expected.is_none()).count();
    let first = tally.first_error.as_deref();
    require_judged(failed + rows.bad.len(), judgements.len() + rows.bad.len(), args.judging.strict, first)?;
    tally.warn(&mut progress);
    verdict(&checked)
}

/// The figures that can be required: those of labels where the scale that is given, or the judge's, has words; those of the
/// calibrated score unless the judge has none.
fn known(args: &EvalArgs, context: &Context) -> Result<Known, CliError> {
    const SWAPS: [&str; 3] = ["chain_swap_moved", "chain_swap_follows_chain", "chain_swap_follows_prompt"];
    let words = args.judging.scale(args.model.as_deref(), context)?.and_then(|scale| scale.words());
    let words = words.as_deref();
    let known = Known::of_scores(words).and(&PROBABILITIES).and(&MASSES).and(&[LENGTH_BIAS]).with_flag(
        &SWAPS,
        "--model",
        args.model.is_some(),
    );
    let known = known.with("decoded.", Known::of_scores(words));
    let calibrated = match &args.model {
        None => true,
        // A model that cannot be opened is reported when it is opened to judge.
        Some(model) => context.open(model).ok().is_none_or(|folder| {
            JudgeSettings::of_folder(&folder).is_ok_and(|settings| settings.is_some_and(|judge| judge.calibration.is_some()))
        }),
    };
    Ok(if calibrated { known.with("calibrated.", Known::of_calibrated()) } else { known })
}

/// The judgement in a column of a row.
fn stored(example: &Example, column: &str) -> Result<ScoreRecord, CliError> {
    example.row.fields.get(column).and_then(Value::as_object).map(ScoreRecord::read).ok_or_else(|| {
        let fix = "make it with jurist score, or name its column with --judge-column";
        CliError::Failed(format!("{}: the row has no object `{column}`; {fix}", example.row.location()))
    })
}

/// The scale given, or the one that the scored rows' texts spell.
fn scale_of(given: Option<&str>, judgements: &[ScoreRecord]) -> Result<Scale, CliError> {
    if let Some(spec) = given {
        return Ok(spec.parse()?);
    }
    let texts = judgements.iter().map(ScoreRecord::probabilities).find(|p| !p.is_empty()).unwrap_or_default();
    let unknown =
        |why: String| CliError::Failed(format!("the scale cannot be told from the rows ({why}); give --scale as in training"));
    // What words stand for is not in the rows.
    if let Some((word, _)) = texts.iter().find(|(text, _)| text.parse::<f64>().is_err()) {
        return Err(unknown(format!("`{word}` is no number")));
    }
    let texts: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
    texts.join(",").parse().map_err(|e: crate::judge::JudgeError| unknown(e.to_string()))
}

/// A row with its judgement, as the page shows it.
fn shown(example: &Example, judgement: &ScoreRecord) -> Option<report::JudgedExample> {
    Some(report::JudgedExample {
        prompt: format!("{}\n\n{}", example.row.location(), example.judged()),
        chain: judgement.feedback.clone().unwrap_or_default(),
        human: example.record.score,
        expected: judgement.expected?,
        decoded: judgement.decoded.map_or("–".into(), |d| d.to_string()),
        probabilities: judgement.probabilities(),
    })
}
