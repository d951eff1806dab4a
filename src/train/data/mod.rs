//! Rows as training sees them: prepared examples, the order in which they come, and how they lie in a packed batch.

pub mod examples;
pub mod order;
pub mod pack;
