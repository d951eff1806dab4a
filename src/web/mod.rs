//! The judge as a web page uses it. This module exists only in wasm, and `web/worker.js` calls it.
//!
//! ```text
//! Engine.open ─► check_bundle ─► Loader (push, push, …, finish) ─► WebJudge: score, score_batch, train, export_bundle
//! ```
//!
//! Rows, options and results are JSON in strings. A call that waits for the GPU gives a promise, and the worker receives messages
//! while it waits. Errors are `Error`s whose `name` is a code and whose message is one plain sentence: see [`failure`].
//! Nothing here fetches or stores files. The worker checks their bytes with [`Sha256`] first.

mod clock;
mod engine;
mod export;
mod failure;
mod judge;
mod loader;
mod metrics;
mod rows;
mod sha256;
mod train;

pub use engine::{Engine, check_bundle};
pub use export::BundleFiles;
pub use failure::Failure;
pub use judge::WebJudge;
pub use loader::Loader;
pub use metrics::agreement;
pub use sha256::Sha256;

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Runs when the module starts. A defect that ends the engine is written to the console and thrown with its own message. Without
/// that, the page would only learn of an unreachable instruction.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| {
        console_error(&info.to_string());
        wasm_bindgen::throw_str(info.payload_as_str().unwrap_or("panicked"));
    }));
}
