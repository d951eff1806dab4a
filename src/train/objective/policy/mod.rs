//! The generalised policy gradient: completions are sampled and rewarded, and both terms of the gradient are trained.
//!
//! ```text
//! ∇ E[r] = E[ r · ∇ log π(c|x)   +   ∇ r ]            c: the sampled tokens of a completion; r depends on π itself
//!             exploration            refinement
//!
//! prompts ─► K completions each, closed with the phrase ─► score distribution ─► reward r ─► advantage A
//!                                                                                │            │
//!                                           refinement: β ∇r at the score nodes  ┘            └ exploration: A ∇ log π
//! ```
//!
//! Actions are the sampled tokens, including a sampled EOS. Forced tokens are not actions. The score is one only if the reward
//! depends on the sampled score. An EOS is an action but is not fed to the model: the forced phrase takes its position.
//!
//! Completions may serve several optimiser steps. From the second step on, an older policy π₀ has sampled them. Both terms are
//! then weighted by the ratio of the whole completion, ρ = π(c|x) / π₀(c|x), because ∇(ρ r) = ρ (r ∇ log π + ∇ r), and r is
//! read again from the current policy. Per-token ratios on the first term alone would be biased.

mod losses;
mod metrics;
mod rewards;
mod rollout;

use crate::gpu::Gpu;
use crate::judge::{AnswerFormat, BatchLayout, Scale, ScoreReads, ScoreTokens};
use crate::model::decoder::{Pass, PassSizes};
use crate::model::weights::Weights;
use crate::rollout::{ReadSizes, Rollout, RolloutSizes};
use crate::train::TrainError;
use crate::train::data::examples::{LabelledPrompt, longest_continuation};
use crate::train::objective::advantage::AdvantageSettings;
use crate::train::objective::gradient_sum::GradientSum;
use crate::train::objective::optimiser::{Optimiser, OptimiserOutcome};
use crate::train::objective::reward::RewardSettings;
use crate::train::objective::step::{OptimiserStep, StepKey, StepMetrics};
use crate::train::objective::tree::TreeOp;
pub use losses::Totals;
use metrics::MetricSums;
use rewards::by_group;
pub use rewards::{ScoreSource, ScoredCompletion};
pub use rollout::{Completion, PromptGroup, close};

words! {
    /// How the log-probabilities of the actions are aggregated.
    pub enum Aggregation {
        /// Sum over the tokens of a completion, mean over completions: the gradient of the objective.
        Sum = "sum",
        /// Mean over all tokens of the batch, including the scores, as in the released code.
        TokenMean = "token_mean",
    }
}

/// Everything in which policy-gradient methods differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySettings {
    pub reward: RewardSettings,
    pub advantage: AdvantageSettings,
    /// Compute advantages for each reward part separately and sum them (as in the released code), or for the sum of the parts.
    pub separate_advantages: bool,
    pub aggregation: Aggregation,
    /// Weight of the exploration term; 0 leaves it out.
    pub exploration: f64,
    /// β, the weight of the refinement term.
    pub refinement: f64,
    /// Weight of the entropy bonus on the actions' distributions.
    pub entropy_bonus: f64,
    /// Weight of the KL divergence from the reference model in the reward.
    pub kl: f64,
    /// K, completions per prompt.
    pub group: usize,
    /// Most tokens of a chain.
    pub max_tokens: usize,
    /// Nucleus probability of sampling. Below 1 the sampled policy is not the one that is trained.
    pub top_p: f64,
    /// Optimiser steps per rollout.
    pub iterations: usize,
    /// Largest ρ; 0: unbounded. A bound adds bias and reduces variance.
    pub ratio_cap: f64,
    /// Completions per training pass; 0: all of a batch.
    pub chains_per_pass: usize,
    /// Recompute activations in the backward pass instead of keeping them.
    pub recompute: bool,
}

/// The prompts that the plans are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptSizes {
    /// Tokens of the longest prompt.
    pub longest: usize,
    /// Prompts per rollout batch.
    pub micro_batch: usize,
}

/// The scale of the trained judge, and how its answers are written.
#[derive(Clone, Copy)]
pub struct AnswerSpec<'a> {
    pub scale: &'a Scale,
    pub format: AnswerFormat<'a>,
    pub eos: &'a [u32],
}

/// The plans and settings of a policy-gradient run.
pub struct PolicyTrainer {
    pub gpu: Gpu,
    pub weights: Weights,
    pub optimiser: Optimiser,
    sum: GradientSum,
    settings: PolicySettings,
    rollout_plan: Rollout,
    pass: Pass,
    /// The reference model of the KL divergence.
    reference: Option<(Weights, Pass)>,
    micro_batch: usize,
    tokens: ScoreTokens,
    reads: ScoreReads,
}

impl PolicyTrainer {
    /// Plans for prompts of these sizes. The sum is that of the optimiser's gradient. `reference` is the reference model of the KL
    /// divergence, if that has a weight.
    ///
    /// # Errors
    /// Out of memory, or prompt, chain and phrase longer than the model's context.
    pub fn new(
        gpu: &Gpu,
        weights: Weights,
        (optimiser, sum): (Optimiser, GradientSum),
        settings: PolicySettings,
        prompts: PromptSizes,
        layout: BatchLayout,
        reference: Option<Weights>,
    ) -> Result<Self, TrainError> {
        let PromptSizes { longest, micro_batch } = prompts;
        let tokens = layout.tokens;
        let continuation = longest_continuation(tokens, settings.max_tokens);
        let (context, needed) = (weights.config.max_position_embeddings, layout.depth(longest, continuation));
        if needed > context {
            let what = "prompt, chain and phrase in tokens; lower max_completion_length or max_length";
            return Err(crate::model::error::ModelError::Batch { what, allowed: context, found: needed }.into());
        }
        let rows = micro_batch * settings.group;
        // A training pass has all prompts of a batch, or some completions of one prompt.
        let (prompts, completions) = match settings.chains_per_pass.min(settings.group) {
            0 => (micro_batch, settings.group),
            some => (1, some),
        };
        let sizes = RolloutSizes {
            rows,
            group: settings.group,
            prompt: longest,
            new_tokens: settings.max_tokens,
            read: ReadSizes::default(),
        };
        let rollout_plan = Rollout::new(gpu, &weights, sizes)?;
        let sizes = PassSizes {
            tokens: prompts * layout.size(longest, std::iter::repeat_n(continuation, completions)),
            loss_positions: prompts * completions * (continuation + tokens.nodes().len()),
            score_tokens: tokens.alphabet().to_vec(),
            recompute: settings.recompute,
            // Completions are sampled without dropout.
            dropout: false,
        };
        // No rollout runs between forward and backward, so the activations may use the memory of the KV cache.
        let pass = Pass::new(&gpu.reusing_memory_of(rollout_plan.caches()), &weights, Some(&optimiser.gradient), sizes.clone())?;
        let reference = match reference {
            None => None,
            Some(weights) => {
                let pass = Pass::new(gpu, &weights, None, sizes)?;
                Some((weights, pass))
            }
        };
        Ok(PolicyTrainer {
            gpu: gpu.clone(),
            weights,
            optimiser,
            sum,
            settings,
            rollout_plan,
            pass,
            reference,
            micro_batch,
            tokens: tokens.clone(),
            reads: layout.reads,
        })
    }

    /// One training step: a rollout on these prompts, then [`PolicySettings::iterations`] optimiser steps on its completions.
    /// All random numbers follow from `key`; `optimiser_step` is the first of them.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn step(
        &self,
        prompts: &[&LabelledPrompt],
        answer: &AnswerSpec<'_>,
        key: StepKey,
        optimiser_step: OptimiserStep,
    ) -> Result<StepMetrics, TrainError> {
        let mut first_iteration: Vec<Vec<Vec<ScoredCompletion>>> = Vec::new();
        let mut outcomes: Vec<OptimiserOutcome> = Vec::new();

        // Rollout: K completions per prompt, in batches of prompt groups. Ranks divide the batches.
        let (micro_batches, ranks) = (prompts.len().div_ceil(self.micro_batch), self.sum.ranks());
        let own = ranks.block(micro_batches);
        let batches = self.rollout(prompts, own.clone(), answer, key).await?;
        let totals = Totals::of(&batches).of_all_ranks(ranks)?;
        let mut sums: Vec<MetricSums> = batches.iter().map(|_| MetricSums::new(self.settings.kl)).collect();

        for iteration in 0..self.settings.iterations {
            let mut depth = 0;
            for op in self.sum.ops(micro_batches) {
                let TreeOp::Compute(n) = op else {
                    self.sum.apply(op, &mut depth).await?;
                    continue;
                };
                let (groups, sums) = (&batches[n - own.start], &mut sums[n - own.start]);

                // Rewards. Scores are drawn once, in the first iteration, like the completions.
                let uniform = self.uniforms(key, n);
                let drawn = first_iteration.get(n - own.start);
                let source = drawn.map_or(ScoreSource::Draw(&uniform), |drawn| ScoreSource::Drawn(drawn));
                let mut scored = self.rewards(groups, answer, source).await?;

                // Advantages, within each prompt group.
                self.advantages(&mut scored);

                // Losses and backward: the gradients of all sub-batches of a batch add up.
                let sub_batches = self.sub_batches(groups);
                let mut remaining = scored.iter().flatten().cloned();
                for sub_batch in &sub_batches {
                    let scored = by_group(&mut remaining, sub_batch);
                    let losses = self.losses(sub_batch, &scored, answer, &totals);
                    let stats = self.accumulate_gradient(&losses, sub_batches.len() == 1).await?;
                    if iteration == 0 {
                        sums.add(sub_batch, &scored, &self.pack(sub_batch).1, &losses, &stats);
                    }
                }
                if iteration == 0 {
                    sums.add_rewards(&scored);
                    first_iteration.push(scored);
                } else {
                    sums.add_ratios(&scored);
                }
            }

            // Optimiser step, the same on all ranks.
            self.sum.share().await?;
            let applied = outcomes.iter().filter(|outcome| outcome.applied).count() as u64;
            outcomes.push(self.optimiser.step(&self.gpu, optimiser_step.learning_rate, optimiser_step.t + applied).await?);
        }
        Ok(MetricSums::of_all_ranks(&sums, self.settings.kl, ranks)?.metrics(&outcomes))
    }
}
