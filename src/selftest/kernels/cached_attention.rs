//! Attention over a cache of keys and values, compared with attention over packed sequences.

use super::KernelChecker;
use super::attention::{shapes, spec_of, split};
use crate::gpu::{Extent, GpuError};
use crate::ops::attention::Heads;
use crate::ops::cached_attention::{self, Cache, KvSlot, SLOT_WORDS};
use crate::reference::Batch;
use crate::selftest::test_plan::random;

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    for h in shapes() {
        cached(checker, &h).await?;
    }
    Ok(())
}

/// Prompts of different lengths are prefilled together, then every row decodes token by token. Two rows read one prompt, which
/// lies after the one's own entries and before the other's. Each output equals that of the same token in a packed batch.
pub async fn cached(checker: &mut KernelChecker, h: &Heads) -> Result<(), GpuError> {
    // Group 0: a prompt of 5 tokens from entry 10 on, and chains of 3 and 4 tokens from entries 0 and 15 on. Group 1: a plain
    // sequence of 6 tokens from entry 4 on, of which 2 are prefilled.
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

    let mut test = checker.test_plan();
    let rows = test.run_param(0);
    let count = Extent::dynamic(rows, planned);
    let (qkv, slots) = (test.output("qkv", 7 * fused_width), test.words("slots", &[0; 7 * SLOT_WORDS]));
    let cache = test.output("cache", cached_attention::cache_words(h, entries));
    let out = test.output("out", 7 * width);
    let cache = Cache { tensor: cache, own: 5, max_length: 9 };
    cached_attention::record_forward(&mut test.plan, h, (qkv, slots), cache, out, count);
    let built = test.build(&checker.gpu)?;

    let mut found = vec![0.0; 18 * width];
    for step in steps {
        let data: Vec<f64> = step.iter().flat_map(|t| fused[t * fused_width..][..fused_width].to_vec()).collect();
        built.write_floats(qkv, &data)?;
        built.plan.write(slots, &step.iter().map(|t| slot(*t)).collect::<Vec<_>>())?;
        built.plan.run(&[(rows, step.len() as u32)].into())?;
        let out = built.read_floats(out).await?;
        step.iter().enumerate().for_each(|(i, t)| found[t * width..][..width].copy_from_slice(&out[i * width..][..width]));
    }
    let [q, k, v] = split(h, &fused);
    let expected = spec_of(h).forward(batch.layout(), &q, &k, &v).out;
    let window = h.window.map_or(String::new(), |w| format!(", window {w}"));
    checker.compare_result(
        "cached attention",
        &format!("out, heads {}:{} of {}{window}", h.heads, h.kv_heads, h.head_dim),
        &found,
        &expected,
    );
    Ok(())
}
