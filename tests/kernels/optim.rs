//! Gradient norm, clipping and AdamW.

use jurist::gpu::Tensor;
use jurist::ops::adamw::{self, AdamW, State, StepScalars};
use jurist::ops::grad_norm;
use jurist::reference::optim as spec;

use crate::common::*;

/// Sizes around the 256 elements of a thread and the 256 sums of the second stage.
const SIZES: [usize; 5] = [1, 255, 257, 4096, 70_000];
const SETTINGS: AdamW = AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8 };
const DECAYS: [f32; 5] = [0.1, 0.0, 0.1, 0.0, 0.01];

struct Optimiser {
    ran: Ran,
    gradients: Vec<Tensor>,
    states: Vec<State>,
    result: Tensor,
}

fn optimiser(max_norm: f32) -> (Optimiser, Vec<Vec<f64>>) {
    let mut rig = Rig::new(&software());
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
    let ran = rig.build(&gpu()).unwrap_or_else(|e| panic!("{e}"));
    (Optimiser { ran, gradients, states, result }, start)
}

/// The live values of step `t`.
fn scalars(lr: f64, t: i32) -> [u32; 3] {
    let [b1, b2] = [SETTINGS.beta1, SETTINGS.beta2].map(f64::from);
    [lr, 1.0 - b1.powi(t), (1.0 - b2.powi(t)).sqrt()].map(|x| (x as f32).to_bits())
}

#[test]
fn five_steps_of_adamw_with_clipping() {
    for max_norm in [0.0, 1.0, 1e6] {
        let (gpu, mut parameters) = optimiser(max_norm);
        let mut moments: Vec<spec::Moments> = SIZES.iter().map(|n| spec::Moments::new(*n)).collect();
        for t in 1..=5 {
            let lr = f64::from((0.01 / t as f64) as f32);
            let gradients: Vec<Vec<f64>> = SIZES.iter().zip(0..).map(|(n, i)| random(*n, 100 * t as u64 + i)).collect();
            gpu.gradients.iter().zip(&gradients).for_each(|(tensor, g)| gpu.ran.write(*tensor, g));
            gpu.ran.run_with(&scalars(lr, t));

            let norm = spec::global_norm(gradients.iter().map(Vec::as_slice));
            let clip = if max_norm > 0.0 { spec::clip_coefficient(norm, f64::from(max_norm)) } else { 1.0 };
            close("gradient norm", &gpu.ran.floats(gpu.result), &[norm, clip, 1.0, 0.0], FORWARD);
            for (i, g) in gradients.iter().enumerate() {
                let clipped: Vec<f64> = g.iter().map(|g| g * clip).collect();
                let [beta1, beta2, eps] = [SETTINGS.beta1, SETTINGS.beta2, SETTINGS.eps].map(f64::from);
                let settings = spec::AdamW { learning_rate: lr, beta1, beta2, eps, weight_decay: f64::from(DECAYS[i]) };
                settings.step(t as u32, &mut parameters[i], &clipped, &mut moments[i]);
            }
        }
        for (i, state) in gpu.states.iter().enumerate() {
            close(&format!("adamw parameters, max_norm {max_norm}"), &gpu.ran.floats(state.parameter), &parameters[i], FORWARD);
            close("adamw m", &gpu.ran.floats(state.m), &moments[i].m, FORWARD);
            close("adamw v", &gpu.ran.floats(state.v), &moments[i].v, FORWARD);
        }
    }
}

/// A gradient that is not finite, wherever it is, is noticed, and nothing moves; the next good step does.
#[test]
fn nothing_moves_on_a_bad_gradient() {
    let (gpu, start) = optimiser(1.0);
    let good: Vec<Vec<f64>> = SIZES.iter().zip(0..).map(|(n, i)| random(*n, 500 + i)).collect();
    for (tensor, at, bad) in
        [(0, 0, f64::NAN), (4, 69_999, f64::INFINITY), (2, 256, f64::NEG_INFINITY), (3, 17, f64::NAN), (1, 3, 1e30)]
    {
        gpu.gradients.iter().zip(&good).for_each(|(tensor, g)| gpu.ran.write(*tensor, g));
        let mut broken = good[tensor].clone();
        broken[at] = bad;
        gpu.ran.write(gpu.gradients[tensor], &broken);
        gpu.ran.run_with(&scalars(0.1, 1));
        assert_eq!(gpu.ran.floats(gpu.result)[2], 0.0, "{bad} in tensor {tensor} is not noticed");
        for (i, state) in gpu.states.iter().enumerate() {
            assert_eq!(gpu.ran.floats(state.parameter), start[i], "{bad} in tensor {tensor} moved tensor {i}");
            assert!(gpu.ran.floats(state.m).iter().chain(&gpu.ran.floats(state.v)).all(|x| *x == 0.0));
        }
    }
    gpu.gradients.iter().zip(&good).for_each(|(tensor, g)| gpu.ran.write(*tensor, g));
    gpu.ran.run_with(&scalars(0.1, 1));
    assert_eq!(gpu.ran.floats(gpu.result)[2], 1.0);
    assert_ne!(gpu.ran.floats(gpu.states[0].parameter), start[0]);
}
