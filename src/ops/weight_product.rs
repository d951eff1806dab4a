//! Products with a weight matrix of any dtype on the right: the kernels of `shaders/lib/weight_product.wgsl`.

use super::matmul::{Epilogue, Layout, Product, View};
use super::matmul_packed::PackedProduct;
use super::weight_dtype::WeightDtype;
use crate::gpu::{Extent, KernelSpec, PlanBuilder, Tensor};

/// A product whose right side is a weight matrix.
pub(super) struct WeightProduct {
    /// B is the matrix, or its words if it is packed.
    pub product: Product,
    pub dtype: WeightDtype,
    /// Of B, if it is quantised.
    scales: Option<Tensor>,
}

impl From<Product> for WeightProduct {
    fn from(product: Product) -> Self {
        WeightProduct { product, dtype: WeightDtype::F32, scales: None }
    }
}

impl WeightProduct {
    pub fn packed(p: PackedProduct, [m, n, k]: [Extent; 3], epilogue: Epilogue) -> Self {
        let (layout, width) = if p.transposed { (Layout::Nt, k) } else { (Layout::Nn, n) };
        let b = View::of(p.w.words, width.max());
        let product = Product { layout, a: p.x, b, c: p.y, m, n, k, scale: 1.0, epilogue };
        WeightProduct { product, dtype: p.w.dtype, scales: p.w.scales }
    }

    /// Records it by `kernel`, with tiles of so many columns and rows.
    pub fn record(self, plan: &mut PlanBuilder, kernel: KernelSpec, tile: [u32; 2]) {
        self.product.record_by(plan, kernel, self.scales, tile);
    }
}

/// The constants that say how a kernel reads w.
pub(super) fn constants(dtype: WeightDtype) -> Vec<(&'static str, u32)> {
    match dtype {
        WeightDtype::F32 => vec![("F32", 1), ("SCALED", 0)],
        _ => [&dtype.constants()[..], &[("SCALED", u32::from(dtype.is_quantised()))]].concat(),
    }
}

/// A kernel in every dtype, with every epilogue where its store is another one: that depends on the dtype only by the number of
/// a binding, with scales or without.
pub(super) fn variants(plan: &mut PlanBuilder, spec: impl Fn(WeightDtype, Epilogue) -> KernelSpec) -> Vec<KernelSpec> {
    let t = plan.persistent("epilogue", 1);
    let all = [&[WeightDtype::F32], &WeightDtype::PACKED[..]].concat().into_iter();
    let of = |dtype| match dtype {
        WeightDtype::F32 | WeightDtype::Q8 => Epilogue::all(t).map(|epilogue| spec(dtype, epilogue)).to_vec(),
        _ => vec![spec(dtype, Epilogue::Write)],
    };
    all.flat_map(of).collect()
}
