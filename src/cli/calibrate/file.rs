//! The file of a calibration of columns.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::{CliError, TerminalProgress};
use crate::eval::recalibration::Recalibration;
use crate::files::FileError;
use crate::judge::Scale;
use crate::progress::Progress;

/// Version of the file.
const FORMAT: u32 = 1;

/// The file of a calibration of columns.
#[derive(Debug, Serialize, Deserialize)]
pub struct CalibrationFile {
    /// Which says that it is one.
    jurist_calibration: u32,
    pub scale: Scale,
    #[serde(flatten)]
    pub fitted: Recalibration,
}

/// Writes a calibration to a file of its own.
pub fn write(output: &Path, scale: &Scale, fitted: Recalibration, progress: &mut TerminalProgress) -> Result<(), CliError> {
    let file = CalibrationFile { jurist_calibration: FORMAT, scale: scale.clone(), fitted };
    let text = serde_json::to_string_pretty(&file).unwrap_or_default() + "\n";
    crate::files::write_own(output, text.as_bytes(), is_calibration)?;
    progress.note(&format!("kept in {}: --apply adds its calibrated scores to rows", output.display()));
    Ok(())
}

/// The calibration in a file.
///
/// # Errors
/// A file that cannot be read, or that is none.
pub fn read(file: &Path) -> Result<CalibrationFile, CliError> {
    let text = std::fs::read_to_string(file).map_err(|e| FileError::io("read", file, e))?;
    let broken = |found| CliError::Failed(format!("{}: it is no calibration of jurist calibrate: {found}", file.display()));
    parse(&text).map_err(broken)
}

/// Whether a text is that of such a file.
pub fn is_calibration(text: &str) -> bool {
    parse(text).is_ok()
}

/// The calibration in the text of a file.
fn parse(text: &str) -> Result<CalibrationFile, String> {
    let file: CalibrationFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if file.jurist_calibration != FORMAT {
        return Err(format!("it has format {}, and this version of jurist reads {FORMAT}", file.jurist_calibration));
    }
    file.fitted.fault().map_or(Ok(()), |fault| Err(fault.to_string()))?;
    Ok(file)
}
