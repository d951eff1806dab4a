//! The gated activation of the MLP (Shazeer 2020): y = a(g) · u, where g and u are two linear maps of one input.
//!
//! ```text
//! dg = dy · u · a'(g)       du = dy · a(g)
//!
//! SwiGLU    σ(g) = 1 / (1 + e^-g)     a(g) = silu(g) = g σ(g)      a'(g) = σ(g) (1 + g (1 - σ(g)))
//! GeGLU     t(g) = tanh(√(2/π) (g + 0.044715 g³))                  (Hendrycks and Gimpel 2016)
//!           a(g) = g (1 + t(g)) / 2
//!           a'(g) = (1 + t(g)) / 2 + g (1 - t(g)²) √(2/π) (1 + 3 · 0.044715 g²) / 2
//! ```

/// The activation of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// GELU in its tanh form.
    Gelu,
}

/// The factor of g³ beside g.
const CUBIC: f64 = 0.044_715;

impl Activation {
    /// a(g) and a'(g).
    fn at(self, g: f64) -> (f64, f64) {
        match self {
            Activation::Silu => {
                let s = sigmoid(g);
                (g * s, s * (1.0 + g * (1.0 - s)))
            }
            Activation::Gelu => {
                let slope = std::f64::consts::FRAC_2_PI.sqrt();
                let t = (slope * (g + CUBIC * g.powi(3))).tanh();
                (0.5 * g * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * g * (1.0 - t * t) * slope * (1.0 + 3.0 * CUBIC * g * g))
            }
        }
    }
}

/// a(gate) · up, entry by entry; all of one shape.
pub fn gated(activation: Activation, gate: &[f64], up: &[f64]) -> Vec<f64> {
    assert_eq!(gate.len(), up.len(), "gated: gate and up have one shape");
    gate.iter().zip(up).map(|(g, u)| activation.at(*g).0 * u).collect()
}

/// (dgate, dup) of [`gated`].
pub fn gated_backward(activation: Activation, gate: &[f64], up: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    assert!(gate.len() == up.len() && up.len() == dy.len(), "gated_backward: gate, up and dy have one shape");
    let entry = |((g, u), dy): ((&f64, &f64), &f64)| {
        let (a, da) = activation.at(*g);
        (dy * u * da, dy * a)
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
        for (n, a) in [(1, Activation::Silu), (7, Activation::Gelu), (37, Activation::Silu), (37, Activation::Gelu)] {
            let (gate, up, dy) = (random(n, 1), random(n, 2), random(n, 3));
            let (dgate, dup) = gated_backward(a, &gate, &up, &dy);
            assert_gradient("dgate", &gate, &dgate, |g| dot(&dy, &gated(a, g, &up)));
            assert_gradient("dup", &up, &dup, |u| dot(&dy, &gated(a, &gate, u)));
        }
    }

    #[test]
    fn far_from_zero_it_is_a_switch() {
        for activation in [Activation::Silu, Activation::Gelu] {
            assert_eq!(gated(activation, &[-800.0, 800.0], &[3.0, 3.0]), [-0.0, 2400.0]);
            let (dgate, dup) = gated_backward(activation, &[-800.0, 800.0], &[3.0, 3.0], &[1.0, 1.0]);
            assert_eq!((dgate, dup), (vec![0.0, 3.0], vec![-0.0, 800.0]));
        }
    }

    /// The values of PyTorch's `gelu(x, approximate="tanh")` at 1 and -0.5.
    #[test]
    fn gelu_by_value() {
        let y = gated(Activation::Gelu, &[1.0, -0.5], &[1.0, 1.0]);
        assert!((y[0] - 0.841_191_990_608_276_8).abs() < 1e-12 && (y[1] + 0.154_285_990_174_856_06).abs() < 1e-12, "{y:?}");
    }
}
