//! What the endpoints for rows share: the rows of a body with the options beside them, and waiting for their judgements.

use serde_json::Value;

use super::answer::{Dialect, Plan, now};
use super::engine::{Event, Judged};
use super::error::{ApiError, ApiResult};
use super::fields::{Fields, short};
use super::prompts::rows_of;
use super::request::{Asking, Drawing, drawing};
use super::server::Served;
use crate::judge::ScoreOptions;

/// The body of a request: one row, a list of rows, JSON Lines, or an object with `row` or `rows` and options beside them.
pub struct Sent {
    /// The rows as they were sent.
    pub rows: Vec<String>,
    /// The fields beside `row` or `rows`, if the body has either.
    pub fields: Option<Fields>,
    /// Whether a list was sent.
    pub list: bool,
}

impl Sent {
    /// Reads a body. `options` are the names of the options, and `prompts` the number of prompts of a row.
    ///
    /// # Errors
    /// What is wrong with the request as a whole.
    pub fn read(served: &Served, body: &[u8], (options, prompts): (&[&str], usize)) -> ApiResult<Self> {
        let text = std::str::from_utf8(body).map_err(|e| ApiError::bad(format!("the body of the request is no UTF-8: {e}")))?;
        let (fields, rows, list) = match Fields::parse(body) {
            Ok(mut fields) => match (fields.take("row"), fields.take("rows")) {
                (Some(_), Some(_)) => return Err(ApiError::field("rows", "the request has `row` and `rows`; send one of them")),
                (Some(row @ Value::Object(_)), None) => (Some(fields), vec![row.to_string()], false),
                (None, Some(Value::Array(rows))) => (Some(fields), rows.iter().map(Value::to_string).collect(), true),
                (Some(other), None) => return Err(unfit("row", &other, "a row, which is an object")),
                (None, Some(other)) => return Err(unfit("rows", &other, "a list of rows")),
                (None, None) => {
                    // Among the columns of a row, an option would do nothing.
                    if let Some(option) = options.iter().find(|name| fields.get(name).is_some() && !served.prompts.reads(name)) {
                        let example = format!("{{\"row\": {{...}}, \"{option}\": ...}}");
                        let message = format!("`{option}` is an option; send it beside the row: {example}");
                        return Err(ApiError::field(option, message));
                    }
                    (None, vec![text.to_string()], false)
                }
            },
            Err(_) => {
                if !text.trim_start().starts_with(['{', '[']) && !text.trim().is_empty() {
                    let expected = "a row, a list of rows, or {\"rows\": [...]}";
                    return Err(ApiError::bad(format!("the body of the request is no JSON object or list; send {expected}")));
                }
                let rows = rows_of(text)?;
                let list = text.trim_start().starts_with('[') || rows.len() != 1;
                (None, rows, list)
            }
        };
        if rows.is_empty() {
            let message = "the body of the request has no rows; send a row, a list of rows, or {\"rows\": [...]}";
            return Err(ApiError::bad(message));
        }
        let most = served.limits.rows / prompts.max(1);
        if rows.len() > most {
            return Err(ApiError::bad(format!("the request has {} rows; send at most {most} at a time", rows.len())));
        }
        Ok(Sent { rows, fields, list })
    }
}

/// How the rows of a request are judged, and whether they bring their chains.
///
/// # Errors
/// An option that is unknown or out of its range.
pub fn plan(served: &Served, fields: Option<Fields>, options: &[&str]) -> ApiResult<(Plan, bool)> {
    let (mut given_chains, mut most_tokens) = (false, None);
    let mut fields = fields;
    if let Some(fields) = &mut fields {
        fields.only(&[&["model"], options].concat())?;
        given_chains = fields.flag("given_chains")?;
        most_tokens = fields.whole("max_completion_length", 0..=1 << 20)?.map(|most| most as usize);
        fields.nest("jurist", &["chains", "expectation", "max_length"]);
    }
    let fields = fields.unwrap_or_else(|| Fields::of(serde_json::Map::new()));
    super::request::model(served, &fields)?;
    let Drawing { chains, threshold, score } = drawing(served, &fields, 1)?;
    let score = ScoreOptions { given_chains, most_tokens, chains: if given_chains { 1 } else { chains }, ..score };
    let plan = Plan {
        dialect: Dialect::Chat,
        id: served.new_id("judge"),
        created: now(),
        model: served.name.clone(),
        form: Vec::new(),
        n: 1,
        chains: score.chains,
        stop: Vec::new(),
        top_logprobs: None,
        score,
        threshold,
        limited: false,
        include_usage: false,
    };
    Ok((plan, given_chains))
}

fn unfit(name: &str, found: &Value, expected: &str) -> ApiError {
    ApiError::field(name, format!("`{name}` is {}; expected {expected}", short(found)))
}

/// Waits for all rows. A row's own fault is its own error; a fault of the server ends the request.
pub async fn collect(askings: Vec<Asking>, tokens: &mut (usize, usize)) -> ApiResult<Vec<ApiResult<Judged>>> {
    let mut rows = Vec::with_capacity(askings.len());
    for mut asking in askings {
        rows.push(loop {
            match asking.events.recv().await {
                Some(Event::Tokens { .. }) => {}
                Some(Event::Judged(judged)) => {
                    tokens.0 += asking.prompt;
                    tokens.1 += judged.chains.iter().map(|chain| chain.closed.len() + chain.score.len()).sum::<usize>();
                    break Ok(*judged);
                }
                Some(Event::Refused(reason)) => break Err(ApiError::bad(reason).coded("row_not_judged")),
                Some(Event::Failed(reason)) => return Err(ApiError::unavailable(reason, Some(1))),
                None => return Err(ApiError::unavailable("the server ended before the row was judged", Some(1))),
            }
        });
    }
    Ok(rows)
}
