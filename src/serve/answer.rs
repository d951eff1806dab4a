//! From judgements to the choices of an answer, in both dialects of the API.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::engine::{Judged, JudgedChain};
use super::error::{ApiError, ApiResult};
use super::form::{Kind, Piece, Segment, Verdict, segments};
use super::logprobs::{self, Entry, Written};
use super::prompts::Prompts;
use crate::judge::{CalibratedRow, Prediction, ScoreOptions, ScoreRecord};

/// The shape of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    Chat,
    /// A chat answer that calls this function.
    Tool(String),
    Completion,
}

/// What a request asks for, beside its prompts.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dialect: Dialect,
    pub id: String,
    pub created: u64,
    /// The model's name, as it was asked for.
    pub model: String,
    pub form: Vec<Piece>,
    /// Answers a prompt.
    pub n: usize,
    /// Chains an answer.
    pub chains: usize,
    pub stop: Vec<String>,
    pub top_logprobs: Option<usize>,
    /// The chains of all answers of a prompt.
    pub score: ScoreOptions,
    pub threshold: f64,
    /// Whether a chain that reached its limit reached one of the request's.
    pub limited: bool,
    pub include_usage: bool,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Choice {
    pub index: usize,
    pub text: String,
    pub finish: &'static str,
    pub logprobs: Option<Vec<Entry>>,
    /// The judgement, as `jurist score` writes it, and how it was made.
    pub jurist: Value,
    /// Tokens that were written for it.
    pub tokens: usize,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Plan {
    /// The answers to prompt number `prompt`.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn choices(&self, prompts: &Prompts, prompt: usize, judged: &Judged) -> ApiResult<Vec<Choice>> {
        let of_choice = |(n, chains): (usize, &[JudgedChain])| self.choice(prompts, prompt * self.n + n, chains, &judged.row);
        judged.chains.chunks(self.chains.max(1)).enumerate().map(of_choice).collect()
    }

    fn choice(&self, prompts: &Prompts, index: usize, chains: &[JudgedChain], row: &CalibratedRow) -> ApiResult<Choice> {
        let failed = |e: String| ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, e);
        let scale = &prompts.settings.scale;
        let Some(first) = chains.first() else { return Err(failed("a row has no chain".into())) };
        let predictions: Vec<Prediction> = chains.iter().map(|chain| chain.prediction.clone()).collect();
        let prediction = Prediction::average(scale, &predictions).map_err(|e| failed(e.to_string()))?;
        let score = prompts.score_tokens.path(prediction.decoded);
        let whole = prompts.decode(&[&first.closed[..], score].concat())?.trim().to_string();
        let (expectation, chain) = (self.score.expectation, first.text.as_str());
        let verdict = Verdict { scale, prediction: &prediction, expectation, threshold: self.threshold, chain, whole: &whole };
        let mut parts = segments(&self.form, &verdict);
        let stopped = cut(&mut parts, &self.stop);
        let phrase = prompts.score_tokens.stem_after(false).len();
        let chain_tokens = first.closed.len().saturating_sub(phrase);
        let at_limit = self.score.most_tokens.is_some_and(|most| first.forced && chain_tokens >= most);
        let whole_form = self.form == [Piece::Whole];
        let finish = match (&self.dialect, at_limit && self.limited && whole_form && !stopped) {
            (Dialect::Tool(_), _) => "tool_calls",
            (_, true) => "length",
            _ => "stop",
        };
        let logprobs = match (&first.logprobs, self.top_logprobs) {
            (Some(tokens), Some(top)) => {
                let written = Written { tokenizer: &prompts.tokenizer, tokens, chain: chain_tokens };
                Some(written.entries(&parts, top).map_err(|e| failed(e.to_string()))?)
            }
            _ => None,
        };
        let feedback = Some(first.text.clone()).filter(|_| prompts.settings.chain);
        let forced = chains.iter().any(|chain| chain.forced);
        let of_choice = ScoreOptions { chains: self.chains, ..self.score.clone() };
        let record = ScoreRecord {
            calibrated: prompts.settings.calibrated(&of_choice, row, prediction.score(expectation)),
            ..ScoreRecord::new(scale, &prediction, expectation, feedback, forced)
        };
        Ok(Choice {
            index,
            text: parts.into_iter().map(|segment| segment.text).collect(),
            finish,
            logprobs,
            jurist: self.made(prompts, &record, self.chains),
            tokens: chains.iter().map(|chain| chain.closed.len() + chain.score.len()).sum(),
        })
    }

    /// A judgement, with how it was made.
    pub fn made(&self, prompts: &Prompts, record: &ScoreRecord, chains: usize) -> Value {
        let mut made = serde_json::to_value(record).unwrap_or_default();
        if let (Value::Object(made), Value::Object(how)) = (&mut made, self.how(prompts, chains)) {
            made.extend(how);
        }
        made
    }

    /// How judgements are made.
    pub fn how(&self, prompts: &Prompts, chains: usize) -> Value {
        let scale = &prompts.settings.scale;
        json!({
            "scale": [scale.min(), scale.max()],
            "threshold": self.threshold,
            "expectation": self.score.expectation,
            "chains": if prompts.settings.chain { chains } else { 0 },
            "temperature": self.score.chain_temperature(),
            "seed": self.score.seed,
        })
    }

    /// The head of an answer or of a chunk.
    pub fn head(&self, chunk: bool) -> Map<String, Value> {
        let object = match (&self.dialect, chunk) {
            (Dialect::Completion, _) => "text_completion",
            (_, false) => "chat.completion",
            (_, true) => "chat.completion.chunk",
        };
        let head = [
            ("id", json!(self.id)),
            ("object", json!(object)),
            ("created", json!(self.created)),
            ("model", json!(self.model)),
            ("system_fingerprint", json!(concat!("jurist-", env!("CARGO_PKG_VERSION")))),
        ];
        head.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// `logprobs` of a choice.
    pub fn logprobs(&self, entries: Option<&[Entry]>) -> Value {
        match (entries, &self.dialect) {
            (None, _) => Value::Null,
            (Some(entries), Dialect::Completion) => logprobs::of_completion(entries, 0),
            (Some(entries), _) => logprobs::of_chat(entries),
        }
    }

    /// A choice of a whole answer.
    pub fn shown(&self, choice: &Choice) -> Value {
        let mut shown = json!({
            "index": choice.index,
            "finish_reason": choice.finish,
            "logprobs": self.logprobs(choice.logprobs.as_deref()),
            "jurist": choice.jurist,
        });
        match &self.dialect {
            Dialect::Completion => shown["text"] = json!(choice.text),
            Dialect::Chat => {
                shown["message"] = json!({"role": "assistant", "content": choice.text, "refusal": null});
            }
            Dialect::Tool(name) => {
                let call = self.call(choice.index, name, &choice.text);
                shown["message"] = json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]});
            }
        }
        shown
    }

    /// The call of a function.
    fn call(&self, index: usize, name: &str, arguments: &str) -> Value {
        let id = format!("call_{}_{index}", self.id.rsplit('-').next().unwrap_or_default());
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
    }

    /// The part of a streamed choice that holds `text`; `begins`: it is the first.
    pub fn delta(&self, index: usize, text: &str, begins: bool) -> Value {
        let mut shown = json!({"index": index, "finish_reason": null, "logprobs": null});
        match &self.dialect {
            Dialect::Completion => shown["text"] = json!(text),
            Dialect::Chat => {
                shown["delta"] = json!({ "content": text });
                if begins {
                    shown["delta"]["role"] = json!("assistant");
                }
            }
            Dialect::Tool(name) => {
                let call = match begins {
                    true => {
                        let mut call = self.call(index, name, text);
                        call["index"] = json!(0);
                        call
                    }
                    false => json!({"index": 0, "function": {"arguments": text}}),
                };
                shown["delta"] = json!({ "tool_calls": [call] });
                if begins {
                    shown["delta"]["role"] = json!("assistant");
                }
            }
        }
        shown
    }
}

/// Cuts an answer at the first stop sequence. True where there was one.
fn cut(parts: &mut Vec<Segment>, stop: &[String]) -> bool {
    let text: String = parts.iter().map(|segment| segment.text.as_str()).collect();
    let Some(mut left) = first_stop(&text, stop) else { return false };
    for part in parts.iter_mut() {
        let kept = left.min(part.text.len());
        part.text.truncate(kept);
        left -= kept;
    }
    parts.retain(|part| !part.text.is_empty() || part.kind != Kind::Fixed);
    true
}

/// Where the first stop sequence begins.
pub fn first_stop(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min()
}

/// Tokens that were read and written.
pub fn usage(prompt: usize, completion: usize) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}
