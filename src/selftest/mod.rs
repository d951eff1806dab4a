//! Does this adapter compute what it should? Every operation against the f64 loops of `reference`, and [`Gpu::open`], which
//! leaves out the optional kernels that fail there.

pub mod kernels;
mod report;
pub mod rig;
mod variants;

pub use kernels::kernels;
pub use report::{Finding, Report};
pub use variants::{Verdict, Work, open};

use crate::gpu::{Gpu, GpuError, GpuOptions};

impl Gpu {
    /// Opens an adapter for judging and training. Optional kernels are tried first and those that compute something else on this
    /// adapter are left out, which takes about a second.
    ///
    /// # Errors
    /// No adapter, or none with that name; a device that fails.
    pub async fn open(options: &GpuOptions) -> Result<Gpu, GpuError> {
        Gpu::open_for(options, Work::Training).await
    }

    /// As [`Gpu::open`], with the kernels of this work tried only. On a software adapter buffers may take the memory that is free
    /// now, unless `options` say how much.
    #[doc(hidden)]
    pub async fn open_for(options: &GpuOptions, work: Work) -> Result<Gpu, GpuError> {
        let software_memory = options.software_memory.or_else(crate::system::free_memory);
        Ok(open(&GpuOptions { software_memory, ..options.clone() }, work).await?.0)
    }
}
