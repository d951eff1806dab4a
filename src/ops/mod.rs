//! The operations of a decoder: one file each, forward and backward side by side, each recording itself into a plan.
//!
//! A function here states shapes and contract (`=` writes, `+=` accumulates), picks the kernel's variant and appends its
//! dispatches; the mathematics is in the header of the WGSL file of the same name, and as plain loops in `reference`.

pub mod adamw;
pub mod attention;
pub mod cached_attention;
pub mod ceilings;
pub mod dropout;
pub mod embedding;
pub mod grad_norm;
pub mod loss_head;
pub mod matmul;
pub mod matrix;
mod packed;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
pub mod sample;
pub mod swiglu;

use std::collections::HashSet;

use crate::gpu::{Grid, KernelSpec, Size, Tuning, Variant};

/// Threads a workgroup of the element-wise kernels.
const GROUP: u32 = 64;

/// One thread an element.
fn elements(size: Size) -> Grid {
    Grid::Threads { size, per: GROUP }
}

/// Pieces in a row of `width` values: see `shaders/lib/piece.wgsl`.
fn pieces(width: u32) -> u32 {
    if width.is_multiple_of(4) { width / 4 } else { width }
}

/// The constant of `lib/piece.wgsl` for rows of `width` values.
fn quartered(width: u32) -> (&'static str, u32) {
    ("QUARTERED", u32::from(width.is_multiple_of(4)))
}

/// The constants of `lib/row.wgsl` for a row-wise kernel.
fn row_constants(tuning: &Tuning) -> [(&'static str, u32); 2] {
    [("LANES", tuning.lanes), ("TEAM", u32::from(tuning.lanes > 1))]
}

/// The grid of a row-wise kernel: see `shaders/lib/row.wgsl`.
fn row_grid(rows: Size, tuning: &Tuning) -> Grid {
    Grid::Threads { size: rows, per: if tuning.lanes > 1 { 1 } else { GROUP } }
}

/// Every kernel variant worth compiling in a test: all entry points, with and without each switch, for software and for
/// GPU tuning.
pub fn catalogue() -> Vec<KernelSpec> {
    let tuning = |lanes, matmul_group, variants: &[Variant]| Tuning {
        lanes,
        matmul_group,
        variants: variants.iter().copied().collect(),
        cache_part: 256,
        steps_a_look: 8,
        flops_per_submit: u64::MAX,
    };
    let subgroups = [Variant::MatmulSubgroup, Variant::AttentionSubgroup];
    let gpu = [Variant::AttentionTiled, Variant::CachedAttentionSplit];
    let mut all = Vec::new();
    for tuning in [tuning(1, [8, 1], &[]), tuning(1, [8, 1], &subgroups), tuning(64, [8, 8], &gpu)] {
        all.extend(attention::variants(&tuning));
        all.extend(matmul::variants(&tuning));
        all.extend(packed::variants(&tuning));
        all.extend(rmsnorm::variants(&tuning));
        all.extend(loss_head::variants(&tuning));
        all.extend(sample::variants(&tuning));
        all.extend(cached_attention::variants(&tuning));
    }
    all.extend(ceilings::variants());
    all.extend(dropout::variants());
    all.extend(embedding::variants());
    all.extend(rows::variants());
    all.extend(rope::variants());
    all.extend(swiglu::variants());
    all.extend(grad_norm::variants());
    all.extend(adamw::variants());
    all.push(KernelSpec::new("lib/threefry.wgsl", "answers", &[]));
    // Tunings have kernels in common.
    let mut seen = HashSet::new();
    all.retain(|spec| seen.insert(spec.clone()));
    all
}
