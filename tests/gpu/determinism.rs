//! The same plan on the same adapter gives the same bits: run again, after other work, and built anew.

use crate::common::*;
use jurist::gpu::{Extent, Tensor, Tuning};
use jurist::ops::attention::{self, Heads};
use jurist::ops::loss_head::{self, LossGradient, LossHead, TokenLoss};
use jurist::ops::matmul::{self, Epilogue};
use jurist::ops::matrix::{FullChunk, Matrix};
use jurist::ops::rmsnorm::{self, Norm};
use jurist::ops::{embedding, grad_norm};
use jurist::reference::Batch;

fn fixed(n: usize) -> Extent {
    Extent::fixed(n as u32)
}

/// `make` records a plan whose results do not depend on what they held before; all of them must be bit-equal.
fn repeats(make: impl Fn(&mut Rig) -> Vec<Tensor>) {
    let build = |tuning: &Tuning| {
        let mut rig = Rig::new(tuning);
        let outputs = make(&mut rig);
        (rig.run(), outputs)
    };
    for tuning in tunings() {
        let (first, outputs) = build(&tuning);
        let bits = |ran: &Ran| -> Vec<Vec<u32>> { outputs.iter().map(|t| ran.words(*t)).collect() };
        let expected = bits(&first);
        let (second, _) = build(&tuning);
        assert_eq!(bits(&second), expected, "another plan of the same operations differs");
        for _ in 0..3 {
            first.again();
            assert_eq!(bits(&first), expected, "a second run differs");
        }
    }
}

#[test]
fn matrix_products() {
    repeats(|rig| {
        let [t, n, k] = [300, 52, 131];
        let (x, w, dy) =
            (rig.floats("x", &random(t * k, 1)), rig.floats("w", &random(n * k, 2)), rig.floats("dy", &random(t * n, 3)));
        let (y, dx, dw) = (rig.output("y", t * n), rig.output("dx", t * k), rig.output("dw", n * k));
        let sizes = [t, n, k].map(fixed);
        let w = Matrix::full(w, n as u32);
        matmul::forward(&mut rig.plan, x, &w, y, sizes, Epilogue::Write);
        matmul::backward_input(&mut rig.plan, dy, &w, dx, sizes, Epilogue::Write);
        rig.plan.clear(dw);
        matmul::backward_weight(&mut rig.plan, dy, x, &[FullChunk { rows: n as u32, tensor: dw }], sizes);
        vec![y, dx, dw]
    });
}

#[test]
fn attention_backward() {
    repeats(|rig| {
        let h = Heads::new(6, 2, 16, None);
        let mut batch = Batch::packed(&[&[0; 90]]);
        batch.push_group(&[0; 60], &[&[0; 40], &[0; 35]]);
        let (tokens, width, fused) = (batch.tokens(), 96, 160);
        let (qkv, dout) = (rig.floats("qkv", &random(tokens * fused, 1)), rig.floats("dout", &random(tokens * width, 2)));
        let spans = rig.words("spans", batch.spans.as_flattened());
        let (out, stats) = (rig.output("out", tokens * width), rig.output("stats", tokens * 12));
        let dqkv = rig.output("dqkv", tokens * fused);
        attention::forward(&mut rig.plan, &h, qkv, spans, out, stats, fixed(tokens));
        attention::backward(&mut rig.plan, &h, attention::Backward { qkv, spans, out, stats, dout, dqkv }, fixed(tokens));
        vec![out, stats, dqkv]
    });
}

#[test]
fn loss_heads() {
    repeats(|rig| {
        let (rows, width, vocab) = (20, 24, 307);
        let objective = |r: usize| TokenLoss { token: r as u32, weight: 0.7, entropy_weight: -0.1, scores: r as u32 };
        let objectives: Vec<TokenLoss> = (0..rows).map(objective).collect();
        let dtable = rig.output("dtable", vocab * width);
        let (dhidden, stats) = (rig.output("dhidden", rows * width), rig.output("stats", rows * 6));
        let table = rig.floats("table", &random(vocab * width, 2));
        let head = LossHead {
            hidden: rig.floats("hidden", &random(rows * width, 1)),
            table: Matrix::full(table, vocab as u32),
            rows: rig.words("objectives", bytemuck::cast_slice(&objectives)),
            score_tokens: rig.words("score tokens", &[3, 200, 17]),
            stats,
            count: fixed(rows),
            width: width as u32,
            vocab: vocab as u32,
            scores: 3,
            chunk: 6,
        };
        rig.plan.clear(dtable);
        let coefficients = rig.floats("score coefficients", &random(rows * 3, 4));
        let slabs = Some(vec![FullChunk { rows: vocab as u32, tensor: dtable }]);
        loss_head::record(&mut rig.plan, head, Some(LossGradient { coefficients, dhidden, dtable: slabs }));
        vec![stats, dhidden, dtable]
    });
}

#[test]
fn sums_over_tokens() {
    repeats(|rig| {
        let (tokens, width) = (500, 40);
        let ids: Vec<u32> = (0..tokens as u32).map(|t| t * t % 23).collect();
        let sorted = embedding::buckets(&ids);
        let (x, dy) = (rig.floats("x", &random(tokens * width, 1)), rig.floats("dy", &random(tokens * width, 2)));
        let w = rig.floats("w", &around_one(width, 3));
        let (dx, dw) = (rig.output("dx", tokens * width), rig.output("dw", width));
        let (buckets, order) = (rig.words("buckets", sorted.buckets.as_flattened()), rig.words("order", &sorted.tokens));
        let (dtable, norm) = (rig.output("dtable", 23 * width), rig.output("norm", 4));
        rig.plan.clear(dw);
        let back = rmsnorm::Backward { x, w, dy, dx, dw: Some(dw), accumulate: false };
        rmsnorm::backward(&mut rig.plan, Norm::plain(width as u32, 1e-6), back, fixed(tokens));
        rig.plan.clear(dtable);
        let slab = FullChunk { rows: 23, tensor: dtable };
        embedding::backward(&mut rig.plan, (buckets, order), dy, &[slab], fixed(sorted.buckets.len()), embedding::Embedding::plain(width));
        grad_norm::grad_norm(&mut rig.plan, &[dx, dw, dtable], 1.0, norm);
        vec![dx, dw, dtable, norm]
    });
}
