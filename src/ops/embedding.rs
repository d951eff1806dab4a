//! Token embedding (`shaders/embedding.wgsl`; for packed tables `shaders/embedding_packed.wgsl`).

use super::matrix::{FullChunk, Matrix, Packed, Storage, placed};
use super::weight_dtype::WeightDtype;
use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

/// The rows `first .. first + rows` of a table that one of several chunks holds; `None`: all of them.
type Rows = Option<[u32; 2]>;

/// The rows that a dispatch over one of `chunks` chunks compares ids with.
fn rows_of(chunks: usize, first: u32, rows: u32) -> Rows {
    (chunks > 1).then_some([first, rows])
}

/// The parameters of both kernels.
fn parameters(size: Extent, scale: f32, rows: Rows) -> Vec<Param> {
    let mut params = vec![Param::Extent(size), Param::F(scale)];
    params.extend(rows.into_iter().flatten().map(Param::U));
    params
}

fn spec(entry: &'static str, width: u32, chunk: bool) -> KernelSpec {
    KernelSpec::new("embedding.wgsl", entry, &[("WIDTH", width), vec4_constant(width), ("CHUNK", u32::from(chunk))])
}

fn packed_spec(dtype: WeightDtype, width: u32, chunk: bool) -> KernelSpec {
    let constants = [&dtype.constants()[..], &[("WIDTH", width), ("CHUNK", u32::from(chunk))]].concat();
    KernelSpec::new("embedding_packed.wgsl", "forward", &constants)
}

/// The shape of an embedding.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// Columns of the table, H.
    pub width: u32,
    /// Multiplies the rows that are looked up.
    pub scale: f32,
}

impl Embedding {
    /// Rows as they are in the table.
    pub fn plain(width: usize) -> Self {
        Embedding { width: width as u32, scale: 1.0 }
    }
}

/// `y[T, H] = table[ids] · scale`. The caller has checked that the ids are below the rows of the table.
pub fn record_forward(plan: &mut PlanBuilder, ids: Tensor, table: &Matrix, y: Tensor, tokens: Extent, shape: Embedding) {
    for (first, chunk) in table.placed() {
        let rows = rows_of(table.chunks.len(), first, chunk.rows);
        let table = match chunk.storage {
            Storage::Full(table) => table,
            Storage::Packed(table) => {
                record_forward_packed(plan, [ids, y], table, (tokens, rows), shape);
                continue;
            }
        };
        dispatch(plan, "forward", &[ids, table, y], (tokens, rows), shape);
    }
}

/// The dispatch of one chunk over `count` tokens or ids.
fn dispatch(plan: &mut PlanBuilder, entry: &'static str, tensors: &[Tensor], (count, rows): (Extent, Rows), shape: Embedding) {
    let size = count.times(vecs(shape.width));
    plan.dispatch(Dispatch {
        kernel: spec(entry, shape.width, rows.is_some()),
        tensors,
        params: &parameters(size, shape.scale, rows),
        grid: elements(size),
        flops: 1,
        work: size,
    });
}

/// As [`record_forward`], of a packed table, for the ids in `rows`.
fn record_forward_packed(
    plan: &mut PlanBuilder,
    [ids, y]: [Tensor; 2],
    table: Packed,
    (tokens, rows): (Extent, Rows),
    shape: Embedding,
) {
    let size = tokens.times(shape.width / 8);
    let mut tensors = vec![ids, table.words, y];
    tensors.extend(table.scales);
    plan.dispatch(Dispatch {
        kernel: packed_spec(table.dtype, shape.width, rows.is_some()),
        tensors: &tensors,
        params: &parameters(size, shape.scale, rows),
        grid: elements(size),
        flops: 1,
        work: size,
    });
}

/// The tokens of a batch sorted by id, so that one thread can sum the gradient of each element of the table.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    /// Per distinct id: the id, and the start and end of its tokens in `tokens`.
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

/// `dtable[id] += scale · sum of dy[t]` over the tokens of each id; `distinct` is the number of buckets.
pub fn record_backward(
    plan: &mut PlanBuilder,
    (buckets, tokens): (Tensor, Tensor),
    dy: Tensor,
    dtable: &[FullChunk],
    distinct: Extent,
    shape: Embedding,
) {
    for (first, chunk) in placed(dtable, |chunk| chunk.rows) {
        let rows = rows_of(dtable.len(), first, chunk.rows);
        dispatch(plan, "backward", &[buckets, tokens, dy, chunk.tensor], (distinct, rows), shape);
    }
}

pub(super) fn variants() -> Vec<KernelSpec> {
    let both = |width, chunk| ["forward", "backward"].map(|entry| spec(entry, width, chunk));
    let packed = |dtype| [false, true].map(|chunk| packed_spec(dtype, 64, chunk));
    let shapes = [(37, false), (36, false), (37, true), (36, true)];
    let full = shapes.into_iter().flat_map(|(width, chunk)| both(width, chunk));
    full.chain(WeightDtype::PACKED.into_iter().flat_map(packed)).collect()
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
