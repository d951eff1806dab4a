//! The page of an evaluation of pairs.

use super::figures::Figure;
use super::intervals::Interval;
use super::pairs::PairEvaluation;
use super::report::{Figure as Shown, Headline, MetricGroup, MetricRow, MetricTable, Report, Role};
use super::table::fixed;
use crate::charts::{Chart, Mark, Point, Row, Rows, WIDTH};

/// What the figures are called on the page. Those that are shares of pairs come first, in one chart.
const TITLES: [(&str, &str); 8] = [
    ("accuracy", "accuracy, ties count half"),
    ("accuracy_decided", "accuracy without ties"),
    ("three_way_accuracy", "A, B or tie as people"),
    ("consistency", "same winner in both orders"),
    ("tie_rate", "ties of the judge"),
    ("brier", "Brier score"),
    ("first_wins", "position bias"),
    ("position_p", "p of the position bias"),
];

/// The figures of the first chart.
const SHARES: usize = 5;

/// What the page says beside the figures.
#[derive(Clone, Debug, Default)]
pub struct PairText {
    /// The file of the pairs.
    pub file: String,
    /// The judge's folder.
    pub judge: String,
    /// How pairs are judged.
    pub way: &'static str,
}

impl PairEvaluation {
    /// The page.
    pub fn page(&self, text: PairText) -> Report {
        let ([n, judged, labelled], [first, second, ties]) = (self.counts, self.verdicts);
        let row = |(name, figure): (String, &Figure)| MetricRow {
            name,
            role: Role::Judge,
            figures: vec![Shown { value: figure.value.clone(), interval: interval(figure).map(|i| (i.low, i.high)) }],
        };
        let figures = TITLES.iter().filter_map(|(name, title)| Some((title.to_string(), self.figure(name)?)));
        let categories = self.categories.iter().map(|(name, n, figure)| (format!("{name} ({n})"), figure));
        let group = |name: &str, rows: Vec<(String, &Figure)>| MetricGroup {
            name: name.into(),
            rows: rows.into_iter().map(row).collect(),
        };
        let mut groups = vec![group("", figures.collect())];
        if !self.categories.is_empty() {
            groups.push(group("accuracy by category (pairs)", categories.collect()));
        }
        Report {
            title: "Pairs, compared with people".into(),
            subtitle: format!("{judged} judged pairs of {}", text.file),
            headlines: self.headlines(),
            facts: [
                ("pairs", format!("{n}, {} without a verdict, {labelled} compared with people", n - judged)),
                ("verdicts", format!("A {first}, B {second}, tie {ties}")),
                ("file", text.file),
                ("judge", text.judge),
                ("how", text.way.into()),
            ]
            .map(|(name, value)| (name.to_string(), value))
            .to_vec(),
            charts: self.charts(),
            more: MetricTable { columns: vec!["value".into()], groups },
            notes: vec![
                format!("{}.", self.how()),
                "Accuracy is the share of pairs in which the judge prefers what people prefer; a tie of the judge counts one half, and \
                 pairs that people call a tie do not count. Position bias is how often the response that is read first wins, minus one \
                 half. A figure that does not exist for these pairs is a dash, with the reason."
                    .into(),
            ],
            ..Report::default()
        }
    }

    fn headlines(&self) -> Vec<Headline> {
        let shown = |(name, label): (&str, &str)| {
            let figure = self.figure(name)?;
            let signed = |x: f64| fixed(x, 3).replace('-', "−");
            let value = figure.value.as_ref().map_or("–".into(), |x| signed(*x));
            Some(Headline { label: label.into(), value, detail: figure.detail() })
        };
        let labels =
            [("accuracy", "accuracy"), ("tie_rate", "ties"), ("consistency", "consistency"), ("first_wins", "position bias")];
        labels.into_iter().filter_map(shown).collect()
    }

    fn charts(&self) -> Vec<Chart> {
        let named = |titles: &[(&str, &str)]| -> Vec<(String, Figure)> {
            titles.iter().filter_map(|(name, title)| Some((title.to_string(), self.figure(name)?.clone()))).collect()
        };
        let categories: Vec<(String, Figure)> = self.categories.iter().map(|(name, _, f)| (name.clone(), f.clone())).collect();
        let mark = |value: f64, name: &str| vec![Mark { value, name: name.into() }];
        let overall = self.figure("accuracy").and_then(|figure| figure.value.clone().ok());
        [
            chart(
                ("Shares of pairs", "A coin has an accuracy of 0.5."),
                ("share of pairs", vec![0.0, 1.0]),
                mark(0.5, "a coin"),
                &named(&TITLES[..SHARES]),
            ),
            chart(
                ("Does the order decide?", "Right of the dashed line the response that is read first wins too often."),
                ("wins of the response read first − 0.5", vec![-0.5, 0.5]),
                mark(0.0, ""),
                &named(&[("first_wins", "position bias")]),
            ),
            chart(
                ("Accuracy by category", "Dashed: the accuracy on all pairs."),
                ("accuracy", vec![0.0, 1.0]),
                overall.map_or(Vec::new(), |overall| mark(overall, "")),
                &categories,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A row for each figure that has a value; `None` if none has.
fn chart(
    (title, caption): (&str, &str),
    (axis, reach): (&str, Vec<f64>),
    marks: Vec<Mark>,
    figures: &[(String, Figure)],
) -> Option<Chart> {
    let (mut drawn, mut rows) = (Vec::new(), Vec::new());
    for (name, figure) in figures {
        let Ok(value) = figure.value else { continue };
        let ends = interval(figure).map(|i| (i.low, i.high));
        let title = format!("{name}: {}", fixed(value, 3));
        drawn.push(Row { name: name.clone(), points: vec![Point { value, ends, radius: 5.0, class: "judge".into(), title }] });
        let [low, high] = ends.map_or([String::new(), String::new()], |(low, high)| [fixed(low, 3), fixed(high, 3)]);
        rows.push(vec![name.clone(), fixed(value, 3), low, high]);
    }
    let svg = Rows { label: title, title: axis, width: WIDTH, reach, marks, rows: drawn };
    (!rows.is_empty()).then(|| Chart {
        title: title.into(),
        caption: format!("{caption} Lines: 95 % intervals."),
        svg: svg.draw(),
        header: ["figure", "value", "from", "to"].map(String::from).to_vec(),
        rows,
        ..Chart::default()
    })
}

fn interval(figure: &Figure) -> Option<&Interval> {
    figure.interval.as_ref()?.as_ref().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::intervals::Bootstrap;
    use crate::eval::pairs::PairRow;
    use crate::eval::position::Winner::{First, Second};

    fn rows(orders: bool) -> Vec<PairRow> {
        let row = |k: usize| {
            let verdict = if k.is_multiple_of(3) { Second } else { First };
            PairRow {
                human: Some(1.0),
                verdict: Some(verdict),
                first: Some(0.6),
                orders: orders.then_some((verdict, if k.is_multiple_of(4) { First } else { Second })),
                category: Some(["chat", "<code>"][k % 2].into()),
            }
        };
        (0..24).map(row).collect()
    }

    #[test]
    fn the_page_shows_each_figure_with_its_interval() {
        let bootstrap = Bootstrap { resamples: 200, ..Bootstrap::default() };
        let page = |orders: bool| {
            let found = PairEvaluation::measure(&rows(orders), None, &bootstrap).unwrap();
            let text = PairText { file: "a<b.jsonl".into(), judge: "judge".into(), way: "in both orders" };
            found.page(text).to_html().unwrap()
        };
        let (both, alone) = (page(true), page(false));
        for part in ["a&lt;b.jsonl", "position bias", "0.667", "Does the order decide?", "&lt;code&gt;", "in both orders"] {
            assert!(both.contains(part), "{part}");
        }
        assert!(!both.contains("NaN") && !both.contains("<code>"));
        // Without a second order there is no picture of it, and the reason is told.
        assert!(!alone.contains("Does the order decide?") && alone.contains("judged alone"), "{alone}");
    }
}
