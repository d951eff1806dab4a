//! Killed at any moment, and started again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jurist::model_folder::ModelFolder;
use jurist::random::Stream;

use crate::Outcome;
use crate::cli::{Done, ctrl_c, finish, succeed};
use crate::stage::{Stage, Work, difference, kept, leftovers};

pub fn all(stage: &Stage, kills: usize) -> Vec<Outcome> {
    let mut stream = Stream::new(15, 1);
    let mut outcomes: Vec<Outcome> = Work::ALL.into_iter().map(|work| killed(stage, work, kills, &mut stream)).collect();
    outcomes.extend([Work::Train, Work::Score].map(|work| interrupted(stage, work, (kills / 5).max(1), &mut stream)));
    outcomes.push(at_once(stage));
    outcomes
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits a random part of the time that the whole work takes; true if it still runs then.
fn runs_on(child: &mut Child, whole: Duration, stream: &mut Stream) -> bool {
    std::thread::sleep(whole.mul_f64(stream.below(1000) as f64 / 1000.0));
    child.try_wait().unwrap().is_none()
}

/// Kills a command at random moments, and starts it again each time, until it is done; then from the start, until there were
/// so many kills. What is there after a kill can be read, and in the end it is what a run without kills leaves.
fn killed(stage: &Stage, work: Work, kills: usize, stream: &mut Stream) -> Outcome {
    let whole = stage.whole(work);
    let (mut count, mut broken) = (0, Vec::new());
    let begun = Instant::now();
    for round in 0.. {
        if count >= kills || begun.elapsed() > whole.time * 20 * kills as u32 {
            break;
        }
        let place = stage.place(work, &format!("killed-{round}"));
        let output = stage.task.at(&place);
        before(stage, work, &place);
        // A command that begins anew each time would never end if it were always killed.
        for tries in 0.. {
            let mut child = spawn(stage.command(work, &place));
            if tries < 4 && runs_on(&mut child, whole.time, stream) {
                child.kill().unwrap();
                child.wait().unwrap();
                count += 1;
                broken.extend(readable(stage, work, &output).err().map(|e| format!("{}: after a kill: {e}", work.name())));
                continue;
            }
            let done: Done = child.wait_with_output().unwrap().into();
            if done.code != Some(0) {
                broken.push(format!("{}: started again: {}", work.name(), done.err.trim()));
            }
            break;
        }
        broken.extend(difference(&whole.files, &kept(work, &output)).map(|d| format!("{}: {d}", work.name())));
        remove(&output);
    }
    broken.extend(leftovers(stage.task.dir.path()).into_iter().map(|name| format!("{}: {name} is left", work.name())));
    let held = match work {
        Work::Train => "all weights and moments, byte for byte",
        Work::Score => "all rows, byte for byte",
        Work::Export => "a whole bundle, the old or the new one, at every moment",
        Work::Merge => "nothing or all of the model",
        Work::Report => "the old page or the new one",
        Work::Compare => "all cells, byte for byte",
    };
    Outcome { what: work.name().into(), count, held, broken, skipped: None }
}

/// What is there before a command that replaces it.
fn before(stage: &Stage, work: Work, place: &str) {
    match work {
        Work::Export => {
            succeed(stage.task.jurist(&["export", "judge", "--out", place, "--weights", "f16", "--name", "old"]));
        }
        Work::Report => drop(stage.task.write(place, "<p>old</p>")),
        _ => {}
    }
}

/// Whether what a kill left can be used.
fn readable(stage: &Stage, work: Work, output: &Path) -> Result<(), String> {
    match work {
        Work::Export => {
            let folder = ModelFolder::open(output).map_err(|e| e.to_string())?;
            folder.weights().map_err(|e| e.to_string())?;
            folder.manifest().map(drop).ok_or_else(|| "no bundle".into())
        }
        Work::Merge if output.exists() => {
            ModelFolder::open(output).and_then(|folder| folder.weights()).map(drop).map_err(|e| e.to_string())?;
            remove(output);
            Ok(())
        }
        Work::Report => {
            let page = std::fs::read_to_string(output).map_err(|e| e.to_string())?;
            let new = stage.whole(work).files["file"].as_slice();
            if page == "<p>old</p>" || page.as_bytes() == new { Ok(()) } else { Err("half a page".into()) }
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) {
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap_or_default() }
}

/// Interrupted by Ctrl-C or a manager's SIGTERM: it says how to go on, and does.
fn interrupted(stage: &Stage, work: Work, times: usize, stream: &mut Stream) -> Outcome {
    let whole = stage.whole(work);
    let (mut count, mut broken) = (0, Vec::new());
    for round in 0..4 * times {
        if count >= times {
            break;
        }
        let place = stage.place(work, &format!("interrupted-{round}"));
        let mut child = spawn(stage.command(work, &place));
        if runs_on(&mut child, whole.time, stream) {
            let signal = [ctrl_c(), "-TERM"][round % 2];
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success();
            let done: Done = child.wait_with_output().unwrap().into();
            count += usize::from(sent);
            // Before the handler is there the signal ends the program itself.
            if done.code.is_some_and(|code| code != 130 && code != 0) {
                broken.push(format!("{} {signal}: code {:?}: {}", work.name(), done.code, done.err.trim()));
            }
        } else {
            child.wait().unwrap();
        }
        let done = finish(stage.command(work, &place));
        if done.code != Some(0) {
            broken.push(format!("{}: started again: {}", work.name(), done.err.trim()));
        }
        // A checkpoint where the run stopped is one more than without the signal.
        let mut found = kept(work, &stage.task.at(&place));
        found.retain(|name, _| work != Work::Train || whole.files.contains_key(name));
        broken.extend(difference(&whole.files, &found).map(|d| format!("{}: {d}", work.name())));
        remove(&stage.task.at(&place));
    }
    let what = format!("{}, by SIGINT or SIGTERM", work.name());
    Outcome { what, count, held: "code 130, and the same bytes in the end", broken, skipped: None }
}

/// Several processes with one output: one of them works, the others say so.
fn at_once(stage: &Stage) -> Outcome {
    let (mut count, mut broken) = (0, Vec::new());
    for work in [Work::Train, Work::Score, Work::Export] {
        let place = stage.place(work, "at-once");
        before(stage, work, &place);
        let children: Vec<Child> = (0..4).map(|_| spawn(stage.command(work, &place))).collect();
        let done: Vec<Done> = children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();
        count += done.len();
        if !done.iter().any(|done| done.code == Some(0)) {
            broken.push(format!("{}: of four at once none succeeded: {}", work.name(), done[0].err.trim()));
        }
        for refused in done.iter().filter(|done| done.code != Some(0)) {
            if refused.code.is_none() || refused.err.trim().is_empty() || refused.err.contains("panicked") {
                broken.push(format!("{}: one of four at once: {:?}", work.name(), refused));
            }
        }
        broken.extend(
            difference(&stage.whole(work).files, &kept(work, &stage.task.at(&place))).map(|d| format!("{}: {d}", work.name())),
        );
        remove(&stage.task.at(&place));
    }
    let held = "the output of one of them, whole; the others are refused or agree";
    Outcome { what: "four at once: train, score, export".into(), count, held, broken, skipped: None }
}
