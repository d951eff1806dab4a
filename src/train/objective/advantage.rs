//! Advantages: from the rewards of one prompt group to the weight of each completion's log-probability.
//!
//! The baseline of a completion is the mean reward of the others in its group (leave one out). It does not depend on the
//! completion, so the gradient stays unbiased: `A_i = r_i - mean of the others = K/(K-1) (r_i - mean)`.
//!
//! Normalised advantages are divided by the standard deviation of these differences, as in the released code. The factor
//! K/(K-1) then cancels, and GRPO's `(r_i - mean) / std` remains.

/// How rewards become advantages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdvantageSettings {
    /// Divide by the population standard deviation of the group's differences. This rescales each prompt's gradient, so it is
    /// not exact.
    pub normalize: bool,
    /// Clip to `[-clip, clip]`; 0: off.
    pub clip: f64,
}

/// Standard deviation below which rewards count as equal: dividing by less would turn rounding into advantages of ±1.
const MIN_STD: f64 = 1e-6;

/// Advantages of one group. A single completion has no baseline and gets 0.
pub fn advantages(rewards: &[f64], settings: AdvantageSettings) -> Vec<f64> {
    let k = rewards.len() as f64;
    if rewards.len() < 2 {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / k;
    let std = (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / k).sqrt();
    if settings.normalize && std < MIN_STD {
        return vec![0.0; rewards.len()];
    }
    let leave_one_out = k / (k - 1.0);
    let scale = if settings.normalize { leave_one_out / (leave_one_out * std + 1e-8) } else { leave_one_out };
    let clip = |a: f64| if settings.clip > 0.0 { a.clamp(-settings.clip, settings.clip) } else { a };
    rewards.iter().map(|r| clip((r - mean) * scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: AdvantageSettings = AdvantageSettings { normalize: false, clip: 0.0 };

    #[test]
    fn the_baseline_is_the_mean_of_the_others() {
        assert_eq!(advantages(&[1.0, 2.0, 6.0], EXACT), [-3.0, -1.5, 4.5]);
        assert_eq!(advantages(&[7.0], EXACT), [0.0]);
        assert!(advantages(&[], EXACT).is_empty());
    }

    #[test]
    fn dividing_by_the_std_is_grpo() {
        let normalized = AdvantageSettings { normalize: true, clip: 0.0 };
        let close = |found: &[f64], expected: &[f64]| found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6);
        assert!(close(&advantages(&[0.0, 1.0], normalized), &[-1.0, 1.0]));
        // Mean 2, population standard deviation 4.
        let rewards = [0.0, 0.0, 10.0, 0.0, 0.0];
        assert!(close(&advantages(&rewards, normalized), &[-0.5, -0.5, 2.0, -0.5, -0.5]));
        let clipped = AdvantageSettings { clip: 1.0, ..normalized };
        assert!(close(&advantages(&rewards, clipped), &[-0.5, -0.5, 1.0, -0.5, -0.5]));
    }

    #[test]
    fn equal_rewards_are_not_amplified() {
        let normalized = AdvantageSettings { normalize: true, clip: 1.0 };
        assert_eq!(advantages(&[0.3, 0.3 + 1e-9, 0.3], normalized), [0.0; 3]);
        // Without division, small differences are small advantages.
        assert!(advantages(&[0.3, 0.3 + 1e-9], EXACT)[1] > 0.0);
    }
}
