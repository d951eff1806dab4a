//! The global gradient norm, and clipping by it, as `torch.nn.utils.clip_grad_norm_` computes them.
//!
//! ```text
//! norm = √(Σ g²) over all entries of all tensors          g ← g · min(1, max_norm / (norm + 1e-6))
//! ```

use super::matmul::dot;

/// √(Σ g²) over all tensors together.
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = &'a [f64]>) -> f64 {
    gradients.into_iter().map(|g| dot(g, g)).sum::<f64>().sqrt()
}

/// What every gradient is multiplied by: min(1, max_norm / (norm + 1e-6)).
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::assert_close;

    #[test]
    fn clipping_only_shrinks() {
        let norm = global_norm([&[3.0][..], &[0.0, 4.0]]);
        assert_eq!(norm, 5.0);
        assert_eq!(clip_coefficient(norm, 10.0), 1.0);
        assert_close("coefficient", &[clip_coefficient(norm, 1.0)], &[1.0 / 5.000001], 1e-15);
    }
}
