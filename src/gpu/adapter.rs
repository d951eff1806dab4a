//! Listing, choosing and classifying adapters.
//!
//! Hardware GPUs come before software ones, and within each kind native interfaces before OpenGL. A choice by name or number
//! always wins.

use super::{GpuError, GpuOptions, MatrixUnit, Variant};

/// The kind of an adapter. Kernels and tile sizes are chosen by it when the adapter is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A driver that runs on the CPU: lavapipe, llvmpipe, SwiftShader, WARP.
    Software,
    /// Shares memory with the CPU.
    Integrated,
    /// Has its own memory.
    Discrete,
    /// In a browser, which does not report the kind.
    Web,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Class::Software => "software",
            Class::Integrated => "integrated",
            Class::Discrete => "discrete",
            Class::Web => "web",
        })
    }
}

/// Name, backend, driver and class of an adapter, for messages.
#[derive(Clone, Debug)]
pub struct AdapterFacts {
    pub name: String,
    pub backend: String,
    pub driver: String,
    pub class: Class,
}

impl std::fmt::Display for AdapterFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.backend, self.class)?;
        if !self.driver.trim().is_empty() {
            write!(f, ", {}", self.driver.trim())?;
        }
        f.write_str(")")
    }
}

pub(super) fn facts(info: &wgpu::AdapterInfo) -> AdapterFacts {
    let class = match info.device_type {
        // A browser reports a fallback adapter as a CPU, and no other type.
        wgpu::DeviceType::Cpu => Class::Software,
        _ if info.backend == wgpu::Backend::BrowserWebGpu => Class::Web,
        wgpu::DeviceType::DiscreteGpu => Class::Discrete,
        // OpenGL reports no type. Software renderers are recognised by their names.
        _ if ["llvmpipe", "softpipe", "swiftshader", "basic render"].iter().any(|s| info.name.to_lowercase().contains(s)) => {
            Class::Software
        }
        _ => Class::Integrated,
    };
    let driver = format!("{} {}", info.driver, info.driver_info);
    AdapterFacts { name: info.name.clone(), backend: format!("{:?}", info.backend), driver, class }
}

/// Capabilities that only optional kernels need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// The subgroup size, if it is fixed.
    pub subgroup: Option<u32>,
    /// Matrix units that multiply in f16 and accumulate in f32.
    pub matrix_unit: Option<MatrixUnit>,
}

impl Abilities {
    /// The subgroup size, if kernels are made for it: 8 lanes of 256 bits (lavapipe), or 4 of 128 (SwiftShader).
    pub(super) fn lanes(self) -> Option<u32> {
        self.subgroup.filter(|lanes| [4, 8].contains(lanes))
    }
}

/// The features that kernels for matrix units need besides subgroups.
const MATRIX_UNITS: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16);

/// The abilities of an adapter; with `basic`, those that remain without optional features.
pub(super) fn abilities(adapter: &wgpu::Adapter, basic: bool) -> Abilities {
    let (info, features) = (adapter.get_info(), if basic { wgpu::Features::empty() } else { adapter.features() });
    // wgpu does not know the feature in browsers. A page asks for it itself, and says `basic` where there is none.
    let subgroups = if cfg!(target_arch = "wasm32") { !basic } else { features.contains(wgpu::Features::SUBGROUP) };
    let fixed = info.subgroup_min_size == info.subgroup_max_size && subgroups;
    let subgroup = fixed.then_some(info.subgroup_min_size);
    let (f16, f32) = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
    let matrices = if features.contains(MATRIX_UNITS) { adapter.cooperative_matrix_properties() } else { Vec::new() };
    let fits = |p: &&wgpu::CooperativeMatrixProperties| {
        [p.m_size, p.n_size, p.k_size] == [p.m_size; 3] && [8, 16].contains(&p.m_size) && p.ab_type == f16 && p.cr_type == f32
    };
    let size = matrices.iter().filter(fits).map(|p| p.m_size).max();
    let threads = subgroup.filter(|s| s.is_power_of_two() && (4..=64).contains(s));
    let matrix_unit = size.zip(threads).map(|(size, subgroup)| MatrixUnit { size, subgroup });
    Abilities { subgroup, matrix_unit }
}

/// The features to request from this adapter: timestamps for profiles and subgroups. Matrix units are requested only if their
/// kernels are named, because wgpu calls them experimental. No feature is required.
pub(super) fn features(adapter: &wgpu::Adapter, options: &GpuOptions) -> (wgpu::Features, wgpu::ExperimentalFeatures) {
    let mut wanted = wgpu::Features::TIMESTAMP_QUERY;
    wanted.set(wgpu::Features::SUBGROUP, !options.basic);
    let experiment = !options.basic && options.kernels.named().contains(&Variant::MatmulCooperative);
    if !experiment {
        return (adapter.features() & wanted, wgpu::ExperimentalFeatures::disabled());
    }
    // SAFETY: wgpu requires an acknowledgement that experimental features may have bugs. Naming the kernel gives it, and
    // `Gpu::open` tests the kernel first.
    (adapter.features() & (wanted | MATRIX_UNITS), unsafe { wgpu::ExperimentalFeatures::enabled() })
}

/// Sort key of an adapter: smaller is better.
fn rank(info: &wgpu::AdapterInfo) -> (u8, u8) {
    let class = match facts(info).class {
        Class::Discrete => 0,
        Class::Integrated => 1,
        Class::Web => 2,
        Class::Software => 3,
    };
    let backend = match info.backend {
        wgpu::Backend::Vulkan | wgpu::Backend::Metal | wgpu::Backend::BrowserWebGpu => 0,
        wgpu::Backend::Dx12 => 1,
        _ => 2,
    };
    (class, backend)
}

fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    wgpu::Instance::new(wgpu::InstanceDescriptor { backends, ..descriptor })
}

/// All adapters, best first. The position in this list is the number that `--adapter` takes.
pub(super) async fn list() -> Vec<wgpu::Adapter> {
    sorted(wgpu::Backends::all()).await
}

async fn sorted(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let mut adapters = instance(backends).enumerate_adapters(backends).await;
    // Versions of OpenGL ES without compute shaders are listed too, but cannot run kernels.
    adapters.retain(|a| a.limits().max_compute_workgroups_per_dimension > 0);
    adapters.sort_by_key(|a| rank(&a.get_info()));
    adapters
}

/// The adapter to open.
pub(super) struct ChosenAdapter {
    pub adapter: wgpu::Adapter,
    /// What to install, where this adapter is a last resort that was not asked for.
    pub advice: Option<String>,
}

/// Chooses the adapter that `wanted` names, by a number of the list or by part of its name or backend. `None`: the best one.
pub(super) async fn choose(wanted: Option<&str>) -> Result<ChosenAdapter, GpuError> {
    if cfg!(target_arch = "wasm32") {
        let options =
            wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
        let instance = instance(wgpu::Backends::BROWSER_WEBGPU);
        let adapter = instance.request_adapter(&options).await.map_err(|e| GpuError::NoAdapter { advice: e.to_string() })?;
        return Ok(ChosenAdapter { adapter, advice: None });
    }
    let wanted = wanted.map(str::trim).filter(|w| !w.is_empty());
    if wanted.is_none() {
        // OpenGL is the last resort: enumerating it is slow, and its loaders write to stderr.
        if let Some(adapter) = sorted(wgpu::Backends::PRIMARY).await.into_iter().next() {
            return Ok(ChosenAdapter { adapter, advice: None });
        }
    }
    let adapters = list().await;
    let described: Vec<String> = adapters.iter().map(|a| facts(&a.get_info()).to_string()).collect();
    let position = match wanted {
        None => Some(0),
        Some(wanted) => match wanted.parse::<usize>() {
            Ok(number) => Some(number),
            Err(_) => described.iter().position(|d| d.to_lowercase().contains(&wanted.to_lowercase())),
        },
    };
    match position.and_then(|p| adapters.into_iter().nth(p)) {
        Some(adapter) => {
            let advice = advice(&adapter.get_info()).filter(|_| wanted.is_none());
            Ok(ChosenAdapter { adapter, advice })
        }
        None if described.is_empty() => Err(GpuError::NoAdapter { advice: install_advice() }),
        None => {
            let list = described.iter().enumerate().map(|(i, d)| format!("  {i}: {d}")).collect::<Vec<_>>().join("\n");
            Err(GpuError::NoSuchAdapter { wanted: wanted.unwrap_or_default().to_string(), list })
        }
    }
}

/// Advice on what to install where the best adapter is OpenGL on the CPU.
fn advice(info: &wgpu::AdapterInfo) -> Option<String> {
    let slow = facts(info).class == Class::Software && info.backend == wgpu::Backend::Gl;
    slow.then(|| {
        format!(
            "the only adapter here is OpenGL on the CPU ({}), which takes more than twice as long as Vulkan on the same CPU \
             (measured: 534 s instead of 220 for `jurist demo`). {}",
            info.name.trim(),
            install_advice()
        )
    })
}

fn install_advice() -> String {
    match std::env::consts::OS {
        "linux" => "Install a Vulkan driver: on Debian or Ubuntu `sudo apt-get install mesa-vulkan-drivers libvulkan1` (AMD, Intel, and a software \
                    driver for machines without a GPU), on Fedora `sudo dnf install mesa-vulkan-drivers`; for NVIDIA the vendor's driver. \
                    In a container, the device files must be passed in (for example --device /dev/dri)."
            .into(),
        "windows" => "Update the graphics driver; DirectX 12 or Vulkan is needed. WARP, the software adapter, comes with Windows 10 and later.".into(),
        "macos" => "Metal is needed: macOS 10.13 or later on hardware that supports it.".into(),
        other => format!("jurist needs Vulkan, Metal, DirectX 12 or OpenGL ES 3.1; none answered on {other}."),
    }
}

#[cfg(test)]
mod tests {
    use wgpu::{Backend, DeviceType};

    use super::*;

    fn info(name: &str, device_type: DeviceType, backend: Backend) -> wgpu::AdapterInfo {
        wgpu::AdapterInfo { name: name.into(), ..wgpu::AdapterInfo::new(device_type, backend) }
    }

    #[test]
    fn real_gpus_come_first_and_native_interfaces_before_opengl() {
        // In the expected order. OpenGL often does not report the type of a GPU.
        let sorted = [
            info("Radeon", DeviceType::DiscreteGpu, Backend::Vulkan),
            info("GeForce", DeviceType::DiscreteGpu, Backend::Dx12),
            info("Quadro", DeviceType::DiscreteGpu, Backend::Gl),
            info("Apple M2", DeviceType::IntegratedGpu, Backend::Metal),
            info("Intel UHD", DeviceType::Other, Backend::Gl),
            info("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu, Backend::Vulkan),
            info("Microsoft Basic Render Driver", DeviceType::Cpu, Backend::Dx12),
            info("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Other, Backend::Gl),
        ];
        let names = |infos: &[wgpu::AdapterInfo]| infos.iter().map(|i| facts(i).to_string()).collect::<Vec<_>>();
        for turn in 0..sorted.len() {
            let mut mixed = sorted.to_vec();
            mixed.reverse();
            mixed.rotate_left(turn);
            mixed.sort_by_key(rank);
            assert_eq!(names(&mixed), names(&sorted));
        }
    }

    #[test]
    fn opengl_on_the_cpu_is_a_last_resort() {
        for name in ["llvmpipe (LLVM 15.0.6, 256 bits)", "softpipe", "zink Vulkan 1.3 (llvmpipe)"] {
            let told = advice(&info(name, DeviceType::Other, Backend::Gl)).unwrap_or_default();
            assert!(told.contains("OpenGL on the CPU") && told.contains(name), "{told}");
            assert_eq!(advice(&info(name, DeviceType::Cpu, Backend::Vulkan)), None);
        }
        assert_eq!(advice(&info("Intel UHD", DeviceType::Other, Backend::Gl)), None);
    }
}
