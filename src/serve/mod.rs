//! The server of `jurist serve`: a judge over the OpenAI-compatible API and one of its own, and the page.
//!
//! ```text
//! connections ─► server (host, origin, key) ─► chat, completions, judge ─► prompts, request ─► engine ─► model
//!                        └► page                     answer, stream  ◄──────── events ◄──────────┘
//! ```
//!
//! - `connections`, `limits`: TCP, HTTP/1.1, and how much a client may take;
//! - `server`, `hosts`, `auth`, `error`, `metrics`: the routes, and what stands before them;
//! - `fields`, `request`, `rows`, `prompts`: what a request asks for, and its prompts as tokens;
//! - `judge`, `pair`, `chat`, `completions`: the endpoints;
//! - `engine`, `model`: the thread that owns the GPU, and the judge there;
//! - `form`, `schema`, `profiles`: how an answer is written;
//! - `answer`, `logprobs`, `stream`: answers whole and in parts;
//! - `page`: static files.

mod answer;
mod auth;
mod chat;
mod completions;
mod connections;
pub mod engine;
mod error;
mod fields;
mod form;
mod hosts;
mod judge;
mod limits;
mod logprobs;
mod metrics;
#[cfg(feature = "internals")]
pub mod mock;
mod model;
mod page;
mod pair;
mod profiles;
mod prompts;
mod request;
mod rows;
mod schema;
mod server;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

pub use auth::Keys;
pub use engine::{Engine, Load, Sizes};
pub use hosts::Host;
pub use limits::Limits;
pub use model::{JudgeModel, Serving};
pub use page::Site;
pub use prompts::Prompts;
pub use server::Defaults;

use hosts::Hosts;
use metrics::Metrics;
use server::{App, Judging, router};

/// Time between two looks at whether the server should end.
const LOOK: Duration = Duration::from_millis(50);
/// Threads that talk to clients; the judge has its own.
const THREADS: usize = 2;

/// A judge to serve.
pub struct ServedJudge {
    /// The model's name for clients.
    pub name: String,
    pub prompts: Prompts,
    pub defaults: Defaults,
    pub sizes: Sizes,
    /// Loads the judge, at the start and after the GPU was lost.
    pub load: Load,
}

/// What is served, and to whom.
pub struct Settings {
    pub judge: Option<ServedJudge>,
    pub site: Option<Site>,
    pub limits: Limits,
    pub keys: Option<Keys>,
    /// Host names to answer to, besides this machine's.
    pub hosts: Vec<Host>,
    /// Origins of pages of other sites that may ask.
    pub origins: Vec<String>,
}

/// Serves until `stops` says so; then takes no new requests, and ends with the last that runs. `ready` is called once the judge
/// can be asked.
///
/// # Errors
/// The system refuses threads or the socket; the judge cannot be loaded.
pub fn run(
    listener: std::net::TcpListener,
    settings: Settings,
    stops: impl Fn() -> bool + Send + Sync,
    ready: impl FnOnce(),
) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("the server cannot be started: {e}");
    let address = listener.local_addr().map_err(failed)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_io().enable_time().build().map_err(failed)?;
    let Settings { judge, site, limits, keys, hosts, origins } = settings;
    let metrics = Arc::new(Metrics::default());
    let (judging, engine) = match judge {
        None => (None, None),
        Some(ServedJudge { name, prompts, defaults, sizes, load }) => {
            let limits = Limits { rows: limits.rows.min(sizes.queue), ..limits };
            let (engine, thread, loaded) = Engine::start(sizes, metrics.clone(), load).map_err(failed)?;
            let judging = Arc::new(Judging::new(name, prompts, engine.clone(), defaults, limits, metrics));
            (Some(judging), Some((engine, thread, loaded)))
        }
    };
    let hosts = Hosts::new(address, &hosts);
    let app =
        Arc::new(App { judging, site, hosts, keys, origins, head_bytes: limits.head_bytes, draining: AtomicBool::new(false) });
    let ended = runtime.block_on(serve(listener, app, limits, engine, (stops, ready)));
    // What clients left behind must not hold the program.
    runtime.shutdown_background();
    ended
}

type Thread = (Arc<Engine>, std::thread::JoinHandle<()>, tokio::sync::oneshot::Receiver<Result<(), String>>);

async fn serve(
    listener: std::net::TcpListener,
    app: Arc<App>,
    limits: Limits,
    engine: Option<Thread>,
    (stops, ready): (impl Fn() -> bool, impl FnOnce()),
) -> Result<(), String> {
    listener.set_nonblocking(true).map_err(|e| format!("the server cannot be started: {e}"))?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| format!("the server cannot be started: {e}"))?;
    let (end, ending) = watch::channel(false);
    let connections = tokio::spawn(connections::serve(listener, router(app.clone()), limits, ending));
    let stopped = async {
        while !stops() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let mut stopped = std::pin::pin!(stopped);
    let Some((engine, thread, loaded)) = engine else {
        ready();
        stopped.as_mut().await;
        return drained(&app, &end, connections).await;
    };
    tokio::select! {
        loaded = loaded => match loaded {
            Ok(Ok(())) => {
                ready();
                stopped.as_mut().await;
            }
            Ok(Err(reason)) => {
                engine.close();
                return Err(reason);
            }
            Err(_) => return Err("the thread of the judge has ended".into()),
        },
        () = stopped.as_mut() => {}
    }
    drained(&app, &end, connections).await?;
    engine.close();
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    Ok(())
}

/// Takes no new requests, and waits for those that run.
async fn drained(app: &App, end: &watch::Sender<bool>, connections: tokio::task::JoinHandle<()>) -> Result<(), String> {
    app.draining.store(true, Ordering::Relaxed);
    let _ = end.send(true);
    connections.await.map_err(|e| format!("the server ended badly: {e}"))
}
