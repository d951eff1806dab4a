//! The loss head: the logits of the rows that carry loss, in chunks, with their statistics and their gradient
//! (`shaders/loss_head.wgsl`). A tensor `[tokens, vocab]` never exists.

use super::Walk;
use super::matmul::{Epilogue, View, record_backward_input_between, record_backward_weight_between, record_forward_between};
use super::matrix::{FullChunk, Matrix};
use crate::gpu::{Dispatch, Extent, KernelSpec, MemoryKind, Param, PlanBuilder, Tensor, Tuning};

/// The loss of one row, as kernels read it. By default a row has statistics and no loss.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TokenLoss {
    /// The next token.
    pub token: u32,
    /// Weight of `-log p(token)`.
    pub weight: f32,
    /// Weight of the entropy H in the loss (negative: a bonus).
    pub entropy_weight: f32,
    /// The index of this row's K coefficients of the score tokens, or [`NO_SCORES`].
    pub scores: u32,
}

impl Default for TokenLoss {
    fn default() -> Self {
        TokenLoss { token: 0, weight: 0.0, entropy_weight: 0.0, scores: NO_SCORES }
    }
}

impl TokenLoss {
    /// `-weight · log p(token)`.
    pub fn token(token: u32, weight: f32) -> Self {
        TokenLoss { token, weight, ..TokenLoss::default() }
    }
}

/// 32-bit words of a [`TokenLoss`].
pub const TOKEN_LOSS_WORDS: usize = size_of::<TokenLoss>() / 4;

/// In [`TokenLoss::scores`]: the row has no loss on the scores.
pub const NO_SCORES: u32 = u32::MAX;

/// Statistics per row before the K log-probabilities of its score tokens: lse, log p(token), entropy.
pub const STATS: usize = 3;

/// The tensors and sizes of a loss head.
#[derive(Clone, Debug)]
pub struct LossHead {
    /// `[R, H]`: normed hidden states of the rows.
    pub hidden: Tensor,
    /// `[V, H]`, read by the backward pass too.
    pub table: Matrix,
    /// `[R]` of [`TokenLoss`].
    pub rows: Tensor,
    /// `[K]` token ids of the scores.
    pub score_tokens: Tensor,
    /// `[R, 3 + K]`, written.
    pub stats: Tensor,
    pub count: Extent,
    pub width: u32,
    pub vocab: u32,
    pub scores: u32,
    /// Rows per chunk.
    pub chunk: u32,
}

/// The tensors and sizes of statistics of given logits.
#[derive(Clone, Debug)]
pub struct Logits {
    /// `[R, V]`
    pub logits: Tensor,
    /// As in [`LossHead`].
    pub rows: Tensor,
    /// As in [`LossHead`].
    pub score_tokens: Tensor,
    /// As in [`LossHead`].
    pub stats: Tensor,
    pub count: Extent,
    pub vocab: u32,
    pub scores: u32,
}

/// The tensors of the gradient of a loss head.
#[derive(Clone, Debug)]
pub struct LossGradient {
    /// `[rows with scores, K]`: `c_k = -∂L/∂log p_k` of each score token.
    pub coefficients: Tensor,
    /// `[R, H]`, written.
    pub dhidden: Tensor,
    /// `[V, H]`, accumulated; `None` when the head is frozen.
    pub dtable: Option<Vec<FullChunk>>,
}

/// Rows per chunk, at most `rows`, so that the logits of a chunk take at most `bytes`. A chunk has one row if a single row takes
/// more.
pub fn chunk_rows(vocab: u32, rows: u32, bytes: u64) -> u32 {
    let fitting = bytes / (u64::from(vocab.max(1)) * 4);
    fitting.clamp(1, u64::from(rows.max(1))) as u32
}

/// Passes of a kernel over the vocabulary, at most.
const PASSES: u32 = 2;

fn spec(entry: &'static str, walk: Walk) -> KernelSpec {
    KernelSpec::new("loss_head.wgsl", entry, &walk.constants())
}

/// Records all chunks: logits, statistics, and with `gradient` the backward pass.
pub fn record(plan: &mut PlanBuilder, head: LossHead, gradient: Option<LossGradient>) {
    let logits = plan.scratch_for(MemoryKind::LossHead, "logits of a chunk", head.chunk as usize * head.vocab as usize);
    let width = Extent::fixed(head.width);
    let z = View::of(logits, head.vocab);
    for start in (0..head.count.max()).step_by(head.chunk as usize) {
        let rows = head.count.chunk(start, head.chunk);
        let hidden = View::of(head.hidden, head.width).at_row(start);
        record_forward_between(plan, hidden, &head.table, z, [rows, width], Epilogue::Write);
        let sizes = (head.vocab, head.scores);
        dispatch(plan, "stats", &[head.rows, head.score_tokens, logits, head.stats], sizes, rows, start);
        let Some(gradient) = &gradient else { continue };

        let tensors = [head.rows, head.score_tokens, gradient.coefficients, head.stats, logits];
        dispatch(plan, "gradient", &tensors, sizes, rows, start);
        let dhidden = View::of(gradient.dhidden, head.width).at_row(start);
        record_backward_input_between(plan, z, &head.table, dhidden, [rows, width], Epilogue::Write);
        if let Some(dtable) = &gradient.dtable {
            record_backward_weight_between(plan, z, hidden, dtable, [rows, width]);
        }
    }
}

/// Records the statistics of given logits.
pub fn record_statistics(plan: &mut PlanBuilder, l: &Logits) {
    dispatch(plan, "stats", &[l.rows, l.score_tokens, l.logits, l.stats], (l.vocab, l.scores), l.count, 0);
}

fn dispatch(
    plan: &mut PlanBuilder,
    entry: &'static str,
    tensors: &[Tensor],
    (vocab, scores): (u32, u32),
    rows: Extent,
    start: u32,
) {
    let walk = Walk::of(plan.tuning(), vocab, PASSES);
    plan.dispatch(Dispatch {
        kernel: spec(entry, walk),
        tensors,
        params: &[Param::Extent(rows), Param::U(start), Param::U(vocab), Param::U(scores)],
        grid: walk.grid(rows),
        flops: u64::from(vocab) * 10,
        work: rows,
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    Walk::all(tuning).into_iter().flat_map(|walk| ["stats", "gradient"].map(|e| spec(e, walk))).collect()
}

#[cfg(test)]
mod tests {
    use super::chunk_rows;

    #[test]
    fn chunks_take_no_more_than_asked() {
        // Qwen3's vocabulary: 607,744 bytes per row.
        let rows = |bytes| chunk_rows(151_936, 2048, bytes);
        assert_eq!([32 << 20, 1 << 20, 607_744, 1].map(rows), [55, 1, 1, 1]);
        assert_eq!((chunk_rows(100, 7, 1 << 20), chunk_rows(100, 0, 1 << 20)), (7, 1), "never more than there are");
    }
}
