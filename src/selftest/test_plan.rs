//! A plan of one or a few operations with its inputs: what the checks of `doctor` and the GPU tests run.

use crate::gpu::{Gpu, GpuError, Plan, PlanBuilder, RunParam, RunParams, Tensor, Tuning};
use crate::random::Stream;

/// The sentinel that outputs hold before a kernel writes them, so that an element that no thread writes shows.
pub const UNTOUCHED: f64 = -777.25;

/// A plan under construction, the contents of its tensors, and the run parameters of its first run.
pub struct TestPlan {
    pub plan: PlanBuilder,
    writes: Vec<(Tensor, Vec<u32>)>,
    params: RunParams,
}

impl TestPlan {
    pub fn new(tuning: &Tuning) -> Self {
        TestPlan { plan: PlanBuilder::new(tuning), writes: Vec::new(), params: RunParams::default() }
    }

    /// A tensor of 32-bit words that holds `data`.
    pub fn words(&mut self, name: &str, data: &[u32]) -> Tensor {
        let tensor = self.plan.persistent(name, data.len().max(1));
        self.writes.push((tensor, data.to_vec()));
        tensor
    }

    /// A tensor of f32 that holds `data`.
    pub fn floats(&mut self, name: &str, data: &[f64]) -> Tensor {
        let bits: Vec<u32> = data.iter().map(|x| (*x as f32).to_bits()).collect();
        self.words(name, &bits)
    }

    /// A tensor that an operation is to fill; holds [`UNTOUCHED`] before.
    pub fn output(&mut self, name: &str, words: usize) -> Tensor {
        self.floats(name, &vec![UNTOUCHED; words])
    }

    /// A run parameter of the plan, and its value in the first run.
    pub fn run_param(&mut self, value: u32) -> RunParam {
        let param = self.plan.run_param();
        self.params.set(param, value);
        param
    }

    /// Builds the plan and writes its inputs.
    pub fn build(self, gpu: &Gpu) -> Result<BuiltTestPlan, GpuError> {
        let plan = self.plan.build(gpu)?;
        for (tensor, data) in &self.writes {
            plan.write(*tensor, data)?;
        }
        Ok(BuiltTestPlan { plan, params: self.params })
    }

    /// Builds the plan, writes its inputs and runs it once.
    pub fn build_and_run(self, gpu: &Gpu) -> Result<BuiltTestPlan, GpuError> {
        let built = self.build(gpu)?;
        built.plan.run(&built.params)?;
        Ok(built)
    }
}

/// A [`TestPlan`] that has been built. Its tensors can be read after a run.
pub struct BuiltTestPlan {
    pub plan: Plan,
    pub params: RunParams,
}

impl BuiltTestPlan {
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
