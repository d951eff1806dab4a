//! The page of an evaluation of one judge.

use super::{EvaluationRow, JudgeEvaluation};
use crate::eval::figures::Figure;
use crate::eval::report::{Headline, JudgedExample, MetricGroup, MetricRow, MetricTable, Report, Residuals, Role};
use crate::eval::table::fixed;

/// More categories than this are no chart.
const MOST_CATEGORIES: usize = 30;

/// What the page says beside the figures.
#[derive(Clone, Debug, Default)]
pub struct PageText {
    /// The file of the rows.
    pub file: String,
    /// The judge's folder, where there is one.
    pub judge: Option<String>,
    /// A column that tells kinds of rows apart: its name, and its text in each row.
    pub categories: Option<(String, Vec<String>)>,
    /// Rows shown whole.
    pub worst: Vec<JudgedExample>,
}

impl JudgeEvaluation {
    /// The page.
    pub fn page(&self, text: PageText) -> Report {
        let table = |judges: &[EvaluationRow]| {
            let row =
                |j: &EvaluationRow| MetricRow::new(j.name, j.role, &j.measured.agreement).with_intervals(&j.measured.intervals);
            MetricTable::new(vec![MetricGroup { name: String::new(), rows: judges.iter().map(row).collect() }])
        };
        let judges: Vec<&EvaluationRow> = self.judges.iter().filter(|j| j.role == Role::Judge).collect();
        let more: Vec<_> = judges.iter().map(|j| (j.name, &j.measured.agreement, j.measured.intervals.as_slice())).collect();
        let answered: Vec<usize> = (0..self.pairs.len()).filter(|&row| self.pairs[row].is_some()).collect();
        let residuals: Vec<f64> = self.pairs.iter().flatten().map(|(h, s)| s - h).collect();
        let lengths: Vec<usize> = answered.iter().map(|&row| self.lengths[row]).collect();
        let mut groups = vec![Residuals::by_length(&lengths, &residuals, "characters")];
        if let Some((name, texts)) = text.categories {
            let texts: Vec<String> = answered.iter().map(|&row| texts[row].clone()).collect();
            let by = Residuals::by_category(&name, &texts, &residuals);
            if (2..=MOST_CATEGORIES).contains(&by.groups.len()) {
                groups.push(by);
            }
        }
        let first = &self.judges[0].measured.agreement;
        let mut facts = vec![
            ("rows".to_string(), format!("{} judged, {} without a score", first.n, first.n_unparsed)),
            ("file".to_string(), text.file.clone()),
            ("scale".to_string(), self.scale.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")),
        ];
        if let Some(judge) = text.judge {
            facts.push(("judge".to_string(), judge));
        }
        let figure = |figure: &Figure| {
            (figure.name.replace('_', " "), figure.value.as_ref().map_or_else(ToString::to_string, |x| fixed(*x, 3)))
        };
        facts.extend(self.judges.iter().flat_map(|judge| &judge.further).map(figure));
        Report {
            title: "Agreement with people".into(),
            subtitle: format!("{} judged rows of {}", first.n, text.file),
            headlines: headlines(self),
            facts,
            scale: self.scale.clone(),
            scores: self.pairs.iter().flatten().copied().collect(),
            metrics: table(&self.judges),
            more: MetricTable::of_all(&more),
            confusion: first.table().cloned(),
            residuals: groups,
            worst: text.worst,
            notes: vec![
            format!("{}.", self.how()),
            "The expected score is the mean of the judge's distribution over the scores; the decoded score is the most likely \
             one; the calibrated score, where there is one, is what people would give. Charts show the expected score. A figure that does not exist for these rows is a dash, with the reason."
                .into(),
        ],
            ..Report::default()
        }
    }
}

fn headlines(evaluation: &JudgeEvaluation) -> Vec<Headline> {
    let judge = &evaluation.judges[0].measured;
    let figures = judge.figures();
    let shown = |(key, label): (&str, &str)| {
        let figure = figures.iter().find(|figure| figure.name == key)?;
        let value = figure.value.as_ref().map_or("–".into(), |x| fixed(*x, 3).replace('-', "−"));
        Some(Headline { label: label.into(), value, detail: figure.detail() })
    };
    [
        ("pearson", "Pearson r"),
        ("spearman", "Spearman ρ"),
        ("rmse", "RMSE"),
        ("bias", "bias, judge minus people"),
        ("kappa_quadratic", "quadratic kappa"),
    ]
    .into_iter()
    .filter_map(shown)
    .collect()
}
