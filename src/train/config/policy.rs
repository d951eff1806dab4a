//! The settings of the policy-gradient methods: presets, overrides, and conflicts.

use super::method::{ChainSource, Reward};
use super::{Preset, SettingError, TrainConfig};
use crate::judge::Expectation;
use crate::train::data::pack::Supervision;
use crate::train::objective::advantage::AdvantageSettings;
use crate::train::objective::policy::{Aggregation, PolicySettings};
use crate::train::objective::reward::RewardSettings;

/// The values of a preset, used where the config has none.
struct Estimator {
    refinement: f64,
    log_prob: f64,
    prob: f64,
    normalize: bool,
    clip: f64,
    separate: bool,
    aggregation: Aggregation,
    expectation: Expectation,
    top_p: f64,
}

/// The exact gradient of the objective: nothing is rescaled.
const EXACT: Estimator = Estimator {
    refinement: 1.0,
    log_prob: 1.0,
    prob: 0.0,
    normalize: false,
    clip: 0.0,
    separate: false,
    aggregation: Aggregation::Sum,
    expectation: Expectation::Renormalised,
    top_p: 1.0,
};

/// Leave-one-out advantages divided by the group's std and clipped to ±1 (Zhang et al., stabilised estimator).
const PAPER: Estimator = Estimator { normalize: true, clip: 1.0, expectation: Expectation::FullVocabulary, ..EXACT };

/// The released scripts: p(y) with an advantage of its own, mean over tokens, no refinement, nucleus sampling.
const RELEASED: Estimator = Estimator {
    refinement: 0.0,
    log_prob: 0.0,
    prob: 1.0,
    separate: true,
    aggregation: Aggregation::TokenMean,
    top_p: 0.9,
    ..PAPER
};

/// The exact preset of GRPO, which divides by the group's std.
const GRPO: Estimator = Estimator { normalize: true, ..EXACT };

#[doc(hidden)]
impl TrainConfig {
    /// The loss on given chains and scores; methods that sample chains report it in evaluations.
    pub(crate) fn supervision(&self) -> Supervision {
        let loss = self.method.spec().supervised;
        let cross_entropy = if loss.cross_entropy { 1.0 } else { 0.0 };
        let squared = if loss.squared { self.squared_weight.unwrap_or(1.0) } else { 0.0 };
        let expectation = self.expectation();
        Supervision { cross_entropy, squared, expectation, completion_only: self.completion_only_loss }
    }

    fn expectation(&self) -> Expectation {
        self.expectation.unwrap_or(self.estimator().expectation)
    }

    /// The weights of the reward parts. Only REAL's depend on the preset.
    fn reward(&self) -> RewardSettings {
        let none = RewardSettings { expectation: self.expectation(), ..RewardSettings::NONE };
        match self.method.spec().reward {
            None => none,
            Some(Reward::Hit) => RewardSettings { binary: 1.0, ..none },
            Some(Reward::SampledSquared) => RewardSettings { sampled_squared: 1.0, ..none },
            Some(Reward::Prob) => RewardSettings { prob: self.prob_weight.unwrap_or(1.0), ..none },
            Some(Reward::LogProb) => RewardSettings { log_prob: self.logprob_weight.unwrap_or(1.0), ..none },
            Some(Reward::Ranked) => RewardSettings { ranked: self.ranked_weight.unwrap_or(1.0), ..none },
            Some(Reward::Real) => RewardSettings {
                squared: self.squared_weight.unwrap_or(1.0),
                log_prob: self.logprob_weight.unwrap_or(self.estimator().log_prob),
                prob: self.prob_weight.unwrap_or(self.estimator().prob),
                ranked: self.ranked_weight.unwrap_or(0.0),
                ..none
            },
        }
    }

    /// The values of the preset.
    fn estimator(&self) -> &'static Estimator {
        match self.preset {
            // GRPO always divides by the group's std.
            Preset::Exact if self.method.spec().normalizes => &GRPO,
            Preset::Exact => &EXACT,
            Preset::Paper => &PAPER,
            Preset::ReleasedCode => &RELEASED,
        }
    }

    /// Nucleus probability of sampling.
    pub(crate) fn sampling_top_p(&self) -> f64 {
        self.top_p.unwrap_or(self.estimator().top_p)
    }

    /// The policy-gradient settings of this run; `max_tokens` is the limit of a chain.
    pub fn policy(&self, max_tokens: usize) -> PolicySettings {
        let preset = self.estimator();
        let reward = self.reward();
        let refinement = self.refinement_weight.unwrap_or(preset.refinement);
        PolicySettings {
            reward,
            advantage: AdvantageSettings {
                normalize: self.normalize_advantages.unwrap_or(preset.normalize),
                clip: self.advantage_clip.unwrap_or(preset.clip),
            },
            separate_advantages: self.separate_advantages.unwrap_or(preset.separate),
            aggregation: self.loss_aggregation.unwrap_or(preset.aggregation),
            exploration: self.exploration_weight,
            refinement: if reward.depends_on_policy() { refinement } else { 0.0 },
            entropy_bonus: self.entropy_coef,
            kl: self.beta,
            group: self.num_generations as usize,
            max_tokens,
            top_p: self.sampling_top_p(),
            iterations: self.num_iterations as usize,
            ratio_cap: self.ratio_cap,
            chains_per_pass: self.chains_per_pass as usize,
            recompute: self.gradient_checkpointing,
        }
    }

    /// Refuses settings that would train a policy other than the sampled one, or nothing at all.
    pub(super) fn check_policy(&self) -> Result<(), SettingError> {
        let conflict = |message: String| Err(SettingError::Conflict(message));
        if self.chains_from.is_some() && self.method.spec().chains != ChainSource::FirstStage {
            return conflict(format!("chains_from is for tract: {} learns from the chains in train_file", self.method));
        }
        self.check_score_reads(self.score_reads.unwrap_or_default())?;
        if !self.samples_chains() {
            if self.chains_per_pass > 0 {
                return conflict(format!("chains_per_pass is for methods that sample chains, and {} does not", self.method));
            }
            return Ok(());
        }
        if self.temperature != 1.0 {
            return conflict(format!(
                "temperature = {}: training samples at 1, so that the policy that is sampled is the one that is differentiated",
                self.temperature
            ));
        }
        if self.sampling_top_p() < 1.0 && self.preset != Preset::ReleasedCode {
            return conflict(format!(
                "top_p = {}: training samples from the whole distribution (top_p = 1); only the preset released-code samples less",
                self.sampling_top_p()
            ));
        }
        let settings = self.policy(1);
        if settings.exploration == 0.0 && settings.refinement == 0.0 {
            return conflict("exploration_weight and refinement_weight are both 0: nothing would be learned".into());
        }
        Ok(())
    }
}
