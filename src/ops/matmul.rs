//! Matrix products: forward, input gradient and weight gradient of a linear layer (`shaders/matmul.wgsl`, and for CPU
//! adapters with subgroups `shaders/matmul_subgroup.wgsl`).

use super::quantised::{self, Matrix};
use crate::gpu::{Dispatch, Grid, KernelSpec, PlanBuilder, Size, Tensor, Tuning, Variant, Word};

/// Which sides are transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `C[M, N] = A[M, K] · B[N, K]ᵀ`: `y = x Wᵀ`.
    Nt,
    /// `C[M, N] = A[M, K] · B[K, N]`: `dx = dy W`.
    Nn,
    /// `C[M, N] = A[K, M]ᵀ · B[K, N]`: `dW = dyᵀ x`.
    Tn,
}

/// What happens to a product before it is stored.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue {
    /// `C = A·B`
    Write,
    /// `C = A·B + bias[N]`
    Bias(Tensor),
    /// `C = A·B + R[M, N]`, where R is another tensor.
    Residual(Tensor),
    /// `C += A·B`
    Accumulate,
}

impl Epilogue {
    /// The constants that choose its text.
    pub(super) fn constants(self) -> [(&'static str, u32); 3] {
        [
            ("BIAS", u32::from(matches!(self, Epilogue::Bias(_)))),
            ("RESIDUAL", u32::from(matches!(self, Epilogue::Residual(_)))),
            ("ACCUMULATE", u32::from(matches!(self, Epilogue::Accumulate))),
        ]
    }

    /// The tensor that it reads, if any.
    pub(super) fn tensor(self) -> Option<Tensor> {
        match self {
            Epilogue::Bias(t) | Epilogue::Residual(t) => Some(t),
            Epilogue::Write | Epilogue::Accumulate => None,
        }
    }
}

/// One product. `m`, `n`, `k` are its sizes; at most one of them may be live.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub layout: Layout,
    pub a: Tensor,
    pub b: Tensor,
    pub c: Tensor,
    pub m: Size,
    pub n: Size,
    pub k: Size,
    /// First row of A, of B (in `Tn` only) and of C: for chunks of longer matrices.
    pub starts: [u32; 3],
    pub epilogue: Epilogue,
}

/// Heights of a subgroup's tile, in rows.
const HEIGHTS: [u32; 4] = [64, 32, 16, 4];
/// Tiles below which a lower tile is taken, so that every core has work until the end.
const TILES: u32 = 8;

/// The tallest tile that is not mostly empty and leaves enough tiles; the choice does not change what is summed in which
/// order.
fn height(layout: Layout, m: u32, n: u32) -> u32 {
    let least = if layout == Layout::Tn { 32 } else { 4 };
    let columns = n.div_ceil(32);
    let fits = |h: &&u32| **h == least || (**h <= m.next_multiple_of(4) && m.div_ceil(**h) * columns >= TILES);
    HEIGHTS.iter().filter(|h| **h >= least).find(fits).copied().unwrap_or(least)
}

/// Which text a product takes.
#[derive(Clone, Copy, Debug)]
enum Text {
    /// `matmul.wgsl`, in values or in vec4.
    Direct { wide: bool },
    /// `matmul_subgroup.wgsl`, with tiles of so many rows; narrow: the columns of C are no multiple of 4.
    Subgroup { height: u32, narrow: bool },
}

fn spec(layout: Layout, text: Text, epilogue: Epilogue, tuning: &Tuning) -> KernelSpec {
    let entry = match layout {
        Layout::Nt => "nt",
        Layout::Nn => "nn",
        Layout::Tn => "tn",
    };
    let [x, y] = tuning.matmul_group;
    let (file, constants) = match text {
        Text::Subgroup { height, narrow } => {
            let tile = [("QUADS", height / 4), ("GROUPS", height / 32), ("NARROW", u32::from(narrow))];
            ("matmul_subgroup.wgsl", tile)
        }
        Text::Direct { wide } => ("matmul.wgsl", [("WIDE", u32::from(wide)), ("GROUP_X", x), ("GROUP_Y", y)]),
    };
    KernelSpec::new(file, entry, &[&constants[..], &epilogue.constants()].concat())
}

/// Records `p`.
pub fn product(plan: &mut PlanBuilder, p: Product) {
    let by_four = |size: Size| size.max().is_multiple_of(4);
    let wide = match p.layout {
        Layout::Nt => by_four(p.k),
        Layout::Nn => by_four(p.k) && by_four(p.n),
        Layout::Tn => by_four(p.m) && by_four(p.n),
    };
    let [x, y] = plan.tuning().matmul_group;
    let (text, [tile_x, tile_y]) = if wide && plan.tuning().has(Variant::MatmulSubgroup) {
        let height = height(p.layout, p.m.max(), p.n.max());
        (Text::Subgroup { height, narrow: !by_four(p.n) }, [32, height])
    } else {
        (Text::Direct { wide }, [8 * x, 8 * y])
    };
    let mut tensors = vec![p.a, p.b, p.c];
    tensors.extend(p.epilogue.tensor());
    let kernel = spec(p.layout, text, p.epilogue, plan.tuning());
    let words =
        [Word::Size(p.m), Word::Size(p.n), Word::Size(p.k), Word::U(p.starts[0]), Word::U(p.starts[1]), Word::U(p.starts[2])];
    // The live size, if any, scales the work.
    let (work, others) = match p.layout {
        Layout::Tn => (p.k, u64::from(p.m.max()) * u64::from(p.n.max())),
        _ => (p.m, u64::from(p.k.max()) * u64::from(p.n.max())),
    };
    plan.dispatch(Dispatch {
        kernel,
        tensors: &tensors,
        words: &words,
        grid: Grid::Tiles { x: p.n, tile_x, y: p.m, tile_y },
        flops: 2 * others,
        work,
    });
}

/// `y[T, N] = x[T, K] · w[N, K]ᵀ`, then the epilogue.
pub fn forward(plan: &mut PlanBuilder, x: Tensor, w: impl Into<Matrix>, y: Tensor, sizes: [Size; 3], epilogue: Epilogue) {
    forward_rows(plan, x, w.into(), y, sizes, [0; 2], epilogue);
}

/// As [`forward`], with rows of x and y that begin at `starts`: chunks of longer matrices.
pub fn forward_rows(
    plan: &mut PlanBuilder,
    x: Tensor,
    w: Matrix,
    y: Tensor,
    [t, n, k]: [Size; 3],
    starts: [u32; 2],
    epilogue: Epilogue,
) {
    match w {
        Matrix::Full(w) => {
            let starts = [starts[0], 0, starts[1]];
            product(plan, Product { layout: Layout::Nt, a: x, b: w, c: y, m: t, n, k, starts, epilogue });
        }
        Matrix::Quantised(w) => quantised::product(plan, x, w, y, [t, n, k], starts, epilogue),
    }
}

/// `dx[T, K] = dy[T, N] · w[N, K]`, or `+=`.
pub fn backward_input(plan: &mut PlanBuilder, dy: Tensor, w: Tensor, dx: Tensor, [t, n, k]: [Size; 3], epilogue: Epilogue) {
    product(plan, Product { layout: Layout::Nn, a: dy, b: w, c: dx, m: t, n: k, k: n, starts: [0; 3], epilogue });
}

/// `dw[N, K] += dy[T, N]ᵀ · x[T, K]`
pub fn backward_weight(plan: &mut PlanBuilder, dy: Tensor, x: Tensor, dw: Tensor, [t, n, k]: [Size; 3]) {
    let epilogue = Epilogue::Accumulate;
    product(plan, Product { layout: Layout::Tn, a: dy, b: x, c: dw, m: n, n: k, k: t, starts: [0; 3], epilogue });
}

/// `db[N] += sum over T of dy[T, N]`: the bias gradient, as a product with a column of ones.
pub fn backward_bias(plan: &mut PlanBuilder, dy: Tensor, ones: Tensor, db: Tensor, t: Size, n: Size) {
    let one = Size::fixed(1);
    let epilogue = Epilogue::Accumulate;
    product(plan, Product { layout: Layout::Tn, a: ones, b: dy, c: db, m: one, n, k: t, starts: [0; 3], epilogue });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let mut plan = PlanBuilder::new(tuning);
    let t = plan.kept("epilogue", 1);
    let mut all = Vec::new();
    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
        let mut texts = vec![Text::Direct { wide: true }, Text::Direct { wide: false }];
        if tuning.has(Variant::MatmulSubgroup) {
            let heights = HEIGHTS.iter().filter(|h| layout != Layout::Tn || **h >= 32);
            texts.extend(heights.map(|height| Text::Subgroup { height: *height, narrow: false }));
            texts.extend((layout == Layout::Nt).then_some(Text::Subgroup { height: 16, narrow: true }));
        }
        for text in texts {
            for epilogue in [Epilogue::Write, Epilogue::Bias(t), Epilogue::Residual(t), Epilogue::Accumulate] {
                all.push(spec(layout, text, epilogue, tuning));
            }
        }
    }
    all
}
