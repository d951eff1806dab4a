//! The page of an evaluation.

use serde_json::Value;

use super::{MeasuredJudge, Scored, Study, column, text};
use crate::cli::{CliError, EvalArgs};
use crate::data::Dataset;
use crate::eval::report::{Example, Headline, MetricGroup, MetricRow, MetricTable, Report, Residuals, Role};
use crate::eval::table::fixed;

/// Rows shown whole.
const WORST: usize = 12;

/// Columns that tell kinds of rows apart, where none is named.
const CATEGORIES: [&str; 3] = ["category", "data_source", "source"];

/// More categories than this are no chart.
const MOST_CATEGORIES: usize = 30;

/// The page; `study` has a judgement for each of `rows`.
///
/// # Errors
/// A column for `--category` that a row lacks.
pub fn page(args: &EvalArgs, rows: &Dataset, scored: &[Scored], study: &Study) -> Result<Report, CliError> {
    let table = |judges: &[MeasuredJudge]| {
        let row = |j: &MeasuredJudge| MetricRow::new(j.name, j.role, &j.agreement).with_intervals(&j.intervals);
        MetricTable::new(vec![MetricGroup { name: String::new(), rows: judges.iter().map(row).collect() }])
    };
    let judges: Vec<&MeasuredJudge> = study.judges.iter().filter(|j| j.role == Role::Judge).collect();
    let more: Vec<_> = judges.iter().map(|j| (j.name, &j.agreement, j.intervals.as_slice())).collect();
    let answered: Vec<usize> = (0..study.pairs.len()).filter(|&row| study.pairs[row].is_some()).collect();
    let residuals: Vec<f64> = study.pairs.iter().flatten().map(|(h, s)| s - h).collect();
    let lengths: Vec<usize> = answered.iter().map(|&row| study.lengths[row]).collect();
    let mut groups = vec![Residuals::by_length(&lengths, &residuals, "characters")];
    if let Some((name, texts)) = column(rows, args.category.as_deref(), &CATEGORIES)? {
        let texts: Vec<String> = answered.iter().map(|&row| texts[row].clone()).collect();
        let by = Residuals::by_category(&name, &texts, &residuals);
        if (2..=MOST_CATEGORIES).contains(&by.groups.len()) {
            groups.push(by);
        }
    }
    let first = &study.judges[0].agreement;
    let mut facts = vec![
        ("rows".to_string(), format!("{} judged, {} without a score", first.n, first.n_unparsed)),
        ("file".to_string(), rows.file.clone()),
        ("scale".to_string(), study.scale.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")),
    ];
    if let Some(model) = &args.model {
        facts.push(("judge".to_string(), model.display().to_string()));
    }
    let figure = |(name, value): &(&str, crate::eval::Measured)| {
        (name.replace('_', " "), value.as_ref().map_or_else(ToString::to_string, |x| fixed(*x, 3)))
    };
    facts.extend(study.further.iter().map(figure));
    Ok(Report {
        title: "Agreement with people".into(),
        subtitle: format!("{} judged rows of {}", first.n, rows.file),
        headlines: headlines(study),
        facts,
        scale: study.scale.clone(),
        scores: study.pairs.iter().flatten().copied().collect(),
        metrics: table(&study.judges),
        more: MetricTable::of_all(&more),
        confusion: first.table().cloned(),
        residuals: groups,
        worst: worst(rows, scored, study),
        notes: vec![
            format!("{}.", study.how()),
            "The expected score is the mean of the judge's distribution over the scores; the decoded score is the most likely one. \
             Charts show the expected score. A figure that does not exist for these rows is a dash, with the reason."
                .into(),
        ],
        ..Report::default()
    })
}

fn headlines(study: &Study) -> Vec<Headline> {
    let judge = &study.judges[0];
    let shown = |key: &str, label: &str| {
        let value = match judge.agreement.get(key) {
            Some(Ok(x)) => fixed(*x, 3).replace('-', "−"),
            _ => "–".into(),
        };
        let interval = judge.intervals.iter().find(|(name, _)| *name == key).and_then(|(_, i)| i.as_ref().ok());
        let detail = interval.map(|i| format!("{} to {}", fixed(i.low, 3), fixed(i.high, 3)).replace('-', "−"));
        Headline { label: label.into(), value, detail: detail.unwrap_or_default() }
    };
    vec![
        shown("pearson", "Pearson r"),
        shown("spearman", "Spearman ρ"),
        shown("rmse", "RMSE"),
        shown("bias", "bias, judge minus people"),
        shown("kappa_quadratic", "quadratic kappa"),
    ]
}

/// The rows farthest from people, worst first; equal ones in the file's order.
fn worst(rows: &Dataset, scored: &[Scored], study: &Study) -> Vec<Example> {
    let error = |row: usize| study.pairs[row].map(|(h, s)| (s - h).abs());
    let mut order: Vec<(usize, f64)> = (0..scored.len()).filter_map(|row| Some((row, error(row)?))).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let show = |(row, _): &(usize, f64)| {
        let (example, judged) = (&rows.examples[*row], &scored[*row]);
        Some(Example {
            prompt: format!("{}\n\n{}", example.row.place(), read(example)),
            chain: judged.feedback.clone(),
            human: example.record.score,
            expected: judged.expected?,
            decoded: judged.decoded.map_or("–".into(), |d| d.to_string()),
            probabilities: judged.probabilities.clone(),
        })
    };
    order.iter().take(WORST).filter_map(show).collect()
}

/// What was judged: the prompt, or the parts of a grading, or every text of the row.
fn read(example: &crate::data::Example) -> String {
    // A `prompt` with a response beside it is one of the parts.
    if let (true, Some(prompt)) = (example.record.prompt.is_some(), text(example, "prompt")) {
        return prompt.to_string();
    }
    let fields = example.row.fields.iter().filter(|(name, _)| *name != "judge");
    let shown = |(name, value): (&String, &Value)| Some(format!("{name}: {}", value.as_str()?));
    fields.filter_map(shown).collect::<Vec<_>>().join("\n\n")
}
