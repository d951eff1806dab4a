//! `jurist train`.

use std::path::Path;

use super::{CliError, Context, Interrupt, STEP, SystemClock, TrainArgs, print};
use crate::bundle::{ModelFolder, Wanted};
use crate::doctor::Work;
use crate::judge::{JUDGE_FILE, JudgeSettings, ScoreReads};
use crate::train::config::{Layers, Origin, Raw};
use crate::train::log::Progress;
use crate::train::run::{Ended, Surroundings, run as train};

/// Resolves the config and trains.
pub fn run(args: &TrainArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let mut layers = layers(args, context, &mut progress)?;
    if let Some(model) = layers.text("model_name_or_path").filter(|_| !args.print_config) {
        // A plan without rows looks at the config only.
        let described = args.plan.dry_run && layers.text("train_file").is_none();
        context.fetch(Path::new(model), if described { Wanted::Description } else { Wanted::All }, &mut progress)?;
    }
    inherit(&mut layers, &mut progress)?;
    let config = if args.plan.dry_run { layers.resolve_to_plan()? } else { layers.resolve()? };
    if args.print_config {
        return print(&config.to_toml()?);
    }
    if args.plan.dry_run {
        return super::plan::run(&args.plan, &config, context);
    }
    let gpu = context.gpu(Work::Training, &mut progress)?;
    let interrupt = Interrupt::watch()?.stops_after(STEP);
    let around =
        Surroundings { gpu: &gpu, clock: &SystemClock::start(), progress: &mut progress, interrupted: &|| interrupt.requested() };
    match pollster::block_on(train(&config, around))? {
        Ended::Interrupted { checkpoint } => Err(CliError::Interrupted { checkpoint }),
        Ended::Finished { steps, seconds } => {
            progress.note(&format!("{steps} steps in {seconds:.1} s; the judge is in {}", config.output_dir));
            Ok(())
        }
    }
}

/// The layers of the config: file < environment < flags.
pub fn layers(args: &TrainArgs, context: &Context, progress: &mut dyn Progress) -> Result<Layers, CliError> {
    let mut layers = Layers::default();
    if let Some(path) = &args.config {
        let text = read(path)?;
        layers.put_toml(&text, &path.display().to_string())?;
    }
    layers.put_env(context.env.iter().filter(|(_, value)| !value.is_empty()).cloned())?;
    args.set.iter().try_for_each(|text| layers.put_set(text))?;
    args.settings.put_into(&mut layers)?;
    if let Some(adapter) = &context.adapter {
        layers.put("adapter", &Raw::Bare(adapter.clone()), Origin::Flag("--adapter".into()))?;
    }
    // Warnings first: a misspelt variable may be the reason for what is said next.
    layers.warnings().iter().for_each(|warning| progress.warn(warning));
    Ok(layers)
}

/// Lays what the start model says of itself under the rest: a judge that is trained further keeps its scale, its phrase and its
/// way of asking, unless it is told otherwise.
fn inherit(layers: &mut Layers, progress: &mut dyn Progress) -> Result<(), CliError> {
    let Some(model) = layers.text("model_name_or_path").map(str::to_string) else { return Ok(()) };
    // What is wrong with the folder is said when it is opened in earnest.
    let Some(Ok(judge)) = ModelFolder::open(Path::new(&model)).ok().and_then(|folder| folder.judge_json().transpose()) else {
        return Ok(());
    };
    let stored = JudgeSettings::from_json(&judge)?;
    let mut values = vec![
        ("scale", stored.scale.to_string()),
        ("phrase", stored.phrase.clone()),
        ("chat", if stored.chat { "always" } else { "never" }.to_string()),
        ("score_reads", if stored.score_reads == ScoreReads::Chain { "chain" } else { "prompt" }.to_string()),
    ];
    match stored.template_source {
        None => values.push(("template", stored.template)),
        Some(_) if layers.text("template").is_none() => {
            progress.warn(&format!("{model} asks by a template of its own, {}: give its file with --template", stored.template))
        }
        Some(_) => {}
    }
    let mut kept = Vec::new();
    for (name, value) in values {
        if layers.put_under(name, &Raw::Quoted(value), Origin::File(format!("{model}/{JUDGE_FILE}")))? {
            kept.push(name);
        }
    }
    if !kept.is_empty() {
        progress.note(&format!("{} as in {model}", kept.join(", ")));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::ConfigFile { path: path.into(), source })
}
