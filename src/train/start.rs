//! What a run starts from: tokenizer, weights, judge settings and prepared rows, out of the files that the config names.

use std::path::Path;

use super::TrainError;
use super::config::{SettingError, TrainConfig};
use super::engine::Origin;
use super::examples::{Preparation, Prepared};
use crate::bundle::{FolderWeights, MANIFEST, ModelFolder};
use crate::data::{Chains, DataError, Dataset, Example, Prompt, Reader, View, byte_size};
use crate::judge::{JudgePrompt, JudgeSettings, Placement, ScoreTokens, Template};
use crate::model::config::Config;
use crate::model::dtype::Dtype;
use crate::model::init::Init;
use crate::model::lora::AdapterFiles;
use crate::model::source::TensorSource;
use crate::text::{ChatTemplate, SpecialTokens, Tokenizer, train_bpe};

/// All that is read before the GPU is asked for anything.
pub struct Start {
    pub tokenizer: Tokenizer,
    pub model: Box<dyn TensorSource>,
    /// The adapter that the start model has.
    pub adapter: Option<AdapterFiles>,
    /// The model that this adapter belongs to, as its files name it.
    pub base: Option<String>,
    /// How its files store what is not quantised.
    pub stored: Dtype,
    /// Format of saved weights.
    pub dtype: Dtype,
    pub settings: JudgeSettings,
    pub prompt: JudgePrompt,
    pub tokens: ScoreTokens,
    pub train: Prepared,
    /// Held-out rows, as examples and as rows to be judged.
    pub eval: Option<(Prepared, Vec<Example>)>,
    /// Things worth saying.
    pub notes: Vec<String>,
}

impl Start {
    /// Reads everything that `config` names.
    ///
    /// # Errors
    /// Files that are missing, damaged, or do not fit together; each message says which and what to do.
    pub fn read(config: &TrainConfig) -> Result<Self, TrainError> {
        let mut notes = Vec::new();
        let reader = reader(config)?;
        let part = Reader { limit: config.limit.map(|n| n as usize), shuffle_seed: config.shuffle_seed, ..reader.clone() };
        let rows = read_rows(&part, &config.train_file, &mut notes)?;
        let eval_rows = config.eval_file.as_deref().map(|file| read_rows(&reader, file, &mut notes)).transpose()?;
        let tokenizer = tokenizer(config, &rows)?;
        let Model { source: model, adapter, base, stored, dtype } = model(config, &tokenizer, &mut notes)?;

        let template = match config.template.as_str() {
            "auto" if rows.examples.iter().all(|e| e.record.prompt.is_some()) => Template::Plain,
            "auto" => Template::Judge,
            name => Template::named(name)?,
        };
        let chat = match config.chat.as_str() {
            "always" => true,
            "never" => false,
            _ => ChatTemplate::of(&tokenizer)?.is_some(),
        };
        let mut settings = JudgeSettings::new(config.scale()?, &config.phrase, &template, chat);
        let prompt = settings.prompt(&tokenizer)?;
        let tokens = prompt.score_tokens(&tokenizer)?;
        notes.extend(tokens.warnings.iter().cloned());

        settings.score_reads = config.score_reads();
        let placement = Placement { tokens: &tokens, reads: settings.score_reads };
        let context = model.config().max_position_embeddings;
        let preparation = Preparation {
            prompt: &prompt,
            placement,
            tokenizer: &tokenizer,
            max_length: context.min(config.max_length as usize),
            skip_bad: config.skip_bad,
        };
        let mut train = preparation.prepare(&rows.examples)?;
        report(&train, &config.train_file, preparation.max_length, &mut notes);
        if train.examples.is_empty() {
            return Err(TrainError::NoRows { why: why_none(&train, &config.train_file, preparation.max_length) });
        }
        let eval = match eval_rows {
            None => None,
            Some(rows) => {
                let prepared = preparation.prepare(&rows.examples)?;
                let file = config.eval_file.as_deref().unwrap_or_default();
                report(&prepared, file, preparation.max_length, &mut notes);
                if prepared.examples.is_empty() {
                    let fix = why_none(&prepared, file, preparation.max_length);
                    return Err(
                        DataError::File { file: file.into(), found: "no row of the eval_file is left".into(), fix }.into()
                    );
                }
                let kept = prepared.rows.iter().map(|i| rows.examples[*i].clone()).collect();
                Some((prepared, kept))
            }
        };
        settings.chain = train.longest_chain > 0 || config.samples_chains();
        settings.max_completion_length = match (config.max_completion_length, train.longest_chain) {
            _ if !settings.chain => 0,
            (0, 0) => stored_length(config).unwrap_or(0),
            (0, longest) => 2 * longest + tokens.stem.len(),
            (n, _) => n as usize,
        };
        if settings.chain && settings.max_completion_length == 0 {
            let why = "the rows have no chains to take a length from";
            return Err(SettingError::Missing { key: "max_completion_length", why }.into());
        }
        if config.samples_chains() {
            let phrase = tokens.stem.len().max(tokens.opening.len()) + 1;
            let room = context.saturating_sub(placement.depth(0, settings.max_completion_length + phrase));
            let left_out = train.keep_prompts_up_to(room);
            if left_out > 0 {
                let file = &config.train_file;
                notes.push(format!("{file}: {left_out} rows skipped, no room for a chain behind a prompt over {room} tokens"));
            }
            if train.examples.is_empty() {
                let why = "no prompt leaves room for a chain; lower max_completion_length or shorten the rows".into();
                return Err(TrainError::NoRows { why });
            }
        }
        if config.samples_chains() && (tokens.stem.is_empty() || tokens.opening.is_empty()) {
            let why = "a sampled chain and its score must be told apart";
            return Err(SettingError::Missing { key: "phrase", why }.into());
        }
        Ok(Start { tokenizer, model, adapter, base, stored, dtype, settings, prompt, tokens, train, eval, notes })
    }

    /// The weights that the run starts from.
    pub fn origin(&self) -> Origin<'_> {
        Origin { source: self.model.as_ref(), stored: self.stored, adapter: self.adapter.as_ref() }
    }

    /// How rows lie in batches.
    pub fn placement(&self) -> Placement<'_> {
        Placement { tokens: &self.tokens, reads: self.settings.score_reads }
    }
}

/// The chain length of the judge that training starts from, if it is one.
fn stored_length(config: &TrainConfig) -> Option<usize> {
    let folder = ModelFolder::open(Path::new(config.model_name_or_path.as_deref()?)).ok()?;
    JudgeSettings::from_json(&folder.judge_json().ok()??).ok().map(|settings| settings.max_completion_length)
}

fn reader(config: &TrainConfig) -> Result<Reader, TrainError> {
    let chain_column = (config.chain_column != "auto" && config.chain_column != "none").then(|| config.chain_column.clone());
    let ignored = config.chain_column == "none" || config.method == "raft";
    let chains = if ignored { Chains::Ignore } else { Chains::Use };
    let view = View { label_column: config.label_column.clone(), chain_column, chains, ..View::default() };
    let size = |text: &str| byte_size(text).map_err(|e| SettingError::Conflict(format!("max_decompressed: {e}")));
    let max_decompressed = config.max_decompressed.as_deref().map(size).transpose()?;
    Ok(Reader { view, skip_bad: config.skip_bad, max_decompressed, ..Reader::default() })
}

/// The training rows of a config.
pub(super) fn labelled_rows(config: &TrainConfig) -> Result<Vec<Example>, TrainError> {
    Ok(read_rows(&reader(config)?, &config.train_file, &mut Vec::new())?.examples)
}

fn read_rows(reader: &Reader, file: &str, notes: &mut Vec<String>) -> Result<Dataset, TrainError> {
    let rows = reader.read_path(Path::new(file))?;
    if let Some(first) = rows.bad.first() {
        notes.push(format!("{file}: {} bad rows skipped, the first: {first}", rows.bad.len()));
    }
    Ok(rows)
}

fn report(prepared: &Prepared, file: &str, max_length: usize, notes: &mut Vec<String>) {
    if prepared.too_long > 0 {
        notes.push(format!("{file}: {} rows skipped, longer than {max_length} tokens", prepared.too_long));
    }
    if let Some(first) = prepared.bad.first() {
        notes.push(format!("{file}: {} rows skipped that do not fit, the first: {first}", prepared.bad.len()));
    }
}

/// Why no row of a file is left.
fn why_none(prepared: &Prepared, file: &str, max_length: usize) -> String {
    let long =
        format!("{} rows of {file} are longer than {max_length} tokens: raise max_length or shorten them", prepared.too_long);
    match (prepared.too_long, prepared.bad.first()) {
        (_, None) => long,
        (0, Some(first)) => format!("{} rows of {file} do not fit, the first: {first}", prepared.bad.len()),
        (_, Some(first)) => format!("{long}, and {} do not fit, the first: {first}", prepared.bad.len()),
    }
}

/// The model's own tokenizer, the one named, or one trained on the data.
fn tokenizer(config: &TrainConfig, rows: &Dataset) -> Result<Tokenizer, TrainError> {
    if let Some(dir) = config.tokenizer.as_deref().or(config.model_name_or_path.as_deref()) {
        let path = Path::new(dir);
        if path.is_file() {
            let bytes = std::fs::read(path).map_err(|source| TrainError::Io {
                action: "read the tokenizer",
                path: path.into(),
                source,
            })?;
            return Ok(Tokenizer::from_bytes(&bytes)?);
        }
        // A folder named as a tokenizer may hold nothing else.
        let is_model = config.tokenizer.is_none() || path.join(MANIFEST).is_file();
        return Ok(if is_model { ModelFolder::open(path)?.tokenizer()? } else { Tokenizer::from_dir(path)? });
    }
    let texts: Vec<String> = rows.examples.iter().map(text_of).collect();
    let size = config.vocab_size.unwrap_or(0) as usize;
    // Every score must be a token of its own: digits are, and the phrase is seen as often as there are rows.
    let scale = config.scale()?;
    let answers = scale.texts().iter().map(|score| format!(" {}{score}", config.phrase));
    Ok(train_bpe(texts.into_iter().chain(answers), size, &SpecialTokens::for_decoder())?)
}

/// All text of a row that a model may see.
fn text_of(example: &Example) -> String {
    let mut texts: Vec<&str> = example.row.fields.values().filter_map(|v| v.as_str()).collect();
    if let Some(Prompt::Messages(messages)) = &example.record.prompt {
        texts.extend(messages.iter().map(|message| message.content()));
        texts.extend(example.record.chain.as_deref());
    }
    texts.join("\n")
}

/// A start model, and how it is stored and to be saved.
struct Model {
    source: Box<dyn TensorSource>,
    adapter: Option<AdapterFiles>,
    base: Option<String>,
    stored: Dtype,
    dtype: Dtype,
}

/// The start model's weights, or fresh ones.
fn model(config: &TrainConfig, tokenizer: &Tokenizer, notes: &mut Vec<String>) -> Result<Model, TrainError> {
    let wanted = config.save_dtype.as_deref().and_then(Dtype::from_config_name);
    if let Some(dir) = &config.model_name_or_path {
        let stored = ModelFolder::open(Path::new(dir))?.weights()?;
        notes.extend(stored.notes);
        let frozen = config.lora_r > 0 || stored.adapter.is_some();
        if let Some(form) = stored.source.quantisation().filter(|_| !frozen) {
            notes.push(format!("{dir} has {} weights: training starts from what they decode to, in f32", form.name()));
        }
        check_adapter(config, dir, stored.adapter.as_ref())?;
        check_vocabulary(tokenizer, stored.source.config())?;
        let FolderWeights { source, adapter, base, dtype, .. } = stored;
        return Ok(Model { source, adapter, base, stored: dtype, dtype: wanted.unwrap_or(dtype) });
    }
    let path = config.init.as_deref().unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|source| TrainError::Io {
        action: "read the init config",
        path: path.into(),
        source,
    })?;
    let mut model = Config::from_json(&text).map_err(|e| e.in_file(path))?;
    if config.vocab_size.is_some() && tokenizer.vocab_size() != model.vocab_size {
        notes.push(format!(
            "the vocabulary has {} tokens; vocab_size of {path} was {}",
            tokenizer.vocab_size(),
            model.vocab_size
        ));
        model = model.with_vocab_size(tokenizer.vocab_size())?;
    }
    check_vocabulary(tokenizer, &model)?;
    let source = Box::new(Init::new(model, config.seed));
    Ok(Model { source, adapter: None, base: None, stored: Dtype::F32, dtype: wanted.unwrap_or(Dtype::F32) })
}

/// What the settings say about an adapter must go together with the start model's.
fn check_adapter(config: &TrainConfig, dir: &str, adapter: Option<&AdapterFiles>) -> Result<(), TrainError> {
    let conflict = |message: String| Err(SettingError::Conflict(message).into());
    match adapter {
        Some(adapter) if config.lora_r > 0 => conflict(format!(
            "{dir} is an adapter already (r = {}): leave lora_r out to go on training it, or merge it first (jurist merge)",
            adapter.settings.r
        )),
        None if config.lora_r == 0 && !matches!(config.base_weights.as_str(), "auto" | "f32") => conflict(format!(
            "base_weights = {}: these are frozen, and without an adapter (lora_r) nothing would learn",
            config.base_weights
        )),
        _ => Ok(()),
    }
}

fn check_vocabulary(tokenizer: &Tokenizer, config: &Config) -> Result<(), TrainError> {
    if tokenizer.vocab_size() <= config.vocab_size {
        return Ok(());
    }
    let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
    let what = format!("the tokenizer has {tokens} tokens, but the model only {rows} embeddings: they do not belong together");
    Err(crate::model::error::ModelError::Inconsistent(what).into())
}
