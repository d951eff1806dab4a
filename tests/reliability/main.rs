//! Kills and faults, many of them, on the program as people run it. It takes minutes, so that `make test` leaves it out:
//! `make reliability`, or `cargo test --release --test reliability -- KILLS` with the number of kills for each command.
//!
//! Ends with the tables of `docs/reliability.md`, and with 1 where a promise was broken.

#[cfg(unix)]
#[path = "../common/cli.rs"]
mod cli;
#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod kills;
#[cfg(unix)]
mod stage;

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
    let asked = std::env::args().nth(1);
    let kills = match asked.as_deref().map(str::parse) {
        None => 50,
        Some(Ok(kills)) => kills,
        Some(Err(_)) => {
            eprintln!("expected the number of kills for each command, found {}", asked.unwrap_or_default());
            return std::process::ExitCode::from(2);
        }
    };
    let stage = stage::Stage::new();
    let killed = kills::all(&stage, kills);
    let faults = faults::all(&stage);
    for (title, outcomes) in [("killed (SIGKILL at random)", &killed), ("fault", &faults)] {
        println!("\n| {title} | times | what held | broken |\n|---|---|---|---|");
        outcomes.iter().for_each(Outcome::print);
    }
    let broken: Vec<&String> = killed.iter().chain(&faults).flat_map(|outcome| &outcome.broken).collect();
    broken.iter().for_each(|broken| println!("\nbroken: {broken}"));
    std::process::ExitCode::from(u8::from(!broken.is_empty()))
}

#[cfg(not(unix))]
fn main() {
    println!("skipped: signals and mounts are those of Unix");
}
