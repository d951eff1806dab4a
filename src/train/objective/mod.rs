//! Training steps and their objectives: the supervised losses, rewards, advantages and the policy gradient.

pub mod advantage;
pub mod engine;
pub mod gradient_sum;
pub mod optimiser;
pub mod policy;
pub mod reward;
pub mod schedule;
pub mod step;
pub mod supervised;
pub mod tree;
