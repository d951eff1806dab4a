//! What chat and completions have in common: how an answer is made, from the fields of a request.

use serde_json::Value;

use super::answer::{Dialect, Plan, now};
use super::engine::{Job, JobOptions};
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::form::{Piece, Target};
use super::profiles::{self, PROFILES, Profile};
use super::server::Served;
use crate::judge::{Expectation, PromptTokens, ScoreOptions};

/// Most answers to a prompt.
const MOST_ANSWERS: u64 = 128;
/// Most stop sequences.
const MOST_STOPS: usize = 16;
/// Most likely tokens in the place of one.
pub const MOST_TOP: u64 = 20;

/// Fields that would change the answer, the values that change nothing, and what to do.
const REFUSED: [(&str, &[f64], &str); 14] = [
    ("logit_bias", &[], "leave it out"),
    ("frequency_penalty", &[0.0], "leave it out or set it to 0"),
    ("presence_penalty", &[0.0], "leave it out or set it to 0"),
    ("repetition_penalty", &[1.0], "leave it out or set it to 1"),
    ("min_p", &[0.0], "use top_p or top_k"),
    ("functions", &[], "use tools"),
    ("function_call", &[], "use tool_choice"),
    ("audio", &[], "a judge writes text"),
    ("web_search_options", &[], "leave it out"),
    ("guided_json", &[], "use response_format"),
    ("guided_choice", &[], "use response_format with an enum"),
    ("guided_regex", &[], "use response_format"),
    ("guided_grammar", &[], "use response_format"),
    ("grammar", &[], "use response_format"),
];

/// The model that a request names.
pub struct Named {
    pub name: String,
    pub profile: Option<&'static Profile>,
}

/// The judge and the profile of a model's name: `NAME`, `judge`, or one of them with `@PROFILE`.
///
/// # Errors
/// 404 for any other name, with those that there are.
pub fn model(served: &Served, fields: &Fields) -> ApiResult<Named> {
    let Some(name) = fields.text("model")? else { return Ok(Named { name: served.name.clone(), profile: None }) };
    let (base, profile) = match name.rsplit_once('@') {
        Some((base, profile)) if base == served.name || base == "judge" => (base, Some(profile)),
        _ => (name, None),
    };
    let missing = |message: String| {
        let error = ApiError { param: Some("model".into()), ..ApiError::new(axum::http::StatusCode::NOT_FOUND, message) };
        Err(error.coded("model_not_found"))
    };
    if base != served.name && base != "judge" {
        let also = if served.name == "judge" { "" } else { ", also called \"judge\"" };
        return missing(format!("the model {name:?} does not exist; this server has {:?}{also}", served.name));
    }
    match profile.map(|profile| (profile, profiles::named(profile))) {
        None => Ok(Named { name: name.into(), profile: None }),
        Some((_, Some(profile))) => Ok(Named { name: name.into(), profile: Some(profile) }),
        Some((profile, None)) => {
            let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            missing(format!("the profile {profile:?} does not exist; there are {}", known.join(", ")))
        }
    }
}

/// How chains are drawn: the request's fields, else the server's flags.
pub struct Drawing {
    /// Chains an answer.
    pub chains: usize,
    pub threshold: f64,
    pub score: ScoreOptions,
}

/// The object `jurist` of a request: what the API of OpenAI has no field for.
const EXTRAS: [&str; 4] = ["chains", "threshold", "expectation", "max_length"];

/// How `n` answers are drawn.
///
/// # Errors
/// A field that is out of its range.
pub fn drawing(served: &Served, fields: &Fields, n: usize) -> ApiResult<Drawing> {
    let own = fields.object("jurist")?.cloned().unwrap_or_default();
    if let Some(unknown) = own.keys().find(|name| !EXTRAS.contains(&name.as_str())) {
        let message = format!("`jurist.{unknown}` is unknown; there are {}", EXTRAS.join(", "));
        return Err(ApiError::field("jurist", message));
    }
    let own = Fields::of(own);
    let scale = &served.prompts.settings.scale;
    let threshold = own.number("threshold", scale.min()..=scale.max())?.unwrap_or(served.threshold());
    let expectation = match own.text("expectation")? {
        None => served.defaults.expectation,
        Some("renormalised") => Expectation::Renormalised,
        Some("full") => Expectation::FullVocabulary,
        Some(_) => return Err(ApiError::field("jurist", "`jurist.expectation` is renormalised or full")),
    };
    let chains = own.whole("chains", 1..=1024)?.map_or(served.defaults.chains, |chains| chains as usize);
    let all = chains * n;
    if all > 1024 {
        let message = format!("{n} answers of {chains} chains each are more than 1024 chains; ask for fewer");
        return Err(ApiError::field("n", message));
    }
    // One answer of one chain takes the likeliest tokens; several would be one and the same.
    let temperature = fields.number("temperature", 0.0..=100.0)?.map(|t| t as f32).or(served.defaults.temperature);
    let temperature = temperature.unwrap_or(if all > 1 { 1.0 } else { 0.0 });
    let top_p = fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0) as f32;
    if top_p <= 0.0 {
        return Err(ApiError::field("top_p", "`top_p` is 0; expected a number above 0, at most 1"));
    }
    let top_k = match fields.get("top_k").and_then(Value::as_i64) {
        Some(-1) => 0,
        _ => fields.whole("top_k", 0..=u64::from(u32::MAX))?.unwrap_or(0) as u32,
    };
    let score = ScoreOptions {
        expectation,
        chains: all,
        temperature: Some(temperature),
        seed: fields.seed("seed")?,
        batch_size: served.defaults.batch,
        max_length: own.whole("max_length", 2..=1 << 20)?.map_or(usize::MAX, |most| most as usize),
        top_p,
        top_k,
        ..ScoreOptions::default()
    };
    Ok(Drawing { chains, threshold, score })
}

/// What a chat or a completion asks for.
pub struct Asked {
    pub plan: Plan,
    pub stream: bool,
}

/// The plan of a request whose form is known.
///
/// # Errors
/// A field that is out of its range, or that is not supported.
pub fn plan(
    served: &Served,
    fields: &Fields,
    (named, dialect): (Named, Dialect),
    form: Vec<Piece>,
    top_logprobs: Option<usize>,
) -> ApiResult<Asked> {
    fields.refuse(&REFUSED)?;
    let n = fields.whole("n", 1..=MOST_ANSWERS)?.unwrap_or(1) as usize;
    let Drawing { chains, threshold, mut score } = drawing(served, fields, n)?;
    let stop = fields.texts("stop", MOST_STOPS)?;
    if !stop.is_empty() && form != [Piece::Whole] {
        return Err(ApiError::unsupported("stop", "an answer of a certain form would break off; leave it out"));
    }
    if top_logprobs.is_some() && chains > 1 {
        let message = format!("log-probabilities are those of one chain, and each answer has {chains}; set `jurist.chains` to 1");
        return Err(ApiError::field("logprobs", message));
    }
    let most = match fields.whole("max_completion_tokens", 0..=u64::from(u32::MAX))? {
        Some(most) => Some(("max_completion_tokens", most as usize)),
        None => fields.whole("max_tokens", 0..=u64::from(u32::MAX))?.map(|most| ("max_tokens", most as usize)),
    };
    let limit = served.prompts.settings.max_completion_length;
    if let Some((name, most)) = most {
        let needed = served.prompts.ending_tokens();
        if most < needed {
            let message =
                format!("`{name}` is {most}, but the phrase and the score alone take {needed} tokens; allow at least as many");
            return Err(ApiError::field(name, message));
        }
        score.most_tokens = Some(most - needed).filter(|most| *most < limit);
    }
    let stream = fields.flag("stream")?;
    let options = fields.object("stream_options")?;
    let include_usage = options.and_then(|o| o.get("include_usage")).and_then(Value::as_bool).unwrap_or_default();
    let prefix = if dialect == Dialect::Completion { "cmpl" } else { "chatcmpl" };
    let plan = Plan {
        id: served.new_id(prefix),
        dialect,
        created: now(),
        model: named.name,
        form,
        n,
        chains,
        stop,
        top_logprobs,
        limited: score.most_tokens.is_some(),
        score,
        threshold,
        include_usage,
    };
    Ok(Asked { plan, stream })
}

/// The form of an answer without a schema.
pub fn own_form(served: &Served, profile: Option<&Profile>) -> Vec<Piece> {
    match profile {
        None => vec![Piece::Whole],
        Some(profile) => profile.form(&served.prompts.settings.scale),
    }
}

/// The range that scores are mapped to.
pub fn target(profile: Option<&Profile>) -> Target {
    profile.map_or(Target::default(), Profile::target)
}

/// The jobs of a plan: one for each prompt.
pub fn jobs(plan: &Plan, prompts: Vec<PromptTokens>, stream: bool) -> (Vec<Job>, Vec<Asking>) {
    let job = |(row, prompt): (usize, PromptTokens)| {
        let score = ScoreOptions { first_row: row, ..plan.score.clone() };
        let tokens = prompt.ids.len();
        let (job, events) = Job::new(prompt, JobOptions { score, top_logprobs: plan.top_logprobs, stream });
        (job, Asking { prompt: tokens, events })
    };
    prompts.into_iter().enumerate().map(job).unzip()
}

/// A job that was asked for.
pub struct Asking {
    /// Tokens of its prompt.
    pub prompt: usize,
    pub events: tokio::sync::mpsc::UnboundedReceiver<super::engine::Event>,
}
