//! The charts of scores and of learning. Each comes with its legend and the table of its data.

use super::histogram::histogram;
use super::svg::{Anchor, Axis, Svg};
use super::{Curve, Example, MetricTable, Role};
use crate::eval::Grid;
use crate::eval::calibration::reliability;
use crate::eval::table::fixed;

/// A chart with what belongs to it.
pub struct Chart {
    pub title: String,
    pub caption: String,
    /// Class of the swatch and name.
    pub legend: Vec<(String, String)>,
    pub svg: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

pub(super) const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 42.0;
pub(super) const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 38.0;

/// Curves are smoothed if they have more points than this.
const SMOOTH_ABOVE: usize = 120;
/// Rows of a data table; longer data are thinned evenly.
const MOST_ROWS: usize = 60;
/// Points of a scatter plot.
const MOST_POINTS: usize = 1500;
/// Colours of the style sheet.
const SERIES: usize = 8;

/// The colour class of a curve: by its name, so that it keeps its colour from chart to chart. The colours of people and
/// judge (0 and 1) come last.
fn series(name: &str, names: &[&str]) -> String {
    let place = names.iter().position(|known| *known == name).unwrap_or(0);
    format!("s{}", (place + 2) % SERIES)
}

/// Frame, horizontal grid with labels, and the two axis titles.
fn frame(svg: &mut Svg, x: &[(f64, String)], y: &[(f64, String)], x_title: &str, y_title: &str) {
    for (at, text) in y {
        svg.line((LEFT, *at), (RIGHT, *at), "grid");
        svg.text((LEFT - 7.0, at + 4.0), Anchor::End, "tick", text);
    }
    for (at, text) in x {
        svg.text((*at, BOTTOM + 16.0), Anchor::Middle, "tick", text);
    }
    svg.line((LEFT, BOTTOM), (RIGHT, BOTTOM), "axis");
    svg.text((RIGHT, HEIGHT - 5.0), Anchor::End, "title", x_title);
    if !y_title.is_empty() {
        svg.text((LEFT + 3.0, TOP + 10.0), Anchor::Start, "title", y_title);
    }
}

pub(super) fn placed(axis: &Axis, count: usize) -> Vec<(f64, String)> {
    axis.ticks(count).into_iter().map(|(value, text)| (axis.at(value), text)).collect()
}

/// All curves of one kind over the training step; `names` are those of all curves of the report.
pub fn learning(kind: &str, curves: &[&Curve], names: &[&str]) -> Chart {
    let right = RIGHT - 34.0;
    let finite = || curves.iter().flat_map(|c| &c.points).filter(|p| p.0.is_finite() && p.1.is_finite());
    let (first, last) = finite().fold((f64::INFINITY, 0.0_f64), |(l, h), p| (l.min(p.0), h.max(p.0)));
    let x = Axis::new(if first > last { 0.0 } else { first.min(0.0) }, last, LEFT, right);
    let y = Axis::around(finite().map(|p| p.1), 4, BOTTOM, TOP);
    let mut svg = Svg::new(WIDTH, HEIGHT, &format!("{kind} over training steps"));
    frame(&mut svg, &placed(&x, 4), &placed(&y, 4), "step", "");
    let mut smoothed = false;
    let mut ends = Vec::new();
    for curve in curves {
        let class = series(&curve.name, names);
        let pixel = |p: &(f64, f64)| (p.0.is_finite() && p.1.is_finite()).then(|| (x.at(p.0), y.at(p.1)));
        let raw: Vec<_> = curve.points.iter().map(pixel).collect();
        let mut line = curve.points.clone();
        if line.len() > SMOOTH_ABOVE {
            smoothed = true;
            svg.polyline(&raw, &format!("raw {class}"));
            line = running_mean(&line, line.len() / 30);
        }
        svg.polyline(&line.iter().map(pixel).collect::<Vec<_>>(), &format!("line {class}"));
        if let Some(end) = line.iter().rev().find(|p| pixel(p).is_some()) {
            ends.push(End { name: &curve.name, class: class.clone(), x: x.at(end.0), y: y.at(end.1), value: end.1 });
        }
        if line.len() <= 40 {
            for p in line.iter().filter(|p| pixel(p).is_some()) {
                let title = format!("{}: {} at step {}", curve.name, figure(p.1), figure(p.0));
                svg.circle((x.at(p.0), y.at(p.1)), 2.2, &format!("dot {class}"), &title);
            }
        }
    }
    end_labels(&mut svg, ends);
    Chart {
        title: kind.to_string(),
        caption: if smoothed { "Faint: every step. Strong: running mean.".into() } else { String::new() },
        legend: curves.iter().map(|c| (series(&c.name, names), c.name.clone())).collect(),
        svg: svg.finish(),
        header: vec!["curve".into(), "step".into(), kind.to_string()],
        rows: curves.iter().flat_map(|c| thinned(&c.points).map(|p| vec![c.name.clone(), figure(p.0), figure(p.1)])).collect(),
    }
}

/// Where a curve ends, in pixels, and its last value.
struct End<'a> {
    name: &'a str,
    class: String,
    x: f64,
    y: f64,
    value: f64,
}

/// The last value of each curve beside its end, pushed apart where they would overlap.
fn end_labels(svg: &mut Svg, mut ends: Vec<End>) {
    ends.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut lowest = f64::NEG_INFINITY;
    for End { name, class, x, y, value } in ends {
        svg.circle((x, y), 3.0, &format!("dot {class}"), &format!("{name}: {} at the end", figure(value)));
        lowest = (y + 4.0).max(lowest + 13.0);
        svg.text((x + 7.0, lowest), Anchor::Start, &format!("value {class}"), &figure(value));
    }
}

/// Mean over a window of up to `2 half + 1` points. At the start the window shrinks on both sides, so that a steep first
/// descent is not flattened; at the end it is cut, so that the last value is a mean too.
fn running_mean(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    let mean_around = |k: usize| {
        let reach = half.min(k);
        let window = &points[k - reach..(k + reach + 1).min(points.len())];
        let finite: Vec<f64> = window.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
        (points[k].0, finite.iter().sum::<f64>() / finite.len() as f64)
    };
    (0..points.len()).map(mean_around).collect()
}

/// Histograms of people and judge, side by side over the full scale.
pub fn score_histogram(grid: &Grid, scores: &[(f64, f64)]) -> Chart {
    let bins = histogram(grid, scores);
    let tallest = bins.iter().map(|b| b.human.max(b.judge)).fold(0.0, f64::max);
    let y = Axis::around([0.0, 100.0 * tallest].into_iter(), 4, BOTTOM, TOP + 14.0);
    let slot = (RIGHT - LEFT) / bins.len().max(1) as f64;
    let centre = |k: usize| LEFT + slot * (k as f64 + 0.5);
    let every = bins.iter().filter(|b| b.labelled).count().div_ceil(11).max(1);
    let labels = bins.iter().enumerate().filter(|(_, b)| b.labelled).step_by(every);
    let x: Vec<_> = labels.map(|(k, b)| (centre(k), b.name.clone())).collect();
    let mut svg = Svg::new(WIDTH, HEIGHT, "Share of rows at each score, people beside judge");
    frame(&mut svg, &x, &placed(&y, 4), "score", "% of rows");
    let bar = (0.4 * slot).min(26.0);
    for (k, bin) in bins.iter().enumerate() {
        for (share, left, class, who) in [(bin.human, -bar - 0.5, "people", "people"), (bin.judge, 0.5, "judge", "judge")] {
            let title = format!("{who}: {:.1} % at {}", 100.0 * share, bin.name);
            svg.bar(centre(k) + left, bar, y.at(100.0 * share), BOTTOM, class, &title);
        }
    }
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    Chart {
        title: "How the scores fall".into(),
        caption: "A judge that clusters piles up where people do not.".into(),
        legend: vec![("people".into(), "people".into()), ("judge".into(), "judge, expected score".into())],
        svg: svg.finish(),
        header: ["score", "people %", "judge %"].map(String::from).to_vec(),
        rows: bins.iter().map(|b| vec![b.name.clone(), percent(b.human), percent(b.judge)]).collect(),
    }
}

/// Every row as a point, the means of ten bins with 95 % intervals, and the diagonal of a calibrated judge.
pub fn reliability_chart(grid: &Grid, scores: &[(f64, f64)]) -> Chart {
    let values = grid.values();
    let (low, high) = (values[0], values[values.len() - 1]);
    let pad = 0.06 * (high - low);
    let x = Axis::new(low - pad, high + pad, LEFT, RIGHT);
    let y = Axis::new(low - pad, high + pad, BOTTOM, TOP);
    let mut svg = Svg::new(WIDTH, HEIGHT, "Human score against the judge's expected score");
    frame(&mut svg, &placed(&x, 5), &placed(&y, 5), "judge, expected score", "people");
    let stride = scores.len().div_ceil(MOST_POINTS).max(1);
    for (human, judge) in scores.iter().step_by(stride) {
        svg.circle((x.at(*judge), y.at(*human)), 2.4, "cloud judge", "");
    }
    svg.line((x.at(low), y.at(low)), (x.at(high), y.at(high)), "diagonal");
    let (human, judge): (Vec<f64>, Vec<f64>) = scores.iter().copied().unzip();
    let bins = reliability(&human, &judge, 10).ok().and_then(Result::ok).unwrap_or_default();
    for bin in &bins {
        let reach = 1.96 * bin.standard_error.unwrap_or(0.0);
        let (bottom, top) = ((bin.human - reach).max(low), (bin.human + reach).min(high));
        svg.line((x.at(bin.judge), y.at(bottom)), (x.at(bin.judge), y.at(top)), "whisker");
        let title = format!("{} rows: judge {:.2}, people {:.2}", bin.n, bin.judge, bin.human);
        svg.circle((x.at(bin.judge), y.at(bin.human)), 4.2, "mean", &title);
    }
    let error = |e: Option<f64>| e.map_or("–".to_string(), |e| fixed(e, 3));
    Chart {
        title: "Does a score mean what people mean?".into(),
        caption: "On the dashed line the judge says what people say. Whiskers: 95 % interval of the mean.".into(),
        legend: vec![("judge".into(), "one row".into()), ("ink".into(), "mean of a tenth of the rows".into())],
        svg: svg.finish(),
        header: ["rows", "judge, mean", "people, mean", "standard error"].map(String::from).to_vec(),
        rows: bins.iter().map(|b| vec![b.n.to_string(), fixed(b.judge, 2), fixed(b.human, 2), error(b.standard_error)]).collect(),
    }
}

/// The first column of the metric table: where each judge stands between floors and ceiling, a line a test set. `None`
/// if there is no figure to show.
pub fn ladder(table: &MetricTable) -> Option<Chart> {
    let column = table.columns.first()?;
    let value = |row: &super::MetricRow| row.figures.first().and_then(|f| f.value.clone().ok()).filter(|v| v.is_finite());
    let all: Vec<f64> = table.groups.iter().flat_map(|g| &g.rows).filter_map(value).collect();
    if all.is_empty() {
        return None;
    }
    let height = 46.0 + 40.0 * table.groups.len() as f64;
    let bottom = height - 34.0;
    let correlation = all.iter().all(|v| v.abs() <= 1.0);
    let ends = if correlation { vec![0.0, 1.0] } else { vec![0.0] };
    let x = Axis::around(all.into_iter().chain(ends), 5, 86.0, RIGHT);
    let mut svg = Svg::new(WIDTH, height, &format!("{column} of judges between floors and ceiling"));
    for (at, text) in placed(&x, 5) {
        svg.line((at, 4.0), (at, bottom), "grid");
        svg.text((at, bottom + 16.0), Anchor::Middle, "tick", &text);
    }
    svg.text((RIGHT, height - 3.0), Anchor::End, "title", column);
    let mut names: Vec<(String, String)> = Vec::new();
    let mut rows = Vec::new();
    for (k, group) in table.groups.iter().enumerate() {
        let y = 22.0 + 40.0 * k as f64;
        svg.text((0.0, y + 4.0), Anchor::Start, "name", &shortened(&group.name, 13));
        svg.line((x.at(0.0).max(86.0), y), (RIGHT, y), "axis");
        for row in &group.rows {
            let Some(v) = value(row) else { continue };
            let class = swatch(row.role, &row.name, &mut names);
            let title = format!("{}: {} {}", group.name, row.name, fixed(v, 3));
            svg.circle((x.at(v), y), if row.role == Role::Judge { 6.0 } else { 4.5 }, &format!("rung {class}"), &title);
            rows.push(vec![group.name.clone(), row.name.clone(), fixed(v, 3)]);
        }
    }
    Some(Chart {
        title: format!("{column}, between floor and ceiling"),
        caption: String::new(),
        legend: names.into_iter().map(|(class, name)| (format!("{class} round"), name)).collect(),
        svg: svg.finish(),
        header: vec!["test".into(), "row".into(), column.clone()],
        rows,
    })
}

/// The colour class of a row name; the same name has the same class in every group.
fn swatch(role: Role, name: &str, names: &mut Vec<(String, String)>) -> String {
    if let Some((class, _)) = names.iter().find(|(_, known)| known == name) {
        return class.clone();
    }
    let nth = |prefix: &str| names.iter().filter(|(class, _)| class.starts_with(prefix)).count();
    let class = match role {
        Role::Judge if nth("s") == 0 => "s1".to_string(),
        Role::Judge => format!("s{}", 1 + nth("s") % (SERIES - 1)),
        Role::Floor => format!("floor{}", nth("floor").min(3)),
        Role::Ceiling => format!("ceiling{}", nth("ceiling").min(1)),
    };
    names.push((class.clone(), name.to_string()));
    class
}

/// A judge's distribution over the scale with the human and the expected score marked.
pub fn distribution(example: &Example) -> Chart {
    let (width, height, bottom) = (300.0, 142.0, 106.0);
    let places = example.probabilities.len().max(1);
    let slot = (width - 24.0) / places as f64;
    let centre = |k: f64| 12.0 + slot * (k + 0.5);
    let mut svg = Svg::new(width, height, &format!("Probability of each score; expected {:.2}", example.expected));
    svg.line((12.0, bottom), (width - 12.0, bottom), "axis");
    // Few scales, so that examples can be compared; a flat distribution gets a finer one.
    let tallest = example.probabilities.iter().map(|(_, p)| *p).filter(|p| p.is_finite()).fold(0.0, f64::max);
    let y = Axis::new(0.0, if tallest > 0.4 { tallest.max(0.8) } else { 0.4 }, bottom, 18.0);
    let bar = (0.62 * slot).min(40.0);
    for (k, (text, p)) in example.probabilities.iter().enumerate() {
        let (x, p) = (centre(k as f64), if p.is_finite() { p.clamp(0.0, 1.0) } else { 0.0 });
        let class = if *text == example.decoded { "judge" } else { "judge soft" };
        svg.bar(x - bar / 2.0, bar, y.at(p), bottom, class, &format!("{text}: {:.1} %", 100.0 * p));
        if places <= 12 {
            svg.text((x, y.at(p) - 5.0), Anchor::Middle, "small", &share_text(p));
        }
        if places <= 24 || k % places.div_ceil(12) == 0 {
            svg.text((x, bottom + 15.0), Anchor::Middle, "tick", text);
        }
    }
    let scale: Vec<f64> = example.probabilities.iter().filter_map(|(text, _)| text.trim().parse().ok()).collect();
    if scale.len() == example.probabilities.len() {
        // The judge's marker is smaller and comes last, so that both show where they agree.
        let markers = [(example.human, "people", 8.0), (Some(example.expected), "judge", 5.0)];
        for (score, class, size) in markers {
            let Some(score) = score.filter(|s| s.is_finite()) else { continue };
            let x = centre(place_on(&scale, score));
            let title = format!("{} {}", if class == "people" { "people" } else { "expected" }, fixed(score, 2));
            svg.triangle((x, bottom + 20.0 + (8.0 - size) / 2.0), size, &format!("marker {class}"), &title);
        }
    }
    Chart {
        title: String::new(),
        caption: String::new(),
        legend: Vec::new(),
        svg: svg.finish(),
        header: ["score", "probability %"].map(String::from).to_vec(),
        rows: example.probabilities.iter().map(|(text, p)| vec![text.clone(), fixed(100.0 * p, 2)]).collect(),
    }
}

/// Where a value stands among ascending values, in places: 1.5 is half way between the second and the third.
fn place_on(scale: &[f64], value: f64) -> f64 {
    let last = scale.len().saturating_sub(1);
    for (k, pair) in scale.windows(2).enumerate() {
        if value < pair[1] {
            return k as f64 + ((value - pair[0]) / (pair[1] - pair[0])).max(0.0);
        }
    }
    last as f64
}

fn share_text(p: f64) -> String {
    if p > 0.0 && p < 0.005 { "<1".into() } else { format!("{:.0}", 100.0 * p) }
}

pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// About three significant digits.
fn figure(x: f64) -> String {
    let size = x.abs();
    match size {
        _ if !x.is_finite() => "–".into(),
        _ if x.fract() == 0.0 && size < 1e9 => format!("{x:.0}"),
        _ if size >= 100.0 => fixed(x, 0),
        _ if size >= 10.0 => fixed(x, 1),
        _ if size >= 1.0 => fixed(x, 2),
        _ if size >= 1e-3 => fixed(x, 3),
        _ => format!("{x:.1e}"),
    }
}

fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = &(f64, f64)> {
    points.iter().step_by(points.len().div_ceil(MOST_ROWS).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_level_and_ends() {
        let points: Vec<(f64, f64)> = (0..200).map(|k| (f64::from(k), 3.0)).collect();
        assert!(running_mean(&points, 7).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        let rising: Vec<(f64, f64)> = (0..200).map(|k| (f64::from(k), f64::from(k))).collect();
        assert_eq!(running_mean(&rising, 7)[100].1, 100.0);
        assert_eq!(running_mean(&rising, 7)[3].1, 3.0);
    }

    #[test]
    fn places() {
        assert_eq!(place_on(&[1.0, 2.0, 3.0], 2.5), 1.5);
        assert_eq!(place_on(&[1.0, 2.0, 3.0], 0.0), 0.0);
        assert_eq!(place_on(&[1.0, 2.0, 3.0], 9.0), 2.0);
        assert_eq!(figure(0.81234), "0.812");
        assert_eq!(figure(1200.0), "1200");
    }
}
