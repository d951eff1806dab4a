//! When a command that judges or measures rows has failed.

use super::CliError;
use crate::words::count;

/// Fails where no row at all could be judged, and with `strict` where any could not; `first` says why.
///
/// # Errors
/// As said.
pub fn require_judged(failed: usize, rows: usize, strict: bool, first: Option<&str>) -> Result<(), CliError> {
    let why = first.map_or(String::new(), |error| format!(", the first: {error}"));
    match failed {
        0 => Ok(()),
        _ if failed == rows => Err(CliError::Failed(format!("none of {} could be judged{why}", count(rows, "row")))),
        _ if strict => Err(CliError::Failed(format!("{failed} of {} could not be judged (--strict){why}", count(rows, "row")))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_strict() {
        for (failed, rows, strict, message) in [
            (0, 3, true, None),
            (0, 0, true, None),
            (1, 3, false, None),
            (1, 3, true, Some("1 of 3 rows could not be judged (--strict), the first: why")),
            (3, 3, false, Some("none of 3 rows could be judged, the first: why")),
        ] {
            let found = require_judged(failed, rows, strict, Some("why"));
            assert_eq!(found.err().and_then(|e| e.message()).as_deref(), message);
        }
    }
}
