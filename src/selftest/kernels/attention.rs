//! Attention over packed sequences.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::attention::{self, Backward, Heads};
use crate::reference::Batch;
use crate::reference::attention::{Attended, Heads as SpecHeads};
use crate::selftest::test_plan::random;

/// Grouped heads, read by vec2 and by vec4, with and without a window.
pub(super) fn shapes() -> [Heads; 4] {
    let heads = Heads::new;
    [heads(7, 1, 6, None), heads(7, 1, 6, Some(3)), heads(4, 2, 16, Some(5)), heads(2, 1, 128, None)]
}

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    for h in shapes() {
        for (name, batch) in [
            ("one token", Batch::packed(&[&[0]])),
            ("packed", Batch::packed(&[&[0; 5], &[0; 1], &[0; 33], &[0; 2]])),
            ("shared prefixes", shared_prefixes()),
        ] {
            packed(checker, &h, name, &batch).await?;
        }
    }
    Ok(())
}

/// Plain sequences, and two prompts with several chains each.
pub fn shared_prefixes() -> Batch {
    let mut mixed = Batch::packed(&[&[0; 3]]);
    mixed.push_group(&[0; 7], &[&[0; 2], &[0; 1], &[0; 9]]);
    mixed.push_sequence(&[0; 1]);
    mixed.push_group(&[0; 1], &[&[0; 1], &[0; 4]]);
    mixed
}

/// The same sizes for the reference.
pub fn spec_of(h: &Heads) -> SpecHeads {
    let [heads, kv_heads, head_dim] = [h.heads, h.kv_heads, h.head_dim].map(|x| x as usize);
    SpecHeads { heads, kv_heads, head_dim, window: h.window.map(|w| w as usize), scale: f64::from(h.scale) }
}

/// q, k and v of the fused `[T, heads + 2 kv_heads, D]`.
pub fn split(h: &Heads, fused: &[f64]) -> [Vec<f64>; 3] {
    let [q, kv] = [h.heads * h.head_dim, h.kv_heads * h.head_dim].map(|x| x as usize);
    let part = |from: usize, to: usize| fused.chunks(q + 2 * kv).flat_map(|t| t[from..to].to_vec()).collect();
    [part(0, q), part(q, q + kv), part(q + kv, q + 2 * kv)]
}

/// Forward and all gradients, in a plan with room for three tokens more than the batch has.
pub async fn packed(checker: &mut KernelChecker, h: &Heads, name: &str, batch: &Batch) -> Result<(), GpuError> {
    passes(checker, h, name, batch, true).await
}

/// Forward, likewise.
pub async fn forward(checker: &mut KernelChecker, h: &Heads, name: &str, batch: &Batch) -> Result<(), GpuError> {
    passes(checker, h, name, batch, false).await
}

async fn passes(checker: &mut KernelChecker, h: &Heads, name: &str, batch: &Batch, backward: bool) -> Result<(), GpuError> {
    let (tokens, width) = (batch.tokens(), (h.heads * h.head_dim) as usize);
    let planned = tokens + 3;
    let fused_width = (h.total() * h.head_dim) as usize;
    let (fused, dout) = (random(tokens * fused_width, 1), random(tokens * width, 2));
    let padded = |data: &[f64], width: usize| [data.to_vec(), vec![f64::NAN; (planned - tokens) * width]].concat();

    let mut test = checker.test_plan();
    let count = Extent::dynamic(test.run_param(tokens as u32), planned as u32);
    // NaN lies past the live tokens: a kernel that reads it gives NaN.
    let (qkv, gdout) = (test.floats("qkv", &padded(&fused, fused_width)), test.floats("dout", &padded(&dout, width)));
    let spans = test.words("spans", &[batch.spans.as_flattened(), &vec![u32::MAX; (planned - tokens) * 4]].concat());
    let (out, stats) = (test.output("out", planned * width), test.output("stats", planned * 2 * h.heads as usize));
    let dqkv = test.output("dqkv", planned * fused_width);
    attention::record_forward(&mut test.plan, h, qkv, spans, out, stats, count);
    if backward {
        attention::record_backward(&mut test.plan, h, Backward { qkv, spans, out, stats, dout: gdout, dqkv }, count);
    }
    let built = test.build_and_run(&checker.gpu)?;

    let [q, k, v] = split(h, &fused);
    let spec = spec_of(h);
    let attended = spec.forward(batch.layout(), &q, &k, &v);
    let window = h.window.map_or(String::new(), |w| format!(", window {w}"));
    let name = format!("{name}, heads {}:{} of {}{window}", h.heads, h.kv_heads, h.head_dim);
    let Attended { out: expected, lse } = &attended;
    let (out, stats) = (built.read_floats(out).await?, built.read_floats(stats).await?);
    checker.compare_live_result("attention", &format!("out, {name}"), &out, expected);
    let found: Vec<f64> = stats.chunks(2).take(lse.len()).map(|s| s[0]).collect();
    checker.compare_result("attention", &format!("lse, {name}"), &found, lse);
    if !backward {
        return Ok(());
    }

    let (dq, dk, dv) = spec.backward(batch.layout(), (&q, &k, &v), &attended, &dout);
    let dqkv = built.read_floats(dqkv).await?;
    let (live, rest) = dqkv.split_at(tokens * fused_width);
    let [gq, gk, gv] = split(h, live);
    // A single key has probability 1 whatever q and k are. Their gradient is then exactly 0, and a relative error means nothing.
    let floored = |x: &[f64]| [x, &[1e-2]].concat();
    checker.compare_gradient("attention backward", &format!("dq, {name}"), &floored(&gq), &floored(&dq));
    checker.compare_gradient("attention backward", &format!("dk, {name}"), &floored(&gk), &floored(&dk));
    checker.compare_gradient("attention backward", &format!("dv, {name}"), &gv, &dv);
    checker.compare_live_gradient("attention backward", &format!("dqkv, {name}"), rest, &[]);
    Ok(())
}
