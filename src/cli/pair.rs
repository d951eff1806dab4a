//! `jurist pair`: which of two responses is better, and how often people agree.

use serde_json::Value;

use super::columns::{CLUSTERS, column};
use super::gates::{Gates, Known, Measured, verdict};
use super::outcome::require_judged;
use super::places::Places;
use super::repeated_rows::refuse_repeated_rows;
use super::scoring::{Form, Sink, Work, judge_rows};
use super::{CliError, Context, Interrupt, PairArgs, TerminalProgress, print, print_json, row_hashes};
use crate::data::{DataError, Dataset, Example, Labels, Pairing, judged_text, pairing};
use crate::eval::PairText;
use crate::eval::clusters::clusters_of;
use crate::eval::drift::RunRecord;
use crate::eval::intervals::Bootstrap;
use crate::eval::pairs::{PairEvaluation, PairRow, distinct, preferred};
use crate::eval::position::Winner;
use crate::files::write;
use crate::hub;
use crate::judge::{Judge, PairRecord, PairWay, Scale, ScoreRecord};
use crate::progress::Progress;
use crate::words::count;

/// Columns that tell kinds of rows apart, where none is named.
const CATEGORIES: [&str; 4] = ["subset", "category", "data_source", "source"];

/// The scale of what is recorded of pairs, with its words.
const RECORDED: [(f64, &str); 3] = [(0.0, "B"), (0.5, "tie"), (1.0, "A")];

/// The object of a pair, from two judgements.
struct OfPair<'a> {
    way: PairWay,
    scale: &'a Scale,
}

impl Form<2> for OfPair<'_> {
    fn command(&self) -> &'static str {
        "jurist pair"
    }

    fn write(&self, judged: &[ScoreRecord; 2]) -> Value {
        PairRecord::new(self.way, self.scale, judged.clone()).to_json()
    }

    fn read(&self, mut object: Value) -> Option<[ScoreRecord; 2]> {
        let [first, second] = self.way.names().map(|name| object.get_mut(name).map(Value::take));
        Some([serde_json::from_value(first?).ok()?, serde_json::from_value(second?).ok()?])
    }
}

/// Judges the pairs of a file.
pub fn run(args: &PairArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let interrupt = Interrupt::watch(&context.ranks)?;
    let places = Places::default()
        .reads(Some(&args.input), "--input")
        .reads_judge(Some(&args.model), &args.judging, context)
        .grows(args.output.as_deref(), "--output")
        .writes(args.report.as_deref(), "--report");
    Gates::places(&args.gates, places).check()?;
    context.fetch(&args.model, hub::Wanted::Description, &mut progress)?;
    if args.judging.given_chains {
        let advice = "a chain in a row is about one response or about both, and not about each in turn";
        return Err(CliError::Usage(format!("--given-chains is not for pairs: {advice}")));
    }
    if args.judging.label_column.is_some() {
        let advice = "people's preference is read from `preference`, `preferred` or `winner`, and from the layouts of RewardBench and \
                      Preference Collection; rename the column";
        return Err(CliError::Usage(format!("--label-column is not for pairs: {advice}")));
    }
    let sink = match &args.output {
        None => Sink::None,
        Some(output) => Sink::open(output, args.resume, &context.ranks)?,
    };
    let mut rows = args.judging.rows((&args.input, Some(&args.model)), Labels::Ignored, context, &mut progress)?;
    if let Some(example) = rows.examples.iter().find(|example| example.row.fields.contains_key(&args.pair_column)) {
        let fix = "name another with --pair-column";
        return Err(example.row.fault(&args.pair_column, "the row has this column already", fix).into());
    }
    // Before the judge is opened: what cannot be read, what people prefer, and what is required.
    let preferences = preferences(&mut rows, args.judging.skip_bad, &mut progress)?;
    let cluster = column(&rows, args.cluster.as_deref(), &CLUSTERS, &mut progress)?;
    let category = column(&rows, args.category.as_deref(), &CATEGORIES, &mut progress)?;
    refuse_repeated_rows(&rows.examples, |row| {
        let kind = category.as_ref().map_or("", |(_, texts)| &texts[row]);
        let responses = PairWay::Alone.rows(&rows.examples[row])?.map(|example| judged_text(&example, false));
        Ok([kind, &responses[0], &responses[1]].join("\n"))
    })?;
    let categories = distinct(category.iter().flat_map(|(_, texts)| texts));
    let gates = Gates::read(&args.gates, &Known::of_pairs(&categories), 1, context)?;
    if gates.wants_rows() && preferences.iter().all(Option::is_none) {
        let fix = "give them a column `preference`";
        return Err(CliError::Failed(format!(
            "{}: no row has a preference of people, and runs are compared by those; {fix}",
            rows.file
        )));
    }
    let (judge, way, sides) = open(args, &rows, context, &mut progress)?;
    let interrupt = interrupt.stops_after(sink.at_interrupt());
    let scale = &judge.settings().scale;
    let work = Work {
        judge: &judge,
        judging: args.judging.judging(),
        rows: &rows.examples,
        sides: [&sides[0], &sides[1]],
        form: &OfPair { way, scale },
        column: &args.pair_column,
        ranks: &context.ranks,
        interrupt: &interrupt,
    };
    let mut records: Vec<PairRecord> = Vec::new();
    let tally = judge_rows(&work, sink, &mut progress, |judged| records.push(PairRecord::new(way, scale, judged)))?;
    let Some(tally) = tally else { return Ok(()) };
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
    let compared: Vec<usize> = (0..measured.len()).filter(|&row| measured[row].human.is_some()).collect();
    let of_compared = numbers.as_ref().map(|numbers| compared.iter().map(|&row| numbers[row]).collect::<Vec<_>>());
    let record = gates.wants_rows().then(|| recorded(args, &rows, &measured, &compared)).transpose()?;
    let checked = gates.check(vec![Measured {
        name: format!("{} on {}", args.model.display(), rows.file),
        figures: evaluation.gated(),
        record,
        bootstrap: Bootstrap { clusters: of_compared.as_deref(), ..bootstrap },
    }])?;
    let outcome = &checked[0];
    match args.json {
        true => print_json(&outcome.with_figures(evaluation.to_json()))?,
        false => print(&(evaluation.to_text() + &outcome.to_text()))?,
    }
    if args.output.is_none() {
        progress.note("--output FILE keeps the judgement of each pair");
    }
    gates.write("pair", &checked)?;
    // After the figures, which a page that cannot be written must not cost.
    if let Some(path) = &args.report {
        let judge = args.model.display().to_string();
        let page = evaluation.page(PairText { file: rows.file.clone(), judge, way: how(way) });
        write(path, page.to_html()?.as_bytes())?;
    }
    let first = tally.first_error.as_deref();
    require_judged(tally.failed + rows.bad.len(), records.len() + rows.bad.len(), args.judging.strict, first)?;
    tally.warn(&mut progress);
    verdict(&checked)
}

/// The judge, how it judges pairs, and the rows that it judges for each pair.
fn open(
    args: &PairArgs,
    rows: &Dataset,
    context: &Context,
    progress: &mut TerminalProgress,
) -> Result<(Judge, PairWay, [Vec<Example>; 2]), CliError> {
    // Whatever prompt the row has, a response is judged beside it.
    let mut first: Vec<Example> = PairWay::Alone.rows(&rows.examples[0])?.into_iter().take(1).collect();
    first.iter_mut().for_each(|example| example.record.prompt = None);
    let files = args.judging.files(&args.model, &first, context, progress)?;
    let way = PairWay::of(&files.settings().prompt(files.tokenizer())?)?;
    progress.note(how(way));
    let sides: Vec<[Example; 2]> = rows.examples.iter().map(|example| way.rows(example)).collect::<Result<_, _>>()?;
    let sides: (Vec<Example>, Vec<Example>) = sides.into_iter().map(|[first, second]| (first, second)).unzip();
    let all: Vec<Example> = sides.0.iter().chain(&sides.1).cloned().collect();
    Ok((args.judging.upload(&files, &all, false, context, progress)?, way, [sides.0, sides.1]))
}

fn how(way: PairWay) -> &'static str {
    match way {
        PairWay::Alone => "each response is judged alone",
        PairWay::Together => "both responses are judged together, in both orders",
    }
}

/// The pairs that people have compared, as labels on a scale of B, tie and A.
fn recorded(args: &PairArgs, rows: &Dataset, measured: &[PairRow], compared: &[usize]) -> Result<RunRecord, CliError> {
    let value = |verdict: Winner| match verdict {
        Winner::First => 1.0,
        Winner::Second => 0.0,
        Winner::Tie => 0.5,
    };
    let mut names = Vec::new();
    for &row in compared {
        names.push(row_hashes::of_rows(&PairWay::Alone.rows(&rows.examples[row])?).concat());
    }
    Ok(RunRecord {
        judge: args.model.display().to_string(),
        scale: RECORDED.map(|(value, _)| value).to_vec(),
        words: Some(RECORDED.map(|(_, word)| word.to_string()).to_vec()),
        rows: names,
        human: compared.iter().filter_map(|&row| measured[row].human).map(|human| value(preferred(human))).collect(),
        scores: compared.iter().map(|&row| measured[row].verdict.map(value)).collect(),
        ..RunRecord::default()
    })
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
    PairRow {
        human,
        verdict: record.winner,
        first: record.a_wins(),
        // By position: in the second order the response that is read first is B.
        orders: record.orders.map(|[given, swapped]| (given, swapped.swapped())),
        category,
    }
}
