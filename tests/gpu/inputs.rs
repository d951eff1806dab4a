//! What the program says to input that it cannot use: one line that names the thing and what to do, an exit code, and
//! nothing lost. Never a panic.

use std::process::Command;

use crate::cli::{Done, Task, finish, last_of_each, skip, succeed, tiny_config};
use serde_json::{Value, json};

/// A folder with data, and `judge/`: a trained one.
struct Ground {
    task: Task,
    failures: Vec<String>,
    cases: usize,
}

/// The weights of `judge/model.safetensors`, changed: tensor by tensor as f32.
fn change_weights(file: &std::path::Path, change: impl Fn(&str, &mut Vec<f32>)) {
    let bytes = std::fs::read(file).unwrap();
    let found = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in found.tensors() {
        let mut values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        change(&name, &mut values);
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((name, view.shape().to_vec(), data));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

impl Ground {
    fn new() -> Self {
        let task = Task::new(6, 4, false);
        succeed(task.train("judge", &["--max-steps", "2", "--save-steps", "1"]));
        Ground { task, failures: Vec::new(), cases: 0 }
    }

    /// A copy of the judge's folder, to be spoilt.
    fn model(&self, name: &str) -> std::path::PathBuf {
        let dir = self.task.at(name);
        std::fs::create_dir(&dir).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "judge.json"] {
            std::fs::copy(self.task.at("judge").join(file), dir.join(file)).unwrap();
        }
        dir
    }

    /// A model whose config says something else.
    fn config(&self, name: &str, change: Value) {
        let dir = self.model(name);
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    }

    /// `jurist train` from the model in `model`.
    fn starting_from(&self, model: &str, more: &[&str]) -> Command {
        let args =
            ["train", "--model-name-or-path", model, "--train-file", "train.jsonl", "--output-dir", "out", "--phrase", "score"];
        self.task.jurist(&last_of_each(&[&args[..], &["--max-steps", "1"], more].concat()))
    }

    /// `jurist train` from scratch.
    fn scratch(&self, more: &[&str]) -> Command {
        self.task.train("out", &[&["--max-steps", "1"], more].concat())
    }

    fn score(&self, model: &str, more: &[&str]) -> Command {
        self.task.jurist(&last_of_each(&[&["score", "--model", model, "--input", "dev.jsonl"], more].concat()))
    }

    /// The command must end with `code` and one line that has all of `says`.
    fn case(&mut self, name: &str, command: Command, code: i32, says: &[&str]) -> Done {
        let done = finish(command);
        self.judge(name, &done, code, says);
        done
    }

    fn judge(&mut self, name: &str, done: &Done, code: i32, says: &[&str]) {
        self.cases += 1;
        let told = done.err.find("error: ").map_or("", |at| &done.err[at..]);
        println!("{name}\n    [{:?}] {}", done.code, told.trim_end().replace('\n', "\n    "));
        let mut faults = Vec::new();
        if done.code != Some(code) {
            faults.push(format!("exit code {:?}, not {code}", done.code));
        }
        faults.extend(says.iter().filter(|s| !told.contains(**s)).map(|s| format!("does not say {s:?}")));
        if done.err.contains("panicked") || !done.out.is_empty() {
            faults.push("a panic, or output before the error".into());
        }
        if self.task.at("out").is_dir() {
            faults.push("an output folder was made".into());
            std::fs::remove_dir_all(self.task.at("out")).unwrap();
        }
        if !faults.is_empty() {
            self.failures.push(format!("{name}: {}\n{}", faults.join("; "), done.err));
        }
    }

    fn end(self) {
        println!("{} malformed inputs", self.cases);
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
    }
}

#[test]
fn models() {
    let mut g = Ground::new();
    g.case("no such model", g.starting_from("nowhere", &[]), 1, &["model nowhere: the directory does not exist", "or a bundle"]);

    let dir = g.model("truncated");
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    std::fs::write(dir.join("model.safetensors"), &bytes[..bytes.len() - 100]).unwrap();
    g.case(
        "truncated weights",
        g.starting_from("truncated", &[]),
        1,
        &["model.safetensors is damaged or incomplete", "copy it again"],
    );
    g.case("truncated weights, score", g.score("truncated", &[]), 1, &["model.safetensors is damaged or incomplete"]);

    std::fs::write(g.model("header").join("model.safetensors"), b"not safetensors at all").unwrap();
    g.case("weights that are none", g.starting_from("header", &[]), 1, &["model.safetensors", "damaged"]);

    std::fs::remove_file(g.model("weightless").join("model.safetensors")).unwrap();
    g.case("no weights", g.starting_from("weightless", &[]), 1, &["no weights in weightless"]);

    g.config("shape", json!({"intermediate_size": 40}));
    g.case("weights of another shape", g.starting_from("shape", &[]), 1, &["has shape [24, 16]; config.json asks for [40, 16]"]);

    g.config("layers", json!({"num_hidden_layers": 3}));
    g.case(
        "a layer too few",
        g.starting_from("layers", &[]),
        1,
        &["tensors that config.json asks for are missing", "model.layers.2."],
    );

    let spoil = |v: &mut Vec<f32>, x: f32| v[3] = x;
    change_weights(&g.model("nan").join("model.safetensors"), |n, v| {
        if n.contains("layers.1.mlp.up") {
            spoil(v, f32::NAN)
        }
    });
    let nan = ["`model.layers.1.mlp.up_proj.weight` holds NaN at element 3", "not usable"];
    g.case("NaN in the weights", g.starting_from("nan", &[]), 1, &nan);
    g.case("NaN in the weights, score", g.score("nan", &[]), 1, &nan);

    let yarn = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
    g.config("yarn", yarn);
    g.case("yarn", g.starting_from("yarn", &[]), 1, &["rope_scaling", "yarn", "supported:"]);
    for (key, value) in [("attention_bias", json!(true)), ("hidden_act", json!("gelu")), ("num_local_experts", json!(8))] {
        g.config(key, json!({key: value}));
        g.case(key, g.starting_from(key, &[]), 1, &["config.json", &format!("`{key}` is"), "not supported; supported:"]);
    }
    g.config("gpt", json!({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}));
    g.case("an unknown architecture", g.starting_from("gpt", &[]), 1, &["gpt2", "llama"]);

    let dir = g.model("broken");
    std::fs::write(dir.join("config.json"), "{\"hidden_size\": ").unwrap();
    g.case("a config that is no JSON", g.starting_from("broken", &[]), 1, &["config.json", "JSON"]);

    std::fs::write(g.model("tokenizer").join("tokenizer.json"), "{}").unwrap();
    g.case(
        "a tokenizer that is none",
        g.starting_from("tokenizer", &[]),
        1,
        &["`tokenizer/tokenizer.json`", "expected a Hugging Face fast tokenizer"],
    );

    std::fs::write(g.model("settings").join("judge.json"), "{\"format\": 1}").unwrap();
    g.case("a damaged judge.json", g.score("settings", &[]), 1, &["judge.json: missing field", "train the judge anew"]);
    std::fs::create_dir(g.task.at("empty")).unwrap();
    g.case("a folder that is no model", g.score("empty", &[]), 1, &["model empty: there is no config.json in it"]);
    g.case("golden values from nowhere", g.task.jurist(&["doctor", "--against", "nowhere"]), 1, &["nowhere"]);

    // From scratch.
    g.task.write(
        "small.json",
        json!({"vocab_size": 50})
            .as_object()
            .unwrap()
            .iter()
            .fold(tiny_config(), |mut c, (k, v)| {
                c[k] = v.clone();
                c
            })
            .to_string(),
    );
    let says = ["the tokenizer has 97 tokens, but the model only 50 embeddings"];
    g.case("a vocabulary smaller than the tokenizer's", g.scratch(&["--init", "small.json"]), 1, &says);
    g.case("no such config", g.scratch(&["--init", "no.json"]), 1, &["cannot read the init config no.json"]);
    g.task.write("headless.json", "{\"model_type\": \"llama\"}");
    g.case("a config without sizes", g.scratch(&["--init", "headless.json"]), 1, &["headless.json: `hidden_size` is missing"]);
    g.end();
}

#[test]
fn rows() {
    let mut g = Ground::new();
    let row = "{\"prompt\": \"rubric tone major plain response voice good judge\", \"score\": 3}\n";
    let cases: &[(&str, &[u8], &[&str])] = &[
        ("empty.jsonl", b"", &["empty.jsonl: no rows in it", "one JSON object a line"]),
        ("blank.jsonl", b"\n \n", &["blank.jsonl: no rows in it"]),
        (
            "latin1.jsonl",
            b"{\"prompt\": \"caf\xe9\", \"score\": 3}\n",
            &["latin1.jsonl:1: byte 15 (0xe9) is no UTF-8", "save the file as UTF-8"],
        ),
        ("utf16.jsonl", b"\xff\xfe{\0}\0", &["UTF-16", "save it as UTF-8"]),
        ("text.jsonl", b"This is no JSON.\n", &["text.jsonl:1: not JSON", "each line must be one JSON object"]),
        ("cut.json", b"[{\"prompt\": \"x\", \"score\": 1}", &["cut.json:1: the array is not closed"]),
        ("list.jsonl", b"[1, 2]\n", &["list.jsonl:1", "a row must be a JSON object"]),
        ("gzip.jsonl.gz", b"\x1f\x8b\x08\x00garbage", &["gzip.jsonl.gz: damaged gzip archive", "download the file again"]),
        ("cut.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56", &["cut.jsonl.gz: damaged gzip archive"]),
        ("page.jsonl", b"<!DOCTYPE html>\n<html>", &["page.jsonl: a web page (HTML or XML), not rows", "error or login page"]),
        ("lfs.jsonl", b"version https://git-lfs", &["lfs.jsonl: a Git LFS pointer", "git lfs pull"]),
        (
            "rows.jsonl.zst",
            b"\x28\xb5\x2f\xfd\0",
            &["rows.jsonl.zst: damaged zstd archive (it ends too early)", "copy or download the file again"],
        ),
        ("sheet.csv", b"PK\x03\x04\0", &["sheet.csv: a zip archive or a spreadsheet", "save the sheet as CSV"]),
        ("header.csv", b"prompt,score\n", &["header.csv: no rows in it", "CSV with a header"]),
        ("ragged.csv", b"prompt,score\nok,2\nok,ok,2\n", &["ragged.csv:3: 3 cells, where the header names 2 columns", "quote"]),
        ("quote.csv", b"prompt,score\n\"ok,2\n", &["quote.csv:2: the row opens a quote that is never closed"]),
        ("latin.csv", b"prompt,score\n\xfc,2\n", &["latin.csv:2: byte 13 (0xfc) is no UTF-8", "save the file as UTF-8"]),
        ("nan.csv", b"prompt,score\nok,NaN\n", &["nan.csv:2: field `score`: the text \"NaN\"", "make it a finite number"]),
        ("nolabel.csv", b"prompt,score\nok,\n", &["nolabel.csv:2: field `score`: an empty text"]),
        ("noheader.csv", b"ok,2\n", &["noheader.csv:1: the header holds a number", "name the columns"]),
        (
            "truth.jsonl",
            b"{\"prompt\": \"ok\", \"reward_model\": {\"ground_truth\": \"yes\"}}\n",
            &["truth.jsonl:1: field `reward_model.ground_truth`: the text \"yes\"", "make it a finite number"],
        ),
        ("nan.jsonl", b"{\"prompt\": \"x\", \"score\": NaN}\n", &["nan.jsonl:1", "JSON has no NaN"]),
        (
            "nantext.jsonl",
            b"{\"prompt\": \"x\", \"score\": \"NaN\"}\n",
            &["nantext.jsonl:1: field `score`", "make it a finite number"],
        ),
        (
            "abc.jsonl",
            b"{\"prompt\": \"x\", \"score\": \"abc\"}\n",
            &["abc.jsonl:1: field `score`: the text \"abc\"", "make it a finite number"],
        ),
        ("null.jsonl", b"{\"prompt\": \"x\", \"score\": null}\n", &["null.jsonl:1: field `score`: null", "--label-column"]),
        (
            "other.jsonl",
            b"{\"prompt\": \"x\", \"grade\": 2}\n",
            &["field `score`: no such column", "--label-column; the row has `prompt`, `grade`"],
        ),
        (
            "noprompt.jsonl",
            b"{\"question\": \"x\", \"score\": 2}\n",
            &["noprompt.jsonl:1: the row has no `instruction` with a `response`"],
        ),
        ("number.jsonl", b"{\"prompt\": 7, \"score\": 2}\n", &["field `prompt`: the number 7"]),
        (
            "high.jsonl",
            b"{\"prompt\": \"ok\", \"score\": 7}\n",
            &["high.jsonl:1: label 7 is outside the scale's 1 to 5", "--skip-bad"],
        ),
        (
            "both.jsonl",
            b"{\"prompt\": \"ok\", \"chain\": \"a\", \"feedback\": \"b\", \"score\": 2}\n",
            &["could be the chain of thought too", "--chain-column"],
        ),
    ];
    for (file, bytes, says) in cases {
        g.task.write(file, bytes);
        g.case(file, g.scratch(&["--train-file", file]), 1, says);
    }
    g.task.write("second.jsonl", format!("{row}{{\"prompt\": \"ok\"}}\n"));
    g.case("the second row", g.scratch(&["--train-file", "second.jsonl"]), 1, &["second.jsonl:2: field `score`"]);
    g.case(
        "all bad",
        g.scratch(&["--train-file", "abc.jsonl", "--skip-bad"]),
        1,
        &["abc.jsonl: all 1 rows are bad", "the first is:"],
    );
    g.case(
        "all off the scale",
        g.scratch(&["--train-file", "high.jsonl", "--skip-bad"]),
        1,
        &["no training rows are left", "label 7"],
    );
    g.case("no such file", g.scratch(&["--train-file", "no.jsonl"]), 1, &["no.jsonl: No such file"]);
    g.case("a folder", g.scratch(&["--train-file", "words"]), 1, &["words/tokenizer"]);
    g.case(
        "all too long",
        g.scratch(&["--max-length", "5"]),
        1,
        &["no training rows are left", "6 rows of train.jsonl are longer than 5 tokens", "raise max_length"],
    );
    let long = format!("{{\"prompt\": \"{}\", \"score\": 3}}\n", "ok ".repeat(300));
    g.task.write("long.jsonl", &long);
    g.case(
        "longer than the context",
        g.scratch(&["--train-file", "long.jsonl"]),
        1,
        &["1 rows of long.jsonl are longer than 128"],
    );
    g.case(
        "nothing to evaluate on",
        g.scratch(&["--eval-file", "long.jsonl"]),
        1,
        &["long.jsonl: no row of the eval_file is left", "long.jsonl are longer than 128"],
    );
    g.case("no such chain", g.scratch(&["--chain-column", "why"]), 1, &["field `why`: no such column"]);

    g.case("no file to score", g.score("judge", &["--input", "no.jsonl"]), 1, &["no.jsonl: No such file"]);
    g.case(
        "eval of rows that are not scored",
        g.task.jurist(&["eval", "dev.jsonl"]),
        1,
        &["dev.jsonl:1", "no object `judge`", "jurist score"],
    );
    let high = ["eval", "--model", "judge", "--input", "high.jsonl"];
    g.case("eval of labels off the scale", g.task.jurist(&high), 1, &["high.jsonl:1: the label 7 is outside the scale 1 to 5"]);
    g.end();
}

#[test]
fn settings() {
    let mut g = Ground::new();
    let config = |g: &Ground, text: &str| {
        g.task.write("run.toml", text);
        g.scratch(&["--config", "run.toml"])
    };
    g.case(
        "an unknown key",
        config(&g, "learning_rat = 1e-3\n"),
        2,
        &["run.toml: unknown setting `learning_rat`; did you mean `learning_rate`?"],
    );
    g.case("no TOML", config(&g, "seed = = 1\n"), 2, &["run.toml is not valid TOML"]);
    g.case("another type", config(&g, "num_train_epochs = [3]\n"), 2, &["run.toml: num_train_epochs = [...]: expected a number"]);
    g.case("no config file", g.scratch(&["--config", "no.toml"]), 2, &["cannot read the config file no.toml"]);
    g.case(
        "a rate out of range",
        g.scratch(&["--learning-rate", "1e30"]),
        2,
        &["--learning-rate", "a number above 0 and at most 10"],
    );
    g.case("an empty batch", g.scratch(&["--per-device-train-batch-size", "0"]), 2, &["a whole number from 1 to 65536"]);
    g.case("a word that is none", g.scratch(&["--lr-scheduler-type", "cosin"]), 2, &["did you mean `cosine`?"]);
    g.case("an unknown flag", g.scratch(&["--lerning-rate", "1"]), 2, &["unexpected argument '--lerning-rate'"]);
    let mut env = g.scratch(&[]);
    env.env("JURIST_MAX_LENGTH", "long");
    g.case("the environment", env, 2, &["JURIST_MAX_LENGTH: max_length = long: expected a whole number"]);
    g.case("model and scratch", g.scratch(&["--model-name-or-path", "judge"]), 2, &["model_name_or_path and init are both set"]);
    g.case("a best without an eval_file", g.scratch(&["--load-best-model-at-end"]), 2, &["needs an eval_file"]);

    g.case("a scale upside down", g.scratch(&["--scale", "5..1"]), 2, &["scale `5..1`", "as in 1..5"]);
    g.case("one score", g.scratch(&["--scale", "3"]), 2, &["at least two"]);
    g.case("a score twice", g.scratch(&["--scale", "1,2,2"]), 2, &["`2` is there twice"]);
    g.case("values that are none", g.scratch(&["--scale", "a,b=0,inf"]), 2, &["values must be finite"]);
    let bpe = ["train", "--init", "config.json", "--vocab-size", "300", "--train-file", "train.jsonl", "--output-dir", "out"];
    let begun = g.scratch(&["--scale", "1,1 2,3=1,2,3"]);
    g.case("a score that begins another", begun, 1, &["score `1`", "beginning of another score", "set eos_token"]);
    g.case("a score that is no word", g.scratch(&["--scale", "0..5"]), 1, &["score `0`", "not in the tokenizer's vocabulary"]);
    g.case("a score of two tokens, score", g.score("judge", &["--scale", "1..6"]), 1, &["score `6`"]);
    g.case(
        "a small vocabulary",
        g.task.jurist(&[&bpe[..4], &["100"], &bpe[5..]].concat()),
        1,
        &["a vocabulary of 100 has no room", "at least"],
    );

    g.case("no such template", g.scratch(&["--template", "no.jinja"]), 1, &["prompt template no.jinja", "a Jinja file"]);
    g.task.write("bad.jinja", "{% if %}");
    g.case(
        "a template that is none",
        g.scratch(&["--template", "bad.jinja"]),
        1,
        &["prompt template bad.jinja", "correct the Jinja there"],
    );
    g.task.write("other.jinja", "{{ answer }}");
    g.case(
        "a template of other rows",
        g.scratch(&["--template", "other.jinja"]),
        1,
        &["train.jsonl:1: prompt template other.jinja: undefined value (line 1", "the row's columns are id, prompt"],
    );
    g.case("the judge's template", g.scratch(&["--template", "judge"]), 1, &["the row has no `instruction` with a `response`"]);
    g.case("no chat template", g.scratch(&["--chat", "always"]), 1, &["the tokenizer has none", "turn the chat frame off"]);

    g.case(
        "resume from nowhere",
        g.scratch(&["--resume", "nowhere/checkpoint-3"]),
        1,
        &["cannot read nowhere/checkpoint-3/trainer_state.json"],
    );
    let state = g.task.at("judge/checkpoint-2/training_state.safetensors");
    let bytes = std::fs::read(&state).unwrap();
    std::fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    let said = ["training_state.safetensors", "the header promises"];
    g.case("half a checkpoint", g.scratch(&["--resume", "judge/checkpoint-2"]), 1, &said);
    g.task.write("file", "");
    g.case("the output is a file", g.scratch(&["--output-dir", "file"]), 1, &["cannot list file", "Not a directory"]);
    g.case(
        "no folder for the scores",
        g.score("judge", &["--output", "nowhere/scored.jsonl"]),
        1,
        &["cannot write nowhere/scored.jsonl"],
    );
    g.case(
        "the scores' file is a folder",
        g.score("judge", &["--output", "words"]),
        1,
        &["cannot write words", "is a directory"],
    );
    if cfg!(target_os = "linux") {
        g.case(
            "a folder nobody can write",
            g.scratch(&["--output-dir", "/proc/jurist/out"]),
            1,
            &["cannot create /proc/jurist/out"],
        );
    }
    g.end();
}

#[test]
fn no_adapter() {
    let mut g = Ground::new();
    let mut blind = g.scratch(&[]);
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES"] {
        blind.env(name, "/nonexistent");
    }
    blind.env_remove("JURIST_ADAPTER");
    let done = finish(blind);
    if !cfg!(target_os = "linux") || done.code == Some(0) {
        let adapter = done.err.lines().next().unwrap_or_default();
        return skip(format!("an adapter answers even without Vulkan and EGL: {adapter}"));
    }
    g.judge("no adapter", &done, 1, &["no GPU adapter was found", "apt-get install mesa-vulkan-drivers"]);
    g.end();
}

#[test]
fn machines() {
    let mut g = Ground::new();
    let says = ["no adapter matches `voodoo`; the adapters here are:", "0: ", "--adapter"];
    g.case("an unknown adapter", g.scratch(&["--adapter", "voodoo"]), 1, &says);
    g.case("an adapter number too high", g.score("judge", &["--adapter", "99"]), 1, &["no adapter matches `99`"]);

    // A binding that no adapter here has, and more buffers than memory.
    let large = |g: &Ground, name: &str, changes: Value| {
        let mut config = tiny_config();
        changes.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
        g.task.write(name, config.to_string());
        g.scratch(&["--init", name])
    };
    let wide = json!({"vocab_size": 34_000_000}); // logits of one row take more than a binding of 128 MiB
    // The table would be cut; the logits of one row cannot be.
    g.case("a tensor too large", large(&g, "wide.json", wide), 1, &["logits of a chunk", "use a smaller model"]);
    let deep = json!({"hidden_size": 2048, "intermediate_size": 4096, "num_attention_heads": 16, "head_dim": 128, "num_hidden_layers": 4000});
    if cfg!(target_os = "linux") {
        g.case("more than the memory", large(&g, "deep.json", deep), 1, &["GiB of memory", "a smaller model"]);
    }
    g.end();
}

/// A model on the edge: the gradient overflows, steps are skipped, the run ends, and what was there stays.
#[test]
fn gradients_that_are_not_finite() {
    let mut g = Ground::new();
    change_weights(&g.model("edge").join("model.safetensors"), |name, values| {
        if name == "model.norm.weight" {
            values.iter_mut().for_each(|v| *v = 3e38);
        }
    });
    let more = ["--max-steps", "20", "--max-nonfinite-steps", "3", "--save-steps", "1", "--per-device-train-batch-size", "2"];
    let done = finish(g.starting_from("edge", &[&more[..], &["--output-dir", "edge-out"]].concat()));
    let says = ["the gradient was not finite in 3 steps in a row, the last one step 3", "Lower learning_rate"];
    g.judge("a gradient that is not finite", &done, 1, &says);
    let weights = |dir: &str| {
        let mut all = Vec::new();
        let bytes = std::fs::read(g.task.at(dir).join("model.safetensors")).unwrap();
        // Names and values; the order in the file is the writer's.
        for (name, view) in safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors() {
            all.push((name, view.data().to_vec()));
        }
        all.sort();
        all
    };
    assert!(weights("edge") == weights("edge-out/checkpoint-2"), "a skipped step changed the model");
    let log = crate::cli::lines(&g.task.read("edge-out/metrics.jsonl"));
    assert_eq!(log.iter().map(|l| l["nonfinite_steps"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    g.end();
}

/// A disk that fills up: the message says so, and the last whole checkpoint stays.
#[cfg(target_os = "linux")]
#[test]
fn full_disk() {
    let mut g = Ground::new();
    std::fs::create_dir(g.task.at("disk")).unwrap();
    std::fs::create_dir(g.task.at("copy")).unwrap();
    let train = g.task.train("disk/run", &["--max-steps", "20", "--save-steps", "1"]);
    let words: Vec<_> = train.get_args().map(|a| a.to_str().unwrap().to_string()).collect();
    // A namespace of its own: nothing is mounted for anybody else.
    let script = "mount -t tmpfs -o size=300k none disk && { \"$@\"; code=$?; cp -r disk/. copy; exit $code; } || exit $?";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_jurist")]).args(&words);
    command.current_dir(g.task.dir.path());
    let done: Done = match command.output() {
        Ok(output) => output.into(),
        Err(e) => return skip(format!("no unshare here ({e})")),
    };
    if done.err.contains("unshare") || done.err.contains("mount:") {
        return skip(format!("a small file system cannot be mounted here: {}", done.err.trim()));
    }
    g.judge("a full disk", &done, 1, &["disk/run", "o space left on"]);
    let left: Vec<String> =
        std::fs::read_dir(g.task.at("copy/run")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let whole = left.iter().filter(|n| n.starts_with("checkpoint-")).count();
    assert!(whole >= 1 && left.iter().all(|n| !n.contains(".jurist-")), "{left:?}");
    // With room again, the run goes on.
    std::fs::rename(g.task.at("copy/run"), g.task.at("again")).unwrap();
    let done = succeed(g.task.train("again", &["--max-steps", "20", "--save-steps", "0", "--resume"]));
    assert!(done.err.contains("resumed from"), "{}", done.err);
    g.end();
}
