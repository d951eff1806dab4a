//! `jurist eval`: how well a judge agrees with people, with the floors beside it.

use serde_json::{Map, Value, json};

use super::{CliError, Context, EvalArgs, print};
use crate::data::{Dataset, Labels};
use crate::eval::report::{Example, MetricGroup, MetricRow, MetricTable, Report, Role};
use crate::eval::{Agreement, Grid, floors};
use crate::judge::Scale;

/// Judge's numbers for one row.
struct Scored {
    expected: Option<f64>,
    decoded: Option<f64>,
    probabilities: Vec<(String, f64)>,
    feedback: String,
}

/// Measures scored rows, or scores and measures.
pub fn run(args: &EvalArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let (rows, scored, scale) = match (&args.scored, &args.model, &args.input) {
        (Some(file), _, _) => {
            let rows = args.judging.rows(file, Labels::Required, &mut progress)?;
            let scored = rows
                .examples
                .iter()
                .map(|e| {
                    read_judge(&e.row.fields).ok_or_else(|| {
                        CliError::Failed(format!("{}: the row has no object `judge`; make it with jurist score", e.row.place()))
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            let scale = scale_of(args.judging.scale.as_deref(), &scored)?;
            (rows, scored, scale)
        }
        (None, Some(model), Some(input)) => {
            let rows = args.judging.rows(input, Labels::Required, &mut progress)?;
            let (judge, judged) = args.judging.judge(model, &rows, context, &mut progress)?;
            let scored = judged
                .iter()
                .filter_map(|j| {
                    let object = json!({ "judge": serde_json::to_value(&j.judgement).unwrap_or_default() });
                    object.as_object().and_then(read_judge)
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
    let measured = measure(&rows, &human, &scored, &scale)?;
    if args.json {
        let object: Map<String, Value> = measured.iter().map(|(name, _, a)| (name.to_string(), a.to_json())).collect();
        print(&(serde_json::to_string_pretty(&object).unwrap_or_default() + "\n"))?;
    } else {
        let (n, skipped) = measured.first().map_or((0, 0), |(_, _, a)| (a.n, a.n_unparsed));
        let tables: Vec<String> = table(&measured).to_text().iter().map(|t| t.to_string()).collect();
        print(&format!("{}\nn {n}, skipped {skipped}\n", tables.join("\n")))?;
    }
    // After the figures, which a page that cannot be written must not cost.
    if let Some(path) = &args.report {
        let page = report(&rows, &human, &scored, &scale, &measured).to_html();
        std::fs::write(path, page).map_err(|source| CliError::OutputFile { path: path.clone(), source })?;
    }
    Ok(())
}

/// The object `judge` of a row.
fn read_judge(fields: &Map<String, Value>) -> Option<Scored> {
    let judge = fields.get("judge")?.as_object()?;
    let number = |key: &str| judge.get(key).and_then(Value::as_f64);
    let probabilities = judge
        .get("probs")
        .and_then(Value::as_object)
        .map(|probs| probs.iter().filter_map(|(text, p)| Some((text.clone(), p.as_f64()?))).collect());
    Some(Scored {
        expected: number("expected"),
        decoded: number("decoded"),
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

type MeasuredRows = Vec<(&'static str, Role, Agreement)>;

fn measure(rows: &Dataset, human: &[f64], scored: &[Scored], scale: &Scale) -> Result<MeasuredRows, CliError> {
    let mut values = scale.values().to_vec();
    values.sort_by(f64::total_cmp);
    let grid = Grid::new(&values)?;
    let of = |judge: Vec<Option<f64>>| Agreement::measure(human, &judge, &grid);
    // The floors answer for the rows that the judge answered for: only so can the figures be compared.
    let floor = |values: Vec<f64>| of(values.into_iter().zip(scored).map(|(v, s)| s.expected.map(|_| v)).collect());
    let mut measured = vec![
        ("expected score", Role::Judge, of(scored.iter().map(|s| s.expected).collect())?),
        ("decoded score", Role::Judge, of(scored.iter().map(|s| s.decoded).collect())?),
    ];
    if let Ok(constant) = floors::constant(human, human.len()) {
        measured.push(("constant (their mean)", Role::Floor, floor(constant)?));
    }
    let lengths: Vec<usize> = rows.examples.iter().map(length).collect();
    if let Ok(line) = floors::fit_length(&lengths, human)? {
        measured.push(("length (fitted here)", Role::Floor, floor(line.of_lengths(&lengths))?));
    }
    Ok(measured)
}

/// Characters of the response, or of all that the judge reads.
fn length(example: &crate::data::Example) -> usize {
    let text = |key: &str| example.row.fields.get(key).and_then(Value::as_str).map(|t| t.chars().count());
    text("response")
        .or_else(|| text("prompt"))
        .unwrap_or_else(|| example.row.fields.values().filter_map(Value::as_str).map(|t| t.chars().count()).sum())
}

fn table(measured: &MeasuredRows) -> MetricTable {
    let rows = measured.iter().map(|(name, role, agreement)| MetricRow::new(name, *role, agreement)).collect();
    MetricTable::new(vec![MetricGroup { name: "agreement with people".into(), rows }])
}

fn report(rows: &Dataset, human: &[f64], scored: &[Scored], scale: &Scale, measured: &MeasuredRows) -> Report {
    let mut values = scale.values().to_vec();
    values.sort_by(f64::total_cmp);
    let pairs = human.iter().zip(scored).filter_map(|(h, s)| Some((*h, s.expected?))).collect();
    let examples = rows.examples.iter().zip(scored).take(12).filter_map(|(example, s)| {
        let text = |key: &str| example.row.fields.get(key).and_then(Value::as_str).map(str::to_string);
        Some(Example {
            prompt: text("prompt").or_else(|| text("response")).unwrap_or_default(),
            chain: s.feedback.clone(),
            human: example.record.score,
            expected: s.expected?,
            decoded: s.decoded?.to_string(),
            probabilities: s.probabilities.clone(),
        })
    });
    Report {
        title: "Agreement with people".into(),
        subtitle: format!("{} judged rows of {}", human.len(), rows.file),
        scale: values,
        scores: pairs,
        metrics: table(measured),
        examples: examples.collect(),
        ..Report::default()
    }
}
