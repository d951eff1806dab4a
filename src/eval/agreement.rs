//! Does the judge give the same scores as people? Errors of raw scores; agreement and kappa of labels.

use super::tally::{LabelTable, Sample, Tally};
use super::{Measured, Undefined};

/// Mean absolute error.
///
/// # Errors
/// Undefined without rows.
pub fn mae(human: &[f64], judge: &[f64]) -> Measured {
    Sample::unsorted(human, judge).tally().mae()
}

/// Root mean squared error.
///
/// # Errors
/// Undefined without rows.
pub fn rmse(human: &[f64], judge: &[f64]) -> Measured {
    Sample::unsorted(human, judge).tally().rmse()
}

/// Mean of judge - human: positive for a lenient judge.
///
/// # Errors
/// Undefined without rows.
pub fn bias(human: &[f64], judge: &[f64]) -> Measured {
    Sample::unsorted(human, judge).tally().bias()
}

impl Tally<'_> {
    /// [`mae`]
    pub fn mae(&self) -> Measured {
        self.at_least(1).map(|()| self.mean_of(|h, s| (s - h).abs()))
    }

    /// [`rmse`]
    pub fn rmse(&self) -> Measured {
        self.at_least(1).map(|()| self.mean_of(|h, s| (s - h).powi(2)).sqrt())
    }

    /// [`bias`]
    pub fn bias(&self) -> Measured {
        self.at_least(1).map(|()| self.mean_of(|h, s| s - h))
    }

    /// Share of rows with the same label.
    pub fn exact_agreement(&self) -> Measured {
        self.table().map(|table| table.agreement(0))
    }

    /// Share of rows whose labels are at most one step of the scale apart.
    pub fn adjacent_agreement(&self) -> Measured {
        self.table().map(|table| table.agreement(1))
    }

    /// Cohen's kappa; every disagreement counts 1 (`sklearn.metrics.cohen_kappa_score` over the full scale).
    pub fn kappa_unweighted(&self) -> Measured {
        self.table()?.kappa(|h, s| f64::from(u8::from(h != s)))
    }

    /// Cohen's kappa; a disagreement counts by its number of steps.
    pub fn kappa_linear(&self) -> Measured {
        self.table()?.kappa(|h, s| h.abs_diff(s) as f64)
    }

    /// Cohen's kappa; a disagreement counts by its squared number of steps.
    pub fn kappa_quadratic(&self) -> Measured {
        self.table()?.kappa(|h, s| (h.abs_diff(s) as f64).powi(2))
    }
}

impl LabelTable {
    fn agreement(&self, steps: usize) -> f64 {
        let close: f64 = self.nonempty().filter(|(h, s, _)| h.abs_diff(*s) <= steps).map(|(_, _, rows)| rows).sum();
        close / self.n() as f64
    }

    /// 1 - Σ w O / Σ w E. Undefined if both use only one and the same label.
    fn kappa(&self, weight: fn(usize, usize) -> f64) -> Measured {
        let observed: f64 = self.nonempty().map(|(h, s, rows)| weight(h, s) * rows).sum();
        let (human, judge) = self.margins();
        let mut expected = 0.0;
        for (h, p) in human.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            for (s, q) in judge.iter().enumerate() {
                expected += weight(h, s) * p * q;
            }
        }
        if expected == 0.0 { Err(Undefined::OneLabel) } else { Ok(1.0 - observed * self.n() as f64 / expected) }
    }
}
