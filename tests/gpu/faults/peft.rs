//! Adapters as PEFT reads them. The figures are what PEFT 0.21.2 and transformers 5.24 make of the same files: the first four
//! logits behind tokens 3 to 13.

use std::path::{Path, PathBuf};

use jurist::model::config::Config;
use jurist::model::source::TensorSource;
use jurist::model_folder::ModelFolder;
use serde_json::{Value, json};

use crate::cli::{self, Task, finish, lines, succeed};
use crate::faults::exact;

const BASE: [f64; 4] = [0.69808, 0.59540, 0.65547, 0.07099];
const PLAIN: [f64; 4] = [-0.30044, 0.49239, -2.23678, 0.61029];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/qwen2_biases")
}

/// A copy of the fixture's adapter, its settings changed, its base as it is.
fn adapter(changes: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = golden().join("lora/adapter");
    let mut config: Value = serde_json::from_slice(&std::fs::read(from.join("adapter_config.json")).unwrap()).unwrap();
    config["base_model_name_or_path"] = json!(golden().join("checkpoint"));
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    cli::write(dir.path().join("adapter_config.json"), config.to_string());
    std::fs::copy(from.join("adapter_model.safetensors"), dir.path().join("adapter_model.safetensors")).unwrap();
    dir
}

fn logits(source: &dyn TensorSource) -> Vec<f64> {
    let ids: Vec<u32> = (3..14).collect();
    exact::last_logits(source.config(), &exact::weights(source), &[ids]).remove(0)
}

fn merged(dir: &Path) -> Result<Vec<f64>, String> {
    let source = ModelFolder::open(dir).and_then(|folder| folder.weights()?.merged()).map_err(|e| e.to_string())?;
    Ok(logits(source.as_ref()))
}

#[track_caller]
fn assert_close(what: &str, found: &[f64], expected: [f64; 4]) {
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 5e-5, "{what}: found {:?}, PEFT has {expected:?}", &found[..4]);
}

fn error(dir: &Path) -> String {
    merged(dir).err().unwrap_or_else(|| panic!("taken"))
}

/// Settings that PEFT takes.
#[test]
fn settings_mean_what_they_mean_to_peft() {
    let cases = [
        (json!({}), PLAIN),
        (json!({"fan_in_fan_out": true}), PLAIN),
        (json!({"bias": "lora_only"}), PLAIN),
        (json!({"bias": "all"}), PLAIN),
        (json!({"modules_to_save": []}), PLAIN),
        (json!({"layer_replication": []}), PLAIN),
        (
            json!({"target_parameters": [], "alora_invocation_tokens": [], "layers_to_transform": [], "exclude_modules": []}),
            PLAIN,
        ),
        (json!({"init_lora_weights": null}), PLAIN),
        (json!({"init_lora_weights": "GAUSSIAN"}), PLAIN),
        (json!({"init_lora_weights": "orthogonal"}), PLAIN),
        (json!({"init_lora_weights": "eva", "eva_config": {"rho": 2.0}}), PLAIN),
        (json!({"target_modules": "ALL-linear"}), PLAIN),
        (json!({"target_modules": null}), [-0.40592, 1.34844, -3.21239, 0.43602]),
        (json!({"target_modules": ["q_proj"]}), [-1.54172, 0.82557, -1.64679, -0.7206]),
        (json!({"target_modules": ".*\\.(q_proj|up_proj)"}), [-1.72739, -0.80361, -1.67061, -1.99761]),
        (json!({"layers_to_transform": [1]}), [0.22159, 0.13908, -0.22233, 2.16078]),
        (json!({"layers_to_transform": 0, "layers_pattern": "layers"}), [-0.5618, 0.57744, -3.27507, 0.22184]),
        (json!({"exclude_modules": ["up_proj"]}), [-0.40592, 1.34844, -3.21239, 0.43602]),
        (json!({"exclude_modules": ".*layers.0.*"}), [0.22159, 0.13908, -0.22233, 2.16078]),
        (json!({"alpha_pattern": {".*v_proj": 64}}), [-0.84431, 0.86251, -3.5082, 0.70075]),
        (json!({"alpha_pattern": {"v_proj": 64, ".*v_proj": 1}}), [-0.84431, 0.86251, -3.5082, 0.70075]),
        (json!({"alpha_pattern": {"zz": 3, "layers\\.\\d+\\.self_attn\\.v_proj": 64}}), [-0.84431, 0.86251, -3.5082, 0.70075]),
        (json!({"alpha_pattern": {"^model.layers.1.self_attn.v_proj": 64}}), [-0.51985, 0.40485, -1.60923, 2.09346]),
        (json!({"alpha_pattern": {"q_proj|v_proj": 64}}), [-1.25886, 0.29704, -3.43394, 1.45407]),
        (json!({"alpha_pattern": {"(?!.*q_proj).*proj": 64}}), [-0.64598, 0.39586, -3.21263, 0.88373]),
        (json!({"alpha_pattern": {"q_proj": 0}}), [0.69378, 0.13832, 1.85366, 0.66911]),
        (json!({"lora_alpha": -2.5}), [-0.77303, 0.31731, -2.49135, 0.3537]),
        (json!({"use_rslora": null}), [-0.56791, 0.59492, -2.02702, 1.3265]),
        (json!({"rank_pattern": {"layers\\.[0-2]\\.self_attn\\.q_proj": 4}, "r": 4}), PLAIN),
    ];
    for (changes, expected) in cases {
        let dir = adapter(&changes);
        assert_close(&changes.to_string(), &merged(dir.path()).unwrap_or_else(|e| panic!("{changes}: {e}")), expected);
    }
    let base = ModelFolder::open(&golden().join("checkpoint")).unwrap().weights().unwrap().source;
    assert_close("the base", &logits(base.as_ref()), BASE);
}

/// What PEFT does not take, or would compute otherwise than can be done here, is refused by name.
#[test]
fn settings_that_are_refused() {
    let cases = [
        (json!({"init_lora_weights": "pissa"}), vec!["init_lora_weights", "pissa", "path_initial_model_for_weight_conversion"]),
        (json!({"init_lora_weights": "pissa_niter_16"}), vec!["init_lora_weights", "pissa_niter_16"]),
        (json!({"init_lora_weights": "OLoRA"}), vec!["init_lora_weights", "OLoRA", "merge_and_unload"]),
        (json!({"init_lora_weights": "corda"}), vec!["init_lora_weights", "corda"]),
        (json!({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}), vec!["init_lora_weights", "loftq"]),
        (json!({"init_lora_weights": "lora_ga"}), vec!["init_lora_weights", "lora_ga"]),
        (json!({"init_lora_weights": "Pissa"}), vec!["init_lora_weights"]),
        (json!({"init_lora_weights": 1}), vec!["init_lora_weights"]),
        (json!({"use_dora": true}), vec!["use_dora"]),
        (json!({"lora_bias": true}), vec!["lora_bias"]),
        (json!({"modules_to_save": ["lm_head"]}), vec!["modules_to_save"]),
        (json!({"trainable_token_indices": [1]}), vec!["trainable_token_indices"]),
        (json!({"layer_replication": [[0, 2]]}), vec!["layer_replication"]),
        (json!({"bias": "some"}), vec!["bias", "lora_only"]),
        (json!({"alpha_pattern": {"*.v_proj": 64}}), vec!["alpha_pattern", "*.v_proj", "regular expression"]),
        (json!({"target_modules": "q_proj"}), vec!["target_modules", "such as"]),
        (json!({"target_modules": []}), vec!["target_modules"]),
        (json!({"target_modules": ".*q_proj", "layers_to_transform": 0}), vec!["layers_to_transform", "target_modules"]),
        (json!({"lora_alpha": null}), vec!["lora_alpha"]),
        (json!({"rank_pattern": {"q_proj": 2}}), vec!["rank 4", "says 2"]),
    ];
    for (changes, parts) in cases {
        let said = error(adapter(&changes).path());
        assert!(parts.iter().all(|part| said.contains(part)), "{changes}: {parts:?} not in: {said}");
    }
}

/// Modules whose tensors the targets leave out are ignored, as by PEFT, and named.
#[test]
fn ignored_tensors_are_named() {
    let dir = adapter(&json!({"target_modules": ["q_proj"]}));
    let notes = ModelFolder::open(dir.path()).unwrap().weights().unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("4 modules") && note.contains("up_proj")), "{notes:?}");
}

/// Keys as they are in memory, and keys that stand for one tensor twice.
#[test]
fn keys_with_the_name_of_the_adapter() {
    let dir = adapter(&json!({}));
    let file = dir.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed: Vec<_> = tensors.iter().map(|(name, view)| (name.replace(".weight", ".default.weight"), view)).collect();
    safetensors::serialize_to_file(renamed.clone(), None, &file).unwrap();
    assert_close("default", &merged(dir.path()).unwrap(), PLAIN);
    let both: Vec<_> = renamed.into_iter().chain(tensors.iter().map(|(name, view)| (name.to_string(), view))).collect();
    safetensors::serialize_to_file(both, None, &file).unwrap();
    assert!(error(dir.path()).contains("twice"));
}

/// An adapter that names itself, or one that names it, is told as a circle; one on another, as such.
#[test]
fn circles_of_base_models() {
    let on = |name: &Path| adapter(&json!({"base_model_name_or_path": name}));
    let alone = on(Path::new("nothing yet"));
    let config = alone.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap().replace("nothing yet", cli::path(alone.path()));
    cli::write(&config, text);
    let said = error(alone.path());
    assert!(said.contains("circle") && said.contains("--base DIR"), "{said}");
    let names: Vec<tempfile::TempDir> = (0..3).map(|_| adapter(&json!({}))).collect();
    for (n, dir) in names.iter().enumerate() {
        let mut config: Value = serde_json::from_slice(&std::fs::read(dir.path().join("adapter_config.json")).unwrap()).unwrap();
        config["base_model_name_or_path"] = json!(names[(n + 1) % 3].path());
        cli::write(dir.path().join("adapter_config.json"), config.to_string());
    }
    let said = error(names[0].path());
    let whole = |n: usize| std::fs::canonicalize(names[n].path()).unwrap().display().to_string();
    assert!(said.contains(&[whole(0), whole(1), whole(2), whole(0)].join(" -> ")), "{said}");
    // A circle further on, and an end.
    let said = error(on(names[0].path()).path());
    assert!(said.contains("circle"), "{said}");
    let last = adapter(&json!({}));
    let said = error(on(last.path()).path());
    assert!(said.contains("is an adapter itself") && said.contains("jurist merge"), "{said}");
}

/// A base that is null, missing or quantised is named with the way out, which every command that opens a model has.
#[test]
fn another_base() {
    for (name, part) in [
        (json!(null), "base_model_name_or_path"),
        (json!("nowhere/at/all"), "nowhere/at/all"),
        (json!("acme/model-bnb-4bit"), "quantised from"),
    ] {
        let said = error(adapter(&json!({"base_model_name_or_path": name})).path());
        assert!(said.contains("--base DIR") && said.contains(part), "{said}");
    }
    let dir = adapter(&json!({"base_model_name_or_path": null}));
    let open = |base: &Path| ModelFolder::open_on(dir.path(), Some(base)).and_then(|folder| folder.weights()?.merged());
    let source = open(&golden().join("checkpoint")).unwrap_or_else(|e| panic!("{e}"));
    assert_close("with a base", &logits(source.as_ref()), PLAIN);
    let said = open(dir.path()).err().unwrap().to_string();
    assert!(said.contains("circle"), "{said}");
    let said = ModelFolder::open_on(&golden().join("checkpoint"), Some(dir.path())).err().unwrap().to_string();
    assert!(said.contains("no adapter") && said.contains("--base"), "{said}");
    // A config.json that trainers lay beside the adapter makes no model of it.
    std::fs::copy(golden().join("checkpoint/config.json"), dir.path().join("config.json")).unwrap();
    assert_close("with a config", &logits(open(&golden().join("checkpoint")).unwrap_or_else(|e| panic!("{e}")).as_ref()), PLAIN);
}

#[test]
fn every_command_takes_another_base() {
    let task = Task::new(12, 3, false);
    let few = ["--max-steps", "1", "--save-steps", "0", "--per-device-train-batch-size", "4"];
    succeed(task.train("base", &few));
    let train = |model: &str, output: &str, more: &[&str]| {
        let args = ["train", "--model", model, "--train-file", "train.jsonl", "--output-dir", output];
        task.jurist(&[&args[..], &few, more].concat())
    };
    succeed(train("base", "lora", &["--lora-r", "2"]));
    std::fs::rename(task.at("base"), task.at("moved")).unwrap();
    let config = task.read("lora/adapter_config.json").replace("\"base\"", "null");
    task.write("lora/adapter_config.json", config);

    let said = finish(task.jurist(&["score", "--model", "lora", "--input", "dev.jsonl"]));
    assert!(said.code == Some(1) && said.err.contains("--base"), "{said:?}");
    let base = ["--base", "moved"];
    let scored = succeed(task.jurist(&[&["score", "--model", "lora", "--input", "dev.jsonl"][..], &base].concat())).out;
    assert!(lines(&scored).iter().all(|row| row["judge"]["error"].is_null()), "{scored}");
    for args in [
        &["eval", "--model", "lora", "--input", "dev.jsonl"][..],
        &["data", "check", "dev.jsonl", "--model", "lora"],
        &["merge", "lora", "--out", "merged"],
        &["export", "lora", "--out", "bundle", "--weights", "f32"],
        &["export", "lora", "--out", "packed", "--weights", "q8", "--examples", "dev.jsonl"],
        &["train", "--dry-run", "--model", "lora"],
    ] {
        succeed(task.jurist(&[args, &base].concat()));
    }
    succeed(train("lora", "again", &base));
    let config: Value = serde_json::from_str(&task.read("again/adapter_config.json")).unwrap();
    assert_eq!(config["base_model_name_or_path"], json!("moved"));
    for (args, part) in [
        (&["score", "--model", "moved", "--input", "dev.jsonl", "--base", "moved"][..], "no adapter"),
        (&["serve", "--base", "moved"], "--base is for"),
        (&["doctor", "--base", "moved"], "--against"),
    ] {
        let said = finish(task.jurist(args));
        assert!(said.code != Some(0) && said.err.contains(part), "{args:?}: {said:?}");
    }
}

fn config_with(changes: Value) -> Result<Config, String> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(golden().join("checkpoint/config.json")).unwrap()).unwrap();
    let map = config.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::String(text) if text == "absent" => drop(map.shift_remove(key)),
            other => drop(map.insert(key.clone(), other.clone())),
        }
    }
    Config::from_json(&config.to_string()).map_err(|e| e.to_string())
}

/// Settings that say in other words what is the default.
#[test]
fn other_words_for_the_default() {
    let rope = |scaling: Value| json!({"rope_parameters": "absent", "rope_theta": 500.0, "rope_scaling": scaling});
    let plain = config_with(rope(Value::Null)).unwrap();
    for scaling in [
        json!({}),
        json!({"type": "linear", "factor": 1.0}),
        json!({"rope_type": "linear", "factor": 1}),
        json!({"type": "dynamic", "factor": 1.0}),
        json!({"rope_type": "yarn", "factor": 1.0}),
        json!({"rope_type": "default"}),
        json!({"rope_type": "llama3", "factor": 1.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    ] {
        let config = config_with(rope(scaling.clone())).unwrap_or_else(|e| panic!("{scaling}: {e}"));
        let off = config.inv_freqs()[0].iter().zip(&plain.inv_freqs()[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-15, "{scaling}: {off}");
    }
    for scaling in [
        json!({"type": "linear", "factor": 2.0}),
        json!({"type": "linear"}),
        json!({"rope_type": "yarn", "factor": 1.0, "attention_factor": 2.0}),
        json!({"rope_type": "longrope", "factor": 1.0}),
    ] {
        let said = config_with(rope(scaling)).unwrap_err();
        assert!(said.contains("rope_scaling."), "{said}");
    }
    for key in ["dtype", "torch_dtype"] {
        for name in ["half", "float16", "torch.half", "torch.float16", "bfloat16", "torch.bfloat16", "float", "torch.float32"] {
            let changes = json!({"dtype": "absent", key: name});
            assert!(config_with(changes).is_ok_and(|config| config.dtype.is_some()), "{key} {name}");
        }
    }
    for epsilon in [1e-40, 1e39] {
        assert!(config_with(json!({"rms_norm_eps": epsilon})).unwrap_err().contains("rms_norm_eps"));
    }
}

/// Indices and files that name a tied head, or a buffer, in their own ways.
#[test]
fn tied_heads_and_buffers() {
    const HEAD: &str = "lm_head.weight";
    const EMBED: &str = "model.embed_tokens.weight";
    let from = golden().join("checkpoint");
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let embedding = tensors.tensor(EMBED).unwrap();
    let kept = |name: &str| (name.to_string(), tensors.tensor(name).unwrap());
    let others = || tensors.names().into_iter().filter(|name| **name != *EMBED).map(&kept).collect::<Vec<_>>();
    let double: Vec<u8> =
        embedding.data().as_chunks().0.iter().flat_map(|b| (2.0 * f32::from_le_bytes(*b)).to_le_bytes()).collect();
    let double = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, embedding.shape().to_vec(), &double).unwrap();
    let cases = [
        (vec![(EMBED, &embedding)], vec![HEAD], true),
        (vec![(EMBED, &embedding)], vec!["model.layers.0.self_attn.rotary_emb.inv_freq"], true),
        (vec![(EMBED, &embedding)], vec!["model.layers.7.mlp.up_proj.weight"], false),
        (vec![(EMBED, &embedding), (HEAD, &embedding)], vec![], true),
        (vec![(HEAD, &embedding)], vec![], true),
        (vec![(EMBED, &embedding), (HEAD, &double)], vec![], false),
    ];
    for (stored, named, taken) in cases {
        let what = format!("{:?} stored, {named:?} named", stored.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(from.join("config.json"), dir.path().join("config.json")).unwrap();
        let all: Vec<_> =
            others().into_iter().chain(stored.into_iter().map(|(name, view)| (name.to_string(), view.clone()))).collect();
        let names = all.iter().map(|(name, _)| name.as_str()).chain(named.iter().copied());
        let map: serde_json::Map<String, Value> = names.map(|name| (name.into(), json!("a.safetensors"))).collect();
        cli::write(dir.path().join("model.safetensors.index.json"), json!({"weight_map": map}).to_string());
        safetensors::serialize_to_file(all, None, &dir.path().join("a.safetensors")).unwrap();
        match merged(dir.path()) {
            Ok(found) => {
                assert!(taken, "{what}");
                assert_close(&what, &found, BASE);
            }
            Err(said) => assert!(!taken, "{what}: {said}"),
        }
    }
}
