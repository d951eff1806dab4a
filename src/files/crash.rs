//! For tests of what a killed program leaves: points at which it ends itself.

/// Ends the program at once, as a kill does, if `JURIST_CRASH_AT` is the name of this point; at the third time for `NAME:3`.
/// Nothing is flushed, dropped or told. Without the variable, which nobody sets but tests, this does nothing.
#[cfg(feature = "internals")]
pub fn crash_point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static AT: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let at = AT.get_or_init(|| {
        let text = std::env::var("JURIST_CRASH_AT").ok()?;
        let (name, time) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_string(), time.parse().ok()?))
    });
    if let Some((wanted, time)) = at
        && wanted == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *time
    {
        std::process::abort();
    }
}

/// Whatever the environment says: what is shipped does not end itself.
#[cfg(not(feature = "internals"))]
pub fn crash_point(_name: &str) {}
