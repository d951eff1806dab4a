//! `POST /v1/pair`: rows with two responses, in any layout that `jurist pair` reads, and which response is better.
//!
//! A judge of single responses judges both, with the random numbers of one row, as the page does. A judge of pairs judges both
//! orders.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Plan, usage};
use super::engine::Judged;
use super::error::{ApiResult, json_response};
use super::request::jobs;
use super::rows::{Sent, collect, plan};
use super::server::Served;
use crate::judge::{PairRecord, PairWay, PromptTokens};

/// Options beside `row` or `rows`: the flags of `jurist pair` with the same meaning.
const OPTIONS: [&str; 7] = ["chains", "temperature", "top_p", "seed", "expectation", "max_length", "max_completion_length"];

/// What a request asks for.
pub struct Asked {
    plan: Plan,
    way: PairWay,
    /// The two prompts of each row, or why it cannot be judged.
    pairs: Vec<ApiResult<[PromptTokens; 2]>>,
    /// Whether a list was sent.
    list: bool,
}

/// The pairs and options of a body.
///
/// # Errors
/// What is wrong with the request as a whole.
pub fn read(served: &Served, body: &[u8]) -> ApiResult<Asked> {
    let Sent { rows, fields, list } = Sent::read(served, body, (&OPTIONS, 2))?;
    let (plan, _) = plan(served, fields, &OPTIONS)?;
    let (way, pairs) = served.prompts.pairs(&rows)?;
    Ok(Asked { plan, way, pairs, list })
}

/// Judges pairs. In a list, a pair that cannot be judged has the reason in its judgement, as in the output of `jurist pair`.
///
/// # Errors
/// What is wrong with the request or the server; a single pair that cannot be judged.
pub async fn answer(served: Served, body: Vec<u8>) -> ApiResult<Response<Body>> {
    let own = served.clone();
    let Asked { plan, way, pairs, list } = served.blocking(move || read(&own, &body)).await?;
    let mut found: Vec<ApiResult<Option<[Judged; 2]>>> = Vec::with_capacity(pairs.len());
    let (mut prompts, mut places) = (Vec::new(), Vec::new());
    for (n, pair) in pairs.into_iter().enumerate() {
        found.push(pair.map(|pair| {
            prompts.extend(pair);
            places.push(n);
            None
        }));
    }
    let (mut queued, askings) = jobs(&plan, prompts, false);
    // Both responses have the random numbers of their pair's place in the list.
    queued.iter_mut().enumerate().for_each(|(n, job)| job.options.score.first_row = places[n / 2]);
    let mut tokens = (0, 0);
    if !queued.is_empty() {
        served.push(queued)?;
        let mut judged = served.in_time(collect(askings, &mut tokens)).await??.into_iter();
        for place in places {
            if let (Some(first), Some(second)) = (judged.next(), judged.next()) {
                found[place] = first.and_then(|first| Ok(Some([first, second?])));
            }
        }
    }
    served.metrics.count_tokens(tokens.0, tokens.1);
    if let (false, Some(Err(error))) = (list, found.iter().find(|pair| pair.is_err())) {
        return Err(error.clone());
    }
    let scale = &served.prompts.settings.scale;
    let shown = |pair: ApiResult<Option<[Judged; 2]>>| match pair {
        Ok(Some(judged)) => PairRecord::new(way, scale, judged.map(|judged| judged.record)).to_json(),
        Ok(None) => Value::Null,
        Err(error) => PairRecord::failed(way, &error.message).to_json(),
    };
    let mut shown: Vec<Value> = found.into_iter().map(shown).collect();
    let mut answer = json!({
        "id": plan.id,
        "object": if list { "list" } else { "comparison" },
        "created": plan.created,
        "model": plan.model,
    });
    match (list, shown.len()) {
        (false, 1) => answer["pair"] = shown.remove(0),
        _ => answer["data"] = shown.into_iter().enumerate().map(|(n, pair)| json!({"index": n, "pair": pair})).collect(),
    }
    answer["how"] = plan.how(&served.prompts, plan.chains);
    answer["how"]["responses"] = way.word().into();
    answer["usage"] = usage(tokens.0, tokens.1);
    Ok(json_response(StatusCode::OK, &answer))
}
