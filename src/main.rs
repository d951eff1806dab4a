#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Without a desktop, Mesa's device-selection layer looks for one and prints an "error:" that is none.
        // SAFETY: the first statement of the program; no other thread exists.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    jurist::run(std::env::args_os())
}
