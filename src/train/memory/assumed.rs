//! A start out of a config.json alone: no rows, no weights, no tokenizer.
//!
//! What they would decide is assumed to be the most that the settings allow: every row is as long as `max_length` lets it be,
//! every score is one token, and the phrase has a token a word and one more.

use std::path::Path;

use super::super::TrainError;
use super::super::config::{SettingError, TrainConfig};
use crate::judge::{BatchLayout, Choice, JudgeOverrides, JudgeSettings, Scale, ScoreTokens, Template};
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::init::Init;
use crate::model_folder::FolderWeights;
use crate::text::{SpecialTokens, word_level};
use crate::train::data::examples::{Prepared, Prompt, room_for_prompt};
use crate::train::data::pack::Example;
use crate::train::run::start::{RunInputs, overrides, start_folder};

/// The start of a run of `config`, without rows.
///
/// # Errors
/// No readable config.json; a scale that cannot be one.
pub(super) fn start(config: &TrainConfig) -> Result<RunInputs, TrainError> {
    let FolderWeights { source: model, adapter, base, dtype, matrix_dtype, .. } = model(config)?;
    // Nobody asks it for anything: what a tokenizer would say is said below.
    let unknown = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
    let tokenizer = word_level(&["word"], &unknown)?;
    let no_rows =
        JudgeOverrides { template: Some(Choice::Is(Template::Plain)), chat: Some(Choice::Is(false)), ..overrides(config)? };
    let settings = JudgeSettings::resolve(stored(config)?, &no_rows, &tokenizer, &[])?;
    config.check_score_reads(settings.score_reads)?;
    // A template that cannot be read is refused here too.
    settings.prompt(&tokenizer)?;
    let scores = (0..settings.scale.len() as u32).map(|score| vec![score]).collect();
    let phrase = vec![0; settings.phrase.split_whitespace().count() + 1];
    let unusable = |(_, found): (usize, String)| TrainError::Setting(SettingError::Conflict(found));
    let tokens = ScoreTokens::new(scores, None, phrase.clone(), phrase).map_err(unusable)?;
    let layout = BatchLayout { tokens: &tokens, reads: settings.score_reads };
    let (rows, max_tokens) = rows_for(config, model.config(), layout, &settings.scale)?;
    let size = rows.first().map_or(0, |e| e.prompt.ids.len());
    let longest = match config.samples_chains() {
        true => format!("prompts of {size} tokens, chains of {max_tokens}"),
        false => format!("rows of {} tokens", size + rows.first().map_or(0, |e| e.fed.len()) + 1),
    };
    let mut notes = vec![format!(
        "no train_file: rows are assumed to be the longest that the settings allow ({longest}), scores to have one token each"
    )];
    if config.eval_file.is_some() {
        notes.push("evaluations are not counted without a train_file".into());
    }
    let train = Prepared { examples: rows, ..Prepared::default() };
    let inherited = Vec::new();
    Ok(RunInputs { tokenizer, model, adapter, base, matrix_dtype, dtype, settings, tokens, train, eval: None, inherited, notes })
}

/// One packed batch of the longest rows, and tokens of the longest chain.
///
/// # Errors
/// A method that writes chains without `max_completion_length`; a context with no room for a prompt.
pub(super) fn rows(config: &TrainConfig, start: &RunInputs) -> Result<(Vec<Example>, usize), TrainError> {
    rows_for(config, start.model.config(), start.layout(), &start.settings.scale)
}

fn rows_for(
    config: &TrainConfig,
    model: &Config,
    layout: BatchLayout,
    scale: &Scale,
) -> Result<(Vec<Example>, usize), TrainError> {
    let chain = config.max_completion_length as usize;
    if config.samples_chains() && chain == 0 {
        let why = "without a train_file there are no chains to take a length from";
        return Err(SettingError::Missing { key: "max_completion_length", why }.into());
    }
    let context = model.max_position_embeddings;
    let stem = layout.tokens.stem.len();
    // Prompt, chain and phrase of a row, in tokens: all but the score.
    let most = context.min(config.max_length as usize).saturating_sub(layout.depth(0, 1));
    let (prompt, fed) = if config.samples_chains() {
        (most.saturating_sub(stem).min(room_for_prompt(layout, context, chain)), stem)
    } else {
        let fed = match (config.method.spec().reads_chains_of_rows(), chain) {
            (false, _) => stem,
            (true, 0) => most,
            (true, chain) => chain + stem,
        };
        let fed = fed.min(most.saturating_sub(1));
        (most - fed, fed)
    };
    if prompt == 0 {
        let found = format!(
            "max_length = {}, max_completion_length = {chain} and a context of {context} tokens leave no room for a prompt",
            config.max_length
        );
        return Err(SettingError::Conflict(found).into());
    }
    let value = scale.min();
    let prompt = Prompt { ids: vec![0; prompt], ends_in_space: false, label: scale.split(value)?, value };
    let row = Example { prompt, fed: vec![0; fed] };
    Ok((vec![row; config.per_device_train_batch_size as usize], chain))
}

/// The settings of the judge that training starts from, if it is one.
fn stored(config: &TrainConfig) -> Result<Option<JudgeSettings>, TrainError> {
    let named = config.model_name_or_path.as_deref().map(Path::new).filter(|path| !is_config(path));
    let folder = named.map(|path| start_folder(config, path)).transpose()?;
    Ok(folder.as_ref().map(JudgeSettings::of_folder).transpose()?.flatten())
}

/// Whether `path` is a `config.json`, and not a folder or a GGUF file.
fn is_config(path: &Path) -> bool {
    path.is_file() && path.extension().is_none_or(|ending| ending != crate::gguf::ENDING)
}

/// The model out of its config alone: a file, or that of a folder. Bundles and adapters are opened as they are.
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
    // A model from scratch is f32, whatever its config says.
    let dtype = model.dtype.filter(|_| named.is_some()).unwrap_or_default();
    let source = Box::new(Init::new(model, config.seed));
    Ok(FolderWeights { source, adapter: None, base: None, dtype, matrix_dtype: dtype, notes: Vec::new() })
}
