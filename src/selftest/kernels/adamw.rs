//! AdamW behind the gradient norm, as a training step records them.

use super::KernelChecker;
use super::grad_norm::{self, Gradients, SIZES};
use crate::gpu::GpuError;
use crate::ops::adamw::{self, AdamW, State, StepScalars};
use crate::reference::adamw as reference;
use crate::reference::grad_norm::{clip_coefficient, global_norm};
use crate::selftest::test_plan::{BuiltTestPlan, random};

const SETTINGS: AdamW = AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8 };
const DECAYS: [f32; 5] = [0.1, 0.0, 0.1, 0.0, 0.01];

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    steps(checker, 1.0).await?;
    bad_gradients(checker).await
}

/// A plan for one step of several tensors.
struct Optimiser {
    built: BuiltTestPlan,
    gradients: Gradients,
    states: Vec<State>,
    scalars: StepScalars,
    start: Vec<Vec<f64>>,
}

fn optimiser(checker: &KernelChecker, max_norm: f32) -> Result<Optimiser, GpuError> {
    let mut test = checker.test_plan();
    let scalars = StepScalars { lr: test.run_param(0), correction1: test.run_param(0), correction2: test.run_param(0) };
    let start: Vec<Vec<f64>> = SIZES.iter().zip(10..).map(|(n, seed)| random(*n, seed)).collect();
    let gradients = Gradients::record(&mut test, max_norm);
    let mut states = Vec::new();
    for (i, n) in SIZES.iter().enumerate() {
        let parameter = test.floats("parameter", &start[i]);
        let (m, v) = (test.floats("m", &vec![0.0; *n]), test.floats("v", &vec![0.0; *n]));
        states.push(State { parameter, gradient: gradients.tensors[i], m, v, decay: DECAYS[i] });
        adamw::record(&mut test.plan, SETTINGS, scalars, gradients.norm, states[i]);
    }
    Ok(Optimiser { built: test.build(&checker.gpu)?, gradients, states, scalars, start })
}

impl Optimiser {
    /// Step `t` with these gradients.
    fn step(&self, gradients: &[Vec<f64>], lr: f64, t: i32) -> Result<(), GpuError> {
        self.gradients.write(&self.built, gradients)?;
        let [b1, b2] = [SETTINGS.beta1, SETTINGS.beta2].map(f64::from);
        let StepScalars { lr: rate, correction1, correction2 } = self.scalars;
        let values = [(rate, lr), (correction1, 1.0 - b1.powi(t)), (correction2, (1.0 - b2.powi(t)).sqrt())];
        self.built.plan.run(&values.map(|(live, x)| (live, (x as f32).to_bits())).into())
    }
}

/// Five steps with clipping to `max_norm` (0: none).
pub async fn steps(checker: &mut KernelChecker, max_norm: f32) -> Result<(), GpuError> {
    let gpu = optimiser(checker, max_norm)?;
    let mut parameters = gpu.start.clone();
    let mut moments: Vec<reference::Moments> = SIZES.iter().map(|n| reference::Moments::new(*n)).collect();
    for t in 1..=5 {
        let lr = f64::from((0.01 / f64::from(t)) as f32);
        let gradients: Vec<Vec<f64>> = SIZES.iter().zip(0..).map(|(n, i)| random(*n, 100 * t as u64 + i)).collect();
        gpu.step(&gradients, lr, t)?;

        grad_norm::compare(checker, &format!("max_norm {max_norm}"), &gpu.built, &gpu.gradients, &gradients).await?;
        let norm = global_norm(gradients.iter().map(Vec::as_slice));
        let clip = if max_norm > 0.0 { clip_coefficient(norm, f64::from(max_norm)) } else { 1.0 };
        for (i, g) in gradients.iter().enumerate() {
            let clipped: Vec<f64> = g.iter().map(|g| g * clip).collect();
            let [beta1, beta2, eps] = [SETTINGS.beta1, SETTINGS.beta2, SETTINGS.eps].map(f64::from);
            let settings = reference::AdamW { learning_rate: lr, beta1, beta2, eps, weight_decay: f64::from(DECAYS[i]) };
            settings.step(t as u32, &mut parameters[i], &clipped, &mut moments[i]);
        }
    }
    for (i, state) in gpu.states.iter().enumerate() {
        for (what, tensor, expected) in
            [("parameters", state.parameter, &parameters[i]), ("m", state.m, &moments[i].m), ("v", state.v, &moments[i].v)]
        {
            let found = gpu.built.read_floats(tensor).await?;
            checker.compare_result("adamw", &format!("{what} [{}], max_norm {max_norm}", SIZES[i]), &found, expected);
        }
    }
    Ok(())
}

/// A gradient that is not finite, or too large to be clipped, is found in every tensor, and no weight moves. The step after it
/// moves the weights again.
pub async fn bad_gradients(checker: &mut KernelChecker) -> Result<(), GpuError> {
    const OPERATION: &str = "adamw, bad gradient";
    let gpu = optimiser(checker, 1.0)?;
    let good: Vec<Vec<f64>> = SIZES.iter().zip(0..).map(|(n, i)| random(*n, 500 + i)).collect();
    for (tensor, at, bad) in
        [(0, 0, f64::NAN), (4, 69_999, f64::INFINITY), (2, 256, f64::NEG_INFINITY), (3, 17, f64::NAN), (1, 3, 1e37)]
    {
        let mut gradients = good.clone();
        gradients[tensor][at] = bad;
        gpu.step(&gradients, 0.1, 1)?;
        let what = format!("{bad} in a tensor of {}", SIZES[tensor]);
        checker.compare_exact(
            OPERATION,
            &format!("{what}: noticed"),
            &gpu.built.read_floats(gpu.gradients.norm).await?[2..3],
            &[0.0],
        );
        for (state, start) in gpu.states.iter().zip(&gpu.start) {
            checker.compare_exact(
                OPERATION,
                &format!("{what}: parameters"),
                &gpu.built.read_floats(state.parameter).await?,
                start,
            );
            for moment in [state.m, state.v] {
                checker.compare_exact(
                    OPERATION,
                    &format!("{what}: moments"),
                    &gpu.built.read_floats(moment).await?,
                    &vec![0.0; start.len()],
                );
            }
        }
    }
    gpu.step(&good, 0.1, 1)?;
    checker.compare_exact(
        OPERATION,
        "the next good one: finite",
        &gpu.built.read_floats(gpu.gradients.norm).await?[2..3],
        &[1.0],
    );
    let moved = gpu.built.read_floats(gpu.states[0].parameter).await? != gpu.start[0];
    checker.check(OPERATION, "the next good one moves", moved);
    Ok(())
}
