//! Checks that an adapter computes every operation as the f64 loops of `reference` do, and [`Gpu::open`], which leaves out the
//! optional kernels that fail.

pub mod kernels;
mod report;
pub mod rig;
pub mod stored;
mod variants;

pub use kernels::kernels;
pub use report::{Finding, Report};
pub use variants::{Verdict, Work, open};

use crate::gpu::{Gpu, GpuError, GpuOptions};

impl Gpu {
    /// Opens an adapter for judging and training. Optional kernels are checked first, which takes about a second, and those that
    /// fail on this adapter are left out.
    ///
    /// # Errors
    /// No adapter, or none with that name; a device that fails.
    pub async fn open(options: &GpuOptions) -> Result<Gpu, GpuError> {
        Gpu::open_for(options, Work::Training).await
    }

    /// As [`Gpu::open`], but checks only the kernels of this work. On a software adapter the limit for buffers is the memory that
    /// is free now, unless `options` name one.
    #[doc(hidden)]
    pub async fn open_for(options: &GpuOptions, work: Work) -> Result<Gpu, GpuError> {
        let software_memory = options.software_memory.or_else(crate::system::free_memory);
        Ok(open(&GpuOptions { software_memory, ..options.clone() }, work).await?.0)
    }
}
