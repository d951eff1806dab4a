//! Attention over packed sequences, and over a cache, against the same loops of the specification.

use jurist::doctor::kernels::attention as check;
use jurist::gpu::Size;
use jurist::ops::attention::{self, Heads};
use jurist::ops::cached_attention;
use jurist::reference::Batch;

use crate::common::*;

fn shapes() -> Vec<Heads> {
    let heads = |heads, kv_heads, head_dim, window| Heads { heads, kv_heads, head_dim, window };
    vec![
        heads(7, 1, 6, None),
        heads(7, 1, 6, Some(3)),
        heads(4, 2, 16, None),
        heads(4, 2, 16, Some(5)),
        heads(2, 2, 20, Some(1)),
        heads(2, 1, 128, None),
        heads(6, 2, 8, Some(4)),
        heads(3, 3, 32, None),
        heads(4, 1, 24, Some(6)),
    ]
}

fn batches() -> Vec<(&'static str, Batch)> {
    vec![
        ("nothing", Batch::default()),
        ("one token", Batch::packed(&[&[0]])),
        ("one sequence", Batch::packed(&[&[0; 13]])),
        ("packed", Batch::packed(&[&[0; 5], &[0; 1], &[0; 70], &[0; 2]])),
        ("prefixes across tiles", long_prefixes()),
        ("shared prefixes", check::shared_prefixes()),
    ]
}

/// A prompt of more than a tile with chains of more than one, and a neighbour whose prompt lies far from its second chain.
fn long_prefixes() -> Batch {
    let mut batch = Batch::default();
    batch.push_group(&[0; 37], &[&[0; 2], &[0; 45]]);
    batch.push_group(&[0; 3], &[&[0; 34], &[0; 1]]);
    batch
}

#[test]
fn packed_forward_and_backward() {
    for tuning in tunings() {
        let mut bench = bench(tuning);
        for h in shapes() {
            for (name, batch) in batches() {
                made(check::packed(&mut bench, &h, name, &batch));
            }
        }
        all_right(bench);
    }
}

#[test]
fn cached_equals_packed() {
    for tuning in tunings() {
        let mut bench = bench(tuning);
        for h in shapes() {
            made(check::cached(&mut bench, &h));
        }
        all_right(bench);
    }
}

/// Scores near ±90: softmax must not overflow, and its gradient stays right where one key takes nearly all.
#[test]
fn steep_scores() {
    let h = Heads { heads: 2, kv_heads: 1, head_dim: 8, window: None };
    let batch = Batch::packed(&[&[0; 9]]);
    let fused: Vec<f64> = random(9 * 32, 8).iter().map(|x| x * 8.0).collect();
    let [q, k, v] = check::split(&h, &fused);
    let expected = check::spec_of(&h).forward(batch.layout(), &q, &k, &v);
    for tuning in tunings() {
        let mut rig = Rig::new(&tuning);
        let tokens = Size::fixed(9);
        let (qkv, spans) = (rig.floats("qkv", &fused), rig.words("spans", batch.spans.as_flattened()));
        let (out, stats) = (rig.output("out", 9 * 16), rig.output("stats", 9 * 4));
        attention::forward(&mut rig.plan, &h, qkv, spans, out, stats, tokens);
        close("attention steep", &rig.run().floats(out), &expected.out, FORWARD);
    }
}

/// A finished row that runs on past its slot's end writes nothing into the next slot.
#[test]
fn a_full_slot_does_not_spill() {
    let h = Heads { heads: 2, kv_heads: 1, head_dim: 4, window: None };
    let mut rig = Rig::new(&software());
    let (qkv, place) = (rig.floats("qkv", &random(16, 1)), rig.words("place", &[0, 3, 0, 0]));
    let cache = rig.output("cache", cached_attention::cache_words(&h, 2, 3));
    let out = rig.output("out", 8);
    cached_attention::forward(&mut rig.plan, &h, (qkv, place), (cache, 3), out, Size::fixed(1));
    let ran = rig.run();
    assert!(ran.floats(cache).iter().all(|x| *x == UNTOUCHED));
}
