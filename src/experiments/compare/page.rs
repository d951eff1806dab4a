//! The results as one self-contained page: two charts for each group and task, with the tables of the Markdown folded below
//! them.

use std::path::PathBuf;
use std::sync::LazyLock;

use minijinja::{Value, context};
use pulldown_cmark::{Event, Options, Parser, html};

use super::file_table::FileResults;
use super::protocol::Group;
use super::statistics::Mean;
use super::table::{MethodRow, Results};
use super::{CompareError, Comparison};
use crate::charts::{self, Chart, Mark, Point, Rows};
use crate::eval::report::template::Template;
use crate::files::{refuse_foreign, write_own};

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| Template::new("compare.html", include_str!("templates/compare.html")));

/// The title of the page. A page with another title is somebody else's.
const TITLE: &str = "jurist: the comparison";

/// The page's file beside the cells.
const PAGE: &str = "index.html";

/// Width of a chart; the names of methods are long.
const WIDTH: f64 = 520.0;

/// Whether a page is one that `compare` wrote.
fn is_ours(page: &str) -> bool {
    page.contains(&format!("<title>{TITLE}</title>"))
}

/// As the tables' [`super::refuse_foreign_pages`].
pub fn refuse_foreign_page(comparison: &Comparison) -> Result<(), CompareError> {
    Ok(refuse_foreign(&comparison.results.join(PAGE), is_ours)?)
}

/// Writes `index.html` beside the cells; returns it.
///
/// # Errors
/// As the tables.
pub fn write_page(results: &Results) -> Result<PathBuf, CompareError> {
    // The first section is that of the learning rates and has no charts.
    let mut charts = vec![Vec::new()];
    for group in &results.comparison.protocol.groups {
        for task in &group.tasks {
            charts.push(group_charts(results, group, task)?);
        }
    }
    let path = results.comparison.results.join(PAGE);
    write_own(&path, page(&results.to_markdown()?, charts)?.as_bytes(), is_ours)?;
    Ok(path)
}

/// The page of the tables' Markdown; `charts` are those of each section.
fn page(markdown: &str, charts: Vec<Vec<Chart>>) -> Result<String, CompareError> {
    let mut parts = markdown.split("\n## ");
    let opening = html_of(parts.next().unwrap_or_default());
    let section = |(part, charts): (&str, Vec<Chart>)| {
        let (title, tables) = part.split_once('\n').unwrap_or((part, ""));
        context! { title, charts, tables => html_of(tables) }
    };
    let sections = parts.zip(charts).map(section).collect::<Vec<_>>();
    Ok(TEMPLATE.render(context! { title => TITLE, opening, sections })?)
}

/// Markdown as HTML. Tags in it stay text.
fn html_of(markdown: &str) -> Value {
    let as_text = |event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    };
    let mut out = String::new();
    html::push_html(&mut out, Parser::new_ext(markdown, Options::ENABLE_TABLES).map(as_text));
    Value::from_safe_string(out)
}

fn group_charts(results: &Results, group: &Group, task: &str) -> Result<Vec<Chart>, CompareError> {
    if let Some(files) = results.comparison.protocol.file_task(task) {
        return FileResults::new(results, group, files)?.map_or(Ok(Vec::new()), |files| files.charts(WIDTH));
    }
    let rows = results.rows(group, task);
    let reference = &results.comparison.protocol.method(&group.reference)?.title;
    let baselines: Vec<(&str, f64)> = results.baselines(task).into_iter().filter_map(|(name, _, at)| Some((name, at?))).collect();
    let mark = |(name, value): &(&str, f64)| {
        let short = name.split(' ').next_back().unwrap_or(name).trim_matches(['(', ')']);
        Mark { value: *value, name: short.to_string() }
    };
    let names = baselines.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let ood = |row: &MethodRow| row.pearson.last().copied().flatten();
    let others: Vec<&MethodRow> = rows.iter().filter(|row| row.difference.is_some()).collect();
    let levels = Rows {
        label: "Pearson out of domain by method",
        title: "Pearson r",
        marks: baselines.iter().map(mark).collect(),
        rows: rows.iter().map(|row| drawn(row, ood(row), reference)).collect(),
        ..Rows::default()
    };
    let differences = Rows {
        label: "Difference to each method",
        title: "difference of Pearson r",
        marks: vec![Mark { value: 0.0, name: String::new() }],
        rows: others.iter().map(|row| drawn(row, row.difference.as_ref().and_then(|d| d.ood), reference)).collect(),
        ..Rows::default()
    };
    Ok(vec![
        chart("Pearson out of domain, 95 % intervals over seeds".into(), format!("Dashed: {names}."), levels),
        chart(
            format!("{reference} minus each, out of domain"),
            format!("Right of the dashed line {reference} is better. 95 % intervals over seeds, paired."),
            differences,
        ),
    ])
}

fn chart(title: String, caption: String, rows: Rows) -> Chart {
    Chart { title, caption, svg: Rows { width: WIDTH, ..rows }.draw(), ..Chart::default() }
}

/// A method's mean and its interval.
fn drawn(row: &MethodRow, mean: Option<Mean>, reference: &str) -> charts::Row {
    let class = if row.title == reference { "judge" } else { "people" };
    let point = |mean: Mean| Point {
        value: mean.mean,
        ends: mean.half.map(|half| (mean.mean - half, mean.mean + half)),
        radius: 5.0,
        class: class.into(),
        title: format!("{}: {:.3} ± {:.3}, {} seeds", row.title, mean.mean, mean.half.unwrap_or(0.0), mean.seeds),
    };
    charts::Row { name: row.title.clone(), points: mean.map(point).into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_sections_with_their_charts() {
        let markdown = "# All\n\nsee [X](x.md), **bold** and [+0.1, +0.2]\n\n## Rates\n\n| a |\n|---|\n| 1 |\n\n## A & B\n\n\
                        | a | b |\n|---|---|\n| 1 | **2** |\n";
        let chart = Chart { title: "first".into(), ..Chart::default() };
        let page = page(markdown, vec![Vec::new(), vec![chart]]).unwrap();
        for part in [
            "<title>jurist: the comparison</title>",
            "<h1>All</h1>",
            "<a href=\"x.md\">X</a>, <strong>bold</strong> and [+0.1, +0.2]",
            "<h2>A &amp; B</h2>",
            "<td>1</td><td><strong>2</strong></td>",
        ] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
        let order = ["<h1>", "Rates</h2>", "A &amp; B</h2>", "<figcaption>first", "<th>b</th>"].map(|part| page.find(part));
        assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
        assert!(is_ours(&page));
    }

    #[test]
    fn names_from_a_protocol_stay_text() {
        let hostile = "<script>alert(1)</script> {{ style }} \"quoted\"";
        let chart = Chart { title: hostile.into(), ..Chart::default() };
        let markdown = format!("# {hostile}\n\n## {hostile}\n\n| {hostile} |\n|---|\n| {hostile} |\n\n<script>\n");
        let page = page(&markdown, vec![vec![chart]]).unwrap();
        assert!(!page.contains("<script") && page.matches("{{ style }}").count() == 6, "{page}");
    }
}
