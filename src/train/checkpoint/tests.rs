use super::*;
use crate::train::checkpoint::output::OutputFolder;
use crate::train::checkpoint::training_state::StatePart;
use crate::train::run::log::Metrics;

fn parameters() -> Vec<Parameter> {
    vec![Parameter { name: "w".into(), shape: vec![2, 3] }]
}

fn supply(part: StatePart, parameter: &Parameter, values: &mut Vec<f32>) -> Result<(), BoxError> {
    let base = StatePart::ALL.iter().position(|p| *p == part).unwrap() as f32;
    values.extend((0..parameter.shape.iter().product()).map(|i: usize| base + i as f32));
    Ok(())
}

/// Writes a minimal Hugging Face folder: a config and an empty safetensors file.
fn write_model(dir: &Path) -> Result<(), BoxError> {
    fs::write(dir.join("config.json"), "{}")?;
    let header = b"{}      ";
    fs::write(dir.join("model.safetensors"), [&8u64.to_le_bytes()[..], header].concat())?;
    Ok(())
}

fn state(step: u64) -> TrainerState {
    let mut state = TrainerState::new(&TrainConfig::default(), 10, 100);
    state.global_step = step;
    state.jurist.optimizer_steps = step;
    state.best_metric = Some(0.1 + 0.2);
    state
}

fn save(dir: &Path, step: u64) -> PathBuf {
    save_checkpoint(dir, &state(step), &parameters(), &mut supply, write_model).unwrap()
}

fn latest_step(dir: &Path) -> Option<u64> {
    latest_checkpoint(dir).unwrap().checkpoint.map(|checkpoint| checkpoint.state.global_step)
}

#[test]
fn a_saved_checkpoint_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(latest_step(&dir.path().join("nothing")), None);
    assert_eq!(latest_step(dir.path()), None);
    save(dir.path(), 5);
    save(dir.path(), 10);
    let mut checkpoint = latest_checkpoint(dir.path()).unwrap().checkpoint.unwrap();
    assert_eq!(checkpoint.state, state(10));
    checkpoint.tensors.expect(&parameters()).unwrap();
    let mut values = Vec::new();
    checkpoint.tensors.read(StatePart::ExpAvg, "w", &mut values).unwrap();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    // Saving the same state again replaces the folder with the same bytes.
    let bytes = |name: &str| fs::read(dir.path().join("checkpoint-10").join(name)).unwrap();
    let before = [bytes(TRAINER_STATE), bytes(TRAINING_STATE)];
    save(dir.path(), 10);
    assert_eq!([bytes(TRAINER_STATE), bytes(TRAINING_STATE)], before);
}

#[test]
fn trainer_state_has_the_keys_of_transformers() {
    let json = serde_json::to_value(state(1)).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let theirs = "best_global_step best_metric best_model_checkpoint epoch eval_steps global_step is_hyper_param_search \
                  is_local_process_zero is_world_process_zero log_history logging_steps max_steps num_input_tokens_seen \
                  num_train_epochs save_steps stateful_callbacks total_flos train_batch_size trial_name trial_params";
    assert_eq!(keys, theirs.split_whitespace().chain(["jurist"]).collect::<Vec<_>>());
}

#[test]
fn a_killed_save_leaves_the_older_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 5);
    let leftover = dir.path().join(".checkpoint-10.jurist-new-7");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join(TRAINER_STATE), "half").unwrap();
    let theirs = dir.path().join("checkpoint-10.tmp-7");
    fs::create_dir(&theirs).unwrap();
    assert_eq!(latest_step(dir.path()), Some(5));
    drop(OutputFolder::claim(dir.path()).unwrap());
    assert!(!leftover.exists() && theirs.exists());

    let failed = save_checkpoint(dir.path(), &state(10), &parameters(), &mut supply, |_| Err("the disk is full".into()));
    let error = failed.unwrap_err();
    assert!(error.to_string().starts_with("cannot write the model into "), "{error}");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is full");
    assert_eq!((latest_step(dir.path()), list_checkpoints(dir.path()).unwrap()), (Some(5), vec![5]));
}

#[test]
fn incomplete_checkpoints_are_skipped_with_an_error() {
    let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(20).unwrap();
    type Damage<'a> = &'a dyn Fn(&Path);
    let damages: [(Damage, &str); 8] = [
        (&|dir| fs::remove_file(dir.join(TRAINER_STATE)).unwrap(), "cannot read "),
        (&|dir| fs::write(dir.join(TRAINER_STATE), "{").unwrap(), "was not written by jurist, or is damaged"),
        (&|dir| fs::write(dir.join(TRAINER_STATE), "{\"global_step\":10}").unwrap(), "was not written by jurist"),
        (&|dir| cut(&dir.join(TRAINING_STATE)), "does not fit a file of 20"),
        (&|dir| fs::remove_file(dir.join(TRAINING_STATE)).unwrap(), "cannot open "),
        (&|dir| fs::remove_file(dir.join("config.json")).unwrap(), "config.json is missing"),
        (&|dir| fs::remove_file(dir.join("model.safetensors")).unwrap(), "cannot open "),
        (
            &|dir| fs::write(dir.join("model.safetensors.index.json"), "{\"weight_map\":{\"w\":\"a.safetensors\"}}").unwrap(),
            "a.safetensors",
        ),
    ];
    for (damage, reason) in damages {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), 5);
        damage(&save(dir.path(), 10));
        let latest = latest_checkpoint(dir.path()).unwrap();
        assert_eq!(latest.checkpoint.unwrap().state.global_step, 5, "{reason}");
        let message = latest.skipped[0].to_string();
        assert!(message.contains(reason), "{message} / {reason}");
    }
}

#[test]
fn folders_with_other_names_are_not_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["checkpoint-", "checkpoint-x", "checkpoint-007", "checkpoint-+7", "my-checkpoint-9"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("checkpoint-3"), "a file").unwrap();
    assert_eq!(list_checkpoints(dir.path()).unwrap(), Vec::<u64>::new());
    let moved = dir.path().join("checkpoint-8");
    fs::rename(save(dir.path(), 4), &moved).unwrap();
    assert!(open_checkpoint(&moved).unwrap_err().to_string().contains("named after step 8 and holds step 4"));
    // A renamed checkpoint can be opened.
    let mine = dir.path().join("mine");
    fs::rename(&moved, &mine).unwrap();
    assert_eq!(open_checkpoint(&mine).unwrap().state.global_step, 4);
}

#[test]
fn rotation_keeps_the_best_and_the_newest() {
    for (limit, best, left) in [
        (None, None, vec![2, 4, 10, 12]),
        (Some(3), None, vec![4, 10, 12]),
        (Some(2), Some("checkpoint-4"), vec![4, 12]),
        (Some(1), Some("checkpoint-4"), vec![4, 12]),
        (Some(1), Some("checkpoint-12"), vec![12]),
        (Some(1), None, vec![12]),
        (Some(9), None, vec![2, 4, 10, 12]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for step in [2, 4, 10, 12] {
            save(dir.path(), step);
        }
        rotate_checkpoints(dir.path(), limit, best).unwrap();
        assert_eq!(list_checkpoints(dir.path()).unwrap(), left, "{limit:?} {best:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), left.len());
    }
}

#[test]
fn the_best_checkpoint_is_recorded() {
    let mut state = state(5);
    state.best_metric = None;
    assert!(!state.record_metric(f64::NAN, false));
    assert!(state.record_metric(2.0, false));
    state.global_step = 6;
    assert!(!state.record_metric(2.0, false) && !state.record_metric(3.0, false));
    assert_eq!(state.best_model_checkpoint.as_deref(), Some("checkpoint-5"));
    assert!(state.record_metric(3.0, true));
    assert_eq!((state.best_global_step, state.best_metric), (Some(6), Some(3.0)));
}

#[test]
fn metrics_are_cut_back_to_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let text = || fs::read_to_string(dir.path().join(METRICS)).unwrap();
    let (mut metrics, warning) = open_metrics(dir.path(), 0).unwrap();
    assert_eq!(warning, None);
    metrics.write(&Metrics::at(1, 0.1)).unwrap();
    let offset = metrics.bytes();
    sync_metrics(&metrics, dir.path()).unwrap();
    metrics.write(&Metrics::at(2, 0.2)).unwrap();
    drop(metrics);
    let all = text();

    let (mut metrics, warning) = open_metrics(dir.path(), offset).unwrap();
    assert_eq!((warning, text().lines().count()), (None, 1));
    metrics.write(&Metrics::at(2, 0.2)).unwrap();
    assert_eq!(text(), all);
    assert_eq!(read_log_history(dir.path(), metrics.bytes()).unwrap().len(), 2);
    assert_eq!(read_log_history(dir.path(), offset).unwrap().len(), 1);
    drop(metrics);

    let (metrics, warning) = open_metrics(dir.path(), 1_000_000).unwrap();
    assert!(warning.unwrap().contains("earlier lines are lost"));
    assert_eq!(metrics.bytes(), all.len() as u64);
    // A new run starts with an empty file.
    drop(open_metrics(dir.path(), 0).unwrap());
    assert_eq!(text(), "");
}

/// Checkpoints with foreign files and checkpoints of other programs are neither deleted nor replaced.
#[test]
fn foreign_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    (1..=4).for_each(|step| drop(save(dir.path(), step)));
    fs::write(dir.path().join("checkpoint-1/thesis.txt"), "years").unwrap();
    fs::remove_file(dir.path().join("checkpoint-2").join(TRAINER_STATE)).unwrap();
    fs::remove_file(dir.path().join("checkpoint-2").join(TRAINING_STATE)).unwrap();
    assert_eq!(rotate_checkpoints(dir.path(), Some(1), None).unwrap(), [3]);
    assert_eq!(list_checkpoints(dir.path()).unwrap(), [1, 2, 4]);
    let message = save_checkpoint(dir.path(), &state(1), &parameters(), &mut supply, write_model).unwrap_err().to_string();
    assert!(message.contains("checkpoint-1/thesis.txt is in the way"), "{message}");
    assert_eq!(fs::read_to_string(dir.path().join("checkpoint-1/thesis.txt")).unwrap(), "years");
}

/// An impossible value of any counter is an error that names file and field, without an overflow.
#[test]
fn impossible_counters_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = save(dir.path(), 5);
    let file = path.join(TRAINER_STATE);
    let mut good: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    // What only some runs write.
    good["jurist"]["events_bytes"] = 1.into();
    good["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]["early_stopping_patience_counter"] = 1.into();
    let message = |field: &str, found: Value| {
        let mut json = good.clone();
        *json.pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap() = found;
        fs::write(&file, json.to_string()).unwrap();
        open_checkpoint(&path).unwrap_err().to_string()
    };
    for (field, _) in LIMITS {
        for found in [Value::from(u64::MAX), Value::from(-1), Value::from(1.5), Value::from("7")] {
            let said = message(field, found.clone());
            assert!(said.contains(TRAINER_STATE) && said.contains(field) && said.contains(&found.to_string()), "{said}");
        }
    }
    for (field, found) in [
        ("global_step", 101),
        ("best_global_step", 6),
        ("jurist.nonfinite_steps", 6),
        ("jurist.nonfinite_in_a_row", 1),
        ("jurist.order.epoch", 6),
    ] {
        let said = message(field, found.into());
        assert!(said.contains(&format!("`{field}` is {found}; expected at most ")), "{said}");
    }
    // Any of these would change AdamW's bias correction.
    for found in [0, 4, 5 * 64 + 1, LARGEST_COUNT] {
        let said = message("jurist.optimizer_steps", found.into());
        assert!(said.contains(&format!("`jurist.optimizer_steps` is {found}; expected 5 to 320 after 5 steps")), "{said}");
    }
    for (field, found, says) in [
        ("jurist.order.epoch", Value::from(1), "`epoch` is 0; expected 1, which `jurist.order` says"),
        ("jurist.order.position", 5.into(), "`epoch` is 0; expected 0.5,"),
        ("epoch", 0.5.into(), "`epoch` is 0.5; expected 0,"),
        ("jurist.rng.generator", "x".into(), "`jurist.rng.generator` is \"x\"; expected \"threefry2x32-20\""),
    ] {
        let said = message(field, found);
        assert!(said.contains(says), "{said}");
    }
}

/// Environment variable of the process that [`a_kill_at_any_moment_loses_no_checkpoint`] kills: the folder it saves into.
const SAVE_INTO: &str = "JURIST_TEST_SAVE_INTO";

/// Not a test of its own: saves checkpoint after checkpoint until it is killed.
#[test]
fn saves_until_killed() {
    let Some(dir) = std::env::var_os(SAVE_INTO).map(PathBuf::from) else { return };
    let parameters = [Parameter { name: "w".into(), shape: vec![100_000] }];
    loop {
        let newest = latest_checkpoint(&dir).unwrap().checkpoint;
        let step = newest.map_or(1, |checkpoint| checkpoint.state.global_step + 1);
        // No last step: how many it saves until it is killed depends on the machine.
        let state = TrainerState { max_steps: 1 << 40, ..state(step) };
        save_checkpoint(&dir, &state, &parameters, &mut supply, write_model).unwrap();
        rotate_checkpoints(&dir, Some(2), None).unwrap();
    }
}

/// A process that only saves checkpoints is killed a dozen times. Each time every checkpoint is complete, and no earlier one has
/// been lost.
#[test]
fn a_kill_at_any_moment_loses_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut newest, mut kills) = (0, 0);
    // A slow disk may need more than a dozen processes (of growing lifetime) to finish the first checkpoint.
    while kills < 12 || (newest == 0 && kills < 100) {
        kills += 1;
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "train::checkpoint::tests::saves_until_killed"])
            .env(SAVE_INTO, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60 + 7 * kills));
        assert!(child.try_wait().unwrap().is_none(), "the saving process ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let latest = latest_checkpoint(dir.path()).unwrap();
        assert!(latest.skipped.is_empty(), "{:?}", latest.skipped);
        let step = latest.checkpoint.map_or(0, |checkpoint| checkpoint.state.global_step);
        assert!(step >= newest, "step {newest} was lost: the newest is {step}");
        newest = step;
    }
    assert!(newest > 0, "no checkpoint was finished");
}
