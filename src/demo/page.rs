//! The demo's `report.html`.

use std::path::Path;

use serde_json::Value;

use super::data::DemoData;
use super::measure::{Contender, Role, Table, labels};
use super::{DemoError, DemoOptions, Judge};
use crate::eval::report::{self, Curve, Example, Figure, Headline, MetricGroup, MetricRow, MetricTable, Report};
use crate::gpu::Gpu;

/// Judgements shown in full.
const EXAMPLES: usize = 8;

/// Everything that the page shows.
pub struct Page<'a> {
    pub options: &'a DemoOptions,
    pub data: &'a DemoData,
    pub contenders: &'a [Contender],
    pub table: &'a Table,
    pub judge: &'a Judge,
    pub gpu: &'a Gpu,
    pub seconds: f64,
}

impl Page<'_> {
    /// Writes the page; `judge_dir` holds the run's `metrics.jsonl`.
    pub fn write(&self, path: &Path, judge_dir: &Path) -> Result<(), DemoError> {
        let page = self.report(judge_dir).to_html();
        std::fs::write(path, page).map_err(|source| DemoError::Write { path: path.into(), source })
    }

    fn report(&self, judge_dir: &Path) -> Report {
        let first = self.contenders.first().and_then(|c| c.sets.first());
        let human = self.data.tests.first().map(|t| labels(&t.items)).unwrap_or_default();
        Report {
            title: "A judge trained from nothing".into(),
            subtitle: "Supervised training on a synthetic judging task with an imperfect teacher, on one wgpu adapter".into(),
            headlines: self.headlines(),
            facts: self.facts(),
            curves: curves(judge_dir),
            scale: self.judge.settings().scale.values().to_vec(),
            scores: first.map(|set| human.iter().copied().zip(set.scores.iter().copied()).collect()).unwrap_or_default(),
            metrics: self.metrics(),
            examples: self.examples(),
            notes: vec![
                "Histogram and reliability are those of the in-domain test set, one sampled chain of thought a row. Intervals are \
                 percentile bootstrap over rows (95 %); they do not cover the choice of seed."
                    .into(),
                "ood1: unseen pairs of criteria; ood2: longer rubrics; ood3: rare wording and distractors.".into(),
            ],
        }
    }

    fn headlines(&self) -> Vec<Headline> {
        let of = |name: &str| self.table.sets.first()?.figures.iter().find(|f| f.name.starts_with(name))?.pearson.clone().ok();
        let show = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.3}"));
        vec![
            Headline {
                label: "Pearson r, one chain".into(),
                value: show(of("SFT, one")),
                detail: format!("word counts {}", show(of("word"))),
            },
            Headline { label: "Pearson r, greedy chain".into(), value: show(of("SFT, greedy")), detail: String::new() },
            Headline { label: "Ceiling".into(), value: show(of("150")), detail: "mean of 150 simulated annotators".into() },
        ]
    }

    fn facts(&self) -> Vec<(String, String)> {
        let config = &self.judge.settings();
        let flag = if self.options.quick { " --quick" } else { "" };
        vec![
            ("command".into(), format!("jurist demo{flag} --seed {}", self.options.seed)),
            ("adapter".into(), self.gpu.facts().to_string()),
            ("training rows".into(), self.data.train_items.len().to_string()),
            ("score phrase".into(), config.phrase.clone()),
            ("time".into(), format!("{:.0} s in all", self.seconds)),
        ]
    }

    fn metrics(&self) -> MetricTable {
        let columns = ["Pearson r", "Spearman ρ", "RMSE", "modal share", "verdicts right"].map(String::from).to_vec();
        let group = |set: &super::TestSet| MetricGroup {
            name: format!("{} ({} rows)", set.name, set.rows),
            rows: set
                .figures
                .iter()
                .map(|f| MetricRow {
                    name: f.name.clone(),
                    role: match f.role {
                        Role::Floor => report::Role::Floor,
                        Role::Judge => report::Role::Judge,
                        Role::Ceiling => report::Role::Ceiling,
                    },
                    figures: vec![
                        Figure { value: f.pearson.clone(), interval: f.interval },
                        Figure::from(f.spearman.clone()),
                        Figure::from(f.rmse.clone()),
                        Figure::from(Ok(f.modal_share)),
                        Figure::from(f.verdicts.ok_or(crate::eval::Undefined::NoVerdicts)),
                    ],
                })
                .collect(),
        };
        MetricTable { columns, groups: self.table.sets.iter().map(group).collect() }
    }

    fn examples(&self) -> Vec<Example> {
        let Some((test, set)) = self.data.tests.first().zip(self.contenders.first().and_then(|c| c.sets.first())) else {
            return Vec::new();
        };
        let texts = self.judge.settings().scale.texts().to_vec();
        let show = |(item, judged): (&super::Item, &super::Judged)| {
            let prediction = judged.prediction.as_ref()?;
            Some(Example {
                prompt: item.prompt.clone(),
                chain: judged.chains.first().cloned().unwrap_or_default(),
                human: Some(item.score),
                expected: prediction.expected,
                decoded: texts.get(prediction.decoded).cloned().unwrap_or_default(),
                probabilities: texts.iter().cloned().zip(prediction.probs.iter().copied()).collect(),
            })
        };
        test.items.iter().zip(&set.judged).filter_map(show).take(EXAMPLES).collect()
    }
}

/// Loss and held-out figures over the steps, from the run's log.
fn curves(judge_dir: &Path) -> Vec<Curve> {
    let text = std::fs::read_to_string(judge_dir.join(crate::train::checkpoint::METRICS)).unwrap_or_default();
    let lines: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let points = |key: &str| -> Vec<(f64, f64)> {
        lines.iter().filter_map(|l| Some((l.get("step")?.as_f64()?, l.get(key)?.as_f64()?))).collect()
    };
    let curve = |name: &str, kind: &str, points| Curve { name: name.into(), kind: kind.into(), points };
    vec![
        curve("training", "cross-entropy, nats a token", points("loss")),
        curve("validation", "cross-entropy, nats a token", points("eval_loss")),
        curve("validation, greedy chain", "Pearson r with people", points("eval_pearson")),
    ]
}
