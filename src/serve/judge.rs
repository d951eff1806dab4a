//! `POST /v1/judge`: rows as `jurist score` reads them, judgements as it writes them.
//!
//! The body is one row, a list of rows, JSON Lines, or an object with `row` or `rows` and options beside them, which are the
//! flags of `jurist score`.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Plan, usage};
use super::engine::Judged;
use super::error::{ApiResult, json_response};
use super::request::jobs;
use super::rows::{Sent, collect, plan};
use super::server::Served;
use crate::judge::{PromptTokens, ScoreRecord};

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
    let Sent { rows, fields, list } = Sent::read(served, body, (&OPTIONS, 1))?;
    let (plan, given_chains) = plan(served, fields, &OPTIONS)?;
    Ok(Asked { plan, rows: served.prompts.rows(&rows, given_chains), list })
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
