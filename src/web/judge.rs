//! A loaded judge.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use super::clock::{now, seconds_since};
use super::engine::TrainingKernels;
use super::export::{self, BundleFiles};
use super::rows::{self, Given, RequestOptions};
use super::{Failure, train};
use crate::bundle::Manifest;
use crate::data::{Example, Labels};
use crate::gpu::Gpu;
use crate::judge::{ChainScore, Judge, JudgePrompt, JudgeSettings, Prediction, PromptColumn, ScoreRecord, ScoredRow};
use crate::model::decoder::Draw;
use crate::model::lora::{ALL_LINEAR, Adapter, LoraSettings};
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::weight_dtype::WeightDtype;
use crate::rollout::RolloutObserver;
use crate::text::{StreamDecoder, Tokenizer};

/// Decode steps between two calls of `on_token`.
const STREAM_INTERVAL: usize = 2;
/// Chains that are sampled together in a batch of rows.
const BATCH_CHAINS: usize = 32;
/// Largest vocabulary of words that is shown.
const MOST_WORDS: usize = 512;
/// Milliseconds after which a batch calls `on_progress` again, which may stop it.
const PROGRESS_INTERVAL: f64 = 100.0;

/// The adapter that a judge trains whose weights are not f32.
fn page_adapter() -> LoraSettings {
    LoraSettings { r: 8, alpha: 16.0, dropout: 0.0, rslora: false, targets: vec![ALL_LINEAR.into()] }
}

/// A judge on the GPU.
#[wasm_bindgen]
pub struct WebJudge {
    pub(super) gpu: Gpu,
    pub(super) training: TrainingKernels,
    state: RefCell<State>,
    pub(super) prompt: JudgePrompt,
    manifest: Manifest,
    /// A copy of the trainable weights as they were loaded: f32 weights, or an adapter. Made before the first training.
    loaded: RefCell<Option<TensorSet>>,
    trained: Cell<bool>,
}

/// The weights and the judge over them. Adding or removing an adapter replaces both.
#[derive(Clone)]
pub(super) struct State {
    pub weights: Weights,
    pub judge: Rc<Judge>,
}

impl State {
    fn new(gpu: &Gpu, weights: Weights, tokenizer: Tokenizer, settings: JudgeSettings) -> Result<Self, Failure> {
        let judge = Judge::new(gpu, &weights, tokenizer, settings)?;
        Ok(State { weights, judge: Rc::new(judge) })
    }

    /// The same judge over other weights.
    fn over(&self, gpu: &Gpu, weights: Weights) -> Result<Self, Failure> {
        Self::new(gpu, weights, self.judge.tokenizer().clone(), self.judge.settings().clone())
    }
}

impl WebJudge {
    pub(super) fn new(
        gpu: Gpu,
        training: TrainingKernels,
        manifest: Manifest,
        weights: Weights,
        tokenizer: Tokenizer,
    ) -> Result<Self, Failure> {
        let mut settings = JudgeSettings::from_json(&manifest.judge_json())?;
        settings.state_date(&tokenizer)?;
        let prompt = settings.prompt(&tokenizer)?;
        let state = RefCell::new(State::new(&gpu, weights, tokenizer, settings)?);
        Ok(WebJudge { gpu, training, state, prompt, manifest, loaded: RefCell::new(None), trained: Cell::new(false) })
    }

    /// Weights and judge as they are now.
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    fn judge(&self) -> Rc<Judge> {
        self.state.borrow().judge.clone()
    }

    /// Weights that can be trained. f32 weights, and an adapter that came with the judge, are copied first; others get an adapter.
    pub(super) fn prepare_training(&self, seed: u64) -> Result<State, Failure> {
        let mut state = self.state();
        // Training needs the memory.
        state.judge.release();
        if state.weights.trainable().is_err() {
            let adapter = Adapter::fresh(&self.gpu, &state.weights.config, &page_adapter(), seed)?;
            state = state.over(&self.gpu, state.weights.with_adapter(adapter))?;
            *self.state.borrow_mut() = state.clone();
        }
        let made_here = state.weights.adapter().is_some() && self.manifest.adapter.is_none();
        if !made_here && self.loaded.borrow().is_none() {
            let trained = state.weights.trainable()?;
            let copy = TensorSet::zeros(&self.gpu, trained.groups(), "loaded weights")?;
            copy.copy_from(&self.gpu, trained)?;
            *self.loaded.borrow_mut() = Some(copy);
        }
        Ok(state)
    }

    /// Adds the calibrated score, if there is one and the judge was not trained since.
    fn add_calibrated(&self, result: &mut Value, record: &ScoreRecord) {
        if let (Some(calibrated), false) = (&record.calibrated, self.trained.get()) {
            result["calibrated"] = json!(calibrated);
        }
    }

    pub(super) fn mark_trained(&self) {
        self.trained.set(true);
    }

    /// Judges one row with its chains, sampled or given.
    async fn judge_row(
        &self,
        row: &str,
        options: &RequestOptions,
        watch: impl RolloutObserver,
    ) -> Result<Vec<ScoredRow>, Failure> {
        let judging = options.judging(1)?;
        let given = matches!(options.given_chains, Some(Given::OfRows(true)));
        let example = rows::read("the row", row, rows::view(Labels::Optional, given))?;
        let examples = match &options.given_chains {
            Some(Given::Texts(texts)) if texts.is_empty() => {
                return Err(Failure::row("`givenChains` is empty; give at least one."));
            }
            Some(Given::Texts(texts)) => {
                let with = |text: &String| {
                    let mut example = example.clone();
                    example.record.chain = Some(text.clone());
                    example
                };
                texts.iter().map(with).collect()
            }
            _ => vec![example],
        };
        let judge = self.judge();
        match &examples[..] {
            [example] => Ok(vec![judge.judge_one(example, &judging, watch).await?]),
            several => Ok(judge.judge(several, &judging, watch).await?),
        }
    }
}

#[wasm_bindgen]
impl WebJudge {
    /// Makes what scoring a row like this one needs, so that no later call waits for the compiler of the kernels.
    ///
    /// # Errors
    /// `BadRow`, and what the GPU reports.
    pub async fn prepare(&self, row: &str) -> Result<(), Failure> {
        let example = rows::read("the row", row, rows::view(Labels::Optional, false))?;
        let state = self.state();
        state.judge.reserve_one(&example, &RequestOptions::default().judging(1)?)?;
        // The GPU answers after its compiler.
        if let Some(buffer) = state.weights.base().buffers().first() {
            self.gpu.read::<u32>(buffer, 0, 1).await?;
        }
        Ok(())
    }

    /// What this judge is, as JSON.
    pub fn about(&self) -> String {
        let state = self.state();
        let settings = state.judge.settings();
        let mut about = self.prompt.about(settings);
        let of_bundle = [
            ("name", json!(self.manifest.name)),
            ("parameters", json!(self.manifest.parameters)),
            ("trainsAdapter", state.weights.base().packed_dtype().is_some().into()),
            ("weights", self.manifest.weight_dtype().map(WeightDtype::name).unwrap_or_default().into()),
            ("maxLength", state.weights.config.max_position_embeddings.into()),
        ];
        about.extend(of_bundle.map(|(name, value)| (name.into(), value)));
        if let Some(words) = words(state.judge.tokenizer()) {
            about.insert("vocabulary".into(), words.into());
        }
        Value::Object(about).to_string()
    }

    /// The prompt of a row, as JSON: its `text`, and `tokens`, their number.
    ///
    /// # Errors
    /// `BadRow`.
    pub fn prompt(&self, row: &str) -> Result<String, Failure> {
        let example = rows::read("the row", row, rows::view(Labels::Optional, false))?;
        let text = self.prompt.text(&example)?;
        let tokens = self.prompt.prompt_ids(&example, self.judge().tokenizer())?.len();
        Ok(json!({"text": text, "tokens": tokens}).to_string())
    }

    /// Judges one row. `on_token` is called with `{chain, text}` while chains are sampled; if it returns `false`, the call ends.
    /// With `givenChains: [text, …]` no chain is sampled: the row is scored after these chains, as `jurist score --given-chains`
    /// scores it after its own. The two agree to rounding.
    ///
    /// # Errors
    /// `BadRow`, `Stopped`, and what the GPU reports.
    pub async fn score(&self, row: &str, options: &str, on_token: Function) -> Result<String, Failure> {
        let start = now();
        let options = RequestOptions::parse(options)?;
        let judge = self.judge();
        let observer = TokenObserver { tokenizer: judge.tokenizer(), on_token: &on_token, chains: Vec::new() };
        let judged = self.judge_row(row, &options, observer).await?;
        if let Some(error) = judged.iter().find_map(|j| j.record.error.as_deref()) {
            return Err(Failure::row(without_line(error)));
        }
        let expectation = options.judging(1)?.expectation;
        let scale = &judge.settings().scale;
        let readings: Vec<&ChainScore> = judged.iter().flat_map(|j| &j.chain_scores).collect();
        let mut texts = judged.iter().flat_map(|j| &j.chains);
        let predictions: Vec<Prediction> = readings.iter().map(|r| r.prediction.clone()).collect();
        let all = Prediction::average(scale, &predictions)?;
        let scores: Vec<f64> = predictions.iter().map(|p| p.score(expectation)).collect();
        let chains: Vec<Value> = (readings.iter().zip(&scores))
            .map(|(reading, score)| {
                json!({
                    "text": texts.next(),
                    "score": score,
                    "distribution": reading.prediction.probs,
                    "forced": reading.forced,
                })
            })
            .collect();
        let mut result = json!({
            "score": all.score(expectation),
            "decoded": scale.values()[all.decoded],
            "distribution": all.probs,
            "scoreMass": all.mass,
            "std": deviation(&scores),
            "chains": chains,
            "tokens": readings.iter().map(|r| r.tokens.len()).sum::<usize>(),
            "seconds": seconds_since(start),
        });
        if let [ScoredRow { record, .. }] = &judged[..] {
            self.add_calibrated(&mut result, record);
        }
        Ok(result.to_string())
    }

    /// Judges many rows (a JSON array, or JSON Lines). `on_progress` is called with the number of finished rows; if it returns
    /// `false`, the call ends. The result of a row that cannot be judged has `error`. With `givenChains: true` the rows' own
    /// chains are used.
    ///
    /// # Errors
    /// `BadRow` if the rows as a whole cannot be read; `Stopped`; what the GPU reports.
    pub async fn score_batch(&self, rows: &str, options: &str, on_progress: Function) -> Result<String, Failure> {
        let options = RequestOptions::parse(options)?;
        if matches!(options.given_chains, Some(Given::Texts(_))) {
            return Err(Failure::row("`givenChains` of a batch is true or false: the chains are those of its rows."));
        }
        let judging = options.judging(BATCH_CHAINS)?;
        let read = |(i, row): (usize, &String)| {
            rows::read(&format!("row {}", i + 1), row, rows::view(Labels::Optional, options.given()))
        };
        let read: Vec<Result<Example, Failure>> = rows::split(rows)?.iter().enumerate().map(read).collect();
        let good: Vec<Example> = read.iter().filter_map(|r| r.as_ref().ok().cloned()).collect();
        let observer = BatchObserver { on_progress: &on_progress, done: 0, last_call: now() };
        let judged = self.judge().judge(&good, &judging, observer).await?;
        let mut judged = judged.iter();
        let results = read.iter().map(|row| match row {
            Err(failure) => json!({"error": failure.message}),
            Ok(_) => judged.next().map_or(Value::Null, |judged| {
                let mut result = result_of(judged);
                self.add_calibrated(&mut result, &judged.record);
                result
            }),
        });
        Ok(Value::Array(results.collect()).to_string())
    }

    /// Trains the judge in place with REAL on labelled rows: all its f32 weights, or an adapter for others; see [`train::run`].
    ///
    /// # Errors
    /// `BadRow`, and what the GPU reports. What was learned before stays.
    pub async fn train(&self, rows: &str, held_out: &str, options: &str, on_step: Function) -> Result<String, Failure> {
        train::run(self, rows, held_out, options, &on_step).await
    }

    /// Restores the weights that were loaded, and drops an adapter.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn reset(&self) -> Result<(), Failure> {
        let state = self.state();
        if state.weights.adapter().is_some() && self.manifest.adapter.is_none() {
            *self.state.borrow_mut() = state.over(&self.gpu, state.weights.without_adapter())?;
        } else if let Some(loaded) = &*self.loaded.borrow() {
            state.weights.trainable()?.copy_from(&self.gpu, loaded)?;
        }
        self.trained.set(false);
        self.gpu.check()?;
        Ok(())
    }

    /// The judge as files that `jurist` reads, in the dtype it was loaded in. A trained judge, or one with an
    /// adapter, is saved in f32 with the adapter added to the weights, since rounding would undo small steps.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn export_bundle(&self) -> Result<BundleFiles, Failure> {
        let changed = self.trained.get() || self.manifest.adapter.is_some();
        let dtype = if changed { WeightDtype::F32 } else { self.manifest.weight_dtype()? };
        let state = self.state();
        let mut manifest = self.manifest.clone();
        if let (true, Some(judge)) = (self.trained.get(), manifest.judge.as_object_mut()) {
            // Nobody calibrated what training made of it.
            judge.shift_remove("calibration");
        }
        export::files(&self.gpu, &state.weights, state.judge.tokenizer(), &manifest, dtype).await
    }
}

/// The result of one row of a batch. Scores are those of the expectation that was asked for.
fn result_of(judged: &ScoredRow) -> Value {
    let judgement = &judged.record;
    match &judged.prediction {
        None => json!({"error": judgement.error.as_deref().map(without_line)}),
        Some(prediction) => json!({
            "score": judgement.expected,
            "decoded": judgement.decoded,
            "distribution": prediction.probs,
            "scoreMass": prediction.mass,
            "feedback": judgement.feedback,
        }),
    }
}

/// Why a row was not judged, without a line number: a page's row has none.
fn without_line(error: &str) -> String {
    error.replacen(":1: ", ": ", 1)
}

/// The words of a word-level tokenizer, if they are few. Special tokens are not words.
fn words(tokenizer: &Tokenizer) -> Option<Vec<String>> {
    let json: Value = serde_json::from_slice(tokenizer.files().get("tokenizer.json")?).ok()?;
    if json.get("model")?.get("type")?.as_str()? != "WordLevel" || tokenizer.vocab_size() > MOST_WORDS {
        return None;
    }
    let special: Vec<u64> = json.get("added_tokens")?.as_array()?.iter().filter_map(|t| t.get("id")?.as_u64()).collect();
    let ids = (0..tokenizer.vocab_size() as u32).filter(|id| !special.contains(&u64::from(*id)));
    Some(ids.filter_map(|id| tokenizer.id_to_token(id)).collect())
}

/// Standard deviation of the chains' scores. It is 0 for one chain.
fn deviation(scores: &[f64]) -> f64 {
    let n = scores.len().max(1) as f64;
    let mean = scores.iter().sum::<f64>() / n;
    (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Calls a page's function. Whether the work continues: not if the function returns `false` or throws.
pub(super) fn continues(function: &Function, value: &JsValue) -> bool {
    function.call1(&JsValue::NULL, value).is_ok_and(|answer| answer != JsValue::FALSE)
}

/// Passes the text of chains to the page while they are sampled.
struct TokenObserver<'a> {
    tokenizer: &'a Tokenizer,
    on_token: &'a Function,
    /// For each chain: its decoder, the tokens that were passed on, and whether any text has come.
    chains: Vec<(StreamDecoder, usize, bool)>,
}

impl RolloutObserver for TokenObserver<'_> {
    fn sync_interval(&self) -> Option<usize> {
        Some(STREAM_INTERVAL)
    }

    fn stable_tokens(&mut self, chain: usize, draws: &[Draw]) -> bool {
        while self.chains.len() <= chain {
            self.chains.push((StreamDecoder::new(&[], true), 0, false));
        }
        let (decoder, passed, begun) = &mut self.chains[chain];
        let new = draws.get(*passed..).unwrap_or_default();
        *passed += new.len();
        // Text that cannot be decoded is not shown. The chain itself continues.
        let mut text: String = new.iter().filter_map(|d| decoder.push(self.tokenizer, d.token).ok()).collect();
        if !*begun {
            text = text.trim_start().to_string();
            *begun = !text.is_empty();
        }
        // An empty text is passed on too, so that a page can stop a chain that has no text yet.
        continues(self.on_token, &json!({"chain": chain, "text": text}).to_string().into())
    }
}

/// Passes the number of finished rows of a batch to the page.
struct BatchObserver<'a> {
    on_progress: &'a Function,
    done: usize,
    /// When `on_progress` was called last.
    last_call: f64,
}

impl RolloutObserver for BatchObserver<'_> {
    fn stable_tokens(&mut self, _chain: usize, _draws: &[Draw]) -> bool {
        if now() - self.last_call < PROGRESS_INTERVAL {
            return true;
        }
        self.last_call = now();
        continues(self.on_progress, &(self.done as f64).into())
    }

    fn done(&mut self, prompts: usize) -> bool {
        self.done = prompts;
        self.last_call = now();
        continues(self.on_progress, &(prompts as f64).into())
    }
}
