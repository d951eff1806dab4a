//! The generalised policy gradient: chains are sampled, rewarded, and trained on with both of its terms.
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

use std::borrow::Cow;

use crate::gpu::Gpu;
use crate::judge::{AnswerFormat, Placed, Placement, Scale, ScoreReads, ScoreTokens};
use crate::model::decoder::{PackedInputs, Pass, PassSizes, RowStats, Sampler};
use crate::model::weights::Weights;
use crate::ops::loss_head::RowObjective;
use crate::random::{Stream, threefry2x32};
use crate::rollout::{Chain, Ending, Rollout, RolloutSizes};
use crate::train::TrainError;
use crate::train::data::examples::{Prompt, longest_answer};
use crate::train::objective::advantage::{AdvantageSettings, advantages};
use crate::train::objective::optimiser::Optimiser;
use crate::train::objective::reward::{Earned, RewardSettings, expected, sampled_log_prob, sampled_slopes};
use crate::train::objective::trainer::{StepKey, StepNumbers, StepPace};

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
pub struct Speech<'a> {
    pub scale: &'a Scale,
    pub format: AnswerFormat<'a>,
    pub eos: &'a [u32],
}

/// A chain that is ready to be trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// Tokens between prompt and score: what was drawn (without an EOS), then the phrase where it had to be forced.
    pub fed: Vec<u32>,
    /// Drawn tokens; action `j` is predicted from the token before `fed[j]`.
    pub actions: Vec<u32>,
    /// Log-probability of each action when it was sampled.
    pub log_ps: Vec<f32>,
    pub ending: Ending,
}

/// Puts the phrase behind a chain that did not come to it.
///
/// # Errors
/// As [`AnswerFormat::close`].
pub fn close(chain: &Chain, prompt_ends_in_space: bool, speech: &Speech) -> Result<Closed, TrainError> {
    let fed = speech.format.close_sampled(chain, prompt_ends_in_space)?;
    let (actions, log_ps) = chain.draws.iter().map(|d| (d.token, d.log_p)).unzip();
    Ok(Closed { fed, actions, log_ps, ending: chain.ending })
}

/// One prompt with its chains.
#[derive(Clone, Debug)]
pub struct Rolled<'a> {
    pub prompt: &'a Prompt,
    pub chains: Vec<Closed>,
}

/// A chain's reward and what it was made from.
#[derive(Clone, Debug, Default)]
pub struct Rewarded {
    pub earned: Earned,
    /// KL to the start model, subtracted from the reward with its weight.
    pub kl: f64,
    pub expected: f64,
    pub mass: f64,
    /// Full-vocabulary log-probabilities of the scores, `[K]`.
    pub log_probs: Vec<f64>,
    /// Index of the sampled score; `None` where something else was sampled.
    pub sampled: Option<usize>,
    /// Its log-probability when it was sampled.
    pub sampled_log_p: f64,
    /// ρ, 1 for chains of the policy as it is.
    pub ratio: f64,
    pub advantage: f64,
}

/// Where the scores come from that rewards look at.
#[derive(Clone, Copy)]
pub enum Scores<'a> {
    /// Drawn now: the batch's `n`-th chain by this number in [0, 1).
    Draw(&'a dyn Fn(u64) -> f64),
    /// Drawn before, by the policy that wrote the chains; its ratio to the policy now is wanted.
    Drawn(&'a [Vec<Rewarded>]),
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
        placement: Placement,
        start: Option<Weights>,
    ) -> Result<Self, TrainError> {
        let PromptSizes { longest, micro_batch } = prompts;
        let tokens = placement.tokens;
        let fed = longest_answer(tokens, settings.max_tokens);
        let (context, needed) = (weights.config.max_position_embeddings, placement.depth(longest, fed));
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
            tokens: prompts * placement.size(longest, std::iter::repeat_n(fed, chains)),
            rows: prompts * chains * (fed + tokens.places().len()),
            score_tokens: tokens.alphabet().to_vec(),
            recompute: settings.recompute,
            // Chains are sampled without dropout.
            dropout: false,
        };
        // No rollout runs between a pass's two halves, so that what they leave each other may lie in the caches.
        let pass = Pass::new(&gpu.lending(rollout.caches()), &weights, Some(&optimiser.gradient), sizes.clone())?;
        let start = match start {
            None => None,
            Some(start) => {
                let pass = Pass::new(gpu, &start, None, sizes)?;
                Some((start, pass))
            }
        };
        let (tokens, reads) = (tokens.clone(), placement.reads);
        Ok(PolicyTrainer { gpu: gpu.clone(), weights, optimiser, settings, rollout, pass, start, micro_batch, tokens, reads })
    }

    fn placement(&self) -> Placement<'_> {
        Placement { tokens: &self.tokens, reads: self.reads }
    }

    /// Writes chains for these prompts and learns from them, in as many optimiser steps as are set: `key` fixes every
    /// random number in it; `pace` is that of the first optimiser step.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn step(
        &self,
        prompts: &[&Prompt],
        speech: &Speech<'_>,
        key: StepKey,
        pace: StepPace,
    ) -> Result<StepNumbers, TrainError> {
        let StepKey { seed, step } = key;
        let key = threefry2x32([seed as u32, (seed >> 32) as u32], [step as u32, (step >> 32) as u32]);
        let sampler = Sampler { temperature: 1.0, top_p: self.settings.top_p as f32, top_k: 0, key };
        let stop = speech.format.stop(speech.eos, self.settings.max_tokens);
        let mut tally = Tally { kl_weight: self.settings.kl, ..Tally::default() };
        let mut all = Vec::new();
        for (n, micro) in prompts.chunks(self.micro_batch).enumerate() {
            let ids: Vec<Vec<u32>> = micro.iter().map(|p| p.ids.clone()).collect();
            let first = (n * self.micro_batch * self.settings.group) as u32;
            let chains = self.rollout.run(&ids, first, sampler, &stop, &mut ()).await?;
            let rolled = micro.iter().zip(chains).map(|(prompt, chains)| {
                let chains = chains.iter().map(|c| close(c, prompt.ends_in_space, speech));
                Ok(Rolled { prompt, chains: chains.collect::<Result<_, TrainError>>()? })
            });
            all.push(rolled.collect::<Result<Vec<_>, TrainError>>()?);
        }
        let totals = Totals::of(&all);
        let mut drawn: Vec<Vec<Vec<Rewarded>>> = Vec::new();
        let (mut applied, mut first_outcome) = (0, None);
        for iteration in 0..self.settings.iterations {
            for (n, rolled) in all.iter().enumerate() {
                let first = (n * self.micro_batch * self.settings.group) as u64;
                let uniform = |chain: u64| Stream::new(seed, (step << 24) ^ (first + chain) ^ SCORE_STREAM).uniform();
                let scores = drawn.get(n).filter(|_| iteration > 0).map_or(Scores::Draw(&uniform), |d| Scores::Drawn(d));
                let rewarded = self.rewards(rolled, speech, scores).await?;
                let pieces = self.pieces(rolled);
                let mut flat = rewarded.iter().flatten();
                for piece in &pieces {
                    let of_group = |group: &Rolled| flat.by_ref().take(group.chains.len()).cloned().collect();
                    let rewarded: Vec<Vec<Rewarded>> = piece.iter().map(of_group).collect();
                    let batch = self.objectives(piece, &rewarded, speech, &totals);
                    let stats = self.accumulate(&batch, pieces.len() == 1).await?;
                    if iteration == 0 {
                        let placed = self.lay(piece).1;
                        tally.add(piece, &rewarded, &placed, &batch, &stats);
                    }
                }
                if iteration == 0 {
                    tally.add_rewards(&rewarded);
                    drawn.push(rewarded);
                } else {
                    tally.ratios.extend(rewarded.iter().flatten().map(|r| r.ratio));
                }
            }
            let outcome = self.optimiser.step(&self.gpu, pace.learning_rate, pace.t + applied).await?;
            applied += u64::from(outcome.applied);
            first_outcome.get_or_insert(outcome);
        }
        let grad_norm = first_outcome.map_or(0.0, |o| o.grad_norm);
        Ok(tally.numbers(grad_norm, applied))
    }

    /// Chains that go through the pass together: all, or a few of one prompt at a time.
    fn pieces<'a>(&self, rolled: &'a [Rolled<'a>]) -> Vec<Cow<'a, [Rolled<'a>]>> {
        let few = self.settings.chains_per_pass;
        if few == 0 {
            return vec![Cow::Borrowed(rolled)];
        }
        let cut = |group: &'a Rolled<'a>| {
            let piece = |chains: &[Closed]| Cow::Owned(vec![Rolled { prompt: group.prompt, chains: chains.to_vec() }]);
            group.chains.chunks(few).map(piece)
        };
        rolled.iter().flat_map(cut).collect()
    }

    /// Adds the gradient of a batch to the optimiser's and returns what the batch's rows said. `fresh`: its chains are those
    /// that [`PolicyTrainer::rewards`] read last, so that the forward pass need not be run again.
    ///
    /// # Errors
    /// A batch over the planned sizes, other chains than those just read, or what the GPU reports.
    pub async fn accumulate(&self, batch: &PackedInputs, fresh: bool) -> Result<Vec<RowStats>, TrainError> {
        if fresh {
            self.pass.learn(batch)?
        } else {
            self.pass.run(batch)?
        }
        Ok(self.pass.stats(batch.rows.len()).await?)
    }

    /// Reads the score distribution behind every chain and rewards it, with the score that was sampled there.
    ///
    /// # Errors
    /// Chains over the planned sizes, or what the GPU reports.
    pub async fn rewards(
        &self,
        rolled: &[Rolled<'_>],
        speech: &Speech<'_>,
        scores: Scores<'_>,
    ) -> Result<Vec<Vec<Rewarded>>, TrainError> {
        let mut read = Vec::new();
        for piece in self.pieces(rolled) {
            self.read(&piece, speech, scores, &mut read).await?;
        }
        let mut flat = read.into_iter();
        let of_group = |group: &Rolled| {
            let mut rewarded: Vec<Rewarded> = flat.by_ref().take(group.chains.len()).collect();
            self.advantages(&mut rewarded);
            rewarded
        };
        Ok(rolled.iter().map(of_group).collect())
    }

    /// Reads one piece and appends what its chains earned; advantages are left to whoever knows the whole group.
    async fn read(
        &self,
        rolled: &[Rolled<'_>],
        speech: &Speech<'_>,
        scores: Scores<'_>,
        read: &mut Vec<Rewarded>,
    ) -> Result<(), TrainError> {
        let with_actions = self.start.is_some() || matches!(scores, Scores::Drawn(_));
        let (mut batch, placed) = self.lay(rolled);
        for (chain, placed) in chains(rolled, &placed) {
            if with_actions {
                chain.actions.iter().zip(&placed.before).for_each(|(t, row)| batch.push_row(*row, RowObjective::token(*t, 0.0)));
            }
            placed.nodes.iter().for_each(|node| batch.push_row(*node, RowObjective::default()));
        }
        batch.sort_rows();
        self.pass.read(&batch)?;
        let stats = self.pass.stats(batch.rows.len()).await?;
        let before = match &self.start {
            None => None,
            Some((_, pass)) => {
                pass.run(&batch)?;
                Some(pass.stats(batch.rows.len()).await?)
            }
        };
        let log_p = |stats: &[RowStats], row: &u32| batch.row_at(*row).map_or(0.0, |row| f64::from(stats[row].log_p));
        let reward = &self.settings.reward;
        for (group, placed) in rolled.iter().zip(&placed) {
            for (chain, placed) in group.chains.iter().zip(placed) {
                let number = read.len();
                let actions = &placed.before[..chain.actions.len().min(placed.before.len())];
                let log_probs = self.placement().log_probs(placed, &batch, &stats);
                let kl = before.as_ref().map_or(0.0, |b| actions.iter().map(|row| log_p(&stats, row) - log_p(b, row)).sum());
                let (mut ratio, sampled, sampled_log_p);
                match scores {
                    Scores::Draw(uniform) => {
                        ratio = 1.0;
                        sampled = draw(&log_probs, uniform(number as u64));
                        sampled_log_p = sampled_log_prob(&log_probs, sampled);
                    }
                    Scores::Drawn(before) => {
                        let then = before.iter().flatten().nth(number);
                        (sampled, sampled_log_p) = then.map_or((None, 0.0), |then| (then.sampled, then.sampled_log_p));
                        let moved = actions.iter().zip(&chain.log_ps).map(|(row, old)| log_p(&stats, row) - f64::from(*old));
                        let mut log_ratio: f64 = moved.sum();
                        if reward.samples_score() {
                            log_ratio += sampled_log_prob(&log_probs, sampled) - sampled_log_p;
                        }
                        ratio = log_ratio.exp();
                    }
                }
                if self.settings.ratio_cap > 0.0 {
                    ratio = ratio.min(self.settings.ratio_cap);
                }
                let earned = reward.earned(speech.scale, &log_probs, group.prompt.label(), sampled);
                let e = expected(reward.expectation, speech.scale, &log_probs);
                let mass = log_probs.iter().map(|l| l.exp()).sum();
                let known = Rewarded { earned, kl, expected: e, mass, log_probs, sampled, sampled_log_p, ratio, advantage: 0.0 };
                read.push(known);
            }
        }
        Ok(())
    }

    /// Prompts with their chains in a batch, and where each chain is.
    pub fn lay(&self, rolled: &[Rolled]) -> (PackedInputs, Vec<Vec<Placed>>) {
        let mut batch = PackedInputs::default();
        let lay = |group: &Rolled| {
            let fed: Vec<&[u32]> = group.chains.iter().map(|c| c.fed.as_slice()).collect();
            self.placement().lay(&mut batch, &group.prompt.ids, &fed)
        };
        let placed = rolled.iter().map(lay).collect();
        (batch, placed)
    }

    fn advantages(&self, rewarded: &mut [Rewarded]) {
        let kl = self.settings.kl;
        let of = |part: &dyn Fn(&Rewarded) -> f64| {
            let rewards: Vec<f64> = rewarded.iter().map(part).collect();
            advantages(&rewards, self.settings.advantage)
        };
        let sum = if self.settings.separate_advantages {
            let part = |i: usize| of(&|r| r.earned.parts()[i] - if i == 0 { kl * r.kl } else { 0.0 });
            let parts: Vec<Vec<f64>> = (0..Earned::default().parts().len()).map(part).collect();
            (0..rewarded.len()).map(|i| parts.iter().map(|p| p[i]).sum()).collect()
        } else {
            of(&|r| r.earned.total() - kl * r.kl)
        };
        rewarded.iter_mut().zip(sum).for_each(|(r, a): (&mut Rewarded, f64)| r.advantage = a);
    }

    /// The packed batch with both terms as objectives: the loss is minus the reward.
    pub fn objectives(&self, rolled: &[Rolled], rewarded: &[Vec<Rewarded>], speech: &Speech, totals: &Totals) -> PackedInputs {
        let s = &self.settings;
        let per_chain = 1.0 / totals.chains as f64;
        let per_token = match s.aggregation {
            Aggregation::Sum => per_chain,
            Aggregation::TokenMean => 1.0 / totals.tokens as f64,
        };
        let (mut batch, placed) = self.lay(rolled);
        for ((group, placed), rewarded) in rolled.iter().zip(&placed).zip(rewarded) {
            for ((chain, placed), reward) in group.chains.iter().zip(placed).zip(rewarded) {
                let explore = s.exploration * reward.ratio * reward.advantage * per_token;
                for (token, row) in chain.actions.iter().zip(&placed.before) {
                    let entropy_weight = -(s.entropy_bonus * per_token) as f32;
                    batch.push_row(*row, RowObjective { entropy_weight, ..RowObjective::token(*token, explore as f32) });
                }
                let refine = s.refinement * reward.ratio * per_chain;
                let mut of_scores = s.reward.slopes(speech.scale, &reward.log_probs, group.prompt.label());
                of_scores.iter_mut().for_each(|c| *c *= refine);
                if s.reward.samples_score() {
                    let sampled = sampled_slopes(&reward.log_probs, reward.sampled);
                    of_scores.iter_mut().zip(sampled).for_each(|(c, slope)| *c += explore * slope);
                }
                self.placement().push_scores(placed, &mut batch, &of_scores);
            }
        }
        batch.sort_rows();
        batch
    }
}

/// All chains with their places.
fn chains<'a>(rolled: &'a [Rolled], placed: &'a [Vec<Placed>]) -> impl Iterator<Item = (&'a Closed, &'a Placed)> {
    rolled.iter().zip(placed).flat_map(|(group, placed)| group.chains.iter().zip(placed))
}

/// Keeps the random numbers of sampled scores apart from all others.
const SCORE_STREAM: u64 = 0x5C0_4E00_0000_0000;

/// What the means of a step divide by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub chains: usize,
    /// Actions and score tokens.
    pub tokens: usize,
}

impl Totals {
    /// Counts all chains of a step.
    pub fn of(all: &[Vec<Rolled>]) -> Self {
        let chains = || all.iter().flatten().flat_map(|r| &r.chains);
        Totals { chains: chains().count(), tokens: chains().map(|c| c.actions.len() + 1).sum() }
    }
}

/// The score that `u` falls on; `None` for the rest of the vocabulary.
fn draw(log_probs: &[f64], u: f64) -> Option<usize> {
    let mut sum = 0.0;
    log_probs.iter().position(|l| {
        sum += l.exp();
        u < sum
    })
}

/// Sums over a step, for the log.
#[derive(Default)]
struct Tally {
    rewards: Vec<f64>,
    group_stds: Vec<f64>,
    lengths: Vec<f64>,
    terminated: Vec<f64>,
    entropy: f64,
    actions: usize,
    tokens: usize,
    squared_error: f64,
    expected: f64,
    mass: f64,
    /// Weight of the KL divergence in the reward; it is logged if there is one.
    kl_weight: f64,
    kl: f64,
    forced: usize,
    clipped: usize,
    loss: f64,
    off_policy: f64,
    /// ρ of every chain in the steps after the first.
    ratios: Vec<f64>,
}

impl Tally {
    /// The rewards of whole groups.
    fn add_rewards(&mut self, rewarded: &[Vec<Rewarded>]) {
        for group in rewarded {
            let rewards: Vec<f64> = group.iter().map(|r| r.earned.total() - self.kl_weight * r.kl).collect();
            let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rewards.len().max(1) as f64;
            self.group_stds.push(variance.sqrt());
            self.rewards.extend(rewards);
        }
    }

    /// What a piece of a batch was and said.
    fn add(
        &mut self,
        rolled: &[Rolled],
        rewarded: &[Vec<Rewarded>],
        placed: &[Vec<Placed>],
        batch: &PackedInputs,
        stats: &[RowStats],
    ) {
        for ((group, placed), rewarded) in rolled.iter().zip(placed).zip(rewarded) {
            for ((chain, placed), reward) in group.chains.iter().zip(placed).zip(rewarded) {
                self.lengths.push(chain.actions.len() as f64);
                match chain.ending {
                    Ending::Length => self.clipped += 1,
                    _ => self.terminated.push(chain.actions.len() as f64),
                }
                self.forced += usize::from(chain.ending != Ending::Phrase);
                for (log_p, row) in chain.log_ps.iter().zip(&placed.before) {
                    let Some(row) = batch.row_at(*row) else { continue };
                    self.entropy += f64::from(stats[row].entropy);
                    self.off_policy = self.off_policy.max(f64::from((stats[row].log_p - log_p).abs()));
                }
                self.actions += chain.actions.len();
                self.squared_error += (reward.expected - group.prompt.value).powi(2);
                self.expected += reward.expected;
                self.mass += reward.mass;
                self.kl += reward.kl;
            }
        }
        for (objective, row) in batch.objectives.iter().zip(stats) {
            self.loss -= f64::from(objective.weight) * f64::from(row.log_p);
        }
        self.tokens += batch.ids.len();
    }

    /// `grad_norm` is that of the first optimiser step.
    fn numbers(&self, grad_norm: f32, applied: u64) -> StepNumbers {
        let chains = self.lengths.len().max(1) as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let edge = |values: &[f64], f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(0.0);
        let reward = mean(&self.rewards);
        let spread = mean(&self.rewards.iter().map(|r| (r - reward).powi(2)).collect::<Vec<_>>()).sqrt();
        let flat = self.group_stds.iter().filter(|s| **s < 1e-6).count() as f64 / self.group_stds.len().max(1) as f64;
        let mut extra = vec![
            ("reward", reward),
            ("reward_std", spread),
            ("frac_reward_zero_std", flat),
            ("completions/mean_length", mean(&self.lengths)),
            ("completions/min_length", edge(&self.lengths, f64::min)),
            ("completions/max_length", edge(&self.lengths, f64::max)),
            ("completions/mean_terminated_length", mean(&self.terminated)),
            ("completions/clipped_ratio", self.clipped as f64 / chains),
            ("judge/forced", self.forced as f64 / chains),
            ("judge/expected_score", self.expected / chains),
            ("judge/mse", self.squared_error / chains),
            ("judge/score_mass", self.mass / chains),
            ("sampling/log_p_difference", self.off_policy),
        ];
        if self.kl_weight != 0.0 {
            extra.push(("kl", self.kl / chains));
        }
        if !self.ratios.is_empty() {
            extra.push(("ratio/mean", mean(&self.ratios)));
            extra.push(("ratio/max", edge(&self.ratios, f64::max)));
        }
        StepNumbers {
            loss: self.loss,
            entropy: self.entropy / self.actions.max(1) as f64,
            tokens: self.tokens,
            grad_norm,
            applied,
            extra,
        }
    }
}
