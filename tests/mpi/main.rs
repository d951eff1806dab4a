//! Ranks as processes that `mpirun` starts on this machine: the bytes of one process, kills, signals, and ranks that do not fit
//! together. `hosts` plays two machines.
#![cfg(unix)]

#[path = "../common/cli.rs"]
mod cli;
mod hosts;
mod judging;
#[path = "../common/skip.rs"]
mod skip;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::{Done, Task, lines, succeed};
use jurist::random::Stream;
use serde_json::Value;

/// 26 rows in steps of 5 batches of 2 rows: the last step of an epoch has 3 batches.
const RUN: [&str; 12] = [
    "--per-device-train-batch-size",
    "2",
    "--gradient-accumulation-steps",
    "5",
    "--eval-file",
    "dev.jsonl",
    "--eval-steps",
    "4",
    "--save-steps",
    "4",
    "--max-steps",
    "12",
];

/// A run that starts from a model.
const START: [&str; 3] = ["train", "--train-file", "train.jsonl"];

/// A rank that is gone is missed after 25 s; then its message and the end of the others.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Two cores do not run several worlds at once in time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn task() -> Task {
    Task::new(26, 6, true)
}

/// `command` on `ranks` ranks of one thread each.
fn on_ranks(ranks: usize, command: &Command, more: &[&str]) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--allow-run-as-root", "--oversubscribe"]);
    mpirun.args(more).args(["-n", &ranks.to_string()]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => mpirun.env(name, value),
            None => mpirun.env_remove(name),
        };
    }
    mpirun.current_dir(command.get_current_dir().unwrap_or(Path::new("."))).env("LP_NUM_THREADS", "1");
    mpirun.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    mpirun
}

fn train(task: &Task, output: &str, more: &[&str]) -> Command {
    task.train(output, &[&RUN[..], more].concat())
}

/// mpirun kills the ranks that are left, and does not wait for them. Each holds its locks until its last thread is gone.
fn wait_until_gone(pids: &[u32]) {
    while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The files of a run that have no time and no folder in them, by name, and its log without times.
fn of_run(dir: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<Value>) {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            found.extend(of_run(&path).0.into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else if !["metrics.jsonl", "jurist.toml", "trainer_state.json"].contains(&name.as_str()) {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    let log = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    let log = lines(&log).into_iter().map(|mut line| {
        line.as_object_mut().unwrap().shift_remove("step_time");
        line
    });
    (found, log.collect())
}

#[track_caller]
fn assert_same_run(task: &Task, a: &str, b: &str) {
    let ((a, a_log), (b, b_log)) = (of_run(&task.at(a)), of_run(&task.at(b)));
    assert_eq!(a_log, b_log);
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    a.iter().for_each(|(name, bytes)| assert!(*bytes == b[name], "{name} differs"));
    assert!(a.keys().any(|name| name.ends_with("/training_state.safetensors")) && a.contains_key("judge.json"));
}

/// The processes of the ranks, once all are there.
fn ranks_of(mpirun: &Child, ranks: usize) -> Vec<u32> {
    let parent = |pid: u32| -> Option<(u32, bool)> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some((field("PPid:")?.parse().ok()?, field("Name:")? == "jurist"))
    };
    let began = Instant::now();
    loop {
        let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let found: Vec<u32> = pids.filter(|pid| parent(*pid) == Some((mpirun.id(), true))).collect();
        if found.len() == ranks || began.elapsed() > ENDS_WITHIN {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process has ended; mpirun may not have asked for its end yet.
fn has_ended(pid: &u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Waits for the end, which must come in time.
#[track_caller]
fn end(mut child: Child, within: Duration) -> Done {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > within {
            child.kill().unwrap();
            panic!("it goes on: {:?}", Done::from(child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap().into()
}

fn errors(done: &Done) -> Vec<&str> {
    done.err.lines().filter(|line| line.starts_with("error: ")).collect()
}

#[test]
fn any_number_of_ranks_has_the_bytes_of_one_process() {
    let (_alone, task) = (alone(), task());
    // An adapter is trained on the judge that the first of them makes.
    let adapter = ["--model-name-or-path", "sft-plain", "--lora-r", "4", "--lora-dropout", "0.1"];
    for (method, more) in [("sft", &[][..]), ("cot-raft", &adapter), ("real", &["--beta", "0.1"])] {
        let flags = [&["--method", method, "--max-completion-length", "8", "--num-generations", "2"], more].concat();
        let train = |output: &str| match more.first() {
            Some(&"--model-name-or-path") => task.jurist(&[&START[..], &["--output-dir", output], &RUN, &flags].concat()),
            _ => train(&task, output, &flags),
        };
        let plain = format!("{method}-plain");
        succeed(train(&plain));
        for ranks in 1..=4 {
            let output = format!("{method}-{ranks}");
            let done = succeed(on_ranks(ranks, &train(&output), &[]));
            // Only rank 0 speaks.
            assert_eq!(done.err.matches("the judge is in").count(), 1, "{}", done.err);
            assert_same_run(&task, &plain, &output);
        }
    }
}

/// Twenty times: one rank is killed at a random moment, and the run goes on on another number of ranks.
#[test]
fn a_killed_rank_costs_no_bytes() {
    let (_alone, task) = (alone(), task());
    succeed(train(&task, "whole", &[]));
    // How long a run takes once its ranks are there: moments are drawn from that, on any machine.
    let child = on_ranks(3, &train(&task, "timed", &[]), &[]).spawn().unwrap();
    ranks_of(&child, 3);
    let began = Instant::now();
    end(child, ENDS_WITHIN);
    let length = began.elapsed().as_millis() as usize;
    let mut stream = Stream::new(24, 0);
    let mut below = |n: usize| (stream.uniform() * n as f64) as usize;
    let mut killed = 0;
    for round in 0..20 {
        let output = format!("round-{round}");
        let (before, after) = (2 + below(3), 1 + below(4));
        let child = on_ranks(before, &train(&task, &output, &[]), &[]).spawn().unwrap();
        let pids = ranks_of(&child, before);
        std::thread::sleep(Duration::from_millis(below(length) as u64));
        let victim = below(before);
        // The run may have ended before.
        let alive =
            pids.get(victim).is_some_and(|pid| Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        killed += usize::from(alive);
        let done = end(child, ENDS_WITHIN);
        wait_until_gone(&pids);
        println!("{before} ranks, {victim} killed: {alive}, {:?}; then {after}", done.code);
        let again = train(&task, &output, &["--resume"]);
        succeed(if after == 1 { again } else { on_ranks(after, &again, &[]) });
        assert_same_run(&task, "whole", &output);
    }
    assert!(killed >= 10, "{killed} of 20");
}

/// Where the launcher does not end the others: they miss the rank themselves.
#[test]
fn survivors_do_not_wait_for_ever() {
    let (_alone, task) = (alone(), task());
    for (fault, launcher) in [("-KILL", &["--enable-recovery"][..]), ("-STOP", &[])] {
        let output = format!("survivors{fault}");
        let child = on_ranks(3, &train(&task, &output, &["--max-steps", "100000"]), launcher).spawn().unwrap();
        let pids = ranks_of(&child, 3);
        while !task.at(&output).join("checkpoint-4").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(fault, pids[1]);
        let began = Instant::now();
        while ![pids[0], pids[2]].iter().all(has_ended) && began.elapsed() < ENDS_WITHIN {
            std::thread::sleep(Duration::from_millis(50));
        }
        let seconds = began.elapsed().as_secs();
        if fault == "-STOP" {
            signal("-KILL", pids[1]);
        }
        let done = end(child, Duration::from_secs(70));
        println!("{fault}: {seconds} s\n{}", done.err);
        assert!(seconds < 30, "{fault}: {seconds} s");
        let told = errors(&done);
        assert_eq!(told.len(), 1, "{}", done.err);
        assert!(told[0].contains("rank ") && told[0].contains("has not answered"), "{told:?}");
    }
}

#[test]
fn a_signal_to_mpirun_saves_and_ends() {
    let (_alone, task) = (alone(), task());
    // More steps than a fast machine makes in the seconds that mpirun waits, with one checkpoint at the end.
    let long = ["--max-steps", "1000", "--save-steps", "0", "--eval-steps", "400"];
    succeed(train(&task, "whole", &long));
    for (name, resume_on) in [("-TERM", 3), ("-INT", 1)] {
        let output = format!("stopped{name}");
        // A step and a checkpoint fit between TERM and KILL. OpenMPI waits for so long before TERM, too.
        let patient = ["--mca", "odls_base_sigkill_timeout", "3"];
        let child = on_ranks(2, &train(&task, &output, &long), &patient).spawn().unwrap();
        let log = task.at(&output).join("metrics.jsonl");
        while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(name, child.id());
        let done = end(child, ENDS_WITHIN);
        println!("{name}: {:?}\n{}", done.code, done.err);
        assert_ne!(done.code, Some(0));
        let saved: Vec<_> = of_run(&task.at(&output)).0.into_keys().filter(|name| name.contains("training_state")).collect();
        assert_eq!(saved.len(), 1, "{saved:?}");
        let again = train(&task, &output, &[&long[..], &["--resume"]].concat());
        succeed(if resume_on == 1 { again } else { on_ranks(resume_on, &again, &[]) });
        std::fs::remove_dir_all(task.at(&output).join(saved[0].split('/').next().unwrap())).unwrap();
        assert_same_run(&task, "whole", &output);
    }
}

/// Two programs in one world, with other files.
#[test]
fn ranks_that_differ_are_refused() {
    let (_alone, task) = (alone(), task());
    let lines = task.read("train.jsonl");
    task.write("other.jsonl", lines.lines().skip(1).collect::<Vec<_>>().join("\n"));
    for (flags, expected) in [
        (["--train-file", "other.jsonl"], "the training data differs between the ranks: "),
        (["--learning-rate", "1e-3"], "learning_rate differs between the ranks: 0.001 on rank 1, and 0.003 on rank 0"),
    ] {
        let mut both = on_ranks(1, &train(&task, "judge", &[]), &[]);
        let other = train(&task, "judge", &flags);
        both.args([":", "-n", "1"]).arg(other.get_program()).args(other.get_args());
        let done = end(both.spawn().unwrap(), ENDS_WITHIN);
        let told = errors(&done);
        assert!(done.code != Some(0) && told.len() == 1 && told[0].contains(expected), "{}", done.err);
        assert!(!task.at("judge").exists());
    }
    // The folder that rank 0 cannot write.
    task.write("judge", "a file");
    let done = end(on_ranks(3, &train(&task, "judge", &[]), &[]).spawn().unwrap(), ENDS_WITHIN);
    let told = errors(&done);
    assert!(told.len() == 1 && told[0].starts_with("error: rank 0: "), "{}", done.err);
}
