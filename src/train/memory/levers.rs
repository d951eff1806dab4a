//! Levers: settings that make a run smaller, and by how much. Their effect is measured, by planning again with each pulled.

use serde_json::Value;

use super::super::TrainError;
use super::super::config::{SettingError, TrainConfig};
use super::{Beginning, Measured};
use crate::gpu::Gpu;
use crate::model::weight_policy::WeightPolicy;
use crate::ops::weight_dtype::WeightDtype;

/// What pulling a lever would do.
#[derive(Clone, Debug)]
pub struct Lever {
    pub setting: &'static str,
    pub from: String,
    /// The gentlest of the values that were tried which makes the run fit, or the last.
    pub to: String,
    /// What it means for the training.
    pub means: &'static str,
    /// How much it changes what is learned, by its place among all levers; less is gentler.
    pub price: usize,
    /// Bytes that the run then holds.
    pub total: u64,
    /// Bytes less than before.
    pub saves: u64,
    pub fits: bool,
}

/// What decides which values are worth trying.
struct Situation<'a> {
    config: &'a TrainConfig,
    /// Tokens of the longest row and of the longest chain.
    longest_row: u64,
    longest_chain: u64,
    evaluates: bool,
    /// Whether an adapter learns beside frozen weights.
    frozen: bool,
}

/// A setting and the values to try, the gentlest first; none where it has no effect or is as low as it can be.
struct Candidate {
    setting: &'static str,
    values: fn(&Situation) -> Vec<Value>,
    means: &'static str,
}

/// The gentlest first: what costs time, what changes the model that learns, what changes what it learns from.
const CANDIDATES: &[Candidate] = &[
    Candidate {
        setting: "per_device_train_batch_size",
        values: |s| halves(s.config.per_device_train_batch_size.into(), 1),
        means: "with gradient_accumulation_steps raised as much, the step stays the same",
    },
    Candidate {
        setting: "per_device_eval_batch_size",
        values: |s| if s.evaluates { halves(s.config.per_device_eval_batch_size.into(), 1) } else { Vec::new() },
        means: "evaluations take longer",
    },
    Candidate {
        setting: "gradient_checkpointing",
        values: |s| if s.config.gradient_checkpointing { Vec::new() } else { vec![true.into()] },
        means: "activations are computed again: about a third more work",
    },
    Candidate {
        setting: "chains_per_pass",
        values: |s| match (s.config.samples_chains(), s.config.chains_per_pass) {
            (false, _) => Vec::new(),
            (true, 0) => halves(2 * u64::from(s.config.num_generations), 1),
            (true, chains) => halves(chains.into(), 1),
        },
        means: "prompts are computed again for each batch of chains",
    },
    Candidate {
        setting: "base_weights",
        values: |s| if s.frozen { smaller_weights(s.config.base_weights) } else { Vec::new() },
        means: "the frozen weights lose precision",
    },
    Candidate {
        setting: "lora_r",
        values: |s| if s.frozen { Vec::new() } else { vec![16.into()] },
        means: "the model stays frozen, and an adapter of this rank learns",
    },
    Candidate {
        setting: "beta",
        values: |s| if s.config.samples_chains() && s.config.beta > 0.0 { vec![0.0.into()] } else { Vec::new() },
        means: "nothing holds the policy near the start model",
    },
    Candidate {
        setting: "num_generations",
        values: |s| if s.config.samples_chains() { halves(s.config.num_generations.into(), 2) } else { Vec::new() },
        means: "fewer chains a prompt",
    },
    Candidate { setting: "max_completion_length", values: |s| parts(s.longest_chain, 8), means: "chains end earlier" },
    Candidate { setting: "max_length", values: |s| parts(s.longest_row, 16), means: "longer rows are left out" },
];

/// `n` halved again and again, down to `least`.
fn halves(n: u64, least: u64) -> Vec<Value> {
    std::iter::successors(Some(n / 2), |n| Some(n / 2)).take_while(|n| *n >= least.max(1)).map(Value::from).collect()
}

/// Three quarters, a half and a quarter of `n`, down to `least`.
fn parts(n: u64, least: u64) -> Vec<Value> {
    [3, 2, 1].map(|quarters| n * quarters / 4).into_iter().filter(|part| *part >= least).map(Value::from).collect()
}

/// Words for frozen weights that are smaller than those of this policy.
fn smaller_weights(policy: WeightPolicy) -> Vec<Value> {
    // What `auto` stands for may be any of them; one that saves nothing is no lever.
    let bits = policy.of_stored(WeightDtype::F32).bits();
    let smaller = [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4].into_iter().filter(|dtype| dtype.bits() < bits);
    smaller.map(|dtype| Value::from(dtype.name())).collect()
}

/// Plans again and again, for the same adapter, rows and memory.
struct Planner<'a> {
    gpu: &'a Gpu,
    beginning: &'a Beginning<'a>,
    available: Option<u64>,
}

impl Planner<'_> {
    /// A run that nothing is known of but a limit of the adapter fits where that is kept.
    fn fits(&self, measured: &Measured) -> bool {
        measured.fits(self.available).unwrap_or(true)
    }

    /// What candidate number `price` would do to a run of `config`, which holds `before` bytes; `None` where it does nothing.
    /// With it, the config in which it is pulled.
    fn pull(&self, config: &TrainConfig, before: u64, price: usize) -> Result<Option<(Lever, TrainConfig)>, TrainError> {
        let candidate = &CANDIDATES[price];
        let (longest_row, longest_chain) = self.beginning.extent(config)?;
        let situation = Situation {
            config,
            longest_row: longest_row as u64,
            longest_chain: longest_chain as u64,
            evaluates: self.beginning.start.eval.is_some(),
            frozen: config.lora_r > 0 || self.beginning.start.adapter.is_some(),
        };
        let from = match candidate.setting {
            "max_length" => longest_row.to_string(),
            "max_completion_length" => longest_chain.to_string(),
            setting => plain(&value_of(config, setting)?),
        };
        let mut found = None;
        for value in (candidate.values)(&situation) {
            // What another setting forbids is no lever.
            let changed = with(config, candidate.setting, &value)?;
            let Ok(measured) = self.beginning.measure(self.gpu, &changed) else { continue };
            let (total, fits) = (measured.held.total(), self.fits(&measured));
            if total >= before && !fits {
                continue;
            }
            let (setting, means, saves) = (candidate.setting, candidate.means, before.saturating_sub(total));
            found = Some((Lever { setting, from: from.clone(), to: plain(&value), means, price, total, saves, fits }, changed));
            if fits {
                break;
            }
        }
        Ok(found)
    }
}

/// Pulls every lever by itself; the one that saves most comes first.
///
/// # Errors
/// None that planning without a lever would not have met.
pub(super) fn each(
    gpu: &Gpu,
    config: &TrainConfig,
    beginning: &Beginning,
    available: Option<u64>,
) -> Result<Vec<Lever>, TrainError> {
    let planner = Planner { gpu, beginning, available };
    let before = beginning.measure(gpu, config)?.held.total();
    let mut levers = Vec::new();
    for price in 0..CANDIDATES.len() {
        levers.extend(planner.pull(config, before, price)?.map(|(lever, _)| lever));
    }
    levers.sort_by_key(|lever| std::cmp::Reverse(lever.saves));
    Ok(levers)
}

/// Pulls one lever after another, the gentlest first, until the run fits; the last one's total is that of all of them.
///
/// # Errors
/// As [`each`].
pub(super) fn together(
    gpu: &Gpu,
    config: &TrainConfig,
    beginning: &Beginning,
    available: Option<u64>,
) -> Result<Vec<Lever>, TrainError> {
    let planner = Planner { gpu, beginning, available };
    let mut before = beginning.measure(gpu, config)?.held.total();
    let (mut config, mut pulled) = (config.clone(), Vec::<Lever>::new());
    // Twice: what an adapter makes possible comes before it.
    for price in (0..CANDIDATES.len()).chain(0..CANDIDATES.len()) {
        if pulled.last().is_some_and(|lever| lever.fits) {
            break;
        }
        if let Some((lever, changed)) = planner.pull(&config, before, price)? {
            (before, config) = (lever.total, changed);
            pulled.push(lever);
        }
    }
    Ok(pulled)
}

/// The config with another value of one setting.
fn with(config: &TrainConfig, setting: &str, value: &Value) -> Result<TrainConfig, TrainError> {
    let broken = |e: serde_json::Error| SettingError::Conflict(e.to_string());
    let mut all = serde_json::to_value(config).map_err(broken)?;
    all[setting] = value.clone();
    Ok(serde_json::from_value(all).map_err(broken)?)
}

fn value_of(config: &TrainConfig, setting: &str) -> Result<Value, TrainError> {
    let all = serde_json::to_value(config).map_err(|e| SettingError::Conflict(e.to_string()))?;
    Ok(all[setting].clone())
}

/// As it stands in a config file, but for quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_down_and_end() {
        assert_eq!(halves(8, 2), [4, 2].map(Value::from));
        assert_eq!(halves(12, 1), [6, 3, 1].map(Value::from));
        assert!(halves(1, 1).is_empty() && halves(2, 2).is_empty());
        assert_eq!(parts(100, 30), [75, 50].map(Value::from));
        assert!(parts(0, 8).is_empty());
        assert_eq!(smaller_weights(WeightPolicy::AS_STORED), ["bf16", "q8", "q4"].map(Value::from));
        assert_eq!(smaller_weights(WeightDtype::F16.into()), ["q8", "q4"].map(Value::from));
        assert!(smaller_weights(WeightDtype::Q4.into()).is_empty());
    }

    #[test]
    fn every_candidate_is_a_setting() {
        for candidate in CANDIDATES {
            assert!(crate::train::config::keys::find(candidate.setting).is_some(), "{}", candidate.setting);
        }
        let changed = with(&TrainConfig::default(), "num_generations", &Value::from(2)).unwrap();
        assert_eq!(changed, TrainConfig { num_generations: 2, ..TrainConfig::default() });
    }
}
