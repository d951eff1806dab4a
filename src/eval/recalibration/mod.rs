//! What people would give where a judge gives a score: a map from the judge's score to people's, and an interval that contains
//! people's score with a known probability. Both come from rows that people scored.
//!
//! | question | file |
//! |---|---|
//! | Which score would people give? | [`map`] |
//! | How far from it may they be? | [`conformal`] |
//! | Which map, and from which rows? | [`fit`] |
//! | How many labels are enough? | [`learning_curve`] |

pub mod conformal;
pub mod fit;
mod learning_curve;
pub mod map;
mod report;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use fit::{FitOptions, Fitted, Labelled};
pub use learning_curve::{CurvePoint, LearningCurve, Spread};
pub use map::{MapKind, ScoreMap};

/// A calibration of a judge, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recalibration {
    /// From the judge's score to people's.
    pub map: ScoreMap,
    /// The probability with which an interval contains people's score.
    pub level: f64,
    /// Whether people gave values of the scale only. The ends of an interval are then values of it.
    pub only_values: bool,
    /// Half of an interval's width; none where there were too few rows, and the interval is the whole scale.
    pub half_width: Option<f64>,
    /// The same by group, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupWidths>,
    /// From how many rows it comes.
    pub rows: RowCounts,
}

/// Intervals of the groups of rows, each with the level's probability within its group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupWidths {
    /// The column that names a row's group.
    pub column: String,
    /// As [`Recalibration::half_width`], for each group.
    pub half_widths: BTreeMap<String, Option<f64>>,
}

/// The rows of a calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows that fitted the map.
    pub map: usize,
    /// Other rows, which set the interval.
    pub interval: usize,
}

/// A calibrated score with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibratedScore {
    /// The score that people would give.
    pub score: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The probability with which people's score is between them.
    pub level: f64,
    /// The group whose interval it is, where there are intervals by group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Recalibration {
    /// The calibrated score where the judge gives `score`. `scale` has the scale's values in ascending order, at least two.
    ///
    /// A row whose `group` is known gets the interval of its group, one of an unknown group the whole scale, and one without a
    /// group the interval of all rows.
    pub fn apply(&self, score: f64, group: Option<&str>, scale: &[f64]) -> CalibratedScore {
        let centre = self.centre(score, scale);
        let groups = self.groups.as_ref().zip(group);
        let half_width = match groups {
            Some((groups, name)) => groups.half_widths.get(name).copied().flatten(),
            None => self.half_width,
        };
        let (low, high) = conformal::interval(centre, half_width, scale, self.only_values);
        CalibratedScore { score: centre, low, high, level: self.level, group: groups.map(|(_, name)| name.into()) }
    }

    /// What to tell of `rows` rows without the column of the groups, if there are any.
    pub fn ungrouped(&self, rows: usize) -> Option<String> {
        let column = &self.groups.as_ref().filter(|_| rows > 0)?.column;
        let rows = crate::words::count(rows, "row");
        Some(format!("{rows} without `{column}`: their intervals are those of all rows together, whatever their `{column}` is"))
    }

    /// The calibrated score without its interval.
    fn centre(&self, score: f64, scale: &[f64]) -> f64 {
        self.map.at(score).clamp(scale[0], scale[scale.len() - 1])
    }

    /// What is wrong with a calibration that somebody else wrote, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        let groups = self.groups.iter().flat_map(|groups| groups.half_widths.values());
        let no_width = |width: &f64| !(width.is_finite() && *width >= 0.0);
        if !super::intervals::is_level(self.level) {
            return Some("its level is no share between 0 and 1");
        }
        if groups.chain([&self.half_width]).flatten().any(no_width) {
            return Some("a half width of an interval is no number of at least 0");
        }
        self.map.fault()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Recalibration {
        let half_widths = [("easy".to_string(), Some(0.5)), ("rare".to_string(), None)];
        Recalibration {
            map: ScoreMap::Affine { intercept: 1.0, slope: 1.0 },
            level: 0.9,
            only_values: false,
            half_width: Some(1.25),
            groups: Some(GroupWidths { column: "task".into(), half_widths: half_widths.into() }),
            rows: RowCounts { map: 20, interval: 20 },
        }
    }

    #[test]
    fn a_row_gets_the_interval_of_its_group() {
        let scale = [1.0, 2.0, 3.0, 4.0, 5.0];
        let calibration = calibration();
        for (group, low, high) in
            [(None, 1.75, 4.25), (Some("easy"), 2.5, 3.5), (Some("rare"), 1.0, 5.0), (Some("new"), 1.0, 5.0)]
        {
            let found = calibration.apply(2.0, group, &scale);
            let expected = CalibratedScore { score: 3.0, low, high, level: 0.9, group: group.map(String::from) };
            assert_eq!(found, expected);
        }
        let found = calibration.apply(9.0, None, &scale);
        assert_eq!((found.score, found.low, found.high), (5.0, 3.75, 5.0));
        let alone = Recalibration { groups: None, only_values: true, ..calibration };
        let found = alone.apply(2.0, Some("easy"), &scale);
        assert_eq!((found.low, found.high, found.group), (2.0, 4.0, None));
    }

    #[test]
    fn calibrations_that_are_none_are_told() {
        let good = calibration();
        assert_eq!(good.fault(), None);
        assert_eq!(serde_json::from_str::<Recalibration>(&serde_json::to_string(&good).unwrap()).unwrap(), good);
        let bad = [
            Recalibration { level: 1.0, ..good.clone() },
            Recalibration { half_width: Some(-1.0), ..good.clone() },
            Recalibration { map: ScoreMap::Affine { intercept: 0.0, slope: -1.0 }, ..good },
        ];
        assert!(bad.iter().all(|calibration| calibration.fault().is_some()));
    }
}
