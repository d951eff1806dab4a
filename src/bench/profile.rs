//! Measures each kernel's share of a step: timestamps around every dispatch, as a table and as a trace for Perfetto.

use serde_json::{Value, json};

use super::model;
use super::row::{duration, figure};
use super::{BenchError, BenchOptions, Ceilings, Group, Shape};
use crate::eval::table::{Cell, Table};
use crate::gpu::{DispatchTime, Gpu, KernelTime};

/// The profile of one step.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The name of the step, such as "training step".
    pub name: String,
    /// Every dispatch, in order.
    pub spans: Vec<DispatchTime>,
}

/// The number of runs; the median run is shown.
const RUNS: usize = 3;

/// Profiles a training step, one decode step of a rollout, a scoring pass and a LoRA step: those that `options` ask for, or the
/// first two where it asks for none of them.
///
/// # Errors
/// An adapter without timestamps.
pub async fn measure(gpu: &Gpu, options: &BenchOptions) -> Result<Vec<Profile>, BenchError> {
    if !gpu.has_timestamps() {
        return Err(BenchError::NoTimestamps(gpu.facts().to_string()));
    }
    let shape = &options.shape;
    let none = ![Group::Step, Group::Rollout, Group::Score, Group::Lora].into_iter().any(|group| options.wants(group));
    let mut profiles = Vec::new();
    if none || options.wants(Group::Step) {
        let name = format!("training step {}x{}", shape.batch, shape.tokens);
        profiles.push(training_step(gpu, model::step(gpu, shape)?, name).await?);
    }
    if none || options.wants(Group::Rollout) {
        profiles.push(rollout_step(gpu, shape).await?);
    }
    if options.wants(Group::Score) {
        profiles.push(scoring_pass(gpu, shape).await?);
    }
    if options.wants(Group::Lora) {
        let name = format!("LoRA step {}x{}", shape.lora_rows, shape.row_tokens);
        profiles.push(training_step(gpu, model::lora_step(gpu, shape)?, name).await?);
    }
    Ok(profiles)
}

/// The first pass of a scoring.
async fn scoring_pass(gpu: &Gpu, shape: &Shape) -> Result<Profile, BenchError> {
    let model::Scoring { pass, batches } = model::scoring(gpu, shape)?;
    let mut runs = Vec::new();
    let first = batches.first().ok_or_else(|| BenchError::Shape("--rows is 0, expected at least 1".into()))?;
    pass.run(first)?;
    for _ in 0..RUNS {
        runs.push(pass.timeline(first).await?);
    }
    let name = format!("scoring pass {}x{} tokens", first.loss_positions.len(), shape.row_tokens);
    Ok(Profile { name, spans: median_run(runs) })
}

async fn training_step(gpu: &Gpu, mut step: model::TrainingStep, name: String) -> Result<Profile, BenchError> {
    step.run().await?;
    let mut runs = Vec::new();
    for t in 0..RUNS {
        let mut spans = step.pass.timeline(&step.batch).await?;
        let end = spans.last().map_or(0.0, |s| s.start + s.seconds);
        let after = step.optimiser.timeline(gpu, 1e-4, t as u64 + 2).await?;
        // Two submissions on one time axis: the second begins where the first ended.
        spans.extend(after.into_iter().map(|s| DispatchTime { start: s.start + end, ..s }));
        runs.push(spans);
    }
    Ok(Profile { name, spans: median_run(runs) })
}

async fn rollout_step(gpu: &Gpu, shape: &Shape) -> Result<Profile, BenchError> {
    let pass = model::decoder(gpu, shape, shape.samples)?;
    pass.step(shape.samples, 1, false)?;
    gpu.wait()?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(pass.timeline(shape.samples).await?);
    }
    Ok(Profile { name: format!("rollout step of {} samples", shape.samples), spans: median_run(runs) })
}

/// The run whose kernels took the median time.
fn median_run(mut runs: Vec<Vec<DispatchTime>>) -> Vec<DispatchTime> {
    runs.sort_by(|a, b| busy(a).total_cmp(&busy(b)));
    let at = runs.len() / 2;
    if at < runs.len() { runs.swap_remove(at) } else { Vec::new() }
}

fn busy(spans: &[DispatchTime]) -> f64 {
    spans.iter().map(|s| s.seconds).sum()
}

impl Profile {
    /// Kernels added up, slowest first.
    pub fn kernels(&self) -> Vec<KernelTime> {
        KernelTime::sums(&self.spans)
    }

    /// Seconds in kernels.
    pub fn busy(&self) -> f64 {
        busy(&self.spans)
    }

    /// Column heads, and one line per kernel for at most `max_lines` kernels.
    pub fn lines(&self, ceilings: Option<&Ceilings>, max_lines: usize) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let busy = self.busy().max(f64::MIN_POSITIVE);
        let line = |k: &KernelTime| {
            // Only products declare their real operations; other kernels declare an estimate that splits submissions.
            let rate = Some(k.flops as f64 / k.seconds).filter(|r| is_product(&k.kernel) && r.is_finite());
            let share = rate.zip(ceilings).map(|(rate, c)| format!("{:.1}", 100.0 * rate / c.flops));
            vec![
                short(&k.kernel),
                k.calls.to_string(),
                duration(k.seconds),
                format!("{:.1}", 100.0 * k.seconds / busy),
                rate.map_or(String::new(), |r| figure(r / 1e9)),
                share.unwrap_or_default(),
            ]
        };
        let head = vec!["kernel", "calls", "time", "% of step", "GFLOP/s", "% of FMA"];
        (head, self.kernels().iter().take(max_lines).map(line).collect())
    }

    /// A table for the terminal.
    pub fn to_text(&self, ceilings: Option<&Ceilings>) -> String {
        let (head, lines) = self.lines(ceilings, usize::MAX);
        let mut table = Table::new(head);
        for line in lines {
            table.row(line.into_iter().map(Cell::from));
        }
        format!("{}: {} in {} dispatches\n{table}", self.name, duration(self.busy()), self.spans.len())
    }

    /// Kernels as objects.
    pub fn to_json(&self) -> Value {
        let kernel = |k: &KernelTime| {
            let flops = is_product(&k.kernel).then_some(k.flops);
            let share = k.seconds / self.busy().max(f64::MIN_POSITIVE);
            json!({ "kernel": k.kernel, "calls": k.calls, "seconds": k.seconds, "flops": flops, "share": share })
        };
        json!({ "name": self.name, "seconds": self.busy(), "kernels": self.kernels().iter().map(kernel).collect::<Vec<_>>() })
    }
}

fn is_product(kernel: &str) -> bool {
    kernel.starts_with("matmul")
}

/// A kernel's name without switches that are off.
fn short(kernel: &str) -> String {
    kernel.split(' ').filter(|part| !part.ends_with("=0")).collect::<Vec<_>>().join(" ")
}

/// The profiles in the trace event format, one track per profile. ui.perfetto.dev and chrome://tracing open it.
pub fn trace(gpu: &Gpu, profiles: &[Profile]) -> Value {
    let mut events = vec![json!({ "ph": "M", "pid": 1, "name": "process_name", "args": { "name": gpu.facts().to_string() } })];
    for (track, profile) in profiles.iter().enumerate() {
        events.push(json!({ "ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": { "name": profile.name } }));
        for span in &profile.spans {
            // "matmul_subgroup:nt BIAS=0 …": the entry point is the name, the rest goes into the details.
            let name = span.kernel.split(' ').next().unwrap_or_default();
            events.push(json!({
                "ph": "X", "pid": 1, "tid": track, "cat": "kernel", "name": name,
                "ts": span.start * 1e6, "dur": span.seconds * 1e6,
                "args": { "kernel": span.kernel },
            }));
        }
    }
    json!({ "displayTimeUnit": "ns", "traceEvents": events })
}
