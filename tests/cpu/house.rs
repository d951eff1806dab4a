//! The house, held: who imports whom, which rooms may touch files, clocks and threads, how long a file may be, and that
//! nothing reachable from input panics. Every fault is reported as `file:line`, all of them at once.
//!
//! The reader below knows just enough Rust: it blanks comments, strings and characters, and finds the extent of items
//! behind a `#[cfg(..)]`. `ARCHITECTURE.md` explains the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

/// Each room, left to right, and the rooms it may name. Leaves come last.
const ROOMS: &[(&str, &[&str])] = &[
    ("cli", &["*"]),
    ("web", &["train", "judge", "rollout", "bundle", "model", "ops", "gpu", "text", "data", "eval", "random"]),
    ("experiments", &["files", "train", "judge", "selftest", "gpu", "text", "data", "model", "eval", "progress", "random"]),
    ("bench", &["files", "train", "rollout", "model", "ops", "gpu", "eval", "progress", "random"]),
    ("doctor", &["train", "judge", "selftest", "rollout", "model", "ops", "gpu", "text", "data", "eval", "random"]),
    ("train", &["files", "judge", "rollout", "bundle", "model", "ops", "gpu", "text", "data", "eval", "progress", "random"]),
    ("judge", &["rollout", "bundle", "model", "ops", "gpu", "text", "data", "random"]),
    ("bundle", &["files", "hub", "model", "ops", "text", "random"]),
    ("hub", &["files", "model", "text", "random"]),
    ("selftest", &["rollout", "model", "ops", "gpu", "reference", "random"]),
    ("rollout", &["model", "ops", "gpu", "random"]),
    ("model", &["files", "ops", "gpu", "random"]),
    ("ops", &["gpu", "random"]),
    ("gpu", &[]),
    ("text", &["random"]),
    ("data", &["random"]),
    ("eval", &["random"]),
    ("reference", &["random"]),
    ("files", &[]),
    ("progress", &[]),
    ("random", &[]),
];

/// Rooms that unit tests may name besides: kernels are held against the specification, tokens come from a tokenizer.
const ROOMS_OF_TESTS: &[&str] = &["reference", "random", "text", "data", "experiments"];

/// Files and folders that run natively only. Everything else compiles to wasm, where these do not exist:
const NATIVE: &[&str] = &[
    "src/main.rs",
    "src/bench/",
    "src/cli/",
    "src/doctor/",
    "src/experiments/",
    "src/files/",
    "src/hub/",
    "src/reference/",
    "src/selftest/",
    "src/bundle/export.rs",
    "src/bundle/folder.rs",
    "src/data/columns/",
    "src/data/csv.rs",
    "src/data/files.rs",
    "src/data/parquet.rs",
    "src/data/unpack.rs",
    "src/judge/files.rs",
    "src/model/directory.rs",
    "src/model/save.rs",
    "src/train/checkpoint/",
    "src/train/memory/",
    "src/train/run/",
];

const NATIVE_ONLY: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env::var",
    "std::env::args",
    "memmap2::",
    "pollster::",
    "tempfile::",
    "indicatif::",
    "ctrlc::",
    "rustix::",
    "same_file::",
    "clap::",
];

const PANICS: &[&str] = &[".unwrap()", ".expect(", ".unwrap_err()", ".expect_err(", "panic!", "todo!", "unimplemented!"];

/// What panics where nobody can be written to: `cli` prints by functions that return or swallow the error.
const PRINTS: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];

/// Panics that no input reaches, each with its reason: (file, text of the line, why).
const UNREACHABLE: &[(&str, &str, &str)] = &[];

const LONGEST_FILE: usize = 700;

/// One source file, read once.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    room: String,
    /// The text with comments, strings and characters blanked; line breaks and lengths are kept.
    code: String,
    /// Bytes that belong to `#[cfg(test)]`, and to `#[cfg(not(target_arch = "wasm32"))]`.
    tests: Vec<Range<usize>>,
    native: Vec<Range<usize>>,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let room = path.strip_prefix("src/").and_then(|p| p.split(['/', '.']).next()).unwrap_or_default().to_string();
        let native_item = |a: &str| a.contains("not(target_arch=") && a.contains("cfg(");
        Source {
            tests: items_behind(text, &code, |a| a.starts_with("#[cfg(test") || a.starts_with("#[cfg(all(test")),
            native: items_behind(text, &code, native_item),
            text: text.to_string(),
            path: path.to_string(),
            room,
            code,
        }
    }

    fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.code[..at].matches('\n').count() + 1)
    }

    fn in_test(&self, at: usize) -> bool {
        self.tests.iter().any(|r| r.contains(&at))
    }

    fn in_native_item(&self, at: usize) -> bool {
        self.native.iter().any(|r| r.contains(&at))
    }

    /// Where `word` stands in the code, not as the tail of a longer name.
    fn places_of<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let starts_name = word.starts_with(|c: char| c.is_alphanumeric());
        let whole = move |at: &usize| !(starts_name && self.code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        self.code.match_indices(word).map(|(at, _)| at).filter(whole)
    }

    /// Every room that the file names, with the place: `crate::room`, `crate::{room, ..}`, `super::..::room`.
    fn rooms_named(&self) -> Vec<(usize, String)> {
        let mut named = Vec::new();
        for at in self.places_of("crate::") {
            named.extend(heads(&self.code, at + "crate::".len()));
        }
        let inside = self.path.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_matches('/');
        let depth = inside.split('/').count() - 1;
        let mut from = 0;
        while let Some(found) = self.code[from..].find("super::") {
            let start = from + found;
            let supers = self.code[start..].split("super::").take_while(|s| s.is_empty()).count() - 1;
            let supers = supers.max(1);
            from = start + supers * "super::".len();
            if supers >= depth {
                named.extend(heads(&self.code, from));
            }
        }
        named.retain(|(_, room)| *room != self.room && ROOMS.iter().any(|(name, _)| name == room));
        named
    }
}

/// The first names of the paths at `at`: one, or each of a braced list.
fn heads(code: &str, at: usize) -> Vec<(usize, String)> {
    let name = |at: usize| {
        let length = code[at..].find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(code.len() - at);
        (at, code[at..at + length].to_string())
    };
    if !code[at..].starts_with('{') {
        return vec![name(at)];
    }
    let (mut found, mut depth, mut expects) = (Vec::new(), 0, false);
    for (i, c) in code[at..].char_indices() {
        match c {
            '{' => {
                depth += 1;
                expects = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => expects = depth == 1,
            c if expects && !c.is_whitespace() => {
                found.push(name(at + i));
                expects = false;
            }
            _ => {}
        }
    }
    found
}

/// `text` with comments, strings and character literals as blanks of the same length.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes[i + 1..].starts_with(b"/") => text[i..].find('\n').map_or(bytes.len(), |n| i + n),
            b'/' if bytes[i + 1..].starts_with(b"*") => text[i..].find("*/").map_or(bytes.len(), |n| i + n + 2),
            b'r' if is_raw_string(text, i) => end_of_raw_string(text, i),
            b'"' => end_of_quoted(bytes, i, b'"'),
            b'\'' if is_char(bytes, i) => end_of_quoted(bytes, i, b'\''),
            _ => i,
        };
        if end == i {
            i += 1;
            continue;
        }
        out[i..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        i = end;
    }
    String::from_utf8(out).unwrap()
}

fn is_raw_string(text: &str, at: usize) -> bool {
    let in_name = at > 0 && text[..at].ends_with(|c: char| (c.is_alphanumeric() && c != 'b') || c == '_');
    !in_name && text[at + 1..].trim_start_matches('#').starts_with('"')
}

fn end_of_raw_string(text: &str, at: usize) -> usize {
    let hashes = text[at + 1..].bytes().take_while(|b| *b == b'#').count();
    let close = format!("\"{}", "#".repeat(hashes));
    let body = at + 1 + hashes + 1;
    text[body..].find(&close).map_or(text.len(), |n| body + n + close.len())
}

fn end_of_quoted(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut i = at + 1;
    while i < bytes.len() && bytes[i] != quote {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// A character literal and not a lifetime: closed after one character or an escape.
fn is_char(bytes: &[u8], at: usize) -> bool {
    let rest = &bytes[at + 1..];
    let width = match rest.first() {
        Some(b'\\') => return true,
        Some(b) if *b >= 0xf0 => 4,
        Some(b) if *b >= 0xe0 => 3,
        Some(b) if *b >= 0xc0 => 2,
        _ => 1,
    };
    rest.get(width) == Some(&b'\'')
}

/// The extents of the items behind attributes for which `wanted` holds: up to the closing brace or the semicolon.
fn items_behind(text: &str, code: &str, wanted: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("#[cfg(") {
        let close = at + matching(&code[at..], '[', ']');
        let attribute: String = text[at..close].split_whitespace().collect();
        if wanted(&attribute) {
            found.push(at..end_of_item(code, close));
        }
    }
    found
}

fn end_of_item(code: &str, from: usize) -> usize {
    let (mut depth, mut i) = (0i32, from);
    while i < code.len() {
        match code.as_bytes()[i] {
            // Another attribute of the same item.
            b'#' if code[i + 1..].starts_with('[') => i += matching(&code[i..], '[', ']') - 1,
            b'(' | b'[' | b'<' => depth += 1,
            b'>' if code[..i].ends_with(['-', '=']) => {}
            b')' | b']' | b'>' => depth -= 1,
            b'{' => return i + matching(&code[i..], '{', '}'),
            b';' | b',' if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
    }
    code.len()
}

/// Length up to and including the bracket that closes the first one.
fn matching(code: &str, open: char, close: char) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return i + 1;
            }
        }
    }
    code.len()
}

/// All of `src`, with the files of test modules and of native modules known as such.
struct House {
    sources: Vec<Source>,
    test_files: BTreeSet<String>,
    native_files: BTreeSet<String>,
}

impl House {
    fn read() -> Self {
        let sources = files("src", "rs").iter().map(|(path, text)| Source::new(path, text)).collect();
        House::of(sources)
    }

    fn of(sources: Vec<Source>) -> Self {
        let modules = |ranges: fn(&Source) -> &Vec<Range<usize>>| {
            let mut files = BTreeSet::new();
            for source in &sources {
                for range in ranges(source) {
                    files.extend(files_of_module(&sources, source, range.clone()));
                }
            }
            files
        };
        let (test_files, native_files) = (modules(|s| &s.tests), modules(|s| &s.native));
        House { sources, test_files, native_files }
    }

    fn is_test(&self, source: &Source, at: usize) -> bool {
        source.in_test(at) || self.test_files.contains(&source.path)
    }

    fn imports(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for source in self.sources.iter().filter(|s| !["lib", "main"].contains(&s.room.as_str())) {
            let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == source.room) else {
                faults.push(format!(
                    "{}:1: `{}` is no room of the house; add it to ROOMS and ARCHITECTURE.md",
                    source.path, source.room
                ));
                continue;
            };
            for (at, room) in source.rooms_named() {
                let tests = self.is_test(source, at) && ROOMS_OF_TESTS.contains(&room.as_str());
                if !tests && !allowed.contains(&room.as_str()) && !allowed.contains(&"*") {
                    faults.push(format!("{}: `{}` must not import `{room}`", source.place(at), source.room));
                }
            }
        }
        faults
    }

    /// `main` calls `cli` and knows nothing else; only `gpu` knows wgpu.
    fn wgpu_and_main(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for source in &self.sources {
            if source.room != "gpu" {
                faults.extend(source.places_of("wgpu").map(|at| format!("{}: only `gpu` names wgpu", source.place(at))));
            }
            if source.room == "main" {
                let strangers = source.places_of("jurist::").filter(|at| !source.code[*at..].starts_with("jurist::cli"));
                faults.extend(strangers.map(|at| format!("{}: `main` only calls `cli`", source.place(at))));
            }
        }
        faults
    }

    fn native(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for source in &self.sources {
            let listed = NATIVE.iter().any(|n| source.path == *n || n.ends_with('/') && source.path.starts_with(n));
            if listed && source.path != "src/main.rs" && !self.native_files.contains(&source.path) {
                faults.push(format!("{}:1: is listed as native, but its `mod` line is not behind a cfg", source.path));
            }
            if listed {
                continue;
            }
            for word in NATIVE_ONLY {
                let outside = |at: &usize| !self.is_test(source, *at) && !source.in_native_item(*at);
                for at in source.places_of(word).filter(outside) {
                    faults.push(format!("{}: `{word}` in code that compiles to wasm", source.place(at)));
                }
            }
        }
        for entry in NATIVE {
            if !self.sources.iter().any(|s| s.path.starts_with(entry)) {
                faults.push(format!("tests/cpu/house.rs: NATIVE lists {entry}, which does not exist"));
            }
        }
        faults
    }

    fn panics(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for source in &self.sources {
            for word in PANICS.iter().chain(PRINTS) {
                // A method of our own called `expect` takes no message.
                let ours = |at: &usize| word.ends_with('(') && !source.text[at + word.len()..].trim_start().starts_with('"');
                for at in source.places_of(word).filter(|at| !self.is_test(source, *at) && !ours(at)) {
                    let line = source.code[..at].rfind('\n').map_or(0, |n| n + 1);
                    let line = source.text[line..].lines().next().unwrap_or_default().trim();
                    if !UNREACHABLE.iter().any(|(path, text, _)| *path == source.path && line.contains(text)) {
                        faults.push(format!("{}: `{word}` outside of tests: {line}", source.place(at)));
                    }
                }
            }
        }
        faults
    }
}

/// The files of the module that `mod name;` in `item` declares, with everything below them.
fn files_of_module(sources: &[Source], parent: &Source, item: Range<usize>) -> Vec<String> {
    let (text, code) = (&parent.text[item.clone()], &parent.code[item]);
    let declared = code.split_once("mod ").filter(|(_, rest)| !rest.contains('{')).and_then(|(_, rest)| rest.split(';').next());
    let Some(name) = declared else { return Vec::new() };
    let folder = parent.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let file = text.split_once("#[path = \"").and_then(|(_, rest)| rest.split('"').next());
    let stem = parent.path.trim_end_matches(".rs");
    let module = match file {
        Some(file) => format!("{folder}/{}", file.trim_end_matches(".rs")),
        None if ["lib", "main", "mod"].iter().any(|root| stem == format!("{folder}/{root}")) => {
            format!("{folder}/{}", name.trim())
        }
        None => format!("{stem}/{}", name.trim()),
    };
    let belongs = |path: &str| path == format!("{module}.rs") || path.starts_with(&format!("{module}/"));
    sources.iter().map(|s| s.path.clone()).filter(|path| belongs(path)).collect()
}

/// All files below `folder` with this ending: path from the root, and text.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path, ending));
        } else if path.ends_with(&format!(".{ending}")) {
            found.insert(path, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

fn assert_none(faults: Vec<String>) {
    let list = faults.iter().fold(String::new(), |mut out, fault| {
        let _ = writeln!(out, "  {fault}");
        out
    });
    assert!(faults.is_empty(), "{} faults:\n{list}", faults.len());
}

#[test]
fn rooms_import_only_what_they_may() {
    assert_none(House::read().imports());
}

#[test]
fn only_gpu_names_wgpu_and_main_only_calls_cli() {
    assert_none(House::read().wgpu_and_main());
}

#[test]
fn files_clocks_and_threads_stay_native() {
    assert_none(House::read().native());
}

#[test]
fn nothing_panics_outside_of_tests() {
    assert_none(House::read().panics());
}

#[test]
fn no_file_is_long() {
    let long = |(path, text): (String, String)| {
        let lines = text.lines().count();
        (lines > LONGEST_FILE).then(|| format!("{path}:{}: {lines} lines, at most {LONGEST_FILE}; split it", LONGEST_FILE + 1))
    };
    let all =
        [("src", "rs"), ("tests", "rs"), ("shaders", "wgsl")].into_iter().flat_map(|(folder, ending)| files(folder, ending));
    assert_none(all.filter_map(long).collect());
}

/// Every shader on disk is compiled in, and every room has its line in ARCHITECTURE.md.
#[test]
fn nothing_is_forgotten() {
    let listed: BTreeSet<String> = jurist::gpu::SHADERS.iter().map(|(name, _)| format!("shaders/{name}")).collect();
    let on_disk: BTreeSet<String> = files("shaders", "wgsl").into_keys().collect();
    assert_eq!(listed, on_disk, "gpu::SHADERS and shaders/ differ");

    let picture = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let rooms: BTreeSet<String> = House::read().sources.into_iter().map(|s| s.room).collect();
    let absent = rooms.iter().filter(|r| !["lib", "main"].contains(&r.as_str()) && !picture.contains(&format!("`{r}`")));
    assert_none(absent.map(|room| format!("ARCHITECTURE.md:1: says nothing of `{room}`")).collect());
}

/// The rules themselves, on a house with one fault of each kind.
#[test]
fn faults_are_found_where_they_are() {
    let lib = "pub mod gpu;\npub mod ops;\n#[cfg(not(target_arch = \"wasm32\"))]\npub mod cli;\n";
    let ops = r##"//! crate::train is only a comment.
use crate::{gpu::{Gpu, Plan}, judge::Scale};
fn f() { let s = "crate::cli .unwrap()"; let c = '"'; super::train::go(); }
/* panic! */ fn g<'a>(x: &'a str) { r#"todo!"#; x.parse::<u32>().unwrap(); wgpu::init(); std::fs::read(x); }
#[cfg(not(target_arch = "wasm32"))]
fn h() { std::fs::read(""); }
#[cfg(test)]
mod checks;
#[cfg(test)]
mod tests { use crate::reference::f; use crate::train::g; fn t() { None.unwrap() } }
"##;
    let texts = [
        ("src/lib.rs", lib),
        ("src/ops/mod.rs", ops),
        ("src/ops/checks.rs", "fn t() { panic!() }"),
        ("src/shed.rs", ""),
        ("src/cli/mod.rs", "fn f() { std::fs::read(\"\"); }"),
    ];
    let house = House::of(texts.iter().map(|(path, text)| Source::new(path, text)).collect());
    assert_eq!(
        house.imports(),
        [
            "src/ops/mod.rs:2: `ops` must not import `judge`",
            "src/ops/mod.rs:10: `ops` must not import `train`",
            "src/ops/mod.rs:3: `ops` must not import `train`",
            "src/shed.rs:1: `shed` is no room of the house; add it to ROOMS and ARCHITECTURE.md",
        ]
    );
    assert_eq!(house.wgpu_and_main(), ["src/ops/mod.rs:4: only `gpu` names wgpu"]);
    let native = house.native();
    assert_eq!(native[0], "src/ops/mod.rs:4: `std::fs` in code that compiles to wasm");
    assert!(native[1..].iter().all(|f| f.contains("does not exist")), "{native:?}");
    let panics = house.panics();
    assert!(panics.len() == 1 && panics[0].starts_with("src/ops/mod.rs:4: `.unwrap()`"), "{panics:?}");
}
