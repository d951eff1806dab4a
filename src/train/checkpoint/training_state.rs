//! `training_state.safetensors`: the optimiser's state in f32, beside the weights of a checkpoint. For a parameter `p` it
//! contains `master.p` and AdamW's moments under torch's names, `exp_avg.p` and `exp_avg_sq.p`.
//!
//! Three values per parameter would take too much memory at once: the file is written and read tensor by tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use crate::train::TrainError;
use crate::train::error::{BoxError, io_error};

/// The file's name in a checkpoint.
pub const TRAINING_STATE: &str = "training_state.safetensors";

/// Most bytes of a header.
const MAX_HEADER: u64 = 100 << 20;

/// The stored tensors of each parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatePart {
    /// The f32 weights; those of the saved model may have a narrower dtype.
    Master,
    /// AdamW's first moment, m.
    ExpAvg,
    /// AdamW's second moment, v.
    ExpAvgSq,
}

impl StatePart {
    pub const ALL: [StatePart; 3] = [StatePart::Master, StatePart::ExpAvg, StatePart::ExpAvgSq];

    fn prefix(self) -> &'static str {
        match self {
            StatePart::Master => "master",
            StatePart::ExpAvg => "exp_avg",
            StatePart::ExpAvgSq => "exp_avg_sq",
        }
    }

    /// The tensor's name in the file.
    pub fn name(self, parameter: &str) -> String {
        format!("{}.{parameter}", self.prefix())
    }
}

/// A trained parameter, by its Hugging Face name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Parameter {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Writes a part of a parameter into an empty buffer.
pub type Supply<'a> = dyn FnMut(StatePart, &Parameter, &mut Vec<f32>) -> Result<(), BoxError> + 'a;

/// Writes the state of `parameters`. `supply` writes a part of a parameter into the (empty) buffer. It is called once per part
/// and parameter, part by part, in the order of `parameters`.
pub fn write_training_state(path: &Path, parameters: &[Parameter], supply: &mut Supply) -> Result<(), TrainError> {
    let written = |e| io_error("write", path, e);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(written)?);
    let header = header(parameters);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(written)?;
    file.write_all(&header).map_err(written)?;
    let mut values = Vec::new();
    for part in StatePart::ALL {
        for parameter in parameters {
            values.clear();
            supply(part, parameter, &mut values).map_err(|source| TrainError::Inside {
                action: "read the training state for",
                path: path.into(),
                source,
            })?;
            if values.len() != parameter.elements() {
                let (name, found, shape) = (part.name(&parameter.name), values.len(), &parameter.shape);
                let problem = format!("{name} was supplied with {found} numbers for shape {shape:?}");
                return Err(TrainError::Checkpoint { path: path.into(), problem });
            }
            write_f32(&mut file, &values).map_err(written)?;
        }
    }
    file.flush().map_err(written)
}

fn write_f32(file: &mut impl Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * values.len().min(1 << 16));
    for chunk in values.chunks(1 << 16) {
        bytes.clear();
        chunk.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// The safetensors header: names, shapes and byte ranges, padded with spaces so that the data begins at a multiple of 8.
fn header(parameters: &[Parameter]) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".into(), json!({ "format": "jurist-training-state" }));
    let mut start = 0;
    for part in StatePart::ALL {
        for parameter in parameters {
            let end = start + 4 * parameter.elements();
            let entry = json!({ "dtype": "F32", "shape": parameter.shape, "data_offsets": [start, end] });
            entries.insert(part.name(&parameter.name), entry);
            start = end;
        }
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    text
}

/// A safetensors file, open for reading one tensor at a time.
#[derive(Debug)]
pub struct StateReader {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, TensorInfo>,
    data_start: u64,
}

impl StateReader {
    /// Opens a file and checks that it is complete: the header is valid and the file has exactly the length that it states.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let bad = |problem: String| TrainError::Checkpoint { path: path.into(), problem };
        let mut file = File::open(path).map_err(|e| io_error("open", path, e))?;
        let length = file.metadata().map_err(|e| io_error("read", path, e))?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(|_| bad(format!("the file is cut short at {length} bytes")))?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER || header_length > length - 8 {
            return Err(bad(format!("a header of {header_length} bytes does not fit a file of {length}")));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(|e| io_error("read", path, e))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| bad(format!("the header is damaged: {e}")))?;
        let data_start = 8 + header_length;
        let stated = data_start + metadata.data_len() as u64;
        if stated != length {
            return Err(bad(format!("the header promises {stated} bytes and the file has {length}")));
        }
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(StateReader { path: path.into(), file, tensors, data_start })
    }

    /// Checks that the file contains exactly the state of these parameters.
    pub fn expect(&self, parameters: &[Parameter]) -> Result<(), TrainError> {
        for part in StatePart::ALL {
            for parameter in parameters {
                let name = part.name(&parameter.name);
                let Some(info) = self.tensors.get(&name) else { return Err(self.bad(format!("{name} is missing"))) };
                if info.shape != parameter.shape || info.dtype != Dtype::F32 {
                    let (shape, dtype, expected) = (&info.shape, info.dtype, &parameter.shape);
                    return Err(self.bad(format!("{name} is {dtype:?} {shape:?}, and the model needs F32 {expected:?}")));
                }
            }
        }
        let expected = StatePart::ALL.len() * parameters.len();
        if self.tensors.len() != expected {
            return Err(self.bad(format!("it has {} tensors, and the model needs {expected}", self.tensors.len())));
        }
        Ok(())
    }

    /// Reads one part of a parameter into `values`, replacing their contents.
    pub fn read(&mut self, part: StatePart, parameter: &str, values: &mut Vec<f32>) -> Result<(), TrainError> {
        let name = part.name(parameter);
        let Some(info) = self.tensors.get(&name) else { return Err(self.bad(format!("{name} is missing"))) };
        if info.dtype != Dtype::F32 {
            return Err(self.bad(format!("{name} is {:?}, not F32", info.dtype)));
        }
        let (start, end) = info.data_offsets;
        let read = |e| io_error("read", &self.path, e);
        self.file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(read)?;
        values.clear();
        values.reserve_exact((end - start) / 4);
        let mut bytes = vec![0; (end - start).min(1 << 18)];
        let mut left = end - start;
        while left > 0 {
            let chunk = &mut bytes[..left.min(1 << 18)];
            self.file.read_exact(chunk).map_err(read)?;
            values.extend(chunk.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            left -= chunk.len();
        }
        Ok(())
    }

    fn bad(&self, problem: String) -> TrainError {
        TrainError::Checkpoint { path: self.path.clone(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Vec<Parameter> {
        let parameter = |name: &str, shape: &[usize]| Parameter { name: name.into(), shape: shape.into() };
        vec![parameter("model.norm.weight", &[3]), parameter("model.w", &[2, 100_003]), parameter("empty", &[0, 4])]
    }

    fn value(part: StatePart, parameter: &Parameter, i: usize) -> f32 {
        (i as f32 + part.prefix().len() as f32 * 0.1 + parameter.name.len() as f32 * 100.0).sin()
    }

    fn supply(part: StatePart, parameter: &Parameter, values: &mut Vec<f32>) -> Result<(), BoxError> {
        assert!(values.is_empty());
        values.extend((0..parameter.elements()).map(|i| value(part, parameter, i)));
        Ok(())
    }

    #[test]
    fn the_state_is_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRAINING_STATE);
        write_training_state(&path, &parameters(), &mut supply).unwrap();
        let mut reader = StateReader::open(&path).unwrap();
        reader.expect(&parameters()).unwrap();
        let mut values = vec![7.0];
        for part in StatePart::ALL {
            for parameter in parameters() {
                reader.read(part, &parameter.name, &mut values).unwrap();
                let expected: Vec<f32> = (0..parameter.elements()).map(|i| value(part, &parameter, i)).collect();
                assert_eq!(values, expected);
            }
        }
        // The safetensors crate agrees that this is a safetensors file.
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("exp_avg_sq.model.w").unwrap().shape(), [2, 100_003]);
        assert_eq!(file.len(), 9);
        // Equal states give equal bytes.
        let again = dir.path().join("again");
        write_training_state(&again, &parameters(), &mut supply).unwrap();
        assert_eq!(std::fs::read(again).unwrap(), bytes);
    }

    #[test]
    fn damaged_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRAINING_STATE);
        write_training_state(&path, &parameters(), &mut supply).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            StateReader::open(&path).unwrap_err().to_string()
        };
        assert!(message(&bytes[..5]).ends_with("the file is cut short at 5 bytes"));
        assert!(message(&bytes[..50]).contains("does not fit a file of 50"));
        assert!(message(&bytes[..bytes.len() - 1]).contains("the header promises"));
        assert!(message(&[bytes.clone(), vec![0]].concat()).contains("the header promises"));
        let mut broken = bytes.clone();
        broken[8] = b'x';
        assert!(message(&broken).contains("the header is damaged"));
    }

    #[test]
    fn states_of_other_models_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRAINING_STATE);
        write_training_state(&path, &parameters(), &mut supply).unwrap();
        let reader = StateReader::open(&path).unwrap();
        let message = |change: fn(&mut Vec<Parameter>)| {
            let mut other = parameters();
            change(&mut other);
            reader.expect(&other).unwrap_err().to_string()
        };
        assert!(message(|p| p[0].name = "x".into()).ends_with("master.x is missing"));
        assert!(message(|p| p[0].shape = vec![4]).ends_with("master.model.norm.weight is F32 [3], and the model needs F32 [4]"));
        assert!(message(|p| drop(p.pop())).ends_with("it has 9 tensors, and the model needs 6"));
        let mut short = |_: StatePart, _: &Parameter, values: &mut Vec<f32>| -> Result<(), BoxError> {
            values.push(1.0);
            Ok(())
        };
        let error = write_training_state(&path, &parameters(), &mut short).unwrap_err().to_string();
        assert!(error.contains("master.model.norm.weight was supplied with 1 numbers for shape [3]"), "{error}");
    }
}
