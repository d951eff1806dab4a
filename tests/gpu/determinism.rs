//! The same plan on the same adapter gives the same bits: run again, after other work, and built anew.

use crate::common::*;
use jurist::gpu::{Extent, Tensor, Tuning};
use jurist::ops::attention::{self, Heads};
use jurist::ops::embedding::{self, Embedding};
use jurist::ops::grad_norm;
use jurist::ops::loss_head::{self, LossGradient, LossHead, TokenLoss};
use jurist::ops::matmul::{self, Epilogue};
use jurist::ops::matrix::{FullChunk, Matrix};
use jurist::ops::rmsnorm::{self, Norm};
use jurist::reference::Batch;

fn fixed(n: usize) -> Extent {
    Extent::fixed(n as u32)
}

/// `make` records a plan whose results do not depend on what they held before; all of them must be bit-equal.
fn repeats(make: impl Fn(&mut TestPlan) -> Vec<Tensor>) {
    let build = |tuning: &Tuning| {
        let mut test = TestPlan::new(tuning);
        let outputs = make(&mut test);
        (test.run(), outputs)
    };
    for tuning in tunings() {
        let (first, outputs) = build(&tuning);
        let bits = |built: &BuiltTestPlan| -> Vec<Vec<u32>> { outputs.iter().map(|t| built.words(*t)).collect() };
        let expected = bits(&first);
        let (second, _) = build(&tuning);
        assert_eq!(bits(&second), expected, "another plan of the same operations differs");
        for _ in 0..3 {
            first.run_again();
            assert_eq!(bits(&first), expected, "a second run differs");
        }
    }
}

#[test]
fn matrix_products() {
    repeats(|test| {
        let [t, n, k] = [300, 52, 131];
        let (x, w, dy) =
            (test.floats("x", &random(t * k, 1)), test.floats("w", &random(n * k, 2)), test.floats("dy", &random(t * n, 3)));
        let (y, dx, dw) = (test.output("y", t * n), test.output("dx", t * k), test.output("dw", n * k));
        let sizes = [t, n, k].map(fixed);
        let w = Matrix::full(w, n as u32);
        matmul::record_forward(&mut test.plan, x, &w, y, sizes, Epilogue::Write);
        matmul::record_backward_input(&mut test.plan, dy, &w, dx, sizes, Epilogue::Write);
        test.plan.clear(dw);
        matmul::record_backward_weight(&mut test.plan, dy, x, &[FullChunk { rows: n as u32, tensor: dw }], sizes);
        vec![y, dx, dw]
    });
}

#[test]
fn attention_backward() {
    repeats(|test| {
        let h = Heads::new(6, 2, 16, None);
        let mut batch = Batch::packed(&[&[0; 90]]);
        batch.push_group(&[0; 60], &[&[0; 40], &[0; 35]]);
        let (tokens, width, fused) = (batch.tokens(), 96, 160);
        let (qkv, dout) = (test.floats("qkv", &random(tokens * fused, 1)), test.floats("dout", &random(tokens * width, 2)));
        let spans = test.words("spans", batch.spans.as_flattened());
        let (out, stats) = (test.output("out", tokens * width), test.output("stats", tokens * 12));
        let dqkv = test.output("dqkv", tokens * fused);
        attention::record_forward(&mut test.plan, &h, qkv, spans, out, stats, fixed(tokens));
        attention::record_backward(&mut test.plan, &h, attention::Backward { qkv, spans, out, stats, dout, dqkv }, fixed(tokens));
        vec![out, stats, dqkv]
    });
}

#[test]
fn loss_heads() {
    repeats(|test| {
        let (rows, width, vocab) = (20, 24, 307);
        let objective = |r: usize| TokenLoss { token: r as u32, weight: 0.7, entropy_weight: -0.1, scores: r as u32 };
        let objectives: Vec<TokenLoss> = (0..rows).map(objective).collect();
        let dtable = test.output("dtable", vocab * width);
        let (dhidden, stats) = (test.output("dhidden", rows * width), test.output("stats", rows * 6));
        let table = test.floats("table", &random(vocab * width, 2));
        let head = LossHead {
            hidden: test.floats("hidden", &random(rows * width, 1)),
            table: Matrix::full(table, vocab as u32),
            rows: test.words("objectives", bytemuck::cast_slice(&objectives)),
            score_tokens: test.words("score tokens", &[3, 200, 17]),
            stats,
            count: fixed(rows),
            width: width as u32,
            vocab: vocab as u32,
            scores: 3,
            chunk: 6,
        };
        test.plan.clear(dtable);
        let coefficients = test.floats("score coefficients", &random(rows * 3, 4));
        let slabs = Some(vec![FullChunk { rows: vocab as u32, tensor: dtable }]);
        loss_head::record(&mut test.plan, head, Some(LossGradient { coefficients, dhidden, dtable: slabs }));
        vec![stats, dhidden, dtable]
    });
}

#[test]
fn sums_over_tokens() {
    repeats(|test| {
        let (tokens, width) = (500, 40);
        let ids: Vec<u32> = (0..tokens as u32).map(|t| t * t % 23).collect();
        let sorted = embedding::buckets(&ids);
        let (x, dy) = (test.floats("x", &random(tokens * width, 1)), test.floats("dy", &random(tokens * width, 2)));
        let w = test.floats("w", &around_one(width, 3));
        let (dx, dw) = (test.output("dx", tokens * width), test.output("dw", width));
        let (buckets, order) = (test.words("buckets", sorted.buckets.as_flattened()), test.words("order", &sorted.tokens));
        let (dtable, norm) = (test.output("dtable", 23 * width), test.output("norm", 4));
        test.plan.clear(dw);
        let back = rmsnorm::Backward { x, w, dy, dx, dw: Some(dw), accumulate: false };
        rmsnorm::record_backward(&mut test.plan, Norm::plain(width as u32, 1e-6), back, fixed(tokens));
        test.plan.clear(dtable);
        let slab = FullChunk { rows: 23, tensor: dtable };
        embedding::record_backward(
            &mut test.plan,
            (buckets, order),
            dy,
            &[slab],
            fixed(sorted.buckets.len()),
            Embedding::plain(width),
        );
        grad_norm::record(&mut test.plan, &[dx, dw, dtable], 1.0, norm);
        vec![dx, dw, dtable, norm]
    });
}
