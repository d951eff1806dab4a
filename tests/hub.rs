//! Fetching models from a hub: what is asked for, what is left in the cache, and what is said when it does not work. A small
//! server in this file plays the hub and the storage behind it; nothing else is connected to. (`make hub`)

#[path = "common/cli.rs"]
mod cli;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cli::{Task, finish, succeed};
use jurist::bundle::sha256_hex;
use jurist::hub::{DownloadWatch, Hub, Wanted};
use serde_json::json;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the played hub has, and how it behaves.
#[derive(Default)]
struct Stage {
    /// Models by name, files by name.
    models: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Revisions besides `main`; their files are the same.
    revisions: Vec<String>,
    /// The token without which a model's files are kept back.
    token: Option<String>,
    /// Large files are sent up to here only, each of so many times.
    cut: (usize, usize),
    /// A busy hub: 503 for so many requests.
    busy: usize,
    /// So many connections are closed without a word.
    silent: usize,
    /// The storage sends another byte than it should.
    wrong: bool,
    /// The storage knows no ranges.
    no_ranges: bool,
    /// `METHOD path`, of the storage with ` from N` where that is asked for.
    asked: Vec<String>,
    /// The bytes of large files that were sent.
    sent: usize,
}

/// Files by name.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// A hub on this machine. Its storage is another server, as that of the real one.
struct Played {
    stage: Arc<Mutex<Stage>>,
    endpoint: String,
    home: tempfile::TempDir,
}

impl Played {
    fn new(models: &[(&str, Files)]) -> Self {
        let owned = |files: Files| files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        let models = models.iter().map(|(name, files)| (name.to_string(), owned(files))).collect();
        let stage = Arc::new(Mutex::new(Stage { models, ..Stage::default() }));
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [endpoint, stored] = [&hub, &storage].map(|l| format!("http://{}", l.local_addr().unwrap()));
        for (listener, is_hub) in [(hub, true), (storage, false)] {
            let (stage, stored) = (stage.clone(), stored.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (stage, stored) = (stage.clone(), stored.clone());
                    std::thread::spawn(move || answer(stream, &stage, is_hub.then_some(&stored)));
                }
            });
        }
        Played { stage, endpoint, home: tempfile::tempdir().unwrap() }
    }

    /// The model `acme/judge` with a large file of `weights`.
    fn with_judge(weights: &[u8]) -> Self {
        let files: [(&str, &[u8]); 6] = [
            ("config.json", b"{}"),
            ("tokenizer.json", b"{\"a\":1}"),
            ("tokenizer_config.json", b"{\"b\":2}"),
            ("README.md", b"much to read"),
            ("pytorch_model.bin", b"not wanted"),
            ("model.safetensors", weights),
        ];
        Self::new(&[("acme/judge", &files)])
    }

    fn hub(&self) -> Hub {
        let env = |name: &str| match name {
            "HF_HOME" => Some(self.home.path().display().to_string()),
            "HF_ENDPOINT" => Some(format!("{}/", self.endpoint)),
            _ => None,
        };
        Hub { pause: Duration::from_millis(1), ..Hub::from_env(env).unwrap() }
    }

    fn fetch(&self, model: &str) -> Result<(), String> {
        self.hub().fetch(Path::new(model), Wanted::All, &mut ()).map_err(|e| e.to_string())
    }

    fn set(&self, change: impl FnOnce(&mut Stage)) {
        change(&mut self.stage.lock().unwrap());
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.stage.lock().unwrap().asked)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join("hub/models--acme--judge").join(name)
    }

    fn snapshot(&self, file: &str) -> Option<Vec<u8>> {
        std::fs::read(self.file("snapshots").join(COMMIT).join(file)).ok()
    }
}

/// One request, one answer, one connection. `stored` is where the storage is, for the hub; the storage has none.
fn answer(mut stream: TcpStream, stage: &Mutex<Stage>, stored: Option<&String>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_string())))
        .collect();
    let (method, path) = first.split_once(' ').map(|(m, rest)| (m, rest.split(' ').next().unwrap())).unwrap();
    let mut stage = stage.lock().unwrap();
    let start = headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let place = if stored.is_some() { "" } else { "storage " };
    let from = start.map_or(String::new(), |start| format!(" from {start}"));
    stage.asked.push(format!("{place}{method} {path}{from}"));
    if stage.silent > 0 {
        stage.silent -= 1;
        return;
    }
    let reply = match stored {
        Some(stored) => stage.hub(path, &headers, stored),
        None => {
            assert!(!headers.contains_key("authorization"), "the token went to the storage");
            stage.storage(path, start)
        }
    };
    drop(stage);
    let Reply { status, mut head, body, announced } = reply;
    head.push(format!("content-length: {}", announced.unwrap_or(body.len())));
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{}\r\n\r\n", head.join("\r\n"));
    let body = if method == "HEAD" { &[][..] } else { &body };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

struct Reply {
    status: u16,
    head: Vec<String>,
    body: Vec<u8>,
    /// A length that is not the body's.
    announced: Option<usize>,
}

fn reply(status: u16, head: Vec<String>, body: &[u8]) -> Reply {
    Reply { status, head, body: body.to_vec(), announced: None }
}

impl Stage {
    fn hub(&mut self, path: &str, headers: &BTreeMap<String, String>, stored: &str) -> Reply {
        let refused = |status, code: &str| reply(status, vec![format!("x-error-code: {code}")], b"");
        if self.busy > 0 {
            self.busy -= 1;
            return refused(503, "");
        }
        let allowed = self.token.as_ref().is_none_or(|t| headers.get("authorization") == Some(&format!("Bearer {t}")));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (org, name, rest) = match parts[..] {
            ["api", "models", org, name, "revision", revision] => (org, name, [revision, ""]),
            [org, name, "resolve", commit, file] => (org, name, [commit, file]),
            _ => return refused(404, "EntryNotFound"),
        };
        let Some(files) = self.models.get(&format!("{org}/{name}")) else { return refused(404, "RepoNotFound") };
        if !allowed {
            return if org == "gated" { refused(403, "GatedRepo") } else { refused(401, "RepoNotFound") };
        }
        let known = |revision: &str| revision == "main" || revision == COMMIT || self.revisions.iter().any(|r| r == revision);
        match rest {
            [revision, _] if !known(revision) => refused(404, "RevisionNotFound"),
            [_, ""] => {
                let siblings: Vec<_> = files.keys().map(|name| json!({"rfilename": name})).collect();
                reply(200, Vec::new(), json!({"sha": COMMIT, "siblings": siblings}).to_string().as_bytes())
            }
            [_, file] => match files.get(file) {
                None => refused(404, "EntryNotFound"),
                // Large files are stored elsewhere, under their SHA-256.
                Some(bytes) if file.ends_with(".safetensors") || file.ends_with(".bin") => {
                    let sha = sha256_hex(bytes);
                    let head = [
                        format!("x-linked-etag: \"{sha}\""),
                        format!("x-linked-size: {}", bytes.len()),
                        format!("location: {stored}/{org}/{name}/{file}"),
                    ];
                    reply(302, head.to_vec(), b"")
                }
                Some(bytes) => reply(200, vec![format!("etag: W/\"{}\"", &sha256_hex(bytes)[..40])], bytes),
            },
        }
    }

    fn storage(&mut self, path: &str, start: Option<usize>) -> Reply {
        let (model, file) = path.trim_start_matches('/').rsplit_once('/').unwrap();
        let mut bytes = self.models[model][file].clone();
        if self.wrong {
            bytes[0] ^= 1;
        }
        let total = bytes.len();
        let start = start.filter(|_| !self.no_ranges);
        let mut body = bytes.split_off(start.unwrap_or(0));
        let announced = body.len();
        if self.cut.1 > 0 {
            self.cut.1 -= 1;
            body.truncate(self.cut.0);
        }
        self.sent += body.len();
        let ranges = start.map(|start| format!("content-range: bytes {start}-{}/{total}", total - 1));
        Reply { status: if ranges.is_some() { 206 } else { 200 }, head: Vec::from_iter(ranges), body, announced: Some(announced) }
    }
}

fn weights(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 7 % 251) as u8).collect()
}

/// What a watch was told.
#[derive(Default)]
struct Told(Vec<String>);

impl DownloadWatch for Told {
    fn begin(&mut self, model: &str, files: usize, bytes: u64, there: u64) {
        self.0.push(format!("{model}: {files} files, {bytes} bytes, {there} there"));
    }

    fn received(&mut self, file: &str, number: usize, bytes: u64) {
        // However many pieces it came in.
        let line = format!("{number} {file} ");
        self.0.pop_if(|last| last.starts_with(&line));
        self.0.push(line + &bytes.to_string());
    }

    fn again(&mut self, file: &str, why: &str) {
        self.0.push(format!("{file} again: {why}"));
    }

    fn end(&mut self) {
        self.0.push("end".into());
    }
}

/// The needed files and no others, in the layout of Python's tools; and what is there is not asked for again.
#[test]
fn a_model_is_fetched_once() {
    let large = weights(200_000);
    let played = Played::with_judge(&large);
    let mut told = Told::default();
    played.hub().fetch(Path::new("acme/judge"), Wanted::All, &mut told).unwrap();
    let expected = [
        "acme/judge: 3 files, 16 bytes, 0 there",
        "1 config.json 2",
        "2 tokenizer.json 9",
        "3 tokenizer_config.json 16",
        "end",
        "acme/judge: 1 files, 200000 bytes, 0 there",
        "1 model.safetensors 200000",
        "end",
    ];
    assert_eq!(told.0, expected);
    assert_eq!(played.snapshot("model.safetensors").unwrap(), large);
    assert_eq!(std::fs::read_to_string(played.file("refs/main")).unwrap(), COMMIT);
    let blob = format!("blobs/{}", sha256_hex(&large));
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(played.file("snapshots").join(COMMIT).join("model.safetensors")).unwrap(),
        Path::new("../..").join(&blob)
    );
    assert!(played.file(&blob).is_file());
    assert!(std::fs::read_dir(played.file("blobs")).unwrap().all(|f| f.unwrap().path().extension().is_none()), "nothing partial");
    let asked = played.asked();
    assert!(asked.iter().all(|a| !a.contains("README") && !a.contains("pytorch")), "{asked:?}");

    played.fetch("acme/judge").unwrap();
    assert_eq!(played.asked(), Vec::<String>::new());
    // Of a file that was lost only that one is fetched, and where its blob is left, nothing but the link is made.
    std::fs::remove_file(played.file("snapshots").join(COMMIT).join("model.safetensors")).unwrap();
    played.fetch("acme/judge").unwrap();
    assert!(played.asked().iter().all(|a| !a.contains("storage") && !a.contains("config")));
    assert_eq!(played.snapshot("model.safetensors").unwrap(), large);
}

/// A description has no weights; they come when they are wanted.
#[test]
fn a_description_is_small() {
    let played = Played::with_judge(&weights(1000));
    for _ in 0..2 {
        played.hub().fetch(Path::new("acme/judge"), Wanted::Description, &mut ()).unwrap();
    }
    let asked = played.asked();
    assert!(asked.iter().all(|a| !a.contains("safetensors")) && asked.len() == 1 + 3 * 2, "{asked:?}");
    played.fetch("acme/judge").unwrap();
    assert_eq!(played.snapshot("model.safetensors").unwrap(), weights(1000));
}

/// A connection that breaks is made again, and goes on where it ended; so does the next command after a kill.
#[test]
fn a_cut_connection_goes_on() {
    let large = weights(300_000);
    let played = Played::with_judge(&large);
    played.set(|s| s.cut = (100_000, 2));
    let mut told = Told::default();
    played.hub().fetch(Path::new("acme/judge"), Wanted::All, &mut told).unwrap();
    let from: Vec<String> = played.asked().into_iter().filter(|a| a.starts_with("storage")).collect();
    let get = "storage GET /acme/judge/model.safetensors";
    assert_eq!(from, [get.to_string(), format!("{get} from 100000"), format!("{get} from 200000")]);
    assert_eq!(played.stage.lock().unwrap().sent, large.len(), "no byte twice");
    assert_eq!(told.0.iter().filter(|line| line.starts_with("model.safetensors again: ")).count(), 2, "{:?}", told.0);
    assert_eq!(played.snapshot("model.safetensors").unwrap(), large);

    // Killed in the middle: a partial blob, and no name of the revision yet.
    let played = Played::with_judge(&large);
    std::fs::create_dir_all(played.file("blobs")).unwrap();
    let partial = played.file(&format!("blobs/{}.incomplete", sha256_hex(&large)));
    std::fs::write(&partial, &large[..123_456]).unwrap();
    let mut told = Told::default();
    played.hub().fetch(Path::new("acme/judge"), Wanted::All, &mut told).unwrap();
    assert!(told.0.contains(&"acme/judge: 1 files, 300000 bytes, 123456 there".to_string()), "{:?}", told.0);
    assert!(played.asked().contains(&format!("{get} from 123456")));
    assert_eq!(played.snapshot("model.safetensors").unwrap(), large);

    // Storage that knows no ranges: from the beginning. And a partial file that is too long is no beginning of anything.
    for length in [150_000, 400_000] {
        let played = Played::with_judge(&large);
        played.set(|s| s.no_ranges = true);
        std::fs::create_dir_all(played.file("blobs")).unwrap();
        std::fs::write(played.file(&format!("blobs/{}.incomplete", sha256_hex(&large))), weights(length)).unwrap();
        played.fetch("acme/judge").unwrap();
        assert_eq!(played.snapshot("model.safetensors").unwrap(), large);
    }
}

/// What brings nothing several times is given up, and what has come so far stays.
#[test]
fn a_dead_connection_is_given_up() {
    let played = Played::with_judge(&weights(300_000));
    played.set(|s| s.cut = (0, usize::MAX));
    let error = played.fetch("acme/judge").unwrap_err();
    assert!(
        error.contains("model.safetensors broke off after 0 of 300000 bytes") && error.contains("repeat the command"),
        "{error}"
    );
    assert_eq!(played.asked().iter().filter(|a| a.starts_with("storage")).count(), 4);
    assert!(!played.file("refs/main").exists());
    played.set(|s| s.cut = (0, 0));
    // What is small is asked for again: of a busy hub, and where the connection breaks off.
    played.set(|s| s.busy = 2);
    played.set(|s| s.silent = 1);
    played.fetch("acme/judge").unwrap();
    assert_eq!(played.snapshot("model.safetensors").unwrap(), weights(300_000));
}

/// A large file that is not what its hash says does not get into the cache.
#[test]
fn a_wrong_hash_is_refused() {
    let played = Played::with_judge(&weights(5000));
    played.set(|s| s.wrong = true);
    let error = played.fetch("acme/judge").unwrap_err();
    assert!(error.contains("model.safetensors is damaged") && error.contains(&sha256_hex(&weights(5000))), "{error}");
    assert!(played.snapshot("model.safetensors").is_none());
    assert!(!played.file(&format!("blobs/{}.incomplete", sha256_hex(&weights(5000)))).exists());
    played.set(|s| s.wrong = false);
    played.fetch("acme/judge").unwrap();
    assert_eq!(played.snapshot("model.safetensors").unwrap(), weights(5000));
}

/// Each refusal says what to do about it, after one request.
#[test]
fn refusals_say_what_to_do() {
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("pytorch_model.bin", b"x")];
    let played = Played::new(&[("acme/judge", &files), ("gated/judge", &files), ("acme/notes", &[("README.md", b"")])]);
    let case = |model: &str, parts: &[&str]| {
        let error = played.fetch(model).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)) && error.contains(&format!("model {model}: ")), "{error}");
        played.asked()
    };
    assert_eq!(case("acme/none", &["no such model (404)", "check the name", "HF_TOKEN"]).len(), 1);
    assert_eq!(case("acme/judge@v9", &["no revision v9", "behind the @"]).len(), 1);
    case("acme/notes", &["it is no model", "config.json"]);
    case("acme/judge", &["pytorch_model.bin, which is not read", "safetensors"]);
    played.set(|s| s.token = Some("secret".into()));
    assert_eq!(case("acme/judge", &["no such public model (401)", "give a token that may read it in HF_TOKEN"]).len(), 1);
    let accept = format!("accept them at {}/gated/judge, then give a token", played.endpoint);
    assert_eq!(case("gated/judge", &["accepted its conditions (403)", &accept]).len(), 1);
    let hub = Hub { token: Some("stale".into()), ..played.hub() };
    let error = hub.fetch(Path::new("acme/judge"), Wanted::All, &mut ()).unwrap_err().to_string();
    assert!(error.contains("check the token (HF_TOKEN, or the file") && !error.contains("stale"), "{error}");
    assert!(!played.file("refs").exists(), "what was not fetched has no name");
}

/// The token goes to the hub, from the variable or the file; the storage, which is another server, never sees it (it says so).
#[test]
fn the_token_is_for_the_hub() {
    let played = Played::with_judge(&weights(100));
    played.set(|s| s.token = Some("secret".into()));
    std::fs::write(played.home.path().join("token"), "secret\n").unwrap();
    assert_eq!(played.hub().token.as_deref(), Some("secret"));
    played.fetch("acme/judge").unwrap();
    assert_eq!(played.snapshot("model.safetensors").unwrap(), weights(100));
    let env = |name: &str| match name {
        "HF_HOME" => Some(played.home.path().display().to_string()),
        "HF_TOKEN" => Some("other".into()),
        _ => None,
    };
    assert_eq!(Hub::from_env(env).unwrap().token.as_deref(), Some("other"));
}

/// Offline, no connection is tried: what is there is used, and what is not there says so. A hub that cannot be reached says so
/// at once.
#[test]
fn offline() {
    let played = Played::with_judge(&weights(100));
    let offline = Hub { offline: true, ..played.hub() };
    let fetch = |hub: &Hub| hub.fetch(Path::new("acme/judge"), Wanted::All, &mut ()).map_err(|e| e.to_string());
    let error = fetch(&offline).unwrap_err();
    assert!(
        error.contains("HF_HUB_OFFLINE is set, so no connection was tried") && error.contains("hf download acme/judge"),
        "{error}"
    );
    played.hub().fetch(Path::new("acme/judge"), Wanted::Description, &mut ()).unwrap();
    played.asked();
    fetch(&offline).unwrap();
    assert_eq!(played.asked(), Vec::<String>::new());
    for (value, expected) in [("1", true), ("true", true), ("YES", true), ("0", false), ("", false)] {
        let env = |name: &str| Some(if name == "HF_HUB_OFFLINE" { value } else { "x" }.to_string());
        assert_eq!(Hub::from_env(env).unwrap().offline, expected, "HF_HUB_OFFLINE={value}");
    }
    let closed = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let started = Instant::now();
    // Nobody listens; no address at all.
    for endpoint in [closed, "nowhere".into()] {
        let error = fetch(&Hub { endpoint: endpoint.clone(), pause: Duration::from_secs(9), ..played.hub() }).unwrap_err();
        assert!(error.contains(&format!("{endpoint} cannot be reached")) && error.contains("HF_HUB_OFFLINE=1"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "it was tried again and again");
}

/// Another revision is another name for a commit; a commit is its own name.
#[test]
fn revisions() {
    let played = Played::with_judge(&weights(100));
    played.set(|s| s.revisions = vec!["v2".into(), "refs%2Fpr%2F1".into()]);
    for (model, name) in [("acme/judge@v2", Some("refs/v2")), ("acme/judge@refs/pr/1", Some("refs/refs/pr/1"))] {
        played.fetch(model).unwrap();
        assert_eq!(std::fs::read_to_string(played.file(name.unwrap())).unwrap(), COMMIT);
    }
    assert!(!played.file("refs/main").exists());
    played.asked();
    played.fetch(&format!("acme/judge@{COMMIT}")).unwrap();
    assert_eq!(played.asked(), Vec::<String>::new(), "the commit is there");
}

/// Weights in shards by their index; a bundle by its manifest's word; an adapter, and the model that it belongs to.
#[test]
fn every_kind_of_model() {
    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).to_string();
    let escape = json!({"weight_map": {"a": "../../../x.safetensors"}}).to_string();
    let adapter = json!({"base_model_name_or_path": "acme/judge"}).to_string();
    let judge: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index.as_bytes()),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
    ];
    let evil: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors.index.json", escape.as_bytes())];
    let lora: [(&str, &[u8]); 2] = [("adapter_config.json", adapter.as_bytes()), ("adapter_model.safetensors", b"small")];
    let played = Played::new(&[("acme/judge", &judge), ("acme/lora", &lora), ("acme/evil", &evil)]);
    played.fetch("acme/lora").unwrap();
    let adapter = played.home.path().join("hub/models--acme--lora/snapshots").join(COMMIT).join("adapter_model.safetensors");
    assert_eq!(std::fs::read(adapter).unwrap(), b"small");
    assert_eq!(["1", "2"].map(|n| played.snapshot(&format!("model-{n}.safetensors")).unwrap()), [b"one", b"two"]);
    played.asked();
    played.fetch("acme/lora").unwrap();
    assert_eq!(played.asked(), Vec::<String>::new());
    let error = played.fetch("acme/evil").unwrap_err();
    assert!(error.contains("../../../x.safetensors"), "{error}");
}

/// Two programs that want the same model at once: the large file comes once, and both have it.
#[test]
fn two_at_once() {
    let large = weights(3_000_000);
    let played = Played::with_judge(&large);
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| played.fetch("acme/judge")));
        both.into_iter().for_each(|one| one.join().unwrap().unwrap());
    });
    assert_eq!(played.stage.lock().unwrap().sent, large.len());
    assert_eq!(played.snapshot("model.safetensors").unwrap(), large);
}

/// On the command line: a judge that was trained here, as a bundle and as a folder, scores the same by its name on the hub.
#[test]
fn a_judge_by_its_name() {
    let task = Task::new(12, 4, true);
    succeed(task.train("judge", &["--max-steps", "2"]));
    succeed(task.jurist(&["export", "judge", "--out", "bundle"]));
    let files = |dir: &str| -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(task.at(dir)).unwrap().flatten().filter(|f| f.path().is_file());
        files.map(|f| (f.file_name().into_string().unwrap(), std::fs::read(f.path()).unwrap())).collect()
    };
    let played = Played::new(&[]);
    played.set(|s| {
        s.models =
            [("acme/judge", "judge"), ("acme/bundle", "bundle")].map(|(n, d)| (n.into(), files(d).into_iter().collect())).into()
    });
    let command = |args: &[&str], offline: &str| {
        let mut command = task.jurist(args);
        for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_TOKEN_PATH", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", played.home.path()).env("HF_ENDPOINT", &played.endpoint).env("HF_HUB_OFFLINE", offline);
        command
    };
    for (name, dir) in [("acme/judge", "judge"), ("acme/bundle", "bundle")] {
        let score = |model: &str, offline: &str| command(&["score", "--model", model, "--input", "dev.jsonl"], offline);
        let refused = finish(score(name, "1"));
        assert!(refused.code == Some(1) && refused.err.contains("no connection was tried"), "{}", refused.err);
        let fetched = succeed(score(name, ""));
        assert!(fetched.err.contains(&format!("fetching {name}: ")), "{}", fetched.err);
        played.asked();
        let again = succeed(score(name, "1"));
        assert_eq!(played.asked(), Vec::<String>::new());
        let local = succeed(task.jurist(&["score", "--model", dir, "--input", "dev.jsonl"]));
        assert!(fetched.out == local.out && again.out == local.out && !local.out.is_empty());
    }
    let quiet = succeed(command(&["data", "check", "dev.jsonl", "--model", "acme/judge", "--quiet"], ""));
    assert!(!quiet.err.contains("fetching"), "{}", quiet.err);
    let none = finish(command(&["score", "--model", "acme/none", "--input", "dev.jsonl"], ""));
    assert!(
        none.code == Some(1) && none.err.contains("error: ") && none.err.contains("the hub has no such model (404)"),
        "{}",
        none.err
    );
}
