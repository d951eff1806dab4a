//! Operations that touch each element once: embedding, rows, rope, SwiGLU, and the random generator.

use super::Bench;
use crate::gpu::{Dispatch, Extent, GpuError, Grid, KernelSpec, Param};
use crate::ops::rope::{Positions, Rotation};
use crate::random::threefry2x32;
use crate::reference::rope::{Llama3Scaling, Tables, default_inv_freq};
use crate::reference::{embedding as embedding_spec, swiglu as swiglu_spec};
use crate::selftest::rig::random;

/// Both ways over the first `live` of eleven tokens; ids repeat, and the table is longer than they reach.
pub async fn embedding(b: &mut Bench, live: usize, width: usize) -> Result<(), GpuError> {
    use crate::ops::embedding;
    use crate::ops::matrix::{FullChunk, Matrix};
    let vocab = 31;
    let all: [u32; 11] = [5, 2, 5, 9, 30, 2, 5, 0, 30, 7, 5];
    let ids = &all[..live];
    let (table, dy, start) = (random(vocab * width, 1), random(all.len() * width, 2), random(vocab * width, 3));
    let sorted = embedding::buckets(ids);
    let mut rig = b.rig();
    let tokens = Extent::dynamic(rig.live(live as u32), all.len() as u32);
    let distinct = Extent::dynamic(rig.live(sorted.buckets.len() as u32), all.len() as u32);
    let gids = rig.words("ids", &all);
    let buckets = rig.words("buckets", &[sorted.buckets.concat(), vec![0; 44 - 4 * sorted.buckets.len()]].concat());
    let order = rig.words("order", &[sorted.tokens, vec![0; all.len() - live]].concat());
    let (gtable, gdy) = (rig.floats("table", &table), rig.floats("dy", &dy));
    let (y, dtable) = (rig.output("y", all.len() * width), rig.floats("dtable", &start));
    let rows = vocab as u32;
    embedding::forward(&mut rig.plan, gids, &Matrix::full(gtable, rows), y, tokens, width as u32);
    embedding::backward(&mut rig.plan, (buckets, order), gdy, &[FullChunk { rows, tensor: dtable }], distinct, width as u32);
    let ran = rig.start(&b.gpu)?;
    let (y, gdtable) = (ran.read_floats(y).await?, ran.read_floats(dtable).await?);
    b.live_exact("embedding", &format!("y, {live} tokens"), &y, &embedding_spec::gather(&table, ids, width));
    let mut expected = start;
    embedding_spec::scatter_add(&mut expected, ids, &dy[..live * width], width);
    b.gradient("embedding backward", &format!("dtable, {live} tokens"), &gdtable, &expected);
    Ok(())
}

/// Picks these of seven tokens, in a plan for three, and hands gradients back.
pub async fn rows(b: &mut Bench, picked: &[u32], width: usize) -> Result<(), GpuError> {
    use crate::ops::rows;
    let tokens = 7;
    let mut row_of = vec![rows::NO_ROW; tokens];
    picked.iter().enumerate().for_each(|(r, t)| row_of[*t as usize] = r as u32);
    let (x, dy) = (random(tokens * width, 1), random(3 * width, 2));
    let mut rig = b.rig();
    let count = Extent::dynamic(rig.live(picked.len() as u32), 3);
    let (gpicked, grow_of) = (rig.words("rows", picked), rig.words("row_of", &row_of));
    let (gx, gdy) = (rig.floats("x", &x), rig.floats("dy", &dy));
    let (y, dx) = (rig.output("y", 3 * width), rig.output("dx", tokens * width));
    rows::gather(&mut rig.plan, gpicked, gx, y, count, width as u32);
    rows::scatter(&mut rig.plan, grow_of, gdy, dx, Extent::fixed(tokens as u32), width as u32);
    let ran = rig.start(&b.gpu)?;
    let (y, gdx) = (ran.read_floats(y).await?, ran.read_floats(dx).await?);
    b.live_exact(
        "rows gather",
        &format!("y, {} of {tokens} tokens", picked.len()),
        &y,
        &embedding_spec::gather(&x, picked, width),
    );
    let mut expected = vec![0.0; tokens * width];
    embedding_spec::scatter_add(&mut expected, picked, &dy[..picked.len() * width], width);
    b.exact("rows scatter", &format!("dx, {} of {tokens} tokens", picked.len()), &gdx, &expected);
    Ok(())
}

/// Default and stretched frequencies, heads of each kind, all heads but the last one or two turning.
pub(super) async fn rotations(b: &mut Bench) -> Result<(), GpuError> {
    for (head_dim, heads, rotated) in [(6, 9, 8), (128, 3, 2)] {
        rope(b, head_dim, heads, rotated).await?;
    }
    Ok(())
}

/// There and back, with plain positions and with those of a cache's places.
pub async fn rope(b: &mut Bench, head_dim: usize, heads: usize, rotated: usize) -> Result<(), GpuError> {
    use crate::ops::rope;
    let scaling =
        Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 64.0 };
    // The positions are not in order: packed sequences start anew, chains go on from their prompt.
    let positions: [u32; 8] = [0, 1, 2, 199, 1, 57, 58, 0];
    for (inv_freq, factor, kind) in [
        (default_inv_freq(head_dim, 10_000.0), 1.0, Positions::Plain),
        (scaling.apply(&default_inv_freq(head_dim, 500_000.0)), 1.25, Positions::Slot),
    ] {
        let width = heads * head_dim;
        let x = random(positions.len() * width, 1);
        let table: Vec<f64> = rope::table(&inv_freq, factor, 200).into_iter().map(f64::from).collect();
        let places: Vec<u32> = match kind {
            Positions::Plain => positions.to_vec(),
            Positions::Slot => positions.iter().flat_map(|p| [9, *p, 8, 7]).collect(),
        };
        let mut rig = b.rig();
        let (gtable, gpositions) = (rig.floats("table", &table), rig.words("positions", &places));
        let (there, back) = (rig.floats("there", &x), rig.floats("back", &x));
        let mut r = Rotation { heads: heads as u32, rotated: rotated as u32, head_dim: head_dim as u32, backward: false };
        let tokens = Extent::fixed(positions.len() as u32);
        rope::rotate(&mut rig.plan, r, there, gtable, (gpositions, kind), tokens);
        r.backward = true;
        rope::rotate(&mut rig.plan, r, back, gtable, (gpositions, kind), tokens);
        let ran = rig.start(&b.gpu)?;
        let tables = Tables::new(&inv_freq, &positions, factor);
        let expect = |turned: Vec<f64>| -> Vec<f64> {
            let turns = |i: usize| i % width < rotated * head_dim;
            x.iter().enumerate().map(|(i, v)| if turns(i) { turned[i] } else { *v }).collect()
        };
        let what = format!("{rotated} of {heads} heads of {head_dim}, {kind:?} positions");
        b.result("rope", &what, &ran.read_floats(there).await?, &expect(tables.rotate(&x)));
        b.gradient("rope backward", &what, &ran.read_floats(back).await?, &expect(tables.rotate_backward(&x)));
    }
    Ok(())
}

/// Also where exp saturates: the first gates are far from zero.
pub async fn swiglu(b: &mut Bench, tokens: usize, live: usize, width: usize) -> Result<(), GpuError> {
    use crate::ops::swiglu;
    let (mut gate_up, dy) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
    if width > 1 {
        gate_up[..2].copy_from_slice(&[-120.0, 300.0]);
    }
    let mut rig = b.rig();
    let count = Extent::dynamic(rig.live(live as u32), tokens as u32);
    let (ggu, gdy) = (rig.floats("gate_up", &gate_up), rig.floats("dy", &dy));
    let (y, dgu) = (rig.output("y", tokens * width), rig.output("dgate_up", tokens * 2 * width));
    swiglu::forward(&mut rig.plan, ggu, y, count, width as u32);
    swiglu::backward(&mut rig.plan, ggu, gdy, dgu, count, width as u32);
    let ran = rig.start(&b.gpu)?;
    // Row by row, so that the row with the extreme gates does not hide the others.
    let (y, dgu) = (ran.read_floats(y).await?, ran.read_floats(dgu).await?);
    for t in 0..tokens {
        let (mut expected_y, mut expected_dgu) = (Vec::new(), Vec::new());
        if t < live {
            let (gate, up) = gate_up[t * 2 * width..][..2 * width].split_at(width);
            let (dgate, dup) = swiglu_spec::swiglu_backward(gate, up, &dy[t * width..][..width]);
            (expected_y, expected_dgu) = (swiglu_spec::swiglu(gate, up), [dgate, dup].concat());
        }
        let what = format!("row {t} of {live} of {width}");
        b.live_result("swiglu", &what, &y[t * width..][..width], &expected_y);
        b.live_gradient("swiglu backward", &what, &dgu[t * 2 * width..][..2 * width], &expected_dgu);
    }
    Ok(())
}

/// The published answers of Threefry-2x32, and those of the host (whose own test holds it to them).
pub async fn threefry(b: &mut Bench) -> Result<(), GpuError> {
    const KNOWN: [u32; 6] = [0x6b20_0159, 0x99ba_4efe, 0x1cb9_96fc, 0xbb00_2be7, 0xc492_3a9c, 0x483d_f7a0];
    let mut inputs: Vec<[u32; 4]> = vec![[0; 4], [u32::MAX; 4], [0x1319_8a2e, 0x0370_7344, 0x243f_6a88, 0x85a3_08d3]];
    inputs.extend((0..300u32).map(|i| [i.wrapping_mul(0x9e37_79b9), i, i / 7, i ^ 0xffff]));
    let mut rig = b.rig();
    let questions = rig.words("questions", inputs.as_flattened());
    let answers = rig.words("answers", &vec![0; inputs.len() * 2]);
    let size = Extent::fixed(inputs.len() as u32);
    rig.plan.dispatch(Dispatch {
        kernel: KernelSpec::new("lib/threefry.wgsl", "answers", &[]),
        tensors: &[questions, answers],
        words: &[Param::Extent(size)],
        grid: Grid::Threads { size, per: 64 },
        flops: 1,
        work: size,
    });
    let found = rig.start(&b.gpu)?.read_words(answers).await?;
    let expected: Vec<u32> = inputs.iter().flat_map(|i| threefry2x32([i[0], i[1]], [i[2], i[3]])).collect();
    let wrong = found.iter().zip(&expected).position(|(a, b)| a != b);
    let what = wrong.map_or_else(|| format!("{} known answers", inputs.len()), |i| format!("the answer to {:x?}", inputs[i / 2]));
    b.holds("threefry", &what, wrong.is_none() && found.starts_with(&KNOWN));
    Ok(())
}
