//! Linear layers: y = x Wᵀ + b with x `[T, inputs]`, W `[outputs, inputs]`, b `[outputs]`, y `[T, outputs]`.
//!
//! ```text
//! y_to = Σ_i x_ti W_oi + b_o
//! dx   = dy W           dx_ti = Σ_o dy_to W_oi
//! dW   = dyᵀ x          dW_oi = Σ_t dy_to x_ti
//! db   = Σ_t dy_t
//! ```
//!
//! These are the three matrix layouts of training; two thirds of its time is the backward pair.

/// Σ a_i b_i, in eight running sums so that the compiler may use vector registers.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "dot: both sides must have one length");
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// y += scale · x.
pub fn add_scaled(y: &mut [f64], scale: f64, x: &[f64]) {
    assert_eq!(y.len(), x.len(), "add_scaled: both sides must have one length");
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// y = x Wᵀ + b: `[T, outputs]` from x `[T, inputs]`, `weight` `[outputs, inputs]` and `bias` `[outputs]`.
pub fn linear(x: &[f64], weight: &[f64], bias: Option<&[f64]>, inputs: usize) -> Vec<f64> {
    let outputs = outputs_of(weight, inputs);
    let mut y = Vec::with_capacity(rows_of(x, inputs) * outputs);
    for row in x.chunks_exact(inputs) {
        y.extend(weight.chunks_exact(inputs).map(|w| dot(row, w)));
    }
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "linear: one bias an output");
        y.chunks_exact_mut(outputs).for_each(|row| add_scaled(row, 1.0, bias));
    }
    y
}

/// dx = dy W: `[T, inputs]` from dy `[T, outputs]` and `weight` `[outputs, inputs]`.
pub fn linear_dx(dy: &[f64], weight: &[f64], inputs: usize) -> Vec<f64> {
    let outputs = outputs_of(weight, inputs);
    let mut dx = vec![0.0; rows_of(dy, outputs) * inputs];
    for (dy_row, dx_row) in dy.chunks_exact(outputs).zip(dx.chunks_exact_mut(inputs)) {
        for (&g, w) in dy_row.iter().zip(weight.chunks_exact(inputs)) {
            add_scaled(dx_row, g, w);
        }
    }
    dx
}

/// dW = dyᵀ x: `[outputs, inputs]` from dy `[T, outputs]` and x `[T, inputs]`.
pub fn linear_dw(dy: &[f64], x: &[f64], inputs: usize, outputs: usize) -> Vec<f64> {
    assert_eq!(rows_of(dy, outputs), rows_of(x, inputs), "linear_dw: dy and x must have one row a token");
    let mut dw = vec![0.0; outputs * inputs];
    for (dy_row, x_row) in dy.chunks_exact(outputs).zip(x.chunks_exact(inputs)) {
        for (&g, dw_row) in dy_row.iter().zip(dw.chunks_exact_mut(inputs)) {
            add_scaled(dw_row, g, x_row);
        }
    }
    dw
}

/// db = Σ_t dy_t: `[outputs]` from dy `[T, outputs]`.
pub fn linear_db(dy: &[f64], outputs: usize) -> Vec<f64> {
    let mut db = vec![0.0; outputs];
    dy.chunks_exact(outputs).for_each(|row| add_scaled(&mut db, 1.0, row));
    db
}

fn rows_of(x: &[f64], width: usize) -> usize {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} entries are not rows of {width}", x.len());
    x.len() / width
}

fn outputs_of(weight: &[f64], inputs: usize) -> usize {
    let outputs = rows_of(weight, inputs);
    assert!(outputs > 0, "a linear layer needs at least one output");
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::{assert_gradient, random};

    #[test]
    fn small_product_by_hand() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let w = [1.0, 0.0, -1.0, 2.0, 1.0, 0.5];
        assert_eq!(linear(&x, &w, Some(&[10.0, 20.0]), 3), [8.0, 25.5, 8.0, 36.0]);
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 7, 3), (3, 13, 5), (2, 17, 11)] {
            let (x, w, b) = (random(rows * inputs, 1), random(outputs * inputs, 2), random(outputs, 3));
            let dy = random(rows * outputs, 4);
            let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&dy, &linear(x, w, Some(b), inputs));
            assert_gradient("dx", &x, &linear_dx(&dy, &w, inputs), |x| loss(x, &w, &b));
            assert_gradient("dw", &w, &linear_dw(&dy, &x, inputs, outputs), |w| loss(&x, w, &b));
            assert_gradient("db", &b, &linear_db(&dy, outputs), |b| loss(&x, &w, b));
        }
    }
}
