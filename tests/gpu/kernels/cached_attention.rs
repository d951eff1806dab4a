//! Attention over a cache of keys and values.

use jurist::gpu::{Extent, Tuning};
use jurist::ops::attention::Heads;
use jurist::ops::cached_attention::{self, Cache, KvSlot};
use jurist::selftest::kernels::cached_attention as check;

use super::attention::shapes;
use crate::common::*;

#[test]
fn cached_equals_packed() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for h in shapes() {
            run_check(check::cached(&mut checker, &h));
        }
        assert_passes(checker);
    }
}

/// A finished row that continues past the end of its own part, or of the longest sequence, writes nothing into its neighbour's
/// entries. Its last own position is still written.
#[test]
fn a_full_row_does_not_spill() {
    let h = Heads::new(2, 1, 4, None);
    // An own part of 3 after prompts of 0, 4 and 6; no sequence is longer than 8.
    let slot = |own, position, prefix_len| KvSlot { own, position, prefix_start: 0, prefix_len };
    for (slot, written) in [
        (slot(2, 3, 0), None),
        (slot(9, 7, 4), None),
        (slot(9, 6, 4), Some(11)),
        (slot(9, 8, 6), None),
        (slot(9, 7, 6), Some(10)),
    ] {
        let mut test = TestPlan::new(&cpu_tuning());
        let (qkv, slots) = (test.floats("qkv", &random(16, 1)), test.words("slots", bytemuck::cast_slice(&[slot])));
        let tensor = test.output("cache", cached_attention::cache_words(&h, 14));
        let out = test.output("out", 8);
        let cache = Cache { tensor, own: 3, max_length: 8 };
        cached_attention::record_forward(&mut test.plan, &h, (qkv, slots), cache, out, Extent::fixed(1));
        let found = test.run().floats(tensor);
        let touched = found.chunks(8).enumerate().filter(|(_, entry)| entry.iter().any(|x| *x != UNTOUCHED)).map(|(n, _)| n);
        assert_eq!(touched.collect::<Vec<_>>(), Vec::from_iter(written));
    }
}

/// A cache of several parts, as GPUs read it: at and around the edges of parts, across a shared prefix and a window. The result
/// is that of a plain loop over all positions, with the same bits every time.
#[test]
fn long_caches_are_read_in_parts() {
    let (entries, own, max_length) = (1300, 300, 600);
    let slot = |own, position, prefix_start, prefix_len| KvSlot { own, position, prefix_start, prefix_len };
    let slots = [slot(1000, 599, 40, 300), slot(40, 255, 0, 0), slot(400, 256, 640, 256), slot(899, 0, 0, 0)];
    for h in [Heads::new(4, 2, 8, None), Heads::new(3, 1, 6, Some(260))] {
        let d = h.head_dim as usize;
        let (fused, token) = ((h.total() * h.head_dim) as usize, 2 * h.kv_heads as usize * d);
        let (x, held) = (random(4 * fused, 1), random(cached_attention::cache_words(&h, entries), 2));
        let mut cache = held.clone();
        for (slot, new) in slots.iter().zip(x.chunks(fused)) {
            let to = (slot.own + slot.position - slot.prefix_len) as usize * token;
            cache[to..to + token].copy_from_slice(&new[fused - token..]);
        }
        let mut expected = Vec::new();
        for (slot, new) in slots.iter().zip(x.chunks(fused)) {
            let last = slot.position as usize;
            let first = h.window.map_or(0, |w| (last + 1).saturating_sub(w as usize));
            let [own, prefix, len] = [slot.own, slot.prefix_start, slot.prefix_len].map(|word| word as usize);
            let entry = |s: usize| &cache[if s < len { prefix + s } else { own + s - len } * token..][..token];
            for head in 0..h.heads as usize {
                let kv = head / (h.heads / h.kv_heads) as usize;
                let score = |s: usize| dot(&new[head * d..][..d], &entry(s)[kv * d..][..d]) / (d as f64).sqrt();
                let weights: Vec<f64> = (first..=last).map(|s| score(s).exp()).collect();
                let denominator: f64 = weights.iter().sum();
                let value = |s: usize, i: usize| entry(s)[token / 2 + kv * d + i];
                expected.extend(
                    (0..d).map(|i| (first..=last).zip(&weights).map(|(s, w)| w * value(s, i)).sum::<f64>() / denominator),
                );
            }
        }
        for tuning in [cpu_tuning(), Tuning { cache_part: 256, ..gpu_tuning() }] {
            let mut test = TestPlan::new(&tuning);
            let (qkv, slots) = (test.floats("qkv", &x), test.words("slots", bytemuck::cast_slice(&slots)));
            let (tensor, out) = (test.floats("cache", &held), test.output("out", 4 * (h.heads * h.head_dim) as usize));
            let cache = Cache { tensor, own, max_length };
            cached_attention::record_forward(&mut test.plan, &h, (qkv, slots), cache, out, Extent::fixed(4));
            let built = test.run();
            assert_close("long cache", &built.floats(out), &expected, FORWARD_TOLERANCE);
            let bits = built.words(out);
            built.run_again();
            assert_eq!(built.words(out), bits, "a second run differs");
        }
    }
}
