//! Operations that touch each element once: embedding, rows, rope, SwiGLU, and the random generator.

use jurist::gpu::{Dispatch, Grid, KernelSpec, Size, Word};
use jurist::ops::rope::{Positions, Rotation};
use jurist::ops::{embedding, rope, rows, swiglu};
use jurist::random::threefry2x32;
use jurist::reference::rope::{Llama3Scaling, Tables, default_inv_freq};
use jurist::reference::{embedding as embedding_spec, swiglu as swiglu_spec};

use crate::common::*;

#[test]
fn embeddings_gather_and_owners_sum() {
    let (vocab, width) = (31, 6);
    let all: Vec<u32> = vec![5, 2, 5, 9, 30, 2, 5, 0, 30, 7, 5];
    for live in [11, 4, 1, 0] {
        let ids = &all[..live];
        let (table, dy, start) = (random(vocab * width, 1), random(all.len() * width, 2), random(vocab * width, 3));
        let sorted = embedding::buckets(ids);
        let mut rig = Rig::new(&software());
        let tokens = Size::live(rig.live(live as u32), all.len() as u32);
        let distinct = Size::live(rig.live(sorted.buckets.len() as u32), all.len() as u32);
        let gids = rig.words("ids", &all);
        let buckets = rig.words("buckets", &[sorted.buckets.concat(), vec![0; 44 - 4 * sorted.buckets.len()]].concat());
        let order = rig.words("order", &[sorted.tokens, vec![0; all.len() - live]].concat());
        let (gtable, gdy) = (rig.floats("table", &table), rig.floats("dy", &dy));
        let (y, dtable) = (rig.output("y", all.len() * width), rig.floats("dtable", &start));
        embedding::forward(&mut rig.plan, gids, gtable, y, tokens, width as u32);
        embedding::backward(&mut rig.plan, (buckets, order), gdy, dtable, distinct, width as u32);
        let ran = rig.run();
        let mut expected = embedding_spec::gather(&table, ids, width);
        expected.resize(all.len() * width, UNTOUCHED);
        close("embedding forward", &ran.floats(y), &expected, 0.0);
        let mut expected = start;
        embedding_spec::scatter_add(&mut expected, ids, &dy[..live * width], width);
        close("embedding backward", &ran.floats(dtable), &expected, BACKWARD);
    }
}

#[test]
fn rows_are_picked_and_handed_back() {
    let (tokens, width) = (7, 5);
    for picked in [vec![6u32, 0, 3], vec![2], vec![]] {
        let mut row_of = vec![rows::NO_ROW; tokens];
        picked.iter().enumerate().for_each(|(r, t)| row_of[*t as usize] = r as u32);
        let (x, dy) = (random(tokens * width, 1), random(3 * width, 2));
        let mut rig = Rig::new(&software());
        let count = Size::live(rig.live(picked.len() as u32), 3);
        let (gpicked, grow_of) = (rig.words("rows", &picked), rig.words("row_of", &row_of));
        let (gx, gdy) = (rig.floats("x", &x), rig.floats("dy", &dy));
        let (y, dx) = (rig.output("y", 3 * width), rig.output("dx", tokens * width));
        rows::gather(&mut rig.plan, gpicked, gx, y, count, width as u32);
        rows::scatter(&mut rig.plan, grow_of, gdy, dx, Size::fixed(tokens as u32), width as u32);
        let ran = rig.run();
        let mut expected = embedding_spec::gather(&x, &picked, width);
        expected.resize(3 * width, UNTOUCHED);
        close("rows gather", &ran.floats(y), &expected, 0.0);
        let mut expected = vec![0.0; tokens * width];
        embedding_spec::scatter_add(&mut expected, &picked, &dy[..picked.len() * width], width);
        close("rows scatter", &ran.floats(dx), &expected, 0.0);
    }
}

#[test]
fn rope_turns_q_and_k_and_back() {
    let scaling =
        Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 64.0 };
    // The positions are not in order: packed sequences start anew, chains go on from their prompt.
    let positions: [u32; 8] = [0, 1, 2, 199, 1, 57, 58, 0];
    for (head_dim, heads, rotated) in [(6, 9, 8), (16, 4, 3), (20, 3, 2), (128, 3, 2)] {
        for (inv_freq, factor, kind) in [
            (default_inv_freq(head_dim, 10_000.0), 1.0, Positions::Plain),
            (scaling.apply(&default_inv_freq(head_dim, 500_000.0)), 1.25, Positions::Place),
        ] {
            let width = heads * head_dim;
            let x = random(positions.len() * width, 1);
            let table: Vec<f64> = rope::table(&inv_freq, factor, 200).concat().into_iter().map(f64::from).collect();
            let places: Vec<u32> = match kind {
                Positions::Plain => positions.to_vec(),
                Positions::Place => positions.iter().flat_map(|p| [9, *p, 8, 7]).collect(),
            };
            let mut rig = Rig::new(&software());
            let (gtable, gpositions) = (rig.floats("table", &table), rig.words("positions", &places));
            let (there, back) = (rig.floats("there", &x), rig.floats("back", &x));
            let mut r = Rotation { heads: heads as u32, rotated: rotated as u32, head_dim: head_dim as u32, backward: false };
            let tokens = Size::fixed(positions.len() as u32);
            rope::rotate(&mut rig.plan, r, there, gtable, (gpositions, kind), tokens);
            r.backward = true;
            rope::rotate(&mut rig.plan, r, back, gtable, (gpositions, kind), tokens);
            let ran = rig.run();
            let tables = Tables::new(&inv_freq, &positions, factor);
            let expect = |turned: Vec<f64>| -> Vec<f64> {
                let turns = |i: usize| i % width < rotated * head_dim;
                x.iter().enumerate().map(|(i, v)| if turns(i) { turned[i] } else { *v }).collect()
            };
            close(&format!("rope {head_dim} {kind:?}"), &ran.floats(there), &expect(tables.rotate(&x)), FORWARD);
            close("rope backward", &ran.floats(back), &expect(tables.rotate_backward(&x)), BACKWARD);
        }
    }
}

#[test]
fn swiglu_also_where_exp_saturates() {
    for (tokens, live, width) in [(1, 1, 1), (7, 7, 13), (9, 4, 5), (9, 0, 5)] {
        let (mut gate_up, dy) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
        gate_up[0] = if width > 1 { -120.0 } else { 0.5 };
        if width > 1 {
            gate_up[1] = 300.0;
        }
        let mut rig = Rig::new(&software());
        let count = Size::live(rig.live(live as u32), tokens as u32);
        let (ggu, gdy) = (rig.floats("gate_up", &gate_up), rig.floats("dy", &dy));
        let (y, dgu) = (rig.output("y", tokens * width), rig.output("dgate_up", tokens * 2 * width));
        swiglu::forward(&mut rig.plan, ggu, y, count, width as u32);
        swiglu::backward(&mut rig.plan, ggu, gdy, dgu, count, width as u32);
        let ran = rig.run();
        let (mut expected_y, mut expected_dgu) = (vec![UNTOUCHED; tokens * width], vec![UNTOUCHED; tokens * 2 * width]);
        for t in 0..live {
            let (gate, up) = gate_up[t * 2 * width..][..2 * width].split_at(width);
            expected_y[t * width..][..width].copy_from_slice(&swiglu_spec::swiglu(gate, up));
            let (dgate, dup) = swiglu_spec::swiglu_backward(gate, up, &dy[t * width..][..width]);
            expected_dgu[t * 2 * width..][..2 * width].copy_from_slice(&[dgate, dup].concat());
        }
        // Row by row, so that the row with the extreme gates does not hide the others.
        let (y, dgu) = (ran.floats(y), ran.floats(dgu));
        for t in 0..tokens {
            close("swiglu forward", &y[t * width..][..width], &expected_y[t * width..][..width], FORWARD);
            let at = t * 2 * width..(t + 1) * 2 * width;
            close("swiglu backward", &dgu[at.clone()], &expected_dgu[at], BACKWARD);
        }
    }
}

/// The WGSL generator gives the words of `src/random.rs`, whose test holds it to the published answers.
#[test]
fn threefry_agrees_with_the_host() {
    let mut inputs: Vec<[u32; 4]> = vec![[0; 4], [u32::MAX; 4], [0x1319_8a2e, 0x0370_7344, 0x243f_6a88, 0x85a3_08d3]];
    inputs.extend((0..300u32).map(|i| [i.wrapping_mul(0x9e37_79b9), i, i / 7, i ^ 0xffff]));
    let mut rig = Rig::new(&software());
    let questions = rig.words("questions", inputs.as_flattened());
    let answers = rig.words("answers", &vec![0; inputs.len() * 2]);
    let size = Size::fixed(inputs.len() as u32);
    rig.plan.dispatch(Dispatch {
        kernel: KernelSpec::new("lib/threefry.wgsl", "answers", &[]),
        tensors: &[questions, answers],
        words: &[Word::Size(size)],
        grid: Grid::Threads { size, per: 64 },
        flops: 1,
        work: size,
    });
    let found = rig.run().words(answers);
    for (input, answer) in inputs.iter().zip(found.chunks(2)) {
        assert_eq!(answer, threefry2x32([input[0], input[1]], [input[2], input[3]]), "{input:x?}");
    }
    assert_eq!(found[..6], [0x6b20_0159, 0x99ba_4efe, 0x1cb9_96fc, 0xbb00_2be7, 0xc492_3a9c, 0x483d_f7a0]);
}
