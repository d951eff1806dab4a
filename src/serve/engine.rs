//! The thread that owns the judge and its GPU: jobs in from a bounded queue, events back over a channel each.
//!
//! ```text
//! handlers ─► queue ─► engine thread ─┬─► Model::join, advance ─┬─► events ─► handlers
//!             bounded                 │    rows that come and go │   tokens as drawn,
//!                                     └─► Model::judge ──────────┘   the judgement, an error
//!                                          jobs of equal options
//! ```
//!
//! A job is one row. Its options hold everything that its answer depends on; random numbers come from its own seed and row
//! number, never from the jobs beside it. A job whose receiver is gone is abandoned: it leaves the queue, or its rows of the
//! rollout are freed.
//!
//! Jobs that write chains join those that run as soon as there are rows for them, whatever their options. The others need one
//! pass each: those of equal options that wait together are judged together, between two advances of the chains.
//!
//! A fault that the GPU does not recover from ends the jobs of its batch with a message. The model is then loaded anew, once; if
//! that fails, or the next batch ends the same way, every job is refused and [`Status`] says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use crate::judge::{CalibratedRow, Prediction, PromptTokens, ScoreOptions, ScoreRecord, TokenLogProb};
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
    /// What the judge's calibration has to know of the row.
    pub row: CalibratedRow,
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

/// Jobs by their numbers, each with its judgement or why it cannot be judged.
pub type JudgedJobs = Vec<(u64, Result<Judged, String>)>;

/// What judges batches of jobs: a judge on a GPU.
pub trait Model {
    /// Judges jobs of equal options. A row that cannot be judged is an error of its own.
    ///
    /// # Errors
    /// What ends the whole batch.
    fn judge(&self, jobs: &[Job], watch: &mut Watch<'_>) -> Result<Vec<Result<Judged, String>>, Fault>;

    /// Whether a job of these options joins those that run.
    fn joins(&self, _options: &JobOptions) -> bool {
        false
    }

    /// Adds a job to those that run.
    ///
    /// # Errors
    /// Why its row cannot be judged.
    fn join(&mut self, _number: u64, _job: &Job) -> Result<(), String> {
        Err("this model judges whole batches".into())
    }

    /// Nobody waits for this job any more: its rows are free.
    fn leave(&mut self, _number: u64) {}

    /// Chains that run, or wait for their turn to.
    fn chains(&self) -> usize {
        0
    }

    /// Writes some tokens of every chain. Returns what is judged now.
    ///
    /// # Errors
    /// What ends all jobs that run. The model has forgotten them.
    fn advance(&mut self, _running: &mut Running) -> Result<JudgedJobs, Fault> {
        Ok(Vec::new())
    }
}

/// The jobs that run, by their numbers.
#[derive(Default)]
pub struct Running {
    jobs: BTreeMap<u64, Joined>,
    next: u64,
}

struct Joined {
    job: Job,
    /// For each chain, how many of its tokens were told.
    told: Vec<usize>,
}

impl Running {
    pub fn job(&self, number: u64) -> Option<&Job> {
        self.jobs.get(&number).map(|joined| &joined.job)
    }

    /// The tokens of a job's chain so far.
    pub fn tokens(&mut self, number: u64, chain: usize, ids: &mut dyn ExactSizeIterator<Item = u32>) {
        let Some(Joined { job, told }) = self.jobs.get_mut(&number) else { return };
        if let Some(told) = told.get_mut(chain).filter(|_| job.options.stream) {
            let new: Vec<u32> = ids.skip(*told).collect();
            *told += new.len();
            if !new.is_empty() {
                job.tell(Event::Tokens { chain, ids: new });
            }
        }
    }

    /// Whether tokens are wanted as they are drawn.
    pub fn streams(&self) -> bool {
        self.jobs.values().any(|joined| joined.job.options.stream)
    }

    /// Takes out all jobs.
    fn take(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs).into_values().map(|joined| joined.job).collect()
    }
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
    /// For a batch of these jobs.
    pub fn new(jobs: &'a [Job]) -> Self {
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
    /// Microseconds of work since jobs were judged last.
    working: AtomicU64,
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
            working: AtomicU64::new(0),
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

    /// The next jobs: those that join, for which there is `room` (in chains), and a batch of equal options of those that do not.
    /// Waits for one, unless `busy`. `None` at the end.
    fn next(&self, joins: impl Fn(&JobOptions) -> bool, mut room: usize, busy: bool) -> Option<(Vec<Job>, Vec<Job>)> {
        let mut queue = self.queue();
        loop {
            queue.jobs.retain(|job| !job.events.is_closed());
            let (mut joining, mut batch) = (Vec::new(), Vec::<Job>::new());
            let mut most = 0;
            let mut kept = VecDeque::with_capacity(queue.jobs.len());
            for job in std::mem::take(&mut queue.jobs) {
                let chains = job.options.score.chains.max(1);
                if joins(&job.options) {
                    // Those that join do so in their order.
                    if room > 0 {
                        room = room.saturating_sub(chains);
                        joining.push(job);
                    } else {
                        kept.push_back(job);
                    }
                } else if batch.is_empty() {
                    most = (self.sizes.batch / chains).max(1);
                    batch.push(job);
                } else if batch.len() < most && batch[0].options.goes_with(&job.options, batch.len()) {
                    batch.push(job);
                } else {
                    kept.push_back(job);
                }
            }
            queue.jobs = kept;
            if busy || !joining.is_empty() || !batch.is_empty() {
                self.metrics.set_queue(queue.jobs.len());
                return Some((joining, batch));
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
        let mut running = Running::default();
        loop {
            let room = self.sizes.batch.saturating_sub(model.chains());
            let busy = !running.jobs.is_empty();
            let Some((joining, batch)) = self.next(|options| model.joins(options), room, busy) else { return };
            joining.into_iter().for_each(|job| join(&mut *model, &mut running, job));
            let mut ended = if batch.is_empty() { Ok(false) } else { self.run(&*model, batch).map(|()| true) };
            if ended.is_ok() {
                ended = self.advance(&mut *model, &mut running).map(|any| any || ended == Ok(true));
            }
            let reason = match ended {
                Ok(any) => {
                    fresh &= !any;
                    continue;
                }
                Err(reason) => reason,
            };
            running.take().iter().for_each(|job| job.tell(Event::Failed(reason.clone())));
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
        while let Some((_, jobs)) = self.next(|_| false, 0, false) {
            jobs.iter().for_each(|job| job.tell(Event::Failed(LOST.into())));
        }
    }

    /// Advances the jobs that run. Whether any was judged. An error is a fault of the model.
    fn advance(&self, model: &mut dyn Model, running: &mut Running) -> Result<bool, String> {
        running.jobs.retain(|number, joined| {
            let gone = joined.job.events.is_closed();
            if gone {
                model.leave(*number);
            }
            !gone
        });
        if running.jobs.is_empty() {
            return Ok(false);
        }
        let start = Instant::now();
        let together = running.jobs.len();
        let judged = caught(|| model.advance(running)).unwrap_or_else(|panic| Err(Fault::Model(panic)));
        match judged {
            Ok(judged) => {
                let any = !judged.is_empty();
                self.working.fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
                if any {
                    self.keep_pace(judged.len());
                }
                for (number, row) in judged {
                    self.metrics.observe_batch(together);
                    if let Some(Joined { job, .. }) = running.jobs.remove(&number) {
                        job.tell(told(row));
                    }
                }
                Ok(any)
            }
            // Perhaps one of them is at fault.
            Err(Fault::Batch(reason)) => {
                for Joined { job, told } in std::mem::take(&mut running.jobs).into_values() {
                    // Tokens cannot be told twice.
                    match told.iter().any(|told| *told > 0) {
                        true => job.tell(Event::Failed(reason.clone())),
                        false => self.run(model, vec![job])?,
                    }
                }
                Ok(true)
            }
            Err(Fault::Model(reason)) => Err(reason),
        }
    }

    /// So many jobs were judged since the last call.
    fn keep_pace(&self, jobs: usize) {
        let micros = self.working.swap(0, Ordering::Relaxed) / jobs.max(1) as u64;
        let before = self.pace.load(Ordering::Relaxed);
        self.pace.store(if before == 0 { micros } else { (3 * before + micros) / 4 }, Ordering::Relaxed);
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
        self.working.fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.keep_pace(jobs.len());
        self.metrics.observe_batch(jobs.len());
        ended
    }

    fn answer(&self, jobs: &[Job], judged: Result<Vec<Result<Judged, String>>, Fault>) -> Result<(), String> {
        match judged {
            Ok(rows) => {
                for (job, row) in jobs.iter().zip(rows) {
                    job.tell(told(row));
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

/// What a job is told about its row.
fn told(row: Result<Judged, String>) -> Event {
    match row {
        Ok(judged) => Event::Judged(Box::new(judged)),
        Err(reason) => Event::Refused(reason),
    }
}

/// Adds a job to those that run, or refuses it.
fn join(model: &mut dyn Model, running: &mut Running, job: Job) {
    running.next += 1;
    match model.join(running.next, &job) {
        Err(reason) => job.tell(Event::Refused(reason)),
        Ok(()) => {
            let told = vec![0; job.options.score.chains.max(1)];
            running.jobs.insert(running.next, Joined { job, told });
        }
    }
}

/// What a job is told when there is no model.
const LOST: &str = "the model was lost and could not be loaded anew; restart the server";
