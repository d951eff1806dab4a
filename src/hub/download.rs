//! Fetching a model from the hub into the Hugging Face cache: only the files that are needed and not there yet.
//!
//! ```text
//! listing ─► description ─► weights          each file: blobs/<hash>.incomplete ─► length, SHA-256 ─► blobs/<hash> ─► link
//! commit     config, tokenizer, index        a partial file goes on where it ended, in this run or the next
//! ```
//!
//! The weights come last and the name of the revision (`refs/`) after them, so a snapshot with weights has all the rest.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use super::remote::{ENDPOINT, Fault, Listing, Meta, Remote, begins};
use super::{DownloadWatch, HubId, Wanted, cache, home, is_word, missing, repository, snapshot, value};
use crate::bundle::{MANIFEST, Manifest};
use crate::model::directory::{INDEX, SINGLE, read_index};
use crate::model::error::ModelError;
use crate::text::TOOL_USE_FILE;

const CONFIG: &str = "config.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER: &str = "adapter_model.safetensors";

/// What describes a model; every `tokenizer*.json` besides.
const DESCRIPTION: [&str; 8] = [
    CONFIG,
    "generation_config.json",
    "chat_template.jinja",
    TOOL_USE_FILE,
    "special_tokens_map.json",
    "judge.json",
    ADAPTER_CONFIG,
    MANIFEST,
];

/// Tries in a row that bring nothing, before giving up.
const TRIES: u32 = 4;

/// A hub and a cache in front of it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The folder with `models--org--name`.
    pub cache: PathBuf,
    /// Scheme and host.
    pub endpoint: String,
    pub token: Option<String>,
    /// Never connect.
    pub offline: bool,
    /// Before the second try of a broken connection; doubled each time.
    pub pause: Duration,
}

impl Hub {
    /// What the variables of Hugging Face's tools say: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` (else the file
    /// `HF_TOKEN_PATH` or `HF_HOME/token`), `HF_HUB_OFFLINE`. `None` where there is no place for a cache.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let file = value(&env, "HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home(&env).map(|home| home.join("token")));
        let stored = || std::fs::read_to_string(file?).ok();
        let token = value(&env, "HF_TOKEN").or_else(stored).map(|token| token.trim().to_string()).filter(|t| !t.is_empty());
        let offline = value(&env, "HF_HUB_OFFLINE").is_some_and(|v| matches!(&*v.to_uppercase(), "1" | "ON" | "YES" | "TRUE"));
        let endpoint = value(&env, "HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()).trim_end_matches('/').to_string();
        Some(Hub { cache: cache(&env)?, endpoint, token, offline, pause: Duration::from_secs(1) })
    }

    /// Fetches what the cache lacks of `model`, if that is a name of the hub and no folder; of an adapter, the model that it
    /// belongs to as well. What is there already costs no connection, and with `offline` nothing does.
    ///
    /// # Errors
    /// A model that is not there and cannot be fetched: why, and what to do. What was received so far is kept.
    pub fn fetch(&self, model: &Path, wanted: Wanted, watch: &mut dyn DownloadWatch) -> Result<(), ModelError> {
        self.fetch_on(model, None, wanted, watch)
    }

    /// As [`Hub::fetch`], with `base` in the place of the model that an adapter names.
    ///
    /// # Errors
    /// As [`Hub::fetch`].
    pub fn fetch_on(
        &self,
        model: &Path,
        base: Option<&Path>,
        wanted: Wanted,
        watch: &mut dyn DownloadWatch,
    ) -> Result<(), ModelError> {
        let folder = self.folder(model, wanted, watch)?;
        match base.map(PathBuf::from).or_else(|| base_of(&folder)) {
            Some(base) => self.folder(&base, wanted, watch).map(drop),
            None => Ok(()),
        }
    }

    /// The folder that `model` is, or that it has in the cache once it is fetched.
    fn folder(&self, model: &Path, wanted: Wanted, watch: &mut dyn DownloadWatch) -> Result<PathBuf, ModelError> {
        match model.to_str().and_then(HubId::parse).filter(|_| !model.exists()) {
            Some(id) => Download { hub: self, id, remote: Remote::new(&self.endpoint, self.token.as_deref()) }.run(wanted, watch),
            None => Ok(model.into()),
        }
    }
}

/// The name of the model that the adapter in `folder` belongs to, unless it is a folder itself, as given or as seen from the
/// adapter's or one above it.
fn base_of(folder: &Path) -> Option<PathBuf> {
    let config = folder.join(ADAPTER_CONFIG);
    if folder.join(CONFIG).is_file() || !config.is_file() {
        return None;
    }
    let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(config).ok()?).ok()?;
    let name = config["base_model_name_or_path"].as_str()?;
    let whole = std::fs::canonicalize(folder).ok()?;
    let is_folder = Path::new(name).is_dir() || whole.ancestors().any(|above| above.join(name).is_dir());
    (!is_folder).then(|| name.into())
}

/// Whether `snapshot` has all that is wanted, as far as its own files tell.
fn is_whole(snapshot: &Path, wanted: Wanted) -> bool {
    let has = |file: &str| snapshot.join(file).is_file();
    let shards = || Some(read_index(&snapshot.join(INDEX)).ok()?.values().all(|file| has(file)));
    let bundle = || {
        let manifest = Manifest::parse(&std::fs::read_to_string(snapshot.join(MANIFEST)).ok()?).ok()?;
        Some(
            has(&manifest.tokenizer.entry.file)
                && (wanted == Wanted::Description || manifest.shards.iter().all(|s| has(&s.file))),
        )
    };
    let weights = |there: bool| wanted == Wanted::Description || there;
    match (has(CONFIG), has(ADAPTER_CONFIG)) {
        (true, _) => has("tokenizer.json") && weights(has(SINGLE) || shards().unwrap_or(false)),
        (false, true) => weights(has(ADAPTER)),
        (false, false) => bundle().unwrap_or(false),
    }
}

/// One model on its way.
struct Download<'a> {
    hub: &'a Hub,
    id: HubId<'a>,
    remote: Remote,
}

/// A file that is to be fetched.
struct Missing {
    file: String,
    url: String,
    meta: Meta,
    /// Bytes of it that are here.
    there: u64,
}

impl Download<'_> {
    /// Fetches what is missing and returns the snapshot.
    fn run(&self, wanted: Wanted, watch: &mut dyn DownloadWatch) -> Result<PathBuf, ModelError> {
        let Download { hub, id, .. } = self;
        let repository = repository(&hub.cache, *id);
        let there = snapshot(&repository, id.revision);
        if is_whole(&there, wanted) {
            return Ok(there);
        }
        if hub.offline {
            // What is missing of a snapshot that is there, whoever opens it will say.
            return if there.is_dir() { Ok(there) } else { Err(self.offline(&repository)) };
        }
        let listing = self.first(watch, || self.remote.listing(*id))?;
        let place = CachePaths { repository: &repository, snapshot: &repository.join("snapshots").join(&listing.commit) };
        self.fetch(&self.description(&listing)?, &listing, place, watch)?;
        if listing.files.contains(MANIFEST) && !listing.files.contains(CONFIG) {
            let manifest = self.manifest(place.snapshot)?;
            let shards = manifest.shards.iter().filter(|_| wanted == Wanted::All);
            let files = shards.chain([&manifest.tokenizer.entry]).map(|entry| entry.file.clone());
            self.fetch(&files.collect(), &listing, place, watch)?;
        } else if wanted == Wanted::All {
            self.fetch(&self.weights(&listing, place.snapshot)?, &listing, place, watch)?;
        }
        if listing.commit != id.revision {
            write(&repository.join("refs").join(id.revision), &listing.commit)?;
        }
        Ok(place.snapshot.into())
    }

    /// The names of the small files.
    fn description(&self, listing: &Listing) -> Result<BTreeSet<String>, ModelError> {
        let has = |file: &str| listing.files.contains(file);
        if ![CONFIG, ADAPTER_CONFIG, MANIFEST].into_iter().any(has) {
            let found = format!("the hub has it, with neither {CONFIG} nor {ADAPTER_CONFIG} nor {MANIFEST}: it is no model");
            return Err(self.error(found, "choose another"));
        }
        let wanted = |file: &&String| {
            let tokenizer = file.starts_with("tokenizer") && file.ends_with(".json") && is_word(file);
            tokenizer || DESCRIPTION.contains(&file.as_str()) || (*file == INDEX && !has(SINGLE))
        };
        Ok(listing.files.iter().filter(wanted).cloned().collect())
    }

    /// The names of the files with weights.
    fn weights(&self, listing: &Listing, snapshot: &Path) -> Result<BTreeSet<String>, ModelError> {
        let has = |file: &str| listing.files.contains(file);
        let mut files: BTreeSet<String> = [SINGLE, ADAPTER].into_iter().filter(|f| has(f)).map(str::to_string).collect();
        if has(INDEX) && !has(SINGLE) {
            files.extend(read_index(&snapshot.join(INDEX))?.into_values());
        }
        if files.is_empty() {
            let other = listing.files.iter().find(|f| f.ends_with(".bin") || f.ends_with(".gguf") || f.ends_with(".pt"));
            let other = other.map_or(String::new(), |file| format!(" (it has {file}, which is not read)"));
            let found = format!("the hub has it, with neither {SINGLE} nor {INDEX} nor {ADAPTER}{other}");
            return Err(
                self.error(found, "choose a repository with safetensors, or convert it with transformers' save_pretrained")
            );
        }
        Ok(files)
    }

    fn manifest(&self, snapshot: &Path) -> Result<Manifest, ModelError> {
        let path = snapshot.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|e| ModelError::io("read", &path, e))?;
        Manifest::parse(&text).map_err(|e| e.in_file(self.id.to_string()))
    }

    /// Fetches those of `files` that the snapshot lacks.
    fn fetch(
        &self,
        files: &BTreeSet<String>,
        listing: &Listing,
        place: CachePaths,
        watch: &mut dyn DownloadWatch,
    ) -> Result<(), ModelError> {
        let mut all = Vec::new();
        for file in files.iter().filter(|file| !place.snapshot.join(file).is_file()) {
            if !is_word(file) || !listing.files.contains(file) {
                let found = format!("its own files name {file}, and the hub has no such file of it");
                return Err(self.error(found, "choose another revision, or tell its owner"));
            }
            let url = self.remote.url(self.id, &listing.commit, file);
            let meta = self.first(watch, || self.remote.meta(&url))?;
            let there = place.there(&meta);
            all.push(Missing { file: file.clone(), url, meta, there });
        }
        if all.is_empty() {
            return Ok(());
        }
        let mut before: u64 = all.iter().map(|missing| missing.there).sum();
        watch.begin(&self.id.to_string(), all.len(), all.iter().map(|missing| missing.meta.bytes).sum(), before);
        for (n, missing) in all.iter().enumerate() {
            before -= missing.there;
            self.blob(missing, place, &mut |here| watch_event(watch, missing, n + 1, before, here))?;
            before += missing.meta.bytes;
            place.link(&missing.meta.etag, &missing.file)?;
        }
        watch.end();
        Ok(())
    }

    /// Makes a file's blob, from where an earlier try ended.
    fn blob(&self, missing: &Missing, place: CachePaths, tell: &mut dyn FnMut(Event)) -> Result<(), ModelError> {
        let Missing { file, url, meta, .. } = missing;
        let blob = place.blob(&meta.etag);
        if blob.is_file() {
            return Ok(());
        }
        let mut part = Part::open(place.incomplete(&meta.etag))?;
        // Somebody else may have made it while this waited for the lock.
        if blob.is_file() {
            return Ok(());
        }
        if part.bytes > meta.bytes {
            part.restart()?;
        }
        let mut failures = 0;
        while part.bytes < meta.bytes {
            let before = part.bytes;
            let fault = match self.remote.get(url, part.bytes) {
                Ok(answer) => part.receive(answer, meta.bytes, tell)?,
                Err(fault) => Some(fault),
            };
            let why = match fault {
                None => continue,
                Some(Fault::Broken(why) | Fault::Unreachable(why)) => why,
                Some(fault) => return Err(self.refusal(fault)),
            };
            failures = if part.bytes > before { 1 } else { failures + 1 };
            if failures >= TRIES {
                let found = format!("{file} broke off after {} of {} bytes ({why})", part.bytes, meta.bytes);
                return Err(self.error(found, "repeat the command: it continues from there"));
            }
            tell(Event::Again(&why));
            std::thread::sleep(self.hub.pause * (1 << (failures - 1)));
        }
        part.finish(file, &meta.etag, &blob)
    }

    /// An answer to something small: a broken connection is tried again, that there is none is said at once.
    fn first<T>(&self, watch: &mut dyn DownloadWatch, ask: impl Fn() -> Result<T, Fault>) -> Result<T, ModelError> {
        let mut failures = 0;
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(Fault::Broken(why)) if failures + 1 < TRIES => {
                    watch.again(&self.id.to_string(), &why);
                    std::thread::sleep(self.hub.pause * (1 << failures));
                    failures += 1;
                }
                Err(fault) => return Err(self.refusal(fault)),
            }
        }
    }

    fn error(&self, found: impl Into<String>, fix: impl Into<String>) -> ModelError {
        let HubId { revision, .. } = self.id;
        let model = if revision == "main" { self.id.to_string() } else { format!("{}@{revision}", self.id) };
        ModelError::Hub { model, found: found.into(), fix: fix.into() }
    }

    fn offline(&self, repository: &Path) -> ModelError {
        let found =
            format!("{}, and HF_HUB_OFFLINE is set, so no connection was tried", missing(&self.hub.cache, repository, self.id));
        let fix = format!(
            "unset it, or bring the cache from where it was fetched (hf download {} --revision {})",
            self.id, self.id.revision
        );
        self.error(found, fix)
    }

    fn refusal(&self, fault: Fault) -> ModelError {
        let Hub { endpoint, token, .. } = self.hub;
        let a_token = match token {
            Some(_) => "check the token (HF_TOKEN, or the file `token` in HF_HOME)",
            None => "give a token that may read it in HF_TOKEN",
        };
        let (status, code) = match fault {
            Fault::Unreachable(why) => {
                let fix = "check the connection (and HTTPS_PROXY, HF_ENDPOINT), or set HF_HUB_OFFLINE=1 to work with what the \
                           Hugging Face cache has";
                return self.error(format!("it is not whole in the cache, and {endpoint} cannot be reached ({why})"), fix);
            }
            Fault::Broken(why) => return self.error(format!("{endpoint} breaks off ({why})"), "try again later"),
            Fault::Odd(why) => {
                return self.error(format!("{endpoint} does not answer as a hub does: {why}"), "check HF_ENDPOINT");
            }
            Fault::Refused { status, code } => (status, code),
        };
        match (status, code.as_str()) {
            (401 | 403, "GatedRepo") => {
                let found = format!("the hub gives it only to those who accepted its conditions ({status})");
                self.error(found, format!("accept them at {endpoint}/{}, then {a_token}", self.id))
            }
            (401, _) => {
                self.error("the hub has no such public model (401)", format!("check the name; if it is private, {a_token}"))
            }
            (403, _) => self.error("the hub does not let you read it (403)", a_token),
            (404, "RevisionNotFound") => {
                self.error(format!("the hub has no revision {} of it (404)", self.id.revision), "check what stands behind the @")
            }
            (404, "EntryNotFound") => self.error("the hub has lost a file of it (404)", "choose another revision"),
            (404, _) => self.error("the hub has no such model (404)", format!("check the name; if it is private, {a_token}")),
            _ => self.error(format!("the hub answers {status} {code}"), "try again later, or check HF_ENDPOINT"),
        }
    }
}

/// What happens to one file.
enum Event<'a> {
    Here(u64),
    Again(&'a str),
}

fn watch_event(watch: &mut dyn DownloadWatch, missing: &Missing, number: usize, before: u64, event: Event) {
    match event {
        Event::Here(bytes) => watch.received(&missing.file, number, before + bytes),
        Event::Again(why) => watch.again(&missing.file, why),
    }
}

/// Where a model's files go.
#[derive(Clone, Copy)]
struct CachePaths<'a> {
    repository: &'a Path,
    snapshot: &'a Path,
}

impl CachePaths<'_> {
    fn blob(&self, etag: &str) -> PathBuf {
        self.repository.join("blobs").join(etag)
    }

    fn incomplete(&self, etag: &str) -> PathBuf {
        self.repository.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Bytes of a file that are here.
    fn there(&self, meta: &Meta) -> u64 {
        let length = |path: PathBuf| std::fs::metadata(path).map(|m| m.len()).ok();
        length(self.blob(&meta.etag)).or_else(|| length(self.incomplete(&meta.etag))).unwrap_or(0).min(meta.bytes)
    }

    /// Puts a blob into the snapshot under its name: a link, or a copy where links are not possible.
    fn link(&self, etag: &str, file: &str) -> Result<(), ModelError> {
        let to = self.snapshot.join(file);
        let folder = to.parent().unwrap_or(self.snapshot);
        std::fs::create_dir_all(folder).map_err(|e| ModelError::io("make", folder, e))?;
        // A link that leads nowhere is in the way.
        if to.symlink_metadata().is_ok() && !to.is_file() {
            std::fs::remove_file(&to).map_err(|e| ModelError::io("remove", &to, e))?;
        }
        let up = "../".repeat(file.matches('/').count());
        let linked = symlink(&Path::new(&up).join("../../blobs").join(etag), &to);
        if linked.is_ok() || to.is_file() {
            return Ok(());
        }
        let part = self.snapshot.join(format!("{file}.incomplete"));
        let copied = std::fs::copy(self.blob(etag), &part).and_then(|_| std::fs::rename(&part, &to));
        copied.map_err(|e| ModelError::io("copy the download to", &to, e))
    }
}

#[cfg(unix)]
fn symlink(blob: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(blob, to)
}

#[cfg(windows)]
fn symlink(blob: &Path, to: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(blob, to)
}

/// A file that is growing. It is locked, so that two programs do not write it at once.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    hash: Sha256,
}

impl Part {
    /// Opens what is there, once nobody else has it.
    fn open(path: PathBuf) -> Result<Self, ModelError> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| ModelError::io("make", dir, e))?;
        }
        let failed = |e| ModelError::io("open", &path, e);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer).map_err(|e| ModelError::io("read", &path, e))? {
                0 => return Ok(Part { path, file, bytes, hash }),
                read => {
                    hash.update(&buffer[..read]);
                    bytes += read as u64;
                }
            }
        }
    }

    /// Throws away what is there.
    fn restart(&mut self) -> Result<(), ModelError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|e| ModelError::io("empty", &self.path, e))?;
        (self.bytes, self.hash) = (0, Sha256::new());
        Ok(())
    }

    /// Appends an answer, up to `most` bytes in all. What breaks it off, if something does.
    fn receive(
        &mut self,
        mut answer: Response<Body>,
        most: u64,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Option<Fault>, ModelError> {
        match begins(&answer) {
            Some(start) if start == self.bytes => {}
            Some(0) => self.restart()?,
            _ => {
                self.restart()?;
                return Ok(Some(Fault::Broken("the hub does not go on from there".into())));
            }
        }
        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) if self.bytes < most => return Ok(Some(Fault::Broken("the connection ended".into()))),
                Ok(0) => return Ok(None),
                Ok(read) => &buffer[..read],
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Some(Fault::Broken(e.to_string()))),
            };
            if self.bytes + read.len() as u64 > most {
                self.restart()?;
                return Ok(Some(Fault::Odd("a file is longer than it was said to be".into())));
            }
            self.file.write_all(read).map_err(|e| ModelError::io("write", &self.path, e))?;
            self.hash.update(read);
            self.bytes += read.len() as u64;
            tell(Event::Here(self.bytes));
        }
    }

    /// Makes it the blob, if it is what its name says.
    fn finish(self, file: &str, etag: &str, blob: &Path) -> Result<(), ModelError> {
        let is_sha256 = etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit());
        let found = crate::bundle::hex(&self.hash.finalize());
        if is_sha256 && found != etag {
            // Nothing of it can be trusted; the next try begins anew.
            std::fs::remove_file(&self.path).map_err(|e| ModelError::io("remove", &self.path, e))?;
            let reason = format!("the SHA-256 of what was received is {found}, and the hub says {etag}; it was removed");
            return Err(ModelError::Corrupt { file: file.into(), reason });
        }
        self.file.sync_all().map_err(|e| ModelError::io("write", &self.path, e))?;
        std::fs::rename(&self.path, blob).map_err(|e| ModelError::io("rename the download to", blob, e))
    }
}

fn write(path: &Path, text: &str) -> Result<(), ModelError> {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(path, text)).map_err(|e| ModelError::io("write", path, e))
}
