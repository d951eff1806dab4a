//! What the GPU tests share: a device, the test plans and the kernel checker of `selftest` on it, and comparisons with the f64
//! loops of `reference`.
//!
//! The adapter is `JURIST_ADAPTER` (a number or part of a name), else lavapipe, so that figures mean the same everywhere,
//! else the best one. `JURIST_ADAPTER=SwiftShader` also finds the copy that comes with Chromium.

#![allow(dead_code, unused_imports)] // each test binary uses a part

#[allow(clippy::duplicate_mod)]
mod skip;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::OnceLock;

use jurist::selftest::kernels::KernelChecker;
pub use jurist::selftest::test_plan::{BuiltTestPlan, TestPlan, UNTOUCHED, around_one, random, sum};
pub use skip::skip;

use jurist::gpu::{Gpu, GpuError, GpuOptions, Kernels, Limits, RunParams, Tensor, Tuning, Variant};

/// Where distributions put Chromium, and with it SwiftShader's Vulkan driver.
const CHROMIUM: [&str; 4] =
    ["/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome", "/usr/lib64/chromium-browser"];

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
    let mut options = GpuOptions { adapter, limits, checked, ..GpuOptions::default() };
    // The message of the error says what to install.
    let open = |options: &GpuOptions| {
        pollster::block_on(Gpu::open_untested(options)).unwrap_or_else(|e| panic!("the GPU tests need an adapter: {e}"))
    };
    let gpu = open(&options);
    if !gpu.runs(Variant::MatmulCooperative) {
        return gpu;
    }
    // The device must have been asked for matrix units, so that tests can use them; by itself it does not.
    options.kernels = Kernels::Suited([Variant::MatmulCooperative].into());
    let gpu = open(&options);
    let tuning = gpu.tuning().clone().without(Variant::MatmulCooperative);
    gpu.tuned(tuning)
}

/// The device of this test binary: WebGPU's default limits, bounds checks on. `JURIST_UNCHECKED=1` turns them off, as
/// they are outside the tests. `JURIST_TEST_TUNING=gpu` takes the kernels of GPUs where a test would take the adapter's own,
/// `JURIST_TEST_TUNING=matrix-units` those for matrix units.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    let make = || {
        let checked = !std::env::var("JURIST_UNCHECKED").is_ok_and(|v| v == "1");
        let gpu = open(Limits::Portable, checked);
        println!("{}, {}", gpu.facts(), if checked { "checked" } else { "unchecked" });
        match std::env::var("JURIST_TEST_TUNING") {
            Ok(tuning) if tuning == "gpu" => gpu.tuned(gpu_tuning()),
            Ok(tuning) if tuning == "matrix-units" => {
                assert!(gpu.runs(Variant::MatmulCooperative), "JURIST_TEST_TUNING: {} has no matrix units", gpu.facts());
                gpu.tuned(gpu.tuning().only(Variant::MatmulCooperative))
            }
            _ => gpu,
        }
    };
    GPU.get_or_init(make).clone()
}

/// One thread a row, as for CPU adapters; plain kernels.
pub fn cpu_tuning() -> Tuning {
    Tuning {
        threads_per_row: 1,
        matmul_group: [8, 1],
        variants: BTreeSet::new(),
        lanes: None,
        matrix_unit: None,
        cache_part: 256,
        most_sums: 8,
        sync_interval: 8,
        flops_per_submit: u64::MAX,
    }
}

/// 64 threads a row and tiles in workgroup memory, as for GPUs; caches are split so early that the tests' short ones are.
pub fn gpu_tuning() -> Tuning {
    gpu_tuning_from(cpu_tuning(), 4)
}

/// The same from another tuning, with caches in parts of `cache_part` positions.
pub fn gpu_tuning_from(tuning: Tuning, cache_part: u32) -> Tuning {
    Tuning { threads_per_row: 64, matmul_group: [8, 8], variants: Variant::FOR_GPUS.into(), cache_part, ..tuning }
}

/// Every kernel is tested in both shapes, and with subgroups and matrix units where the adapter has them.
pub fn tunings() -> Vec<Tuning> {
    let mut all = vec![cpu_tuning(), gpu_tuning()];
    let subgroups = [Variant::MatmulSubgroup, Variant::AttentionSubgroup];
    if subgroups.iter().all(|v| gpu().tuning().has(*v)) {
        all.push(Tuning { variants: subgroups.into(), lanes: gpu().tuning().lanes, ..cpu_tuning() });
    }
    if gpu().runs(Variant::MatmulCooperative) {
        all.push(gpu().tuning().only(Variant::MatmulCooperative));
    }
    all
}

/// Builds and runs on the shared device; a test has no use for a failure but to say so.
pub trait OnSharedDevice {
    fn run(self) -> BuiltTestPlan;
}

impl OnSharedDevice for TestPlan {
    fn run(self) -> BuiltTestPlan {
        self.build_and_run(&gpu()).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// The same for a plan that has been built.
pub trait Unwrapped {
    fn run_again(&self);
    fn run_with(&self, params: &RunParams);
    fn write(&self, tensor: Tensor, data: &[f64]);
    fn words(&self, tensor: Tensor) -> Vec<u32>;
    fn floats(&self, tensor: Tensor) -> Vec<f64>;
}

impl Unwrapped for BuiltTestPlan {
    fn run_again(&self) {
        self.run_with(&self.params);
    }

    fn run_with(&self, params: &RunParams) {
        self.plan.run(params).unwrap_or_else(|e| panic!("{e}"));
    }

    fn write(&self, tensor: Tensor, data: &[f64]) {
        self.write_floats(tensor, data).unwrap_or_else(|e| panic!("{e}"));
    }

    fn words(&self, tensor: Tensor) -> Vec<u32> {
        pollster::block_on(self.read_words(tensor)).unwrap_or_else(|e| panic!("{e}"))
    }

    fn floats(&self, tensor: Tensor) -> Vec<f64> {
        pollster::block_on(self.read_floats(tensor)).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// The checks of `jurist doctor` on the shared device, in one kernel shape and with the tests' tighter tolerances.
pub fn checker(tuning: Tuning) -> KernelChecker {
    KernelChecker {
        tuning,
        forward_tolerance: FORWARD_TOLERANCE,
        backward_tolerance: BACKWARD_TOLERANCE,
        ..KernelChecker::new(&gpu())
    }
}

/// Runs one check of `selftest`. What it finds is in its checker's report.
#[track_caller]
pub fn run_check(check: impl Future<Output = Result<(), GpuError>>) {
    pollster::block_on(check).unwrap_or_else(|e| panic!("{e}"));
}

/// Asserts that everything a checker has seen was right, and prints how right (`--nocapture` shows it).
#[track_caller]
pub fn assert_passes(checker: KernelChecker) {
    println!("{}", checker.report);
    assert!(checker.report.passes(), "\n{}", checker.report);
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
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
pub const FORWARD_TOLERANCE: f64 = 2e-5;
/// How much a gradient may be off.
pub const BACKWARD_TOLERANCE: f64 = 1e-4;

/// Asserts that `found` is within `tolerance` of `expected`, and prints by how much it is off (`--nocapture` shows it).
#[track_caller]
pub fn assert_close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
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
