//! API keys: `Authorization: Bearer KEY`, compared in constant time.

use std::path::Path;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::error::{ApiError, ApiResult};

/// Fewest characters of a key. Shorter ones can be guessed.
const SHORTEST_KEY: usize = 16;
/// Most bytes of a file of keys.
const LARGEST_FILE: u64 = 1 << 20;

/// The keys that are accepted, as hashes: their lengths are not told by the time of a comparison either.
#[derive(Clone)]
pub struct Keys {
    hashes: Vec<[u8; 32]>,
}

impl Keys {
    /// The keys in a file, one a line. Empty lines and lines that begin with `#` are left out.
    ///
    /// # Errors
    /// A file that cannot be read; no key in it; a key that is too short or has white space in it. No message tells a key.
    pub fn of_file(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let size = std::fs::metadata(path).map_err(|e| format!("cannot read the keys in {name}: {e}"))?.len();
        if size > LARGEST_FILE {
            return Err(format!("{name} has {size} bytes; expected a text file with one key a line"));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read the keys in {name}: {e}"))?;
        Keys::of_text(&text).map_err(|found| format!("{name}: {found}"))
    }

    fn of_text(text: &str) -> Result<Self, String> {
        let mut hashes = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            let fault = |found: String| Err(format!("line {}: {found}", number + 1));
            if key.len() < SHORTEST_KEY {
                return fault(format!("a key of {} characters; use at least {SHORTEST_KEY}", key.len()));
            }
            if !key.bytes().all(|b| b.is_ascii_graphic()) {
                return fault("a key with white space or letters beyond ASCII; use printable ASCII".into());
            }
            hashes.push(hash(key));
        }
        match hashes.is_empty() {
            true => Err("there is no key in it; write one a line".into()),
            false => Ok(Keys { hashes }),
        }
    }

    /// Whether a request has one of the keys.
    ///
    /// # Errors
    /// 401, in the same words and after the same comparisons whatever is wrong with the key.
    pub fn check(&self, headers: &HeaderMap) -> ApiResult<()> {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let given = match value.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
            _ => "",
        };
        let given = hash(given);
        let found = self.hashes.iter().fold(Choice::from(0), |found, own| found | own.ct_eq(&given));
        if bool::from(found) {
            return Ok(());
        }
        let message =
            "the request has no valid API key; send `Authorization: Bearer KEY` with a key of the server's --api-key-file";
        Err(ApiError::new(StatusCode::UNAUTHORIZED, message).coded("invalid_api_key"))
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn keys_are_read_and_compared() {
        let keys = Keys::of_text("# ours\n\nabcdefghijklmnop\n  0123456789abcdef0  \n").unwrap();
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            keys.check(&headers)
        };
        for good in ["Bearer abcdefghijklmnop", "bearer 0123456789abcdef0"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in
            ["", "Bearer", "Bearer ", "abcdefghijklmnop", "Basic abcdefghijklmnop", "Bearer abcdefghijklmno", "Bearer # ours"]
        {
            assert_eq!(check(bad).unwrap_err().status, StatusCode::UNAUTHORIZED, "{bad}");
        }
        assert!(keys.check(&HeaderMap::new()).is_err());
        for (text, found) in [("", "no key"), ("short", "line 1: a key of 5 characters"), ("abcdefgh ijklmnopq", "white space")] {
            let error = Keys::of_text(text).err().unwrap();
            assert!(error.contains(found) && !error.contains("abcdefgh"), "{error}");
        }
    }
}
