//! One training step, by whichever method: supervised on given judgements, or by policy gradient on sampled ones.

use crate::gpu::Gpu;
use crate::judge::{AnswerFormat, BatchLayout, Scale};
use crate::model::lora::{Adapter, AdapterFiles};
use crate::model::source::TensorSource;
use crate::model::weights::Weights;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;
use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::data::examples::Prompt;
use crate::train::data::pack::Example;
use crate::train::objective::optimiser::Optimiser;
use crate::train::objective::policy::{AnswerSpec, PolicyTrainer, PromptSizes};
use crate::train::objective::trainer::{Scoring, StepKey, StepNumbers, StepPace, Trainer, optimiser_settings};

/// The weights that a run starts from.
pub struct InitialWeights<'a> {
    pub source: &'a dyn TensorSource,
    /// How its files store its matrices.
    pub matrix_dtype: WeightDtype,
    /// The adapter that it has already.
    pub adapter: Option<&'a AdapterFiles>,
}

impl InitialWeights<'_> {
    /// On the GPU as `config` wants to train them: in f32, or frozen beside an adapter.
    pub(in crate::train) fn upload(&self, gpu: &Gpu, config: &TrainConfig) -> Result<Weights, TrainError> {
        let lora = config.lora();
        if lora.is_none() && self.adapter.is_none() {
            return Ok(Weights::upload(gpu, self.source)?);
        }
        let weights = Weights::upload_as(gpu, self.source, config.base_weights.of_stored(self.matrix_dtype))?;
        let model = self.source.config();
        let adapter = match (&lora, self.adapter) {
            (_, Some(files)) => Adapter::upload(gpu, model, files)?,
            (Some(lora), None) => Adapter::fresh(gpu, model, lora, config.seed)?,
            (None, None) => return Ok(weights),
        };
        Ok(weights.with_adapter(adapter))
    }

    /// The same as they are before the first step, beside those that will be trained: the model that the policy must not go
    /// far from. Frozen weights are shared; a new adapter changes nothing, so it is switched off.
    fn beside(&self, gpu: &Gpu, trained: &Weights) -> Result<Weights, TrainError> {
        match (trained.adapter(), self.adapter) {
            (None, _) => Ok(Weights::upload(gpu, self.source)?),
            (Some(_), None) => Ok(trained.without_adapter()),
            (Some(adapter), Some(_)) => Ok(trained.with_adapter(adapter.copy(gpu)?)),
        }
    }
}

/// What steps are made of: rows as examples or prompts, and the judge's way of speaking.
pub struct TrainData<'a> {
    pub examples: &'a [Example],
    pub scale: &'a Scale,
    pub layout: BatchLayout<'a>,
    pub tokenizer: &'a Tokenizer,
    /// Most tokens of a chain.
    pub max_tokens: usize,
}

/// The model, its optimiser, and how a step is made.
pub enum Engine {
    Supervised(Box<Trainer>),
    Policy(Box<PolicyTrainer>),
}

impl Engine {
    /// Plans the method of `config` for `data`, with the weights of `origin`.
    ///
    /// # Errors
    /// Out of memory, or rows that do not fit the model's context.
    pub fn new(gpu: &Gpu, origin: &InitialWeights, config: &TrainConfig, data: &TrainData) -> Result<Self, TrainError> {
        let weights = origin.upload(gpu, config)?;
        let held_near = config.samples_chains() && config.policy(data.max_tokens).kl > 0.0;
        let start = if held_near { Some(origin.beside(gpu, &weights)?) } else { None };
        Engine::over(gpu, weights, start, config, data)
    }

    /// The same with weights that are on the GPU already. `start` are those that the policy must not go far from, where it is
    /// held near any.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn over(
        gpu: &Gpu,
        weights: Weights,
        start: Option<Weights>,
        config: &TrainConfig,
        data: &TrainData,
    ) -> Result<Self, TrainError> {
        if !config.samples_chains() {
            let scoring = Scoring { scale: data.scale, layout: data.layout };
            return Ok(Engine::Supervised(Box::new(Trainer::new(gpu, weights, config, data.examples, scoring)?)));
        }
        let settings = config.policy(data.max_tokens);
        let optimiser = Optimiser::new(gpu, weights.trainable()?, optimiser_settings(config))?;
        let longest = data.examples.iter().map(|e| e.prompt.ids.len()).max().unwrap_or(0);
        let sizes = PromptSizes { longest, micro_batch: config.per_device_train_batch_size as usize };
        let trainer = PolicyTrainer::new(gpu, weights, optimiser, settings, sizes, data.layout, start)?;
        Ok(Engine::Policy(Box::new(trainer)))
    }

    pub fn weights(&self) -> &Weights {
        match self {
            Engine::Supervised(t) => &t.weights,
            Engine::Policy(t) => &t.weights,
        }
    }

    pub fn optimiser(&self) -> &Optimiser {
        match self {
            Engine::Supervised(t) => &t.optimiser,
            Engine::Policy(t) => &t.optimiser,
        }
    }

    /// One step on the rows `picked`.
    ///
    /// # Errors
    /// What packing or the GPU reports.
    pub async fn step(
        &self,
        picked: &[usize],
        data: &TrainData<'_>,
        key: StepKey,
        pace: StepPace,
    ) -> Result<StepNumbers, TrainError> {
        match self {
            Engine::Supervised(trainer) => {
                let rows: Vec<&Example> = picked.iter().map(|i| &data.examples[*i]).collect();
                trainer.step(&rows, key, pace).await
            }
            Engine::Policy(trainer) => {
                let rows: Vec<&Prompt> = picked.iter().map(|i| &data.examples[*i].prompt).collect();
                let format = AnswerFormat { tokens: data.layout.tokens, decode: data.tokenizer };
                let answer = AnswerSpec { scale: data.scale, format, eos: data.tokenizer.eos_ids() };
                trainer.step(&rows, &answer, key, pace).await
            }
        }
    }
}
