//! Scores read by packed passes. Rows that begin alike are computed together: what they share once.

use super::judge::{Judge, PendingRow};
use super::plans::Plans;
use super::shared_prefixes::{Alike, rows_alike};
use super::{BatchLayout, CompletionSpans, Result, ScoreReads};
use crate::model::decoder::{PackedInputs, Pass, PassSizes};
use crate::model::error::ModelError;
use crate::ops::loss_head::TokenLoss;

/// Most tokens of one scoring pass, unless a single row needs more.
const PASS_TOKENS: usize = 4096;

impl Judge {
    /// The sizes of a scoring pass for rows, or rows alike, of these lengths in tokens, with this many continuations in all.
    pub(super) fn pass_sizes(&self, lengths: &[usize], continuations: usize) -> PassSizes {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let tokens = lengths.iter().sum::<usize>().min(PASS_TOKENS.max(longest));
        let rows = (continuations * self.tokens.nodes().len()).min(tokens);
        PassSizes { tokens, loss_positions: rows, score_tokens: self.tokens.alphabet().to_vec(), ..PassSizes::default() }
    }

    /// Batch tokens of rows.
    pub(super) fn batch_tokens(&self, rows: &[&mut PendingRow]) -> usize {
        units(self.layout(), rows).iter().map(|unit| unit.tokens).sum()
    }

    /// Log-probabilities of the scores after every continuation of every row, in order: `[continuations][scores]`.
    pub(super) async fn score_log_probs(&self, plans: &mut Plans, rows: &[&mut PendingRow]) -> Result<Vec<Vec<f64>>> {
        let layout = self.layout();
        let units = units(layout, rows);
        let lengths: Vec<usize> = units.iter().map(|unit| unit.tokens).collect();
        let sizes = self.pass_sizes(&lengths, rows.iter().map(|row| row.continuations.len()).sum());
        let pass_tokens = sizes.tokens;
        if pass_tokens == 0 {
            return Ok(Vec::new());
        }
        let pass = plans.pass(&self.gpu, &self.weights, sizes)?;
        // Of each row, those of its continuations.
        let mut log_probs: Vec<Vec<Vec<f64>>> = vec![Vec::new(); rows.len()];
        let mut start = 0;
        while start < units.len() {
            let (mut batch, mut spans, mut of_rows) = (PackedInputs::default(), Vec::new(), Vec::new());
            while let Some(unit) = units.get(start).filter(|unit| batch.ids.len() + unit.tokens <= pass_tokens) {
                spans.extend(push(layout, &mut batch, unit, rows));
                of_rows.extend(unit.rows.iter().flat_map(|row| std::iter::repeat_n(*row, rows[*row].continuations.len())));
                start += 1;
            }
            let read = run_batch(pass, layout, batch, &spans).await?;
            of_rows.into_iter().zip(read).for_each(|(row, read)| log_probs[row].push(read));
        }
        if rows.len() > 1 {
            self.rerun_nan_rows(pass, rows, &mut log_probs).await?;
        }
        Ok(log_probs.into_iter().flatten().collect())
    }

    /// Runs every row with NaN among its log-probabilities again, in a batch of its own. Kernels multiply what a token must not
    /// see by zero, and zero times an infinity of another row is NaN. So a row without a score does not spoil the others.
    async fn rerun_nan_rows(&self, pass: &Pass, rows: &[&mut PendingRow], log_probs: &mut [Vec<Vec<f64>>]) -> Result<()> {
        let layout = self.layout();
        for (row, of_row) in log_probs.iter_mut().enumerate() {
            if of_row.iter().flatten().any(|log_p| log_p.is_nan()) {
                let mut batch = PackedInputs::default();
                let spans = push(layout, &mut batch, &Alike { rows: vec![row], shared: 0, tokens: 0 }, rows);
                *of_row = run_batch(pass, layout, batch, &spans).await?;
            }
        }
        Ok(())
    }
}

/// What is laid into a batch together: rows that begin alike, or a row.
fn units(layout: BatchLayout<'_>, rows: &[&mut PendingRow]) -> Vec<Alike> {
    let size = |row: &PendingRow| layout.size(row.prompt.len(), row.continuations.iter().map(Vec::len));
    let sizes: Vec<usize> = rows.iter().map(|row| size(row)).collect();
    // A score that reads its chain alone hides the prompt. Several continuations share theirs already.
    if layout.reads == ScoreReads::Chain || rows.iter().any(|row| row.continuations.len() != 1) {
        return sizes.into_iter().enumerate().map(|(row, tokens)| Alike { rows: vec![row], shared: 0, tokens }).collect();
    }
    let sequences: Vec<Vec<u32>> = rows.iter().map(|row| [&row.prompt[..], &row.continuations[0]].concat()).collect();
    let alike = |shared: usize, rows: &[usize]| layout.size_alike(shared, rows.iter().map(|row| sequences[*row].len()));
    rows_alike(&sequences, &sizes, PASS_TOKENS, alike)
}

/// Lays a unit into a batch. The spans are those of its rows' continuations, in order.
fn push(layout: BatchLayout<'_>, batch: &mut PackedInputs, unit: &Alike, rows: &[&mut PendingRow]) -> Vec<CompletionSpans> {
    match unit.rows[..] {
        [row] => {
            let continuations: Vec<&[u32]> = rows[row].continuations.iter().map(Vec::as_slice).collect();
            layout.push(batch, &rows[row].prompt, &continuations)
        }
        _ => {
            let parts: Vec<[&[u32]; 2]> =
                unit.rows.iter().map(|row| [&rows[*row].prompt[..], &rows[*row].continuations[0]]).collect();
            layout.push_alike(batch, unit.shared, &parts)
        }
    }
}

/// Runs a batch and returns the log-probabilities of the scores of each span, `[spans][scores]`.
async fn run_batch(
    pass: &Pass,
    layout: BatchLayout<'_>,
    mut batch: PackedInputs,
    spans: &[CompletionSpans],
) -> std::result::Result<Vec<Vec<f64>>, ModelError> {
    if spans.is_empty() {
        return Ok(Vec::new());
    }
    spans.iter().flat_map(|span| &span.score_nodes).for_each(|node| batch.push_loss(*node, TokenLoss::default()));
    batch.sort_losses();
    pass.run(&batch)?;
    let stats = pass.stats(batch.loss_positions.len()).await?;
    Ok(spans.iter().map(|span| layout.log_probs(span, &batch, &stats)).collect())
}
