//! Scoring by several ranks, in threads: the file has the bytes that one rank writes, also where the work was interrupted and
//! another number of ranks went on.

use std::path::Path;

use crate::score::ground;
use jurist::cli::scoring::{Single, Sink, Work, judge_rows};
use jurist::cli::{CliError, Interrupt, TerminalProgress};
use jurist::data::{ColumnOptions, Example, Reader};
use jurist::experiments::synthetic::{Split, SyntheticTask, TaskVersion};
use jurist::judge::{Judge, ScoreOptions};
use jurist::ranks::{Ranks, threads};

/// Rows of the file, in blocks of 8 with a last one of 5.
const ROWS: usize = 45;

fn rows() -> Vec<Example> {
    let items = SyntheticTask::new(TaskVersion::BASE, 5).items(Split::Test, ROWS);
    let text: String = items.iter().map(|item| item.to_row().to_string() + "\n").collect();
    Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }.read_str("rows", &text).unwrap().examples
}

/// When an interruption reaches a rank.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    Never,
    /// Once rank 0 has written so many rows.
    First(usize),
    /// Before this rank judges.
    Rank(usize),
}

/// What one rank does. Returns the number of rows that were judged, and how it ended.
fn work(
    ranks: &Ranks,
    model: &str,
    judging: &ScoreOptions,
    output: &Path,
    (resume, stop): (bool, Stop),
) -> Result<usize, CliError> {
    let judge = Judge::open(&crate::common::gpu(), &ground().at(model))?;
    let (rows, interrupt, mut taken) = (rows(), Interrupt::default(), 0);
    if stop == Stop::Rank(ranks.rank()) {
        interrupt.request();
    }
    let work = Work {
        judge: &judge,
        judging: judging.clone(),
        rows: &rows,
        sides: [&rows],
        form: &Single,
        column: "judge",
        ranks,
        interrupt: &interrupt,
    };
    let sink = Sink::open(output, resume, ranks)?;
    let counts = judge_rows(&work, sink, &mut TerminalProgress::silent(), |_| {
        taken += 1;
        if stop == Stop::First(taken) {
            interrupt.request();
        }
    });
    assert!(taken == 0 || ranks.is_first(), "only rank 0 gets judgements");
    let counts = counts?;
    assert_eq!(counts.is_some(), ranks.is_first());
    Ok(counts.map_or(0, |counts| counts.rows))
}

/// How each rank ended.
fn score(size: usize, model: &str, judging: &ScoreOptions, output: &Path, how: (bool, Stop)) -> Vec<Result<usize, CliError>> {
    std::thread::scope(|scope| {
        let start = |ranks: Ranks| {
            scope.spawn(move || {
                let ended = work(&ranks, model, judging, output, how);
                match &ended {
                    Err(CliError::Ranks(_)) => {}
                    Err(error) if !error.is_orderly() => assert!(ranks.fail(&error.to_string())),
                    _ => ranks.leave().unwrap(),
                }
                ended
            })
        };
        let threads: Vec<_> = threads::ranks(size).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Judges and ways of judging.
fn ways() -> Vec<(&'static str, ScoreOptions)> {
    let options = |batch_size, chains| ScoreOptions { batch_size, chains, seed: 3, ..ScoreOptions::default() };
    vec![("plain", options(2, 1)), ("thinker", options(2, 1)), ("thinker", options(6, 3))]
}

#[test]
fn ranks_write_the_bytes_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    for (n, (model, judging)) in ways().iter().enumerate() {
        let one = dir.path().join(format!("one-{n}.jsonl"));
        score(1, model, judging, &one, (false, Stop::Never)).into_iter().for_each(|rank| assert_eq!(rank.unwrap(), ROWS));
        let expected = read(&one);
        assert_eq!(expected.lines().count(), ROWS);
        for size in 2..=4 {
            let path = dir.path().join(format!("{size}-{n}.jsonl"));
            score(size, model, judging, &path, (false, Stop::Never)).into_iter().for_each(|rank| assert!(rank.is_ok()));
            assert!(read(&path) == expected, "{model}, {size} ranks");
        }
        // Interrupted at several places with some ranks, and resumed with others.
        for (size, stop, resumed_by, kept) in [
            (2, Stop::First(9), 3, 16),
            (3, Stop::First(1), 1, 24),
            (1, Stop::First(20), 4, 24),
            (4, Stop::Rank(2), 2, 16),
            (2, Stop::First(44), 4, 45),
        ] {
            let path = dir.path().join(format!("resumed-{size}-{resumed_by}-{n}.jsonl"));
            let ended = score(size, model, judging, &path, (false, stop));
            if kept < ROWS {
                let told = ended[0].as_ref().unwrap_err().to_string();
                assert!(told.contains(&format!("{kept} of {ROWS} rows are kept")), "{told}");
                assert!(ended[1..].iter().all(|rank| matches!(rank, Ok(0))), "the others end in an orderly way");
            }
            assert_eq!(read(&path), expected.lines().take(kept).map(|line| line.to_string() + "\n").collect::<String>());
            let resumed = score(resumed_by, model, judging, &path, (kept < ROWS, Stop::Never));
            assert!(resumed.iter().all(Result::is_ok));
            assert!(read(&path) == expected, "{model}, {size} ranks, then {resumed_by}");
        }
    }
}

/// A judge that cannot be opened on one rank, and a full disk on rank 0: that rank says so, and all end.
#[test]
fn an_error_of_one_rank_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    let (model, judging) = ways()[0].clone();
    for (failing, model_of_it, output, says) in
        [(2, "nothing", dir.path().join("scored.jsonl"), "nothing"), (0, model, "/dev/full".into(), "free some space")]
    {
        if !cfg!(target_os = "linux") && output.starts_with("/dev") {
            continue;
        }
        let ended = std::thread::scope(|scope| {
            let start = |ranks: Ranks| {
                let (judging, output) = (&judging, &output);
                scope.spawn(move || {
                    let model = if ranks.rank() == failing { model_of_it } else { model };
                    let error = work(&ranks, model, judging, output, (false, Stop::Never)).unwrap_err();
                    let message = error.message().unwrap();
                    (error.of_ranks().is_none() && ranks.fail(&message), message)
                })
            };
            let threads: Vec<_> = threads::ranks(3).into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (rank, (tells, message)) in ended.iter().enumerate() {
            assert_eq!(*tells, rank == failing, "{message}");
            let of_other = message.starts_with(&format!("rank {failing}: "));
            assert!(message.contains(says) && of_other == (rank != failing), "{message}");
        }
    }
}
