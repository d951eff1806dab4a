//! The figures of a kernel on a device: the compiler's statistics, and what one turn of its hottest loop consists of.

use serde::{Deserialize, Serialize};

use crate::code::{Block, Instruction, Kind, blocks};
use crate::devices::Compiler;
use crate::driver::Compiled;
use crate::loops::{Loop, hottest, loops};

/// One kernel on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Registers of a lane: VGPRs, GPRs; halves of 16 bits on Apple.
    pub registers: u32,
    /// Values that did not fit the registers, as the compiler counts them: its stores to memory on Adreno.
    pub spills: u32,
    /// The same for registers that a whole wave shares, on AMD.
    pub scalar_spills: u32,
    /// Bytes of memory of its own that a lane needs (a wave on AMD), for spills and for arrays that are not in registers.
    pub scratch: u32,
    /// Bytes of workgroup memory, on AMD. Spills may lie there as well.
    pub shared: Option<u32>,
    /// Waves per SIMD (AMD), warps per SM (NVIDIA), waves per core (Adreno), threads per core (Apple) that fit at a time.
    pub occupancy: u32,
    /// Of the whole kernel.
    pub instructions: u32,
    pub hot_loop: Option<HotLoop>,
}

/// One turn of the hottest loop, without the loops inside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HotLoop {
    pub instructions: u32,
    pub multiply_adds: u32,
    /// Products on matrix units.
    pub matrix: u32,
    /// Other arithmetic of the lanes.
    pub other_alu: u32,
    /// From global memory and scratch.
    pub loads: u32,
    /// From workgroup memory.
    pub shared_loads: u32,
    /// Percent of the multiply-adds: of the cycles that vector operations take on AMD, of all instructions elsewhere.
    pub share: f64,
    /// AMD: percent of the peak of multiply-adds that is left by the narrowest of vector unit, L0 and workgroup memory.
    pub bound: Option<f64>,
    /// AMD: the most loads from memory that are on their way at a time; the same of the loop that has the fewest.
    pub in_flight: Option<u32>,
    pub least_in_flight: Option<u32>,
}

impl Figures {
    /// # Errors
    /// A statistic that the driver does not give.
    pub fn of(compiler: Compiler, compiled: &Compiled) -> Result<Figures, String> {
        let of = |name: &str| {
            let value = compiled.statistics.get(name).map(|v| *v as u32);
            value.ok_or_else(|| {
                let all = compiled.statistics.keys().cloned().collect::<Vec<_>>().join(", ");
                format!("the driver gives no statistic `{name}`: this version of Mesa calls it otherwise (it gives {all})")
            })
        };
        // Registers, spills, scratch, occupancy, instructions.
        let names = match compiler {
            Compiler::Aco { .. } => ["VGPRs", "Spilled VGPRs", "Scratch size", "Subgroups per SIMD", "Instructions"],
            Compiler::Nak => ["Number of GPRs", "Spills to memory", "SLM size", "Max warps/SM", "Instruction count"],
            Compiler::Ir3 => ["Registers used", "STP Count", "", "Max Waves Per Core", "Instruction Count"],
            Compiler::Agx => ["GPRs", "Spills", "Scratch", "Threads", "Instructions"],
        };
        let amd = matches!(compiler, Compiler::Aco { .. });
        let code = blocks(compiler, &compiled.code);
        Ok(Figures {
            registers: of(names[0])?,
            spills: of(names[1])?,
            scalar_spills: if amd { of("Spilled SGPRs")? } else { 0 },
            // Turnip does not say; without spills there is none.
            scratch: if names[2].is_empty() { 0 } else { of(names[2])? },
            shared: if amd { Some(of("LDS size")?) } else { None },
            occupancy: of(names[3])?,
            instructions: of(names[4])?,
            hot_loop: code.and_then(|code| HotLoop::of(compiler, &code)),
        })
    }
}

/// Lanes of a wave, SIMDs of a compute unit, and bytes that its L0 and its workgroup memory each bring in a cycle: RDNA.
const LANES: f64 = 64.0;
const SIMDS: f64 = 2.0;
const BYTES: f64 = 128.0;

/// Percent, to one digit.
fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (1000.0 * part / whole).round() / 10.0 } else { 0.0 }
}

impl HotLoop {
    /// `None`: the kernel has no loop.
    pub fn of(compiler: Compiler, code: &[Block]) -> Option<HotLoop> {
        let loops = loops(code);
        let hot = hottest(&loops)?;
        let multiply_adds = hot.multiply_adds();
        let all = hot.instructions.len() as u32;
        let mut found = HotLoop {
            instructions: all,
            multiply_adds,
            matrix: hot.count(|k| k == Kind::Matrix),
            other_alu: hot.count(|k| k == Kind::Alu),
            loads: hot.loads(),
            shared_loads: hot.count(|k| matches!(k, Kind::SharedLoad(_))),
            share: percent(f64::from(multiply_adds), f64::from(all)),
            bound: None,
            in_flight: None,
            least_in_flight: None,
        };
        if let Compiler::Aco { dual_issue } = compiler {
            let cycles = |i: &&Instruction| if dual_issue && i.dual { 1.0 } else { 2.0 };
            let of_kinds =
                |kinds: &[Kind]| hot.instructions.iter().copied().filter(|i| kinds.contains(&i.kind)).map(|i| cycles(&i)).sum();
            let own: f64 = of_kinds(&[Kind::MultiplyAdd]);
            let vector: f64 = of_kinds(&[Kind::MultiplyAdd, Kind::Alu]);
            let brought =
                |bytes: fn(Kind) -> u32| hot.instructions.iter().map(|i| f64::from(bytes(i.kind))).sum::<f64>() * LANES / BYTES;
            let memory = brought(|k| if let Kind::Load(bytes) = k { bytes } else { 0 });
            let shared = brought(|k| if let Kind::SharedLoad(bytes) = k { bytes } else { 0 });
            found.share = percent(own, vector);
            found.bound = (multiply_adds > 0).then(|| percent(own / SIMDS, (vector / SIMDS).max(memory).max(shared)));
            found.in_flight = in_flight(hot);
            found.least_in_flight = loops.iter().filter_map(in_flight).min();
        }
        Some(found)
    }

    /// Instructions for the same work: those of a turn, for each multiply-add where it has any.
    pub fn per_work(&self) -> f64 {
        f64::from(self.instructions) / f64::from(self.multiply_adds.max(1))
    }
}

/// The most loads that are on their way at a time in a loop's second turn. `None`: it loads nothing.
fn in_flight(l: &Loop) -> Option<u32> {
    let (mut now, mut most) = (0, 0);
    for instruction in l.instructions.iter().chain(&l.instructions) {
        match instruction.waits_until {
            Some(left) => now = left.min(now),
            None => now += u32::from(matches!(instruction.kind, Kind::Load(_))),
        }
        most = most.max(now);
    }
    (most > 0).then_some(most)
}
