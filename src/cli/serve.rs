//! `jurist serve`: a judge over HTTP, and the page.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::{CliError, Context, Expectation, Interrupt, ServeArgs, TerminalProgress};
use crate::bundle::MANIFEST;
use crate::gpu::GpuOptions;
use crate::hub::Wanted;
use crate::judge::{self, Choice, ContinuousSizes, JudgeFiles, JudgeOverrides, Template};
use crate::model_folder::ModelFolder;
use crate::progress::Progress;
use crate::selftest::Work;
use crate::serve::{self, Defaults, JudgeModel, Keys, Limits, Load, Prompts, ServedJudge, Serving, Settings, Site, Sizes};
use crate::system::free_memory;

/// Bytes of the cache of keys and values, unless a flag says otherwise: 1 GiB.
const KV_CACHE: u64 = 1 << 30;

/// Serves until the process is asked to end.
pub fn run(args: &ServeArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    check(args, context)?;
    let interrupt = Interrupt::watch(&context.ranks)?;
    let site = site(args, &mut progress)?;
    let keys = args.api_key_file.as_deref().map(Keys::of_file).transpose().map_err(CliError::Failed)?;
    let judge = args.model.as_deref().map(|model| judge(model, args, context, &mut progress)).transpose()?;
    let address = SocketAddr::new(args.host, args.port);
    let refused = |e| CliError::Failed(format!("cannot listen on {address}: {e}; choose another --port or --host"));
    let listener = TcpListener::bind(address).map_err(refused)?;
    // With port 0 the system has chosen one.
    let address = listener.local_addr().unwrap_or(address);
    if !args.host.is_loopback() {
        warn_of_others(args, &mut progress);
    }
    super::print(&format!("http://{address}/\n"))?;
    if args.bundle.is_some() {
        super::print(&format!("http://{address}/bundle/{MANIFEST}\n"))?;
    }
    let base = Limits::default();
    let limits = Limits {
        body_bytes: args.max_body.map_or(base.body_bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        answer: std::time::Duration::from_secs(args.max_seconds.into()),
        ..base
    };
    let interrupt = interrupt.stops_after("taking no new requests, and finishing those that run");
    let asked = judge.is_some();
    let settings = Settings { judge, site, limits, keys, hosts: args.allow_host.clone(), origins: args.allow_origin.clone() };
    let ready = || progress.note(if asked { "ready; Ctrl-C ends it" } else { "Ctrl-C ends it" });
    serve::run(listener, settings, || interrupt.requested(), ready).map_err(CliError::Failed)
}

/// Refuses flags that do not go together, before anything is opened.
fn check(args: &ServeArgs, context: &Context) -> Result<(), CliError> {
    let usage = |text: &str| Err(CliError::Usage(text.into()));
    if args.model.is_none() && context.base.is_some() {
        return usage("--base is for the adapter in --model");
    }
    if args.model.is_some() && !args.host.is_loopback() && args.api_key_file.is_none() {
        return usage(
            "--host: others could ask the judge there; give --api-key-file FILE, a file with one key a line, or listen on 127.0.0.1",
        );
    }
    Ok(())
}

fn warn_of_others(args: &ServeArgs, progress: &mut TerminalProgress) {
    let under = if args.host.is_unspecified() { "any address of this machine".into() } else { format!("{}", args.host) };
    let what = if args.model.is_some() { "this server" } else { "these files" };
    progress.warn(&format!(
        "others can reach {what} now, under {under} and each name given by --allow-host; browsers elsewhere offer WebGPU only to https \
         pages, and keys travel in the clear without TLS, so put a TLS proxy in front and allow its name",
    ));
}

/// The page. Beside a judge it may be absent, unless its folder was named.
fn site(args: &ServeArgs, progress: &mut TerminalProgress) -> Result<Option<Site>, CliError> {
    let dir = args.dir.as_deref().unwrap_or(Path::new("web"));
    if args.model.is_some() && args.dir.is_none() && args.bundle.is_none() && !dir.join("index.html").is_file() {
        return Ok(None);
    }
    if let Some(bundle) = &args.bundle {
        let folder = ModelFolder::open(bundle).map_err(judge::JudgeError::from)?;
        if folder.manifest().is_none() {
            let advice = "make one with `jurist export`";
            return Err(CliError::Failed(format!("{} is no bundle (it has no {MANIFEST}); {advice}", bundle.display())));
        }
    }
    let site = Site::open(dir, args.bundle.as_deref()).map_err(CliError::Failed)?;
    if !dir.join("engine").join("jurist_bg.wasm").is_file() && args.model.is_none() {
        progress
            .warn(&format!("{} has no engine/jurist_bg.wasm, so judges cannot run there; `make web` builds it", dir.display()));
    }
    Ok(Some(site))
}

/// Opens the files of the judge; the GPU is opened by the engine's thread.
fn judge(model: &Path, args: &ServeArgs, context: &Context, progress: &mut TerminalProgress) -> Result<ServedJudge, CliError> {
    context.fetch(model, Wanted::All, progress)?;
    let folder = context.open(model)?;
    let max_completion_length = args.max_completion_length.map(|most| most as usize);
    let mut asked = JudgeOverrides { max_completion_length, ..args.judge.overrides()? };
    // A model that is no judge yet gets conversations and whole prompts.
    if asked.template.is_none() && folder.judge_json().map_err(judge::JudgeError::from)?.is_none() {
        asked.template = Some(Choice::Is(Template::Judge));
    }
    let files = JudgeFiles::resolve(&folder, args.weights, &asked, &[])?;
    files.notes.iter().for_each(|note| progress.note(note));
    files.warnings.iter().for_each(|warning| progress.warn(warning));
    let prompts = Prompts::new(files.settings().clone(), files.tokenizer().clone())?;
    prompts.score_tokens.warnings.iter().for_each(|warning| progress.warn(warning));
    let scale = &prompts.settings.scale;
    if let Some(threshold) = args.threshold.filter(|threshold| !(scale.min()..=scale.max()).contains(threshold)) {
        let message = format!("--threshold {threshold} is outside the scale's {} to {}", scale.min(), scale.max());
        return Err(CliError::Usage(message));
    }
    let name = args.name.clone().unwrap_or_else(|| name_of(model));
    let defaults = Defaults {
        chains: args.chains as usize,
        temperature: args.temperature,
        expectation: match args.expectation {
            Expectation::Renormalised => judge::Expectation::Renormalised,
            Expectation::Full => judge::Expectation::FullVocabulary,
        },
        threshold: args.threshold,
        batch: args.max_batch as usize,
    };
    let asked = judge::ScoreOptions {
        chains: defaults.chains,
        temperature: defaults.temperature,
        expectation: defaults.expectation,
        ..judge::ScoreOptions::default()
    };
    prompts.settings.calibration_advice(&asked).into_iter().for_each(|advice| progress.warn(advice));
    let sizes = Sizes { queue: args.max_queue as usize, batch: args.max_batch as usize };
    let serving = Serving {
        sizes: ContinuousSizes { chains: args.max_batch as usize, cache_bytes: args.kv_cache.unwrap_or(KV_CACHE) },
        batch_invariant: args.batch_invariant,
    };
    Ok(ServedJudge { name, prompts, defaults, sizes, load: load(files, serving, context)? })
}

/// The name of a model's folder or file, for clients.
fn name_of(model: &Path) -> String {
    let full = std::fs::canonicalize(model).unwrap_or_else(|_| model.to_path_buf());
    let name = full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned();
    let name = name.strip_suffix(".gguf").unwrap_or(&name);
    // "@" begins a profile.
    name.replace('@', "-")
}

/// Opens the adapter and puts the judge there, as often as it is asked.
fn load(files: JudgeFiles, serving: Serving, context: &Context) -> Result<Load, CliError> {
    let (adapter, kernels, quiet) = (context.adapter.clone(), context.kernels()?, context.quiet);
    Ok(Box::new(move || {
        let mut progress = TerminalProgress::new(quiet);
        let options = GpuOptions {
            adapter: adapter.clone(),
            software_memory: free_memory(),
            kernels: kernels.clone(),
            ..GpuOptions::default()
        };
        let opened = pollster::block_on(crate::selftest::open(&options, Work::Judging));
        let (gpu, verdicts) = opened.map_err(|e| e.to_string())?;
        progress.note(&format!("adapter: {}", gpu.facts()));
        verdicts.iter().filter(|v| !v.passes()).for_each(|v| progress.warn(&v.to_string()));
        gpu.advice().iter().for_each(|advice| progress.warn(advice));
        files.check_memory(&gpu, &[], &[]).map_err(|e| e.to_string())?;
        let judge = files.upload(&gpu).map_err(|e| e.to_string())?;
        Ok(Box::new(JudgeModel::new(judge, serving)))
    }))
}
