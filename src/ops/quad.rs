//! `y = x wᵀ` on CPU adapters with subgroups of 4 lanes (`shaders/matmul_quad.wgsl`), w in f32 or packed.

use super::matmul::{Epilogue, Layout, Product, View, parameters};
use super::matmul_packed::PackedProduct;
use super::weight_dtype::WeightDtype;
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, PlanBuilder, Tensor};

/// Lanes of the adapters that it is made for.
pub(super) const LANES: u32 = 4;
/// Columns of a tile, and its rows.
const COLUMNS: u32 = 32;
const HEIGHTS: [u32; 4] = [1, 4, 8, 16];

/// The tallest tile of packed matrices. A taller one takes as long and is mostly empty more often: decoding outweighs loads.
const PACKED_HEIGHT: u32 = 8;

/// The lowest tile that has room for all rows, else the tallest. The order of the sums is the same for every height.
fn height(dtype: WeightDtype, m: u32) -> u32 {
    let tallest = if dtype == WeightDtype::F32 { HEIGHTS[HEIGHTS.len() - 1] } else { PACKED_HEIGHT };
    HEIGHTS.into_iter().find(|height| *height >= m.min(tallest)).unwrap_or(tallest)
}

fn spec(dtype: WeightDtype, height: u32, epilogue: Epilogue) -> KernelSpec {
    let full = dtype == WeightDtype::F32;
    let values = match full {
        true => vec![("F32", 1), ("SCALED", 0)],
        false => [&dtype.constants()[..], &[("SCALED", u32::from(dtype.is_quantised())), ("MASKED", 1)]].concat(),
    };
    let tile = [("HEIGHT", height), ("BLOCKS", height.div_ceil(LANES)), ("ROWS", height.min(LANES))];
    KernelSpec::new("matmul_quad.wgsl", Layout::Nt.entry(), &[&values[..], &tile, &epilogue.constants()].concat())
}

/// Records `p`, a product in [`Layout::Nt`]. A and B must be readable by vec4.
pub(super) fn record_full(plan: &mut PlanBuilder, p: Product) {
    record(plan, WeightDtype::F32, &[p.a.tensor, p.b.tensor, p.c.tensor], [p.a, p.b, p.c], [p.m, p.n, p.k], p.scale, p.epilogue);
}

/// `y[M, N] = x[M, K] · w[N, K]ᵀ`, then the epilogue. x must be readable by vec4.
pub(super) fn record_packed(plan: &mut PlanBuilder, p: PackedProduct, sizes: [Extent; 3], epilogue: Epilogue) {
    let w = View::of(p.w.words, sizes[2].max());
    let tensors = [&[p.x.tensor, p.w.words, p.y.tensor][..], &Vec::from_iter(p.w.scales)].concat();
    record(plan, p.w.dtype, &tensors, [p.x, w, p.y], sizes, 1.0, epilogue);
}

fn record(
    plan: &mut PlanBuilder,
    dtype: WeightDtype,
    tensors: &[Tensor],
    views: [View; 3],
    [m, n, k]: [Extent; 3],
    scale: f32,
    epilogue: Epilogue,
) {
    let height = height(dtype, m.max());
    plan.dispatch(Dispatch {
        kernel: spec(dtype, height, epilogue),
        tensors: &[tensors, &Vec::from_iter(epilogue.tensor())].concat(),
        params: &parameters([m, n, k], views, scale, epilogue),
        grid: Grid::Tiles { x: n, tile_x: COLUMNS, y: m, tile_y: height },
        flops: 2 * u64::from(k.max()) * u64::from(n.max()),
        work: m,
    });
}

pub(super) fn variants(plan: &mut PlanBuilder) -> Vec<KernelSpec> {
    let t = plan.persistent("epilogue", 1);
    let all = [&[WeightDtype::F32], &WeightDtype::PACKED[..]].concat().into_iter();
    // The store does not depend on the dtype of w, except for the number of a binding: with scales or without.
    let of = |dtype| match dtype {
        WeightDtype::F32 | WeightDtype::Q8 => Epilogue::all(t).map(|epilogue| spec(dtype, PACKED_HEIGHT, epilogue)).to_vec(),
        _ => vec![spec(dtype, PACKED_HEIGHT, Epilogue::Write)],
    };
    let heights = HEIGHTS.map(|height| spec(WeightDtype::F32, height, Epilogue::Write));
    all.flat_map(of).chain(heights).collect()
}
