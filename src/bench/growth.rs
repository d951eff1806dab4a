//! How cost grows: a training step with its tokens, sequences and width, a rollout with its samples.

use serde::Serialize;

use super::clock::Effort;
use super::model;
use super::row::Row;
use super::{BenchError, Shape};
use crate::gpu::Gpu;
use crate::progress::Progress;

/// One curve: what grows, and what was measured at each size.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// For file names: `tokens`, `batch`, `hidden`, `samples`.
    pub key: &'static str,
    pub title: String,
    /// What x counts.
    pub unit: &'static str,
    pub points: Vec<Point>,
    /// Why larger sizes are not there.
    pub stopped: Option<String>,
}

/// One measured size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    pub size: usize,
    pub seconds: f64,
    pub tokens_per_second: f64,
    /// Bytes of GPU buffers.
    pub memory: u64,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    pub effort: Effort,
    /// Only the smallest three sizes of each curve.
    pub quick: bool,
    /// A size whose run would take longer, if cost quadrupled with each doubling, is left out: seconds.
    pub patience: f64,
}

/// All four curves.
pub async fn measure(gpu: &Gpu, shape: &Shape, reach: Reach, progress: &mut dyn Progress) -> Result<Vec<Curve>, BenchError> {
    let wide = |hidden: usize| Shape {
        hidden,
        heads: (hidden / shape.head_dim).max(1),
        kv_heads: (hidden / shape.head_dim / 2).max(1),
        ffn: 3 * hidden,
        ..shape.clone()
    };
    let plans = [
        Plan {
            key: "tokens",
            title: "training step of one sequence".into(),
            unit: "tokens",
            sizes: vec![128, 256, 512, 1024, 2048, 4096, 8192],
            shape: &|tokens| Shape { batch: 1, tokens, ..shape.clone() },
            rollout: false,
        },
        Plan {
            key: "batch",
            title: format!("training step, sequences of {} tokens", shape.tokens),
            unit: "sequences",
            sizes: vec![1, 2, 4, 8, 16, 32],
            shape: &|batch| Shape { batch, ..shape.clone() },
            rollout: false,
        },
        Plan {
            key: "hidden",
            title: format!("training step {}x{}, SwiGLU 3 x hidden", shape.batch, shape.tokens),
            unit: "hidden size",
            sizes: vec![64, 128, 256, 512, 1024],
            shape: &wide,
            rollout: false,
        },
        Plan {
            key: "samples",
            title: format!("rollout of one prompt, {}+{} tokens", shape.prompt, shape.new_tokens),
            unit: "samples",
            sizes: vec![1, 2, 4, 8, 16, 32, 64],
            shape: &|samples| Shape { samples, ..shape.clone() },
            rollout: true,
        },
    ];
    let mut curves = Vec::new();
    for plan in plans {
        curves.push(plan.measure(gpu, reach, progress).await?);
    }
    Ok(curves)
}

/// A curve to be measured.
struct Plan<'a> {
    key: &'static str,
    title: String,
    unit: &'static str,
    sizes: Vec<usize>,
    shape: &'a dyn Fn(usize) -> Shape,
    rollout: bool,
}

impl Plan<'_> {
    async fn measure(self, gpu: &Gpu, reach: Reach, progress: &mut dyn Progress) -> Result<Curve, BenchError> {
        let Plan { key, title, unit, sizes, shape, rollout } = self;
        let mut curve = Curve { key, title, unit, points: Vec::new(), stopped: None };
        let most = if reach.quick { 3 } else { sizes.len() };
        for size in sizes.into_iter().take(most) {
            if let Some(last) = curve.points.last().filter(|p| 4.0 * p.seconds > reach.patience) {
                curve.stopped = Some(format!("{size} {unit} might take {:.0} s a run", 4.0 * last.seconds));
                break;
            }
            progress.note(&format!("{}: {size} {unit}", curve.title));
            let shape = shape(size);
            let row = match rollout {
                true => model::measure_rollout(gpu, &shape, reach.effort).await,
                false => model::measure_step(gpu, &shape, reach.effort).await,
            };
            match row {
                Ok(row) => curve.points.push(Point::of(size, &row)),
                Err(e) => {
                    // Too large for this adapter ends a curve; a device that is lost ends the run.
                    gpu.check()?;
                    curve.stopped = Some(format!("{size} {unit}: {e}"));
                    break;
                }
            }
        }
        Ok(curve)
    }
}

impl Point {
    fn of(size: usize, row: &Row) -> Self {
        Point { size, seconds: row.seconds, tokens_per_second: row.tokens as f64 / row.seconds, memory: row.memory }
    }
}
