//! Compiles kernels for devices, each in a process of its own: a driver is told by the environment which device it sees, it runs
//! with the C library of its Debian, and its compiler may end the process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jurist::gpu::KernelSpec;
use serde::{Deserialize, Serialize};

use crate::devices::{DEVICES, Device};
use crate::driver::{Compiled, Driver};
use crate::kernels::{self, Kernel};

/// A line that the process of a device prints: first the opened device, then each kernel.
#[derive(Serialize, Deserialize)]
enum Line {
    Opened { device: String, mesa: String },
    Compiled(Compiled),
    Refused(String),
}

/// What a device's compiler made of the kernels that it was given.
pub struct OnDevice {
    pub device: &'static Device,
    pub mesa: String,
    /// The kernels for this device, and the compiler's word, or the reason for which there is none.
    pub kernels: Vec<(Kernel, Result<Compiled, String>)>,
}

/// Where Mesa's libraries lie below the folder that `scripts/debian-sid.sh` filled.
pub fn libraries(mesa: &Path) -> PathBuf {
    mesa.join("root/usr/lib/x86_64-linux-gnu")
}

/// The kernels that a device compiles.
fn on(device: &Device, all: &[Kernel]) -> Vec<Kernel> {
    let runs = |k: &&Kernel| (device.matrix_units || !k.spec.needs_matrix_units()) && (device.discrete || !k.discrete);
    all.iter().filter(runs).cloned().collect()
}

/// Compiles for all devices, as many at a time as there are cores.
///
/// # Errors
/// A driver that does not start. A kernel that is refused is no error.
pub fn all(mesa: &Path, kernels: &[Kernel], devices: &[&'static Device]) -> Result<Vec<OnDevice>, String> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(device) = devices.get(next.fetch_add(1, Ordering::Relaxed)) {
            let start = std::time::Instant::now();
            let compiled = on_device(mesa, device, on(device, kernels));
            if let Ok(compiled) = &compiled {
                let (count, seconds) = (compiled.kernels.len(), start.elapsed().as_secs_f64());
                eprintln!("{}: {count} kernels, {} of {}, {seconds:.0} s", device.key, device.driver, compiled.mesa);
            }
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(compiled);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores.min(devices.len())).for_each(|_| _ = scope.spawn(work)));
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut all = done.into_iter().collect::<Result<Vec<OnDevice>, String>>()?;
    all.sort_by_key(|done| DEVICES.iter().position(|d| d.key == done.device.key));
    Ok(all)
}

fn on_device(mesa: &Path, device: &'static Device, kernels: Vec<Kernel>) -> Result<OnDevice, String> {
    // Rows may share a kernel.
    let mut specs: Vec<&KernelSpec> = Vec::new();
    for kernel in &kernels {
        if !specs.contains(&&kernel.spec) {
            specs.push(&kernel.spec);
        }
    }
    let (mut version, mut results) = (String::new(), Vec::new());
    while results.len() < specs.len() {
        let (lines, status, errors) = process(mesa, device, &specs[results.len()..])?;
        for line in lines {
            match line {
                Line::Opened { device: name, .. } if !name.contains(device.called) => {
                    return Err(format!("{}: the driver opened `{name}` instead of a {}", device.key, device.called));
                }
                Line::Opened { mesa, .. } => version = mesa,
                Line::Compiled(compiled) => results.push(Ok(compiled)),
                Line::Refused(reason) => results.push(Err(reason)),
            }
        }
        if results.len() == specs.len() {
            break;
        }
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        match signal.filter(|_| !version.is_empty()) {
            // The next process goes on behind this kernel.
            Some(signal) => results.push(Err(format!("the compiler ends by signal {signal}"))),
            None => return Err(format!("the driver of {} does not start ({status}): {}", device.key, errors.trim())),
        }
    }
    let result = |kernel: &Kernel| {
        let at = specs.iter().position(|spec| **spec == kernel.spec);
        at.and_then(|at| results.get(at).cloned()).unwrap_or_else(|| Err("not compiled".into()))
    };
    let compiled = kernels.iter().map(|k| (k.clone(), result(k))).collect();
    Ok(OnDevice { device, mesa: version, kernels: compiled })
}

/// Runs `compile` of this program under the device's driver: what it said until its end, how it ended, and what it complained of.
fn process(mesa: &Path, device: &Device, specs: &[&KernelSpec]) -> Result<(Vec<Line>, ExitStatus, String), String> {
    let libraries = libraries(mesa);
    let program = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
    let mut child = Command::new(libraries.join("ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(&libraries)
        .arg("--preload")
        .arg(libraries.join(format!("lib{}_noop_drm_shim.so", device.shim)))
        .arg(program)
        .arg("compile")
        .arg(libraries.join(format!("libvulkan_{}.so", device.driver)))
        .envs(device.environment.iter().copied())
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{}: {e}; remove {} and run again", libraries.display(), mesa.display()))?;
    if let Some(mut input) = child.stdin.take() {
        let names: String = specs.iter().map(|spec| format!("{spec}\n")).collect();
        // A process that does not start reads nothing; its end says why.
        input
            .write_all(names.as_bytes())
            .or_else(|e| if e.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
            .map_err(|e| format!("{}: {e}", device.key))?;
    }
    let output = child.wait_with_output().map_err(|e| format!("{}: {e}", device.key))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The last line may be cut off by the end of the process.
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let line = |line: &str| serde_json::from_str(line).map_err(|e| format!("{}: unexpected output `{line}`: {e}", device.key));
    let lines = complete.lines().map(line).collect::<Result<_, _>>()?;
    Ok((lines, output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The other side of [`process`]: compiles the kernels named on standard input with the driver in `library`.
pub fn child(library: &Path) -> Result<(), String> {
    let known = kernels::all()?;
    let mut out = std::io::stdout().lock();
    let mut print = |line: &Line| {
        let text = serde_json::to_string(line).map_err(|e| e.to_string())?;
        // Each line leaves at once: the next kernel may end the process.
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| e.to_string())
    };
    let driver = Driver::open(library)?;
    print(&Line::Opened { device: driver.device_name.clone(), mesa: driver.version.clone() })?;
    for name in std::io::stdin().lines() {
        let name = name.map_err(|e| e.to_string())?;
        let kernel = known.iter().find(|k| k.spec.to_string() == name).ok_or_else(|| format!("no kernel {name}"))?;
        print(&match driver.compile(&kernel.spec) {
            Ok(compiled) => Line::Compiled(compiled),
            Err(reason) => Line::Refused(reason),
        })?;
    }
    Ok(())
}
