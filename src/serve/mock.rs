//! Requests read and answered without a model: what a fuzzer and the tests of its seeds run.

use std::sync::Arc;

use super::answer::Plan;
use super::engine::{Engine, Judged, JudgedChain, Sizes};
use super::error::ApiResult;
use super::limits::Limits;
use super::metrics::Metrics;
use super::server::{Defaults, Judging, Served};
use super::{Prompts, chat, completions, judge};
use crate::judge::{CalibratedRow, Expectation, Prediction, ScoreRecord};

/// A server without a model.
pub struct MockServer(Served);

impl MockServer {
    /// The server of these prompts.
    pub fn new(prompts: Prompts) -> Self {
        let metrics = Arc::new(Metrics::default());
        let engine = Engine::idle(Sizes { queue: 64, batch: 64 }, metrics.clone());
        let defaults = Defaults { chains: 1, temperature: None, expectation: Expectation::default(), threshold: None, batch: 64 };
        MockServer(Arc::new(Judging::new("words".into(), prompts, engine, defaults, Limits::default(), metrics)))
    }

    /// Reads the body of a request to `/v1/chat/completions`, and writes its answers as if every score were as likely as any
    /// other: each with whether it has to be JSON. An error is the message that a client gets.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn chat(&self, body: &[u8]) -> Result<Vec<(String, bool)>, String> {
        let answers = || -> ApiResult<_> {
            let (asked, prompts) = chat::read(&self.0, body)?;
            let is_json = asked.plan.form.first() != Some(&super::form::Piece::Whole);
            let is_json =
                is_json && asked.plan.form.iter().any(|piece| matches!(piece, super::form::Piece::Text(t) if t.starts_with('{')));
            let answers = self.answers(&asked.plan, prompts.len())?;
            Ok(answers.into_iter().map(|text| (text, is_json)).collect())
        };
        answers().map_err(|error| error.message)
    }

    /// The same for `/v1/completions`.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn completion(&self, body: &[u8]) -> Result<Vec<String>, String> {
        let answers = || -> ApiResult<_> {
            let (asked, prompts) = completions::read(&self.0, body)?;
            self.answers(&asked.plan, prompts.len())
        };
        answers().map_err(|error| error.message)
    }

    /// Reads the body of a request to `/v1/judge`: the rows that can be judged, and the messages of the others.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn rows(&self, body: &[u8]) -> Result<(usize, Vec<String>), String> {
        let asked = judge::read(&self.0, body).map_err(|error| error.message)?;
        Ok(asked.counts())
    }

    fn answers(&self, plan: &Plan, prompts: usize) -> ApiResult<Vec<String>> {
        let own = &self.0.prompts;
        let scale = &own.settings.scale;
        let Ok(prediction) = Prediction::from_probs(scale, &vec![1.0 / scale.len() as f64; scale.len()]) else {
            return Ok(Vec::new());
        };
        let chain = JudgedChain {
            text: "\"so\" \\ \u{1f600}\n".into(),
            prediction: prediction.clone(),
            forced: true,
            closed: own.score_tokens.stem.clone(),
            score: own.score_tokens.path(0).to_vec(),
            logprobs: plan.top_logprobs.map(|_| Vec::new()),
        };
        let record = ScoreRecord::new(scale, &prediction, plan.score.expectation, None, true);
        let chains = vec![chain; plan.n * plan.chains];
        let judged = Judged { record, prediction, chains, row: CalibratedRow::default() };
        let mut texts = Vec::new();
        for prompt in 0..prompts {
            texts.extend(plan.choices(own, prompt, &judged)?.into_iter().map(|choice| choice.text));
        }
        Ok(texts)
    }
}
