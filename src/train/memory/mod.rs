//! The memory plan: what a run will hold on the GPU, by what it is for, before anything is made.
//!
//! ```text
//! files, or a config.json alone ─► start ─► the run's own constructors over a dry GPU ─► ledger ─► table
//!                                             └─ again, with one setting lowered ─► ledger ─► levers
//! ```
//!
//! Nothing here knows how large anything is. The constructors that a run calls are called as it calls them, over a GPU that
//! counts buffers instead of making them, so that a plan cannot come to differ from a run.

mod assumed;
mod levers;
mod table;

use super::TrainError;
use super::config::method::ChainSource;
use super::config::{Method, TrainConfig};
use crate::data;
use crate::gpu::{Gpu, MemoryKind, MemoryUsage};
use crate::judge::{Judge, ScoreOptions};
use crate::model::error::ModelError;
use crate::model::names::TensorSpec;
use crate::model::weights::Weights;
use crate::train::data::pack::Example;
use crate::train::objective::engine::{Engine, TrainData};
use crate::train::objective::trainer::{Batching, Evaluator, Scoring};
use crate::train::run::data;
use crate::train::run::start::{RunInputs, labelled_rows};

pub use levers::Lever;
use table::gib;

/// Weight, gradient and two moments in f32.
const BYTES_A_TRAINED_PARAMETER: u64 = 16;

/// Of weights in their smallest form, Q4, without its scales.
const PARAMETERS_A_BYTE: u64 = 2;

/// Parameters of a model that is planned, with all that could make it smaller, in a second or two.
const PLANNED_AT_ONCE: u64 = 20_000_000_000;

/// Words that a checkpoint reads back at a time, as [`Weights::download`] does.
const CHECKPOINT_PIECE: usize = 1 << 20;

/// What a run will hold, and whether it fits.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// The adapter that is planned for.
    pub adapter: String,
    pub method: Method,
    /// Of the model.
    pub parameters: u64,
    /// When it is most.
    pub held: MemoryUsage,
    /// Bytes of activations that live in the cache, and are counted there.
    pub shared: u64,
    /// Bytes that it must fit into, if that is known.
    pub available: Option<u64>,
    /// Buffers over the adapter's limits.
    pub refusals: Vec<String>,
    /// What was assumed.
    pub notes: Vec<String>,
    /// Where it does not fit: what each setting would save, the most first.
    pub levers: Vec<Lever>,
    /// Where no single one is enough: as many of them as are, the gentlest first.
    pub together: Vec<Lever>,
}

impl MemoryPlan {
    /// Whether it fits; `None`: nothing is known that it must fit into.
    pub fn fits(&self) -> Option<bool> {
        Measured { held: self.held, shared: 0, refusals: self.refusals.clone() }.fits(self.available)
    }
}

/// Plans a run of `config` for the adapter of `gpu`. Without a `train_file`, its rows are assumed to be the longest that the
/// settings allow, and of the model nothing but its config is read.
///
/// # Errors
/// Whatever would keep the run from starting, but for memory and limits of the adapter.
pub fn plan(gpu: &Gpu, config: &TrainConfig, available: Option<u64>) -> Result<MemoryPlan, TrainError> {
    let assumed = config.train_file.is_empty();
    let start = &if assumed { assumed::start(config)? } else { RunInputs::read(&single_stage(config))? };
    available.map_or(Ok(()), |available| refuse_far_too_large(start, available))?;
    plan_from(&Beginning { start, assumed }, gpu, config, available)
}

/// Refuses a run that does not fit into the memory that a software adapter may take, before anything of it is allocated.
///
/// # Errors
/// [`TrainError::Memory`], with what would help; as [`plan`].
pub fn check(gpu: &Gpu, config: &TrainConfig, start: &RunInputs) -> Result<(), TrainError> {
    let Some(available) = gpu.memory_left() else { return Ok(()) };
    refuse_far_too_large(start, available)?;
    // Enough to know of a model that is far too large, of which a plan would take minutes.
    let parameters = start.model.config().parameter_count();
    let least = parameters.saturating_mul(BYTES_A_TRAINED_PARAMETER);
    if config.lora_r == 0 && start.adapter.is_none() && least > available {
        return Err(TrainError::Memory(format!(
            "the run does not fit: it needs at least {} GiB ({BYTES_A_TRAINED_PARAMETER} bytes for each of {parameters} parameters), \
             and {} GiB of memory are there; train an adapter beside frozen weights (--lora-r 16 --base-weights q4), or take a \
             smaller model",
            gib(least),
            gib(available)
        )));
    }
    let beginning = Beginning { start, assumed: false };
    if beginning.measure(gpu, config)?.held.total() <= available {
        return Ok(());
    }
    let advice = plan_from(&beginning, gpu, config, Some(available))?.advice();
    advice.map_or(Ok(()), |advice| Err(TrainError::Memory(advice)))
}

/// Refuses a large model that fits in no form. Plans of one take minutes; a smaller model's take a second and say more.
fn refuse_far_too_large(start: &RunInputs, available: u64) -> Result<(), TrainError> {
    let parameters = start.model.config().parameter_count();
    let least = parameters / PARAMETERS_A_BYTE;
    if least <= available || parameters <= PLANNED_AT_ONCE {
        return Ok(());
    }
    Err(TrainError::Memory(format!(
        "the run does not fit: {parameters} parameters take at least {} GiB, even frozen in 4 bits, and {} GiB of memory are there; \
         take a smaller model",
        gib(least),
        gib(available)
    )))
}

fn plan_from(beginning: &Beginning, gpu: &Gpu, config: &TrainConfig, available: Option<u64>) -> Result<MemoryPlan, TrainError> {
    let measured = beginning.measure(gpu, config)?;
    let start = beginning.start;
    let mut plan = MemoryPlan {
        adapter: gpu.facts().to_string(),
        method: config.method,
        parameters: start.model.config().parameter_count(),
        held: measured.held,
        shared: measured.shared,
        available,
        refusals: measured.refusals.clone(),
        notes: start.notes.clone(),
        levers: Vec::new(),
        together: Vec::new(),
    };
    if plan.fits() == Some(false) {
        plan.levers = levers::each(gpu, config, beginning, available)?;
        if !plan.levers.iter().any(|lever| lever.fits) {
            plan.together = levers::together(gpu, config, beginning, available)?;
        }
    }
    Ok(plan)
}

/// What a measurement found.
#[derive(Clone, Debug, Default)]
struct Measured {
    held: MemoryUsage,
    shared: u64,
    refusals: Vec<String>,
}

impl Measured {
    fn of(gpu: &Gpu) -> Self {
        Measured { held: gpu.peak_usage(), shared: gpu.aliased_bytes(), refusals: gpu.refusals() }
    }

    fn fits(&self, available: Option<u64>) -> Option<bool> {
        match available {
            _ if !self.refusals.is_empty() => Some(false),
            None => None,
            Some(available) => Some(self.held.total() <= available),
        }
    }

    /// Of two stretches of work behind each other, the one that holds more.
    fn or(self, other: Measured) -> Measured {
        let refusals = if self.refusals.is_empty() { other.refusals } else { self.refusals };
        let more = if self.held.total() >= other.held.total() { (self.held, self.shared) } else { (other.held, other.shared) };
        Measured { held: more.0, shared: more.1, refusals }
    }
}

/// What a run begins with.
struct Beginning<'a> {
    start: &'a RunInputs,
    /// Its rows are not those of a file.
    assumed: bool,
}

/// The rows that a config leaves of a beginning's, and its longest chain.
struct Rows {
    train: Vec<Example>,
    eval: Vec<Example>,
    judged: Vec<data::Example>,
    max_tokens: usize,
}

impl Beginning<'_> {
    /// What a run of `config` holds when it holds most.
    fn measure(&self, gpu: &Gpu, config: &TrainConfig) -> Result<Measured, TrainError> {
        let rows = self.rows(config)?;
        let measured = self.training(gpu, config, &rows)?;
        if config.method.spec().chains != ChainSource::FirstStage || self.assumed {
            return Ok(measured);
        }
        // Between the stages one judge writes chains; the second stage's may be as long as these are let become.
        let written = self.writing(gpu, config, &rows)?;
        let longest = Rows { train: rows.train.iter().map(|e| self.lengthened(config, e, rows.max_tokens)).collect(), ..rows };
        Ok(measured.or(written).or(self.training(gpu, config, &longest)?))
    }

    /// What `Run` makes before its first step, what an evaluation makes beside it, and what a checkpoint reads.
    fn training(&self, gpu: &Gpu, config: &TrainConfig, rows: &Rows) -> Result<Measured, TrainError> {
        let gpu = &gpu.dry_copy();
        let start = self.start;
        let data = TrainData { examples: &rows.train, max_tokens: rows.max_tokens, ..data(start) };
        let engine = Engine::new(gpu, &start.origin(), config, &data)?;
        let weights = engine.weights();
        let micro_batch = config.per_device_eval_batch_size as usize;
        let batching = Batching { micro_batch, supervision: config.supervision() };
        let scoring = Scoring { scale: &start.settings.scale, layout: start.layout() };
        let evaluator = match rows.eval.is_empty() {
            true => None,
            false => Some(Evaluator::new(gpu, weights, &rows.eval, batching, scoring)?),
        };
        if evaluator.is_some() {
            self.judge(gpu, weights, rows.max_tokens)?.reserve(&rows.judged, &judging(config))?;
        }
        let largest = weights.trainable()?.specs().iter().map(TensorSpec::len).max().unwrap_or(0);
        let staging = gpu.for_memory(MemoryKind::Staging).buffer("a checkpoint's piece", largest.min(CHECKPOINT_PIECE));
        staging.map_err(ModelError::from)?;
        Ok(Measured::of(gpu))
    }

    /// What tract holds while it writes chains.
    fn writing(&self, gpu: &Gpu, config: &TrainConfig, rows: &Rows) -> Result<Measured, TrainError> {
        let gpu = &gpu.dry_copy();
        let start = self.start;
        // As the first stage saves its judge: whole, or as an adapter beside the start model.
        let weights = match config.lora_r > 0 || start.adapter.is_some() {
            true => start.origin().upload(gpu, config)?,
            false => Weights::upload_as(gpu, start.model.as_ref(), config.base_weights.of_stored(start.dtype))?,
        };
        self.judge(gpu, &weights, rows.max_tokens)?.reserve(&labelled_rows(config)?, &judging(config))?;
        Ok(Measured::of(gpu))
    }

    fn judge(&self, gpu: &Gpu, weights: &Weights, max_completion_length: usize) -> Result<Judge, TrainError> {
        let settings = crate::judge::JudgeSettings { max_completion_length, ..self.start.settings.clone() };
        Ok(Judge::new(gpu, weights, self.start.tokenizer.clone(), settings)?)
    }

    /// The rows under `config`, which differs from that of the beginning by a lever at most.
    fn rows(&self, config: &TrainConfig) -> Result<Rows, TrainError> {
        let start = self.start;
        if self.assumed {
            let (train, max_tokens) = assumed::rows(config, start)?;
            return Ok(Rows { train, eval: Vec::new(), judged: Vec::new(), max_tokens });
        }
        let given = config.max_completion_length as usize;
        let max_tokens = if given > 0 && start.settings.chain { given } else { start.settings.max_completion_length };
        let layout = start.layout();
        let most = config.max_length as usize;
        // As `Preparation` and `RunInputs` choose them.
        let fits = |e: &Example| layout.depth(e.prompt.ids.len(), e.fed.len()) < most.max(1);
        let train: Vec<Example> = start.train.examples.iter().filter(|e| fits(e)).cloned().collect();
        let held_out = start.eval.iter().flat_map(|(prepared, rows)| prepared.examples.iter().zip(rows));
        let (eval, judged) = held_out.filter(|(e, _)| fits(e)).map(|(e, row)| (e.clone(), row.clone())).unzip();
        Ok(Rows { train, eval, judged, max_tokens })
    }

    /// The example with the longest chain that fits behind its prompt.
    fn lengthened(&self, config: &TrainConfig, example: &Example, max_tokens: usize) -> Example {
        let context = self.start.model.config().max_position_embeddings.min(config.max_length as usize);
        let room = context.saturating_sub(self.start.layout().depth(example.prompt.ids.len(), 1));
        let fed = (max_tokens + self.start.tokens.stem.len()).min(room).max(example.fed.len());
        Example { fed: vec![0; fed], ..example.clone() }
    }

    /// Tokens of the longest row, and of the longest chain.
    fn extent(&self, config: &TrainConfig) -> Result<(usize, usize), TrainError> {
        let rows = self.rows(config)?;
        let layout = self.start.layout();
        let lengths = rows.train.iter().map(|e| layout.depth(e.prompt.ids.len(), e.fed.len()) + 1);
        Ok((lengths.max().unwrap_or(0), rows.max_tokens))
    }
}

/// What an evaluation does.
fn judging(config: &TrainConfig) -> ScoreOptions {
    ScoreOptions { batch_size: config.per_device_eval_batch_size as usize, ..ScoreOptions::default() }
}

/// Both stages of tract are cot-raft.
fn single_stage(config: &TrainConfig) -> TrainConfig {
    TrainConfig { method: config.method.stage(), ..config.clone() }
}
