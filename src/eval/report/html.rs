//! The page: sections, tables, figures. Every text from outside passes `escape`.

use super::charts::{self, Chart};
use super::errors;
use super::{Curve, Example, Figure, MetricGroup, MetricRow, MetricTable, Report, Role};
use crate::eval::Grid;
use crate::eval::table::fixed;
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// A metric table with more rows than this is about as tall as three charts.
const LONG_TABLE: usize = 12;

/// `text` without characters that mean something in HTML; control characters become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// The whole document.
pub fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let sections = [
        header(report),
        agreement(report),
        errors(report),
        learning(&report.curves),
        examples("Worst disagreements", &report.worst),
        examples("Examples", &report.examples),
        more(&report.more),
        run(report),
    ]
    .concat();
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{sections}</main>
</body>
</html>
"#
    )
}

fn header(report: &Report) -> String {
    let mut html = format!(
        "<header>\n<p class=\"eyebrow\">jurist · report of a judge</p>\n<h1>{}</h1>\n<p class=\"subtitle\">{}</p>\n",
        escape(&report.title),
        escape(&report.subtitle)
    );
    if !report.headlines.is_empty() {
        html.push_str("<ul class=\"headlines\">\n");
        for h in &report.headlines {
            let _ = writeln!(
                html,
                "<li><span class=\"label\">{}</span><strong>{}</strong><span class=\"detail\">{}</span></li>",
                escape(&h.label),
                escape(&h.value),
                escape(&h.detail)
            );
        }
        html.push_str("</ul>\n");
    }
    html + "</header>\n"
}

/// Columns from which on a table gets the page's whole width.
const WIDE_TABLE: usize = 5;

/// Metrics and score charts: a long table has all charts beside it, a short one only the ladder.
fn agreement(report: &Report) -> String {
    let table = &report.metrics;
    let charts = score_charts(report);
    if table.groups.is_empty() {
        return if charts.is_empty() { String::new() } else { section("Scores", &figures(&charts)) };
    }
    let rows: usize = table.groups.iter().map(|g| g.rows.len()).sum();
    // A wide table needs the whole page.
    if table.columns.len() > WIDE_TABLE {
        let all: Vec<Chart> = charts::ladder(table).into_iter().chain(charts).collect();
        return section("Agreement with people", &metric_table(table)) + &section("Scores", &figures(&all));
    }
    let (beside, below) = if rows > LONG_TABLE { (charts, Vec::new()) } else { (Vec::new(), charts) };
    let column: String = charts::ladder(table).iter().chain(&beside).map(figure).collect();
    let content = format!("<div class=\"beside\">\n{}<div class=\"stack\">\n{column}</div>\n</div>\n", metric_table(table));
    let scores = if below.is_empty() { String::new() } else { section("Scores", &figures(&below)) };
    section("Agreement with people", &content) + &scores
}

fn metric_table(table: &MetricTable) -> String {
    let mut html = String::from("<div class=\"card\"><div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th></th>");
    for column in &table.columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(column));
    }
    html.push_str("</tr></thead>\n");
    for group in &table.groups {
        html.push_str(&group_body(group, table.columns.len()));
    }
    html.push_str("</table></div>\n");
    for (reason, places) in reasons(table) {
        let _ = writeln!(html, "<p class=\"reason\">– {}: {}</p>", escape(&reason), escape(&places.join(", ")));
    }
    html + "</div>\n"
}

fn group_body(group: &MetricGroup, columns: usize) -> String {
    let mut html = String::from("<tbody>\n");
    if !group.name.is_empty() {
        let name = escape(&group.name);
        let _ = writeln!(html, "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{}\">{name}</th></tr>", columns + 1);
    }
    for row in &group.rows {
        let class = match row.role {
            Role::Judge => "of-judge",
            Role::Floor => "of-floor",
            Role::Ceiling => "of-ceiling",
        };
        let _ = write!(html, "<tr class=\"{class}\"><th scope=\"row\">{}</th>", escape(&row.name));
        for column in 0..columns {
            html.push_str(&row.figures.get(column).map_or("<td></td>".to_string(), cell));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody>\n"
}

/// Three decimals and a real minus sign.
fn number(x: f64) -> String {
    fixed(x, 3).replace('-', "−")
}

fn cell(figure: &Figure) -> String {
    match (&figure.value, figure.interval) {
        (Ok(value), Some((low, high))) => {
            let interval = format!("{} to {}", number(low), number(high));
            format!("<td>{}<small>{interval}</small></td>", number(*value))
        }
        (Ok(value), None) => format!("<td>{}</td>", number(*value)),
        (Err(reason), _) => format!("<td title=\"{}\">–</td>", escape(&reason.to_string())),
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
    let Ok(grid) = Grid::new(&report.scale) else { return Vec::new() };
    if after.is_empty() {
        return Vec::new();
    }
    let mut histogram = charts::score_histogram(&grid, &after);
    let mut all = Vec::new();
    if !before.is_empty() {
        let mut earlier = charts::score_histogram(&grid, &before);
        earlier.title += ", before";
        histogram.title += ", after";
        all.push(earlier);
    }
    all.push(histogram);
    all.push(charts::reliability_chart(&grid, &after));
    all
}

/// Where people and judge differ: the confusion of their labels, and residuals.
fn errors(report: &Report) -> String {
    let confusion = report.confusion.iter().filter(|table| table.scale().len() <= errors::MOST_LABELS).map(errors::confusion);
    let residuals = report.residuals.iter().filter(|r| !r.groups.is_empty()).map(errors::residuals);
    let charts: Vec<Chart> = confusion.chain(residuals).collect();
    if charts.is_empty() { String::new() } else { section("Where they differ", &figures(&charts)) }
}

/// The long table of all other metrics, folded away.
fn more(table: &MetricTable) -> String {
    if table.groups.is_empty() {
        return String::new();
    }
    let content = format!("<details><summary>Show</summary>\n{}</details>\n", metric_table(table));
    section("All other metrics", &content)
}

fn learning(curves: &[Curve]) -> String {
    let drawn: Vec<&Curve> = curves.iter().filter(|c| !c.points.is_empty()).collect();
    let kinds = distinct(drawn.iter().map(|c| c.kind.as_str()));
    let names = distinct(drawn.iter().map(|c| c.name.as_str()));
    if kinds.is_empty() {
        return String::new();
    }
    let of_kind = |kind: &&str| {
        let same: Vec<&Curve> = drawn.iter().copied().filter(|c| c.kind == *kind).collect();
        charts::learning(kind, &same, &names)
    };
    section("Learning", &figures(&kinds.iter().map(of_kind).collect::<Vec<_>>()))
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

fn examples(title: &str, examples: &[Example]) -> String {
    if examples.is_empty() {
        return String::new();
    }
    let key = "<p class=\"key\"><span class=\"swatch people\"></span>people <span class=\"swatch judge\"></span>judge: \
               bars are the probability of each score in %, the strongest is the decoded score; triangles mark the human \
               and the expected score.</p>\n";
    let cards: String = examples.iter().map(example).collect();
    section(title, &format!("{key}<div class=\"examples\">\n{cards}</div>\n"))
}

fn example(example: &Example) -> String {
    let chart = charts::distribution(example);
    let mut html = String::from("<article class=\"card example\">\n<div class=\"words\">\n");
    let _ = writeln!(html, "<h3>Prompt</h3>\n<div class=\"text\" tabindex=\"0\">{}</div>", escape(&example.prompt));
    if !example.chain.trim().is_empty() {
        let chain = escape(&example.chain);
        let _ = writeln!(html, "<h3>The judge's reasoning</h3>\n<div class=\"text chain\" tabindex=\"0\">{chain}</div>");
    }
    html.push_str("</div>\n<div class=\"verdict\">\n<dl class=\"chips\">");
    let mut chip = |class: &str, name: &str, value: &str| {
        let _ = write!(html, "<div class=\"{class}\"><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    };
    chip("people", "people", &example.human.map_or("–".into(), |h| fixed(h, 2)));
    chip("judge", "expected", &fixed(example.expected, 2));
    chip("", "decoded", &example.decoded);
    if let Some(human) = example.human {
        let error = example.expected - human;
        chip("", "error", &format!("{}{}", if error >= 0.005 { "+" } else { "" }, fixed(error, 2).replace('-', "−")));
    }
    html.push_str("</dl>\n");
    html.push_str(&chart.svg);
    html.push_str(&data_table(&chart));
    html + "</div>\n</article>\n"
}

fn run(report: &Report) -> String {
    let mut html = String::new();
    if !report.facts.is_empty() {
        html.push_str("<dl class=\"card facts\">\n");
        for (name, value) in &report.facts {
            let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
        }
        html.push_str("</dl>\n");
    }
    for note in &report.notes {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
    }
    if html.is_empty() { html } else { section("The run", &html) }
}

fn section(title: &str, content: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{content}</section>\n")
}

fn figures(charts: &[Chart]) -> String {
    format!("<div class=\"figures\">\n{}</div>\n", charts.iter().map(figure).collect::<String>())
}

fn figure(chart: &Chart) -> String {
    let mut html = format!("<figure class=\"card\">\n<figcaption>{}</figcaption>\n", escape(&chart.title));
    html.push_str("<p class=\"key\">");
    for (class, name) in &chart.legend {
        let _ = write!(html, "<span class=\"entry\"><span class=\"swatch {class}\"></span>{}</span>", escape(name));
    }
    html.push_str("</p>\n");
    html.push_str(&chart.svg);
    if !chart.caption.is_empty() {
        let _ = write!(html, "\n<p class=\"caption\">{}</p>", escape(&chart.caption));
    }
    html + "\n" + &data_table(chart) + "</figure>\n"
}

fn data_table(chart: &Chart) -> String {
    let line = |cells: &[String], tag: &str| {
        let cells: String = cells.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = chart.rows.iter().map(|row| line(row, "td")).collect();
    format!(
        "<details><summary>Data</summary><div class=\"scroll\" tabindex=\"0\"><table>\n<thead>{}</thead>\n<tbody>{rows}</tbody></table></div></details>\n",
        line(&chart.header, "th")
    )
}
