//! Kills and faults, many of them, on the program as people run it. It takes minutes, so that `make test` leaves it out:
//! `make reliability`, or `cargo test --release --test reliability -- KILLS` with the number of kills for each command; or
//! `-- served REQUESTS` for the faults of `jurist serve` alone.
//!
//! Ends with the tables of `docs/reliability.md`, and with 1 where a promise was broken.

#[cfg(unix)]
#[path = "../common/cli.rs"]
mod cli;
#[cfg(unix)]
mod client;
#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod kills;
#[cfg(unix)]
mod served;
#[cfg(unix)]
mod stage;

/// Requests over which the memory of `jurist serve` is watched.
#[cfg(unix)]
const REQUESTS: usize = 20_000;

/// One line of a table.
#[cfg(unix)]
pub struct Outcome {
    /// What was done to which command.
    what: String,
    /// How often.
    count: usize,
    /// What held afterwards, each time.
    held: &'static str,
    broken: Vec<String>,
    /// Why it was left out, where it was.
    skipped: Option<String>,
}

#[cfg(unix)]
impl Outcome {
    fn print(&self) {
        let broken = match (&self.skipped, self.broken.len()) {
            (Some(why), _) => format!("skipped: {why}"),
            (None, broken) => broken.to_string(),
        };
        println!("| {} | {} | {} | {broken} |", self.what, self.count, self.held);
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: Option<&String>, usual: usize| text.map_or(Ok(usual), |text| text.parse());
    let (only_served, number) = match asked.first().map(String::as_str) {
        Some("served") => (true, number(asked.get(1), REQUESTS)),
        _ => (false, number(asked.first(), 50)),
    };
    let Ok(number) = number else {
        eprintln!("expected the number of kills for each command, or `served` and a number of requests; found {asked:?}");
        return std::process::ExitCode::from(2);
    };
    let mut broken = match only_served {
        true => Vec::new(),
        false => on_commands(number),
    };
    broken.extend(served::all(if only_served { number } else { REQUESTS }));
    broken.iter().for_each(|broken| println!("\nbroken: {broken}"));
    std::process::ExitCode::from(u8::from(!broken.is_empty()))
}

/// Kills and faults of the commands, with their tables; what was broken.
#[cfg(unix)]
fn on_commands(kills: usize) -> Vec<String> {
    let stage = stage::Stage::new();
    let killed = kills::all(&stage, kills);
    let faults = faults::all(&stage);
    for (title, outcomes) in [("killed (SIGKILL at random)", &killed), ("fault", &faults)] {
        println!("\n| {title} | times | what held | broken |\n|---|---|---|---|");
        outcomes.iter().for_each(Outcome::print);
    }
    killed.into_iter().chain(faults).flat_map(|outcome| outcome.broken).collect()
}

#[cfg(not(unix))]
fn main() {
    println!("skipped: signals and mounts are those of Unix");
}
