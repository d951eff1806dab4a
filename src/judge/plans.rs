//! What judging runs on: caches and plans on the GPU, kept from call to call, so that a loop over single rows makes them once.

use std::sync::{Mutex, PoisonError};

use super::Result;
use crate::gpu::Gpu;
use crate::model::decoder::{Pass, PassSizes};
use crate::model::weights::Weights;
use crate::rollout::{Rollout, RolloutSizes};

/// The plans of a judge. The pass puts its scratch tensors into the rollout's caches: neither reads what the other left.
#[derive(Default)]
pub(super) struct Plans {
    rollout: Option<Rollout>,
    pass: Option<(PassSizes, Pass)>,
}

impl Plans {
    /// Plans chains of these sizes, unless those that are there will do. Prompts may be shorter than planned; a longer one is a
    /// reason to plan again, for the longest so far.
    pub fn plan_rollout(&mut self, gpu: &Gpu, weights: &Weights, wanted: RolloutSizes) -> Result<&Rollout> {
        let wanted = wanted.whole_groups();
        let prompt = self.rollout.as_ref().map_or(0, |rollout| rollout.sizes().prompt).max(wanted.prompt);
        let sizes = RolloutSizes { prompt, ..wanted };
        let rollout = match self.rollout.take().filter(|rollout| rollout.sizes() == sizes) {
            Some(rollout) => rollout,
            None => {
                // The pass lies in the caches that have just gone.
                self.pass = None;
                Rollout::new(gpu, weights, sizes)?
            }
        };
        Ok(self.rollout.insert(rollout))
    }

    /// Plans a forward pass of at least these sizes.
    pub fn plan_pass(&mut self, gpu: &Gpu, weights: &Weights, wanted: PassSizes) -> Result<&Pass> {
        let planned = self.pass.as_ref().map(|(planned, _)| planned);
        let tokens = planned.map_or(0, |planned| planned.tokens).max(wanted.tokens);
        let rows = planned.map_or(0, |planned| planned.rows).max(wanted.rows);
        let sizes = PassSizes { tokens, rows, ..wanted };
        let pass = match self.pass.take().filter(|(planned, _)| *planned == sizes) {
            Some((_, pass)) => pass,
            None => {
                let caches = self.rollout.as_ref().map_or(&[][..], Rollout::caches);
                Pass::new(&gpu.lending(caches), weights, None, sizes.clone())?
            }
        };
        Ok(&self.pass.insert((sizes, pass)).1)
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
