//! A file of golden values: named tensors with their shapes. Errors name missing or malformed tensors.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::DoctorError;

/// A safetensors file of float and integer tensors.
pub struct Golden {
    path: String,
    bytes: Vec<u8>,
}

/// A tensor and its shape.
#[derive(Clone, Debug)]
pub struct Array<T> {
    pub shape: Vec<usize>,
    pub values: Vec<T>,
}

impl<T> Array<T> {
    /// The rows of a matrix, or the single values of a vector.
    pub fn rows(&self) -> impl Iterator<Item = &[T]> {
        self.values.chunks_exact(self.shape.get(1..).map_or(1, |s| s.iter().product::<usize>()).max(1))
    }
}

impl Golden {
    /// Reads the whole file.
    pub fn open(path: &Path) -> Result<Self, DoctorError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| DoctorError::Io { path: name.clone(), source })?;
        let golden = Golden { path: name, bytes };
        golden.file()?;
        Ok(golden)
    }

    fn file(&self) -> Result<SafeTensors<'_>, DoctorError> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| DoctorError::Damaged { path: self.path.clone(), reason: e.to_string() })
    }

    /// An error about one key of this file.
    pub fn fault(&self, key: &str, problem: impl Into<String>) -> DoctorError {
        DoctorError::Key { path: self.path.clone(), key: key.to_string(), problem: problem.into() }
    }

    fn raw(&self, key: &str) -> Result<(Vec<usize>, Dtype, Vec<u8>), DoctorError> {
        let file = self.file()?;
        let view = file.tensor(key).map_err(|_| self.fault(key, "is missing"))?;
        Ok((view.shape().to_vec(), view.dtype(), view.data().to_vec()))
    }

    /// True if the file contains `key`.
    pub fn has(&self, key: &str) -> bool {
        self.file().is_ok_and(|f| f.tensor(key).is_ok())
    }

    /// A float tensor (f32 or f64).
    pub fn floats(&self, key: &str) -> Result<Array<f32>, DoctorError> {
        let (shape, dtype, data) = self.raw(key)?;
        let values = match dtype {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F64 => data
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
                .collect(),
            other => return Err(self.fault(key, format!("expected F32 or F64, found {other:?}"))),
        };
        Ok(Array { shape, values })
    }

    /// A tensor of token ids or indices (i64 or i32), none of them negative.
    pub fn ids(&self, key: &str) -> Result<Array<u32>, DoctorError> {
        let (shape, dtype, data) = self.raw(key)?;
        let wide: Vec<i64> = match dtype {
            Dtype::I64 => {
                data.chunks_exact(8).map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).collect()
            }
            Dtype::I32 => data.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
            other => return Err(self.fault(key, format!("expected I64 or I32, found {other:?}"))),
        };
        let narrow = |v: i64| u32::try_from(v).map_err(|_| self.fault(key, format!("holds {v}, which is no token id")));
        Ok(Array { shape, values: wide.into_iter().map(narrow).collect::<Result<_, _>>()? })
    }

    /// A single float.
    pub fn scalar(&self, key: &str) -> Result<f32, DoctorError> {
        let array = self.floats(key)?;
        match array.values[..] {
            [value] => Ok(value),
            _ => Err(self.fault(key, format!("expected one value, found shape {:?}", array.shape))),
        }
    }
}
