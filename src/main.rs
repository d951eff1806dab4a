fn main() {
    let gpu = pollster::block_on(jurist::gpu::Gpu::open(&jurist::gpu::GpuOptions { adapter: std::env::var("JURIST_ADAPTER").ok(), ..Default::default() })).unwrap();
    eprintln!("{}", gpu.facts());
    for dir in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        let report = pollster::block_on(jurist::doctor::against(&gpu, dir.as_ref())).unwrap();
        println!("{dir} {:?}\n{report}", t.elapsed());
    }
}
