//! `jurist pair`: which of two responses is better, and how often people agree.

use super::outcome::require_judged;
use super::places::Places;
use super::scoring::{ScoreCounts, Sink, Work, judge_rows};
use super::{CliError, Context, Interrupt, PairArgs, print};
use crate::data::{DataError, Dataset, Example, Labels, Pairing, pairing};
use crate::eval::evaluation::clusters_of;
use crate::eval::intervals::Bootstrap;
use crate::eval::pairs::{PairEvaluation, PairRow};
use crate::eval::position::PairVerdict;
use crate::files::write;
use crate::judge::{PairRecord, PairWay, Winner};
use crate::progress::Progress;
use crate::words::count;

/// Columns that group rows, where none is named.
const CLUSTERS: [&str; 3] = ["prompt_id", "rubric_id", "cluster"];

/// Columns that tell kinds of rows apart, where none is named.
const CATEGORIES: [&str; 4] = ["subset", "category", "data_source", "source"];

/// Judges the pairs of a file.
pub fn run(args: &PairArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let interrupt = Interrupt::watch()?;
    Places::default()
        .reads(Some(&args.input), "--input")
        .reads_judge(Some(&args.model), &args.judging, context)
        .writes(args.output.as_deref(), "--output")
        .check()?;
    if args.judging.given_chains {
        let advice = "a chain in a row is about one response or about both, and not about each in turn";
        return Err(CliError::Usage(format!("--given-chains is not for pairs: {advice}")));
    }
    let mut rows = args.judging.rows((&args.input, Some(&args.model)), Labels::Ignored, context, &mut progress)?;
    if let Some(example) = rows.examples.iter().find(|example| example.row.fields.contains_key(&args.pair_column)) {
        let fix = "name another with --pair-column";
        return Err(example.row.fault(&args.pair_column, "the row has this column already", fix).into());
    }
    // Before the judge is opened: what cannot be read, and what people prefer.
    let preferences = preferences(&mut rows, args.judging.skip_bad, &mut progress)?;
    let cluster = column(&rows, args.cluster.as_deref(), &CLUSTERS)?;
    let category = column(&rows, args.category.as_deref(), &CATEGORIES)?;
    // Whatever prompt the row has, a response is judged beside it.
    let mut first: Vec<Example> = PairWay::Alone.rows(&rows.examples[0])?.into_iter().take(1).collect();
    first.iter_mut().for_each(|example| example.record.prompt = None);
    let files = args.judging.files(&args.model, &first, context, &mut progress)?;
    let way = PairWay::of(&files.settings().prompt(files.tokenizer())?);
    progress.note(match way {
        PairWay::Alone => "each response is judged alone",
        PairWay::Together => "both responses are judged together, in both orders",
    });
    let sides: Vec<[Example; 2]> = rows.examples.iter().map(|example| way.rows(example)).collect::<Result<_, _>>()?;
    let sides: (Vec<Example>, Vec<Example>) = sides.into_iter().map(|[first, second]| (first, second)).unzip();
    let all: Vec<Example> = sides.0.iter().chain(&sides.1).cloned().collect();
    let judge = args.judging.upload(&files, &all, false, context, &mut progress)?;
    let interrupt = interrupt.stops_after("stopping; the pairs are judged again by the next command");
    // One after the other: both rows of a pair have the random numbers of its place, as in the server and on the page.
    let (mut tally, mut judged) = (ScoreCounts::default(), [Vec::new(), Vec::new()]);
    for (side, rows) in [&sides.0, &sides.1].into_iter().enumerate() {
        let (judging, column) = (args.judging.judging(), args.pair_column.as_str());
        let work = Work { judge: &judge, judging, rows, column, interrupt: &interrupt };
        let counted = match judge_rows(&work, Sink::None, &mut progress, |record| judged[side].push(record)) {
            Err(CliError::Stopped(_)) => {
                let (done, pairs) = (judged[1].len(), count(rows.len(), "pair"));
                return Err(CliError::Stopped(format!("{done} of {pairs} were judged, and none is kept")));
            }
            counted => counted?,
        };
        tally.first_error = tally.first_error.or(counted.first_error);
    }
    let scale = &judge.settings().scale;
    let [first, second] = judged;
    let both = first.into_iter().zip(second);
    let records: Vec<PairRecord> = both.map(|(first, second)| PairRecord::new(way, scale, [first, second])).collect();
    (tally.rows, tally.failed) = (records.len(), records.iter().filter(|record| record.error.is_some()).count());
    if let Some(path) = &args.output {
        let line =
            |(example, record): (&Example, &PairRecord)| example.row.with_column(&args.pair_column, &record.to_json()) + "\n";
        let lines: String = rows.examples.iter().zip(&records).map(line).collect();
        write(path, lines.as_bytes())?;
    }
    let measured: Vec<PairRow> = records
        .iter()
        .zip(&preferences)
        .enumerate()
        .map(|(n, (record, human))| measured(record, *human, category.as_ref().map(|(_, texts)| texts[n].clone())))
        .collect();
    let (name, numbers) = cluster.map(|(name, texts)| (name, clusters_of(&texts))).unzip();
    let bootstrap =
        Bootstrap { resamples: args.resamples, seed: args.judging.seed, clusters: numbers.as_deref(), ..Bootstrap::default() };
    let evaluation = PairEvaluation::measure(&measured, name, &bootstrap)?;
    match args.json {
        true => print(&(serde_json::to_string_pretty(&evaluation.to_json()).unwrap_or_default() + "\n"))?,
        false => print(&evaluation.to_text())?,
    }
    let first = tally.first_error.as_deref();
    require_judged(tally.failed + rows.bad.len(), records.len() + rows.bad.len(), args.judging.strict, first)?;
    tally.warn(&mut progress);
    Ok(())
}

/// People's preference in each row, as far as there is one. With `skip_bad`, rows without a pair that can be read are left out.
fn preferences(rows: &mut Dataset, skip_bad: bool, progress: &mut dyn Progress) -> Result<Vec<Option<f64>>, CliError> {
    let read = |example: &Example| {
        PairWay::Alone.rows(example)?;
        Ok(pairing(&example.row)?.map(Pairing::in_given_order).and_then(|pair| pair.preference))
    };
    let (mut good, mut found) = (Vec::new(), Vec::new());
    let mut bad: Vec<DataError> = Vec::new();
    for example in std::mem::take(&mut rows.examples) {
        match read(&example) {
            Ok(preference) => {
                found.push(preference);
                good.push(example);
            }
            Err(error) if skip_bad => bad.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    match (bad.first(), good.is_empty()) {
        (Some(first), true) => return Err(first.clone().into()),
        (Some(first), false) => {
            progress.warn(&format!("{}: {} skipped, the first: {first}", rows.file, count(bad.len(), "unreadable pair")));
        }
        (None, _) => {}
    }
    rows.examples = good;
    rows.bad.extend(bad);
    Ok(found)
}

/// A pair as it is measured: A is the first response of the row.
fn measured(record: &PairRecord, human: Option<f64>, category: Option<String>) -> PairRow {
    let verdict = |winner: Winner| match winner {
        Winner::A => PairVerdict::First,
        Winner::B => PairVerdict::Second,
        Winner::Tie => PairVerdict::Tie,
    };
    PairRow {
        human,
        verdict: record.winner.map(verdict),
        first: record.a_wins(),
        // By position: in the second order the response that is read first is B.
        orders: record.orders.map(|[given, swapped]| (verdict(given), verdict(swapped.swapped()))),
        category,
    }
}

/// A column's name and its texts, where every row has it: the one named (which must be there), or the first that is.
fn column(rows: &Dataset, named: Option<&str>, usual: &[&str]) -> Result<Option<(String, Vec<String>)>, CliError> {
    match named {
        Some(name) => match rows.texts(name) {
            Ok(texts) => Ok(Some((name.into(), texts))),
            Err(place) => Err(CliError::Failed(format!("{place}: the row has no column `{name}`; every row needs it"))),
        },
        None => Ok(usual.iter().find_map(|name| Some((name.to_string(), rows.texts(name).ok()?)))),
    }
}
