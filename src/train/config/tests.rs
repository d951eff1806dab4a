use super::*;
use crate::train::TrainError;

/// The smallest complete config.
const BASE: &str = "model_name_or_path = \"m\"\ntrain_file = \"t.jsonl\"\noutput_dir = \"out\"\n";

fn from_toml(text: &str) -> Result<TrainConfig, TrainError> {
    let mut layers = Layers::default();
    layers.put_toml(text, "run.toml")?;
    Ok(layers.resolve()?)
}

#[test]
fn the_table_of_keys_and_the_struct_agree() {
    let all = TrainConfig {
        model_name_or_path: Some("m".into()),
        init: Some("i".into()),
        tokenizer: Some("t".into()),
        vocab_size: Some(300),
        save_dtype: Some(SaveDtype::Float32),
        eval_file: Some("e".into()),
        save_total_limit: Some(2),
        resume_from_checkpoint: Resume::Newest(true),
        adapter: Some("0".into()),
        ..TrainConfig::default()
    };
    let value = serde_json::to_value(&all).unwrap();
    let fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, names().collect::<Vec<_>>());
    for key in KEYS {
        let help = key.help();
        assert!(help == help.trim() && !help.contains("  ") && !help.ends_with('.') && help.len() > 9, "{}: {help:?}", key.name);
    }
    assert_eq!(keys::find("seed").unwrap().help(), "Seed of the weights, the row order and the sampled chains");
    // Each key allows its default.
    for (name, value) in serde_json::to_value(TrainConfig::default()).unwrap().as_object().unwrap() {
        let raw = match value {
            Value::Null => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => Raw::Quoted(text.clone()),
            other => Raw::Bare(other.to_string()),
        };
        assert_eq!(keys::find(name).unwrap().kind.read(&raw).as_ref(), Some(value), "{name}");
    }
}

#[test]
fn later_layers_win() {
    let mut layers = Layers::default();
    layers
        .put_toml(&format!("{BASE}learning_rate = 1e-4\nseed = 1\nmax_steps = 5\nscale = \"0..4=0..1\"\n"), "run.toml")
        .unwrap();
    let env =
        [("JURIST_SEED", "2"), ("JURIST_MAX_STEPS", "6"), ("JURIST_LERNING_RATE", "1"), ("HOME", "/"), ("JURIST_CHROME", "x")];
    layers.put_env(env.map(|(k, v)| (k.to_string(), v.to_string()))).unwrap();
    layers.put("max_steps", &Raw::Bare("7".into()), SettingSource::Flag("--max-steps".into())).unwrap();
    layers.put_set("weight-decay = 0.1").unwrap();
    layers.put_set("phrase=\"score:\"").unwrap();
    let config = layers.resolve().unwrap();
    assert_eq!((config.learning_rate, config.seed, config.max_steps, config.weight_decay), (1e-4, 2, 7, 0.1));
    assert_eq!(config.phrase.as_deref(), Some("score:"));
    assert_eq!(layers.warnings(), ["JURIST_LERNING_RATE is set but names no setting; did you mean JURIST_LEARNING_RATE?"]);
}

#[test]
fn resolved_config_reads_back_to_the_same_bytes() {
    let text = format!(
        "{BASE}learning_rate = 3e-4\nadam_epsilon = 1e-12\nnum_train_epochs = 2\nresume_from_checkpoint = true\nadapter = 0\n"
    );
    let config = from_toml(&text).unwrap();
    assert_eq!(config.resume_from_checkpoint, Resume::Newest(true));
    assert_eq!(config.adapter.as_deref(), Some("0"));
    let written = config.to_toml().unwrap();
    assert!(!written.contains("resume"), "{written}");
    let again = from_toml(&written).unwrap();
    assert_eq!(again.to_toml().unwrap(), written);
    assert_eq!(config.differences(&again), Vec::<String>::new());
    let other = TrainConfig { seed: 7, eval_file: Some("e".into()), ..again };
    assert_eq!(config.differences(&other), ["eval_file: not set, \"e\"", "seed: 42, 7"]);
}

#[test]
fn steps_as_transformers_counts_them() {
    let mut config = from_toml(BASE).unwrap();
    config.gradient_accumulation_steps = 2;
    config.warmup_ratio = 0.1;
    assert_eq!(config.rows_per_step(), 16);
    assert_eq!(config.total_steps(33), 9);
    assert_eq!(config.warmup(9), 1);
    config.num_train_epochs = 0.5;
    assert_eq!(config.total_steps(33), 2);
    config.max_steps = 100;
    assert_eq!(config.total_steps(33), 100);
    config.warmup_steps = 3;
    assert_eq!(config.warmup(100), 3);
}

#[test]
fn a_malformed_scale_is_an_error() {
    let config = TrainConfig { scale: Some("5..1".into()), ..TrainConfig::default() };
    assert!(config.scale().unwrap_err().to_string().starts_with("scale `5..1`"));
}

/// Config files that cannot be used, each with the message it gets.
#[rustfmt::skip]
const MALFORMED: &[(&str, &str)] = &[
    ("lerning_rate = 1e-4", "run.toml: unknown setting `lerning_rate`; did you mean `learning_rate`?"),
    ("learning-rate = 1e-4", "run.toml: unknown setting `learning-rate`; did you mean `learning_rate`?"),
    ("banana = 1", "run.toml: unknown setting `banana`"),
    ("[train]\nseed = 1", "run.toml: unknown setting `train`; did you mean `train_file`?"),
    ("learning_rate = -1", "run.toml: learning_rate = -1: expected a number above 0 and at most 10"),
    ("learning_rate = 0", "run.toml: learning_rate = 0: expected a number above 0 and at most 10"),
    ("learning_rate = nan", "run.toml: learning_rate = NaN: expected a number above 0 and at most 10"),
    ("learning_rate = inf", "run.toml: learning_rate = inf: expected a number above 0 and at most 10"),
    ("learning_rate = \"3e-4\"", "run.toml: learning_rate = \"3e-4\": expected a number above 0 and at most 10"),
    ("learning_rate = [1e-4]", "run.toml: learning_rate = [...]: expected a number above 0 and at most 10"),
    ("learning_rate = 2026-01-01", "run.toml: learning_rate = 2026-01-01: expected a number above 0 and at most 10"),
    ("adam_beta1 = 1", "run.toml: adam_beta1 = 1: expected a number at least 0 and below 1"),
    ("adam_beta2 = -0.1", "run.toml: adam_beta2 = -0.1: expected a number at least 0 and below 1"),
    ("adam_epsilon = 0.0", "run.toml: adam_epsilon = 0: expected a number above 0 and at most 1"),
    ("weight_decay = -0.01", "run.toml: weight_decay = -0.01: expected a number at least 0 and at most 10"),
    ("warmup_ratio = 1.5", "run.toml: warmup_ratio = 1.5: expected a number at least 0 and at most 1"),
    ("warmup_steps = 1.5", "run.toml: warmup_steps = 1.5: expected a whole number of at least 0"),
    ("max_steps = 0", "run.toml: max_steps = 0: expected a whole number of at least 1, or -1 to go by num_train_epochs"),
    ("max_steps = -2", "run.toml: max_steps = -2: expected a whole number of at least 1, or -1 to go by num_train_epochs"),
    ("num_train_epochs = 0", "run.toml: num_train_epochs = 0: expected a number above 0 and at most 1000000"),
    ("per_device_train_batch_size = 0", "run.toml: per_device_train_batch_size = 0: expected a whole number from 1 to 65536"),
    ("gradient_accumulation_steps = -3", "run.toml: gradient_accumulation_steps = -3: expected a whole number from 1 to 65536"),
    ("max_length = 1", "run.toml: max_length = 1: expected a whole number from 2 to 1048576"),
    ("seed = -1", "run.toml: seed = -1: expected a whole number of at least 0"),
    ("logging_steps = 0", "run.toml: logging_steps = 0: expected a whole number of at least 1"),
    ("save_total_limit = 0", "run.toml: save_total_limit = 0: expected a whole number of at least 1"),
    ("max_nonfinite_steps = 0", "run.toml: max_nonfinite_steps = 0: expected a whole number of at least 1"),
    ("skip_bad = 1", "run.toml: skip_bad = 1: expected true or false"),
    ("lr_scheduler_type = \"cosin\"", "run.toml: lr_scheduler_type = \"cosin\": expected one of constant, linear, cosine; did you mean `cosine`?"),
    ("save_dtype = \"int8\"", "run.toml: save_dtype = \"int8\": expected one of float32, bfloat16, float16"),
    ("chat = true", "run.toml: chat = true: expected one of auto, always, never"),
    ("metric_for_best_model = \"accuracy\"", "run.toml: metric_for_best_model = \"accuracy\": expected one of loss, pearson, spearman, kendall, rmse, mae"),
    ("chains_from = \"a\"", "chains_from is for tract: sft learns from the chains in train_file"),
    ("method = \"raft\"\nscore_reads = \"chain\"", "score_reads = chain: raft has no chain for the score to be read from"),
    ("method = \"sfd\"", "run.toml: method = \"sfd\": expected one of sft, raft, cot-raft, tract, real, reinforce, grpo, rl-squared, rl-prob, rl-log, rl-ranked; did you mean `sft`?"),
    ("adapter = \"\"", "run.toml: adapter = \"\": expected a text that is not empty"),
    ("eval_file = \" \"", "run.toml: eval_file = \" \": expected the path of a file or folder"),
    ("resume_from_checkpoint = 3", "run.toml: resume_from_checkpoint = 3: expected true, false, or the path of a checkpoint"),
    ("scale = \"5..1\"", "scale `5..1`: 1 is not above 5; write the smaller number first, as in 1..5"),
    ("init = \"config.json\"", "model_name_or_path and init are both set: start from a model or from scratch, not both"),
    ("vocab_size = 512", "vocab_size is for a run from scratch (init): a model brings its own vocabulary"),
    ("vocab_size = 5", "run.toml: vocab_size = 5: expected a whole number from 64 to 1048576"),
    ("warmup_ratio = 0.1\nwarmup_steps = 5", "warmup_ratio and warmup_steps are both set: give one"),
    ("lr_scheduler_type = \"constant\"\nmin_lr_ratio = 0.1", "min_lr_ratio has no effect with lr_scheduler_type = constant: leave it out, or choose linear or cosine"),
    ("eval_steps = 10", "eval_steps = 10 needs an eval_file"),
    ("early_stopping_patience = 0", "run.toml: early_stopping_patience = 0: expected a whole number of at least 1"),
    ("early_stopping_patience = 2", "early_stopping_patience needs an eval_file"),
    ("early_stopping_patience = 2\neval_file = \"e\"", "early_stopping_patience needs eval_steps of at least 1"),
    ("early_stopping_threshold = 0.1", "early_stopping_threshold has no effect without early_stopping_patience"),
    ("report_to = \"tensorbord\"", "run.toml: report_to = \"tensorbord\": expected one of none, tensorboard; did you mean `tensorboard`?"),
    ("load_best_model_at_end = true", "load_best_model_at_end needs an eval_file"),
    ("load_best_model_at_end = true\neval_file = \"e\"", "load_best_model_at_end needs eval_steps of at least 1"),
    ("load_best_model_at_end = true\neval_file = \"e\"\neval_steps = 3\nsave_steps = 10", "load_best_model_at_end needs save_steps (10) to be a multiple of eval_steps (3): only an evaluated checkpoint can be the best"),
];

#[test]
fn malformed_configs_are_refused_with_a_message() {
    for (text, message) in MALFORMED {
        let error = from_toml(&format!("{BASE}{text}\n")).expect_err(text);
        assert!(error.is_usage(), "{text}");
        assert_eq!(error.to_string(), *message, "for {text}");
    }
}

#[test]
fn incomplete_configs_are_refused_with_a_message() {
    for (text, message) in [
        (
            "",
            "model_name_or_path is not set: a run starts from a model folder (or from scratch, with init); give --model-name-or-path or put model_name_or_path in the config file",
        ),
        (
            "model_name_or_path = \"m\"",
            "train_file is not set: there is nothing to train on; give --train-file or put train_file in the config file",
        ),
        (
            "model_name_or_path = \"m\"\ntrain_file = \"t\"",
            "output_dir is not set: the trained model needs a folder; give --output-dir or put output_dir in the config file",
        ),
        (
            "init = \"c\"",
            "vocab_size is not set: a run from scratch needs a tokenizer, or the size of one to train on the data; give --vocab-size or put vocab_size in the config file",
        ),
        (
            "init = \"c\"\ntokenizer = \"t\"\nvocab_size = 300",
            "tokenizer and vocab_size are both set: use a tokenizer or train one, not both",
        ),
    ] {
        assert_eq!(from_toml(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_config_that_is_not_toml_is_refused() {
    let error = from_toml("seed = \n").unwrap_err();
    assert!(error.is_usage());
    let message = error.to_string();
    assert!(message.starts_with("run.toml is not valid TOML: TOML parse error at line 1"), "{message}");
    assert!(from_toml("seed = 1\nseed = 2").unwrap_err().to_string().contains("duplicate key"));
}

#[test]
fn malformed_flags_and_variables_are_refused() {
    let mut layers = Layers::default();
    assert_eq!(
        layers.put_set("learning_rate").unwrap_err().to_string(),
        "--set learning_rate: expected KEY=VALUE, for example --set learning_rate=3e-4"
    );
    assert_eq!(
        layers.put_set("=3").unwrap_err().to_string(),
        "--set =3: expected KEY=VALUE, for example --set learning_rate=3e-4"
    );
    assert_eq!(layers.put_set("sed=3").unwrap_err().to_string(), "--set: unknown setting `sed`; did you mean `seed`?");
    assert_eq!(
        layers.put_set("seed=99999999999999999999").unwrap_err().to_string(),
        "--set: seed = 99999999999999999999: expected a whole number of at least 0"
    );
    let env = layers.put_env([("JURIST_SEED".to_string(), "x".to_string())]).unwrap_err();
    assert_eq!(env.to_string(), "JURIST_SEED: seed = x: expected a whole number of at least 0");
}
