//! A few operations on given numbers: what the checks of `doctor` and the GPU tests run.

use crate::gpu::{Gpu, GpuError, Plan, PlanBuilder, RunParam, RunParams, Tensor, Tuning};
use crate::random::Stream;

/// What outputs hold before a kernel writes them: an element that no thread owns shows.
pub const UNTOUCHED: f64 = -777.25;

/// A plan under construction and the numbers to run it on.
pub struct Rig {
    pub plan: PlanBuilder,
    writes: Vec<(Tensor, Vec<u32>)>,
    lives: RunParams,
}

impl Rig {
    pub fn new(tuning: &Tuning) -> Self {
        Rig { plan: PlanBuilder::new(tuning), writes: Vec::new(), lives: RunParams::default() }
    }

    pub fn words(&mut self, name: &str, data: &[u32]) -> Tensor {
        let tensor = self.plan.persistent(name, data.len().max(1));
        self.writes.push((tensor, data.to_vec()));
        tensor
    }

    pub fn floats(&mut self, name: &str, data: &[f64]) -> Tensor {
        let bits: Vec<u32> = data.iter().map(|x| (*x as f32).to_bits()).collect();
        self.words(name, &bits)
    }

    /// A tensor that an operation is to fill; holds [`UNTOUCHED`] before.
    pub fn output(&mut self, name: &str, words: usize) -> Tensor {
        self.floats(name, &vec![UNTOUCHED; words])
    }

    /// A live value of the plan, and what it is in the first run.
    pub fn live(&mut self, value: u32) -> RunParam {
        let live = self.plan.run_param();
        self.lives.set(live, value);
        live
    }

    /// Builds the plan and writes its inputs.
    pub fn build(self, gpu: &Gpu) -> Result<Ran, GpuError> {
        let plan = self.plan.build(gpu)?;
        for (tensor, data) in &self.writes {
            plan.write(*tensor, data)?;
        }
        Ok(Ran { plan, lives: self.lives })
    }

    /// Builds and runs once.
    pub fn start(self, gpu: &Gpu) -> Result<Ran, GpuError> {
        let ran = self.build(gpu)?;
        ran.plan.run(&ran.lives)?;
        Ok(ran)
    }
}

/// A plan that can run, or has run.
pub struct Ran {
    pub plan: Plan,
    pub lives: RunParams,
}

impl Ran {
    pub fn write_floats(&self, tensor: Tensor, data: &[f64]) -> Result<(), GpuError> {
        let data: Vec<f32> = data.iter().map(|x| *x as f32).collect();
        self.plan.write(tensor, &data)
    }

    /// All of a tensor.
    pub async fn read_words(&self, tensor: Tensor) -> Result<Vec<u32>, GpuError> {
        let words = self.plan.buffer(tensor)?.words;
        self.plan.read(tensor, words).await
    }

    /// All of a tensor.
    pub async fn read_floats(&self, tensor: Tensor) -> Result<Vec<f64>, GpuError> {
        Ok(self.read_words(tensor).await?.into_iter().map(|w| f64::from(f32::from_bits(w))).collect())
    }
}

/// `n` standard normal numbers of stream `seed`, rounded to `f32` so that both sides compute with the same inputs.
pub fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut stream = Stream::new(seed, 0x7e57);
    (0..n).map(|_| f64::from(stream.normal() as f32)).collect()
}

/// As [`random`], around 1: norm weights.
pub fn around_one(n: usize, seed: u64) -> Vec<f64> {
    random(n, seed).into_iter().map(|x| f64::from((1.0 + 0.3 * x) as f32)).collect()
}

/// Element by element.
pub fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
