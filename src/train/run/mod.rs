//! A training run with files: the loop, its evaluations and checkpoints, and resuming.
//!
//! ```text
//! inputs ─► [resume] ─► step, step, … ─► (eval_steps: evaluate) ─► (save_steps: checkpoint) ─► … ─► final model
//! ```
//!
//! A checkpoint contains everything that decides the next step (weights, moments, data position, counters), and every kernel is
//! deterministic. So a run that was killed and resumed ends with the same bytes as an uninterrupted one.

mod early;
pub mod events;
pub mod log;
pub(in crate::train) mod over_ranks;
pub mod start;
mod tract;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bundle::manifest_name;
use crate::data;
use crate::eval::{Agreement, Grid};
use crate::files::{add_to_folder, crash_point};
use crate::gpu::Gpu;
use crate::judge::{JUDGE_FILE, Judge, ScoreOptions, ScoreRecord};
use crate::model::names::tensors;
use crate::model::save::CheckpointWriter;
use crate::model::shard_layout::DEFAULT_SHARD_BYTES;
use crate::model::weights::Weights;
use crate::ops::weight_dtype::WeightDtype;
use crate::progress::{Clock, Progress};
use crate::ranks::Ranks;
use crate::train::TrainError;
use crate::train::checkpoint::output::{self, OutputFolder};
use crate::train::checkpoint::training_state::{Parameter, StatePart};
use crate::train::checkpoint::{
    self, Checkpoint, MetricsFile, TrainerState, checkpoint_name, open_checkpoint, open_metrics, read_log_history,
    rotate_checkpoints, save_checkpoint, sync_metrics,
};
use crate::train::config::method::ChainSource;
use crate::train::config::{ReportTo, Resume, TrainConfig};
use crate::train::data::pack::TrainExample;
use crate::train::error::{BoxError, io_error};
use crate::train::memory;
use crate::train::objective::engine::{Engine, TrainData};
use crate::train::objective::supervised::{Batching, Evaluator, Scoring};
use crate::train::run::early::EarlyStopping;
use crate::train::run::events::EventFile;
use crate::train::run::log::{Metrics, StepReport};
use crate::train::run::over_ranks::Resumed;
use crate::train::run::start::RunInputs;
use crate::train::steps::{StepResult, TrainLoop};
use crate::words::count;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainOutcome {
    /// All steps are done; the model is in `output_dir`.
    Finished {
        /// Steps of the whole run.
        steps: u64,
        /// Duration of this call in seconds.
        seconds: f64,
    },
    /// Interrupted; the run can resume from this checkpoint.
    Interrupted {
        /// Its folder.
        checkpoint: PathBuf,
    },
}

/// What the caller gives to a run.
pub struct RunContext<'a> {
    pub gpu: &'a Gpu,
    pub clock: &'a (dyn Clock + Sync),
    pub progress: &'a mut (dyn Progress + Send),
    /// The processes that do the run together. Only rank 0 writes files.
    pub ranks: &'a Ranks,
    /// True once the run has been asked to stop.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

/// Does the run of `config`, together with the other ranks.
///
/// # Errors
/// Errors of inputs, GPU or disk; a run that diverged; another rank that failed. Earlier checkpoints stay. The caller tells the
/// other ranks ([`Ranks::fail`]).
pub async fn run<'a>(config: &'a TrainConfig, ctx: RunContext<'a>) -> Result<TrainOutcome, TrainError> {
    let mut folder = OutputFolder::claim_on(Path::new(&config.output_dir), ctx.ranks)?;
    match config.method.spec().chains {
        ChainSource::FirstStage => tract::train(config, &mut folder, ctx).await,
        ChainSource::Rows | ChainSource::Ignored | ChainSource::Sampled => run_in(&mut folder, config, ctx).await,
    }
}

/// As [`run`], with a folder that is already locked.
pub(in crate::train) async fn run_in<'a>(
    folder: &mut OutputFolder,
    config: &'a TrainConfig,
    ctx: RunContext<'a>,
) -> Result<TrainOutcome, TrainError> {
    let ranks = ctx.ranks;
    let found = if ranks.is_first() { find_resume(config, folder.path(), ctx.progress)? } else { None };
    let resumed = Resumed::on_all_ranks(found, ranks)?;
    let inputs = over_ranks::read_inputs(config, ranks)?;
    over_ranks::check_same_run(config, &inputs, ranks)?;
    inputs.notes.iter().for_each(|note| ctx.progress.warn(note));
    if let (Some(model), false) = (&config.model_name_or_path, inputs.inherited.is_empty()) {
        ctx.progress.note(&format!("{} as in {model}", inputs.inherited.join(", ")));
    }
    memory::check(ctx.gpu, config, &inputs, ranks)?;
    let mut run = Run::new(config, inputs, folder, ctx, resumed.as_ref()).await?;
    if let Some(checkpoint) = resumed {
        run.resume(checkpoint)?;
    }
    run.train().await
}

/// The checkpoint to resume from, if the config asks for one. A new run in a folder with a run or a finished judge is refused,
/// because it would overwrite them.
fn find_resume(config: &TrainConfig, output: &Path, progress: &mut dyn Progress) -> Result<Option<Checkpoint>, TrainError> {
    match &config.resume_from_checkpoint {
        Resume::From(path) => {
            let path = Path::new(path);
            let checkpoint = open_checkpoint(path)?;
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !same_file::is_same_file(folder, output).unwrap_or(false) {
                refuse_used(output)?;
            }
            Ok(Some(checkpoint))
        }
        Resume::Newest(true) => {
            let latest = checkpoint::latest_checkpoint(output)?;
            latest.skipped.iter().for_each(|e| progress.warn(&format!("passed over: {e}")));
            if latest.checkpoint.is_none() {
                if !latest.skipped.is_empty() {
                    return refuse(output.into(), "none of its checkpoints is complete; move them away to start again");
                }
                output::refuse_taken(output)?;
                progress.note("no checkpoint to resume from: starting from the beginning");
            }
            Ok(latest.checkpoint)
        }
        Resume::Newest(false) => refuse_used(output).map(|()| None),
    }
}

/// Refuses a folder that contains a run or a judge, for a new run.
fn refuse_used(output: &Path) -> Result<(), TrainError> {
    match checkpoint::list_checkpoints(output)?.last() {
        None => output::refuse_taken(output),
        Some(step) => {
            let problem = "a run was here before; continue with --resume, or choose another output_dir";
            refuse(output.join(checkpoint_name(*step)), problem)
        }
    }
}

fn refuse<T>(path: PathBuf, problem: &str) -> Result<T, TrainError> {
    Err(TrainError::Checkpoint { path, problem: problem.into() })
}

/// A run in progress.
struct Run<'a> {
    config: &'a TrainConfig,
    output: PathBuf,
    ctx: RunContext<'a>,
    inputs: RunInputs,
    training: TrainLoop,
    held_out: Option<HeldOut>,
    state: TrainerState,
    /// The files that grow; on rank 0.
    logs: Option<Logs>,
    /// When the run ends before its last step, if it may.
    early: Option<EarlyStopping>,
    parameters: Vec<Parameter>,
    /// Files of a judge that this run wrote at an earlier end. The final model replaces them.
    earlier: Vec<PathBuf>,
    /// All steps were done before, and the final model is complete.
    done: bool,
}

/// The log of a run.
struct Logs {
    metrics: MetricsFile,
    /// The log for TensorBoard, if it is asked for.
    events: Option<EventFile>,
}

/// The held-out rows: as examples for the loss, and as rows for the judge.
struct HeldOut {
    evaluator: Evaluator,
    examples: Vec<TrainExample>,
    rows: Vec<data::Example>,
    labels: Vec<f64>,
    grid: Grid,
}

impl<'a> Run<'a> {
    /// Plans everything. The output folder is not changed before `resumed` is known to fit.
    async fn new(
        config: &'a TrainConfig,
        mut start: RunInputs,
        folder: &mut OutputFolder,
        ctx: RunContext<'a>,
        resumed: Option<&Resumed>,
    ) -> Result<Self, TrainError> {
        let (gpu, ranks) = (ctx.gpu, ctx.ranks);
        let output = folder.path().to_path_buf();
        let engine = Engine::new(gpu, &start.initial_weights(), config, &train_data(&start), ranks)?;
        let examples = &start.train.examples;
        let held_out = match start.eval.take() {
            None => None,
            Some((prepared, rows)) => {
                let micro_batch = config.per_device_eval_batch_size as usize;
                let batching = Batching { micro_batch, supervision: config.supervision(), share_prefixes: config.share_prefixes };
                let scoring = Scoring { scale: &start.settings.scale, layout: start.layout() };
                let evaluator = Evaluator::new(gpu, engine.weights(), &prepared.examples, batching, scoring)?;
                let labels = rows.iter().filter_map(|r| r.record.score).collect();
                let grid = Grid::new(start.settings.scale.values()).map_err(|e| inside("measure", &output, e))?;
                Some(HeldOut { evaluator, examples: prepared.examples, rows, labels, grid })
            }
        };
        let mut training = TrainLoop::new(engine, config, examples)?;
        let total = training.total();
        let mut state = TrainerState::new(config, examples.len(), total);
        state.jurist.tuning = json!(format!("{:?}", gpu.tuning()));
        let trained = training.engine().weights().trainable()?.specs();
        let parameters: Vec<Parameter> = trained.into_iter().map(|t| Parameter { name: t.name, shape: t.shape }).collect();
        let (mut earlier, mut done) = (Vec::new(), false);
        let mut early = EarlyStopping::new(config);
        if early.is_some() && !config.load_best_model_at_end {
            ctx.progress.warn("early_stopping_patience without load_best_model_at_end: the last weights are kept, not the best");
        }
        if let Some(from) = resumed {
            let other_metric = from.state.best_of_another(config.metric_for_best_model.word());
            if other_metric {
                let before = from.state.jurist.best_metric_name.as_deref().unwrap_or_default();
                let line = format!(
                    "the best checkpoint was that of {before}: it is forgotten, and {} begins anew",
                    config.metric_for_best_model
                );
                ctx.progress.warn(&line);
            }
            early = early.map(|early| if other_metric { early } else { early.resumed(&from.state.stateful_callbacks) });
            check_same_run(&from.state, &state)?;
            from.tensors().map_or(Ok(()), |tensors| tensors.expect(&parameters))?;
            training.resume_from(from.state.jurist.order, from.state.counters())?;
            let best = from.state.best_model_checkpoint.as_ref().filter(|_| config.load_best_model_at_end && !other_metric);
            let last = best.map_or_else(|| from.path.clone(), |best| output.join(best));
            let over = from.state.global_step >= total || early.is_some_and(|early| early.is_over());
            if ranks.is_first() {
                output::refuse_other_log(&output, from.state.jurist.metrics_bytes, &from.state.log_history)?;
                done = over && output::has_judge_of(&output, &last);
                if !done {
                    output::refuse_foreign_checkpoints(&output, from.state.global_step)?;
                    earlier = output::earlier_judge(&output)?;
                }
                checkpoint::changed_settings(&output, config).iter().for_each(|c| ctx.progress.warn(c));
            }
        }
        let done = ranks.any(done)?;
        let mut logs = None;
        if ranks.is_first() {
            let (opened, warnings) = open_logs(config, folder, &ctx, resumed, done)?;
            warnings.iter().for_each(|warning| ctx.progress.warn(warning));
            logs = Some(opened);
        }
        let inputs = start;
        Ok(Run { config, output, ctx, inputs, training, held_out, state, logs, early, parameters, earlier, done })
    }

    /// Restores weights, moments and counters from the checkpoint.
    fn resume(&mut self, mut from: Resumed) -> Result<(), TrainError> {
        if from.state.jurist.tuning != self.state.jurist.tuning {
            self.ctx.progress.warn(
                "the checkpoint was made with kernels tuned for another adapter: results agree to rounding, not byte for byte",
            );
        }
        let optimiser = self.training.engine().optimiser();
        let parts = [
            (StatePart::Master, self.training.engine().weights().trainable()?),
            (StatePart::ExpAvg, &optimiser.m),
            (StatePart::ExpAvgSq, &optimiser.v),
        ];
        for (part, target) in parts {
            for parameter in &self.parameters {
                let values = from.read(part, &parameter.name, self.ctx.ranks)?;
                target.write(self.ctx.gpu, &parameter.name, 0, &values)?;
            }
        }
        self.state = TrainerState { log_history: Vec::new(), ..from.state };
        if self.state.best_of_another(self.config.metric_for_best_model.word()) {
            self.state.forget_best();
        }
        self.ctx.progress.note(&format!("resumed from {}", from.path.display()));
        Ok(())
    }

    /// The loop: step, evaluate, save a checkpoint; then write the final model.
    async fn train(mut self) -> Result<TrainOutcome, TrainError> {
        let began = self.ctx.clock.seconds();
        let total = self.state.max_steps;
        if self.done {
            let steps = self.state.global_step;
            let line = format!("the run was finished before, after {}: nothing is left to do", count(steps, "step"));
            self.ctx.progress.note(&line);
            return Ok(TrainOutcome::Finished { steps, seconds: 0.0 });
        }
        if self.is_over() {
            let line = format!(
                "the run had done all of its {} before, but its judge is not complete: it is written from the checkpoint",
                count(self.state.global_step, "step")
            );
            self.ctx.progress.note(&line);
        }
        self.ctx.progress.begin("training", self.state.global_step, total);
        while !self.is_over() {
            self.step().await?;
            let step = self.state.global_step;
            if step == total {
                self.refuse_untrained()?;
            }
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            let evaluated = self.held_out.is_some() && (due(self.config.eval_steps) || step == total);
            let best = evaluated && self.evaluate().await?;
            let interrupted = self.ctx.ranks.any((self.ctx.interrupted)())?;
            // The best model is loaded from its checkpoint at the end, so it is saved even if no checkpoint is due.
            let needed_at_end = best && self.config.load_best_model_at_end;
            let saved = due(self.config.save_steps) || needed_at_end || self.is_over();
            if best && !saved {
                self.state.best_model_checkpoint = None;
            }
            if saved || interrupted {
                let checkpoint = self.save()?;
                if interrupted && !self.is_over() {
                    self.ctx.progress.end();
                    // The checkpoint is whole before any rank ends.
                    self.ctx.ranks.barrier()?;
                    return Ok(TrainOutcome::Interrupted { checkpoint });
                }
            }
        }
        self.ctx.progress.end();
        if let Some(early) = self.early.filter(|_| self.state.global_step < total) {
            let (metric, best) = (self.config.metric_for_best_model, self.state.best_metric.unwrap_or(f64::NAN));
            let line = format!(
                "stopped early after {}: {metric} has not improved for {}; the best is {best:.4} after step {}",
                count(self.state.global_step, "step"),
                count(early.counter(), "evaluation"),
                self.state.best_global_step.unwrap_or(0)
            );
            self.ctx.progress.note(&line);
        }
        self.refuse_untrained()?;
        if self.ctx.ranks.is_first() {
            self.finish()?;
        }
        // A rank that ended now would not learn that rank 0 cannot write the judge.
        self.ctx.ranks.barrier()?;
        Ok(TrainOutcome::Finished { steps: self.state.global_step, seconds: self.ctx.clock.seconds() - began })
    }

    /// True after the last step, or after the one at which the run stopped early.
    fn is_over(&self) -> bool {
        self.training.is_over() || self.early.is_some_and(|early| early.is_over())
    }

    /// Fails if no step has changed the model.
    fn refuse_untrained(&self) -> Result<(), TrainError> {
        match self.state.jurist.optimizer_steps {
            0 => Err(TrainError::Untrained { steps: self.state.global_step }),
            _ => Ok(()),
        }
    }

    async fn step(&mut self) -> Result<(), TrainError> {
        let began = self.ctx.clock.seconds();
        let StepResult { metrics, learning_rate, moved } = self.training.step(&train_data(&self.inputs)).await?;
        crash_point("step");
        self.state.record_progress(self.training.counters(), self.training.cursor());
        let step = self.state.global_step;
        if !moved {
            self.ctx.progress.warn(&format!("step {step}: the gradient is not finite, the step is skipped"));
        }
        let report = StepReport {
            step,
            epoch: self.state.epoch,
            loss: metrics.loss,
            grad_norm: f64::from(metrics.grad_norm),
            learning_rate,
            num_tokens: self.state.num_input_tokens_seen,
            mean_token_accuracy: None,
            entropy: Some(metrics.entropy),
            nonfinite_steps: self.state.jurist.nonfinite_steps,
            step_time: self.ctx.clock.seconds() - began,
        };
        if step.is_multiple_of(self.config.logging_steps.max(1)) || step == self.state.max_steps {
            let mut line = report.metrics();
            metrics.extra.iter().for_each(|(name, value)| line.put(name, *value));
            self.write_metrics(&line)?;
        }
        self.ctx.progress.step(step, metrics.loss);
        self.training.check_diverged()
    }

    fn write_metrics(&mut self, line: &Metrics) -> Result<(), TrainError> {
        let Some(Logs { metrics, events }) = &mut self.logs else { return Ok(()) };
        let path = self.output.join(checkpoint::METRICS);
        metrics.write(line).map_err(|source| TrainError::Io { action: "write", path, source })?;
        if let Some(events) = events {
            let written = events.write(line, self.ctx.clock.since_1970());
            written.map_err(|e| io_error("write", &self.output.join(events::EVENTS), e))?;
        }
        crash_point("metrics");
        Ok(())
    }

    /// Evaluates on the held-out rows; true if the metric is the best so far.
    async fn evaluate(&mut self) -> Result<bool, TrainError> {
        let Some(held_out) = &self.held_out else { return Ok(false) };
        let loss = held_out.evaluator.loss(&held_out.examples, self.ctx.ranks).await?;
        let judged = self.judge_held_out().await?;
        let line = if self.ctx.ranks.is_first() { self.measure(loss, &judged)?.to_json() } else { String::new() };
        let line = self.ctx.ranks.broadcast(line.into_bytes())?;
        let line = Metrics::from_json(&line);
        let metric = line.get(&format!("eval_{}", self.config.metric_for_best_model)).unwrap_or(f64::NAN);
        let greater_is_better = self.config.metric_for_best_model.greater_is_better();
        self.state.jurist.best_metric_name = Some(self.config.metric_for_best_model.word().into());
        if let Some(early) = &mut self.early {
            early.observe(metric, self.state.best_metric, greater_is_better);
            early.put_into(&mut self.state.stateful_callbacks);
        }
        let best = self.state.record_metric(metric, greater_is_better);
        let shown: Vec<String> = ["loss", "pearson", "rmse"]
            .iter()
            .filter_map(|name| Some(format!("{name} {:.4}", line.get(&format!("eval_{name}"))?)))
            .collect();
        let suffix = if best { " (best)" } else { "" };
        self.ctx.progress.note(&format!("step {}: eval {}{suffix}", self.state.global_step, shown.join(", ")));
        self.write_metrics(&line)?;
        Ok(best)
    }

    /// Judges the held-out rows, as a user would. Each rank judges some blocks of them; blocks are the same on any number of ranks.
    async fn judge_held_out(&mut self) -> Result<Vec<ScoreRecord>, TrainError> {
        let (Some(held_out), ranks) = (&self.held_out, self.ctx.ranks) else { return Ok(Vec::new()) };
        let (tokenizer, settings) = (self.inputs.tokenizer.clone(), self.inputs.settings.clone());
        let judge = Judge::new(self.ctx.gpu, self.training.engine().weights(), tokenizer, settings)?;
        let options = ScoreOptions { batch_size: self.config.per_device_eval_batch_size as usize, ..ScoreOptions::default() };
        let blocks: Vec<&[data::Example]> = held_out.rows.chunks(options.rows_of_a_block()).collect();
        let mut own = Vec::new();
        for block in &blocks[ranks.block(blocks.len())] {
            own.extend(judge.judge(block, &options, |_| {}).await?.into_iter().map(|row| row.record));
        }
        Ok(ranks.all_gather_values(own)?.concat())
    }

    /// The line of the log with this loss and these judgements of the held-out rows.
    fn measure(&mut self, loss: f64, judged: &[ScoreRecord]) -> Result<Metrics, TrainError> {
        let mut line = Metrics::at(self.state.global_step, self.state.epoch).with("eval_loss", loss);
        let Some(held_out) = &self.held_out else { return Ok(line) };
        let expected: Vec<Option<f64>> = judged.iter().map(|record| record.expected).collect();
        let agreement =
            Agreement::measure(&held_out.labels, &expected, &held_out.grid).map_err(|e| inside("measure", &self.output, e))?;
        for (name, key) in METRIC_KEYS {
            if let Some(Ok(value)) = agreement.get(key) {
                line.put(&format!("eval_{name}"), *value);
            }
        }
        let masses: Vec<f64> = judged.iter().filter_map(|record| record.mass).collect();
        line.put("eval_judge/score_mass", masses.iter().sum::<f64>() / masses.len() as f64);
        if let Some(error) = judged.iter().find_map(|record| record.error.as_deref()) {
            let failed = judged.len() - masses.len();
            line = line.count("eval_judge/failed", failed as u64);
            self.ctx
                .progress
                .warn(&format!("{failed} of {} held-out rows could not be judged, the first: {error}", judged.len()));
        }
        if self.inputs.settings.chain {
            let forced = judged.iter().filter(|record| record.forced).count();
            line.put("eval_judge/forced", forced as f64 / judged.len().max(1) as f64);
        }
        Ok(line)
    }

    /// Writes a checkpoint and deletes those beyond `save_total_limit`: on rank 0. Returns its path on all ranks.
    fn save(&mut self) -> Result<PathBuf, TrainError> {
        let Some(Logs { metrics, events }) = &self.logs else {
            return Ok(self.output.join(checkpoint_name(self.state.global_step)));
        };
        sync_metrics(metrics, &self.output)?;
        self.state.jurist.metrics_bytes = metrics.bytes();
        if let Some(events) = events {
            events.sync(&self.output)?;
            // A run that writes no events keeps those that an earlier command wrote.
            self.state.jurist.events_bytes = events.bytes();
        }
        self.state.log_history = read_log_history(&self.output, metrics.bytes())?;
        let (gpu, trained, optimiser) =
            (self.ctx.gpu, self.training.engine().weights().trainable()?, self.training.engine().optimiser());
        let mut supply = |part: StatePart, parameter: &Parameter, values: &mut Vec<f32>| {
            let source = match part {
                StatePart::Master => trained,
                StatePart::ExpAvg => &optimiser.m,
                StatePart::ExpAvgSq => &optimiser.v,
            };
            *values = pollster::block_on(source.tensor_values(gpu, &parameter.name))?;
            Ok(())
        };
        let write_model = |dir: &Path| self.write_model(dir);
        let path = save_checkpoint(&self.output, &self.state, &self.parameters, &mut supply, write_model)?;
        self.state.log_history = Vec::new();
        rotate_checkpoints(&self.output, self.config.save_total_limit, self.state.best_model_checkpoint.as_deref())?;
        Ok(path)
    }

    fn write_model(&self, dir: &Path) -> Result<(), BoxError> {
        write_judge(dir, self.ctx.gpu, self.training.engine().weights(), &self.inputs, self.config)
    }

    /// Writes the final model to the output folder: that of the last step, or the best. `judge.json` is written last, so that a
    /// folder with it is complete.
    fn finish(&self) -> Result<(), TrainError> {
        let best = self.state.best_model_checkpoint.as_deref().filter(|_| self.config.load_best_model_at_end);
        let is_ours = |file: &Path| self.earlier.iter().any(|known| known == file);
        add_to_folder(&self.output, (JUDGE_FILE, &is_ours), |dir| match best {
            None => self.write_model(dir).map_err(|source| TrainError::Inside {
                action: "write the model into",
                path: dir.into(),
                source,
            }),
            Some(best) => copy_model(&self.output.join(best), dir),
        })
    }
}

/// Claims the output folder, writes the resolved config and opens the logs.
fn open_logs(
    config: &TrainConfig,
    folder: &mut OutputFolder,
    ctx: &RunContext,
    resumed: Option<&Resumed>,
    done: bool,
) -> Result<(Logs, Vec<String>), TrainError> {
    let output = folder.path().to_path_buf();
    let mut warnings = Vec::new();
    if folder.create()? && resumed.is_none() {
        // Another process may have written here since the first check.
        refuse_used(&output)?;
    }
    // Before the log: a log without a checkpoint counts as a run's only beside this file.
    // The file of a finished run says what the run was trained with.
    if !done && !output::write_resolved_config(&output, config)? {
        let file = output.join(checkpoint::RESOLVED_CONFIG);
        warnings.push(format!("{} was not written by this run, or was changed: it is left as it is", file.display()));
    }
    crash_point("config");
    let (metrics, warning) = open_metrics(&output, resumed.map_or(0, |from| from.state.jurist.metrics_bytes))?;
    warnings.extend(warning);
    let mut events = None;
    if config.report_to == ReportTo::Tensorboard {
        let bytes = resumed.map_or(0, |from| from.state.jurist.events_bytes);
        let (file, warning) = EventFile::open(&output, bytes, ctx.clock.since_1970())?;
        warnings.extend(warning);
        events = Some(file);
    }
    Ok((Logs { metrics, events }, warnings))
}

/// Checks that the checkpoint `from` belongs to the run that begins with the state `ours`.
fn check_same_run(from: &TrainerState, ours: &TrainerState) -> Result<(), TrainError> {
    let differs = |what: String| Err(TrainError::ResumeMismatch { what });
    if from.jurist.rng != ours.jurist.rng {
        return differs(format!("the checkpoint was made with seed {}, not {}", from.jurist.rng.seed, ours.jurist.rng.seed));
    }
    if from.max_steps != ours.max_steps {
        return differs(format!("the run was planned for {}, and now is for {}", count(from.max_steps, "step"), ours.max_steps));
    }
    let shared = |state: &TrainerState| state.jurist.share_prefixes;
    if shared(from) != shared(ours) {
        return differs(format!(
            "the checkpoint was made with share_prefixes = {}, not {}, and the order of the rows depends on it",
            shared(from),
            shared(ours)
        ));
    }
    let q4 = manifest_name(WeightDtype::Q4);
    if from.jurist.base_format.is_none() && ours.jurist.base_format.as_deref() == Some(q4) {
        return differs(
            "base_weights = q4 meant codes without minima when the checkpoint was written, and now means other weights; the \
             checkpoint is an adapter, with which a new run can begin (model_name_or_path)"
                .into(),
        );
    }
    Ok(())
}

/// Copies a checkpoint's Hugging Face files.
fn copy_model(from: &Path, to: &Path) -> Result<(), TrainError> {
    let state_files = [checkpoint::TRAINER_STATE, crate::train::checkpoint::training_state::TRAINING_STATE];
    for file in files_of(from)? {
        let name = file.file_name().unwrap_or_default();
        if !state_files.iter().any(|s| name == *s) {
            std::fs::copy(&file, to.join(name)).map_err(|e| io_error("copy", &file, e))?;
        }
    }
    Ok(())
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let entries = std::fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    entries.map_err(|e| io_error("list", dir, e))
}

/// The training data of these inputs.
pub(in crate::train) fn train_data(inputs: &RunInputs) -> TrainData<'_> {
    TrainData {
        examples: &inputs.train.examples,
        scale: &inputs.settings.scale,
        layout: inputs.layout(),
        tokenizer: &inputs.tokenizer,
        max_tokens: inputs.settings.max_completion_length,
    }
}

/// Agreement metrics of an evaluation: name in `metrics.jsonl` (after `eval_`), and key in [`Agreement`].
const METRIC_KEYS: [(&str, &str); 5] =
    [("pearson", "pearson"), ("spearman", "spearman"), ("kendall", "kendall_tau_b"), ("rmse", "rmse"), ("mae", "mae")];

fn inside(action: &'static str, path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> TrainError {
    TrainError::Inside { action, path: path.into(), source: Box::new(source) }
}

/// Writes a judge's folder: Hugging Face weights or a PEFT adapter, tokenizer files and `judge.json`.
fn write_judge(dir: &Path, gpu: &Gpu, weights: &Weights, inputs: &RunInputs, config: &TrainConfig) -> Result<(), BoxError> {
    match weights.adapter() {
        Some(adapter) => {
            let base = inputs.base.as_deref().or(config.model_name_or_path.as_deref()).unwrap_or_default();
            pollster::block_on(adapter.download(gpu))?.write(dir, base)?;
        }
        None => {
            let mut writer = CheckpointWriter::create(dir, &weights.config, inputs.dtype, DEFAULT_SHARD_BYTES)?;
            for spec in tensors(&weights.config) {
                pollster::block_on(weights.base().download(gpu, &spec.name, |chunk| writer.write(&spec.name, chunk)))?;
            }
            writer.finish()?;
        }
    }
    inputs.tokenizer.save_to(dir)?;
    let path = dir.join(JUDGE_FILE);
    Ok(std::fs::write(&path, inputs.settings.to_json()).map_err(|e| crate::model::error::ModelError::io("write", path, e))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints of earlier versions do not say what their `q4` is, and it was other weights.
    #[test]
    fn a_run_on_q4_of_earlier_versions_is_not_resumed() {
        for (word, mismatch) in [("q4", true), ("q8", false), ("auto", false)] {
            let config = TrainConfig { base_weights: word.parse().unwrap(), ..TrainConfig::default() };
            let ours = TrainerState::new(&config, 10, 100);
            assert!(check_same_run(&ours, &ours).is_ok());
            let mut json = serde_json::to_value(&ours).unwrap();
            json["jurist"].as_object_mut().unwrap().shift_remove("base_format");
            let earlier: TrainerState = serde_json::from_value(json).unwrap();
            let found = check_same_run(&earlier, &ours).map_err(|e| e.to_string());
            assert_eq!(found.is_err(), mismatch, "{word}: {found:?}");
            assert!(found.err().is_none_or(|e| e.contains("without minima") && e.contains("model_name_or_path")));
        }
    }
}
