//! Gradient norm, clipping and AdamW.

use super::Bench;
use crate::gpu::{GpuError, Tensor};
use crate::ops::adamw::{self, AdamW, State, StepScalars};
use crate::ops::grad_norm;
use crate::reference::optim as spec;
use crate::selftest::rig::{Ran, random};

/// Sizes around the 256 elements of a thread and the 256 sums of the second stage.
pub const SIZES: [usize; 5] = [1, 255, 257, 4096, 70_000];
const SETTINGS: AdamW = AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8 };
const DECAYS: [f32; 5] = [0.1, 0.0, 0.1, 0.0, 0.01];

struct Optimiser {
    ran: Ran,
    gradients: Vec<Tensor>,
    states: Vec<State>,
    scalars: StepScalars,
    result: Tensor,
    start: Vec<Vec<f64>>,
}

fn optimiser(b: &Bench, max_norm: f32) -> Result<Optimiser, GpuError> {
    let mut rig = b.rig();
    let scalars = StepScalars { lr: rig.live(0), correction1: rig.live(0), correction2: rig.live(0) };
    let start: Vec<Vec<f64>> = SIZES.iter().zip(10..).map(|(n, seed)| random(*n, seed)).collect();
    let gradients: Vec<Tensor> = SIZES.iter().map(|n| rig.output("gradient", *n)).collect();
    let result = rig.output("norm", 4);
    grad_norm::grad_norm(&mut rig.plan, &gradients, max_norm, result);
    let mut states = Vec::new();
    for (i, n) in SIZES.iter().enumerate() {
        let parameter = rig.floats("parameter", &start[i]);
        let (m, v) = (rig.floats("m", &vec![0.0; *n]), rig.floats("v", &vec![0.0; *n]));
        states.push(State { parameter, gradient: gradients[i], m, v, decay: DECAYS[i] });
        adamw::advance(&mut rig.plan, SETTINGS, scalars, result, states[i]);
    }
    Ok(Optimiser { ran: rig.build(&b.gpu)?, gradients, states, scalars, result, start })
}

impl Optimiser {
    /// Step `t` with these gradients.
    fn step(&self, gradients: &[Vec<f64>], lr: f64, t: i32) -> Result<(), GpuError> {
        for (tensor, g) in self.gradients.iter().zip(gradients) {
            self.ran.write_floats(*tensor, g)?;
        }
        let [b1, b2] = [SETTINGS.beta1, SETTINGS.beta2].map(f64::from);
        let StepScalars { lr: rate, correction1, correction2 } = self.scalars;
        let values = [(rate, lr), (correction1, 1.0 - b1.powi(t)), (correction2, (1.0 - b2.powi(t)).sqrt())];
        self.ran.plan.run(&values.map(|(live, x)| (live, (x as f32).to_bits())).into())
    }
}

/// Five steps with clipping to `max_norm` (0: none).
pub async fn steps(b: &mut Bench, max_norm: f32) -> Result<(), GpuError> {
    let gpu = optimiser(b, max_norm)?;
    let mut parameters = gpu.start.clone();
    let mut moments: Vec<spec::Moments> = SIZES.iter().map(|n| spec::Moments::new(*n)).collect();
    for t in 1..=5 {
        let lr = f64::from((0.01 / f64::from(t)) as f32);
        let gradients: Vec<Vec<f64>> = SIZES.iter().zip(0..).map(|(n, i)| random(*n, 100 * t as u64 + i)).collect();
        gpu.step(&gradients, lr, t)?;

        let norm = spec::global_norm(gradients.iter().map(Vec::as_slice));
        let clip = if max_norm > 0.0 { spec::clip_coefficient(norm, f64::from(max_norm)) } else { 1.0 };
        let found = gpu.ran.read_floats(gpu.result).await?;
        // Each on its own scale: the clip factor is much smaller than the norm.
        for (i, (what, expected)) in [("norm", norm), ("clip factor", clip), ("finite", 1.0)].into_iter().enumerate() {
            b.result("gradient norm", &format!("{what}, max_norm {max_norm}"), &found[i..=i], &[expected]);
        }
        for (i, g) in gradients.iter().enumerate() {
            let clipped: Vec<f64> = g.iter().map(|g| g * clip).collect();
            let [beta1, beta2, eps] = [SETTINGS.beta1, SETTINGS.beta2, SETTINGS.eps].map(f64::from);
            let settings = spec::AdamW { learning_rate: lr, beta1, beta2, eps, weight_decay: f64::from(DECAYS[i]) };
            settings.step(t as u32, &mut parameters[i], &clipped, &mut moments[i]);
        }
    }
    for (i, state) in gpu.states.iter().enumerate() {
        for (what, tensor, expected) in
            [("parameters", state.parameter, &parameters[i]), ("m", state.m, &moments[i].m), ("v", state.v, &moments[i].v)]
        {
            let found = gpu.ran.read_floats(tensor).await?;
            b.result("adamw", &format!("{what} [{}], max_norm {max_norm}", SIZES[i]), &found, expected);
        }
    }
    Ok(())
}

/// The norm and the clip factor of gradients whose squares are beyond f32 at either end, tensor by tensor.
pub async fn extreme_norms(b: &mut Bench) -> Result<(), GpuError> {
    let of_exponents =
        [[0, 0, 80, 0, 0], [80; 5], [-90; 5], [-90, 0, -90, -90, -90], [-100, -120, -90, -80, -70], [62, 70, 80, 64, 90]];
    for exponents in of_exponents {
        let gpu = optimiser(b, 1.0)?;
        let gradients: Vec<Vec<f64>> = (SIZES.iter().zip(exponents).zip(900..))
            .map(|((n, exponent), seed)| random(*n, seed).into_iter().map(|g| g * 2f64.powi(exponent)).collect())
            .collect();
        gpu.step(&gradients, 0.0, 1)?;
        let norm = spec::global_norm(gradients.iter().map(Vec::as_slice));
        let found = gpu.ran.read_floats(gpu.result).await?;
        for (i, (what, expected)) in
            [("norm", norm), ("clip factor", spec::clip_coefficient(norm, 1.0)), ("finite", 1.0)].into_iter().enumerate()
        {
            b.result("gradient norm", &format!("{what}, exponents {exponents:?}"), &found[i..=i], &[expected]);
        }
    }
    Ok(())
}

/// A gradient that is not finite, or too large to be clipped, wherever it is, is noticed, and nothing moves; the next good
/// step does.
pub async fn bad_gradients(b: &mut Bench) -> Result<(), GpuError> {
    const OPERATION: &str = "adamw, bad gradient";
    let gpu = optimiser(b, 1.0)?;
    let good: Vec<Vec<f64>> = SIZES.iter().zip(0..).map(|(n, i)| random(*n, 500 + i)).collect();
    for (tensor, at, bad) in
        [(0, 0, f64::NAN), (4, 69_999, f64::INFINITY), (2, 256, f64::NEG_INFINITY), (3, 17, f64::NAN), (1, 3, 1e37)]
    {
        let mut gradients = good.clone();
        gradients[tensor][at] = bad;
        gpu.step(&gradients, 0.1, 1)?;
        let what = format!("{bad} in a tensor of {}", SIZES[tensor]);
        b.exact(OPERATION, &format!("{what}: noticed"), &gpu.ran.read_floats(gpu.result).await?[2..3], &[0.0]);
        for (state, start) in gpu.states.iter().zip(&gpu.start) {
            b.exact(OPERATION, &format!("{what}: parameters"), &gpu.ran.read_floats(state.parameter).await?, start);
            for moment in [state.m, state.v] {
                b.exact(OPERATION, &format!("{what}: moments"), &gpu.ran.read_floats(moment).await?, &vec![0.0; start.len()]);
            }
        }
    }
    gpu.step(&good, 0.1, 1)?;
    b.exact(OPERATION, "the next good one: finite", &gpu.ran.read_floats(gpu.result).await?[2..3], &[1.0]);
    let moved = gpu.ran.read_floats(gpu.states[0].parameter).await? != gpu.start[0];
    b.holds(OPERATION, "the next good one moves", moved);
    Ok(())
}
