//! The results as one self-contained page: two charts for each group and task, with the tables of the Markdown below them.

use std::fmt::Write;
use std::path::PathBuf;

use super::protocol::Group;
use super::statistics::Mean;
use super::table::{Results, Row};
use super::{CellPaths, CompareError};
use crate::eval::report::escape;
use crate::eval::report::svg::{Anchor, Axis, Svg};
use crate::files::{refuse_foreign, write_own};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#d5dae1;--ground:#fff;--card:#f6f7f9;--judge:#1f6feb;--reference:#c2410c;--mark:#8a94a3}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b4;--line:#333b46;--ground:#12161c;--card:#1a2028;--judge:#6aa6ff;--reference:#ff9d5c;--mark:#7b8695}}\
body{margin:0 auto;max-width:76rem;padding:2rem 1.2rem;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
h1,h2{line-height:1.2}h2{margin-top:3rem;border-top:1px solid var(--line);padding-top:1.5rem}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));gap:1.2rem}figure{margin:0;background:var(--card);border-radius:8px;padding:1rem}\
figcaption{font-weight:600;margin-bottom:.4rem}svg{width:100%;height:auto;font-size:12px}svg text{fill:var(--ink)}svg .soft{fill:var(--soft)}\
.grid{stroke:var(--line)}.zero{stroke:var(--soft);stroke-width:1.5}.judge{fill:var(--judge);stroke:var(--judge);stroke-width:2}\
.reference{fill:var(--reference);stroke:var(--reference);stroke-width:2}.mark{stroke:var(--mark);stroke-dasharray:4 3}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem;margin:.8rem 0}th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}";

/// In every page of ours, and so what tells it from others.
const TITLE: &str = "<title>jurist: the comparison</title>";

/// The page's file beside the cells.
const PAGE: &str = "index.html";

/// As the tables' [`super::refuse_foreign_pages`].
pub fn refuse_foreign_page(place: &CellPaths) -> Result<(), CompareError> {
    Ok(refuse_foreign(&place.results.join(PAGE), |there| there.contains(TITLE))?)
}

/// Writes `index.html` beside the cells; returns it.
///
/// # Errors
/// As the tables.
pub fn write_page(results: &Results) -> Result<PathBuf, CompareError> {
    let mut body = String::new();
    let mut headings = 0;
    let markdown = results.to_markdown()?;
    let mut charts = Vec::new();
    for group in &results.place.protocol.groups {
        for task in &group.tasks {
            charts.push(group_charts(results, group, task)?);
        }
    }
    for block in markdown.split("\n\n").filter(|b| !b.trim().is_empty()) {
        body.push_str(&html_of(block));
        // The first section is that of the learning rates; each one after it has its charts under its heading.
        if block.trim_start().starts_with("## ") {
            headings += 1;
            if let Some(charts) = (headings >= 2).then(|| charts.get(headings - 2)).flatten() {
                body.push_str(charts);
            }
        }
    }
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         {TITLE}<style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    );
    let path = results.place.results.join(PAGE);
    write_own(&path, page.as_bytes(), |there| there.contains(TITLE))?;
    Ok(path)
}

fn group_charts(results: &Results, group: &Group, task: &str) -> Result<String, CompareError> {
    let rows = results.rows(group, task)?;
    let reference = &results.place.protocol.method(&group.reference)?.title;
    let marks: Vec<(&str, f64)> =
        results.marks(task).into_iter().filter_map(|(name, _, outside)| Some((name, outside?))).collect();
    let outside: Vec<(&Row, Option<Mean>)> = rows.iter().map(|row| (row, row.pearson.last().copied().flatten())).collect();
    let behind: Vec<(&Row, Option<Mean>)> = rows.iter().filter_map(|row| Some((row, row.behind.as_ref()?.outside))).collect();
    Ok(format!(
        "<div class=\"charts\">\n<figure><figcaption>Pearson out of domain, 95 % intervals over seeds</figcaption>{}</figure>\n\
         <figure><figcaption>{} minus each, out of domain</figcaption>{}</figure>\n</div>\n",
        intervals(&outside, &marks, reference, "Pearson out of domain by method"),
        escape(reference),
        intervals(&behind, &[("0", 0.0)], reference, "Difference to each method"),
    ))
}

/// A line a row: its mean as a point, its interval as a bar; `marks` are vertical lines.
fn intervals(rows: &[(&Row, Option<Mean>)], marks: &[(&str, f64)], reference: &str, label: &str) -> String {
    let (left, right, step) = (230.0, 600.0, 26.0);
    let height = step * rows.len() as f64 + 56.0;
    let mut svg = Svg::new(640.0, height, label);
    let ends = |(_, mean): &(&Row, Option<Mean>)| mean.map(|m| [m.mean - m.half.unwrap_or(0.0), m.mean + m.half.unwrap_or(0.0)]);
    let values = rows.iter().filter_map(ends).flatten().chain(marks.iter().map(|(_, x)| *x));
    let axis = Axis::around(values, 6, left, right);
    for (x, text) in axis.ticks(6) {
        svg.line((axis.at(x), 18.0), (axis.at(x), height - 30.0), "grid");
        svg.text((axis.at(x), height - 14.0), Anchor::Middle, "soft", &text);
    }
    for (name, x) in marks {
        let class = if *x == 0.0 { "zero" } else { "mark" };
        svg.line((axis.at(*x), 14.0), (axis.at(*x), height - 30.0), class);
        if *x != 0.0 {
            svg.text((axis.at(*x), 10.0), Anchor::Middle, "soft", name.split(' ').next_back().unwrap_or(name));
        }
    }
    for (n, (row, mean)) in rows.iter().enumerate() {
        let y = 32.0 + step * n as f64;
        let class = if row.title == reference { "reference" } else { "judge" };
        svg.text((left - 12.0, y + 4.0), Anchor::End, "", &row.title);
        let Some(mean) = mean else { continue };
        let half = mean.half.unwrap_or(0.0);
        svg.line((axis.at(mean.mean - half), y), (axis.at(mean.mean + half), y), class);
        svg.circle(
            (axis.at(mean.mean), y),
            5.0,
            class,
            &format!("{}: {:.3} ± {half:.3}, {} seeds", row.title, mean.mean, mean.seeds),
        );
    }
    svg.finish()
}

/// One block of the tables' Markdown: a heading, a table, or a paragraph.
fn html_of(block: &str) -> String {
    let mut html = String::new();
    let mut lines = block.trim().lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("## ") {
            let _ = writeln!(html, "<h2>{}</h2>", inline(text));
        } else if let Some(text) = line.strip_prefix("# ") {
            let _ = writeln!(html, "<h1>{}</h1>", inline(text));
        } else if line.starts_with('|') {
            html.push_str("<div class=\"scroll\"><table>\n");
            let cells = |line: &str, tag: &str| -> String {
                line.trim_matches('|').split('|').map(|c| format!("<{tag}>{}</{tag}>", inline(c.trim()))).collect()
            };
            let _ = writeln!(html, "<tr>{}</tr>", cells(line, "th"));
            while let Some(row) = lines.next_if(|l| l.starts_with('|')) {
                if !row.starts_with("|---") {
                    let _ = writeln!(html, "<tr>{}</tr>", cells(row, "td"));
                }
            }
            html.push_str("</table></div>\n");
        } else {
            let _ = writeln!(html, "<p>{}</p>", inline(line));
        }
    }
    html
}

/// Bold, italic, code and links of a line.
fn inline(text: &str) -> String {
    let mut html = escape(text);
    for (mark, tag) in [("**", "strong"), ("*", "em"), ("`", "code")] {
        while let Some((before, rest)) = html.split_once(mark) {
            let Some((inside, after)) = rest.split_once(mark) else { break };
            html = format!("{before}<{tag}>{inside}</{tag}>{after}");
        }
    }
    if let Some((before, rest)) = html.split_once('[')
        && let Some((label, rest)) = rest.split_once("](")
        && let Some((target, after)) = rest.split_once(')')
    {
        return format!("{before}<a href=\"{target}\">{label}</a>{after}");
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_of_the_tables_becomes_html() {
        assert_eq!(html_of("## A & B"), "<h2>A &amp; B</h2>\n");
        assert_eq!(
            html_of("see [X](x.md), **bold** and *em*"),
            "<p>see <a href=\"x.md\">X</a>, <strong>bold</strong> and <em>em</em></p>\n"
        );
        let table = html_of("| a | b |\n|---|---|\n| 1 | **2** |");
        assert!(table.contains("<tr><th>a</th><th>b</th></tr>\n<tr><td>1</td><td><strong>2</strong></td></tr>"), "{table}");
        // An interval in brackets is no link.
        assert_eq!(html_of("[+0.1, +0.2]"), "<p>[+0.1, +0.2]</p>\n");
    }
}
