//! `POST /v1/chat/completions`.

use axum::body::Body;
use axum::http::Response;
use serde_json::Value;

use super::answer::Dialect;
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::form::Piece;
use super::profiles::{Profile, any_json};
use super::request::{self, Asked, MOST_TOP};
use super::schema::{Filler, compile};
use super::server::Served;
use super::stream;
use crate::judge::PromptTokens;

/// What a chat asks for, before anything is judged.
///
/// # Errors
/// What is wrong with the request.
pub fn read(served: &Served, body: &[u8]) -> ApiResult<(Asked, Vec<PromptTokens>)> {
    let mut fields = Fields::parse(body)?;
    let messages = fields.take("messages").ok_or_else(|| ApiError::field("messages", "the request has no `messages`"))?;
    let named = request::model(served, &fields)?;
    let only_text = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(|kind| kind == "text"));
    if fields.get("modalities").is_some_and(|value| !only_text(value)) {
        return Err(ApiError::unsupported("modalities", "a judge writes text"));
    }
    let top = match (fields.flag("logprobs")?, fields.whole("top_logprobs", 0..=MOST_TOP)?) {
        (true, top) => Some(top.unwrap_or(0) as usize),
        (false, None | Some(0)) => None,
        (false, Some(_)) => return Err(ApiError::field("top_logprobs", "`top_logprobs` needs `logprobs` to be true")),
    };
    let function = called_function(&fields)?;
    let (dialect, form) = match &function {
        Some((name, schema)) => (
            Dialect::Tool(name.clone()),
            filled(served, schema.as_ref(), named.profile).map_err(|why| ApiError::field("tools", why))?,
        ),
        None => (Dialect::Chat, form(served, &fields, named.profile)?),
    };
    let asked = request::plan(served, &fields, (named, dialect), form, top)?;
    // A function that has to be called is the form of the answer; others are shown to the judge.
    let shown = fields.get("tools").filter(|_| function.is_none() && fields.get("tool_choice") != Some(&Value::from("none")));
    let shown = shown.filter(|tools| tools.as_array().is_some_and(|list| !list.is_empty()));
    let prompt = served.prompts.conversation(&messages, shown, fields.object("metadata")?)?;
    Ok((asked, vec![prompt]))
}

/// Answers a chat.
///
/// # Errors
/// What is wrong with the request or the server.
pub async fn answer(served: Served, body: Vec<u8>) -> ApiResult<Response<Body>> {
    let own = served.clone();
    let (asked, prompts) = served.blocking(move || read(&own, &body)).await?;
    stream::answer(served, asked, prompts).await
}

/// The form that `response_format` and the profile ask for.
fn form(served: &Served, fields: &Fields, profile: Option<&'static Profile>) -> ApiResult<Vec<Piece>> {
    const NAME: &str = "response_format";
    let Some(format) = fields.object(NAME)? else { return Ok(request::own_form(served, profile)) };
    match format.get("type").and_then(Value::as_str) {
        None | Some("text") => Ok(request::own_form(served, profile)),
        Some("json_object") => Ok(match profile.filter(|profile| profile.is_json()) {
            Some(profile) => profile.form(&served.prompts.settings.scale),
            None => any_json(request::target(profile)),
        }),
        Some("json_schema") => {
            let outer = format.get("json_schema");
            let schema = outer.and_then(|outer| outer.get("schema")).or_else(|| format.get("schema"));
            filled(served, schema, profile).map_err(|why| ApiError::field(NAME, why).coded("invalid_json_schema"))
        }
        Some(other) => {
            Err(ApiError::field(NAME, format!("`{NAME}.type` is {other:?}; expected text, json_object or json_schema")))
        }
    }
}

/// The form of a schema.
fn filled(served: &Served, schema: Option<&Value>, profile: Option<&'static Profile>) -> Result<Vec<Piece>, String> {
    let filler = Filler { scale: &served.prompts.settings.scale, target: request::target(profile) };
    match schema {
        None => Ok(any_json(filler.target)),
        Some(schema) => compile(schema, filler).map_err(|why| format!("this judge cannot meet the schema: {why}")),
    }
}

/// The function that the answer has to call, with the schema of its arguments.
fn called_function(fields: &Fields) -> ApiResult<Option<(String, Option<Value>)>> {
    let tools = fields.get("tools").and_then(Value::as_array).cloned().unwrap_or_default();
    let functions: Vec<&Value> = tools.iter().filter_map(|tool| tool.get("function")).collect();
    let name_of = |function: &Value| function.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
    let with_schema = |function: &Value| (name_of(function), function.get("parameters").cloned());
    let bad = |message: String| ApiError::field("tool_choice", message);
    match fields.get("tool_choice") {
        None => Ok(None),
        Some(Value::String(word)) => match (word.as_str(), functions.as_slice()) {
            ("none" | "auto", _) => Ok(None),
            ("required" | "any", [one]) => Ok(Some(with_schema(one))),
            ("required" | "any", _) => {
                Err(bad(format!("`tool_choice` is {word}, and there are {} functions; name one", functions.len())))
            }
            _ => Err(bad(format!("`tool_choice` is {word:?}; expected none, auto, required or a function"))),
        },
        Some(choice) => {
            let wanted = choice.get("function").map(name_of).unwrap_or_default();
            let found = functions.iter().find(|function| name_of(function) == wanted);
            found
                .map(|function| Some(with_schema(function)))
                .ok_or_else(|| bad(format!("there is no function {wanted:?} in `tools`")))
        }
    }
}
