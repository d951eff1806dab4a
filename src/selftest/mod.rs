//! Does this adapter compute what it should? Every operation against the f64 loops of `reference`, and [`open`], which leaves
//! out the optional kernels that fail there.

pub mod kernels;
mod report;
pub mod rig;
mod variants;

pub use kernels::kernels;
pub use report::{Finding, Report};
pub use variants::{Verdict, Work, open};
