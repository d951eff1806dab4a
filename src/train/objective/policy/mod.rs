//! The generalised policy gradient: chains are sampled, scored, and trained on with both of its terms.
//!
//! ```text
//! ∇ E[r] = E[ r · ∇ log π(c|x)   +   ∇ r ]            c: every sampled token of a chain; r depends on π itself
//!              explore the reasoning     refine the prediction
//!
//! prompts ─► K chains each ─► close (phrase, forced where missing) ─► score distribution ─► reward ─► advantage
//!                                                                                          │            │
//!                                                        refinement: β ∇r at the score row ┘            └ exploration: A ∇ log π
//! ```
//!
//! What is an action: every sampled token, a sampled EOS included; never a forced token, and the score only where the
//! reward looks at the sampled score. An EOS is an action but is not fed: the forced phrase stands there.
//!
//! Chains may serve several optimiser steps. From the second on they come from an older policy π₀, and what is sampled
//! weighs ρ = π(c|x) / π₀(c|x), the ratio of the whole chain, because ∇(ρ r) = ρ (r ∇ log π + ∇ r): both terms, with r
//! read again from the policy as it is now. Ratios of single tokens, on the first term alone, would be biased.

mod chains;
mod metrics;
mod objective;
mod rewards;

use crate::gpu::Gpu;
use crate::judge::{AnswerFormat, BatchLayout, Scale, ScoreReads, ScoreTokens};
use crate::model::decoder::{Pass, PassSizes};
use crate::model::weights::Weights;
use crate::rollout::{Rollout, RolloutSizes};
use crate::train::TrainError;
use crate::train::data::examples::{Prompt, longest_answer};
use crate::train::objective::advantage::AdvantageSettings;
use crate::train::objective::optimiser::{Optimiser, StepOutcome};
use crate::train::objective::reward::RewardSettings;
use crate::train::objective::trainer::{StepKey, StepNumbers, StepPace};
pub use chains::{Completion, PromptGroup, close};
use metrics::MetricSums;
pub use objective::Totals;
use rewards::by_group;
pub use rewards::{ScoredCompletion, Scores};

words! {
    /// How log-probabilities of the actions are summed.
    pub enum Aggregation {
        /// Sum over the tokens of a chain, mean over chains: the gradient of the objective.
        Sum = "sum",
        /// Mean over all tokens of the batch, score tokens counted: what the released code does.
        TokenMean = "token_mean",
    }
}

/// Everything that tells one policy-gradient method from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySettings {
    pub reward: RewardSettings,
    pub advantage: AdvantageSettings,
    /// Advantages of each part of the reward by itself, then summed (the released code), or of the sum.
    pub separate_advantages: bool,
    pub aggregation: Aggregation,
    /// Weight of the exploration term; 1, or 0 to leave it out.
    pub exploration: f64,
    /// β, weight of the refinement term.
    pub refinement: f64,
    /// Weight of the entropy of the action tokens' distributions, as a bonus.
    pub entropy_bonus: f64,
    /// Weight of the KL divergence to the start model, in the reward.
    pub kl: f64,
    /// K, chains of a prompt.
    pub group: usize,
    /// Most tokens of a chain.
    pub max_tokens: usize,
    /// Share of the probability that chains are sampled from: 1, or the sampled policy is not the one that is trained.
    pub top_p: f64,
    /// Optimiser steps on the same chains.
    pub iterations: usize,
    /// Largest ρ; 0: not bounded. A bound is biased and calm.
    pub ratio_cap: f64,
    /// Chains that are trained on together; 0: all of a batch.
    pub chains_per_pass: usize,
    /// Compute activations again instead of keeping them.
    pub recompute: bool,
}

/// Which prompts are planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptSizes {
    /// Tokens of the longest prompt.
    pub longest: usize,
    /// Prompts whose chains are sampled together.
    pub micro_batch: usize,
}

/// What the judge of a run knows: its scale, and how its answers are written.
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
    settings: PolicySettings,
    rollout: Rollout,
    pass: Pass,
    start: Option<(Weights, Pass)>,
    micro_batch: usize,
    tokens: ScoreTokens,
    reads: ScoreReads,
}

impl PolicyTrainer {
    /// Plans for prompts of these sizes.
    ///
    /// # Errors
    /// Out of memory, or prompt, chain and phrase longer than the model's context.
    pub fn new(
        gpu: &Gpu,
        weights: Weights,
        optimiser: Optimiser,
        settings: PolicySettings,
        prompts: PromptSizes,
        layout: BatchLayout,
        start: Option<Weights>,
    ) -> Result<Self, TrainError> {
        let PromptSizes { longest, micro_batch } = prompts;
        let tokens = layout.tokens;
        let fed = longest_answer(tokens, settings.max_tokens);
        let (context, needed) = (weights.config.max_position_embeddings, layout.depth(longest, fed));
        if needed > context {
            let what = "prompt, chain and phrase in tokens; lower max_completion_length or max_length";
            return Err(crate::model::error::ModelError::Batch { what, allowed: context, found: needed }.into());
        }
        let rows = micro_batch * settings.group;
        // Of one prompt where they are few, of all prompts otherwise.
        let (prompts, chains) = match settings.chains_per_pass.min(settings.group) {
            0 => (micro_batch, settings.group),
            few => (1, few),
        };
        let sizes = RolloutSizes { rows, group: settings.group, prompt: longest, new_tokens: settings.max_tokens };
        let rollout = Rollout::new(gpu, &weights, sizes)?;
        let sizes = PassSizes {
            tokens: prompts * layout.size(longest, std::iter::repeat_n(fed, chains)),
            loss_positions: prompts * chains * (fed + tokens.places().len()),
            score_tokens: tokens.alphabet().to_vec(),
            recompute: settings.recompute,
            // Chains are sampled without dropout.
            dropout: false,
        };
        // No rollout runs between a pass's two halves, so that what they leave each other may lie in the caches.
        let pass = Pass::new(&gpu.reusing_memory_of(rollout.caches()), &weights, Some(&optimiser.gradient), sizes.clone())?;
        let start = match start {
            None => None,
            Some(start) => {
                let pass = Pass::new(gpu, &start, None, sizes)?;
                Some((start, pass))
            }
        };
        let (tokens, reads) = (tokens.clone(), layout.reads);
        Ok(PolicyTrainer { gpu: gpu.clone(), weights, optimiser, settings, rollout, pass, start, micro_batch, tokens, reads })
    }

    /// Writes chains for these prompts and learns from them, in as many optimiser steps as are set: `key` fixes every
    /// random number in it; `pace` is that of the first optimiser step.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn step(
        &self,
        prompts: &[&Prompt],
        answer: &AnswerSpec<'_>,
        key: StepKey,
        pace: StepPace,
    ) -> Result<StepNumbers, TrainError> {
        let batches = self.roll_out(prompts, answer, key).await?;
        let totals = Totals::of(&batches);
        let mut metrics = MetricSums::new(self.settings.kl);
        let (mut drawn, mut outcomes): (Vec<Vec<Vec<ScoredCompletion>>>, Vec<StepOutcome>) = (Vec::new(), Vec::new());
        for iteration in 0..self.settings.iterations {
            for (n, groups) in batches.iter().enumerate() {
                let uniform = self.uniforms(key, n);
                // A score is drawn once, with the chains, however many optimiser steps they serve.
                let scores = drawn.get(n).map_or(Scores::Draw(&uniform), |drawn| Scores::Drawn(drawn));
                let mut scored = self.rewards(groups, answer, scores).await?;
                self.advantages(&mut scored);
                let sub_batches = self.sub_batches(groups);
                let mut each = scored.iter().flatten().cloned();
                for sub_batch in &sub_batches {
                    let scored = by_group(&mut each, sub_batch);
                    let losses = self.objectives(sub_batch, &scored, answer, &totals);
                    let stats = self.accumulate(&losses, sub_batches.len() == 1).await?;
                    if iteration == 0 {
                        metrics.add(sub_batch, &scored, &self.lay(sub_batch).1, &losses, &stats);
                    }
                }
                if iteration == 0 {
                    metrics.add_rewards(&scored);
                    drawn.push(scored);
                } else {
                    metrics.add_ratios(&scored);
                }
            }
            let applied = outcomes.iter().filter(|outcome| outcome.applied).count() as u64;
            outcomes.push(self.optimiser.step(&self.gpu, pace.learning_rate, pace.t + applied).await?);
        }
        Ok(metrics.numbers(&outcomes))
    }
}
