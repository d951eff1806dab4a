//! The inputs of a run from a config.json alone: without rows, weights and tokenizer.
//!
//! Their sizes are assumed to be the largest that the settings allow: every row has `max_length` tokens, every score is one
//! token, and the phrase has one token per word and one more.

use std::path::Path;

use super::super::TrainError;
use super::super::config::{SettingError, TrainConfig};
use crate::judge::{BatchLayout, Choice, JudgeOverrides, JudgeSettings, Scale, ScoreTokens, Template};
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::init::Init;
use crate::model_folder::FolderWeights;
use crate::text::{SpecialTokens, word_level};
use crate::train::data::examples::{LabelledPrompt, Prepared, longest_prompt};
use crate::train::data::pack::TrainExample;
use crate::train::run::start::{RunInputs, overrides, start_folder};

/// The inputs of a run of `config`, without rows.
///
/// # Errors
/// An unreadable config.json; a malformed scale.
pub(super) fn inputs(config: &TrainConfig) -> Result<RunInputs, TrainError> {
    let FolderWeights { source: model, adapter, base, dtype, .. } = model(config)?;
    // A stand-in that encodes nothing: the sizes a tokenizer would decide are assumed below.
    let unknown = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
    let tokenizer = word_level(&["word"], &unknown)?;
    let overrides =
        JudgeOverrides { template: Some(Choice::Is(Template::Plain)), chat: Some(Choice::Is(false)), ..overrides(config)? };
    let settings = JudgeSettings::resolve(stored_settings(config)?, &overrides, &tokenizer, &[])?;
    config.check_score_reads(settings.score_reads)?;
    // Refuses an unreadable template.
    settings.prompt(&tokenizer)?;
    let scores = (0..settings.scale.len() as u32).map(|score| vec![score]).collect();
    let phrase = vec![0; settings.phrase.split_whitespace().count() + 1];
    let conflict = |(_, found): (usize, String)| TrainError::Setting(SettingError::Conflict(found));
    let tokens = ScoreTokens::new(scores, None, phrase.clone(), phrase).map_err(conflict)?;
    let layout = BatchLayout { tokens: &tokens, reads: settings.score_reads };
    let (rows, max_tokens) = rows_for(config, model.config(), layout, &settings.scale)?;
    let prompt_tokens = rows.first().map_or(0, |e| e.prompt.ids.len());
    let longest = match config.samples_chains() {
        true => format!("prompts of {prompt_tokens} tokens, chains of {max_tokens}"),
        false => format!("rows of {} tokens", prompt_tokens + rows.first().map_or(0, |e| e.continuation.len()) + 1),
    };
    let mut notes = vec![format!(
        "no train_file: rows are assumed to be the longest that the settings allow ({longest}), scores to have one token each"
    )];
    if config.eval_file.is_some() {
        notes.push("evaluations are not counted without a train_file".into());
    }
    let train = Prepared { examples: rows, ..Prepared::default() };
    let inherited = Vec::new();
    Ok(RunInputs { tokenizer, model, adapter, base, dtype, settings, tokens, train, eval: None, inherited, notes })
}

/// One packed batch of the longest rows, and the limit of a chain in tokens.
///
/// # Errors
/// A method that writes chains without `max_completion_length`; a context without room for a prompt.
pub(super) fn rows(config: &TrainConfig, inputs: &RunInputs) -> Result<(Vec<TrainExample>, usize), TrainError> {
    rows_for(config, inputs.model.config(), inputs.layout(), &inputs.settings.scale)
}

fn rows_for(
    config: &TrainConfig,
    model: &Config,
    layout: BatchLayout,
    scale: &Scale,
) -> Result<(Vec<TrainExample>, usize), TrainError> {
    let chain = config.max_completion_length as usize;
    if config.samples_chains() && chain == 0 {
        let why = "without a train_file there are no chains to take a length from";
        return Err(SettingError::Missing { key: "max_completion_length", why }.into());
    }
    let context = model.max_position_embeddings;
    let stem = layout.tokens.stem.len();
    // Most tokens of a row without its score.
    let most = context.min(config.max_length as usize).saturating_sub(layout.depth(0, 1));
    let (prompt, continuation) = if config.samples_chains() {
        (most.saturating_sub(stem).min(longest_prompt(layout, context, chain)), stem)
    } else {
        let continuation = match (config.method.spec().reads_chains_of_rows(), chain) {
            (false, _) => stem,
            (true, 0) => most,
            (true, chain) => chain + stem,
        };
        let continuation = continuation.min(most.saturating_sub(1));
        (most - continuation, continuation)
    };
    if prompt == 0 {
        let found = format!(
            "max_length = {}, max_completion_length = {chain} and a context of {context} tokens leave no room for a prompt",
            config.max_length
        );
        return Err(SettingError::Conflict(found).into());
    }
    let value = scale.min();
    let prompt = LabelledPrompt { ids: vec![0; prompt], ends_in_space: false, label: scale.split(value)?, value };
    let row = TrainExample { prompt, continuation: vec![0; continuation] };
    Ok((vec![row; config.per_device_train_batch_size as usize], chain))
}

/// The judge settings of the start model, if it has any.
fn stored_settings(config: &TrainConfig) -> Result<Option<JudgeSettings>, TrainError> {
    let path = config.model_name_or_path.as_deref().map(Path::new).filter(|path| !is_config(path));
    let folder = path.map(|path| start_folder(config, path)).transpose()?;
    Ok(folder.as_ref().map(JudgeSettings::of_folder).transpose()?.flatten())
}

/// Whether `path` is a `config.json`, and not a folder or a GGUF file.
fn is_config(path: &Path) -> bool {
    path.is_file() && !crate::gguf::is_gguf(path)
}

/// The model from its config alone: that of a file, or of a folder. Bundles and adapters are opened with their weights.
fn model(config: &TrainConfig) -> Result<FolderWeights, TrainError> {
    let named = config.model_name_or_path.as_deref();
    let path = named.or(config.init.as_deref()).unwrap_or_default();
    let model = if named.is_some() && !is_config(Path::new(path)) {
        let folder = start_folder(config, Path::new(path))?;
        match folder.config_alone()? {
            None => return Ok(folder.weights()?),
            Some(model) => model,
        }
    } else {
        let text = std::fs::read_to_string(path).map_err(|source| ModelError::io("read", path, source))?;
        let model = Config::from_json(&text).map_err(|e| e.in_file(path))?;
        match config.vocab_size {
            Some(size) => model.with_vocab_size(size as usize)?,
            None => model,
        }
    };
    // A model from scratch is always f32.
    let dtype = model.dtype.filter(|_| named.is_some()).unwrap_or_default();
    let source = Box::new(Init::new(model, config.seed).in_place_of(dtype));
    Ok(FolderWeights { source, adapter: None, base: None, dtype, notes: Vec::new() })
}
