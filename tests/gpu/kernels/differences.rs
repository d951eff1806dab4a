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
    rig: Rig,
    /// Input, its values, its gradient (which must start at 0).
    inputs: Vec<(Tensor, Vec<f64>, Tensor)>,
    output: Tensor,
    weights: Vec<f64>,
}

impl Graph {
    fn check(self) {
        let Graph { name, rig, inputs, output, weights } = self;
        let ran = rig.run();
        let gradients: Vec<Vec<f64>> = inputs.iter().map(|(_, _, g)| ran.floats(*g)).collect();
        for (i, ((tensor, values, _), gradient)) in inputs.iter().zip(&gradients).enumerate() {
            for seed in 0..3 {
                let direction = random(values.len(), 900 + seed);
                let loss = |step: f64| {
                    let moved: Vec<f64> = values.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                    ran.write(*tensor, &moved);
                    ran.again();
                    dot(&weights, &ran.floats(output))
                };
                let found = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                ran.write(*tensor, values);
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
        let mut rig = Rig::new(&tuning);
        let (x, w, weights) = (random(t * k, 1), random(n * k, 2), random(t * n, 3));
        let (gx, gw, dy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &weights));
        let (y, dx, dw) = (rig.output("y", t * n), rig.output("dx", t * k), rig.output("dw", n * k));
        let sizes = [t, n, k].map(fixed);
        let matrix = Matrix::full(gw, n as u32);
        matmul::forward(&mut rig.plan, gx, &matrix, y, sizes, Epilogue::Write);
        matmul::backward_input(&mut rig.plan, dy, &matrix, dx, sizes, Epilogue::Write);
        rig.plan.clear(dw);
        matmul::backward_weight(&mut rig.plan, dy, gx, &[FullChunk { rows: n as u32, tensor: dw }], sizes);
        Graph { name: "matmul", rig, inputs: vec![(gx, x, dx), (gw, w, dw)], output: y, weights }.check();
    }
}

#[test]
fn norm() {
    for tuning in tunings() {
        let norm = Norm { heads: 5, q_heads: 2, normed: 4, offset: 1.0, ..Norm::plain(10, 1e-5) };
        let rows = 7 * 5;
        let mut rig = Rig::new(&tuning);
        let (x, w, weights) = (random(rows * 10, 1), around_one(20, 2), random(rows * 10, 3));
        let (gx, gw, dy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &weights));
        let (y, dx, dw) = (rig.output("y", rows * 10), rig.output("dx", rows * 10), rig.output("dw", 20));
        rmsnorm::forward(&mut rig.plan, norm, gx, gw, y, fixed(rows));
        rig.plan.clear(dw);
        let back = rmsnorm::Backward { x: gx, w: gw, dy, dx, dw: Some(dw), accumulate: false };
        rmsnorm::backward(&mut rig.plan, norm, back, fixed(rows));
        Graph { name: "rmsnorm", rig, inputs: vec![(gx, x, dx), (gw, w, dw)], output: y, weights }.check();
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
        let mut rig = Rig::new(&software());
        let (x, weights) = (random(tokens * fused_width, 1), random(tokens * width, 2));
        let (qkv, dout) = (rig.floats("qkv", &x), rig.floats("dout", &weights));
        let spans = rig.words("spans", batch.spans.as_flattened());
        let (out, stats) = (rig.output("out", tokens * width), rig.output("stats", tokens * 12));
        let dqkv = rig.output("dqkv", tokens * fused_width);
        attention::forward(&mut rig.plan, &h, qkv, spans, out, stats, fixed(tokens));
        let back = attention::Backward { qkv, spans, out, stats, dout, dqkv };
        attention::backward(&mut rig.plan, &h, back, fixed(tokens));
        Graph { name: "attention", rig, inputs: vec![(qkv, x, dqkv)], output: out, weights }.check();
    }
}

/// Rope works in place: its input and the incoming gradient are copied first, by a gather of all rows.
#[test]
fn rotation() {
    let (tokens, width) = (5, 4 * 6);
    let mut rig = Rig::new(&software());
    let (x, weights) = (random(tokens * width, 1), random(tokens * width, 2));
    let (gx, dy) = (rig.floats("x", &x), rig.floats("dy", &weights));
    let table: Vec<f64> = rope::table(&default_inv_freq(6, 100.0), 1.0, 40).into_iter().map(f64::from).collect();
    let (table, positions) = (rig.floats("table", &table), rig.words("positions", &[0, 1, 39, 7, 3]));
    let all = rig.words("rows", &[0, 1, 2, 3, 4]);
    let (y, dx) = (rig.output("y", tokens * width), rig.output("dx", tokens * width));
    let mut r = Rotation { heads: 4, rotated: 3, head_dim: 6, backward: false };
    rows::gather(&mut rig.plan, all, gx, y, fixed(tokens), width as u32);
    rope::rotate(&mut rig.plan, r, y, table, (positions, Positions::Plain), fixed(tokens));
    r.backward = true;
    rows::gather(&mut rig.plan, all, dy, dx, fixed(tokens), width as u32);
    rope::rotate(&mut rig.plan, r, dx, table, (positions, Positions::Plain), fixed(tokens));
    Graph { name: "rope", rig, inputs: vec![(gx, x, dx)], output: y, weights }.check();
}

#[test]
fn gated_activation() {
    let (tokens, width) = (6, 7);
    let mut rig = Rig::new(&software());
    let (x, weights) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
    let (gx, dy) = (rig.floats("gate_up", &x), rig.floats("dy", &weights));
    let (y, dx) = (rig.output("y", tokens * width), rig.output("dx", tokens * 2 * width));
    swiglu::forward(&mut rig.plan, gx, y, fixed(tokens), Gated::silu(width));
    swiglu::backward(&mut rig.plan, gx, dy, dx, fixed(tokens), Gated::silu(width));
    Graph { name: "swiglu", rig, inputs: vec![(gx, x, dx)], output: y, weights }.check();
}

/// Embedding, then the gather of rows, and both backward passes.
#[test]
fn embedding_and_rows() {
    let (ids, picked, width) = ([3u32, 0, 3, 10, 5, 3], [5u32, 2, 3], 5);
    let mut row_of = [rows::NO_ROW; 6];
    picked.iter().enumerate().for_each(|(r, t)| row_of[*t as usize] = r as u32);
    let sorted = embedding::buckets(&ids);
    let mut rig = Rig::new(&software());
    let (table, weights) = (random(11 * width, 1), random(3 * width, 2));
    let (gtable, dy) = (rig.floats("table", &table), rig.floats("dy", &weights));
    let (gids, gpicked, grow_of) = (rig.words("ids", &ids), rig.words("rows", &picked), rig.words("row_of", &row_of));
    let (buckets, order) = (rig.words("buckets", sorted.buckets.as_flattened()), rig.words("order", &sorted.tokens));
    let [x, y, dx, dtable] = [6, 3, 6, 11].map(|n| rig.output("tensor", n * width));
    embedding::forward(
        &mut rig.plan,
        gids,
        &Matrix::full(gtable, 11),
        x,
        fixed(6),
        Embedding { width: width as u32, scale: 2.5 },
    );
    rows::gather(&mut rig.plan, gpicked, x, y, fixed(3), width as u32);
    rows::scatter(&mut rig.plan, grow_of, dy, dx, fixed(6), width as u32);
    rig.plan.clear(dtable);
    let chunk = FullChunk { rows: 11, tensor: dtable };
    embedding::backward(
        &mut rig.plan,
        (buckets, order),
        dx,
        &[chunk],
        fixed(sorted.buckets.len()),
        Embedding { width: width as u32, scale: 2.5 },
    );
    Graph { name: "embedding and rows", rig, inputs: vec![(gtable, table, dtable)], output: y, weights }.check();
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
        let mut rig = Rig::new(&tuning);
        let live: RunParam = rig.live(3);
        let (ghidden, gtable) = (rig.floats("hidden", &hidden), rig.floats("table", &table));
        let grows = rig.words("rows", bytemuck::cast_slice(&rows));
        let (tokens, values) = (rig.words("tokens", &scores), rig.floats("coefficients", coefficients.as_flattened()));
        let (stats, dhidden, dtable) =
            (rig.output("stats", 18), rig.output("dhidden", 3 * width), rig.output("dtable", vocab * width));
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
        rig.plan.clear(dtable);
        let chunks = Some(vec![FullChunk { rows: vocab as u32, tensor: dtable }]);
        loss_head::record(&mut rig.plan, head, Some(LossGradient { coefficients: values, dhidden, dtable: chunks }));
        let ran = rig.run();
        let loss = |stats: Vec<f64>| -> f64 {
            let of = |(row, s): (&TokenLoss, &[f64])| {
                let c = coefficients.get(row.scores as usize).copied().unwrap_or_default();
                let scores: f64 = c.iter().zip(&s[3..6]).map(|(c, log_p)| -c * log_p).sum();
                -f64::from(row.weight) * s[1] + f64::from(row.entropy_weight) * s[2] + scores
            };
            rows.iter().zip(stats.chunks(6)).map(of).sum()
        };
        for (name, tensor, values, gradient) in
            [("hidden", ghidden, &hidden, ran.floats(dhidden)), ("table", gtable, &table, ran.floats(dtable))]
        {
            for seed in 0..3 {
                let direction = random(values.len(), 40 + seed);
                let at = |step: f64| {
                    ran.write(tensor, &values.iter().zip(&direction).map(|(x, d)| x + step * d).collect::<Vec<f64>>());
                    ran.again();
                    loss(ran.floats(stats))
                };
                let found = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                ran.write(tensor, values);
                let expected = dot(&gradient, &direction);
                let scale = dot(&gradient, &gradient).sqrt() * dot(&direction, &direction).sqrt();
                let off = (found - expected).abs() / scale;
                println!("DIFFERENCE {off:.1e} of {TOLERANCE:.0e} loss head, {name}");
                assert!(off < TOLERANCE, "loss head, {name}: {expected} by formula, {found} by differences");
            }
        }
    }
}
