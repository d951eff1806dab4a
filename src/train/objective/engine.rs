//! One training step of any method: supervised on given chains and scores, or policy gradient on sampled ones.

use crate::gpu::Gpu;
use crate::judge::{AnswerFormat, BatchLayout, Scale};
use crate::model::lora::{Adapter, AdapterFiles};
use crate::model::source::TensorSource;
use crate::model::weights::Weights;
use crate::ranks::Ranks;
use crate::text::Tokenizer;
use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::data::examples::LabelledPrompt;
use crate::train::data::pack::TrainExample;
use crate::train::objective::gradient_sum::GradientSum;
use crate::train::objective::optimiser::{Optimiser, OptimiserSettings};
use crate::train::objective::policy::{AnswerSpec, PolicyTrainer, PromptSizes};
use crate::train::objective::step::{OptimiserStep, StepKey, StepMetrics};
use crate::train::objective::supervised::{Scoring, SupervisedTrainer};

/// The weights that a run starts from.
pub struct InitialWeights<'a> {
    pub source: &'a dyn TensorSource,
    /// The adapter of the start model.
    pub adapter: Option<&'a AdapterFiles>,
}

impl InitialWeights<'_> {
    /// Uploads them as `config` trains them: in f32, or frozen and with an adapter.
    pub(in crate::train) fn upload(&self, gpu: &Gpu, config: &TrainConfig) -> Result<Weights, TrainError> {
        let lora = config.lora();
        if lora.is_none() && self.adapter.is_none() {
            return Ok(Weights::upload(gpu, self.source)?);
        }
        let weights = Weights::upload_as(gpu, self.source, config.base_weights)?;
        let model = self.source.config();
        let adapter = match (&lora, self.adapter) {
            (_, Some(files)) => Adapter::upload(gpu, model, files)?,
            (Some(lora), None) => Adapter::fresh(gpu, model, lora, config.seed)?,
            (None, None) => return Ok(weights),
        };
        Ok(weights.with_adapter(adapter))
    }

    /// The reference model: a copy that stays as it is before the first step. Frozen weights are shared with `trained`. A new
    /// adapter does not change the model yet, so the reference model has none.
    fn reference(&self, gpu: &Gpu, trained: &Weights) -> Result<Weights, TrainError> {
        match (trained.adapter(), self.adapter) {
            (None, _) => Ok(Weights::upload(gpu, self.source)?),
            (Some(_), None) => Ok(trained.without_adapter()),
            (Some(adapter), Some(_)) => Ok(trained.with_adapter(adapter.copy(gpu)?)),
        }
    }
}

/// The data of training steps: the rows, and how the judge's answers are written.
pub struct TrainData<'a> {
    pub examples: &'a [TrainExample],
    pub scale: &'a Scale,
    pub layout: BatchLayout<'a>,
    pub tokenizer: &'a Tokenizer,
    /// Most tokens of a chain.
    pub max_tokens: usize,
}

/// The model, its optimiser, and the step of its method.
pub enum Engine {
    Supervised(Box<SupervisedTrainer>),
    Policy(Box<PolicyTrainer>),
}

impl Engine {
    /// Uploads the initial weights and plans the method of `config` for `data`, whose batches these ranks divide.
    ///
    /// # Errors
    /// Out of memory, or rows that do not fit the model's context.
    pub fn new(
        gpu: &Gpu,
        initial: &InitialWeights,
        config: &TrainConfig,
        data: &TrainData,
        ranks: &Ranks,
    ) -> Result<Self, TrainError> {
        let weights = initial.upload(gpu, config)?;
        let needs_reference = config.samples_chains() && config.policy(data.max_tokens).kl > 0.0;
        let reference = if needs_reference { Some(initial.reference(gpu, &weights)?) } else { None };
        Engine::with_weights(gpu, weights, reference, config, data, ranks)
    }

    /// The same with weights that are already on the GPU. `reference` is the reference model of the KL divergence, if that has a
    /// weight.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_weights(
        gpu: &Gpu,
        weights: Weights,
        reference: Option<Weights>,
        config: &TrainConfig,
        data: &TrainData,
        ranks: &Ranks,
    ) -> Result<Self, TrainError> {
        if !config.samples_chains() {
            let scoring = Scoring { scale: data.scale, layout: data.layout };
            let trainer = SupervisedTrainer::new(gpu, weights, config, data.examples, scoring, ranks)?;
            return Ok(Engine::Supervised(Box::new(trainer)));
        }
        let settings = config.policy(data.max_tokens);
        let optimiser = Optimiser::new(gpu, weights.trainable()?, OptimiserSettings::of(config))?;
        let longest = data.examples.iter().map(|e| e.prompt.ids.len()).max().unwrap_or(0);
        let sizes = PromptSizes { longest, micro_batch: config.per_device_train_batch_size as usize };
        let sum = GradientSum::of(gpu, &optimiser.gradient, config, ranks)?;
        let trainer = PolicyTrainer::new(gpu, weights, (optimiser, sum), settings, sizes, data.layout, reference)?;
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

    /// One step on the rows `indices`.
    ///
    /// # Errors
    /// What packing or the GPU reports.
    pub async fn step(
        &self,
        indices: &[usize],
        data: &TrainData<'_>,
        key: StepKey,
        optimiser_step: OptimiserStep,
    ) -> Result<StepMetrics, TrainError> {
        match self {
            Engine::Supervised(trainer) => {
                let rows: Vec<&TrainExample> = indices.iter().map(|i| &data.examples[*i]).collect();
                trainer.step(&rows, key, optimiser_step).await
            }
            Engine::Policy(trainer) => {
                let rows: Vec<&LabelledPrompt> = indices.iter().map(|i| &data.examples[*i].prompt).collect();
                let format = AnswerFormat { tokens: data.layout.tokens, decode: data.tokenizer };
                let answer = AnswerSpec { scale: data.scale, format, eos: data.tokenizer.eos_ids() };
                trainer.step(&rows, &answer, key, optimiser_step).await
            }
        }
    }
}
