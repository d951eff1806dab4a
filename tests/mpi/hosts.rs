//! Two machines, played by network namespaces (`scripts/two-hosts.sh`): what ranks on both make has the bytes of one process.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::{Done, succeed};
use crate::skip::skip;
use crate::{ENDS_WITHIN, alone, assert_same_run, end, errors, signal, task, train};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/two-hosts.sh");

/// Why there are no two machines here.
fn reason() -> Option<String> {
    let done = Done::from(Command::new(SCRIPT).arg("--reason").output().unwrap());
    (!done.out.trim().is_empty()).then(|| done.out.trim().into())
}

/// `command` on `ranks` ranks of each machine.
fn on_hosts(ranks: usize, command: &Command) -> Command {
    let mut script = Command::new(SCRIPT);
    script.arg(ranks.to_string()).arg(command.get_program()).args(command.get_args());
    script.env("FLAGS", "-x LP_NUM_THREADS=1 -x NODEVICE_SELECT=1 --mca odls_base_sigkill_timeout 5");
    script.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    script
}

#[test]
fn two_hosts_have_the_bytes_of_one_process() {
    if let Some(reason) = reason() {
        return skip(reason);
    }
    let (_alone, task) = (alone(), task());
    succeed(train(&task, "plain", &[]));
    for ranks in [1, 2] {
        let output = format!("hosts-{ranks}");
        succeed(on_hosts(ranks, &train(&task, &output, &[])));
        assert_same_run(&task, "plain", &output);
    }
    let score = |output: &str| {
        task.jurist(&["score", "--model", "plain", "--input", "train.jsonl", "--batch-size", "1", "--output", output])
    };
    succeed(score("scored.jsonl"));
    succeed(on_hosts(2, &score("hosts.jsonl")));
    assert!(task.read("hosts.jsonl") == task.read("scored.jsonl"));
}

/// TERM to mpirun of the first host saves and ends on both; then a rank of the second host says why it cannot work.
#[test]
fn two_hosts_end_together() {
    if let Some(reason) = reason() {
        return skip(reason);
    }
    let (_alone, task) = (alone(), task());
    let child =
        on_hosts(1, &train(&task, "stopped", &["--max-steps", "100000", "--save-steps", "0", "--quiet"])).spawn().unwrap();
    let log = task.at("stopped").join("metrics.jsonl");
    while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal("-TERM", child.id());
    let done = end(child, ENDS_WITHIN);
    println!("{:?}\n{}", done.code, done.err);
    let saved = std::fs::read_dir(task.at("stopped")).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    assert_eq!(saved.filter(|name| name.starts_with("checkpoint-")).count(), 1, "{}", done.err);
    // The folder `words` is missing for a rank of the second host only, which is in another folder.
    let there = "[ $OMPI_COMM_WORLD_RANK = 0 ] || cd /; exec \"$@\"";
    let command = train(&task, "refused", &["--max-steps", "2"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", there, "sh"]).arg(command.get_program()).args(command.get_args()).current_dir(task.dir.path());
    let done = end(on_hosts(1, &shell).spawn().unwrap(), ENDS_WITHIN);
    let told = errors(&done);
    assert!(done.code != Some(0) && told.len() == 1 && told[0].starts_with("error: rank 1: "), "{}", done.err);
}
