//! The rollout of a step: sampled completions of every prompt, closed with the phrase.

use std::borrow::Cow;
use std::ops::Range;

use super::{AnswerSpec, PolicyTrainer};
use crate::model::decoder::Sampler;
use crate::random::threefry2x32;
use crate::rollout::{Chain, Ending};
use crate::train::TrainError;
use crate::train::data::examples::LabelledPrompt;
use crate::train::objective::step::StepKey;

/// A sampled chain, closed with the phrase.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Tokens between prompt and score: the sampled tokens (without an EOS), then the phrase if it had to be forced.
    pub continuation: Vec<u32>,
    /// Sampled tokens. Action `j` is predicted from the token before `continuation[j]`.
    pub actions: Vec<u32>,
    /// Log-probability of each action when it was sampled.
    pub log_ps: Vec<f32>,
    pub ending: Ending,
}

/// Closes a chain with the phrase, unless the chain ends in it.
///
/// # Errors
/// As [`AnswerFormat::close`](crate::judge::AnswerFormat::close).
pub fn close(chain: &Chain, prompt_ends_in_space: bool, answer: &AnswerSpec) -> Result<Completion, TrainError> {
    let continuation = answer.format.close_sampled(chain, prompt_ends_in_space)?;
    let (actions, log_ps) = chain.draws.iter().map(|d| (d.token, d.log_p)).unzip();
    Ok(Completion { continuation, actions, log_ps, ending: chain.ending })
}

/// A prompt with its completions.
#[derive(Clone, Debug)]
pub struct PromptGroup<'a> {
    pub prompt: &'a LabelledPrompt,
    pub completions: Vec<Completion>,
}

impl PolicyTrainer {
    /// Samples the completions of a step, in batches of `micro_batch` prompts: of the batches `own`. Their random numbers depend
    /// on their place in the step.
    pub(super) async fn rollout<'a>(
        &self,
        prompts: &[&'a LabelledPrompt],
        own: Range<usize>,
        answer: &AnswerSpec<'_>,
        key: StepKey,
    ) -> Result<Vec<Vec<PromptGroup<'a>>>, TrainError> {
        let StepKey { seed, step } = key;
        let key = threefry2x32([seed as u32, (seed >> 32) as u32], [step as u32, (step >> 32) as u32]);
        let sampler = Sampler { temperature: 1.0, top_p: self.settings.top_p as f32, top_k: 0, key };
        let stop = answer.format.stop(answer.eos, self.settings.max_tokens);
        let mut batches = Vec::new();
        for (n, micro_batch) in prompts.chunks(self.micro_batch).enumerate().take(own.end).skip(own.start) {
            let ids: Vec<Vec<u32>> = micro_batch.iter().map(|p| p.ids.clone()).collect();
            let first_stream = (n * self.micro_batch * self.settings.group) as u32;
            let chains = self.rollout_plan.run(&ids, first_stream, sampler, &stop, &mut ()).await?;
            let groups = micro_batch.iter().zip(chains).map(|(prompt, chains)| {
                let completions = chains.iter().map(|c| close(c, prompt.ends_in_space, answer));
                Ok(PromptGroup { prompt, completions: completions.collect::<Result<_, TrainError>>()? })
            });
            batches.push(groups.collect::<Result<Vec<_>, TrainError>>()?);
        }
        Ok(batches)
    }

    /// The groups cut into batches for one pass: all groups together, or `chains_per_pass` completions of one prompt at a time.
    pub(super) fn sub_batches<'a>(&self, groups: &'a [PromptGroup<'a>]) -> Vec<Cow<'a, [PromptGroup<'a>]>> {
        let most = self.settings.chains_per_pass;
        if most == 0 {
            return vec![Cow::Borrowed(groups)];
        }
        let cut = |group: &'a PromptGroup<'a>| {
            let sub_batch = |completions: &[Completion]| {
                Cow::Owned(vec![PromptGroup { prompt: group.prompt, completions: completions.to_vec() }])
            };
            group.completions.chunks(most).map(sub_batch)
        };
        groups.iter().flat_map(cut).collect()
    }
}
