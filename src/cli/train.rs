//! `jurist train`.

use std::path::Path;

use super::{CliError, Context, Interrupt, STEP, TrainArgs, print};
use crate::hub::Wanted;
use crate::progress::Progress;
use crate::selftest::Work;
use crate::system::SystemClock;
use crate::train::config::{Layers, Raw, SettingSource};
use crate::train::run::{RunContext, TrainOutcome, run as train};
use crate::words::count;

/// Resolves the config and trains.
pub fn run(args: &TrainArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let layers = layers(args, context, &mut progress)?;
    if let Some(model) = layers.text("model_name_or_path").filter(|_| !args.print_config) {
        // A plan without rows looks at the config only.
        let described = args.plan.dry_run && layers.text("train_file").is_none();
        context.fetch(Path::new(model), if described { Wanted::Description } else { Wanted::All }, &mut progress)?;
    }
    let config = if args.plan.dry_run { layers.resolve_to_plan()? } else { layers.resolve()? };
    if args.print_config {
        return print(&config.to_toml()?);
    }
    if args.plan.dry_run {
        return super::plan::run(&args.plan, &config, context);
    }
    let gpu = context.gpu(Work::Training, &mut progress)?;
    let interrupt = Interrupt::watch(&context.ranks)?.stops_after(STEP);
    let ctx = RunContext {
        gpu: &gpu,
        clock: &SystemClock::start(),
        progress: &mut progress,
        ranks: &context.ranks,
        interrupted: &|| interrupt.requested(),
    };
    match pollster::block_on(train(&config, ctx))? {
        TrainOutcome::Interrupted { checkpoint } => Err(CliError::Interrupted { checkpoint }),
        TrainOutcome::Finished { steps, seconds } => {
            progress.note(&format!("{} in {seconds:.1} s; the judge is in {}", count(steps, "step"), config.output_dir));
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
        layers.put("adapter", &Raw::Bare(adapter.clone()), SettingSource::Flag("--adapter".into()))?;
    }
    if let Some(base) = &context.base {
        layers.put("base", &Raw::Bare(base.display().to_string()), SettingSource::Flag("--base".into()))?;
    }
    // Warnings first: a misspelt variable may be the reason for what is said next.
    layers.warnings().iter().for_each(|warning| progress.warn(warning));
    Ok(layers)
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::ConfigFile { path: path.into(), source })
}
