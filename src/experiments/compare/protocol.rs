//! What is compared: methods, tasks, seeds and groups, as `protocol.toml` says it, and the cells that follow from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::tasks::{Base, FileTask, Rates, Way};
use super::{CompareError, file_error};
use crate::experiments::synthetic::{SplitSizes, TaskVersion};
use crate::train::config::{self, KEYS, Layers};

/// The whole protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// The file, as it was given.
    #[serde(skip)]
    pub file: PathBuf,
    pub seeds: Vec<u64>,
    /// Seed and numbers of the items of synthetic tasks, the same for all runs.
    #[serde(default)]
    pub data_seed: u64,
    sizes: Option<ProtocolSizes>,
    tuning: Tuning,
    /// Settings that all methods on given judgements share, and those of all methods on sampled chains.
    imitation: toml::Table,
    policy: toml::Table,
    /// The pretrained model of the tasks that are files.
    pub base: Option<Base>,
    pub rates: Option<Rates>,
    #[serde(default, rename = "task")]
    pub tasks: Vec<FileTask>,
    /// How rows of files are judged. The first way is that of the main tables.
    #[serde(default, rename = "way")]
    pub ways: Vec<Way>,
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
    /// The task; none: every task has its own.
    task: Option<String>,
    seed: u64,
    /// What is set otherwise while rates are chosen, such as fewer steps.
    #[serde(default)]
    settings: toml::Table,
}

/// A method of the comparison: one of `jurist train`, with settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedMethod {
    pub name: String,
    pub title: String,
    /// False: the base model judges as it is.
    #[serde(default = "yes")]
    pub trained: bool,
    /// Settings of `jurist train`, on top of those that its kind shares.
    #[serde(default)]
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

fn yes() -> bool {
    true
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
        Ok(Protocol { file: path.into(), ..protocol })
    }

    /// The folder that paths in the protocol start from.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// The task of files with this name; none where the name is that of a synthetic task.
    pub fn file_task(&self, name: &str) -> Option<&FileTask> {
        self.tasks.iter().find(|task| task.name == name)
    }

    fn check(&self) -> Result<(), String> {
        self.check_seeds()?;
        let mut known: Vec<&str> = Vec::new();
        for method in &self.methods {
            let name = &method.name;
            if known.contains(&name.as_str()) || name.is_empty() || name.contains('/') {
                return Err(format!("method `{name}`: every method needs a name of its own, without a slash"));
            }
            for other in method.start.iter().chain(&method.chains_from).chain(&method.rate_of) {
                if !known.contains(&other.as_str()) || self.methods.iter().any(|m| m.name == *other && !m.trained) {
                    return Err(format!("method `{name}` refers to `{other}`, which is not a trained method above it"));
                }
            }
            let rates = !method.learning_rates.is_empty();
            if !method.trained && (rates || method.rate_of.is_some() || method.start.is_some() || method.chains_from.is_some()) {
                return Err(format!("method `{name}` is not trained: it has no rate, no start and no chains"));
            }
            if method.trained && rates == method.rate_of.is_some() {
                return Err(format!("method `{name}`: give learning_rates to choose from, or rate_of, and not both"));
            }
            if let Some(rate) = method.learning_rates.iter().find(|rate| !is_positive(**rate)) {
                return Err(format!("method `{name}`: the learning rate {rate} is no positive number"));
            }
            check_keys(&format!("method `{name}`"), [&method.settings, &self.imitation, &self.policy])?;
            known.push(name);
        }
        check_keys("tuning", [&self.tuning.settings])?;
        self.check_files(&known)?;
        for (place, group) in self.groups.iter().enumerate() {
            if self.groups[..place].iter().any(|other| other.name == group.name) {
                return Err(format!("group `{}` is there twice", group.name));
            }
            for method in group.methods.iter().chain([&group.reference]) {
                if !known.contains(&method.as_str()) || !group.methods.contains(&group.reference) {
                    return Err(format!(
                        "group `{}`: `{method}` is no method above, or its champion is not among its methods",
                        group.name
                    ));
                }
            }
        }
        for task in self.groups.iter().flat_map(|g| &g.tasks).chain(&self.tuning.task) {
            match self.file_task(task) {
                Some(_) => {}
                None if self.base.is_some() => return Err(format!("`{task}` is no [[task]] of the protocol")),
                None => {
                    task_version(task)?;
                    if self.sizes.is_none() {
                        return Err(format!("task `{task}` is synthetic: the protocol needs `sizes` of its splits"));
                    }
                }
            }
        }
        Ok(())
    }

    /// A seed that rates are chosen with gives no result.
    fn check_seeds(&self) -> Result<(), String> {
        let tuning = self.tuning.seed;
        let own = self.groups.iter().map(|group| (format!("group `{}`", group.name), self.seeds(group)));
        for (place, seeds) in std::iter::once(("the protocol".to_string(), &self.seeds[..])).chain(own) {
            if seeds.is_empty() {
                return Err(format!("{place} has no seeds; expected one or more, as in seeds = [1, 2]"));
            }
            if seeds.contains(&tuning) {
                return Err(format!(
                    "{place} has the seed {tuning}, with which `tuning` chooses rates; give `tuning` another one"
                ));
            }
        }
        Ok(())
    }

    /// Checks what concerns tasks that are files.
    fn check_files(&self, methods: &[&str]) -> Result<(), String> {
        match (&self.base, self.tasks.is_empty()) {
            (None, false) => return Err("a [[task]] of files needs a [base] with the model that its methods start from".into()),
            (Some(_), true) => return Err("a [base] is for tasks of files: add a [[task]]".into()),
            (Some(_), false) if self.ways.is_empty() => {
                return Err("a [[task]] of files needs a [[way]] in which its rows are judged".into());
            }
            _ => {}
        }
        if let (None, Some(method)) = (&self.base, self.methods.iter().find(|m| !m.trained)) {
            return Err(format!("method `{}` is not trained, and there is no [base] to judge with", method.name));
        }
        let base = self.base.iter().map(|base| &base.adapter);
        check_keys("base", base)?;
        let sets: Vec<&str> = self.tasks.iter().flat_map(|task| &task.tests).map(|set| set.name.as_str()).collect();
        let mut known: Vec<&str> = Vec::new();
        for task in &self.tasks {
            task.check(methods)?;
            check_keys(&format!("task `{}`", task.name), [&task.settings, &task.imitation, &task.policy])?;
            if known.contains(&task.name.as_str()) {
                return Err(format!("task `{}` is there twice", task.name));
            }
            known.push(&task.name);
        }
        if let Some(rates) = &self.rates
            && ![rates.training, rates.sampling, rates.reading].into_iter().all(is_positive)
        {
            return Err("rates: expected positive numbers of tokens a second".into());
        }
        let mut known: Vec<&str> = Vec::new();
        for way in &self.ways {
            way.check(methods, &sets)?;
            if known.contains(&way.name.as_str()) {
                return Err(format!("way `{}` is there twice", way.name));
            }
            known.push(&way.name);
        }
        Ok(())
    }

    /// Sizes of a synthetic task's splits; a protocol that names such a task has them.
    pub fn sizes(&self) -> SplitSizes {
        let (train, validation, test) = self.sizes.map_or((0, 0, 0), |s| (s.train, s.validation, s.test));
        SplitSizes { train, validation, test }
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

    /// The cells that `method`'s learning rate on a task is chosen by; none where there is one rate only.
    pub fn tuning_cells(&self, method: &ComparedMethod, task: &str) -> Vec<CellId> {
        let several = if method.learning_rates.len() > 1 { &method.learning_rates[..] } else { &[] };
        let task = self.tuning.task.as_deref().unwrap_or(task);
        let cell = |rate: &f64| CellId { task: task.into(), method: method.name.clone(), run: Run::LearningRate(*rate) };
        several.iter().map(cell).collect()
    }

    /// All cells, each after its prerequisites: seed by seed, so that a part of them is a table.
    pub fn cells(&self) -> Result<Vec<CellId>, CompareError> {
        let mut all: Vec<CellId> = Vec::new();
        let seeds: BTreeSet<u64> = self.groups.iter().flat_map(|group| self.seeds(group)).copied().collect();
        for seed in seeds {
            for group in self.groups.iter().filter(|group| self.seeds(group).contains(&seed)) {
                for (task, method) in group.tasks.iter().flat_map(|task| group.methods.iter().map(move |m| (task, m))) {
                    let cell = CellId { task: task.clone(), method: method.clone(), run: Run::Seed(seed) };
                    self.push_with_prerequisites(cell, &mut all)?;
                }
            }
        }
        Ok(all)
    }

    /// The cells that a cell needs: those that its learning rate is chosen by, and those whose judges it starts from.
    pub fn prerequisites(&self, cell: &CellId) -> Result<Vec<CellId>, CompareError> {
        let method = self.method(&cell.method)?;
        let mut prerequisites = match cell.run {
            Run::Seed(_) => self.tuning_cells(self.tuned_method(method)?, &cell.task),
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

    /// The settings of a cell, without paths, seed and learning rate: those of the base, the task, the kind of method, the method.
    pub fn settings_of(&self, cell: &CellId, method: &ComparedMethod) -> toml::Table {
        let trained_by = method.settings.get("method").and_then(|m| m.as_str()).and_then(|m| m.parse::<config::Method>().ok());
        let imitates = trained_by.is_none_or(|by| !by.spec().samples_chains());
        let task = self.file_task(&cell.task);
        let mut tables = Vec::new();
        // A judge that another run trained has its adapter already.
        tables.extend(self.base.iter().filter(|_| method.start.is_none()).map(|base| &base.adapter));
        tables.extend(task.map(|task| &task.settings));
        tables.push(if imitates { &self.imitation } else { &self.policy });
        tables.extend(task.map(|task| if imitates { &task.imitation } else { &task.policy }));
        tables.push(&method.settings);
        tables.extend(matches!(cell.run, Run::LearningRate(_)).then_some(&self.tuning.settings));
        // A later table wins.
        tables.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Puts [`Protocol::settings_of`] a cell into `layers`.
    ///
    /// # Errors
    /// A value that the setting does not take.
    pub fn put_settings(&self, cell: &CellId, method: &ComparedMethod, layers: &mut Layers) -> Result<(), CompareError> {
        let text = self.settings_of(cell, method).to_string();
        Ok(layers.put_toml(&text, &format!("method `{}` of the protocol", method.name))?)
    }
}

fn check_keys<'a>(place: &str, tables: impl IntoIterator<Item = &'a toml::Table>) -> Result<(), String> {
    let mut keys = tables.into_iter().flat_map(toml::Table::keys);
    match keys.find(|key| !KEYS.iter().any(|k| k.name == *key)) {
        Some(key) => Err(format!("{place}: `{key}` is no setting of jurist train")),
        None => Ok(()),
    }
}

fn is_positive(number: f64) -> bool {
    number > 0.0 && number.is_finite()
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
            ("seeds = [1, 2]", "seeds = []", "the protocol has no seeds"),
            ("seeds = [1, 2]", "seeds = [1, 9]", "with which `tuning` chooses rates"),
            ("champion = \"real\"", "champion = \"real\"\nseeds = []", "group `all` has no seeds"),
            ("1e-3, 3e-3", "1e-3, 0.0", "the learning rate 0 is no positive number"),
            ("1e-3, 3e-3", "nan", "the learning rate NaN is no positive number"),
        ] {
            let error = parse(&PROTOCOL.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
    }
}
