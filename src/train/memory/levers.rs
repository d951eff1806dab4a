//! Levers: settings that reduce the memory of a run. The plan is computed again with each of them to measure its effect.

use serde_json::Value;

use super::super::TrainError;
use super::super::config::{GradientSum, SettingError, TrainConfig};
use super::{PeakMemory, PlannedRun};
use crate::gpu::Gpu;
use crate::model::weight_policy::WeightPolicy;
use crate::ops::weight_dtype::WeightDtype;

/// A change of one setting, and its effect.
#[derive(Clone, Debug)]
pub struct Lever {
    pub setting: &'static str,
    pub from: String,
    /// The first of the tried values that makes the run fit, or the last one.
    pub to: String,
    /// What it means for the training.
    pub means: &'static str,
    /// Position in the list of candidates. A lower rank changes the training less.
    pub rank: usize,
    /// Bytes of the run with the change.
    pub total: u64,
    /// Bytes saved.
    pub saves: u64,
    pub fits: bool,
}

/// What decides which values to try.
struct Situation<'a> {
    config: &'a TrainConfig,
    /// Tokens of the longest row and of the longest chain.
    longest_row: u64,
    longest_chain: u64,
    evaluates: bool,
    /// Whether an adapter is trained on frozen weights.
    frozen: bool,
}

/// A setting and the values to try, the mildest first. There are none if the setting has no effect or cannot be lowered.
struct Candidate {
    setting: &'static str,
    values: fn(&Situation) -> Vec<Value>,
    means: &'static str,
}

/// The mildest first: changes that cost time, then changes of the trained model, then changes of the training data.
const CANDIDATES: &[Candidate] = &[
    Candidate {
        setting: "gradient_sum",
        values: |s| match (s.config.gradient_sum, s.config.gradient_accumulation_steps) {
            (GradientSum::Tree, 2..) => vec![GradientSum::Running.word().into()],
            _ => Vec::new(),
        },
        means: "the last digits depend on the number of ranks",
    },
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

/// `n` halved repeatedly, down to `least`.
fn halves(n: u64, least: u64) -> Vec<Value> {
    std::iter::successors(Some(n / 2), |n| Some(n / 2)).take_while(|n| *n >= least.max(1)).map(Value::from).collect()
}

/// Three quarters, a half and a quarter of `n`, down to `least`.
fn parts(n: u64, least: u64) -> Vec<Value> {
    [3, 2, 1].map(|quarters| n * quarters / 4).into_iter().filter(|part| *part >= least).map(Value::from).collect()
}

/// Names of the dtypes that are smaller than those of this policy.
fn smaller_weights(policy: WeightPolicy) -> Vec<Value> {
    // `auto` may mean any of them; a change that saves nothing is left out later.
    let bits = policy.dtype().unwrap_or_default().bits();
    let smaller = [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4].into_iter().filter(|dtype| dtype.bits() < bits);
    smaller.map(|dtype| Value::from(dtype.name())).collect()
}

/// Plans variants of a run for the same adapter, rows and available memory.
struct Planner<'a> {
    gpu: &'a Gpu,
    run: &'a PlannedRun<'a>,
    available: Option<u64>,
}

impl Planner<'_> {
    /// Whether a plan fits. If the available memory is unknown, only the adapter's limits count.
    fn fits(&self, peak: &PeakMemory) -> bool {
        peak.fits(self.available).unwrap_or(true)
    }

    /// The effect of candidate number `rank` on a run of `config`, which needs `before` bytes, and the changed config. `None` if
    /// it has no effect.
    fn apply(&self, config: &TrainConfig, before: u64, rank: usize) -> Result<Option<(Lever, TrainConfig)>, TrainError> {
        let candidate = &CANDIDATES[rank];
        let (longest_row, longest_chain) = self.run.longest(config)?;
        let situation = Situation {
            config,
            longest_row: longest_row as u64,
            longest_chain: longest_chain as u64,
            evaluates: self.run.inputs.eval.is_some(),
            frozen: config.lora_r > 0 || self.run.inputs.adapter.is_some(),
        };
        let from = match candidate.setting {
            "max_length" => longest_row.to_string(),
            "max_completion_length" => longest_chain.to_string(),
            setting => shown(&value_of(config, setting)?),
        };
        let mut applied = None;
        for value in (candidate.values)(&situation) {
            // A value that conflicts with another setting is left out.
            let changed = with(config, candidate.setting, &value)?;
            let Ok(peak) = self.run.measure(self.gpu, &changed) else { continue };
            let (total, fits) = (peak.usage.total(), self.fits(&peak));
            if total >= before && !fits {
                continue;
            }
            let (setting, means, saves) = (candidate.setting, candidate.means, before.saturating_sub(total));
            applied = Some((Lever { setting, from: from.clone(), to: shown(&value), means, rank, total, saves, fits }, changed));
            if fits {
                break;
            }
        }
        Ok(applied)
    }
}

/// Applies every lever on its own; the one that saves most comes first.
///
/// # Errors
/// As planning without a lever.
pub(super) fn single(
    gpu: &Gpu,
    config: &TrainConfig,
    run: &PlannedRun,
    available: Option<u64>,
) -> Result<Vec<Lever>, TrainError> {
    let planner = Planner { gpu, run, available };
    let before = run.measure(gpu, config)?.usage.total();
    let mut levers = Vec::new();
    for rank in 0..CANDIDATES.len() {
        levers.extend(planner.apply(config, before, rank)?.map(|(lever, _)| lever));
    }
    levers.sort_by_key(|lever| std::cmp::Reverse(lever.saves));
    Ok(levers)
}

/// Applies one lever after another, the mildest first, until the run fits. The total of the last one is that of all of them.
///
/// # Errors
/// As [`single`].
pub(super) fn combined(
    gpu: &Gpu,
    config: &TrainConfig,
    run: &PlannedRun,
    available: Option<u64>,
) -> Result<Vec<Lever>, TrainError> {
    let planner = Planner { gpu, run, available };
    let mut before = run.measure(gpu, config)?.usage.total();
    let (mut config, mut levers) = (config.clone(), Vec::<Lever>::new());
    // Twice, because `lora_r` makes earlier candidates possible.
    for rank in (0..CANDIDATES.len()).chain(0..CANDIDATES.len()) {
        if levers.last().is_some_and(|lever| lever.fits) {
            break;
        }
        if let Some((lever, changed)) = planner.apply(&config, before, rank)? {
            (before, config) = (lever.total, changed);
            levers.push(lever);
        }
    }
    Ok(levers)
}

/// The config with another value of one setting.
fn with(config: &TrainConfig, setting: &str, value: &Value) -> Result<TrainConfig, TrainError> {
    let broken = |e: serde_json::Error| SettingError::Conflict(e.to_string());
    let mut settings = serde_json::to_value(config).map_err(broken)?;
    settings[setting] = value.clone();
    Ok(serde_json::from_value(settings).map_err(broken)?)
}

fn value_of(config: &TrainConfig, setting: &str) -> Result<Value, TrainError> {
    let settings = serde_json::to_value(config).map_err(|e| SettingError::Conflict(e.to_string()))?;
    Ok(settings[setting].clone())
}

/// A value as in a config file, without quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tried_values_decrease_to_a_limit() {
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
