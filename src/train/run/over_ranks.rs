//! What the ranks of a run agree on: that they do the same run, and what rank 0 found in its files.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bundle::hex;
use crate::ranks::Ranks;
use crate::text::Date;
use crate::train::TrainError;
use crate::train::checkpoint::training_state::{StatePart, StateReader};
use crate::train::checkpoint::{Checkpoint, TrainerState};
use crate::train::config::{KEYS, Kind, SettingError, TrainConfig};
use crate::train::data::examples::Prepared;
use crate::train::run::start::{RunInputs, start_folder};

/// A checkpoint that the run goes on from. Only rank 0 reads its files.
pub(super) struct Resumed {
    pub path: PathBuf,
    pub state: TrainerState,
    tensors: Option<StateReader>,
}

impl Resumed {
    /// What rank 0 found, on all ranks.
    ///
    /// # Errors
    /// A rank that has failed.
    pub fn on_all_ranks(found: Option<Checkpoint>, ranks: &Ranks) -> Result<Option<Self>, TrainError> {
        let (described, tensors) = found.map(|Checkpoint { path, state, tensors }| ((path, state), tensors)).unzip();
        Ok(ranks.broadcast_value(described)?.map(|(path, state)| Resumed { path, state, tensors }))
    }

    /// The reader of its tensors, on rank 0.
    pub fn tensors(&self) -> Option<&StateReader> {
        self.tensors.as_ref()
    }

    /// Reads a tensor on rank 0, and gives it to all ranks.
    ///
    /// # Errors
    /// A file that cannot be read; a rank that has failed.
    pub fn read(&mut self, part: StatePart, parameter: &str, ranks: &Ranks) -> Result<Vec<f32>, TrainError> {
        let mut values = Vec::new();
        if let Some(tensors) = &mut self.tensors {
            tensors.read(part, parameter, &mut values)?;
        }
        if ranks.size() == 1 {
            return Ok(values);
        }
        let bytes = ranks.broadcast(bytemuck::cast_slice(&values).to_vec())?;
        Ok(if ranks.is_first() { values } else { bytemuck::pod_collect_to_vec(&bytes) })
    }
}

/// Reads the inputs of a run. All ranks state the day that rank 0 states.
///
/// # Errors
/// As [`RunInputs::read`]; a rank that has failed.
pub(super) fn read_inputs(config: &TrainConfig, ranks: &Ranks) -> Result<RunInputs, TrainError> {
    let inputs = RunInputs::read(config)?;
    let own = inputs.settings.date.map(|date| date.to_string()).unwrap_or_default();
    let first = ranks.broadcast_value(own.clone())?;
    match Date::parse(&first) {
        Ok(_) if first != own => RunInputs::read(&TrainConfig { date: Some(first), ..config.clone() }),
        _ => Ok(inputs),
    }
}

/// Checks that all ranks do the same run, and that each has a part of it.
///
/// # Errors
/// Fewer micro-batches in a step than ranks; the first rank that differs from rank 0, and in what.
pub(super) fn check_same_run(config: &TrainConfig, inputs: &RunInputs, ranks: &Ranks) -> Result<(), TrainError> {
    check_parts(config, ranks.size())?;
    if ranks.size() == 1 {
        return Ok(());
    }
    let mut facts = vec![("the version of jurist".to_string(), env!("CARGO_PKG_VERSION").to_string())];
    let settings = serde_json::to_value(config).unwrap_or_default();
    // Paths may differ between machines: what is in the files counts. So may adapters.
    let counts = |name: &str, kind: &Kind| name != "adapter" && !matches!(kind, Kind::Path | Kind::FlagOrPath);
    let shown = |name: &str| settings.get(name).unwrap_or(&Value::Null).to_string();
    facts.extend(KEYS.iter().filter(|key| counts(key.name, &key.kind)).map(|key| (key.name.to_string(), shown(key.name))));
    facts.push(("the training data".into(), data_hash(&inputs.train)));
    facts.push(("the held-out data".into(), inputs.eval.as_ref().map(|(rows, _)| data_hash(rows)).unwrap_or_default()));
    facts.push(("the start model".into(), model_hash(config, inputs)?));
    Ok(ranks.check_same(&facts)?)
}

/// Checks that each of `ranks` ranks has a micro-batch in a step.
pub(in crate::train) fn check_parts(config: &TrainConfig, ranks: usize) -> Result<(), SettingError> {
    let batches = config.gradient_accumulation_steps as usize;
    if batches >= ranks {
        return Ok(());
    }
    Err(SettingError::Conflict(format!(
        "gradient_accumulation_steps = {batches}, and {ranks} ranks: each rank needs a batch of a step; raise \
         gradient_accumulation_steps to {ranks} or more, and lower per_device_train_batch_size to keep the size of a step"
    )))
}

/// A hash of what is trained on: tokens and labels.
fn data_hash(rows: &Prepared) -> String {
    let mut hash = Sha256::new();
    for example in &rows.examples {
        for tokens in [&example.prompt.ids, &example.continuation] {
            hash.update((tokens.len() as u64).to_le_bytes());
            hash.update(bytemuck::cast_slice(tokens));
        }
        hash.update(example.prompt.value.to_le_bytes());
    }
    short(&hash.finalize())
}

/// The first bytes of a hash: enough to tell two apart.
fn short(digest: &[u8]) -> String {
    hex(&digest[..8])
}

/// A hash of the start model: its files, or the config of one from scratch.
fn model_hash(config: &TrainConfig, inputs: &RunInputs) -> Result<String, TrainError> {
    match &config.model_name_or_path {
        Some(model) => Ok(start_folder(config, Path::new(model))?.fingerprint()?),
        None => Ok(short(&Sha256::digest(format!("{:?}", inputs.model.config())))),
    }
}
