//! Which rank runs which cell, and when.
//!
//! All ranks meet several times a second: each tells which of its cells have ended, and rank 0 orders the next ones.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::job::Job;
use super::stopped;
use crate::cli::{CliError, CompareArgs, Context, Interrupt};
use crate::experiments::compare::{CellId, CompareError, Comparison};
use crate::progress::Progress;
use crate::words::count;

/// Time between two meetings.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What a rank tells.
#[derive(Serialize, Deserialize)]
struct Report {
    /// Its cells that have ended, each with its seconds and, if it failed, how.
    ended: Vec<(String, u64, Option<String>)>,
    interrupted: bool,
}

/// What rank 0 orders.
#[derive(Default, Serialize, Deserialize)]
struct Orders {
    /// Cells to start, each with its rank.
    start: Vec<(usize, String)>,
    /// No cell is left, or none can be started.
    end: bool,
}

/// Runs all unfinished cells, `args.jobs` at a time on each rank.
///
/// # Errors
/// Cells that failed; an interruption; a rank has failed.
pub fn schedule(
    comparison: &Comparison,
    args: &CompareArgs,
    context: &Context,
    interrupt: &Interrupt,
    progress: &mut dyn Progress,
) -> Result<(), CliError> {
    let ranks = &context.ranks;
    let mut plan = ranks.is_first().then(|| Plan::new(comparison, (ranks.size(), args.jobs), progress)).transpose()?;
    let (mut ordered, mut running): (Vec<CellId>, Vec<Job>) = (Vec::new(), Vec::new());
    loop {
        let report = Report { ended: take_ended(&mut running)?, interrupted: interrupt.requested() };
        let reports = ranks.all_gather_values(report)?;
        let orders = match &mut plan {
            Some(plan) => plan.next(reports, progress)?,
            None => Orders::default(),
        };
        let orders = ranks.broadcast_value(orders)?;
        if orders.end {
            break;
        }
        let own = orders.start.iter().filter(|(rank, _)| *rank == ranks.rank());
        own.map(|(_, cell)| cell.parse()).try_for_each(|cell| cell.map(|cell| ordered.push(cell)))?;
        // A shared folder may show a prerequisite to rank 0 first.
        for cell in std::mem::take(&mut ordered) {
            match comparison.is_ready(&cell)? {
                true => running.push(Job::start(cell, args, context)?),
                false => ordered.push(cell),
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    plan.map_or(Ok(()), |plan| plan.outcome())
}

/// Takes the jobs that have ended out of `running`.
fn take_ended(running: &mut Vec<Job>) -> Result<Vec<(String, u64, Option<String>)>, CliError> {
    let mut ended = Vec::new();
    for mut job in std::mem::take(running) {
        match job.ended()? {
            None => running.push(job),
            Some(status) => ended.push((job.cell.to_string(), job.seconds(), (!status.success()).then(|| status.to_string()))),
        }
    }
    Ok(ended)
}

/// The cells, as rank 0 knows of them.
struct Plan<'a> {
    comparison: &'a Comparison,
    jobs: usize,
    waiting: Vec<CellId>,
    /// Cells that run, of each rank.
    running: Vec<usize>,
    total: usize,
    done: usize,
    failed: Vec<String>,
    interrupted: bool,
    began: Instant,
}

impl<'a> Plan<'a> {
    fn new(comparison: &'a Comparison, (ranks, jobs): (usize, usize), progress: &mut dyn Progress) -> Result<Self, CliError> {
        let waiting = comparison.unfinished()?;
        let total = waiting.len();
        let on_ranks = if ranks > 1 { format!(" on each of {ranks} ranks") } else { String::new() };
        progress.note(&format!("{} to run, {jobs} at a time{on_ranks}", count(total, "cell")));
        let running = vec![0; ranks];
        let (done, failed, interrupted, began) = (0, Vec::new(), false, Instant::now());
        Ok(Plan { comparison, jobs, waiting, running, total, done, failed, interrupted, began })
    }

    /// What to start, after these reports of all ranks.
    fn next(&mut self, reports: Vec<Report>, progress: &mut dyn Progress) -> Result<Orders, CliError> {
        self.interrupted |= reports.iter().any(|report| report.interrupted);
        for (rank, report) in reports.into_iter().enumerate() {
            for (cell, seconds, failure) in report.ended {
                self.running[rank] -= 1;
                self.note_end(&cell, (rank, seconds), failure, progress);
            }
        }
        let mut start = Vec::new();
        while !self.interrupted {
            let Some(rank) = (0..self.running.len()).min_by_key(|rank| self.running[*rank]) else { break };
            if self.running[rank] >= self.jobs {
                break;
            }
            // The prerequisites of a cell come before it in the list.
            let Some(n) = self.waiting.iter().position(|cell| self.comparison.is_ready(cell).unwrap_or(false)) else { break };
            start.push((rank, self.waiting.remove(n).to_string()));
            self.running[rank] += 1;
        }
        Ok(Orders { end: self.running.iter().all(|running| *running == 0), start })
    }

    fn note_end(&mut self, cell: &str, (rank, seconds): (usize, u64), failure: Option<String>, progress: &mut dyn Progress) {
        let on_rank = if self.running.len() > 1 { format!(" on rank {rank}") } else { String::new() };
        match failure {
            None => {
                self.done += 1;
                let (done, total) = (self.done, self.total);
                let left = self.began.elapsed().as_secs_f64() / done as f64 * total.saturating_sub(done) as f64;
                progress.note(&format!("{done} of {total}: {cell} in {seconds} s{on_rank}, about {:.0} min left", left / 60.0));
            }
            Some(_) if self.interrupted => {}
            Some(status) => {
                progress.warn(&format!("{cell} failed ({status}){on_rank}; the others continue"));
                self.failed.push(cell.to_string());
            }
        }
    }

    fn outcome(self) -> Result<(), CliError> {
        if self.interrupted {
            return Err(stopped(&self.comparison.work));
        }
        match self.failed.is_empty() {
            true => Ok(()),
            false => Err(CompareError::Cell(format!(
                "{} failed: {}; their messages are above, and the same command tries them again",
                count(self.failed.len(), "cell"),
                self.failed.join(", ")
            ))
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::compare::Protocol;
    use crate::progress::Silent;

    const PROTOCOL: &str = r#"
        seeds = [1, 2, 3]
        data_seed = 1
        sizes = { train = 8, validation = 4, test = 4 }
        tuning = { task = "H", seed = 9 }
        imitation = { max_steps = 2 }
        policy = { max_steps = 1 }
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

    /// What was started at each meeting: ranks and cells.
    type Meetings = Vec<Vec<(usize, String)>>;

    fn comparison(dir: &std::path::Path) -> Comparison {
        let file = dir.join("protocol.toml");
        std::fs::write(&file, PROTOCOL).unwrap();
        Comparison { protocol: Protocol::read(&file).unwrap(), results: dir.into(), work: dir.join("work") }
    }

    /// Plays the ranks: each cell runs for a meeting, then its files are there.
    fn play(ranks: usize, jobs: usize, failing: &str, interrupted_at: usize) -> (Meetings, Result<(), CliError>) {
        let dir = tempfile::tempdir().unwrap();
        let comparison = comparison(dir.path());
        let mut plan = Plan::new(&comparison, (ranks, jobs), &mut Silent).unwrap();
        let (mut meetings, mut running): (Vec<_>, Vec<(usize, String)>) = (Vec::new(), Vec::new());
        loop {
            let interrupted = meetings.len() == interrupted_at;
            let mut reports: Vec<Report> = (0..ranks).map(|_| Report { ended: Vec::new(), interrupted }).collect();
            for (rank, cell) in std::mem::take(&mut running) {
                let failure = (cell == failing).then(|| "exit status: 1".to_string());
                if failure.is_none() {
                    for file in [comparison.result_file(&cell.parse().unwrap()), comparison.work.join(&cell).join("judge.json")] {
                        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                        std::fs::write(file, "").unwrap();
                    }
                }
                reports[rank].ended.push((cell, 1, failure));
            }
            let orders = plan.next(reports, &mut Silent).unwrap();
            if orders.end {
                return (meetings, plan.outcome());
            }
            running = orders.start.clone();
            meetings.push(orders.start);
        }
    }

    fn started(meetings: &[Vec<(usize, String)>]) -> Vec<&str> {
        meetings.iter().flatten().map(|(_, cell)| cell.as_str()).collect()
    }

    #[test]
    fn every_cell_starts_once_after_its_prerequisites() {
        let (one, _) = play(1, 1, "", usize::MAX);
        let mut all = started(&one);
        assert_eq!(all.len(), 8);
        all.sort_unstable();
        for (ranks, jobs) in [(2, 1), (3, 1), (2, 2), (5, 3)] {
            let (meetings, outcome) = play(ranks, jobs, "", usize::MAX);
            let mut found = started(&meetings);
            found.sort_unstable();
            assert!(found == all && outcome.is_ok(), "{meetings:?}");
            for meeting in &meetings {
                assert!((0..ranks).all(|rank| meeting.iter().filter(|(own, _)| *own == rank).count() <= jobs), "{meeting:?}");
            }
            // The two rates first; then as many of the three seeds as there is room for, each on the rank with the fewest.
            assert!(meetings[0].len() == 2 && meetings[1].len() == 3.min(ranks * jobs), "{meetings:?}");
            assert_eq!(meetings[0].iter().map(|(rank, _)| *rank).collect::<Vec<_>>(), [0, 1]);
        }
    }

    #[test]
    fn a_failed_cell_ends_what_needs_it_and_is_named() {
        let (meetings, outcome) = play(2, 1, "E/sft/seed-2", usize::MAX);
        let found = started(&meetings);
        assert!(found.contains(&"E/real/seed-1") && !found.contains(&"E/real/seed-2"), "{found:?}");
        let error = outcome.unwrap_err().to_string();
        assert!(error.starts_with("1 cell failed: E/sft/seed-2; "), "{error}");
    }

    #[test]
    fn an_interruption_starts_nothing_more() {
        let (meetings, outcome) = play(2, 1, "", 1);
        assert!(meetings[0].len() == 2 && matches!(outcome, Err(CliError::Stopped(_))), "{meetings:?}");
        assert_eq!(started(&meetings).len(), 2);
    }
}
