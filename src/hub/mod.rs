//! Finds models by their Hugging Face hub name in the cache that Python's tools also use.
//!
//! ```text
//! hub/models--org--name/refs/main            the commit of `main`
//!                       blobs/<hash>         each file once, named by the hub's hash of it
//!                       snapshots/<commit>/  the files, as links into blobs/
//! ```
//!
//! A lookup does not use the network. Missing files are fetched beforehand by [`download`], in a build with the cargo feature
//! `hf-hub`.

#[cfg(feature = "hf-hub")]
mod download;
#[cfg(feature = "hf-hub")]
mod remote;

use std::path::{Path, PathBuf};

#[cfg(feature = "hf-hub")]
pub use download::Hub;

use crate::model::error::ModelError;

/// The advice for a model that is not in the cache, beside `hf`.
const FETCH_ADVICE: &str = match cfg!(feature = "hf-hub") {
    true => "let jurist fetch it (unset HF_HUB_OFFLINE)",
    false => "use a jurist that downloads: cargo install jurist --features hf-hub",
};

/// The requested files of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Config, tokenizer, judge settings: a few MB.
    Description,
    /// The weights too.
    All,
}

/// Who follows a download. `()` does not care.
pub trait DownloadWatch {
    /// So many files of a model are to be fetched, `bytes` in all, of which `there` are here from an earlier try.
    fn begin(&mut self, _model: &str, _files: usize, _bytes: u64, _there: u64) {}

    /// So many bytes are here by now; `file`, the `number`th from 1 on, is under way.
    fn received(&mut self, _file: &str, _number: usize, _bytes: u64) {}

    /// `file` is tried again, from where it ended.
    fn again(&mut self, _file: &str, _why: &str) {}

    /// All files of the last `begin` are here.
    fn end(&mut self) {}
}

impl DownloadWatch for () {}

/// Fetches what the Hugging Face cache lacks of `model`, and of the model that an adapter belongs to (`base`, else the one that
/// it names), as far as they are names of the hub. `env` tells the variables of Hugging Face's tools. A build without the cargo
/// feature `hf-hub` fetches nothing; opening the model says how to get it.
///
/// # Errors
/// A model that is not there and cannot be fetched: why, and what to do.
#[cfg_attr(not(feature = "hf-hub"), allow(unused_variables))]
pub fn fetch(
    model: &Path,
    base: Option<&Path>,
    wanted: Wanted,
    env: impl Fn(&str) -> Option<String>,
    watch: &mut dyn DownloadWatch,
) -> Result<(), ModelError> {
    #[cfg(feature = "hf-hub")]
    if let Some(hub) = Hub::from_env(env) {
        return hub.fetch_on(model, base, wanted, watch);
    }
    Ok(())
}

/// `org/name`, or `org/name@revision`.
#[derive(Clone, Copy, Debug)]
struct HubId<'a> {
    org: &'a str,
    name: &'a str,
    revision: &'a str,
}

impl<'a> HubId<'a> {
    /// `None` for a text that can only be a path.
    fn parse(text: &'a str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, name) = id.split_once('/')?;
        (is_word(org) && is_word(name) && revision.split('/').all(is_word)).then_some(HubId { org, name, revision })
    }
}

impl std::fmt::Display for HubId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.org, self.name)
    }
}

/// Whether `s` is a plain name of a model, a file or a part of a revision. Such a name cannot lead out of a folder.
fn is_word(s: &str) -> bool {
    !s.is_empty() && !s.starts_with('.') && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

/// The value of an environment variable, if it is not empty.
fn value(env: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// The folder of Hugging Face's tools: `HF_HOME`, else inside `XDG_CACHE_HOME`, else inside `HOME`.
fn home(env: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let path = |name: &str| value(env, name).map(PathBuf::from);
    path("HF_HOME")
        .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
        .or_else(|| path("HOME").or_else(|| path("USERPROFILE")).map(|home| home.join(".cache/huggingface")))
}

/// The cache: `HF_HUB_CACHE`, else inside the folder of Hugging Face's tools.
fn cache(env: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    value(env, "HF_HUB_CACHE").map(PathBuf::from).or_else(|| home(env).map(|home| home.join("hub")))
}

/// A model's folder in the cache.
fn repository(cache: &Path, id: HubId) -> PathBuf {
    cache.join(format!("models--{}--{}", id.org, id.name))
}

/// The folder of the files of `revision`. It may not exist.
fn snapshot(repository: &Path, revision: &str) -> PathBuf {
    let commit = std::fs::read_to_string(repository.join("refs").join(revision)).map(|text| text.trim().to_string());
    repository.join("snapshots").join(commit.as_deref().unwrap_or(revision))
}

/// The folder of `model`: the path itself if it exists or cannot be a hub name, else the snapshot of that name in the cache.
///
/// # Errors
/// A name that is neither a folder nor in the cache. The error names the cache and a fix.
pub(super) fn resolve(model: &Path) -> Result<PathBuf, ModelError> {
    resolve_in(model, |name| std::env::var(name).ok())
}

fn resolve_in(model: &Path, env: impl Fn(&str) -> Option<String>) -> Result<PathBuf, ModelError> {
    let id = match model.to_str().and_then(HubId::parse) {
        Some(id) if !model.exists() => id,
        _ => return Ok(model.into()),
    };
    let Some(cache) = cache(&env) else { return Ok(model.into()) };
    let repository = repository(&cache, id);
    let snapshot = snapshot(&repository, id.revision);
    if snapshot.is_dir() {
        return Ok(snapshot);
    }
    let found = missing(&cache, &repository, id);
    let fix = format!("give a folder, or fetch it first: hf download {id} --revision {}; or {FETCH_ADVICE}", id.revision);
    Err(ModelError::Hub { model: model.display().to_string(), found, fix })
}

/// Describes what is missing in the cache.
fn missing(cache: &Path, repository: &Path, id: HubId) -> String {
    match repository.is_dir() {
        true => format!("the Hugging Face cache has {id}, but not its revision {}", id.revision),
        false => format!("no such folder, and the Hugging Face cache {} has no {id}", cache.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names_resolve_to_cache_folders() {
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
        assert!(error.contains("has no acme/other") && error.contains(FETCH_ADVICE), "{error}");
        // Folders, and paths that cannot be hub names, stay unchanged.
        for path in [home.path().to_str().unwrap(), "./acme/judge", "judge", "a/b/c", "/acme/judge", "a/b@../../c"] {
            assert_eq!(resolve(path).unwrap(), Path::new(path));
        }
    }

    #[test]
    fn environment_variables_are_tried_in_order() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            cache(&move |name: &str| set.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
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
