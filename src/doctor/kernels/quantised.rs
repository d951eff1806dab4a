//! Quantised matrices: products with one on the right, and rows looked up in one, against decoding it first.

use super::Bench;
use crate::gpu::{GpuError, Size, Tensor};
use crate::model::quantised::{BLOCK, Quantisation};
use crate::ops::embedding;
use crate::ops::matmul::{Epilogue, View, forward_between};
use crate::ops::quantised::{Matrix, Quantised};
use crate::reference::matmul as spec;
use crate::reference::quantised as codes;

use crate::doctor::rig::{Rig, random, sum};

/// One row, tails of the tile in both directions, one column, one block and several.
pub(super) async fn all(b: &mut Bench) -> Result<(), GpuError> {
    for form in [Quantisation::Q8, Quantisation::Q4] {
        for shape in [[1, 36, 32], [13, 12, 64], [9, 1, 32], [70, 97, 96]] {
            product(b, form, shape, [3, 2]).await?;
        }
        rows(b, form, 64).await?;
    }
    Ok(())
}

/// `values` packed, on the GPU, and what it means.
fn packed(rig: &mut Rig, form: Quantisation, values: &[f64]) -> (Quantised, Vec<f64>) {
    let narrow: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    let (mut words, mut scales) = (Vec::new(), Vec::new());
    form.encode(&narrow, &mut words, &mut scales);
    let scales: Vec<f64> = scales.into_iter().map(f64::from).collect();
    let meant = codes::meaning(&codes::unpack(&words, form.bits()), &scales);
    let (packed, scales) = (rig.words("packed", &words), rig.floats("scales", &scales));
    (Quantised { bits: form.bits() as u32, packed, scales }, meant)
}

/// Zero, of an outlier, and of both signs: `n` numbers whose blocks are of every kind.
fn blocks(n: usize, seed: u64) -> Vec<f64> {
    let mut values = random(n, seed);
    for (i, block) in values.chunks_mut(BLOCK).enumerate() {
        match i % 5 {
            3 => block.fill(0.0),
            4 => block[i % BLOCK] = -40.0,
            _ => {}
        }
    }
    values
}

/// `C[M, N] = A[M, K] · B[N, K]ᵀ` with all epilogues; rows of A and C begin at `starts`.
pub async fn product(b: &mut Bench, form: Quantisation, [m, n, k]: [usize; 3], starts: [usize; 2]) -> Result<(), GpuError> {
    let operation = format!("matmul nt {}", form.name());
    let left = random((m + starts[0]) * k, 1);
    let (rows, bias) = (random((m + starts[1]) * n, 3), random(n, 4));

    let mut rig = b.rig();
    let (right, meant) = packed(&mut rig, form, &blocks(n * k, 2));
    let ga = rig.floats("a", &left);
    let (gbias, gresidual) = (rig.floats("bias", &bias), rig.floats("residual", &rows));
    let mut outputs: Vec<Tensor> = ["plain", "bias", "residual"].map(|name| rig.output(name, rows.len())).to_vec();
    outputs.push(rig.floats("accumulate", &rows));
    let epilogues =
        [Epilogue::Write, Epilogue::Bias(View::of(gbias, n as u32)), Epilogue::Residual(gresidual), Epilogue::Accumulate];
    for (c, epilogue) in outputs.iter().zip(epilogues) {
        let sizes = [m, n, k].map(|x| Size::fixed(x as u32));
        let (x, y) = (View::of(ga, k as u32).from_row(starts[0] as u32), View::of(*c, n as u32).from_row(starts[1] as u32));
        forward_between(&mut rig.plan, x, Matrix::Quantised(right), y, sizes, epilogue);
    }
    let ran = rig.start(&b.gpu)?;

    let y = spec::linear(&left[starts[0] * k..], &meant, None, k);
    let first = starts[1] * n;
    let biased: Vec<f64> = y.chunks(n).flat_map(|row| sum(row, &bias)).collect();
    let added = sum(&y, &rows[first..]);
    let expected = [("write", &y), ("bias", &biased), ("residual", &added), ("accumulate", &added)];
    for (c, (name, expected)) in outputs.iter().zip(expected) {
        let found = ran.read_floats(*c).await?;
        b.result(&operation, &format!("{name}, {m}x{n}x{k}"), &found[first..], expected);
    }
    Ok(())
}

/// Rows of a table of `width` columns, some of them twice.
pub async fn rows(b: &mut Bench, form: Quantisation, width: usize) -> Result<(), GpuError> {
    let ids = [4u32, 0, 12, 4, 7];
    let mut rig = b.rig();
    let (table, meant) = packed(&mut rig, form, &blocks(13 * width, 5));
    let gids = rig.words("ids", &ids);
    let y = rig.output("y", ids.len() * width);
    let tokens = Size::fixed(ids.len() as u32);
    embedding::forward(&mut rig.plan, gids, Matrix::Quantised(table), y, tokens, width as u32);
    let ran = rig.start(&b.gpu)?;
    let expected: Vec<f64> =
        ids.iter().flat_map(|id| meant[*id as usize * width..][..width].iter().map(|x| f64::from(*x as f32))).collect();
    b.exact(&format!("embedding {}", form.name()), &format!("rows of {width}"), &ran.read_floats(y).await?, &expected);
    Ok(())
}
