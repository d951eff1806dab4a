//! The operations of a decoder: one file per operation. `record_forward` and `record_backward` append its kernels to a plan; they
//! run nothing. An operation of one direction has `record` alone.
//!
//! A `record` function states shapes and contract (`=` writes, `+=` accumulates), chooses the variant of the kernel and appends
//! its dispatches. The formulas are in the header of `shaders/x.wgsl`, and as plain loops in `reference/x.rs`.

pub mod adamw;
pub mod add;
pub mod attention;
pub mod cached_attention;
pub mod ceilings;
pub mod column_squares;
pub mod dropout;
pub mod embedding;
pub mod grad_norm;
pub mod loss_head;
pub mod matmul;
mod matmul_packed;
pub mod matrix;
mod quad;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
pub mod sample;
mod skinny;
pub mod staged;
pub mod swiglu;
pub mod weight_dtype;
mod weight_product;

use std::collections::HashSet;

use crate::gpu::{Extent, Grid, KernelSpec, MatrixUnit, Tuning, Variant};

/// Threads per workgroup of the element-wise kernels.
const WORKGROUP_SIZE: u32 = 64;

/// One thread per element.
fn elements(size: Extent) -> Grid {
    Grid::Threads { size, per: WORKGROUP_SIZE }
}

/// Vectors in a row of `width` values: see `shaders/lib/vec.wgsl`.
fn vecs(width: u32) -> u32 {
    if width.is_multiple_of(4) { width / 4 } else { width }
}

/// The constant of `lib/vec.wgsl` for rows of `width` values.
fn vec4_constant(width: u32) -> (&'static str, u32) {
    ("VEC4", u32::from(width.is_multiple_of(4)))
}

/// The most iterations of all loops of one thread together. lavapipe (seen in Mesa 22.3) silently stops after 65,535: a thread
/// that loops over a vocabulary of 151,936 tokens would miss most of it.
const MAX_ITERATIONS: u32 = 60_000;

/// Threads per row of `width` values over which a kernel makes `passes` passes on a CPU adapter: the tuning's number, or more if
/// one thread would need too many iterations.
fn threads_per_row(tuning: &Tuning, width: u32, passes: u32) -> u32 {
    let fits = |threads_per_row: &u32| width.div_ceil(*threads_per_row) <= MAX_ITERATIONS / passes;
    [tuning.threads_per_row, 64, 256].into_iter().find(fits).unwrap_or(256)
}

/// How a kernel walks over the logits of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Walk {
    threads_per_row: u32,
    /// Loads that a thread has on their way: see `shaders/lib/ahead.wgsl`.
    ahead: u32,
}

impl Walk {
    /// A row of 151,936 logits is 75 turns of 256 threads with 8 loads each. A thread alone waits for memory at each load.
    const GPU: Walk = Walk { threads_per_row: 256, ahead: 8 };

    /// For `passes` passes over a vocabulary. CPU adapters have one load at a time, which the caches answer at once.
    fn of(tuning: &Tuning, vocab: u32, passes: u32) -> Self {
        match for_gpus(tuning) {
            true => Walk::GPU,
            false => Walk { threads_per_row: threads_per_row(tuning, vocab, passes), ahead: 1 },
        }
    }

    /// Those that adapters of this tuning use.
    fn all(tuning: &Tuning) -> Vec<Self> {
        match for_gpus(tuning) {
            true => vec![Walk::GPU],
            false => [1, 64, 256].map(|threads_per_row| Walk { threads_per_row, ahead: 1 }).into(),
        }
    }

    fn constants(self) -> Vec<(&'static str, u32)> {
        [&row_constants(self.threads_per_row)[..], &[("AHEAD", self.ahead)]].concat()
    }

    fn grid(self, rows: Extent) -> Grid {
        row_grid(rows, self.threads_per_row)
    }
}

/// Whether kernels run as GPUs like it: threads share a row, and neighbours read neighbours.
fn for_gpus(tuning: &Tuning) -> bool {
    tuning.threads_per_row > 1
}

/// The constants of `lib/row.wgsl` for a row-wise kernel.
fn row_constants(threads_per_row: u32) -> [(&'static str, u32); 2] {
    [("THREADS_PER_ROW", threads_per_row), ("ROW_PER_WORKGROUP", u32::from(threads_per_row > 1))]
}

/// The grid of a row-wise kernel: see `shaders/lib/row.wgsl`.
fn row_grid(rows: Extent, threads_per_row: u32) -> Grid {
    Grid::Threads { size: rows, per: if threads_per_row > 1 { 1 } else { WORKGROUP_SIZE } }
}

/// Every kernel variant that tests compile: all entry points, with and without each switch, in the tunings of CPU adapters and of
/// GPUs.
pub fn catalogue() -> Vec<KernelSpec> {
    let tuning = |threads_per_row, matmul_group, variants: &[Variant]| Tuning {
        threads_per_row,
        matmul_group,
        variants: variants.iter().copied().collect(),
        lanes: None,
        matrix_unit: None,
        cache_part: 256,
        most_sums: 8,
        sync_interval: 8,
        flops_per_submit: u64::MAX,
    };
    let subgroups = [Variant::MatmulSubgroup, Variant::AttentionSubgroup];
    let mut all = Vec::new();
    let of_lanes = |lanes| Tuning { lanes: Some(lanes), ..tuning(1, [8, 1], &subgroups) };
    for tuning in [tuning(1, [8, 1], &[]), of_lanes(4), of_lanes(8), tuning(64, [8, 8], &Variant::FOR_GPUS)] {
        all.extend(attention::variants(&tuning));
        all.extend(matmul::variants(&tuning));
        all.extend(matmul_packed::variants(&tuning));
        all.extend(rmsnorm::variants(&tuning));
        all.extend(loss_head::variants(&tuning));
        all.extend(sample::variants(&tuning));
        all.extend(cached_attention::variants(&tuning));
        all.extend(grad_norm::variants(&tuning));
    }
    let roomy = Tuning { most_sums: u32::MAX, ..tuning(64, [8, 8], &[Variant::AttentionTiled]) };
    all.extend(attention::variants(&roomy));
    // The matrix units of Apple and of CPUs, and those of other GPUs.
    for [size, subgroup] in [[8, 8], [8, 32], [16, 32], [16, 64]] {
        let matrix_unit = Some(MatrixUnit { size, subgroup });
        let tuning = Tuning { matrix_unit, ..tuning(64, [8, 8], &[Variant::MatmulCooperative]) };
        all.extend(matmul::variants(&tuning));
    }
    all.extend(ceilings::variants());
    all.extend(column_squares::variants());
    all.extend(dropout::variants());
    all.extend(embedding::variants());
    all.extend(rows::variants());
    all.extend(rope::variants());
    all.extend(swiglu::variants());
    all.extend(adamw::variants());
    all.extend(add::variants());
    all.push(KernelSpec::new("lib/threefry.wgsl", "answers", &[]));
    // The tunings share some kernels.
    let mut seen = HashSet::new();
    all.retain(|spec| seen.insert(spec.clone()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small rows have the tuning's number of threads. In large rows no thread has more iterations than lavapipe allows.
    #[test]
    fn no_thread_has_too_many_iterations() {
        let tuning = |threads_per_row| Tuning {
            threads_per_row,
            matmul_group: [8, 1],
            variants: Default::default(),
            lanes: None,
            matrix_unit: None,
            cache_part: 256,
            most_sums: 8,
            sync_interval: 8,
            flops_per_submit: u64::MAX,
        };
        let walk = |threads_per_row, ahead| Walk { threads_per_row, ahead };
        assert_eq!(Walk::of(&tuning(1), 4096, 4), walk(1, 1));
        assert_eq!([Walk::of(&tuning(1), 40_000, 2), Walk::of(&tuning(1), 4096, 70)], [walk(64, 1); 2]);
        assert_eq!([Walk::of(&tuning(64), 1, 4), Walk::of(&tuning(64), 151_936, 4)], [walk(256, 8); 2]);
        for passes in [1, 2, 4, 70] {
            for own in [1, 64] {
                let Walk { threads_per_row, ahead } = Walk::of(&tuning(own), 151_936, passes);
                let iterations = 151_936_u32.div_ceil(threads_per_row * ahead) * passes;
                assert!(iterations < 65_535, "{passes} passes: {threads_per_row} threads");
            }
        }
    }
}
