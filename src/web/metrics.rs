//! How well scores agree with people's: the same metrics as `jurist eval`.

use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::eval::{Measured, pearson, rmse, spearman};

/// RMSE, Pearson and Spearman of two columns, as JSON. A figure that does not exist for them is null.
#[wasm_bindgen]
pub fn agreement(human: &[f64], judge: &[f64]) -> String {
    agreement_of(human, judge).to_string()
}

pub(super) fn agreement_of(human: &[f64], judge: &[f64]) -> Value {
    let figure = |measured: Measured| measured.ok();
    json!({
        "rmse": figure(rmse(human, judge)),
        "pearson": figure(pearson(human, judge)),
        "spearman": figure(spearman(human, judge)),
    })
}
