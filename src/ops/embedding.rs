//! Token embedding (`shaders/embedding.wgsl`).

use super::quantised::{self, Matrix};
use super::{elements, pieces, quartered};
use crate::gpu::{Dispatch, KernelSpec, PlanBuilder, Size, Tensor, Word};

fn spec(entry: &'static str, width: u32) -> KernelSpec {
    KernelSpec::new("embedding.wgsl", entry, &[("WIDTH", width), quartered(width)])
}

/// `y[T, H] = table[ids]`. The ids must be below the table's rows: check them on the host.
pub fn forward(plan: &mut PlanBuilder, ids: Tensor, table: impl Into<Matrix>, y: Tensor, tokens: Size, width: u32) {
    let table = match table.into() {
        Matrix::Full(table) => table,
        Matrix::Quantised(table) => return quantised::rows(plan, ids, table, y, tokens, width),
    };
    let size = tokens.times(pieces(width));
    plan.dispatch(Dispatch {
        kernel: spec("forward", width),
        tensors: &[ids, table, y],
        words: &[Word::Size(size)],
        grid: elements(size),
        flops: 1,
        work: size,
    });
}

/// The tokens of a batch sorted by id, so that each row of the table's gradient has one owner.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    /// Per distinct id: the id, and the range of its tokens in `tokens`.
    pub buckets: Vec<[u32; 4]>,
    /// Token indices, grouped by id, in order within a group.
    pub tokens: Vec<u32>,
}

/// Sorts the tokens of a batch into [`Buckets`].
pub fn buckets(ids: &[u32]) -> Buckets {
    let mut tokens: Vec<u32> = (0..ids.len() as u32).collect();
    tokens.sort_by_key(|t| (ids[*t as usize], *t));
    let mut buckets: Vec<[u32; 4]> = Vec::new();
    for (n, t) in tokens.iter().enumerate() {
        let id = ids[*t as usize];
        match buckets.last_mut() {
            Some(last) if last[0] == id => last[2] = n as u32 + 1,
            _ => buckets.push([id, n as u32, n as u32 + 1, 0]),
        }
    }
    Buckets { buckets, tokens }
}

/// `dtable[id] += sum of dy[t]` over the tokens of each id; `distinct` is the live number of buckets.
pub fn backward(
    plan: &mut PlanBuilder,
    (buckets, tokens): (Tensor, Tensor),
    dy: Tensor,
    dtable: Tensor,
    distinct: Size,
    width: u32,
) {
    let size = distinct.times(pieces(width));
    plan.dispatch(Dispatch {
        kernel: spec("backward", width),
        tensors: &[buckets, tokens, dy, dtable],
        words: &[Word::Size(size)],
        grid: elements(size),
        flops: 1,
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    [37, 36].iter().flat_map(|w| [spec("forward", *w), spec("backward", *w)]).collect()
}

#[cfg(test)]
mod tests {
    use super::buckets;

    #[test]
    fn tokens_are_grouped_by_id_in_order() {
        let b = buckets(&[5, 2, 5, 9, 2, 5]);
        assert_eq!(b.buckets, [[2, 0, 2, 0], [5, 2, 5, 0], [9, 5, 6, 0]]);
        assert_eq!(b.tokens, [1, 4, 0, 2, 5, 3]);
        assert!(buckets(&[]).buckets.is_empty());
    }
}
