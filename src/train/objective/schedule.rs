//! The learning rate as a pure function of the step: a resumed run needs only its step number.

words! {
    /// How the learning rate changes after the warm-up.
    pub enum Decay {
        Constant = "constant",
        Linear = "linear",
        Cosine = "cosine",
    }
}

/// Warm-up, then constant, linear or cosine, as `transformers.get_scheduler`'s `constant_with_warmup`, `linear` and `cosine`
/// (`cosine_with_min_lr` with a floor; linear uses its floor in the same way).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub decay: Decay,
    /// The highest learning rate.
    pub base: f64,
    /// Number of steps in which the rate rises from 0 to `base`.
    pub warmup: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Rate at step `total`, as a share of `base`.
    pub floor: f64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0. As in transformers, step 0 of a warm-up has rate 0.
    pub fn rate(&self, step: u64) -> f64 {
        self.base * self.factor(step)
    }

    /// The rate as a share of `base`. Steps past `total` stay at the floor (transformers' cosine would rise again).
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let decay_steps = self.total.saturating_sub(self.warmup).max(1) as f64;
        let progress = ((step - self.warmup) as f64 / decay_steps).min(1.0);
        let factor = match self.decay {
            Decay::Constant => return 1.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        factor * (1.0 - self.floor) + self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warmup: u64, total: u64, floor: f64) -> Vec<f64> {
        let schedule = Schedule { decay, base: 1e-3, warmup, total, floor };
        (0..=total).map(|step| schedule.rate(step)).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-15, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn rates_match_manual_arithmetic() {
        close(&rates(Decay::Constant, 2, 4, 0.0), &[0.0, 5e-4, 1e-3, 1e-3, 1e-3]);
        close(&rates(Decay::Linear, 0, 4, 0.0), &[1e-3, 7.5e-4, 5e-4, 2.5e-4, 0.0]);
        close(&rates(Decay::Linear, 1, 5, 0.2), &[0.0, 1e-3, 8e-4, 6e-4, 4e-4, 2e-4]);
        close(&rates(Decay::Cosine, 1, 3, 0.0), &[0.0, 1e-3, 5e-4, 0.0]);
        close(&rates(Decay::Cosine, 0, 2, 0.1), &[1e-3, 5.5e-4, 1e-4]);
    }

    #[test]
    fn warm_up_and_end_of_the_run_are_exact() {
        // A warm-up as long as the run, a run of one step, and steps past the end.
        close(&rates(Decay::Linear, 4, 4, 0.0), &[0.0, 2.5e-4, 5e-4, 7.5e-4, 1e-3]);
        close(&rates(Decay::Cosine, 0, 1, 0.0), &[1e-3, 0.0]);
        let schedule = Schedule { decay: Decay::Cosine, base: 1.0, warmup: 1, total: 3, floor: 0.05 };
        assert!((schedule.rate(100) - 0.05).abs() < 1e-15);
    }

    /// Printed by transformers 5.23: `get_scheduler("cosine_with_min_lr", ..., min_lr_rate 0.05)`, `"cosine"`,
    /// `"linear"` with base 3e-4, 3 warm-up steps of 11.
    #[test]
    fn rates_are_those_of_transformers() {
        TRANSFORMERS.iter().for_each(|(decay, floor, expected)| {
            let schedule = Schedule { decay: *decay, base: 3e-4, warmup: 3, total: 11, floor: *floor };
            let found: Vec<f64> = (0..12).map(|step| schedule.rate(step)).collect();
            close(&found, expected);
        });
    }

    const TRANSFORMERS: &[(Decay, f64, [f64; 12])] = &[
        (
            Decay::Cosine,
            0.05,
            [
                0.0,
                9.999999999999999e-05,
                0.00019999999999999998,
                0.0003,
                0.0002891528333828583,
                0.00025826271631908303,
                0.00021203238911202528,
                0.00015749999999999998,
                0.00010296761088797469,
                5.6737283680916976e-05,
                2.5847166617141638e-05,
                1.4999999999999999e-05,
            ],
        ),
        (
            Decay::Cosine,
            0.0,
            [
                0.0,
                9.999999999999999e-05,
                0.00019999999999999998,
                0.0003,
                0.000288581929876693,
                0.00025606601717798207,
                0.00020740251485476345,
                0.00015,
                9.259748514523653e-05,
                4.3933982822017876e-05,
                1.1418070123306989e-05,
                0.0,
            ],
        ),
        (
            Decay::Linear,
            0.0,
            [
                0.0,
                9.999999999999999e-05,
                0.00019999999999999998,
                0.0003,
                0.0002625,
                0.000225,
                0.00018749999999999998,
                0.00015,
                0.0001125,
                7.5e-05,
                3.75e-05,
                0.0,
            ],
        ),
        (
            Decay::Constant,
            0.0,
            [
                0.0,
                9.999999999999999e-05,
                0.00019999999999999998,
                0.0003,
                0.0003,
                0.0003,
                0.0003,
                0.0003,
                0.0003,
                0.0003,
                0.0003,
                0.0003,
            ],
        ),
    ];
}
