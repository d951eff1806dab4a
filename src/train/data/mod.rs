//! The training data: rows as prepared examples, their order, and packed batches of them.

pub mod examples;
pub mod order;
pub mod pack;
