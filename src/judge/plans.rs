//! What judging runs on: caches and plans on the GPU, kept from call to call.
//!
//! Which products a plan uses depends on the sizes that it was made for, and products differ in rounding. So a plan serves only
//! those calls that would make the same one: a judgement never depends on the calls before it.

use std::sync::{Mutex, PoisonError};

use super::Result;
use crate::gpu::Gpu;
use crate::model::decoder::{Pass, PassSizes};
use crate::model::weights::Weights;
use crate::rollout::{Rollout, RolloutSizes};

/// Sizes up to here are rounded where they are; larger ones would waste too much memory.
const LARGEST_ROUNDED: usize = 4096;
/// The smallest rounded size.
const SMALLEST_ROUNDED: usize = 64;

/// How a call plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sizing {
    /// For its rows exactly. Its plans take the place of those that were there.
    #[default]
    Exact,
    /// For lengths rounded up to powers of two, so that a loop over rows of many lengths makes a handful of plans. All are kept;
    /// together they take at most twice the largest.
    Rounded,
}

impl Sizing {
    fn round(self, tokens: usize) -> usize {
        match self {
            Sizing::Rounded if tokens <= LARGEST_ROUNDED => tokens.next_power_of_two().max(SMALLEST_ROUNDED),
            _ => tokens,
        }
    }
}

/// The plans of a judge. A pass puts its scratch tensors into a rollout's caches: neither reads what the other left.
#[derive(Default)]
pub(super) struct Plans {
    sizing: Sizing,
    rollouts: Vec<Rollout>,
    passes: Vec<(PassSizes, Pass)>,
}

impl Plans {
    /// The plans for a call that plans so.
    pub fn sized(self, sizing: Sizing) -> Self {
        if self.sizing == sizing { self } else { Plans { sizing, ..Plans::default() } }
    }

    /// A rollout of these sizes.
    pub fn rollout(&mut self, gpu: &Gpu, weights: &Weights, wanted: RolloutSizes) -> Result<&Rollout> {
        let context = weights.config.max_position_embeddings;
        let prompt = self.sizing.round(wanted.prompt).min(context.max(wanted.prompt));
        let sizes = RolloutSizes { prompt, ..wanted }.whole_groups();
        let at = match self.rollouts.iter().position(|rollout| rollout.sizes() == sizes) {
            Some(at) => at,
            None => {
                if self.sizing == Sizing::Exact {
                    // Passes lie in the caches.
                    self.passes.clear();
                    self.rollouts.clear();
                }
                self.rollouts.push(Rollout::new(gpu, weights, sizes)?);
                self.rollouts.len() - 1
            }
        };
        Ok(&self.rollouts[at])
    }

    /// A forward pass of these sizes.
    pub fn pass(&mut self, gpu: &Gpu, weights: &Weights, wanted: PassSizes) -> Result<&Pass> {
        let sizes = PassSizes { tokens: self.sizing.round(wanted.tokens), ..wanted };
        let at = match self.passes.iter().position(|(planned, _)| *planned == sizes) {
            Some(at) => at,
            None => {
                if self.sizing == Sizing::Exact {
                    self.passes.clear();
                }
                let caches = self.rollouts.last().map_or(&[][..], Rollout::caches);
                self.passes.push((sizes.clone(), Pass::new(&gpu.reusing_memory_of(caches), weights, None, sizes)?));
                self.passes.len() - 1
            }
        };
        Ok(&self.passes[at].1)
    }
}

/// Plans between two calls. A call takes them out; one that runs beside it makes its own. A call that fails or is dropped leaves
/// none.
#[derive(Default)]
pub(super) struct Kept(Mutex<Plans>);

impl Kept {
    pub fn take(&self) -> Plans {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn put(&self, plans: Plans) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = plans;
    }
}
