//! The library as a Rust program uses it: `Judge`, `Case`, `Dataset`, `Trainer`, `export`, and the programs in `examples/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use jurist::config::{Resume, SaveDtype};
use jurist::{
    Case, Dataset, ExportOptions, Gpu, GpuOptions, Judge, LoadOptions, Method, ScoreOptions, TrainConfig, TrainOutcome, Trainer,
    WeightDtype, export,
};

use crate::cli::{Task, path, succeed};

/// The judge that comes with the page.
const JUDGE: &str = "web/judge";

/// Cases that it can judge: those that travel with it.
fn cases() -> Vec<Case> {
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{JUDGE}/manifest.json")).unwrap()).unwrap();
    let rows = manifest["examples"].as_array().unwrap();
    rows.iter().map(|row| Case::row(row.as_object().unwrap().clone())).collect()
}

/// One call per case and one call for all agree to rounding, a loop of calls makes no buffer once it has met the lengths of its
/// rows, and no call depends on those before it.
#[test]
fn single_calls_are_those_of_a_batch() {
    let judge = Judge::load(JUDGE).unwrap();
    let some = cases();
    let expected = |case: &Case| judge.score(case).unwrap().expected;
    let first: Vec<f64> = some.iter().map(expected).collect();
    let before = (judge.gpu().allocated(), judge.gpu().buffers_made());
    let many: Vec<Case> = some.iter().rev().cloned().cycle().take(1000).collect();
    let began = Instant::now();
    let single: Vec<f64> = many.iter().map(expected).collect();
    let one_by_one = began.elapsed().as_secs_f64();
    assert!(before == (judge.gpu().allocated(), judge.gpu().buffers_made()), "a loop makes buffers");
    assert!(some.iter().zip(&first).all(|(case, score)| expected(case) == *score), "a score depends on the calls before");
    let began = Instant::now();
    let batch = judge.score_all(&many).unwrap();
    let at_once = began.elapsed().as_secs_f64();
    let off = single.iter().zip(&batch).map(|(a, b)| (a - b.as_ref().unwrap().expected).abs()).fold(0.0, f64::max);
    assert!(off < 1e-5, "off by {off}");
    println!(
        "1000 single calls {one_by_one:.2} s, one batch {at_once:.2} s, {:.1} times; off by {off:.1e}",
        one_by_one / at_once
    );
    let score = batch[0].as_ref().unwrap();
    let sum: f64 = score.distribution.iter().map(|(_, p)| p).sum();
    assert!((sum - 1.0).abs() < 1e-12 && score.chain.is_some() == judge.writes_chain());
    assert!(judge.scale() == [1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_case_that_cannot_be_judged_has_an_error_of_its_own() {
    let judge = Judge::load(JUDGE).unwrap();
    let good = cases().remove(0);
    let bad = Case::row(Default::default());
    let scores = judge.score_all(&[good.clone(), bad.clone(), good.clone()]).unwrap();
    assert!(scores[0].is_ok() && scores[0].as_ref().ok() == scores[2].as_ref().ok());
    let error = scores[1].as_ref().unwrap_err();
    assert!(error.is_case() && error.to_string().contains("case, row 2: the prompt template"), "{error}");
    assert!(judge.score(&bad).unwrap_err().is_case());
    let missing = Judge::load("no/such/judge").map(drop).unwrap_err();
    assert!(!missing.is_case() && missing.to_string().contains("no/such/judge"), "{missing}");
    // The scores of the sampled chains of two seeds differ; those of one do not.
    let sampled = |seed| {
        let options = ScoreOptions { chains: 16, temperature: Some(1.5), seed, ..ScoreOptions::default() };
        judge.score_with(&good, &options).unwrap().expected
    };
    assert!(sampled(1) == sampled(1) && sampled(1) != sampled(2));
    // Several chains are sampled unless a temperature is given.
    let several = |temperature| ScoreOptions { chains: 8, temperature, ..ScoreOptions::default() };
    let with = |options| judge.score_with(&good, &options).unwrap().expected;
    assert_eq!(with(several(None)), with(several(Some(1.0))));
    assert_ne!(with(several(None)), judge.score(&good).unwrap().expected);
}

/// Plans serve the calls of their kind again, whatever is called between.
#[test]
fn calls_of_all_kinds_keep_their_plans() {
    let judge = Judge::load(JUDGE).unwrap();
    let some = cases();
    let options = ScoreOptions { chains: 4, ..ScoreOptions::default() };
    let all = || {
        let single: Vec<f64> = some.iter().map(|case| judge.score(case).unwrap().expected).collect();
        let sampled: Vec<f64> = some.iter().map(|case| judge.score_with(case, &options).unwrap().expected).collect();
        let batch: Vec<f64> = judge.score_all(&some).unwrap().into_iter().map(|score| score.unwrap().expected).collect();
        (single, sampled, batch)
    };
    let first = all();
    let before = (judge.gpu().allocated(), judge.gpu().buffers_made());
    assert!(all() == first);
    assert!(before == (judge.gpu().allocated(), judge.gpu().buffers_made()), "calls of other kinds take the plans");
}

#[test]
fn options_out_of_their_range_are_refused() {
    let judge = Judge::load(JUDGE).unwrap();
    let case = cases().remove(0);
    let default = ScoreOptions::default;
    for (options, message) in [
        (ScoreOptions { chains: 0, ..default() }, "`chains` is 0; expected 1 to 1024"),
        (ScoreOptions { temperature: Some(f32::NAN), ..default() }, "`temperature` is NaN; expected a number from 0 to 100"),
        (ScoreOptions { temperature: Some(-1.0), ..default() }, "`temperature` is -1; expected a number from 0 to 100"),
        (ScoreOptions { batch_size: 0, ..default() }, "`batch_size` is 0; expected at least 1"),
    ] {
        let error = judge.score_with(&case, &options).unwrap_err();
        assert!(!error.is_case() && error.to_string() == message, "{error}");
        assert_eq!(judge.score_all_with(std::slice::from_ref(&case), &options).unwrap_err().to_string(), message);
    }
}

/// Errors of the library name its fields and no flags.
#[test]
fn a_model_that_is_no_judge_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |file: &str| std::fs::copy(format!("tests/fixtures/golden/qwen2_biases/checkpoint/{file}"), dir.path().join(file));
    copy("config.json").unwrap();
    let error = Judge::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains(path(dir.path())) && error.contains("no judge.json in it") && !error.contains("--"), "{error}");
    let whole = LoadOptions { base: Some(dir.path().into()), ..LoadOptions::default() };
    let error = Judge::load_with(JUDGE, whole).unwrap_err().to_string();
    assert!(error.contains("leave `base` out"), "{error}");
    let error = Trainer::new(TrainConfig::default()).run().unwrap_err().to_string();
    assert!(error.starts_with("model_name_or_path is not set: a run starts from") && !error.contains("--"), "{error}");
}

/// What a program sends between threads, and prints.
#[test]
fn futures_are_sent_and_values_are_shown() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let gpu = pollster::block_on(sent(Gpu::open_async(&GpuOptions::default()))).unwrap();
    let options = LoadOptions { gpu: Some(gpu), ..LoadOptions::default() };
    assert!(format!("{options:?}").contains("adapter"));
    let judge = Judge::load_with(JUDGE, options).unwrap();
    let case = cases().remove(0);
    let score = pollster::block_on(sent(judge.score_async(&case))).unwrap();
    assert_eq!(score, judge.score(&case).unwrap());
    let all = pollster::block_on(sent(judge.score_all_async(&[case]))).unwrap();
    assert!((all[0].as_ref().unwrap().expected - score.expected).abs() < 1e-5);
    let trainer = Trainer::new(TrainConfig::default());
    assert!(format!("{judge:?} {trainer:?}").contains("[1.0, 2.0, 3.0, 4.0, 5.0]"));
    assert!(pollster::block_on(sent(trainer.run_async())).is_err());
}

/// A judge is trained on the GPU of another, evaluated on a scale that is not written in ascending order, and exported.
#[test]
fn a_trainer_takes_any_scale() {
    let task = Task::new(24, 4, true);
    succeed(task.train("start", &["--max-steps", "2"]));
    let gpu = Judge::load(JUDGE).unwrap().gpu().clone();
    let config = TrainConfig {
        method: Method::Sft,
        model_name_or_path: Some(path(&task.at("start")).into()),
        train_file: path(&task.at("train.jsonl")).into(),
        eval_file: Some(path(&task.at("train.jsonl")).into()),
        output_dir: path(&task.at("library")).into(),
        scale: Some("5,4,3,2,1".into()),
        save_dtype: Some(SaveDtype::Bfloat16),
        resume_from_checkpoint: Resume::Newest(false),
        max_steps: 2,
        ..TrainConfig::default()
    };
    let outcome = Trainer::new(config).gpu(gpu).run().unwrap();
    assert!(matches!(outcome, TrainOutcome::Finished { steps: 2, .. }), "{outcome:?}");
    assert_eq!(Judge::load(task.at("library")).unwrap().scale(), [5.0, 4.0, 3.0, 2.0, 1.0]);
    let metrics = std::fs::read_to_string(task.at("library").join("metrics.jsonl")).unwrap();
    assert!(metrics.contains("eval_rmse"), "{metrics}");
}

/// Two judges on one GPU, one of them exported in eight bits.
#[test]
fn an_export_is_loaded_beside_its_judge() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("q8");
    let cases = cases();
    let options = ExportOptions { weights: WeightDtype::Q8, examples: cases.clone(), ..ExportOptions::default() };
    let bundle = export(JUDGE, &to, &options).unwrap();
    assert!(bundle.parameters > 100_000 && bundle.bytes < 300_000, "{bundle:?}");
    let judge = Judge::load(JUDGE).unwrap();
    let packed = Judge::load_with(&to, LoadOptions { gpu: Some(judge.gpu().clone()), ..LoadOptions::default() }).unwrap();
    assert!(export(&to, &to, &options).is_err() && to.join("manifest.json").is_file(), "an input is overwritten");
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&judge);
    let (a, b) = (judge.score(&cases[0]).unwrap(), packed.score(&cases[0]).unwrap());
    assert!((a.expected - b.expected).abs() < 0.3, "{} {}", a.expected, b.expected);
}

/// The program `name` of `examples/`, which Cargo has built beside this one.
fn example(name: &str, args: &[&str], dir: &Path) -> String {
    let mut program: PathBuf = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    let program = program.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.is_file(), "build the examples first: cargo build --release --examples, as cargo test without a filter does");
    let output = Command::new(&program).args(args).current_dir(dir).output().unwrap_or_else(|e| panic!("{program:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {err}");
    out.into_owned()
}

#[test]
fn the_examples_run() {
    let task = Task::new(24, 4, true);
    succeed(task.train("start", &["--max-steps", "2"]));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let judge = root.join(JUDGE);
    let dir = tempfile::tempdir().unwrap();
    let row = cases().remove(0);
    let text = |column: &str| row.columns()[column].as_str().unwrap();
    let scored = example("score", &[path(&judge), "write", text("response"), text("rubric")], dir.path());
    assert!(scored.contains("expected ") && scored.contains('#'), "{scored}");
    let exported = example("export", &[path(&judge), "bundle", "q4"], dir.path());
    assert!(exported.starts_with("bundle: ") && dir.path().join("bundle/manifest.json").is_file(), "{exported}");
    std::fs::write(dir.path().join("scores.csv"), "response,human,judge\na,1,1.5\nb,2,2.5\nc,4,3\nd,5,4.5\n").unwrap();
    let agreement = example("agreement", &["scores.csv", "human", "judge"], dir.path());
    assert!(agreement.contains("4 of 4 rows") && agreement.contains("Spearman 1.000"), "{agreement}");
    let trained = example("train", &[path(&task.at("start")), path(&task.at("train.jsonl")), "run", "2"], dir.path());
    assert!(trained.contains("step 2: loss") && trained.contains("Finished"), "{trained}");
    assert!(Judge::load(dir.path().join("run")).is_ok());
    assert!(Dataset::read(task.at("train.jsonl")).unwrap().scores().all(|score| score.is_some()));
}
