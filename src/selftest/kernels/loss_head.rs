//! The loss head: statistics of each row and gradients of every objective, in chunks with a remainder.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::loss_head::{self, LossGradient, LossHead, STATS, TokenLoss};
use crate::ops::weight_dtype::WeightDtype;
use crate::reference::loss_head as reference;
use crate::reference::matmul::{linear, linear_dw, linear_dx};
use crate::selftest::stored::{self, Stored};
use crate::selftest::test_plan::{random, sum};

/// A prime: neither a tile, nor a vec4, nor the threads of a row divide it.
pub const VOCAB: u32 = 131;
/// The table in f32, in one chunk.
pub const WHOLE: Stored = Stored { dtype: WeightDtype::F32, cuts: &[VOCAB as usize] };
/// The table's rows cut into chunks.
pub const CHUNKS: [usize; 3] = [64, 48, 19];
/// The scores' tokens: out of order, some of them at the edges of the vocabulary.
pub const SCALE: [(u32, f64); 5] = [(77, 3.0), (130, 1.0), (0, 5.0), (12, 2.0), (13, 4.0)];

/// Plain tables, steep logits, more tokens than one turn of a GPU's threads, and a packed table in chunks.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    for (planned, chunk, width, steepness) in [(17, 4, 6, 1.0), (14, 14, 8, 1.0), (14, 8, 16, 6.0)] {
        head(checker, Case { rows: objectives(), planned, chunk, width, steepness, table: WHOLE }).await?;
    }
    let table = Stored { dtype: WeightDtype::F32, cuts: &[4099] };
    head(checker, Case { rows: objectives(), planned: 14, chunk: 14, width: 8, steepness: 1.0, table }).await?;
    let table = Stored { dtype: WeightDtype::Q8, cuts: &CHUNKS };
    head(checker, Case { rows: objectives(), planned: 14, chunk: 8, width: 32, steepness: 1.0, table }).await
}

/// The loss of one row, with the coefficients of the score tokens if it has some.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    pub objective: TokenLoss,
    pub scores: Option<[f32; 5]>,
}

/// One row per kind of loss, and mixtures of them.
pub fn objectives() -> Vec<Row> {
    let row = |token, weight, entropy_weight, scores| {
        let objective = TokenLoss { entropy_weight, ..TokenLoss::token(token, weight) };
        Row { objective, scores }
    };
    vec![
        row(5, 1.0, 0.0, None),
        row(VOCAB - 1, 1.0, 0.0, None),
        row(77, -0.7, 0.0, None),
        // A label between two scores, and a label that is a score.
        row(0, 0.0, 0.0, Some([0.5, 0.0, 0.0, 0.5, 0.0])),
        row(0, 0.0, 0.0, Some([0.0, 0.0, 0.0, 0.0, 0.3])),
        // Squared errors have coefficients of both signs, which may sum to 0.
        row(0, 0.0, 0.0, Some([0.4, -0.1, 0.2, -0.7, 0.2])),
        row(0, 0.0, -0.5, None),
        row(3, 0.2, 0.2, Some([1.5, -2.0, 0.1, 0.0, 0.0])),
        // The next token is a score token too.
        row(130, -0.6, -0.1, Some([0.0, 0.9, -0.3, 0.0, 0.25])),
        Row::default(),
    ]
}

/// The rows as the loss head reads them, and the coefficients that they refer to.
pub fn packed(rows: &[Row]) -> (Vec<TokenLoss>, Vec<f64>) {
    let mut coefficients: Vec<f64> = Vec::new();
    let pack = |row: &Row| {
        let Some(scores) = row.scores else { return row.objective };
        let number = (coefficients.len() / SCALE.len()) as u32;
        coefficients.extend(scores.map(f64::from));
        TokenLoss { scores: number, ..row.objective }
    };
    (rows.iter().map(pack).collect(), coefficients)
}

/// dL/dz of a row, by the reference.
pub fn row_gradient(row: &Row, logits: &[f64]) -> Vec<f64> {
    let mut coefficients = vec![(row.objective.token, f64::from(row.objective.weight))];
    coefficients.extend(row.scores.iter().flat_map(|c| SCALE.iter().zip(c).map(|((token, _), c)| (*token, f64::from(*c)))));
    reference::row_gradient(logits, &coefficients, f64::from(row.objective.entropy_weight))
}

/// Rows that carry loss, in a plan for `planned` of them.
pub struct Case<'a> {
    pub rows: Vec<Row>,
    pub planned: usize,
    pub chunk: u32,
    pub width: usize,
    /// The size of the logits.
    pub steepness: f64,
    /// How the table is stored; its gradient has the same chunks. The rows of all chunks are the vocabulary, at least [`VOCAB`].
    pub table: Stored<'a>,
}

/// Statistics and gradients of all rows of `case`.
pub async fn head(checker: &mut KernelChecker, case: Case<'_>) -> Result<(), GpuError> {
    let Case { rows, planned, chunk, width, steepness, table: how } = case;
    let (count, vocab, scores) = (rows.len(), how.cuts.iter().sum::<usize>(), SCALE.len());
    // A few rows more than planned, which no kernel may write.
    let room = planned + 4;
    let hidden: Vec<f64> = random(room * width, 1);
    let table: Vec<f64> =
        random(vocab * width, 2).iter().map(|x| f64::from((x * steepness / (width as f64).sqrt()) as f32)).collect();
    let dtable_start = random(vocab * width, 3);

    let mut test = checker.test_plan();
    let live = Extent::dynamic(test.run_param(count as u32), planned as u32);
    let ghidden = test.floats("hidden", &hidden);
    let (gtable, table) = stored::matrix(&mut test, &how, &table, width);
    let (mut objectives, coefficients) = packed(&rows);
    objectives.resize(room, TokenLoss { token: u32::MAX, weight: f32::NAN, entropy_weight: f32::NAN, scores: 1 << 20 });
    let grows = test.words("objectives", bytemuck::cast_slice(&objectives));
    let score_tokens = test.words("score tokens", &SCALE.map(|s| s.0));
    let coefficients = test.floats("score coefficients", &coefficients);
    let stats = test.output("stats", room * (STATS + scores));
    let dhidden = test.output("dhidden", room * width);
    let dtable = stored::chunks(&mut test, how.cuts, &dtable_start, width);
    let head = LossHead {
        hidden: ghidden,
        table: gtable,
        rows: grows,
        score_tokens,
        stats,
        count: live,
        width: width as u32,
        vocab: vocab as u32,
        scores: scores as u32,
        chunk,
    };
    loss_head::record(&mut test.plan, head, Some(LossGradient { coefficients, dhidden, dtable: Some(dtable.clone()) }));
    let built = test.build_and_run(&checker.gpu)?;
    let (stats, dhidden) = (built.read_floats(stats).await?, built.read_floats(dhidden).await?);
    let mut found_dtable = Vec::new();
    for chunk in &dtable {
        found_dtable.extend(built.read_floats(chunk.tensor).await?);
    }

    let name = format!("{count} of {planned} rows by {chunk}, width {width}{}", how.name());
    let logits = linear(&hidden[..count * width], &table, None, width);
    compare_stats(checker, &name, &stats, &rows, &logits);
    let dlogits: Vec<f64> = rows.iter().zip(logits.chunks(vocab)).flat_map(|(row, z)| row_gradient(row, z)).collect();
    // Row by row: a row with a small loss is compared on its own scale, not on the largest row's. A row without loss has a
    // gradient of nearly 0, the difference of equal numbers.
    let floored = |x: &[f64]| [x, &[1e-3]].concat();
    let (found, rest) = dhidden.split_at(count * width);
    let expected = linear_dx(&dlogits, &table, width);
    for (r, (found, expected)) in found.chunks(width).zip(expected.chunks(width)).enumerate() {
        checker.compare_gradient("loss head backward", &format!("dhidden row {r}, {name}"), &floored(found), &floored(expected));
    }
    checker.compare_live_gradient("loss head backward", &format!("dhidden, {name}"), rest, &[]);
    let expected = sum(&linear_dw(&dlogits, &hidden[..count * width], width, vocab), &dtable_start);
    checker.compare_gradient("loss head backward", &format!("dtable, {name}"), &found_dtable, &expected);
    Ok(())
}

fn compare_stats(checker: &mut KernelChecker, name: &str, stats: &[f64], rows: &[Row], logits: &[f64]) {
    let tokens = SCALE.map(|s| s.0);
    let mut expected = Vec::new();
    for (row, z) in rows.iter().zip(logits.chunks((logits.len() / rows.len().max(1)).max(1))) {
        let log_p = reference::log_softmax(z);
        let s = reference::row_stats(z, None, &tokens);
        expected.extend([s.lse, log_p[row.objective.token as usize], s.entropy]);
        // The kernel gives logarithms, which are precise where probabilities are tiny.
        expected.extend(tokens.map(|t| log_p[t as usize]));
    }
    let stride = STATS + SCALE.len();
    let (found, rest) = stats.split_at(expected.len().min(stats.len()));
    // Logarithms and entropies have different sizes: each kind is compared on its own scale.
    for (kind, columns) in [("lse and log-probs", 0..2), ("entropy", 2..3), ("score log-probs", 3..stride)] {
        let pick = |all: &[f64]| -> Vec<f64> { all.chunks(stride).flat_map(|r| r[columns.clone()].to_vec()).collect() };
        checker.compare_result("loss head", &format!("{kind}, {name}"), &pick(found), &pick(&expected));
    }
    checker.compare_live_result("loss head", &format!("stats, {name}"), rest, &[]);
}
