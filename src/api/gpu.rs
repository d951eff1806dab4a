//! The GPU that judges and trainers share.

use super::Error;
use crate::gpu::{Gpu, GpuOptions};
use crate::selftest::{self, Work};
use crate::system::free_memory;

impl Gpu {
    /// Opens an adapter for judging and training. Its optional kernels are tried first, and those that compute something else on
    /// this adapter are left out; that takes some tenths of a second. On a software adapter buffers may take the memory that is
    /// free now, unless `options` say how much.
    ///
    /// # Errors
    /// No adapter, or none with that name; a device that fails.
    pub fn open(options: &GpuOptions) -> Result<Gpu, Error> {
        pollster::block_on(Gpu::open_async(options))
    }

    /// As [`Gpu::open`], as a future. It waits for the GPU on the thread that polls it.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_async(options: &GpuOptions) -> Result<Gpu, Error> {
        let software_memory = options.software_memory.or_else(free_memory);
        let (gpu, _) = selftest::open(&GpuOptions { software_memory, ..options.clone() }, Work::Training).await?;
        Ok(gpu)
    }
}
