//! The plan as text and as JSON.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{Lever, MemoryPlan};
use crate::eval::table::{Cell, Table};
use crate::gpu::MemoryKind;

pub(super) fn gib(bytes: u64) -> String {
    format!("{:.3}", bytes as f64 / (1u64 << 30) as f64)
}

impl MemoryPlan {
    /// What to do if the run does not fit; `None` if it does, or if that is unknown.
    pub fn advice(&self) -> Option<String> {
        if self.fits() != Some(false) {
            return None;
        }
        let needs = match (self.refusals.first(), self.available) {
            (Some(refusal), _) => refusal.clone(),
            (None, Some(available)) => {
                format!("the run does not fit: it needs {} GiB, and {} GiB are there", gib(self.held.total()), gib(available))
            }
            (None, None) => String::new(),
        };
        let mildest = self.levers.iter().filter(|lever| lever.fits).min_by_key(|lever| lever.rank);
        let fix = match (mildest, self.together.last()) {
            (Some(lever), _) => {
                format!("set {} from {} to {}: {} GiB ({})", lever.setting, lever.from, lever.to, gib(lever.total), lever.means)
            }
            (None, Some(last)) if last.fits => {
                format!("no single setting is enough; {} come to {} GiB", self.combined_settings(), gib(last.total))
            }
            // The refusal itself says what helps.
            (None, _) if !self.refusals.is_empty() => return Some(needs),
            (None, Some(last)) => format!(
                "not even {} make it fit ({} GiB): take a smaller model, or a GPU with more memory",
                self.combined_settings(),
                gib(last.total)
            ),
            (None, None) => "no setting makes it fit: take a smaller model, or a GPU with more memory".into(),
        };
        Some(format!("{needs}; {fix}"))
    }

    /// The settings of all combined levers with their values; of a setting that is changed twice, the last value.
    fn combined_settings(&self) -> String {
        let is_last = |n: usize| !self.together[n + 1..].iter().any(|other| other.setting == self.together[n].setting);
        let levers = self.together.iter().enumerate().filter(|(n, _)| is_last(*n));
        levers.map(|(_, lever)| format!("{} = {}", lever.setting, lever.to)).collect::<Vec<_>>().join(", ")
    }

    /// The plan as JSON.
    pub fn to_json(&self) -> Value {
        let bytes: Map<String, Value> =
            MemoryKind::ALL.iter().map(|kind| (kind.name().replace(' ', "_"), self.held.of(*kind).into())).collect();
        let lever = |l: &Lever| {
            json!({
                "setting": l.setting, "from": l.from, "to": l.to, "total": l.total, "saves": l.saves, "fits": l.fits,
                "means": l.means,
            })
        };
        let [levers, together] = [&self.levers, &self.together].map(|all| all.iter().map(lever).collect::<Vec<_>>());
        json!({
            "adapter": self.adapter, "method": self.method, "parameters": self.parameters, "bytes": bytes, "shared": self.shared,
            "total": self.held.total(), "available": self.available, "fits": self.fits(), "refusals": self.refusals,
            "notes": self.notes, "levers": levers, "together": together, "advice": self.advice(),
        })
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {:.3} billion parameters, on {}", self.method, self.parameters as f64 / 1e9, self.adapter)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))?;
        let total = self.held.total();
        let share = |bytes: u64| format!("{:.1} %", 100.0 * bytes as f64 / total.max(1) as f64);
        let mut table = Table::new(["memory of the GPU", "GiB", "share"]);
        for kind in MemoryKind::ALL {
            let bytes = self.held.of(kind);
            table.row([kind.name().to_string(), gib(bytes), share(bytes)].map(Cell::from));
        }
        table.row(["total".to_string(), gib(total), share(total)].map(Cell::from));
        if let Some(available) = self.available {
            table.row([Cell::from("there is"), gib(available).into(), "".into()]);
        }
        write!(f, "\n{table}")?;
        if self.shared > 0 {
            writeln!(f, "{} GiB of activations live in the cache, and are counted there", gib(self.shared))?;
        }
        self.refusals.iter().try_for_each(|refusal| writeln!(f, "\n{refusal}"))?;
        if self.levers.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(["what would save memory", "from", "to", "saves GiB", "total GiB", "fits"]);
        for lever in &self.levers {
            let fits = if lever.fits { "yes" } else { "no" };
            let cells = [lever.setting, &lever.from, &lever.to, &gib(lever.saves), &gib(lever.total), fits];
            table.row(cells.map(Cell::from));
        }
        write!(f, "\n{table}")
    }
}
