//! What commands write, and what they leave alone.
