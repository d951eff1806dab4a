//! What GPU compilers make of the kernels, on devices that are not there. `make gpu-report` runs it; docs/gpu-compilers.md says
//! what it is, and is written by it.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod baseline;
mod code;
mod compile;
mod devices;
mod driver;
mod figures;
mod kernels;
mod loops;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use baseline::{Changes, Measured, Outcome};
use compile::OnDevice;
use devices::{DEVICES, Device};
use figures::Figures;

const MESA: &str = "target/mesa";
const BASELINE: &str = "benches/gpu-compilers/baseline.json";
const DOCUMENT: &str = "docs/gpu-compilers.md";
const OUT: &str = "target/gpu-compilers";
const USAGE: &str = "usage, in the repository's root: gpu-compilers [--accept | --only WORD]
  --accept     the figures become the baseline, whatever they are
  --only WORD  print the rows of this device, or whose name has this word; write nothing but machine code";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [] => all(false),
        ["--accept"] => all(true),
        ["--only", word] => only(word).map(|()| ExitCode::SUCCESS),
        ["compile", library] => compile::child(Path::new(library)).map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("gpu-compilers: {error}");
        ExitCode::FAILURE
    })
}

/// Measures everything, writes document and JSON, and compares with the baseline.
fn all(accept: bool) -> Result<ExitCode, String> {
    let naga = naga_version()?;
    let kernels = kernels::all()?;
    let before = match Measured::read(Path::new(BASELINE)) {
        Ok(before) => Some(before),
        // Nothing to compare with: this run's figures are the first ones.
        Err(_) if accept => None,
        Err(error) => return Err(error),
    };
    let compiled = compile::all(mesa()?, &kernels, &DEVICES.iter().collect::<Vec<&Device>>())?;
    write_code(&compiled)?;
    let mesa = compiled.first().map(|c| c.mesa.clone()).unwrap_or_default();
    let measured = Measured { mesa, naga, devices: outcomes(&compiled)? };
    let json = measured.json().map_err(|e| e.to_string())?;
    let figures = format!("{OUT}/figures.json");
    write(&figures, &json)?;
    write(DOCUMENT, &report::document(&measured, &kernels))?;
    let count: usize = measured.devices.values().map(BTreeMap::len).sum();
    println!("{count} kernels on devices: {DOCUMENT}, {figures}, machine code in {OUT}/code");

    let before = before.unwrap_or_else(|| measured.clone());
    let changes = Changes::between(&before, &measured);
    let Changes { worse, better, differ, gone, new } = &changes;
    for (title, lines) in [("better", better), ("worse", worse), ("no longer measured", gone), ("not in the baseline", new)] {
        lines.iter().for_each(|line| println!("{title}: {line}"));
    }
    if accept {
        write(BASELINE, &json)?;
        println!("these figures are now {BASELINE}: commit it with {DOCUMENT}");
        return Ok(ExitCode::SUCCESS);
    }
    if before.mesa != measured.mesa || before.naga != measured.naga {
        println!(
            "the baseline is of {} and naga {}, this run of {} and naga {}: a change may be theirs. To tell, run \
             `make gpu-report ACCEPT=1` on the commit of the baseline first",
            before.mesa, before.naga, measured.mesa, measured.naga
        );
    }
    if !worse.is_empty() || !gone.is_empty() || !new.is_empty() {
        println!("{BASELINE} does not fit: mend the kernel, or accept the figures with `make gpu-report ACCEPT=1` and say why");
        return Ok(ExitCode::FAILURE);
    }
    match differ {
        0 => println!("no figure differs from {BASELINE}"),
        _ => println!("{differ} differ from {BASELINE}, none for the worse: `make gpu-report ACCEPT=1` makes them the baseline"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the rows of one device, or those whose names have a word.
fn only(word: &str) -> Result<(), String> {
    let all = kernels::all()?;
    let device: Vec<&Device> = DEVICES.iter().filter(|d| d.key == word).collect();
    let kernels: Vec<_> = all.iter().filter(|k| !device.is_empty() || k.row.contains(word)).cloned().collect();
    if kernels.is_empty() {
        let rows: Vec<&str> = all.iter().map(|k| k.row).collect();
        return Err(format!("no device and no row has `{word}`; {}; the rows are {}", devices::list(), rows.join("; ")));
    }
    let devices = if device.is_empty() { DEVICES.iter().collect() } else { device };
    let compiled = compile::all(mesa()?, &kernels, &devices)?;
    write_code(&compiled)?;
    let outcomes = outcomes(&compiled)?;
    for done in &compiled {
        println!("{}", report::table(done.device, &outcomes[done.device.key], &kernels));
    }
    Ok(())
}

fn mesa() -> Result<&'static Path, String> {
    let mesa = Path::new(MESA);
    match mesa.join("packages").exists() {
        true => Ok(mesa),
        false => Err(format!("there is no {MESA}: run `make gpu-report` in the repository's root, which fetches it")),
    }
}

fn outcomes(compiled: &[OnDevice]) -> Result<BTreeMap<String, BTreeMap<String, Outcome>>, String> {
    let of_device = |done: &OnDevice| {
        let row = |(kernel, compiled): &(kernels::Kernel, Result<driver::Compiled, String>)| {
            let outcome = match compiled {
                Ok(compiled) => Outcome::Compiled(Figures::of(done.device.compiler, compiled)?),
                Err(reason) => Outcome::Refused(reason.clone()),
            };
            Ok((kernel.row.to_string(), outcome))
        };
        Ok((done.device.key.to_string(), done.kernels.iter().map(row).collect::<Result<_, String>>()?))
    };
    compiled.iter().map(of_device).collect()
}

/// The machine code of each row, and the compiler's own statistics above it.
fn write_code(compiled: &[OnDevice]) -> Result<(), String> {
    for done in compiled {
        for (kernel, compiled) in &done.kernels {
            let Ok(compiled) = compiled else { continue };
            let file = kernel.row.replace([':', ','], "").replace(' ', "-");
            let statistics: String = compiled.statistics.iter().map(|(name, value)| format!("; {name}: {value}\n")).collect();
            let text = format!("; {}\n{statistics}{}", kernel.spec, compiled.code);
            write(&format!("{OUT}/code/{}/{file}.txt", done.device.key), &text)?;
        }
    }
    Ok(())
}

fn write(path: &str, text: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{path}: {e}");
    if let Some(folder) = Path::new(path).parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

/// The version of naga, which must be that of the crate: it translates the shaders.
fn naga_version() -> Result<String, String> {
    let version = |lock: &str| {
        let after = lock.split_once("name = \"naga\"\nversion = \"")?.1;
        Some(after.split('"').next().unwrap_or_default().to_string())
    };
    let (own, crates) = (version(include_str!("../Cargo.lock")), version(include_str!("../../../Cargo.lock")));
    match (own, crates) {
        (Some(own), Some(crates)) if own == crates => Ok(own),
        (own, crates) => Err(format!(
            "benches/gpu-compilers/Cargo.lock has naga {}, Cargo.lock {}: run cargo update there",
            own.unwrap_or_default(),
            crates.unwrap_or_default()
        )),
    }
}
