//! GGUF files written and decoded by gguf-py (`scripts/make_gguf.py`), and files that are damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::json;

use super::blocks::BlockFormat::{Bf16, F16, Q4_0, Q4_1, Q8_0};
use super::export::{GgufExport, export};
use super::header::{Header, Metadata, Value};
use super::weights::GgufModel;
use crate::model::config::{Config, Layer, Rope, RopeScaling};
use crate::model::init::Init;
use crate::model::names::tensors;
use crate::model::quantised::Plane;
use crate::model::source::TensorSource;
use crate::model::tests::edited;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::{SpecialTokens, Tokenizer, word_level};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// Bit for bit what gguf-py makes of the same blocks, in one piece and from the middle of a block on.
#[test]
fn every_block_format_is_decoded_as_by_gguf_py() {
    let file = bytes("blocks.gguf");
    let header = Header::parse(&file).unwrap();
    let raw = |name: &str| {
        let info = &header.tensors[name];
        (info.format, &file[info.start..info.start + info.bytes])
    };
    let mut formats = 0;
    for name in header.tensors.keys().filter(|name| !name.ends_with(".f32")) {
        let ((format, blocks), (_, expected)) = (raw(name), raw(&format!("{name}.f32")));
        let expected: Vec<f32> = expected.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        for (start, len) in [(0, 1024), (37, 300), (511, 2)] {
            let mut found = vec![f32::NAN; len];
            format.decode(blocks, start, &mut found);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&found) == bits(&expected[start..start + len]), "{name} from {start}");
        }
        formats += 1;
    }
    assert_eq!(formats, 11);
}

/// One file, and the same model in two.
#[test]
fn tensors_are_those_of_hugging_face() {
    for name in ["llama.gguf", "split-00001-of-00002.gguf"] {
        let model = GgufModel::open(&fixture(name)).unwrap();
        let file = bytes("model.llama.safetensors");
        let expected = SafeTensors::deserialize(&file).unwrap();
        for spec in tensors(model.config()) {
            let mut found = vec![0.0; spec.len()];
            model.read(&spec.name, 0, &mut found).unwrap();
            let expected: Vec<f32> =
                expected.tensor(&spec.name).unwrap().data().as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
            assert!(found == expected, "{}", spec.name);
            let mut middle = vec![0.0; spec.len() / 2];
            model.read(&spec.name, 5, &mut middle).unwrap();
            assert!(middle == expected[5..5 + middle.len()], "{} from its middle", spec.name);
        }
        assert!(model.config().tie_word_embeddings);
    }
}

/// Norms of Gemma are stored as they multiply, rows of k are permuted in SmolLM3 but not in Gemma, and what most files leave out
/// is known.
#[test]
fn gemma_and_smollm3_are_those_of_hugging_face() {
    for name in ["gemma3", "smollm3"] {
        let model = GgufModel::open(&fixture(&format!("{name}.gguf"))).unwrap();
        let file = bytes(&format!("model.{name}.safetensors"));
        for (tensor, view) in SafeTensors::deserialize(&file).unwrap().tensors() {
            let expected: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
            let mut found = vec![0.0; expected.len()];
            model.read(&tensor, 0, &mut found).unwrap();
            assert!(found == expected, "{tensor}: {found:?} {expected:?}");
        }
    }
    let gemma = GgufModel::open(&fixture("gemma3.gguf")).unwrap();
    let config = gemma.config();
    let (local, global) = (Layer { rope: Some(0), window: Some(3) }, Layer { rope: Some(1), window: None });
    assert_eq!(config.layers, [local, global, local]);
    assert_eq!(config.ropes[0], Rope { theta: 1e4, scaling: RopeScaling::Default });
    assert_eq!(config.ropes[1], Rope { theta: 5e3, scaling: RopeScaling::Linear { factor: 8.0 } });
    assert_eq!((config.query_scale, config.embedding_scale), (4.0, 12f64.sqrt()));
    let smol = GgufModel::open(&fixture("smollm3.gguf")).unwrap();
    let rotated: Vec<bool> = smol.config().layers.iter().map(|layer| layer.rope.is_some()).collect();
    assert_eq!(rotated, [true, true, true, false]);
}

/// What a GGUF file cannot say of a Gemma or a SmolLM3 is refused by name; what it can say is read again.
#[test]
fn patterns_of_layers_in_and_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let tokenizer = GgufModel::open(&fixture("gemma3.gguf")).unwrap().tokenizer().unwrap();
    let (full, local) = ("full_attention", "sliding_attention");
    let cases = [
        ("gemma3_text", json!({"sliding_window": 3, "query_pre_attn_scalar": 4}), ""),
        ("gemma3_text", json!({"sliding_window": 3, "query_pre_attn_scalar": 4, "layer_types": [local, full]}), ""),
        ("gemma3_text", json!({"query_pre_attn_scalar": 4, "rope_local_base_freq": 7e3, "layer_types": [full, full]}), ""),
        ("gemma3_text", json!({"sliding_window": 3, "query_pre_attn_scalar": 4, "layer_types": [full, local]}), "layer_types"),
        ("gemma3_text", json!({"sliding_window": 3}), "query_pre_attn_scalar"),
        ("smollm3", json!({}), ""),
        ("smollm3", json!({"no_rope_layer_interval": 2}), "no_rope_layers"),
    ];
    for (family, edit, refused) in cases {
        let config = Config::from_json(&edited(family, edit.clone())).unwrap();
        let model = Init::new(config.clone(), 3);
        let file =
            GgufExport { name: "small", description: None, format: F16, model: &model, tokenizer: &tokenizer, judge: "{}" };
        match export(&path, &file) {
            Err(error) => assert!(!refused.is_empty() && error.to_string().contains(refused), "{edit}: {error}"),
            Ok(_) => {
                assert!(refused.is_empty(), "{edit} was written");
                let again = GgufModel::open(&path).unwrap();
                assert_eq!((&again.config().ropes, &again.config().layers), (&config.ropes, &config.layers), "{edit}");
            }
        }
    }
}

/// The planes of packed formats mean the values of the file, bit for bit, rows of q put right.
#[test]
fn packed_formats_stay_packed() {
    let model = GgufModel::open(&fixture("llama.gguf")).unwrap();
    let layer = "model.layers.0.";
    let (q, o, gate) = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.gate_proj.weight");
    let cases = [(q, 32 * 32, WeightDtype::Q8), (o, 32 * 32, WeightDtype::Q4), (gate, 64 * 32, WeightDtype::Q4)];
    for (tensor, len, dtype) in cases {
        let tensor = format!("{layer}{tensor}");
        let mut values = vec![0.0; len];
        model.read(&tensor, 0, &mut values).unwrap();
        assert_eq!(model.stored_dtype(&tensor), dtype, "{tensor}");
        let plane = |plane, start, end| {
            let mut entries = vec![0; end - start];
            model.read_plane(&tensor, plane, start, &mut entries).unwrap();
            entries
        };
        let [words, blocks] = Plane::ALL.map(|plane| dtype.entries(plane, len));
        let (packed, scales) = (plane(Plane::Packed, 0, words), plane(Plane::Scales, 0, blocks));
        assert!(dtype.decode(&packed, &scales) == values, "{tensor}");
        assert!(plane(Plane::Packed, 37, 90) == packed[37..90] && plane(Plane::Scales, 3, 9) == scales[3..9]);
    }
    assert_eq!(model.stored_dtype(&format!("{layer}mlp.up_proj.weight")), WeightDtype::F32, "Q5_0 is decoded");
    assert!(model.read_plane("model.norm.weight", Plane::Packed, 0, &mut [0]).is_err());
}

#[test]
fn byte_level_tokenizers() {
    let tokenizer = GgufModel::open(&fixture("llama.gguf")).unwrap().tokenizer().unwrap();
    let pieces = |text: &str| -> Vec<String> {
        tokenizer.encode(text, true).unwrap().into_iter().map(|id| tokenizer.id_to_token(id).unwrap()).collect()
    };
    assert_eq!(pieces("hello world"), ["<s>", "hello", "Ġwor", "ld"], "BOS in front, as llama-bpe says");
    assert_eq!(pieces("1234"), ["<s>", "1", "2", "3", "4"]);
    assert_eq!(pieces("a</s>b"), ["<s>", "a", "</s>", "b"], "control tokens are found in the text");
    assert_eq!(tokenizer.decode(&tokenizer.encode("é\u{1F642} x", false).unwrap(), true).unwrap(), "é\u{1F642} x");
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_ids()), (Some(0), &[1][..]));
}

/// The best score first; a character outside the vocabulary becomes bytes; no space is put in front.
#[test]
fn sentence_piece_tokenizers() {
    let header = Header::parse(&bytes("sentence.gguf")).unwrap();
    let tokenizer = Tokenizer::from_files(super::tokenizer::files(Metadata(&header.metadata)).unwrap()).unwrap();
    let pieces = |text: &str| -> Vec<String> {
        tokenizer.encode(text, false).unwrap().into_iter().map(|id| tokenizer.id_to_token(id).unwrap()).collect()
    };
    assert_eq!(pieces("the cat"), ["t", "he", "▁cat"]);
    assert_eq!(pieces(" the cat  in"), ["▁the", "▁cat", "▁▁", "in"]);
    assert_eq!(pieces("é"), ["<0xC3>", "<0xA9>"]);
    assert_eq!(pieces("at<start_of_turn>t"), ["at", "<start_of_turn>", "t"]);
    assert_eq!(tokenizer.decode(&tokenizer.encode(" the cat, é", false).unwrap(), true).unwrap(), " the cat, é");
}

/// The ids that llama.cpp finds, for every pre-tokenizer, and for SentencePiece with and without a space in front. The
/// vocabularies have merges across words, digits and white space, so that every border that is not drawn would be seen.
///
/// Tekken's own expression counts combining marks as parts of words. llama.cpp has no such class and cuts at them; here the
/// model's own rule holds, and texts with marks are left out.
#[test]
fn token_ids_are_those_of_llama_cpp() {
    let expected: serde_json::Value = serde_json::from_slice(&bytes("token_ids.json")).unwrap();
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let mut faults = Vec::new();
    let mut compare = |name: &str, metadata: &BTreeMap<String, Value>| {
        let tokenizer = Tokenizer::from_files(super::tokenizer::files(Metadata(metadata)).unwrap()).unwrap();
        for (text, ids) in texts.iter().zip(expected[name].as_array().unwrap()) {
            if name == "tekken" && text.contains(['\u{301}', '\u{94d}']) {
                continue;
            }
            let ids: Vec<u32> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            let found = tokenizer.encode(text, false).unwrap();
            if found != ids {
                let pieces = |ids: &[u32]| ids.iter().map(|id| tokenizer.id_to_token(*id).unwrap()).collect::<Vec<_>>().join("|");
                faults.push(format!("{name}, {text:?}:\n  {}\n  {}", pieces(&found), pieces(&ids)));
            }
        }
    };
    for pre in super::tokenizer::PRE_TOKENIZERS {
        let mut metadata = Header::parse(&bytes("bytes.gguf")).unwrap().metadata;
        metadata.insert("tokenizer.ggml.pre".into(), Value::Text(pre.name.into()));
        compare(pre.name, &metadata);
    }
    for (name, space_prefix) in [("spaced", true), ("unspaced", false)] {
        let mut metadata = Header::parse(&bytes("pieces.gguf")).unwrap().metadata;
        metadata.insert("tokenizer.ggml.add_space_prefix".into(), Value::Bool(space_prefix));
        compare(name, &metadata);
    }
    assert!(faults.is_empty(), "{} texts, ours and llama.cpp's:\n{}", faults.len(), faults.join("\n"));
}

/// A model, its tokenizer and a judge's settings are the same after they were written and read again; llama.cpp's order of rows
/// is gguf-py's.
#[test]
fn what_is_exported_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let cases =
        [("llama", F16, 5e-4), ("llama", Bf16, 4e-3), ("llama", Q8_0, 5e-3), ("llama", Q4_0, 0.13), ("llama", Q4_1, 0.08)];
    for (name, format, error) in cases.into_iter().chain([("gemma3", F16, 5e-4), ("smollm3", F16, 5e-4)]) {
        let model = GgufModel::open(&fixture(&format!("{name}.gguf"))).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let path = dir.path().join("model.gguf");
        let judge = "{\"scale\": \"1..5\"}";
        let file = GgufExport { name: "small", description: None, format, model: &model, tokenizer: &tokenizer, judge };
        let written = export(&path, &file).unwrap();
        assert_eq!((written.bytes, written.left_in_f16), (std::fs::metadata(&path).unwrap().len(), 0));
        let again = GgufModel::open(&path).unwrap();
        assert_eq!(again.judge_json().unwrap().as_deref(), Some(judge));
        assert_eq!(again.stored_dtype("model.layers.0.mlp.up_proj.weight"), format.held_as());
        for spec in tensors(model.config()) {
            let (mut before, mut after) = (vec![0.0; spec.len()], vec![0.0; spec.len()]);
            model.read(&spec.name, 0, &mut before).unwrap();
            again.read(&spec.name, 0, &mut after).unwrap();
            let largest = before.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let worst = before.iter().zip(&after).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
            let allowed = if spec.shape.len() == 1 { 0.0 } else { error * largest };
            assert!(worst <= allowed, "{} as {}: {worst} of {largest}", spec.name, format.name());
        }
        let read = again.tokenizer().unwrap();
        for text in ["hello world", "a</s>b 12", "é\u{1F642}\n x"] {
            assert_eq!(read.encode(text, true).unwrap(), tokenizer.encode(text, true).unwrap());
        }
        assert_eq!((read.bos_id(), read.eos_ids()), (tokenizer.bos_id(), tokenizer.eos_ids()));
    }
}

/// Rows of a Q8_0 matrix that are written again have the bytes of gguf-py.
#[test]
fn q8_0_is_written_as_by_gguf_py() {
    let (dir, path) = (tempfile::tempdir().unwrap(), fixture("llama.gguf"));
    let model = GgufModel::open(&path).unwrap();
    let again = dir.path().join("again.gguf");
    let file = GgufExport {
        name: "small",
        description: None,
        format: Q8_0,
        model: &model,
        tokenizer: &model.tokenizer().unwrap(),
        judge: "{}",
    };
    export(&again, &file).unwrap();
    let raw = |path: &Path| {
        let file = std::fs::read(path).unwrap();
        let info = Header::parse(&file).unwrap().tensors["blk.0.attn_q.weight"].clone();
        file[info.start..info.start + info.bytes].to_vec()
    };
    assert!(raw(&path) == raw(&again));
}

#[test]
fn tokenizers_without_a_name_are_refused() {
    let special = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::for_decoder() };
    let words = word_level(&["<unk>", "a"], &special).unwrap();
    assert!(super::vocabulary::vocabulary(&words, 9).unwrap_err().to_string().contains("no name for"));
}

#[test]
fn damaged_files_are_refused_before_anything_is_allocated() {
    let file = bytes("llama.gguf");
    for end in (0..file.len()).step_by(97) {
        assert!(Header::parse(&file[..end]).is_err(), "cut off at {end}");
    }
    let refused = |at: usize, with: &[u8]| {
        let mut damaged = file.clone();
        damaged[at..at + with.len()].copy_from_slice(with);
        Header::parse(&damaged).unwrap_err()
    };
    assert!(refused(0, b"GGML").contains("does not begin with GGUF"));
    assert!(refused(4, &1u32.to_le_bytes()).contains("version is 1"));
    assert!(refused(4, &3u32.to_be_bytes()).contains("big-endian"));
    assert!(refused(8, &(1u64 << 60).to_le_bytes()).contains("number of tensors"));
    assert!(refused(16, &(1u64 << 60).to_le_bytes()).contains("number of metadata pairs"));
    assert!(refused(24, &(1u64 << 60).to_le_bytes()).contains("the length of a metadata key"));
    // The first tensor's description follows its name: two sizes, format, offset.
    let name = b"token_embd.weight";
    let at = file.windows(name.len()).position(|w| w == name).unwrap() + name.len();
    assert!(refused(at, &9u32.to_le_bytes()).contains("9 dimensions"));
    assert!(refused(at + 4, &31u64.to_le_bytes()).contains("rows of 31 values"));
    assert!(refused(at + 12, &(1u64 << 62).to_le_bytes()).contains("has the shape"));
    assert!(refused(at + 20, &10u32.to_le_bytes()).contains("Q2_K, which is not read"));
    assert!(refused(at + 20, &77u32.to_le_bytes()).contains("the unknown type 77"));
    assert!(refused(at + 24, &1u64.to_le_bytes()).contains("not a multiple of 32"));
    assert!(refused(at + 24, &32u64.to_le_bytes()).contains("overlap"));
    assert!(refused(at + 24, &(1u64 << 63).to_le_bytes()).contains("ends after the file does"));
}

/// The names of the tensors of so many layers would be thousands of times as large as the file. (Found by fuzzing.)
#[test]
fn more_layers_than_tensors_are_refused_before_their_names_are_made() {
    let mut file = bytes("llama.gguf");
    let key = b"llama.block_count";
    let at = file.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4;
    file[at..at + 4].copy_from_slice(&4000u32.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layers.gguf");
    std::fs::write(&path, file).unwrap();
    let error = GgufModel::open(&path).err().unwrap().to_string();
    assert!(error.contains("4000 layers") && error.contains("layers.gguf"), "{error}");
}

/// One byte of a list in a file would be many in memory.
#[test]
fn long_lists_are_refused() {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend([0u64, 1, 1].map(u64::to_le_bytes).concat());
    file.push(b'k');
    file.extend([9u32, 0].map(u32::to_le_bytes).concat());
    file.extend(5_000_000u64.to_le_bytes());
    file.resize(file.len() + 5_000_000, 0);
    assert!(Header::parse(&file).unwrap_err().contains("5000000 entries"));
}

#[test]
fn what_is_not_read_is_named() {
    let header = Header::parse(&bytes("llama.gguf")).unwrap();
    let config = |key: &str, value: Value| {
        let mut header = Header { metadata: header.metadata.clone(), tensors: header.tensors.clone() };
        header.metadata.insert(key.into(), value);
        super::config::config(&header, None).unwrap_err().to_string()
    };
    assert!(config("general.architecture", Value::Text("mamba".into())).contains("\"mamba\""));
    for (name, needs) in
        [("gemma2", "soft-capping"), ("gemma3n", "AltUp"), ("qwen35", "gated delta nets"), ("gemma4", "per-layer")]
    {
        let said = config("general.architecture", Value::Text(name.into()));
        assert!(said.contains(name) && said.contains(needs), "{said}");
    }
    assert!(config("llama.final_logit_softcapping", Value::Float(30.0)).contains("final_logit_softcapping"));
    assert!(config("llama.expert_count", Value::Unsigned(8)).contains("llama.expert_count"));
    assert!(config("llama.rope.scaling.type", Value::Text("yarn".into())).contains("\"yarn\""));
    assert!(super::config::config(&header, Some(&[3.0; 8])).unwrap_err().to_string().contains("rope_freqs.weight"));
    let tokenizer = |key: &str, value: Value| {
        let mut metadata = header.metadata.clone();
        metadata.insert(key.into(), value);
        super::tokenizer::files(Metadata(&metadata)).unwrap_err().to_string()
    };
    assert!(tokenizer("tokenizer.ggml.pre", Value::Text("klingon".into())).contains("\"klingon\""));
    assert!(tokenizer("tokenizer.ggml.model", Value::Text("bert".into())).contains("\"bert\""));
    assert!(tokenizer("tokenizer.ggml.bos_token_id", Value::Unsigned(9999)).contains("9999"));
}
