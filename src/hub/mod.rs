//! Models by their name on the Hugging Face hub, out of the cache that Python's tools fill too.
//!
//! ```text
//! hub/models--org--name/refs/main            the commit that `main` is
//!                       blobs/<hash>         each file once, under the hash that the hub knows it by
//!                       snapshots/<commit>/  the files, as links into blobs/
//! ```
//!
//! Looking a name up connects to nothing. What the cache lacks is fetched before, by [`download`], if this was built with the
//! cargo feature `hf-hub`.

#[cfg(feature = "hf-hub")]
mod download;
#[cfg(feature = "hf-hub")]
mod remote;

use std::path::{Path, PathBuf};

#[cfg(feature = "hf-hub")]
pub use download::Hub;

use crate::model::error::ModelError;

/// How to come by what the cache lacks, without `hf`.
const HOW: &str = match cfg!(feature = "hf-hub") {
    true => "let jurist fetch it (unset HF_HUB_OFFLINE)",
    false => "use a jurist that downloads: cargo install jurist --features hf-hub",
};

/// Which of a model's files are wanted.
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
    /// `None` for what can only be a path.
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

/// What is one plain name: of a model, of a file, of a part of a revision. It cannot lead out of a folder.
fn is_word(s: &str) -> bool {
    !s.is_empty() && !s.starts_with('.') && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

/// A variable's value, if it is set to something.
fn value(env: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// The folder of Hugging Face's tools: `HF_HOME`, else in `XDG_CACHE_HOME`, else in `HOME`.
fn home(env: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let of = |name: &str| value(env, name).map(PathBuf::from);
    of("HF_HOME")
        .or_else(|| of("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
        .or_else(|| of("HOME").or_else(|| of("USERPROFILE")).map(|home| home.join(".cache/huggingface")))
}

/// Where the cache is: `HF_HUB_CACHE`, else in the folder of Hugging Face's tools.
fn cache(env: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    value(env, "HF_HUB_CACHE").map(PathBuf::from).or_else(|| home(env).map(|home| home.join("hub")))
}

/// A model's folder in the cache.
fn repository(cache: &Path, id: HubId) -> PathBuf {
    cache.join(format!("models--{}--{}", id.org, id.name))
}

/// Where the files of `revision` are, if they are there.
fn snapshot(repository: &Path, revision: &str) -> PathBuf {
    let commit = std::fs::read_to_string(repository.join("refs").join(revision)).map(|text| text.trim().to_string());
    repository.join("snapshots").join(commit.as_deref().unwrap_or(revision))
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
    let Some(cache) = cache(&env) else { return Ok(model.into()) };
    let repository = repository(&cache, id);
    let snapshot = snapshot(&repository, id.revision);
    if snapshot.is_dir() {
        return Ok(snapshot);
    }
    let found = missing(&cache, &repository, id);
    let fix = format!("give a folder, or fetch it first: hf download {id} --revision {}; or {HOW}", id.revision);
    Err(ModelError::Hub { model: model.display().to_string(), found, fix })
}

/// What the cache lacks, in words.
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
        assert!(error.contains("has no acme/other") && error.contains(HOW), "{error}");
        // What is a folder, or can be no name, stays what it is.
        for path in [home.path().to_str().unwrap(), "./acme/judge", "judge", "a/b/c", "/acme/judge", "a/b@../../c"] {
            assert_eq!(resolve(path).unwrap(), Path::new(path));
        }
    }

    #[test]
    fn variables_in_their_order() {
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
