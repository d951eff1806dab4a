//! The memory plan: the GPU memory of a run, by kind, before anything is allocated.
//!
//! ```text
//! files, or a config.json alone ─► inputs ─► the run's constructors on a dry GPU ─► memory usage ─► table
//!                                              └─ again, with one setting lowered ─► memory usage ─► levers
//! ```
//!
//! This module knows no sizes. It calls the constructors that a run calls, on a GPU that counts buffers instead of allocating
//! them. So a plan cannot differ from the run.

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
use crate::ranks::Ranks;
use crate::train::data::pack::TrainExample;
use crate::train::objective::engine::{Engine, TrainData};
use crate::train::objective::gradient_sum::PIECE_WORDS;
use crate::train::objective::supervised::{Batching, Evaluator, Scoring};
use crate::train::run::over_ranks::check_parts;
use crate::train::run::start::{RunInputs, labelled_examples};
use crate::train::run::train_data;

pub use levers::Lever;
use table::gib;

/// Weight, gradient and two moments in f32.
const BYTES_PER_TRAINED_PARAMETER: u64 = 16;

/// For weights of the smallest dtype, Q4, without its scales.
const PARAMETERS_PER_BYTE: u64 = 2;

/// The most parameters of a model whose plan and levers take only a second or two.
const PLANNED_AT_ONCE: u64 = 20_000_000_000;

/// Words that a checkpoint reads back at a time, as in [`Weights::download`].
const CHECKPOINT_PIECE: usize = 1 << 20;

/// The memory of a run, and whether it fits.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// The adapter that is planned for.
    pub adapter: String,
    pub method: Method,
    /// Parameters of the model.
    pub parameters: u64,
    /// Peak memory usage.
    pub held: MemoryUsage,
    /// Bytes of activations that use the memory of the cache, and are counted there.
    pub shared: u64,
    /// Available bytes, if known.
    pub available: Option<u64>,
    /// Buffers over the adapter's limits.
    pub refusals: Vec<String>,
    /// Assumptions and other notes for the user.
    pub notes: Vec<String>,
    /// If the run does not fit: what each setting would save, the most first.
    pub levers: Vec<Lever>,
    /// If no single setting is enough: several that are, the mildest first.
    pub together: Vec<Lever>,
}

impl MemoryPlan {
    /// Whether the run fits; `None` if the available memory is unknown.
    pub fn fits(&self) -> Option<bool> {
        PeakMemory { usage: self.held, shared: 0, refusals: self.refusals.clone() }.fits(self.available)
    }
}

/// Plans a run of `config` for the adapter of `gpu`, as each of these ranks does it. Without a `train_file`, the rows are assumed
/// to be the longest that the settings allow, and only the config of the model is read.
///
/// # Errors
/// Anything that would keep the run from starting, except memory and limits of the adapter.
pub fn plan(gpu: &Gpu, config: &TrainConfig, available: Option<u64>, ranks: &Ranks) -> Result<MemoryPlan, TrainError> {
    check_parts(config, ranks.size())?;
    let assumed = config.train_file.is_empty();
    let inputs = &if assumed { assumed::inputs(config)? } else { RunInputs::read(&single_stage(config))? };
    available.map_or(Ok(()), |available| refuse_far_too_large(inputs, available))?;
    plan_from(&PlannedRun { inputs, assumed, ranks }, gpu, config, available)
}

/// Refuses a run that needs more memory than a software adapter may take, before anything is allocated.
///
/// # Errors
/// [`TrainError::Memory`], with settings that would help; as [`plan`].
pub fn check(gpu: &Gpu, config: &TrainConfig, inputs: &RunInputs, ranks: &Ranks) -> Result<(), TrainError> {
    let Some(available) = gpu.memory_left() else { return Ok(()) };
    refuse_far_too_large(inputs, available)?;
    // A plan of a model that is far too large would take minutes; a lower bound is enough.
    let parameters = inputs.model.config().parameter_count();
    let least = parameters.saturating_mul(BYTES_PER_TRAINED_PARAMETER);
    if config.lora_r == 0 && inputs.adapter.is_none() && least > available {
        return Err(TrainError::Memory(format!(
            "the run does not fit: it needs at least {} GiB ({BYTES_PER_TRAINED_PARAMETER} bytes for each of {parameters} parameters), \
             and {} GiB of memory are there; train an adapter beside frozen weights (--lora-r 16 --base-weights q4), or take a \
             smaller model",
            gib(least),
            gib(available)
        )));
    }
    let run = PlannedRun { inputs, assumed: false, ranks };
    if run.measure(gpu, config)?.usage.total() <= available {
        return Ok(());
    }
    let advice = plan_from(&run, gpu, config, Some(available))?.advice();
    advice.map_or(Ok(()), |advice| Err(TrainError::Memory(advice)))
}

/// Refuses a large model that does not fit even in the smallest dtype. Its plan would take minutes; that of a smaller model takes
/// a second and gives better advice.
fn refuse_far_too_large(inputs: &RunInputs, available: u64) -> Result<(), TrainError> {
    let parameters = inputs.model.config().parameter_count();
    let least = parameters / PARAMETERS_PER_BYTE;
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

fn plan_from(run: &PlannedRun, gpu: &Gpu, config: &TrainConfig, available: Option<u64>) -> Result<MemoryPlan, TrainError> {
    let peak = run.measure(gpu, config)?;
    let mut plan = MemoryPlan {
        adapter: gpu.facts().to_string(),
        method: config.method,
        parameters: run.inputs.model.config().parameter_count(),
        held: peak.usage,
        shared: peak.shared,
        available,
        refusals: peak.refusals.clone(),
        notes: run.inputs.notes.clone(),
        levers: Vec::new(),
        together: Vec::new(),
    };
    if plan.fits() == Some(false) {
        plan.levers = levers::single(gpu, config, run, available)?;
        if !plan.levers.iter().any(|lever| lever.fits) {
            plan.together = levers::combined(gpu, config, run, available)?;
        }
    }
    Ok(plan)
}

/// The peak memory of a dry run.
#[derive(Clone, Debug, Default)]
struct PeakMemory {
    usage: MemoryUsage,
    shared: u64,
    refusals: Vec<String>,
}

impl PeakMemory {
    fn of(gpu: &Gpu) -> Self {
        PeakMemory { usage: gpu.peak_usage(), shared: gpu.aliased_bytes(), refusals: gpu.refusals() }
    }

    fn fits(&self, available: Option<u64>) -> Option<bool> {
        match available {
            _ if !self.refusals.is_empty() => Some(false),
            None => None,
            Some(available) => Some(self.usage.total() <= available),
        }
    }

    /// The peak of this work followed by other work.
    fn max(self, other: PeakMemory) -> PeakMemory {
        let refusals = if self.refusals.is_empty() { other.refusals } else { self.refusals };
        let is_larger = self.usage.total() >= other.usage.total();
        let (usage, shared) = if is_larger { (self.usage, self.shared) } else { (other.usage, other.shared) };
        PeakMemory { usage, shared, refusals }
    }
}

/// The run to plan.
struct PlannedRun<'a> {
    inputs: &'a RunInputs,
    /// Whether its rows are assumed instead of read from a file.
    assumed: bool,
    ranks: &'a Ranks,
}

/// The rows that remain under a config, and the limit of a chain.
struct PlannedRows {
    train: Vec<TrainExample>,
    eval: Vec<TrainExample>,
    scored_rows: Vec<data::Example>,
    max_tokens: usize,
}

impl PlannedRun<'_> {
    /// The peak memory of a run of `config`.
    fn measure(&self, gpu: &Gpu, config: &TrainConfig) -> Result<PeakMemory, TrainError> {
        let rows = self.rows(config)?;
        let first_stage = self.training(gpu, config, &rows)?;
        if config.method.spec().chains != ChainSource::FirstStage || self.assumed {
            return Ok(first_stage);
        }
        // Between the stages a judge writes chains. Those of the second stage may be as long as the limit allows.
        let writing = self.writing(gpu, config, &rows)?;
        let longest = rows.train.iter().map(|e| self.lengthened(config, e, rows.max_tokens)).collect();
        let second_stage = self.training(gpu, config, &PlannedRows { train: longest, ..rows })?;
        Ok(first_stage.max(writing).max(second_stage))
    }

    /// The memory of training: what a run makes before its first step, for an evaluation, and for a checkpoint.
    fn training(&self, gpu: &Gpu, config: &TrainConfig, rows: &PlannedRows) -> Result<PeakMemory, TrainError> {
        let gpu = &gpu.dry_copy();
        let inputs = self.inputs;
        let data = TrainData { examples: &rows.train, max_tokens: rows.max_tokens, ..train_data(inputs) };
        let engine = Engine::new(gpu, &inputs.initial_weights(), config, &data, self.ranks)?;
        let weights = engine.weights();
        let micro_batch = config.per_device_eval_batch_size as usize;
        let batching = Batching { micro_batch, supervision: config.supervision(), share_prefixes: config.share_prefixes };
        let scoring = Scoring { scale: &inputs.settings.scale, layout: inputs.layout() };
        let evaluator = match rows.eval.is_empty() {
            true => None,
            false => Some(Evaluator::new(gpu, weights, &rows.eval, batching, scoring)?),
        };
        if evaluator.is_some() {
            self.judge(gpu, weights, rows.max_tokens)?.reserve(&rows.scored_rows, &score_options(config))?;
        }
        let trained = weights.trainable()?;
        let largest = trained.specs().iter().map(TensorSpec::len).max().unwrap_or(0).min(CHECKPOINT_PIECE);
        // Of a gradient on its way to other ranks.
        let piece = if self.ranks.size() > 1 { PIECE_WORDS.min(trained.bytes() as usize / 4) } else { 0 };
        let staging = gpu.for_memory(MemoryKind::Staging).buffer("a checkpoint's piece", largest.max(piece));
        staging.map_err(ModelError::from)?;
        Ok(PeakMemory::of(gpu))
    }

    /// The memory of writing chains between the stages of tract.
    fn writing(&self, gpu: &Gpu, config: &TrainConfig, rows: &PlannedRows) -> Result<PeakMemory, TrainError> {
        let gpu = &gpu.dry_copy();
        let inputs = self.inputs;
        // The first stage saves its judge as a whole model, or as an adapter of the start model.
        let weights = match config.lora_r > 0 || inputs.adapter.is_some() {
            true => inputs.initial_weights().upload(gpu, config)?,
            false => Weights::upload_as(gpu, inputs.model.as_ref(), inputs.dtype.into())?,
        };
        self.judge(gpu, &weights, rows.max_tokens)?.reserve(&labelled_examples(config)?, &score_options(config))?;
        Ok(PeakMemory::of(gpu))
    }

    fn judge(&self, gpu: &Gpu, weights: &Weights, max_completion_length: usize) -> Result<Judge, TrainError> {
        let settings = crate::judge::JudgeSettings { max_completion_length, ..self.inputs.settings.clone() };
        Ok(Judge::new(gpu, weights, self.inputs.tokenizer.clone(), settings)?)
    }

    /// The rows under `config`, which may differ from that of the inputs by levers.
    fn rows(&self, config: &TrainConfig) -> Result<PlannedRows, TrainError> {
        let inputs = self.inputs;
        if self.assumed {
            let (train, max_tokens) = assumed::rows(config, inputs)?;
            return Ok(PlannedRows { train, eval: Vec::new(), scored_rows: Vec::new(), max_tokens });
        }
        let given = config.max_completion_length as usize;
        let max_tokens = if given > 0 && inputs.settings.chain { given } else { inputs.settings.max_completion_length };
        let layout = inputs.layout();
        let most = config.max_length as usize;
        // As `Preparation` and `RunInputs` choose them.
        let fits = |e: &TrainExample| layout.depth(e.prompt.ids.len(), e.continuation.len()) < most.max(1);
        let train: Vec<TrainExample> = inputs.train.examples.iter().filter(|e| fits(e)).cloned().collect();
        let held_out = inputs.eval.iter().flat_map(|(prepared, rows)| prepared.examples.iter().zip(rows));
        let (eval, scored_rows) = held_out.filter(|(e, _)| fits(e)).map(|(e, row)| (e.clone(), row.clone())).unzip();
        Ok(PlannedRows { train, eval, scored_rows, max_tokens })
    }

    /// The example with the longest chain that fits after its prompt.
    fn lengthened(&self, config: &TrainConfig, example: &TrainExample, max_tokens: usize) -> TrainExample {
        let context = self.inputs.model.config().max_position_embeddings.min(config.max_length as usize);
        let most = context.saturating_sub(self.inputs.layout().depth(example.prompt.ids.len(), 1));
        let continuation = (max_tokens + self.inputs.tokens.stem.len()).min(most).max(example.continuation.len());
        TrainExample { continuation: vec![0; continuation], ..example.clone() }
    }

    /// Tokens of the longest row, and the limit of a chain.
    fn longest(&self, config: &TrainConfig) -> Result<(usize, usize), TrainError> {
        let rows = self.rows(config)?;
        let layout = self.inputs.layout();
        let lengths = rows.train.iter().map(|e| layout.depth(e.prompt.ids.len(), e.continuation.len()) + 1);
        Ok((lengths.max().unwrap_or(0), rows.max_tokens))
    }
}

/// The options of an evaluation.
fn score_options(config: &TrainConfig) -> ScoreOptions {
    ScoreOptions { batch_size: config.per_device_eval_batch_size as usize, ..ScoreOptions::default() }
}

/// Both stages of tract are cot-raft.
fn single_stage(config: &TrainConfig) -> TrainConfig {
    TrainConfig { method: config.method.stage(), ..config.clone() }
}
