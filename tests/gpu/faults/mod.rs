//! Faults that users met, each kind as a table: the input, what must be said or computed, and what must be left alone.

mod adapters;
mod corpus;
pub mod exact;
mod numbers;
mod outputs;
mod peft;
mod places;
mod rows;
mod server;
mod settings;
mod text;
