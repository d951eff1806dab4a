//! The inputs of a run: tokenizer, weights, judge settings and prepared rows, from the files that the config names.

use std::path::Path;

use crate::data::{Chains, ColumnOptions, DataError, Dataset, Example, Prompt, Reader, byte_size};
use crate::judge::{
    BatchLayout, Choice, DEFAULT_PHRASE, DEFAULT_SCALE, JUDGE_FILE, JudgeError, JudgeOverrides, JudgeSettings, PAIR_PHRASE,
    PAIR_SCALE, ScoreTokens, Template, tokenizer_at,
};
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::init::Init;
use crate::model::lora::AdapterFiles;
use crate::model::source::{TensorSource, quantisation};
use crate::model_folder::{FolderWeights, ModelFolder};
use crate::ops::weight_dtype::WeightDtype;
use crate::text::{Date, SpecialTokens, Tokenizer, train_bpe};
use crate::train::TrainError;
use crate::train::checkpoint::{checkpoint_name, list_checkpoints};
use crate::train::config::{ChainColumn, Resume, SettingError, TrainConfig};
use crate::train::data::examples::{Preparation, Prepared, longest_prompt};
use crate::train::objective::engine::InitialWeights;
use crate::words::count;

/// Everything that is read before the GPU is used.
pub struct RunInputs {
    pub tokenizer: Tokenizer,
    pub model: Box<dyn TensorSource>,
    /// The adapter of the start model.
    pub adapter: Option<AdapterFiles>,
    /// The base model of this adapter, as its files name it.
    pub base: Option<String>,
    /// The dtype of saved weights.
    pub dtype: WeightDtype,
    pub settings: JudgeSettings,
    pub tokens: ScoreTokens,
    pub train: Prepared,
    /// Held-out rows, as training examples and as rows to score.
    pub eval: Option<(Prepared, Vec<Example>)>,
    /// Names of the judge settings taken from the start model that differ from the defaults.
    pub inherited: Vec<&'static str>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl RunInputs {
    /// Reads everything that `config` names.
    ///
    /// # Errors
    /// Files that are missing, damaged, or do not fit together; each message names the file and a remedy.
    pub fn read(config: &TrainConfig) -> Result<Self, TrainError> {
        let mut notes = Vec::new();
        let reader = reader(config)?;
        let train_reader =
            Reader { limit: config.limit.map(|n| n as usize), shuffle_seed: config.shuffle_seed, ..reader.clone() };
        let rows = read_rows(&train_reader, &config.train_file, &mut notes)?;
        let eval_rows = config.eval_file.as_deref().map(|file| read_rows(&reader, file, &mut notes)).transpose()?;
        let folder = config.model_name_or_path.as_deref().map(|dir| start_folder(config, Path::new(dir))).transpose()?;
        let stored = folder.as_ref().map(JudgeSettings::of_folder).transpose()?.flatten();
        let tokenizer = tokenizer(config, folder.as_ref(), &rows)?;
        let StartModel { source: model, adapter, base, dtype } = start_model(config, folder.as_ref(), &tokenizer, &mut notes)?;

        let overrides = overrides(config)?;
        // Training makes another judge, which nobody calibrated.
        let mut settings = JudgeSettings::resolve(stored, &overrides, &tokenizer, &rows.examples)?.uncalibrated();
        let inherited = settings.differences(&JudgeSettings::resolve(None, &overrides, &tokenizer, &rows.examples)?);
        config.check_score_reads(settings.score_reads)?;
        if config.date.is_none() {
            settings.date = date_of_checkpoint(config).or(settings.date);
        }
        notes.extend(settings.state_date(&tokenizer)?);
        let prompt = settings.prompt(&tokenizer)?;
        let tokens = prompt.score_tokens(&tokenizer)?;
        notes.extend(tokens.warnings.iter().cloned());

        let layout = BatchLayout { tokens: &tokens, reads: settings.score_reads };
        let context = model.config().max_position_embeddings;
        let preparation = Preparation {
            prompt: &prompt,
            layout,
            tokenizer: &tokenizer,
            max_length: context.min(config.max_length as usize),
            skip_bad: config.skip_bad,
        };
        let mut train = preparation.prepare(&rows.examples)?;
        note_skipped_rows(&train, &config.train_file, preparation.max_length, &mut notes);
        if train.examples.is_empty() {
            return Err(TrainError::NoRows { why: why_no_rows(&train, &config.train_file, preparation.max_length) });
        }
        let eval = match eval_rows {
            None => None,
            Some(rows) => {
                let prepared = preparation.prepare(&rows.examples)?;
                let file = config.eval_file.as_deref().unwrap_or_default();
                note_skipped_rows(&prepared, file, preparation.max_length, &mut notes);
                if prepared.examples.is_empty() {
                    let fix = why_no_rows(&prepared, file, preparation.max_length);
                    return Err(
                        DataError::File { file: file.into(), found: "no row of the eval_file is left".into(), fix }.into()
                    );
                }
                let prepared_rows = prepared.rows.iter().map(|i| rows.examples[*i].clone()).collect();
                Some((prepared, prepared_rows))
            }
        };
        let writes_chains = train.longest_chain > 0 || config.samples_chains();
        let longest_chain = match (config.max_completion_length, train.longest_chain) {
            _ if !writes_chains => 0,
            (0, 0) => settings.max_completion_length,
            (0, longest) => 2 * longest + tokens.stem.len(),
            (n, _) => n as usize,
        };
        if writes_chains && longest_chain == 0 {
            let why = "the rows have no chains to take a length from";
            return Err(SettingError::Missing { key: "max_completion_length", why }.into());
        }
        let settings = settings.with_chains_up_to(longest_chain);
        let layout = BatchLayout { tokens: &tokens, reads: settings.score_reads };
        if config.samples_chains() {
            let longest_prompt = longest_prompt(layout, context, settings.max_completion_length);
            let skipped = train.keep_prompts_up_to(longest_prompt);
            if skipped > 0 {
                let file = &config.train_file;
                notes.push(format!(
                    "{file}: {} skipped, no space for a chain after a prompt of more than {longest_prompt} tokens",
                    count(skipped, "row")
                ));
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
        Ok(RunInputs { tokenizer, model, adapter, base, dtype, settings, tokens, train, eval, inherited, notes })
    }

    /// The weights that the run starts from.
    pub fn initial_weights(&self) -> InitialWeights<'_> {
        InitialWeights { source: self.model.as_ref(), adapter: self.adapter.as_ref() }
    }

    /// The layout of the judge's rows in batches.
    pub fn layout(&self) -> BatchLayout<'_> {
        BatchLayout { tokens: &self.tokens, reads: self.settings.score_reads }
    }
}

/// The judge settings of a config. The limit of the chains is decided after the rows have been read.
///
/// # Errors
/// A malformed scale; an unreadable template.
pub(crate) fn overrides(config: &TrainConfig) -> Result<JudgeOverrides, TrainError> {
    Ok(JudgeOverrides {
        scale: config.scale()?,
        phrase: config.phrase.clone(),
        template: config.template.as_deref().map(Choice::<Template>::named).transpose()?,
        chat: config.chat.map(Choice::from),
        score_reads: config.score_reads,
        max_completion_length: None,
        date: config.date.as_deref().map(Date::parse).transpose().map_err(JudgeError::from)?,
    })
}

/// The day that the run stated up to its checkpoint. A resumed run states the same day.
fn date_of_checkpoint(config: &TrainConfig) -> Option<Date> {
    let output = Path::new(&config.output_dir);
    let checkpoint = match &config.resume_from_checkpoint {
        Resume::From(path) => path.into(),
        Resume::Newest(true) => output.join(checkpoint_name(*list_checkpoints(output).ok()?.last()?)),
        Resume::Newest(false) => return None,
    };
    JudgeSettings::from_json(&std::fs::read_to_string(checkpoint.join(JUDGE_FILE)).ok()?).ok()?.date
}

/// The folder of the start model. If the config names a base, an adapter in the folder is applied to that.
pub(in crate::train) fn start_folder(config: &TrainConfig, model: &Path) -> Result<ModelFolder, ModelError> {
    ModelFolder::open_on(model, config.base.as_deref().map(Path::new))
}

fn reader(config: &TrainConfig) -> Result<Reader, TrainError> {
    let (chains, chain_column) = match &config.chain_column {
        ChainColumn::Auto => (Chains::Use, None),
        ChainColumn::Named(name) => (Chains::Use, Some(name.clone())),
        ChainColumn::Ignored => (Chains::Ignore, None),
    };
    let chains = if config.method.spec().reads_chains_of_rows() { chains } else { Chains::Ignore };
    // What labels mean: as the config says, else as the start model does. One that cannot be read is reported when it is opened.
    let folder = config.model_name_or_path.as_deref().and_then(|dir| start_folder(config, Path::new(dir)).ok());
    let stored = folder.and_then(|folder| JudgeSettings::of_folder(&folder).ok().flatten());
    let template = config.template.as_deref().or(stored.as_ref().map(|own| own.template.as_str()));
    let pairs = template == Some(Template::Pair.name());
    let words = match config.scale()? {
        Some(scale) => scale.label_words(),
        None => JudgeSettings::inherited_answer(stored.as_ref(), pairs)?.0.label_words(),
    };
    let label_column = config.label_column.clone();
    let columns = ColumnOptions { label_column, chain_column, chains, words, pairs, ..ColumnOptions::default() };
    let size = |text: &str| byte_size(text).map_err(|e| SettingError::Conflict(format!("max_decompressed: {e}")));
    let max_decompressed = config.max_decompressed.as_deref().map(size).transpose()?;
    Ok(Reader { columns, skip_bad: config.skip_bad, max_decompressed, ..Reader::default() })
}

/// The training rows of a config.
pub(in crate::train) fn labelled_examples(config: &TrainConfig) -> Result<Vec<Example>, TrainError> {
    Ok(read_rows(&reader(config)?, &config.train_file, &mut Vec::new())?.examples)
}

fn read_rows(reader: &Reader, file: &str, notes: &mut Vec<String>) -> Result<Dataset, TrainError> {
    let rows = reader.read_path(Path::new(file))?;
    if let Some(first) = rows.bad.first() {
        notes.push(format!("{file}: {} skipped, the first: {first}", count(rows.bad.len(), "bad row")));
    }
    Ok(rows)
}

fn note_skipped_rows(prepared: &Prepared, file: &str, max_length: usize, notes: &mut Vec<String>) {
    if prepared.too_long > 0 {
        notes.push(format!("{file}: {} skipped, longer than {max_length} tokens", count(prepared.too_long, "row")));
    }
    if let Some(first) = prepared.bad.first() {
        notes.push(format!("{file}: {} skipped, the first: {first}", count(prepared.bad.len(), "unusable row")));
    }
}

/// Why no row of a file is left.
fn why_no_rows(prepared: &Prepared, file: &str, max_length: usize) -> String {
    let too_long = count(prepared.too_long, "row");
    let long = format!("{file}: {too_long} of more than {max_length} tokens: raise max_length or shorten the rows");
    match (prepared.too_long, prepared.bad.first()) {
        (_, None) => long,
        (0, Some(first)) => format!("{file}: {}, the first: {first}", count(prepared.bad.len(), "unusable row")),
        (_, Some(first)) => format!("{long}; and {}, the first: {first}", count(prepared.bad.len(), "unusable row")),
    }
}

/// The tokenizer that the config names, the model's own, or one trained on the data.
fn tokenizer(config: &TrainConfig, folder: Option<&ModelFolder>, rows: &Dataset) -> Result<Tokenizer, TrainError> {
    if let Some(path) = config.tokenizer.as_deref().map(Path::new) {
        return Ok(tokenizer_at(path)?);
    }
    if let Some(folder) = folder {
        return Ok(folder.tokenizer()?);
    }
    let texts: Vec<String> = rows.examples.iter().map(text_of).collect();
    let size = config.vocab_size.unwrap_or(0) as usize;
    // Every score must become a token: digits always do, and the phrase occurs once per score.
    let pairs = config.template.as_deref() == Some(Template::Pair.name());
    let (scale, phrase) = if pairs { (PAIR_SCALE, PAIR_PHRASE) } else { (DEFAULT_SCALE, DEFAULT_PHRASE) };
    let scale = config.scale()?.map_or_else(|| scale.parse(), Ok)?;
    let phrase = config.phrase.as_deref().unwrap_or(phrase);
    let answers = scale.texts().iter().map(|score| format!(" {phrase}{score}"));
    Ok(train_bpe(texts.into_iter().chain(answers), size, &SpecialTokens::for_decoder())?)
}

/// All text of a row that may become part of a prompt or chain.
fn text_of(example: &Example) -> String {
    let mut texts: Vec<&str> = example.row.fields.values().filter_map(|v| v.as_str()).collect();
    if let Some(Prompt::Messages(messages)) = &example.record.prompt {
        texts.extend(messages.iter().map(|message| message.content()));
        texts.extend(example.record.chain.as_deref());
    }
    texts.join("\n")
}

/// The start model, its stored dtype, and the dtype of saved weights.
struct StartModel {
    source: Box<dyn TensorSource>,
    adapter: Option<AdapterFiles>,
    base: Option<String>,
    dtype: WeightDtype,
}

/// The model of a folder, or a new one with random weights.
fn start_model(
    config: &TrainConfig,
    folder: Option<&ModelFolder>,
    tokenizer: &Tokenizer,
    notes: &mut Vec<String>,
) -> Result<StartModel, TrainError> {
    let save_dtype = config.save_dtype.map(WeightDtype::from);
    if let (Some(dir), Some(folder)) = (&config.model_name_or_path, folder) {
        let stored = folder.weights()?;
        notes.extend(stored.notes);
        let frozen = config.lora_r > 0 || stored.adapter.is_some();
        if let Some(dtype) = quantisation(stored.source.as_ref()).filter(|_| !frozen) {
            notes.push(format!("{dir} has {} weights: training starts from what they decode to, in f32", dtype.name()));
        }
        check_adapter(config, dir, stored.adapter.as_ref())?;
        check_vocabulary(tokenizer, stored.source.config())?;
        let FolderWeights { source, adapter, base, dtype, .. } = stored;
        return Ok(StartModel { source, adapter, base, dtype: save_dtype.unwrap_or(dtype) });
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
    Ok(StartModel { source, adapter: None, base: None, dtype: save_dtype.unwrap_or(WeightDtype::F32) })
}

/// Checks that the settings of an adapter fit the start model.
fn check_adapter(config: &TrainConfig, dir: &str, adapter: Option<&AdapterFiles>) -> Result<(), TrainError> {
    let conflict = |message: String| Err(SettingError::Conflict(message).into());
    match adapter {
        Some(adapter) if config.lora_r > 0 => conflict(format!(
            "{dir} is an adapter already (r = {}): leave lora_r out to continue training it, or merge it first (jurist merge)",
            adapter.settings.r
        )),
        None if config.lora_r == 0 && config.base_weights.dtype().is_some_and(|dtype| dtype != WeightDtype::F32) => {
            conflict(format!(
                "base_weights = {}: these are frozen, and without an adapter (lora_r) nothing would learn",
                config.base_weights.name()
            ))
        }
        _ => Ok(()),
    }
}

fn check_vocabulary(tokenizer: &Tokenizer, config: &Config) -> Result<(), TrainError> {
    if tokenizer.vocab_size() <= config.vocab_size {
        return Ok(());
    }
    let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
    let what = format!("the tokenizer has {tokens} tokens, but the model only {rows} embeddings: they do not belong together");
    Err(ModelError::Inconsistent(what).into())
}
