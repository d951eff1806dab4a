//! The layout of a checkpoint in files: shards, safetensors headers, index. It uses no files, so that a browser can save too.

use serde_json::{Map, Value, json};

use super::names::TensorSpec;
use crate::ops::weight_dtype::WeightDtype;

/// The largest shard that transformers writes by default, in bytes.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// One safetensors file: its name, and its tensors in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub file: String,
    pub tensors: Vec<TensorSpec>,
}

/// Distributes tensors over files of at most `shard_bytes`, in order. A larger tensor gets a file of its own.
pub fn shards(tensors: Vec<TensorSpec>, dtype: WeightDtype, shard_bytes: u64) -> Vec<Shard> {
    let mut groups: Vec<Vec<TensorSpec>> = vec![Vec::new()];
    let mut used = 0;
    for tensor in tensors {
        let bytes = byte_len(&tensor, dtype);
        if used > 0 && used + bytes > shard_bytes {
            groups.push(Vec::new());
            used = 0;
        }
        used += bytes;
        if let Some(group) = groups.last_mut() {
            group.push(tensor);
        }
    }
    let count = groups.len();
    let file = |i: usize| match count {
        1 => "model.safetensors".to_string(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    };
    groups.into_iter().enumerate().map(|(i, tensors)| Shard { file: file(i), tensors }).collect()
}

/// The header of a safetensors file: length, JSON, padding to 8 bytes.
pub fn header(shard: &Shard, dtype: WeightDtype) -> Vec<u8> {
    let name = dtype.safetensors_name();
    header_of(shard.tensors.iter().map(|t| (t.name.as_str(), name, &t.shape[..], byte_len(t, dtype))))
}

/// The header of a safetensors file with these arrays in this order: name, safetensors' name of the type, shape, bytes.
pub fn header_of<'a, N>(arrays: impl Iterator<Item = (&'a str, &'a str, &'a [N], u64)>) -> Vec<u8>
where
    N: serde::Serialize + 'a,
{
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!({"format": "pt"})); // transformers refuses files without it
    let mut start = 0;
    for (name, dtype, shape, bytes) in arrays {
        let end = start + bytes;
        map.insert(name.to_string(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
        start = end;
    }
    let mut text = Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    header
}

/// The text of `model.safetensors.index.json`; `None` for a single file.
pub fn index(shards: &[Shard], dtype: WeightDtype) -> Option<String> {
    if shards.len() < 2 {
        return None;
    }
    let total: u64 = shards.iter().flat_map(|s| &s.tensors).map(|t| byte_len(t, dtype)).sum();
    let files = |shard: &Shard| shard.tensors.iter().map(|t| (t.name.clone(), shard.file.clone().into())).collect::<Vec<_>>();
    let map: Map<String, Value> = shards.iter().flat_map(files).collect();
    Some(format!("{:#}\n", json!({"metadata": {"total_size": total}, "weight_map": map})))
}

fn byte_len(tensor: &TensorSpec, dtype: WeightDtype) -> u64 {
    tensor.len() as u64 * dtype.bytes() as u64
}
