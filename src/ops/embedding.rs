//! Token embedding (`shaders/embedding.wgsl`).

use super::matrix::{FullChunk, Matrix, Storage, placed};
use super::{elements, packed, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

/// The rows `first .. first + rows` of a table that one of several chunks holds; `None`: all of them.
pub(super) type Rows = Option<[u32; 2]>;

/// What a dispatch over one of `chunks` chunks tests ids against.
fn rows_of(chunks: usize, first: u32, rows: u32) -> Rows {
    (chunks > 1).then_some([first, rows])
}

/// The parameters of both texts.
pub(super) fn parameters(size: Extent, rows: Rows) -> Vec<Param> {
    let mut words = vec![Param::Extent(size)];
    words.extend(rows.into_iter().flatten().map(Param::U));
    words
}

fn spec(entry: &'static str, width: u32, chunk: bool) -> KernelSpec {
    KernelSpec::new("embedding.wgsl", entry, &[("WIDTH", width), vec4_constant(width), ("CHUNK", u32::from(chunk))])
}

/// `y[T, H] = table[ids]`. The ids must be below the table's rows: check them on the host.
pub fn forward(plan: &mut PlanBuilder, ids: Tensor, table: &Matrix, y: Tensor, tokens: Extent, width: u32) {
    for (first, chunk) in table.placed() {
        let rows = rows_of(table.chunks.len(), first, chunk.rows);
        let table = match chunk.storage {
            Storage::Full(table) => table,
            Storage::Packed(table) => {
                packed::rows(plan, ids, table, y, (tokens, rows), width);
                continue;
            }
        };
        record(plan, "forward", &[ids, table, y], tokens, rows, width);
    }
}

/// One chunk's dispatch over `count` tokens or ids.
fn record(plan: &mut PlanBuilder, entry: &'static str, tensors: &[Tensor], count: Extent, rows: Rows, width: u32) {
    let size = count.times(vecs(width));
    plan.dispatch(Dispatch {
        kernel: spec(entry, width, rows.is_some()),
        tensors,
        words: &parameters(size, rows),
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
    dtable: &[FullChunk],
    distinct: Extent,
    width: u32,
) {
    for (first, chunk) in placed(dtable, |chunk| chunk.rows) {
        let rows = rows_of(dtable.len(), first, chunk.rows);
        record(plan, "backward", &[buckets, tokens, dy, chunk.tensor], distinct, rows, width);
    }
}

pub(super) fn variants() -> Vec<KernelSpec> {
    let both = |width, chunk| ["forward", "backward"].map(|entry| spec(entry, width, chunk));
    [(37, false), (36, false), (37, true), (36, true)].into_iter().flat_map(|(width, chunk)| both(width, chunk)).collect()
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
