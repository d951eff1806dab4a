//! Weights at the ends of f32: the value of f64, or an error of the row.
