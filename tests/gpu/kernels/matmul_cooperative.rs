//! What the products of `matmul_cooperative.wgsl` keep of f32 although their units multiply f16.

use jurist::gpu::{Extent, Tuning, Variant};
use jurist::ops::matmul::{self, Epilogue, Layout, Product};
use jurist::reference::matmul as reference;

use crate::common::*;

const SHAPE: [usize; 3] = [70, 68, 100];

/// The kernels for matrix units, or none with the reason printed.
fn units() -> Option<Tuning> {
    if !gpu().runs(Variant::MatmulCooperative) {
        skip(format!("{} has no matrix units (newer lavapipe has)", gpu().facts()));
        return None;
    }
    Some(gpu().tuning().only(Variant::MatmulCooperative))
}

/// `A[M, K] · B[N, K]ᵀ` as the kernel has it.
fn product(tuning: &Tuning, a: &[f64], b: &[f64]) -> Vec<f64> {
    let [m, n, k] = SHAPE;
    let mut test = TestPlan::new(tuning);
    let tensors = [test.floats("a", a), test.floats("b", b), test.output("c", m * n)];
    let sizes = [m, n, k].map(|x| Extent::fixed(x as u32));
    matmul::record_product(&mut test.plan, Product::whole(Layout::Nt, tensors, sizes, Epilogue::Write));
    test.run().floats(tensors[2])
}

/// The largest deviation, by the largest entry.
fn deviation(found: &[f64], a: &[f64], b: &[f64]) -> f64 {
    let expected = reference::linear(a, b, None, SHAPE[2]);
    let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max) / largest
}

fn scaled(x: &[f64], by: impl Fn(usize) -> f64) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| f64::from((x * by(i)) as f32)).collect()
}

/// A single f16 would be off by 4e-4, and end at 65504 and 6e-8: gradients of large batches are smaller, and some
/// activations larger.
#[test]
fn f32_is_kept_at_any_magnitude() {
    let Some(tuning) = units() else { return };
    let [m, n, k] = SHAPE;
    let (a, b) = (random(m * k, 1), random(n * k, 2));
    for (left, right) in [(1.0, 1.0), (1e-12, 1.0), (1e-30, 1e25), (1e9, 1e9), (1e-20, 1e-10), (0.0, 1.0)] {
        let (a, b) = (scaled(&a, |_| left), scaled(&b, |_| right));
        let found = product(&tuning, &a, &b);
        if left == 0.0 {
            assert!(found.iter().all(|x| *x == 0.0));
            continue;
        }
        let off = deviation(&found, &a, &b);
        assert!(off < 1e-6, "{left:e} by {right:e}: off by {off:e}");
    }
}

/// Sums are rescaled when something larger comes along K, and hold when something smaller does.
#[test]
fn f32_is_kept_when_magnitudes_change_along_k() {
    let Some(tuning) = units() else { return };
    let [m, n, k] = SHAPE;
    let (a, b) = (random(m * k, 3), random(n * k, 4));
    for step in [0.25, -0.25, 0.35] {
        let (a, b) = (scaled(&a, |i| 10f64.powf(step * (i % k) as f64)), scaled(&b, |_| 1.0));
        let off = deviation(&product(&tuning, &a, &b), &a, &b);
        assert!(off < 1e-6, "10^{step} a place: off by {off:e}");
    }
}

/// What is no number stays none, in its row and in no other tile.
#[test]
fn what_is_no_number_shows() {
    let Some(tuning) = units() else { return };
    let [m, n, k] = SHAPE;
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (mut a, b) = (random(m * k, 5), random(n * k, 6));
        a[3 * k + 17] = bad;
        let found = product(&tuning, &a, &b);
        assert!(found[3 * n..4 * n].iter().all(|x| !x.is_finite()), "{bad} in A is not seen in C");
        assert!(found[64 * n..].iter().all(|x| x.is_finite()), "{bad} in A is seen in another tile of rows");
    }
}
