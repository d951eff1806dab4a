//! Where people and judge differ: the confusion of their labels, and how far the judge lies off in groups of rows.

use super::Residuals;
use super::charts::{Chart, RIGHT, WIDTH, placed, shortened};
use super::svg::{Anchor, Axis, Svg};
use crate::eval::table::fixed;
use crate::eval::tally::LabelTable;

/// Scales with more values have no readable table.
pub const MOST_LABELS: usize = 15;

/// People's label down, the judge's across; darker is more of the rows that people gave that label.
pub fn confusion(table: &LabelTable) -> Chart {
    let labels = table.scale().len();
    let (left, top, height) = (40.0, 22.0, 282.0);
    let (across, down) = ((RIGHT - left) / labels as f64, (height - 62.0) / labels as f64);
    let mut svg = Svg::new(WIDTH, height, "Rows by the label of people and of the judge");
    let name = |k: usize| format!("{}", table.scale()[k]);
    let mut rows = Vec::new();
    for human in 0..labels {
        let total: u64 = (0..labels).map(|judge| table.rows(human, judge)).sum();
        let y = top + down * human as f64;
        svg.text((left - 8.0, y + down / 2.0 + 4.0), Anchor::End, "tick", &name(human));
        for judge in 0..labels {
            let count = table.rows(human, judge);
            let share = count as f64 / total.max(1) as f64;
            let x = left + across * judge as f64;
            let class = if human == judge { "heat same" } else { "heat" };
            let title = format!(
                "people {}, judge {}: {count} rows, {:.1} % of people's {}",
                name(human),
                name(judge),
                100.0 * share,
                name(human)
            );
            svg.square((x + 1.0, y + 1.0), (across - 2.0, down - 2.0), 0.85 * share, class, &title);
            if count > 0 && labels <= 11 {
                svg.text((x + across / 2.0, y + down / 2.0 + 4.0), Anchor::Middle, "count", &count.to_string());
            }
        }
        let counts = (0..labels).map(|judge| table.rows(human, judge).to_string());
        rows.push([name(human)].into_iter().chain(counts).collect());
    }
    for judge in 0..labels {
        let x = left + across * (judge as f64 + 0.5);
        svg.text((x, height - 22.0), Anchor::Middle, "tick", &name(judge));
    }
    svg.text((RIGHT, height - 5.0), Anchor::End, "title", "judge, nearest label");
    svg.text((left, top - 8.0), Anchor::Start, "title", "people");
    Chart {
        title: "Labels of people and judge".into(),
        caption: "Rows; shaded by the share of each of people's labels. Framed: the same label.".into(),
        legend: Vec::new(),
        svg: svg.finish(),
        header: ["people \\ judge".to_string()].into_iter().chain((0..labels).map(name)).collect(),
        rows,
    }
}

/// Mean of judge minus people for each group, with 95 % intervals; right of the line the judge is lenient.
pub fn residuals(residuals: &Residuals) -> Chart {
    let left = 150.0;
    let height = 46.0 + 26.0 * residuals.groups.len() as f64;
    let bottom = height - 36.0;
    let reach = |error: Option<f64>| 1.96 * error.unwrap_or(0.0);
    let ends = residuals.groups.iter().flat_map(|g| [g.mean - reach(g.standard_error), g.mean + reach(g.standard_error)]);
    let x = Axis::around(ends.chain([0.0]), 4, left, RIGHT);
    let mut svg = Svg::new(WIDTH, height, &format!("Judge minus people by {}", residuals.by));
    for (at, text) in placed(&x, 4) {
        svg.line((at, 4.0), (at, bottom), "grid");
        svg.text((at, bottom + 16.0), Anchor::Middle, "tick", &text);
    }
    svg.line((x.at(0.0), 4.0), (x.at(0.0), bottom), "diagonal");
    svg.text((RIGHT, height - 4.0), Anchor::End, "title", "judge − people");
    for (k, group) in residuals.groups.iter().enumerate() {
        let y = 18.0 + 26.0 * k as f64;
        svg.text((0.0, y + 4.0), Anchor::Start, "name", &shortened(&group.name, 24));
        let half = reach(group.standard_error);
        svg.line((x.at(group.mean - half), y), (x.at(group.mean + half), y), "whisker");
        let title = format!("{}: {} rows, {} on average", group.name, group.n, fixed(group.mean, 3));
        svg.circle((x.at(group.mean), y), 4.2, "mean", &title);
    }
    let error = |e: Option<f64>| e.map_or("–".to_string(), |e| fixed(e, 3));
    Chart {
        title: format!("How far off, by {}", residuals.by),
        caption: "Mean of judge minus people; whiskers: 95 % interval of the mean.".into(),
        legend: Vec::new(),
        svg: svg.finish(),
        header: [residuals.by.as_str(), "rows", "mean", "standard error"].map(String::from).to_vec(),
        rows: residuals
            .groups
            .iter()
            .map(|g| vec![g.name.clone(), g.n.to_string(), fixed(g.mean, 3), error(g.standard_error)])
            .collect(),
    }
}
