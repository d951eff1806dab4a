//! What enters a judge's projections on some rows, to weigh the rounding of their weights by.

use super::{Judge, JudgeError, Result};
use crate::data::Example;
use crate::model::decoder::{InputSquaresPass, PackedInputs};
use crate::model::quantised::ColumnSquares;

/// Most tokens of one pass, unless a single row needs more.
const PASS_TOKENS: usize = 2048;

impl Judge {
    /// The squares of what enters each projection, by input column, over the rows with their own chains. Rows that do not fit the
    /// judge are left out.
    ///
    /// # Errors
    /// No row that fits; inputs that are not finite; what the GPU reports.
    pub async fn input_squares(&self, examples: &[Example]) -> Result<ColumnSquares> {
        let context = self.weights.config.max_position_embeddings;
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let mut problem = "there are no rows".to_string();
        for example in examples {
            match self.given_sequence(example) {
                Ok(ids) if ids.len() <= context => rows.push(ids),
                Ok(ids) => problem = format!("a row has {} tokens, and {context} fit", ids.len()),
                Err(e) => problem = e,
            }
        }
        let Some(longest) = rows.iter().map(Vec::len).max() else {
            return Err(JudgeError::InputSquares(problem));
        };
        let most = rows.iter().map(Vec::len).sum::<usize>().min(PASS_TOKENS.max(longest));
        let pass = InputSquaresPass::new(&self.gpu, &self.weights, most)?;
        let mut batch = PackedInputs::default();
        for ids in &rows {
            if batch.ids.len() + ids.len() > most {
                pass.add(std::mem::take(&mut batch))?;
            }
            batch.push(ids);
        }
        pass.add(batch)?;
        Ok(pass.squares().await?)
    }
}
