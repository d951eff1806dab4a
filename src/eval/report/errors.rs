//! Where people and judge differ: the confusion of their labels, and how far the judge lies off in groups of rows.

use super::{ResidualGroup, Residuals};
use crate::charts::{Anchor, Chart, Mark, Point, RIGHT, Row, Rows, Svg, WIDTH};
use crate::eval::special::t_two_sided_quantile;
use crate::eval::table::fixed;
use crate::eval::tally::LabelTable;
use crate::words;

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
                "people {}, judge {}: {}, {:.1} % of people's {}",
                name(human),
                name(judge),
                words::count(count, "row"),
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
    let row = |group: &ResidualGroup| {
        let value = group.mean;
        let reach = group.standard_error.map(|error| error * t_two_sided_quantile(0.05, (group.n - 1) as f64));
        let ends = reach.map(|reach| (value - reach, value + reach));
        let title = format!("{}: {}, {} on average", group.name, words::count(group.n, "row"), fixed(group.mean, 3));
        Row { name: group.name.clone(), points: vec![Point { value, ends, radius: 4.2, class: "ink".into(), title }] }
    };
    let chart = Rows {
        label: &format!("Judge minus people by {}", residuals.by),
        title: "judge − people",
        width: WIDTH,
        reach: Vec::new(),
        marks: vec![Mark { value: 0.0, name: String::new() }],
        rows: residuals.groups.iter().map(row).collect(),
    };
    let error = |e: Option<f64>| e.map_or("–".to_string(), |e| fixed(e, 3));
    Chart {
        title: format!("How far off, by {}", residuals.by),
        caption: "Mean of judge minus people; whiskers: 95 % interval of the mean.".into(),
        legend: Vec::new(),
        svg: chart.draw(),
        header: [residuals.by.as_str(), "rows", "mean", "standard error"].map(String::from).to_vec(),
        rows: residuals
            .groups
            .iter()
            .map(|g| vec![g.name.clone(), g.n.to_string(), fixed(g.mean, 3), error(g.standard_error)])
            .collect(),
    }
}
