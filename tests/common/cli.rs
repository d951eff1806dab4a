//! What the tests of the command line share: the program, a tiny judging task, and folders to run in.
//!
//! Everything is generated: rows of the synthetic task, a word-level tokenizer, a Llama of a few thousand parameters.

#![allow(dead_code, unused_imports)] // each test binary uses a part

#[allow(clippy::duplicate_mod)] // tests that use both helpers have it twice
#[path = "skip.rs"]
mod skip;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jurist::experiments::synthetic::{SCORE_PHRASE, ScoreScale, Split, SyntheticTask, TaskVersion, vocabulary};
use jurist::text::{SpecialTokens, word_level};
use serde_json::{Value, json};
pub use skip::skip;

/// Where distributions put Chromium, and with it SwiftShader's Vulkan driver.
const SWIFTSHADER: [&str; 3] = [
    "/usr/lib/chromium/vk_swiftshader_icd.json",
    "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
    "/opt/google/chrome/vk_swiftshader_icd.json",
];

/// The program, with none of the caller's settings but `JURIST_ADAPTER`.
pub fn jurist(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jurist"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("JURIST_") && n != "JURIST_ADAPTER") {
            command.env_remove(name);
        }
    }
    let swiftshader = std::env::var("JURIST_ADAPTER").is_ok_and(|a| a.to_lowercase().contains("swiftshader"));
    if let (true, Some(driver)) = (swiftshader, SWIFTSHADER.iter().find(|p| Path::new(p).exists())) {
        command.env("VK_DRIVER_FILES", driver).env("VK_ICD_FILENAMES", driver);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a finished command left.
#[derive(Debug)]
pub struct Done {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Ctrl-C as an argument of `kill`; where tests run in the background of a shell, it is ignored, and programs that they start
/// ignore it as well: then what asks a program to end.
pub fn ctrl_c() -> &'static str {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    if mask.is_some_and(|mask| mask & 2 != 0) { "-TERM" } else { "-INT" }
}

/// Runs to the end.
pub fn finish(mut command: Command) -> Done {
    command.output().expect("jurist runs").into()
}

/// Runs to the end, which must be a good one.
#[track_caller]
pub fn succeed(command: Command) -> Done {
    let shown = format!("{command:?}");
    let done = finish(command);
    assert_eq!(done.code, Some(0), "{shown}\n{}", done.err);
    done
}

pub fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
    std::fs::write(&path, text).unwrap();
    path.as_ref().to_path_buf()
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A Llama that trains a step in a fraction of a second on any adapter.
pub fn tiny_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 97, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "hidden_act": "silu", "max_position_embeddings": 128, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
        "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": true, "torch_dtype": "float32",
        "bos_token_id": 1, "eos_token_id": null,
    })
}

/// A folder with `config.json`, `words/` (a tokenizer), `train.jsonl` and `dev.jsonl`.
pub struct Task {
    pub dir: tempfile::TempDir,
}

impl Task {
    /// `train` and `dev` rows; with `chains`, training rows carry a chain of thought.
    pub fn new(train: usize, dev: usize, chains: bool) -> Self {
        let task = Task { dir: tempfile::tempdir().unwrap() };
        task.write("config.json", tiny_config().to_string());
        std::fs::create_dir(task.at("words")).unwrap();
        let special = SpecialTokens {
            unk: Some("<pad>".into()),
            pad: Some("<pad>".into()),
            bos: Some("<bos>".into()),
            add_bos: true,
            ..Default::default()
        };
        word_level(&vocabulary(ScoreScale::OneToFive), &special).unwrap().save_to(&task.at("words")).unwrap();
        task.write("train.jsonl", rows(Split::Train, train, chains));
        task.write("dev.jsonl", rows(Split::Validation, dev, chains));
        task
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        write(self.at(name), text)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// `jurist`, run in this folder.
    pub fn jurist(&self, args: &[&str]) -> Command {
        let mut command = jurist(args);
        command.current_dir(self.dir.path());
        command
    }

    /// `jurist train` from scratch into `output`, with `more` flags.
    pub fn train(&self, output: &str, more: &[&str]) -> Command {
        let mut args =
            vec!["train", "--init", "config.json", "--tokenizer", "words", "--train-file", "train.jsonl", "--output-dir", output];
        args.extend(["--phrase", SCORE_PHRASE, "--learning-rate", "3e-3", "--seed", "7"]);
        args.extend(more);
        self.jurist(&last_of_each(&args))
    }
}

/// Of a flag that is given twice, the last.
pub fn last_of_each<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let starts: Vec<usize> = (0..args.len()).filter(|i| args[*i].starts_with("--")).collect();
    let again = |at: usize| args[at + 1..].contains(&args[at]);
    let group = |at: usize| &args[at..starts.iter().copied().find(|s| *s > at).unwrap_or(args.len())];
    let first = starts.first().copied().unwrap_or(args.len());
    args[..first].iter().copied().chain(starts.iter().filter(|s| !again(**s)).flat_map(|s| group(*s)).copied()).collect()
}

fn rows(split: Split, count: usize, chains: bool) -> String {
    let items = SyntheticTask::new(TaskVersion::BASE, 11).items(split, count);
    let row = |mut row: Value| {
        if !chains {
            row.as_object_mut().unwrap().shift_remove("chain");
        }
        row.to_string() + "\n"
    };
    items.iter().map(|item| row(item.to_row())).collect()
}

/// The lines of a JSON Lines text.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}
