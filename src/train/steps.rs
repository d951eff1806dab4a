//! The training loop without files: which rows a step takes, at which rate, and what is counted. The command line puts
//! evaluations, checkpoints and a log ctx it (`train::run`); a page drives it as it is.

use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::data::order::{Cursor, DataOrder};
use crate::train::objective::engine::{Engine, TrainData};
use crate::train::objective::schedule::Schedule;
use crate::train::objective::trainer::{StepKey, StepNumbers, StepPace};

/// What a run has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Steps that were made, whether they moved the model or not.
    pub steps: u64,
    /// Optimiser steps that moved the model. AdamW's bias correction counts these.
    pub applied: u64,
    pub tokens: u64,
    /// Steps whose gradient was not finite.
    pub nonfinite: u64,
    /// The same, in a row up to now.
    pub nonfinite_in_a_row: u64,
}

impl Counters {
    /// Counts one step; true if it moved the model.
    fn count(&mut self, numbers: &StepNumbers) -> bool {
        self.steps += 1;
        self.tokens += numbers.tokens as u64;
        self.applied += numbers.applied;
        let moved = numbers.applied > 0;
        self.nonfinite += u64::from(!moved);
        self.nonfinite_in_a_row = if moved { 0 } else { self.nonfinite_in_a_row + 1 };
        moved
    }

    /// Refuses to go on after `most` steps in a row whose gradient was not finite.
    fn check(&self, most: u64) -> Result<(), TrainError> {
        match self.nonfinite_in_a_row {
            steps if steps >= most => Err(TrainError::Diverged { steps, step: self.steps }),
            _ => Ok(()),
        }
    }
}

/// What a step was.
#[derive(Clone, Debug)]
pub struct StepMade {
    pub numbers: StepNumbers,
    pub learning_rate: f64,
    /// False where the gradient was not finite: the model is as it was.
    pub moved: bool,
}

/// A run under way: the model with its optimiser, its place in the data, its place in the schedule, and its counters.
pub struct TrainLoop {
    engine: Engine,
    order: DataOrder,
    schedule: Schedule,
    seed: u64,
    rows_per_step: usize,
    max_nonfinite_steps: u64,
    counters: Counters,
}

impl TrainLoop {
    /// A run of `config` over `rows` rows, before its first step.
    ///
    /// # Errors
    /// No rows, or more than can be ordered.
    pub fn new(engine: Engine, config: &TrainConfig, rows: usize) -> Result<Self, TrainError> {
        Ok(TrainLoop {
            engine,
            order: DataOrder::new(config.seed, rows)?,
            schedule: config.schedule(config.total_steps(rows)),
            seed: config.seed,
            rows_per_step: config.rows_per_step(),
            max_nonfinite_steps: config.max_nonfinite_steps,
            counters: Counters::default(),
        })
    }

    /// Puts the run to where another one stopped. Weights and moments are the caller's to write.
    ///
    /// # Errors
    /// A place in other data.
    pub fn go_on_from(&mut self, cursor: Cursor, counters: Counters) -> Result<(), TrainError> {
        self.order = DataOrder::resume(self.seed, self.order.cursor().rows as usize, cursor)?;
        self.counters = counters;
        Ok(())
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The place in the data.
    pub fn cursor(&self) -> Cursor {
        self.order.cursor()
    }

    /// Steps of the whole run.
    pub fn total(&self) -> u64 {
        self.schedule.total
    }

    /// True once all steps are made.
    pub fn is_over(&self) -> bool {
        self.counters.steps >= self.schedule.total
    }

    /// Makes the next step, on rows of `data`.
    ///
    /// # Errors
    /// What packing or the GPU reports.
    pub async fn step(&mut self, data: &TrainData<'_>) -> Result<StepMade, TrainError> {
        let picked = self.order.next_rows(self.rows_per_step);
        // As transformers counts: the k-th step, from 1, runs at the schedule's rate after k - 1 steps.
        let learning_rate = self.schedule.rate(self.counters.steps);
        let key = StepKey { seed: self.seed, step: self.counters.steps };
        let pace = StepPace { learning_rate, t: self.counters.applied + 1 };
        let numbers = self.engine.step(&picked, data, key, pace).await?;
        let moved = self.counters.count(&numbers);
        Ok(StepMade { numbers, learning_rate, moved })
    }

    /// Refuses to go on after `max_nonfinite_steps` steps in a row whose gradient was not finite.
    ///
    /// # Errors
    /// [`TrainError::Diverged`].
    pub fn check_diverged(&self) -> Result<(), TrainError> {
        self.counters.check(self.max_nonfinite_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_do_not_move_are_counted_apart() {
        let mut counters = Counters::default();
        let step = |applied| StepNumbers { tokens: 10, applied, ..StepNumbers::default() };
        let moved: Vec<bool> = [2, 0, 0].iter().map(|applied| counters.count(&step(*applied))).collect();
        assert_eq!(moved, [true, false, false]);
        assert_eq!(counters, Counters { steps: 3, applied: 2, tokens: 30, nonfinite: 2, nonfinite_in_a_row: 2 });
        assert!(counters.check(3).is_ok());
        assert!(matches!(counters.check(2), Err(TrainError::Diverged { steps: 2, step: 3 })));
        counters.count(&step(1));
        assert_eq!((counters.nonfinite, counters.nonfinite_in_a_row), (2, 0));
    }
}
