//! The optimiser on the GPU: global gradient norm, clipping and AdamW, as one plan over all parameters.

use crate::gpu::{DispatchTime, Gpu, MemoryKind, Plan, PlanBuilder, RunParams, Tensor};
use crate::model::error::ModelError;
use crate::model::names::GroupKind;
use crate::model::tensors::TensorSet;
use crate::ops::adamw::{self, AdamW, State, StepScalars};
use crate::ops::grad_norm;
use crate::train::config::TrainConfig;

/// Settings of AdamW and gradient clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimiserSettings {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Decoupled weight decay of matrices and embeddings; norms and biases do not decay.
    pub weight_decay: f64,
    /// 0: no clipping.
    pub max_grad_norm: f64,
}

impl OptimiserSettings {
    /// Those of a config.
    pub fn of(config: &TrainConfig) -> Self {
        OptimiserSettings {
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            epsilon: config.adam_epsilon,
            weight_decay: config.weight_decay,
            max_grad_norm: config.max_grad_norm,
        }
    }
}

/// Moments, gradients and the plan that applies them.
pub struct Optimiser {
    settings: OptimiserSettings,
    plan: Plan,
    scalars: StepScalars,
    result: Tensor,
    pub gradient: TensorSet,
    pub m: TensorSet,
    pub v: TensorSet,
}

/// The outcome of an optimiser step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimiserOutcome {
    /// Gradient norm before clipping.
    pub grad_norm: f32,
    /// False if the gradient contained NaN or infinity; then nothing was changed.
    pub applied: bool,
}

impl Optimiser {
    /// Zero moments and gradients for the trained tensors.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn new(gpu: &Gpu, trained: &TensorSet, settings: OptimiserSettings) -> Result<Self, ModelError> {
        let gpu = &gpu.for_memory(MemoryKind::Optimiser);
        let gradient = TensorSet::zeros(&gpu.for_memory(MemoryKind::Gradient), trained.groups(), "gradient")?;
        let zeros = |role: &str| TensorSet::zeros(gpu, trained.groups(), role);
        let (m, v) = (zeros("first moment")?, zeros("second moment")?);
        let mut plan = PlanBuilder::new(gpu.tuning());
        let scalars = StepScalars { lr: plan.run_param(), correction1: plan.run_param(), correction2: plan.run_param() };
        let result = plan.persistent("gradient norm", 4);
        let gradients = gradient.all(&mut plan);
        let gradient_tensors: Vec<Tensor> = gradients.iter().map(|(_, tensor)| *tensor).collect();
        grad_norm::record(&mut plan, &gradient_tensors, settings.max_grad_norm as f32, result);
        let adam = AdamW { beta1: settings.beta1 as f32, beta2: settings.beta2 as f32, eps: settings.epsilon as f32 };
        let (parameters, first_moments, second_moments) = (trained.all(&mut plan), m.all(&mut plan), v.all(&mut plan));
        for (n, (group, gradient)) in gradients.into_iter().enumerate() {
            let decays = matches!(trained.groups()[group].kind, GroupKind::Matrix | GroupKind::Embedding);
            let decay = if decays { settings.weight_decay as f32 } else { 0.0 };
            let state = State { parameter: parameters[n].1, gradient, m: first_moments[n].1, v: second_moments[n].1, decay };
            adamw::record(&mut plan, adam, scalars, result, state);
        }
        let plan = plan.build(gpu)?;
        Ok(Optimiser { settings, plan, scalars, result, gradient, m, v })
    }

    /// Applies the accumulated gradient as the `t`-th applied step (counted from 1), then clears it. Waits for the result.
    pub async fn step(&self, gpu: &Gpu, learning_rate: f64, t: u64) -> Result<OptimiserOutcome, ModelError> {
        self.plan.run(&self.params(learning_rate, t))?;
        self.gradient.clear(gpu);
        let result: Vec<f32> = self.plan.read(self.result, 4).await?;
        Ok(OptimiserOutcome { grad_norm: result[0], applied: result[2] != 0.0 })
    }

    /// As [`Optimiser::step`], with a timestamp around every dispatch.
    pub async fn timeline(&self, gpu: &Gpu, learning_rate: f64, t: u64) -> Result<Vec<DispatchTime>, ModelError> {
        let spans = self.plan.timeline(&self.params(learning_rate, t)).await?;
        self.gradient.clear(gpu);
        Ok(spans)
    }

    /// Learning rate and bias corrections of both moments at the `t`-th step.
    fn params(&self, learning_rate: f64, t: u64) -> RunParams {
        let t = t.max(1) as f64;
        let correction1 = 1.0 - self.settings.beta1.powf(t);
        let correction2 = (1.0 - self.settings.beta2.powf(t)).sqrt();
        let scalars = self.scalars;
        let values = [(scalars.lr, learning_rate), (scalars.correction1, correction1), (scalars.correction2, correction2)];
        values.map(|(param, x)| (param, (x as f32).to_bits())).into()
    }
}
