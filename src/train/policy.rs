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
//! What is an action: every sampled token, a sampled EOS included; never a forced token, and the score token only where
//! the reward looks at the sampled score (`binary`). An EOS is an action but is not fed: the forced phrase stands there.

use super::TrainError;
use super::advantage::{AdvantageSettings, advantages};
use super::examples::Prompt;
use super::optimiser::Optimiser;
use super::reward::{Earned, RewardSettings, expected};
use super::trainer::StepNumbers;
use crate::gpu::Gpu;
use crate::judge::{Scale, ScoreTokens};
use crate::model::decoder::{PackedInputs, Pass, PassSizes, RowStats, Sampler};
use crate::model::weights::Weights;
use crate::ops::loss_head::{RowObjective, SCORE_ABSENT};
use crate::random::{Stream, threefry2x32};
use crate::rollout::{Chain, Ending, Rollout, RolloutSizes, Stop};

/// How log-probabilities of the actions are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Sum over the tokens of a chain, mean over chains: the gradient of the objective.
    Sum,
    /// Mean over all tokens of the batch, score tokens counted: what the released code does.
    TokenMean,
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
}

/// What the judge of a run knows: its scale and the tokens around the score.
#[derive(Clone, Copy)]
pub struct Speech<'a> {
    pub scale: &'a Scale,
    pub tokens: &'a ScoreTokens,
    pub eos: &'a [u32],
    /// Whether a chain's text ends in white space: decides the form of a forced phrase.
    pub ends_in_space: &'a dyn Fn(&[u32]) -> bool,
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
pub fn close(chain: &Chain, prompt_ends_in_space: bool, speech: &Speech) -> Closed {
    let actions: Vec<u32> = chain.draws.iter().map(|d| d.token).collect();
    let log_ps = chain.draws.iter().map(|d| d.log_p).collect();
    let mut fed = actions.clone();
    if chain.ending != Ending::Phrase {
        fed = chain.body();
        let space = if fed.is_empty() { prompt_ends_in_space } else { (speech.ends_in_space)(&fed) };
        fed.extend(speech.tokens.stem_after(space));
    }
    Closed { fed, actions, log_ps, ending: chain.ending }
}

/// One prompt with its chains.
#[derive(Clone, Debug)]
pub struct Rolled<'a> {
    pub prompt: &'a Prompt,
    pub chains: Vec<Closed>,
}

/// A chain's reward and what it was made from.
#[derive(Clone, Debug)]
pub struct Rewarded {
    pub earned: Earned,
    /// KL to the start model, subtracted from the reward with its weight.
    pub kl: f64,
    pub expected: f64,
    pub mass: f64,
    /// Index of the sampled score; `None` where a token that is no score was sampled.
    pub sampled: Option<usize>,
    pub advantage: f64,
}

/// The plans and settings of a policy-gradient run.
pub struct PolicyTrainer {
    pub gpu: Gpu,
    pub weights: Weights,
    pub optimiser: Optimiser,
    settings: PolicySettings,
    rollout: Rollout,
    read: Pass,
    train: Pass,
    start: Option<(Weights, Pass)>,
    micro_batch: usize,
}

impl PolicyTrainer {
    /// Plans for prompts of at most `longest` tokens, `micro_batch` of them together.
    ///
    /// # Errors
    /// Out of memory, or prompt, chain and phrase longer than the model's context.
    pub fn new(
        gpu: &Gpu,
        weights: Weights,
        optimiser: Optimiser,
        settings: PolicySettings,
        (longest, micro_batch): (usize, usize),
        (scale, tokens): (&Scale, &ScoreTokens),
        start: Option<Weights>,
    ) -> Result<Self, TrainError> {
        let phrase = tokens.stem.len().max(tokens.opening.len());
        let chain = settings.max_tokens + phrase + 1;
        let context = weights.config.max_position_embeddings;
        if longest + chain > context {
            let what = "prompt, chain and phrase in tokens; lower max_completion_length or max_length";
            return Err(crate::model::error::ModelError::Batch { what, allowed: context, found: longest + chain }.into());
        }
        let rows = micro_batch * settings.group;
        let sizes = RolloutSizes { rows, group: settings.group, prompt: longest, new_tokens: settings.max_tokens };
        let rollout = Rollout::new(gpu, &weights, sizes)?;
        let sizes = PassSizes {
            tokens: micro_batch * (longest + settings.group * chain),
            rows: rows * chain,
            score_tokens: tokens.ids.clone(),
            score_values: scale.values().iter().map(|v| *v as f32).collect(),
        };
        let read = Pass::new(gpu, &weights, None, sizes.clone())?;
        let train = Pass::new(gpu, &weights, Some(&optimiser.gradient), sizes.clone())?;
        let start = match start {
            None => None,
            Some(start) => {
                let pass = Pass::new(gpu, &start, None, sizes)?;
                Some((start, pass))
            }
        };
        Ok(PolicyTrainer { gpu: gpu.clone(), weights, optimiser, settings, rollout, read, train, start, micro_batch })
    }

    /// One optimiser step on these prompts: `seed` and `step` fix every random number in it.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn step(
        &self,
        prompts: &[&Prompt],
        speech: &Speech<'_>,
        (seed, step): (u64, u64),
        (learning_rate, t): (f64, u64),
    ) -> Result<StepNumbers, TrainError> {
        let key = threefry2x32([seed as u32, (seed >> 32) as u32], [step as u32, (step >> 32) as u32]);
        let sampler = Sampler { temperature: 1.0, top_p: self.settings.top_p as f32, top_k: 0, key };
        let stop = Stop {
            phrases: vec![speech.tokens.stem.clone(), speech.tokens.opening.clone()],
            eos: speech.eos.to_vec(),
            max_tokens: self.settings.max_tokens,
        };
        let mut tally = Tally { kl_weight: self.settings.kl, ..Tally::default() };
        let mut all = Vec::new();
        for (n, micro) in prompts.chunks(self.micro_batch).enumerate() {
            let ids: Vec<Vec<u32>> = micro.iter().map(|p| p.ids.clone()).collect();
            let first = (n * self.micro_batch * self.settings.group) as u32;
            let chains = self.rollout.run(&ids, first, sampler, &stop, &mut ()).await?;
            let rolled = micro.iter().zip(chains).map(|(prompt, chains)| Rolled {
                prompt,
                chains: chains.iter().map(|c| close(c, prompt.ends_in_space, speech)).collect(),
            });
            all.push(rolled.collect::<Vec<_>>());
        }
        let totals = Totals::of(&all);
        for (n, rolled) in all.iter().enumerate() {
            let first = (n * self.micro_batch * self.settings.group) as u64;
            let uniform = |chain: u64| Stream::new(seed, (step << 24) ^ (first + chain) ^ SCORE_STREAM).uniform();
            let rewarded = self.rewards(rolled, speech, uniform).await?;
            let batch = self.objectives(rolled, &rewarded, speech, &totals);
            let stats = self.accumulate(&batch).await?;
            tally.add(rolled, &rewarded, &batch, &stats);
        }
        let outcome = self.optimiser.step(&self.gpu, learning_rate, t).await?;
        Ok(tally.numbers(outcome))
    }

    /// Adds the gradient of a batch to the optimiser's; returns what the batch's rows said.
    ///
    /// # Errors
    /// A batch over the planned sizes, or what the GPU reports.
    pub async fn accumulate(&self, batch: &PackedInputs) -> Result<Vec<RowStats>, TrainError> {
        self.train.run(batch)?;
        Ok(self.train.stats(batch.rows.len()).await?)
    }

    /// Reads the score distribution behind every chain, samples a score from it, and rewards. `uniform` gives the number
    /// in [0, 1) by which the score of the batch's `n`-th chain is drawn.
    ///
    /// # Errors
    /// Chains over the planned sizes, or what the GPU reports.
    pub async fn rewards(
        &self,
        rolled: &[Rolled<'_>],
        speech: &Speech<'_>,
        uniform: impl Fn(u64) -> f64,
    ) -> Result<Vec<Vec<Rewarded>>, TrainError> {
        let with_actions = self.start.is_some();
        let batch = reading(rolled, with_actions);
        self.read.run(&batch)?;
        let stats = self.read.stats(batch.rows.len()).await?;
        let before = match &self.start {
            None => None,
            Some((_, pass)) => {
                pass.run(&batch)?;
                Some(pass.stats(batch.rows.len()).await?)
            }
        };
        let mut row = 0;
        let mut chain_number = 0;
        let mut all = Vec::new();
        for group in rolled {
            let mut rewarded = Vec::new();
            for chain in &group.chains {
                let mut kl = 0.0;
                if let Some(before) = &before {
                    for j in 0..chain.actions.len() {
                        kl += f64::from(stats[row + j].log_p_a) - f64::from(before[row + j].log_p_a);
                    }
                    row += chain.actions.len();
                }
                // The score's row is the last one of a chain; see `reading`.
                let log_probs: Vec<f64> = stats[row].score_log_probs.iter().map(|l| f64::from(*l)).collect();
                row += 1;
                let sampled = draw(&log_probs, uniform(chain_number));
                chain_number += 1;
                let label = (&group.prompt.label, group.prompt.value);
                let earned = self.settings.reward.earned(speech.scale, &log_probs, label, sampled);
                let e = expected(self.settings.reward.expectation, speech.scale, &log_probs);
                let mass = log_probs.iter().map(|l| l.exp()).sum();
                rewarded.push(Rewarded { earned, kl, expected: e, mass, sampled, advantage: 0.0 });
            }
            self.advantages(&mut rewarded);
            all.push(rewarded);
        }
        Ok(all)
    }

    fn advantages(&self, rewarded: &mut [Rewarded]) {
        let kl = self.settings.kl;
        let of = |part: &dyn Fn(&Rewarded) -> f64| {
            let rewards: Vec<f64> = rewarded.iter().map(part).collect();
            advantages(&rewards, self.settings.advantage)
        };
        let sum = if self.settings.separate_advantages {
            let parts = [
                of(&|r| r.earned.squared - kl * r.kl),
                of(&|r| r.earned.log_prob),
                of(&|r| r.earned.prob),
                of(&|r| r.earned.binary),
            ];
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
        let mut batch = PackedInputs::default();
        for (group, rewarded) in rolled.iter().zip(rewarded) {
            for ((chain, reward), head) in group.chains.iter().zip(rewarded).zip(heads(&mut batch, group)) {
                let explore = s.exploration * reward.advantage * per_token;
                let action = |token: u32| RowObjective {
                    a: token,
                    b: token,
                    weight_a: explore as f32,
                    entropy_weight: -(s.entropy_bonus * per_token) as f32,
                    ..RowObjective::default()
                };
                for (j, token) in chain.actions.iter().enumerate() {
                    batch.push_row(head + j as u32, action(*token));
                }
                let label = (&group.prompt.label, group.prompt.value);
                let mut score = s.reward.refinement(s.refinement * per_chain, &speech.tokens.ids, label);
                if s.reward.binary != 0.0 {
                    // The sampled score is an action too; with a binary reward there is nothing to refine.
                    score = match reward.sampled {
                        Some(k) => action(speech.tokens.ids[k]),
                        None => {
                            RowObjective { score_kind: SCORE_ABSENT, score_weight: explore as f32, ..RowObjective::default() }
                        }
                    };
                }
                batch.push_row(head + chain.fed.len() as u32, score);
            }
        }
        batch
    }
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

/// Appends a prompt with its chains; the head of each chain is the row that predicts its first token.
fn heads(batch: &mut PackedInputs, group: &Rolled) -> Vec<u32> {
    let fed: Vec<&[u32]> = group.chains.iter().map(|c| c.fed.as_slice()).collect();
    batch.push_shared(&group.prompt.ids, &fed)
}

/// The batch that reads score distributions: one row a chain, after its actions' rows where those are wanted.
fn reading(rolled: &[Rolled], with_actions: bool) -> PackedInputs {
    let mut batch = PackedInputs::default();
    for group in rolled {
        let heads = heads(&mut batch, group);
        for (chain, head) in group.chains.iter().zip(heads) {
            if with_actions {
                for (j, token) in chain.actions.iter().enumerate() {
                    batch.push_row(head + j as u32, RowObjective { a: *token, b: *token, ..RowObjective::default() });
                }
            }
            batch.push_row(head + chain.fed.len() as u32, RowObjective::default());
        }
    }
    batch
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
}

impl Tally {
    fn add(&mut self, rolled: &[Rolled], rewarded: &[Vec<Rewarded>], batch: &PackedInputs, stats: &[RowStats]) {
        let mut row = 0;
        for (group, rewarded) in rolled.iter().zip(rewarded) {
            let rewards: Vec<f64> = rewarded.iter().map(|r| r.earned.total() - self.kl_weight * r.kl).collect();
            let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rewards.len().max(1) as f64;
            self.group_stds.push(variance.sqrt());
            for (chain, reward) in group.chains.iter().zip(rewarded) {
                self.lengths.push(chain.actions.len() as f64);
                match chain.ending {
                    Ending::Length => self.clipped += 1,
                    _ => self.terminated.push(chain.actions.len() as f64),
                }
                self.forced += usize::from(chain.ending != Ending::Phrase);
                for log_p in &chain.log_ps {
                    self.entropy += f64::from(stats[row].entropy);
                    self.off_policy = self.off_policy.max(f64::from((stats[row].log_p_a - log_p).abs()));
                    row += 1;
                }
                row += 1; // the score
                self.actions += chain.actions.len();
                self.squared_error += (reward.expected - group.prompt.value).powi(2);
                self.expected += reward.expected;
                self.mass += reward.mass;
                self.kl += reward.kl;
            }
            self.rewards.extend(rewards);
        }
        for (objective, row) in batch.objectives.iter().zip(stats) {
            self.loss -= f64::from(objective.weight_a) * f64::from(row.log_p_a);
        }
        self.tokens += batch.ids.len();
    }

    fn numbers(&self, outcome: super::optimiser::StepOutcome) -> StepNumbers {
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
        StepNumbers {
            loss: self.loss,
            entropy: self.entropy / self.actions.max(1) as f64,
            tokens: self.tokens,
            grad_norm: outcome.grad_norm,
            applied: outcome.applied,
            extra,
        }
    }
}
