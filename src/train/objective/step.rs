//! What training steps of any method take and return.

/// The key of all random numbers of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepKey {
    pub seed: u64,
    /// Number of the step, counted from 0.
    pub step: u64,
}

/// The learning rate and the number of one update by the optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimiserStep {
    pub learning_rate: f64,
    /// Number of the optimiser step among the applied ones, counted from 1: AdamW's bias correction depends on it.
    pub t: u64,
}

/// The metrics of a step.
#[derive(Clone, Debug, Default)]
pub struct StepMetrics {
    /// The minimised loss: for sft the mean cross-entropy, in nats per token.
    pub loss: f64,
    /// Mean entropy of the next-token distributions, in nats: over loss positions, or with sampled chains over actions.
    pub entropy: f64,
    pub tokens: usize,
    pub grad_norm: f32,
    /// Number of optimiser steps that changed the model; a step whose gradient is not finite does not.
    pub applied: u64,
    /// More metrics, by name.
    pub extra: Vec<(&'static str, f64)>,
}
