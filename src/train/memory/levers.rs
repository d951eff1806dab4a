//! Levers: settings that make a run smaller, and by how much. Their effect is measured, by planning again with each pulled.

use serde_json::Value;

use super::super::TrainError;
use super::super::config::{SettingError, TrainConfig};
use super::{Beginning, Measured};
use crate::gpu::Gpu;

/// What pulling a lever would do.
#[derive(Clone, Debug)]
pub struct Lever {
    pub setting: &'static str,
    pub from: String,
    /// The gentlest of the values that were tried which makes the run fit, or the last.
    pub to: String,
    /// What it means for the training.
    pub means: &'static str,
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
}

/// A setting and the values to try, the gentlest first; none where it has no effect or is as low as it can be.
struct Candidate {
    setting: &'static str,
    values: fn(&Situation) -> Vec<Value>,
    means: &'static str,
}

const CANDIDATES: &[Candidate] = &[
    Candidate {
        setting: "per_device_train_batch_size",
        values: |s| halves(s.config.per_device_train_batch_size.into(), 1),
        means: "with gradient_accumulation_steps raised as much, the step stays the same",
    },
    Candidate {
        setting: "num_generations",
        values: |s| if s.config.samples_chains() { halves(s.config.num_generations.into(), 2) } else { Vec::new() },
        means: "fewer chains a prompt",
    },
    Candidate { setting: "max_completion_length", values: |s| parts(s.longest_chain, 8), means: "chains end earlier" },
    Candidate { setting: "max_length", values: |s| parts(s.longest_row, 16), means: "longer rows are left out" },
    Candidate {
        setting: "beta",
        values: |s| if s.config.samples_chains() && s.config.beta > 0.0 { vec![0.0.into()] } else { Vec::new() },
        means: "nothing holds the policy near the start model",
    },
    Candidate {
        setting: "per_device_eval_batch_size",
        values: |s| if s.evaluates { halves(s.config.per_device_eval_batch_size.into(), 1) } else { Vec::new() },
        means: "evaluations take longer",
    },
];

/// `n` halved again and again, down to `least`.
fn halves(n: u64, least: u64) -> Vec<Value> {
    std::iter::successors(Some(n / 2), |n| Some(n / 2)).take_while(|n| *n >= least.max(1)).map(Value::from).collect()
}

/// Three quarters, a half and a quarter of `n`, down to `least`.
fn parts(n: u64, least: u64) -> Vec<Value> {
    [3, 2, 1].map(|quarters| n * quarters / 4).into_iter().filter(|part| *part >= least).map(Value::from).collect()
}

/// Pulls every lever by itself, and all of them together; the one that saves most first.
///
/// # Errors
/// None that planning without a lever would not have met.
pub(super) fn pull(
    gpu: &Gpu,
    config: &TrainConfig,
    beginning: &Beginning,
    available: Option<u64>,
) -> Result<(Vec<Lever>, Option<u64>), TrainError> {
    let before = beginning.measure(gpu, config)?;
    let (longest_row, longest_chain) = beginning.extent(config)?;
    let (longest_row, longest_chain) = (longest_row as u64, longest_chain as u64);
    let situation = Situation { config, longest_row, longest_chain, evaluates: beginning.start.eval.is_some() };
    // A run that nothing is known of but a limit of the adapter fits where that is kept.
    let fits = |measured: &Measured| measured.fits(available).unwrap_or(true);
    let (mut levers, mut lowest) = (Vec::new(), config.clone());
    for candidate in CANDIDATES {
        let mut found: Option<(Value, Measured)> = None;
        for value in (candidate.values)(&situation) {
            // What another setting forbids is no lever.
            let Ok(measured) = with(config, candidate.setting, &value).and_then(|c| beginning.measure(gpu, &c)) else { continue };
            let enough = fits(&measured);
            found = Some((value, measured));
            if enough {
                break;
            }
        }
        let Some((value, measured)) = found else { continue };
        let saves = before.held.total().saturating_sub(measured.held.total());
        if saves == 0 && !fits(&measured) {
            continue;
        }
        if let Some(last) = (candidate.values)(&situation).last() {
            lowest = with(&lowest, candidate.setting, last)?;
        }
        levers.push(Lever {
            setting: candidate.setting,
            from: from(&situation, candidate.setting)?,
            to: value.to_string(),
            means: candidate.means,
            total: measured.held.total(),
            saves,
            fits: fits(&measured),
        });
    }
    levers.sort_by_key(|lever| std::cmp::Reverse(lever.saves));
    let together = if levers.len() > 1 { beginning.measure(gpu, &lowest).ok() } else { None };
    Ok((levers, together.map(|measured| measured.held.total())))
}

/// The config with another value of one setting.
fn with(config: &TrainConfig, setting: &str, value: &Value) -> Result<TrainConfig, TrainError> {
    let broken = |e: serde_json::Error| SettingError::Conflict(e.to_string());
    let mut all = serde_json::to_value(config).map_err(broken)?;
    all[setting] = value.clone();
    Ok(serde_json::from_value(all).map_err(broken)?)
}

/// The value that a lever starts from: of lengths, what they come to.
fn from(situation: &Situation, setting: &str) -> Result<String, TrainError> {
    let all = serde_json::to_value(situation.config).map_err(|e| SettingError::Conflict(e.to_string()))?;
    Ok(match setting {
        "max_length" => situation.longest_row.to_string(),
        "max_completion_length" => situation.longest_chain.to_string(),
        _ => all[setting].to_string(),
    })
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
