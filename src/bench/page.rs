//! `docs/performance.md`: one section an adapter, written anew by each run between two marks; what people wrote around
//! the marks stays.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::growth::Curve;
use super::plot::{is_plot, plot};
use super::profile::Profile;
use super::row::{Baseline, LEGEND, Results, duration, figure};
use super::{BenchError, Shape};
use crate::eval::table::Cell;
use crate::files::{self, FileError};

/// Everything the page shows of one run.
pub struct Measured<'a> {
    pub results: &'a Results,
    pub profiles: &'a [Profile],
    pub growth: &'a [Curve],
    pub baselines: &'a [Baseline],
}

/// Kernels shown of each profile.
const KERNELS: usize = 14;

/// What a new page begins with.
const OPENING: &str = "# Performance

`make performance` measures the machine it runs on and writes its section below anew (`jurist bench --report
docs/performance.md`; other sections stay). Ceilings and figures of a section come from one run of one process. Other
programs' figures come from `benches/peers`, run just before on the same machine: see its README.
";

/// Writes the section of this adapter into `page`, and its plots to `img` beside it. Returns the files written.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write(page: &Path, measured: &Measured) -> Result<Vec<PathBuf>, BenchError> {
    let images = page.parent().unwrap_or(Path::new("")).join("img");
    let slug = slug(measured.results);
    let mut written = Vec::new();
    if !measured.growth.is_empty() {
        std::fs::create_dir_all(&images).map_err(|e| FileError::io("create", &images, e))?;
    }
    for curve in measured.growth {
        let path = images.join(image(&slug, curve));
        files::write_own(&path, plot(curve).as_bytes(), is_plot)?;
        written.push(path);
    }
    let before = match std::fs::read_to_string(page) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => OPENING.to_string(),
        Err(e) => return Err(FileError::io("read", page, e).into()),
    };
    files::write(page, replaced(&before, &slug, &section(measured, &slug)).as_bytes())?;
    written.push(page.to_path_buf());
    Ok(written)
}

/// The adapter's name for marks and files.
fn slug(results: &Results) -> String {
    let name = results.adapter.name.split('(').next().unwrap_or_default().trim();
    let name = if results.basic { format!("{name} basic") } else { name.to_string() };
    let letters: String = name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    letters.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn image(slug: &str, curve: &Curve) -> String {
    format!("performance-{slug}-{}.svg", curve.key)
}

/// `page` with `section` between the marks of `slug`: in the place of the old one, else at the end.
fn replaced(page: &str, slug: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- measured: {slug} -->\n"), format!("<!-- end: {slug} -->\n"));
    let whole = format!("{begin}{section}{end}");
    if let Some(from) = page.find(&begin)
        && let Some(length) = page[from..].find(&end)
    {
        return format!("{}{whole}{}", &page[..from], &page[from + length + end.len()..]);
    }
    format!("{}\n\n{whole}", page.trim_end())
}

fn section(m: &Measured, slug: &str) -> String {
    let Measured { results, profiles, growth, baselines } = m;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "## {}\n", results.adapter);
    let kernels = if results.basic { ", the kernels that a browser runs" } else { "" };
    let _ = writeln!(
        out,
        "{}{kernels}; {}; median of {} samples.\n",
        super::row::program(),
        described(&results.shape),
        results.samples
    );
    out += "| ceiling | |\n|---|---|\n";
    for (name, value) in results.ceiling_lines() {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    if !results.rows.is_empty() {
        let (head, lines) = results.lines(baselines);
        let shown = |cell: Cell| match cell {
            Cell::Text(text) => text,
            Cell::Missing(reason) => reason,
        };
        out += "\n";
        out += &table(&head, lines.into_iter().map(|l| l.into_iter().map(shown).collect()));
        let _ = writeln!(out, "\n{}", LEGEND.trim_end());
    }
    for b in *baselines {
        let first = b.first_step.map_or(String::new(), |s| format!("; its first step after {}", duration(s)));
        let _ = writeln!(out, "x {}: its time over ours{first}.", b.program);
    }
    for profile in *profiles {
        let (head, lines) = profile.lines(Some(&results.ceilings), KERNELS);
        let (count, dispatches) = (lines.len().min(KERNELS), profile.spans.len());
        let _ = writeln!(out, "\n### Where the time goes: {}\n", profile.name);
        let _ = writeln!(out, "{} in {dispatches} dispatches; the {count} slowest kernels.\n", duration(profile.busy()));
        out += &table(&head, lines.into_iter());
    }
    if !growth.is_empty() {
        out += "\n### How cost grows\n\nDashed: cost in proportion to size.\n";
    }
    for curve in *growth {
        let _ = writeln!(out, "\n![{}](img/{})\n", curve.title, image(slug, curve));
        let head = [curve.unit, "time", "tokens/s", "held MiB"];
        let line = |p: &super::growth::Point| {
            vec![p.size.to_string(), duration(p.seconds), figure(p.tokens_per_second), figure(p.memory as f64 / 1048576.0)]
        };
        out += &table(&head, curve.points.iter().map(line));
        if let Some(reason) = &curve.stopped {
            let _ = writeln!(out, "\nNot measured: {reason}.");
        }
    }
    out
}

fn table(head: &[impl AsRef<str>], lines: impl Iterator<Item = Vec<String>>) -> String {
    let row = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let rule = head.iter().enumerate().map(|(i, _)| if i == 0 { "---|" } else { "--:|" }).collect::<String>();
    let mut out = format!("{}|{rule}\n", row(head.iter().map(AsRef::as_ref).collect()));
    for line in lines {
        out += &row(line.iter().map(String::as_str).collect());
    }
    out
}

fn described(s: &Shape) -> String {
    format!(
        "hidden {}, {} layers, {}/{} heads of {}, SwiGLU {}, vocabulary {}; training step {} x {} tokens; rollout of {} samples, \
         {}+{} tokens; f32",
        s.hidden, s.layers, s.heads, s.kv_heads, s.head_dim, s.ffn, s.vocab, s.batch, s.tokens, s.samples, s.prompt, s.new_tokens
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let first = replaced(OPENING, "llvmpipe", "old\n");
        let second = replaced(&first, "h200", "fast\n");
        let third = replaced(&format!("{second}\nA remark.\n"), "llvmpipe", "new\n");
        assert!(third.starts_with("# Performance") && third.ends_with("A remark.\n"), "{third}");
        assert!(third.contains("<!-- measured: llvmpipe -->\nnew\n<!-- end: llvmpipe -->"), "{third}");
        assert!(third.contains("fast") && !third.contains("old\n"), "{third}");
        assert_eq!(replaced(&third, "llvmpipe", "new\n"), third);
    }
}
