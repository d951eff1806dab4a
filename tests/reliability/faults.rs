//! Disks that are full, files that cannot be written or read, outputs that are closed.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::cli::{Done, finish, path, succeed};
use crate::stage::{Stage, Tree, Work, difference, leftovers, tree};

pub fn all(stage: &Stage) -> Vec<Outcome> {
    let mut outcomes = vec![full_disk(stage), read_only(stage), small_files(stage)];
    outcomes.extend([full_output(stage), closed(stage), unreadable(stage), bomb(stage)]);
    outcomes
}

/// The command, run by a shell that first does `before`.
fn within(command: &Command, before: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before}\nexec \"$0\" \"$@\"")).arg(command.get_program()).args(command.get_args());
    shell.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(std::process::Stdio::null());
    shell
}

/// A shell's words that give a command mounts of its own; `None` where that is not allowed.
fn namespace() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--map-root-user", "--mount"]];
    ways.into_iter().find(|way| {
        let mut test = Command::new(way[0]);
        test.args(&way[1..]).args(["sh", "-c", "mount -t tmpfs tmpfs /mnt"]);
        test.output().is_ok_and(|done| done.status.success())
    })
}

/// Kibibytes that a tmpfs needs for these files.
fn kibibytes(files: &Tree) -> usize {
    files.values().map(|bytes| bytes.len().div_ceil(4096) * 4).sum()
}

/// A command that failed as it should: by itself, with one line that says why.
fn failed_well(work: &str, done: &Done) -> Option<String> {
    let last = done.err.lines().rfind(|line| line.starts_with("error:"));
    let well = matches!(done.code, Some(1 | 2 | 130)) && last.is_some() && !done.err.contains("panicked");
    (!well).then(|| format!("{work}: code {:?}: {}", done.code, done.err.trim()))
}

/// Each command on a disk with too little room, from none at all to almost enough.
fn full_disk(stage: &Stage) -> Outcome {
    let held = "an error that names the file; what was there before; the same bytes when it is started again with room";
    let mut outcome = Outcome { what: "a full disk (tmpfs)".into(), count: 0, held, broken: Vec::new(), skipped: None };
    let Some(way) = namespace() else {
        outcome.skipped = Some("no mounts of one's own here (unshare)".into());
        return outcome;
    };
    for work in Work::ALL {
        let need = kibibytes(&tree(&stage.task.at(&stage.place(work, "whole"))));
        for share in [0, 10, 25, 40, 55, 70, 85, 95] {
            let disk = format!("disk-{work:?}-{share}");
            let place = earlier(stage, work, &disk);
            let before = tree(&stage.task.at(&disk));
            let size = (kibibytes(&before) + need * share / 100).max(4);
            // Inside, the disk hides the folder; what is on it afterwards is copied out.
            let script = format!(
                "cp -a '{disk}' '{disk}.before' && mount -t tmpfs -o size={size}k tmpfs '{disk}' && cp -a '{disk}.before/.' '{disk}/' \
                 || exit 99\n\"$0\" \"$@\"\ncode=$?\nmkdir '{disk}.after' && cp -a '{disk}/.' '{disk}.after/'\nexit $code"
            );
            let command = within(&stage.command(work, &place), &script);
            let mut outside = Command::new(way[0]);
            outside.args(&way[1..]).arg("sh").args(command.get_args()).current_dir(stage.task.dir.path());
            let done = finish(outside);
            let after = stage.task.at(&format!("{disk}.after"));
            if done.code == Some(99) {
                outcome.skipped = Some("no tmpfs could be mounted".into());
                return outcome;
            }
            if done.code != Some(0) {
                outcome.count += 1;
                outcome.broken.extend(failed_well(&format!("{} at {share} %", work.name()), &done));
                if let Some(lost) = difference(&before, &tree(&after)).filter(|d| !d.ends_with("is there too")) {
                    outcome.broken.push(format!("{} at {share} %: {lost}", work.name()));
                }
                if !matches!(work, Work::Score) {
                    let left = leftovers(&after).into_iter().map(|l| format!("{} at {share} %: {l} is left", work.name()));
                    outcome.broken.extend(left);
                }
            }
        }
    }
    outcome
}

/// An earlier output in a folder of this name, where there can be one, and a file of somebody else. Returns where the command's
/// output goes.
fn earlier(stage: &Stage, work: Work, disk: &str) -> String {
    std::fs::create_dir_all(stage.task.at(disk)).unwrap();
    stage.task.write(&format!("{disk}/notes.txt"), "mine");
    let place = stage.place(work, &format!("{disk}/o"));
    match work {
        Work::Export => drop(succeed(stage.task.jurist(&["export", "judge", "--out", &place, "--name", "old"]))),
        Work::Report => drop(stage.task.write(&place, "<p>old</p>")),
        _ => {}
    }
    place
}

/// Each command on a disk that cannot be written.
fn read_only(stage: &Stage) -> Outcome {
    let held = "an error that names the file; nothing changes";
    let mut outcome = Outcome { what: "a read-only disk".into(), count: 0, held, broken: Vec::new(), skipped: None };
    let Some(way) = namespace() else {
        outcome.skipped = Some("no mounts of one's own here (unshare)".into());
        return outcome;
    };
    for work in Work::ALL {
        let disk = format!("fixed-{work:?}");
        let place = earlier(stage, work, &disk);
        let before = tree(&stage.task.at(&disk));
        let mount = format!("mount --bind '{disk}' '{disk}' && mount -o remount,ro,bind '{disk}' || exit 99");
        let command = within(&stage.command(work, &place), &mount);
        let mut outside = Command::new(way[0]);
        outside.args(&way[1..]).arg("sh").args(command.get_args()).current_dir(stage.task.dir.path());
        let done = finish(outside);
        outcome.count += 1;
        outcome.broken.extend(failed_well(work.name(), &done));
        outcome.broken.extend(difference(&before, &tree(&stage.task.at(&disk))).map(|d| format!("{}: {d}", work.name())));
    }
    outcome
}

/// Each command where no file may grow beyond some size.
fn small_files(stage: &Stage) -> Outcome {
    let held = "an error that names the file; what was there before";
    let mut outcome =
        Outcome { what: "a limit on the size of files (ulimit -f)".into(), count: 0, held, broken: Vec::new(), skipped: None };
    for work in Work::ALL {
        for blocks in [0, 1, 8, 24] {
            let disk = format!("small-{work:?}-{blocks}");
            let place = earlier(stage, work, &disk);
            let before = tree(&stage.task.at(&disk));
            // The signal is ignored, so that the write fails instead.
            let done = finish(within(&stage.command(work, &place), &format!("trap '' XFSZ; ulimit -f {blocks}")));
            if done.code == Some(0) {
                continue;
            }
            outcome.count += 1;
            outcome.broken.extend(failed_well(&format!("{} at {blocks} blocks", work.name()), &done));
            let lost = difference(&before, &tree(&stage.task.at(&disk))).filter(|d| !d.ends_with("is there too"));
            outcome.broken.extend(lost.map(|d| format!("{} at {blocks} blocks: {d}", work.name())));
        }
    }
    outcome
}

/// Commands that print.
fn printing(stage: &Stage) -> Vec<Command> {
    let commands: [&[&str]; 9] = [
        &["--help"],
        &["data", "check", "dev.jsonl"],
        &["eval", "scored.jsonl", "--resamples", "100"],
        &["agree", "scored.jsonl", "--human", "score", "--judge", "judge.expected", "--resamples", "100"],
        &["score", "--model", "judge", "--input", "dev.jsonl", "--limit", "9"],
        &["train", "--model", "judge", "--train-file", "train.jsonl", "--output-dir", "printed", "--print-config"],
        &["doctor", "--list"],
        &["eval", "no such file.jsonl"],
        &["train", "--dry-run", "--model", "config.json", "--any-gpu"],
    ];
    commands.map(|args| stage.task.jurist(args)).into()
}

/// Standard output and standard error on a full disk.
fn full_output(stage: &Stage) -> Outcome {
    let held = "no panic; of standard output an error and code 1";
    let mut outcome = Outcome { what: "output to /dev/full".into(), count: 0, held, broken: Vec::new(), skipped: None };
    if !Path::new("/dev/full").exists() {
        outcome.skipped = Some("no /dev/full".into());
        return outcome;
    }
    for command in printing(stage) {
        let as_ever = finish(within(&command, ""));
        let told = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let (out, err) = (finish(within(&command, "exec >/dev/full")), finish(within(&command, "exec 2>/dev/full")));
        outcome.count += 2;
        if out.code.is_none_or(|code| code > 2) || (as_ever.code == Some(0) && out.code == Some(0) && !told.contains("help")) {
            outcome.broken.push(format!("{told} >/dev/full: code {:?}: {}", out.code, out.err.trim()));
        }
        if err.code != as_ever.code {
            outcome.broken.push(format!("{told} 2>/dev/full: code {:?} and not {:?}", err.code, as_ever.code));
        }
    }
    outcome
}

/// Standard streams that are closed, or whose reader has gone.
fn closed(stage: &Stage) -> Outcome {
    let held = "no panic, no signal; a reader that has gone is no error";
    let mut outcome = Outcome { what: "closed standard streams".into(), count: 0, held, broken: Vec::new(), skipped: None };
    for command in printing(stage) {
        let told = format!("{:?}", command.get_args().collect::<Vec<_>>());
        for before in ["exec <&-", "exec >&-", "exec 2>&-", "exec <&- >&- 2>&-"] {
            let done = finish(within(&command, before));
            outcome.count += 1;
            if done.code.is_none_or(|code| code > 2) || done.err.contains("panicked") {
                outcome.broken.push(format!("{told} {before}: code {:?}: {}", done.code, done.err.trim()));
            }
        }
        // A reader that goes after the first byte; the shell tells the program's own code.
        let head = within(&command, "{ { \"$0\" \"$@\"; echo \"code $?\" >&2; } | head -c 1 >/dev/null; }; exit 0");
        outcome.count += 1;
        let done = finish(head);
        let code = done.err.lines().rfind(|line| line.starts_with("code ")).map(|line| line[5..].to_string());
        if code.as_deref().is_none_or(|code| !["0", "1", "2"].contains(&code)) || done.err.contains("panicked") {
            outcome.broken.push(format!("{told} | head -c 1: code {code:?}: {}", done.err.trim()));
        }
    }
    outcome
}

/// Files whose reading fails: on Linux the first byte of a process's own memory is an input/output error.
fn unreadable(stage: &Stage) -> Outcome {
    const BAD: &str = "/proc/self/mem";
    let held = "an error that names the file";
    let mut outcome =
        Outcome { what: "files whose reading fails (EIO)".into(), count: 0, held, broken: Vec::new(), skipped: None };
    if !Path::new(BAD).exists() {
        outcome.skipped = Some(format!("no {BAD}"));
        return outcome;
    }
    let mut cases: Vec<(String, Command)> = Vec::new();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "judge.json", "model.safetensors"] {
        let folder = format!("bad-{file}");
        std::fs::create_dir(stage.task.at(&folder)).unwrap();
        for name in ["config.json", "tokenizer.json", "judge.json", "model.safetensors"] {
            std::fs::copy(stage.task.at("judge").join(name), stage.task.at(&folder).join(name)).unwrap();
        }
        let _ = std::fs::remove_file(stage.task.at(&folder).join(file));
        std::os::unix::fs::symlink(BAD, stage.task.at(&folder).join(file)).unwrap();
        let command = stage.task.jurist(&["score", "--model", &folder, "--input", "dev.jsonl"]);
        cases.push((file.into(), command));
    }
    let commands: [&[&str]; 6] = [
        &["data", "check", BAD],
        &["agree", BAD, "--human", "h", "--judge", "j"],
        &["eval", BAD],
        &["score", "--model", "judge", "--input", BAD],
        &["train", "--config", BAD],
        &["compare", "--config", BAD],
    ];
    cases.extend(commands.map(|args| (BAD.to_string(), stage.task.jurist(args))));
    for (named, command) in cases {
        let told = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let done = finish(command);
        outcome.count += 1;
        outcome.broken.extend(failed_well(&told, &done));
        if !done.err.contains(&named) {
            outcome.broken.push(format!("{told}: says nothing of {named}: {}", done.err.trim()));
        }
    }
    outcome
}

/// A megabyte of zstd that is 32 gigabytes of spaces, with 4 GiB of memory.
fn bomb(stage: &Stage) -> Outcome {
    let held = "an error that names the limit and its flag; memory stays bounded";
    let mut outcome = Outcome {
        what: "archives of 32 GB, with 4 GiB of memory (ulimit -v)".into(),
        count: 0,
        held,
        broken: Vec::new(),
        skipped: None,
    };
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let block = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
    (0..1 << 18).for_each(|_| frame.extend([block[0], block[1], block[2], b' ']));
    let file = stage.task.write("bomb.jsonl.zst", frame);
    for args in [
        &["data", "check", path(&file)][..],
        &["agree", path(&file), "--human", "h", "--judge", "j"],
        &["eval", path(&file)],
        &["train", "--model", "judge", "--train-file", path(&file), "--output-dir", "never"],
    ] {
        let done = finish(within(&stage.task.jurist(args), "ulimit -v 4194304"));
        outcome.count += 1;
        outcome.broken.extend(failed_well(&format!("{args:?}"), &done));
    }
    outcome
}
