//! The thread that owns the judge and its GPU: jobs in from a bounded queue, events back over a channel each.
//!
//! ```text
//! handlers ─► queue ─► engine thread ─► Model::judge ─► events ─► handlers
//!             bounded   gathers jobs of    the GPU       tokens as drawn,
//!                       equal options                    the judgement, an error
//! ```
//!
//! A job is one row. Its options hold everything that its answer depends on; random numbers come from its own seed and row
//! number, never from the jobs beside it. A job whose receiver is gone is abandoned: it leaves the queue, or its rows of the
//! rollout are freed.
//!
//! A fault that the GPU does not recover from ends the jobs of its batch with a message. The model is then loaded anew, once; if
//! that fails, or the next batch ends the same way, every job is refused and [`Status`] says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use crate::judge::{Prediction, PromptTokens, ScoreOptions, ScoreRecord, TokenLogProb};
use crate::text::caught;

/// How a row is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct JobOptions {
    /// The chains, and how they are drawn. `first_row` is the row's number in its request.
    pub score: ScoreOptions,
    /// Likeliest tokens in the place of each token of the answer; `None` where no log-probabilities are wanted.
    pub top_logprobs: Option<usize>,
    /// Whether tokens are sent as they are drawn.
    pub stream: bool,
}

impl JobOptions {
    /// Whether a row of `other` may be judged in the same call, `after` rows after one of these options.
    fn goes_with(&self, other: &JobOptions, after: usize) -> bool {
        let sampled = self.score.chain_temperature() > 0.0 && !self.score.given_chains;
        let place = |options: &JobOptions| match sampled {
            true => (options.score.seed, options.score.first_row),
            false => (0, 0),
        };
        let (seed, row) = place(self);
        let same = |options: &JobOptions| ScoreOptions { seed: 0, first_row: 0, ..options.score.clone() };
        place(other) == (seed, row + if sampled { after } else { 0 })
            && same(self) == same(other)
            && self.top_logprobs == other.top_logprobs
    }
}

/// A row to judge.
pub struct Job {
    pub prompt: PromptTokens,
    pub options: JobOptions,
    /// Where its events go. A receiver that is gone abandons the job.
    pub events: mpsc::UnboundedSender<Event>,
    pub queued: Instant,
}

impl Job {
    /// A job, and what is told about it.
    pub fn new(prompt: PromptTokens, options: JobOptions) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, told) = mpsc::unbounded_channel();
        (Job { prompt, options, events, queued: Instant::now() }, told)
    }

    /// Tells something about the job. Nobody may be listening any more.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// What is told about a job.
#[derive(Debug)]
pub enum Event {
    /// The next tokens of one of its chains, without what may be the phrase.
    Tokens {
        chain: usize,
        ids: Vec<u32>,
    },
    Judged(Box<Judged>),
    /// The row cannot be judged: the reason.
    Refused(String),
    /// The server could not judge it: the reason.
    Failed(String),
}

/// A row that was judged.
#[derive(Clone, Debug)]
pub struct Judged {
    pub record: ScoreRecord,
    pub prediction: Prediction,
    pub chains: Vec<JudgedChain>,
}

/// One chain of a row, and the score behind it.
#[derive(Clone, Debug)]
pub struct JudgedChain {
    /// The chain of thought; empty where the judge writes none.
    pub text: String,
    pub prediction: Prediction,
    /// Whether the phrase had to be appended to the chain.
    pub forced: bool,
    /// Chain and phrase.
    pub closed: Vec<u32>,
    /// The tokens of the decoded score.
    pub score: Vec<u32>,
    /// The log-probability of each token of `closed` and `score`, where they were asked for.
    pub logprobs: Option<Vec<TokenLogProb>>,
}

/// Why a batch was not judged.
#[derive(Debug)]
pub enum Fault {
    /// The model can judge other rows.
    Batch(String),
    /// The model has to be loaded anew.
    Model(String),
}

/// What judges batches of jobs: a judge on a GPU.
pub trait Model {
    /// Judges jobs of equal options. A row that cannot be judged is an error of its own.
    ///
    /// # Errors
    /// What ends the whole batch.
    fn judge(&self, jobs: &[Job], watch: &mut Watch<'_>) -> Result<Vec<Result<Judged, String>>, Fault>;
}

/// Loads the model; called on the engine's thread.
pub type Load = Box<dyn FnMut() -> Result<Box<dyn Model>, String> + Send>;

/// Hands tokens to the jobs of a running batch, and knows which of them nobody waits for.
pub struct Watch<'a> {
    jobs: &'a [Job],
    chains: usize,
    /// For each chain, how many of its tokens were told.
    told: Vec<usize>,
}

impl<'a> Watch<'a> {
    fn new(jobs: &'a [Job]) -> Self {
        let chains = jobs.first().map_or(1, |job| job.options.score.chains.max(1));
        Watch { jobs, chains, told: vec![0; jobs.len() * chains] }
    }

    /// The tokens of a chain so far; chains count over all jobs. False where nobody waits for any job.
    pub fn tokens(&mut self, chain: usize, ids: &mut dyn ExactSizeIterator<Item = u32>) -> bool {
        if let (Some(job), Some(told)) = (self.jobs.get(chain / self.chains), self.told.get_mut(chain)) {
            let new: Vec<u32> = ids.skip(*told).collect();
            *told += new.len();
            if job.options.stream && !new.is_empty() {
                job.tell(Event::Tokens { chain: chain % self.chains, ids: new });
            }
        }
        self.jobs.iter().any(|job| !job.events.is_closed())
    }

    /// Whether nobody waits for the job of this chain.
    pub fn is_abandoned(&self, chain: usize) -> bool {
        self.jobs.get(chain / self.chains).is_some_and(|job| job.events.is_closed())
    }

    /// Whether tokens are wanted as they are drawn.
    pub fn streams(&self) -> bool {
        self.jobs.iter().any(|job| job.options.stream)
    }
}

/// Whether rows can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Loading,
    Ready,
    /// The model is lost, and could not be loaded anew.
    Lost,
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The queue is full: seconds until there may be room.
    Full {
        seconds: u64,
    },
    /// More rows at once than the queue takes.
    TooMany {
        most: usize,
    },
    Loading,
    Lost,
    /// The server is ending.
    Closed,
}

/// The sizes of the engine.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Jobs that wait.
    pub queue: usize,
    /// Chains that are judged together.
    pub batch: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// The handle of the engine's thread.
pub struct Engine {
    sizes: Sizes,
    status: AtomicU8,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Microseconds of work a job, a moving mean.
    pace: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Engine {
    /// Starts the thread. The receiver is told once whether the model was loaded at first.
    ///
    /// # Errors
    /// The system has no thread.
    #[allow(clippy::type_complexity)]
    pub fn start(
        sizes: Sizes,
        metrics: Arc<Metrics>,
        load: Load,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>, oneshot::Receiver<Result<(), String>>)> {
        let engine = Engine::idle(sizes, metrics);
        let (loaded, told) = oneshot::channel();
        let own = engine.clone();
        let thread = std::thread::Builder::new().name("judge".into()).spawn(move || own.work(load, loaded))?;
        Ok((engine, thread, told))
    }

    /// An engine without a thread, which judges nothing.
    pub fn idle(sizes: Sizes, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Engine {
            sizes: Sizes { queue: sizes.queue.max(1), batch: sizes.batch.max(1) },
            status: AtomicU8::new(Status::Loading as u8),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            pace: AtomicU64::new(0),
            metrics,
        })
    }

    pub fn status(&self) -> Status {
        match self.status.load(Ordering::Relaxed) {
            0 => Status::Loading,
            1 => Status::Ready,
            _ => Status::Lost,
        }
    }

    fn set_status(&self, status: Status) {
        self.status.store(status as u8, Ordering::Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts jobs into the queue: all or none, one behind the other.
    ///
    /// # Errors
    /// Why they are not taken.
    pub fn push(&self, jobs: Vec<Job>) -> Result<(), Busy> {
        match self.status() {
            Status::Loading => return Err(Busy::Loading),
            Status::Lost => return Err(Busy::Lost),
            Status::Ready => {}
        }
        if jobs.len() > self.sizes.queue {
            return Err(Busy::TooMany { most: self.sizes.queue });
        }
        let mut queue = self.queue();
        if queue.closed {
            return Err(Busy::Closed);
        }
        if queue.jobs.len() + jobs.len() > self.sizes.queue {
            queue.jobs.retain(|job| !job.events.is_closed());
        }
        if queue.jobs.len() + jobs.len() > self.sizes.queue {
            let micros = self.pace.load(Ordering::Relaxed).saturating_mul(queue.jobs.len() as u64);
            return Err(Busy::Full { seconds: (micros / 1_000_000 + 1).min(60) });
        }
        queue.jobs.extend(jobs);
        self.metrics.set_queue(queue.jobs.len());
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes no more jobs. The thread ends when the queue is empty.
    pub fn close(&self) {
        self.queue().closed = true;
        self.arrived.notify_all();
    }

    /// The next jobs of equal options; `None` at the end.
    fn next_batch(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue();
        loop {
            queue.jobs.retain(|job| !job.events.is_closed());
            if let Some(first) = queue.jobs.pop_front() {
                let chains = first.options.score.chains.max(1);
                let most = (self.sizes.batch / chains).max(1);
                let mut batch = vec![first];
                let mut at = 0;
                while at < queue.jobs.len() && batch.len() < most {
                    if batch[0].options.goes_with(&queue.jobs[at].options, batch.len()) {
                        batch.extend(queue.jobs.remove(at));
                    } else {
                        at += 1;
                    }
                }
                self.metrics.set_queue(queue.jobs.len());
                return Some(batch);
            }
            if queue.closed {
                return None;
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, mut load: Load, loaded: oneshot::Sender<Result<(), String>>) {
        let mut model = match load() {
            Ok(model) => model,
            Err(reason) => {
                self.set_status(Status::Lost);
                let _ = loaded.send(Err(reason));
                return self.refuse_all();
            }
        };
        self.set_status(Status::Ready);
        let _ = loaded.send(Ok(()));
        // Whether the model was loaded anew and has judged nothing since.
        let mut fresh = false;
        while let Some(jobs) = self.next_batch() {
            let Err(reason) = self.run(&*model, jobs) else {
                fresh = false;
                continue;
            };
            self.metrics.count_fault();
            drop(model);
            self.set_status(Status::Loading);
            let again = if fresh { Err(reason) } else { caught(&mut load).unwrap_or_else(Err) };
            match again {
                Ok(anew) => model = anew,
                Err(_) => {
                    self.set_status(Status::Lost);
                    return self.refuse_all();
                }
            }
            fresh = true;
            self.set_status(Status::Ready);
        }
    }

    /// Refuses what is in the queue and what still comes, until the queue is closed.
    fn refuse_all(&self) {
        while let Some(jobs) = self.next_batch() {
            jobs.iter().for_each(|job| job.tell(Event::Failed(LOST.into())));
        }
    }

    /// Judges a batch. An error is a fault of the model; the jobs know already.
    fn run(&self, model: &dyn Model, jobs: Vec<Job>) -> Result<(), String> {
        let start = Instant::now();
        let judge = |jobs: &[Job]| match caught(|| model.judge(jobs, &mut Watch::new(jobs))) {
            Ok(judged) => judged,
            Err(panic) => Err(Fault::Model(panic)),
        };
        let ended = match judge(&jobs) {
            // Perhaps one of them is at fault.
            Err(Fault::Batch(_)) if jobs.len() > 1 => jobs.chunks(1).try_for_each(|job| self.answer(job, judge(job))),
            judged => self.answer(&jobs, judged),
        };
        let micros = start.elapsed().as_micros() as u64 / jobs.len() as u64;
        let before = self.pace.load(Ordering::Relaxed);
        self.pace.store(if before == 0 { micros } else { (3 * before + micros) / 4 }, Ordering::Relaxed);
        self.metrics.observe_batch(jobs.len());
        ended
    }

    fn answer(&self, jobs: &[Job], judged: Result<Vec<Result<Judged, String>>, Fault>) -> Result<(), String> {
        match judged {
            Ok(rows) => {
                for (job, row) in jobs.iter().zip(rows) {
                    job.tell(match row {
                        Ok(judged) => Event::Judged(Box::new(judged)),
                        Err(reason) => Event::Refused(reason),
                    });
                }
                Ok(())
            }
            Err(Fault::Batch(reason)) => {
                jobs.iter().for_each(|job| job.tell(Event::Failed(reason.clone())));
                Ok(())
            }
            Err(Fault::Model(reason)) => {
                jobs.iter().for_each(|job| job.tell(Event::Failed(reason.clone())));
                Err(reason)
            }
        }
    }
}

/// What a job is told when there is no model.
const LOST: &str = "the model was lost and could not be loaded anew; restart the server";
