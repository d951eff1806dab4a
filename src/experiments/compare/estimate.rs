//! What each cell will cost, before it runs: tokens of training, chains and judging, counted on the rows with the base model's
//! tokenizer, and the time that they take at the protocol's `[rates]`.

use super::CompareError;
use super::comparison::{Chosen, Comparison};
use super::protocol::{CellId, Run};
use super::task_rows::read_rows;
use super::tasks::{FileTask, Rates};
use crate::eval::table::{Cell, Table, fixed};
use crate::train::TrainConfig;
use crate::train::run::start::RunInputs;
use crate::words::count;

/// What a cell costs.
pub struct Estimate {
    pub cell: CellId,
    /// Tokens of forward and backward passes.
    pub training: f64,
    /// Tokens of chains that are written, in training and judging.
    pub sampling: f64,
    /// Tokens of prompts that are read for judging, and for the chains of training.
    pub reading: f64,
}

impl Estimate {
    /// Time in seconds.
    pub fn seconds(&self, rates: &Rates) -> f64 {
        self.training / rates.training + self.sampling / rates.sampling + self.reading / rates.reading
    }
}

/// The cost of all unfinished cells, as a table.
///
/// # Errors
/// A protocol without tasks of files, or without `[rates]`; rows or a base model that cannot be read; a damaged result.
pub fn estimate(comparison: &Comparison) -> Result<String, CompareError> {
    let protocol = &comparison.protocol;
    let Some(rates) = protocol.rates else {
        return Err(CompareError::Cell(
            "the protocol has no [rates] (training, sampling, reading: tokens a second) to estimate with".into(),
        ));
    };
    for cell in protocol.cells()? {
        comparison.read(&cell)?;
    }
    let mut table = Table::new(["cell", "training", "sampling", "reading", "minutes", "sum"]);
    let mut sum = 0.0;
    let unfinished = comparison.unfinished()?;
    for cell in &unfinished {
        let Some(task) = protocol.file_task(&cell.task) else {
            return Err(CompareError::Cell(format!("{cell} is of a synthetic task, whose cells take a minute or two each")));
        };
        let cost = of_cell(comparison, task, cell)?;
        let minutes = cost.seconds(&rates) / 60.0;
        sum += minutes;
        let numbers = [(cost.training, 0), (cost.sampling, 0), (cost.reading, 0), (minutes, 1), (sum, 1)];
        let mut cells = vec![Cell::Text(cell.to_string())];
        cells.extend(numbers.map(|(x, digits)| Cell::Text(fixed(x, digits))));
        table.row(cells);
    }
    let Rates { training, sampling, reading } = rates;
    Ok(format!(
        "{table}\n{} to run, {sum:.0} minutes at {training} tokens a second of training, {sampling} of chains, {reading} of prompts\n",
        count(unfinished.len(), "cell")
    ))
}

/// Counts the tokens of a cell. Chains are as long as the rows' own, or half of the limit where rows have none.
fn of_cell(comparison: &Comparison, task: &FileTask, cell: &CellId) -> Result<Estimate, CompareError> {
    let method = comparison.protocol.method(&cell.method)?;
    let seed = comparison.protocol.seed(cell.run);
    // The rate does not matter here, and a start that is not trained yet is no reason to fail.
    let chosen = Chosen { cell, method, seed, learning_rate: 1e-5 };
    let config = comparison.file_settings(task, &chosen)?;
    let base = Some(comparison.base_model()?.display().to_string());
    let inputs = RunInputs::read(&TrainConfig { model_name_or_path: base, chains_from: None, ..config.clone() })?;
    let examples = &inputs.train.examples;
    let mean = |of: &dyn Fn(usize) -> usize| (0..examples.len()).map(of).sum::<usize>() as f64 / examples.len().max(1) as f64;
    let prompt = mean(&|n| examples[n].prompt.ids.len());
    let written = inputs.settings.chain;
    let chain = match mean(&|n| examples[n].continuation.len()) {
        given if given > inputs.tokens.stem.len() as f64 + 1.0 => given,
        _ => inputs.settings.max_completion_length as f64 / 2.0,
    };
    let steps = config.max_steps.max(0) as f64 * f64::from(config.gradient_accumulation_steps);
    let rows = steps * f64::from(config.per_device_train_batch_size);
    let mut cost = Estimate { cell: cell.clone(), training: 0.0, sampling: 0.0, reading: 0.0 };
    if method.trained && !comparison.has_judge(cell) {
        if config.samples_chains() {
            let chains = rows * f64::from(config.num_generations) * chain;
            cost.training += rows * prompt + chains;
            cost.sampling += chains;
            cost.reading += rows * prompt;
        } else {
            cost.training += rows * (prompt + mean(&|n| examples[n].continuation.len()) + 1.0);
        }
        if method.chains_from.is_some() {
            cost.sampling += examples.len() as f64 * chain;
            cost.reading += examples.len() as f64 * prompt;
        }
    }
    let judge = inputs.settings.prompt(&inputs.tokenizer)?;
    for judging in comparison.judgings(task, &chosen, written && matches!(cell.run, Run::Seed(_))) {
        let mut rows = read_rows(&judging.file)?;
        rows.truncate(judging.way.rows.unwrap_or(usize::MAX));
        for row in &rows {
            cost.reading += judge.prompt(row, &inputs.tokenizer)?.0.len() as f64;
        }
        if written {
            cost.sampling += rows.len() as f64 * judging.way.chains as f64 * chain;
        }
    }
    Ok(cost)
}
