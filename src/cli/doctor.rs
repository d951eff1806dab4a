//! `jurist doctor`: adapters, limits, and whether the kernels compute the right values on this adapter.

use super::{CliError, Context, DoctorArgs, print};
use crate::doctor;
use crate::gpu::{Gpu, Variant};
use crate::selftest::Work;

/// Lists, checks kernels, or compares with golden values.
pub fn run(args: &DoctorArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    if args.against.is_none() && context.base.is_some() {
        return Err(CliError::Usage("--base needs --against".into()));
    }
    if let Some(dir) = &args.against {
        let gpu = context.gpu(Work::Training, &mut progress)?;
        let report = pollster::block_on(doctor::against_on(&gpu, dir, context.base.as_deref()))?;
        print(&format!("{}\n{report}", dir.display()))?;
        return verdict(report.passes(), "some values are outside their tolerance");
    }
    let adapters = pollster::block_on(Gpu::adapters());
    let mut text = String::from("adapters\n");
    for (i, facts) in adapters.iter().enumerate() {
        text += &format!("  {i}: {facts}\n");
    }
    let (gpu, verdicts) = context.gpu_with(false, Work::Training, &mut progress)?;
    text += &format!("chosen: {}\n", gpu.facts());
    if let Some(advice) = gpu.advice() {
        text += &format!("advice: {advice}\n");
    }
    for (name, value) in gpu.limits() {
        text += &format!("  {name:<26} {value}\n");
    }
    text += "optional kernels\n";
    for variant in Variant::ALL {
        text += &match verdicts.iter().find(|v| v.variant == variant) {
            Some(verdict) => format!("  {verdict}\n"),
            None => {
                let reason = gpu.unsuited(variant).unwrap_or("not asked for".into());
                format!("  {} is not in use: {reason}\n", variant.name())
            }
        };
    }
    print(&text)?;
    if args.list {
        return Ok(());
    }
    let report = pollster::block_on(crate::selftest::kernels(&gpu))?;
    print(&format!("kernels against the f64 reference (deviation relative to the largest entry)\n{report}"))?;
    verdict(report.passes(), "some kernels compute wrong values on this adapter; do not train on it")
}

fn verdict(passes: bool, failure: &str) -> Result<(), CliError> {
    if passes {
        return print("passed\n");
    }
    Err(CliError::Failed(failure.into()))
}
