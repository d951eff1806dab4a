//! Does the judge use the scale as people do? These metrics look at each column alone. They do not show whether the right rows
//! get the right scores, so report them only beside a correlation.

use super::tally::{Sample, Tally};
use super::{Measured, Undefined};

/// Shannon entropy of a histogram in bits.
pub fn entropy_bits(shares: &[f64]) -> f64 {
    // + 0.0, so that a histogram of one bin has entropy 0, not -0.
    -shares.iter().filter(|p| **p > 0.0).map(|p| p * p.log2()).sum::<f64>() + 0.0
}

/// Share of the most used label: near 1 for a judge whose scores cluster.
pub fn modal_share(shares: &[f64]) -> f64 {
    shares.iter().copied().fold(0.0, f64::max)
}

/// The shares of the nonempty bins of width `width`, in ascending order: the histogram of scores without a grid.
pub fn bin_shares(scores: &[f64], width: f64) -> Vec<f64> {
    let mut bins = std::collections::BTreeMap::new();
    for s in scores {
        *bins.entry((s / width).round() as i64).or_insert(0usize) += 1;
    }
    bins.values().map(|n| *n as f64 / scores.len() as f64).collect()
}

/// Jensen-Shannon divergence of two histograms over the same bins, in bits: 0 (equal) to 1 (disjoint).
pub fn js_divergence_bits(p: &[f64], q: &[f64]) -> f64 {
    let half = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).filter(|(x, _)| **x > 0.0).map(|(x, y)| x * (2.0 * x / (x + y)).log2()).sum()
    };
    ((half(p, q) + half(q, p)) / 2.0).clamp(0.0, 1.0)
}

/// Wasserstein-1 distance of the two columns in units of the scale: the area between their cumulative distributions.
///
/// # Errors
/// Undefined without rows.
pub fn wasserstein_1(human: &[f64], judge: &[f64]) -> Measured {
    Sample::of(human, judge, None).tally().wasserstein_1()
}

/// sd(judge) / sd(human): below 1 for a judge that stays near the middle.
///
/// # Errors
/// Undefined without rows or if all human scores are the same.
pub fn sd_ratio(human: &[f64], judge: &[f64]) -> Measured {
    Sample::of(human, judge, None).tally().sd_ratio()
}

impl Tally<'_> {
    /// [`wasserstein_1`]
    pub fn wasserstein_1(&self) -> Measured {
        self.at_least(1)?;
        let (human, judge) = (&self.sample.human, &self.sample.judge);
        let (mut h, mut s, mut gap, mut area, mut last) = (0, 0, 0_i64, 0.0, 0.0);
        while h < human.len() || s < judge.len() {
            let people_next = s == judge.len() || (h < human.len() && human[h] <= judge[s]);
            let at = if people_next { human[h] } else { judge[s] };
            if gap != 0 {
                area += gap.unsigned_abs() as f64 * (at - last);
            }
            if people_next {
                gap += self.human_counts[h] as i64;
                h += 1;
            } else {
                gap -= self.judge_counts[s] as i64;
                s += 1;
            }
            last = at;
        }
        Ok(area / self.n() as f64)
    }

    /// [`sd_ratio`]
    pub fn sd_ratio(&self) -> Measured {
        self.at_least(1)?;
        if self.human_constant() {
            return Err(Undefined::ConstantHuman);
        }
        Ok(self.moments().judge.root() / self.moments().human.root())
    }

    /// [`js_divergence_bits`] of the label histograms of people and judge.
    pub fn js_divergence_bits(&self) -> Measured {
        let table = self.table()?;
        let (human, judge) = table.margins();
        let shares = |rows: Vec<f64>| rows.iter().map(|r| r / table.n() as f64).collect::<Vec<_>>();
        Ok(js_divergence_bits(&shares(human), &shares(judge)))
    }

    /// [`entropy_bits`] of the judge's labels.
    pub fn judge_entropy_bits(&self) -> Measured {
        Ok(entropy_bits(&self.judge_shares()?))
    }

    /// Entropy of the judge's labels divided by that of an even use of the whole scale: 0 to 1.
    pub fn range_use(&self) -> Measured {
        let shares = self.judge_shares()?;
        Ok(entropy_bits(&shares) / (shares.len() as f64).log2())
    }

    /// [`modal_share`] of the judge's labels.
    pub fn modal_share(&self) -> Measured {
        Ok(modal_share(&self.judge_shares()?))
    }

    /// The number of labels that the judge uses.
    pub fn labels_used(&self) -> Measured {
        Ok(self.judge_shares()?.iter().filter(|p| **p > 0.0).count() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_match_manual_values() {
        assert_eq!(entropy_bits(&[0.5, 0.25, 0.25, 0.0]), 1.5);
        assert_eq!(js_divergence_bits(&[1.0, 0.0], &[0.0, 1.0]), 1.0);
        assert_eq!(js_divergence_bits(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
        assert_eq!(wasserstein_1(&[1.0, 2.0], &[3.0, 3.0]), Ok(1.5));
        assert_eq!(sd_ratio(&[1.0, 3.0], &[2.0, 3.0]), Ok(0.5));
        assert_eq!(sd_ratio(&[1.0, 3.0], &[2.0, 2.0]), Ok(0.0));
        assert!(wasserstein_1(&[], &[]).is_err());
    }
}
