//! Matmul in its three layouts, and one training step of a small decoder, on the adapter that `JURIST_ADAPTER` names or
//! the best one: `cargo bench`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jurist::gpu::{Gpu, GpuOptions, PlanBuilder, Size};
use jurist::model::config::Config;
use jurist::model::decoder::{PackedInputs, Pass, PassSizes};
use jurist::model::init::Init;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::RowObjective;
use jurist::ops::matmul::{Epilogue, Layout, Product, product};
use jurist::train::optimiser::{Optimiser, OptimiserSettings};
use pollster::block_on;

/// Hidden 256, 4 layers, 8 query and 4 key heads of 32, SwiGLU 768, vocabulary 4096 untied.
const CONFIG: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 4096, "hidden_size": 256,
    "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": false,
    "hidden_act": "silu"}"#;

fn gpu() -> Gpu {
    let options = GpuOptions { adapter: std::env::var("JURIST_ADAPTER").ok(), ..GpuOptions::default() };
    block_on(Gpu::open(&options)).expect("an adapter")
}

fn matmul(c: &mut Criterion) {
    let gpu = gpu();
    let n = 512usize;
    let mut group = c.benchmark_group(format!("matmul {n}x{n}x{n}"));
    group.throughput(Throughput::Elements(2 * (n * n * n) as u64)).sample_size(10);
    for (name, layout) in [("nt", Layout::Nt), ("nn", Layout::Nn), ("tn", Layout::Tn)] {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let [a, b, c] = ["a", "b", "c"].map(|t| plan.kept(t, n * n));
        let size = Size::fixed(n as u32);
        let epilogue = Epilogue::Write;
        product(&mut plan, Product { layout, a, b, c, m: size, n: size, k: size, starts: [0; 3], epilogue });
        let plan = plan.build(&gpu).expect("a plan");
        group.bench_function(name, |bench| {
            bench.iter(|| {
                plan.run(&[]).expect("a run");
                block_on(plan.read::<f32>(c, 1)).expect("a result")
            });
        });
    }
}

fn step(c: &mut Criterion) {
    let gpu = gpu();
    let config = Config::from_json(CONFIG).expect("a config");
    let weights = Weights::upload(&gpu, &Init::new(config, 1)).expect("weights");
    let settings = OptimiserSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 };
    let optimiser = Optimiser::new(&gpu, &weights, settings).expect("an optimiser");
    let mut batch = PackedInputs::default();
    for sequence in 0..4u32 {
        let ids: Vec<u32> = (0..256).map(|i| (i * 7 + sequence * 13) % 4096).collect();
        let start = batch.push(&ids);
        let objective = RowObjective { weight_a: 1.0 / 1024.0, ..RowObjective::default() };
        (0..256).for_each(|i| batch.push_row(start + i, objective));
    }
    let sizes = PassSizes { tokens: 1024, rows: 1024, score_tokens: Vec::new(), score_values: Vec::new() };
    let pass = Pass::new(&gpu, &weights, Some(&optimiser.gradient), sizes).expect("a pass");
    let mut group = c.benchmark_group("training step, 4 x 256 tokens");
    group.throughput(Throughput::Elements(1024)).sample_size(10);
    group.bench_function("forward, backward, AdamW", |bench| {
        bench.iter_batched(
            || (),
            |()| {
                pass.run(&batch).expect("a run");
                block_on(optimiser.step(&gpu, 1e-4, 1)).expect("a step")
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(kernels, matmul, step);
criterion_main!(kernels);
