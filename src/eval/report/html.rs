//! What the template of a report shows: pictures first, then single rows, then tables.

use super::charts;
use super::errors;
use super::template::Template;
use super::{Curve, Figure, JudgedExample, MetricGroup, MetricRow, MetricTable, Report, Role};
use crate::charts::Chart;
use crate::eval::table::fixed;
use crate::eval::{EvalError, Grid};
use minijinja::{Value, context};
use std::sync::LazyLock;

static PAGE: LazyLock<Template> = LazyLock::new(|| Template::new("report.html", include_str!("templates/report.html")));

/// The whole document.
pub fn page(report: &Report) -> Result<String, EvalError> {
    let headline = |h: &super::Headline| context! { label => &h.label, value => &h.value, detail => &h.detail };
    let drawn = [
        ("Figures", report.charts.clone()),
        ("Scores", score_charts(report)),
        ("Where they differ", error_charts(report)),
        ("Learning", learning(&report.curves)),
    ];
    let examples = [("Worst disagreements", &report.worst), ("Examples", &report.examples)];
    let more = if report.metrics.groups.is_empty() { "All figures" } else { "All other metrics" };
    let tables = [("Agreement with people", &report.metrics), (more, &report.more)];
    PAGE.render(context! {
        title => &report.title,
        subtitle => &report.subtitle,
        headlines => report.headlines.iter().map(headline).collect::<Vec<_>>(),
        charts => drawn,
        examples => examples.map(|(name, rows)| (name, rows.iter().map(example).collect::<Vec<_>>())),
        tables => tables.map(|(name, content)| (name, table(content))),
        facts => &report.facts,
        notes => &report.notes,
    })
}

fn table(table: &MetricTable) -> Value {
    let group = |g: &MetricGroup| {
        let rows = g.rows.iter().map(|row| metric_row(row, table.columns.len())).collect::<Vec<_>>();
        context! { name => &g.name, rows }
    };
    let reasons = reasons(table).into_iter().map(|(reason, places)| (reason, places.join(", ")));
    context! {
        columns => &table.columns,
        groups => table.groups.iter().map(group).collect::<Vec<_>>(),
        rows => table.groups.iter().map(|g| g.rows.len()).sum::<usize>(),
        reasons => reasons.collect::<Vec<_>>(),
    }
}

fn metric_row(row: &MetricRow, columns: usize) -> Value {
    let class = match row.role {
        Role::Judge => "of-judge",
        Role::Baseline => "of-baseline",
        Role::Ceiling => "of-ceiling",
    };
    let cells = (0..columns).map(|column| row.figures.get(column).map_or(context! { value => "" }, cell));
    context! { class, name => &row.name, cells => cells.collect::<Vec<_>>() }
}

/// Three decimals and a real minus sign.
fn number(x: f64) -> String {
    fixed(x, 3).replace('-', "−")
}

fn cell(figure: &Figure) -> Value {
    match &figure.value {
        Ok(value) => {
            let interval = figure.interval.map(|(low, high)| format!("{} to {}", number(low), number(high)));
            context! { value => number(*value), interval }
        }
        Err(reason) => context! { reason => reason.to_string() },
    }
}

/// Each reason for a "–" with the cells it explains. The groups of a table mostly lack the same figures: named once.
fn reasons(table: &MetricTable) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let rows = table.groups.iter().flat_map(|g| &g.rows);
    let missing = |row: &MetricRow| -> Vec<(String, String)> {
        let figures = row.figures.iter().zip(&table.columns);
        figures
            .filter_map(|(f, column)| f.value.as_ref().err().map(|e| (e.to_string(), format!("{column} of {}", row.name))))
            .collect()
    };
    for (reason, place) in rows.flat_map(missing) {
        match found.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, places)) if places.contains(&place) => {}
            Some((_, places)) => places.push(place),
            None => found.push((reason, vec![place])),
        }
    }
    found
}

fn score_charts(report: &Report) -> Vec<Chart> {
    let finite = |scores: &[(f64, f64)]| -> Vec<(f64, f64)> {
        scores.iter().copied().filter(|(h, s)| h.is_finite() && s.is_finite()).collect()
    };
    let (after, before) = (finite(&report.scores), finite(&report.before));
    let mut all: Vec<Chart> = charts::ladder(&report.metrics).into_iter().collect();
    let Ok(grid) = Grid::new(&report.scale) else { return all };
    if after.is_empty() {
        return all;
    }
    all.push(charts::reliability_chart(&grid, &after));
    let mut histogram = charts::score_histogram(&grid, &after);
    if !before.is_empty() {
        let mut earlier = charts::score_histogram(&grid, &before);
        earlier.title += ", before";
        histogram.title += ", after";
        all.push(earlier);
    }
    all.push(histogram);
    all
}

/// The confusion of people's and judge's labels, and residuals.
fn error_charts(report: &Report) -> Vec<Chart> {
    let confusion = report.confusion.iter().filter(|table| table.scale().len() <= errors::MOST_LABELS).map(errors::confusion);
    let residuals = report.residuals.iter().filter(|r| !r.groups.is_empty()).map(errors::residuals);
    confusion.chain(residuals).collect()
}

fn learning(curves: &[Curve]) -> Vec<Chart> {
    let drawn: Vec<&Curve> = curves.iter().filter(|c| !c.points.is_empty()).collect();
    let kinds = distinct(drawn.iter().map(|c| c.kind.as_str()));
    let names = distinct(drawn.iter().map(|c| c.name.as_str()));
    let of_kind = |kind: &str| {
        let same: Vec<&Curve> = drawn.iter().copied().filter(|c| c.kind == kind).collect();
        charts::learning(kind, &same, &names)
    };
    kinds.iter().map(|kind| of_kind(kind)).collect()
}

fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for text in texts {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

fn example(example: &JudgedExample) -> Value {
    let human = example.human.map_or("–".into(), |h| fixed(h, 2));
    let mut chips = vec![
        ("people", "people", human),
        ("judge", "expected", fixed(example.expected, 2)),
        ("", "decoded", example.decoded.clone()),
    ];
    if let Some(human) = example.human {
        let error = example.expected - human;
        let sign = if error >= 0.005 { "+" } else { "" };
        chips.push(("", "error", format!("{sign}{}", fixed(error, 2).replace('-', "−"))));
    }
    context! { prompt => &example.prompt, chain => example.chain.trim_end(), chips, chart => charts::distribution(example) }
}
