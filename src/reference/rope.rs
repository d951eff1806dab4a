//! Rotary position embedding (Su et al. 2021), in the half-split layout of Hugging Face: channel i of a head turns with
//! channel i + d/2 by the angle position · f_i, where f_i is the inverse frequency.
//!
//! ```text
//! f_i = θ^(-2i/d),  i = 0 .. d/2
//! y1 = x1 cos - x2 sin          dx1 =  dy1 cos + dy2 sin
//! y2 = x2 cos + x1 sin          dx2 = -dy1 sin + dy2 cos
//! ```
//!
//! A rotation's transpose is its inverse, so the backward turns the other way and needs no activation. The dot product of
//! a rotated q and a rotated k depends on the difference of their positions only: that is the point of it.

use std::f64::consts::TAU;

/// θ^(-2i/d) for i in 0..d/2: `[head_dim / 2]`.
pub fn default_inv_freq(head_dim: usize, theta: f64) -> Vec<f64> {
    (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64)).collect()
}

/// Llama 3's stretching of RoPE to longer contexts (`rope_type: llama3` of transformers).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_max_position_embeddings: f64,
}

impl Llama3Scaling {
    /// Slow frequencies (fewer than `low_freq_factor` turns over the original context) are divided by `factor`, fast ones
    /// (more than `high_freq_factor` turns) stay, and those between are interpolated linearly in their number of turns.
    pub fn apply(&self, inv_freq: &[f64]) -> Vec<f64> {
        let scale = |&f: &f64| {
            let turns = self.original_max_position_embeddings * f / TAU;
            if turns < self.low_freq_factor {
                f / self.factor
            } else if turns > self.high_freq_factor {
                f
            } else {
                let kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
                (1.0 - kept) * f / self.factor + kept * f
            }
        };
        inv_freq.iter().map(scale).collect()
    }
}

/// cos and sin of position · f_i, both `[T, head_dim / 2]` and multiplied by `scale` (the attention factor, normally 1).
#[derive(Clone, Debug)]
pub struct Tables {
    pub cos: Vec<f64>,
    pub sin: Vec<f64>,
    half: usize,
}

impl Tables {
    pub fn new(inv_freq: &[f64], positions: &[u32], scale: f64) -> Self {
        let angles = positions.iter().flat_map(|&p| inv_freq.iter().map(move |f| f64::from(p) * f));
        let (sin, cos) = angles.map(|a| (scale * a.sin(), scale * a.cos())).unzip();
        Tables { cos, sin, half: inv_freq.len() }
    }

    /// The rotated heads: x `[T, heads · head_dim]`, any number of heads.
    pub fn rotate(&self, x: &[f64]) -> Vec<f64> {
        self.turn(x, 1.0)
    }

    /// dx of [`Tables::rotate`], from dy of the same shape: the rotation backwards.
    pub fn rotate_backward(&self, dy: &[f64]) -> Vec<f64> {
        self.turn(dy, -1.0)
    }

    fn turn(&self, x: &[f64], direction: f64) -> Vec<f64> {
        let half = self.half;
        let tokens = self.cos.len() / half;
        assert!(x.len().is_multiple_of(tokens.max(1) * 2 * half), "{} entries are not heads of {tokens} tokens", x.len());
        let width = x.len() / tokens.max(1);
        let mut y = x.to_vec();
        for (head_index, head) in y.chunks_exact_mut(2 * half).enumerate() {
            let token = head_index * 2 * half / width;
            for i in 0..half {
                let (cos, sin) = (self.cos[token * half + i], direction * self.sin[token * half + i]);
                let (x1, x2) = (head[i], head[half + i]);
                head[i] = x1 * cos - x2 * sin;
                head[half + i] = x2 * cos + x1 * sin;
            }
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::{assert_close, assert_gradient, random};
    use crate::reference::matmul::dot;

    #[test]
    fn gradients_match_finite_differences() {
        for (positions, heads, head_dim) in [(vec![0], 1, 2), (vec![5], 7, 6), (vec![0, 1, 2, 0, 9], 3, 10)] {
            let tables = Tables::new(&default_inv_freq(head_dim, 1e4), &positions, 1.25);
            let n = positions.len() * heads * head_dim;
            let (x, dy) = (random(n, 1), random(n, 2));
            assert_gradient("dx", &x, &tables.rotate_backward(&dy), |x| dot(&dy, &tables.rotate(x)));
        }
    }

    #[test]
    fn dot_products_see_only_the_distance() {
        let (q, k) = (random(8, 1), random(8, 2));
        let turned = |x: &[f64], p: u32| Tables::new(&default_inv_freq(8, 1e4), &[p], 1.0).rotate(x);
        let near = dot(&turned(&q, 7), &turned(&k, 3));
        let far = dot(&turned(&q, 1007), &turned(&k, 1003));
        assert!((near - far).abs() < 1e-11, "{near} {far}");
    }

    #[test]
    fn a_quarter_turn() {
        let tables = Tables::new(&[TAU / 4.0], &[1], 1.0);
        assert_close("y", &tables.rotate(&[1.0, 2.0]), &[-2.0, 1.0], 1e-15);
    }

    /// The three bands of llama3 scaling, with the values of Llama 3.1 (original context 8192, factor 8).
    #[test]
    fn llama3_bands() {
        let scaling =
            Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 8192.0 };
        let turns = |n: f64| n * TAU / 8192.0;
        let found = scaling.apply(&[turns(100.0), turns(2.5), turns(0.5)]);
        assert_close("scaled", &found, &[turns(100.0), turns(2.5) * (0.5 + 0.5 / 8.0), turns(0.5) / 8.0], 1e-15);
    }
}
