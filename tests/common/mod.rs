//! What the GPU tests share: a device, a rig that runs a few operations on given numbers, and comparisons with the `f64`
//! specification.
//!
//! The adapter is `JURIST_ADAPTER` (a number or part of a name), else lavapipe, so that figures mean the same everywhere,
//! else the best one. `JURIST_ADAPTER=SwiftShader` also finds the copy that comes with Chromium.

#![allow(dead_code)] // each test binary uses a part

use std::sync::OnceLock;

use jurist::gpu::{Gpu, GpuError, GpuOptions, Limits, Live, Plan, PlanBuilder, Tensor, Tuning};
use jurist::random::Stream;

/// Where distributions put Chromium, and with it SwiftShader's Vulkan driver.
const CHROMIUM: [&str; 4] =
    ["/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome", "/usr/lib64/chromium-browser"];

/// What outputs hold before a kernel writes them: an element that no thread owns shows.
pub const UNTOUCHED: f64 = -777.25;

fn wanted_adapter() -> Option<String> {
    if let Ok(wanted) = std::env::var("JURIST_ADAPTER") {
        let found = CHROMIUM.iter().map(|d| format!("{d}/vk_swiftshader_icd.json")).find(|p| std::path::Path::new(p).exists());
        if let (true, Some(driver)) = (wanted.to_lowercase().contains("swiftshader"), found) {
            // SAFETY: called once, before this process opens Vulkan; nothing else here reads or writes the environment.
            unsafe {
                std::env::set_var("VK_DRIVER_FILES", &driver);
                std::env::set_var("VK_ICD_FILENAMES", &driver);
            }
        }
        return Some(wanted);
    }
    let adapters = pollster::block_on(Gpu::adapters());
    adapters.iter().any(|a| a.name.contains("llvmpipe")).then(|| "llvmpipe".into())
}

/// Opens a device with these limits.
pub fn open(limits: Limits, checked: bool) -> Gpu {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let adapter = WANTED.get_or_init(wanted_adapter).clone();
    let options = GpuOptions { adapter, limits, checked, ..GpuOptions::default() };
    // The message of the error says what to install.
    pollster::block_on(Gpu::open(&options)).unwrap_or_else(|e| panic!("the GPU tests need an adapter: {e}"))
}

/// The device of this test binary: WebGPU's default limits, bounds checks on. `JURIST_UNCHECKED=1` turns them off, as
/// they are outside the tests.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    let make = || {
        let checked = !std::env::var("JURIST_UNCHECKED").is_ok_and(|v| v == "1");
        let gpu = open(Limits::Portable, checked);
        println!("{}, {}", gpu.facts(), if checked { "checked" } else { "unchecked" });
        gpu
    };
    GPU.get_or_init(make).clone()
}

/// One thread a row, as for CPU adapters.
pub fn software() -> Tuning {
    Tuning { lanes: 1, matmul_group: [8, 1], subgroups_of_8: false, flops_per_submit: u64::MAX }
}

/// 64 threads a row, as for GPUs.
pub fn teams() -> Tuning {
    Tuning { lanes: 64, matmul_group: [8, 8], subgroups_of_8: false, flops_per_submit: u64::MAX }
}

/// Every kernel is tested in both shapes, and with subgroups where the adapter has them.
pub fn tunings() -> Vec<Tuning> {
    let mut all = vec![software(), teams()];
    if gpu().tuning().subgroups_of_8 {
        all.push(Tuning { subgroups_of_8: true, ..software() });
    }
    all
}

/// A plan under construction and the numbers to run it on.
pub struct Rig {
    pub plan: PlanBuilder,
    writes: Vec<(Tensor, Vec<u32>)>,
    lives: Vec<u32>,
}

impl Rig {
    pub fn new(tuning: &Tuning) -> Self {
        Rig { plan: PlanBuilder::new(tuning), writes: Vec::new(), lives: Vec::new() }
    }

    pub fn words(&mut self, name: &str, data: &[u32]) -> Tensor {
        let tensor = self.plan.kept(name, data.len().max(1));
        self.writes.push((tensor, data.to_vec()));
        tensor
    }

    pub fn floats(&mut self, name: &str, data: &[f64]) -> Tensor {
        let bits: Vec<u32> = data.iter().map(|x| (*x as f32).to_bits()).collect();
        self.words(name, &bits)
    }

    /// A tensor that an operation is to fill; holds [`UNTOUCHED`] before.
    pub fn output(&mut self, name: &str, words: usize) -> Tensor {
        self.floats(name, &vec![UNTOUCHED; words])
    }

    pub fn live(&mut self, value: u32) -> Live {
        self.lives.push(value);
        self.plan.live()
    }

    pub fn live_float(&mut self, value: f32) -> Live {
        self.live(value.to_bits())
    }

    pub fn build(self, gpu: &Gpu) -> Result<Ran, GpuError> {
        let plan = self.plan.build(gpu)?;
        for (tensor, data) in &self.writes {
            plan.write(*tensor, data)?;
        }
        Ok(Ran { plan, lives: self.lives })
    }

    /// Builds on the shared device and runs once.
    pub fn run(self) -> Ran {
        let ran = self.build(&gpu()).unwrap_or_else(|e| panic!("{e}"));
        ran.again();
        ran
    }
}

/// A plan that has run.
pub struct Ran {
    pub plan: Plan,
    pub lives: Vec<u32>,
}

impl Ran {
    pub fn again(&self) {
        self.plan.run(&self.lives).unwrap_or_else(|e| panic!("{e}"));
    }

    pub fn run_with(&self, lives: &[u32]) {
        self.plan.run(lives).unwrap_or_else(|e| panic!("{e}"));
    }

    pub fn write(&self, tensor: Tensor, data: &[f64]) {
        let data: Vec<f32> = data.iter().map(|x| *x as f32).collect();
        self.plan.write(tensor, &data).unwrap_or_else(|e| panic!("{e}"));
    }

    pub fn words(&self, tensor: Tensor) -> Vec<u32> {
        let words = self.plan.buffer(tensor).unwrap_or_else(|e| panic!("{e}")).words;
        pollster::block_on(self.plan.read(tensor, words)).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn floats(&self, tensor: Tensor) -> Vec<f64> {
        self.words(tensor).into_iter().map(|w| f64::from(f32::from_bits(w))).collect()
    }
}

/// `n` standard normal numbers of stream `seed`, rounded to `f32` so that both sides compute with the same inputs.
pub fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut stream = Stream::new(seed, 0x7e57);
    (0..n).map(|_| f64::from(stream.normal() as f32)).collect()
}

/// As [`random`], around 1: norm weights.
pub fn around_one(n: usize, seed: u64) -> Vec<f64> {
    random(n, seed).into_iter().map(|x| f64::from((1.0 + 0.3 * x) as f32)).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The largest deviation relative to the largest expected entry.
pub fn deviation(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-20, |m: f64, x| m.max(x.abs()));
    found.iter().zip(expected).map(gap).fold(0.0, f64::max) / largest
}

/// NaN must not slip through a comparison: it counts as infinitely far.
fn gap((found, expected): (&f64, &f64)) -> f64 {
    if found.is_finite() { (found - expected).abs() } else { f64::INFINITY }
}

/// How much a forward result may be off, relative to its tensor's largest entry.
pub const FORWARD: f64 = 2e-5;
/// How much a gradient may be off.
pub const BACKWARD: f64 = 1e-4;

/// Asserts that `found` is within `tolerance` of `expected`, and prints by how much it is off (`--nocapture` shows it).
#[track_caller]
pub fn close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}: lengths differ");
    let off = deviation(found, expected);
    println!("DEVIATION {off:.2e} of {tolerance:.0e} {name}");
    if off <= tolerance {
        return;
    }
    let largest = expected.iter().fold(1e-20, |m: f64, x| m.max(x.abs()));
    let bad: Vec<String> = (0..found.len())
        .filter(|i| gap((&found[*i], &expected[*i])) > tolerance * largest)
        .map(|i| format!("[{i}] {} expected {}", found[i], expected[i]))
        .collect();
    let few = bad.iter().take(8).cloned().collect::<Vec<_>>().join("\n  ");
    panic!("{name}: {} of {} entries are off, by up to {off:.2e} of the largest:\n  {few}", bad.len(), found.len());
}
