//! A judge as the engine's model.

use super::engine::{Fault, Job, Judged, JudgedChain, Model, Watch};
use crate::judge::{Judge, JudgeError, PromptTokens, ScoredRow};
use crate::model::decoder::Draw;
use crate::model::error::ModelError;
use crate::rollout::RolloutObserver;

/// Decode steps between two reads while somebody follows the tokens.
const STREAM_INTERVAL: usize = 2;

/// A judge on a GPU.
pub struct JudgeModel(pub Judge);

impl Model for JudgeModel {
    fn judge(&self, jobs: &[Job], watch: &mut Watch<'_>) -> Result<Vec<Result<Judged, String>>, Fault> {
        let Some(first) = jobs.first() else { return Ok(Vec::new()) };
        let prompts: Vec<PromptTokens> = jobs.iter().map(|job| job.prompt.clone()).collect();
        let options = &first.options;
        let scored = pollster::block_on(self.0.judge_prompts(&prompts, &options.score, Follow(watch)));
        let rows = match scored {
            // Nobody waits for any of them.
            Err(JudgeError::Model(ModelError::Stopped)) => {
                return Ok(jobs.iter().map(|_| Err("it was abandoned".into())).collect());
            }
            scored => scored.map_err(|error| self.fault(&error))?,
        };
        let mut judged = Vec::with_capacity(rows.len());
        for (job, row) in jobs.iter().zip(rows) {
            judged.push(match self.judged(job, row) {
                Err(JudgeError::Text(error)) => Err(error.to_string()),
                Err(error) => return Err(self.fault(&error)),
                Ok(row) => row,
            });
        }
        Ok(judged)
    }
}

impl JudgeModel {
    /// Whether the GPU can go on after this error.
    fn fault(&self, error: &JudgeError) -> Fault {
        match self.0.gpu().check() {
            Ok(()) => Fault::Batch(error.to_string()),
            Err(gpu) => Fault::Model(gpu.to_string()),
        }
    }

    fn judged(&self, job: &Job, row: ScoredRow) -> Result<Result<Judged, String>, JudgeError> {
        let ScoredRow { record, prediction: Some(prediction), chains: texts, chain_scores } = row else {
            return Ok(Err(row.record.error.unwrap_or_default()));
        };
        let mut chains = Vec::with_capacity(chain_scores.len());
        let mut texts = texts.into_iter();
        for chain in chain_scores {
            let score = self.0.score_tokens().path(chain.prediction.decoded).to_vec();
            let logprobs = match job.options.top_logprobs.filter(|_| !job.events.is_closed()) {
                None => None,
                Some(top) => {
                    let answer = [&chain.tokens[..], &score].concat();
                    Some(pollster::block_on(self.0.token_log_probs(&job.prompt.ids, &answer, top))?)
                }
            };
            chains.push(JudgedChain {
                text: texts.next().unwrap_or_default(),
                prediction: chain.prediction,
                forced: chain.forced,
                closed: chain.tokens,
                score,
                logprobs,
            });
        }
        Ok(Ok(Judged { record, prediction, chains }))
    }
}

/// Hands the draws of a rollout on.
struct Follow<'a, 'j>(&'a mut Watch<'j>);

impl RolloutObserver for Follow<'_, '_> {
    fn sync_interval(&self) -> Option<usize> {
        self.0.streams().then_some(STREAM_INTERVAL)
    }

    fn stable_tokens(&mut self, chain: usize, draws: &[Draw]) -> bool {
        self.0.tokens(chain, &mut draws.iter().map(|draw| draw.token))
    }

    fn abandons(&self, chain: usize) -> bool {
        self.0.is_abandoned(chain)
    }
}
