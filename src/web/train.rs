//! Training in a page: REAL on the visitor's own scores, with the same steps as `jurist train --method real`.

use js_sys::Function;
use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::{now, seconds_since};
use super::engine::verdicts;
use super::judge::continues;
use super::metrics::agreement_of;
use super::{Failure, WebJudge, rows};
use crate::data::Example;
use crate::judge::{BatchLayout, ScoreOptions};
use crate::ranks::Ranks;
use crate::train::TrainConfig;
use crate::train::config::{Method, Preset};
use crate::train::data::examples::{Preparation, longest_prompt};
use crate::train::objective::engine::{Engine, TrainData};
use crate::train::steps::{StepResult, TrainLoop};

/// What a page may set.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    steps: u64,
    learning_rate: f64,
    /// Chains sampled per row.
    group_size: u32,
    /// Rows per step.
    batch_size: u32,
    seed: u64,
    /// `exact`, `paper` or `released-code`.
    preset: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { steps: 20, learning_rate: 1e-3, group_size: 8, batch_size: 8, seed: 0, preset: "exact".into() }
    }
}

impl Options {
    fn check(&self) -> Result<(), Failure> {
        let bad =
            |what: &str, found: String, expected: &str| Err(Failure::row(format!("`{what}` is {found}; expected {expected}.")));
        if !(1..=100_000).contains(&self.steps) {
            return bad("steps", self.steps.to_string(), "1 to 100000");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return bad("learningRate", self.learning_rate.to_string(), "a number above 0, at most 1");
        }
        if !(2..=64).contains(&self.group_size) {
            return bad("groupSize", self.group_size.to_string(), "2 to 64 chains");
        }
        if !(1..=256).contains(&self.batch_size) {
            return bad("batchSize", self.batch_size.to_string(), "1 to 256 rows");
        }
        Ok(())
    }

    fn preset(&self) -> Result<Preset, Failure> {
        let refused = || Failure::row(format!("`preset` is \"{}\"; expected exact, paper or released-code.", self.preset));
        self.preset.parse().map_err(|_| refused())
    }
}

/// Training ends with an error after so many steps in succession without a finite gradient.
const MOST_NONFINITE: u64 = 5;

/// Trains `web`'s judge on labelled `rows` (JSON). Returns its agreement with the labels of `held_out` before and after, as JSON.
/// `on_step` is called after each step. If it returns `false`, training ends and the judge keeps what it learned.
pub async fn run(web: &WebJudge, rows: &str, held_out: &str, options: &str, on_step: &Function) -> Result<String, Failure> {
    let start = now();
    let options: Options = rows::parse(options)?;
    options.check()?;
    let preset = options.preset()?;
    let judge = web.state().judge;
    let settings = judge.settings();
    if !settings.chain {
        let message = "This judge writes no chain of thought, so there is nothing to explore: REAL trains judges that write one.";
        return Err(Failure::row(message));
    }
    let examples = rows::labelled(rows, "training row")?;
    let held_out = rows::labelled(held_out, "held-out row")?;
    let (tokens, tokenizer) = (judge.score_tokens(), judge.tokenizer());
    let context = web.state().weights.config.max_position_embeddings;
    let layout = BatchLayout { tokens, reads: settings.score_reads };
    let preparation = Preparation { prompt: &web.prompt, layout, tokenizer, max_length: context, skip_bad: false };
    let mut prepared = preparation.prepare(&examples)?;
    prepared.keep_prompts_up_to(longest_prompt(layout, context, settings.max_completion_length));
    if prepared.examples.is_empty() {
        let message = "No training row is left: give at least one whose prompt leaves room for a chain of thought.";
        return Err(Failure::row(message));
    }
    let (gpu, found) = web.training.choose(&web.gpu).await?;
    let before = measure(web, &held_out).await?;
    let weights = web.prepare_training(options.seed)?.weights;

    let batch = (options.batch_size as usize).min(prepared.examples.len());
    let config = TrainConfig {
        method: Method::Real,
        preset,
        num_generations: options.group_size,
        learning_rate: options.learning_rate,
        max_steps: options.steps as i64,
        per_device_train_batch_size: batch as u32,
        seed: options.seed,
        max_nonfinite_steps: MOST_NONFINITE,
        ..TrainConfig::default()
    };
    let (scale, max_tokens) = (&settings.scale, settings.max_completion_length);
    let data = TrainData { examples: &prepared.examples, scale, layout, tokenizer, max_tokens };
    let engine = Engine::with_weights(&gpu, weights, None, &config, &data, &Ranks::alone())?;
    let mut training = TrainLoop::new(engine, &config, &prepared.examples)?;
    let began = now();
    while !training.is_over() {
        let StepResult { metrics, moved, .. } = training.step(&data).await?;
        if moved {
            web.mark_trained();
        }
        if training.check_diverged().is_err() {
            let message = "The gradient was not finite in five steps in a row: lower the learning rate, or reset the judge.";
            return Err(Failure::row(message));
        }
        let made = training.counters().steps;
        let extra = |name: &str| metrics.extra.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let event = json!({
            "step": made,
            "steps": options.steps,
            "loss": metrics.loss,
            "reward": extra("reward"),
            "meanScore": extra("judge/expected_score"),
            "gradNorm": metrics.grad_norm,
            "secondsLeft": seconds_since(began) / made as f64 * (options.steps - made) as f64,
        });
        if !continues(on_step, &event.to_string().into()) {
            break;
        }
    }
    let after = measure(web, &held_out).await?;
    let result = json!({
        "steps": training.counters().steps,
        "seconds": seconds_since(start),
        "before": before,
        "after": after,
        "kernels": verdicts(&found),
    });
    Ok(result.to_string())
}

/// The judge's scores of labelled rows, each after its greedy chain, and how well they agree with the labels.
async fn measure(web: &WebJudge, held_out: &[Example]) -> Result<Value, Failure> {
    let judging = ScoreOptions { batch_size: 32, ..ScoreOptions::default() };
    let judged = web.state().judge.judge(held_out, &judging, ()).await?;
    let scores: Vec<Option<f64>> = judged.iter().map(|j| j.record.expected).collect();
    let pairs = held_out.iter().zip(&scores).filter_map(|(row, score)| Some((row.record.score?, (*score)?)));
    let (human, judge): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let mut agreement = agreement_of(&human, &judge);
    agreement["rows"] = json!(scores);
    Ok(agreement)
}
