//! Attention over packed sequences, and over a cache, against the same loops of the specification.

use super::Bench;
use crate::gpu::{Extent, GpuError};
use crate::ops::attention::{self, Backward, Heads};
use crate::ops::cached_attention::{self, Cache, KvSlot, SLOT_WORDS};
use crate::reference::Batch;
use crate::reference::attention::{Attended, Heads as SpecHeads};
use crate::selftest::rig::random;

/// Grouped heads with vec2 and vec4 pieces, with and without a window.
pub(super) async fn layers(b: &mut Bench) -> Result<(), GpuError> {
    let heads = |heads, kv_heads, head_dim, window| Heads { heads, kv_heads, head_dim, window };
    for h in [heads(7, 1, 6, None), heads(7, 1, 6, Some(3)), heads(4, 2, 16, Some(5)), heads(2, 1, 128, None)] {
        for (name, batch) in [
            ("one token", Batch::packed(&[&[0]])),
            ("packed", Batch::packed(&[&[0; 5], &[0; 1], &[0; 33], &[0; 2]])),
            ("shared prefixes", shared_prefixes()),
        ] {
            packed(b, &h, name, &batch).await?;
        }
        cached(b, &h).await?;
    }
    Ok(())
}

/// Plain sequences, and two prompts with their chains.
pub fn shared_prefixes() -> Batch {
    let mut mixed = Batch::packed(&[&[0; 3]]);
    mixed.push_group(&[0; 7], &[&[0; 2], &[0; 1], &[0; 9]]);
    mixed.push_sequence(&[0; 1]);
    mixed.push_group(&[0; 1], &[&[0; 1], &[0; 4]]);
    mixed
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

/// Forward and all gradients, in a plan for three tokens more than there are.
pub async fn packed(b: &mut Bench, h: &Heads, name: &str, batch: &Batch) -> Result<(), GpuError> {
    let (tokens, width) = (batch.tokens(), (h.heads * h.head_dim) as usize);
    let planned = tokens + 3;
    let fused_width = (h.total() * h.head_dim) as usize;
    let (fused, dout) = (random(tokens * fused_width, 1), random(tokens * width, 2));
    let padded = |data: &[f64], width: usize| [data.to_vec(), vec![f64::NAN; (planned - tokens) * width]].concat();

    let mut rig = b.rig();
    let count = Extent::dynamic(rig.live(tokens as u32), planned as u32);
    // Past the live tokens lies NaN: whoever reads it shows.
    let (qkv, gdout) = (rig.floats("qkv", &padded(&fused, fused_width)), rig.floats("dout", &padded(&dout, width)));
    let spans = rig.words("spans", &[batch.spans.as_flattened(), &vec![u32::MAX; (planned - tokens) * 4]].concat());
    let (out, stats) = (rig.output("out", planned * width), rig.output("stats", planned * 2 * h.heads as usize));
    let dqkv = rig.output("dqkv", planned * fused_width);
    attention::forward(&mut rig.plan, h, qkv, spans, out, stats, count);
    attention::backward(&mut rig.plan, h, Backward { qkv, spans, out, stats, dout: gdout, dqkv }, count);
    let ran = rig.start(&b.gpu)?;

    let [q, k, v] = split(h, &fused);
    let spec = spec_of(h);
    let attended = spec.forward(batch.layout(), &q, &k, &v);
    let (dq, dk, dv) = spec.backward(batch.layout(), (&q, &k, &v), &attended, &dout);
    let window = h.window.map_or(String::new(), |w| format!(", window {w}"));
    let name = format!("{name}, heads {}:{} of {}{window}", h.heads, h.kv_heads, h.head_dim);
    let Attended { out: expected, lse } = attended;
    let (out, stats, dqkv) = (ran.read_floats(out).await?, ran.read_floats(stats).await?, ran.read_floats(dqkv).await?);
    b.live_result("attention", &format!("out, {name}"), &out, &expected);
    let found: Vec<f64> = stats.chunks(2).take(lse.len()).map(|s| s[0]).collect();
    b.result("attention", &format!("lse, {name}"), &found, &lse);

    let (live, rest) = dqkv.split_at(tokens * fused_width);
    let [gq, gk, gv] = split(h, live);
    // A single key has probability 1 whatever q and k are: their gradient is exactly 0 and a relative error means nothing.
    let floored = |x: &[f64]| [x, &[1e-2]].concat();
    b.gradient("attention backward", &format!("dq, {name}"), &floored(&gq), &floored(&dq));
    b.gradient("attention backward", &format!("dk, {name}"), &floored(&gk), &floored(&dk));
    b.gradient("attention backward", &format!("dv, {name}"), &gv, &dv);
    b.live_gradient("attention backward", &format!("dqkv, {name}"), rest, &[]);
    Ok(())
}

/// Prompts of different lengths are prefilled in one go, then every row decodes token by token; two rows read one prompt
/// where it lies, before and behind them. Each output equals that of the same token in a packed batch.
pub async fn cached(b: &mut Bench, h: &Heads) -> Result<(), GpuError> {
    // Group 0: a prompt of 5 from entry 10 on, chains of 3 and 4 tokens from entries 0 and 15 on. Group 1: a plain sequence
    // of 6 from entry 4 on, of which 2 are prefilled.
    let mut batch = Batch::default();
    batch.push_group(&[0; 5], &[&[0; 3], &[0; 4]]);
    batch.push_sequence(&[0; 6]);
    let slot = |t: usize| -> KvSlot {
        let of =
            |own, position: usize, prefix_start, prefix_len| KvSlot { own, position: position as u32, prefix_start, prefix_len };
        match t {
            0..5 => of(10, t, 99, 0),
            5..8 => of(0, t, 10, 5),
            8..12 => of(15, t - 3, 10, 5),
            12..14 => of(4, t - 12, 99, 0),
            _ => of(6, t - 12, 4, 2),
        }
    };
    let steps: [&[usize]; 5] = [&[0, 1, 2, 3, 4, 12, 13], &[5, 8, 14], &[6, 9, 15], &[7, 10, 16], &[11, 17]];
    let (entries, planned) = (19, 7);
    let (fused_width, width) = ((h.total() * h.head_dim) as usize, (h.heads * h.head_dim) as usize);
    let fused = random(18 * fused_width, 3);

    let mut rig = b.rig();
    let rows = rig.live(0);
    let count = Extent::dynamic(rows, planned);
    let (qkv, slots) = (rig.output("qkv", 7 * fused_width), rig.words("slots", &[0; 7 * SLOT_WORDS]));
    let cache = rig.output("cache", cached_attention::cache_words(h, entries));
    let out = rig.output("out", 7 * width);
    let cache = Cache { tensor: cache, own: 5, max_length: 9 };
    cached_attention::forward(&mut rig.plan, h, (qkv, slots), cache, out, count);
    let ran = rig.build(&b.gpu)?;

    let mut found = vec![0.0; 18 * width];
    for step in steps {
        let data: Vec<f64> = step.iter().flat_map(|t| fused[t * fused_width..][..fused_width].to_vec()).collect();
        ran.write_floats(qkv, &data)?;
        ran.plan.write(slots, &step.iter().map(|t| slot(*t)).collect::<Vec<_>>())?;
        ran.plan.run(&[(rows, step.len() as u32)].into())?;
        let out = ran.read_floats(out).await?;
        step.iter().enumerate().for_each(|(i, t)| found[t * width..][..width].copy_from_slice(&out[i * width..][..width]));
    }
    let [q, k, v] = split(h, &fused);
    let expected = spec_of(h).forward(batch.layout(), &q, &k, &v).out;
    let window = h.window.map_or(String::new(), |w| format!(", window {w}"));
    b.result("cached attention", &format!("out, heads {}:{} of {}{window}", h.heads, h.kv_heads, h.head_dim), &found, &expected);
    Ok(())
}
