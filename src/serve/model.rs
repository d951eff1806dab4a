//! A judge as the engine's model.

use super::engine::{Fault, Job, JobOptions, Judged, JudgedChain, JudgedJobs, Model, Running, Watch};
use crate::judge::{Continuous, ContinuousSizes, Follower, Judge, JudgeError, PromptTokens, ScoredRow};
use crate::model::decoder::Draw;
use crate::model::error::ModelError;
use crate::rollout::RolloutObserver;

/// Decode steps between two reads while somebody follows the tokens.
const STREAM_INTERVAL: usize = 2;

/// How a judge serves.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// Rows that join are judged so.
    pub sizes: ContinuousSizes,
    /// Whether rows that need a pass have one of their own, so that their answers are the same bytes in any company. Rows that
    /// join always are: no kernel and no order of a sum depends on the rows beside them.
    pub batch_invariant: bool,
}

/// A judge on a GPU.
pub struct JudgeModel {
    judge: Judge,
    running: Continuous,
    batch_invariant: bool,
}

impl JudgeModel {
    pub fn new(judge: Judge, serving: Serving) -> Self {
        JudgeModel { judge, running: Continuous::new(serving.sizes), batch_invariant: serving.batch_invariant }
    }
}

impl Model for JudgeModel {
    fn joins(&self, options: &JobOptions) -> bool {
        Continuous::takes(&self.judge, &options.score)
    }

    fn join(&mut self, number: u64, job: &Job) -> Result<(), String> {
        self.running.push(&self.judge, number, &job.prompt, &job.options.score)
    }

    fn leave(&mut self, number: u64) {
        self.running.abandon(number);
    }

    fn chains(&self) -> usize {
        self.running.chains()
    }

    fn advance(&mut self, running: &mut Running) -> Result<JudgedJobs, Fault> {
        let rows = match pollster::block_on(self.running.advance(&self.judge, &mut Tell(running))) {
            Ok(rows) => rows,
            Err(error) => {
                self.running.clear();
                return Err(self.fault(&error));
            }
        };
        let mut judged = Vec::with_capacity(rows.len());
        for (number, row) in rows {
            let Some(job) = running.job(number) else { continue };
            judged.push((number, self.answered(row.and_then(|row| self.judged(job, row)))?));
        }
        Ok(judged)
    }

    fn judge(&self, jobs: &[Job], watch: &mut Watch<'_>) -> Result<Vec<Result<Judged, String>>, Fault> {
        if !self.batch_invariant {
            return self.judge_alike(jobs, watch);
        }
        let alone = jobs.chunks(1).map(|job| self.judge_alike(job, &mut Watch::new(job)));
        Ok(alone.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

impl JudgeModel {
    /// Judges jobs of equal options in one call.
    fn judge_alike(&self, jobs: &[Job], watch: &mut Watch<'_>) -> Result<Vec<Result<Judged, String>>, Fault> {
        let Some(first) = jobs.first() else { return Ok(Vec::new()) };
        let prompts: Vec<PromptTokens> = jobs.iter().map(|job| job.prompt.clone()).collect();
        let options = &first.options;
        let scored = pollster::block_on(self.judge.judge_prompts(&prompts, &options.score, Follow(watch)));
        let rows = match scored {
            // Nobody waits for any of them.
            Err(JudgeError::Model(ModelError::Stopped)) => {
                return Ok(jobs.iter().map(|_| Err("it was abandoned".into())).collect());
            }
            scored => scored.map_err(|error| self.fault(&error))?,
        };
        let mut judged = Vec::with_capacity(rows.len());
        for (job, row) in jobs.iter().zip(rows) {
            judged.push(self.answered(self.judged(job, row))?);
        }
        Ok(judged)
    }

    /// A judgement whose error is the row's own, or ends the batch.
    fn answered(&self, row: Result<Result<Judged, String>, JudgeError>) -> Result<Result<Judged, String>, Fault> {
        match row {
            Err(JudgeError::Text(error)) => Ok(Err(error.to_string())),
            Err(error) => Err(self.fault(&error)),
            Ok(row) => Ok(row),
        }
    }

    /// Whether the GPU can go on after this error.
    fn fault(&self, error: &JudgeError) -> Fault {
        match self.judge.gpu().check() {
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
            let score = self.judge.score_tokens().path(chain.prediction.decoded).to_vec();
            let logprobs = match job.options.top_logprobs.filter(|_| !job.events.is_closed()) {
                None => None,
                Some(top) => {
                    let answer = [&chain.tokens[..], &score].concat();
                    Some(pollster::block_on(self.judge.token_log_probs(&job.prompt.ids, &answer, top))?)
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
        Ok(Ok(Judged { record, prediction, chains, row: job.prompt.calibrated.clone() }))
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

/// Tells the jobs that run about their tokens.
struct Tell<'a>(&'a mut Running);

impl Follower for Tell<'_> {
    fn sync_interval(&self) -> Option<usize> {
        self.0.streams().then_some(STREAM_INTERVAL)
    }

    fn tokens(&mut self, row: u64, chain: usize, draws: &[Draw]) {
        self.0.tokens(row, chain, &mut draws.iter().map(|draw| draw.token));
    }
}
