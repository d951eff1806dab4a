//! The devices that are compiled for, and how Mesa's driver is brought to believe that one is there.

/// A compiler, by the form of its machine code and the names of its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Of RADV, for AMD. `dual_issue`: RDNA3, which issues some float operations of a wave64 in one cycle instead of two.
    Aco { dual_issue: bool },
    /// Of NVK, for NVIDIA.
    Nak,
    /// Of Turnip, for Adreno.
    Ir3,
    /// Of Honeykrisp, for Apple.
    Agx,
}

/// One device.
#[derive(Debug)]
pub struct Device {
    /// In files, messages and on the command line.
    pub key: &'static str,
    /// For readers.
    pub name: &'static str,
    pub compiler: Compiler,
    /// `libvulkan_DRIVER.so` is Mesa's Vulkan driver, `libSHIM_noop_drm_shim.so` plays the kernel's one.
    pub driver: &'static str,
    pub shim: &'static str,
    /// Which device the shim plays.
    pub environment: &'static [(&'static str, &'static str)],
    /// Whether it has memory of its own: some kernels differ.
    pub discrete: bool,
    /// Part of the name that the driver gives the device. NVK gives one that is not there no other name.
    pub called: &'static str,
    /// Whether kernels for matrix units are compiled for it: it has subgroups of 32, always.
    pub matrix_units: bool,
}

/// NVK opens a device that it was not tested on only if this is set.
const UNTESTED_NVIDIA: (&str, &str) = ("NVK_I_WANT_A_BROKEN_VULKAN_DRIVER", "1");

type Environment = &'static [(&'static str, &'static str)];

const fn amd(key: &'static str, name: &'static str, dual_issue: bool, called: &'static str, environment: Environment) -> Device {
    let compiler = Compiler::Aco { dual_issue };
    let (driver, shim) = ("radeon", "amdgpu");
    Device { key, name, compiler, driver, shim, environment, discrete: true, called, matrix_units: false }
}

const fn nvidia(key: &'static str, name: &'static str, environment: Environment) -> Device {
    let (driver, shim) = ("nouveau", "nouveau");
    Device { key, name, compiler: Compiler::Nak, driver, shim, environment, discrete: true, called: "NVK", matrix_units: true }
}

pub const DEVICES: &[Device] = &[
    amd("navi31", "AMD RDNA3, discrete (Radeon RX 7900)", true, "NAVI31", &[("AMDGPU_GPU_ID", "navi31")]),
    amd("navi21", "AMD RDNA2, discrete (Radeon RX 6800, 6900)", false, "NAVI21", &[("AMDGPU_GPU_ID", "navi21")]),
    Device {
        discrete: false,
        ..amd("phoenix", "AMD RDNA3, integrated (Radeon 780M)", true, "PHOENIX", &[("AMDGPU_GPU_ID", "phoenix")])
    },
    nvidia("ampere", "NVIDIA Ampere (GA102: RTX 3080, 3090)", &[("NOUVEAU_CHIPSET", "0x172"), UNTESTED_NVIDIA]),
    nvidia("ada", "NVIDIA Ada (AD102: RTX 4090)", &[("NOUVEAU_CHIPSET", "0x192"), UNTESTED_NVIDIA]),
    Device {
        key: "adreno740",
        name: "Qualcomm Adreno 740 (Snapdragon 8 Gen 2)",
        compiler: Compiler::Ir3,
        driver: "freedreno",
        shim: "freedreno",
        environment: &[("FD_GPU_ID", "740")],
        discrete: false,
        called: "Adreno (TM) 740",
        matrix_units: false,
    },
    Device {
        key: "m1",
        name: "Apple M1",
        compiler: Compiler::Agx,
        driver: "asahi",
        shim: "asahi",
        environment: &[],
        discrete: false,
        called: "Apple M1",
        matrix_units: false,
    },
];

/// All keys, for messages.
pub fn list() -> String {
    let all: Vec<&str> = DEVICES.iter().map(|d| d.key).collect();
    format!("the devices are {}", all.join(", "))
}
