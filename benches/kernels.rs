//! The cases of `jurist bench` under criterion, on the adapter that `JURIST_ADAPTER` names or the best one:
//! `cargo bench`, or `cargo bench -- 'matmul nt'` for some of them. Criterion's history tells whether a change helped;
//! shares of the adapter's ceilings are `jurist bench`'s.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jurist::bench::{Shape, cases, model};
use jurist::gpu::{Gpu, GpuOptions, RunParams};
use pollster::block_on;

fn gpu() -> Gpu {
    let options = GpuOptions { adapter: std::env::var("JURIST_ADAPTER").ok(), ..GpuOptions::default() };
    block_on(Gpu::open_untested(&options)).expect("an adapter")
}

fn kernels(c: &mut Criterion) {
    let gpu = gpu();
    let mut group = c.benchmark_group("kernels");
    group.sample_size(10);
    for case in cases::all_cases(&Shape::default(), false) {
        let plan = case.plan(&gpu).expect("a plan");
        group.throughput(Throughput::Elements(case.flops));
        group.bench_function(&case.name, |bench| {
            bench.iter(|| {
                plan.run(&RunParams::default()).expect("a run");
                gpu.wait().expect("an end");
            });
        });
    }
}

fn step(c: &mut Criterion) {
    let (gpu, shape) = (gpu(), Shape::default());
    let mut step = model::step(&gpu, &shape).expect("a step");
    let mut group = c.benchmark_group("training step");
    group.throughput(Throughput::Elements(shape.step_tokens() as u64)).sample_size(10);
    group.bench_function("forward, backward, AdamW", |bench| bench.iter(|| block_on(step.run()).expect("a run")));
}

criterion_group!(benches, kernels, step);
criterion_main!(benches);
