//! A judge as the files of a bundle, which the page offers to save.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;

use super::Failure;
use crate::bundle::{EntryFormat, FileEntry, HeldScales, MANIFEST, Manifest, SHARD_BYTES, TokenizerEntry, plan_shards};
use crate::gpu::Gpu;
use crate::model::quantised::ColumnSquares;
use crate::model::weights::Weights;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// Elements read back from the GPU at a time.
const READ_BACK: usize = 1 << 20;

/// The files of a bundle, in the page's memory and not in wasm's.
#[wasm_bindgen]
pub struct BundleFiles {
    files: Vec<(String, Uint8Array)>,
}

#[wasm_bindgen]
impl BundleFiles {
    /// Names of all files, the manifest first.
    pub fn names(&self) -> Vec<String> {
        self.files.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The bytes of one of them.
    ///
    /// # Errors
    /// `Internal` for a name that no file has.
    pub fn file(&self, name: &str) -> Result<Uint8Array, Failure> {
        let found = self.files.iter().find(|(known, _)| known == name);
        found.map(|(_, bytes)| bytes.clone()).ok_or_else(|| Failure::new("Internal", format!("The bundle has no file {name}.")))
    }
}

/// Reads the weights back from the GPU, shard by shard, and adds an adapter to them.
pub async fn files(
    gpu: &Gpu,
    weights: &Weights,
    tokenizer: &Tokenizer,
    loaded: &Manifest,
    dtype: WeightDtype,
) -> Result<BundleFiles, Failure> {
    let config = &weights.config;
    let adapter = match weights.adapter() {
        None => None,
        Some(adapter) => Some(adapter.download(gpu).await?),
    };
    let (entry, json) = TokenizerEntry::of(tokenizer);
    let mut files = vec![(entry.entry.file.clone(), Uint8Array::from(json.as_slice()))];
    let mut manifest = Manifest::new(&loaded.name, dtype, config, loaded.judge.clone(), entry);
    manifest.description.clone_from(&loaded.description);
    manifest.examples = loaded.examples.clone();
    for shard in plan_shards(config, dtype, SHARD_BYTES) {
        let mut bytes = shard.header();
        for part in &shard.parts {
            match part.entries {
                EntryFormat::Values(_) => {
                    for at in (0..part.values).step_by(READ_BACK) {
                        let len = READ_BACK.min(part.values - at);
                        let start = part.start + at;
                        let mut values = weights.base().values(gpu, &part.tensor, start, len).await?;
                        adapter.iter().for_each(|adapter| adapter.add_to(&part.tensor, start, &mut values));
                        part.encode(at, &values, &ColumnSquares::default(), &mut HeldScales::default(), &mut bytes)?;
                    }
                }
                // Quantised weights do not change, so they are saved as they were loaded.
                EntryFormat::Plane(dtype, plane) => {
                    let (start, len) = (dtype.entries(plane, part.start), dtype.entries(plane, part.values));
                    for at in (0..len).step_by(READ_BACK) {
                        let count = READ_BACK.min(len - at);
                        let entries = weights.base().read_plane(gpu, &part.tensor, plane, start + at, count).await?;
                        bytes.extend(entries.iter().flat_map(|entry| entry.to_le_bytes()));
                    }
                }
            }
        }
        manifest.shards.push(FileEntry::of(&shard.file, &bytes));
        files.push((shard.file, Uint8Array::from(bytes.as_slice())));
    }
    files.insert(0, (MANIFEST.into(), Uint8Array::from(manifest.to_json().as_bytes())));
    Ok(BundleFiles { files })
}
