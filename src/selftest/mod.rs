//! Checks that an adapter computes every operation as the f64 loops of `reference` do, and [`open`], which leaves out the
//! optional kernels that fail.

pub mod kernels;
mod report;
pub mod stored;
pub mod test_plan;
mod variants;

pub use kernels::kernels;
pub use report::{Finding, Report};
pub use variants::{Trial, Verdict, Work, open, tried};
