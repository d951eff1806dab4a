//! The training loop without files: the rows of each step, its learning rate, and the counters. The command line adds
//! evaluations, checkpoints and a log (`train::run`); the web page drives the loop directly.

use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::data::order::{Cursor, DataOrder};
use crate::train::data::pack::{TrainExample, clusters_by_prefix};
use crate::train::objective::engine::{Engine, TrainData};
use crate::train::objective::schedule::Schedule;
use crate::train::objective::step::{OptimiserStep, StepKey, StepMetrics};

/// The counters of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Steps done, whether they changed the model or not.
    pub steps: u64,
    /// Optimiser steps that changed the model. AdamW's bias correction counts these.
    pub applied: u64,
    pub tokens: u64,
    /// Steps whose gradient was not finite.
    pub nonfinite: u64,
    /// The same, in a row up to the last step.
    pub nonfinite_in_a_row: u64,
}

impl Counters {
    /// Counts one step; true if it changed the model.
    fn count(&mut self, metrics: &StepMetrics) -> bool {
        self.steps += 1;
        self.tokens += metrics.tokens as u64;
        self.applied += metrics.applied;
        let moved = metrics.applied > 0;
        self.nonfinite += u64::from(!moved);
        self.nonfinite_in_a_row = if moved { 0 } else { self.nonfinite_in_a_row + 1 };
        moved
    }

    /// Fails after `most` steps in a row whose gradient was not finite.
    fn check(&self, most: u64) -> Result<(), TrainError> {
        match self.nonfinite_in_a_row {
            steps if steps >= most => Err(TrainError::Diverged { steps, step: self.steps }),
            _ => Ok(()),
        }
    }
}

/// The result of a step.
#[derive(Clone, Debug)]
pub struct StepResult {
    pub metrics: StepMetrics,
    pub learning_rate: f64,
    /// False if the gradient was not finite; the model is unchanged then.
    pub moved: bool,
}

/// A run in progress: the model with its optimiser, the position in the data, the schedule, and the counters.
pub struct TrainLoop {
    engine: Engine,
    order: DataOrder,
    schedule: Schedule,
    rows_per_step: usize,
    max_nonfinite_steps: u64,
    counters: Counters,
}

impl TrainLoop {
    /// A run of `config` over `examples`, before its first step.
    ///
    /// # Errors
    /// No examples, or more than can be ordered.
    pub fn new(engine: Engine, config: &TrainConfig, examples: &[TrainExample]) -> Result<Self, TrainError> {
        let order = match config.share_prefixes {
            true => DataOrder::of_clusters(config.seed, clusters_by_prefix(examples))?,
            false => DataOrder::new(config.seed, examples.len())?,
        };
        Ok(TrainLoop {
            engine,
            order,
            schedule: config.schedule(config.total_steps(examples.len())),
            rows_per_step: config.rows_per_step(),
            max_nonfinite_steps: config.max_nonfinite_steps,
            counters: Counters::default(),
        })
    }

    /// Continues where another run stopped. The caller writes weights and moments.
    ///
    /// # Errors
    /// A position in other data.
    pub fn resume_from(&mut self, cursor: Cursor, counters: Counters) -> Result<(), TrainError> {
        self.order = self.order.clone().at(cursor)?;
        self.counters = counters;
        Ok(())
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The position in the data.
    pub fn cursor(&self) -> Cursor {
        self.order.cursor()
    }

    /// Steps of the whole run.
    pub fn total(&self) -> u64 {
        self.schedule.total
    }

    /// True after the last step.
    pub fn is_over(&self) -> bool {
        self.counters.steps >= self.schedule.total
    }

    /// Does the next step, on rows of `data`.
    ///
    /// # Errors
    /// What packing or the GPU reports.
    pub async fn step(&mut self, data: &TrainData<'_>) -> Result<StepResult, TrainError> {
        let indices = self.order.next_rows(self.rows_per_step);
        // As in transformers: the k-th step, counted from 1, has the schedule's rate after k - 1 steps.
        let learning_rate = self.schedule.rate(self.counters.steps);
        let key = StepKey { seed: self.order.seed(), step: self.counters.steps };
        let optimiser_step = OptimiserStep { learning_rate, t: self.counters.applied + 1 };
        let metrics = self.engine.step(&indices, data, key, optimiser_step).await?;
        let moved = self.counters.count(&metrics);
        Ok(StepResult { metrics, learning_rate, moved })
    }

    /// Fails after `max_nonfinite_steps` steps in a row whose gradient was not finite.
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
    fn steps_that_do_not_change_the_model_are_counted_separately() {
        let mut counters = Counters::default();
        let step = |applied| StepMetrics { tokens: 10, applied, ..StepMetrics::default() };
        let moved: Vec<bool> = [2, 0, 0].iter().map(|applied| counters.count(&step(*applied))).collect();
        assert_eq!(moved, [true, false, false]);
        assert_eq!(counters, Counters { steps: 3, applied: 2, tokens: 30, nonfinite: 2, nonfinite_in_a_row: 2 });
        assert!(counters.check(3).is_ok());
        assert!(matches!(counters.check(2), Err(TrainError::Diverged { steps: 2, step: 3 })));
        counters.count(&step(1));
        assert_eq!((counters.nonfinite, counters.nonfinite_in_a_row), (2, 0));
    }
}
