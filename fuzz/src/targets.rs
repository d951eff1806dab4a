//! The bodies of the fuzz targets: each takes bytes as if they came from a stranger, hands them to a parser of this crate,
//! and panics where a promise is broken. What is promised everywhere: no panic, and an error that says something, of bounded
//! length and without characters that steer a terminal.
//!
//! They are plain functions, so that `tests/gpu/faults/corpus.rs` runs the seeds of `fuzz/corpus` through them without a fuzzer.
//! An input that stands for several files has them one behind another, with [`BETWEEN`] in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype as Stored, SafeTensors};
use clap::Parser;
use jurist::bundle::{Manifest, ShardReader, sha256_hex};
use jurist::cli::{Cli, CliError, Command};
use jurist::data::{ColumnOptions, DataError, Example, Reader, RowCells, judged_text, read_columns, repeated};
use jurist::experiments::compare::{CompareError, Protocol};
use jurist::gguf::GgufModel;
use jurist::judge::{JudgeError, JudgePrompt, JudgeSettings, Scale, ScoreTokens, Template};
use jurist::model::checkpoint::Checkpoint;
use jurist::model::config::Config;
use jurist::model::error::ModelError;
use jurist::model::lora::AdapterFiles;
use jurist::model::names::{TensorSpec, tensors};
use jurist::model::quantised::Plane;
use jurist::model::source::TensorSource;
use jurist::model_folder::ModelFolder;
use jurist::serve::Prompts;
use jurist::serve::mock::MockServer;
use jurist::text::{ChatOptions, ChatTemplate, Date, Files, SpecialTokens, StreamDecoder, TextError, Tokenizer, word_level};
use jurist::train::checkpoint::open_checkpoint;
use jurist::train::checkpoint::training_state::{Parameter, StatePart};
use jurist::train::config::{Layers, Resume, SettingError};
use jurist::train::data::order::DataOrder;
use jurist::train::{TrainConfig, TrainError};
use serde_json::{Value, json};

use super::memory::most_bytes;
use jurist::ops::weight_dtype::WeightDtype;

/// What is done with the bytes of an input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 13] = [
    ("tokenizer", tokenizer),
    ("template", template),
    ("config", config),
    ("safetensors", safetensors),
    ("gguf", gguf),
    ("bundle", bundle),
    ("adapter", adapter),
    ("rows", rows),
    ("columns", columns),
    ("trainer_state", trainer_state),
    ("arguments", arguments),
    ("settings", settings),
    ("requests", requests),
];

/// Stands between two files of one input.
pub const BETWEEN: &[u8] = b"\n---\n";

/// Most characters of an error message about an input of a few thousand bytes.
const LONGEST_MESSAGE: usize = 2000;
/// Most characters that a template may write.
const LONGEST_TEXT: usize = 64 << 20;
/// Bytes that a parser may hold for each byte of its input, and what it may hold in any case.
const BYTES_A_BYTE: usize = 256;
const BYTES_AT_LEAST: usize = 4 << 20;
/// What compiling the regular expressions of an adapter may take.
const BYTES_OF_PATTERNS: usize = 64 << 20;

/// A tokenizer: `tokenizer.json`, then a text to encode, then `tokenizer_config.json`.
pub fn tokenizer(data: &[u8]) {
    let [json, text, config] = parts(data);
    let mut files = Files::from([("tokenizer.json".to_string(), json.to_vec())]);
    if !config.is_empty() {
        files.insert("tokenizer_config.json".into(), config.to_vec());
    }
    let Some(tokenizer) = said(Tokenizer::from_files(files)) else { return };
    let text = String::from_utf8_lossy(text);
    let text = if text.is_empty() { "So the overall score is 4.\n\u{e9} \u{65e5}\u{672c} <s>" } else { &*text };
    for framed in [false, true] {
        let Some(ids) = said(tokenizer.encode(text, framed)) else { continue };
        assert_eq!(said(tokenizer.encode(text, framed)), Some(ids.clone()), "the same text, other tokens");
        let mut stream = StreamDecoder::new(&[], true);
        let streamed = ids.iter().try_fold(String::new(), |text, id| Some(text + &said(stream.push(&tokenizer, *id))?));
        let whole = said(tokenizer.decode(&ids, true));
        assert!(streamed.is_none() || whole.is_some(), "every token has a text, and all together have none");
        said(stream.finish(&tokenizer));
        said(tokenizer.decode(&ids, false));
    }
    said(tokenizer.encode_continuation(text));
    said(ChatTemplate::of(&tokenizer));
    if let Some(scale) = said("1..5".parse::<Scale>()) {
        said(ScoreTokens::resolve(&scale, jurist::judge::DEFAULT_PHRASE, &tokenizer));
    }
    let again = said(Tokenizer::from_files(tokenizer.files().clone())).expect("its own files make a tokenizer");
    assert_eq!((again.vocab_size(), again.eos_ids()), (tokenizer.vocab_size(), tokenizer.eos_ids()));
}

/// A Jinja template, as that of a chat and as a judge's own; then a row of data as JSON.
pub fn template(data: &[u8]) {
    let [source, row] = parts(data);
    let (source, row) = (String::from_utf8_lossy(source).into_owned(), String::from_utf8_lossy(row));
    let special = BTreeMap::from([("bos_token".to_string(), "<s>".to_string()), ("eos_token".to_string(), "</s>".to_string())]);
    let row = if row.trim().is_empty() { ROW } else { &*row };
    let values: Value = serde_json::from_str(row).unwrap_or_default();
    if let Some(chat) = said(ChatTemplate::new(source.clone(), special)) {
        let messages = values["messages"].as_array().cloned().unwrap_or_default();
        let dated = ChatOptions { date: Date::parse("2026-11-30").ok(), ..ChatOptions::default() };
        for options in [ChatOptions::default(), dated] {
            let text = said(chat.render(&messages, &options));
            assert!(text.as_ref().is_none_or(|text| text.len() <= LONGEST_TEXT), "a text without end");
        }
    }
    let Some(scale) = said("1..2".parse::<Scale>()) else { return };
    let own = Template::Own { name: "own.jinja".into(), source };
    let Some(prompt) = said(JudgePrompt::new(own, "so", scale, false, &WORDS)) else { return };
    for example in examples(row) {
        let text = said(prompt.text(&example));
        assert!(text.as_ref().is_none_or(|text| text.len() <= LONGEST_TEXT && !text.trim().is_empty()));
        assert_eq!(said(prompt.text(&example)), text, "the same row, another prompt");
    }
}

/// `config.json` of a model, and the index of its shards.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if text.contains("weight_map") {
        let folder = folder(&[("model.safetensors.index.json", data)]);
        said(jurist::model::directory::read_index(&folder.path().join("model.safetensors.index.json")));
    }
    let Some(config) = said(Config::from_json(&text)) else { return };
    let sizes = |c: &Config| {
        let rows = (c.q_rows(), c.kv_rows());
        (c.vocab_size, c.hidden_size, c.intermediate_size, c.num_hidden_layers, rows, c.parameter_count())
    };
    for dtype in [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16] {
        let again = said(Config::from_json(&config.to_json(dtype))).expect("what was written is read");
        assert_eq!((sizes(&again), again.dtype), (sizes(&config), Some(dtype)));
        assert_eq!((&again.ropes, &again.layers, &again.eos_token_ids), (&config.ropes, &config.layers, &config.eos_token_ids));
    }
    if let Some(other) = said(config.with_vocab_size(7)) {
        assert_eq!(other.vocab_size, 7);
    }
    if config.head_dim <= 1 << 12 {
        assert!(config.inv_freqs().iter().all(|f| f.len() == config.head_dim / 2));
    }
    if config.num_hidden_layers <= 64 {
        let counted: usize = tensors(&config).iter().map(|t| t.len()).sum();
        assert_eq!(counted as u64, config.parameter_count(), "the tensors are not the parameters that were counted");
    }
}

/// `model.safetensors` of a tiny model, opened as a file and read as a stream.
pub fn safetensors(data: &[u8]) {
    let (config, bytes) = (CONFIG.clone(), data.to_vec());
    let (opened, held) = most_bytes(|| Checkpoint::from_files(config, vec![("m.safetensors".into(), Box::new(bytes))]));
    assert!(held <= BYTES_AT_LEAST + BYTES_A_BYTE * data.len(), "{held} bytes for a file of {}", data.len());
    if let Some(checkpoint) = said(opened) {
        read_all(&checkpoint);
    }
    let (pieces, held) = most_bytes(|| [data.len().max(1), 7].map(|piece| streamed(data, piece)));
    assert!(held <= BYTES_AT_LEAST + BYTES_A_BYTE * data.len(), "{held} bytes for a stream of {}", data.len());
    let [whole, cut] = pieces;
    assert_eq!(whole, cut, "a stream in other pieces holds other tensors");
    if let (Some(tensors), Ok(file)) = (whole, SafeTensors::deserialize(data)) {
        for (name, bytes) in tensors {
            assert_eq!(file.tensor(&name).expect("both find the tensor").data(), bytes, "{name}");
        }
    }
}

/// A GGUF file; with a second part, the two files of a model that is split.
pub fn gguf(data: &[u8]) {
    const FIRST: &str = "m-00001-of-00002.gguf";
    let files = match parts(data) {
        [whole, []] => folder(&[(FIRST, whole)]),
        [first, second] => folder(&[(FIRST, first), ("m-00002-of-00002.gguf", second)]),
    };
    let path = files.path().join(FIRST);
    let (opened, held) = most_bytes(|| GgufModel::open(&path));
    assert!(held <= BYTES_AT_LEAST + BYTES_A_BYTE * data.len(), "{held} bytes for a file of {}", data.len());
    let Some(model) = said(opened) else { return };
    read_all(&model);
    for spec in tensors(model.config()).into_iter().filter(|spec| spec.shape.len() == 2) {
        for plane in Plane::ALL {
            said(model.read_plane(&spec.name, plane, 0, &mut [0; 8]));
        }
    }
    if let Some(Some(judge)) = said(model.judge_json()) {
        said(JudgeSettings::from_json(&judge));
    }
    if let Some(tokenizer) = said(model.tokenizer()) {
        said(ChatTemplate::of(&tokenizer));
        if let Some(ids) = said(tokenizer.encode("So the overall score is 4.\n\u{e9} <s>", true)) {
            said(tokenizer.decode(&ids, true));
        }
    }
}

/// A bundle: `manifest.json`, `tokenizer.json`, one shard. Sizes and hashes in the manifest are put right, since no fuzzer
/// guesses a hash.
pub fn bundle(data: &[u8]) {
    let [text, tokenizer, shard] = parts(data);
    let text = String::from_utf8_lossy(text);
    if let Some(manifest) = said(Manifest::parse(&text)) {
        let again = said(Manifest::parse(&manifest.to_json())).expect("what was written is read");
        assert_eq!(again, manifest);
        said(manifest.tokenizer_files(tokenizer.to_vec()));
        said(JudgeSettings::from_json(&manifest.judge_json()));
        assert!(manifest.files().all(|f| Path::new(&f.file).file_name().is_some_and(|name| name == &*f.file)));
    }
    let Ok(mut manifest) = serde_json::from_str::<Value>(&text) else { return };
    let put = |entry: Option<&mut Value>, name: &str, bytes: &[u8]| {
        if let Some(Value::Object(entry)) = entry {
            entry.extend([
                ("file".to_string(), json!(name)),
                ("bytes".to_string(), json!(bytes.len())),
                ("sha256".to_string(), json!(sha256_hex(bytes))),
            ]);
        }
    };
    put(manifest.get_mut("tokenizer"), "tokenizer.json", tokenizer);
    put(manifest.pointer_mut("/shards/0"), "weights-00001.safetensors", shard);
    let manifest = manifest.to_string();
    let files = [("manifest.json", manifest.as_bytes()), ("tokenizer.json", tokenizer), ("weights-00001.safetensors", shard)];
    open_folder(folder(&files).path());
}

/// A PEFT adapter: `adapter_config.json`, `adapter_model.safetensors`; read as bytes, and as a folder beside its base.
pub fn adapter(data: &[u8]) {
    let [config, bytes] = parts(data);
    let text = String::from_utf8_lossy(config);
    said(AdapterFiles::base_name(&text));
    let (parsed, held) = most_bytes(|| AdapterFiles::parse(&text, bytes));
    assert!(held <= BYTES_OF_PATTERNS + BYTES_A_BYTE * data.len(), "{held} bytes for an adapter of {}", data.len());
    if let Some(adapter) = said(parsed) {
        let written = adapter.config_json("base");
        let again = said(AdapterFiles::parse(&written, &adapter.tensor_bytes())).expect("what was written is read");
        assert_eq!((&again.modules, again.tensor_bytes()), (&adapter.modules, adapter.tensor_bytes()));
        if said(adapter.check(&CONFIG)).is_some() {
            for spec in tensors(&CONFIG) {
                adapter.add_to(&spec.name, 0, &mut vec![0.0; spec.len()]);
            }
        }
    }
    let own = [("adapter/adapter_config.json", config), ("adapter/adapter_model.safetensors", bytes)];
    open_folder(&folder(&[&model()[..], &own].concat()).path().join("adapter"));
}

/// A file of rows: its ending in the first line, then its bytes. Read for training and for scoring.
pub fn rows(data: &[u8]) {
    let (folder, path) = data_file(data);
    let lenient = Reader { skip_bad: true, ..Reader::default() };
    let scoring = Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() };
    for reader in [lenient, scoring] {
        let Some(dataset) = said(reader.read_path(&path)) else { continue };
        assert!(!dataset.examples.is_empty(), "a dataset without a row");
        for bad in dataset.bad {
            said::<(), _>(Err(bad));
        }
        let first = Reader { limit: Some(1), ..reader.clone() };
        assert_eq!(said(first.read_path(&path)).map(|d| d.examples), Some(dataset.examples[..1].to_vec()));
        for example in &dataset.examples {
            check_example(example, &reader);
        }
        if let Some(dataset) = said(reader.read_path(&path)) {
            repeated(&dataset, true);
            dataset.examples.iter().for_each(|example| drop(judged_text(example, true)));
        }
    }
    drop(folder);
}

/// A file of columns: its ending in the first line, then its bytes. What is read as rows too has as many of them.
pub fn columns(data: &[u8]) {
    let (folder, path) = data_file(data);
    for names in [&["h", "j"][..], &["h"], &[]] {
        let mut count = 0;
        let mut take = |cells: &RowCells| {
            count += 1;
            for column in 0..names.len() {
                if let Some(number) = said(cells.number(column)).flatten() {
                    assert!(number.is_finite(), "{}: {number}", cells.location());
                }
                cells.text(column);
                said(cells.json(column));
            }
            Ok(())
        };
        if said(read_columns(&path, names, &mut take)).is_none() {
            continue;
        }
        let reader = Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() };
        if let Ok(dataset) = reader.read_path(&path) {
            assert_eq!(count, dataset.examples.len(), "as columns and as rows");
        }
    }
    drop(folder);
}

/// A checkpoint: `trainer_state.json`, then `training_state.safetensors`.
pub fn trainer_state(data: &[u8]) {
    let [state, training] = parts(data);
    let own = [("trainer_state.json", state), ("training_state.safetensors", training)];
    let folder = folder(&[&model()[..], &own].concat());
    let Some(mut checkpoint) = said(open_checkpoint(folder.path())) else { return };
    let written = serde_json::to_string(&checkpoint.state).expect("a state is JSON");
    let again: jurist::train::checkpoint::TrainerState = serde_json::from_str(&written).expect("what was written is read");
    assert_eq!(again, checkpoint.state);
    let cursor = checkpoint.state.jurist.order;
    if let Some(mut order) = said(DataOrder::new(1, 3).and_then(|order| order.at(cursor))) {
        for _ in 0..4 {
            assert!(order.next_rows(2).iter().all(|row| *row < 3));
        }
        assert!(order.epochs().is_finite());
    }
    checkpoint.state.record_metric(0.5, true);
    let parameters: Vec<Parameter> = tensors(&CONFIG).into_iter().map(|t| Parameter { name: t.name, shape: t.shape }).collect();
    said(checkpoint.tensors.expect(&parameters));
    let mut values = Vec::new();
    for parameter in &parameters {
        for part in StatePart::ALL {
            said(checkpoint.tensors.read(part, &parameter.name, &mut values));
        }
    }
}

/// Arguments of the command line, one a line. Nothing is run: they are read, and what they say of training is resolved.
pub fn arguments(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words = std::iter::once("jurist").chain(text.lines());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(refused) => {
            assert!(!refused.to_string().trim().is_empty());
            return;
        }
    };
    let Command::Train(train) = cli.command else { return };
    let mut layers = Layers::default();
    for text in &train.set {
        said(layers.put_set(text));
    }
    said(train.settings.put_into(&mut layers));
    resolved(&layers);
}

/// A settings file of `train`; the same text as a protocol of `compare`, and as `judge.json`.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut layers = Layers::default();
    if said(layers.put_toml(&text, "run.toml")).is_some() {
        resolved(&layers);
    }
    let folder = folder(&[("protocol.toml", data)]);
    said(Protocol::read(&folder.path().join("protocol.toml")));
    if let Some(settings) = said(JudgeSettings::from_json(&text)) {
        assert_eq!(said(JudgeSettings::from_json(&settings.to_json())), Some(settings), "written, and read again");
    }
    if let Some(scale) = said(text.trim().parse::<Scale>()) {
        assert_eq!(said(scale.to_string().parse::<Scale>()), Some(scale.clone()), "written, and read again");
        let middle = scale.min() / 2.0 + scale.max() / 2.0;
        if let Some(split) = said(scale.split(middle)) {
            assert!((split.weights.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-9, "{split:?}");
        }
    }
}

/// The body of a request to each endpoint of `jurist serve`: read, and answered as if every score were equally likely. What has
/// to be JSON is JSON.
pub fn requests(data: &[u8]) {
    let (answers, held) = most_bytes(|| (SERVER.chat(data), SERVER.completion(data), SERVER.rows(data)));
    assert!(held <= BYTES_OF_PATTERNS + BYTES_A_BYTE * data.len(), "{held} bytes for a body of {}", data.len());
    let (chat, completion, rows) = answers;
    match chat {
        Err(message) => refused(&message),
        Ok(answers) => {
            assert!(!answers.is_empty());
            for (text, is_json) in answers {
                let parsed = serde_json::from_str::<serde_json::Map<String, Value>>(&text);
                assert!(!is_json || parsed.is_ok(), "{text} is no JSON object");
            }
        }
    }
    completion.map_or_else(|message| refused(&message), |answers| assert!(!answers.is_empty()));
    match rows {
        Err(message) => refused(&message),
        Ok((good, bad)) => {
            assert!(good + bad.len() > 0);
            bad.iter().for_each(|message| refused(message));
        }
    }
}

/// The message of an error that a client gets as JSON.
fn refused(message: &str) {
    assert!(!message.trim().is_empty(), "an empty message");
    let length = message.chars().count();
    assert!(length <= 2 * LONGEST_MESSAGE, "a message of {length} characters: {}", message.chars().take(300).collect::<String>());
}

/// A server whose judge reads the columns `rubric` and `response`.
static SERVER: LazyLock<MockServer> = LazyLock::new(|| {
    let own = Template::Own { name: "own".into(), source: "rubric {{ rubric }} response {{ response }}".into() };
    let scale: Scale = "1..2".parse().expect("a scale");
    let settings = JudgeSettings::new(scale, "a", &own, false).with_chains_up_to(8);
    MockServer::new(Prompts::new(settings, WORDS.clone()).expect("a judge"))
});

const ROW: &str = r#"{"messages": [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "Two."}],
"prompt": "How many?", "instruction": "Count.", "response": "Two.", "score": 4, "rubric": {"1": "bad"}, "n": [1, 2.5, null]}"#;

/// Any error of the crate, as the command line would end with it.
struct Failure(CliError);

macro_rules! failures {
    ($($error:ty => $within:expr),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure($within(error).into())
            }
        })*
    };
}

failures! {
    JudgeError => JudgeError::from, ModelError => JudgeError::from, TextError => JudgeError::from, DataError => DataError::from,
    TrainError => TrainError::from, SettingError => TrainError::from, CompareError => CompareError::from
}

/// The value of a result; of an error the message, as the command line says it, is checked.
fn said<T, E: Into<Failure>>(result: Result<T, E>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.into().0.message().expect("an error has a message");
            bounded(&message);
            let control = message.chars().find(|c| c.is_control() && !"\n\t".contains(*c));
            assert_eq!(control, None, "a control character in {message:?}");
            None
        }
    }
}

fn bounded(message: &str) {
    assert!(!message.trim().is_empty(), "an empty message");
    let length = message.chars().count();
    assert!(length <= LONGEST_MESSAGE, "a message of {length} characters: {}", message.chars().take(300).collect::<String>());
}

/// The files of an input; those that are missing are empty, the last takes the rest.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(data);
    std::array::from_fn(|at| {
        let from = rest.take().unwrap_or_default();
        let end = (at + 1 < N).then(|| from.windows(BETWEEN.len()).position(|w| w == BETWEEN)).flatten();
        rest = end.map(|end| &from[end + BETWEEN.len()..]);
        &from[..end.unwrap_or(from.len())]
    })
}

/// The files of the tiny model.
fn model() -> Vec<(&'static str, &'static [u8])> {
    MODEL.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect()
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        path.parent().map(std::fs::create_dir_all).transpose().expect("a folder in it");
        std::fs::write(path, bytes).expect("a file in it");
    }
    folder
}

/// A data file whose name has the ending that the first line says.
fn data_file(data: &[u8]) -> (tempfile::TempDir, PathBuf) {
    const ENDINGS: [&str; 7] = ["jsonl", "json", "csv", "tsv", "csv.gz", "jsonl.gz", "jsonl.zst"];
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let ending = ENDINGS.into_iter().find(|ending| ending.as_bytes() == &data[..end]);
    let bytes = if ending.is_some() { &data[end + 1..] } else { data };
    let name = format!("a.{}", ending.unwrap_or("jsonl"));
    let folder = folder(&[(&name, bytes)]);
    let path = folder.path().join(name);
    (folder, path)
}

fn examples(row: &str) -> Vec<Example> {
    let reader = Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() };
    let line = row.replace(['\n', '\r'], " ");
    said(reader.read_str("row.jsonl", &line)).map(|dataset| dataset.examples).unwrap_or_default()
}

/// What a judge reads in a row is what it reads in the row written again; numbers are finite, texts are not blank.
fn check_example(example: &Example, reader: &Reader) {
    let record = &example.record;
    assert!(record.score.is_none_or(f64::is_finite) && record.scores.iter().all(|score| score.is_finite()), "{record:?}");
    assert!(record.chain.as_ref().is_none_or(|chain| !chain.trim().is_empty()), "{record:?}");
    let line = serde_json::to_string(&example.row.fields).expect("a row is JSON");
    let again = said(reader.read_str("again.jsonl", &line)).expect("what was written is read");
    assert_eq!(again.examples[0].row.fields, example.row.fields);
    assert_eq!(again.examples[0].record, *record);
}

/// All tensors of a checkpoint: each is finite or refused.
fn read_all(source: &dyn TensorSource) {
    for spec in tensors(source.config()) {
        // A model of a config that a stranger wrote may be large; its file is not.
        let mut values = vec![0.0; spec.len().min(1 << 16)];
        if said(source.read(&spec.name, 0, &mut values)).is_some() {
            assert!(values.iter().all(|value| value.is_finite()), "{}", spec.name);
        }
    }
}

/// The tensors of a safetensors file that comes in pieces of so many bytes.
fn streamed(data: &[u8], piece: usize) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut reader = ShardReader::new("s.safetensors", data.len() as u64);
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for bytes in data.chunks(piece) {
        let pushed = reader.push(bytes, |piece| {
            found.entry(piece.tensor.to_string()).or_default().extend_from_slice(piece.bytes);
            Ok::<(), ModelError>(())
        });
        said(pushed)?;
    }
    said(reader.finish())?;
    Some(found)
}

/// A model's folder as every command opens it: tokenizer, settings, weights.
fn open_folder(path: &Path) {
    let Some(folder) = said(ModelFolder::open(path)) else { return };
    said(folder.tokenizer());
    if let Some(Some(text)) = said(folder.judge_json()) {
        said(JudgeSettings::from_json(&text));
    }
    said(folder.config_alone());
    if let Some(weights) = said(folder.weights()) {
        said(weights.merged()).iter().for_each(|source| read_all(&**source));
    }
}

/// Settings that resolve are written and read again.
fn resolved(layers: &Layers) {
    said(layers.resolve_to_plan());
    let Some(config) = said(layers.resolve()) else { return };
    said(config.scale());
    // How a run was continued is no part of what it is.
    let config = TrainConfig { resume_from_checkpoint: Resume::default(), ..config };
    let written = config.to_toml().expect("a config is TOML");
    let mut again = Layers::default();
    again.put_toml(&written, "again.toml").expect("what was written is read");
    assert_eq!(said(again.resolve()), Some(config));
}

/// A Llama of a few dozen numbers.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let json = json!({
        "model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "tie_word_embeddings": true,
        "max_position_embeddings": 16, "torch_dtype": "float32",
    });
    Config::from_json(&json.to_string()).expect("a config")
});

/// A tokenizer of a few words.
static WORDS: LazyLock<Tokenizer> = LazyLock::new(|| {
    let special = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
    word_level(&["a", "1", "2", "3", "4", "5"], &special).expect("a tokenizer")
});

/// The files of that model with that tokenizer, by their names.
static MODEL: LazyLock<Files> = LazyLock::new(|| {
    let specs = tensors(&CONFIG);
    let zeros: Vec<Vec<u8>> = specs.iter().map(|spec| vec![0; 4 * spec.len()]).collect();
    let view = |(spec, zeros): (&TensorSpec, _)| TensorView::new(Stored::F32, spec.shape.clone(), zeros).expect("a tensor");
    let views = specs.iter().map(|spec| &spec.name).zip(specs.iter().zip(&zeros).map(|(spec, zeros)| view((spec, zeros))));
    let weights = ::safetensors::serialize(views, None).expect("a file");
    let mut files = WORDS.files().clone();
    files.extend([("config.json".into(), CONFIG.to_json(WeightDtype::F32).into_bytes()), ("model.safetensors".into(), weights)]);
    files
});
