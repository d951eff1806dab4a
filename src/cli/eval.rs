//! `jurist eval`: how well a judge agrees with people, with the floors beside it.

use serde_json::{Map, Value, json};

use super::outcome::require_judged;
use super::places::Places;
use super::scoring::{Sink, Tally, Work, judge_rows};
use super::{CliError, Context, EvalArgs, Interrupt, print};
use crate::data::{Dataset, Example, Labels};
use crate::eval::correlation::length_bias;
use crate::eval::intervals::{Bootstrap, NamedInterval, to_json};
use crate::eval::report::Role;
use crate::eval::table::{Cell, Table, fixed};
use crate::eval::{Agreement, Grid, Measured, Sample, calibration, floors};
use crate::files::is_unfinished;
use crate::judge::{Prediction, Scale};
use crate::progress::Progress;

mod report;

/// Judge's numbers for one row.
struct Scored {
    expected: Option<f64>,
    decoded: Option<f64>,
    probabilities: Vec<(String, f64)>,
    mass: Option<f64>,
    feedback: String,
}

impl Scored {
    /// The median of the distribution over scores; none without one.
    fn median(&self, scale: &Scale) -> Option<f64> {
        let of = |text: &String| self.probabilities.iter().find(|(t, _)| t == text).map(|(_, p)| *p);
        let probs: Option<Vec<f64>> = scale.texts().iter().map(of).collect();
        Some(Prediction::from_probs(scale, &probs?).ok()?.median)
    }
}

/// Measures scored rows, or scores and measures.
pub fn run(args: &EvalArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let interrupt = Interrupt::watch()?;
    Places::default()
        .reads(args.scored.as_deref(), "the scored rows")
        .reads(args.input.as_deref(), "--input")
        .reads_judge(args.model.as_deref(), &args.judging, context)
        .grows(args.output.as_deref(), "--output")
        .writes(args.report.as_deref(), "--report")
        .check()?;
    let (mut swap, mut tally) = (None, Tally::default());
    let (rows, scored, scale) = match (&args.scored, &args.model, &args.input) {
        (Some(file), _, _) => {
            if is_unfinished(file) {
                let line = "its last rows are missing; jurist score --resume goes on with them";
                progress.warn(&format!("{}: {line}", file.display()));
            }
            let rows = args.judging.rows(file, Labels::Required, &mut progress)?;
            let scored = rows
                .examples
                .iter()
                .map(|e| {
                    read_judge(&e.row.fields, &args.judge_column).ok_or_else(|| {
                        let (place, column) = (e.row.place(), &args.judge_column);
                        let fix = "make it with jurist score, or name its column with --judge-column";
                        CliError::Failed(format!("{place}: the row has no object `{column}`; {fix}"))
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            let scale = scale_of(args.judging.judge.scale.as_deref(), &scored)?;
            (rows, scored, scale)
        }
        (None, Some(model), Some(input)) => {
            let sink = match &args.output {
                None => Sink::None,
                Some(output) => Sink::open(output, args.resume)?,
            };
            let rows = args.judging.rows(input, Labels::Required, &mut progress)?;
            let judge = args.judging.open(model, &rows, context, &mut progress)?;
            let interrupt = interrupt.stops_after(sink.at_interrupt());
            let work = Work {
                judge: &judge,
                judging: args.judging.judging(),
                rows: &rows.examples,
                column: &args.judge_column,
                interrupt: &interrupt,
            };
            let mut judgements = Vec::new();
            tally = judge_rows(&work, sink, &mut progress, |judgement| judgements.push(judgement))?;
            swap = args.judging.chain_swap(&judge, (&rows, &judgements), &interrupt)?;
            let scored = judgements
                .iter()
                .filter_map(|judgement| {
                    let object = json!({ "judge": serde_json::to_value(judgement).unwrap_or_default() });
                    object.as_object().and_then(|fields| read_judge(fields, "judge"))
                })
                .collect();
            (rows, scored, judge.settings().scale.clone())
        }
        _ => return Err(CliError::Failed("give a scored file, or --model with --input".into())),
    };
    let human: Vec<f64> = rows.examples.iter().filter_map(|e| e.record.score).collect();
    if let Some((e, label)) = rows.examples.iter().zip(&human).find(|(_, h)| !(scale.min()..=scale.max()).contains(*h)) {
        let (min, max) = (scale.min(), scale.max());
        return Err(CliError::Failed(format!(
            "{}: the label {label} is outside the scale {min} to {max}; give the right --scale or --label-column",
            e.row.place()
        )));
    }
    let mut study = Study::measure(args, &rows, &human, &scored, &scale)?;
    if let Some(swap) = swap {
        study.further.extend([
            ("chain_swap_moved", Ok(swap.moved)),
            ("chain_swap_follows_chain", swap.follows_chain),
            ("chain_swap_follows_prompt", swap.follows_prompt),
        ]);
    }
    match args.json {
        true => print(&(serde_json::to_string_pretty(&study.to_json()).unwrap_or_default() + "\n"))?,
        false => print(&study.to_text())?,
    }
    // After the figures, which a page that cannot be written must not cost.
    if let Some(path) = &args.report {
        let page = report::page(args, &rows, &scored, &study)?.to_html();
        crate::files::write(path, page.as_bytes())?;
    }
    let failed = scored.iter().filter(|s| s.expected.is_none()).count();
    let first = tally.first_error.as_deref();
    require_judged(failed + rows.bad.len(), scored.len() + rows.bad.len(), args.judging.strict, first)?;
    tally.warn(&mut progress);
    Ok(())
}

/// The judgement in a column of a row.
fn read_judge(fields: &Map<String, Value>, column: &str) -> Option<Scored> {
    let judge = fields.get(column)?.as_object()?;
    let number = |key: &str| judge.get(key).and_then(Value::as_f64);
    let probabilities = judge
        .get("probs")
        .and_then(Value::as_object)
        .map(|probs| probs.iter().filter_map(|(text, p)| Some((text.clone(), p.as_f64()?))).collect());
    Some(Scored {
        expected: number("expected"),
        decoded: number("decoded"),
        mass: number("mass"),
        probabilities: probabilities.unwrap_or_default(),
        feedback: judge.get("feedback").and_then(Value::as_str).unwrap_or_default().to_string(),
    })
}

/// The scale given, or the one that the scored rows' texts spell.
fn scale_of(given: Option<&str>, scored: &[Scored]) -> Result<Scale, CliError> {
    if let Some(spec) = given {
        return Ok(spec.parse()?);
    }
    let texts = scored.iter().map(|s| &s.probabilities).find(|p| !p.is_empty());
    let texts: Vec<&str> = texts.map(|p| p.iter().map(|(t, _)| t.as_str()).collect()).unwrap_or_default();
    texts
        .join(",")
        .parse()
        .map_err(|e| CliError::Failed(format!("the scale cannot be told from the rows ({e}); give --scale as in training")))
}

/// One row of the table: a judge or a floor.
struct MeasuredJudge {
    name: &'static str,
    role: Role,
    agreement: Agreement,
    intervals: Vec<NamedInterval>,
}

/// All figures of one evaluation.
struct Study {
    judges: Vec<MeasuredJudge>,
    /// Of the expected score alone: probabilities, score mass, length bias.
    further: Vec<(&'static str, Measured)>,
    /// Each row's human and expected score, where there is one.
    pairs: Vec<Option<(f64, f64)>>,
    lengths: Vec<usize>,
    scale: Vec<f64>,
    /// What the intervals were drawn of.
    bootstrap: Value,
    cluster: Option<String>,
}

impl Study {
    fn measure(args: &EvalArgs, rows: &Dataset, human: &[f64], scored: &[Scored], scale: &Scale) -> Result<Self, CliError> {
        let mut values = scale.values().to_vec();
        values.sort_by(f64::total_cmp);
        let grid = Grid::new(&values)?;
        let cluster = column(rows, args.cluster.as_deref(), &CLUSTERS)?;
        let numbers = cluster.as_ref().map(|(_, texts)| numbered(texts));
        let bootstrap =
            Bootstrap { resamples: args.resamples, seed: args.judging.seed, clusters: numbers.as_deref(), ..Default::default() };
        let mut judges = Vec::new();
        let mut put = |name: &'static str, role: Role, judge: Vec<Option<f64>>| -> Result<(), CliError> {
            let rows: Vec<usize> = (0..human.len()).filter(|&row| judge[row].is_some()).collect();
            let people: Vec<f64> = rows.iter().map(|&row| human[row]).collect();
            let scores: Vec<f64> = judge.iter().flatten().copied().collect();
            let clusters = numbers.as_ref().map(|numbers| rows.iter().map(|&row| numbers[row]).collect::<Vec<_>>());
            let intervals =
                Bootstrap { clusters: clusters.as_deref(), ..bootstrap }.all(&Sample::new(&people, &scores, Some(&grid))?)?;
            judges.push(MeasuredJudge { name, role, agreement: Agreement::measure(human, &judge, &grid)?, intervals });
            Ok(())
        };
        put("expected score", Role::Judge, scored.iter().map(|s| s.expected).collect())?;
        put("decoded score", Role::Judge, scored.iter().map(|s| s.decoded).collect())?;
        // The decision that is best by absolute error.
        let medians: Vec<Option<f64>> = scored.iter().map(|s| s.median(scale)).collect();
        if medians.iter().any(Option::is_some) {
            put("median score", Role::Judge, medians)?;
        }
        // The floors answer for the rows that the judge answered for: only so can the figures be compared.
        let answered = |values: Vec<f64>| values.into_iter().zip(scored).map(|(v, s)| s.expected.map(|_| v)).collect::<Vec<_>>();
        if let Ok(constant) = floors::constant(human, human.len()) {
            put("constant (their mean)", Role::Floor, answered(constant))?;
        }
        let lengths: Vec<usize> = rows.examples.iter().map(length).collect();
        if let Ok(line) = floors::fit_length(&lengths, human)? {
            put("length (fitted here)", Role::Floor, answered(line.of_lengths(&lengths)))?;
        }
        let overlaps: Option<Vec<f64>> = rows.examples.iter().map(overlap).collect();
        if let Some(overlaps) = overlaps
            && let Ok(line) = floors::fit_overlap(&overlaps, human)?
        {
            put("word overlap (fitted here)", Role::Floor, answered(line.of(&overlaps)))?;
        }
        let pairs: Vec<Option<(f64, f64)>> = human.iter().zip(scored).map(|(h, s)| Some((*h, s.expected?))).collect();
        Ok(Study {
            judges,
            further: further(&pairs, human, scored, &lengths, scale, &grid)?,
            pairs,
            lengths,
            scale: values,
            bootstrap: bootstrap.to_json(human.len()),
            cluster: cluster.map(|(name, _)| name),
        })
    }

    /// An object a judge and floor, with intervals; what only the distribution has stands with the expected score.
    fn to_json(&self) -> Value {
        let mut object: Map<String, Value> = Map::new();
        for judge in &self.judges {
            let mut figures = judge.agreement.to_json();
            figures["intervals"] = to_json(&judge.intervals);
            object.insert(judge.name.into(), figures);
        }
        let first = &mut object["expected score"];
        for (name, value) in &self.further {
            first[*name] = json!(value.as_ref().ok());
            if let Err(reason) = value {
                first["undefined"][*name] = json!(reason.to_string());
            }
        }
        object.insert("bootstrap".into(), self.bootstrap.clone());
        Value::Object(object)
    }

    fn to_text(&self) -> String {
        let mut table = Table::new(["agreement with people"].into_iter().chain(self.judges.iter().map(|j| j.name)));
        for name in SHOWN {
            let cell = |judge: &MeasuredJudge| {
                let interval = judge.intervals.iter().find(|(known, _)| *known == name).and_then(|(_, i)| i.as_ref().ok());
                match (judge.role, interval) {
                    (Role::Judge, Some(i)) => {
                        Cell::from(format!("{} [{}, {}]", fixed(i.estimate, 3), fixed(i.low, 3), fixed(i.high, 3)))
                    }
                    _ => judge.agreement.get(name).map_or(Cell::from(""), |value| Cell::number(value, 3)),
                }
            };
            table.row([Cell::from(name)].into_iter().chain(self.judges.iter().map(cell)));
        }
        for (name, value) in &self.further {
            table.row([Cell::from(*name), Cell::number(value, 3)]);
        }
        let first = &self.judges[0].agreement;
        format!("{table}n {}, skipped {}\n{}\n", first.n, first.n_unparsed, self.how())
    }

    /// How the intervals were made, in a sentence.
    fn how(&self) -> String {
        let number = |key: &str| self.bootstrap[key].as_u64().unwrap_or_default();
        let unit = match &self.cluster {
            Some(column) => format!("the {} groups of `{column}`", number("clusters")),
            None => "rows".into(),
        };
        format!("95 % intervals: bootstrap over {unit}, {} resamples; floors are fitted on these rows", number("resamples"))
    }
}

/// The metrics of the terminal's table; JSON has all.
const SHOWN: [&str; 15] = [
    "pearson",
    "spearman",
    "kendall_tau_b",
    "rmse",
    "mae",
    "bias",
    "pairwise_accuracy",
    "exact_agreement",
    "adjacent_agreement",
    "kappa_quadratic",
    "krippendorff_interval",
    "ccc",
    "wasserstein_1",
    "range_use",
    "modal_share",
];

/// Columns that group rows, where none is named.
const CLUSTERS: [&str; 3] = ["prompt_id", "rubric_id", "cluster"];

/// A column's name and its texts, where every row has it: the one named (which must be there), or the first that is.
fn column(rows: &Dataset, named: Option<&str>, usual: &[&str]) -> Result<Option<(String, Vec<String>)>, CliError> {
    let texts = |name: &str| -> Result<Vec<String>, String> {
        let text = |e: &crate::data::Example| match e.row.fields.get(name) {
            None | Some(Value::Null) => Err(e.row.place()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value) => Ok(value.to_string()),
        };
        rows.examples.iter().map(text).collect()
    };
    match named {
        Some(name) => match texts(name) {
            Ok(texts) => Ok(Some((name.into(), texts))),
            Err(place) => Err(CliError::Failed(format!("{place}: the row has no column `{name}`; every row needs it"))),
        },
        None => Ok(usual.iter().find_map(|name| Some((name.to_string(), texts(name).ok()?)))),
    }
}

fn numbered(texts: &[String]) -> Vec<usize> {
    let mut known: Vec<&String> = texts.iter().collect();
    known.sort_unstable();
    known.dedup();
    texts.iter().map(|text| known.partition_point(|k| *k < text)).collect()
}

/// What only a distribution has, and the length bias, of the expected score.
fn further(
    pairs: &[Option<(f64, f64)>],
    human: &[f64],
    scored: &[Scored],
    lengths: &[usize],
    scale: &Scale,
    grid: &Grid,
) -> Result<Vec<(&'static str, Measured)>, CliError> {
    let distribution = |s: &Scored| -> Option<Vec<f64>> {
        let found: Option<Vec<f64>> =
            scale.texts().iter().map(|text| Some(s.probabilities.iter().find(|(t, _)| t == text)?.1)).collect();
        let (found, sum) = (found.as_ref()?, found.iter().flatten().sum::<f64>());
        (sum > 0.0).then(|| scale.order().iter().map(|&k| found[k] / sum).collect())
    };
    let (people, probabilities): (Vec<f64>, Vec<Vec<f64>>) =
        human.iter().zip(scored).filter_map(|(h, s)| Some((*h, distribution(s)?))).unzip();
    let mut found = calibration::named(&probabilities, &people, grid)?;
    let mass = calibration::score_mass(&scored.iter().filter_map(|s| s.mass).collect::<Vec<_>>())?;
    found.extend([("score_mass_mean", mass.mean), ("score_mass_p5", mass.p5)]);
    let answered: Vec<(f64, f64, f64)> =
        pairs.iter().zip(lengths).filter_map(|(pair, l)| pair.map(|(h, s)| (h, s, *l as f64))).collect();
    let of = |f: fn(&(f64, f64, f64)) -> f64| answered.iter().map(f).collect::<Vec<f64>>();
    found.push(("length_bias", length_bias(&of(|r| r.0), &of(|r| r.1), &of(|r| r.2))));
    Ok(found)
}

fn text<'a>(example: &'a Example, key: &str) -> Option<&'a str> {
    example.row.fields.get(key).and_then(Value::as_str)
}

/// Characters of the response, or of all that the judge reads.
fn length(example: &Example) -> usize {
    let characters = |text: &str| text.chars().count();
    text(example, "response")
        .or_else(|| text(example, "prompt"))
        .map(characters)
        .unwrap_or_else(|| example.row.fields.values().filter_map(Value::as_str).map(characters).sum())
}

/// Shared words of the two texts of a row: the response with its reference or else its instruction, or two sentences.
fn overlap(example: &Example) -> Option<f64> {
    let first = |keys: &[&str]| keys.iter().find_map(|key| text(example, key));
    let other = first(&["reference", "reference_answer", "sentence2", "instruction"])?;
    Some(floors::word_overlap(first(&["response", "sentence1"])?, other))
}
