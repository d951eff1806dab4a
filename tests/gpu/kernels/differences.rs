//! The GPU's backward passes compared with central differences of the GPU's own forward passes.
//!
//! Each operation is in the middle of a graph: the loss is `Σ w · output` with random w, which is also the incoming gradient. The
//! loss is summed on the host in `f64`. The rounding of `f32` kernels, about 1e-7 of each output, is divided by the step.

use jurist::gpu::{Extent, RunParam, Tensor};
use jurist::ops::attention::{self, Heads};
use jurist::ops::embedding::{self, Embedding};
use jurist::ops::loss_head::{self, LossGradient, LossHead, TokenLoss};
use jurist::ops::matmul::{self, Epilogue};
use jurist::ops::matrix::{FullChunk, Matrix};
use jurist::ops::rmsnorm::{self, Norm};
use jurist::ops::rope::{self, Positions, Rotation};
use jurist::ops::rows;
use jurist::ops::swiglu::{self, Gated};
use jurist::reference::Batch;
use jurist::reference::rope::default_inv_freq;

use crate::common::*;

const STEP: f64 = 1e-2;
/// Relative to |gradient| · |direction|: a third-order term of STEP² and the rounding of `f32`.
const TOLERANCE: f64 = 2e-3;

/// A plan with its inputs, their gradients, one output, and the loss's weights of that output.
struct Graph {
    name: &'static str,
    test: TestPlan,
    /// Input, its values, its gradient (which must start at 0).
    inputs: Vec<(Tensor, Vec<f64>, Tensor)>,
    output: Tensor,
    weights: Vec<f64>,
}

impl Graph {
    fn check(self) {
        let Graph { name, test, inputs, output, weights } = self;
        let built = test.run();
        let gradients: Vec<Vec<f64>> = inputs.iter().map(|(_, _, g)| built.floats(*g)).collect();
        for (i, ((tensor, values, _), gradient)) in inputs.iter().zip(&gradients).enumerate() {
            for seed in 0..3 {
                let direction = random(values.len(), 900 + seed);
                let loss = |step: f64| {
                    let moved: Vec<f64> = values.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                    built.write(*tensor, &moved);
                    built.run_again();
                    dot(&weights, &built.floats(output))
                };
                let found = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                built.write(*tensor, values);
                let expected = dot(gradient, &direction);
                let scale = dot(gradient, gradient).sqrt() * dot(&direction, &direction).sqrt();
                let off = (found - expected).abs() / scale;
                println!("DIFFERENCE {off:.1e} of {TOLERANCE:.0e} {name}, input {i}");
                assert!(
                    off < TOLERANCE,
                    "{name}, input {i}: {expected} by formula, {found} by differences, {off:.1e} of {scale}"
                );
            }
        }
    }
}

fn fixed(n: usize) -> Extent {
    Extent::fixed(n as u32)
}

#[test]
fn matrix_product() {
    for tuning in tunings() {
        let [t, n, k] = [9, 7, 12];
        let mut test = TestPlan::new(&tuning);
        let (x, w, weights) = (random(t * k, 1), random(n * k, 2), random(t * n, 3));
        let (gx, gw, dy) = (test.floats("x", &x), test.floats("w", &w), test.floats("dy", &weights));
        let (y, dx, dw) = (test.output("y", t * n), test.output("dx", t * k), test.output("dw", n * k));
        let sizes = [t, n, k].map(fixed);
        let matrix = Matrix::full(gw, n as u32);
        matmul::record_forward(&mut test.plan, gx, &matrix, y, sizes, Epilogue::Write);
        matmul::record_backward_input(&mut test.plan, dy, &matrix, dx, sizes, Epilogue::Write);
        test.plan.clear(dw);
        matmul::record_backward_weight(&mut test.plan, dy, gx, &[FullChunk { rows: n as u32, tensor: dw }], sizes);
        Graph { name: "matmul", test, inputs: vec![(gx, x, dx), (gw, w, dw)], output: y, weights }.check();
    }
}

#[test]
fn norm() {
    for tuning in tunings() {
        let norm = Norm { heads: 5, q_heads: 2, normed: 4, offset: 1.0, ..Norm::plain(10, 1e-5) };
        let rows = 7 * 5;
        let mut test = TestPlan::new(&tuning);
        let (x, w, weights) = (random(rows * 10, 1), around_one(20, 2), random(rows * 10, 3));
        let (gx, gw, dy) = (test.floats("x", &x), test.floats("w", &w), test.floats("dy", &weights));
        let (y, dx, dw) = (test.output("y", rows * 10), test.output("dx", rows * 10), test.output("dw", 20));
        rmsnorm::record_forward(&mut test.plan, norm, gx, gw, y, fixed(rows));
        test.plan.clear(dw);
        let back = rmsnorm::Backward { x: gx, w: gw, dy, dx, dw: Some(dw), accumulate: false };
        rmsnorm::record_backward(&mut test.plan, norm, back, fixed(rows));
        Graph { name: "rmsnorm", test, inputs: vec![(gx, x, dx), (gw, w, dw)], output: y, weights }.check();
    }
}

#[test]
fn attention() {
    let mut batch = Batch::packed(&[&[0; 3]]);
    batch.push_group(&[0; 4], &[&[0; 2], &[0; 5]]);
    for window in [None, Some(3)] {
        let h = Heads::new(6, 2, 6, window);
        let (tokens, width) = (batch.tokens(), 36);
        let fused_width = (h.total() * h.head_dim) as usize;
        let mut test = TestPlan::new(&cpu_tuning());
        let (x, weights) = (random(tokens * fused_width, 1), random(tokens * width, 2));
        let (qkv, dout) = (test.floats("qkv", &x), test.floats("dout", &weights));
        let spans = test.words("spans", batch.spans.as_flattened());
        let (out, stats) = (test.output("out", tokens * width), test.output("stats", tokens * 12));
        let dqkv = test.output("dqkv", tokens * fused_width);
        attention::record_forward(&mut test.plan, &h, qkv, spans, out, stats, fixed(tokens));
        let back = attention::Backward { qkv, spans, out, stats, dout, dqkv };
        attention::record_backward(&mut test.plan, &h, back, fixed(tokens));
        Graph { name: "attention", test, inputs: vec![(qkv, x, dqkv)], output: out, weights }.check();
    }
}

/// Rope works in place: its input and the incoming gradient are copied first, by a gather of all rows.
#[test]
fn rotation() {
    let (tokens, width) = (5, 4 * 6);
    let mut test = TestPlan::new(&cpu_tuning());
    let (x, weights) = (random(tokens * width, 1), random(tokens * width, 2));
    let (gx, dy) = (test.floats("x", &x), test.floats("dy", &weights));
    let table: Vec<f64> = rope::table(&default_inv_freq(6, 100.0), 1.0, 40).into_iter().map(f64::from).collect();
    let (table, positions) = (test.floats("table", &table), test.words("positions", &[0, 1, 39, 7, 3]));
    let all = test.words("rows", &[0, 1, 2, 3, 4]);
    let (y, dx) = (test.output("y", tokens * width), test.output("dx", tokens * width));
    let mut r = Rotation { heads: 4, rotated: 3, head_dim: 6, backward: false };
    rows::record_gather(&mut test.plan, all, gx, y, fixed(tokens), width as u32);
    rope::record(&mut test.plan, r, y, table, (positions, Positions::Plain), fixed(tokens));
    r.backward = true;
    rows::record_gather(&mut test.plan, all, dy, dx, fixed(tokens), width as u32);
    rope::record(&mut test.plan, r, dx, table, (positions, Positions::Plain), fixed(tokens));
    Graph { name: "rope", test, inputs: vec![(gx, x, dx)], output: y, weights }.check();
}

#[test]
fn gated_activation() {
    let (tokens, width) = (6, 7);
    let mut test = TestPlan::new(&cpu_tuning());
    let (x, weights) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
    let (gx, dy) = (test.floats("gate_up", &x), test.floats("dy", &weights));
    let (y, dx) = (test.output("y", tokens * width), test.output("dx", tokens * 2 * width));
    swiglu::record_forward(&mut test.plan, gx, y, fixed(tokens), Gated::silu(width));
    swiglu::record_backward(&mut test.plan, gx, dy, dx, fixed(tokens), Gated::silu(width));
    Graph { name: "swiglu", test, inputs: vec![(gx, x, dx)], output: y, weights }.check();
}

/// Embedding, then the gather of rows, and both backward passes.
#[test]
fn embedding_and_rows() {
    let (ids, picked, width) = ([3u32, 0, 3, 10, 5, 3], [5u32, 2, 3], 5);
    let mut row_of = [rows::NO_ROW; 6];
    picked.iter().enumerate().for_each(|(r, t)| row_of[*t as usize] = r as u32);
    let sorted = embedding::buckets(&ids);
    let mut test = TestPlan::new(&cpu_tuning());
    let (table, weights) = (random(11 * width, 1), random(3 * width, 2));
    let (gtable, dy) = (test.floats("table", &table), test.floats("dy", &weights));
    let (gids, gpicked, grow_of) = (test.words("ids", &ids), test.words("rows", &picked), test.words("row_of", &row_of));
    let (buckets, order) = (test.words("buckets", sorted.buckets.as_flattened()), test.words("order", &sorted.tokens));
    let [x, y, dx, dtable] = [6, 3, 6, 11].map(|n| test.output("tensor", n * width));
    embedding::record_forward(
        &mut test.plan,
        gids,
        &Matrix::full(gtable, 11),
        x,
        fixed(6),
        Embedding { width: width as u32, scale: 2.5 },
    );
    rows::record_gather(&mut test.plan, gpicked, x, y, fixed(3), width as u32);
    rows::record_scatter(&mut test.plan, grow_of, dy, dx, fixed(6), width as u32);
    test.plan.clear(dtable);
    let chunk = FullChunk { rows: 11, tensor: dtable };
    embedding::record_backward(
        &mut test.plan,
        (buckets, order),
        dx,
        &[chunk],
        fixed(sorted.buckets.len()),
        Embedding { width: width as u32, scale: 2.5 },
    );
    Graph { name: "embedding and rows", test, inputs: vec![(gtable, table, dtable)], output: y, weights }.check();
}

/// The losses are functions of the statistics that the forward pass writes, so their sum is computed from those.
#[test]
fn losses() {
    for tuning in tunings() {
        let (vocab, width, scores) = (37usize, 6usize, [4u32, 30, 9]);
        let none = TokenLoss::default();
        let rows = [
            TokenLoss { entropy_weight: -0.3, ..TokenLoss::token(7, 0.6) },
            TokenLoss { scores: 1, ..TokenLoss::token(1, -1.2) },
            TokenLoss { entropy_weight: 0.4, scores: 0, ..none },
        ];
        let coefficients = [[0.3, -0.9, 0.2], [1.1, 0.0, 0.5]];
        let (hidden, table) = (random(3 * width, 1), random(vocab * width, 2).iter().map(|x| x * 0.4).collect::<Vec<f64>>());
        let mut test = TestPlan::new(&tuning);
        let live: RunParam = test.run_param(3);
        let (ghidden, gtable) = (test.floats("hidden", &hidden), test.floats("table", &table));
        let grows = test.words("rows", bytemuck::cast_slice(&rows));
        let (tokens, values) = (test.words("tokens", &scores), test.floats("coefficients", coefficients.as_flattened()));
        let (stats, dhidden, dtable) =
            (test.output("stats", 18), test.output("dhidden", 3 * width), test.output("dtable", vocab * width));
        let head = LossHead {
            hidden: ghidden,
            table: Matrix::full(gtable, vocab as u32),
            rows: grows,
            score_tokens: tokens,
            stats,
            count: Extent::dynamic(live, 3),
            width: width as u32,
            vocab: vocab as u32,
            scores: 3,
            chunk: 2,
        };
        test.plan.clear(dtable);
        let chunks = Some(vec![FullChunk { rows: vocab as u32, tensor: dtable }]);
        loss_head::record(&mut test.plan, head, Some(LossGradient { coefficients: values, dhidden, dtable: chunks }));
        let built = test.run();
        let loss = |stats: Vec<f64>| -> f64 {
            let of = |(row, s): (&TokenLoss, &[f64])| {
                let c = coefficients.get(row.scores as usize).copied().unwrap_or_default();
                let scores: f64 = c.iter().zip(&s[3..6]).map(|(c, log_p)| -c * log_p).sum();
                -f64::from(row.weight) * s[1] + f64::from(row.entropy_weight) * s[2] + scores
            };
            rows.iter().zip(stats.chunks(6)).map(of).sum()
        };
        for (name, tensor, values, gradient) in
            [("hidden", ghidden, &hidden, built.floats(dhidden)), ("table", gtable, &table, built.floats(dtable))]
        {
            for seed in 0..3 {
                let direction = random(values.len(), 40 + seed);
                let at = |step: f64| {
                    built.write(tensor, &values.iter().zip(&direction).map(|(x, d)| x + step * d).collect::<Vec<f64>>());
                    built.run_again();
                    loss(built.floats(stats))
                };
                let found = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                built.write(tensor, values);
                let expected = dot(&gradient, &direction);
                let scale = dot(&gradient, &gradient).sqrt() * dot(&direction, &direction).sqrt();
                let off = (found - expected).abs() / scale;
                println!("DIFFERENCE {off:.1e} of {TOLERANCE:.0e} loss head, {name}");
                assert!(off < TOLERANCE, "loss head, {name}: {expected} by formula, {found} by differences");
            }
        }
    }
}
