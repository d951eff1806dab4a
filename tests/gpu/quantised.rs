//! Quantised judges: bundles of q8 and q4 hold what they should, every pass computes what decoding them first would, and a
//! judge is still the judge it was.

use std::path::Path;

use crate::cli::{Task, finish, lines, succeed, tiny_config};
use crate::common::{FORWARD_TOLERANCE, assert_close, gpu};
use jurist::bundle::{ArrayPart, BundleInput, Contents, EntryFormat, Label, Manifest, ShardReader, export};
use jurist::model::config::Config;
use jurist::model::decoder::{
    CachePass, CacheSizes, InputSquaresPass, LogitsPass, PackedInputs, Pass, PassSizes, PrefillPrompt, PrefillRow, Sampler,
};
use jurist::model::error::ModelError;
use jurist::model::init::Init;
use jurist::model::names::{EMBED, LM_HEAD, tensors};
use jurist::model::quantised::{ColumnSquares, Plane, largest_code};
use jurist::model::source::{TensorSource, quantisation};
use jurist::model::tensors::TensorSet;
use jurist::model::weights::Weights;
use jurist::model_folder::ModelFolder;
use jurist::ops::loss_head::TokenLoss;
use jurist::ops::weight_dtype::{BLOCK, WeightDtype};
use jurist::text::Tokenizer;
use serde_json::{Value, json};

/// The last is what earlier versions wrote as q4.
const QUANTISED: [WeightDtype; 3] = [WeightDtype::Q8, WeightDtype::Q4, WeightDtype::Q4Symmetric];

/// The tiny model with rows of whole blocks, but for `down_proj`, whose rows of 40 stay in full; bias, and a head of its own.
fn config() -> Value {
    let mut config = tiny_config();
    let changes = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 40,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": false,
    });
    config.as_object_mut().unwrap().remove("attention_bias");
    config.as_object_mut().unwrap().remove("mlp_bias");
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

fn model() -> Init {
    Init::new(Config::from_json(&config().to_string()).unwrap(), 3)
}

fn bundle(dir: &Path, weights: WeightDtype) -> Manifest {
    let task = Task::new(1, 1, false);
    let tokenizer = Tokenizer::from_dir(&task.at("words")).unwrap();
    let judge = json!({"format": 1, "scale": "1..5", "phrase": "score", "template": "plain", "chat": false, "chain": true, "max_completion_length": 20});
    let model = model();
    let bundle = BundleInput {
        label: &Label { name: "tiny".into(), description: None, examples: Vec::new() },
        weights,
        model: &model,
        adapter: None,
        squares: &ColumnSquares::default(),
        tokenizer: &tokenizer,
        judge,
    };
    export(dir, &bundle, 6000).unwrap()
}

fn source(dir: &Path) -> Box<dyn TensorSource> {
    ModelFolder::open(dir).unwrap().weights().unwrap().source
}

fn values(source: &dyn TensorSource, name: &str, len: usize) -> Vec<f32> {
    let mut out = vec![0.0; len];
    source.read(name, 0, &mut out).unwrap();
    out
}

/// Half a step of each block, and nothing at all where a tensor is not quantised: norms, biases, and rows that are no whole
/// blocks. The embedding has 8 bits in all formats, and the
/// values of attention in Q4.
#[test]
fn weights_come_back_within_half_a_step() {
    let original = model();
    for dtype in QUANTISED {
        let dir = tempfile::tempdir().unwrap();
        bundle(dir.path(), dtype);
        let stored = source(dir.path());
        assert_eq!(quantisation(stored.as_ref()), Some(dtype));
        for spec in tensors(original.config()) {
            let (before, after) = (values(&original, &spec.name, spec.len()), values(stored.as_ref(), &spec.name, spec.len()));
            if spec.shape.len() == 1 || !spec.shape[1].is_multiple_of(BLOCK) {
                assert_eq!(before, after, "{}", spec.name);
                continue;
            }
            let in_q8 = spec.name == EMBED || dtype == WeightDtype::Q4 && spec.name.contains("v_proj");
            let held = if in_q8 { WeightDtype::Q8 } else { dtype };
            assert_eq!(stored.stored_dtype(&spec.name), held, "{}", spec.name);
            for (x, y) in before.chunks(BLOCK).zip(after.chunks(BLOCK)) {
                let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
                let largest = high.max(-low);
                let allowed = match held {
                    // Scale and minimum are f16, and chosen for the least squared error: a single value may be farther off.
                    WeightDtype::Q4 => 0.8 * (high - low) / 15.0 + largest / 1024.0,
                    _ => 0.5001 * largest / largest_code(held.bits()) as f32,
                };
                assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() <= allowed), "{dtype:?} {}: {x:?} {y:?}", spec.name);
            }
            // Pieces that begin and end within blocks, across the places where a matrix was cut.
            for (start, len) in [(0, 1), (31, 2), (33, 700), (spec.len() - 5, 5)] {
                let mut piece = vec![0.0; len];
                stored.read(&spec.name, start, &mut piece).unwrap();
                assert_eq!(piece, after[start..start + len]);
            }
        }
        let past = stored.read(LM_HEAD, 97 * 64 - 1, &mut [0.0; 2]).err().unwrap().to_string();
        assert!(past.contains("6208 elements"), "{past}");
        assert_ne!(values(&original, LM_HEAD, 64), values(stored.as_ref(), LM_HEAD, 64), "the head is quantised");
    }
}

/// The two planes of a stream, cut anywhere, are those of the files.
#[test]
fn a_stream_carries_the_planes() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = bundle(dir.path(), WeightDtype::Q4);
    let stored = source(dir.path());
    let mut contents = Contents::new(&manifest.model().unwrap(), WeightDtype::Q4);
    let mut planes = 0;
    for entry in &manifest.shards {
        let bytes = std::fs::read(dir.path().join(&entry.file)).unwrap();
        let mut reader = ShardReader::new(&entry.file, entry.bytes);
        let mut part: Option<ArrayPart> = None;
        for piece in bytes.chunks(777) {
            let take = |piece: jurist::bundle::TensorChunk| {
                if piece.start == 0 {
                    part = Some(contents.add(&entry.file, piece.tensor, piece.shape, piece.dtype)?);
                }
                let part = part.as_ref().unwrap();
                let EntryFormat::Plane(_, plane) = part.entries else { return Ok(()) };
                assert_eq!(piece.tensor.ends_with(".scales"), plane == Plane::Scales);
                let mut expected = vec![0; piece.bytes.len() / 4];
                stored.read_plane(&part.tensor, plane, part.start + piece.start, &mut expected)?;
                assert_eq!(expected.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>(), piece.bytes);
                planes += 1;
                Ok::<_, ModelError>(())
            };
            reader.push(piece, take).unwrap();
        }
        reader.finish().unwrap();
    }
    contents.finish().unwrap();
    assert!(planes > 10);
}

fn batch() -> PackedInputs {
    let mut batch = PackedInputs::default();
    batch.push(&[1, 5, 9, 96, 2]);
    batch.push_shared(&[3, 4, 5], &[&[7, 8], &[11]]);
    for row in [0, 4, 6, 9] {
        batch.push_loss(row, TokenLoss::default());
    }
    batch
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

/// Packed batches, statistics of score tokens and cached decoding: quantised weights give what they give once decoded.
#[test]
fn every_pass_is_that_of_the_decoded_weights() {
    let gpu = gpu();
    for dtype in QUANTISED {
        let dir = tempfile::tempdir().unwrap();
        bundle(dir.path(), dtype);
        let stored = source(dir.path());
        let (packed, full) =
            (Weights::upload_as(&gpu, stored.as_ref(), dtype.into()).unwrap(), Weights::upload(&gpu, stored.as_ref()).unwrap());
        assert!(packed.bytes() * 2 < full.bytes(), "{} of {}", packed.bytes(), full.bytes());
        let batch = batch();
        let logits = [&packed, &full].map(|weights| {
            let pass = LogitsPass::new(&gpu, weights, 20, 4).unwrap();
            wide(pollster::block_on(pass.run(&batch)).unwrap())
        });
        assert_close(&format!("{dtype:?} logits"), &logits[0], &logits[1], FORWARD_TOLERANCE);

        let sizes = || PassSizes { tokens: 20, loss_positions: 4, score_tokens: vec![5, 90], ..PassSizes::default() };
        let stats = [&packed, &full].map(|weights| {
            let pass = Pass::new(&gpu, weights, None, sizes()).unwrap();
            pass.run(&batch).unwrap();
            let rows = pollster::block_on(pass.stats(4)).unwrap();
            wide(rows.into_iter().flat_map(|row| row.score_log_probs).collect())
        });
        assert_close(&format!("{dtype:?} score log-probabilities"), &stats[0], &stats[1], FORWARD_TOLERANCE);

        // One row, whose product has a text of its own, behind a prompt that has several.
        let decoded = [&packed, &full].map(|weights| {
            let sizes = CacheSizes { entries: 8, rows: 1, prefill: 8, own: 3, max_length: 8, history: 4, scores: 0 };
            let pass = CachePass::new(&gpu, weights, sizes).unwrap();
            let prompt = PrefillPrompt { ids: &[1, 5, 9, 96, 2], at: 0 };
            pass.prefill(&[prompt], 0, &[PrefillRow { prompt: 0, at: 5, stream: 0, sampler: Sampler::GREEDY }]).unwrap();
            let mut all = wide(pollster::block_on(pass.logits(1)).unwrap());
            pollster::block_on(pass.force(&[7])).unwrap();
            all.extend(wide(pollster::block_on(pass.logits(1)).unwrap()));
            all
        });
        assert_close(&format!("{dtype:?} cached"), &decoded[0], &decoded[1], FORWARD_TOLERANCE);

        let gradient = TensorSet::of_model(&gpu, &packed.config, "gradient").unwrap();
        let refused = Pass::new(&gpu, &packed, Some(&gradient), sizes()).err().unwrap().to_string();
        assert!(refused.contains("needs weights in f32") && refused.contains(dtype.name()), "{refused}");
    }
}

/// On the command line: sizes and agreement are printed, the packed judge scores near the full one on the same chains (0.03
/// of a scale of 1 to 5 for q8, 0.4 for q4), and training goes on from it in f32.
#[test]
fn a_quantised_judge_is_still_the_judge() {
    let task = Task::new(24, 6, true);
    task.write("config.json", config().to_string());
    succeed(task.train("judge", &["--max-steps", "12", "--per-device-train-batch-size", "8"]));
    let export = |format: &str, more: &[&str]| {
        let args = ["export", "judge", "--out", format, "--weights", format];
        succeed(task.jurist(&[&args[..], more].concat()))
    };
    let score = |model: &str| {
        let args = ["score", "--model", model, "--input", "dev.jsonl", "--given-chains", "-q"];
        lines(&succeed(task.jurist(&args)).out).iter().map(|row| row["judge"]["expected"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let expected = score("judge");
    for (format, allowed) in [("q8", 0.03), ("q4", 0.4)] {
        let said = export(format, &["--examples", "dev.jsonl"]);
        assert!(said.out.contains(&format!("as {format}, 1 shard,")), "{}", said.out);
        assert!(said.out.contains("on 6 rows") && said.out.contains("max |ΔE|") && said.out.contains("top-1"), "{}", said.out);
        assert!(said.err.contains("2 matrices stay in f32"), "down_proj is said to be left: {}", said.err);
        println!("{}", said.out);
        let found = score(format);
        let off = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{format}: expected scores off by {off:.2e} of {allowed}");
        assert!(off > 0.0 && off < allowed, "{format}: {expected:?} {found:?}");
    }
    assert!(export("q8", &[]).out.contains("no --examples"));

    let more = ["train", "--model-name-or-path", "q8", "--train-file", "train.jsonl", "--output-dir", "more"];
    let said = succeed(task.jurist(&[&more[..], &["--phrase", "score", "--max-steps", "1"]].concat()));
    assert!(said.err.contains("q8 has q8 weights: training starts from what they decode to"), "{}", said.err);
    // From one quantised form to another, and back to files that anything reads.
    succeed(task.jurist(&["export", "q8", "--out", "plain", "--weights", "f32"]));
    assert_eq!(finish(task.jurist(&["export", "q8", "--out", "q4 of q8", "--weights", "q4"])).code, Some(0));
}

fn expected_scores(task: &Task, model: &str) -> Vec<f64> {
    let args = ["score", "--model", model, "--input", "dev.jsonl", "--given-chains", "-q"];
    lines(&succeed(task.jurist(&args)).out).iter().map(|row| row["judge"]["expected"].as_f64().unwrap()).collect()
}

fn largest_gap(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A LoRA on a base of 4 bits keeps its judge in a bundle of 4 bits: the base's codes stay, and the adapter lies beside them.
#[test]
fn an_adapter_travels_beside_weights_of_4_bits() {
    let task = Task::new(24, 6, true);
    task.write("config.json", config().to_string());
    succeed(task.train("judge", &["--max-steps", "8", "--per-device-train-batch-size", "8"]));
    let export =
        |from: &str, out: &str, weights: &str| succeed(task.jurist(&["export", from, "--out", out, "--weights", weights]));
    export("judge", "base", "q4");
    let lora = ["--model-name-or-path", "base", "--lora-r", "4", "--max-steps", "6", "--learning-rate", "2e-3"];
    let files = ["train", "--train-file", "train.jsonl", "--output-dir", "adapter", "--phrase", "score"];
    succeed(task.jurist(&[&files[..], &lora].concat()));
    let (before, adapted) = (expected_scores(&task, "base"), expected_scores(&task, "adapter"));
    let said = export("adapter", "bundle", "q4");
    assert!(said.err.contains("travels beside the weights"), "{}", said.err);
    let bundled = expected_scores(&task, "bundle");
    println!(
        "training moved a score by {:.1e}, the bundle by {:.1e}",
        largest_gap(&before, &adapted),
        largest_gap(&adapted, &bundled)
    );
    assert!(largest_gap(&before, &adapted) > 0.02 && largest_gap(&adapted, &bundled) < 1e-3);
    let manifest: Value = serde_json::from_str(&task.read("bundle/manifest.json")).unwrap();
    assert_eq!((&manifest["version"], &manifest["adapter"]["file"]), (&json!(2), &json!("adapter_model.safetensors")));
    // The same weights as those of the base; from there to a whole model, and to another bundle like it.
    let shard = |dir: &str| std::fs::read(task.at(dir).join("weights-00001.safetensors")).unwrap();
    assert!(shard("base") == shard("bundle"));
    for (out, weights) in [("whole", "f32"), ("again", "q4")] {
        export("bundle", out, weights);
        assert!(largest_gap(&bundled, &expected_scores(&task, out)) < 1e-4, "{out}");
    }
    std::fs::write(task.at("bundle/adapter_model.safetensors"), "half").unwrap();
    let done = finish(task.jurist(&["score", "--model", "bundle", "--input", "dev.jsonl"]));
    assert!(done.code != Some(0) && done.err.contains("adapter_model.safetensors"), "{}", done.err);
}

/// The squares of the first projection's inputs are those of normed embeddings; all projections are measured.
#[test]
fn calibration_measures_what_enters_projections() {
    let gpu = crate::common::gpu();
    let model = model();
    let weights = Weights::upload(&gpu, &model).unwrap();
    let config = model.config();
    let rows: [&[u32]; 3] = [&[3, 1, 4, 1, 5], &[9, 2, 6], &[5, 3, 5, 8, 9, 7]];
    let pass = InputSquaresPass::new(&gpu, &weights, 8).unwrap();
    for batch in [&rows[..2], &rows[2..]] {
        let mut inputs = PackedInputs::default();
        for ids in batch {
            inputs.push(ids);
        }
        pass.add(inputs).unwrap();
    }
    let found = pollster::block_on(pass.squares()).unwrap();
    let width = config.hidden_size;
    let norm = values(&model, "model.layers.0.input_layernorm.weight", width);
    let mut sums = vec![0.0f64; width];
    for id in rows.concat() {
        let mut x = vec![0.0; width];
        model.read(EMBED, id as usize * width, &mut x).unwrap();
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64 + config.rms_norm_eps;
        sums.iter_mut().zip(&x).zip(&norm).for_each(|((sum, x), w)| *sum += (f64::from(*x) * f64::from(*w)).powi(2) / mean);
    }
    let mean = sums.iter().sum::<f64>() / width as f64;
    let first = found.of("model.layers.0.self_attn.q_proj.weight").unwrap();
    for (found, sum) in first.iter().zip(&sums) {
        assert!((f64::from(*found) - sum / mean).abs() < 1e-4, "{found} instead of {}", sum / mean);
    }
    for spec in tensors(config).iter().filter(|spec| spec.name.ends_with("_proj.weight")) {
        let squares = found.of(&spec.name).unwrap_or_else(|| panic!("{}", spec.name));
        assert_eq!(squares.len(), spec.shape[1], "{}", spec.name);
        assert!((squares.iter().sum::<f32>() / squares.len() as f32 - 1.0).abs() < 0.01, "{}", spec.name);
    }
    assert!(found.of(EMBED).is_none());
}

#[test]
fn a_bundle_of_4_bits_is_calibrated_on_rows() {
    let task = Task::new(24, 6, true);
    task.write("config.json", config().to_string());
    succeed(task.train("judge", &["--max-steps", "8", "--per-device-train-batch-size", "8"]));
    let export = |out: &str, weights: &str, more: &[&str]| {
        let args = ["export", "judge", "--out", out, "--weights", weights];
        finish(task.jurist(&[&args[..], more].concat()))
    };
    let calibrate = ["--calibrate", "train.jsonl"];
    assert_eq!((export("plain", "q4", &[]).code, export("calibrated", "q4", &calibrate).code), (Some(0), Some(0)));
    let shard = |dir: &str| std::fs::read(task.at(dir).join("weights-00001.safetensors")).unwrap();
    assert!(shard("plain") != shard("calibrated") && shard("plain").len() == shard("calibrated").len());
    assert!(largest_gap(&expected_scores(&task, "judge"), &expected_scores(&task, "calibrated")) < 0.4);
    let refused = export("other", "q8", &calibrate);
    assert!(refused.code == Some(2) && refused.err.contains("--weights q4"), "{}", refused.err);
    let refused = export("other.gguf", "q4", &["--format", "gguf", "--calibrate", "train.jsonl"]);
    assert!(refused.code == Some(2) && refused.err.contains("not calibrated"), "{}", refused.err);
    task.write("long.jsonl", format!("{{\"prompt\": \"{}\"}}\n", "ok ".repeat(300)));
    let refused = export("other", "q4", &["--calibrate", "long.jsonl"]);
    assert!(refused.code == Some(1) && refused.err.contains("no row can be read to calibrate"), "{}", refused.err);
}
