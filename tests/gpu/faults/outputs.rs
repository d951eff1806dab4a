//! What commands write, and what they leave alone.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use jurist::experiments::synthetic::{Split, SyntheticTask, TaskVersion};
use jurist::files::Lock;
use serde_json::{Value, json};

use crate::cli::{Done, Task, ctrl_c, finish, lines, path, skip, succeed};
use crate::messages::Messages;

/// A folder with a judge that writes chains (`judge`), one that writes none (`other`), a bundle of the first, and rows.
pub fn ground() -> &'static Task {
    static GROUND: OnceLock<Task> = OnceLock::new();
    GROUND.get_or_init(|| {
        let task = Task::new(24, 6, true);
        let more = ["--max-steps", "6", "--per-device-train-batch-size", "8", "--save-steps", "3", "--learning-rate", "1e-2"];
        succeed(task.train("judge", &more));
        succeed(task.train("other", &[&more[..], &["--chain-column", "none"]].concat()));
        succeed(task.jurist(&["export", "judge", "--out", "bundle", "--weights", "f32"]));
        let items = SyntheticTask::new(TaskVersion::BASE, 3).items(Split::Test, 300);
        task.write("rows.jsonl", items.iter().map(|i| i.to_row().to_string() + "\n").collect::<String>());
        task
    })
}

/// Every file below a folder with its bytes, links and folders by what they are; nothing where there is none.
fn picture(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let (name, path) = entry.map(|e| (e.file_name().into_string().unwrap(), e.path())).unwrap();
        if path.is_dir() && !path.is_symlink() {
            found.insert(format!("{name}/"), Vec::new());
            found.extend(picture(&path).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            // A pipe would wait for somebody to write to it.
            found.insert(name, if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() });
        }
    }
    found
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

/// The command fails with code 1 and these words, and `dir` is as it was.
#[track_caller]
pub fn refused(command: Command, dir: &Path, says: &[&str]) {
    let before = picture(dir);
    let shown = format!("{command:?}");
    let done = finish(command);
    assert_eq!(done.code, Some(1), "{shown}\n{}", done.err);
    assert!(says.iter().all(|word| done.err.contains(word)), "{shown}\n{}\nexpected {says:?}", done.err);
    assert!(picture(dir) == before, "{shown} changed {}", dir.display());
}

#[test]
fn a_bundle_replaces_nothing_but_a_bundle() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    type Fill = fn(&Path, &Path);
    let cases: [(Fill, &[&str]); 7] = [
        (|dir, _| fs::write(dir.join("thesis.txt"), "years").unwrap(), &["no manifest.json"]),
        (
            |dir, _| {
                fs::write(dir.join("manifest.json"), "{}").unwrap();
                fs::write(dir.join("thesis.txt"), "years").unwrap();
            },
            &["manifest.json", "is no bundle's"],
        ),
        (
            |dir, bundle| {
                copy(&bundle.join("."), dir);
                fs::write(dir.join("thesis.txt"), "years").unwrap();
            },
            &["thesis.txt is in the way"],
        ),
        (
            |dir, bundle| {
                copy(&bundle.join("."), dir);
                fs::create_dir(dir.join("notes")).unwrap();
            },
            &["notes is in the way"],
        ),
        (
            |dir, bundle| {
                copy(&bundle.join("."), dir);
                fs::write(dir.join("tokenizer.json"), "my own tokenizer").unwrap();
            },
            &["tokenizer.json is in the way", "not the file of the bundle"],
        ),
        (
            |dir, bundle| {
                copy(&bundle.join("manifest.json"), dir);
                fs::write(dir.join("config.json"), "{}").unwrap();
            },
            &["config.json is in the way"],
        ),
        (
            |dir, bundle| {
                copy(&bundle.join("."), dir);
                fs::rename(dir.join("tokenizer.json"), dir.join("../elsewhere.json")).unwrap();
                symlink("../elsewhere.json", dir.join("tokenizer.json")).unwrap();
            },
            &["tokenizer.json is in the way"],
        ),
    ];
    for (fill, says) in cases {
        fs::create_dir(&out).unwrap();
        fill(&out, &task.at("bundle"));
        refused(task.jurist(&["export", "judge", "--out", path(&out)]), root.path(), says);
        fs::remove_dir_all(&out).unwrap();
        let _ = fs::remove_file(root.path().join("elsewhere.json"));
    }
    refused(task.jurist(&["export", "bundle", "--out", "bundle"]), &task.at("bundle"), &["the same file as the checkpoint"]);
    // A new folder, an empty one, an earlier bundle; nothing is left beside it.
    fs::create_dir(&out).unwrap();
    fs::write(root.path().join("out.tmp-7"), "of somebody else").unwrap();
    for weights in ["f32", "q8", "f16"] {
        succeed(task.jurist(&["export", "judge", "--out", path(&out), "--weights", weights]));
        assert_eq!(names(root.path()), ["out", "out.tmp-7"]);
    }
}

#[test]
fn training_touches_nothing_that_no_run_wrote() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let train = |more: &[&str]| task.train(path(&out), &[&["--max-steps", "1"], more].concat());
    for (name, text) in [
        ("jurist.toml", "# my settings\nseed = 3\n"),
        ("metrics.jsonl", "{\"step\":1,\"loss\":1.0}\n"),
        ("metrics.jsonl", "my measurements"),
        ("tokenizer.json", "{}"),
        ("model-00001-of-00002.safetensors", "weights"),
        ("config.json", "{}"),
        ("judge.json", "{}"),
        ("adapter_model.safetensors", ""),
    ] {
        fs::create_dir(&out).unwrap();
        fs::write(out.join(name), text).unwrap();
        let says = [name, "is in the way", "choose another output_dir"];
        refused(train(&[]), root.path(), &says);
        refused(train(&["--resume"]), root.path(), &says);
        if name == "jurist.toml" {
            refused(train(&["--config", path(&out.join(name))]), root.path(), &says);
        }
        fs::remove_dir_all(&out).unwrap();
    }
    for name in ["chains.jsonl", "chains.json", "chains.jsonl.part"] {
        fs::create_dir(&out).unwrap();
        fs::write(out.join(name), "{\"prompt\":\"mine\",\"chain\":\"x\",\"score\":3}\n").unwrap();
        refused(train(&["--method", "tract"]), root.path(), &[name, "choose another output_dir"]);
        fs::remove_dir_all(&out).unwrap();
    }
    // What has other names is left as it is, a folder `final` among them.
    fs::create_dir_all(out.join("final")).unwrap();
    for name in ["final/thesis.txt", "notes.txt", "run.toml", "checkpoint-1.txt", ".hidden"] {
        fs::write(out.join(name), "years").unwrap();
    }
    let before = picture(&out);
    succeed(train(&["--save-total-limit", "1"]));
    let after = picture(&out);
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    assert!(out.join("judge.json").is_file() && !names(&out).iter().any(|n| n.contains(".jurist-")), "{:?}", names(&out));
    // Something that came meanwhile: the run ends with an error, and goes on once it is moved away.
    fs::remove_file(out.join("judge.json")).unwrap();
    fs::write(out.join("model.safetensors"), "mine").unwrap();
    let done = finish(train(&["--resume"]));
    assert!(done.code == Some(1) && done.err.contains("model.safetensors is in the way"), "{}", done.err);
    assert_eq!(fs::read_to_string(out.join("model.safetensors")).unwrap(), "mine");
    fs::remove_file(out.join("model.safetensors")).unwrap();
    succeed(train(&["--resume"]));
    // The settings that somebody noted down in ours stay, too.
    fs::remove_file(out.join("judge.json")).unwrap();
    let noted = fs::read_to_string(out.join("jurist.toml")).unwrap() + "# a note\n";
    fs::write(out.join("jurist.toml"), &noted).unwrap();
    let done = succeed(train(&["--resume"]));
    assert!(done.err.contains("it is left as it is"), "{}", done.err);
    assert_eq!(fs::read_to_string(out.join("jurist.toml")).unwrap(), noted);
}

#[test]
fn checkpoints_of_somebody_else_stay() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    copy(&task.at("judge"), &out);
    for name in ["judge.json", "model.safetensors"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    fs::remove_dir_all(out.join("checkpoint-6")).unwrap();
    let more =
        ["--max-steps", "6", "--per-device-train-batch-size", "8", "--learning-rate", "1e-2", "--save-steps", "1", "--resume"];
    // A folder where a checkpoint will be; a log of another run.
    fs::create_dir(out.join("checkpoint-5")).unwrap();
    fs::write(out.join("checkpoint-5/thesis.txt"), "years").unwrap();
    refused(task.train(path(&out), &more), root.path(), &["checkpoint-5/thesis.txt is in the way"]);
    fs::remove_dir_all(out.join("checkpoint-5")).unwrap();
    let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    fs::write(out.join("metrics.jsonl"), log.replace("\"loss\":", "\"loss\":1")).unwrap();
    refused(task.train(path(&out), &more), root.path(), &["metrics.jsonl is in the way"]);
    fs::write(out.join("metrics.jsonl"), log).unwrap();
    // Rotation leaves what is not ours, and goes on.
    fs::create_dir(out.join("checkpoint-2")).unwrap();
    fs::write(out.join("checkpoint-2/thesis.txt"), "years").unwrap();
    succeed(task.train(path(&out), &[&more[..], &["--save-total-limit", "1"]].concat()));
    assert_eq!(fs::read_to_string(out.join("checkpoint-2/thesis.txt")).unwrap(), "years");
    assert!(!out.join("checkpoint-3").exists() && out.join("checkpoint-6").exists());
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), fs::read(task.at("judge/model.safetensors")).unwrap());
}

/// Numbers that no run can have come to, in a checkpoint.
#[test]
fn counters_that_cannot_be() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    for field in ["global_step", "num_input_tokens_seen", "jurist/order/epoch", "jurist/optimizer_steps", "jurist/metrics_bytes"]
    {
        copy(&task.at("judge"), &out);
        fs::remove_file(out.join("judge.json")).unwrap();
        let file = out.join("checkpoint-3/trainer_state.json");
        let mut state: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        *state.pointer_mut(&format!("/{field}")).unwrap() = u64::MAX.into();
        fs::write(&file, state.to_string()).unwrap();
        let resume = out.join("checkpoint-3");
        let says = ["checkpoint-3", "trainer_state.json", &field.replace('/', "."), "18446744073709551615"];
        refused(task.train(path(&out), &["--max-steps", "6", "--resume", path(&resume)]), root.path(), &says);
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn scores_are_written_where_they_are_asked_for() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let score =
        |output: &Path| task.jurist(&["score", "--model", "other", "--input", "dev.jsonl", "--output", path(output), "-q"]);
    let expected = succeed(task.jurist(&["score", "--model", "other", "--input", "dev.jsonl", "-q"])).out;
    let text = |name: &str| fs::read_to_string(at(name)).unwrap();
    // A file keeps its mode, a link its target, which need not exist.
    fs::write(at("private"), "old").unwrap();
    fs::set_permissions(at("private"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("private", at("link")).unwrap();
    symlink("new", at("dangling")).unwrap();
    for (asked, file) in [("private", "private"), ("link", "private"), ("dangling", "new")] {
        succeed(score(&at(asked)));
        assert!(text(file) == expected, "{asked}");
        fs::write(at(file), "old").unwrap();
    }
    assert_eq!(fs::metadata(at("private")).unwrap().mode() & 0o7777, 0o600);
    assert!(at("link").is_symlink() && at("dangling").is_symlink());
    // A pipe is written through, and stays one; so is a device.
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let reader = {
        let pipe = at("pipe");
        std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
    };
    succeed(score(&at("pipe")));
    assert!(reader.join().unwrap() == expected && fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    succeed(score(Path::new("/dev/null")));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let done = succeed(score(Path::new("/dev/stdout")));
    assert_eq!(done.out, expected);
    assert_eq!(names(root.path()), ["dangling", "link", "new", "pipe", "private"]);

    // What cannot be written to, or would overwrite what is read.
    copy(&task.at("other"), &at("model"));
    fs::copy(task.at("dev.jsonl"), at("in.jsonl")).unwrap();
    fs::hard_link(at("in.jsonl"), at("hard")).unwrap();
    symlink("in.jsonl", at("soft")).unwrap();
    let (model, input) = (at("model"), at("in.jsonl"));
    let own = |output: &Path| {
        let mut command = task.jurist(&["score", "--model", path(&model), "--input", path(&input), "--output", path(output)]);
        command.current_dir(root.path());
        command
    };
    for (output, says) in [
        (at("in.jsonl"), "the same file as --input"),
        (at("hard"), "the same file as --input"),
        (at("soft"), "the same file as --input"),
        (Path::new("in.jsonl").to_path_buf(), "the same file as --input"),
        (at("model/tokenizer.json"), "the same file as a file of --model"),
        (at("model"), "same file"),
        (at("nowhere/x"), "cannot write"),
    ] {
        refused(own(&output), root.path(), &[says]);
    }
    // A report is no place for its own rows.
    succeed(own(&at("scored.jsonl")));
    let report = |output: &str| task.jurist(&["eval", path(&at("scored.jsonl")), "--report", path(&at(output))]);
    refused(report("scored.jsonl"), root.path(), &["the same file as the scored rows"]);
    fs::write(at("page.html"), "old").unwrap();
    fs::set_permissions(at("page.html"), fs::Permissions::from_mode(0o640)).unwrap();
    succeed(report("page.html"));
    assert!(text("page.html").contains("<svg") && fs::metadata(at("page.html")).unwrap().mode() & 0o7777 == 0o640);
}

/// An earlier file is whole or untouched on a disk that fills up.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_takes_nothing_away() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("disk")).unwrap();
    let script =
        "mount -t tmpfs -o size=24k none disk && cp -r earlier/. disk && { \"$@\"; code=$?; cp -r disk/. after; exit $code; }";
    let (judge, bundle, rows) = (task.at("other"), task.at("bundle"), task.at("rows.jsonl"));
    succeed(task.jurist(&[
        "score",
        "--model",
        "other",
        "--input",
        "rows.jsonl",
        "--output",
        path(&root.path().join("scored.jsonl")),
    ]));
    let scored = root.path().join("scored.jsonl");
    let commands: [&[&str]; 3] = [
        &["eval", path(&scored), "--report", "disk/file"],
        &["score", "--model", path(&judge), "--input", path(&rows), "--output", "disk/file"],
        &["export", path(&bundle), "--out", "disk/bundle", "--weights", "f32"],
    ];
    for args in commands {
        for name in ["earlier", "after"] {
            let _ = fs::remove_dir_all(root.path().join(name));
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("earlier/file"), "the earlier one").unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_jurist")]).args(args).current_dir(root.path());
        let done: Done = match command.output() {
            Ok(output) => output.into(),
            Err(e) => return skip(format!("no unshare here ({e})")),
        };
        if done.err.contains("unshare") || done.err.contains("mount:") {
            return skip(format!("a small file system cannot be mounted here: {}", done.err.trim()));
        }
        assert!(done.code == Some(1) && done.err.contains("o space left on the disk"), "{args:?}: {done:?}");
        let after = picture(&root.path().join("after"));
        assert_eq!(after.get("file").map(|b| &b[..]), Some(&b"the earlier one"[..]), "{args:?}");
        assert!(after.keys().all(|name| !name.contains(".jurist-")), "{args:?}: {:?}", after.keys());
    }
}

/// One writer at a time, wherever it writes; the second hears who the first is.
#[test]
fn two_processes_do_not_mix() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let held = format!("another jurist (process {}) is writing", std::process::id());
    for name in ["run", "scored", "bundle"] {
        fs::create_dir(at(name)).unwrap();
    }
    let train = || task.train(path(&at("run")), &["--max-steps", "1"]);
    let export = || task.jurist(&["export", "judge", "--out", path(&at("bundle"))]);
    let score = || task.jurist(&["score", "--model", "other", "--input", "dev.jsonl", "--output", path(&at("scored/x"))]);
    let locks = (Lock::inside(&at("run")).unwrap(), Lock::beside(&at("bundle")).unwrap(), Lock::beside(&at("scored/x")).unwrap());
    for command in [train(), export(), score()] {
        refused(command, root.path(), &[&held]);
    }
    drop(locks);
    for command in [train(), export(), score()] {
        succeed(command);
    }
    assert_eq!((names(root.path()).len(), names(&at("scored"))), (3, vec!["x".to_string()]));
    // Two that begin at the same moment in a folder that does not exist: one of them trains.
    let spawn = || task.train(path(&at("both")), &["--max-steps", "30", "--save-steps", "1"]).spawn().unwrap();
    let ended: Vec<Done> = [spawn(), spawn()].map(|child: Child| child.wait_with_output().unwrap().into()).into();
    let codes: Vec<Option<i32>> = ended.iter().map(|done| done.code).collect();
    assert!(codes.contains(&Some(0)) && codes.contains(&Some(1)), "{ended:?}");
    let log = lines(&fs::read_to_string(at("both/metrics.jsonl")).unwrap());
    let steps: Vec<u64> = log.iter().map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=30).collect::<Vec<_>>());
}

/// Flags that make many small blocks, and chains that depend on a seed.
const JUDGING: [&str; 6] = ["--batch-size", "4", "--temperature", "1", "--seed", "5"];

pub fn score(task: &Task, output: &Path, more: &[&str]) -> Command {
    let input = task.at("rows.jsonl");
    let base = ["score", "--model", "judge", "--input", path(&input), "--output", path(output)];
    task.jurist(&crate::cli::last_of_each(&[&base[..], &JUDGING, more].concat()))
}

/// Waits until rows are there.
pub fn begun(child: &mut Child, part: &Path) {
    let began = Instant::now();
    while fs::metadata(part).map_or(0, |m| m.len()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        assert!(began.elapsed() < Duration::from_secs(120), "it hangs");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn interrupted(mut child: Child, part: &Path, signal: &str) -> Done {
    begun(&mut child, part);
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap().into()
}

#[test]
fn rows_outlive_an_interruption() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let text = |name: &str| fs::read_to_string(at(name)).unwrap();
    succeed(score(task, &at("whole"), &[]));
    let whole = text("whole");
    assert_eq!(whole.lines().count(), 300);

    // Ctrl-C: whole lines under the file's own name, and what to do.
    let done = interrupted(score(task, &at("x"), &[]).spawn().unwrap(), &at("x.part"), ctrl_c());
    assert_eq!(done.code, Some(130), "{}", done.err);
    let kept = text("x").lines().count();
    let says = format!("{kept} of 300 rows are kept in {}; continue with --resume", at("x").display());
    assert!(done.err.contains(&says) && kept > 0 && kept < 300, "{}\n{says}", done.err);
    assert!(whole.starts_with(&text("x")) && text("x").ends_with('\n'));
    assert_eq!(names(root.path()), ["whole", "x", "x.unfinished"]);
    let done = finish(task.jurist(&["eval", path(&at("x"))]));
    assert!(done.err.contains("its last rows are missing"), "{}", done.err);

    // Rows that are kept are not judged anew in silence, and what somebody else keeps under such a name stays.
    refused(score(task, &at("x"), &[]), root.path(), &["continue with --resume"]);
    fs::write(at("y.part"), "my only copy").unwrap();
    refused(score(task, &at("y"), &["--resume"]), root.path(), &["y.part", "jurist did not write it"]);
    fs::remove_file(at("y.part")).unwrap();

    // Another judge, other settings, another input: refused by name, and nothing changes.
    let other = task.at("other");
    let items = SyntheticTask::new(TaskVersion::BASE, 4).items(Split::Test, 300);
    fs::write(at("changed.jsonl"), items.iter().map(|i| i.to_row().to_string() + "\n").collect::<String>()).unwrap();
    for (more, says) in [
        (&["--seed", "6"][..], "seed was 5 and is now 6"),
        (&["--temperature", "0.5"], "temperature was 1.0 and is now 0.5"),
        (&["--batch-size", "8"], "batch_size was 4 and is now 8"),
        (&["--max-length", "90"], "max_length was null and is now 90"),
        (&["--scale", "1..4"], "scale was"),
        (&["--model", path(&other)], "chain was true and is now false"),
        (&["--input", path(&at("changed.jsonl"))], "row 1: it is not the row at"),
    ] {
        refused(score(task, &at("x"), &[&["--resume"], more].concat()), root.path(), &[says]);
    }
    fs::remove_file(at("changed.jsonl")).unwrap();
    // Interrupted again, then to the end.
    let done = interrupted(score(task, &at("x"), &["--resume"]).spawn().unwrap(), &at("x.part"), ctrl_c());
    assert!(done.code == Some(130) && text("x").lines().count() >= kept, "{}", done.err);
    succeed(score(task, &at("x"), &["--resume"]));
    assert!(text("x") == whole && names(root.path()) == ["whole", "x"]);

    // Killed, with half a line at the end; an earlier file of the name stays to the end.
    fs::write(at("x"), "earlier").unwrap();
    assert_eq!(interrupted(score(task, &at("x"), &[]).spawn().unwrap(), &at("x.part"), "-KILL").code, None);
    let part = text("x.part");
    let rows = part.lines().count();
    fs::write(at("x.part"), part + &whole.lines().nth(rows).unwrap()[..40]).unwrap();
    assert_eq!(text("x"), "earlier");
    let before = picture(root.path());
    let done = finish(score(task, &at("x"), &[]));
    assert!(done.code == Some(1) && done.err.contains("x.part is in the way") && done.err.contains("--resume"), "{}", done.err);
    assert_eq!(before.get("x.part"), picture(root.path()).get("x.part"));
    succeed(score(task, &at("x"), &["--resume"]));
    assert!(text("x") == whole && names(root.path()) == ["whole", "x"], "{:?}", names(root.path()));
}

/// Rows without a note of how they were made: cut anywhere, they are gone on with where this judge makes the same.
#[test]
fn rows_are_known_by_what_is_in_them() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let (whole, x) = (root.path().join("whole"), root.path().join("x"));
    let few = ["--limit", "40"];
    succeed(score(task, &whole, &few));
    let text = fs::read_to_string(&whole).unwrap();
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    for cut in [0, 10, ends[0], ends[6] + 1, ends[15], ends[16], ends[38] + 30, text.len()] {
        fs::write(&x, &text[..cut]).unwrap();
        succeed(score(task, &x, &[&few[..], &["--resume"]].concat()));
        assert!(fs::read_to_string(&x).unwrap() == text, "cut at {cut}");
        assert_eq!(names(root.path()), ["whole", "x"]);
    }
    fs::write(&x, &text[..ends[20]]).unwrap();
    let resume = |more: &[&str]| score(task, &x, &[&few[..], &["--resume"], more].concat());
    for (more, says) in [
        (&["--seed", "6"][..], "it has another chain than this judge gives"),
        (&["--scale", "1..4"], "this judge gives"),
        (&["--limit", "20"], "the input has only 20 rows"),
        (&["--shuffle-seed", "1"], "it is not the row at"),
    ] {
        refused(resume(more), root.path(), &[says]);
    }
    for foreign in ["my notes\n", "{\"prompt\":\"x\"}\n", "{\"judge\":{}}\n"] {
        fs::write(&x, foreign).unwrap();
        refused(resume(&[]), root.path(), &["row 1: it is"]);
    }
    // The same file serves eval, from any row on, with the figures of an evaluation in one go.
    let eval = |more: &[&str]| {
        let input = task.at("rows.jsonl");
        let base = ["eval", "--model", "judge", "--input", path(&input), "--json", "-q", "--resamples", "50", "--limit", "40"];
        succeed(task.jurist(&[&base[..], &JUDGING, more].concat())).out
    };
    fs::write(&x, &text[..ends[20]]).unwrap();
    let resumed = eval(&["--output", path(&x), "--resume"]);
    assert!(fs::read_to_string(&x).unwrap() == text);
    assert_eq!(resumed, eval(&[]));
}

/// What else is interrupted leaves nothing behind.
#[test]
fn interrupted_commands_clean_up() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let input = task.at("rows.jsonl");
    let mut printed = task.jurist(&[&["score", "--model", "judge", "--input", path(&input)][..], &JUDGING].concat());
    let mut child = printed.stdout(fs::File::create(root.path().join("out")).unwrap()).spawn().unwrap();
    begun(&mut child, &root.path().join("out"));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let done: Done = child.wait_with_output().unwrap().into();
    assert!(done.code == Some(130) && done.err.contains("of 300 rows were judged; with --output FILE"), "{done:?}");
    let rows = fs::read_to_string(root.path().join("out")).unwrap();
    assert!(rows.ends_with('\n') && rows.lines().count() < 300, "rows are printed as they are done");

    let mut seen = 0;
    for _ in 0..20 {
        let mut child = task.jurist(&["export", "judge", "--out", path(&root.path().join("b"))]).spawn().unwrap();
        let writes = || names(root.path()).iter().any(|n| n.starts_with(".b.jurist-new-"));
        let met = loop {
            match (writes(), child.try_wait().unwrap().is_some()) {
                (true, _) => break true,
                (false, true) => break false,
                (false, false) => {}
            }
        };
        if met {
            let _ = Command::new("kill").args([ctrl_c(), &child.id().to_string()]).status();
        }
        seen += usize::from(met);
        child.wait_with_output().unwrap();
        let left = names(root.path());
        assert!(left.iter().all(|name| ["b", "out"].contains(&name.as_str())), "{left:?}");
    }
    assert!(seen > 0, "no export was met while it wrote");
}

#[test]
fn judging_nothing_is_a_failure() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        fs::write(root.path().join(name), text).unwrap();
        root.path().join(name).to_str().unwrap().to_string()
    };
    let good = lines(&task.read("dev.jsonl"));
    let bad = json!({"prompt": "ok ".repeat(300), "score": 3});
    let rows = |list: &[&Value]| list.iter().map(|row| row.to_string() + "\n").collect::<String>();
    let some = file("some.jsonl", rows(&[&good[0], &bad, &good[1], &good[2], &good[3]]));
    let none = file("none.jsonl", rows(&[&bad, &bad]));
    let judged = |name: &str| root.path().join(format!("{name}-scored.jsonl")).to_str().unwrap().to_string();
    let columns = file("some.csv", "human,judge,nothing\n1,2,\n2,,\n3,4,\n".into());
    let mut messages = Messages::new("outputs-nothing").place(root.path(), "[folder]");
    for (args, code) in [
        (vec!["score", "--model", "other", "--input", &some, "--output", &judged("some")], 0),
        (vec!["score", "--model", "other", "--input", &some, "--strict"], 1),
        (vec!["score", "--model", "other", "--input", &none, "--output", &judged("none")], 1),
        (vec!["eval", "--model", "other", "--input", &some], 0),
        (vec!["eval", "--model", "other", "--input", &some, "--strict"], 1),
        (vec!["eval", "--model", "other", "--input", &none], 1),
        (vec!["eval", &judged("some")], 0),
        (vec!["eval", &judged("some"), "--strict"], 1),
        (vec!["eval", &judged("none"), "--scale", "1..5"], 1),
        (vec!["agree", &columns, "--human", "human", "--judge", "judge"], 0),
        (vec!["agree", &columns, "--human", "human", "--judge", "judge", "--strict"], 1),
        (vec!["agree", &columns, "--human", "human", "--judge", "nothing"], 1),
        (vec!["agree", &columns, "--human", "human", "--judge", "nothing", "--json"], 1),
    ] {
        let done = finish(task.jurist(&args));
        assert_eq!(done.code, Some(code), "{args:?}\n{}", done.err);
        let told = done.err.lines().filter(|line| line.contains("could not be judged") || line.contains("could be judged"));
        messages.add(args.join(" "), &told.collect::<Vec<_>>().join("\n"));
    }
    messages.check();
    // What is found is written and printed all the same.
    assert_eq!(fs::read_to_string(judged("none")).unwrap().lines().count(), 2);
}

/// A run without a step leaves no judge, whichever method sampled or skipped.
#[test]
fn no_judge_without_a_step() {
    let task = Task::new(12, 2, true);
    let rows = lines(&task.read("train.jsonl")).into_iter().enumerate().map(|(n, mut row)| {
        row["score"] = [-1e308, 1e308][n % 2].into();
        row.to_string() + "\n"
    });
    task.write("train.jsonl", rows.collect::<String>());
    for method in ["raft", "real", "cot-raft"] {
        let more = ["--method", method, "--scale=1,2=-1e308,1e308", "--max-steps", "2", "--save-steps", "0"];
        let words = ["--num-generations", "2", "--max-completion-length", "4", "--per-device-train-batch-size", "2"];
        let words = if method == "real" { &words[..] } else { &words[4..] };
        let done = finish(task.train(method, &[&more[..], words].concat()));
        assert_eq!(done.code, Some(1), "{method}: {}", done.err);
        assert!(
            done.err.contains("no step changed the model: no gradient was finite in 2 steps")
                && done.err.contains("no judge is written"),
            "{}",
            done.err
        );
        let left = picture(&task.at(method));
        assert!(!left.keys().any(|name| name.contains("judge.json") || name.contains("safetensors")), "{:?}", left.keys());
    }
}

/// Nobody can be told: the exit code says it, and nothing panics.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_takes_nothing() {
    let task = ground();
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let score = ["score", "--model", "other", "--input", "dev.jsonl"];
    for (args, code) in [
        (&score[..], 0),
        (&["score", "--model", "nowhere", "--input", "dev.jsonl"], 1),
        (&["data", "check", "dev.jsonl"], 0),
        (&["doctor", "--list"], 0),
        (&["train"], 2),
        (&["agree"], 2),
        (&["eval", "nowhere"], 1),
    ] {
        let mut silent = task.jurist(args);
        silent.stderr(full());
        assert_eq!(finish(silent).code, Some(code), "{args:?} with standard error full");
        let mut closed = task.jurist(args);
        closed.stdout(full());
        let done = finish(closed);
        let expected = if code == 0 { 1 } else { code };
        assert_eq!(done.code, Some(expected), "{args:?} with standard output full: {}", done.err);
        assert!(!done.err.contains("panicked"), "{}", done.err);
    }
}

/// Pages that a command names by itself replace its own pages only.
#[test]
fn pages_of_somebody_else_stay() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let protocol = "seeds = [1]\ndata_seed = 1\nsizes = { train = 20, validation = 4, test = 4 }\ntuning = { task = \"E\", seed = 9 }\n\
                    imitation = { max_steps = 1 }\npolicy = { max_steps = 1 }\n[[method]]\nname = \"sft\"\ntitle = \"SFT\"\n\
                    settings = { method = \"sft\" }\nlearning_rates = [1e-3]\n[[group]]\nname = \"core\"\ntitle = \"All\"\n\
                    tasks = [\"E\"]\nmethods = [\"sft\"]\nchampion = \"sft\"\n";
    fs::write(at("protocol.toml"), protocol).unwrap();
    let protocol = at("protocol.toml");
    let compare = |more: &[&str]| crate::cli::jurist(&[&["compare", "--config", path(&protocol)], more].concat());
    for name in ["README.md", "index.html"] {
        fs::write(at(name), "# My project\n").unwrap();
        for more in [&[][..], &["--tables"]] {
            refused(compare(more), root.path(), &[name, "is in the way"]);
        }
        fs::remove_file(at(name)).unwrap();
    }
    succeed(compare(&["--tables"]));
    succeed(compare(&["--tables"]));
    let demo = || crate::cli::jurist(&["demo", "--quick", "--output-dir", path(root.path())]);
    fs::write(at("report.html"), "<title>My report</title>").unwrap();
    let done = finish(demo());
    assert!(done.code == Some(1) && done.err.contains("report.html is in the way"), "{}", done.err);
    assert_eq!(fs::read_to_string(at("report.html")).unwrap(), "<title>My report</title>");
    fs::remove_file(at("report.html")).unwrap();
    fs::create_dir_all(at("quick-seed1/data")).unwrap();
    fs::write(at("quick-seed1/data/train.jsonl"), "my rows").unwrap();
    let done = finish(demo());
    assert!(done.code == Some(1) && done.err.contains("train.jsonl is in the way"), "{}", done.err);
    assert_eq!(fs::read_to_string(at("quick-seed1/data/train.jsonl")).unwrap(), "my rows");
}
