use std::io;

use clap::CommandFactory;

use super::*;
use crate::progress::Silent;
use crate::train::config::Resume;
use crate::train::{TrainConfig, TrainError};

fn parse(words: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("jurist").chain(words.split_whitespace()))
}

const BASE: &str = "train --model-name-or-path m --train-file t --output-dir o";

/// The config that a command line, an environment and nothing else make.
fn config(words: &str, env: &[(&str, &str)]) -> Result<TrainConfig, CliError> {
    let cli = parse(&format!("{BASE} {words}")).unwrap();
    let Command::Train(args) = cli.command else { panic!("not train") };
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Ok(train::layers(&args, &Context::new(cli.adapter, cli.kernels, cli.quiet, env), &mut Silent)?.resolve()?)
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_has_examples_and_every_setting() {
    for command in ["", "train", "score", "eval", "doctor", "demo", "bench"] {
        let help = parse(&format!("{command} --help")).unwrap_err();
        assert_eq!(help.exit_code(), 0);
        let text = help.to_string();
        assert!(text.contains("Example"), "{command}");
        assert!(text.contains("--adapter") && text.contains("--quiet"), "{command}");
    }
    let help = parse("train --help").unwrap_err().to_string();
    for key in crate::train::config::KEYS {
        assert!(help.contains(&format!("--{}", key.name.replace('_', "-"))), "{}", key.name);
    }
    assert!(
        help.contains("[default: 0.00002]") || help.contains("[default: 2e-5]") || help.contains("[default: 2e-05]"),
        "{help}"
    );
}

#[test]
fn flags_lie_on_top_of_the_environment() {
    let env = [("JURIST_SEED", "3"), ("JURIST_LEARNING_RATE", "1e-3"), ("JURIST_ADAPTER", "llvmpipe"), ("JURIST_PHRASE", "")];
    let found =
        config("--learning-rate 2e-3 --max_steps -1 --set seed=4 --set max_length=99 --max-length 100 --skip-bad", &env).unwrap();
    assert_eq!((found.learning_rate, found.seed, found.max_length, found.skip_bad), (2e-3, 4, 100, true));
    assert_eq!(found.adapter.as_deref(), Some("llvmpipe"));
    let found = config("--adapter 1 --skip-bad false --resume", &env).unwrap();
    assert_eq!((found.seed, found.skip_bad, found.adapter.as_deref()), (3, false, Some("1")));
    assert_eq!(found.resume_from_checkpoint, Resume::Newest(true));
    assert_eq!(config("--resume o/checkpoint-3", &[]).unwrap().resume_from_checkpoint, Resume::From("o/checkpoint-3".into()));
}

#[test]
fn a_file_lies_below_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    std::fs::write(&path, "seed = 1\nlearning_rate = 1e-4\n").unwrap();
    let found = config(&format!("--config {}", path.display()), &[("JURIST_SEED", "2")]).unwrap();
    assert_eq!((found.seed, found.learning_rate), (2, 1e-4));
    std::fs::write(&path, "sede = 1").unwrap();
    let error = config(&format!("--config {}", path.display()), &[]).unwrap_err();
    assert!(error.message().unwrap().ends_with("run.toml: unknown setting `sede`; did you mean `seed`?"));
}

/// Command lines that parse and cannot be used: message and exit code 2.
#[test]
fn malformed_settings() {
    for (words, message) in [
        ("--learning-rate fast", "--learning-rate: learning_rate = fast: expected a number above 0 and at most 10"),
        ("--method tracts", "--method: method = tracts: expected one of sft, raft, cot-raft, tract, real"),
        ("--method real --temperature 0.7", "temperature = 0.7: training samples at 1"),
        ("--method real --top-p 0.9", "top_p = 0.9: training samples from the whole distribution"),
        ("--method reinforce --exploration-weight 0", "exploration_weight and refinement_weight are both 0"),
        ("--max-steps 0", "--max-steps: max_steps = 0: expected a whole number of at least 1, or -1 to go by num_train_epochs"),
        ("--set banana=1", "--set: unknown setting `banana`"),
        ("--set seed", "--set seed: expected KEY=VALUE, for example --set learning_rate=3e-4"),
        ("--skip-bad maybe", "--skip-bad: skip_bad = maybe: expected true or false"),
        ("--init c.json", "model_name_or_path and init are both set: start from a model or from scratch, not both"),
        ("--config no/such.toml", "cannot read the config file no/such.toml: No such file or directory (os error 2)"),
    ] {
        let error = config(words, &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{words}");
        let found = error.message().unwrap();
        // The system words its own errors.
        let expected = if cfg!(unix) { message } else { message.split(": No such").next().unwrap() };
        assert!(found.starts_with(expected), "{found}");
    }
    let error = config("", &[("JURIST_MAX_STEPS", "ten")]).unwrap_err();
    assert_eq!(
        error.message().unwrap(),
        "JURIST_MAX_STEPS: max_steps = ten: expected a whole number of at least 1, or -1 to go by num_train_epochs"
    );
}

/// Command lines that do not parse: clap's message, exit code 2.
#[test]
fn malformed_command_lines() {
    for (words, message) in [
        ("", "jurist"),
        ("trian", "unrecognized subcommand 'trian'"),
        ("train --lerning-rate 1", "unexpected argument '--lerning-rate'"),
        ("train extra", "unexpected argument 'extra'"),
        ("train --seed", "a value is required for '--seed <N>'"),
        ("train --seed 1 --seed 2", "cannot be used multiple times"),
        ("score --input a", "--model <DIR>"),
        ("score --model a", "--input <FILE>"),
        ("score --model a --input b --expectation half", "invalid value 'half'"),
        ("score --model a --input b --batch-size 0", "0 is not in 1..=65536"),
        ("score --model a --input b --max-length 1", "1 is not in 2..=1048576"),
        ("eval", "<SCORED>"),
        ("eval a --model b", "cannot be used with"),
        ("eval --model b", "--input <FILE>"),
        ("doctor --against a --list", "cannot be used with"),
        ("demo --seed -1", "'-1'"),
    ] {
        let error = parse(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{words}");
        assert!(error.to_string().contains(message), "{words}: {error}");
    }
}

#[test]
fn exit_codes_and_causes() {
    let io = || io::Error::new(io::ErrorKind::StorageFull, "no space");
    let failed: CliError = TrainError::Io { action: "write", path: "x".into(), source: io() }.into();
    assert_eq!(
        (failed.exit_code(), failed.message().unwrap()),
        (1, "cannot write x: no space; free some space and continue with --resume".into())
    );
    let stopped = CliError::Interrupted { checkpoint: "out/checkpoint-7".into() };
    assert_eq!(stopped.exit_code(), 130);
    assert_eq!(stopped.message().unwrap(), "interrupted; the run continues from out/checkpoint-7 with --resume");
    let gone = CliError::Output { source: io::ErrorKind::BrokenPipe.into() };
    assert_eq!((gone.exit_code(), gone.message()), (0, None));
    assert_eq!(
        CliError::Output { source: io() }.message().unwrap(),
        "cannot write the results: no space; free some space and repeat"
    );
    let inside = TrainError::Inside { action: "write the model into", path: "d".into(), source: "w: no space: no space".into() };
    assert_eq!(CliError::from(inside).message().unwrap(), "cannot write the model into d: w: no space: no space");
}
