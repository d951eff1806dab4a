//! The training methods, and the table of their differences.

use super::{SettingError, TrainConfig};
use crate::judge::ScoreReads;

words! {
    /// How a judge is trained.
    #[derive(Default)]
    pub enum Method {
        #[default]
        Sft = "sft",
        Raft = "raft",
        CotRaft = "cot-raft",
        Tract = "tract",
        Real = "real",
        Reinforce = "reinforce",
        Grpo = "grpo",
        RlSquared = "rl-squared",
        RlProb = "rl-prob",
        RlLog = "rl-log",
        RlRanked = "rl-ranked",
    }
}

/// The chains of thought that a method learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainSource {
    /// The rows' chains, if they have any.
    Rows,
    /// The rows' chains are ignored.
    Ignored,
    /// Two stages: the first learns from the rows' chains, its judge writes one chain per row, and the second learns from those.
    FirstStage,
    /// Chains that the judge samples in each step.
    Sampled,
}

/// The reward of a sampled chain, unless settings change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reward {
    /// REAL: squared error of the expected score, and other parts with the weights of preset and settings.
    Real,
    /// 1 if the sampled score is right.
    Hit,
    /// Squared error of the sampled score.
    SampledSquared,
    /// Probability of the label.
    Prob,
    /// Log-probability of the label.
    LogProb,
    /// Ranked probability score.
    Ranked,
}

/// The loss on given chains and scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupervisedLoss {
    /// Cross-entropy of chain, phrase and score.
    pub cross_entropy: bool,
    /// Squared error of the expected score.
    pub squared: bool,
}

/// The properties of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodSpec {
    pub chains: ChainSource,
    /// The loss on given chains and scores; methods that sample chains report it in evaluations.
    pub supervised: SupervisedLoss,
    /// `None` for methods that sample no chains.
    pub reward: Option<Reward>,
    /// Whether the preset `exact` divides advantages by the standard deviation of their group, too.
    pub normalizes: bool,
    /// The column "by" of the README's table.
    pub by: &'static str,
}

const CROSS_ENTROPY: SupervisedLoss = SupervisedLoss { cross_entropy: true, squared: false };
const SQUARED: SupervisedLoss = SupervisedLoss { cross_entropy: false, squared: true };
const BOTH: SupervisedLoss = SupervisedLoss { cross_entropy: true, squared: true };

impl MethodSpec {
    const fn given(chains: ChainSource, supervised: SupervisedLoss, by: &'static str) -> Self {
        MethodSpec { chains, supervised, reward: None, normalizes: false, by }
    }

    const fn sampled(reward: Reward, by: &'static str) -> Self {
        let (chains, supervised) = (ChainSource::Sampled, CROSS_ENTROPY);
        MethodSpec { chains, supervised, reward: Some(reward), normalizes: false, by }
    }

    /// Whether each step samples chains.
    pub(crate) fn samples_chains(&self) -> bool {
        self.chains == ChainSource::Sampled
    }

    /// Whether the rows' chains are read.
    pub fn reads_chains_of_rows(&self) -> bool {
        self.chains != ChainSource::Ignored
    }

    /// The column "learns from" of the README's table.
    pub fn learns_from(&self) -> &'static str {
        match (self.chains, self.reward) {
            (ChainSource::Rows, _) => "given chains and scores",
            (ChainSource::Ignored, _) => "given scores, no chain",
            (ChainSource::FirstStage, _) => "chains of its own, with the given scores",
            (ChainSource::Sampled, Some(Reward::Hit | Reward::SampledSquared)) => "chains and scores it samples",
            (ChainSource::Sampled, _) => "chains it samples",
        }
    }
}

impl Method {
    /// The table of methods.
    pub(crate) const fn spec(self) -> MethodSpec {
        match self {
            Method::Sft => MethodSpec::given(ChainSource::Rows, CROSS_ENTROPY, "cross-entropy"),
            Method::Raft => MethodSpec::given(ChainSource::Ignored, SQUARED, "squared error of the expected score"),
            Method::CotRaft => MethodSpec::given(ChainSource::Rows, BOTH, "both"),
            Method::Tract => MethodSpec::given(
                ChainSource::FirstStage,
                BOTH,
                "cot-raft on the teacher's chains, then again from the start on its own",
            ),
            Method::Real => MethodSpec::sampled(
                Reward::Real,
                "both terms of the gradient of −(E − y)² + λ log p(y); `--exploration-weight 0` or `--refinement-weight 0` \
                 leaves one out",
            ),
            Method::Reinforce => MethodSpec::sampled(Reward::Hit, "1 for the right score"),
            Method::Grpo => {
                let spec = MethodSpec::sampled(Reward::Hit, "1 for the right score, divided by the group's std");
                MethodSpec { normalizes: true, ..spec }
            }
            Method::RlSquared => MethodSpec::sampled(Reward::SampledSquared, "squared error of the sampled score"),
            Method::RlProb => MethodSpec::sampled(Reward::Prob, "p(y)"),
            Method::RlLog => MethodSpec::sampled(Reward::LogProb, "log p(y)"),
            Method::RlRanked => MethodSpec::sampled(Reward::Ranked, "ranked probability score of the whole distribution"),
        }
    }

    /// The method of a single stage.
    pub(crate) fn stage(self) -> Method {
        match self.spec().chains {
            ChainSource::FirstStage => Method::CotRaft,
            ChainSource::Rows | ChainSource::Ignored | ChainSource::Sampled => self,
        }
    }
}

#[doc(hidden)]
impl TrainConfig {
    /// True for methods that sample chains in each step.
    pub(crate) fn samples_chains(&self) -> bool {
        self.method.spec().samples_chains()
    }

    /// Refuses to read the score from the chain if the method has no chains.
    pub(in crate::train) fn check_score_reads(&self, reads: ScoreReads) -> Result<(), SettingError> {
        if reads == ScoreReads::Chain && !self.method.spec().reads_chains_of_rows() {
            let found = format!("score_reads = chain: {} has no chain for the score to be read from", self.method);
            return Err(SettingError::Conflict(found));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_serde_writes() {
        for (method, word) in Method::ALL.iter().zip(Method::WORDS) {
            assert_eq!(serde_json::to_string(method).unwrap(), format!("{word:?}"));
            assert_eq!((method.word(), word.parse()), (*word, Ok(*method)));
        }
        assert!(serde_json::from_str::<Method>("\"rael\"").is_err());
        assert!("rael".parse::<Method>().is_err());
    }

    #[test]
    fn methods_that_sample_chains_have_a_reward() {
        for method in Method::ALL {
            let spec = method.spec();
            assert_eq!(spec.samples_chains(), spec.reward.is_some(), "{method}");
            assert_eq!(method.stage().stage(), method.stage(), "{method}");
        }
    }

    /// The README's table of methods agrees with [`Method::spec`].
    #[test]
    fn the_readme_lists_the_methods() {
        let readme = include_str!("../../../README.md");
        let row = |method: &Method| {
            let spec = method.spec();
            format!("| `{method}` | {} | {} |\n", spec.learns_from(), spec.by)
        };
        let table: String = Method::ALL.iter().map(row).collect();
        let table = format!("\n\n| method | learns from | by |\n|---|---|---|\n{table}\n");
        assert!(readme.contains(&table), "README.md lacks this table:{table}");
    }
}
