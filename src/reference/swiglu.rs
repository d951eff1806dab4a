//! The gated activation of the MLP (Shazeer 2020): y = silu(g) · u, where g and u are two linear maps of one input.
//!
//! ```text
//! σ(g) = 1 / (1 + e^-g)     silu(g) = g σ(g)     silu'(g) = σ(g) (1 + g (1 - σ(g)))
//! dg = dy · u · silu'(g)    du = dy · silu(g)
//! ```

/// silu(gate) · up, entry by entry; all of one shape.
pub fn swiglu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    assert_eq!(gate.len(), up.len(), "swiglu: gate and up have one shape");
    gate.iter().zip(up).map(|(g, u)| g * sigmoid(*g) * u).collect()
}

/// (dgate, dup) of [`swiglu`].
pub fn swiglu_backward(gate: &[f64], up: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    assert!(gate.len() == up.len() && up.len() == dy.len(), "swiglu_backward: gate, up and dy have one shape");
    let entry = |((g, u), dy): ((&f64, &f64), &f64)| {
        let s = sigmoid(*g);
        (dy * u * s * (1.0 + g * (1.0 - s)), dy * g * s)
    };
    gate.iter().zip(up).zip(dy).map(entry).unzip()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::{assert_gradient, random};
    use crate::reference::matmul::dot;

    #[test]
    fn gradients_match_finite_differences() {
        for n in [1, 7, 37] {
            let (gate, up, dy) = (random(n, 1), random(n, 2), random(n, 3));
            let (dgate, dup) = swiglu_backward(&gate, &up, &dy);
            assert_gradient("dgate", &gate, &dgate, |g| dot(&dy, &swiglu(g, &up)));
            assert_gradient("dup", &up, &dup, |u| dot(&dy, &swiglu(&gate, u)));
        }
    }

    #[test]
    fn far_from_zero_it_is_a_switch() {
        assert_eq!(swiglu(&[-800.0, 800.0], &[3.0, 3.0]), [-0.0, 2400.0]);
        let (dgate, dup) = swiglu_backward(&[-800.0, 800.0], &[3.0, 3.0], &[1.0, 1.0]);
        assert_eq!((dgate, dup), (vec![0.0, 3.0], vec![-0.0, 800.0]));
    }
}
