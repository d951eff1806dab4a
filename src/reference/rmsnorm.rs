//! RMSNorm (Zhang and Sennrich 2019): each row is divided by its root mean square, then scaled per channel.
//!
//! ```text
//! r  = 1 / √(mean_i x_i² + ε)       x̂ = r x       y = w · x̂
//! dw = Σ_rows dy · x̂
//! dx = r (g - x̂ · mean_i(g_i x̂_i))    with g = w · dy
//! ```
//!
//! The second term of dx is what the row's length takes away: a norm passes no gradient along x itself (up to ε).
//!
//! A row is as wide as `weight`. For the norms before attention, MLP and head that is the hidden width. Qwen3's per-head
//! q/k norm is the same function on the same memory: q `[T, heads · head_dim]` read as `[T · heads, head_dim]`, with one
//! weight `[head_dim]` shared by all heads.

use super::matmul::dot;

/// y = w · x / √(mean x² + ε), row by row: x `[rows, W]`, `weight` `[W]`, result `[rows, W]`.
pub fn rmsnorm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    check_rows(x, weight);
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let r = inverse_rms(row, eps);
        y.extend(row.iter().zip(weight).map(|(x, w)| w * x * r));
    }
    y
}

/// (dx, dw) of [`rmsnorm`]: dx `[rows, W]`, dw `[W]` summed over the rows.
pub fn rmsnorm_backward(x: &[f64], weight: &[f64], eps: f64, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    check_rows(x, weight);
    assert_eq!(x.len(), dy.len(), "rmsnorm_backward: dy has the shape of x");
    let width = weight.len();
    let mut dx = Vec::with_capacity(x.len());
    let mut dw = vec![0.0; width];
    for (row, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        let r = inverse_rms(row, eps);
        let g: Vec<f64> = weight.iter().zip(dy).map(|(w, dy)| w * dy).collect();
        let along = dot(&g, row) * r / width as f64;
        for i in 0..width {
            let x_hat = row[i] * r;
            dx.push(r * (g[i] - x_hat * along));
            dw[i] += dy[i] * x_hat;
        }
    }
    (dx, dw)
}

fn inverse_rms(row: &[f64], eps: f64) -> f64 {
    1.0 / (dot(row, row) / row.len() as f64 + eps).sqrt()
}

fn check_rows(x: &[f64], weight: &[f64]) {
    assert!(!weight.is_empty() && x.len().is_multiple_of(weight.len()), "{} entries are not rows of {}", x.len(), weight.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::{assert_close, assert_gradient, random};

    #[test]
    fn a_row_by_hand() {
        assert_close("y", &rmsnorm(&[3.0, 4.0], &[1.0, 2.0], 0.0), &[3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()], 1e-15);
    }

    /// Rows of 1, of odd width, and the per-head shape (tokens · heads rows of head_dim).
    #[test]
    fn gradients_match_finite_differences() {
        for (rows, width, eps) in [(1, 1, 0.1), (1, 13, 1e-6), (3, 7, 1e-5), (2 * 7, 6, 1e-6)] {
            let (x, w, dy) = (random(rows * width, 1), random(width, 2), random(rows * width, 3));
            let (dx, dw) = rmsnorm_backward(&x, &w, eps, &dy);
            assert_gradient("dx", &x, &dx, |x| dot(&dy, &rmsnorm(x, &w, eps)));
            assert_gradient("dw", &w, &dw, |w| dot(&dy, &rmsnorm(&x, w, eps)));
        }
    }

    #[test]
    fn no_gradient_along_the_row() {
        let (x, w, dy) = (random(9, 1), random(9, 2), random(9, 3));
        let (dx, _) = rmsnorm_backward(&x, &w, 0.0, &dy);
        assert!(dot(&dx, &x).abs() < 1e-12);
    }
}
