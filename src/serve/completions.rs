//! `POST /v1/completions`: prompts as texts or tokens, without a chat template.

use axum::body::Body;
use axum::http::Response;
use serde_json::Value;

use super::answer::Dialect;
use super::error::{ApiError, ApiResult};
use super::fields::{Fields, short};
use super::request::{self, Asked, MOST_TOP};
use super::server::Served;
use super::stream;
use crate::judge::PromptTokens;

/// Most answers to a request.
const MOST_ANSWERS: usize = 1024;

/// What a completion asks for, before anything is judged.
///
/// # Errors
/// What is wrong with the request.
pub fn read(served: &Served, body: &[u8]) -> ApiResult<(Asked, Vec<PromptTokens>)> {
    let mut fields = Fields::parse(body)?;
    let prompt = fields.take("prompt").ok_or_else(|| ApiError::field("prompt", "the request has no `prompt`"))?;
    let named = request::model(served, &fields)?;
    fields.refuse(&[
        ("echo", &[0.0], "leave it out; a judge reads prompts and writes verdicts"),
        ("suffix", &[], "leave it out"),
        ("best_of", &[1.0], "use jurist.chains, which averages the scores of several chains"),
    ])?;
    // 0 asks for the log-probabilities of the tokens alone.
    let top = match fields.get("logprobs") {
        None | Some(Value::Bool(false)) => None,
        Some(_) => fields.whole("logprobs", 0..=MOST_TOP)?.map(|top| top as usize),
    };
    let form = request::own_form(served, named.profile);
    let asked = request::plan(served, &fields, (named, Dialect::Completion), form, top)?;
    let prompts = prompts(served, prompt)?;
    let answers = prompts.len() * asked.plan.n;
    if answers > MOST_ANSWERS {
        let message =
            format!("{} prompts with {} answers each are more than {MOST_ANSWERS} answers", prompts.len(), asked.plan.n);
        return Err(ApiError::field("n", message));
    }
    Ok((asked, prompts))
}

/// Answers a completion.
///
/// # Errors
/// What is wrong with the request or the server.
pub async fn answer(served: Served, body: Vec<u8>) -> ApiResult<Response<Body>> {
    let own = served.clone();
    let (asked, prompts) = served.blocking(move || read(&own, &body)).await?;
    stream::answer(served, asked, prompts).await
}

/// One text, several texts, the tokens of one prompt, or those of several.
fn prompts(served: &Served, prompt: Value) -> ApiResult<Vec<PromptTokens>> {
    let unfit = |found: &Value| {
        let message = format!("`prompt` is {}; expected a text, a list of texts, or tokens", short(found));
        ApiError::field("prompt", message)
    };
    let token = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let tokens = |list: &[Value]| list.iter().map(token).collect::<Option<Vec<u32>>>();
    match &prompt {
        Value::String(text) => Ok(vec![served.prompts.text(text)?]),
        Value::Array(list) if list.is_empty() => Err(unfit(&prompt)),
        Value::Array(list) => match tokens(list) {
            Some(ids) => Ok(vec![served.prompts.ids(ids)?]),
            None => {
                if list.len() > served.limits.rows {
                    return Err(ApiError::field(
                        "prompt",
                        format!("`prompt` has {} prompts; at most {}", list.len(), served.limits.rows),
                    ));
                }
                let one = |item: &Value| match item {
                    Value::String(text) => served.prompts.text(text),
                    Value::Array(ids) => served.prompts.ids(tokens(ids).ok_or_else(|| unfit(item))?),
                    other => Err(unfit(other)),
                };
                list.iter().map(one).collect()
            }
        },
        other => Err(unfit(other)),
    }
}
