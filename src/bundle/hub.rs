//! Models by their name on the Hugging Face hub, out of the cache that Python's tools fill. Nothing is downloaded.
//!
//! ```text
//! hub/models--org--name/refs/main            the commit that `main` is
//!                       snapshots/<commit>/  the files, as links into blobs/
//! ```

use std::path::{Path, PathBuf};

use crate::model::error::ModelError;

/// `org/name`, or `org/name@revision`.
struct HubId<'a> {
    org: &'a str,
    name: &'a str,
    revision: &'a str,
}

impl<'a> HubId<'a> {
    /// `None` for what can only be a path.
    fn parse(text: &'a str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, name) = id.split_once('/')?;
        let is_word =
            |s: &str| !s.is_empty() && !s.starts_with('.') && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        (is_word(org) && is_word(name) && !revision.is_empty()).then_some(HubId { org, name, revision })
    }
}

/// Where the cache is, by the variables that Hugging Face's tools read: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HOME`.
fn cache(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let of = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    of("HF_HUB_CACHE")
        .or_else(|| of("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| of("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| of("HOME").or_else(|| of("USERPROFILE")).map(|home| home.join(".cache/huggingface/hub")))
}

/// The folder that `model` means: itself if it is one or can be no name, else the snapshot of that name in the cache.
///
/// # Errors
/// A name that is neither a folder nor in the cache: where was looked, and what to do.
pub(super) fn resolve(model: &Path) -> Result<PathBuf, ModelError> {
    resolve_in(model, |name| std::env::var(name).ok())
}

fn resolve_in(model: &Path, env: impl Fn(&str) -> Option<String>) -> Result<PathBuf, ModelError> {
    let id = match model.to_str().and_then(HubId::parse) {
        Some(id) if !model.exists() => id,
        _ => return Ok(model.into()),
    };
    let Some(cache) = cache(env) else { return Ok(model.into()) };
    let repository = cache.join(format!("models--{}--{}", id.org, id.name));
    let commit = std::fs::read_to_string(repository.join("refs").join(id.revision)).map(|text| text.trim().to_string());
    let snapshot = repository.join("snapshots").join(commit.as_deref().unwrap_or(id.revision));
    if snapshot.is_dir() {
        return Ok(snapshot);
    }
    let found = if repository.is_dir() {
        format!("the Hugging Face cache has {}/{}, but not its revision {}", id.org, id.name, id.revision)
    } else {
        format!("no such folder, and the Hugging Face cache {} has no {}/{}", cache.display(), id.org, id.name)
    };
    let fix = format!("give a folder, or fetch it first: hf download {}/{} --revision {}", id.org, id.name, id.revision);
    Err(ModelError::Inconsistent(format!("model {}: {found}; {fix}", model.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_into_the_cache() {
        let home = tempfile::tempdir().unwrap();
        let repository = home.path().join("hub/models--acme--judge-1.5");
        for dir in ["refs", "snapshots/abc123"] {
            std::fs::create_dir_all(repository.join(dir)).unwrap();
        }
        std::fs::write(repository.join("refs/main"), "abc123\n").unwrap();
        let env = |name: &str| (name == "HF_HOME").then(|| home.path().display().to_string());
        let resolve = |model: &str| resolve_in(Path::new(model), env).map_err(|e| e.to_string());
        let snapshot = repository.join("snapshots/abc123");
        assert_eq!(resolve("acme/judge-1.5").unwrap(), snapshot);
        assert_eq!(resolve("acme/judge-1.5@main").unwrap(), snapshot);
        assert_eq!(resolve("acme/judge-1.5@abc123").unwrap(), snapshot);
        let error = resolve("acme/judge-1.5@v2").unwrap_err();
        assert!(
            error.contains("but not its revision v2") && error.contains("hf download acme/judge-1.5 --revision v2"),
            "{error}"
        );
        let error = resolve("acme/other").unwrap_err();
        assert!(error.contains("has no acme/other") && error.contains("hub"), "{error}");
        // What is a folder, or can be no name, stays what it is.
        for path in [home.path().to_str().unwrap(), "./acme/judge", "judge", "a/b/c", "/acme/judge"] {
            assert_eq!(resolve(path).unwrap(), Path::new(path));
        }
    }

    #[test]
    fn variables_in_their_order() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            cache(move |name| set.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
        };
        let all = [("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/home/me")];
        let expected = ["/c", "/h/hub", "/x/huggingface/hub", "/home/me/.cache/huggingface/hub"];
        for (n, path) in expected.iter().enumerate() {
            assert_eq!(of(&all[n..]).unwrap(), Path::new(path));
        }
        assert_eq!(of(&[("HF_HOME", ""), ("HOME", "/m")]).unwrap(), Path::new("/m/.cache/huggingface/hub"));
        assert_eq!(of(&[]), None);
    }
}
