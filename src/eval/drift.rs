//! Drift: two runs of one judge on the same anchor rows. Each run is kept as a [`RunRecord`], which holds the score of every row,
//! so that the later run is compared row by row: a paired interval, far narrower than two intervals of their own.
//!
//! Several figures are watched. Their intervals have the level 1 - (1 - level) / figures (Bonferroni), so that a judge that has
//! not changed raises an alarm in at most 1 - level of the comparisons. In simulations of 250 comparisons at 95 % it did in 4 %
//! with 100 rows, 5 % with 50 and 8 % with 30, which is the fewest allowed.
//!
//! Another adapter, driver or batch size changes the last digits of a score. So little is no change ([`ROUNDING`]).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clusters::distinct;
use super::intervals::{Bootstrap, Interval, Statistic};
use super::metrics::metric;
use super::{EvalError, Grid, Measured, Sample, Undefined};

/// The fewest rows, or clusters, that can be compared.
pub const FEWEST: usize = 30;

/// Scores that differ by less than this share of the scale's width are the same.
pub const ROUNDING: f64 = 1e-4;

/// The version of the format of records.
const FORMAT: u32 = 1;

/// Figures that are watched, beside `coverage`.
const OF_SCORES: [&str; 4] = ["pearson", "spearman", "rmse", "bias"];
/// The same where labels are words.
const OF_LABELS: [&str; 3] = ["exact_agreement", "kappa_unweighted", "bias"];

/// One run of a judge: what `--record` writes and `--against` reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The version of the format.
    pub jurist_record: u32,
    /// What judged: a folder, or a column.
    pub judge: String,
    /// The scale's values, ascending.
    pub scale: Vec<f64>,
    /// The words of the scale, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<String>>,
    /// What tells the rows apart: their names, or hashes of their texts. Empty if rows have neither.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
    /// The human score of each row.
    pub human: Vec<f64>,
    /// The judge's score of each row; null where it has none.
    pub scores: Vec<Option<f64>>,
}

impl RunRecord {
    /// The text of a record's file.
    pub fn to_json(&self) -> String {
        let record = RunRecord { jurist_record: FORMAT, ..self.clone() };
        serde_json::to_string(&record).unwrap_or_default() + "\n"
    }

    /// Reads the text of a record's file.
    ///
    /// # Errors
    /// What else the text is, with what to give instead.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let fix = "give a file that --record wrote";
        let value: Value = serde_json::from_str(text).map_err(|e| format!("not JSON ({e}); {fix}"))?;
        match value.get("jurist_record").and_then(Value::as_u64) {
            None => {
                let output = ["bootstrap", "expected score", "data_sets"].iter().any(|key| value.get(key).is_some());
                let found = if output { "the output of --json, which has figures and no rows" } else { "no record of a run" };
                return Err(format!("it is {found}; {fix}"));
            }
            Some(format) if format != u64::from(FORMAT) => {
                return Err(format!("its format is {format}, and this version of jurist reads {FORMAT}; make it anew"));
            }
            Some(_) => {}
        }
        let record: RunRecord = serde_json::from_value(value).map_err(|e| format!("it is a damaged record ({e}); {fix}"))?;
        let lengths = [record.scores.len(), if record.rows.is_empty() { record.human.len() } else { record.rows.len() }];
        match lengths.iter().any(|length| *length != record.human.len()) {
            true => Err(format!("it is a damaged record (columns of different length); {fix}")),
            false => Ok(record),
        }
    }

    /// Checks that both runs have judged the same rows on the same scale.
    ///
    /// # Errors
    /// The first difference.
    fn expect_same_rows(&self, earlier: &RunRecord) -> Result<(), String> {
        if self.scale != earlier.scale || self.words != earlier.words {
            let shown = |record: &RunRecord| match &record.words {
                Some(words) => words.join(", "),
                None => record.scale.iter().map(f64::to_string).collect::<Vec<_>>().join(", "),
            };
            return Err(format!("the earlier run's scale is {}, and now it is {}", shown(earlier), shown(self)));
        }
        let (now, before) = (self.human.len(), earlier.human.len());
        if now != before {
            return Err(format!("the earlier run has {before} labelled rows, and this one {now}"));
        }
        let named = !self.rows.is_empty() && !earlier.rows.is_empty();
        for row in 0..now {
            if named && self.rows[row] != earlier.rows[row] {
                return Err(format!("labelled row {} is {} now and was {}", row + 1, self.rows[row], earlier.rows[row]));
            }
            if self.human[row] != earlier.human[row] {
                let (now, before) = (self.human[row], earlier.human[row]);
                return Err(format!("the human score of labelled row {} is {now} now and was {before}", row + 1));
            }
        }
        Ok(())
    }
}

/// A figure of both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its name.
    pub name: &'static str,
    /// Its value in the earlier run, over the rows that both judged.
    pub before: Measured,
    /// Its value now.
    pub now: Measured,
    /// Now minus before, with its interval.
    pub difference: Result<Interval, Undefined>,
}

impl Change {
    /// Why this figure raises an alarm: its interval excludes 0, or it cannot be compared.
    pub fn alarm(&self) -> Option<String> {
        match &self.difference {
            Ok(interval) if interval.low > 0.0 || interval.high < 0.0 => {
                let moved = if interval.estimate > 0.0 { "risen" } else { "fallen" };
                Some(format!("{} has {moved} beyond chance", self.name))
            }
            Ok(_) => None,
            Err(reason) => Some(format!("{} cannot be compared: {reason}", self.name)),
        }
    }
}

/// Two runs compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// Rows that both runs have judged.
    pub n: usize,
    /// The level of each interval.
    pub level: f64,
    /// The watched figures.
    pub changes: Vec<Change>,
}

impl Drift {
    /// Compares a run with an earlier one. `bootstrap` has the level of all intervals together, and the clusters of the rows.
    ///
    /// # Errors
    /// The inner one: runs that cannot be compared, and why.
    pub fn measure(now: &RunRecord, earlier: &RunRecord, bootstrap: &Bootstrap) -> Result<Result<Self, String>, EvalError> {
        if let Err(found) = now.expect_same_rows(earlier) {
            return Ok(Err(format!("{found}; runs are compared on the same rows and scale")));
        }
        let both: Vec<usize> = (0..now.human.len()).filter(|&row| now.scores[row].and(earlier.scores[row]).is_some()).collect();
        let grid = Grid::new(&now.scale)?;
        let rounding = ROUNDING * (grid.values()[grid.values().len() - 1] - grid.values()[0]);
        let scores = |row: usize| Some((now.scores[row]?, earlier.scores[row]?));
        let (of_now, of_earlier): (Vec<f64>, Vec<f64>) = both
            .iter()
            .filter_map(|&row| scores(row))
            .map(|(now, before)| (if (now - before).abs() < rounding { before } else { now }, before))
            .unzip();
        let human: Vec<f64> = both.iter().map(|&row| now.human[row]).collect();
        let clusters = bootstrap.clusters.map(|clusters| both.iter().map(|&row| clusters[row]).collect::<Vec<usize>>());
        let units = match &clusters {
            None => both.len(),
            Some(clusters) => distinct(clusters.iter().copied()),
        };
        if units < FEWEST {
            let what = if clusters.is_some() { "groups" } else { "rows" };
            return Ok(Err(format!(
                "only {units} {what} have a score in both runs; at least {FEWEST} are needed to tell drift from chance"
            )));
        }
        let (a, b) = (Sample::new(&human, &of_now, Some(&grid))?, Sample::new(&human, &of_earlier, Some(&grid))?);
        let names: &[&'static str] = if now.words.is_some() { &OF_LABELS } else { &OF_SCORES };
        let watched: Vec<_> = names.iter().filter_map(|name| Some((*name, metric(name)?))).collect();
        let level = 1.0 - (1.0 - bootstrap.level) / (watched.len() + 1) as f64;
        let own = Bootstrap { level, clusters: clusters.as_deref(), ..*bootstrap };
        let statistics: Vec<Statistic> = watched.iter().map(|(_, metric)| Statistic::Difference(0, 1, *metric)).collect();
        let intervals = own.intervals(&[&a, &b], &statistics)?;
        let (of_now, of_earlier) = (a.tally(), b.tally());
        let change = |((name, metric), difference): (&(&'static str, super::metrics::Metric), _)| Change {
            name,
            before: metric(&of_earlier),
            now: metric(&of_now),
            difference,
        };
        let mut changes: Vec<Change> = watched.iter().zip(intervals).map(change).collect();
        changes.push(coverage(now, earlier, &Bootstrap { level, ..*bootstrap })?);
        Ok(Ok(Drift { n: both.len(), level, changes }))
    }

    /// The alarms.
    pub fn alarms(&self) -> Vec<String> {
        self.changes.iter().filter_map(Change::alarm).collect()
    }

    /// A JSON object.
    pub fn to_json(&self) -> Value {
        let change = |change: &Change| {
            let mut object = json!({"before": change.before.as_ref().ok(), "now": change.now.as_ref().ok(),
                "difference": change.difference.as_ref().ok().map(Interval::to_json), "alarm": change.alarm().is_some()});
            if let Err(reason) = &change.difference {
                object["undefined"] = json!(reason.to_string());
            }
            (change.name.to_string(), object)
        };
        let changes: serde_json::Map<String, Value> = self.changes.iter().map(change).collect();
        json!({"n": self.n, "level": self.level, "changes": changes, "alarm": !self.alarms().is_empty()})
    }
}

/// The change of the share of rows with a score.
fn coverage(now: &RunRecord, earlier: &RunRecord, bootstrap: &Bootstrap) -> Result<Change, EvalError> {
    let has = |score: &Option<f64>| f64::from(u8::from(score.is_some()));
    let rows = now.human.len();
    let share = |record: &RunRecord| Ok(record.scores.iter().map(has).sum::<f64>() / rows as f64);
    let differences: Vec<f64> = now.scores.iter().zip(&earlier.scores).map(|(a, b)| has(a) - has(b)).collect();
    let measure = |times: &[u32]| {
        let sum: f64 = differences.iter().zip(times).map(|(difference, times)| difference * f64::from(*times)).sum();
        let n: u32 = times.iter().sum();
        vec![if n == 0 { Err(Undefined::TooFewRows { found: 0, needed: 1 }) } else { Ok(sum / f64::from(n)) }]
    };
    let difference = bootstrap.intervals_of(rows, &measure)?.pop().unwrap_or(Err(Undefined::NotCompared));
    Ok(Change { name: "coverage", before: share(earlier), now: share(now), difference })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn record(rows: usize, shift: f64, seed: u64) -> RunRecord {
        // The same rows in every run; the judge's noise is its own.
        let mut items = Stream::new(7, 7);
        let mut noise = Stream::new(seed, 8);
        let mut record = RunRecord { judge: "judge".into(), scale: vec![1.0, 2.0, 3.0, 4.0, 5.0], ..RunRecord::default() };
        for row in 0..rows {
            let human = 1.0 + items.below(5) as f64;
            let hard = items.normal();
            record.human.push(human);
            record.rows.push(format!("row {row}"));
            record.scores.push(Some(human + 0.5 * hard + 0.5 * noise.normal() + shift));
        }
        record
    }

    fn compare(now: &RunRecord, earlier: &RunRecord) -> Result<Drift, String> {
        Drift::measure(now, earlier, &Bootstrap { resamples: 400, ..Bootstrap::default() }).unwrap()
    }

    #[test]
    fn a_changed_judge_raises_an_alarm_and_an_unchanged_one_rarely() {
        let drift = compare(&record(100, 0.5, 1), &record(100, 0.0, 2)).unwrap();
        assert!(drift.alarms().iter().any(|alarm| alarm == "bias has risen beyond chance"), "{:?}", drift.alarms());
        assert_eq!((drift.n, drift.changes.len()), (100, 5));
        assert!((drift.level - 0.99).abs() < 1e-12);
        let same = record(100, 0.0, 1);
        assert_eq!(compare(&same, &same).unwrap().alarms(), Vec::<String>::new());
        let alarms =
            (0..40).filter(|k| !compare(&record(60, 0.0, 10 + k), &record(60, 0.0, 100 + k)).unwrap().alarms().is_empty());
        assert!(alarms.count() <= 5);
        // Another adapter rounds otherwise, always up; more than that is a change.
        let moved = |by: f64| RunRecord { scores: same.scores.iter().map(|s| s.map(|s| s + by)).collect(), ..same.clone() };
        let drift = compare(&moved(3e-7), &same).unwrap();
        assert_eq!((drift.alarms(), drift.changes[3].difference.clone().map(|i| i.estimate)), (Vec::new(), Ok(0.0)));
        assert_eq!(compare(&moved(0.01), &same).unwrap().alarms().len(), 1);
        // Many rows that are not judged any more.
        let mut silent = same.clone();
        silent.scores[..40].fill(None);
        assert_eq!(compare(&silent, &same).unwrap().alarms(), ["coverage has fallen beyond chance"]);
    }

    #[test]
    fn other_rows_are_refused() {
        let now = record(100, 0.0, 1);
        let changed = |change: fn(&mut RunRecord)| {
            let mut earlier = now.clone();
            change(&mut earlier);
            compare(&now, &earlier).unwrap_err()
        };
        for (found, part) in [
            (compare(&now, &record(90, 0.0, 1)).unwrap_err(), "has 90 labelled rows, and this one 100"),
            (changed(|r| r.human[4] = 9.0), "the human score of labelled row 5"),
            (changed(|r| r.rows[2] = "other".into()), "labelled row 3 is row 2 now and was other"),
            (changed(|r| r.scale = vec![0.0, 1.0]), "the earlier run's scale is 0, 1, and now it is 1, 2, 3, 4, 5"),
            (compare(&record(29, 0.0, 1), &record(29, 0.0, 2)).unwrap_err(), "only 29 rows have a score in both runs"),
        ] {
            assert!(found.contains(part), "{found}");
        }
        let mut constant = now.clone();
        constant.scores.fill(Some(3.0));
        let alarms = compare(&constant, &now).unwrap().alarms();
        assert!(alarms.contains(&"pearson cannot be compared: all judge scores are the same".to_string()), "{alarms:?}");
    }

    #[test]
    fn records_are_read_back_and_other_files_are_not() {
        let record = record(3, 0.0, 1);
        let written = RunRecord { jurist_record: FORMAT, ..record.clone() };
        assert_eq!(RunRecord::from_json(&record.to_json()).unwrap(), written);
        for (text, part) in [
            ("{\"pearson\": 1, \"bootstrap\": {}}", "the output of --json"),
            ("{\"a\": 1}", "no record of a run"),
            ("nothing", "not JSON"),
            ("{\"jurist_record\": 9}", "its format is 9"),
            ("{\"jurist_record\": 1}", "a damaged record"),
            ("{\"jurist_record\":1,\"judge\":\"a\",\"scale\":[0,1],\"human\":[1],\"scores\":[]}", "columns of different length"),
        ] {
            let found = RunRecord::from_json(text).unwrap_err();
            assert!(found.contains(part) && found.contains("--record") || found.contains("make it anew"), "{text}: {found}");
        }
    }
}
