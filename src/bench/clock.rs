//! Measures time: the median of several samples, by GPU timestamps where the adapter has them, else by the host's clock.

use std::time::Instant;

use crate::gpu::{Gpu, GpuError, Plan, RunParams};

/// The time to spend on a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// The number of samples; the median counts.
    pub samples: usize,
    /// Seconds per sample. Short work is repeated within a sample.
    pub seconds: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { samples: 7, seconds: 0.15 }
    }
}

impl Effort {
    /// For a quick look, or a test.
    pub const QUICK: Effort = Effort { samples: 3, seconds: 0.02 };
}

/// A measured time.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Seconds per run: the median.
    pub seconds: f64,
    /// Measured by GPU timestamps.
    pub timestamps: bool,
}

/// The most repetitions within one sample.
const MAX_REPETITIONS: f64 = 4096.0;

/// The median of `samples`: for an even number, the mean of the two middle ones. 0 for an empty list.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let n = samples.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => samples[n / 2],
        _ => (samples[n / 2 - 1] + samples[n / 2]) / 2.0,
    }
}

/// The duration of `work`, which must wait for its own end. One warm-up run is not counted.
pub async fn wall<E>(effort: Effort, mut work: impl AsyncFnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut samples = Vec::new();
    work().await?;
    // Three samples are enough for very long work.
    let begin = Instant::now();
    while samples.len() < effort.samples && (samples.len() < 3 || begin.elapsed().as_secs_f64() < 60.0) {
        let start = Instant::now();
        work().await?;
        samples.push(start.elapsed().as_secs_f64());
    }
    Ok(median(samples))
}

/// The duration of one run of `plan`, measured over many consecutive runs.
pub async fn plan(gpu: &Gpu, plan: &Plan, params: &RunParams, effort: Effort) -> Result<Timing, GpuError> {
    let wait = |times: usize| -> Result<f64, GpuError> {
        let start = Instant::now();
        plan.run_times(params, times)?;
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first run compiles. The second determines how many runs fit into a sample.
    wait(1)?;
    let once = wait(1)?.max(1e-7);
    let times = (effort.seconds / once).clamp(1.0, MAX_REPETITIONS) as usize;
    let (mut samples, mut timestamps) = (Vec::new(), true);
    for _ in 0..effort.samples.max(1) {
        match plan.seconds(params, times).await? {
            // Timestamps that do not advance are unusable.
            Some(seconds) if seconds > 0.0 && timestamps => samples.push(seconds),
            _ => {
                if std::mem::replace(&mut timestamps, false) {
                    samples.clear();
                }
                samples.push(wait(times)? / times as f64);
            }
        }
    }
    Ok(Timing { seconds: median(samples), timestamps })
}
