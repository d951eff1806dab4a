//! What judging runs on: caches and plans on the GPU, kept from call to call.
//!
//! Which products a plan uses depends on the sizes that it was made for, and products differ in rounding. So a plan serves only
//! those calls that would make the same one: a judgement never depends on the calls before it.

use std::sync::{Mutex, PoisonError};

use super::Result;
use crate::gpu::{Gpu, GpuError};
use crate::model::decoder::{LogitsPass, Pass, PassSizes};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::rollout::{Rollout, RolloutSizes};

/// Sizes up to here are rounded where they are; larger ones would waste too much memory.
const LARGEST_ROUNDED: usize = 4096;
/// The smallest rounded size.
const SMALLEST_ROUNDED: usize = 64;
/// Rollouts, and passes, that are kept for rounded sizes: each size from the smallest to the largest, and one more.
const MOST_KEPT: usize = 8;

/// How a call plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sizing {
    /// Exactly those of its rows. Its plans replace those of the last such call.
    #[default]
    Exact,
    /// Lengths rounded up to powers of two, so that a loop over rows of many lengths makes a handful of plans. The last few are
    /// kept; those of one kind of call take at most about twice the memory of the largest.
    Rounded,
}

impl Sizing {
    /// The length to plan for, where `beside` tokens are planned beside it: a length that is small beside them is as good as
    /// half of them.
    fn round(self, tokens: usize, beside: usize) -> usize {
        match self {
            Sizing::Rounded if tokens <= LARGEST_ROUNDED => {
                tokens.next_power_of_two().max(SMALLEST_ROUNDED).max(beside.next_power_of_two() / 2)
            }
            _ => tokens,
        }
    }

    /// The number of rows to plan for.
    fn round_count(self, count: usize) -> usize {
        if self == Sizing::Rounded { count.next_power_of_two() } else { count }
    }

    /// Plans of one kind that are kept.
    fn most_kept(self) -> usize {
        match self {
            Sizing::Exact => 1,
            Sizing::Rounded => MOST_KEPT,
        }
    }
}

/// The plans of calls that plan alike; the last one of each list was used last. A pass puts its scratch tensors into a rollout's
/// caches: neither reads what the other left.
#[derive(Default)]
struct Alike {
    rollouts: Vec<Rollout>,
    passes: Vec<(PassSizes, Pass)>,
}

/// The plans of a judge.
#[derive(Default)]
pub(super) struct Plans {
    /// How the call under way plans.
    sizing: Sizing,
    exact: Alike,
    rounded: Alike,
    /// The last pass for logits, with its tokens and loss positions.
    logits: Option<((usize, usize), LogitsPass)>,
}

impl Plans {
    /// The plans for a call that plans so.
    pub fn sized(self, sizing: Sizing) -> Self {
        Plans { sizing, ..self }
    }

    /// The plans of calls that plan like the one under way, and the others.
    fn own_and_others(&mut self) -> (&mut Alike, &mut Alike) {
        match self.sizing {
            Sizing::Exact => (&mut self.exact, &mut self.rounded),
            Sizing::Rounded => (&mut self.rounded, &mut self.exact),
        }
    }

    /// A rollout of these sizes.
    pub fn rollout(&mut self, gpu: &Gpu, weights: &Weights, wanted: RolloutSizes) -> Result<&Rollout> {
        let (sizing, context) = (self.sizing, weights.config.max_position_embeddings);
        let prompt = sizing.round(wanted.prompt, wanted.group * wanted.new_tokens).min(context.max(wanted.prompt));
        let rows = sizing.round_count(wanted.rows / wanted.group.max(1)) * wanted.group;
        let sizes = RolloutSizes { prompt, rows, ..wanted }.whole_groups();
        let (own, others) = self.own_and_others();
        let found = own.rollouts.iter().position(|rollout| rollout.sizes() == sizes).map(|at| own.rollouts.remove(at));
        let rollout = match found {
            Some(rollout) => rollout,
            None => {
                if sizing == Sizing::Exact {
                    // Passes lie in the caches.
                    own.passes.clear();
                }
                make_room(&mut own.rollouts, sizing);
                within_budget(others, || Rollout::new(gpu, weights, sizes))?
            }
        };
        Ok(own.rollouts.push_mut(rollout))
    }

    /// A forward pass of these sizes.
    pub fn pass(&mut self, gpu: &Gpu, weights: &Weights, wanted: PassSizes) -> Result<&Pass> {
        let sizing = self.sizing;
        let tokens = sizing.round(wanted.tokens, 0);
        let loss_positions = sizing.round_count(wanted.loss_positions).min(tokens);
        let sizes = PassSizes { tokens, loss_positions, ..wanted };
        let (own, others) = self.own_and_others();
        let found = own.passes.iter().position(|(planned, _)| *planned == sizes).map(|at| own.passes.remove(at));
        let pass = match found {
            Some(pass) => pass,
            None => {
                make_room(&mut own.passes, sizing);
                let gpu = gpu.reusing_memory_of(own.rollouts.last().map_or(&[][..], Rollout::caches));
                (sizes.clone(), within_budget(others, || Pass::new(&gpu, weights, None, sizes.clone()))?)
            }
        };
        Ok(&own.passes.push_mut(pass).1)
    }
}

impl Plans {
    /// A pass for the logits at so many positions of so many tokens. The number of tokens is rounded.
    pub fn logits(&mut self, gpu: &Gpu, weights: &Weights, (tokens, losses): (usize, usize)) -> Result<&LogitsPass> {
        let sizes = (Sizing::Rounded.round(tokens, 0), Sizing::Rounded.round_count(losses));
        let made = match self.logits.take() {
            Some((planned, pass)) if planned == sizes => (planned, pass),
            _ => (sizes, LogitsPass::new(gpu, weights, sizes.0, sizes.1)?),
        };
        Ok(&self.logits.insert(made).1)
    }
}

/// Leaves room for one more; those that were used longest ago go.
fn make_room<T>(kept: &mut Vec<T>, sizing: Sizing) {
    let surplus = (kept.len() + 1).saturating_sub(sizing.most_kept());
    kept.drain(..surplus);
}

/// Makes a plan. Where a memory budget has no room for it beside the plans of other calls, these go.
fn within_budget<T>(others: &mut Alike, make: impl Fn() -> std::result::Result<T, ModelError>) -> Result<T> {
    match make() {
        Err(ModelError::Gpu(GpuError::OverBudget { .. })) if !(others.rollouts.is_empty() && others.passes.is_empty()) => {
            *others = Alike::default();
            Ok(make()?)
        }
        made => Ok(made?),
    }
}

/// Plans between two calls. A call takes them out; one that runs beside it makes its own. A call that fails or is dropped leaves
/// none.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sizes_serve_many_lengths() {
        let round = |tokens, beside| Sizing::Rounded.round(tokens, beside);
        assert_eq!([1, 64, 65, 1000, 4096, 4097].map(|n| round(n, 0)), [64, 64, 128, 1024, 4096, 4097]);
        assert_eq!([1, 256, 257, 600].map(|n| round(n, 512)), [256, 256, 512, 1024]);
        assert_eq!(Sizing::Exact.round(65, 512), 65);
        // Whatever is planned beside the prompt: all the sizes together, measured by the largest.
        for beside in [0, 1, 100, 512, 3000, 40_000] {
            let mut sizes: Vec<usize> = (1..=LARGEST_ROUNDED).map(|n| round(n, beside) + beside).collect();
            sizes.dedup();
            assert!(sizes.len() <= MOST_KEPT && sizes.iter().sum::<usize>() as f64 <= 2.4 * sizes[sizes.len() - 1] as f64);
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes() {
        let mut kept: Vec<usize> = (0..MOST_KEPT).collect();
        make_room(&mut kept, Sizing::Rounded);
        assert_eq!(kept, (1..MOST_KEPT).collect::<Vec<_>>());
        make_room(&mut kept, Sizing::Exact);
        assert!(kept.is_empty());
    }
}
