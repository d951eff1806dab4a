//! Tools of the tests: random inputs, and gradients by central finite differences.

use crate::random::Stream;

/// `n` standard normal numbers of stream `seed`.
pub fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut stream = Stream::new(seed, 0x5eed);
    (0..n).map(|_| stream.normal()).collect()
}

/// (f(x + h e_i) - f(x - h e_i)) / 2h. The error is about h² f'''/6 + 1e-16 |f| / h: both near 1e-10 here.
pub fn finite_difference(x: &[f64], i: usize, mut f: impl FnMut(&[f64]) -> f64) -> f64 {
    let h = 1e-5 * x[i].abs().max(1.0);
    let mut shifted = x.to_vec();
    shifted[i] = x[i] + h;
    let above = f(&shifted);
    shifted[i] = x[i] - h;
    (above - f(&shifted)) / (2.0 * h)
}

/// Asserts that `grad` is df/dx, every entry within 1e-6 of the tensor's largest.
pub fn assert_gradient(name: &str, x: &[f64], grad: &[f64], f: impl FnMut(&[f64]) -> f64) {
    let all: Vec<usize> = (0..x.len()).collect();
    assert_gradient_at(name, x, grad, &all, f);
}

/// [`assert_gradient`] on some entries only.
pub fn assert_gradient_at(name: &str, x: &[f64], grad: &[f64], entries: &[usize], mut f: impl FnMut(&[f64]) -> f64) {
    assert_eq!(x.len(), grad.len(), "{name}: a gradient has the shape of its tensor");
    let scale = grad.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
    for &i in entries {
        let expected = finite_difference(x, i, &mut f);
        assert!((grad[i] - expected).abs() <= 1e-6 * scale, "{name}[{i}]: {} by formula, {expected} by differences", grad[i]);
    }
}

/// Asserts that two slices agree within `tolerance`, absolute.
pub fn assert_close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}: lengths differ");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "{name}[{i}]: {a}, expected {b} within {tolerance}");
    }
}
