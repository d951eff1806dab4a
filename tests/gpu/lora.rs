//! LoRA from the command line and through the trainer: only the adapter learns, it is a PEFT folder, it judges beside its
//! frozen base and merged into it, and a run goes on from where it stood. That its gradients are PEFT's is shown by
//! `golden.rs`.

use crate::cli::{Task, finish, lines, succeed, tiny_config};
use crate::common::open;
use jurist::gpu::Limits;
use jurist::model::config::Config;
use jurist::model::decoder::{LogitsPass, PackedInputs, Pass, PassSizes};
use jurist::model::init::Init;
use jurist::model::lora::peft::{ADAPTER_CONFIG, ADAPTER_MODEL};
use jurist::model::lora::{Adapter, LoraSettings};
use jurist::model::tensors::TensorSet;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::TokenLoss;
use jurist::ops::weight_dtype::WeightDtype;
use jurist::random::Stream;
use serde_json::{Value, json};

const LORA: [&str; 4] = ["--lora-r", "4", "--learning-rate", "1e-2"];

/// A task with a base model of whole blocks of 32, trained a little.
fn with_base() -> Task {
    let task = Task::new(24, 6, true);
    let mut config = tiny_config();
    for (key, value) in [("hidden_size", 64), ("intermediate_size", 96), ("head_dim", 32)] {
        config[key] = json!(value);
    }
    task.write("config.json", config.to_string());
    succeed(task.train("base", &["--max-steps", "20", "--save-steps", "0", "--per-device-train-batch-size", "8"]));
    task
}

/// `jurist train` from `model` into `output`.
fn train(task: &Task, model: &str, output: &str, more: &[&str]) -> std::process::Command {
    let mut args = vec!["train", "--model", model, "--train-file", "train.jsonl", "--output-dir", output, "--seed", "7"];
    args.extend(["--max-steps", "12", "--save-steps", "0", "--per-device-train-batch-size", "8"]);
    args.extend(["--num-generations", "4", "--max-completion-length", "12"]);
    args.extend(more);
    task.jurist(&crate::cli::last_of_each(&args))
}

fn losses(task: &Task, run: &str) -> Vec<f64> {
    let of = |line: &Value| line.get("loss").and_then(Value::as_f64);
    lines(&task.read(&format!("{run}/metrics.jsonl"))).iter().filter_map(of).collect()
}

fn bytes(task: &Task, file: &str) -> Vec<u8> {
    std::fs::read(task.at(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn scores(task: &Task, model: &str) -> Vec<f64> {
    let out = succeed(task.jurist(&["score", "--model", model, "--input", "dev.jsonl"])).out;
    lines(&out).iter().map(|row| row["judge"]["expected"].as_f64().unwrap_or_else(|| panic!("{row}"))).collect()
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The way of a user: an adapter on a frozen judge, scored, merged, exported, and gone on with by another method.
#[test]
fn an_adapter_learns_judges_and_merges() {
    let task = with_base();
    let before = bytes(&task, "base/model.safetensors");
    succeed(train(&task, "base", "lora", &LORA));
    assert!(bytes(&task, "base/model.safetensors") == before, "the base is frozen");
    let losses = losses(&task, "lora");
    assert!(losses.last() < losses.first(), "{losses:?}");
    for file in [ADAPTER_CONFIG, ADAPTER_MODEL, "tokenizer.json", "judge.json"] {
        assert!(task.at("lora").join(file).is_file(), "{file} is missing");
    }
    assert!(!task.at("lora/model.safetensors").exists());
    let config: Value = serde_json::from_str(&task.read("lora/adapter_config.json")).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"], &config["base_model_name_or_path"]), (&json!(4), &json!(8), &json!("base")));

    let beside = scores(&task, "lora");
    assert!(furthest(&beside, &scores(&task, "base")) > 1e-3, "it learned nothing");
    let said = succeed(task.jurist(&["merge", "lora", "--out", "merged"])).out;
    assert!(said.contains("14 projections merged"), "{said}");
    assert!(furthest(&beside, &scores(&task, "merged")) < 1e-4);
    succeed(task.jurist(&["export", "lora", "--out", "bundle", "--weights", "f32"]));
    assert!(furthest(&beside, &scores(&task, "bundle")) < 1e-4);
    // From another folder, the base is found from the adapter's.
    let mut elsewhere = crate::cli::jurist(&["score", "--model", task.at("lora").to_str().unwrap(), "--input"]);
    elsewhere.arg(task.at("dev.jsonl")).current_dir("/");
    assert_eq!(lines(&succeed(elsewhere).out).len(), 6);

    // REAL goes on with the adapter of the warm-up, held near it.
    succeed(train(&task, "lora", "real", &["--method", "real", "--beta", "0.1", "--max-steps", "4"]));
    let last = lines(&task.read("real/metrics.jsonl")).into_iter().rfind(|l| l.get("kl").is_some()).unwrap();
    assert!(last["grad_norm"].as_f64().unwrap() > 0.0, "{last}");
    let first = lines(&task.read("real/metrics.jsonl")).into_iter().find(|l| l.get("kl").is_some()).unwrap();
    assert_eq!(first["kl"].as_f64(), Some(0.0), "before the first step the policy is its start model");
    let config: Value = serde_json::from_str(&task.read("real/adapter_config.json")).unwrap();
    assert_eq!(config["base_model_name_or_path"], json!("base"));
    assert!(bytes(&task, "real/adapter_model.safetensors") != bytes(&task, "lora/adapter_model.safetensors"));
}

/// Every method trains an adapter, and a fresh one is held near the model without it.
#[test]
fn every_method_trains_an_adapter() {
    let task = with_base();
    for method in ["raft", "cot-raft", "tract", "real", "rl-squared"] {
        let beta = if method == "real" { "0.05" } else { "0" };
        succeed(train(&task, "base", method, &[&LORA[..], &["--method", method, "--max-steps", "3", "--beta", beta]].concat()));
        assert!(task.at(method).join(ADAPTER_MODEL).is_file(), "{method}");
        scores(&task, method);
    }
}

/// Stopped and gone on with, with activations computed again, or chains in small batches: the same adapter, to the byte
/// where the sums are the same.
#[test]
fn the_same_adapter_by_other_ways() {
    let task = with_base();
    let with = |more: &[&'static str]| [&LORA[..], &["--lora-dropout", "0.1", "--max-steps", "6"], more].concat();
    succeed(train(&task, "base", "whole", &with(&[])));
    succeed(train(&task, "base", "again", &with(&["--gradient-checkpointing", "true"])));
    assert!(bytes(&task, "again/adapter_model.safetensors") == bytes(&task, "whole/adapter_model.safetensors"));
    succeed(train(&task, "base", "stopped", &with(&["--save-steps", "3"])));
    std::fs::remove_dir_all(task.at("stopped/checkpoint-6")).unwrap();
    for file in [ADAPTER_MODEL, ADAPTER_CONFIG, "judge.json"] {
        std::fs::remove_file(task.at("stopped").join(file)).unwrap();
    }
    succeed(train(&task, "base", "stopped", &with(&["--save-steps", "3", "--resume"])));
    assert!(bytes(&task, "stopped/adapter_model.safetensors") == bytes(&task, "whole/adapter_model.safetensors"));

    let real = |run: &str, more: &[&'static str]| {
        let args =
            [&LORA[..], &["--method", "real", "--beta", "0.1", "--max-steps", "1", "--normalize-advantages", "true"], more];
        succeed(train(&task, "base", run, &args.concat()));
        lines(&task.read(&format!("{run}/metrics.jsonl"))).remove(0)
    };
    let (all, few) = (real("all", &[]), real("few", &["--chains-per-pass", "3", "--gradient-checkpointing", "true"]));
    for key in ["loss", "grad_norm", "reward", "reward_std", "frac_reward_zero_std", "entropy", "judge/mse"] {
        let (a, b) = (all[key].as_f64().unwrap(), few[key].as_f64().unwrap());
        assert!((a - b).abs() <= 2e-5 * a.abs().max(1.0), "{key}: {a} in one pass, {b} in several");
    }
}

/// A frozen base in few bits: how far gradients and the curve of the loss move.
#[test]
fn small_frozen_weights_train() {
    let task = with_base();
    let mut curves = Vec::new();
    for dtype in WeightDtype::ALL {
        let run = dtype.name();
        succeed(train(&task, "base", run, &[&LORA[..], &["--base-weights", run]].concat()));
        let curve = losses(&task, run);
        let shown: Vec<String> = curve.iter().map(|l| format!("{l:.4}")).collect();
        println!("{run:>4}: {}", shown.join(" "));
        assert!(curve.last() < curve.first(), "{run}: {curve:?}");
        curves.push(curve);
    }
    for (dtype, curve) in WeightDtype::ALL.iter().zip(&curves).skip(1) {
        let most = if *dtype == WeightDtype::Q4 { 0.15 } else { 0.01 };
        let off = furthest(curve, &curves[0]);
        assert!(off < most, "{}: the loss is off by {off}", dtype.name());
    }
    // What an adapter on a packed bundle learns is merged into what the bundle means.
    succeed(task.jurist(&["export", "base", "--out", "packed", "--weights", "q8"]));
    succeed(train(&task, "packed", "on-bundle", &LORA));
    assert!(furthest(&losses(&task, "on-bundle"), &curves[3]) < 1e-4);
    succeed(task.jurist(&["merge", "on-bundle", "--out", "unpacked"]));
    assert!(furthest(&scores(&task, "on-bundle"), &scores(&task, "unpacked")) < 1e-3);
}

/// What has to be said, and what is left alone when it is.
#[test]
fn what_does_not_go_together_is_refused() {
    let task = with_base();
    succeed(train(&task, "base", "lora", &[&LORA[..], &["--max-steps", "2"]].concat()));
    let refused = |args: &[&str], words: &[&str]| {
        let done = finish(train(&task, args[0], "none", &args[1..]));
        assert!(matches!(done.code, Some(1 | 2)), "{args:?}\n{}", done.err);
        words.iter().for_each(|word| assert!(done.err.contains(word), "{args:?}: `{word}` is not in\n{}", done.err));
        assert!(!task.at("none/metrics.jsonl").exists());
    };
    refused(&["base", "--lora-r", "4", "--lora-target-modules", "q_proj,w_pack"], &["w_pack", "gate_proj"]);
    refused(&["base", "--lora-r", "4", "--lora-target-modules", "lm_head"], &["lm_head", "not the head"]);
    refused(&["base", "--lora-alpha", "8"], &["lora_alpha", "set lora_r"]);
    refused(&["base", "--base-weights", "q4"], &["base_weights = q4", "lora_r"]);
    refused(&["base", "--method", "real", "--lora-r", "4", "--lora-dropout", "0.1"], &["lora_dropout", "another policy"]);
    refused(&["base", "--chains-per-pass", "2"], &["chains_per_pass"]);
    refused(&["lora", "--lora-r", "8"], &["adapter already (r = 4)", "jurist merge"]);
    let done = finish(task.train("none", &["--lora-r", "4"]));
    assert!(done.code == Some(2) && done.err.contains("model_name_or_path"), "{}", done.err);

    let mut config: Value = serde_json::from_str(&task.read("lora/adapter_config.json")).unwrap();
    config["use_dora"] = json!(true);
    task.write("lora/adapter_config.json", config.to_string());
    refused(&["lora"], &["use_dora", "not supported"]);
    config["use_dora"] = json!(false);
    config["base_model_name_or_path"] = json!("moved/away");
    task.write("lora/adapter_config.json", config.to_string());
    refused(&["lora"], &["base_model_name_or_path", "moved/away"]);
    config["base_model_name_or_path"] = json!("base");
    task.write("lora/adapter_config.json", config.to_string());
    let whole = bytes(&task, "lora/adapter_model.safetensors");
    task.write("lora/adapter_model.safetensors", &whole[..whole.len() - 9]);
    refused(&["lora"], &["adapter_model.safetensors", "download or copy it again"]);
    let done = finish(task.jurist(&["merge", "base", "--out", "merged"]));
    assert!(done.code == Some(1) && done.err.contains("no adapter"), "{}", done.err);
    let done = finish(task.jurist(&["merge", "lora", "--out", "base"]));
    assert!(done.code == Some(1) && done.err.contains("not empty"), "{}", done.err);
}

/// A vocabulary whose tables are larger than a binding, with hidden states as wide as a block.
fn wide_vocabulary() -> Config {
    let mut json = tiny_config();
    for (key, value) in [("hidden_size", 64), ("intermediate_size", 96), ("head_dim", 32), ("vocab_size", 9001)] {
        json[key] = json!(value);
    }
    Config::from_json(&json.to_string()).unwrap()
}

fn batch(vocab: usize) -> PackedInputs {
    let mut stream = Stream::new(5, 5);
    let mut batch = PackedInputs::default();
    for _ in 0..3 {
        let ids: Vec<u32> = (0..14).map(|_| stream.below(vocab) as u32).collect();
        let start = batch.push(&ids);
        for (i, next) in ids[1..].iter().enumerate() {
            batch.push_loss(start + i as u32, TokenLoss::token(*next, 1.0 / 39.0));
        }
    }
    batch
}

/// A table of 2.3 MB on a device whose bindings hold 1 MiB: the same logits and gradients as in one piece, for every dtype,
/// full and with an adapter.
#[test]
fn tables_larger_than_a_binding() {
    let config = wide_vocabulary();
    let source = Init::new(config.clone(), 3);
    let batch = batch(config.vocab_size);
    let lora = LoraSettings { r: 4, alpha: 8.0, dropout: 0.0, rslora: false, targets: vec!["all-linear".into()] };
    let run = |limits: Limits, dtype: WeightDtype, adapted: bool| {
        let gpu = open(limits, true);
        let mut weights = Weights::upload_as(&gpu, &source, dtype.into()).unwrap();
        if adapted {
            let adapter = Adapter::fresh(&gpu, &config, &lora, 1).unwrap();
            for spec in adapter.set.specs().iter().filter(|spec| spec.name.contains("lora_B")) {
                let mut stream = Stream::new(9, spec.len() as u64);
                let values: Vec<f32> = (0..spec.len()).map(|_| 0.1 * stream.normal() as f32).collect();
                adapter.set.write(&gpu, &spec.name, 0, &values).unwrap();
            }
            weights = weights.with_adapter(adapter);
        }
        let buffers = weights.base().buffers().len();
        let logits = LogitsPass::new(&gpu, &weights, batch.ids.len(), 4).and_then(|pass| {
            let few = PackedInputs { loss_positions: vec![3, 9, 20, 41], ..batch.clone() };
            pollster::block_on(pass.run(&few))
        });
        let trained = weights.trainable().unwrap();
        let gradient = TensorSet::zeros(&gpu, trained.groups(), "gradient").unwrap();
        let sizes = PassSizes { tokens: batch.ids.len(), loss_positions: batch.loss_positions.len(), ..PassSizes::default() };
        let pass = Pass::new(&gpu, &weights, Some(&gradient), sizes).unwrap();
        pass.run(&batch).unwrap();
        let read = |name: &str| pollster::block_on(gradient.tensor_values(&gpu, name)).unwrap();
        let gradients: Vec<(String, Vec<f32>)> = trained.specs().into_iter().map(|s| (s.name.clone(), read(&s.name))).collect();
        (buffers, logits.unwrap(), gradients)
    };
    for (dtype, adapted) in [
        (WeightDtype::F32, false),
        (WeightDtype::F32, true),
        (WeightDtype::Bf16, true),
        (WeightDtype::F16, true),
        (WeightDtype::Q8, true),
    ] {
        let (whole, small) = (run(Limits::Portable, dtype, adapted), run(Limits::Binding(1 << 20), dtype, adapted));
        let packed = dtype == WeightDtype::Q8; // 648 KB: one slab
        assert!(small.0 > whole.0 || packed, "{dtype:?}: nothing was cut");
        let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        crate::common::assert_close(&format!("{dtype:?} logits"), &wide(&small.1), &wide(&whole.1), 1e-6);
        for ((name, a), (_, b)) in small.2.iter().zip(&whole.2) {
            crate::common::assert_close(&format!("{dtype:?} {name}"), &wide(a), &wide(b), 2e-5);
        }
    }
}

/// What a dtype of the frozen weights does to an adapter's gradient: through the packed weights it is that of what they mean, to
/// rounding; and how far that is from the gradient through the weights themselves is printed.
#[test]
fn gradients_through_small_weights() {
    let config = wide_vocabulary();
    let gpu = crate::common::gpu();
    let source = Init::new(config.clone(), 3);
    let batch = batch(config.vocab_size);
    let lora = LoraSettings { r: 4, alpha: 8.0, dropout: 0.0, rslora: false, targets: vec!["all-linear".into()] };
    let adapter = Adapter::fresh(&gpu, &config, &lora, 1).unwrap();
    for spec in adapter.set.specs().iter().filter(|spec| spec.name.contains("lora_B")) {
        let mut stream = Stream::new(9, spec.len() as u64);
        let values: Vec<f32> = (0..spec.len()).map(|_| 0.1 * stream.normal() as f32).collect();
        adapter.set.write(&gpu, &spec.name, 0, &values).unwrap();
    }
    let gradient_of = |weights: &Weights| {
        let weights = weights.with_adapter(adapter.clone());
        let trained = weights.trainable().unwrap();
        let gradient = TensorSet::zeros(&gpu, trained.groups(), "gradient").unwrap();
        let sizes = PassSizes { tokens: batch.ids.len(), loss_positions: batch.loss_positions.len(), ..PassSizes::default() };
        Pass::new(&gpu, &weights, Some(&gradient), sizes).unwrap().run(&batch).unwrap();
        let read = |name: &str| pollster::block_on(gradient.tensor_values(&gpu, name)).unwrap();
        let all: Vec<f32> = trained.specs().iter().flat_map(|spec| read(&spec.name)).collect();
        all.into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let full = Weights::upload(&gpu, &source).unwrap();
    let exact = gradient_of(&full);
    for (dtype, most) in [(WeightDtype::Bf16, 0.03), (WeightDtype::F16, 0.01), (WeightDtype::Q8, 0.06), (WeightDtype::Q4, 0.7)] {
        let packed = Weights::upload_as(&gpu, &source, dtype.into()).unwrap();
        let meant = Weights::allocate(&gpu, &config, WeightDtype::F32).unwrap();
        for spec in meant.base().specs() {
            let values = pollster::block_on(packed.base().values(&gpu, &spec.name, 0, spec.len())).unwrap();
            meant.base().write(&gpu, &spec.name, 0, &values).unwrap();
        }
        let found = gradient_of(&packed);
        crate::common::assert_close(
            &format!("{} gradient", dtype.name()),
            &found,
            &gradient_of(&meant),
            crate::common::BACKWARD_TOLERANCE,
        );
        let apart: Vec<f64> = found.iter().zip(&exact).map(|(a, b)| a - b).collect();
        let error = norm(&apart) / norm(&exact);
        println!("{}: the gradient is off by {:.2} % of its length", dtype.name(), 100.0 * error);
        assert!(error < most, "{}: {error}", dtype.name());
    }
}
