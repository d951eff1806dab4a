//! The web room: the judge as a page sees it. Only in wasm; `web/worker.js` is what calls it.
//!
//! ```text
//! Engine.open ─► check_bundle ─► Loader (push, push, …, finish) ─► WebJudge: score, score_batch, train, export_bundle
//! ```
//!
//! Rows, options and results are JSON in strings. What waits for the GPU is a promise; while one waits, the worker hears its
//! messages. Errors are `Error`s whose `name` is a code and whose message is one plain sentence: see [`failure`].
//! Nothing here fetches, stores or hashes downloads; bytes come in checked.

mod clock;
mod engine;
mod export;
mod failure;
mod judge;
mod loader;
mod rows;
mod train;

pub use engine::{Engine, check_bundle};
pub use export::BundleFiles;
pub use failure::Failure;
pub use judge::WebJudge;
pub use loader::Loader;

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Runs when the module starts. A defect that ends the engine is told in the console, and thrown with its own words: without them
/// the page would only hear of an unreachable instruction.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| {
        console_error(&info.to_string());
        wasm_bindgen::throw_str(info.payload_as_str().unwrap_or("panicked"));
    }));
}
