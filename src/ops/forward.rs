//! `y = x wᵀ` for the kernels that read w in every dtype (`shaders/matmul_quad.wgsl`, `shaders/matmul_skinny.wgsl`).

use super::matmul::{Epilogue, Product, View, parameters};
use super::matmul_packed::PackedProduct;
use super::weight_dtype::WeightDtype;
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, PlanBuilder, Tensor};

/// `y[M, N] = s x[M, K] · w[N, K]ᵀ`, then the epilogue.
pub(super) struct Forward {
    pub dtype: WeightDtype,
    /// M, N, K.
    pub sizes: [Extent; 3],
    pub epilogue: Epilogue,
    /// x, w, y, and the scales of w.
    tensors: Vec<Tensor>,
    views: [View; 3],
    scale: f32,
}

impl From<Product> for Forward {
    /// `p` is in [`Layout::Nt`].
    fn from(p: Product) -> Self {
        Forward {
            dtype: WeightDtype::F32,
            sizes: [p.m, p.n, p.k],
            epilogue: p.epilogue,
            tensors: vec![p.a.tensor, p.b.tensor, p.c.tensor],
            views: [p.a, p.b, p.c],
            scale: p.scale,
        }
    }
}

impl Forward {
    /// `p` is transposed.
    pub fn packed(p: PackedProduct, sizes: [Extent; 3], epilogue: Epilogue) -> Self {
        let mut tensors = vec![p.x.tensor, p.w.words, p.y.tensor];
        tensors.extend(p.w.scales);
        let views = [p.x, View::of(p.w.words, sizes[2].max()), p.y];
        Forward { dtype: p.w.dtype, sizes, epilogue, tensors, views, scale: 1.0 }
    }

    /// Records it by `kernel`, with tiles of so many columns and rows.
    pub fn record(self, plan: &mut PlanBuilder, kernel: KernelSpec, [columns, rows]: [u32; 2]) {
        let [m, n, k] = self.sizes;
        plan.dispatch(Dispatch {
            kernel,
            tensors: &[&self.tensors[..], &Vec::from_iter(self.epilogue.tensor())].concat(),
            params: &parameters(self.sizes, self.views, self.scale, self.epilogue),
            grid: Grid::Tiles { x: n, tile_x: columns, y: m, tile_y: rows },
            flops: 2 * u64::from(k.max()) * u64::from(n.max()),
            work: m,
        });
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
