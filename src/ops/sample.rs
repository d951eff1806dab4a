//! The next token of each row (`shaders/sample.wgsl`).

use super::{row_constants, row_grid};
use crate::gpu::{Dispatch, KernelSpec, Live, PlanBuilder, Size, Tensor, Tuning, Word};

/// How tokens are chosen; live values of the plan, floats as bits.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// f32; 0 is greedy.
    pub temperature: Live,
    /// f32; 1 is off.
    pub top_p: Live,
    /// 0 is off.
    pub top_k: Live,
    /// The two words of the run's random key.
    pub key: [Live; 2],
}

/// The tensors of a batch of B rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// `[count, V]`: of the rows `start .. start + count`.
    pub logits: Tensor,
    pub start: Start,
    /// `[B, 4]`: slot, position, prefix_slot, prefix_len; the position is moved on.
    pub place: Tensor,
    /// `[B]`: the tokens drawn, input of the next step.
    pub ids: Tensor,
    /// `[B, 2]`: random stream of the row, and how many tokens it has drawn; the count is moved on.
    pub streams: Tensor,
    /// `[B, history, 2]`: the last tokens drawn and the bits of their log-probs; number n of a row is at n % history.
    pub drawn: Tensor,
    pub count: Size,
    pub vocab: u32,
    pub history: u32,
}

/// The first row that is drawn for.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    First,
    Row(Live),
}

fn spec(tuning: &Tuning) -> KernelSpec {
    KernelSpec::new("sample.wgsl", "next", &row_constants(tuning))
}

/// Draws one token a row and appends it to the row's history.
pub fn next(plan: &mut PlanBuilder, rows: Rows, s: Sampling) {
    let grid = row_grid(rows.count, plan.tuning());
    let kernel = spec(plan.tuning());
    let start = match rows.start {
        Start::First => Word::U(0),
        Start::Row(live) => Word::Live(live),
    };
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[rows.logits, rows.place, rows.ids, rows.streams, rows.drawn],
        words: &[
            Word::Size(rows.count),
            start,
            Word::U(rows.vocab),
            Word::U(rows.history),
            Word::Live(s.temperature),
            Word::Live(s.top_p),
            Word::Live(s.top_k),
            Word::Live(s.key[0]),
            Word::Live(s.key[1]),
        ],
        grid,
        flops: u64::from(rows.vocab) * 8,
        work: rows.count,
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    vec![spec(tuning)]
}
