//! The figures of all kernels on all devices: written, read, and compared with those of before.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::figures::Figures;

/// The hot loop may need this many times the instructions.
const MORE: f64 = 1.1;

/// What a device's compiler makes of a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Compiled(Figures),
    /// The driver does not take it, or its compiler ends; the reason.
    Refused(String),
}

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The versions of Mesa and of naga.
    pub mesa: String,
    pub naga: String,
    /// By device, then by the name of the row.
    pub devices: BTreeMap<String, BTreeMap<String, Outcome>>,
}

impl Measured {
    /// # Errors
    /// A file that is not there, or that no run wrote.
    pub fn read(path: &Path) -> Result<Measured, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}; `make gpu-report ACCEPT=1` writes it anew", path.display()))
    }

    /// JSON with a line for each kernel on each device, so that a change shows as a line.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let mut devices = Vec::new();
        for (device, rows) in &self.devices {
            let line = |(row, outcome)| Ok(format!("   {}: {}", serde_json::to_string(row)?, serde_json::to_string(outcome)?));
            let lines: Vec<String> = rows.iter().map(line).collect::<Result<_, serde_json::Error>>()?;
            devices.push(format!("  {}: {{\n{}\n  }}", serde_json::to_string(device)?, lines.join(",\n")));
        }
        let (mesa, naga) = (serde_json::to_string(&self.mesa)?, serde_json::to_string(&self.naga)?);
        Ok(format!("{{\n \"mesa\": {mesa},\n \"naga\": {naga},\n \"devices\": {{\n{}\n }}\n}}\n", devices.join(",\n")))
    }
}

/// What changed from one run to another, a line each.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// What must not happen by accident.
    pub worse: Vec<String>,
    pub better: Vec<String>,
    /// Kernels on devices that differ in any figure.
    pub differ: usize,
    /// Kernels on devices that only one of the two has.
    pub gone: Vec<String>,
    pub new: Vec<String>,
}

impl Changes {
    pub fn between(before: &Measured, after: &Measured) -> Changes {
        let mut changes = Changes::default();
        let rows = |m: &Measured| -> BTreeMap<(String, String), Outcome> {
            let of = |(device, rows): (&String, &BTreeMap<String, Outcome>)| {
                let device = device.clone();
                rows.clone().into_iter().map(move |(row, outcome)| ((device.clone(), row), outcome))
            };
            m.devices.iter().flat_map(of).collect()
        };
        let (before, after) = (rows(before), rows(after));
        let name = |(device, row): &(String, String)| format!("{device}, {row}");
        changes.gone = before.keys().filter(|k| !after.contains_key(*k)).map(name).collect();
        changes.new = after.keys().filter(|k| !before.contains_key(*k)).map(name).collect();
        for (key, before) in &before {
            let Some(after) = after.get(key) else { continue };
            changes.differ += usize::from(before != after);
            changes.compare(&name(key), before, after);
        }
        changes
    }

    fn compare(&mut self, name: &str, before: &Outcome, after: &Outcome) {
        let (before, after) = match (before, after) {
            (Outcome::Compiled(before), Outcome::Compiled(after)) => (before, after),
            (Outcome::Refused(_), Outcome::Refused(_)) => return,
            (Outcome::Compiled(_), Outcome::Refused(reason)) => {
                return self.worse.push(format!("{name}: compiled before, now refused: {reason}"));
            }
            (Outcome::Refused(reason), Outcome::Compiled(_)) => {
                return self.better.push(format!("{name}: compiles now; refused before: {reason}"));
            }
        };
        // Each with the order of now to before that is worse.
        let counts = [
            ("spills", before.spills, after.spills, Ordering::Greater),
            ("scalar spills", before.scalar_spills, after.scalar_spills, Ordering::Greater),
            ("bytes of scratch", before.scratch, after.scratch, Ordering::Greater),
            ("occupancy", before.occupancy, after.occupancy, Ordering::Less),
        ];
        for (figure, before, after, worse) in counts {
            let line = format!("{name}: {figure}: {before} before, {after} now");
            match after.cmp(&before) {
                Ordering::Equal => {}
                order if order == worse => self.worse.push(line),
                _ => self.better.push(line),
            }
        }
        // Of the whole kernel where one of them has no loop, or none that can be read.
        let (figure, before, after) = match (&before.hot_loop, &after.hot_loop) {
            (Some(before), Some(after)) if before.multiply_adds > 0 && after.multiply_adds > 0 => {
                ("instructions per multiply-add of the hot loop", before.per_work(), after.per_work())
            }
            (Some(before), Some(after)) => {
                ("instructions of the hot loop", f64::from(before.instructions), f64::from(after.instructions))
            }
            _ => ("instructions", f64::from(before.instructions), f64::from(after.instructions)),
        };
        let line = format!("{name}: {figure}: {} before, {} now", rounded(before), rounded(after));
        if after > before * MORE {
            self.worse.push(line);
        } else if before > after * MORE {
            self.better.push(line);
        }
    }
}

/// To two digits behind the point, where there are any.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::HotLoop;

    fn figures(spills: u32, scratch: u32, hot_loop: Option<(u32, u32)>) -> Outcome {
        with_occupancy(16, (spills, scratch), hot_loop)
    }

    fn with_occupancy(occupancy: u32, (spills, scratch): (u32, u32), hot_loop: Option<(u32, u32)>) -> Outcome {
        let hot_loop = hot_loop.map(|(instructions, multiply_adds)| HotLoop {
            instructions,
            multiply_adds,
            matrix: 0,
            other_alu: 3,
            loads: 2,
            shared_loads: 1,
            share: 12.3,
            bound: Some(4.5),
            in_flight: None,
            least_in_flight: Some(1),
        });
        let (registers, instructions, shared) = (64, 1000, None);
        Outcome::Compiled(Figures { registers, spills, scalar_spills: 0, scratch, shared, occupancy, instructions, hot_loop })
    }

    fn measured(outcomes: &[(&str, Outcome)]) -> Measured {
        let rows = outcomes.iter().map(|(row, outcome)| (row.to_string(), outcome.clone())).collect();
        Measured { mesa: "Mesa 1".into(), naga: "2".into(), devices: [("navi".to_string(), rows)].into() }
    }

    fn worse(before: Outcome, after: Outcome) -> Vec<String> {
        Changes::between(&measured(&[("k", before)]), &measured(&[("k", after)])).worse
    }

    #[test]
    fn worse_is_named_with_before_and_after() {
        let before = || figures(0, 0, Some((100, 0)));
        assert!(worse(before(), figures(0, 0, Some((110, 0)))).is_empty(), "ten percent");
        let cases = [
            (before(), figures(0, 0, Some((111, 0))), "navi, k: instructions of the hot loop: 100 before, 111 now"),
            (before(), figures(3, 0, Some((50, 0))), "navi, k: spills: 0 before, 3 now"),
            (figures(2, 16, None), figures(2, 20, None), "navi, k: bytes of scratch: 16 before, 20 now"),
            // Fewer waves hide less of the memory's latency, whatever the instructions are.
            (before(), with_occupancy(12, (0, 0), Some((100, 0))), "navi, k: occupancy: 16 before, 12 now"),
            (before(), Outcome::Refused("no".into()), "navi, k: compiled before, now refused: no"),
            (
                figures(0, 0, Some((320, 256))),
                figures(0, 0, Some((80, 56))),
                "navi, k: instructions per multiply-add of the hot loop: 1.25 before, 1.43 now",
            ),
        ];
        for (before, after, expected) in cases {
            assert_eq!(worse(before, after), [expected]);
        }
        assert!(worse(figures(0, 0, Some((320, 256))), figures(0, 0, Some((1200, 1024)))).is_empty(), "more work in a turn");
        assert!(worse(with_occupancy(8, (0, 0), None), figures(0, 0, None)).is_empty(), "more waves");
    }

    #[test]
    fn better_new_and_gone() {
        let before = measured(&[("a", figures(9, 0, None)), ("b", Outcome::Refused("x".into())), ("c", figures(0, 0, None))]);
        let after = measured(&[("a", figures(0, 0, None)), ("b", figures(0, 0, None)), ("d", figures(0, 0, None))]);
        let changes = Changes::between(&before, &after);
        assert!(changes.worse.is_empty() && changes.differ == 2);
        assert_eq!(changes.better, ["navi, a: spills: 9 before, 0 now", "navi, b: compiles now; refused before: x"]);
        assert_eq!((changes.gone, changes.new), (vec!["navi, c".to_string()], vec!["navi, d".to_string()]));
    }

    #[test]
    fn json_reads_back() {
        let all = measured(&[("a, \"b\"", figures(1, 2, Some((3, 4)))), ("c", Outcome::Refused("line\nline".into()))]);
        let text = all.json().unwrap();
        assert_eq!(serde_json::from_str::<Measured>(&text).unwrap(), all);
        assert_eq!(text.lines().count(), 10, "{text}");
    }
}
