//! `y = x wᵀ` on CPU adapters with subgroups of 4 lanes (`shaders/matmul_quad.wgsl`), w in f32 or packed.

use super::matmul::{Epilogue, Layout};
use super::weight_dtype::WeightDtype;
use super::weight_product::{self, WeightProduct};
use crate::gpu::{KernelSpec, PlanBuilder};

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
    let mut constants = weight_product::constants(dtype);
    constants.extend((dtype != WeightDtype::F32).then_some(("MASKED", 1)));
    constants.extend([("HEIGHT", height), ("BLOCKS", height.div_ceil(LANES)), ("ROWS", height.min(LANES))]);
    constants.extend(epilogue.constants());
    KernelSpec::new("matmul_quad.wgsl", Layout::Nt.entry(), &constants)
}

/// Records `p`. x, and w in f32, must be readable by vec4.
pub(super) fn record(plan: &mut PlanBuilder, p: WeightProduct) {
    let height = height(p.dtype, p.product.m.max());
    let kernel = spec(p.dtype, height, p.product.epilogue);
    p.record(plan, kernel, [COLUMNS, height]);
}

pub(super) fn variants(plan: &mut PlanBuilder) -> Vec<KernelSpec> {
    let mut all = weight_product::variants(plan, |dtype, epilogue| spec(dtype, PACKED_HEIGHT, epilogue));
    all.extend(HEIGHTS.map(|height| spec(WeightDtype::F32, height, Epilogue::Write)));
    all
}
