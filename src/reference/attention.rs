//! Grouped-query causal attention over packed sequences.
//!
//! Sequences lie one after another in one row of T tokens. The *span* of a token, `[prefix_start, prefix_len, own_start,
//! query_end]`, says what it sees: token t attends to the keys
//!
//! ```text
//! S_t = [prefix_start, prefix_start + prefix_len) ∪ [own_start, t],   with position > position_t - window if there is one
//! ```
//!
//! Plain sequences have an empty prefix. A prompt shared by several chains of thought is stored once, and is the prefix of
//! each chain. (`query_end` is the same fact seen from a key, for kernels that own keys: key s is seen by no query at or
//! after `query_end`. These loops go by queries and do not need it.)
//!
//! Query head h reads key/value head h / (heads / kv_heads). With d = head_dim and per head:
//!
//! ```text
//! a_ts  = q_t·k_s / √d              lse_t = log Σ_{s ∈ S_t} exp a_ts
//! p_ts  = exp(a_ts - lse_t)         o_t   = Σ_s p_ts v_s
//!
//! D_t   = do_t·o_t                  da_ts = p_ts (do_t·v_s - D_t)          (softmax backward)
//! dv_s  = Σ_t p_ts do_t             dq_t  = Σ_s da_ts k_s / √d             dk_s = Σ_t da_ts q_t / √d
//! ```
//!
//! Keeping one lse a row is enough to recompute p in the backward (FlashAttention, Dao et al. 2022): memory stays linear in T.

use super::matmul::{add_scaled, dot};

/// `[prefix_start, prefix_len, own_start, query_end]` of one token; see the module.
pub type Span = [u32; 4];

/// The sizes of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// A token sees only keys whose position is greater than its own minus this.
    pub window: Option<usize>,
    /// Multiplies q·k. 1/√head_dim keeps its variance at 1 when q and k have unit variance.
    pub scale: f64,
}

/// Where the tokens of a packed batch stand, and what they see. Both `[T]`.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    pub positions: &'a [u32],
    pub spans: &'a [Span],
}

impl Layout<'_> {
    /// The keys that token `t` attends to, in order.
    pub fn visible(&self, t: usize, window: Option<usize>) -> Vec<usize> {
        let [prefix_start, prefix_len, own_start, _] = self.spans[t].map(|x| x as usize);
        let near = |&s: &usize| window.is_none_or(|w| self.positions[s] as usize + w > self.positions[t] as usize);
        (prefix_start..prefix_start + prefix_len).chain(own_start..t + 1).filter(near).collect()
    }
}

/// What the forward leaves behind: `out` `[T, heads · head_dim]`, `lse` `[T, heads]`.
#[derive(Clone, Debug)]
pub struct Attended {
    pub out: Vec<f64>,
    pub lse: Vec<f64>,
}

impl Heads {
    /// Heads whose q·k are divided by √head_dim.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Self {
        Heads { heads, kv_heads, head_dim, window, scale: 1.0 / (head_dim as f64).sqrt() }
    }

    /// Where head `h` of token `t` lies in q, out and their gradients.
    fn query(&self, t: usize, h: usize) -> std::ops::Range<usize> {
        let start = (t * self.heads + h) * self.head_dim;
        start..start + self.head_dim
    }

    /// Where the key and value that query head `h` reads lie, for token `s`.
    fn key(&self, s: usize, h: usize) -> std::ops::Range<usize> {
        let start = (s * self.kv_heads + h * self.kv_heads / self.heads) * self.head_dim;
        start..start + self.head_dim
    }

    /// q `[T, heads · head_dim]`, k and v `[T, kv_heads · head_dim]`; q and k are already rotated.
    pub fn forward(&self, layout: Layout, q: &[f64], k: &[f64], v: &[f64]) -> Attended {
        let mut out = vec![0.0; q.len()];
        let mut lse = Vec::with_capacity(layout.spans.len() * self.heads);
        for t in 0..layout.spans.len() {
            let keys = layout.visible(t, self.window);
            for h in 0..self.heads {
                let q_t = &q[self.query(t, h)];
                let a: Vec<f64> = keys.iter().map(|&s| dot(q_t, &k[self.key(s, h)]) * self.scale).collect();
                let lse_t = log_sum_exp(&a);
                for (&s, a) in keys.iter().zip(a) {
                    add_scaled(&mut out[self.query(t, h)], (a - lse_t).exp(), &v[self.key(s, h)]);
                }
                lse.push(lse_t);
            }
        }
        Attended { out, lse }
    }

    /// (dq, dk, dv) from dout `[T, heads · head_dim]`. All heads of a group add into their one key/value head.
    pub fn backward(
        &self,
        layout: Layout,
        (q, k, v): (&[f64], &[f64], &[f64]),
        attended: &Attended,
        dout: &[f64],
    ) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        for t in 0..layout.spans.len() {
            let keys = layout.visible(t, self.window);
            for h in 0..self.heads {
                let query = self.query(t, h);
                let (q_t, dout_t) = (&q[query.clone()], &dout[query.clone()]);
                let lse_t = attended.lse[t * self.heads + h];
                let d_t = dot(dout_t, &attended.out[query.clone()]);
                for &s in &keys {
                    let key = self.key(s, h);
                    let p = (dot(q_t, &k[key.clone()]) * self.scale - lse_t).exp();
                    let da = p * (dot(dout_t, &v[key.clone()]) - d_t);
                    add_scaled(&mut dq[query.clone()], da * self.scale, &k[key.clone()]);
                    add_scaled(&mut dk[key.clone()], da * self.scale, q_t);
                    add_scaled(&mut dv[key], p, dout_t);
                }
            }
        }
        (dq, dk, dv)
    }
}

/// log Σ exp a_i, with the largest term taken out so that nothing overflows.
pub fn log_sum_exp(a: &[f64]) -> f64 {
    let max = a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + a.iter().map(|a| (a - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::batch::Batch;
    use crate::reference::check::{assert_close, assert_gradient, random};

    fn heads(heads: usize, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Heads {
        Heads::new(heads, kv_heads, head_dim, window)
    }

    fn batches() -> Vec<Batch> {
        let mut mixed = Batch::packed(&[&[0; 3]]);
        mixed.push_group(&[0; 4], &[&[0; 2], &[0; 1], &[0; 3]]);
        mixed.push_sequence(&[0; 1]);
        vec![
            Batch::packed(&[&[0]]),
            Batch::packed(&[&[0; 5], &[0; 1], &[0; 2]]),
            Batch::shared_prefix(&[0; 3], &[&[0; 2]]),
            mixed,
        ]
    }

    #[test]
    fn gradients_match_finite_differences() {
        for batch in batches() {
            for sizes in [heads(1, 1, 3, None), heads(7, 1, 5, None), heads(4, 2, 3, Some(2)), heads(6, 3, 1, Some(4))] {
                let tokens = batch.ids.len();
                let q = random(tokens * sizes.heads * sizes.head_dim, 1);
                let k = random(tokens * sizes.kv_heads * sizes.head_dim, 2);
                let v = random(k.len(), 3);
                let dout = random(q.len(), 4);
                let attended = sizes.forward(batch.layout(), &q, &k, &v);
                let (dq, dk, dv) = sizes.backward(batch.layout(), (&q, &k, &v), &attended, &dout);
                let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&dout, &sizes.forward(batch.layout(), q, k, v).out);
                assert_gradient("dq", &q, &dq, |q| loss(q, &k, &v));
                assert_gradient("dk", &k, &dk, |k| loss(&q, k, &v));
                assert_gradient("dv", &v, &dv, |v| loss(&q, &k, v));
            }
        }
    }

    #[test]
    fn one_token_returns_its_value() {
        let (q, k, v) = (random(14, 1), random(2, 2), random(2, 3));
        let attended = heads(7, 1, 2, None).forward(Batch::packed(&[&[0]]).layout(), &q, &k, &v);
        for head in attended.out.chunks_exact(2) {
            assert_close("out", head, &v, 1e-15);
        }
    }

    /// A window of w keeps the token itself and the w - 1 positions before it, also across the border to a shared prefix.
    #[test]
    fn windows_go_by_position() {
        let batch = Batch::shared_prefix(&[0; 3], &[&[0; 2], &[0; 3]]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 3, 4, 5]);
        assert_eq!(batch.layout().visible(7, None), [0, 1, 2, 5, 6, 7]);
        assert_eq!(batch.layout().visible(7, Some(4)), [2, 5, 6, 7]);
        assert_eq!(batch.layout().visible(7, Some(1)), [7]);
        assert_eq!(batch.layout().visible(3, Some(3)), [1, 2, 3]);
    }

    /// `query_end` bounds the queries of a key, and not one more than needed: some query right before it does see the key.
    #[test]
    fn query_end_agrees_with_what_queries_see() {
        for batch in batches() {
            let seen: Vec<Vec<usize>> = (0..batch.ids.len()).map(|t| batch.layout().visible(t, None)).collect();
            for s in 0..batch.ids.len() {
                let end = batch.spans[s][3] as usize;
                let queries: Vec<usize> = (0..batch.ids.len()).filter(|&t| seen[t].contains(&s)).collect();
                assert_eq!(queries, (s..end).collect::<Vec<_>>(), "key {s}");
            }
        }
    }
}
