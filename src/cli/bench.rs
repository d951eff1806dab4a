//! `jurist bench`.

use serde_json::{Value, json};

use super::{BenchArgs, BenchGroup, CliError, Context, ShapeArgs, print};
use crate::bench::growth::{self, Curve, Reach};
use crate::bench::profile::{self, Profile};
use crate::bench::row::{duration, figure};
use crate::bench::{self, Baseline, BenchError, BenchOptions, Effort, Group, Shape, page};
use crate::eval::table::{Cell, Table};
use crate::model_folder::ModelFolder;
use crate::progress::Progress;
use crate::selftest::Work;

/// Measures, prints, writes.
pub fn run(args: &BenchArgs, context: &Context) -> Result<(), CliError> {
    // What cannot be used is said before anything is measured.
    let options = BenchOptions { shape: shape(&args.shape)?, effort: effort(args), basic: args.basic, only: groups(&args.only) };
    options.shape.config()?;
    let baselines = args.baseline.iter().map(|p| Baseline::read(p)).collect::<Result<Vec<_>, _>>()?;
    let mut progress = context.progress();
    let (gpu, _) = context.gpu_with(args.basic, Work::Training, &mut progress)?;
    gpu.advice().iter().for_each(|advice| progress.warn(advice));
    let since_start = || context.started.elapsed().as_secs_f64();
    let results = pollster::block_on(bench::measure(&gpu, &options, &since_start, &mut progress))?;
    let mut text = results.to_text(&baselines);

    let mut profiles: Vec<Profile> = Vec::new();
    if args.profile || args.trace.is_some() || args.report.is_some() && gpu.has_timestamps() {
        use crate::progress::Progress;
        progress.note("profile");
        profiles = pollster::block_on(profile::measure(&gpu, &options))?;
    }
    for profile in &profiles {
        text += &format!("\n{}", profile.to_text(Some(&results.ceilings)));
    }
    if let Some(path) = &args.trace {
        let trace = profile::trace(&gpu, &profiles).to_string();
        crate::files::write(path, trace.as_bytes())?;
        text += &format!("\ntrace   {}\n", path.display());
    }

    let mut curves: Vec<Curve> = Vec::new();
    if args.growth || args.report.is_some() {
        let reach = Reach {
            effort: Effort { samples: options.effort.samples.min(3), ..options.effort },
            quick: args.quick,
            patience: f64::from(args.patience),
        };
        curves = pollster::block_on(growth::measure(&gpu, &options.shape, reach, &mut progress))?;
    }
    for curve in &curves {
        text += &format!("\n{}", grown(curve));
    }
    if let Some(path) = &args.report {
        let measured = page::Measured { results: &results, profiles: &profiles, growth: &curves, baselines: &baselines };
        for file in page::write(path, &measured)? {
            text += &format!("wrote   {}\n", file.display());
        }
    }
    if !args.json {
        return print(&text);
    }
    let mut value = results.to_json();
    if !profiles.is_empty() {
        value["profiles"] = profiles.iter().map(Profile::to_json).collect();
    }
    if !curves.is_empty() {
        value["growth"] = json!(curves);
    }
    print(&format!("{}\n", pretty(&value)))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn effort(args: &BenchArgs) -> Effort {
    let effort = if args.quick { Effort::QUICK } else { Effort::default() };
    Effort { samples: args.repeat.map_or(effort.samples, usize::from), ..effort }
}

/// # Errors
/// A model whose sizes cannot be read.
fn shape(a: &ShapeArgs) -> Result<Shape, BenchError> {
    let given = Shape {
        hidden: a.hidden,
        layers: a.layers,
        heads: a.heads,
        kv_heads: a.kv_heads,
        head_dim: a.head_dim,
        ffn: a.ffn,
        vocab: a.vocab,
        batch: a.batch,
        tokens: a.tokens,
        prompt: a.prompt,
        samples: a.samples,
        new_tokens: a.new_tokens,
        tied: false,
        rows: a.rows,
        lora_rows: a.lora_rows,
        row_tokens: a.row_tokens,
        squares: a.square.clone(),
    };
    let Some(path) = &a.model else { return Ok(given) };
    let folder = ModelFolder::open(path)?;
    Ok(match folder.config_alone()? {
        Some(config) => given.of_model(&config),
        None => given.of_model(folder.weights()?.source.config()),
    })
}

fn groups(only: &[BenchGroup]) -> Vec<Group> {
    let group = |g: &BenchGroup| match g {
        BenchGroup::Ceilings => Group::Ceilings,
        BenchGroup::Matmul => Group::Matmul,
        BenchGroup::Attention => Group::Attention,
        BenchGroup::Norm => Group::Norm,
        BenchGroup::Swiglu => Group::Swiglu,
        BenchGroup::Loss => Group::Loss,
        BenchGroup::Step => Group::Step,
        BenchGroup::Rollout => Group::Rollout,
        BenchGroup::Decode => Group::Decode,
        BenchGroup::Score => Group::Score,
        BenchGroup::Lora => Group::Lora,
    };
    only.iter().map(group).collect()
}

fn grown(curve: &Curve) -> String {
    let mut table = Table::new([curve.unit, "time", "tokens/s", "held MiB"]);
    for p in &curve.points {
        let memory = figure(p.memory as f64 / f64::from(1 << 20));
        let cells = [p.size.to_string(), duration(p.seconds), figure(p.tokens_per_second), memory];
        table.row(cells.map(Cell::from));
    }
    let stopped = curve.stopped.as_ref().map_or(String::new(), |reason| format!("not measured: {reason}\n"));
    format!("{}\n{table}{stopped}", curve.title)
}
