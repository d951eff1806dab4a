//! The next token of each row (`shaders/sample.wgsl`).

use super::{Walk, for_gpus};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, RunParam, Tensor, Tuning};

/// How tokens are drawn, as kernels read it (`shaders/sample.wgsl`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Sampler {
    /// 0 is greedy.
    pub temperature: f32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub top_k: u32,
    /// The random key. With a row's stream and position it determines each draw.
    pub key: [u32; 2],
}

/// 32-bit words of a [`Sampler`].
pub const SAMPLER_WORDS: usize = size_of::<Sampler>() / 4;

impl Sampler {
    /// Always the most probable token.
    pub const GREEDY: Sampler = Sampler { temperature: 0.0, top_p: 1.0, top_k: 0, key: [0, 0] };

    /// Whether only some of the tokens are drawn from.
    pub fn truncates(&self) -> bool {
        self.temperature > 0.0 && (self.top_p < 1.0 || self.top_k > 0)
    }
}

/// The tensors of a batch of B rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// `[count, V]`: the logits of the rows `start .. start + count`.
    pub logits: Tensor,
    pub start: Start,
    /// `[B]` of [`Sampler`].
    pub samplers: Tensor,
    /// `[B]` of [`KvSlot`](super::cached_attention::KvSlot); the position is advanced.
    pub slots: Tensor,
    /// `[B]`: the tokens drawn, which are the input of the next step.
    pub ids: Tensor,
    /// `[B, 2]`: random stream of the row, and how many tokens it has drawn; the count is advanced.
    pub streams: Tensor,
    /// `[B, history, 2]`: the last tokens drawn and the bits of their log-probabilities; draw n of a row is at n % history.
    pub drawn: Tensor,
    pub count: Extent,
    pub vocab: u32,
    pub history: u32,
}

/// The first row of the logits.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    First,
    Row(RunParam),
}

/// Passes of each kernel over the vocabulary, at most: the bisection makes 32 for top-k and 32 for top-p.
const PASSES: [(&str, u32); 2] = [("threshold", 66), ("next", 4)];

/// Threads that walk through a share of the vocabulary together, on GPUs.
const LANES_PER_SHARE: u32 = 16;

fn spec(tuning: &Tuning, entry: &'static str, walk: Walk) -> KernelSpec {
    let mut constants = walk.constants();
    if entry == "next" {
        constants.push(("LANES_PER_SHARE", if for_gpus(tuning) { LANES_PER_SHARE } else { 0 }));
    }
    KernelSpec::new("sample.wgsl", entry, &constants)
}

/// Draws one token per row and appends it to the row's history. `truncated` is the number of rows if a sampler of any row
/// truncates, else 0.
pub fn record(plan: &mut PlanBuilder, rows: Rows, truncated: RunParam) {
    let start = match rows.start {
        Start::First => Param::U(0),
        Start::Row(params) => Param::Run(params),
    };
    let truncated = Extent::dynamic(truncated, rows.count.max());
    let params = [Param::Extent(rows.count), start, Param::U(rows.vocab), Param::U(rows.history), Param::Extent(truncated)];
    let thresholds = plan.scratch("sampling thresholds", rows.count.max() as usize);
    let drawn = [rows.slots, rows.ids, rows.streams, rows.drawn];
    for ((entry, passes), work) in PASSES.into_iter().zip([truncated, rows.count]) {
        let walk = Walk::of(plan.tuning(), rows.vocab, passes);
        let own: &[Tensor] = if entry == "next" { &drawn } else { &[] };
        plan.dispatch(Dispatch {
            kernel: spec(plan.tuning(), entry, walk),
            tensors: &[&[rows.logits, rows.samplers, thresholds], own].concat(),
            params: &params,
            grid: walk.grid(work),
            flops: u64::from(rows.vocab) * 2 * u64::from(passes),
            work,
        });
    }
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    Walk::all(tuning).into_iter().flat_map(|walk| PASSES.map(|(entry, _)| spec(tuning, entry, walk))).collect()
}
