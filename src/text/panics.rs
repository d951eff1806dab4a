//! Turns panics of third-party code on untrusted files into errors.

/// Runs `work` and returns its result. In a browser a panic ends the worker.
///
/// # Errors
/// The panic's message.
#[cfg(target_arch = "wasm32")]
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    Ok(work())
}

/// Runs `work` and returns its result, or the panic's message if it panics. Nothing is printed: panics of this thread are
/// silenced meanwhile, those of other threads are not.
///
/// # Errors
/// The panic's message.
#[cfg(not(target_arch = "wasm32"))]
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    native::install();
    let silence = native::Silence::begin();
    // Values that `work` held when it panicked are dropped or never read again.
    let result = catch_unwind(AssertUnwindSafe(work));
    drop(silence);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let message = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        message.lines().next().unwrap_or_default().to_string()
    })
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::cell::Cell;
    use std::sync::Once;

    thread_local! {
        /// The number of live [`Silence`]s of this thread.
        static SILENT: Cell<u32> = const { Cell::new(0) };
    }

    /// Installs a panic hook in front of the existing one, once.
    pub fn install() {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if SILENT.with(Cell::get) == 0 {
                    previous(info);
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
