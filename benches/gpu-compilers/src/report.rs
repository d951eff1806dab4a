//! The figures as a page for readers.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::baseline::{Measured, Outcome};
use crate::devices::{Compiler, DEVICES, Device};
use crate::figures::{Figures, HotLoop};
use crate::kernels::{Kernel, short};

type Rows = BTreeMap<String, Outcome>;

/// `docs/gpu-compilers.md`.
pub fn document(measured: &Measured, kernels: &[Kernel]) -> String {
    let mut page = String::from("# What GPU compilers make of the kernels\n\n");
    page += include_str!("introduction.md");
    _ = writeln!(page, "\nCompiled by {}, translated by naga {}.\n", measured.mesa, measured.naga);
    page += &overview(measured, kernels);
    for device in DEVICES {
        if let Some(rows) = measured.devices.get(device.key) {
            page += "\n";
            page += &table(device, rows, kernels);
        }
    }
    page += "\n";
    page += include_str!("anchors.md");
    page += "\n## The variants\n\n| row | kernel | constants |\n|---|---|---|\n";
    for Kernel { row, spec, .. } in kernels {
        let constants: Vec<String> = spec.constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        _ = writeln!(page, "| {row} | `{}` | {} |", short(spec), constants.join(" "));
    }
    page
}

/// Share and spills of every kernel on every device.
fn overview(measured: &Measured, kernels: &[Kernel]) -> String {
    let titles: Vec<&str> = DEVICES.iter().map(|d| d.key).collect();
    let mut text = String::from("## At a glance\n\nThe share of multiply-adds (AMD: the bound), and spills.\n\n");
    _ = writeln!(text, "| kernel | {} |\n|---|{}", titles.join(" | "), "--:|".repeat(titles.len()));
    for kernel in kernels {
        let cell = |device: &Device| match measured.devices.get(device.key).and_then(|rows| rows.get(kernel.row)) {
            Some(Outcome::Compiled(figures)) => glance(figures),
            Some(Outcome::Refused(_)) => "refused".into(),
            None => String::new(),
        };
        let cells: Vec<String> = DEVICES.iter().map(cell).collect();
        _ = writeln!(text, "| {} | {} |", kernel.row, cells.join(" | "));
    }
    text
}

fn glance(figures: &Figures) -> String {
    let share = figures.hot_loop.as_ref().filter(|l| l.multiply_adds > 0).map(|l| format!("{:.0} %", l.bound.unwrap_or(l.share)));
    let spills = (figures.spills > 0).then(|| format!("**{} spills**", number(figures.spills)));
    let both: Vec<String> = share.into_iter().chain(spills).collect();
    if both.is_empty() { "–".into() } else { both.join(", ") }
}

/// The section of one device: its rows in the order of `kernels`.
pub fn table(device: &Device, rows: &Rows, kernels: &[Kernel]) -> String {
    let columns = columns(device.compiler);
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let mut text = format!("## {}: {}\n\n", device.key, device.name);
    _ = writeln!(text, "| kernel | {} |\n|---|{}", titles.join(" | "), "--:|".repeat(columns.len()));
    let mut refused = String::new();
    for kernel in kernels {
        match rows.get(kernel.row) {
            Some(Outcome::Compiled(figures)) => {
                let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(figures)).collect();
                _ = writeln!(text, "| {} | {} |", kernel.row, cells.join(" | "));
            }
            Some(Outcome::Refused(reason)) => {
                _ = writeln!(text, "| {} | refused{} |", kernel.row, " |".repeat(columns.len() - 1));
                _ = writeln!(refused, "\nRefused: {}: {reason}.", kernel.row);
            }
            None => {}
        }
    }
    text + &refused
}

/// A column's title, and its cell.
type Column = (&'static str, fn(&Figures) -> String);

fn columns(compiler: Compiler) -> Vec<Column> {
    let amd = matches!(compiler, Compiler::Aco { .. });
    let mut columns: Vec<Column> = vec![("registers", |f| number(f.registers)), ("spills", spills)];
    // Turnip does not say how much it needs.
    if compiler != Compiler::Ir3 {
        columns.push(("scratch", |f| number(f.scratch)));
    }
    if amd {
        columns.push(("workgroup memory", |f| number(f.shared.unwrap_or(0))));
    }
    let waves = match compiler {
        Compiler::Aco { .. } => "waves/SIMD",
        Compiler::Nak => "warps/SM",
        Compiler::Ir3 => "waves/core",
        Compiler::Agx => "threads/core",
    };
    columns.push((waves, |f| number(f.occupancy)));
    columns.push(("instructions", |f| number(f.instructions)));
    if compiler == Compiler::Agx {
        return columns;
    }
    let of_loop: [Column; 7] = [
        ("loop", |f| of(f, |l| number(l.instructions))),
        ("FMA", |f| of(f, multiply_adds)),
        ("ALU", |f| of(f, |l| number(l.other_alu))),
        ("loads", |f| of(f, |l| number(l.loads))),
        ("shared", |f| of(f, |l| number(l.shared_loads))),
        ("loads/100 FMA", |f| of(f, per_hundred)),
        ("share", |f| of(f, |l| if l.multiply_adds > 0 { format!("{:.0} %", l.share) } else { "–".into() })),
    ];
    columns.extend(of_loop);
    if amd {
        columns.push(("bound", |f| of(f, |l| l.bound.map_or("–".into(), |bound| format!("{bound:.0} %")))));
        columns.push(("in flight", |f| of(f, in_flight)));
    }
    columns
}

/// A cell about the hot loop.
fn of(figures: &Figures, cell: fn(&HotLoop) -> String) -> String {
    figures.hot_loop.as_ref().map_or_else(|| "–".into(), cell)
}

fn spills(figures: &Figures) -> String {
    let spills = number(figures.spills);
    let spills = if figures.spills > 0 { format!("**{spills}**") } else { spills };
    if figures.scalar_spills > 0 { format!("{spills} +{}", figures.scalar_spills) } else { spills }
}

fn multiply_adds(l: &HotLoop) -> String {
    if l.matrix > 0 { format!("{} matrix", l.matrix) } else { number(l.multiply_adds) }
}

fn per_hundred(l: &HotLoop) -> String {
    if l.multiply_adds == 0 {
        return "–".into();
    }
    let per = 100.0 * f64::from(l.loads) / f64::from(l.multiply_adds);
    if per < 1.0 { format!("{per:.2}") } else { format!("{per:.1}") }
}

fn in_flight(l: &HotLoop) -> String {
    let of = |n: Option<u32>| n.map_or("–".into(), number);
    if l.in_flight == l.least_in_flight { of(l.in_flight) } else { format!("{} / {}", of(l.in_flight), of(l.least_in_flight)) }
}

/// With commas from 1,000 on.
fn number(n: u32) -> String {
    match n {
        0..1000 => n.to_string(),
        _ => format!("{},{:03}", number(n / 1000), n % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels;

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 151_936, 1_000_005].map(number), ["0", "999", "1,000", "151,936", "1,000,005"]);
    }

    #[test]
    fn a_table_has_its_rows_in_order_and_says_what_was_refused() {
        let kernels = &kernels::all().unwrap()[..3];
        let figures = Figures {
            registers: 255,
            spills: 27,
            scalar_spills: 0,
            scratch: 108,
            shared: None,
            occupancy: 384,
            instructions: 2550,
            hot_loop: None,
        };
        let rows = [
            (kernels[1].row.to_string(), Outcome::Refused("the compiler ends by signal 11".into())),
            (kernels[0].row.to_string(), Outcome::Compiled(figures)),
        ];
        let device = DEVICES.iter().find(|d| d.compiler == Compiler::Agx).unwrap();
        let text = table(device, &rows.into(), kernels);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| kernel | registers | spills | scratch | threads/core | instructions |");
        assert_eq!(lines[4], "| product nt | 255 | **27** | 108 | 384 | 2,550 |");
        assert_eq!(lines[5], "| product nn | refused | | | | |");
        assert_eq!(lines[7..], ["Refused: product nn: the compiler ends by signal 11."]);
    }
}
