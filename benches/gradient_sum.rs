//! The sum of a step's gradients over ranks alone, for SmolLM2-135M: an adapter of rank 16, and all weights. One micro-batch a
//! rank. `scripts/mpi.sh cost` starts it on 2 ranks.

use std::time::Instant;

use jurist::gpu::{Gpu, GpuOptions};
use jurist::model::config::Config;
use jurist::model::lora::{ALL_LINEAR, Adapter, LoraSettings};
use jurist::model::tensors::TensorSet;
use jurist::ranks::Ranks;
use jurist::train::config::GradientSum as Order;
use jurist::train::objective::gradient_sum::GradientSum;
use pollster::block_on;

const SMOLLM2: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152, "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
    "hidden_act": "silu", "max_position_embeddings": 8192, "rope_theta": 100000.0, "rms_norm_eps": 1e-5,
    "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": true, "torch_dtype": "float32"
}"#;

/// Sums of each kind; the first is not counted.
const REPEATS: usize = 6;

fn main() {
    let ranks = Ranks::started(&std::env::vars().collect::<Vec<_>>()).expect("ranks");
    let gpu =
        block_on(Gpu::open_untested(&GpuOptions { adapter: std::env::var("JURIST_ADAPTER").ok(), ..GpuOptions::default() }))
            .expect("an adapter");
    let config = Config::from_json(SMOLLM2).expect("a config");
    let settings = LoraSettings { r: 16, alpha: 32.0, dropout: 0.0, rslora: false, targets: vec![ALL_LINEAR.into()] };
    let adapter = Adapter::fresh(&gpu, &config, &settings, 1).expect("an adapter");
    measure("LoRA r 16", &gpu, &adapter.set, &ranks);
    measure("all weights", &gpu, &TensorSet::of_model(&gpu, &config, "gradient").expect("memory"), &ranks);
    ranks.leave().expect("an end");
}

/// Rank 0 prints the bytes of a gradient, and the seconds until all ranks have its sum.
fn measure(what: &str, gpu: &Gpu, gradient: &TensorSet, ranks: &Ranks) {
    let sum = GradientSum::new(gpu, gradient, Order::Tree, ranks.size(), ranks).expect("memory");
    let mut seconds: Vec<f64> = (0..REPEATS).map(|_| once(&sum, gpu, ranks)).skip(1).collect();
    seconds.sort_by(f64::total_cmp);
    if ranks.is_first() {
        let (least, median) = (seconds[0], seconds[seconds.len() / 2]);
        println!("| {what} | {} | {:.1} MB | {least:.3} s | {median:.3} s |", ranks.size(), gradient.bytes() as f64 / 1e6);
    }
}

fn once(sum: &GradientSum, gpu: &Gpu, ranks: &Ranks) -> f64 {
    gpu.wait().expect("an end");
    ranks.barrier().expect("all ranks");
    let began = Instant::now();
    let mut depth = 0;
    for op in sum.ops(ranks.size()) {
        block_on(sum.apply(op, &mut depth)).expect("a sum");
    }
    block_on(sum.share()).expect("a sum");
    gpu.wait().expect("an end");
    ranks.barrier().expect("all ranks");
    began.elapsed().as_secs_f64()
}
