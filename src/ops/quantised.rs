//! Quantised matrices in kernels: their tensors, the product with one on the right (`shaders/matmul_quantised.wgsl`), and
//! rows looked up in one (`shaders/embedding_quantised.wgsl`). The form is that of `model::quantised`.

use super::elements;
use super::matmul::{Epilogue, View, parameters};
use crate::gpu::{Dispatch, Grid, KernelSpec, PlanBuilder, Size, Tensor, Tuning, Word};

/// A quantised matrix `[N, K]`; K is a multiple of 32.
#[derive(Clone, Copy, Debug)]
pub struct Quantised {
    /// Bits of a code: 8 or 4.
    pub bits: u32,
    /// `[N, K · bits / 32]`
    pub packed: Tensor,
    /// `[N, K / 32]`
    pub scales: Tensor,
}

/// A matrix of either kind: what forward passes multiply with.
#[derive(Clone, Copy, Debug)]
pub enum Matrix {
    /// `[N, K]` in f32.
    Full(Tensor),
    Quantised(Quantised),
}

impl From<Tensor> for Matrix {
    fn from(tensor: Tensor) -> Self {
        Matrix::Full(tensor)
    }
}

/// Rows of a tile, where there is more than one row.
const ROWS: u32 = 8;

fn form(bits: u32) -> (&'static str, u32) {
    ("FOUR", u32::from(bits == 4))
}

fn product_spec(bits: u32, rows: u32, wide: bool, epilogue: Epilogue, tuning: &Tuning) -> KernelSpec {
    let [x, y] = tuning.matmul_group;
    let quads = if bits == 4 { 2 } else { 1 };
    let wide = ("WIDE", u32::from(wide));
    let tile = [form(bits), ("PARTS", 2 / quads), ("QUADS", quads), ("ROWS", rows), wide, ("GROUP_X", x), ("GROUP_Y", y)];
    KernelSpec::new("matmul_quantised.wgsl", "nt", &[&tile[..], &epilogue.constants()].concat())
}

/// `y[T, N] = x[T, K] · w[N, K]ᵀ`, then the epilogue.
pub(super) fn product(plan: &mut PlanBuilder, x: View, w: Quantised, y: View, [t, n, k]: [Size; 3], epilogue: Epilogue) {
    let rows = if t.max() == 1 { 1 } else { ROWS };
    let [group_x, group_y] = plan.tuning().matmul_group;
    let mut tensors = vec![x.tensor, w.packed, w.scales, y.tensor];
    tensors.extend(epilogue.tensor());
    let kernel = product_spec(w.bits, rows, x.by_four(), epilogue, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors: &tensors,
        words: &parameters([t, n, k], [x, View::of(w.packed, k.max()), y], 1.0, epilogue),
        grid: Grid::Tiles { x: n, tile_x: 8 * group_x, y: t, tile_y: rows * group_y },
        flops: 2 * u64::from(k.max()) * u64::from(n.max()),
        work: t,
    });
}

fn rows_spec(bits: u32, width: u32) -> KernelSpec {
    KernelSpec::new("embedding_quantised.wgsl", "forward", &[("WIDTH", width), form(bits)])
}

/// `y[T, H] = table[ids]`, H = `width`. The ids must be below the table's rows: check them on the host.
pub fn rows(plan: &mut PlanBuilder, ids: Tensor, table: Quantised, y: Tensor, tokens: Size, width: u32) {
    let size = tokens.times(width / 4);
    plan.dispatch(Dispatch {
        kernel: rows_spec(table.bits, width),
        tensors: &[ids, table.packed, table.scales, y],
        words: &[Word::Size(size)],
        grid: elements(size),
        flops: 1,
        work: size,
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let mut plan = PlanBuilder::new(tuning);
    let t = plan.kept("epilogue", 1);
    let mut all = Vec::new();
    for bits in [8, 4] {
        for rows in [1, ROWS] {
            for epilogue in Epilogue::all(t) {
                all.push(product_spec(bits, rows, true, epilogue, tuning));
            }
            all.push(product_spec(bits, rows, false, Epilogue::Write, tuning));
        }
        all.push(rows_spec(bits, 64));
    }
    all
}
