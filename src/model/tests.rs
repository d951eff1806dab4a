//! Saved models are read back bit for bit, and damaged ones are refused with a helpful message.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::config::Config;
use super::error::ModelError;
use super::init::Init;
use super::names::{self, GroupKind, Groups};
use super::save::{CheckpointWriter, save_checkpoint, write_checkpoint};
use super::shard_layout::DEFAULT_SHARD_BYTES;
use super::source::{TensorSource, stream_group};
use crate::ops::weight_dtype::WeightDtype;

pub const FAMILIES: [&str; 6] = ["llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text"];

/// `path` in the shared folder. `None`, with the reason printed, where it does not exist.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("JURIST_SHARED").map_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(path);
    if !path.exists() {
        crate::skip::skip(format!("{} does not exist (set JURIST_SHARED)", path.display()));
        return None;
    }
    Some(path)
}

/// A small `config.json` in the old form, with awkward sizes.
pub fn tiny(family: &str) -> String {
    edited(family, json!({}))
}

/// The same with keys replaced; "-" removes a key.
pub fn edited(family: &str, edit: Value) -> String {
    let architectures = ["Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "Gemma3"];
    let architecture = architectures.iter().find(|a| a.to_lowercase() == family.trim_end_matches("_text")).unwrap();
    let mut config = json!({
        "architectures": [format!("{architecture}ForCausalLM")], "model_type": family, "vocab_size": 37, "hidden_size": 16,
        "intermediate_size": 22, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": null, "bos_token_id": null, "eos_token_id": 2,
        "tie_word_embeddings": family.starts_with("qwen"), "torch_dtype": "float32"
    });
    if family == "llama" {
        config.as_object_mut().unwrap().shift_remove("bos_token_id");
    }
    if family == "gemma3_text" {
        config.as_object_mut().unwrap().shift_remove("rope_theta");
    }
    for (key, value) in edit.as_object().unwrap() {
        match value.as_str() {
            Some("-") => drop(config.as_object_mut().unwrap().shift_remove(key)),
            _ => config[key] = value.clone(),
        }
    }
    config.to_string()
}

pub fn init(family: &str, seed: u64) -> Init {
    Init::new(Config::from_json(&tiny(family)).unwrap(), seed)
}

fn read_all(source: &dyn TensorSource, name: &str) -> Vec<f32> {
    let spec = names::tensors(source.config()).into_iter().find(|t| t.name == name).unwrap();
    let mut values = vec![0.0; spec.len()];
    source.read(name, 0, &mut values).unwrap_or_else(|e| panic!("{e}"));
    values
}

/// Checks that `saved` has the values of `source`, rounded to `dtype`.
fn assert_same(source: &dyn TensorSource, saved: &dyn TensorSource, dtype: WeightDtype) {
    for spec in names::tensors(source.config()) {
        let (mut bytes, mut want) = (Vec::new(), vec![0.0; spec.len()]);
        dtype.narrow(&read_all(source, &spec.name), &mut bytes);
        dtype.widen(&bytes, &mut want);
        let got = read_all(saved, &spec.name);
        assert!(want.iter().zip(&got).all(|(x, y)| x.to_bits() == y.to_bits()), "{} {dtype:?}", spec.name);
    }
}

#[test]
fn saved_models_are_read_back() {
    let root = tempfile::tempdir().unwrap();
    for family in FAMILIES {
        for (dtype, shard) in [(WeightDtype::F32, DEFAULT_SHARD_BYTES), (WeightDtype::Bf16, 2000), (WeightDtype::F16, 1)] {
            let dir = root.path().join("deep/er").join(format!("{family}-{dtype:?}"));
            let source = init(family, 3);
            let extras = [("tokenizer.json".to_string(), b"{}".to_vec())];
            save_checkpoint(&dir, dtype, &source, &extras, shard).unwrap();
            let back = Checkpoint::open(&dir).unwrap_or_else(|e| panic!("{family} {dtype:?}: {e}"));
            assert_eq!((back.dtype(), back.config().dtype), (dtype, Some(dtype)));
            assert_eq!(dir.join("model.safetensors").exists(), shard == DEFAULT_SHARD_BYTES);
            assert_eq!(fs::read(dir.join("tokenizer.json")).unwrap(), b"{}");
            assert_same(&source, &back, dtype);
        }
    }
}

#[test]
fn golden_checkpoints_are_read_and_written_back() {
    let Some(golden) = shared("reference/golden") else { return };
    let root = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden).unwrap().flatten().filter(|e| e.path().is_dir()) {
        let checkpoint = Checkpoint::open(&entry.path().join("checkpoint")).unwrap_or_else(|e| panic!("{:?}: {e}", entry.path()));
        assert!(checkpoint.notes().is_empty());
        let dir = root.path().join(entry.file_name());
        save_checkpoint(&dir, WeightDtype::F32, &checkpoint, &[], 100_000).unwrap();
        assert_same(&checkpoint, &Checkpoint::open(&dir).unwrap(), WeightDtype::F32);
        let config = |dir: &Path| fs::read(dir.join("config.json")).unwrap();
        assert!(config(&dir) == config(&entry.path().join("checkpoint")), "config.json is written back byte for byte");
    }
}

#[test]
fn a_pretrained_checkpoint_is_read() {
    let Some(dir) = shared("models/stories260k") else { return };
    let checkpoint = Checkpoint::open(&dir).unwrap();
    assert_eq!(checkpoint.config().parameter_count(), 260_032);
}

/// A group that is read seven elements at a time equals its tensors one after the other.
#[test]
fn groups_are_tensors_stacked() {
    for family in FAMILIES {
        let source = init(family, 1);
        let groups = Groups::of(source.config());
        for group in &groups.list {
            let want: Vec<f32> = group.parts.iter().flat_map(|p| read_all(&source, &p.hf_name)).collect();
            assert_eq!(want.len(), group.len());
            let mut got = Vec::new();
            stream_group(&source, group, 7, |start, values| {
                assert_eq!(start, got.len());
                got.extend_from_slice(values);
                Ok::<(), ModelError>(())
            })
            .unwrap();
            assert_eq!(got, want, "{}", group.name);
        }
        let embed = &groups.list[groups.embed];
        assert!(source.read_group(embed, embed.len() - 1, &mut [0.0; 2]).is_err());
    }
}

#[test]
fn groups_have_the_stacked_shapes() {
    let groups = Groups::of(init("qwen2", 0).config());
    let layer = &groups.layers[1];
    let shape = |i: usize| (groups.list[i].kind, groups.list[i].rows, groups.list[i].cols);
    assert_eq!(shape(layer.qkv), (GroupKind::Matrix, 32, 16));
    assert_eq!(layer.qkv_bias.map(shape), Some((GroupKind::Bias, 32, 1)));
    assert_eq!(groups.list[layer.qkv].parts[2].row_offset, 24);
    assert_eq!((shape(layer.gate_up), shape(layer.down)), ((GroupKind::Matrix, 44, 16), (GroupKind::Matrix, 16, 22)));
    assert_eq!((layer.qk_norm, groups.head, groups.output()), (None, None, groups.embed));
    let groups = Groups::of(init("llama", 0).config());
    assert_eq!(groups.output(), groups.list.len() - 1);
    let qwen3 = Groups::of(init("qwen3", 0).config());
    let norm = &qwen3.list[qwen3.layers[0].qk_norm.unwrap()];
    assert_eq!((norm.rows, norm.cols, norm.parts[1].hf_name.as_str()), (2, 4, "model.layers.0.self_attn.k_norm.weight"));
}

#[test]
fn initial_weights_have_the_right_scale_and_depend_on_name_and_seed() {
    let config = Config::from_json(&edited("llama", json!({"hidden_size": 64, "head_dim": 16, "vocab_size": 500}))).unwrap();
    let source = Init::new(config.clone(), 5);
    for (name, sd) in [
        ("model.embed_tokens.weight", 0.125),
        ("model.layers.0.self_attn.q_proj.weight", 0.125),
        ("model.layers.1.self_attn.o_proj.weight", 0.0625),
        ("model.layers.1.mlp.down_proj.weight", 1.0 / 22f64.sqrt() / 2.0),
    ] {
        let values = read_all(&source, name);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let found = (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        assert!((found / sd - 1.0).abs() < 0.06 && mean.abs() < 0.1 * sd, "{name}: {found} {sd} {mean}");
    }
    assert!(read_all(&source, "model.norm.weight").iter().all(|v| *v == 1.0));
    assert!(read_all(&init("qwen2", 5), "model.layers.0.self_attn.k_proj.bias").iter().all(|v| *v == 0.0));
    let q =
        |layer: usize, seed| read_all(&Init::new(config.clone(), seed), &format!("model.layers.{layer}.self_attn.q_proj.weight"));
    assert_eq!(q(0, 5), q(0, 5));
    assert_ne!(q(0, 5), q(1, 5));
    assert_ne!(q(0, 5), q(0, 6));
    assert!(source.read("model.norm.weight", 60, &mut [0.0; 5]).is_err());
    assert!(source.read("nothing", 0, &mut []).is_err());
}

/// A checkpoint that tests damage: its tensors as (name, dtype, shape, bytes).
struct EditableCheckpoint {
    config: String,
    tensors: Vec<(String, String, Vec<usize>, Vec<u8>)>,
}

impl EditableCheckpoint {
    fn new(family: &str) -> Self {
        let source = init(family, 2);
        let tensor = |spec: names::TensorSpec| {
            let mut bytes = Vec::new();
            WeightDtype::F32.narrow(&read_all(&source, &spec.name), &mut bytes);
            (spec.name, "F32".to_string(), spec.shape, bytes)
        };
        EditableCheckpoint { config: tiny(family), tensors: names::tensors(source.config()).into_iter().map(tensor).collect() }
    }

    fn push(&mut self, name: &str, shape: &[usize], value: f32) {
        let bytes = (0..shape.iter().product()).flat_map(|_| value.to_le_bytes()).collect();
        self.tensors.push((name.into(), "F32".into(), shape.to_vec(), bytes));
    }

    fn bytes(&self) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, dtype, shape, bytes) in &self.tensors {
            let start = data.len();
            data.extend(bytes);
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
        }
        with_header(&Value::Object(header).to_string(), &data)
    }

    fn open(&self) -> Result<Checkpoint, ModelError> {
        from_bytes(&self.config, self.bytes())
    }
}

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn from_bytes(config: &str, bytes: Vec<u8>) -> Result<Checkpoint, ModelError> {
    Checkpoint::from_files(Config::from_json(config)?, vec![("model.safetensors".into(), Box::new(bytes))])
}

fn assert_message(case: &str, result: Result<Checkpoint, ModelError>, needles: &[&str]) {
    let Err(error) = result else { panic!("{case} was accepted") };
    let message = error.to_string();
    for needle in needles {
        assert!(message.contains(needle), "{case}: \"{message}\" lacks \"{needle}\"");
    }
}

#[test]
fn an_undamaged_checkpoint_is_accepted() {
    let checkpoint = EditableCheckpoint::new("llama");
    assert_same(&init("llama", 2), &checkpoint.open().unwrap(), WeightDtype::F32);
}

#[test]
fn damaged_files_are_refused() {
    let (config, good) = (tiny("llama"), EditableCheckpoint::new("llama").bytes());
    let tensor = |offsets: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#
        )
    };
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", vec![], &["model.safetensors", "0 bytes", "again"]),
        ("short", vec![1, 2, 3], &["3 bytes"]),
        ("truncated data", good[..good.len() - 1].to_vec(), &["model.safetensors", "do not fill"]),
        ("truncated header", good[..100].to_vec(), &["header", "100 bytes"]),
        ("trailing bytes", [&good[..], b"x"].concat(), &["do not fill"]),
        ("header length too big", [&u64::MAX.to_le_bytes()[..], b"{}"].concat(), &["header", "18446744073709551615"]),
        ("header not JSON", with_header("{{{", &[]), &["JSON"]),
        ("header not UTF-8", [&2u64.to_le_bytes()[..], &[0xFF, 0xFE]].concat(), &["UTF-8"]),
        ("overlapping offsets", with_header(&tensor("[4,12]"), &[0; 12]), &["`b`", "overlap"]),
        ("gap", with_header(&tensor("[12,20]"), &[0; 20]), &["`b`", "gap"]),
        ("reversed offsets", with_header(&tensor("[8,0]"), &[0; 8]), &["`b`"]),
        ("size against shape", with_header(&tensor("[8,12]"), &[0; 12]), &["shape", "bytes"]),
        ("unknown dtype", with_header(r#"{"a":{"dtype":"F7","shape":[0],"data_offsets":[0,0]}}"#, &[]), &["F7"]),
        (
            "overflowing shape",
            with_header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,8],"data_offsets":[0,0]}}"#, &[]),
            &["overflow"],
        ),
        ("LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), &["Git LFS", "git lfs pull"]),
        ("web page", b"<!DOCTYPE html><html>".to_vec(), &["web page"]),
    ];
    for (case, bytes, needles) in cases {
        assert_message(case, from_bytes(&config, bytes), needles);
    }
}

#[test]
fn checkpoints_with_wrong_tensors_are_refused() {
    type Edit = fn(&mut EditableCheckpoint);
    let cases: Vec<(&str, &str, Edit, &[&str])> = vec![
        ("missing", "llama", |d| drop(d.tensors.remove(3)), &["1 tensors", "missing", "k_proj.weight"]),
        ("missing head", "llama", |d| drop(d.tensors.pop()), &["lm_head.weight", "tie_word_embeddings"]),
        ("nearly all missing", "llama", |d| d.tensors.truncate(2), &["19 tensors", "and 14 more"]),
        ("all missing", "llama", |d| d.tensors.clear(), &["2 layers", "only 0 tensors"]),
        (
            "other names",
            "llama",
            |d| d.tensors.iter_mut().for_each(|t| t.0 = format!("x.{}", t.0)),
            &["missing", "but there: `x."],
        ),
        ("unexpected", "llama", |d| d.push("score.weight", &[1, 16], 0.0), &["1 tensors are not part", "score.weight"]),
        (
            "biases that the family does not have",
            "llama",
            |d| d.push("model.layers.0.self_attn.q_proj.bias", &[16], 0.0),
            &["q_proj.bias"],
        ),
        (
            "shape",
            "llama",
            |d| (d.tensors[0].2, d.config) = (vec![37, 16], edited("llama", json!({"vocab_size": 38}))),
            &["embed_tokens", "[37, 16]", "[38, 16]"],
        ),
        ("transposed", "llama", |d| d.tensors[0].2 = vec![16, 37], &["embed_tokens", "[16, 37]"]),
        ("dtype", "llama", |d| d.tensors[0].1 = "I32".into(), &["embed_tokens", "I32", "BF16"]),
        ("tied with another head", "qwen3", |d| d.push("lm_head.weight", &[37, 16], 0.5), &["tie_word_embeddings", "differs"]),
        ("tied with a misshapen head", "qwen3", |d| d.push("lm_head.weight", &[36, 16], 0.5), &["lm_head.weight", "[36, 16]"]),
    ];
    for (case, family, edit, needles) in cases {
        let mut checkpoint = EditableCheckpoint::new(family);
        edit(&mut checkpoint);
        assert_message(case, checkpoint.open(), needles);
    }
}

#[test]
fn computed_tensors_and_copies_of_the_embedding_are_ignored() {
    let mut checkpoint = EditableCheckpoint::new("qwen3");
    checkpoint.push("model.layers.0.self_attn.rotary_emb.inv_freq", &[2], 1.0);
    assert!(checkpoint.open().unwrap().notes().is_empty());
    let (_, dtype, shape, bytes) = checkpoint.tensors[0].clone();
    checkpoint.tensors.push(("lm_head.weight".into(), dtype, shape, bytes));
    let opened = checkpoint.open().unwrap();
    assert!(opened.notes()[0].contains("lm_head.weight"));
    assert!(opened.read("lm_head.weight", 0, &mut [0.0]).is_err());
}

/// `Gemma3ForConditionalGeneration`, under the names of both versions of transformers: the text part is a Gemma 3 of its own.
#[test]
fn the_text_part_of_a_model_with_images_is_read() {
    let mut inner: Value = serde_json::from_str(&tiny("gemma3_text")).unwrap();
    for key in ["architectures", "eos_token_id", "torch_dtype"] {
        inner.as_object_mut().unwrap().shift_remove(key);
    }
    let whole = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": inner,
        "vision_config": {"hidden_size": 8}, "eos_token_id": [1, 7], "dtype": "float32",
    });
    for (from, to) in [("model.", "language_model.model."), ("model.", "model.language_model.")] {
        let mut checkpoint = EditableCheckpoint::new("gemma3_text");
        checkpoint.config = whole.to_string();
        checkpoint
            .tensors
            .iter_mut()
            .for_each(|(name, ..)| *name = name.replacen(from, to, 1).replacen("lm_head", "language_model.lm_head", 1));
        checkpoint.push("vision_tower.vision_model.embeddings.weight", &[2, 3], 1.0);
        checkpoint.push("model.multi_modal_projector.weight", &[2], 1.0);
        let opened = checkpoint.open().unwrap_or_else(|e| panic!("{to}: {e}"));
        assert_same(&init("gemma3_text", 2), &opened, WeightDtype::F32);
        assert!(opened.notes()[0].contains("2 tensors of the model's image part"), "{:?}", opened.notes());
        assert_eq!(opened.config().eos_token_ids, [1, 7]);
        // Saved, it is the text model alone.
        let dir = tempfile::tempdir().unwrap();
        save_checkpoint(&dir.path().join("text"), WeightDtype::F32, &opened, &[], DEFAULT_SHARD_BYTES).unwrap();
        let text = fs::read_to_string(dir.path().join("text/config.json")).unwrap();
        assert!(text.contains("Gemma3ForCausalLM") && !text.contains("vision_config"), "{text}");
        assert_same(&opened, &Checkpoint::open(&dir.path().join("text")).unwrap(), WeightDtype::F32);
    }
}

#[test]
fn non_finite_weights_are_named() {
    for (bits, name) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut checkpoint = EditableCheckpoint::new("llama");
        checkpoint.tensors[2].3[40..44].copy_from_slice(&bits.to_le_bytes());
        let opened = checkpoint.open().unwrap();
        let error = opened.read("model.layers.0.self_attn.q_proj.weight", 4, &mut [0.0; 20]).unwrap_err().to_string();
        assert!(error.contains("q_proj.weight") && error.contains("element 10") && error.contains(name), "{error}");
        assert!(opened.read("model.layers.0.self_attn.q_proj.weight", 11, &mut [0.0; 20]).is_ok());
    }
}

#[test]
fn damaged_directories_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    assert_message("no config", Checkpoint::open(dir), &["config.json", "read"]);
    fs::write(dir.join("config.json"), edited("llama", json!({"hidden_act": "relu"}))).unwrap();
    assert_message("file is named", Checkpoint::open(dir), &["config.json", "hidden_act"]);
    fs::write(dir.join("config.json"), tiny("llama")).unwrap();
    assert_message("no weights", Checkpoint::open(dir), &["no weights", "model.safetensors"]);
    fs::write(dir.join("pytorch_model.bin"), b"").unwrap();
    assert_message("bin only", Checkpoint::open(dir), &["pytorch_model.bin", "save_pretrained"]);
    for (case, index, needles) in [
        ("index not JSON", "{", &["index.json", "JSON"][..]),
        ("index without map", "{}", &["weight_map"]),
        ("index with a path", r#"{"weight_map": {"a": "../../etc/passwd"}}"#, &["plain file name"]),
        ("index with a number", r#"{"weight_map": {"a": 3}}"#, &["`a`", "string"]),
        ("missing shard", r#"{"weight_map": {"a": "b.safetensors"}}"#, &["open", "b.safetensors"]),
    ] {
        fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
        assert_message(case, Checkpoint::open(dir), needles);
    }
    fs::remove_file(dir.join("model.safetensors.index.json")).unwrap();
    write_checkpoint(dir, WeightDtype::F32, &init("llama", 1), &[], 4000).unwrap();
    Checkpoint::open(dir).unwrap();
    let index = fs::read_to_string(dir.join("model.safetensors.index.json")).unwrap();
    let wrong = index.replace("\"model.norm.weight\": \"model-00005", "\"model.norm.weight\": \"model-00001");
    assert_ne!(index, wrong);
    fs::write(dir.join("model.safetensors.index.json"), wrong).unwrap();
    assert_message("index disagrees", Checkpoint::open(dir), &["model-00001", "`model.norm.weight`"]);
}

#[test]
fn the_writer_refuses_wrong_order_and_wrong_values() {
    let root = tempfile::tempdir().unwrap();
    let source = init("llama", 1);
    let start = || CheckpointWriter::create(root.path(), source.config(), WeightDtype::F16, DEFAULT_SHARD_BYTES).unwrap();
    let message = |result: Result<(), ModelError>| result.unwrap_err().to_string();
    const EMBED: &str = "model.embed_tokens.weight";
    assert!(message(start().write("model.norm.weight", &[1.0])).contains("expected `model.embed_tokens.weight`"));
    assert!(message(start().write(EMBED, &[0.0; 37 * 16 + 1])).contains("more came"));
    assert!(message(start().finish()).contains("not complete"));
    let mut writer = start();
    writer.write(EMBED, &[1.0; 8]).unwrap();
    assert!(message(writer.write(EMBED, &[0.0, f32::NAN])).contains("NaN at element 9"));
    assert!(message(writer.write(EMBED, &[0.0, 70_000.0])).contains("70000 at element 9 does not fit into float16"));
    assert!(message(writer.finish()).contains("not complete"));
    for name in ["../x", "config.json", "model.safetensors", ""] {
        let extras = [(name.to_string(), Vec::new())];
        let result = write_checkpoint(root.path(), WeightDtype::F32, &source, &extras, DEFAULT_SHARD_BYTES);
        assert!(message(result).contains("extra file"), "{name}");
    }
}

#[test]
fn a_foreign_directory_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("thesis.tex"), b"years of work").unwrap();
    let error = save_checkpoint(root.path(), WeightDtype::F32, &init("llama", 1), &[], DEFAULT_SHARD_BYTES).unwrap_err();
    assert!(error.to_string().contains("is not replaced"), "{error}");
    assert!(root.path().join("thesis.tex").exists());
}

/// With any random damage the result is a checkpoint or an error, never a panic.
#[test]
fn random_damage_never_panics() {
    let mut random = crate::random::Stream::new(9, 9);
    let (config, good) = (tiny("qwen3"), EditableCheckpoint::new("qwen3").bytes());
    let header = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(3) {
            bytes[random.below(header)] = random.bits() as u8;
        }
        if let Ok(checkpoint) = from_bytes(&config, bytes) {
            for spec in names::tensors(checkpoint.config()) {
                let _ = checkpoint.read(&spec.name, 0, &mut vec![0.0; spec.len()]);
            }
        }
    }
    for _ in 0..2000 {
        let mut text = config.clone().into_bytes();
        text[random.below(config.len())] = b"0\"[]{},-9e."[random.below(11)];
        let _ = Config::from_json(&String::from_utf8_lossy(&text));
        let _ = Config::from_json(&config[..random.below(config.len())]);
    }
}
