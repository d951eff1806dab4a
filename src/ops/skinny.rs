//! `y = x wᵀ` of few rows on GPUs (`shaders/matmul_skinny.wgsl`), w in f32 or packed.

use super::matmul::{Epilogue, Layout, Product};
use super::weight_dtype::WeightDtype;
use super::weight_product::{self, WeightProduct};
use crate::gpu::{Extent, KernelSpec, PlanBuilder};

/// Threads of a workgroup, and columns of its tile.
const THREADS: u32 = 64;
const COLUMNS: u32 = 4;
/// Rows of a tile.
const ROWS: [u32; 4] = [1, 2, 4, 8];
const MOST_ROWS: u32 = ROWS[ROWS.len() - 1];
/// Workgroups along one side of a grid, in WebGPU's default limits.
const MOST_GROUPS: u32 = 65_535;
/// With fewer steps of K the tiles of `matmul_staged.wgsl` keep more threads at work.
const LEAST_K: u32 = 64;

/// Whether `p`, in f32, is one for this kernel. Its sides must be readable by vec4.
pub(super) fn suits(p: &Product) -> bool {
    p.layout == Layout::Nt && p.m.max() <= MOST_ROWS && p.k.max() >= LEAST_K && has_room(p.n)
}

/// Whether a grid has room for N columns.
pub(super) fn has_room(n: Extent) -> bool {
    n.max().div_ceil(COLUMNS) <= MOST_GROUPS
}

/// The lowest tile that has room for all rows, else the tallest for whose sums a thread has room. The order of the sums is the
/// same for each.
fn rows(dtype: WeightDtype, m: u32, most_sums: u32) -> u32 {
    // One vec4 of a row's columns; codes are summed apart.
    let sums = if dtype.is_quantised() { 2 } else { 1 };
    let most = ROWS.into_iter().rfind(|rows| rows * sums <= most_sums).unwrap_or(1);
    ROWS.into_iter().find(|rows| *rows >= m.min(most)).unwrap_or(most)
}

fn spec(dtype: WeightDtype, rows: u32, epilogue: Epilogue) -> KernelSpec {
    // A thread's values in one turn: so many times eight, and quads of each eight.
    let (packed8s, quads) = match dtype {
        WeightDtype::F32 => (1, 1),
        WeightDtype::F16 | WeightDtype::Bf16 => (1, 2),
        WeightDtype::Q8 | WeightDtype::Q4 | WeightDtype::Q4Symmetric => (2, 2),
    };
    let sums = rows * COLUMNS * THREADS;
    let mut constants = weight_product::constants(dtype);
    constants.extend([("PACKED8S", packed8s), ("QUADS", quads), ("PARTS", packed8s * quads)]);
    constants.extend([("ROWS", rows), ("ALL_THREADS", sums), ("ALL_GROUPS", sums / 4)]);
    constants.extend(epilogue.constants());
    KernelSpec::new("matmul_skinny.wgsl", Layout::Nt.entry(), &constants)
}

/// Records `p`. x, and w in f32, must be readable by vec4, and N have room.
pub(super) fn record(plan: &mut PlanBuilder, p: WeightProduct) {
    let rows = rows(p.dtype, p.product.m.max(), plan.tuning().most_sums);
    let kernel = spec(p.dtype, rows, p.product.epilogue);
    p.record(plan, kernel, [COLUMNS, rows]);
}

pub(super) fn variants(plan: &mut PlanBuilder) -> Vec<KernelSpec> {
    let mut all = weight_product::variants(plan, |dtype, epilogue| spec(dtype, MOST_ROWS, epilogue));
    let every = |rows| [WeightDtype::F32, WeightDtype::Q4].map(|dtype| spec(dtype, rows, Epilogue::Write));
    all.extend(ROWS.into_iter().filter(|rows| *rows < MOST_ROWS).flat_map(every));
    all
}
