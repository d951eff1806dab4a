//! What a step learns from: the supervised losses, and rewards, advantages and the policy gradient; and the steps themselves.

pub mod advantage;
pub mod engine;
pub mod optimiser;
pub mod policy;
pub mod reward;
pub mod schedule;
pub mod trainer;
