//! Models whose numbers are far from 1: what the GPU says of a row is what f64 says, or nothing.

use std::collections::BTreeMap;

use jurist::data::{Example, Reader};
use jurist::gpu::{Gpu, Limits, Tuning};
use jurist::judge::{Judge, JudgeSettings, ScoreOptions};
use jurist::model::checkpoint::Checkpoint;
use jurist::model::config::Config;
use jurist::model::decoder::{PackedInputs, Pass, PassSizes};
use jurist::model::error::ModelError;
use jurist::model::init::Init;
use jurist::model::save::save_checkpoint;
use jurist::model::source::TensorSource;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::TokenLoss;
use jurist::reference;
use jurist::text::Tokenizer;
use serde_json::{Value, json};

use crate::cli::{Task, finish, lines, succeed, tiny_config};
use crate::common;
use crate::faults::exact;
use jurist::ops::weight_dtype::WeightDtype;

const SCORES: [u32; 5] = [7, 11, 3, 29, 40];
/// Of an expected score from 1 to 5.
const TOLERANCE: f64 = 0.02;

/// Weights in memory.
struct Given {
    config: Config,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl TensorSource for Given {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        out.copy_from_slice(&self.tensors[tensor][start..start + out.len()]);
        Ok(())
    }
}

/// A small model of a family, each weight times `factor` of its name.
fn model(family: &str, architecture: &str, factor: impl Fn(&str) -> f64) -> Given {
    let mut config = tiny_config();
    for (key, value) in [
        ("model_type", json!(family)),
        ("architectures", json!([architecture])),
        ("hidden_size", json!(32)),
        ("intermediate_size", json!(64)),
        ("head_dim", json!(16)),
    ] {
        config[key] = value;
    }
    let config = Config::from_json(&config.to_string()).unwrap();
    let weights = reference::Weights::random(&exact::reference_config(&config), 5);
    let times = |(name, values): (String, Vec<f64>)| {
        let factor = factor(&name);
        let values = values.iter().map(|v| (v * factor) as f32).collect();
        (name, values)
    };
    Given { config, tensors: weights.0.into_iter().map(times).collect() }
}

/// The same model with a head of its own.
fn untied(config: &Config) -> Config {
    let mut map = config.raw().clone();
    map.insert("tie_word_embeddings".into(), json!(false));
    Config::from_json(&Value::Object(map).to_string()).unwrap()
}

fn sequences() -> Vec<Vec<u32>> {
    (0..6u32).map(|n| (0..5 + n).map(|i| 3 + (i * 17 + n * 29) % 90).collect()).collect()
}

fn expected(logits: impl Fn(usize) -> f64) -> f64 {
    let all: Vec<f64> = (0..5).map(logits).collect();
    let top = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = all.iter().map(|l| (l - top).exp()).collect();
    weights.iter().zip(1..).map(|(w, value)| w * f64::from(value)).sum::<f64>() / weights.iter().sum::<f64>()
}

/// The expected score behind each sequence; `None` where the GPU's statistics have no number.
fn found(gpu: &Gpu, weights: &Weights, sequences: &[Vec<u32>]) -> Vec<Option<f64>> {
    let mut batch = PackedInputs::default();
    for ids in sequences {
        let start = batch.push(ids);
        batch.push_loss(start + ids.len() as u32 - 1, TokenLoss::default());
    }
    let (tokens, rows) = (batch.ids.len(), batch.loss_positions.len());
    let sizes = PassSizes { tokens, loss_positions: rows, score_tokens: SCORES.to_vec(), ..PassSizes::default() };
    let pass = Pass::new(gpu, weights, None, sizes).unwrap();
    pass.run(&batch).unwrap();
    let stats = pollster::block_on(pass.stats(rows)).unwrap();
    let number = |log_probs: &[f32]| log_probs.iter().all(|l| !l.is_nan()).then(|| expected(|k| f64::from(log_probs[k])));
    stats.iter().map(|row| number(&row.score_log_probs)).collect()
}

fn right(gpu: &Gpu, what: &str, weights: &Weights) -> usize {
    let sequences = sequences();
    // What is on the GPU is what is meant: quantised weights decoded.
    let values = |spec: &jurist::model::names::TensorSpec| {
        let values = pollster::block_on(weights.base().values(gpu, &spec.name, 0, spec.len())).unwrap();
        (spec.name.clone(), values.into_iter().map(f64::from).collect::<Vec<f64>>())
    };
    let exact_weights = reference::Weights(weights.base().specs().iter().map(values).collect());
    let logits = exact::last_logits(&weights.config, &exact_weights, &sequences);
    let mut numbers = 0;
    for (row, (found, logits)) in found(gpu, weights, &sequences).into_iter().zip(&logits).enumerate() {
        let exact = expected(|k| logits[SCORES[k] as usize]);
        if let Some(found) = found {
            assert!((found - exact).abs() < TOLERANCE, "{what}, row {row}: {found}, f64 has {exact}");
            numbers += 1;
        }
    }
    numbers
}

fn tunings(gpu: &Gpu) -> Vec<Gpu> {
    let plain = gpu.tuned(Tuning { variants: [].into(), ..gpu.tuning().clone() });
    let teams = gpu.tuned(common::gpu_tuning_from(gpu.tuning().clone(), 3));
    vec![gpu.clone(), plain, teams]
}

const FAMILIES: [(&str, &str); 3] = [("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM")];

#[test]
fn weights_of_any_size_give_the_value_of_f64_or_none() {
    let gpu = common::open(Limits::Portable, true);
    for (family, architecture) in FAMILIES {
        for (factor, all_numbers) in
            [(1.0, true), (1e4, false), (1e6, false), (1e15, false), (1e30, false), (1e-4, true), (1e-20, true), (1e-36, true)]
        {
            let source = model(family, architecture, |_| factor);
            for gpu in tunings(&gpu) {
                let what = format!("{family} times {factor:e}");
                let numbers = right(&gpu, &what, &Weights::upload(&gpu, &source).unwrap());
                assert!(!all_numbers || numbers == 6, "{what}: {numbers} rows of 6 have a number");
            }
        }
    }
}

/// Where the final norm brings the sizes back, every row has its value.
#[test]
fn large_activations_are_no_loss() {
    let gpu = common::open(Limits::Portable, true);
    let cases: [(&str, &[&str], f64); 5] = [
        ("all that writes the residual", &["embed_tokens", "o_proj", "down_proj"], 1e25),
        ("the lowest layer's down_proj", &["layers.0.mlp.down_proj"], 1e30),
        ("the embedding", &["embed_tokens"], 1e30),
        ("what writes the residual, tiny", &["embed_tokens", "o_proj", "down_proj"], 1e-3),
        ("gate and up", &["gate_proj", "up_proj"], 1e8),
    ];
    for (family, architecture) in FAMILIES {
        for (what, names, factor) in cases {
            let mut source =
                model(family, architecture, |name| if names.iter().any(|n| name.contains(n)) { factor } else { 1.0 });
            // A head of its own, of ordinary size.
            let head = model(family, architecture, |_| 1.0).tensors["model.embed_tokens.weight"].clone();
            source.config = untied(&source.config);
            source.tensors.insert("lm_head.weight".into(), head);
            for gpu in tunings(&gpu) {
                let weights = Weights::upload(&gpu, &source).unwrap();
                assert_eq!(right(&gpu, &format!("{family}, {what} times {factor:e}"), &weights), 6, "{family}, {what}");
            }
        }
    }
}

#[test]
fn packed_weights_of_any_size() {
    let gpu = common::open(Limits::Portable, true);
    for dtype in [WeightDtype::Bf16, WeightDtype::F16, WeightDtype::Q8, WeightDtype::Q4] {
        for factor in [1e4, 1e15, 1e-20] {
            let source = model("qwen3", "Qwen3ForCausalLM", |_| factor);
            // What a format cannot hold is an error of its own.
            if let Ok(weights) = Weights::upload_as(&gpu, &source, dtype.into()) {
                right(&gpu, &format!("{} times {factor:e}", dtype.name()), &weights);
            }
        }
    }
}

/// A judge from scratch, its weights times 1e4: each row has a number or says why not, and one format is too small.
#[test]
fn a_judge_says_which_rows_have_no_score() {
    let task = Task::new(12, 4, false);
    succeed(task.train("judge", &["--max-steps", "1", "--save-steps", "0", "--per-device-train-batch-size", "4"]));
    let init = Init::new(Config::from_json(&task.read("judge/config.json")).unwrap(), 3);
    let given = |factor: f32| {
        let tensors = exact::weights(&init).0.into_iter();
        let tensors = tensors.map(|(name, values)| (name, values.into_iter().map(|v| v as f32 * factor).collect())).collect();
        Given { config: init.config().clone(), tensors }
    };
    for (factor, any) in [(1.0, true), (1e4, false), (1e15, false)] {
        let extras = ["judge.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];
        let files = extras.iter().filter_map(|f| Some((f.to_string(), std::fs::read(task.at("judge").join(f)).ok()?)));
        let name = format!("times-{factor:e}");
        save_checkpoint(&task.at(&name), WeightDtype::F32, &given(factor), &files.collect::<Vec<_>>(), 1 << 30).unwrap();
        let done = finish(task.jurist(&["score", "--model", &name, "--input", "dev.jsonl"]));
        for row in lines(&done.out) {
            let (score, error) = (&row["judge"]["expected"], &row["judge"]["error"]);
            assert!(score.is_null() != error.is_null(), "{row}");
            assert!(!any || score.is_number(), "{row}");
            if let Value::String(error) = error {
                assert!(error.contains("too large for f32"), "{error}");
            }
        }
        if factor == 1e15 {
            let export = finish(task.jurist(&["export", &name, "--out", "bundle", "--weights", "f16"]));
            assert!(export.code == Some(1) && export.err.contains("does not fit into float16"), "{export:?}");
        }
    }
}

/// One row that overflows takes no score from the others.
#[test]
fn a_row_without_a_number_leaves_the_others_theirs() {
    let task = Task::new(12, 4, false);
    succeed(task.train("judge", &["--max-steps", "1", "--save-steps", "0", "--per-device-train-batch-size", "4"]));
    let gpu = common::open(Limits::Adapter, false);
    let rows = Reader::default().read_path(&task.at("dev.jsonl")).unwrap().examples;
    let checkpoint = Checkpoint::open(&task.at("judge")).unwrap();
    let judged = |source: &dyn TensorSource| {
        let settings = JudgeSettings::from_json(&task.read("judge/judge.json")).unwrap();
        let tokenizer = Tokenizer::from_dir(&task.at("judge")).unwrap();
        let judge = Judge::new(&gpu, &Weights::upload(&gpu, source).unwrap(), tokenizer, settings).unwrap();
        pollster::block_on(judge.judge(&rows, &ScoreOptions::default(), ())).unwrap()
    };
    let before = judged(&checkpoint);
    // A word that one row has and the others have not.
    let tokenizer = Tokenizer::from_dir(&task.at("judge")).unwrap();
    let ids = |row: &Example| {
        let texts: Vec<&str> = row.row.fields.values().filter_map(Value::as_str).collect();
        tokenizer.encode(&texts.join(" "), false).unwrap()
    };
    let own = (0..rows.len()).find_map(|n| {
        let others: Vec<u32> = (0..rows.len()).filter(|m| *m != n).flat_map(|m| ids(&rows[m])).collect();
        Some((n, ids(&rows[n]).into_iter().find(|id| !others.contains(id))?))
    });
    let (bad, token) = own.expect("every word is in two rows");
    let narrow = |(name, values): (String, Vec<f64>)| (name, values.into_iter().map(|v| v as f32).collect());
    let mut tensors: BTreeMap<String, Vec<f32>> = exact::weights(&checkpoint).0.into_iter().map(narrow).collect();
    let hidden = checkpoint.config().hidden_size;
    let head = tensors["model.embed_tokens.weight"].clone();
    tensors.insert("lm_head.weight".into(), head);
    tensors.get_mut("model.embed_tokens.weight").unwrap()[token as usize * hidden] = f32::NAN;
    let after = judged(&Given { config: untied(checkpoint.config()), tensors });
    for (n, (before, after)) in before.iter().zip(&after).enumerate() {
        let (before, after) = (before.record.expected.unwrap(), &after.record);
        match n == bad {
            true => {
                assert!(after.expected.is_none() && after.error.as_ref().is_some_and(|e| e.contains("not finite")), "{after:?}")
            }
            false => assert!((before - after.expected.unwrap()).abs() < 1e-5, "row {n}: {before} and {after:?}"),
        }
    }
}
