//! The API of `jurist serve` over a model that is made up here: its score is the number of times that the prompt says "good",
//! and some words make it slow, refuse a row, or fail. What only a real judge can show is in `tests/gpu/serve.rs`.

mod answers;
mod clients;
mod limits;
mod pairs;
mod rows;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jurist::judge::{
    Alternative, Expectation, JudgeCalibration, JudgeSettings, Prediction, Scale, ScoreRecord, Template, TokenLogProb,
};
use jurist::serve::engine::{Fault, Job, Judged, JudgedChain, Model, Watch};
use jurist::serve::{Defaults, Host, Keys, Limits, Prompts, ServedJudge, Settings, Sizes};
use jurist::text::{SpecialTokens, Tokenizer, word_level};
use serde_json::{Value, json};

use crate::http;

const WORDS: [&str; 22] = [
    "good", "bad", "fine", "clear", "weak", "dull", "score", "1", "2", "3", "4", "5", "rubric", "response", "judge", "tone",
    "slow", "refuse", "fail", "lose", "panic", "system",
];

/// The words of the chains, of which the seed picks one each.
const CHAINS: [&str; 4] = ["fine", "clear", "weak", "dull"];

fn tokenizer() -> Tokenizer {
    let special = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
    word_level(&WORDS, &special).unwrap()
}

/// How people's scores follow from the judge's, for the tests of calibrated judges.
fn calibration() -> JudgeCalibration {
    let calibration = json!({
        "map": {"kind": "affine", "intercept": 1.0, "slope": 0.5}, "level": 0.9, "only_values": true, "half_width": 1.0,
        "groups": {"column": "task", "half_widths": {"easy": 0.5}}, "rows": {"map": 30, "interval": 30},
        "judged": {"expectation": "renormalised", "chains": 1, "temperature": 0.0, "given_chains": false},
    });
    serde_json::from_value(calibration).unwrap()
}

fn prompts(calibration: Option<JudgeCalibration>) -> Prompts {
    let own = Template::Own { name: "own".into(), source: "rubric {{ rubric }} response {{ response }} judge".into() };
    let settings = JudgeSettings::new("1..5".parse().unwrap(), "score", &own, false).with_chains_up_to(8);
    Prompts::new(JudgeSettings { calibration, ..settings }, tokenizer()).unwrap()
}

/// What the tests see of the model.
#[derive(Default)]
struct Seen {
    /// Times that it was loaded.
    loads: AtomicUsize,
    /// Rows that were judged, and those that were given up.
    judged: AtomicUsize,
    abandoned: AtomicUsize,
    /// The largest batch.
    batch: AtomicUsize,
    /// Whether loading fails from now on.
    broken: AtomicBool,
}

struct Fake {
    prompts: Prompts,
    seen: Arc<Seen>,
}

impl Fake {
    fn judge_one(&self, job: &Job, number: usize, watch: &mut Watch<'_>) -> Result<Result<Judged, String>, Fault> {
        let options = &job.options.score;
        let text = self.prompts.tokenizer.decode(&job.prompt.ids, true).unwrap();
        let says = |word: &str| text.split(' ').filter(|said| *said == word).count();
        match () {
            () if says("refuse") > 0 => return Ok(Err(format!("{}: the row is too long", job.prompt.place))),
            () if says("fail") > 0 => return Err(Fault::Batch("no memory for this batch".into())),
            () if says("lose") > 0 => return Err(Fault::Model("the GPU was lost".into())),
            () if says("panic") > 0 => panic!("a defect of the driver"),
            () => {}
        }
        let scale: &Scale = &self.prompts.settings.scale;
        let score = says("good").min(4);
        let mut probs = vec![0.0; 5];
        probs[score] = 0.8;
        probs[if score == 4 { 3 } else { score + 1 }] = 0.2;
        let prediction = Prediction::from_probs(scale, &probs).unwrap();
        let id = |word: &str| self.prompts.tokenizer.token_to_id(word).unwrap();
        let mut chains = Vec::new();
        for chain in 0..options.chains {
            let limit = options.most_tokens.unwrap_or(3).min(3);
            let drawn = if options.chain_temperature() > 0.0 { options.seed as usize + options.first_row + chain } else { 0 };
            let words = [CHAINS[drawn % 4], "tone", CHAINS[(drawn + 1) % 4]];
            let ids: Vec<u32> = words[..limit].iter().map(|word| id(word)).collect();
            for n in 1..=ids.len() {
                if says("slow") > 0 {
                    std::thread::sleep(Duration::from_millis(100));
                }
                let chain = number * options.chains + chain;
                watch.tokens(chain, &mut ids[..n].iter().copied());
                if watch.is_abandoned(chain) {
                    self.seen.abandoned.fetch_add(1, Ordering::Relaxed);
                    return Ok(Err("it was abandoned".into()));
                }
            }
            let closed = [&ids[..], self.prompts.score_tokens.stem_after(false)].concat();
            let path = self.prompts.score_tokens.path(score).to_vec();
            let likely = |token: u32, p: f64| Alternative { token, log_p: p.ln() };
            let logprobs = job.options.top_logprobs.map(|top| {
                let of = |token: &u32| TokenLogProb {
                    chosen: likely(*token, 0.8),
                    top: [likely(*token, 0.8), likely(id("5"), 0.2)].into_iter().take(top).collect(),
                };
                closed.iter().chain(&path).map(of).collect()
            });
            chains.push(JudgedChain {
                text: words[..limit].join(" "),
                prediction: prediction.clone(),
                forced: limit < 3,
                closed,
                score: path,
                logprobs,
            });
        }
        self.seen.judged.fetch_add(1, Ordering::Relaxed);
        let feedback = chains.first().map(|chain| chain.text.clone());
        let record = ScoreRecord::new(scale, &prediction, options.expectation, feedback, chains.iter().any(|c| c.forced));
        let row = job.prompt.calibrated.clone();
        let calibrated = self.prompts.settings.calibrated(options, &row, prediction.score(options.expectation));
        Ok(Ok(Judged { record: ScoreRecord { calibrated, ..record }, prediction, chains, row }))
    }
}

impl Model for Fake {
    fn judge(&self, jobs: &[Job], watch: &mut Watch<'_>) -> Result<Vec<Result<Judged, String>>, Fault> {
        self.seen.batch.fetch_max(jobs.len(), Ordering::Relaxed);
        jobs.iter().enumerate().map(|(n, job)| self.judge_one(job, n, watch)).collect()
    }
}

/// How a server differs from the usual one.
struct Setup {
    queue: usize,
    batch: usize,
    limits: Limits,
    keys: Option<&'static str>,
    origins: Vec<String>,
    /// Time that loading takes.
    loading: Duration,
    calibration: Option<JudgeCalibration>,
}

impl Default for Setup {
    fn default() -> Self {
        let (limits, loading) = (Limits::default(), Duration::ZERO);
        Setup { queue: 64, batch: 16, limits, keys: None, origins: Vec::new(), loading, calibration: None }
    }
}

/// A running server, ended with the test.
struct Server {
    address: String,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Server {
    fn start(setup: Setup) -> Self {
        let server = Server::start_loading(setup);
        let start = Instant::now();
        while server.get("/health").status != 200 {
            assert!(start.elapsed() < Duration::from_secs(60), "{}", server.get("/health").text());
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// A server whose model may still be loading.
    fn start_loading(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let prompts = prompts(setup.calibration);
        let model = (prompts.clone(), seen.clone());
        let load = move || -> Result<Box<dyn Model>, String> {
            std::thread::sleep(setup.loading);
            model.1.loads.fetch_add(1, Ordering::Relaxed);
            match model.1.broken.load(Ordering::Relaxed) {
                true => Err("there is no adapter any more".into()),
                false => Ok(Box::new(Fake { prompts: model.0.clone(), seen: model.1.clone() })),
            }
        };
        let expectation = Expectation::Renormalised;
        let judge = ServedJudge {
            name: "words".into(),
            prompts,
            defaults: Defaults { chains: 1, temperature: None, expectation, threshold: None, batch: setup.batch },
            sizes: Sizes { queue: setup.queue, batch: setup.batch },
            load: Box::new(load),
        };
        let keys = setup.keys.map(|keys| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), keys).unwrap();
            Keys::of_file(file.path()).unwrap()
        });
        let hosts: Vec<Host> = vec!["judge.example".parse().unwrap()];
        let settings = Settings { judge: Some(judge), site: None, limits: setup.limits, keys, hosts, origins: setup.origins };
        let asked = stop.clone();
        let serve = move || jurist::serve::run(listener, settings, || asked.load(Ordering::Relaxed), || {});
        Server { address, seen, stop, thread: Some(std::thread::spawn(serve)) }
    }

    fn get(&self, target: &str) -> http::Answer {
        http::get(&self.address, target)
    }

    fn post(&self, target: &str, body: &Value) -> http::Answer {
        http::post(&self.address, target, body)
    }

    /// A chat of one message, with more fields.
    fn chat(&self, text: &str, more: &Value) -> http::Answer {
        self.post("/v1/chat/completions", &chat(text, more))
    }

    /// Asks the server to end, and waits for it.
    fn end(mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The body of a chat of one message.
fn chat(text: &str, more: &Value) -> Value {
    let mut body = json!({"model": "judge", "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[track_caller]
fn near(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or(f64::NAN);
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}
