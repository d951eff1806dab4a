//! The routes, what stands before each of them, and what handlers share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::auth::Keys;
use super::engine::{Busy, Engine, Job, Status};
use super::error::{ApiError, ApiResult, json_response};
use super::hosts::Hosts;
use super::limits::Limits;
use super::metrics::Metrics;
use super::page::{Site, missing, say};
use super::profiles::PROFILES;
use super::prompts::Prompts;
use super::{chat, completions, judge, pair};
use crate::judge::Expectation;

/// What the flags of the server set for every request.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Chains an answer.
    pub chains: usize,
    pub temperature: Option<f32>,
    pub expectation: Expectation,
    /// The score from which a yes-or-no answer is yes; `None` for the middle of the scale.
    pub threshold: Option<f64>,
    /// Chains that are judged together.
    pub batch: usize,
}

/// A judge that is served.
pub struct Judging {
    pub name: String,
    pub prompts: Prompts,
    pub engine: Arc<Engine>,
    pub defaults: Defaults,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub created: u64,
    numbers: AtomicU64,
    /// Random bits of this process, so that ids of two servers differ.
    salt: u64,
}

/// What a handler has of the judge.
pub type Served = Arc<Judging>;

impl Judging {
    pub fn new(
        name: String,
        prompts: Prompts,
        engine: Arc<Engine>,
        defaults: Defaults,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let salt = std::hash::RandomState::new().build_hasher().finish();
        let created = super::answer::now();
        Judging { name, prompts, engine, defaults, limits, metrics, created, numbers: AtomicU64::new(0), salt }
    }

    /// An id that no other answer has.
    pub fn new_id(&self, prefix: &str) -> String {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{:016x}{number:08x}", self.salt)
    }

    /// The score from which a yes-or-no answer is yes.
    pub fn threshold(&self) -> f64 {
        let scale = &self.prompts.settings.scale;
        self.defaults.threshold.unwrap_or((scale.min() + scale.max()) / 2.0)
    }

    /// Puts jobs into the queue.
    ///
    /// # Errors
    /// Why there is no place for them.
    pub fn push(&self, jobs: Vec<Job>) -> ApiResult<()> {
        self.engine.push(jobs).map_err(|busy| match busy {
            Busy::Full { seconds } => ApiError {
                retry_after: Some(seconds),
                ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "the queue of the server is full; ask again later")
            }
            .coded("queue_full"),
            Busy::TooMany { most } => {
                ApiError::bad(format!("the request has more rows than the server's queue takes; send at most {most} at a time"))
            }
            Busy::Loading => ApiError::unavailable("the model is being loaded; ask again soon", Some(1)).coded("loading"),
            Busy::Lost => ApiError::unavailable("the model was lost and could not be loaded anew; restart the server", None),
            Busy::Closed => ending(),
        })
    }

    /// What `work` returns, if that is within the time of an answer.
    ///
    /// # Errors
    /// 504 after that.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> ApiResult<T> {
        tokio::time::timeout(self.limits.answer, work).await.map_err(|_| {
            let message = format!("the request was not judged within {} s", self.limits.answer.as_secs());
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, message)
        })
    }

    /// Runs work of the CPU aside: long texts take a while to encode.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> ApiResult<T> + Send + 'static) -> ApiResult<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(_) => {
                Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request ended a thread; this is a defect of jurist"))
            }
        }
    }
}

fn ending() -> ApiError {
    ApiError::unavailable("the server is ending and takes no new requests", Some(5)).coded("ending")
}

/// The whole server.
pub struct App {
    pub judging: Option<Served>,
    pub site: Option<Site>,
    pub hosts: Hosts,
    pub keys: Option<Keys>,
    /// Origins of pages that may ask.
    pub origins: Vec<String>,
    /// The most bytes of a request's head.
    pub head_bytes: usize,
    pub draining: AtomicBool,
}

type Shared = State<Arc<App>>;

/// The routes of a server.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/v1/judge", post(judge_rows))
        .route("/v1/pair", post(judge_pairs))
        .route("/v1/chat/completions", post(chat_completion))
        .route("/v1/completions", post(completion))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(not_allowed)
        .fallback(page)
        .layer(from_fn_with_state(app.clone(), guard));
    if !app.origins.is_empty() {
        let origins: Vec<HeaderValue> = app.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([AUTHORIZATION, CONTENT_TYPE]);
        router = router.layer(cors);
    }
    router.layer(CatchPanicLayer::custom(panicked)).with_state(app)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<Body> {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request ended its handler; this is a defect of jurist").into_response()
}

/// The name of an endpoint for the metrics; `None` for files.
fn endpoint(path: &str) -> Option<&'static str> {
    const ENDPOINTS: [&str; 7] =
        ["/v1/judge", "/v1/pair", "/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics"];
    let known =
        ENDPOINTS.iter().find(|known| path == **known || path.strip_prefix(*known).is_some_and(|rest| rest.starts_with('/')));
    known.copied().or((path == "/v1" || path.starts_with("/v1/")).then_some("other"))
}

/// What every request passes: host, origin, key, and whether the server still takes requests.
async fn guard(State(app): Shared, request: Request, next: Next) -> Response<Body> {
    let start = Instant::now();
    let endpoint = endpoint(request.uri().path());
    let answer = match checked(&app, &request, endpoint) {
        Ok(()) => next.run(request).await,
        Err(error) => match endpoint {
            Some(_) => error.into_response(),
            None => say(error.status, &error.message, Vec::new()),
        },
    };
    if let (Some(endpoint), Some(judging)) = (endpoint, &app.judging) {
        judging.metrics.observe(endpoint, answer.status().as_u16(), start.elapsed());
    }
    answer
}

fn checked(app: &App, request: &Request, endpoint: Option<&'static str>) -> ApiResult<()> {
    let refused = |(status, message): (StatusCode, String)| ApiError::new(status, message);
    // The HTTP library counts whole reads, so a head that is somewhat longer comes through.
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if request.uri().to_string().len() + lines.sum::<usize>() > app.head_bytes {
        let message = format!("the head of the request has more than {} bytes", app.head_bytes);
        return Err(ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message));
    }
    app.hosts.check(request.uri(), request.headers()).map_err(refused)?;
    if endpoint.is_none() {
        return Ok(());
    }
    app.hosts.check_origin(request.headers(), &app.origins).map_err(refused)?;
    if let (Some(keys), true) = (&app.keys, endpoint != Some("/health")) {
        keys.check(request.headers())?;
    }
    if *request.method() == Method::POST && app.draining.load(Ordering::Relaxed) {
        return Err(ending());
    }
    Ok(())
}

fn judging(app: &App) -> ApiResult<Served> {
    let message = "this server serves the page alone; start jurist serve with --model to have it judge";
    app.judging.clone().ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, message))
}

/// The judge, and the body of a request.
async fn with_body(app: &App, request: Request) -> ApiResult<(Served, Vec<u8>)> {
    let served = judging(app)?;
    let bytes = served.limits.read(request.into_body()).await?;
    Ok((served, bytes))
}

async fn judge_rows(State(app): Shared, request: Request) -> ApiResult<Response<Body>> {
    let (served, body) = with_body(&app, request).await?;
    judge::answer(served, body).await
}

async fn judge_pairs(State(app): Shared, request: Request) -> ApiResult<Response<Body>> {
    let (served, body) = with_body(&app, request).await?;
    pair::answer(served, body).await
}

async fn chat_completion(State(app): Shared, request: Request) -> ApiResult<Response<Body>> {
    let (served, body) = with_body(&app, request).await?;
    chat::answer(served, body).await
}

async fn completion(State(app): Shared, request: Request) -> ApiResult<Response<Body>> {
    let (served, body) = with_body(&app, request).await?;
    completions::answer(served, body).await
}

fn shown_model(served: &Judging, id: String, about: &str) -> Value {
    json!({"id": id, "object": "model", "created": served.created, "owned_by": "jurist", "description": about})
}

fn all_models(served: &Judging) -> Vec<Value> {
    let mut own = shown_model(served, served.name.clone(), "the judge's own words: chain, phrase and score");
    own["jurist"] = served.prompts.about();
    let profiled = PROFILES.iter().map(|p| shown_model(served, format!("{}@{}", served.name, p.name), p.about));
    [own].into_iter().chain(profiled).collect()
}

async fn models(State(app): Shared) -> ApiResult<Response<Body>> {
    let served = judging(&app)?;
    Ok(json_response(StatusCode::OK, &json!({"object": "list", "data": all_models(&served)})))
}

async fn model(State(app): Shared, axum::extract::Path(name): axum::extract::Path<String>) -> ApiResult<Response<Body>> {
    let served = judging(&app)?;
    match all_models(&served).into_iter().find(|model| model["id"] == name.as_str()) {
        Some(model) => Ok(json_response(StatusCode::OK, &model)),
        None => {
            let error = ApiError::new(
                StatusCode::NOT_FOUND,
                format!("the model {name:?} does not exist; /v1/models lists those that do"),
            );
            Err(error.coded("model_not_found"))
        }
    }
}

async fn health(State(app): Shared) -> Response<Body> {
    let draining = app.draining.load(Ordering::Relaxed);
    let status = match (&app.judging, draining) {
        (_, true) => "ending",
        (None, _) => "page",
        (Some(served), _) => match served.engine.status() {
            Status::Loading => "loading",
            Status::Ready => "ready",
            Status::Lost => "lost",
        },
    };
    let code = if matches!(status, "ready" | "page") { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let model = app.judging.as_ref().map(|served| &served.name);
    let bundle = app.site.as_ref().is_some_and(Site::has_bundle);
    json_response(code, &json!({"status": status, "model": model, "bundle": bundle}))
}

async fn metrics(State(app): Shared) -> ApiResult<Response<Body>> {
    let mut response = Response::new(Body::from(judging(&app)?.metrics.text()));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

async fn not_allowed(request: Request) -> Response<Body> {
    let message = format!("{} is not allowed for {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response()
}

async fn page(State(app): Shared, request: Request) -> Response<Body> {
    if endpoint(request.uri().path()).is_some() {
        let message = format!(
            "{} does not exist; there are /v1/judge, /v1/pair, /v1/chat/completions, /v1/completions and /v1/models",
            request.uri().path()
        );
        return ApiError::new(StatusCode::NOT_FOUND, message).into_response();
    }
    match &app.site {
        None => missing(),
        Some(site) => site.answer(request.method(), request.uri(), request.headers()).await,
    }
}
