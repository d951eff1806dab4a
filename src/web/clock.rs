//! The clock of the worker. `std::time` does not exist in wasm.

use js_sys::{Function, Reflect};
use wasm_bindgen::JsCast;

/// Milliseconds since the worker began (`performance.now()`).
pub fn now() -> f64 {
    let read = || {
        let performance = Reflect::get(&js_sys::global(), &"performance".into()).ok()?;
        let now = Reflect::get(&performance, &"now".into()).ok()?.dyn_into::<Function>().ok()?;
        now.call0(&performance).ok()?.as_f64()
    };
    read().unwrap_or_else(js_sys::Date::now)
}

/// Seconds since `start`, a value of [`now`].
pub fn seconds_since(start: f64) -> f64 {
    (now() - start) / 1000.0
}
