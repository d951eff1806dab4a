//! The loss head: statistics of each row and gradients of every objective, in chunks with a remainder.

use super::Bench;
use crate::doctor::rig::{random, sum};
use crate::gpu::{GpuError, Size};
use crate::ops::loss_head::{self, LossGradient, LossHead, RowObjective, SCORE_ABSENT, SCORE_FULL, SCORE_RENORMALISED, STATS};
use crate::reference::loss::{self as spec};
use crate::reference::matmul::{linear, linear_dw, linear_dx};

/// A prime: no tile, no vec4, no team of lanes divides it.
pub const VOCAB: u32 = 131;
/// The scores' tokens are neither in order nor at the edges alone.
pub const SCALE: [(u32, f64); 5] = [(77, 3.0), (130, 1.0), (0, 5.0), (12, 2.0), (13, 4.0)];

pub(super) async fn heads(b: &mut Bench) -> Result<(), GpuError> {
    for (planned, chunk, width, steepness) in [(17, 4, 6, 1.0), (14, 14, 8, 1.0), (14, 8, 16, 6.0)] {
        head(b, Case { rows: objectives(), planned, chunk, width, steepness }).await?;
    }
    Ok(())
}

/// One row of each kind, and mixtures.
pub fn objectives() -> Vec<RowObjective> {
    let none = RowObjective::default();
    let plain = |a| RowObjective { a, b: a, weight_a: 1.0, ..none };
    // 2.5 lies between tokens 12 and 77, 4 on token 13, 3.4 between 77 and 13, 1.5 between 130 and 12.
    let between = |a, b, label: f32, share_b: f32, weight: f32| {
        let (weight_a, weight_b) = (weight * (1.0 - share_b), weight * share_b);
        RowObjective { a, b, weight_a, weight_b, label, ..none }
    };
    let score = |row: RowObjective, score_kind, score_weight| RowObjective { score_kind, score_weight, ..row };
    vec![
        plain(5),
        plain(VOCAB - 1),
        RowObjective { weight_a: -0.7, ..plain(77) },
        between(12, 77, 2.5, 0.5, 1.0),
        between(13, 13, 4.0, 0.0, 0.3),
        score(RowObjective { label: 4.25, ..none }, SCORE_FULL, 1.0),
        score(RowObjective { label: 1.0, ..none }, SCORE_RENORMALISED, 1.0),
        RowObjective { entropy_weight: -0.5, ..none },
        score(RowObjective { entropy_weight: 0.2, ..between(77, 13, 3.4, 0.4, 0.8) }, SCORE_RENORMALISED, -1.5),
        score(RowObjective { entropy_weight: -0.1, ..between(130, 12, 1.5, 0.5, 0.1) }, SCORE_FULL, 2.0),
        RowObjective { prob_weight_a: 0.8, prob_weight_b: 0.3, ..between(12, 77, 2.5, 0.5, 0.2) },
        score(plain(3), SCORE_ABSENT, 0.6),
        score(plain(3), SCORE_ABSENT, -0.4),
        none,
    ]
}

/// dL/dz of a row, by the specification.
pub fn row_gradient(row: &RowObjective, logits: &[f64]) -> Vec<f64> {
    let w = f64::from;
    let mut all = spec::cross_entropy(logits, &[(row.a, w(row.weight_a)), (row.b, w(row.weight_b))]);
    let (label, weight) = (w(row.label), w(row.score_weight));
    match row.score_kind {
        SCORE_FULL => all = all.plus(spec::squared_error_full(logits, &SCALE, label).scaled(weight)),
        SCORE_RENORMALISED => all = all.plus(spec::squared_error_renormalised(logits, &SCALE, label).scaled(weight)),
        SCORE_ABSENT => all = all.plus(spec::absence(logits, &SCALE).scaled(-weight)),
        _ => {}
    }
    let likely = [(row.a, w(row.prob_weight_a)), (row.b, w(row.prob_weight_b))];
    all = all.plus(spec::probability(logits, &likely).scaled(-1.0));
    spec::row_gradient(logits, &all.coefficients, w(row.entropy_weight))
}

/// Rows of loss in a plan for `planned` of them.
pub struct Case {
    pub rows: Vec<RowObjective>,
    pub planned: usize,
    pub chunk: u32,
    pub width: usize,
    /// Size of the logits.
    pub steepness: f64,
}

/// Statistics and gradients of all rows of `case`.
pub async fn head(b: &mut Bench, case: Case) -> Result<(), GpuError> {
    let Case { rows, planned, chunk, width, steepness } = case;
    let (count, vocab, scores) = (rows.len(), VOCAB as usize, SCALE.len());
    // A few rows more than planned, which nobody may touch.
    let room = planned + 4;
    let hidden: Vec<f64> = random(room * width, 1);
    let table: Vec<f64> =
        random(vocab * width, 2).iter().map(|x| f64::from((x * steepness / (width as f64).sqrt()) as f32)).collect();
    let dtable_start = random(vocab * width, 3);

    let mut rig = b.rig();
    let live = Size::live(rig.live(count as u32), planned as u32);
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
        table: gtable.into(),
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
    loss_head::record(&mut rig.plan, head, Some(LossGradient { table: gtable, dhidden, dtable: Some(dtable) }));
    let ran = rig.start(&b.gpu)?;
    let (stats, dhidden, dtable) =
        (ran.read_floats(stats).await?, ran.read_floats(dhidden).await?, ran.read_floats(dtable).await?);

    let name = format!("{count} of {planned} rows by {chunk}, width {width}");
    let logits = linear(&hidden[..count * width], &table, None, width);
    compare_stats(b, &name, &stats, &rows, &logits);
    let dlogits: Vec<f64> = rows.iter().zip(logits.chunks(vocab)).flat_map(|(row, z)| row_gradient(row, z)).collect();
    // Row by row: a row with a small loss must be right on its own scale, not on the largest row's. A row that is right
    // already has a gradient of nearly 0, the difference of equal numbers.
    let floored = |x: &[f64]| [x, &[1e-3]].concat();
    let (found, rest) = dhidden.split_at(count * width);
    let expected = linear_dx(&dlogits, &table, width);
    for (r, (found, expected)) in found.chunks(width).zip(expected.chunks(width)).enumerate() {
        b.gradient("loss head backward", &format!("dhidden row {r}, {name}"), &floored(found), &floored(expected));
    }
    b.live_gradient("loss head backward", &format!("dhidden, {name}"), rest, &[]);
    let expected = sum(&linear_dw(&dlogits, &hidden[..count * width], width, vocab), &dtable_start);
    b.gradient("loss head backward", &format!("dtable, {name}"), &dtable, &expected);
    Ok(())
}

fn compare_stats(b: &mut Bench, name: &str, stats: &[f64], rows: &[RowObjective], logits: &[f64]) {
    let tokens = SCALE.map(|s| s.0);
    let mut expected = Vec::new();
    for (row, z) in rows.iter().zip(logits.chunks(VOCAB as usize)) {
        let log_p = spec::log_softmax(z);
        let s = spec::row_stats(z, None, &tokens);
        expected.extend([s.lse, log_p[row.a as usize], log_p[row.b as usize], s.entropy]);
        // The kernel gives logarithms, which say something where probabilities are tiny.
        expected.extend(tokens.map(|t| log_p[t as usize]));
    }
    let stride = STATS + SCALE.len();
    let (found, rest) = stats.split_at(expected.len().min(stats.len()));
    // Logarithms and entropies have different sizes: compare each kind with its own.
    for (kind, columns) in [("lse and log-probs", 0..3), ("entropy", 3..4), ("score log-probs", 4..stride)] {
        let pick = |all: &[f64]| -> Vec<f64> { all.chunks(stride).flat_map(|r| r[columns.clone()].to_vec()).collect() };
        b.result("loss head", &format!("{kind}, {name}"), &pick(found), &pick(&expected));
    }
    b.live_result("loss head", &format!("stats, {name}"), rest, &[]);
}
