//! A fitted calibration as text and as JSON.

use serde_json::{Map, Value, json};

use super::{Fitted, MapKind};
use crate::eval::table::{Cell, Table, fixed};
use crate::words::count;

impl Fitted {
    /// What to tell before anybody reads the figures. `unit` is what counts: a row or a cluster.
    pub fn warnings(&self, unit: &str) -> Vec<String> {
        let mut told = Vec::new();
        let (level, needed) = (self.calibration.level, self.units.1);
        if self.calibration.half_width.is_none() {
            let found = self.labelled(unit);
            told.push(format!(
                "{found} cannot set an interval of level {level}, so it is the whole scale: {needed} are needed besides those that fit \
                 the map, {} in all at this --interval-share",
                self.needed_in_all()
            ));
        }
        if self.calibration.map.is_constant() {
            told.push(
                "the best map gives every row the same score: on these rows the judge's score does not rise with people's; is it \
                 the right column?"
                    .into(),
            );
        }
        let short: Vec<String> = self.short_groups().map(|(name, found)| format!("{name} ({found})")).collect();
        if !short.is_empty() && self.calibration.half_width.is_some() {
            told.push(format!(
                "the interval is the whole scale in groups with fewer than {needed} {unit}s for it: {}; label more of them",
                short.join(", ")
            ));
        }
        told
    }

    fn labelled(&self, unit: &str) -> String {
        count(self.clusters, &format!("labelled {unit}"))
    }

    /// The fewest rows or clusters that give an interval at the share that was asked for.
    fn needed_in_all(&self) -> usize {
        (self.units.1 as f64 / self.interval_share - 1e-9).ceil() as usize
    }

    fn short_groups(&self) -> impl Iterator<Item = &(String, usize)> {
        let widths = self.calibration.groups.as_ref();
        self.groups.iter().filter(move |(name, _)| widths.is_some_and(|w| w.half_widths.get(name).is_none_or(Option::is_none)))
    }

    /// A JSON object: the calibration as it is stored, and how it was found.
    pub fn to_json(&self, unit: &str) -> Value {
        let mut reasons = Map::new();
        let mut held_out = Value::Null;
        if let Some(found) = &self.held_out {
            held_out = json!({"interval_width": found.width});
            for (name, raw, calibrated) in &found.figures {
                for (of, figure) in [("judge", raw), ("calibrated", calibrated)] {
                    if let Err(reason) = figure {
                        reasons.insert(format!("{name} of {of}"), json!(reason.to_string()));
                    }
                }
                held_out[*name] = json!({"judge": raw.as_ref().ok(), "calibrated": calibrated.as_ref().ok()});
            }
        }
        let maps = self.maps.iter().map(|map| (map.kind.word().to_string(), json!({"rmse": map.rmse, "mae": map.mae})));
        let mut object = json!({
            "calibration": self.calibration,
            "cross_validation": {"folds": self.folds, "maps": maps.collect::<Map<_, _>>()},
            "unit": unit,
            "interval_units": self.units.0,
            "interval_units_needed": self.units.1,
            "coverage_range": self.coverage.map(|(low, high)| json!({"low": low, "high": high, "of": 0.95})),
            "held_out": held_out,
        });
        if self.calibration.groups.is_some() {
            let groups = self.groups.iter().map(|(name, units)| (name.clone(), json!(units)));
            object["group_interval_units"] = Value::Object(groups.collect());
        }
        if !reasons.is_empty() {
            object["undefined"] = Value::Object(reasons);
        }
        object
    }

    /// The tables, with what their figures mean.
    pub fn to_text(&self, unit: &str) -> String {
        let calibration = &self.calibration;
        let mut maps = Table::new([format!("map, {} parts of cross-validation", self.folds), "RMSE".into(), "MAE".into()]);
        for map in &self.maps {
            let name = match map.kind {
                MapKind::Identity => "identity (the judge's score as it is)",
                MapKind::Affine => "affine (a line)",
                MapKind::Isotonic => "isotonic (steps that do not fall)",
            };
            let taken = if map.kind == calibration.map.kind() { ", taken" } else { "" };
            maps.row([Cell::from(format!("{name}{taken}")), fixed(map.rmse, 3).into(), fixed(map.mae, 3).into()]);
        }
        let mut text = maps.to_string() + "\n";
        if let Some(found) = &self.held_out {
            let rows = count(calibration.rows.interval, "row");
            let mut table = Table::new([format!("on {rows} that fitted nothing"), "judge".into(), "calibrated".into()]);
            for (name, raw, calibrated) in &found.figures {
                let name = match *name {
                    "rmse" => "RMSE",
                    "mae" => "MAE",
                    "pearson" => "Pearson",
                    _ => "bias, judge minus people",
                };
                table.row([Cell::from(name), Cell::number(raw, 3), Cell::number(calibrated, 3)]);
            }
            text += &(table.to_string() + "\n");
        }
        let units = |n: usize| count(n, unit);
        let level = calibration.level;
        let interval = match calibration.half_width {
            None => "interval: the whole scale.\n".to_string(),
            Some(half) => {
                let width =
                    self.held_out.as_ref().map_or(String::new(), |found| format!(", {} wide on average", fixed(found.width, 2)));
                let ends = if calibration.only_values { "; its ends are values of the scale" } else { "" };
                let of = units(self.units.0);
                format!("interval: calibrated score ± {}{width}, within the scale{ends}; from {of}.\n", fixed(half, 3))
            }
        };
        text += &interval;
        if calibration.half_width.is_some() {
            let new = if unit == "row" { "a new row" } else { "a row of a new cluster" };
            let value = if calibration.only_values { ", a value of the scale," } else { "" };
            text += &format!(
                "guarantee: people's score of {new} like these{value} is inside with probability {level} or more, over calibrations and \
                 rows.\n"
            );
        }
        if let Some((low, high)) = self.coverage {
            let (low, high) = (fixed(low, 2), fixed(high, 2));
            text += &format!("This one interval covers {low} to {high} of rows, in 95 of 100 calibrations of this size.\n");
        }
        if let Some(groups) = &calibration.groups {
            let mut table =
                Table::new([format!("{} (level {level} in each)", groups.column), format!("{unit}s"), "half width".into()]);
            for (name, found) in &self.groups {
                let half = groups.half_widths.get(name).copied().flatten();
                let half = half.map_or("whole scale".to_string(), |half| fixed(half, 3));
                table.row([Cell::from(name.as_str()), found.to_string().into(), half.into()]);
            }
            text += &format!("\n{table}");
        }
        text
    }
}
