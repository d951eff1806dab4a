//! The rollout of a step: chains of every prompt, closed with the phrase.

use std::borrow::Cow;

use super::{AnswerSpec, PolicyTrainer};
use crate::model::decoder::Sampler;
use crate::random::threefry2x32;
use crate::rollout::{Chain, Ending};
use crate::train::TrainError;
use crate::train::data::examples::Prompt;
use crate::train::objective::trainer::StepKey;

/// A chain that is ready to be trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
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
pub fn close(chain: &Chain, prompt_ends_in_space: bool, answer: &AnswerSpec) -> Result<Completion, TrainError> {
    let fed = answer.format.close_sampled(chain, prompt_ends_in_space)?;
    let (actions, log_ps) = chain.draws.iter().map(|d| (d.token, d.log_p)).unzip();
    Ok(Completion { fed, actions, log_ps, ending: chain.ending })
}

/// One prompt with its chains.
#[derive(Clone, Debug)]
pub struct PromptGroup<'a> {
    pub prompt: &'a Prompt,
    pub chains: Vec<Completion>,
}

impl PolicyTrainer {
    /// Samples the chains of a step, prompts in batches of the planned size.
    pub(super) async fn roll_out<'a>(
        &self,
        prompts: &[&'a Prompt],
        answer: &AnswerSpec<'_>,
        key: StepKey,
    ) -> Result<Vec<Vec<PromptGroup<'a>>>, TrainError> {
        let StepKey { seed, step } = key;
        let key = threefry2x32([seed as u32, (seed >> 32) as u32], [step as u32, (step >> 32) as u32]);
        let sampler = Sampler { temperature: 1.0, top_p: self.settings.top_p as f32, top_k: 0, key };
        let stop = answer.format.stop(answer.eos, self.settings.max_tokens);
        let mut batches = Vec::new();
        for (n, micro) in prompts.chunks(self.micro_batch).enumerate() {
            let ids: Vec<Vec<u32>> = micro.iter().map(|p| p.ids.clone()).collect();
            let first = (n * self.micro_batch * self.settings.group) as u32;
            let chains = self.rollout.run(&ids, first, sampler, &stop, &mut ()).await?;
            let groups = micro.iter().zip(chains).map(|(prompt, chains)| {
                let chains = chains.iter().map(|c| close(c, prompt.ends_in_space, answer));
                Ok(PromptGroup { prompt, chains: chains.collect::<Result<_, TrainError>>()? })
            });
            batches.push(groups.collect::<Result<Vec<_>, TrainError>>()?);
        }
        Ok(batches)
    }

    /// Chains that go through the pass together: all, or a few of one prompt at a time.
    pub(super) fn sub_batches<'a>(&self, groups: &'a [PromptGroup<'a>]) -> Vec<Cow<'a, [PromptGroup<'a>]>> {
        let few = self.settings.chains_per_pass;
        if few == 0 {
            return vec![Cow::Borrowed(groups)];
        }
        let cut = |group: &'a PromptGroup<'a>| {
            let sub_batch =
                |chains: &[Completion]| Cow::Owned(vec![PromptGroup { prompt: group.prompt, chains: chains.to_vec() }]);
            group.chains.chunks(few).map(sub_batch)
        };
        groups.iter().flat_map(cut).collect()
    }
}
