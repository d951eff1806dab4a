//! A run has the same bytes on any number of ranks: weights, moments, checkpoints and log. Here ranks are threads; `tests/mpi`
//! has them as processes.

use std::path::Path;

use crate::cli::{Task, lines, path};
use crate::common::gpu;
use crate::resume::files;
use jurist::experiments::synthetic::SCORE_PHRASE;
use jurist::model::lora::ALL_LINEAR;
use jurist::progress::{NoClock, Silent};
use jurist::ranks::{Ranks, threads};
use jurist::train::config::{GradientSum, GradientTransfer, Method, Resume};
use jurist::train::run::{RunContext, TrainOutcome, run};
use jurist::train::{TrainConfig, TrainError};

/// 26 rows in steps of 2 x 5 rows: the last step of an epoch has 3 batches, fewer than four ranks.
fn config(task: &Task, method: Method) -> TrainConfig {
    let at = |name: &str| path(&task.at(name)).to_string();
    TrainConfig {
        method,
        init: Some(at("config.json")),
        tokenizer: Some(at("words")),
        train_file: at("train.jsonl"),
        eval_file: Some(at("dev.jsonl")),
        phrase: Some(SCORE_PHRASE.into()),
        learning_rate: 3e-3,
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 5,
        per_device_eval_batch_size: 2,
        max_steps: 4,
        eval_steps: 2,
        save_steps: 3,
        max_completion_length: 8,
        num_generations: 3,
        ..TrainConfig::default()
    }
}

/// How each of `size` ranks ends a run of `config`, which may differ from rank to rank. `stops` asks rank and run whether the run
/// is to stop.
fn ends(
    size: usize,
    config: impl Fn(usize) -> TrainConfig + Sync,
    stops: impl Fn(usize) -> bool + Sync,
) -> Vec<Result<TrainOutcome, TrainError>> {
    let one = |ranks: Ranks| {
        let config = config(ranks.rank());
        let interrupted = || stops(ranks.rank());
        let ctx = RunContext { gpu: &gpu(), clock: &NoClock, progress: &mut Silent, ranks: &ranks, interrupted: &interrupted };
        let end = pollster::block_on(run(&config, ctx));
        if let Err(error) = &end {
            let is_told = matches!(error, TrainError::Ranks(error) if error.is_told());
            assert!(is_told || ranks.fail(&error.to_string()) || ranks.rank() > 0);
        }
        end
    };
    let one = &one;
    std::thread::scope(|scope| {
        let threads: Vec<_> = threads::ranks(size).into_iter().map(|ranks| scope.spawn(move || one(ranks))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn train(size: usize, config: &TrainConfig) {
    for end in ends(size, |_| config.clone(), |_| false) {
        assert!(matches!(end, Ok(TrainOutcome::Finished { .. })), "{size} ranks: {end:?}");
    }
}

/// The losses that a run logged.
fn losses(task: &Task, name: &str) -> Vec<f64> {
    lines(&task.read(&format!("{name}/metrics.jsonl"))).iter().filter_map(|line| line["loss"].as_f64()).collect()
}

/// All files but the config, which names its folder.
#[track_caller]
fn assert_same_bytes(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(|folder| {
        let mut found = files(folder);
        found.remove("jurist.toml").unwrap();
        found
    });
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{name} differs");
    }
    assert!(a.keys().any(|name| name.ends_with("training_state.safetensors")));
}

/// Runs `config` on 1 to 4 ranks. The held-out rows are three blocks, of 8, 8 and 3 rows.
fn same_on_any_number(method: Method, change: impl Fn(TrainConfig) -> TrainConfig) {
    let task = Task::new(26, 19, true);
    let at = |size: usize| task.at(&format!("on-{size}"));
    for size in 1..=4 {
        let config = TrainConfig { output_dir: path(&at(size)).into(), ..config(&task, method) };
        train(size, &change(config));
        assert_same_bytes(&at(1), &at(size));
    }
}

#[test]
fn sft_on_ranks() {
    same_on_any_number(Method::Sft, |config| config);
}

#[test]
fn an_adapter_with_dropout_on_ranks() {
    same_on_any_number(Method::CotRaft, |config| TrainConfig {
        lora_r: 4,
        lora_dropout: 0.2,
        lora_target_modules: ALL_LINEAR.into(),
        ..config
    });
}

#[test]
fn raft_on_ranks() {
    same_on_any_number(Method::Raft, |config| TrainConfig { share_prefixes: true, ..config });
}

#[test]
fn real_on_ranks() {
    same_on_any_number(Method::Real, |config| TrainConfig { beta: 0.1, entropy_coef: 0.01, ..config });
}

/// The chains serve two optimiser steps, and go through the pass two at a time.
#[test]
fn iterations_on_ranks() {
    same_on_any_number(Method::Grpo, |config| TrainConfig { num_iterations: 2, chains_per_pass: 2, lora_r: 4, ..config });
}

/// Each rank adds its own gradients as they come: the runs agree to rounding, and need a gradient less.
#[test]
fn running_sums_on_ranks() {
    let task = Task::new(26, 7, true);
    let at = |name: &str| TrainConfig { output_dir: path(&task.at(name)).into(), ..config(&task, Method::Sft) };
    let running = |name: &str| TrainConfig { gradient_sum: GradientSum::Running, ..at(name) };
    train(1, &at("tree"));
    train(1, &running("on-1"));
    train(3, &running("on-3"));
    let tree = losses(&task, "tree");
    for name in ["on-1", "on-3"] {
        let found = losses(&task, name);
        assert_eq!((found.len(), found[0]), (tree.len(), tree[0]), "{name}: the first step is before any sum");
        assert!(found.iter().zip(&tree).all(|(a, b)| (a - b).abs() < 1e-5 * b), "{name}: {found:?}, {tree:?}");
    }
}

/// Half the bytes between ranks: the runs agree to the rounding of bf16, and all ranks have the same weights, as every step's
/// loss comes from all of them.
#[test]
fn gradients_that_travel_in_bf16() {
    let task = Task::new(26, 7, true);
    let at = |name: &str, transfer| TrainConfig {
        output_dir: path(&task.at(name)).into(),
        gradient_transfer: transfer,
        ..config(&task, Method::Sft)
    };
    train(1, &at("alone", GradientTransfer::Bf16));
    train(3, &at("f32", GradientTransfer::F32));
    train(3, &at("bf16", GradientTransfer::Bf16));
    train(3, &at("again", GradientTransfer::Bf16));
    let weights = |name: &str| std::fs::read(task.at(name).join("model.safetensors")).unwrap();
    assert_eq!(weights("alone"), weights("f32"), "one rank sends nothing");
    assert_ne!(weights("bf16"), weights("f32"), "nothing was rounded");
    assert_eq!(weights("bf16"), weights("again"));
    let (exact, rounded) = (losses(&task, "f32"), losses(&task, "bf16"));
    assert!(exact.len() > 1 && exact.len() == rounded.len());
    assert!(exact.iter().zip(&rounded).all(|(a, b)| (a - b).abs() < 0.01 * a), "{exact:?}, {rounded:?}");
}

#[test]
fn both_stages_of_tract_on_ranks() {
    let task = Task::new(26, 7, true);
    for size in [1, 3] {
        let folder = task.at(&format!("on-{size}"));
        train(size, &TrainConfig { output_dir: path(&folder).into(), max_steps: 2, ..config(&task, Method::Tract) });
    }
    let [one, three] = ["on-1", "on-3"].map(|name| {
        let mut found = files(&task.at(name));
        found.retain(|name, _| !name.ends_with("jurist.toml"));
        // It names the folder of the first stage.
        found.remove("chains.json");
        found
    });
    assert!(one == three, "{:?}", one.keys().filter(|name| one.get(*name) != three.get(*name)).collect::<Vec<_>>());
}

/// Stopped by a signal to one of them, and resumed on another number.
#[test]
fn a_run_resumes_on_another_number_of_ranks() {
    let task = Task::new(26, 7, true);
    let config = |output: &str| TrainConfig {
        output_dir: path(&task.at(output)).into(),
        max_steps: 6,
        early_stopping_patience: Some(3),
        load_best_model_at_end: true,
        save_steps: 2,
        ..config(&task, Method::Sft)
    };
    train(1, &config("whole"));
    for (first, second) in [(3, 2), (1, 4), (4, 1)] {
        let name = format!("{first}-then-{second}");
        let started = config(&name);
        // Only the last rank is asked to stop, after its first step.
        let ends = ends(first, |_| started.clone(), |rank| rank + 1 == first);
        let checkpoint = task.at(&name).join("checkpoint-1");
        for end in ends {
            assert_eq!(end.unwrap(), TrainOutcome::Interrupted { checkpoint: checkpoint.clone() });
        }
        train(second, &TrainConfig { resume_from_checkpoint: Resume::Newest(true), ..started });
        std::fs::remove_dir_all(&checkpoint).unwrap();
        assert_same_bytes(&task.at("whole"), &task.at(&name));
    }
}

/// The messages of all ranks. The one that names the fault is on the rank that found it; the others name that rank.
fn failures(size: usize, config: impl Fn(usize) -> TrainConfig + Sync) -> Vec<String> {
    ends(size, config, |_| false).into_iter().map(|end| end.unwrap_err().to_string()).collect()
}

#[test]
fn a_rank_that_fails_ends_all() {
    let task = Task::new(26, 7, false);
    let good = || TrainConfig { output_dir: path(&task.at("judge")).into(), ..config(&task, Method::Sft) };
    let found = failures(3, |rank| match rank {
        1 => TrainConfig { train_file: path(&task.at("absent.jsonl")).into(), ..good() },
        _ => good(),
    });
    assert!(found[1].contains("absent.jsonl"), "{found:?}");
    assert!([0, 2].iter().all(|rank| found[*rank] == format!("rank 1: {}", found[1])), "{found:?}");
    // Rank 0 alone looks at the output folder.
    std::fs::create_dir(task.at("judge")).unwrap();
    task.write("judge/judge.json", "{}");
    let found = failures(2, |_| good());
    assert!(found[0].contains("judge.json") && found[1] == format!("rank 0: {}", found[0]), "{found:?}");
}

#[test]
fn ranks_that_do_not_fit_together_are_refused() {
    let task = Task::new(26, 7, false);
    let good = || TrainConfig { output_dir: path(&task.at("judge")).into(), ..config(&task, Method::Sft) };
    let found = failures(3, |rank| TrainConfig { seed: if rank == 2 { 43 } else { 42 }, ..good() });
    assert_eq!(found, ["seed differs between the ranks: 43 on rank 2, and 42 on rank 0"; 3]);
    let lines = task.read("train.jsonl");
    task.write("other.jsonl", lines.lines().skip(1).collect::<Vec<_>>().join("\n"));
    let other = path(&task.at("other.jsonl")).to_string();
    let found = failures(2, |rank| if rank == 1 { TrainConfig { train_file: other.clone(), ..good() } } else { good() });
    assert!(found.iter().all(|text| text.starts_with("the training data differs between the ranks: ")), "{found:?}");
    assert!(found[0].contains(" on rank 1, and "), "{found:?}");
    let found = failures(6, |_| good());
    assert!(found.iter().all(|text| text.contains("gradient_accumulation_steps = 5, and 6 ranks: ")), "{found:?}");
    assert!(!task.at("judge").exists());
}
