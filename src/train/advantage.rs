//! From the rewards of one prompt's chains to the weight that each chain's log-probability gets.
//!
//! The baseline of a chain is the mean reward of its siblings (leave one out), which does not depend on the chain and so
//! leaves the gradient unbiased: `A_i = r_i - mean of the others = K/(K-1) (r_i - mean)`.

/// What is done to the differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdvantageSettings {
    /// Divide by the group's population standard deviation. This rescales each prompt, so it is not exact.
    pub normalize: bool,
    /// Clip to `[-clip, clip]`; 0: off.
    pub clip: f64,
}

/// Spread below which a group counts as equal: dividing by less would turn rounding into advantages of ±1.
const NO_SPREAD: f64 = 1e-6;

/// Advantages of one group. A single chain has no siblings and gets 0.
pub fn advantages(rewards: &[f64], settings: AdvantageSettings) -> Vec<f64> {
    let k = rewards.len() as f64;
    if rewards.len() < 2 {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / k;
    let std = (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / k).sqrt();
    if settings.normalize && std < NO_SPREAD {
        return vec![0.0; rewards.len()];
    }
    let scale = if settings.normalize { 1.0 / (std + 1e-8) } else { 1.0 };
    let clip = |a: f64| if settings.clip > 0.0 { a.clamp(-settings.clip, settings.clip) } else { a };
    rewards.iter().map(|r| clip(k / (k - 1.0) * (r - mean) * scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: AdvantageSettings = AdvantageSettings { normalize: false, clip: 0.0 };

    #[test]
    fn each_against_the_mean_of_the_others() {
        assert_eq!(advantages(&[1.0, 2.0, 6.0], EXACT), [-3.0, -1.5, 4.5]);
        assert_eq!(advantages(&[7.0], EXACT), [0.0]);
        assert!(advantages(&[], EXACT).is_empty());
    }

    #[test]
    fn dividing_by_the_std_is_grpo_times_a_constant() {
        let normalized = AdvantageSettings { normalize: true, clip: 0.0 };
        let a = advantages(&[0.0, 1.0], normalized);
        assert!((a[0] + 2.0).abs() < 1e-6 && (a[1] - 2.0).abs() < 1e-6);
        assert_eq!(advantages(&[0.0, 1.0], AdvantageSettings { normalize: true, clip: 1.0 }), [-1.0, 1.0]);
    }

    #[test]
    fn equal_rewards_are_not_amplified() {
        let normalized = AdvantageSettings { normalize: true, clip: 1.0 };
        assert_eq!(advantages(&[0.3, 0.3 + 1e-9, 0.3], normalized), [0.0; 3]);
        // Without division a small spread is a small advantage.
        assert!(advantages(&[0.3, 0.3 + 1e-9], EXACT)[1] > 0.0);
    }
}
