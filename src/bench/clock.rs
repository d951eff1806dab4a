//! Time: the median of several samples, on the adapter's clock where it has one, else on the wall's.

use std::time::Instant;

use crate::gpu::{Gpu, GpuError, Plan, RunParams};

/// How much time to spend on a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Samples, of which the median counts.
    pub samples: usize,
    /// Seconds that a sample should last: short work is repeated within it.
    pub seconds: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { samples: 7, seconds: 0.15 }
    }
}

impl Effort {
    /// For a look, or a test.
    pub const QUICK: Effort = Effort { samples: 3, seconds: 0.02 };
}

/// A measured time.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Of one run: the median.
    pub seconds: f64,
    /// On the adapter's clock.
    pub timestamps: bool,
}

/// Most repetitions within one sample.
const MOST: f64 = 4096.0;

/// The middle of `samples`; of an even number, the mean of the two in the middle. 0 for none.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let n = samples.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => samples[n / 2],
        _ => (samples[n / 2 - 1] + samples[n / 2]) / 2.0,
    }
}

/// How long `work` takes that waits for its own end, after one run that is not counted.
pub async fn wall<E>(effort: Effort, mut work: impl AsyncFnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut samples = Vec::new();
    work().await?;
    // One sample of something very long says enough.
    let begin = Instant::now();
    while samples.len() < effort.samples && (samples.len() < 3 || begin.elapsed().as_secs_f64() < 60.0) {
        let start = Instant::now();
        work().await?;
        samples.push(start.elapsed().as_secs_f64());
    }
    Ok(median(samples))
}

/// How long one run of `plan` takes, many in a row.
pub async fn plan(gpu: &Gpu, plan: &Plan, live: &RunParams, effort: Effort) -> Result<Timing, GpuError> {
    let wait = |times: usize| -> Result<f64, GpuError> {
        let start = Instant::now();
        plan.run_times(live, times)?;
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first run compiles, the second one tells how many fit a sample.
    wait(1)?;
    let once = wait(1)?.max(1e-7);
    let times = (effort.seconds / once).clamp(1.0, MOST) as usize;
    let (mut samples, mut timestamps) = (Vec::new(), true);
    for _ in 0..effort.samples.max(1) {
        match plan.seconds(live, times).await? {
            // A clock that stands still is none.
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
