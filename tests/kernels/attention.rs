//! Attention over packed sequences, and over a cache, against the same loops of the specification.

use jurist::gpu::{Size, Tuning};
use jurist::ops::attention::{self, Backward, Heads};
use jurist::ops::cached_attention;
use jurist::reference::Batch;
use jurist::reference::attention::{Attended, Heads as SpecHeads};

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
    ]
}

fn batches() -> Vec<(&'static str, Batch)> {
    let mut mixed = Batch::packed(&[&[0; 3]]);
    mixed.push_group(&[0; 7], &[&[0; 2], &[0; 1], &[0; 9]]);
    mixed.push_sequence(&[0; 1]);
    mixed.push_group(&[0; 1], &[&[0; 1], &[0; 4]]);
    vec![
        ("nothing", Batch::default()),
        ("one token", Batch::packed(&[&[0]])),
        ("one sequence", Batch::packed(&[&[0; 13]])),
        ("packed", Batch::packed(&[&[0; 5], &[0; 1], &[0; 70], &[0; 2]])),
        ("shared prefixes", mixed),
    ]
}

pub fn spec_of(h: &Heads) -> SpecHeads {
    let [heads, kv_heads, head_dim] = [h.heads, h.kv_heads, h.head_dim].map(|x| x as usize);
    SpecHeads { heads, kv_heads, head_dim, window: h.window.map(|w| w as usize) }
}

/// q, k and v of the fused `[T, heads + 2 kv_heads, D]`.
pub fn split(h: &Heads, fused: &[f64]) -> [Vec<f64>; 3] {
    let [q, kv] = [h.heads * h.head_dim, h.kv_heads * h.head_dim].map(|x| x as usize);
    let part = |from: usize, to: usize| fused.chunks(q + 2 * kv).flat_map(|t| t[from..to].to_vec()).collect();
    [part(0, q), part(q, q + kv), part(q + kv, q + 2 * kv)]
}

fn fuse(h: &Heads, parts: [&[f64]; 3]) -> Vec<f64> {
    let widths = [h.heads, h.kv_heads, h.kv_heads].map(|n| (n * h.head_dim) as usize);
    let tokens = parts[0].len() / widths[0];
    (0..tokens).flat_map(|t| (0..3).flat_map(move |p| parts[p][t * widths[p]..(t + 1) * widths[p]].to_vec())).collect()
}

#[test]
fn packed_forward_and_backward() {
    for h in shapes() {
        for (name, batch) in batches() {
            check(&software(), &h, name, &batch, batch.tokens() + 3);
        }
    }
}

/// Scores near ±90: softmax must not overflow, and its gradient stays right where one key takes nearly all.
#[test]
fn steep_scores() {
    let h = Heads { heads: 2, kv_heads: 1, head_dim: 4, window: None };
    let batch = Batch::packed(&[&[0; 9]]);
    let fused: Vec<f64> = random(9 * 16, 8).iter().map(|x| x * 8.0).collect();
    let [q, k, v] = split(&h, &fused);
    let mut rig = Rig::new(&software());
    let tokens = Size::fixed(9);
    let (qkv, spans) = (rig.floats("qkv", &fused), rig.words("spans", batch.spans.as_flattened()));
    let (out, stats) = (rig.output("out", 9 * 8), rig.output("stats", 9 * 4));
    attention::forward(&mut rig.plan, &h, qkv, spans, out, stats, tokens);
    let expected = spec_of(&h).forward(batch.layout(), &q, &k, &v);
    close("attention steep", &rig.run().floats(out), &expected.out, FORWARD);
}

fn check(tuning: &Tuning, h: &Heads, name: &str, batch: &Batch, planned: usize) {
    let (tokens, width) = (batch.tokens(), (h.heads * h.head_dim) as usize);
    let fused_width = (h.total() * h.head_dim) as usize;
    let (fused, dout) = (random(tokens * fused_width, 1), random(tokens * width, 2));
    let padded = |data: &[f64], width: usize| [data.to_vec(), vec![f64::NAN; (planned - tokens) * width]].concat();

    let mut rig = Rig::new(tuning);
    let count = Size::live(rig.live(tokens as u32), planned as u32);
    // Past the live tokens lies NaN: whoever reads it shows.
    let (qkv, gdout) = (rig.floats("qkv", &padded(&fused, fused_width)), rig.floats("dout", &padded(&dout, width)));
    let spans = rig.words("spans", &[batch.spans.as_flattened(), &vec![u32::MAX; (planned - tokens) * 4]].concat());
    let (out, stats) = (rig.output("out", planned * width), rig.output("stats", planned * 2 * h.heads as usize));
    let dqkv = rig.output("dqkv", planned * fused_width);
    attention::forward(&mut rig.plan, h, qkv, spans, out, stats, count);
    attention::backward(&mut rig.plan, h, Backward { qkv, spans, out, stats, dout: gdout, dqkv }, count);
    let ran = rig.run();

    let [q, k, v] = split(h, &fused);
    let spec = spec_of(h);
    let attended = spec.forward(batch.layout(), &q, &k, &v);
    let (dq, dk, dv) = spec.backward(batch.layout(), (&q, &k, &v), &attended, &dout);
    let name = format!("attention {name} {}:{} x {} window {:?}", h.heads, h.kv_heads, h.head_dim, h.window);
    let Attended { out: expected, lse } = attended;
    let (out, stats, dqkv) = (ran.floats(out), ran.floats(stats), ran.floats(dqkv));
    close(&format!("{name} out"), &out[..tokens * width], &expected, FORWARD);
    let found: Vec<f64> = stats.chunks(2).take(lse.len()).map(|s| s[0]).collect();
    close(&format!("{name} lse"), &found, &lse, FORWARD);
    let [gq, gk, gv] = split(h, &dqkv[..tokens * fused_width]);
    // A single key has probability 1 whatever q and k are: their gradient is exactly 0 and a relative error means nothing.
    let scale = |x: Vec<f64>| x.into_iter().chain([1e-2]).collect::<Vec<f64>>();
    close(&format!("{name} dq"), &scale(gq), &scale(dq.clone()), BACKWARD);
    close(&format!("{name} dk"), &scale(gk), &scale(dk.clone()), BACKWARD);
    close(&format!("{name} dv"), &gv, &dv, BACKWARD);
    assert_eq!(fuse(h, [&dq, &dk, &dv]).len(), tokens * fused_width);
    for (name, found, from) in [("out", &out, tokens * width), ("dqkv", &dqkv, tokens * fused_width)] {
        assert!(found[from..].iter().all(|x| *x == UNTOUCHED), "{name}: written past the live tokens");
    }
}

/// Prompts of different lengths are prefilled in one go, then every row decodes token by token; two rows read their prompt
/// from the slot of the first. Each output equals that of the same token in a packed batch.
#[test]
fn cached_equals_packed() {
    for h in shapes() {
        // Group 0: prompt 5 in slot 2, chains of 3 and 4 tokens in slots 0 and 3. Group 1: a plain sequence of 6 in slot 1,
        // of which 2 are prefilled.
        let mut batch = Batch::default();
        batch.push_group(&[0; 5], &[&[0; 3], &[0; 4]]);
        batch.push_sequence(&[0; 6]);
        let place = |t: usize| -> [u32; 4] {
            match t {
                0..5 => [2, t as u32, 7, 0],
                5..8 => [0, t as u32, 2, 5],
                8..12 => [3, t as u32 - 3, 2, 5],
                _ => [1, t as u32 - 12, 0, 0],
            }
        };
        let steps: Vec<Vec<usize>> =
            vec![vec![0, 1, 2, 3, 4, 12, 13], vec![5, 8, 14], vec![6, 9, 15], vec![7, 10, 16], vec![11, 17]];
        let (max_length, slots, planned) = (9, 4, 7);
        let (fused_width, width) = ((h.total() * h.head_dim) as usize, (h.heads * h.head_dim) as usize);
        let fused = random(18 * fused_width, 3);

        let mut rig = Rig::new(&software());
        let count = Size::live(rig.live(0), planned);
        let (qkv, places) = (rig.output("qkv", 7 * fused_width), rig.words("place", &[0; 28]));
        let cache = rig.output("cache", cached_attention::cache_words(&h, slots, max_length as usize));
        let out = rig.output("out", 7 * width);
        cached_attention::forward(&mut rig.plan, &h, (qkv, places), (cache, max_length), out, count);
        let ran = rig.run();

        let mut found = vec![0.0; 18 * width];
        for step in steps {
            let data: Vec<f64> = step.iter().flat_map(|t| fused[t * fused_width..][..fused_width].to_vec()).collect();
            ran.write(qkv, &data);
            let data: Vec<u32> = step.iter().flat_map(|t| place(*t)).collect();
            ran.plan.write(places, &data).unwrap_or_else(|e| panic!("{e}"));
            ran.run_with(&[step.len() as u32]);
            let out = ran.floats(out);
            step.iter().enumerate().for_each(|(i, t)| found[t * width..][..width].copy_from_slice(&out[i * width..][..width]));
        }
        let [q, k, v] = split(&h, &fused);
        let expected = spec_of(&h).forward(batch.layout(), &q, &k, &v).out;
        close(&format!("cached attention {h:?}"), &found, &expected, FORWARD);
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
