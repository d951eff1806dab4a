//! Matrix products: three layouts, four epilogues, tails in every direction.

use jurist::gpu::{Size, Tuning};
use jurist::ops::matmul::{self, Epilogue, Layout, Product};
use jurist::reference::matmul as spec;

use crate::common::*;

/// T, N (outputs), K (inputs): tails of the 8 x 8 tile, of vec4, both and none; one row, one column, one element.
const SHAPES: [[usize; 3]; 10] = [
    [16, 16, 16],
    [13, 12, 20],
    [13, 10, 7],
    [1, 36, 8],
    [1, 1, 1],
    [9, 1, 64],
    [70, 97, 33],
    [3, 4, 4],
    [65, 24, 12],
    [8, 61, 96],
];

fn sizes([t, n, k]: [usize; 3]) -> [Size; 3] {
    [t, n, k].map(|x| Size::fixed(x as u32))
}

#[test]
fn forward() {
    for tuning in tunings() {
        for shape @ [t, n, k] in SHAPES {
            let (x, w, bias, residual) = (random(t * k, 1), random(n * k, 2), random(n, 3), random(t * n, 4));
            let mut rig = Rig::new(&tuning);
            let (gx, gw) = (rig.floats("x", &x), rig.floats("w", &w));
            let (gb, gr) = (rig.floats("bias", &bias), rig.floats("residual", &residual));
            let [plain, biased, added] = ["plain", "biased", "added"].map(|name| rig.output(name, t * n));
            let more = rig.floats("more", &residual);
            matmul::forward(&mut rig.plan, gx, gw, plain, sizes(shape), Epilogue::Write);
            matmul::forward(&mut rig.plan, gx, gw, biased, sizes(shape), Epilogue::Bias(gb));
            matmul::forward(&mut rig.plan, gx, gw, added, sizes(shape), Epilogue::Residual(gr));
            matmul::forward(&mut rig.plan, gx, gw, more, sizes(shape), Epilogue::Accumulate);
            let ran = rig.run();
            let y = spec::linear(&x, &w, None, k);
            close(&format!("matmul forward {shape:?}"), &ran.floats(plain), &y, FORWARD);
            close("matmul forward bias", &ran.floats(biased), &spec::linear(&x, &w, Some(&bias), k), FORWARD);
            close("matmul forward residual", &ran.floats(added), &sum(&y, &residual), FORWARD);
            close("matmul forward accumulate", &ran.floats(more), &sum(&y, &residual), FORWARD);
        }
    }
}

#[test]
fn backward() {
    for tuning in tunings() {
        for shape @ [t, n, k] in SHAPES {
            let (x, w, dy) = (random(t * k, 1), random(n * k, 2), random(t * n, 3));
            let (start_x, start_w, start_b) = (random(t * k, 4), random(n * k, 5), random(n, 6));
            let mut rig = Rig::new(&tuning);
            let (gx, gw, gdy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &dy));
            let dx = rig.output("dx", t * k);
            let dx_more = rig.floats("dx more", &start_x);
            let dw = rig.floats("dw", &start_w);
            let db = rig.floats("db", &start_b);
            let ones = rig.floats("ones", &vec![1.0; t]);
            matmul::backward_input(&mut rig.plan, gdy, gw, dx, sizes(shape), Epilogue::Write);
            matmul::backward_input(&mut rig.plan, gdy, gw, dx_more, sizes(shape), Epilogue::Accumulate);
            matmul::backward_weight(&mut rig.plan, gdy, gx, dw, sizes(shape));
            matmul::backward_bias(&mut rig.plan, gdy, ones, db, Size::fixed(t as u32), Size::fixed(n as u32));
            let ran = rig.run();
            let expected = spec::linear_dx(&dy, &w, k);
            close(&format!("matmul dx {shape:?}"), &ran.floats(dx), &expected, BACKWARD);
            close("matmul dx accumulate", &ran.floats(dx_more), &sum(&expected, &start_x), BACKWARD);
            close("matmul dw", &ran.floats(dw), &sum(&spec::linear_dw(&dy, &x, k, n), &start_w), BACKWARD);
            close("matmul db", &ran.floats(db), &sum(&spec::linear_db(&dy, n), &start_b), BACKWARD);
        }
    }
}

/// A plan for many tokens that runs on few, or none: rows past the live ones keep what they held.
#[test]
fn fewer_tokens_than_planned() {
    let (planned, n, k) = (21, 12, 8);
    for tuning in tunings() {
        for t in [0, 1, 8, 13, 21] {
            let (x, w, dy) = (random(planned * k, 1), random(n * k, 2), random(planned * n, 3));
            let mut rig = Rig::new(&tuning);
            let tokens = Size::live(rig.live(t as u32), planned as u32);
            let (gx, gw, gdy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &dy));
            let (y, dx, dw) = (rig.output("y", planned * n), rig.output("dx", planned * k), rig.floats("dw", &vec![1.0; n * k]));
            let [n_, k_] = [n, k].map(|x| Size::fixed(x as u32));
            matmul::forward(&mut rig.plan, gx, gw, y, [tokens, n_, k_], Epilogue::Write);
            matmul::backward_input(&mut rig.plan, gdy, gw, dx, [tokens, n_, k_], Epilogue::Write);
            matmul::backward_weight(&mut rig.plan, gdy, gx, dw, [tokens, n_, k_]);
            let ran = rig.run();
            let untouched = |live: Vec<f64>, width: usize| [live, vec![UNTOUCHED; (planned - t) * width]].concat();
            let (x, dy) = (&x[..t * k], &dy[..t * n]);
            close("matmul live y", &ran.floats(y), &untouched(spec::linear(x, &w, None, k), n), FORWARD);
            close("matmul live dx", &ran.floats(dx), &untouched(spec::linear_dx(dy, &w, k), k), BACKWARD);
            let expected = sum(&spec::linear_dw(dy, x, k, n), &vec![1.0; n * k]);
            close("matmul live dw", &ran.floats(dw), &expected, BACKWARD);
        }
    }
}

/// Chunks of longer matrices: rows of A, B and C start somewhere inside.
#[test]
fn starts() {
    let check = |tuning: &Tuning, layout: Layout, [m, n, k]: [usize; 3]| {
        let starts = [3, if layout == Layout::Tn { 5 } else { 0 }, 2];
        let a_shape = if layout == Layout::Tn { [k, m] } else { [m, k] };
        let b_shape = if layout == Layout::Nt { [n, k] } else { [k, n] };
        let (a, b) = (random((a_shape[0] + 3) * a_shape[1], 1), random((b_shape[0] + starts[1]) * b_shape[1], 2));
        let c = random((m + 4) * n, 3);
        let mut rig = Rig::new(tuning);
        let (ga, gb, gc) = (rig.floats("a", &a), rig.floats("b", &b), rig.floats("c", &c));
        let [ms, ns, ks] = [m, n, k].map(|x| Size::fixed(x as u32));
        let starts_words = starts.map(|x| x as u32);
        let epilogue = Epilogue::Accumulate;
        let p = Product { layout, a: ga, b: gb, c: gc, m: ms, n: ns, k: ks, starts: starts_words, epilogue };
        matmul::product(&mut rig.plan, p);
        let (a, b) = (&a[3 * a_shape[1]..], &b[starts[1] * b_shape[1]..]);
        let product = match layout {
            Layout::Nt => spec::linear(a, b, None, k),
            Layout::Nn => spec::linear_dx(a, b, n),
            Layout::Tn => spec::linear_dw(a, b, n, m),
        };
        let mut expected = c.clone();
        spec::add_scaled(&mut expected[2 * n..(2 + m) * n], 1.0, &product);
        close(&format!("matmul starts {layout:?} {m}x{n}x{k}"), &rig.run().floats(gc), &expected, FORWARD);
    };
    for tuning in tunings() {
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            check(&tuning, layout, [11, 6, 5]);
            check(&tuning, layout, [12, 20, 8]);
        }
    }
}
