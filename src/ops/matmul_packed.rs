//! Matrix products whose right side is packed (`shaders/matmul_packed.wgsl`; on GPUs, for few rows, `shaders/matmul_skinny.wgsl`;
//! for many rows it is unpacked first, by `shaders/unpack.wgsl`).

use super::elements;
use super::matmul::{self, Epilogue, Layout, View};
use super::matrix::Packed;
use super::quad;
use super::skinny;
use super::weight_dtype::{BLOCK, WeightDtype};
use super::weight_product::{self, WeightProduct};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tuning, Variant};

/// Rows of a tile, except in a product of one row.
const ROWS: u32 = 8;

/// The kernel of a product.
#[derive(Clone, Copy)]
struct Implementation {
    entry: &'static str,
    dtype: WeightDtype,
    rows: u32,
    /// Reads A by vec4.
    wide: bool,
}

fn product_spec(implementation: Implementation, epilogue: Epilogue, tuning: &Tuning) -> KernelSpec {
    let [x, y] = tuning.matmul_group;
    // Of a block, and of a vec4 of words: lib/packing.wgsl.
    let bits = implementation.dtype.bits();
    let (vec4s, packed8s) = ((BLOCK * bits / 128) as u32, (128 / bits / 8) as u32);
    let block = match implementation.entry {
        "nt" => [("VEC4S_PER_BLOCK", vec4s), ("PACKED8_PER_VEC4", packed8s)],
        _ => [("STEPS", if implementation.wide { 4 } else { 1 }), ("PACKED8_PER_VEC4", packed8s)],
    };
    let tile = [("ROWS", implementation.rows), ("WIDE", u32::from(implementation.wide)), ("GROUP_X", x), ("GROUP_Y", y)];
    let dtype = weight_product::constants(implementation.dtype);
    let constants = [&dtype[..], &block, &tile, &epilogue.constants()].concat();
    KernelSpec::new("matmul_packed.wgsl", implementation.entry, &constants)
}

/// From this number of rows of x on, a matrix is unpacked first if products in f32 have a kernel for this adapter. Where a batch
/// must not change a row's sums ([`Variant::MatmulSkinny`] is left out there) it is not.
const MANY_ROWS: u32 = 32;
/// Values that are unpacked at a time: 4 MiB.
const UNPACKED: u32 = 1 << 20;

/// The sides of a product with a packed matrix on the right.
pub(super) struct PackedProduct {
    /// `y = x wᵀ`, or else `y = x w`.
    pub transposed: bool,
    pub x: View,
    pub w: Packed,
    pub y: View,
}

/// `y[M, N] = x[M, K] · w[N, K]ᵀ`, or `x[M, K] · w[K, N]`, then the epilogue.
pub(super) fn record_product(plan: &mut PlanBuilder, p: PackedProduct, [m, n, k]: [Extent; 3], epilogue: Epilogue) {
    let tuning = plan.tuning();
    let wide = p.x.by_four() && k.max().is_multiple_of(4);
    if p.transposed && wide && tuning.reads_packed() {
        return quad::record(plan, WeightProduct::packed(p, [m, n, k], epilogue));
    }
    let unpacks = [Variant::MatmulSubgroup, Variant::MatmulCooperative, Variant::MatmulSkinny];
    if m.max() >= MANY_ROWS && unpacks.into_iter().any(|variant| tuning.has(variant)) {
        return record_unpacked(plan, p, [m, n, k], epilogue);
    }
    if p.transposed && wide && tuning.has(Variant::MatmulSkinny) && skinny::has_room(n) {
        return skinny::record(plan, WeightProduct::packed(p, [m, n, k], epilogue));
    }
    let entry = if p.transposed { Layout::Nt } else { Layout::Nn }.entry();
    let rows = if p.transposed && m.max() == 1 { 1 } else { ROWS };
    let [group_x, group_y] = tuning.matmul_group;
    let kernel = product_spec(Implementation { entry, dtype: p.w.dtype, rows, wide }, epilogue, tuning);
    WeightProduct::packed(p, [m, n, k], epilogue).record(plan, kernel, [8 * group_x, rows * group_y]);
}

/// The same product, over parts of w that are unpacked to f32.
fn record_unpacked(plan: &mut PlanBuilder, p: PackedProduct, [m, n, k]: [Extent; 3], epilogue: Epilogue) {
    let (rows, width) = if p.transposed { (n.max(), k.max()) } else { (k.max(), n.max()) };
    let step = (UNPACKED / width / 32).max(1) * 32;
    let part = plan.scratch("unpacked weights", (step.min(rows) * width) as usize);
    let mut tensors = vec![p.w.words, part];
    tensors.extend(p.w.scales);
    for first in (0..rows).step_by(step as usize) {
        let count = step.min(rows - first);
        let size = Extent::fixed(count * width / 8);
        plan.dispatch(Dispatch {
            kernel: unpack_spec(p.w.dtype),
            tensors: &tensors,
            params: &[Param::Extent(size), Param::U(first * (width / 8))],
            grid: elements(size),
            flops: 8,
            work: size,
        });
        let (b, count) = (View::of(part, width), Extent::fixed(count));
        let of_part = match p.transposed {
            true => {
                let (c, epilogue) = (p.y.at_column(first), epilogue.at_column(first));
                matmul::Product { layout: Layout::Nt, a: p.x, b, c, m, n: count, k, scale: 1.0, epilogue }
            }
            false => {
                // The other parts add to what the first one wrote.
                let epilogue = if first == 0 { epilogue } else { Epilogue::Accumulate };
                let a = p.x.at_column(first);
                matmul::Product { layout: Layout::Nn, a, b, c: p.y, m, n, k: count, scale: 1.0, epilogue }
            }
        };
        matmul::record_product(plan, of_part);
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
            let wide = Implementation { entry, dtype, rows, wide: true };
            // The store does not depend on the dtype of w, except for the number of a binding: with scales or without.
            match dtype {
                WeightDtype::Q8 | WeightDtype::Bf16 => {
                    all.extend(Epilogue::all(t).map(|epilogue| product_spec(wide, epilogue, tuning)));
                    all.push(product_spec(Implementation { wide: false, ..wide }, Epilogue::Write, tuning));
                }
                _ => all.push(product_spec(wide, Epilogue::Write, tuning)),
            }
        }
        all.push(unpack_spec(dtype));
    }
    all
}
