//! The loss head: statistics of each row and gradients of every objective, in chunks with a remainder.

use jurist::doctor::kernels::loss::{self, Case, SCALE, VOCAB, objectives, row_gradient};
use jurist::gpu::Size;
use jurist::ops::loss_head::{self, LossGradient, LossHead, RowObjective, SCORE_FULL, SCORE_RENORMALISED, STATS};
use jurist::reference::loss as spec;

use crate::common::*;

#[test]
fn every_objective_in_chunks() {
    for tuning in tunings() {
        let mut bench = bench(tuning);
        let mut check = |rows: Vec<RowObjective>, planned, chunk, width, steepness| {
            made(loss::head(&mut bench, Case { rows, planned, chunk, width, steepness }));
        };
        for (planned, chunk, width) in [(14, 4, 6), (14, 14, 8), (17, 3, 16), (14, 1, 5)] {
            check(objectives(), planned, chunk, width, 1.0);
        }
        check(objectives(), 14, 8, 16, 6.0);
        check(objectives()[3..4].to_vec(), 9, 4, 8, 1.0);
        check(Vec::new(), 9, 4, 8, 1.0);
        all_right(bench);
    }
}

/// Labels between two scores are split as the specification splits them.
#[test]
fn labels_between_scores() {
    for row in objectives().iter().filter(|r| r.weight_b != 0.0) {
        let target = spec::soft_target(f64::from(row.label), &SCALE).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!([target[0].0, target[1].0], [row.a, row.b]);
        let share = f64::from(row.weight_b / (row.weight_a + row.weight_b));
        assert!((share - target[1].1).abs() < 1e-6, "label {}: {share}, expected {}", row.label, target[1].1);
    }
}

/// Where nearly no mass is on the scores: the full expectation is near 0, the renormalised one is still a distribution.
#[test]
fn scores_with_little_mass() {
    for tuning in tunings() {
        let mut table = vec![0.0; VOCAB as usize];
        SCALE.iter().enumerate().for_each(|(k, (token, _))| table[*token as usize] = -30.0 + k as f64 * 0.5);
        table[64] = 8.0;
        let row = |score_kind| RowObjective { score_kind, score_weight: 1.0, label: 2.0, ..RowObjective::default() };
        let rows = [row(SCORE_RENORMALISED), row(SCORE_FULL)];
        let mut rig = Rig::new(&tuning);
        let (hidden, gtable) = (rig.floats("hidden", &[1.0, 1.0]), rig.floats("table", &table));
        let grows = rig.words("objectives", bytemuck::cast_slice(&rows));
        let score_tokens = rig.words("score tokens", &SCALE.map(|s| s.0));
        let score_values = rig.floats("score values", &SCALE.map(|s| s.1));
        let (stats, dhidden) = (rig.output("stats", 2 * (STATS + 5)), rig.output("dhidden", 2));
        let count = Size::fixed(2);
        let dtable = rig.floats("dtable", &vec![0.0; VOCAB as usize]);
        let (width, vocab, scores, chunk) = (1, VOCAB, 5, 1);
        let head = LossHead {
            hidden,
            table: gtable.into(),
            rows: grows,
            score_tokens,
            score_values,
            stats,
            count,
            width,
            vocab,
            scores,
            chunk,
        };
        loss_head::record(&mut rig.plan, head, Some(LossGradient { table: gtable, dhidden, dtable: Some(dtable) }));
        let ran = rig.run();
        let expected: Vec<f64> = rows.iter().map(|r| dot(&row_gradient(r, &table), &table)).collect();
        close("loss head, renormalised, little mass", &ran.floats(dhidden)[..1], &expected[..1], BACKWARD);
        let (found, expected) = (ran.floats(dhidden)[1], expected[1]);
        assert!((found - expected).abs() < 1e-9, "full expectation, little mass: {found}, expected {expected}");
    }
}
