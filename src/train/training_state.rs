//! training_state
