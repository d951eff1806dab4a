//! Weight matrices as products and look-ups read them: packed, and cut by rows into chunks, against the whole in f64.

use super::Bench;
use super::linear::{Operand, Window};
use crate::gpu::{Extent, GpuError, Tensor};
use crate::ops::embedding;
use crate::ops::matmul::{Epilogue, Layout, View, backward_input_between, backward_weight_between, forward_between};
use crate::ops::matrix::{FullChunk, Matrix, Packed, RowChunk, Storage};
use crate::ops::weight_dtype::{BLOCK, WeightDtype};
use crate::reference::embedding as embedding_spec;
use crate::reference::matmul as spec;
use crate::reference::quantised as codes;

use crate::selftest::rig::{Rig, UNTOUCHED, random, sum};

/// How a matrix is held: as which dtype, in chunks of so many rows.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub dtype: WeightDtype,
    pub cuts: &'a [usize],
}

impl Stored<'_> {
    fn rows(&self) -> usize {
        self.cuts.iter().sum()
    }

    /// In the names of checks: " q8", " in chunks".
    pub(super) fn name(&self) -> String {
        let dtype = if self.dtype == WeightDtype::F32 { String::new() } else { format!(" {}", self.dtype.name()) };
        if self.cuts.len() > 1 { dtype + " in chunks" } else { dtype }
    }
}

/// One row, tails of the tile in both directions, one column, one block and several; chunks of uneven rows.
pub(super) async fn all(b: &mut Bench) -> Result<(), GpuError> {
    for dtype in WeightDtype::PACKED {
        for [m, n, k] in [[1, 36, 32], [13, 12, 64], [9, 1, 32], [70, 97, 96]] {
            product(b, Stored { dtype, cuts: &[n] }, Layout::Nt, [m, k], Operand::CHUNKS).await?;
            product(b, Stored { dtype, cuts: &[n] }, Layout::Nn, [m, k], Operand::CHUNKS).await?;
        }
        rows(b, Stored { dtype, cuts: &[13] }, 64).await?;
    }
    for dtype in [WeightDtype::F32, WeightDtype::Q8] {
        let how = Stored { dtype, cuts: &[16, 16, 5] };
        product(b, how, Layout::Nt, [13, 64], Operand::WINDOWS).await?;
        product(b, how, Layout::Nn, [13, 64], Operand::ODD_WINDOWS).await?;
        rows(b, how, 64).await?;
    }
    weight_gradient(b, &[16, 16, 5], [13, 10]).await
}

/// `values` `[_, width]` as `how` says, on the GPU, and what that means.
pub fn held(rig: &mut Rig, how: &Stored, values: &[f64], width: usize) -> (Matrix, Vec<f64>) {
    let (mut chunks, mut meant, mut rest) = (Vec::new(), Vec::new(), values);
    for rows in how.cuts {
        let (own, others) = rest.split_at(rows * width);
        rest = others;
        let (storage, means) = match how.dtype {
            WeightDtype::F32 => (Storage::Full(rig.floats("chunk", own)), own.to_vec()),
            dtype => {
                let (packed, means) = packed(rig, dtype, own);
                (Storage::Packed(packed), means)
            }
        };
        chunks.push(RowChunk { rows: *rows as u32, storage });
        meant.extend(means);
    }
    (Matrix { chunks }, meant)
}

/// `values` `[_, width]` in f32, cut into chunks that may be written.
pub fn chunks(rig: &mut Rig, cuts: &[usize], values: &[f64], width: usize) -> Vec<FullChunk> {
    let mut rest = values;
    let mut cut = |rows: &usize| {
        let (own, others) = rest.split_at(rows * width);
        rest = others;
        FullChunk { rows: *rows as u32, tensor: rig.floats("chunk", own) }
    };
    cuts.iter().map(&mut cut).collect()
}

/// `values` packed, on the GPU, and what it means.
fn packed(rig: &mut Rig, dtype: WeightDtype, values: &[f64]) -> (Packed, Vec<f64>) {
    let narrow: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    let (words, scales) = dtype.encode(&narrow);
    let scales: Vec<f64> = scales.into_iter().map(f64::from).collect();
    let meant = match dtype {
        WeightDtype::F32 => values.to_vec(),
        WeightDtype::F16 => codes::halves(&words, 5),
        WeightDtype::Bf16 => codes::halves(&words, 8),
        WeightDtype::Q8 | WeightDtype::Q4 => codes::meaning(&codes::unpack(&words, dtype.bits()), &scales),
    };
    let words = rig.words("words", &words);
    let scales = dtype.is_quantised().then(|| rig.floats("scales", &scales));
    (Packed { dtype, words, scales }, meant)
}

/// Zero, of an outlier, and of both signs: `n` numbers whose blocks are of every kind. None of them is subnormal in f16, which
/// some devices read as 0.
fn blocks(n: usize, seed: u64) -> Vec<f64> {
    let mut values: Vec<f64> = random(n, seed).into_iter().map(|x| if x.abs() < 1e-4 { 0.0 } else { x }).collect();
    for (i, block) in values.chunks_mut(BLOCK).enumerate() {
        match i % 5 {
            3 => block.fill(0.0),
            4 => block[i % block.len()] = -40.0,
            _ => {}
        }
    }
    values
}

/// `y[M, N] = x[M, K] · w[N, K]ᵀ` (`Nt`) or `y[M, K] = x[M, N] · w[N, K]` (`Nn`) with all epilogues, w being `how.rows()` rows
/// of `width`; x and y are windows at `place`, which scales nothing here.
pub async fn product(
    b: &mut Bench,
    how: Stored<'_>,
    layout: Layout,
    [m, width]: [usize; 2],
    place: Operand,
) -> Result<(), GpuError> {
    let transposed = layout == Layout::Nt;
    let (inputs, outputs) = if transposed { (width, how.rows()) } else { (how.rows(), width) };
    let operation = format!("matmul {}{}", if transposed { "nt" } else { "nn" }, how.name());
    let (x, y) = (Window::new([m, inputs], &place, 0, 1), Window::new([m, outputs], &place, 2, 3));
    let bias = random(outputs, 4);

    let mut rig = b.rig();
    let (w, meant) = held(&mut rig, &how, &blocks(how.rows() * width, 2), width);
    let gx = x.view(rig.floats("x", &x.all));
    let gbias = View::of(rig.floats("bias", &bias), outputs as u32);
    let gresidual = rig.floats("residual", &y.all);
    let mut out: Vec<Tensor> = ["plain", "bias", "residual"].map(|name| rig.output(name, y.all.len())).to_vec();
    out.push(rig.floats("accumulate", &y.all));
    let epilogues = [Epilogue::Write, Epilogue::Bias(gbias), Epilogue::Residual(gresidual), Epilogue::Accumulate];
    for (c, epilogue) in out.iter().zip(epilogues) {
        let sizes = [m, width].map(|x| Extent::fixed(x as u32));
        match transposed {
            true => forward_between(&mut rig.plan, gx, &w, y.view(*c), sizes, epilogue),
            false => backward_input_between(&mut rig.plan, gx, &w, y.view(*c), sizes, epilogue),
        }
    }
    let ran = rig.start(&b.gpu)?;

    let x = x.of(&x.all);
    let plain = if transposed { spec::linear(&x, &meant, None, width) } else { spec::linear_dx(&x, &meant, width) };
    let biased: Vec<f64> = plain.chunks(outputs).flat_map(|row| sum(row, &bias)).collect();
    let added = sum(&plain, &y.of(&y.all));
    let expected = [("write", &plain), ("bias", &biased), ("residual", &added), ("accumulate", &added)];
    for (c, (name, expected)) in out.iter().zip(expected) {
        let (all, what) = (ran.read_floats(*c).await?, format!("{name}, {m}x{inputs} to {outputs}"));
        match transposed {
            true => b.result(&operation, &what, &y.of(&all), expected),
            false => b.gradient(&operation, &what, &y.of(&all), expected),
        }
        let before = if name == "accumulate" { y.all.clone() } else { vec![UNTOUCHED; all.len()] };
        b.exact(&operation, &format!("{what}, around the window"), &y.around(&all), &y.around(&before));
    }
    Ok(())
}

/// `dw[N, K] += dy[T, N]ᵀ · x[T, K]` into chunks.
pub async fn weight_gradient(b: &mut Bench, cuts: &[usize], [t, k]: [usize; 2]) -> Result<(), GpuError> {
    let n = cuts.iter().sum();
    let (dy, x, start) = (random(t * n, 1), random(t * k, 2), random(n * k, 3));
    let mut rig = b.rig();
    let (gdy, gx) = (rig.floats("dy", &dy), rig.floats("x", &x));
    let dw = chunks(&mut rig, cuts, &start, k);
    let (dy_view, x_view) = (View::of(gdy, n as u32), View::of(gx, k as u32));
    backward_weight_between(&mut rig.plan, dy_view, x_view, &dw, [t, k].map(|x| Extent::fixed(x as u32)));
    let ran = rig.start(&b.gpu)?;
    let mut found = Vec::new();
    for chunk in &dw {
        found.extend(ran.read_floats(chunk.tensor).await?);
    }
    let expected = sum(&spec::linear_dw(&dy, &x, k, n), &start);
    b.gradient("matmul tn in chunks", &format!("dw, {n}x{t}x{k}"), &found, &expected);
    Ok(())
}

/// Rows of a table of `width` columns, some of them twice, from every chunk; and of one in f32 the way back.
pub async fn rows(b: &mut Bench, how: Stored<'_>, width: usize) -> Result<(), GpuError> {
    let last = how.rows() as u32 - 1;
    let ids = [4, 0, last, 4, 7, last / 2];
    let (values, dy, start) = (blocks(how.rows() * width, 5), random(ids.len() * width, 6), random(how.rows() * width, 7));
    let mut rig = b.rig();
    let (table, meant) = held(&mut rig, &how, &values, width);
    let (gids, y) = (rig.words("ids", &ids), rig.output("y", ids.len() * width));
    embedding::forward(&mut rig.plan, gids, &table, y, Extent::fixed(ids.len() as u32), width as u32);
    let sorted = embedding::buckets(&ids);
    let order = (rig.words("buckets", sorted.buckets.as_flattened()), rig.words("order", &sorted.tokens));
    let (gdy, dtable) = (rig.floats("dy", &dy), chunks(&mut rig, how.cuts, &start, width));
    embedding::backward(&mut rig.plan, order, gdy, &dtable, Extent::fixed(sorted.buckets.len() as u32), width as u32);
    let ran = rig.start(&b.gpu)?;

    let operation = format!("embedding{}", how.name());
    let meant: Vec<f64> = meant.into_iter().map(|x| f64::from(x as f32)).collect();
    let expected = embedding_spec::gather(&meant, &ids, width);
    b.exact(&operation, &format!("rows of {width}"), &ran.read_floats(y).await?, &expected);
    if how.dtype == WeightDtype::F32 {
        let mut found = Vec::new();
        for chunk in &dtable {
            found.extend(ran.read_floats(chunk.tensor).await?);
        }
        let mut expected = start;
        embedding_spec::scatter_add(&mut expected, &ids, &dy, width);
        b.gradient(&format!("embedding backward{}", how.name()), &format!("rows of {width}"), &found, &expected);
    }
    Ok(())
}
