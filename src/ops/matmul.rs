//! Matrix products: forward, input gradient and weight gradient of a linear layer (`shaders/matmul.wgsl`, for CPU adapters
//! with subgroups `shaders/matmul_subgroup.wgsl` and `shaders/matmul_quad.wgsl`, for matrix units
//! `shaders/matmul_cooperative.wgsl`, for GPUs `shaders/matmul_staged.wgsl`, of few rows `shaders/matmul_skinny.wgsl`).

use super::matmul_packed::{self, PackedProduct};
use super::matrix::{FullChunk, Matrix, Storage, placed};
use super::quad;
use super::skinny;
use super::staged;
use super::weight_product::WeightProduct;
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, MatrixUnit, Param, PlanBuilder, Tensor, Tuning, Variant};

/// The sides that are transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `C[M, N] = A[M, K] · B[N, K]ᵀ`: `y = x Wᵀ`.
    Nt,
    /// `C[M, N] = A[M, K] · B[K, N]`: `dx = dy W`.
    Nn,
    /// `C[M, N] = A[K, M]ᵀ · B[K, N]`: `dW = dyᵀ x`.
    Tn,
}

impl Layout {
    /// The entry point of the kernels.
    pub(super) fn entry(self) -> &'static str {
        match self {
            Layout::Nt => "nt",
            Layout::Nn => "nn",
            Layout::Tn => "tn",
        }
    }
}

/// Where the elements of a matrix lie in a tensor: (i, j) is at `start + i * stride + j`.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub tensor: Tensor,
    pub start: u32,
    pub stride: u32,
}

impl View {
    /// All of a tensor `[_, width]`.
    pub fn of(tensor: Tensor, width: u32) -> Self {
        View { tensor, start: 0, stride: width }
    }

    /// Its rows from `row` on.
    pub fn at_row(self, row: u32) -> Self {
        View { start: self.start + row * self.stride, ..self }
    }

    /// Its columns from `column` on.
    pub fn at_column(self, column: u32) -> Self {
        View { start: self.start + column, ..self }
    }

    /// Whether every row begins where a vec4 does.
    pub(super) fn by_four(self) -> bool {
        self.start.is_multiple_of(4) && self.stride.is_multiple_of(4)
    }
}

/// How a product is stored.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue {
    /// `C = s A·B`
    Write,
    /// `C = s A·B + bias[N]`, the first row of a view.
    Bias(View),
    /// `C = s A·B + R[M, N]`, where R is another tensor with the window of C.
    Residual(Tensor),
    /// `C += s A·B`
    Accumulate,
}

impl Epilogue {
    /// The constants of the kernels.
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
            Epilogue::Bias(View { tensor, .. }) | Epilogue::Residual(tensor) => Some(tensor),
            Epilogue::Write | Epilogue::Accumulate => None,
        }
    }

    /// The same for the columns from `column` on.
    pub(super) fn at_column(self, column: u32) -> Self {
        if let Epilogue::Bias(bias) = self { Epilogue::Bias(bias.at_column(column)) } else { self }
    }

    /// Where the bias begins.
    fn bias_start(self) -> u32 {
        if let Epilogue::Bias(bias) = self { bias.start } else { 0 }
    }

    /// One of each kind, for catalogues.
    pub(super) fn all(t: Tensor) -> [Epilogue; 4] {
        [Epilogue::Write, Epilogue::Bias(View::of(t, 1)), Epilogue::Residual(t), Epilogue::Accumulate]
    }
}

/// One product. `m`, `n`, `k` are its sizes; at most one of them may be dynamic.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub layout: Layout,
    pub a: View,
    pub b: View,
    pub c: View,
    pub m: Extent,
    pub n: Extent,
    pub k: Extent,
    /// s in `C (+)= s A·B`; bias and residual are not scaled.
    pub scale: f32,
    pub epilogue: Epilogue,
}

impl Product {
    /// Of whole tensors a, b, c and sizes m, n, k; s = 1.
    pub fn whole(layout: Layout, [a, b, c]: [Tensor; 3], [m, n, k]: [Extent; 3], epilogue: Epilogue) -> Self {
        let (a_width, b_width) = match layout {
            Layout::Nt => (k, k),
            Layout::Nn => (k, n),
            Layout::Tn => (m, n),
        };
        let (a, b, c) = (View::of(a, a_width.max()), View::of(b, b_width.max()), View::of(c, n.max()));
        Product { layout, a, b, c, m, n, k, scale: 1.0, epilogue }
    }

    /// Whether C can be written by vec4.
    pub(super) fn writes_quads(&self) -> bool {
        self.n.max().is_multiple_of(4) && self.c.by_four() && self.epilogue.bias_start().is_multiple_of(4)
    }

    /// The size that the work grows with (the dynamic one, if any), and the floating point operations for each of it.
    pub(super) fn work(&self) -> (Extent, u64) {
        let (work, others) = match self.layout {
            Layout::Tn => (self.k, u64::from(self.m.max()) * u64::from(self.n.max())),
            _ => (self.m, u64::from(self.k.max()) * u64::from(self.n.max())),
        };
        (work, 2 * others)
    }

    /// Records it by `kernel`, which computes a tile of so many columns and rows at a time. `scales` are those of a packed B.
    pub(super) fn record_by(self, plan: &mut PlanBuilder, kernel: KernelSpec, scales: Option<Tensor>, [columns, rows]: [u32; 2]) {
        let mut tensors = vec![self.a.tensor, self.b.tensor, self.c.tensor];
        tensors.extend(scales);
        tensors.extend(self.epilogue.tensor());
        let (work, flops) = self.work();
        plan.dispatch(Dispatch {
            kernel,
            tensors: &tensors,
            params: &parameters([self.m, self.n, self.k], [self.a, self.b, self.c], self.scale, self.epilogue),
            grid: Grid::Tiles { x: self.n, tile_x: columns, y: self.m, tile_y: rows },
            flops,
            work,
        });
    }
}

/// The parameters of `shaders/lib/product.wgsl`.
pub(super) fn parameters([m, n, k]: [Extent; 3], views: [View; 3], scale: f32, epilogue: Epilogue) -> Vec<Param> {
    let mut params = [m, n, k].map(Param::Extent).to_vec();
    params.extend(views.into_iter().flat_map(|view| [view.start, view.stride]).map(Param::U));
    params.extend([Param::U(epilogue.bias_start()), Param::F(scale)]);
    params
}

/// Heights of a subgroup's tile, in rows.
const HEIGHTS: [u32; 5] = [64, 32, 16, 8, 4];
/// The height in a product of one row, except in `Tn`.
const SINGLE: u32 = 1;
/// With fewer tiles a lower tile is taken, so that every core has work until the end.
const TILES: u32 = 8;

/// The lowest tile that has room for all rows, else the tallest that leaves enough tiles: loading B once per tile takes more time
/// than computing empty rows. The order of the sums is the same for every height.
fn height(layout: Layout, lanes: u32, m: u32, n: u32) -> u32 {
    if m == SINGLE && layout != Layout::Tn {
        return SINGLE;
    }
    let least = least_height(layout, lanes);
    let columns = n.div_ceil(4 * lanes);
    let roomy = HEIGHTS.into_iter().rev().find(|h| *h >= m).unwrap_or(HEIGHTS[0]).min(most_height(lanes));
    let fits = |h: &&u32| **h == least || (**h <= roomy && m.div_ceil(**h) * columns >= TILES);
    HEIGHTS.iter().filter(|h| **h >= least).find(fits).copied().unwrap_or(least)
}

/// A block of A is one row for each lane, and in `Tn` four.
fn least_height(layout: Layout, lanes: u32) -> u32 {
    if layout == Layout::Tn { 4 * lanes } else { HEIGHTS[HEIGHTS.len() - 1] }
}

/// With 4 lanes, 64 rows take longer than 32 (SwiftShader).
fn most_height(lanes: u32) -> u32 {
    8 * lanes
}

/// vec4s of K in a turn of `Nt`: where a tile has half as many rows as lanes, each of them is loaded by two lanes.
fn split(lanes: u32, height: u32, k: Extent) -> u32 {
    if 2 * height == lanes && k.is_fixed() && k.max().is_multiple_of(8) { 2 } else { 1 }
}

/// The kernel of a product.
#[derive(Clone, Copy, Debug)]
enum Implementation {
    /// `matmul.wgsl`, by value or by vec4.
    Direct { wide: bool },
    /// `matmul_subgroup.wgsl`, with tiles of `height` rows; narrow: C cannot be written by vec4.
    Subgroup { lanes: u32, height: u32, narrow: bool, split: u32 },
    /// `matmul_cooperative.wgsl`.
    Cooperative(MatrixUnit),
}

/// Rows and columns of a tile of matrix units, and of the part of one subgroup; steps of K that are staged at a time.
const UNIT_TILE: u32 = 64;
const UNIT_PART: u32 = 32;
const UNIT_DEPTH: u32 = 16;
/// vec4s of a staged block.
const UNIT_QUADS: u32 = UNIT_TILE * UNIT_DEPTH / 4;

fn spec(layout: Layout, implementation: Implementation, epilogue: Epilogue, tuning: &Tuning) -> KernelSpec {
    let [x, y] = tuning.matmul_group;
    let (file, constants) = match implementation {
        Implementation::Subgroup { lanes, height, narrow, split } => {
            // A tile of 4 rows is half a block of 8 lanes.
            let blocks = match layout {
                Layout::Tn => vec![("GROUPS", height / (4 * lanes))],
                Layout::Nt | Layout::Nn => vec![("BLOCKS", height.div_ceil(lanes)), ("ROWS", height.min(lanes))],
            };
            let tile = [("LANES", lanes), ("HEIGHT", height), ("NARROW", u32::from(narrow)), ("SPLIT", split)];
            ("matmul_subgroup.wgsl", [&tile[..], &blocks].concat())
        }
        Implementation::Cooperative(MatrixUnit { size, subgroup }) => {
            let threads = subgroup * (UNIT_TILE / UNIT_PART).pow(2);
            let group = [("SUBGROUP", subgroup), ("THREADS", threads), ("LOADS", UNIT_QUADS / threads)];
            let squares = [("SIZE", size), ("TILES", UNIT_PART / size)];
            ("matmul_cooperative.wgsl", [&group[..], &squares].concat())
        }
        Implementation::Direct { wide } => ("matmul.wgsl", vec![("WIDE", u32::from(wide)), ("GROUP_X", x), ("GROUP_Y", y)]),
    };
    KernelSpec::new(file, layout.entry(), &[&constants[..], &epilogue.constants()].concat())
}

/// Records `p`.
pub fn record_product(plan: &mut PlanBuilder, p: Product) {
    let by_four = |size: Extent| size.max().is_multiple_of(4);
    let sides = match p.layout {
        Layout::Nt => by_four(p.k),
        Layout::Nn => by_four(p.k) && by_four(p.n),
        Layout::Tn => by_four(p.m) && by_four(p.n),
    };
    let wide = sides && p.a.by_four() && p.b.by_four();
    // Of the kernels for subgroups and the staged ones only `Nt` can write by value.
    let quads = p.writes_quads();
    let writes = wide && (quads || p.layout == Layout::Nt);
    let [x, y] = plan.tuning().matmul_group;
    let lanes = plan.tuning().lanes.filter(|_| writes && plan.tuning().has(Variant::MatmulSubgroup));
    let skinny = wide && plan.tuning().has(Variant::MatmulSkinny) && skinny::suits(&p);
    let staged = writes && plan.tuning().has(Variant::MatmulStaged);
    // With less than half a tile, most of it would be empty.
    let filled = p.m.max() >= UNIT_PART && p.n.max() >= UNIT_PART;
    let unit = plan.tuning().matrix_unit.filter(|_| wide && filled && plan.tuning().has(Variant::MatmulCooperative));
    let (implementation, tile) = if let Some(unit) = unit {
        (Implementation::Cooperative(unit), [UNIT_TILE; 2])
    } else if skinny {
        return skinny::record(plan, WeightProduct::from(p));
    } else if staged {
        return staged::record_product(plan, p);
    } else if lanes == Some(quad::LANES) && p.layout == Layout::Nt {
        return quad::record(plan, WeightProduct::from(p));
    } else if let Some(lanes) = lanes {
        let height = height(p.layout, lanes, p.m.max(), p.n.max());
        let split = if p.layout == Layout::Nt { split(lanes, height, p.k) } else { 1 };
        (Implementation::Subgroup { lanes, height, narrow: !quads, split }, [4 * lanes, height])
    } else {
        (Implementation::Direct { wide }, [8 * x, 8 * y])
    };
    let kernel = spec(p.layout, implementation, p.epilogue, plan.tuning());
    p.record_by(plan, kernel, None, tile);
}

/// `y[T, N] = x[T, K] · w[N, K]ᵀ`, then the epilogue.
pub fn record_forward(plan: &mut PlanBuilder, x: Tensor, w: &Matrix, y: Tensor, [t, n, k]: [Extent; 3], epilogue: Epilogue) {
    record_forward_between(plan, View::of(x, k.max()), w, View::of(y, n.max()), [t, k], epilogue);
}

/// As [`record_forward`], from and to windows; N is the rows of `w`.
pub fn record_forward_between(plan: &mut PlanBuilder, x: View, w: &Matrix, y: View, [t, k]: [Extent; 2], epilogue: Epilogue) {
    for (first, chunk) in w.placed() {
        let (n, y, epilogue) = (Extent::fixed(chunk.rows), y.at_column(first), epilogue.at_column(first));
        match chunk.storage {
            Storage::Full(w) => {
                let b = View::of(w, k.max());
                record_product(plan, Product { layout: Layout::Nt, a: x, b, c: y, m: t, n, k, scale: 1.0, epilogue });
            }
            Storage::Packed(w) => {
                matmul_packed::record_product(plan, PackedProduct { transposed: true, x, w, y }, [t, n, k], epilogue)
            }
        }
    }
}

/// `dx[T, K] = dy[T, N] · w[N, K]`, then the epilogue.
pub fn record_backward_input(
    plan: &mut PlanBuilder,
    dy: Tensor,
    w: &Matrix,
    dx: Tensor,
    [t, n, k]: [Extent; 3],
    epilogue: Epilogue,
) {
    record_backward_input_between(plan, View::of(dy, n.max()), w, View::of(dx, k.max()), [t, k], epilogue);
}

/// As [`record_backward_input`], from and to windows; N is the rows of `w`.
pub fn record_backward_input_between(
    plan: &mut PlanBuilder,
    dy: View,
    w: &Matrix,
    dx: View,
    [t, k]: [Extent; 2],
    epilogue: Epilogue,
) {
    for (first, chunk) in w.placed() {
        // The other chunks add to what the first one wrote.
        let epilogue = if first == 0 { epilogue } else { Epilogue::Accumulate };
        let (dy, n) = (dy.at_column(first), Extent::fixed(chunk.rows));
        match chunk.storage {
            Storage::Full(w) => {
                let b = View::of(w, k.max());
                record_product(plan, Product { layout: Layout::Nn, a: dy, b, c: dx, m: t, n: k, k: n, scale: 1.0, epilogue });
            }
            Storage::Packed(w) => {
                matmul_packed::record_product(plan, PackedProduct { transposed: false, x: dy, w, y: dx }, [t, k, n], epilogue);
            }
        }
    }
}

/// `dw[N, K] += dy[T, N]ᵀ · x[T, K]`
pub fn record_backward_weight(plan: &mut PlanBuilder, dy: Tensor, x: Tensor, dw: &[FullChunk], [t, n, k]: [Extent; 3]) {
    record_backward_weight_between(plan, View::of(dy, n.max()), View::of(x, k.max()), dw, [t, k]);
}

/// As [`record_backward_weight`], from windows; N is the rows of `dw`.
pub fn record_backward_weight_between(plan: &mut PlanBuilder, dy: View, x: View, dw: &[FullChunk], [t, k]: [Extent; 2]) {
    for (first, chunk) in placed(dw, |chunk| chunk.rows) {
        let (a, c, m) = (dy.at_column(first), View::of(chunk.tensor, k.max()), Extent::fixed(chunk.rows));
        let (layout, epilogue) = (Layout::Tn, Epilogue::Accumulate);
        record_product(plan, Product { layout, a, b: x, c, m, n: k, k: t, scale: 1.0, epilogue });
    }
}

/// `db[N] += sum over T of dy[T, N]`: the bias gradient, as a product with a column of ones.
pub fn record_backward_bias(plan: &mut PlanBuilder, dy: Tensor, ones: Tensor, db: Tensor, t: Extent, n: Extent) {
    record_product(plan, Product::whole(Layout::Tn, [ones, dy, db], [Extent::fixed(1), n, t], Epilogue::Accumulate));
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let mut plan = PlanBuilder::new(tuning);
    let t = plan.persistent("epilogue", 1);
    let mut all = Vec::new();
    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
        let mut implementations = vec![Implementation::Direct { wide: true }, Implementation::Direct { wide: false }];
        if let Some(lanes) = tuning.lanes.filter(|_| tuning.has(Variant::MatmulSubgroup)) {
            let tiles = least_height(layout, lanes)..=most_height(lanes);
            let single = (layout != Layout::Tn).then_some(SINGLE);
            let heights = HEIGHTS.into_iter().filter(|h| tiles.contains(h)).chain(single);
            let subgroup = |height, narrow, split| Implementation::Subgroup { lanes, height, narrow, split };
            let whole = |height| subgroup(height, false, 1);
            match (lanes, layout) {
                (quad::LANES, Layout::Nt) => all.extend(quad::variants(&mut plan)),
                (_, Layout::Nt) => {
                    implementations.extend(heights.map(whole).chain([subgroup(lanes / 2, false, 2), subgroup(16, true, 1)]));
                }
                _ => implementations.extend(heights.map(whole)),
            }
        }
        if tuning.has(Variant::MatmulSkinny) && layout == Layout::Nt {
            all.extend(skinny::variants(&mut plan));
        }
        if tuning.has(Variant::MatmulStaged) {
            all.extend(staged::variants(layout, &Epilogue::all(t)));
        }
        let unit = tuning.matrix_unit.filter(|_| tuning.has(Variant::MatmulCooperative));
        implementations.extend(unit.map(Implementation::Cooperative));
        for implementation in implementations {
            for epilogue in Epilogue::all(t) {
                all.push(spec(layout, implementation, epilogue, tuning));
            }
        }
    }
    all
}
