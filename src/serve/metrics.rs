//! What the server counts, as Prometheus reads it.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the latency histogram, in seconds.
const LATENCIES: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
/// Upper bounds of the batch sizes, in rows.
const BATCHES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// The labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    endpoint: &'static str,
    status: u16,
}

/// The labels of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    kind: &'static str,
}

/// The counters of a server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Asked, Counter>,
    seconds: Histogram,
    queue: Gauge,
    batches: Histogram,
    tokens: Family<Of, Counter>,
    faults: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("jurist");
        let metrics = Metrics {
            registry: Registry::default(),
            requests: Family::default(),
            seconds: Histogram::new(LATENCIES),
            queue: Gauge::default(),
            batches: Histogram::new(BATCHES),
            tokens: Family::default(),
            faults: Counter::default(),
        };
        registry.register("requests", "Answered requests", metrics.requests.clone());
        let help = "Time from a request of the API to its answer, of a stream to its first token";
        registry.register_with_unit("request_duration", help, Unit::Seconds, metrics.seconds.clone());
        registry.register("queue_rows", "Rows that wait", metrics.queue.clone());
        registry.register("batch_rows", "Rows that are judged together", metrics.batches.clone());
        registry.register("tokens", "Tokens read (prompt) and written (completion)", metrics.tokens.clone());
        registry.register("model_faults", "Faults after which the model was loaded anew", metrics.faults.clone());
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts an answer.
    pub fn observe(&self, endpoint: &'static str, status: u16, time: Duration) {
        self.requests.get_or_create(&Asked { endpoint, status }).inc();
        self.seconds.observe(time.as_secs_f64());
    }

    pub fn set_queue(&self, rows: usize) {
        self.queue.set(rows as i64);
    }

    pub fn observe_batch(&self, rows: usize) {
        self.batches.observe(rows as f64);
    }

    /// Counts the tokens of an answer.
    pub fn count_tokens(&self, prompt: usize, completion: usize) {
        for (kind, tokens) in [("prompt", prompt), ("completion", completion)] {
            self.tokens.get_or_create(&Of { kind }).inc_by(tokens as u64);
        }
    }

    pub fn count_fault(&self) {
        self.faults.inc();
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
