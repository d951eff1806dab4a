//! Panics of other people's code on other people's files, as errors.

/// What `work` returns; or, where it panics, what it said. Nothing is printed. In a browser a panic ends the worker instead.
///
/// # Errors
/// The panic's message.
#[cfg(target_arch = "wasm32")]
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    Ok(work())
}

/// What `work` returns; or, where it panics, what it said. Nothing is printed: this thread's panics are silenced meanwhile, those
/// of other threads are not.
///
/// # Errors
/// The panic's message.
#[cfg(not(target_arch = "wasm32"))]
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    native::install();
    let silence = native::Silence::begin();
    // What `work` had in hand when it panicked is dropped or never looked at again.
    let result = catch_unwind(AssertUnwindSafe(work));
    drop(silence);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let said = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        said.lines().next().unwrap_or_default().to_string()
    })
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::cell::Cell;
    use std::sync::Once;

    thread_local! {
        /// How many [`Silence`]s this thread is in.
        static SILENT: Cell<u32> = const { Cell::new(0) };
    }

    /// Puts a hook in front of the one that is there, once.
    pub fn install() {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            let others = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if SILENT.with(Cell::get) == 0 {
                    others(info);
                }
            }));
        });
    }

    pub struct Silence;

    impl Silence {
        pub fn begin() -> Self {
            SILENT.with(|depth| depth.set(depth.get() + 1));
            Silence
        }
    }

    impl Drop for Silence {
        fn drop(&mut self) {
            SILENT.with(|depth| depth.set(depth.get() - 1));
        }
    }
}
