//! GPU caches and plans that a judge keeps between calls.
//!
//! The sizes of a plan decide which matrix kernels it uses, and kernels differ in rounding. So a plan is reused only by calls
//! that would make the same plan: a score never depends on earlier calls.

use std::sync::{Mutex, PoisonError};

use super::Result;
use crate::gpu::Gpu;
use crate::model::decoder::{Pass, PassSizes};
use crate::model::weights::Weights;
use crate::rollout::{Rollout, RolloutSizes};

/// The largest size that [`Sizing::Rounded`] rounds. Rounding larger ones would waste too much memory.
const LARGEST_ROUNDED: usize = 4096;
/// The smallest rounded size.
const SMALLEST_ROUNDED: usize = 64;

/// How a call chooses the sizes of its plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sizing {
    /// Exactly those of its rows. Its plans replace earlier ones.
    #[default]
    Exact,
    /// Lengths rounded up to powers of two, so that a loop over rows of many lengths makes a handful of plans. All are kept;
    /// together they take at most twice the memory of the largest.
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

/// The plans of a judge. A pass puts its scratch tensors into a rollout's caches: neither reads what the other wrote.
#[derive(Default)]
pub(super) struct Plans {
    sizing: Sizing,
    rollouts: Vec<Rollout>,
    passes: Vec<(PassSizes, Pass)>,
}

impl Plans {
    /// These plans, or none if they were sized in another way.
    pub fn sized(self, sizing: Sizing) -> Self {
        if self.sizing == sizing { self } else { Plans { sizing, ..Plans::default() } }
    }

    /// A rollout of these sizes.
    pub fn rollout(&mut self, gpu: &Gpu, weights: &Weights, wanted: RolloutSizes) -> Result<&Rollout> {
        let context = weights.config.max_position_embeddings;
        let prompt = self.sizing.round(wanted.prompt).min(context.max(wanted.prompt));
        let sizes = RolloutSizes { prompt, ..wanted }.whole_groups();
        let index = match self.rollouts.iter().position(|rollout| rollout.sizes() == sizes) {
            Some(index) => index,
            None => {
                if self.sizing == Sizing::Exact {
                    // The passes use the memory of the old caches.
                    self.passes.clear();
                    self.rollouts.clear();
                }
                self.rollouts.push(Rollout::new(gpu, weights, sizes)?);
                self.rollouts.len() - 1
            }
        };
        Ok(&self.rollouts[index])
    }

    /// A forward pass of these sizes.
    pub fn pass(&mut self, gpu: &Gpu, weights: &Weights, wanted: PassSizes) -> Result<&Pass> {
        let sizes = PassSizes { tokens: self.sizing.round(wanted.tokens), ..wanted };
        let index = match self.passes.iter().position(|(planned, _)| *planned == sizes) {
            Some(index) => index,
            None => {
                if self.sizing == Sizing::Exact {
                    self.passes.clear();
                }
                let caches = self.rollouts.last().map_or(&[][..], Rollout::caches);
                self.passes.push((sizes.clone(), Pass::new(&gpu.reusing_memory_of(caches), weights, None, sizes)?));
                self.passes.len() - 1
            }
        };
        Ok(&self.passes[index].1)
    }
}

/// The plans between two calls. A call takes them out and puts them back; a concurrent call makes its own. A call that fails or
/// is dropped puts none back.
#[derive(Default)]
pub(super) struct PlanCache(Mutex<Plans>);

impl PlanCache {
    pub fn take(&self) -> Plans {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn put(&self, plans: Plans) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = plans;
    }
}
