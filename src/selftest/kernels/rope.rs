//! Rotary position embedding.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::rope::{self, Positions, Rotation};
use crate::reference::rope::{Llama3Scaling, Tables, default_inv_freq};
use crate::selftest::test_plan::random;

/// Pairs by value and by vec4; the last head (v) is not rotated.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    for (head_dim, heads, rotated) in [(6, 9, 8), (128, 3, 2)] {
        rope(checker, head_dim, heads, rotated).await?;
    }
    Ok(())
}

/// Forward and backward: default frequencies at plain positions, and scaled ones at the positions of KV slots.
pub async fn rope(checker: &mut KernelChecker, head_dim: usize, heads: usize, rotated: usize) -> Result<(), GpuError> {
    let scaling =
        Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 64.0 };
    // The positions are not in order: each packed sequence starts at 0, and a chain continues its prompt.
    let positions: [u32; 8] = [0, 1, 2, 199, 1, 57, 58, 0];
    for (inv_freq, factor, kind) in [
        (default_inv_freq(head_dim, 10_000.0), 1.0, Positions::Plain),
        (scaling.apply(&default_inv_freq(head_dim, 500_000.0)), 1.25, Positions::Slot),
    ] {
        let width = heads * head_dim;
        let x = random(positions.len() * width, 1);
        let table: Vec<f64> = rope::table(&inv_freq, factor, 200).into_iter().map(f64::from).collect();
        let words: Vec<u32> = match kind {
            Positions::Plain => positions.to_vec(),
            Positions::Slot => positions.iter().flat_map(|p| [9, *p, 8, 7]).collect(),
        };
        let mut test = checker.test_plan();
        let (gtable, gpositions) = (test.floats("table", &table), test.words("positions", &words));
        let (forward, backward) = (test.floats("forward", &x), test.floats("backward", &x));
        let mut r = Rotation { heads: heads as u32, rotated: rotated as u32, head_dim: head_dim as u32, backward: false };
        let tokens = Extent::fixed(positions.len() as u32);
        rope::record(&mut test.plan, r, forward, gtable, (gpositions, kind), tokens);
        r.backward = true;
        rope::record(&mut test.plan, r, backward, gtable, (gpositions, kind), tokens);
        let built = test.build_and_run(&checker.gpu)?;
        let tables = Tables::new(&inv_freq, &positions, factor);
        let expect = |all_rotated: Vec<f64>| -> Vec<f64> {
            let is_rotated = |i: usize| i % width < rotated * head_dim;
            x.iter().enumerate().map(|(i, v)| if is_rotated(i) { all_rotated[i] } else { *v }).collect()
        };
        let what = format!("{rotated} of {heads} heads of {head_dim}, {kind:?} positions");
        checker.compare_result("rope", &what, &built.read_floats(forward).await?, &expect(tables.rotate(&x)));
        checker.compare_gradient(
            "rope backward",
            &what,
            &built.read_floats(backward).await?,
            &expect(tables.rotate_backward(&x)),
        );
    }
    Ok(())
}
