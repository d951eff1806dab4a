//! Commands that judge and compare, over ranks that `mpirun` starts: the output of one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::cli::{Task, path, succeed};
use crate::{ENDS_WITHIN, alone, end, errors, on_ranks, ranks_of, signal, wait_until_gone};
use jurist::experiments::synthetic::{Split, SyntheticTask, TaskVersion};
use serde_json::{Value, json};

/// Rows to judge, in blocks of 8 with `--batch-size 2`: the last block has 5.
const ROWS: usize = 45;

/// Two cells that are chosen by two others, and one that starts from a judge.
const PROTOCOL: &str = r#"
seeds = [1, 2]
data_seed = 1
sizes = { train = 40, validation = 8, test = 8 }
tuning = { task = "H", seed = 9 }
imitation = { max_steps = 2, per_device_train_batch_size = 8 }
policy = { max_steps = 1, per_device_train_batch_size = 4, num_generations = 4 }
[[method]]
name = "sft"
title = "SFT"
settings = { method = "sft" }
learning_rates = [1e-3, 3e-3]
[[method]]
name = "real"
title = "REAL"
settings = { method = "real" }
start = "sft"
rate_of = "sft"
[[group]]
name = "core"
title = "All"
tasks = ["E"]
methods = ["sft", "real"]
champion = "real"
"#;

/// A folder with two trained judges, `plain` and `thinker`, which writes chains, and rows for them.
fn ground() -> &'static Task {
    static GROUND: OnceLock<Task> = OnceLock::new();
    GROUND.get_or_init(|| {
        let task = Task::new(48, 6, true);
        let flags = ["--num-train-epochs", "4", "--per-device-train-batch-size", "8", "--save-steps", "0"];
        succeed(task.train("thinker", &flags));
        succeed(task.train("plain", &[&flags[..], &["--chain-column", "none"]].concat()));
        let items = SyntheticTask::new(TaskVersion::BASE, 5).items(Split::Test, ROWS);
        let rows: Vec<String> = items.iter().map(|item| item.to_row().to_string() + "\n").collect();
        task.write("rows.jsonl", rows.concat());
        task.write("fewer.jsonl", rows[1..].concat());
        task.write("many.jsonl", rows.concat().repeat(40));
        let answer = |row: &String| serde_json::from_str::<Value>(row).unwrap()["prompt"].clone();
        let pair = |[a, b]: &[String; 2]| {
            json!({"instruction": "judge", "response_a": answer(a), "response_b": answer(b), "preference": "A"}).to_string()
                + "\n"
        };
        task.write("pairs.jsonl", rows.as_chunks().0.iter().map(pair).collect::<String>());
        task
    })
}

/// `command` plain, then on 1 to 4 ranks: what it prints, and the files that it writes into `folder`, are the same. The word
/// `OUT` in `args` stands for the folder.
fn same_on_ranks(name: &str, args: &[&str]) {
    let task = ground();
    let run = |ranks: usize| {
        let folder = task.at(&format!("{name}-{ranks}"));
        std::fs::create_dir_all(&folder).unwrap();
        let args: Vec<String> = args.iter().map(|arg| arg.replace("OUT", path(&folder))).collect();
        let plain = task.jurist(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let done = succeed(if ranks == 0 { plain } else { on_ranks(ranks, &plain, &[]) });
        (done.out, files(&folder))
    };
    let expected = run(0);
    assert!(!expected.0.is_empty() || !expected.1.is_empty());
    for ranks in 1..=4 {
        let found = run(ranks);
        assert!(found.0 == expected.0, "{name}, {ranks} ranks:\n{}\nexpected\n{}", found.0, expected.0);
        assert!(found.1 == expected.1, "{name}: the files of {ranks} ranks differ from those of one process");
    }
}

/// The files below a folder.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
        match path.is_dir() {
            true => found.extend(files(&path).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes))),
            false => drop(found.insert(name, std::fs::read(path).unwrap())),
        }
    }
    found
}

#[test]
fn scores_have_the_bytes_of_one_process() {
    let _alone = alone();
    let chains = ["--chains", "3", "--batch-size", "6"];
    for (name, model, more) in [
        ("score-plain", "plain", &["--batch-size", "2"][..]),
        ("score-thinker", "thinker", &["--batch-size", "2", "--output", "OUT/scored.jsonl"]),
        ("score-chains", "thinker", &chains),
    ] {
        same_on_ranks(name, &[&["score", "--model", model, "--input", "rows.jsonl"], more].concat());
    }
}

#[test]
fn figures_have_the_bytes_of_one_process() {
    let _alone = alone();
    let by_two = ["--input", "rows.jsonl", "--batch-size", "2"];
    same_on_ranks("eval", &[&["eval", "--model", "thinker", "--json", "--report", "OUT/page.html"], &by_two[..]].concat());
    same_on_ranks("calibrate", &[&["calibrate", "--model", "plain", "--output", "OUT/map.json"], &by_two[..]].concat());
    let pairs = ["pair", "--model", "plain", "--template", "judge", "--input", "pairs.jsonl", "--output", "OUT/judged.jsonl"];
    same_on_ranks("pair", &[&pairs[..], &["--batch-size", "2"]].concat());
}

/// TERM to mpirun, and the kill of a rank: rows are kept, and another number of ranks goes on to the same bytes.
#[test]
fn scoring_goes_on_with_another_number_of_ranks() {
    let (_alone, task) = (alone(), ground());
    let score = |output: &str, more: &[&str]| {
        let args = ["score", "--model", "thinker", "--input", "many.jsonl", "--output", output, "--batch-size", "2"];
        task.jurist(&[&args[..], &["--chains", "2"], more].concat())
    };
    succeed(score("many-plain.jsonl", &[]));
    for (n, (before, after, kills)) in [(2, 3, false), (3, 1, true), (4, 2, true), (1, 4, false)].into_iter().enumerate() {
        let output = format!("many-{n}.jsonl");
        // OpenMPI sends TERM after so many seconds, and KILL after as many more.
        let patient = ["--mca", "odls_base_sigkill_timeout", "2"];
        let child = on_ranks(before, &score(&output, &[]), &patient).spawn().unwrap();
        let part = task.at(&format!("{output}.part"));
        while std::fs::metadata(&part).map_or(0, |part| part.len()) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pids = ranks_of(&child, before);
        match kills {
            true => signal("-KILL", pids[before - 1]),
            false => signal("-TERM", child.id()),
        }
        let done = end(child, ENDS_WITHIN);
        println!("{before} ranks, {}: {:?}\n{}", if kills { "one killed" } else { "TERM" }, done.code, done.err);
        assert_ne!(done.code, Some(0), "it had ended before");
        if !kills {
            assert!(errors(&done)[..].iter().all(|line| line.contains("continue with --resume")), "{}", done.err);
        }
        wait_until_gone(&pids);
        let again = score(&output, &["--resume"]);
        succeed(if after == 1 { again } else { on_ranks(after, &again, &[]) });
        assert!(task.read(&output) == task.read("many-plain.jsonl"), "{before} ranks, then {after}");
    }
}

/// One message, which names the rank; and nothing is written.
#[test]
fn ranks_that_judge_otherwise_are_refused() {
    let (_alone, task) = (alone(), ground());
    let score = |model: &str, input: &str, seed: &str| {
        task.jurist(&["score", "--model", model, "--input", input, "--output", "refused.jsonl", "--seed", seed])
    };
    for (other, expected) in [
        (score("plain", "fewer.jsonl", "0"), "the data differs between the ranks: "),
        (score("plain", "rows.jsonl", "7"), "seed differs between the ranks: 7 on rank 1, and 0 on rank 0"),
        (score("thinker", "rows.jsonl", "0"), "the model differs between the ranks: "),
        (score("nothing", "rows.jsonl", "0"), "rank 1: "),
    ] {
        let mut both = on_ranks(1, &score("plain", "rows.jsonl", "0"), &[]);
        both.args([":", "-n", "1"]).arg(other.get_program()).args(other.get_args());
        let done = end(both.spawn().unwrap(), ENDS_WITHIN);
        let told = errors(&done);
        assert!(done.code != Some(0) && told.len() == 1 && told[0].contains(expected), "{}\nexpected {expected}", done.err);
        assert!(!task.at("refused.jsonl").exists());
    }
    for (args, expected) in [
        (&["doctor", "--list"][..], "2 processes were started, and this command works in one"),
        (&["score", "--model", "plain", "--input", "-"], "only one of the processes has the standard input"),
    ] {
        let done = end(on_ranks(2, &task.jurist(args), &[]).spawn().unwrap(), ENDS_WITHIN);
        let told = errors(&done);
        assert!(told.len() == 1 && told[0].contains(expected), "{}\nexpected {expected}", done.err);
    }
}

#[test]
fn cells_have_the_bytes_of_one_process() {
    let (_alone, task) = (alone(), ground());
    let compare = |folder: &str| -> Command {
        std::fs::create_dir_all(task.at(folder)).unwrap();
        task.write(&format!("{folder}/protocol.toml"), PROTOCOL);
        let (config, work) = (format!("{folder}/protocol.toml"), format!("{folder}-work"));
        task.jurist(&["compare", "--config", &config, "--work", &work])
    };
    succeed(compare("plain-cells"));
    let expected = files(&task.at("plain-cells/cells"));
    assert_eq!(expected.keys().filter(|name| name.ends_with(".json")).count(), 6, "beside the protocol that is kept");
    for ranks in 2..=4 {
        let folder = format!("cells-{ranks}");
        let done = succeed(on_ranks(ranks, &compare(&folder), &[]));
        assert!(done.out.contains("6 of 6 cells are done") && done.err.contains("on rank 1"), "{}\n{}", done.out, done.err);
        assert!(files(&task.at(&format!("{folder}/cells"))) == expected, "{ranks} ranks");
    }
}
