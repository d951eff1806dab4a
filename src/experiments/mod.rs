//! Experiments on a synthetic task: the demo, and methods compared on a protocol.

pub mod compare;
pub mod demo;
pub mod synthetic;
