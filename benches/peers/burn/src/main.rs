//! W1, W3 and products in burn-wgpu, under the names of `jurist bench`; prints its JSON.
//!
//!     cargo run --release [-- matmul,step,rollout] > burn.json

mod model;

use std::io::Write;
use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor, TensorData};
use model::{BATCH, Cache, Llama, PROMPT, SAMPLES, TOKENS, VOCAB};
use serde_json::{Value, json};

const NEW_TOKENS: usize = 64;
const REPEAT: usize = 7;

fn main() {
    let start = Instant::now();
    let groups = std::env::args().nth(1).unwrap_or_else(|| "matmul,step,rollout".into());
    let wants = |group: &str| groups.split(',').any(|g| g == group);
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let mut rows = Vec::new();
    let mut first_step = None;
    if wants("step") {
        let mut step = training_step(&device);
        step();
        first_step = Some(start.elapsed().as_secs_f64());
        eprintln!("first step after {:.1} s", start.elapsed().as_secs_f64());
        let seconds = clock(&device, 0.0, &mut step);
        row(&mut rows, &format!("training step {BATCH}x{TOKENS}"), seconds, 0, BATCH * TOKENS);
    }
    if wants("matmul") {
        matmuls(&device, &mut rows);
    }
    if wants("rollout") {
        let model = Llama::new(&device);
        let seconds = clock(&device, 0.0, &mut || rollout(&model, &device));
        row(&mut rows, &format!("rollout {SAMPLES} samples, {PROMPT}+{NEW_TOKENS} tokens"), seconds, 0, SAMPLES * NEW_TOKENS);
    }
    let shaders = if cfg!(feature = "spirv") { "SPIR-V" } else { "WGSL" };
    let program = format!("burn 0.22.1 wgpu {shaders}");
    println!("{:#}", json!({ "program": program, "first_step": first_step, "rows": rows }));
}

fn row(rows: &mut Vec<Value>, name: &str, seconds: f64, flops: usize, tokens: usize) {
    let mut entry = json!({ "name": name, "seconds": seconds });
    if flops > 0 {
        entry["gflops"] = json!(flops as f64 / seconds / 1e9);
    }
    if tokens > 0 {
        entry["tokens_per_second"] = json!(tokens as f64 / seconds);
    }
    eprintln!("{entry}");
    let _ = std::io::stderr().flush();
    rows.push(entry);
}

fn wait(device: &Device) {
    device.sync().expect("the device has finished");
}

/// Median seconds of one call. Two calls go before: kernels are tuned in them. Short work is repeated within a sample.
fn clock(device: &Device, seconds: f64, work: &mut dyn FnMut()) -> f64 {
    work();
    work();
    wait(device);
    let begin = Instant::now();
    work();
    wait(device);
    let times = ((seconds / begin.elapsed().as_secs_f64().max(1e-7)) as usize).clamp(1, 4096);
    let mut samples: Vec<f64> = (0..REPEAT)
        .map(|_| {
            let begin = Instant::now();
            (0..times).for_each(|_| work());
            wait(device);
            begin.elapsed().as_secs_f64() / times as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[REPEAT / 2]
}

fn matmuls(device: &Device, rows: &mut Vec<Value>) {
    let random = |rows: usize, columns: usize| Tensor::<2>::random([rows, columns], Distribution::Default, device);
    let mut shapes: Vec<(&str, usize, usize, usize)> = Vec::new();
    for n in [512, 1024] {
        shapes.extend(["nn", "nt", "tn"].map(|layout| (layout, n, n, n)));
    }
    shapes.push(("nt", BATCH * TOKENS, 256, 1024));
    shapes.extend([1, 4, 16, 64].map(|m| ("nt", m, 1024, 1024)));
    for (layout, m, k, n) in shapes {
        let a = if layout == "tn" { random(k, m).transpose() } else { random(m, k) };
        let b = if layout == "nt" { random(n, k).transpose() } else { random(k, n) };
        let seconds = clock(device, 0.15, &mut || drop(a.clone().matmul(b.clone())));
        row(rows, &format!("matmul {layout} {m}x{k}x{n}"), seconds, 2 * m * k * n, 0);
    }
}

/// Forward, backward, clipping and AdamW; reads the loss, as training does. burn clips each tensor by its own norm.
fn training_step(device: &Device) -> impl FnMut() {
    let device = device.clone().autodiff();
    let mut model = Some(Llama::new(&device));
    let mut optimiser =
        AdamWConfig::new().with_weight_decay(0.01).with_grad_clipping(Some(GradientClippingConfig::Norm(1.0))).init();
    let ids: Vec<i64> = (0..BATCH * TOKENS).map(|i| ((i % TOKENS * 7 + i / TOKENS * 13) % VOCAB) as i64).collect();
    let next: Vec<i64> = (0..ids.len()).map(|i| ids[i / TOKENS * TOKENS + (i + 1) % TOKENS]).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [BATCH, TOKENS]), &device);
    let next = Tensor::<1, Int>::from_data(TensorData::new(next, [BATCH * TOKENS]), &device);
    let cross_entropy = CrossEntropyLossConfig::new().init(&device);
    move || {
        let current = model.take().expect("a model");
        let logits = current.forward(ids.clone(), &mut Vec::new());
        let loss = cross_entropy.forward(logits.reshape([BATCH * TOKENS, VOCAB]), next.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &current);
        model = Some(optimiser.step(1e-4, current, gradients));
        let loss: f32 = loss.into_scalar();
        assert!(loss.is_finite());
        wait(&device);
    }
}

/// The prompt once, its cache repeated for the samples, tokens drawn at temperature 1 (the largest of logits and Gumbel
/// noise) and read at the end.
fn rollout(model: &Llama, device: &Device) {
    let prompt: Vec<i64> = (0..PROMPT).map(|i| (i * 7 % VOCAB) as i64).collect();
    let prompt = Tensor::<2, Int>::from_data(TensorData::new(prompt, [1, PROMPT]), device);
    let mut cache: Vec<Cache> = Vec::new();
    let logits = model.forward(prompt, &mut cache);
    let mut logits = logits.narrow(1, PROMPT - 1, 1).repeat_dim(0, SAMPLES);
    cache.iter_mut().for_each(|c| c.repeat(SAMPLES));
    let mut drawn = Vec::new();
    for i in 0..NEW_TOKENS {
        let noise = Tensor::<3>::random([SAMPLES, 1, VOCAB], Distribution::Uniform(1e-7, 1.0), device);
        let token = (logits.clone() - noise.log().neg().log()).argmax(2).reshape([SAMPLES, 1]);
        drawn.push(token.clone());
        if i + 1 < NEW_TOKENS {
            logits = model.forward(token, &mut cache);
        }
    }
    let drawn = Tensor::cat(drawn, 1).into_data();
    assert_eq!(drawn.num_elements(), SAMPLES * NEW_TOKENS);
}
