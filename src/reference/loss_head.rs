//! Losses of one row of logits z `[V]`, and their gradients. p = softmax(z) over the whole vocabulary.
//!
//! # One form for all losses
//!
//! Every loss L here depends on a few probabilities p_k only. With ∂p_k/∂z_j = p_k (1[j=k] - p_j) and the
//! *coefficients* c_k = -p_k ∂L/∂p_k the gradient is
//!
//! ```text
//! dL/dz_j = Σ_k ∂L/∂p_k · p_k (1[j=k] - p_j) = -(c_j - p_j Σ_k c_k)          c_j = 0 for the other tokens
//! ```
//!
//! so one kernel serves them all. Each loss states its c_k in a form that never divides by a probability, which may be as
//! small as floating point allows:
//!
//! | loss                                             | c_k                   |
//! |--------------------------------------------------|-----------------------|
//! | cross-entropy -Σ w_k log p_k                     | w_k                   |
//! | log-probability Σ w_k log p_k                    | -w_k                  |
//! | probability Σ w_k p_k                            | -w_k p_k              |
//! | (E - y)², E = Σ v_k p_k                          | -2 (E - y) p_k v_k    |
//! | (E - y)², E = Σ v_k q_k, q = p / Σ_scores p      | -2 (E - y) q_k (v_k - E), which sum to 0 |
//!
//! Only the entropy touches every token: H = -Σ p_j log p_j, dH/dz_j = -p_j (log p_j + H).
//!
//! Losses add: the coefficients of a weighted sum of losses are the weighted coefficients of all of them.

use super::Error;
use super::attention::log_sum_exp;

/// A token of the scale and the number it stands for, as (id, value).
pub type Score = (u32, f64);

/// A loss of one row: its value, and its coefficients as (token, c). A token may occur more than once; its c then add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    pub value: f64,
    pub coefficients: Vec<(u32, f64)>,
}

impl Loss {
    /// weight · L.
    pub fn scaled(mut self, weight: f64) -> Self {
        self.value *= weight;
        self.coefficients.iter_mut().for_each(|(_, c)| *c *= weight);
        self
    }

    /// L + M, both of the same row.
    pub fn plus(mut self, other: Loss) -> Self {
        self.value += other.value;
        self.coefficients.extend(other.coefficients);
        self
    }

    /// dL/dz `[V]`.
    pub fn gradient(&self, logits: &[f64]) -> Vec<f64> {
        row_gradient(logits, &self.coefficients, 0.0)
    }
}

/// dL/dz_j = -(c_j - p_j Σc) + w_H dH/dz_j: the gradient `[V]` of a loss with these coefficients plus `entropy_weight` · H.
pub fn row_gradient(logits: &[f64], coefficients: &[(u32, f64)], entropy_weight: f64) -> Vec<f64> {
    let log_p = log_softmax(logits);
    let entropy = entropy(&log_p);
    let total: f64 = coefficients.iter().map(|(_, c)| c).sum();
    let dense = |log_p: &f64| log_p.exp() * (total - entropy_weight * (log_p + entropy));
    let mut dz: Vec<f64> = log_p.iter().map(dense).collect();
    coefficients.iter().for_each(|&(token, c)| dz[token as usize] -= c);
    dz
}

/// What one row of logits says.
#[derive(Clone, Debug)]
pub struct TokenStats {
    /// log Σ exp z.
    pub lse: f64,
    /// log p(target); none without a target.
    pub target_log_prob: Option<f64>,
    /// -Σ p log p, in nats.
    pub entropy: f64,
    /// p(score token), full-vocabulary, in the order asked for: `[K]`.
    pub score_probs: Vec<f64>,
    /// Σ of `score_probs`.
    pub mass: f64,
}

/// The numbers that rewards and metrics are made of.
pub fn row_stats(logits: &[f64], target: Option<u32>, score_tokens: &[u32]) -> TokenStats {
    let log_p = log_softmax(logits);
    let score_probs: Vec<f64> = score_tokens.iter().map(|&k| log_p[k as usize].exp()).collect();
    TokenStats {
        lse: log_sum_exp(logits),
        target_log_prob: target.map(|t| log_p[t as usize]),
        entropy: entropy(&log_p),
        mass: score_probs.iter().sum(),
        score_probs,
    }
}

/// log softmax(z): z_j - log Σ exp z. Logits must be finite.
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let lse = log_sum_exp(logits);
    logits.iter().map(|z| z - lse).collect()
}

fn entropy(log_p: &[f64]) -> f64 {
    -log_p.iter().map(|l| l.exp() * l).sum::<f64>()
}

/// A label as a target over at most two tokens: all of it on the score it equals, or split linearly over its neighbours on
/// the scale, so that the expectation of the target is the label (2.6 on 1..5: 0.4 on "2" and 0.6 on "3").
///
/// The scores may come in any order. A label outside the scale, or not a number, is an error.
pub fn soft_target(label: f64, scale: &[Score]) -> Result<Vec<(u32, f64)>, Error> {
    let below = scale.iter().filter(|(_, v)| *v <= label).max_by(|a, b| a.1.total_cmp(&b.1));
    let above = scale.iter().filter(|(_, v)| *v >= label).min_by(|a, b| a.1.total_cmp(&b.1));
    let (Some(&(lower, low)), Some(&(upper, high))) = (below, above) else {
        let min = scale.iter().map(|s| s.1).fold(f64::INFINITY, f64::min);
        let max = scale.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
        return Err(Error::Label { label, min, max });
    };
    if low == high {
        return Ok(vec![(lower, 1.0)]);
    }
    let share = (label - low) / (high - low);
    Ok(vec![(lower, 1.0 - share), (upper, share)])
}

/// -Σ w_k log p_k against a (soft) target of (token, weight).
pub fn cross_entropy(logits: &[f64], target: &[(u32, f64)]) -> Loss {
    log_probability(logits, target).scaled(-1.0)
}

/// Σ w_k log p_k: the log-likelihood reward.
pub fn log_probability(logits: &[f64], target: &[(u32, f64)]) -> Loss {
    let log_p = log_softmax(logits);
    Loss {
        value: target.iter().map(|&(k, w)| w * log_p[k as usize]).sum(),
        coefficients: target.iter().map(|&(k, w)| (k, -w)).collect(),
    }
}

/// Σ w_k p_k: the probability of the label, which is the expected binary reward of a sampled score.
pub fn probability(logits: &[f64], target: &[(u32, f64)]) -> Loss {
    let log_p = log_softmax(logits);
    let coefficients: Vec<(u32, f64)> = target.iter().map(|&(k, w)| (k, -w * log_p[k as usize].exp())).collect();
    Loss { value: coefficients.iter().map(|(_, c)| -c).sum(), coefficients }
}

/// log(1 - Σ p_k): the log-probability that the next token is no score at all. With L = log(1 - M), ∂L/∂p_k = -1/(1 - M) and
/// so c_k = p_k / (1 - M).
pub fn absence(logits: &[f64], scale: &[Score]) -> Loss {
    let log_p = log_softmax(logits);
    let p = |k: u32| log_p[k as usize].exp();
    let rest = 1.0 - scale.iter().map(|&(k, _)| p(k)).sum::<f64>();
    Loss { value: rest.ln(), coefficients: scale.iter().map(|&(k, _)| (k, p(k) / rest)).collect() }
}

/// E = Σ v_k p_k over the scores, with the probabilities of the whole vocabulary: missing mass counts as 0.
pub fn expected_full(logits: &[f64], scale: &[Score]) -> f64 {
    let log_p = log_softmax(logits);
    scale.iter().map(|&(k, v)| v * log_p[k as usize].exp()).sum()
}

/// E = Σ v_k q_k with q the softmax over the score tokens alone.
pub fn expected_renormalised(logits: &[f64], scale: &[Score]) -> f64 {
    score_softmax(logits, scale).iter().zip(scale).map(|(q, (_, v))| q * v).sum()
}

/// (E - y)² with E as in [`expected_full`].
pub fn squared_error_full(logits: &[f64], scale: &[Score], label: f64) -> Loss {
    let log_p = log_softmax(logits);
    let gap = expected_full(logits, scale) - label;
    let coefficients = scale.iter().map(|&(k, v)| (k, -2.0 * gap * log_p[k as usize].exp() * v)).collect();
    Loss { value: gap * gap, coefficients }
}

/// (E - y)² with E as in [`expected_renormalised`].
pub fn squared_error_renormalised(logits: &[f64], scale: &[Score], label: f64) -> Loss {
    let q = score_softmax(logits, scale);
    let expected = expected_renormalised(logits, scale);
    let gap = expected - label;
    let coefficients = scale.iter().zip(q).map(|(&(k, v), q)| (k, -2.0 * gap * q * (v - expected))).collect();
    Loss { value: gap * gap, coefficients }
}

/// q_k = p_k / Σ p over the scores, by a softmax over their logits: p may underflow where q does not.
fn score_softmax(logits: &[f64], scale: &[Score]) -> Vec<f64> {
    let own: Vec<f64> = scale.iter().map(|&(k, _)| logits[k as usize]).collect();
    log_softmax(&own).iter().map(|l| l.exp()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::{assert_close, assert_gradient, random};

    const VOCAB: usize = 13;
    /// Out of order in ids and in values, and not evenly spaced.
    const SCALE: [Score; 4] = [(7, 3.0), (2, 1.0), (12, 7.5), (0, -2.0)];

    fn assert_loss(name: &str, logits: &[f64], loss: impl Fn(&[f64]) -> Loss) {
        assert_gradient(name, logits, &loss(logits).gradient(logits), |z| loss(z).value);
    }

    #[test]
    fn gradients_match_finite_differences() {
        for seed in 0..4 {
            let logits = random(VOCAB, seed);
            for target in [vec![(4, 1.0)], vec![(2, 0.4), (7, 0.6)]] {
                assert_loss("cross-entropy", &logits, |z| cross_entropy(z, &target));
                assert_loss("log p", &logits, |z| log_probability(z, &target));
                assert_loss("p", &logits, |z| probability(z, &target));
            }
            assert_loss("full", &logits, |z| squared_error_full(z, &SCALE, 2.6));
            assert_loss("absence", &logits, |z| absence(z, &SCALE));
            assert_loss("renormalised", &logits, |z| squared_error_renormalised(z, &SCALE, 2.6));
            let sum = |z: &[f64]| cross_entropy(z, &[(2, 0.5)]).plus(squared_error_full(z, &SCALE, 1.0).scaled(0.7));
            assert_loss("a sum", &logits, sum);
        }
    }

    #[test]
    fn entropy_gradient_matches_finite_differences() {
        let logits = random(VOCAB, 5);
        let value = |z: &[f64]| cross_entropy(z, &[(3, 1.0)]).value + 0.3 * row_stats(z, None, &[]).entropy;
        assert_gradient("entropy", &logits, &row_gradient(&logits, &[(3, 1.0)], 0.3), value);
    }

    /// The closed forms of the squared error: 2 (E - y) p_j (v_j - E) for every j, or with q_j on the scores only.
    #[test]
    fn squared_error_has_the_published_gradient() {
        let logits = random(VOCAB, 6);
        let value_of = |j: usize| SCALE.iter().find(|(k, _)| *k as usize == j).map(|(_, v)| *v);
        let log_p = log_softmax(&logits);
        let e = expected_full(&logits, &SCALE);
        let full = |j: usize| 2.0 * (e - 4.0) * log_p[j].exp() * (value_of(j).unwrap_or(0.0) - e);
        let expected: Vec<f64> = (0..VOCAB).map(full).collect();
        assert_close("full", &squared_error_full(&logits, &SCALE, 4.0).gradient(&logits), &expected, 1e-14);

        let mass = row_stats(&logits, None, &SCALE.map(|s| s.0)).mass;
        let e = expected_renormalised(&logits, &SCALE);
        let renormalised = |j: usize| value_of(j).map_or(0.0, |v| 2.0 * (e - 4.0) * log_p[j].exp() / mass * (v - e));
        let expected: Vec<f64> = (0..VOCAB).map(renormalised).collect();
        assert_close("renormalised", &squared_error_renormalised(&logits, &SCALE, 4.0).gradient(&logits), &expected, 1e-14);
    }

    #[test]
    fn labels_between_scores_split() {
        let scale: Vec<Score> = (1..=5).map(|k| (15 + k, f64::from(k))).collect();
        let target = soft_target(2.6, &scale).unwrap();
        assert_eq!(target.iter().map(|t| t.0).collect::<Vec<_>>(), [17, 18]);
        assert_close("weights", &[target[0].1, target[1].1], &[0.4, 0.6], 1e-15);
        assert_eq!(soft_target(5.0, &scale).unwrap(), [(20, 1.0)]);
        assert_eq!(soft_target(0.0, &SCALE).unwrap().iter().map(|t| t.0).collect::<Vec<_>>(), [0, 2]);
        for bad in [0.99, 5.01, f64::NAN, f64::INFINITY] {
            assert!(matches!(soft_target(bad, &scale), Err(Error::Label { .. })), "{bad}");
        }
        assert!(soft_target(1.0, &[]).is_err());
    }

    /// Score tokens with a probability of e^-2000 still have a renormalised expectation, and gradients stay finite.
    #[test]
    fn tiny_probabilities_are_no_trouble() {
        let mut logits = vec![0.0; VOCAB];
        SCALE.iter().for_each(|&(k, v)| logits[k as usize] = v - 2000.0);
        let shifted: Vec<f64> = logits.iter().map(|z| z + 2000.0).collect();
        let found = squared_error_renormalised(&logits, &SCALE, 2.0);
        assert!((found.value - squared_error_renormalised(&shifted, &SCALE, 2.0).value).abs() < 1e-9);
        assert!(found.value > 1.0 && found.gradient(&logits).iter().all(|g| g.is_finite()));
        let surprise = cross_entropy(&logits, &[(7, 1.0)]);
        assert!((surprise.value - 1997.0 - 9f64.ln()).abs() < 1e-9);
        assert!((surprise.gradient(&logits)[7] + 1.0).abs() < 1e-15);
    }

    #[test]
    fn stats_of_a_uniform_row() {
        let stats = row_stats(&[2.0; 8], Some(3), &[6, 1]);
        assert_close("lse, entropy", &[stats.lse, stats.entropy], &[2.0 + 8f64.ln(), 8f64.ln()], 1e-14);
        assert_close("target", &[stats.target_log_prob.unwrap()], &[-(8f64.ln())], 1e-14);
        assert_close("scores", &[stats.score_probs[0], stats.score_probs[1], stats.mass], &[0.125, 0.125, 0.25], 1e-15);
    }
}
