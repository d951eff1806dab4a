//! What a device does not offer is refused with a message that names it, and what fits is right up to the edge.

use crate::common::*;
use jurist::gpu::{Dispatch, Extent, GpuError, Grid, KernelSpec, Limits, Param, PlanBuilder, RunParams};
use jurist::ops::attention::{self, Heads};
use jurist::ops::embedding::{self, Embedding};
use jurist::ops::matmul::{self, Epilogue};
use jurist::ops::matrix::Matrix;
use jurist::ops::rmsnorm::{self, Norm};
use jurist::ops::swiglu::{self, Gated};
use jurist::reference::{
    Batch, attention as attention_reference, matmul as matmul_reference, rmsnorm as norm_reference, swiglu as swiglu_reference,
};

const MIB: usize = 1 << 20;

/// `y[T, N] = x[T, K] wᵀ` with a weight of `n` rows, on a device whose bindings end at 1 MiB.
fn product(n: usize) -> Result<(), GpuError> {
    let (t, k) = (3, 512);
    let (x, w) = (random(t * k, 1), random(n * k, 2));
    let mut test = TestPlan::new(&cpu_tuning());
    let (gx, gw, y) = (test.floats("x", &x), test.floats("model.weight", &w), test.output("y", t * n));
    matmul::record_forward(
        &mut test.plan,
        gx,
        &Matrix::full(gw, n as u32),
        y,
        [t, n, k].map(|x| Extent::fixed(x as u32)),
        Epilogue::Write,
    );
    let built = test.build(&open(Limits::Binding(MIB as u64), true))?;
    built.run_again();
    assert_close("matmul at 1 MiB", &built.floats(y), &matmul_reference::linear(&x, &w, None, k), FORWARD_TOLERANCE);
    Ok(())
}

/// `y[T, H] = table[ids]` with a table of `vocab` rows, likewise.
fn embedded(vocab: usize) -> Result<(), GpuError> {
    let width = 256;
    let ids = [0, vocab as u32 - 1, 7];
    let table = random(vocab * width, 1);
    let mut test = TestPlan::new(&cpu_tuning());
    let (gids, gtable, y) = (test.words("ids", &ids), test.floats("model.embed_tokens", &table), test.output("y", 3 * width));
    embedding::record_forward(
        &mut test.plan,
        gids,
        &Matrix::full(gtable, vocab as u32),
        y,
        Extent::fixed(3),
        Embedding::plain(width),
    );
    let built = test.build(&open(Limits::Binding(MIB as u64), true))?;
    built.run_again();
    let expected: Vec<f64> = ids.iter().flat_map(|i| table[*i as usize * width..][..width].to_vec()).collect();
    assert_close("embedding at 1 MiB", &built.floats(y), &expected, 0.0);
    Ok(())
}

#[test]
fn a_small_binding_limit_is_enough_or_refused() {
    product(MIB / 4 / 512).unwrap_or_else(|e| panic!("a weight of exactly 1 MiB fits: {e}"));
    embedded(MIB / 4 / 256).unwrap_or_else(|e| panic!("a table of exactly 1 MiB fits: {e}"));
    for (refused, name) in [(product(MIB / 4 / 512 + 1), "model.weight"), (embedded(MIB / 4 / 256 + 1), "model.embed_tokens")] {
        let Err(error @ GpuError::BindingTooLarge { .. }) = refused else { panic!("expected BindingTooLarge, got {refused:?}") };
        let message = error.to_string();
        assert!(message.contains(name) && message.contains(&MIB.to_string()), "{message}");
    }
}

/// The embedding of a large vocabulary does not fit WebGPU's default binding of 128 MiB: refused before it is allocated.
#[test]
fn a_table_over_the_default_limit_is_refused() {
    let gpu = gpu();
    let before = gpu.allocated();
    let mut plan = PlanBuilder::new(&cpu_tuning());
    let table = plan.persistent("model.embed_tokens", 151_936 * 1024);
    plan.clear(table);
    let refused = plan.build(&gpu).err();
    assert!(matches!(refused, Some(GpuError::BindingTooLarge { needed: 622_329_856, allowed: 134_217_728, .. })), "{refused:?}");
    assert_eq!(gpu.allocated(), before);
}

fn heads() -> Heads {
    Heads::new(2, 1, 8, None)
}

/// Records an attention layer with everything as scratch, forward and backward.
fn attention_bytes(tokens: usize) -> u64 {
    let mut plan = PlanBuilder::new(&cpu_tuning());
    let [qkv, dqkv] = ["qkv", "dqkv"].map(|n| plan.scratch(n, tokens * 32));
    let [out, dout] = ["out", "dout"].map(|n| plan.scratch(n, tokens * 16));
    let (spans, stats) = (plan.scratch("spans", tokens * 4), plan.scratch("stats", tokens * 4));
    let count = Extent::fixed(tokens as u32);
    attention::record_forward(&mut plan, &heads(), qkv, spans, out, stats, count);
    attention::record_backward(&mut plan, &heads(), attention::Backward { qkv, spans, out, stats, dout, dqkv }, count);
    plan.bytes()
}

#[test]
fn attention_memory_grows_linearly() {
    let [a, b, c] = [512, 1024, 2048].map(attention_bytes);
    println!("planned bytes of an attention layer at 512, 1024, 2048 tokens: {a} {b} {c}");
    assert_eq!(c - b, 2 * (b - a), "bytes {a} {b} {c}");
    assert!(c < 2048 * 2048 * 4 / 4, "{c} bytes");
}

#[test]
fn attention_over_2048_tokens() {
    let tokens = 2048;
    let batch = Batch::packed(&[&vec![0; tokens]]);
    let fused = random(tokens * 32, 1);
    let mut test = TestPlan::new(&cpu_tuning());
    let (qkv, spans) = (test.floats("qkv", &fused), test.words("spans", batch.spans.as_flattened()));
    let (out, stats) = (test.output("out", tokens * 16), test.output("stats", tokens * 4));
    attention::record_forward(&mut test.plan, &heads(), qkv, spans, out, stats, Extent::fixed(tokens as u32));
    let out = test.run().floats(out);
    // Row t by the specification: the last query of a sequence that ends there.
    for t in [0, 1, 511, 512, 1023, 1700, 2047] {
        let part = |from: usize, to: usize| -> Vec<f64> { fused.chunks(32).flat_map(|x| x[from..to].to_vec()).collect() };
        let [q, k, v] = [(0, 16), (16, 24), (24, 32)].map(|(from, to)| part(from, to));
        let heads = attention_reference::Heads::new(2, 1, 8, None);
        let expected = one_row(&heads, t, &q, &k, &v);
        assert_close(&format!("attention, row {t} of 2048"), &out[t * 16..(t + 1) * 16], &expected, FORWARD_TOLERANCE);
    }
}

/// Softmax of one query over the keys up to it, written out once more.
fn one_row(h: &attention_reference::Heads, t: usize, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let (d, scale) = (h.head_dim, 1.0 / (h.head_dim as f64).sqrt());
    let mut out = Vec::new();
    for head in 0..h.heads {
        let query = &q[(t * h.heads + head) * d..][..d];
        let scores: Vec<f64> = (0..=t).map(|s| dot(query, &k[s * d..][..d]) * scale).collect();
        let lse = attention_reference::log_sum_exp(&scores);
        out.extend((0..d).map(|j| scores.iter().enumerate().map(|(s, a)| (a - lse).exp() * v[s * d + j]).sum::<f64>()));
    }
    out
}

/// More workgroups than a dimension holds comfortably: the grid is folded, by elements and by rows.
#[test]
fn long_grids_are_folded() {
    let (tokens, width) = (70_000, 32); // 35,000 workgroups of 64 elements
    let gate_up = random(tokens * 2 * width, 1);
    let mut test = TestPlan::new(&cpu_tuning());
    let (ggu, y) = (test.floats("gate_up", &gate_up), test.output("y", tokens * width));
    swiglu::record_forward(&mut test.plan, ggu, y, Extent::fixed(tokens as u32), Gated::silu(width));
    let built = test.run();
    let (gate, up): (Vec<_>, Vec<_>) = gate_up.chunks(2 * width).map(|t| t.split_at(width)).unzip();
    assert_close(
        "swiglu over a folded grid",
        &built.floats(y),
        &swiglu_reference::gated(swiglu_reference::Activation::Silu, &gate.concat(), &up.concat()),
        FORWARD_TOLERANCE,
    );

    let (rows, width) = (33_000, 3); // a workgroup a row
    let (x, w) = (random(rows * width, 1), around_one(width, 2));
    let mut test = TestPlan::new(&gpu_tuning());
    let (gx, gw, y) = (test.floats("x", &x), test.floats("w", &w), test.output("y", rows * width));
    rmsnorm::record_forward(&mut test.plan, Norm::plain(3, 1e-5), gx, gw, y, Extent::fixed(rows as u32));
    assert_close("rmsnorm over a folded grid", &test.run().floats(y), &norm_reference::rmsnorm(&x, &w, 1e-5), FORWARD_TOLERANCE);
}

/// More than a plan was made for, and ranges past a buffer's end, are refused before the device hears of them; it goes on.
#[test]
fn what_does_not_fit_is_refused() {
    let gate_up = random(5 * 2 * 3, 1);
    let mut test = TestPlan::new(&cpu_tuning());
    let (rate, count) = (test.run_param(u32::MAX), test.run_param(5));
    let (ggu, y) = (test.floats("gate_up", &gate_up), test.output("y", 5 * 3));
    for start in [0, 4] {
        // In chunks of 4: no chunk may hide that 6 are more than 5.
        swiglu::record_forward(&mut test.plan, ggu, y, Extent::dynamic(count, 5).chunk(start, 4), Gated::silu(3));
    }
    // A scalar has no maximum.
    test.plan.dispatch(Dispatch {
        kernel: KernelSpec::new(
            "rope.wgsl",
            "rotate",
            &[("HEADS", 1), ("ROTATED", 1), ("PAIRS", 1), ("POSITION_STRIDE", 1), ("POSITION_OFFSET", 0)],
        ),
        tensors: &[ggu, ggu, y],
        params: &[Param::Extent(Extent::fixed(0)), Param::Run(rate)],
        grid: Grid::Threads { size: Extent::fixed(0), per: 64 },
        flops: 1,
        work: Extent::fixed(0),
    });
    let built = test.run();
    for over in [6, u32::MAX] {
        let refused = built.plan.run(&[(rate, u32::MAX), (count, over)].into()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains(&format!("is {over}, but the plan was made for at most 5")), "{refused}");
    }
    for missing in [[(rate, 1)], [(count, 1)]] {
        assert!(matches!(built.plan.run(&missing.into()), Err(GpuError::Validation { .. })));
    }

    let past = |result: Result<(), GpuError>| {
        let Err(error @ GpuError::OutOfBounds { .. }) = result else { panic!("expected OutOfBounds, got {result:?}") };
        assert!(error.to_string().contains("`y`") && error.to_string().contains("15"), "{error}");
    };
    past(built.plan.write(y, &[0f32; 16]));
    past(pollster::block_on(built.plan.read::<f32>(y, 16)).map(drop));
    let Ok(buffer) = built.plan.buffer(y) else { panic!("y has a buffer") };
    past(gpu().write(buffer, 15, &[0f32]));
    past(pollster::block_on(gpu().read::<f32>(buffer, usize::MAX, 2)).map(drop));
    built.run_again();
    assert_eq!(built.floats(y).len(), 15);
}

/// A step with more work than a submission may hold is split; what later dispatches read is what earlier ones wrote.
#[test]
fn long_steps_are_split() {
    let mut test = TestPlan::new(&cpu_tuning());
    let (buckets, tokens) = (test.words("buckets", &[1, 0, 2, 0]), test.words("tokens", &[0, 1]));
    let (dy, total) = (test.floats("dy", &[1.0, 2.0, 3.0, 4.0]), test.output("total", 4));
    let size = Extent::fixed(2);
    test.plan.clear(total);
    for _ in 0..5 {
        test.plan.dispatch(Dispatch {
            kernel: KernelSpec::new("embedding.wgsl", "backward", &[("WIDTH", 2)]),
            tensors: &[buckets, tokens, dy, total],
            params: &[Param::Extent(size), Param::F(1.0)],
            grid: Grid::Threads { size, per: 64 },
            flops: 1 << 50, // above every adapter's limit for one submission
            work: size,
        });
    }
    let built = test.run();
    assert_eq!(built.floats(total), [0.0, 0.0, 20.0, 30.0]);
    built.plan.run_times(&RunParams::default(), 3).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(built.floats(total), [0.0, 0.0, 20.0, 30.0]);
}
