//! Attention over packed sequences.

use jurist::gpu::{Extent, Tuning};
use jurist::ops::attention::{self, Heads};
use jurist::reference::Batch;
use jurist::selftest::kernels::attention as check;

use crate::common::*;

pub(super) fn shapes() -> Vec<Heads> {
    let heads = Heads::new;
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
        Heads { scale: 0.1, ..heads(4, 1, 256, Some(6)) },
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

/// A prompt and a chain of more than a tile each, and a prompt that lies far from its second chain.
fn long_prefixes() -> Batch {
    let mut batch = Batch::default();
    batch.push_group(&[0; 37], &[&[0; 2], &[0; 45]]);
    batch.push_group(&[0; 3], &[&[0; 34], &[0; 1]]);
    batch
}

#[test]
fn packed_forward_and_backward() {
    // In tiles, with one row of each thread, and with two, whatever head_dim is.
    let rows = [0, u32::MAX].map(|most_sums| Tuning { most_sums, ..gpu_tuning() });
    for tuning in tunings().into_iter().chain(rows) {
        let mut checker = checker(tuning);
        for h in shapes() {
            for (name, batch) in batches() {
                run_check(check::packed(&mut checker, &h, name, &batch));
            }
        }
        assert_passes(checker);
    }
}

/// Scores near ±90: softmax must not overflow, and its gradient stays right where one key takes nearly all.
#[test]
fn steep_scores() {
    let h = Heads::new(2, 1, 8, None);
    let batch = Batch::packed(&[&[0; 9]]);
    let fused: Vec<f64> = random(9 * 32, 8).iter().map(|x| x * 8.0).collect();
    let [q, k, v] = check::split(&h, &fused);
    let expected = check::spec_of(&h).forward(batch.layout(), &q, &k, &v);
    for tuning in tunings() {
        let mut test = TestPlan::new(&tuning);
        let tokens = Extent::fixed(9);
        let (qkv, spans) = (test.floats("qkv", &fused), test.words("spans", batch.spans.as_flattened()));
        let (out, stats) = (test.output("out", 9 * 16), test.output("stats", 9 * 4));
        attention::record_forward(&mut test.plan, &h, qkv, spans, out, stats, tokens);
        assert_close("attention steep", &test.run().floats(out), &expected.out, FORWARD_TOLERANCE);
    }
}
