//! The log-probability of each token of an answer, with the likeliest tokens in its place.

use super::{Judge, Result};
use crate::model::decoder::PackedInputs;
use crate::ops::loss_head::TokenLoss;

/// Most logits of one pass, in entries: 32 MiB. Answers with more are passed several times.
const MOST_LOGITS: usize = 8 << 20;

/// A token, and its log-probability under the softmax over the vocabulary at temperature 1, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alternative {
    pub token: u32,
    pub log_p: f64,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogProb {
    pub chosen: Alternative,
    /// The likeliest tokens there, in descending order.
    pub top: Vec<Alternative>,
}

impl Judge {
    /// The log-probabilities of the tokens of `answer` after `prompt`, each with the `top` likeliest tokens. It costs a pass over
    /// both.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn token_log_probs(&self, prompt: &[u32], answer: &[u32], top: usize) -> Result<Vec<TokenLogProb>> {
        if prompt.is_empty() || answer.is_empty() {
            return Ok(Vec::new());
        }
        let vocabulary = self.weights.config.vocab_size;
        let at_once = (MOST_LOGITS / vocabulary).clamp(1, answer.len().max(1));
        let ids = [prompt, &answer[..answer.len() - 1]].concat();
        let mut plans = self.take_plans();
        let pass = plans.logits(&self.gpu, &self.weights, (ids.len(), at_once))?;
        let mut found = Vec::with_capacity(answer.len());
        for start in (0..answer.len()).step_by(at_once) {
            let end = (start + at_once).min(answer.len());
            let mut batch = PackedInputs::default();
            let first = batch.push(&ids) as usize;
            (start..end).for_each(|n| batch.push_loss((first + prompt.len() - 1 + n) as u32, TokenLoss::default()));
            let logits = pass.run(&batch).await?;
            found.extend(logits.chunks(vocabulary).zip(&answer[start..end]).map(|(row, token)| log_prob(row, *token, top)));
        }
        self.put_plans(plans);
        Ok(found)
    }
}

/// The log-probability of `token`, and the `top` largest of all.
fn log_prob(logits: &[f32], token: u32, top: usize) -> TokenLogProb {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|z| f64::from(z - largest).exp()).sum();
    let of = |token: u32| Alternative { token, log_p: f64::from(logits[token as usize] - largest) - sum.ln() };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let descending = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if top < order.len() {
        order.select_nth_unstable_by(top, descending);
        order.truncate(top);
    }
    order.sort_by(descending);
    TokenLogProb { chosen: of(token), top: order.into_iter().map(of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_tokens_come_first() {
        let found = log_prob(&[1.0, 3.0, 2.0, 3.0], 2, 3);
        let sum = (1f64.exp() + 2.0 * 3f64.exp() + 2f64.exp()).ln();
        assert_eq!(found.top.iter().map(|t| t.token).collect::<Vec<_>>(), [1, 3, 2]);
        assert!((found.chosen.log_p - (2.0 - sum)).abs() < 1e-12 && (found.top[0].log_p - (3.0 - sum)).abs() < 1e-12);
        assert_eq!((log_prob(&[0.0, 0.0], 0, 0).top.len(), log_prob(&[0.0, 0.0], 0, 20).top.len()), (0, 2));
    }
}
