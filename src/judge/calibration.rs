//! A judge's calibration: which score people would give, and between which others it lies. It holds for rows that are judged as
//! those were that it was fitted on, and for no others.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Expectation, JudgeSettings, ScoreOptions};
#[cfg(not(target_arch = "wasm32"))]
use super::{JudgeError, Result};
use crate::data::Example;
use crate::eval::recalibration::{CalibratedScore, Recalibration};

/// The calibration in `judge.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeCalibration {
    /// The map and its intervals.
    #[serde(flatten)]
    pub fitted: Recalibration,
    /// How the rows were judged that it was fitted on.
    pub judged: JudgedWith,
    /// A hash of the labelled rows, by which they are known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_on: Option<String>,
}

/// What decides how a row's score comes about, beside the judge and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedWith {
    pub expectation: Expectation,
    /// Chains of thought a row; 0 where none are written.
    pub chains: usize,
    pub temperature: f32,
    /// Whether the rows brought their chains.
    pub given_chains: bool,
}

/// What a calibration has to know of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CalibratedRow {
    /// Another prompt than the judge's own was made of it, so no calibration holds for it.
    #[default]
    Other,
    /// A row as those that calibrate.
    Own {
        /// Its group, where intervals go by group.
        group: Option<String>,
    },
}

impl JudgedWith {
    /// How these options judge. `None` where they cut chains short or leave tokens out, which nobody calibrates.
    pub fn of(settings: &JudgeSettings, options: &ScoreOptions) -> Option<Self> {
        let (expectation, given_chains) = (options.expectation, options.given_chains);
        if !settings.chain || given_chains {
            return Some(JudgedWith { expectation, chains: 0, temperature: 0.0, given_chains });
        }
        let temperature = options.chain_temperature();
        let cut = options.most_tokens.is_some_and(|most| most < settings.max_completion_length);
        let left_out = temperature > 0.0 && (options.top_p < 1.0 || options.top_k > 0);
        (!cut && !left_out).then_some(JudgedWith { expectation, chains: options.chains, temperature, given_chains })
    }
}

impl JudgeSettings {
    /// These settings without a calibration.
    pub fn uncalibrated(&self) -> Self {
        JudgeSettings { calibration: None, ..self.clone() }
    }

    /// Whether rows that are judged with these options get calibrated scores.
    pub fn calibrates(&self, options: &ScoreOptions) -> bool {
        let judged = self.calibration.as_ref().map(|calibration| &calibration.judged);
        judged.is_some() && judged == JudgedWith::of(self, options).as_ref()
    }

    /// What to tell where a calibrated judge is asked in a way that it was not calibrated for.
    pub fn calibration_advice(&self, options: &ScoreOptions) -> Option<&'static str> {
        (self.calibration.is_some() && !self.calibrates(options)).then_some(
            "rows get no calibrated score: the judge was calibrated with another --expectation, --chains or --temperature, or with chains \
             from elsewhere; calibrate it again with these flags",
        )
    }

    /// What the calibration has to know of a row that the judge's own template reads.
    pub fn calibrated_row(&self, example: &Example) -> CalibratedRow {
        let groups = self.calibration.as_ref().and_then(|calibration| calibration.fitted.groups.as_ref());
        let group = groups.and_then(|groups| match example.row.fields.get(&groups.column)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        });
        CalibratedRow::Own { group }
    }

    /// The calibrated score of a row; `None` where no calibration holds for it.
    pub fn calibrated(&self, options: &ScoreOptions, row: &CalibratedRow, score: f64) -> Option<CalibratedScore> {
        let (Some(calibration), CalibratedRow::Own { group }) = (&self.calibration, row) else { return None };
        let scale = self.scale.ascending();
        self.calibrates(options).then(|| calibration.fitted.apply(score, group.as_deref(), &scale))
    }
}

/// Keeps a calibration in the `judge.json` of a trained judge, beside what else is there. Returns the file that was written.
///
/// # Errors
/// A model that is no judge; a GGUF file; a file that cannot be written.
#[cfg(not(target_arch = "wasm32"))]
pub fn store(folder: &crate::model_folder::ModelFolder, calibration: &JudgeCalibration) -> Result<std::path::PathBuf> {
    let text = folder.judge_json()?.ok_or_else(|| JudgeError::no_judge(folder))?;
    let broken = |e: serde_json::Error| JudgeError::Settings { found: e.to_string() };
    let mut judge: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(broken)?;
    judge.insert("calibration".into(), serde_json::to_value(calibration).map_err(broken)?);
    let text = serde_json::to_string_pretty(&judge).unwrap_or_default() + "\n";
    Ok(folder.write_judge_json(&text, |text| JudgeSettings::from_json(text).is_ok())?)
}

/// Whether the texts are of one `judge.json`, but for its calibration.
#[cfg(not(target_arch = "wasm32"))]
pub fn same_judge(one: &str, other: &str) -> bool {
    let read = |text: &str| JudgeSettings::from_json(text).map(|settings| settings.uncalibrated());
    matches!((read(one), read(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::recalibration::{GroupWidths, RowCounts, ScoreMap};
    use crate::judge::{ScoreRecord, Template};

    fn settings(chains: usize) -> JudgeSettings {
        let settings = JudgeSettings::new("1..5".parse().unwrap(), "so ", &Template::Judge, false).with_chains_up_to(chains);
        let fitted = Recalibration {
            map: ScoreMap::Affine { intercept: 1.0, slope: 0.5 },
            level: 0.9,
            only_values: true,
            half_width: Some(1.0),
            groups: Some(GroupWidths { column: "task".into(), half_widths: [("a".to_string(), Some(0.5))].into() }),
            rows: RowCounts { map: 30, interval: 30 },
        };
        let judged = JudgedWith::of(&settings, &ScoreOptions::default()).unwrap();
        JudgeSettings { calibration: Some(JudgeCalibration { fitted, judged, fitted_on: None }), ..settings }
    }

    fn row(group: Option<&str>) -> CalibratedRow {
        CalibratedRow::Own { group: group.map(String::from) }
    }

    #[test]
    fn it_is_kept_in_judge_json() {
        let settings = settings(0);
        let text = settings.to_json();
        assert!(text.contains(r#""judged": {"#) && text.contains(r#""kind": "affine""#), "{text}");
        assert_eq!(JudgeSettings::from_json(&text).unwrap(), settings);
        assert!(!settings.uncalibrated().to_json().contains("calibration"));
        let broken = text.replace(r#""level": 0.9"#, r#""level": 9"#);
        let error = JudgeSettings::from_json(&broken).unwrap_err().to_string();
        assert!(error.contains("its level is no share between 0 and 1") && error.contains("jurist calibrate"), "{error}");
    }

    #[test]
    fn it_holds_for_rows_that_are_judged_alike() {
        let plain = ScoreOptions::default();
        let few = ScoreOptions { chains: 4, ..plain.clone() };
        let hot = ScoreOptions { temperature: Some(0.5), ..plain.clone() };
        let short = ScoreOptions { most_tokens: Some(3), ..plain.clone() };
        let long = ScoreOptions { most_tokens: Some(99), ..plain.clone() };
        let given = ScoreOptions { given_chains: true, ..plain.clone() };
        let full = ScoreOptions { expectation: Expectation::FullVocabulary, ..plain.clone() };
        let cut = ScoreOptions { top_p: 0.9, ..plain.clone() };
        let (with, without) = (settings(20), settings(0));
        for (options, chains, none) in [
            (&plain, true, true),
            (&few, false, true),
            (&hot, false, true),
            (&short, false, true),
            (&long, true, true),
            (&given, false, false),
            (&full, false, false),
            // At temperature 0 the likeliest token is drawn in any case.
            (&cut, true, true),
        ] {
            assert_eq!((with.calibrates(options), without.calibrates(options)), (chains, none), "{options:?}");
        }
        assert!(!with.uncalibrated().calibrates(&plain));
        assert_eq!(without.calibrated(&full, &row(None), 3.0), None);
        assert_eq!(without.calibrated(&plain, &CalibratedRow::Other, 3.0), None);
        let found = without.calibrated(&plain, &row(None), 3.0).unwrap();
        assert_eq!((found.score, found.low, found.high), (2.5, 2.0, 3.0));
        let found = without.calibrated(&plain, &row(Some("b")), 3.0).unwrap();
        assert_eq!((found.low, found.high, found.group.as_deref()), (1.0, 5.0, Some("b")));
    }

    #[test]
    fn a_record_has_it_as_one_more_key() {
        let settings = settings(0);
        let calibrated = settings.calibrated(&ScoreOptions::default(), &row(None), 3.0);
        let record = ScoreRecord { expected: Some(3.0), calibrated, ..ScoreRecord::default() };
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.ends_with(r#""calibrated":{"score":2.5,"low":2.0,"high":3.0,"level":0.9}}"#), "{json}");
        assert_eq!(serde_json::from_str::<ScoreRecord>(&json).unwrap(), record);
    }
}
