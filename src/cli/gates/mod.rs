//! Gates of `eval`, `agree` and `pair`: requirements on figures, drift since an earlier run, and their outcome as JUnit XML and
//! Markdown.

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
use crate::eval::pairs::{PAIR_COUNTS, PAIR_FIGURES, accuracy_in};
use crate::eval::table::{Cell, Table, fixed};
use crate::files::{FileError, same_place, write};
use crate::train::config::closest;
use crate::words::count;

/// The variable that names the file of a GitHub step's summary.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Figures without intervals that every judge has.
const PLAIN: [&str; 11] = [
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
];

/// Figures of the distribution over the scale.
pub const PROBABILITIES: [&str; 5] = ["rps", "nll", "brier", "ece_top_label", "ece_ordinal"];

/// Figures of the probability on score tokens.
pub const MASSES: [&str; 2] = ["score_mass_mean", "score_mass_p5"];

/// The figure of responses' lengths.
pub const LENGTH_BIAS: &str = "length_bias";

/// The figures that a command may require.
#[derive(Default)]
pub struct Known {
    /// Each with whether it has an interval.
    figures: Vec<(String, bool)>,
    /// Those that need a flag which is not given, and the flag.
    lacking: Vec<(String, &'static str)>,
}

impl Known {
    /// Those of a judge's scores; of labels too where the scale has words.
    pub fn of_scores(words: Option<&[String]>) -> Self {
        let known = Known::default().and_resampled(METRICS.iter().map(|(name, _)| name.to_string())).and(&PLAIN);
        match words {
            None => known,
            Some(words) => known
                .and_resampled(OVERALL.map(String::from))
                .and_resampled(words.iter().flat_map(|word| OF_LABEL.map(|name| name_of(name, word)))),
        }
    }

    /// Those of pairs, with an accuracy in each category.
    pub fn of_pairs(categories: &[String]) -> Self {
        let resampled = PAIR_FIGURES.iter().filter(|name| **name != "position_p").map(|name| name.to_string());
        let categories = categories.iter().map(|name| accuracy_in(name));
        Known::default().and_resampled(resampled.chain(categories)).and(&PAIR_COUNTS).and(&["position_p"])
    }

    /// Those of a calibrated score.
    pub fn of_calibrated() -> Self {
        Known::of_scores(None).and(&["interval_width"]).and_resampled(["interval_coverage".into()])
    }

    /// More figures without intervals.
    pub fn and(mut self, names: &[&str]) -> Self {
        self.figures.extend(names.iter().map(|name| (name.to_string(), false)));
        self
    }

    /// The same if `given`, else figures that need `flag`.
    pub fn with_flag(mut self, names: &[&str], flag: &'static str, given: bool) -> Self {
        if given {
            return self.and(names);
        }
        self.lacking.extend(names.iter().map(|name| (name.to_string(), flag)));
        self
    }

    /// More figures with intervals.
    pub fn and_resampled(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.figures.extend(names.into_iter().map(|name| (name, true)));
        self
    }

    /// Other figures too, their names after `prefix`.
    pub fn with(mut self, prefix: &str, others: Known) -> Self {
        self.figures.extend(others.figures.into_iter().map(|(name, resampled)| (format!("{prefix}{name}"), resampled)));
        self
    }

    /// The differences of two judges.
    pub fn and_differences(self) -> Self {
        self.and_resampled(METRICS.iter().map(|(name, _)| format!("difference.{name}")))
    }

    /// Refuses a requirement on a figure that no judge has.
    fn check(&self, requirement: &Requirement) -> Result<(), CliError> {
        let usage = |problem: String| Err(CliError::Usage(format!("--require {}: {problem}", requirement.text)));
        if let Some((name, flag)) = self.lacking.iter().find(|(name, _)| *name == requirement.figure) {
            return usage(format!("`{name}` needs {flag}"));
        }
        match self.figures.iter().find(|(name, _)| *name == requirement.figure) {
            Some((_, true)) => Ok(()),
            Some((_, false)) if requirement.compared == Compared::Value => Ok(()),
            Some((name, false)) => usage(format!("`{name}` has no interval; require the figure itself")),
            None => {
                let names = || self.figures.iter().map(|(name, _)| name.as_str());
                let asked = requirement.figure.as_str();
                let hint = closest(asked, names());
                let of_label = OVERALL.contains(&asked) || OF_LABEL.iter().any(|figure| asked.starts_with(&format!("{figure}(")));
                let uncalibrated = asked.starts_with("calibrated.") && !names().any(|name| name.starts_with("calibrated."));
                let hint = match (hint, of_label) {
                    _ if uncalibrated => " (the judge has no calibration; jurist calibrate makes one)".into(),
                    (Some(name), _) => format!(" (did you mean `{name}`?)"),
                    (None, true) => " (figures of labels need a scale of words, such as --scale fail,pass)".into(),
                    (None, false) => String::new(),
                };
                // Those after a prefix are the same again.
                let listed: Vec<&str> = names().filter(|name| !name.contains('.')).collect();
                let listed = listed.join(", ");
                usage(format!("no figure is called `{asked}`{hint}; there are {listed}"))
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
    /// The rows, where they are recorded or compared.
    record: Option<RunRecord>,
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
        let appends =
            args.summary.as_deref().is_some_and(|path| github.is_some_and(|github| same_place(path, Path::new(github))));
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
            let outcomes = self.requirements.iter().map(|requirement| requirement.check(&measured.figures)).collect();
            Ok(Checked { name: measured.name, figures: measured.figures, outcomes, drift, record: measured.record })
        };
        measured.into_iter().map(one).collect()
    }

    /// Writes what was asked for. After the figures are printed, which a file that cannot be written must not cost.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, command: &str, checked: &[Checked]) -> Result<(), CliError> {
        for record in checked.iter().filter_map(|file| file.record.as_ref()) {
            if let Some(path) = &self.args.record {
                write(path, record.to_json().as_bytes())?;
            }
        }
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
    fn to_json(&self) -> Option<Value> {
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

    /// The figures as JSON, with the outcome under `gates` if there are gates.
    pub fn with_figures(&self, mut figures: Value) -> Value {
        if let Some(gates) = self.to_json() {
            figures["gates"] = gates;
        }
        figures
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
                        Ok(i) => [Cell::from(fixed(i.estimate, 3)), Cell::from(i.ends())],
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
