//! `POST /v1/judge`: rows as `jurist score` reads them, judgements as it writes them.
//!
//! The body is one row, a list of rows, JSON Lines, or an object with `row` or `rows` and options beside them, which are the
//! flags of `jurist score`.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Dialect, Plan, now, usage};
use super::engine::{Event, Judged};
use super::error::{ApiError, ApiResult, json_response};
use super::fields::{Fields, short};
use super::prompts::rows_of;
use super::request::{Asking, Drawing, drawing, jobs};
use super::server::Served;
use crate::judge::{PromptTokens, ScoreOptions, ScoreRecord};

/// Options beside `row` or `rows`: the flags of `jurist score` with the same meaning.
const OPTIONS: [&str; 8] =
    ["chains", "temperature", "top_p", "seed", "expectation", "max_length", "max_completion_length", "given_chains"];

/// What a request asks for.
pub struct Asked {
    plan: Plan,
    /// The rows, or why they cannot be judged.
    rows: Vec<ApiResult<PromptTokens>>,
    /// Whether a list was sent.
    list: bool,
}

impl Asked {
    /// The number of rows that can be judged, and the messages of the others.
    pub fn counts(&self) -> (usize, Vec<String>) {
        let bad: Vec<String> = self.rows.iter().filter_map(|row| Some(row.as_ref().err()?.message.clone())).collect();
        (self.rows.len() - bad.len(), bad)
    }
}

/// The rows and options of a body.
///
/// # Errors
/// What is wrong with the request as a whole.
pub fn read(served: &Served, body: &[u8]) -> ApiResult<Asked> {
    let text = std::str::from_utf8(body).map_err(|e| ApiError::bad(format!("the body of the request is no UTF-8: {e}")))?;
    let (mut fields, rows, list) = match Fields::parse(body) {
        Ok(mut fields) => match (fields.take("row"), fields.take("rows")) {
            (Some(_), Some(_)) => return Err(ApiError::field("rows", "the request has `row` and `rows`; send one of them")),
            (Some(row @ Value::Object(_)), None) => (Some(fields), vec![row.to_string()], false),
            (None, Some(Value::Array(rows))) => (Some(fields), rows.iter().map(Value::to_string).collect(), true),
            (Some(other), None) => return Err(unfit("row", &other, "a row, which is an object")),
            (None, Some(other)) => return Err(unfit("rows", &other, "a list of rows")),
            (None, None) => {
                // Among the columns of a row, an option would do nothing.
                if let Some(option) = OPTIONS.iter().find(|name| fields.get(name).is_some() && !served.prompts.reads(name)) {
                    let example = format!("{{\"row\": {{...}}, \"{option}\": ...}}");
                    return Err(ApiError::field(option, format!("`{option}` is an option; send it beside the row: {example}")));
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
        return Err(ApiError::bad("the body of the request has no rows; send a row, a list of rows, or {\"rows\": [...]}"));
    }
    if rows.len() > served.limits.rows {
        return Err(ApiError::bad(format!("the request has {} rows; send at most {} at a time", rows.len(), served.limits.rows)));
    }
    let (mut given_chains, mut most_tokens) = (false, None);
    if let Some(fields) = &mut fields {
        fields.only(&[&["model"], &OPTIONS[..]].concat())?;
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
    Ok(Asked { plan, rows: served.prompts.rows(&rows, given_chains), list })
}

fn unfit(name: &str, found: &Value, expected: &str) -> ApiError {
    ApiError::field(name, format!("`{name}` is {}; expected {expected}", short(found)))
}

/// Judges rows. In a list, a row that cannot be judged has the reason in its judgement, as in the output of `jurist score`.
///
/// # Errors
/// What is wrong with the request or the server; a single row that cannot be judged.
pub async fn answer(served: Served, body: Vec<u8>) -> ApiResult<Response<Body>> {
    let own = served.clone();
    let Asked { plan, rows, list } = served.blocking(move || read(&own, &body)).await?;
    let mut judgements: Vec<ApiResult<Option<Judged>>> = Vec::with_capacity(rows.len());
    let (mut prompts, mut places) = (Vec::new(), Vec::new());
    for (n, row) in rows.into_iter().enumerate() {
        judgements.push(row.map(|prompt| {
            prompts.push(prompt);
            places.push(n);
            None
        }));
    }
    let (mut queued, askings) = jobs(&plan, prompts, false);
    // Each row has the random numbers of its place in the list, as in a file.
    queued.iter_mut().zip(&places).for_each(|(job, place)| job.options.score.first_row = *place);
    let mut tokens = (0, 0);
    if !queued.is_empty() {
        served.push(queued)?;
        let all = collect(askings, &mut tokens);
        let judged = served.in_time(all).await??;
        places.iter().zip(judged).for_each(|(place, judged)| judgements[*place] = judged.map(Some));
    }
    served.metrics.count_tokens(tokens.0, tokens.1);
    if let (false, Some(Err(error))) = (list, judgements.iter().find(|row| row.is_err())) {
        return Err(error.clone());
    }
    let data: Vec<Value> = judgements.iter().enumerate().map(|(n, row)| shown(&served, &plan, n, row)).collect();
    let mut answer = json!({
        "id": plan.id,
        "object": if list { "list" } else { "judgement" },
        "created": plan.created,
        "model": plan.model,
    });
    match (list, data.first()) {
        (false, Some(one)) => {
            for key in ["judge", "chains"] {
                answer[key] = one[key].clone();
            }
        }
        _ => answer["data"] = data.into(),
    }
    answer["how"] = plan.how(&served.prompts, plan.chains);
    answer["usage"] = usage(tokens.0, tokens.1);
    Ok(json_response(StatusCode::OK, &answer))
}

/// Waits for all rows. A row's own fault is its own error; a fault of the server ends the request.
async fn collect(askings: Vec<Asking>, tokens: &mut (usize, usize)) -> ApiResult<Vec<ApiResult<Judged>>> {
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

/// The judgement of row `n`, with those of its chains.
fn shown(served: &Served, plan: &Plan, n: usize, row: &ApiResult<Option<Judged>>) -> Value {
    let scale = &served.prompts.settings.scale;
    let judged = match row {
        Ok(Some(judged)) => judged,
        Ok(None) => return Value::Null,
        Err(error) => return json!({"index": n, "judge": ScoreRecord::failed(&error.message), "chains": []}),
    };
    let chain = |chain: &super::engine::JudgedChain| {
        let feedback = Some(chain.text.clone()).filter(|_| served.prompts.settings.chain || plan.score.given_chains);
        let record = ScoreRecord::new(scale, &chain.prediction, plan.score.expectation, feedback, chain.forced);
        let mut shown = serde_json::to_value(record).unwrap_or_default();
        if let Some(shown) = shown.as_object_mut() {
            shown.shift_remove("error");
            shown.insert("tokens".into(), chain.closed.len().into());
        }
        shown
    };
    let chains: Vec<Value> = judged.chains.iter().map(chain).collect();
    json!({"index": n, "judge": judged.record, "chains": chains})
}
