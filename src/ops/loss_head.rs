//! The loss head: logits of the rows that carry loss, in chunks, their statistics and their gradient
//! (`shaders/loss_head.wgsl`). `[tokens, vocab]` never exists.

use super::matmul::{Epilogue, Layout, Product, forward_rows, product};
use super::quantised::Matrix;
use super::{row_constants, row_grid};
use crate::gpu::{Dispatch, KernelSpec, PlanBuilder, Size, Tensor, Tuning, Word};

/// The objective of one row, as the GPU reads it: [`OBJECTIVE_WORDS`] words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RowObjective {
    /// The next token; for a label between two grid points the lower neighbour's token.
    pub a: u32,
    /// The upper neighbour's token; equal to `a` (with weight 0) when there is none.
    pub b: u32,
    /// Weight of `-log p(a)`.
    pub weight_a: f32,
    /// Weight of `-log p(b)`.
    pub weight_b: f32,
    /// Weight of the entropy H in the loss (negative: a bonus).
    pub entropy_weight: f32,
    /// One of [`SCORE_NONE`], [`SCORE_FULL`], [`SCORE_RENORMALISED`], [`SCORE_ABSENT`].
    pub score_kind: u32,
    pub score_weight: f32,
    /// The human score y.
    pub label: f32,
    /// Weight of `-p(a)`.
    pub prob_weight_a: f32,
    /// Weight of `-p(b)`.
    pub prob_weight_b: f32,
}

/// 32-bit words of a [`RowObjective`].
pub const OBJECTIVE_WORDS: usize = size_of::<RowObjective>() / 4;

/// No score term.
pub const SCORE_NONE: u32 = 0;
/// `(E - y)²` with `E = Σ v_k p_k`.
pub const SCORE_FULL: u32 = 1;
/// `(E - y)²` with `E = Σ v_k p_k / Σ p_k`.
pub const SCORE_RENORMALISED: u32 = 2;

/// `-log(1 - Σ p_k)`: the sampled token was no score.
pub const SCORE_ABSENT: u32 = 3;

/// Statistics a row in front of the K log-probabilities of its scores: lse, log p(a), log p(b), entropy.
pub const STATS: usize = 4;

/// What the loss head reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct LossHead {
    /// `[R, H]`: normed hidden states of the rows.
    pub hidden: Tensor,
    /// `[V, H]`
    pub table: Matrix,
    /// `[R]` of [`RowObjective`].
    pub rows: Tensor,
    /// `[K]` token ids and `[K]` values of the scores.
    pub score_tokens: Tensor,
    pub score_values: Tensor,
    /// `[R, 4 + K]`, written.
    pub stats: Tensor,
    pub count: Size,
    pub width: u32,
    pub vocab: u32,
    pub scores: u32,
    /// Rows a chunk.
    pub chunk: u32,
}

/// Where the gradient of the loss head goes.
#[derive(Clone, Copy, Debug)]
pub struct LossGradient {
    /// `[V, H]`: the head's table, which has to be in f32 for the way back.
    pub table: Tensor,
    /// `[R, H]`, written.
    pub dhidden: Tensor,
    /// `[V, H]`, accumulated; `None` when the head is frozen.
    pub dtable: Option<Tensor>,
}

/// Rows a chunk so that its logits take about `bytes`.
pub fn chunk_rows(vocab: u32, rows: u32, bytes: u64) -> u32 {
    let fitting = (bytes / (u64::from(vocab) * 4)).max(8) as u32;
    fitting.min(rows.max(1))
}

fn spec(entry: &'static str, tuning: &Tuning) -> KernelSpec {
    KernelSpec::new("loss_head.wgsl", entry, &row_constants(tuning))
}

/// Records all chunks: logits, statistics, and with `gradient` the way back.
pub fn record(plan: &mut PlanBuilder, head: LossHead, gradient: Option<LossGradient>) {
    let logits = plan.scratch("logits of a chunk", head.chunk as usize * head.vocab as usize);
    let (vocab, width) = (Size::fixed(head.vocab), Size::fixed(head.width));
    for start in (0..head.count.max()).step_by(head.chunk as usize) {
        let rows = head.count.chunk(start, head.chunk);
        let (m, epilogue) = (rows, Epilogue::Write);
        forward_rows(plan, head.hidden, head.table, logits, [rows, vocab, width], [start, 0], epilogue);
        kernel(plan, "stats", &[head.rows, head.score_tokens, logits, head.stats], &head, rows, start);
        let Some(gradient) = gradient else { continue };

        let tensors = [head.rows, head.score_tokens, head.score_values, head.stats, logits];
        kernel(plan, "gradient", &tensors, &head, rows, start);
        let (a, b, c) = (logits, gradient.table, gradient.dhidden);
        product(plan, Product { layout: Layout::Nn, a, b, c, m, n: width, k: vocab, starts: [0, 0, start], epilogue });
        if let Some(c) = gradient.dtable {
            let (a, b, epilogue) = (logits, head.hidden, Epilogue::Accumulate);
            product(plan, Product { layout: Layout::Tn, a, b, c, m: vocab, n: width, k: rows, starts: [0, start, 0], epilogue });
        }
    }
}

fn kernel(plan: &mut PlanBuilder, entry: &'static str, tensors: &[Tensor], head: &LossHead, rows: Size, start: u32) {
    let grid = row_grid(rows, plan.tuning());
    let kernel = spec(entry, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors,
        words: &[Word::Size(rows), Word::U(start), Word::U(head.vocab), Word::U(head.scores)],
        grid,
        flops: u64::from(head.vocab) * 10,
        work: rows,
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    ["stats", "gradient"].map(|e| spec(e, tuning)).to_vec()
}
