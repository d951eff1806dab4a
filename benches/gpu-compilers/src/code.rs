//! Machine code as text, as three of Mesa's compilers print it, read into blocks of instructions.

use std::collections::HashMap;

use crate::devices::Compiler;

/// What an instruction takes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A multiply-add of f32, in every lane.
    MultiplyAdd,
    /// A product on matrix units.
    Matrix,
    /// Other arithmetic, in every lane.
    Alu,
    /// A load from global memory or scratch, of so many bytes a lane.
    Load(u32),
    /// A store or an atomic there.
    Store,
    /// A load from workgroup memory, of so many bytes a lane.
    SharedLoad(u32),
    SharedStore,
    /// What a whole wave does once: scalar arithmetic, constants, branches.
    Scalar,
    /// Waits, barriers, hints to the scheduler.
    Wait,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub kind: Kind,
    /// Whether RDNA3 issues it for a wave64 in one cycle instead of two.
    pub dual: bool,
    /// Of a wait on AMD: how many loads from memory may still be on their way after it.
    pub waits_until: Option<u32>,
}

impl Instruction {
    pub fn of(kind: Kind) -> Self {
        Instruction { kind, dual: false, waits_until: None }
    }
}

/// Instructions that run one after another, and the blocks that may come next, by their places.
#[derive(Clone, Debug, Default)]
pub struct Block {
    pub instructions: Vec<Instruction>,
    pub next: Vec<usize>,
}

/// A block that names the next ones by their labels.
struct Draft {
    label: String,
    instructions: Vec<Instruction>,
    targets: Vec<String>,
    /// Whether the block below it may come next.
    falls_through: bool,
}

impl Draft {
    fn new(label: &str) -> Self {
        Draft { label: label.into(), instructions: Vec::new(), targets: Vec::new(), falls_through: true }
    }
}

/// The blocks of a kernel, the first of which is its beginning. `None` for a compiler that gives no code.
pub fn blocks(compiler: Compiler, text: &str) -> Option<Vec<Block>> {
    let drafts = match compiler {
        Compiler::Aco { .. } => aco(text),
        Compiler::Nak => nak(text),
        Compiler::Ir3 => ir3(text),
        Compiler::Agx => return None,
    };
    let at: HashMap<&str, usize> = drafts.iter().enumerate().map(|(i, d)| (d.label.as_str(), i)).collect();
    let block = |(i, draft): (usize, &Draft)| {
        let through = (draft.falls_through && i + 1 < drafts.len()).then_some(i + 1);
        let mut next: Vec<usize> = draft.targets.iter().filter_map(|t| at.get(t.as_str()).copied()).chain(through).collect();
        next.sort_unstable();
        next.dedup();
        Block { next, instructions: draft.instructions.clone() }
    };
    Some(drafts.iter().enumerate().map(block).collect())
}

fn starts(name: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|b| name.starts_with(b))
}

/// The last of the drafts; a first one without a label where there is none yet.
fn current(drafts: &mut Vec<Draft>) -> &mut Draft {
    if drafts.is_empty() {
        drafts.push(Draft::new(""));
    }
    let last = drafts.len() - 1;
    &mut drafts[last]
}

/// AMD: `BB2:`, then a tab, an instruction, and its encoding behind a semicolon. Branches name blocks.
fn aco(text: &str) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        if let Some(label) = line.strip_suffix(':').filter(|l| l.starts_with("BB")) {
            drafts.push(Draft::new(label));
            continue;
        }
        // Padding, and "(then repeated 4 times)" of it.
        if !line.starts_with(|c: char| c.is_ascii_lowercase()) || starts(line, &["s_code_end"]) {
            continue;
        }
        let draft = current(&mut drafts);
        // Two operations of one dual-issued instruction are counted as two.
        for part in line.split("::") {
            let name = part.split_whitespace().next().unwrap_or_default();
            let waits_until = part.split_once("vmcnt(").and_then(|(_, n)| n.split(')').next()?.parse().ok());
            draft.instructions.push(Instruction { kind: aco_kind(name), dual: aco_dual(name), waits_until });
            if starts(name, &["s_branch", "s_cbranch"]) {
                draft.targets.extend(part.split_whitespace().nth(1).map(String::from));
            }
            if name != "s_nop" {
                draft.falls_through = !starts(name, &["s_branch", "s_endpgm"]);
            }
        }
    }
    drafts
}

/// An operation without `v_` and `dual_`, or `None` where it is not of the vector unit.
fn vector(name: &str) -> Option<&str> {
    let name = name.strip_prefix("v_")?;
    Some(name.strip_prefix("dual_").unwrap_or(name))
}

fn aco_kind(name: &str) -> Kind {
    const WAITS: &[&str] =
        &["s_wait", "s_delay", "s_clause", "s_nop", "s_barrier", "s_sleep", "s_inst_prefetch", "s_set_inst_prefetch"];
    if let Some(name) = vector(name) {
        let multiply_adds = ["fma_f32", "fmac_f32", "fmaak_f32", "fmamk_f32", "mac_f32", "mad_f32"];
        return match name {
            _ if starts(name, &multiply_adds) => Kind::MultiplyAdd,
            _ if name.starts_with("wmma") => Kind::Matrix,
            _ => Kind::Alu,
        };
    }
    if starts(name, &["buffer_", "global_", "flat_", "scratch_"]) {
        return if name.contains("load") { Kind::Load(aco_bytes(name)) } else { Kind::Store };
    }
    if name.starts_with("ds_") {
        return if name.contains("load") || name.contains("read") {
            Kind::SharedLoad(aco_bytes(name))
        } else {
            Kind::SharedStore
        };
    }
    if starts(name, WAITS) { Kind::Wait } else { Kind::Scalar }
}

/// Bytes that a load brings to a lane, by the end of its name.
fn aco_bytes(name: &str) -> u32 {
    const BYTES: &[(&str, u32)] = &[
        ("b128", 16),
        ("dwordx4", 16),
        ("b96", 12),
        ("dwordx3", 12),
        ("b64", 8),
        ("dwordx2", 8),
        ("u16", 2),
        ("short", 2),
        ("u8", 1),
        ("byte", 1),
    ];
    let one = BYTES.iter().find(|(width, _)| name.contains(width)).map_or(4, |(_, bytes)| *bytes);
    if name.contains("2addr") || name.contains("read2") { 2 * one } else { one }
}

/// The operations that ACO's own model of RDNA3 counts as dual-issued in a wave64.
fn aco_dual(name: &str) -> bool {
    const OPERATIONS: &[&str] = &["fma", "fmac", "fmaak", "fmamk", "mul", "add", "sub", "subrev", "max", "min"];
    vector(name).is_some_and(|name| match name.split_once('_') {
        Some((operation, of)) => OPERATIONS.contains(&operation) && of.starts_with("f32"),
        None => false,
    } || name.starts_with("mov_b32"))
}

/// NVIDIA: `block 3 L4 [from, …] -> {`, then lines of `@!p0 r1 = name operands // hints`, then `} -> [to, …]`.
fn nak(text: &str) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if line.starts_with("block") {
            // Blocks are named by their numbers in the lists.
            let mut draft = Draft::new(line.split_whitespace().nth(1).unwrap_or_default());
            draft.falls_through = false;
            drafts.push(draft);
            continue;
        }
        if let Some(next) = line.strip_prefix("} -> [") {
            let next = next.trim_end_matches(']').split(',').map(|n| n.trim().to_string());
            current(&mut drafts).targets.extend(next.filter(|n| !n.is_empty()));
            continue;
        }
        let line = match line.strip_prefix('@') {
            Some(predicated) => predicated.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim()),
            None => line,
        };
        let operation = line.split_once(" = ").map_or(line, |(_, operation)| operation);
        let name = operation.split_whitespace().next().unwrap_or_default();
        if name.starts_with(|c: char| c.is_ascii_lowercase()) {
            current(&mut drafts).instructions.push(Instruction::of(nak_kind(name)));
        }
    }
    drafts
}

fn nak_kind(name: &str) -> Kind {
    let bytes = || match name {
        _ if name.contains(".b128") => 16,
        _ if name.contains(".b64") => 8,
        _ => 4,
    };
    match name {
        _ if name.starts_with("ffma") => Kind::MultiplyAdd,
        _ if starts(name, &["hmma", "imma"]) => Kind::Matrix,
        _ if starts(name, &["ld.shared", "ldsm"]) => Kind::SharedLoad(bytes()),
        _ if starts(name, &["st.shared"]) || (name.starts_with("atom") && name.contains(".shared")) => Kind::SharedStore,
        _ if starts(name, &["ld.global", "ld.local"]) => Kind::Load(bytes()),
        _ if starts(name, &["st.", "atom", "red."]) => Kind::Store,
        _ if starts(name, &["ldc", "bra", "exit"]) => Kind::Scalar,
        _ if starts(name, &["bssy", "bsync", "bclear", "bar.", "membar", "nop", "depbar"]) => Kind::Wait,
        _ => Kind::Alu,
    }
}

/// Adreno: `l25:`, then lines of `(flag)(rpt1)name operands`, where `(rpt1)` runs it once more. Branches name labels by `#l25`.
fn ir3(text: &str) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for line in text.lines() {
        let mut line = line.trim();
        if let Some(label) = line.strip_suffix(':') {
            // The other such line is the title.
            if label.starts_with('l') && label[1..].chars().all(|c| c.is_ascii_digit()) {
                drafts.push(Draft::new(label));
            }
            continue;
        }
        let mut times = 1;
        while let Some((flag, rest)) = line.strip_prefix('(').and_then(|l| l.split_once(')')) {
            times += flag.strip_prefix("rpt").and_then(|n| n.parse().ok()).unwrap_or(0);
            line = rest.trim();
        }
        // Comments, and `@in(…)` of the inputs.
        if !line.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        let draft = current(&mut drafts);
        let name = line.split_whitespace().next().unwrap_or_default();
        draft.instructions.extend((0..times).map(|_| Instruction::of(ir3_kind(name))));
        draft.targets.extend(line.split_once('#').map(|(_, label)| label.trim().to_string()).filter(|l| l.starts_with('l')));
        if name != "nop" {
            draft.falls_through = !starts(name, &["jump", "end"]);
        }
    }
    drafts
}

fn ir3_kind(name: &str) -> Kind {
    const WAITS: &[&str] = &["nop", "bar", "fence", "ccinv", "alias", "sleep"];
    const SCALARS: &[&str] = &["br", "jump", "end", "pred", "getone", "shps", "shpe", "ldc", "stc", "resinfo"];
    match name {
        _ if name.starts_with("mad.f32") => Kind::MultiplyAdd,
        _ if starts(name, &["isam.v"]) => Kind::Load(16),
        _ if starts(name, &["isam", "ldib", "ldg", "ldp"]) => Kind::Load(4),
        _ if starts(name, &["stib", "stg", "stp", "atomic"]) => Kind::Store,
        _ if name.starts_with("ldl") => Kind::SharedLoad(4),
        _ if name.starts_with("stl") => Kind::SharedStore,
        _ if starts(name, WAITS) => Kind::Wait,
        _ if starts(name, SCALARS) => Kind::Scalar,
        _ => Kind::Alu,
    }
}
