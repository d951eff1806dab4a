//! A measurement, its share of the ceiling, and the results as table, JSON and baseline.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::{BenchError, BenchOptions, Ceilings, Shape};
use crate::eval::table::{Cell, Table};
use crate::gpu::{AdapterFacts, Gpu};

/// Groups of measurements; `--only` takes their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Always measured: the shares of all other groups depend on them.
    Ceilings,
    Matmul,
    Attention,
    Norm,
    Swiglu,
    Loss,
    Step,
    Rollout,
    Decode,
    Score,
    Lora,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub group: Group,
    pub name: String,
    /// The median duration.
    pub seconds: f64,
    /// Floating point operations that the mathematics needs.
    pub flops: u64,
    /// Bytes that must be read or written at least once; 0 where this is not informative.
    pub bytes: u64,
    /// Bytes of its GPU buffers.
    pub memory: u64,
    /// Tokens trained on or sampled; 0 for kernels.
    pub tokens: u64,
    /// Measured by GPU timestamps; else by the host's clock, including all work of the host.
    pub timestamps: bool,
}

impl Measurement {
    /// Floating point operations per second.
    pub fn flop_rate(&self) -> f64 {
        self.flops as f64 / self.seconds
    }

    /// Bytes per second.
    pub fn byte_rate(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    /// The shortest time that the ceilings allow (the roofline), divided by the measured time.
    pub fn share(&self, ceilings: &Ceilings) -> f64 {
        let (compute, memory) = self.shortest_times(ceilings);
        compute.max(memory) / self.seconds
    }

    /// What limits the shortest time: arithmetic or memory.
    pub fn bound(&self, ceilings: &Ceilings) -> &'static str {
        let (compute, memory) = self.shortest_times(ceilings);
        if compute >= memory { "FMA" } else { "copy" }
    }

    /// Seconds at the arithmetic ceiling and at the memory ceiling.
    fn shortest_times(&self, ceilings: &Ceilings) -> (f64, f64) {
        (self.flops as f64 / ceilings.flops, self.bytes as f64 / ceilings.bandwidth)
    }
}

/// All measurements of one run.
#[derive(Clone, Debug)]
pub struct Results {
    pub adapter: AdapterFacts,
    /// Whether the kernels are those of a browser.
    pub basic: bool,
    pub shape: Shape,
    pub samples: usize,
    pub ceilings: Ceilings,
    pub rows: Vec<Measurement>,
    /// Seconds from the start of the program to the end of its first training step.
    pub first_step: Option<f64>,
}

impl Results {
    pub(super) fn new(
        gpu: &Gpu,
        options: &BenchOptions,
        ceilings: Ceilings,
        rows: Vec<Measurement>,
        first_step: Option<f64>,
    ) -> Self {
        let BenchOptions { shape, effort, basic, .. } = options.clone();
        Results { adapter: gpu.facts().clone(), basic, shape, samples: effort.samples, ceilings, rows, first_step }
    }

    /// A JSON object, which `--baseline` reads.
    pub fn to_json(&self) -> Value {
        let row = |r: &Measurement| {
            let mut value = serde_json::to_value(r).unwrap_or_default();
            value["gflops"] = json!(r.flop_rate() / 1e9);
            value["gbs"] = json!(r.byte_rate() / 1e9);
            value["share"] = json!(r.share(&self.ceilings));
            value["bound"] = json!(r.bound(&self.ceilings));
            if r.tokens > 0 {
                value["tokens_per_second"] = json!(r.tokens as f64 / r.seconds);
            }
            value
        };
        let a = &self.adapter;
        json!({
            "program": program(),
            "adapter": { "name": a.name, "backend": a.backend, "driver": a.driver.trim(), "class": a.class.to_string() },
            "basic": self.basic,
            "shape": self.shape,
            "samples": self.samples,
            "ceilings": self.ceilings,
            "first_step": self.first_step,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// The ceilings: name and figure.
    pub fn ceiling_lines(&self) -> Vec<(&'static str, String)> {
        let c = &self.ceilings;
        let mut lines = vec![
            ("multiply-adds", format!("{} GFLOP/s", figure(c.flops / 1e9))),
            ("copying", format!("{} GB/s (a kernel: {})", figure(c.bandwidth / 1e9), figure(c.kernel_bandwidth / 1e9))),
            ("a dispatch", duration(c.dispatch)),
            ("a submission", duration(c.submit)),
            ("a submission and back", duration(c.round_trip)),
        ];
        if let Some(seconds) = self.first_step {
            lines.push(("first step", format!("{} after the start of the program", duration(seconds))));
        }
        lines
    }

    /// Column heads, and one line per measurement.
    pub fn lines(&self, baselines: &[Baseline]) -> (Vec<String>, Vec<Vec<Cell>>) {
        let mut head: Vec<String> = HEAD.iter().map(|h| h.to_string()).collect();
        head.extend(baselines.iter().map(|b| format!("x {}", b.program)));
        let lines = self.rows.iter().map(|row| {
            let mut cells: Vec<Cell> = vec![
                row.name.as_str().into(),
                duration(row.seconds).into(),
                positive(row.flop_rate() / 1e9),
                positive(row.byte_rate() / 1e9),
                format!("{:.1} {}", 100.0 * row.share(&self.ceilings), row.bound(&self.ceilings)).into(),
                if row.bytes > 0 { mebibytes(row.bytes).into() } else { "".into() },
                mebibytes(row.memory).into(),
                if row.tokens > 0 { figure(row.tokens as f64 / row.seconds).into() } else { "".into() },
            ];
            cells.extend(baselines.iter().map(|b| match b.seconds(&row.name) {
                Some(seconds) => format!("{:.2}", seconds / row.seconds).into(),
                None => "".into(),
            }));
            cells
        });
        (head, lines.collect())
    }

    /// The text for the terminal.
    pub fn to_text(&self, baselines: &[Baseline]) -> String {
        let mut text = format!("{}\n\n", self.adapter);
        for (name, value) in self.ceiling_lines() {
            text += &format!("{name:<22}  {value}\n");
        }
        if self.rows.is_empty() {
            return text;
        }
        let (head, lines) = self.lines(baselines);
        let mut table = Table::new(head);
        for line in lines {
            table.row(line);
        }
        text += &format!("\n{table}\n{}", LEGEND);
        for b in baselines {
            text += &format!("x {}: its time over ours ({})\n", b.program, b.path.display());
        }
        text
    }
}

const HEAD: [&str; 8] = ["case", "time", "GFLOP/s", "GB/s", "% of ceiling", "moved MiB", "held MiB", "tokens/s"];

/// The legend of the columns.
pub const LEGEND: &str = "% of ceiling: the least time that multiply-adds (FMA) or copying allow, whichever is longer, over the time it took. \
moved: every input read and every result written once. held: GPU buffers. Operations are those of the mathematics; \
what a kernel computes twice is not counted.\n";

/// The program's name and version, as a baseline shows them.
pub fn program() -> String {
    format!("jurist {}", env!("CARGO_PKG_VERSION"))
}

/// Times that another run or another program measured under the same names.
#[derive(Clone, Debug)]
pub struct Baseline {
    pub path: PathBuf,
    pub program: String,
    pub first_step: Option<f64>,
    rows: Vec<(String, f64)>,
}

impl Baseline {
    /// Reads the output of `--json`.
    ///
    /// # Errors
    /// A missing file, invalid JSON, or a row without `name` and `seconds`.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let fault = |reason: String| BenchError::Baseline { path: path.to_path_buf(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| fault(format!("not valid JSON: {e}")))?;
        let rows = value["rows"].as_array().ok_or_else(|| fault("it has no list `rows`".into()))?;
        let entry = |row: &Value| Some((row["name"].as_str()?.to_string(), row["seconds"].as_f64().filter(|s| *s > 0.0)?));
        let rows: Option<Vec<_>> = rows.iter().map(entry).collect();
        let rows = rows.ok_or_else(|| fault("a row lacks `name` or a positive `seconds`".into()))?;
        let program = value["program"].as_str().unwrap_or("baseline").to_string();
        Ok(Baseline { path: path.to_path_buf(), program, first_step: value["first_step"].as_f64(), rows })
    }

    /// Its time for the measurement of this name.
    pub fn seconds(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|(n, _)| n == name).map(|(_, seconds)| *seconds)
    }
}

fn positive(x: f64) -> Cell {
    if x > 0.0 { figure(x).into() } else { "".into() }
}

/// Formats three significant digits and at most three decimals.
pub fn figure(x: f64) -> String {
    let decimals = if x >= 100.0 || x == 0.0 { 0 } else { (2.0 - x.abs().log10().floor()).clamp(0.0, 3.0) as usize };
    format!("{x:.decimals$}")
}

/// Seconds in a suitable unit.
pub fn duration(seconds: f64) -> String {
    let (scale, unit) = match seconds {
        s if s >= 1.0 => (1.0, "s"),
        s if s >= 1e-3 => (1e3, "ms"),
        _ => (1e6, "µs"),
    };
    format!("{} {unit}", figure(seconds * scale))
}

fn mebibytes(bytes: u64) -> String {
    figure(bytes as f64 / f64::from(1 << 20))
}
