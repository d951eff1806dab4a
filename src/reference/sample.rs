//! The next token: temperature, top-k, top-p, and the inverse of the cumulative distribution at a given uniform number.
//!
//! ```text
//! p = softmax(z / temperature)
//! A = tokens whose logit is at least the k-th largest                                   (ties at the border are kept)
//! B = the most probable tokens of A, until their share of A's mass reaches top_p        (ties at the border are kept)
//! the token: the first of B, in vocabulary order, at which the running mass exceeds u · mass(B)
//! ```
//!
//! As in transformers and vLLM, top-p measures mass after top-k has been renormalised. The two log-probabilities are
//! those of the policy that is differentiated (all of p) and of the policy that was sampled (p renormalised over B).

use super::attention::log_sum_exp;
use super::loss_head::log_softmax;
use crate::random::threefry2x32;

/// How a token is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Above 0. For temperature 0 use [`greedy`].
    pub temperature: f64,
    /// 0 keeps all.
    pub top_k: usize,
    /// 1 keeps all.
    pub top_p: f64,
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    pub token: usize,
    /// log p(token) under the softmax of logits / temperature over the whole vocabulary.
    pub log_prob: f64,
    /// The same, renormalised over the tokens that top-k and top-p kept.
    pub truncated_log_prob: f64,
}

impl Sampling {
    /// The token at `u` in [0, 1).
    pub fn draw(&self, logits: &[f64], u: f64) -> Draw {
        assert!(self.temperature > 0.0 && !logits.is_empty(), "sampling needs a temperature above 0 and at least one logit");
        let scaled: Vec<f64> = logits.iter().map(|z| z / self.temperature).collect();
        let log_p = log_softmax(&scaled);
        let kept = self.kept(&log_p);
        let kept_log_p: Vec<f64> = kept.iter().map(|&j| log_p[j]).collect();
        let log_mass = log_sum_exp(&kept_log_p);

        let mut running = 0.0;
        let reached = kept_log_p.iter().position(|l| {
            running += (l - log_mass).exp();
            running > u
        });
        // Rounding may leave the last sum a hair below 1, and u above it.
        let token = kept[reached.unwrap_or(kept.len() - 1)];
        Draw { token, log_prob: log_p[token], truncated_log_prob: log_p[token] - log_mass }
    }

    /// The tokens that may be drawn, in vocabulary order.
    fn kept(&self, log_p: &[f64]) -> Vec<usize> {
        let mut sorted = log_p.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let mut threshold = f64::NEG_INFINITY;
        if self.top_k > 0 {
            threshold = sorted[self.top_k.min(sorted.len()) - 1];
        }
        if self.top_p < 1.0 {
            sorted.retain(|&l| l >= threshold);
            let log_mass = log_sum_exp(&sorted);
            let mut running = 0.0;
            let enough = sorted.iter().position(|l| {
                running += (l - log_mass).exp();
                running >= self.top_p
            });
            threshold = sorted[enough.unwrap_or(sorted.len() - 1)];
        }
        (0..log_p.len()).filter(|&j| log_p[j] >= threshold).collect()
    }
}

/// The uniform number in [0, 1) of a counter, with 24 bits of Threefry-2x32.
pub fn uniform(key: [u32; 2], counter: [u32; 2]) -> f64 {
    f64::from(threefry2x32(key, counter)[0] >> 8) / f64::from(1 << 24)
}

/// The token with the largest logit; of several, the first.
pub fn greedy(logits: &[f64]) -> usize {
    (1..logits.len()).fold(0, |best, j| if logits[j] > logits[best] { j } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::random;

    const ALL: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };

    fn logits_of(p: &[f64]) -> Vec<f64> {
        p.iter().map(|p: &f64| p.ln() + 3.0).collect()
    }

    /// The tokens that occur over a fine grid of u.
    fn support(sampling: Sampling, logits: &[f64]) -> Vec<usize> {
        let mut seen: Vec<usize> = (0..2000).map(|i| sampling.draw(logits, f64::from(i) / 2000.0).token).collect();
        seen.dedup();
        seen
    }

    #[test]
    fn a_grid_of_u_gives_back_the_distribution() {
        let logits = random(11, 1);
        let sampling = Sampling { temperature: 0.7, ..ALL };
        let n = 20_000;
        let mut counts = [0.0; 11];
        (0..n).for_each(|i| counts[sampling.draw(&logits, (f64::from(i) + 0.5) / f64::from(n)).token] += 1.0 / f64::from(n));
        let log_p = log_softmax(&logits.iter().map(|z| z / 0.7).collect::<Vec<_>>());
        for (count, log_p) in counts.iter().zip(log_p) {
            assert!((count - log_p.exp()).abs() <= 1.0 / f64::from(n) + 1e-12);
        }
    }

    #[test]
    fn truncation_keeps_the_right_tokens() {
        let logits = logits_of(&[0.1, 0.4, 0.15, 0.3, 0.05]);
        assert_eq!(support(ALL, &logits), [0, 1, 2, 3, 4]);
        assert_eq!(support(Sampling { top_k: 2, ..ALL }, &logits), [1, 3]);
        assert_eq!(support(Sampling { top_k: 99, ..ALL }, &logits), [0, 1, 2, 3, 4]);
        assert_eq!(support(Sampling { top_p: 0.69, ..ALL }, &logits), [1, 3]);
        assert_eq!(support(Sampling { top_p: 0.71, ..ALL }, &logits), [1, 2, 3]);
        assert_eq!(support(Sampling { top_p: 0.0, ..ALL }, &logits), [1]);
        // 0.4 of the 0.7 that top-k left is 0.571, under 0.6, so the second token is needed; without top-k also.
        assert_eq!(support(Sampling { top_k: 2, top_p: 0.6, ..ALL }, &logits), [1, 3]);
        assert_eq!(support(Sampling { top_k: 2, top_p: 0.5, ..ALL }, &logits), [1]);
    }

    #[test]
    fn ties_are_kept() {
        let logits = [1.0, 2.0, 1.0, 0.0, 1.0];
        assert_eq!(support(Sampling { top_k: 2, ..ALL }, &logits), [0, 1, 2, 4]);
        assert_eq!(support(Sampling { top_p: 0.5, ..ALL }, &logits), [0, 1, 2, 4]);
        assert_eq!(greedy(&logits), 1);
        assert_eq!(greedy(&[5.0, 5.0]), 0);
    }

    #[test]
    fn both_log_probs() {
        let logits = logits_of(&[0.1, 0.4, 0.2, 0.3]);
        let draw = Sampling { top_k: 2, ..ALL }.draw(&logits, 0.99);
        assert_eq!(draw.token, 3);
        assert!((draw.log_prob - 0.3f64.ln()).abs() < 1e-12);
        assert!((draw.truncated_log_prob - (0.3f64 / 0.7).ln()).abs() < 1e-12);
        assert_eq!(ALL.draw(&[4.0], 0.999).log_prob, 0.0);
    }
}
