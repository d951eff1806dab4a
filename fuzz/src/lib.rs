//! Fuzz targets for everything that reads outside data. `make fuzz` runs them; `docs/reliability.md` says what they found.

pub mod memory;
pub mod targets;

use std::panic::{PanicHookInfo, catch_unwind, set_hook};
use std::sync::Mutex;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// What the latest panic said, and where.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// The fuzz target of this name.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        libfuzzer_sys::fuzz_target!(init: $crate::keep_panics(), |data: &[u8]| $crate::run($crate::targets::$name, data));
    };
}

/// libFuzzer's own hook ends the program at every panic. A panic that the library catches and turns into an error is no
/// finding: so panics are noted here, and only one that comes out of a target ends the program.
pub fn keep_panics() {
    set_hook(Box::new(|info: &PanicHookInfo| {
        if let Ok(mut panic) = PANIC.lock() {
            *panic = info.to_string();
        }
    }));
}

/// Runs a target; a panic is told, and ends the program. One that holds a text of `KNOWN_PANICS` (with `;` between them) is
/// passed over: to look for others while it is being mended.
pub fn run(target: fn(&[u8]), data: &[u8]) {
    if catch_unwind(|| target(data)).is_ok() {
        return;
    }
    let panic = PANIC.lock().map(|panic| panic.clone()).unwrap_or_default();
    if std::env::var("KNOWN_PANICS").is_ok_and(|known| known.split(';').any(|text| panic.contains(text))) {
        return;
    }
    eprintln!("{panic}");
    std::process::abort();
}
