//! The charts of scores and of learning. Each comes with its legend and the table of its data.

use super::histogram::histogram;
use super::{Curve, JudgedExample, MetricTable, Role};
use crate::charts::{Anchor, Area, Axis, Chart, Frame, Point, Row, Rows, WIDTH};
use crate::eval::Grid;
use crate::eval::probabilities::reliability;
use crate::eval::special::t_two_sided_quantile;
use crate::eval::table::fixed;
use crate::words::count;

const AREA: Area = Area::REPORT;
/// Curves are smoothed if they have more points than this.
const SMOOTH_ABOVE: usize = 120;
/// Room for the last values beside the curves.
const END_LABEL: f64 = 34.0;
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

/// All curves of one kind over the training step; `names` are those of all curves of the report.
pub fn learning(kind: &str, curves: &[&Curve], names: &[&str]) -> Chart {
    let finite = || curves.iter().flat_map(|c| &c.points).filter(|p| p.0.is_finite() && p.1.is_finite());
    let (first, last) = finite().fold((f64::INFINITY, 0.0_f64), |(l, h), p| (l.min(p.0), h.max(p.0)));
    let start = if first > last { 0.0 } else { first.min(0.0) };
    let x = Axis::new(start, last, AREA.left, AREA.right - END_LABEL);
    let y = Axis::around(finite().map(|p| p.1), 4, AREA.bottom, AREA.top);
    let mut frame = Frame::new(&format!("{kind} over training steps"), AREA, x, y);
    frame.round_grid(4);
    frame.titles("step", "");
    let mut smoothed = false;
    let mut ends = Vec::new();
    for curve in curves {
        let class = series(&curve.name, names);
        let mut line = curve.points.clone();
        if line.len() > SMOOTH_ABOVE {
            smoothed = true;
            frame.curve(&line, &format!("raw {class}"));
            line = running_mean(&line, line.len() / 30);
        }
        frame.curve(&line, &format!("line {class}"));
        let few = line.len() <= 40;
        line.retain(|p| p.0.is_finite() && p.1.is_finite());
        if few {
            for p in &line {
                let title = format!("{}: {} at step {}", curve.name, figure(p.1), figure(p.0));
                frame.dot(*p, 2.2, &format!("dot {class}"), &title);
            }
        }
        ends.extend(line.last().map(|&point| End { name: &curve.name, class: class.clone(), point }));
    }
    end_labels(&mut frame, ends);
    Chart {
        title: kind.to_string(),
        caption: if smoothed { "Faint: every step. Strong: running mean.".into() } else { String::new() },
        legend: curves.iter().map(|c| (series(&c.name, names), c.name.clone())).collect(),
        svg: frame.svg.finish(),
        header: vec!["curve".into(), "step".into(), kind.to_string()],
        rows: curves.iter().flat_map(|c| thinned(&c.points).map(|p| vec![c.name.clone(), figure(p.0), figure(p.1)])).collect(),
    }
}

/// The last point of a curve.
struct End<'a> {
    name: &'a str,
    class: String,
    point: (f64, f64),
}

/// The last value of each curve beside its end, pushed apart where they would overlap.
fn end_labels(frame: &mut Frame, mut ends: Vec<End>) {
    ends.sort_by(|a, b| b.point.1.total_cmp(&a.point.1));
    let lines = apart(ends.iter().map(|end| frame.at(end.point).1 + 4.0).collect());
    for (End { name, class, point }, line) in ends.into_iter().zip(lines) {
        let value = figure(point.1);
        frame.dot(point, 3.0, &format!("dot {class}"), &format!("{name}: {value} at the end"));
        frame.svg.text((frame.at(point).0 + 7.0, line), Anchor::Start, &format!("value {class}"), &value);
    }
}

/// Lines of text, from top to bottom, pushed apart: down, and from the lower axis on up.
fn apart(mut lines: Vec<f64>) -> Vec<f64> {
    const HEIGHT: f64 = 13.0;
    for k in 1..lines.len() {
        lines[k] = lines[k].max(lines[k - 1] + HEIGHT);
    }
    let mut lowest = AREA.bottom;
    for line in lines.iter_mut().rev() {
        *line = line.min(lowest);
        lowest = *line - HEIGHT;
    }
    lines
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
    let x = Axis::new(-0.5, bins.len() as f64 - 0.5, AREA.left, AREA.right);
    let y = Axis::around([0.0, 100.0 * tallest].into_iter(), 4, AREA.bottom, AREA.top + 14.0);
    let mut frame = Frame::new("Share of rows at each score, people beside judge", AREA, x, y);
    let every = bins.iter().filter(|b| b.labelled).count().div_ceil(11).max(1);
    let labels = bins.iter().enumerate().filter(|(_, b)| b.labelled).step_by(every);
    frame.grid(&labels.map(|(k, b)| (k as f64, b.name.clone())).collect::<Vec<_>>(), &y.ticks(4));
    frame.titles("score", "% of rows");
    let bar = (0.4 * (x.at(1.0) - x.at(0.0))).min(26.0);
    for (k, bin) in bins.iter().enumerate() {
        for (who, share, offset) in [("people", bin.human, -bar - 0.5), ("judge", bin.judge, 0.5)] {
            let title = format!("{who}: {:.1} % at {}", 100.0 * share, bin.name);
            frame.bar((k as f64, 100.0 * share), (offset, bar), who, &title);
        }
    }
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    Chart {
        title: "How the scores fall".into(),
        caption: "A judge that clusters piles up where people do not.".into(),
        legend: vec![("people".into(), "people".into()), ("judge".into(), "judge, expected score".into())],
        svg: frame.svg.finish(),
        header: ["score", "people %", "judge %"].map(String::from).to_vec(),
        rows: bins.iter().map(|b| vec![b.name.clone(), percent(b.human), percent(b.judge)]).collect(),
    }
}

/// Every row as a point, the means of ten bins with 95 % intervals, and the diagonal of a calibrated judge.
pub fn reliability_chart(grid: &Grid, scores: &[(f64, f64)]) -> Chart {
    let values = grid.values();
    let (low, high) = (values[0], values[values.len() - 1]);
    let pad = 0.06 * (high - low);
    let x = Axis::new(low - pad, high + pad, AREA.left, AREA.right);
    let y = Axis::new(low - pad, high + pad, AREA.bottom, AREA.top);
    let mut frame = Frame::new("Human score against the judge's expected score", AREA, x, y);
    frame.round_grid(5);
    frame.titles("judge, expected score", "people");
    let stride = scores.len().div_ceil(MOST_POINTS).max(1);
    for &(human, judge) in scores.iter().step_by(stride) {
        frame.dot((judge, human), 2.4, "cloud judge", "");
    }
    frame.line((low, low), (high, high), "diagonal");
    let (human, judge): (Vec<f64>, Vec<f64>) = scores.iter().copied().unzip();
    let bins = reliability(&human, &judge, 10).ok().and_then(Result::ok).unwrap_or_default();
    for bin in &bins {
        let reach = bin.standard_error.map_or(0.0, |error| error * t_two_sided_quantile(0.05, (bin.n - 1) as f64));
        let (bottom, top) = ((bin.human - reach).max(low), (bin.human + reach).min(high));
        frame.line((bin.judge, bottom), (bin.judge, top), "whisker ink");
        let title = format!("{}: judge {:.2}, people {:.2}", count(bin.n, "row"), bin.judge, bin.human);
        frame.dot((bin.judge, bin.human), 4.2, "point ink", &title);
    }
    let error = |e: Option<f64>| e.map_or("–".to_string(), |e| fixed(e, 3));
    Chart {
        title: "Does a score mean what people mean?".into(),
        caption: "On the dashed line the judge says what people say. Whiskers: 95 % interval of the mean.".into(),
        legend: vec![("judge round".into(), "one row".into()), ("ink round".into(), "mean of a tenth of the rows".into())],
        svg: frame.svg.finish(),
        header: ["rows", "judge, mean", "people, mean", "standard error"].map(String::from).to_vec(),
        rows: bins.iter().map(|b| vec![b.n.to_string(), fixed(b.judge, 2), fixed(b.human, 2), error(b.standard_error)]).collect(),
    }
}

/// The first column of the metric table: where each judge stands between baselines and ceiling, a row per test set. `None`
/// if there is no figure to show.
pub fn ladder(table: &MetricTable) -> Option<Chart> {
    let column = table.columns.first()?;
    let value = |row: &super::MetricRow| row.figures.first().and_then(|f| f.value.clone().ok()).filter(|v| v.is_finite());
    let all: Vec<f64> = table.groups.iter().flat_map(|g| &g.rows).filter_map(value).collect();
    if all.is_empty() {
        return None;
    }
    let correlation = all.iter().all(|v| v.abs() <= 1.0);
    let mut names: Vec<(String, String)> = Vec::new();
    let (mut drawn, mut rows) = (Vec::new(), Vec::new());
    for group in &table.groups {
        let mut points = Vec::new();
        for row in &group.rows {
            let Some(v) = value(row) else { continue };
            let title = format!("{}: {} {}", group.name, row.name, fixed(v, 3));
            let (class, radius) = (swatch(row.role, &row.name, &mut names), if row.role == Role::Judge { 5.5 } else { 4.5 });
            points.push(Point { value: v, ends: None, radius, class, title });
            rows.push(vec![group.name.clone(), row.name.clone(), fixed(v, 3)]);
        }
        // The first is drawn last, over the others.
        points.reverse();
        drawn.push(Row { name: group.name.clone(), points });
    }
    let svg = Rows {
        label: &format!("{column} of judges between baselines and ceiling"),
        title: column,
        width: WIDTH,
        reach: if correlation { vec![0.0, 1.0] } else { vec![0.0] },
        marks: Vec::new(),
        rows: drawn,
    };
    Some(Chart {
        title: format!("{column}, between baseline and ceiling"),
        caption: String::new(),
        legend: names.into_iter().map(|(class, name)| (format!("{class} round"), name)).collect(),
        svg: svg.draw(),
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
        Role::Baseline => format!("baseline{}", nth("baseline").min(3)),
        Role::Ceiling => format!("ceiling{}", nth("ceiling").min(1)),
    };
    names.push((class.clone(), name.to_string()));
    class
}

/// A judge's distribution over the scale with the human and the expected score marked.
pub fn distribution(example: &JudgedExample) -> Chart {
    let area = Area { width: 300.0, height: 142.0, left: 12.0, right: 288.0, top: 18.0, bottom: 106.0 };
    let places = example.probabilities.len().max(1);
    // Few scales, so that examples can be compared; a flat distribution gets a finer one.
    let tallest = example.probabilities.iter().map(|(_, p)| *p).filter(|p| p.is_finite()).fold(0.0, f64::max);
    let highest = if tallest > 0.4 { tallest.max(0.8) } else { 0.4 };
    let x = Axis::new(-0.5, places as f64 - 0.5, area.left, area.right);
    let label = format!("Probability of each score; expected {:.2}", example.expected);
    let mut frame = Frame::new(&label, area, x, Axis::new(0.0, highest, area.bottom, area.top));
    let every = if places <= 24 { 1 } else { places.div_ceil(12) };
    let texts = example.probabilities.iter().enumerate().step_by(every).map(|(k, (text, _))| (k as f64, text.clone()));
    frame.grid(&texts.collect::<Vec<_>>(), &[]);
    let bar = (0.62 * (x.at(1.0) - x.at(0.0))).min(40.0);
    for (k, (text, p)) in example.probabilities.iter().enumerate() {
        let point = (k as f64, if p.is_finite() { p.clamp(0.0, 1.0) } else { 0.0 });
        let class = if *text == example.decoded { "judge" } else { "judge soft" };
        frame.bar(point, (-bar / 2.0, bar), class, &format!("{text}: {:.1} %", 100.0 * point.1));
        if places <= 12 {
            let (x, top) = frame.at(point);
            frame.svg.text((x, top - 5.0), Anchor::Middle, "small", &share_text(point.1));
        }
    }
    let scale: Vec<f64> = example.probabilities.iter().filter_map(|(text, _)| text.trim().parse().ok()).collect();
    if scale.len() == example.probabilities.len() {
        // The judge's marker is smaller and comes last, so that both show where they agree.
        let markers = [(example.human, "people", 8.0), (Some(example.expected), "judge", 5.0)];
        for (score, class, size) in markers {
            let Some(score) = score.filter(|s| s.is_finite()) else { continue };
            let x = frame.x.at(place_on(&scale, score));
            let title = format!("{} {}", if class == "people" { "people" } else { "expected" }, fixed(score, 2));
            frame.svg.triangle((x, area.bottom + 20.0 + (8.0 - size) / 2.0), size, &format!("marker {class}"), &title);
        }
    }
    Chart {
        svg: frame.svg.finish(),
        header: ["score", "probability %"].map(String::from).to_vec(),
        rows: example.probabilities.iter().map(|(text, p)| vec![text.clone(), fixed(100.0 * p, 2)]).collect(),
        ..Chart::default()
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
    fn last_values_stand_apart_over_the_axis() {
        assert_eq!(apart(vec![50.0, 60.0, 100.0]), [50.0, 63.0, 100.0]);
        assert_eq!(apart(vec![225.0, 230.0]), [AREA.bottom - 13.0, AREA.bottom]);
        assert!(apart(Vec::new()).is_empty());
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
