//! Tests that cannot run here. libtest knows no such outcome: it counts them as passed, and hides what passing tests print. So
//! each is also written to the file that `SKIPPED_TESTS` names, a line each, from which `scripts/test.sh` counts them.
//! Where the reason is known when a test is compiled, `#[ignore = "reason"]` is enough.

use std::fmt::Display;
use std::io::Write;

/// Says why the test that calls this does not run here. The test must return then.
#[track_caller]
pub fn skip(reason: impl Display) {
    println!("skipped: {reason}");
    let Some(file) = std::env::var_os("SKIPPED_TESTS") else { return };
    let thread = std::thread::current();
    // The name of the test, but where tests run one after another in the main thread.
    let place = std::panic::Location::caller();
    let test = match thread.name() {
        None | Some("main") => format!("{}:{}", place.file(), place.line()),
        Some(test) => test.to_string(),
    };
    let line = format!("{}::{test}: {}\n", env!("CARGO_CRATE_NAME"), reason.to_string().replace('\n', " "));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("SKIPPED_TESTS names a file that can be written");
}
