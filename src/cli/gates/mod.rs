//! Gates of `eval` and `agree`: requirements on figures, drift since an earlier run, and their outcome as JUnit XML and Markdown.

mod junit;
mod summary;

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::places::Places;
use super::{CliError, Context, GateArgs};
use crate::eval::drift::{Drift, RunRecord};
use crate::eval::figures::Figure;
use crate::eval::gates::{Compared, Outcome, Requirement, parse, short};
use crate::eval::intervals::Bootstrap;
use crate::eval::labels::{OF_LABEL, OVERALL, name_of};
use crate::eval::metrics::METRICS;
use crate::eval::table::{Cell, Table};
use crate::files::{FileError, write};
use crate::train::config::closest;
use crate::words::count;

/// The variable that names the file of a GitHub step's summary.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Figures without intervals that every judge has.
const PLAIN: [&str; 12] = [
    "n",
    "n_unparsed",
    "coverage",
    "pearson_p",
    "spearman_p",
    "kendall_tau_b_p",
    "pairwise_accuracy_tie_calibrated",
    "tie_margin",
    "pearson_midpoint",
    "spearman_midpoint",
    "kendall_tau_b_midpoint",
    "length_bias",
];

/// Figures of the distribution over the scale.
const PROBABILITIES: [&str; 7] = ["rps", "nll", "brier", "ece_top_label", "ece_ordinal", "score_mass_mean", "score_mass_p5"];

/// The figures that a command may require, each with whether it has an interval.
pub struct Known(Vec<(String, bool)>);

impl Known {
    /// Those of a judge; of labels too where the scale has words.
    pub fn of_judge(words: Option<&[String]>) -> Self {
        let resampled = METRICS.iter().map(|(name, _)| (name.to_string(), true));
        let plain = PLAIN.iter().chain(&PROBABILITIES).map(|name| (name.to_string(), false));
        let mut known: Vec<(String, bool)> = resampled.chain(plain).collect();
        if let Some(words) = words {
            known.extend(OVERALL.map(|name| (name.to_string(), true)));
            known.extend(words.iter().flat_map(|word| OF_LABEL.map(|name| (name_of(name, word), true))));
        }
        Known(known)
    }

    /// The same figures also after `prefix`.
    pub fn also_after(mut self, prefix: &str) -> Self {
        let after: Vec<(String, bool)> = self.0.iter().map(|(name, resampled)| (format!("{prefix}{name}"), *resampled)).collect();
        self.0.extend(after);
        self
    }

    /// More figures without intervals.
    pub fn and(mut self, names: &[&str]) -> Self {
        self.0.extend(names.iter().map(|name| (name.to_string(), false)));
        self
    }

    /// The differences of two judges.
    pub fn and_differences(mut self) -> Self {
        self.0.extend(METRICS.iter().map(|(name, _)| (format!("difference.{name}"), true)));
        self
    }

    /// Refuses a requirement on a figure that no judge has.
    fn check(&self, requirement: &Requirement) -> Result<(), CliError> {
        let usage = |problem: String| Err(CliError::Usage(format!("--require {}: {problem}", requirement.text)));
        match self.0.iter().find(|(name, _)| *name == requirement.figure) {
            Some((_, true)) => Ok(()),
            Some((_, false)) if requirement.compared == Compared::Value => Ok(()),
            Some((name, false)) => usage(format!("`{name}` has no interval; require the figure itself")),
            None => {
                let names = || self.0.iter().map(|(name, _)| name.as_str());
                let hint = closest(&requirement.figure, names());
                let of_label = OF_LABEL.iter().any(|figure| requirement.figure.starts_with(&format!("{figure}(")));
                let hint = match (hint, of_label) {
                    (Some(name), _) => format!(" (did you mean `{name}`?)"),
                    (None, true) => " (figures of labels need a scale of words, such as --scale fail,pass)".into(),
                    (None, false) => String::new(),
                };
                // Those after a prefix are the same again.
                let listed: Vec<&str> = names().filter(|name| !name.contains('.')).collect();
                let listed = listed.join(", ");
                usage(format!("no figure is called `{}`{hint}; there are {listed}", requirement.figure))
            }
        }
    }
}

/// The gates of a command, read before any work.
pub struct Gates<'a> {
    args: &'a GateArgs,
    requirements: Vec<Requirement>,
    earlier: Option<RunRecord>,
    /// Whether the summary is the one of a GitHub step.
    appends: bool,
}

/// What was measured on one file.
pub struct Measured<'a> {
    /// The file, or the model with the file.
    pub name: String,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// Its rows, where they are recorded or compared.
    pub record: Option<RunRecord>,
    /// How its intervals are drawn, with the clusters of the record's rows.
    pub bootstrap: Bootstrap<'a>,
}

/// The outcome on one file.
pub struct Checked {
    name: String,
    figures: Vec<Figure>,
    outcomes: Vec<Outcome>,
    /// The comparison with the earlier run, or why there is none.
    drift: Option<Result<Drift, String>>,
}

impl<'a> Gates<'a> {
    /// Reads requirements and the earlier run, and checks that the outputs can be written.
    ///
    /// # Errors
    /// A requirement that cannot be read, or on a figure that is not known; an earlier run that is none; outputs without gates.
    pub fn read(args: &'a GateArgs, known: &Known, files: usize, context: &Context) -> Result<Self, CliError> {
        let mut requirements = Vec::new();
        for list in &args.require {
            requirements.extend(parse(list).map_err(|problem| CliError::Usage(format!("--require {problem}")))?);
        }
        if requirements.is_empty() && !args.require.is_empty() {
            return Err(CliError::Usage("--require is empty; write a requirement, as in pearson>=0.8".into()));
        }
        requirements.iter().try_for_each(|requirement| known.check(requirement))?;
        for (flag, given) in [("--against", &args.against), ("--record", &args.record)] {
            if given.is_some() && files > 1 {
                return Err(CliError::Usage(format!("{flag} is about one file, and {files} are given; run a command for each")));
            }
        }
        if args.junit.is_some() && requirements.is_empty() && args.against.is_none() {
            return Err(CliError::Usage("--junit writes the outcome of --require and --against; give one of them".into()));
        }
        let github = context.env.iter().find(|(name, _)| name == STEP_SUMMARY).map(|(_, value)| value.as_str());
        let appends = args.summary.as_deref().is_some_and(|path| github.is_some_and(|github| path == Path::new(github)));
        let earlier = args.against.as_deref().map(read_record).transpose()?;
        Ok(Gates { args, requirements, earlier, appends })
    }

    /// The places that these flags name.
    pub fn places<'p>(args: &'p GateArgs, places: Places<'p>) -> Places<'p> {
        places
            .reads(args.against.as_deref(), "--against")
            .writes(args.record.as_deref(), "--record")
            .writes(args.junit.as_deref(), "--junit")
            .writes(args.summary.as_deref(), "--summary")
    }

    /// Whether the rows of the run are needed.
    pub fn wants_rows(&self) -> bool {
        self.args.record.is_some() || self.earlier.is_some()
    }

    /// Checks what was measured on each file.
    ///
    /// # Errors
    /// A level that is no share; clusters of another length.
    pub fn check(&self, measured: Vec<Measured>) -> Result<Vec<Checked>, CliError> {
        let one = |measured: Measured| {
            let drift = match (&self.earlier, &measured.record) {
                (Some(earlier), Some(now)) => Some(Drift::measure(now, earlier, &measured.bootstrap)?),
                _ => None,
            };
            if let (Some(path), Some(record)) = (&self.args.record, &measured.record) {
                write(path, record.to_json().as_bytes())?;
            }
            let outcomes = self.requirements.iter().map(|requirement| requirement.check(&measured.figures)).collect();
            Ok(Checked { name: measured.name, figures: measured.figures, outcomes, drift })
        };
        measured.into_iter().map(one).collect()
    }

    /// Writes what was asked for.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, command: &str, checked: &[Checked]) -> Result<(), CliError> {
        if let Some(path) = &self.args.junit {
            write(path, junit::xml(command, checked).as_bytes())?;
        }
        let Some(path) = &self.args.summary else { return Ok(()) };
        let text = summary::markdown(command, checked);
        if !self.appends {
            return Ok(write(path, text.as_bytes())?);
        }
        let append = || std::fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes());
        Ok(append().map_err(|e| FileError::io("write", path, e))?)
    }
}

fn read_record(path: &Path) -> Result<RunRecord, CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| FileError::io("read", path, e))?;
    RunRecord::from_json(&text).map_err(|problem| CliError::Failed(format!("--against {}: {problem}", path.display())))
}

impl Checked {
    /// Each check by its name, and why it failed.
    fn checks(&self) -> Vec<(String, Option<String>)> {
        let mut checks: Vec<(String, Option<String>)> =
            self.outcomes.iter().map(|outcome| (outcome.requirement.clone(), outcome.failure.clone())).collect();
        match &self.drift {
            None => {}
            Some(Err(problem)) => checks.push(("drift".into(), Some(problem.clone()))),
            Some(Ok(drift)) => {
                checks.extend(drift.changes.iter().map(|change| (format!("drift of {}", change.name), change.alarm())))
            }
        }
        checks
    }

    /// The outcome as an object; `None` without gates.
    pub fn to_json(&self) -> Option<Value> {
        if self.outcomes.is_empty() && self.drift.is_none() {
            return None;
        }
        let outcome = |outcome: &Outcome| {
            json!({"requirement": outcome.requirement, "found": outcome.found, "passes": outcome.failure.is_none(),
                "reason": outcome.failure})
        };
        let mut object = Map::new();
        object.insert("passes".into(), json!(self.checks().iter().all(|(_, failure)| failure.is_none())));
        object.insert("requirements".into(), self.outcomes.iter().map(outcome).collect());
        match &self.drift {
            None => {}
            Some(Ok(drift)) => drop(object.insert("drift".into(), drift.to_json())),
            Some(Err(problem)) => drop(object.insert("drift".into(), json!({"error": problem}))),
        }
        Some(Value::Object(object))
    }

    /// The outcome as tables; empty without gates.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.outcomes.is_empty() {
            let mut table = Table::new(["requirement", "found", ""]);
            for outcome in &self.outcomes {
                let found = outcome.found.map_or("–".into(), short);
                let verdict = if outcome.failure.is_none() { "met" } else { "not met" };
                table.row([outcome.requirement.as_str().into(), Cell::from(found), Cell::from(verdict)]);
            }
            text += &format!("\n{table}");
        }
        match &self.drift {
            None => {}
            Some(Err(problem)) => text += &format!("\nno comparison with the earlier run: {problem}\n"),
            Some(Ok(drift)) => {
                let mut table = Table::new(["since the earlier run", "before", "now", "change", "interval", ""]);
                for change in &drift.changes {
                    let [moved, ends] = match &change.difference {
                        Ok(i) => {
                            [Cell::from(short_of(i.estimate)), Cell::from(format!("{} to {}", short_of(i.low), short_of(i.high)))]
                        }
                        Err(reason) => [Cell::Missing(reason.to_string()), Cell::from("")],
                    };
                    let alarm = if change.alarm().is_some() { "alarm" } else { "" };
                    let [before, now] = [&change.before, &change.now].map(|value| Cell::number(value, 3));
                    table.row([Cell::from(change.name), before, now, moved, ends, Cell::from(alarm)]);
                }
                let percent = 100.0 * (1.0 - (1.0 - drift.level) * drift.changes.len() as f64);
                text += &format!(
                    "\n{table}{} in both runs; all intervals together hold with {} %\n",
                    count(drift.n, "row"),
                    short(percent)
                );
            }
        }
        text
    }
}

/// Three decimals.
fn short_of(x: f64) -> String {
    crate::eval::table::fixed(x, 3)
}

/// Fails where a check on any file failed, with each failure.
///
/// # Errors
/// As said; its exit code is 3.
pub fn verdict(checked: &[Checked]) -> Result<(), CliError> {
    let all: Vec<(&str, (String, Option<String>))> =
        checked.iter().flat_map(|file| file.checks().into_iter().map(|check| (file.name.as_str(), check))).collect();
    let failure = |(file, (name, failure)): &(&str, (String, Option<String>))| {
        let failure = failure.as_ref()?;
        let place = if checked.len() > 1 { format!("{file}: ") } else { String::new() };
        // Requirements are told with what was found; what drift says names itself.
        let is_drift = name.starts_with("drift");
        Some(if is_drift { format!("{place}{failure}") } else { format!("{place}{name}: {failure}") })
    };
    let failures: Vec<String> = all.iter().filter_map(failure).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => {
            Err(CliError::Gate(format!("{} of {} failed: {}", failures.len(), count(all.len(), "check"), failures.join("; "))))
        }
    }
}
