//! The demo's `report.html`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::data::DemoData;
use super::table::{DemoTable, Predictor, PredictorMetrics, human_scores};
use super::{DemoError, DemoOptions, Judge, REAL, SFT};
use crate::eval::Undefined;
use crate::eval::report::{Curve, Figure, Headline, JudgedExample, MetricGroup, MetricRow, MetricTable, Report};
use crate::files::write_own;
use crate::gpu::Gpu;

/// Judged rows shown in full.
const EXAMPLES: usize = 8;

/// The page's title. A page with another title is not a demo's report.
const TITLE: &str = "A judge trained from nothing";

/// Whether a page is a demo's.
pub fn is_ours(page: &str) -> bool {
    page.contains(&format!("<title>{TITLE}</title>"))
}

/// Everything that the page shows.
pub struct Page<'a> {
    pub options: &'a DemoOptions,
    pub data: &'a DemoData,
    pub predictors: &'a [Predictor],
    pub table: &'a DemoTable,
    pub judge: &'a Judge,
    pub gpu: &'a Gpu,
    pub seconds: f64,
}

impl Page<'_> {
    /// Writes the page; `dirs` hold the `metrics.jsonl` of SFT, REAL, reinforce and SFT continued.
    pub fn write(&self, path: &Path, dirs: &[PathBuf]) -> Result<(), DemoError> {
        let page = self.report(dirs).to_html()?;
        Ok(write_own(path, page.as_bytes(), is_ours)?)
    }

    /// Human score and the score of the predictor called `name`, for each row of the in-domain test split.
    fn pairs(&self, name: &str) -> Vec<(f64, f64)> {
        let set = self.predictors.iter().find(|c| c.name == name).and_then(|c| c.splits.first());
        let human = self.data.tests.first().map(|t| human_scores(&t.items)).unwrap_or_default();
        set.map(|set| human.into_iter().zip(set.scores.iter().copied()).collect()).unwrap_or_default()
    }

    fn report(&self, dirs: &[PathBuf]) -> Report {
        let quick = if self.options.quick {
            "This is the quick demo: the supervised judge is far from its plateau, so the comparison says little. Run it without --quick."
        } else {
            "One seed, one run: docs/demo.md has more."
        };
        Report {
            title: TITLE.into(),
            subtitle: "Supervised by an imperfect teacher, then with REAL, on a synthetic judging task and one wgpu adapter".into(),
            headlines: self.headlines(),
            facts: self.facts(),
            curves: curves(dirs),
            scale: self.judge.settings().scale.values().to_vec(),
            scores: self.pairs(REAL),
            before: self.pairs(SFT),
            metrics: self.metrics(),
            examples: self.examples(),
            notes: vec![
                quick.into(),
                "Histograms (before: SFT, after: REAL), reliability and examples are those of the in-domain test set, one sampled \
                 chain of thought per row. Intervals are percentile bootstrap over rows (95 %); they do not cover the choice of seed."
                    .into(),
                "REAL, reinforce and SFT continued start from the same judge and see the same number of sequences. Learning rates \
                 were chosen on validation with an implementation in PyTorch, from the same three for each policy-gradient method."
                    .into(),
                "ood1: unseen pairs of criteria; ood2: longer rubrics; ood3: rare wording and distractors. Modal share: the share of \
                 scores in the fullest bin of a quarter point. Verdicts right: of the criteria of an item, the share on which its chain \
                 is right."
                    .into(),
            ],
            ..Report::default()
        }
    }

    fn headlines(&self) -> Vec<Headline> {
        let set = |index: usize| self.table.splits.get(index).map(|s| s.metrics.as_slice()).unwrap_or_default();
        let of = |index: usize, name: &str| set(index).iter().find(|f| f.name.starts_with(name))?.pearson.clone().ok();
        let show = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.3}"));
        let headline = |index: usize, label: &str| Headline {
            label: label.into(),
            value: show(of(index, REAL)),
            detail: format!("SFT {}, word counts {}", show(of(index, SFT)), show(of(index, "word"))),
        };
        vec![
            headline(0, "Pearson r of REAL, in domain"),
            headline(1, "Pearson r of REAL, out of domain"),
            Headline { label: "Ceiling".into(), value: show(of(0, "150")), detail: "mean of 150 simulated annotators".into() },
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
        let columns = ["Pearson r", "r minus SFT", "Spearman ρ", "RMSE", "modal share", "verdicts right"];
        let columns = columns.map(String::from).to_vec();
        let gain = |f: &PredictorMetrics| Figure {
            value: f.gain.map(|(gain, _, _)| gain).ok_or(Undefined::NotCompared),
            interval: f.gain.map(|(_, low, high)| (low, high)),
        };
        let group = |set: &super::SplitTable| MetricGroup {
            name: format!("{} ({} rows)", set.name, set.rows),
            rows: set
                .metrics
                .iter()
                .map(|f| MetricRow {
                    name: f.name.clone(),
                    role: f.role,
                    figures: vec![
                        Figure { value: f.pearson.clone(), interval: f.interval },
                        gain(f),
                        Figure::from(f.spearman.clone()),
                        Figure::from(f.rmse.clone()),
                        Figure::from(Ok(f.modal_share)),
                        Figure::from(f.verdicts.ok_or(Undefined::NoVerdicts)),
                    ],
                })
                .collect(),
        };
        MetricTable { columns, groups: self.table.splits.iter().map(group).collect() }
    }

    fn examples(&self) -> Vec<JudgedExample> {
        let Some((test, set)) = self.data.tests.first().zip(self.predictors.first().and_then(|c| c.splits.first())) else {
            return Vec::new();
        };
        let texts = self.judge.settings().scale.texts().to_vec();
        let show = |(item, judged): (&super::Item, &super::ScoredRow)| {
            let prediction = judged.prediction.as_ref()?;
            Some(JudgedExample {
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

/// Loss, reward and validation metrics over the steps, from the runs' logs.
fn curves(dirs: &[PathBuf]) -> Vec<Curve> {
    let read = |dir: &PathBuf| -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join(crate::train::checkpoint::METRICS)).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    };
    let logs: Vec<Vec<Value>> = dirs.iter().map(read).collect();
    let curve = |log: usize, name: &str, kind: &str, key: &str| {
        let point = |l: &Value| Some((l.get("step")?.as_f64()?, l.get(key)?.as_f64()?));
        let points = logs.get(log).map(|lines| lines.iter().filter_map(point).collect()).unwrap_or_default();
        Curve { name: name.into(), kind: kind.into(), points }
    };
    let (loss, pearson) = ("supervised: cross-entropy, nats per token", "then: Pearson r on validation, greedy chain");
    vec![
        curve(0, "training", loss, "loss"),
        curve(0, "validation", loss, "eval_loss"),
        curve(0, "SFT", "supervised: Pearson r on validation, greedy chain", "eval_pearson"),
        curve(1, "REAL", pearson, "eval_pearson"),
        curve(2, "reinforce", pearson, "eval_pearson"),
        curve(3, "SFT continued", pearson, "eval_pearson"),
        curve(1, "REAL", "then: squared error of the expected score", "judge/mse"),
        curve(2, "reinforce", "then: squared error of the expected score", "judge/mse"),
        curve(1, "REAL", "then: tokens per chain", "completions/mean_length"),
        curve(2, "reinforce", "then: tokens per chain", "completions/mean_length"),
    ]
}
