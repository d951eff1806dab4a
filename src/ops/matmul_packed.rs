//! Matrix products whose right side is packed (`shaders/matmul_packed.wgsl`; for many rows it is unpacked first, by
//! `shaders/unpack.wgsl`).

use super::elements;
use super::matmul::{self, Epilogue, Layout, View, parameters};
use super::matrix::Packed;
use super::weight_dtype::{BLOCK, WeightDtype};
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, Param, PlanBuilder, Tuning, Variant};

/// Rows of a tile, but for the one row of a decoding step.
const ROWS: u32 = 8;

/// What chooses the text of a product.
#[derive(Clone, Copy)]
struct Text {
    entry: &'static str,
    dtype: WeightDtype,
    rows: u32,
    /// Reads A by vec4.
    wide: bool,
}

fn product_spec(text: Text, epilogue: Epilogue, tuning: &Tuning) -> KernelSpec {
    let [x, y] = tuning.matmul_group;
    // A vec4 of words is a part of a block; it holds so many times eight values.
    let bits = text.dtype.bits();
    let (parts, eights) = ((BLOCK * bits / 128) as u32, (128 / bits / 8) as u32);
    let block = match text.entry {
        "nt" => [("VEC4S_PER_BLOCK", parts), ("PACKED8_PER_VEC4", eights)],
        _ => [("STEPS", if text.wide { 4 } else { 1 }), ("PACKED8_PER_VEC4", eights)],
    };
    let tile = [("ROWS", text.rows), ("WIDE", u32::from(text.wide)), ("GROUP_X", x), ("GROUP_Y", y)];
    let constants = [&text.dtype.constants()[..], &block, &tile, &epilogue.constants()].concat();
    KernelSpec::new("matmul_packed.wgsl", text.entry, &constants)
}

/// Rows of x from which a matrix is unpacked first, where products in f32 have a text of their own.
const MANY_ROWS: u32 = 32;
/// Values that are unpacked at a time: 4 MiB.
const UNPACKED: u32 = 1 << 20;

/// What a product with a packed matrix on the right multiplies.
pub(super) struct PackedProduct {
    /// `y = x wᵀ`, or else `y = x w`.
    pub transposed: bool,
    pub x: View,
    pub w: Packed,
    pub y: View,
}

/// `y[M, N] = x[M, K] · w[N, K]ᵀ`, or `x[M, K] · w[K, N]`, then the epilogue.
pub(super) fn product(plan: &mut PlanBuilder, p: PackedProduct, [m, n, k]: [Extent; 3], epilogue: Epilogue) {
    let tuning = plan.tuning();
    if m.max() >= MANY_ROWS && (tuning.has(Variant::MatmulSubgroup) || tuning.has(Variant::MatmulCooperative)) {
        return unpacked(plan, p, [m, n, k], epilogue);
    }
    let (entry, width) = if p.transposed { ("nt", k) } else { ("nn", n) };
    let rows = if p.transposed && m.max() == 1 { 1 } else { ROWS };
    let wide = p.x.by_four() && k.max().is_multiple_of(4);
    let [group_x, group_y] = plan.tuning().matmul_group;
    let mut tensors = vec![p.x.tensor, p.w.words, p.y.tensor];
    tensors.extend(p.w.scales);
    tensors.extend(epilogue.tensor());
    let kernel = product_spec(Text { entry, dtype: p.w.dtype, rows, wide }, epilogue, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors: &tensors,
        words: &parameters([m, n, k], [p.x, View::of(p.w.words, width.max()), p.y], 1.0, epilogue),
        grid: Grid::Tiles { x: n, tile_x: 8 * group_x, y: m, tile_y: rows * group_y },
        flops: 2 * u64::from(k.max()) * u64::from(n.max()),
        work: m,
    });
}

/// The same product, piece by piece of w in f32.
fn unpacked(plan: &mut PlanBuilder, p: PackedProduct, [m, n, k]: [Extent; 3], epilogue: Epilogue) {
    let (rows, width) = if p.transposed { (n.max(), k.max()) } else { (k.max(), n.max()) };
    let step = (UNPACKED / width / 32).max(1) * 32;
    let piece = plan.scratch("unpacked weights", (step.min(rows) * width) as usize);
    let mut tensors = vec![p.w.words, piece];
    tensors.extend(p.w.scales);
    for first in (0..rows).step_by(step as usize) {
        let count = step.min(rows - first);
        let size = Extent::fixed(count * width / 8);
        plan.dispatch(Dispatch {
            kernel: unpack_spec(p.w.dtype),
            tensors: &tensors,
            words: &[Param::Extent(size), Param::U(first * (width / 8))],
            grid: elements(size),
            flops: 8,
            work: size,
        });
        let (b, count) = (View::of(piece, width), Extent::fixed(count));
        let of_piece = match p.transposed {
            true => {
                let (c, epilogue) = (p.y.at_column(first), epilogue.at_column(first));
                matmul::Product { layout: Layout::Nt, a: p.x, b, c, m, n: count, k, scale: 1.0, epilogue }
            }
            false => {
                // What the first piece leaves, the others add to.
                let epilogue = if first == 0 { epilogue } else { Epilogue::Accumulate };
                let a = p.x.at_column(first);
                matmul::Product { layout: Layout::Nn, a, b, c: p.y, m, n, k: count, scale: 1.0, epilogue }
            }
        };
        matmul::product(plan, of_piece);
    }
}

fn unpack_spec(dtype: WeightDtype) -> KernelSpec {
    KernelSpec::new("unpack.wgsl", "unpack", &dtype.constants())
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let mut plan = PlanBuilder::new(tuning);
    let t = plan.persistent("epilogue", 1);
    let mut all = Vec::new();
    for dtype in WeightDtype::PACKED {
        for (entry, rows) in [("nt", 1), ("nt", ROWS), ("nn", ROWS)] {
            let wide = Text { entry, dtype, rows, wide: true };
            // How a product is stored does not depend on how w is, but for the number of a binding.
            match dtype {
                WeightDtype::Q8 | WeightDtype::Bf16 => {
                    all.extend(Epilogue::all(t).map(|epilogue| product_spec(wide, epilogue, tuning)));
                    all.push(product_spec(Text { wide: false, ..wide }, Epilogue::Write, tuning));
                }
                _ => all.push(product_spec(wide, Epilogue::Write, tuning)),
            }
        }
        all.push(unpack_spec(dtype));
    }
    all
}
