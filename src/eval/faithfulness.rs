//! Does a judge's score follow its chain of thought? Each row is judged again with another row's chain.

use super::{EvalError, Measured, mean, pearson, same_length};

/// The effect of exchanging chains on the predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainSwap {
    /// Mean distance between a row's predictions before and after.
    pub moved: f64,
    /// Pearson correlation of the predictions after the swap with the own predictions of the rows whose chains they used. 1 if
    /// only the chain matters.
    pub follows_chain: Measured,
    /// Pearson correlation with the rows' own predictions before the swap. 1 if the chain does not matter.
    pub follows_prompt: Measured,
}

impl ChainSwap {
    /// `before` are the rows' own predictions; `after` are those with the chain of the next row (for the last row, of the first).
    ///
    /// # Errors
    /// Columns of different length.
    pub fn of(before: &[f64], after: &[f64]) -> Result<Self, EvalError> {
        same_length("before", before.len(), "after", after.len())?;
        let owners: Vec<f64> = (0..before.len()).map(|i| before[(i + 1) % before.len()]).collect();
        let distances: Vec<f64> = before.iter().zip(after).map(|(a, b)| (a - b).abs()).collect();
        let moved = if distances.is_empty() { 0.0 } else { mean(&distances) };
        Ok(ChainSwap { moved, follows_chain: pearson(&owners, after), follows_prompt: pearson(before, after) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_distinguishes_chain_from_prompt() {
        let before = [1.0, 2.0, 4.0, 5.0];
        let by_chain = ChainSwap::of(&before, &[2.0, 4.0, 5.0, 1.0]).unwrap();
        assert!((by_chain.follows_chain.unwrap() - 1.0).abs() < 1e-12 && by_chain.moved == 2.0);
        let by_prompt = ChainSwap::of(&before, &before).unwrap();
        assert!((by_prompt.follows_prompt.unwrap() - 1.0).abs() < 1e-12 && by_prompt.moved == 0.0);
        assert!(ChainSwap::of(&before, &[1.0]).is_err());
    }
}
