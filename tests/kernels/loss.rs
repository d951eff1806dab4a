//! The loss head: statistics of each row and gradients of every objective, in chunks with a remainder.

use jurist::gpu::{Size, Tuning};
use jurist::ops::loss_head::{self, LossGradient, LossHead, RowObjective, SCORE_FULL, SCORE_NONE, SCORE_RENORMALISED, STATS};
use jurist::reference::loss::{self as spec, Score};
use jurist::reference::matmul::{linear, linear_dw, linear_dx};

use crate::common::*;

/// A prime: no tile, no vec4, no team of lanes divides it. The scores' tokens are neither in order nor at the edges alone.
const VOCAB: u32 = 131;
const SCALE: [(u32, f64); 5] = [(77, 3.0), (130, 1.0), (0, 5.0), (12, 2.0), (13, 4.0)];

/// One row of each kind, and mixtures.
fn objectives() -> Vec<RowObjective> {
    let none = RowObjective::default();
    let plain = |a| RowObjective { a, b: a, weight_a: 1.0, ..none };
    let between = |label: f64, weight: f64| {
        let target = spec::soft_target(label, &SCALE).unwrap_or_else(|e| panic!("{e}"));
        let (a, b) = (target[0], target.get(1).copied().unwrap_or((target[0].0, 0.0)));
        RowObjective {
            a: a.0,
            b: b.0,
            weight_a: (weight * a.1) as f32,
            weight_b: (weight * b.1) as f32,
            label: label as f32,
            ..none
        }
    };
    let score = |row: RowObjective, score_kind, score_weight| RowObjective { score_kind, score_weight, ..row };
    vec![
        plain(5),
        plain(VOCAB - 1),
        RowObjective { weight_a: -0.7, ..plain(77) },
        between(2.5, 1.0),
        between(4.0, 0.3),
        score(RowObjective { label: 4.25, ..none }, SCORE_FULL, 1.0),
        score(RowObjective { label: 1.0, ..none }, SCORE_RENORMALISED, 1.0),
        RowObjective { entropy_weight: -0.5, ..none },
        score(RowObjective { entropy_weight: 0.2, ..between(3.4, 0.8) }, SCORE_RENORMALISED, -1.5),
        score(RowObjective { entropy_weight: -0.1, ..between(1.5, 0.1) }, SCORE_FULL, 2.0),
        none,
    ]
}

/// dL/dz of a row, by the specification, and the loss itself.
fn loss_of(row: &RowObjective, logits: &[f64]) -> (f64, Vec<f64>) {
    let w = f64::from;
    let scale: Vec<Score> = SCALE.to_vec();
    let mut all = spec::cross_entropy(logits, &[(row.a, w(row.weight_a)), (row.b, w(row.weight_b))]);
    let label = w(row.label);
    match row.score_kind {
        SCORE_FULL => all = all.plus(spec::squared_error_full(logits, &scale, label).scaled(w(row.score_weight))),
        SCORE_RENORMALISED => {
            all = all.plus(spec::squared_error_renormalised(logits, &scale, label).scaled(w(row.score_weight)));
        }
        _ => assert_eq!(row.score_kind, SCORE_NONE),
    }
    let entropy = spec::row_stats(logits, None, &[]).entropy;
    let gradient = spec::row_gradient(logits, &all.coefficients, w(row.entropy_weight));
    (all.value + w(row.entropy_weight) * entropy, gradient)
}

struct Case {
    rows: Vec<RowObjective>,
    planned: usize,
    chunk: u32,
    width: usize,
    /// Size of the logits.
    steepness: f64,
}

#[test]
fn every_objective_in_chunks() {
    for tuning in tunings() {
        for (planned, chunk, width) in [(11, 4, 6), (11, 11, 8), (14, 3, 16), (11, 1, 5)] {
            check(&tuning, Case { rows: objectives(), planned, chunk, width, steepness: 1.0 });
        }
        check(&tuning, Case { rows: objectives(), planned: 11, chunk: 8, width: 16, steepness: 6.0 });
        check(&tuning, Case { rows: objectives()[3..4].to_vec(), planned: 9, chunk: 4, width: 8, steepness: 1.0 });
        check(&tuning, Case { rows: Vec::new(), planned: 9, chunk: 4, width: 8, steepness: 1.0 });
    }
}

/// More live rows than planned, 9 in chunks of 4: the last chunk must not go on past the planned end.
#[test]
fn too_many_rows_are_cut() {
    let rows = objectives()[..9].to_vec();
    check_live(&software(), Case { rows, planned: 9, chunk: 4, width: 8, steepness: 1.0 }, 12);
}

fn check(tuning: &Tuning, case: Case) {
    let live = case.rows.len() as u32;
    check_live(tuning, case, live);
}

fn check_live(tuning: &Tuning, case: Case, live: u32) {
    let Case { rows, planned, chunk, width, steepness } = case;
    let (count, vocab, scores) = (rows.len(), VOCAB as usize, SCALE.len());
    // A few rows more than planned, which nobody may touch.
    let room = planned + 4;
    let hidden: Vec<f64> = random(room * width, 1);
    let table: Vec<f64> =
        random(vocab * width, 2).iter().map(|x| f64::from((x * steepness / (width as f64).sqrt()) as f32)).collect();
    let dtable_start = random(vocab * width, 3);

    let mut rig = Rig::new(tuning);
    let live = Size::live(rig.live(live), planned as u32);
    let (ghidden, gtable) = (rig.floats("hidden", &hidden), rig.floats("table", &table));
    let mut objectives = rows.clone();
    objectives.resize(room, RowObjective { a: u32::MAX, b: u32::MAX, weight_a: f32::NAN, ..RowObjective::default() });
    let grows = rig.words("objectives", bytemuck::cast_slice(&objectives));
    let score_tokens = rig.words("score tokens", &SCALE.map(|s| s.0));
    let score_values = rig.floats("score values", &SCALE.map(|s| s.1));
    let stats = rig.output("stats", room * (STATS + scores));
    let (dhidden, dtable) = (rig.output("dhidden", room * width), rig.floats("dtable", &dtable_start));
    let head = LossHead {
        hidden: ghidden,
        table: gtable,
        rows: grows,
        score_tokens,
        score_values,
        stats,
        count: live,
        width: width as u32,
        vocab: VOCAB,
        scores: scores as u32,
        chunk,
    };
    loss_head::record(&mut rig.plan, head, Some(LossGradient { dhidden, dtable: Some(dtable) }));
    let ran = rig.run();

    let name = format!("loss head, {count} of {planned} rows by {chunk}, width {width}");
    let logits = linear(&hidden[..count * width], &table, None, width);
    let tokens = SCALE.map(|s| s.0);
    let (mut expected_stats, mut dlogits) = (Vec::new(), Vec::new());
    for (row, z) in rows.iter().zip(logits.chunks(vocab)) {
        let s = spec::row_stats(z, Some(row.a), &tokens);
        let log_p_b = spec::row_stats(z, Some(row.b), &[]).target_log_prob;
        expected_stats.extend([s.lse, s.target_log_prob.unwrap_or(f64::NAN), log_p_b.unwrap_or(f64::NAN), s.entropy]);
        expected_stats.extend(s.score_probs.iter().map(|p| p.ln()));
        dlogits.extend(loss_of(row, z).1);
    }
    let stride = STATS + scores;
    let found = ran.floats(stats);
    // Entropies and log-probabilities have different sizes: compare each kind with its own.
    for (kind, columns) in [("lse and log-probs", 0..3), ("entropy", 3..4), ("score log-probs", 4..stride)] {
        let pick = |all: &[f64]| -> Vec<f64> { all.chunks(stride).flat_map(|r| r[columns.clone()].to_vec()).collect() };
        close(&format!("{name}, {kind}"), &pick(&found[..count * stride]), &pick(&expected_stats), FORWARD);
    }
    assert!(found[count * stride..].iter().all(|x| *x == UNTOUCHED), "{name}: stats written past the live rows");

    let mut expected = vec![UNTOUCHED; room * width];
    // Row by row: a row with a small loss must be right on its own scale, not on the largest row's.
    let exact = linear_dx(&dlogits, &table, width);
    expected[..count * width].copy_from_slice(&exact);
    let found = ran.floats(dhidden);
    for r in 0..room {
        let at = r * width..(r + 1) * width;
        // A row that is right already has a gradient of nearly 0, the difference of equal numbers.
        let floored = |x: &[f64]| [x, &[1e-3]].concat();
        close(&format!("{name}, dhidden[{r}]"), &floored(&found[at.clone()]), &floored(&expected[at]), BACKWARD);
    }
    let expected = sum(&linear_dw(&dlogits, &hidden[..count * width], width, vocab), &dtable_start);
    close(&format!("{name}, dtable"), &ran.floats(dtable), &expected, BACKWARD);
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
            table: gtable,
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
        loss_head::record(&mut rig.plan, head, Some(LossGradient { dhidden, dtable: Some(dtable) }));
        let ran = rig.run();
        let expected: Vec<f64> = rows.iter().map(|r| dot(&loss_of(r, &table).1, &table)).collect();
        close("loss head, renormalised, little mass", &ran.floats(dhidden)[..1], &expected[..1], BACKWARD);
        let (found, expected) = (ran.floats(dhidden)[1], expected[1]);
        assert!((found - expected).abs() < 1e-9, "full expectation, little mass: {found}, expected {expected}");
    }
}
