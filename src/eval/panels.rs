//! How figures change with the number of labels: panels side by side in one image, over one logarithmic axis each.

use crate::charts::{Anchor, Area, Axis, Frame};

/// A panel.
pub(crate) struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
    /// A value to compare with, and its name.
    pub mark: Option<(f64, String)>,
    /// Values that the axis reaches in any case.
    pub reach: Vec<f64>,
}

/// A line of a panel.
pub(crate) struct Line {
    pub name: String,
    /// The class of its colour.
    pub class: &'static str,
    pub points: Vec<LinePoint>,
}

/// A figure at a number of labels.
pub(crate) struct LinePoint {
    pub labels: f64,
    pub value: f64,
    /// The ends of its spread.
    pub spread: Option<(f64, f64)>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 260.0;
/// Height of a line of the legend.
const STEP: f64 = 15.0;

/// The image, as a file of its own. `label` is its heading.
pub(crate) fn draw(label: &str, panels: &[Panel]) -> String {
    let lines = panels.iter().map(|panel| panel.lines.len() + usize::from(panel.mark.is_some())).max().unwrap_or(0) as f64;
    let (top, bottom) = (52.0 + STEP * lines, 52.0 + STEP * lines + HEIGHT - 90.0);
    let area = |k: usize| {
        let start = WIDTH * k as f64;
        Area {
            width: WIDTH * panels.len() as f64,
            height: bottom + 36.0,
            left: start + 42.0,
            right: start + WIDTH - 14.0,
            top,
            bottom,
        }
    };
    let mut frame: Option<Frame> = None;
    for (k, panel) in panels.iter().enumerate() {
        let (area, points) = (area(k), || panel.lines.iter().flat_map(|line| &line.points));
        let (first, last) =
            points().fold((f64::INFINITY, 0.0_f64), |(low, high), point| (low.min(point.labels), high.max(point.labels)));
        let x = if last > first {
            Axis::logarithmic(first / 1.2, last * 1.2, area.left, area.right)
        } else {
            Axis::new(0.0, 1.0, area.left, area.right)
        };
        let ends = points().flat_map(|point| point.spread.map_or(vec![point.value], |(low, high)| vec![low, high]));
        let values = ends.chain(panel.mark.iter().map(|mark| mark.0)).chain(panel.reach.iter().copied());
        let y = Axis::around(values.filter(|value| value.is_finite()), 4, area.bottom, area.top);
        let mut next = match frame.take() {
            None => {
                let mut first = Frame::new(label, area, x, y);
                first.svg.text((12.0, 18.0), Anchor::Start, "name", label);
                first
            }
            Some(before) => before.beside(area, x, y),
        };
        let mut sizes: Vec<f64> = points().map(|point| point.labels).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        next.grid(&sizes.into_iter().map(|size| (size, size.to_string())).collect::<Vec<_>>(), &y.ticks(4));
        next.svg.text((area.left - 30.0, 40.0), Anchor::Start, "count", &panel.title);
        next.titles("labels", "");
        if let Some((value, name)) = &panel.mark {
            let at = y.at(*value);
            next.svg.line((area.left, at), (area.right, at), "mark");
            // Above the panel, where no curve runs through it.
            let below_lines = 40.0 + STEP * (panel.lines.len() + 1) as f64;
            next.svg.text((area.left - 30.0, below_lines), Anchor::Start, "title", &format!("dashed: {name}"));
        }
        for (n, line) in panel.lines.iter().enumerate() {
            let class = line.class;
            next.svg.text((area.left - 30.0, 40.0 + STEP * (n + 1) as f64), Anchor::Start, &format!("value {class}"), &line.name);
            next.curve(
                &line.points.iter().map(|point| (point.labels, point.value)).collect::<Vec<_>>(),
                &format!("line {class}"),
            );
            for LinePoint { labels: size, value, spread } in line.points.iter().filter(|point| point.value.is_finite()) {
                if let Some((low, high)) = spread {
                    next.line((*size, *low), (*size, *high), &format!("whisker {class}"));
                }
                next.dot((*size, *value), 3.0, &format!("dot {class}"), &format!("{}: {value:.3} with {size} labels", line.name));
            }
        }
        frame = Some(next);
    }
    frame.map_or(String::new(), |frame| frame.svg.into_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_stand_beside_each_other() {
        let line = |name: &str| Line {
            name: name.into(),
            class: "judge",
            points: vec![
                LinePoint { labels: 10.0, value: 0.5, spread: Some((0.4, 0.7)) },
                LinePoint { labels: 100.0, value: f64::NAN, spread: None },
                LinePoint { labels: 300.0, value: 0.6, spread: None },
            ],
        };
        let panel = |title: &str| Panel {
            title: title.into(),
            lines: vec![line("a < b")],
            mark: Some((0.9, "promised".into())),
            reach: vec![1.0],
        };
        let image = draw("two panels", &[panel("error"), panel("coverage")]);
        assert!(image.starts_with("<svg xmlns=") && image.contains(r#"viewBox="0 0 600 "#));
        assert!(image.matches("a &lt; b").count() >= 2 && image.contains(">coverage<") && !image.contains("NaN"), "{image}");
        assert!(!draw("none", &[Panel { lines: Vec::new(), ..panel("empty") }]).contains("NaN"));
    }
}
