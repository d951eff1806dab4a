//! Answers of chat and completions: whole, or as server-sent events while tokens are drawn.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{Choice, Plan, first_stop, usage};
use super::engine::Event;
use super::error::{ApiError, ApiResult, json_response};
use super::form::{Piece, written};
use super::request::{Asked, Asking, jobs};
use super::server::Served;
use crate::judge::PromptTokens;
use crate::text::{StreamDecoder, Tokenizer};

/// Events of a stream that wait for a slow client.
const WAITING: usize = 64;

/// Judges the prompts and answers.
///
/// # Errors
/// What is wrong with the request or the server.
pub async fn answer(served: Served, asked: Asked, prompts: Vec<PromptTokens>) -> ApiResult<Response<Body>> {
    let Asked { plan, stream } = asked;
    let (queued, askings) = jobs(&plan, prompts, stream);
    served.push(queued)?;
    if stream { streamed(served, plan, askings).await } else { whole(&served, &plan, askings).await }
}

async fn whole(served: &Served, plan: &Plan, askings: Vec<Asking>) -> ApiResult<Response<Body>> {
    let (mut choices, mut tokens) = (Vec::new(), (0, 0));
    let mut together = Value::Null;
    let all = async {
        for (n, mut asking) in askings.into_iter().enumerate() {
            tokens.0 += asking.prompt;
            loop {
                match told(asking.events.recv().await)? {
                    Event::Judged(judged) => {
                        let of_prompt = plan.choices(&served.prompts, n, &judged)?;
                        tokens.1 += of_prompt.iter().map(|choice| choice.tokens).sum::<usize>();
                        if n == 0 {
                            together = plan.made(&served.prompts, &judged.record, plan.score.chains);
                        }
                        choices.extend(of_prompt);
                        break;
                    }
                    _ => continue,
                }
            }
        }
        Ok::<_, ApiError>(())
    };
    served.in_time(all).await??;
    served.metrics.count_tokens(tokens.0, tokens.1);
    let mut body = plan.head(false);
    body.insert("choices".into(), choices.iter().map(|choice| plan.shown(choice)).collect());
    body.insert("usage".into(), usage(tokens.0, tokens.1));
    body.insert("jurist".into(), together);
    Ok(json_response(StatusCode::OK, &Value::Object(body)))
}

/// An event that is no fault.
fn told(event: Option<Event>) -> ApiResult<Event> {
    match event {
        Some(Event::Refused(reason)) => Err(ApiError::bad(reason).coded("row_not_judged")),
        Some(Event::Failed(reason)) => Err(ApiError::unavailable(reason, Some(1))),
        None => Err(ApiError::unavailable("the server ended before the row was judged", Some(1))),
        Some(event) => Ok(event),
    }
}

/// The events of all prompts, with the prompt's number, as they come.
fn all_events(askings: Vec<Asking>) -> BoxStream<'static, (usize, Option<Event>)> {
    let of_prompt = |(n, asking): (usize, Asking)| {
        stream::unfold((asking.events, false), move |(mut events, ended)| async move {
            if ended {
                return None;
            }
            let event = events.recv().await;
            let ended = !matches!(event, Some(Event::Tokens { .. }));
            Some(((n, event), (events, ended)))
        })
        .boxed()
    };
    stream::select_all(askings.into_iter().enumerate().map(of_prompt)).boxed()
}

/// Starts a stream. The status is that of the first event, so that a row that cannot be judged is an error as any other.
async fn streamed(served: Served, plan: Plan, askings: Vec<Asking>) -> ApiResult<Response<Body>> {
    let read = askings.iter().map(|asking| asking.prompt).sum();
    let prompts = askings.len();
    let mut events = all_events(askings);
    let Some((prompt, first)) = served.in_time(events.next()).await? else {
        return Err(ApiError::bad("the request has no prompts"));
    };
    let first = told(first)?;
    let (sender, receiver) = mpsc::channel::<String>(WAITING);
    tokio::spawn(async move {
        let begun = stream::iter([(prompt, Some(first))]).chain(events).boxed();
        let mut writer = Writer::new(&served, &plan, &sender, prompts);
        // Whoever reads the stream may be gone: then the receivers of the jobs go as well.
        let ended = tokio::select! {
            () = sender.closed() => return,
            ended = served.in_time(writer.write(begun)) => ended.and_then(|ended| ended),
        };
        let written = writer.tokens;
        served.metrics.count_tokens(read, written);
        match ended {
            Ok(()) => {
                if plan.include_usage {
                    let mut chunk = plan.head(true);
                    chunk.insert("choices".into(), json!([]));
                    chunk.insert("usage".into(), usage(read, written));
                    let _ = sender.send(Value::Object(chunk).to_string()).await;
                }
                let _ = sender.send("[DONE]".into()).await;
            }
            Err(error) => drop(sender.send(error.to_json().to_string()).await),
        }
    });
    let events = stream::unfold(receiver, |mut receiver| async move {
        let data = receiver.recv().await?;
        Some((Ok::<_, Infallible>(sse::Event::default().data(data)), receiver))
    });
    Ok(sse::Sse::new(events).into_response())
}

/// Writes the chunks of a stream.
struct Writer<'a> {
    served: &'a Served,
    plan: &'a Plan,
    sender: &'a mpsc::Sender<String>,
    choices: Vec<Growing>,
    /// Tokens that were written.
    tokens: usize,
}

impl<'a> Writer<'a> {
    fn new(served: &'a Served, plan: &'a Plan, sender: &'a mpsc::Sender<String>, prompts: usize) -> Self {
        let choices = (0..prompts * plan.n).map(|_| Growing::default()).collect();
        Writer { served, plan, sender, choices, tokens: 0 }
    }

    async fn write(&mut self, mut events: BoxStream<'static, (usize, Option<Event>)>) -> ApiResult<()> {
        while let Some((prompt, event)) = events.next().await {
            match told(event)? {
                Event::Tokens { chain, ids } if chain % self.plan.chains == 0 => {
                    let index = prompt * self.plan.n + chain / self.plan.chains;
                    let Some(choice) = self.choices.get_mut(index) else { continue };
                    let delta = choice.take(&self.served.prompts.tokenizer, self.plan, &ids);
                    if !delta.is_empty() {
                        let begins = std::mem::replace(&mut choice.begun, true);
                        let shown = self.plan.delta(index, &delta, !begins);
                        self.send(shown, None).await;
                    }
                }
                Event::Judged(judged) => {
                    let together = self.plan.made(&self.served.prompts, &judged.record, self.plan.score.chains);
                    for choice in self.plan.choices(&self.served.prompts, prompt, &judged)? {
                        self.finish(choice, &together).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends the rest of a choice, and its end.
    async fn finish(&mut self, choice: Choice, together: &Value) -> ApiResult<()> {
        let Some(growing) = self.choices.get_mut(choice.index) else { return Ok(()) };
        self.tokens += choice.tokens;
        let Some(rest) = choice.text.strip_prefix(growing.sent.as_str()) else {
            let message = "the tokens that were sent are not those of the answer; this is a defect of jurist";
            return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        };
        let begins = !std::mem::replace(&mut growing.begun, true);
        if !rest.is_empty() || begins || choice.logprobs.is_some() {
            let mut shown = self.plan.delta(choice.index, rest, begins);
            shown["logprobs"] = self.plan.logprobs(choice.logprobs.as_deref());
            self.send(shown, None).await;
        }
        let mut end = json!({"index": choice.index, "finish_reason": choice.finish, "logprobs": null, "jurist": choice.jurist});
        match self.plan.dialect {
            super::answer::Dialect::Completion => end["text"] = json!(""),
            _ => end["delta"] = json!({}),
        }
        self.send(end, Some(together)).await;
        Ok(())
    }

    async fn send(&self, choice: Value, together: Option<&Value>) {
        let mut chunk = self.plan.head(true);
        chunk.insert("choices".into(), json!([choice]));
        if self.plan.include_usage {
            chunk.insert("usage".into(), Value::Null);
        }
        if let Some(together) = together {
            chunk.insert("jurist".into(), together.clone());
        }
        // Nobody reads any more: the task is ended by that.
        let _ = self.sender.send(Value::Object(chunk).to_string()).await;
    }
}

/// A choice that grows.
struct Growing {
    decoder: StreamDecoder,
    /// The chain so far, without white space at its beginning.
    chain: String,
    sent: String,
    begun: bool,
}

impl Default for Growing {
    fn default() -> Self {
        Growing { decoder: StreamDecoder::new(&[], true), chain: String::new(), sent: String::new(), begun: false }
    }
}

impl Growing {
    /// Takes tokens, and gives the text that is certain now.
    fn take(&mut self, tokenizer: &Tokenizer, plan: &Plan, ids: &[u32]) -> String {
        for id in ids {
            // What cannot be decoded is told at the end.
            self.chain += &self.decoder.push(tokenizer, *id).unwrap_or_default();
        }
        if self.sent.is_empty() {
            self.chain = self.chain.trim_start().to_string();
        }
        let text = certain(&plan.form, &self.chain, &plan.stop);
        match text.strip_prefix(self.sent.as_str()) {
            Some(delta) => {
                let delta = delta.to_string();
                self.sent += &delta;
                delta
            }
            None => String::new(),
        }
    }
}

/// The beginning of an answer that is certain when `chain` is the beginning of its chain.
fn certain(form: &[Piece], chain: &str, stop: &[String]) -> String {
    // White space at the end of a chain is cut.
    let chain = chain.trim_end();
    let mut text = String::new();
    for piece in form {
        match piece {
            Piece::Text(fixed) => text += fixed,
            Piece::Chain { quoted, most } => {
                text += &written(chain, *quoted, *most);
                break;
            }
            Piece::Whole => {
                text += chain;
                break;
            }
            Piece::Score(_) => break,
        }
    }
    if let Some(end) = first_stop(&text, stop) {
        text.truncate(end);
        return text;
    }
    // The end may be the beginning of a stop sequence.
    let begins = |from: usize| stop.iter().any(|stop| stop.len() > text.len() - from && stop.starts_with(&text[from..]));
    let held = text.char_indices().map(|(at, _)| at).find(|at| begins(*at));
    held.into_iter().for_each(|at| text.truncate(at));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_sent() {
        let whole = [Piece::Whole];
        let stop = ["END".to_string(), "\n\n".to_string()];
        for (chain, sent) in
            [("Good. ", "Good."), ("a E", "a "), ("a EN", "a "), ("a ENx", "a ENx"), ("a END b", "a "), ("a\n\nb", "a")]
        {
            assert_eq!(certain(&whole, chain, &stop), sent, "{chain:?}");
        }
        let json = [Piece::Text("{\"r\": \"".into()), Piece::Chain { quoted: true, most: Some(3) }, Piece::Text("\"}".into())];
        assert_eq!(certain(&json, "a\"bc", &[]), "{\"r\": \"a\\\"b");
        assert_eq!(certain(&json, "", &[]), "{\"r\": \"");
    }
}
