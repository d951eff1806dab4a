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
    /// adapter are left out, which takes about a second; [`open`] says how each did.
    ///
    /// # Errors
    /// No adapter, or none with that name; a device that fails.
    pub async fn open(options: &GpuOptions) -> Result<Gpu, GpuError> {
        Ok(open(options, Work::Training).await?.0)
    }
}
