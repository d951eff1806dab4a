//! What is compared: methods, tasks, seeds and groups, as `protocol.toml` says it, and the cells that follow from it.

use std::path::Path;

use serde::Deserialize;

use super::{CompareError, file_error};
use crate::experiments::synthetic::{SplitSizes, TaskVersion};
use crate::train::config::{self, KEYS, Layers};

/// The whole protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    pub seeds: Vec<u64>,
    /// Seed of the items, the same for all runs.
    pub data_seed: u64,
    sizes: ProtocolSizes,
    tuning: Tuning,
    /// Settings that all methods on given judgements share, and those of all methods on sampled chains.
    imitation: toml::Table,
    policy: toml::Table,
    #[serde(rename = "method")]
    pub methods: Vec<ComparedMethod>,
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProtocolSizes {
    train: usize,
    validation: usize,
    test: usize,
}

/// Where learning rates are chosen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tuning {
    task: String,
    seed: u64,
}

/// A method of the comparison: one of `jurist train`, with settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedMethod {
    pub name: String,
    pub title: String,
    /// Settings of `jurist train`, on top of those that its kind shares.
    settings: toml::Table,
    /// The method whose judge (of the same task and seed) it starts from; none: random weights.
    pub start: Option<String>,
    /// With tract: the method whose judge writes the chains.
    pub chains_from: Option<String>,
    /// What its rate is chosen from, or the method whose rate it takes.
    #[serde(default)]
    pub learning_rates: Vec<f64>,
    pub rate_of: Option<String>,
}

/// Methods that are shown together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub name: String,
    pub title: String,
    pub tasks: Vec<String>,
    pub methods: Vec<String>,
    /// The method that all others are compared with.
    #[serde(rename = "champion")]
    pub reference: String,
    /// Seeds, where not all of the protocol's.
    seeds: Option<Vec<u64>>,
}

/// Which run of a method on a task: one that counts as a result, or one of those that its learning rate is chosen by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Run {
    Seed(u64),
    LearningRate(f64),
}

/// Names a cell of the grid. Written as `H/real/seed-1`.
#[derive(Clone, Debug, PartialEq)]
pub struct CellId {
    pub task: String,
    pub method: String,
    pub run: Run,
}

impl std::fmt::Display for CellId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.run {
            Run::Seed(seed) => write!(f, "{}/{}/seed-{seed}", self.task, self.method),
            Run::LearningRate(rate) => write!(f, "{}/{}/rate-{rate:e}", self.task, self.method),
        }
    }
}

impl std::str::FromStr for CellId {
    type Err = CompareError;

    fn from_str(text: &str) -> Result<Self, CompareError> {
        let wrong = || {
            CompareError::Cell(format!("--cell {text}: expected TASK/METHOD/seed-N or TASK/METHOD/rate-R, as in H/real/seed-1"))
        };
        let [task, method, run] = text.split('/').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let run = match run.split_once('-') {
            Some(("seed", n)) => n.parse().map(Run::Seed).map_err(|_| wrong())?,
            Some(("rate", r)) => r.parse().map(Run::LearningRate).map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        Ok(CellId { task: task.into(), method: method.into(), run })
    }
}

impl Protocol {
    /// Reads and checks a protocol.
    ///
    /// # Errors
    /// No such file, no TOML, names that are not defined, settings that `jurist train` does not have.
    pub fn read(path: &Path) -> Result<Self, CompareError> {
        let text = std::fs::read_to_string(path).map_err(file_error("read the protocol", path))?;
        let fail = |found: String| CompareError::Protocol { protocol: path.display().to_string(), found };
        let protocol: Protocol = toml::from_str(&text).map_err(|e| fail(e.to_string().trim_end().into()))?;
        protocol.check().map_err(fail)?;
        Ok(protocol)
    }

    fn check(&self) -> Result<(), String> {
        let mut known: Vec<&str> = Vec::new();
        for method in &self.methods {
            let name = &method.name;
            if known.contains(&name.as_str()) || name.is_empty() || name.contains('/') {
                return Err(format!("method `{name}`: every method needs a name of its own, without a slash"));
            }
            for other in method.start.iter().chain(&method.chains_from).chain(&method.rate_of) {
                if !known.contains(&other.as_str()) {
                    return Err(format!("method `{name}` refers to `{other}`, which is not a method above it"));
                }
            }
            if method.learning_rates.is_empty() == method.rate_of.is_none() {
                return Err(format!("method `{name}`: give learning_rates to choose from, or rate_of, and not both"));
            }
            for key in method.settings.keys().chain(self.imitation.keys()).chain(self.policy.keys()) {
                if !KEYS.iter().any(|k| k.name == key) {
                    return Err(format!("method `{name}`: `{key}` is no setting of jurist train"));
                }
            }
            known.push(name);
        }
        for group in &self.groups {
            for method in group.methods.iter().chain([&group.reference]) {
                if !known.contains(&method.as_str()) || !group.methods.contains(&group.reference) {
                    return Err(format!(
                        "group `{}`: `{method}` is no method above, or its champion is not among its methods",
                        group.name
                    ));
                }
            }
        }
        let tasks = self.groups.iter().flat_map(|g| &g.tasks).chain([&self.tuning.task]);
        tasks.map(|t| task_version(t).map(|_| ())).collect::<Result<Vec<()>, String>>()?;
        Ok(())
    }

    pub fn sizes(&self) -> SplitSizes {
        SplitSizes { train: self.sizes.train, validation: self.sizes.validation, test: self.sizes.test }
    }

    /// The method of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn method(&self, name: &str) -> Result<&ComparedMethod, CompareError> {
        let names = || self.methods.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.methods.iter().find(|m| m.name == name);
        found.ok_or_else(|| CompareError::Cell(format!("no method `{name}` in the protocol; it has {}", names())))
    }

    /// The seeds of a group.
    pub fn seeds<'a>(&'a self, group: &'a Group) -> &'a [u64] {
        group.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// The seed that a run is made with.
    pub fn seed(&self, run: Run) -> u64 {
        match run {
            Run::Seed(seed) => seed,
            Run::LearningRate(_) => self.tuning.seed,
        }
    }

    /// The method that `method`'s learning rate is chosen for.
    pub fn tuned_method<'a>(&'a self, method: &'a ComparedMethod) -> Result<&'a ComparedMethod, CompareError> {
        match &method.rate_of {
            Some(other) => self.tuned_method(self.method(other)?),
            None => Ok(method),
        }
    }

    /// The cells that `method`'s learning rate is chosen by; none where there is one rate only.
    pub fn tuning_cells(&self, method: &ComparedMethod) -> Vec<CellId> {
        let several = if method.learning_rates.len() > 1 { &method.learning_rates[..] } else { &[] };
        let cell =
            |rate: &f64| CellId { task: self.tuning.task.clone(), method: method.name.clone(), run: Run::LearningRate(*rate) };
        several.iter().map(cell).collect()
    }

    /// All cells, each after its prerequisites.
    pub fn cells(&self) -> Result<Vec<CellId>, CompareError> {
        let mut all: Vec<CellId> = Vec::new();
        for group in &self.groups {
            for task in &group.tasks {
                for seed in self.seeds(group) {
                    for method in &group.methods {
                        let cell = CellId { task: task.clone(), method: method.clone(), run: Run::Seed(*seed) };
                        self.push_with_prerequisites(cell, &mut all)?;
                    }
                }
            }
        }
        Ok(all)
    }

    /// The cells that a cell needs: those that its learning rate is chosen by, and those whose judges it starts from.
    pub fn prerequisites(&self, cell: &CellId) -> Result<Vec<CellId>, CompareError> {
        let method = self.method(&cell.method)?;
        let mut prerequisites = match cell.run {
            Run::Seed(_) => self.tuning_cells(self.tuned_method(method)?),
            Run::LearningRate(_) => Vec::new(),
        };
        for other in method.start.iter().chain(&method.chains_from) {
            let run = match cell.run {
                Run::Seed(seed) => Run::Seed(seed),
                // The start has a rate of its own, chosen before; its judge is that of the tuning seed.
                Run::LearningRate(_) => Run::Seed(self.tuning.seed),
            };
            prerequisites.push(CellId { task: cell.task.clone(), method: other.clone(), run });
        }
        Ok(prerequisites)
    }

    fn push_with_prerequisites(&self, cell: CellId, all: &mut Vec<CellId>) -> Result<(), CompareError> {
        if all.contains(&cell) {
            return Ok(());
        }
        for prerequisite in self.prerequisites(&cell)? {
            self.push_with_prerequisites(prerequisite, all)?;
        }
        all.push(cell);
        Ok(())
    }

    /// Puts the settings of a method into `layers`, without paths, seed and learning rate.
    ///
    /// # Errors
    /// A value that the setting does not take.
    pub fn put_settings(&self, method: &ComparedMethod, layers: &mut Layers) -> Result<(), CompareError> {
        let trained_by = method.settings.get("method").and_then(|m| m.as_str()).and_then(|m| m.parse::<config::Method>().ok());
        let kind = match trained_by {
            Some(trained_by) if !trained_by.spec().samples_chains() => &self.imitation,
            _ => &self.policy,
        };
        for table in [kind, &method.settings] {
            layers.put_toml(&table.to_string(), &format!("method `{}` of the protocol", method.name))?;
        }
        Ok(())
    }
}

/// The version of the synthetic task that a protocol names.
pub(super) fn task_version(task: &str) -> Result<TaskVersion, String> {
    task.parse().map_err(|e: crate::experiments::synthetic::SyntheticTaskError| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = r#"
        seeds = [1, 2]
        data_seed = 1
        sizes = { train = 10, validation = 4, test = 4 }
        tuning = { task = "H", seed = 9 }
        imitation = { max_steps = 3 }
        policy = { max_steps = 2 }
        [[method]]
        name = "sft"
        title = "SFT"
        settings = { method = "sft" }
        learning_rates = [1e-3, 3e-3]
        [[method]]
        name = "real"
        title = "REAL"
        settings = { method = "real" }
        start = "sft"
        learning_rates = [1e-4]
        [[method]]
        name = "std"
        title = "std"
        settings = { method = "real", normalize_advantages = true }
        start = "sft"
        rate_of = "real"
        [[group]]
        name = "all"
        title = "All"
        tasks = ["E"]
        methods = ["std", "real"]
        champion = "real"
    "#;

    fn parse(text: &str) -> Result<Protocol, String> {
        let protocol: Protocol = toml::from_str(text).map_err(|e| e.to_string())?;
        protocol.check().map(|()| protocol)
    }

    #[test]
    fn cells_come_after_their_prerequisites() {
        let cells: Vec<String> = parse(PROTOCOL).unwrap().cells().unwrap().iter().map(CellId::to_string).collect();
        // Rates of sft are tried on H with the tuning's seed; real has one rate only.
        assert_eq!(
            cells,
            [
                "H/sft/rate-1e-3",
                "H/sft/rate-3e-3",
                "E/sft/seed-1",
                "E/std/seed-1",
                "E/real/seed-1",
                "E/sft/seed-2",
                "E/std/seed-2",
                "E/real/seed-2"
            ]
        );
        for cell in cells {
            assert_eq!(cell.parse::<CellId>().unwrap().to_string(), cell);
        }
        assert!("H/real".parse::<CellId>().is_err() && "H/real/fold-1".parse::<CellId>().is_err());
    }

    #[test]
    fn faulty_protocols_are_refused() {
        for (from, to, message) in [
            ("start = \"sft\"\n        rate_of", "start = \"stf\"\n        rate_of", "refers to `stf`"),
            ("champion = \"real\"", "champion = \"raft\"", "champion is not among its methods"),
            ("tasks = [\"E\"]", "tasks = [\"F\"]", "unknown version"),
            ("normalize_advantages", "normalise_advantages", "`normalise_advantages` is no setting"),
            ("learning_rates = [1e-4]", "", "give learning_rates to choose from"),
            ("data_seed = 1", "data_seeds = 1", "data_seeds"),
        ] {
            let error = parse(&PROTOCOL.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
    }
}
