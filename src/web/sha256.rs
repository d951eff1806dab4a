//! SHA-256 of bytes that come piece by piece. `crypto.subtle` wants all bytes at once, and a shard has up to 64 MB of them.

use sha2::Digest;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::bundle::hex;

/// A hash under way.
#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(sha2::Sha256);

#[wasm_bindgen]
impl Sha256 {
    /// The hash of nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in lower-case hexadecimal. The hash is used up.
    pub fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}
