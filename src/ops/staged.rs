//! Products by staged tiles, for GPUs (`shaders/matmul_staged.wgsl`): the size of the tile, and parts of K.

use super::elements;
use super::matmul::{Epilogue, Layout, Product, View, parameters};
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, PlanBuilder};

/// Threads along the edges of a workgroup. Each thread computes 8 x 8 values.
pub const SMALL: u32 = 8;
pub const LARGE: u32 = 16;
/// With fewer workgroups of the large tile, small ones are made: about one for each compute unit of a large GPU.
const LARGE_TILES: u32 = 96;
/// Workgroups that a weight gradient is split into, if it is small: two or three for each vector unit of a large GPU. So all
/// parts together have at most as many values as their tiles, 8 MiB, which fits every binding of WebGPU (128 MiB or more).
const GROUPS: u32 = 512;
/// The most parts of K: adding them reads and writes each once.
const PARTS: u32 = 16;

/// A variant of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// [`SMALL`] or [`LARGE`].
    edge: u32,
    /// Whether C is written value by value.
    narrow: bool,
    /// Whether the product is one of parts of K.
    split: bool,
}

impl Tile {
    fn spec(self, layout: Layout, epilogue: Epilogue) -> KernelSpec {
        let Tile { edge, narrow, split } = self;
        // vec4s of a block of 8 steps of K that a thread loads.
        let loads = LARGE / edge;
        let tile = [("EDGE", edge), ("LOADS", loads), ("NARROW", u32::from(narrow)), ("SPLIT", u32::from(split))];
        KernelSpec::new("matmul_staged.wgsl", layout.entry(), &[&tile[..], &epilogue.constants()].concat())
    }
}

/// Tiles of C `[m, n]`.
fn tiles(m: u32, n: u32, edge: u32) -> u32 {
    m.div_ceil(8 * edge) * n.div_ceil(8 * edge)
}

/// The large tile, if there are many and they compute at most an eighth more than small ones. The order of the sums is the same.
fn edge(m: u32, n: u32) -> u32 {
    let (large, small) = (tiles(m, n, LARGE), tiles(m, n, SMALL));
    if large >= LARGE_TILES && 8 * 4 * large <= 9 * small { LARGE } else { SMALL }
}

/// Parts of K of a weight gradient `[m, n]`. They follow from the matrix alone, so that no plan's room for tokens changes a sum.
fn parts(m: u32, n: u32) -> u32 {
    (GROUPS / tiles(m, n, SMALL).max(1)).clamp(1, PARTS)
}

fn sum_spec(epilogue: Epilogue) -> KernelSpec {
    KernelSpec::new("matmul_staged.wgsl", "sum", &epilogue.constants())
}

/// Records `p`. A and B must be readable by vec4, and C writable by vec4 except in [`Layout::Nt`].
pub(super) fn record_product(plan: &mut PlanBuilder, p: Product) {
    let (m, n) = (p.m.max(), p.n.max());
    let parts = if p.layout == Layout::Tn && p.m.is_fixed() && p.n.is_fixed() { parts(m, n) } else { 1 };
    match parts {
        1 => record_whole(plan, p, edge(m, n)),
        _ => record_split(plan, p, parts),
    }
}

/// Records `p` by tiles of [`SMALL`] or [`LARGE`] workgroups, with all of K in each. Operations let the sizes decide; tests ask
/// for large tiles of small matrices.
pub fn record_whole(plan: &mut PlanBuilder, p: Product, edge: u32) {
    let kernel = Tile { edge, narrow: !p.writes_quads(), split: false }.spec(p.layout, p.epilogue);
    p.record_by(plan, kernel, None, [8 * edge; 2]);
}

/// Each part of K by tiles of its own, then their sum with the epilogue. M and N are fixed.
fn record_split(plan: &mut PlanBuilder, p: Product, parts: u32) {
    let (m, n) = (p.m.max(), p.n.max());
    let sums = plan.scratch("parts of a weight gradient", (parts * m) as usize * n as usize);
    let view = View::of(sums, n);
    let (work, flops) = p.work();
    plan.dispatch(Dispatch {
        kernel: Tile { edge: SMALL, narrow: false, split: true }.spec(p.layout, Epilogue::Write),
        tensors: &[p.a.tensor, p.b.tensor, sums],
        params: &parameters([p.m, p.n, p.k], [p.a, p.b, view], 1.0, Epilogue::Write),
        grid: Grid::Tiles { x: p.n, tile_x: 8 * SMALL, y: Extent::fixed(m.div_ceil(8 * SMALL) * parts), tile_y: 1 },
        flops,
        work,
    });
    let mut tensors = vec![sums, p.c.tensor];
    tensors.extend(p.epilogue.tensor());
    let size = Extent::fixed(m * (n / 4));
    plan.dispatch(Dispatch {
        kernel: sum_spec(p.epilogue),
        tensors: &tensors,
        params: &parameters([p.m, p.n, Extent::fixed(parts)], [view, view, p.c], p.scale, p.epilogue),
        grid: elements(size),
        flops: u64::from(4 * parts),
        work: size,
    });
}

pub(super) fn variants(layout: Layout, epilogues: &[Epilogue]) -> Vec<KernelSpec> {
    let mut all = Vec::new();
    for edge in [SMALL, LARGE] {
        let tile = Tile { edge, narrow: false, split: false };
        all.extend(epilogues.iter().map(|e| tile.spec(layout, *e)));
        if layout == Layout::Nt {
            all.extend(epilogues.iter().map(|e| Tile { narrow: true, ..tile }.spec(layout, *e)));
        }
    }
    if layout == Layout::Tn {
        all.push(Tile { edge: SMALL, narrow: false, split: true }.spec(layout, Epilogue::Write));
        all.extend(epilogues.iter().map(|e| sum_spec(*e)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Qwen3-0.6B with 512 tokens: gate and up, their input gradient, and weight gradients from large to an adapter's.
    #[test]
    fn tiles_and_parts_fill_a_large_gpu() {
        assert_eq!([edge(512, 6144), edge(512, 1024), edge(6144, 1024), edge(16, 6144)], [LARGE, SMALL, LARGE, SMALL]);
        assert_eq!([parts(6144, 1024), parts(1024, 1024), parts(512, 512), parts(16, 1024), parts(4, 4)], [1, 2, 8, 16, 16]);
    }

    /// 160 rows fill three small tiles and two large ones, a third more.
    #[test]
    fn a_large_tile_that_is_mostly_empty_is_not_taken() {
        assert_eq!([edge(160, 151_936), edge(192, 151_936), edge(256, 151_936)], [SMALL, SMALL, LARGE]);
    }
}
