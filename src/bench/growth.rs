//! Measures how cost grows: of a training step with tokens, sequences and width, and of a rollout with samples.

use serde::Serialize;

use super::clock::Effort;
use super::model;
use super::row::Measurement;
use super::{BenchError, Shape};
use crate::gpu::Gpu;
use crate::progress::Progress;

/// One curve: the growing size, and the measurement at each size.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// The key in file names: `tokens`, `batch`, `hidden`, `samples`.
    pub key: &'static str,
    pub title: String,
    /// The unit of the sizes.
    pub unit: &'static str,
    pub points: Vec<Point>,
    /// Why larger sizes are missing.
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

/// The limits of a curve.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    pub effort: Effort,
    /// Measure only the smallest three sizes of each curve.
    pub quick: bool,
    /// The most seconds per run. A size is skipped if its run would take longer, assuming that cost quadruples with each
    /// doubling.
    pub patience: f64,
}

/// Measures all four curves.
pub async fn measure(gpu: &Gpu, shape: &Shape, reach: Reach, progress: &mut dyn Progress) -> Result<Vec<Curve>, BenchError> {
    let wide = |hidden: usize| Shape {
        hidden,
        heads: (hidden / shape.head_dim).max(1),
        kv_heads: (hidden / shape.head_dim / 2).max(1),
        ffn: 3 * hidden,
        ..shape.clone()
    };
    let plans = [
        CurvePlan {
            key: "tokens",
            title: "training step of one sequence".into(),
            unit: "tokens",
            sizes: vec![128, 256, 512, 1024, 2048, 4096, 8192],
            shape: &|tokens| Shape { batch: 1, tokens, ..shape.clone() },
            rollout: false,
        },
        CurvePlan {
            key: "batch",
            title: format!("training step, sequences of {} tokens", shape.tokens),
            unit: "sequences",
            sizes: vec![1, 2, 4, 8, 16, 32],
            shape: &|batch| Shape { batch, ..shape.clone() },
            rollout: false,
        },
        CurvePlan {
            key: "hidden",
            title: format!("training step {}x{}, SwiGLU 3 x hidden", shape.batch, shape.tokens),
            unit: "hidden size",
            sizes: vec![64, 128, 256, 512, 1024],
            shape: &wide,
            rollout: false,
        },
        CurvePlan {
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

/// A curve to measure.
struct CurvePlan<'a> {
    key: &'static str,
    title: String,
    unit: &'static str,
    sizes: Vec<usize>,
    shape: &'a dyn Fn(usize) -> Shape,
    rollout: bool,
}

impl CurvePlan<'_> {
    async fn measure(self, gpu: &Gpu, reach: Reach, progress: &mut dyn Progress) -> Result<Curve, BenchError> {
        let CurvePlan { key, title, unit, sizes, shape, rollout } = self;
        let mut curve = Curve { key, title, unit, points: Vec::new(), stopped: None };
        let count = if reach.quick { 3 } else { sizes.len() };
        for size in sizes.into_iter().take(count) {
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
                    // A size too large for this adapter ends the curve; a lost device ends the run.
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
    fn of(size: usize, row: &Measurement) -> Self {
        Point { size, seconds: row.seconds, tokens_per_second: row.tokens as f64 / row.seconds, memory: row.memory }
    }
}
