//! Rules on the source that no lint checks: which module may import which, how long a file and a comment may be, and that every
//! module and shader is listed. Clippy checks the rest: panics and prints (`src/lib.rs`), and what a browser does not have
//! (`clippy.toml`, on wasm).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

/// Each module of the crate's root, and those that it may import. Leaves come last.
const IMPORTS: &[(&str, &[&str])] = &[
    ("cli", &["*"]),
    ("serve", &["judge", "rollout", "model", "text", "data"]),
    ("metrics", &["api", "eval"]),
    (
        "api",
        &[
            "files",
            "train",
            "judge",
            "selftest",
            "model_folder",
            "bundle",
            "hub",
            "model",
            "ops",
            "gpu",
            "text",
            "data",
            "eval",
            "system",
            "progress",
            "ranks",
            "words",
        ],
    ),
    (
        "web",
        &["train", "judge", "selftest", "rollout", "bundle", "model", "ops", "gpu", "text", "data", "eval", "random", "ranks"],
    ),
    (
        "experiments",
        &[
            "files",
            "train",
            "judge",
            "selftest",
            "rollout",
            "model_folder",
            "bundle",
            "model",
            "gpu",
            "text",
            "data",
            "eval",
            "charts",
            "progress",
            "random",
            "words",
        ],
    ),
    ("bench", &["files", "train", "rollout", "model", "ops", "gpu", "eval", "charts", "progress", "random"]),
    ("doctor", &["train", "judge", "selftest", "rollout", "model", "ops", "gpu", "text", "data", "eval", "random"]),
    (
        "train",
        &[
            "files",
            "judge",
            "model_folder",
            "gguf",
            "rollout",
            "bundle",
            "model",
            "ops",
            "gpu",
            "text",
            "data",
            "eval",
            "progress",
            "random",
            "ranks",
            "words",
        ],
    ),
    ("judge", &["model_folder", "gguf", "rollout", "bundle", "model", "ops", "gpu", "text", "data", "eval", "random"]),
    ("bundle", &["files", "model", "ops", "text", "random"]),
    ("model_folder", &["files", "bundle", "gguf", "hub", "model", "ops", "text", "random"]),
    ("gguf", &["files", "model", "ops", "text"]),
    ("hub", &["files", "bundle", "model", "text", "random"]),
    ("selftest", &["rollout", "model", "ops", "gpu", "reference", "system", "random"]),
    ("rollout", &["model", "ops", "gpu", "random"]),
    ("model", &["files", "ops", "gpu", "random", "words"]),
    ("ops", &["gpu", "random", "words"]),
    ("gpu", &[]),
    ("text", &["random"]),
    ("data", &["random", "words"]),
    ("eval", &["charts", "random", "words"]),
    ("charts", &[]),
    ("reference", &["random"]),
    ("files", &[]),
    ("system", &["progress"]),
    ("progress", &[]),
    ("random", &[]),
    ("ranks", &[]),
    ("words", &[]),
];

/// Modules that unit tests may import besides: kernels are compared with the specification, tokens come from a tokenizer.
const IMPORTS_OF_TESTS: &[&str] = &["reference", "random", "text", "data", "experiments"];

const LONGEST_FILE: usize = 700;
const LONGEST_COMMENT: usize = 130; // `cargo fmt` does it for code

/// A name that a file takes from the crate's root (`crate::name`, `super::name`), or one of another crate.
struct Named {
    name: String,
    line: usize,
    in_test: bool,
}

struct Source {
    path: String,
    named: Vec<Named>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let mut source = Source { path: path.into(), named: Vec::new() };
        source.walk(text.parse().unwrap_or_else(|error| panic!("{path}: {error}")), path.ends_with("tests.rs"));
        source
    }

    fn walk(&mut self, code: TokenStream, in_test: bool) {
        let tokens: Vec<TokenTree> = code.into_iter().collect();
        let texts: Vec<String> = tokens.iter().map(ToString::to_string).collect();
        // From `#[cfg(test)]` up to the body or the semicolon of its item.
        let mut test_item = false;
        for (at, token) in tokens.iter().enumerate() {
            test_item |= texts[at].replace(' ', "").starts_with("[cfg(test");
            if let TokenTree::Group(group) = token {
                self.walk(group.stream(), in_test || test_item);
            }
            self.note(&tokens, &texts, at, in_test || test_item);
            test_item &= texts[at] != ";" && !texts[at].starts_with('{');
        }
    }

    /// Notes what follows a `crate::`, or enough `super::` to be at the root, and the names of two crates.
    fn note(&mut self, tokens: &[TokenTree], texts: &[String], at: usize, in_test: bool) {
        let mut put = |name: String, token: &TokenTree| {
            self.named.push(Named { name, line: token.span().start().line, in_test });
        };
        let is_path = texts.len() > at + 3 && texts[at + 1] == ":" && texts[at + 2] == ":";
        let supers = texts[..at].rchunks(3).take_while(|chunk| chunk[0] == "super").count() + 1;
        let depth = self.path.trim_end_matches("/mod.rs").matches('/').count();
        match (texts[at].as_str(), is_path) {
            ("wgpu", _) => put("wgpu".into(), &tokens[at]),
            ("jurist", true) => put(format!("jurist::{}", texts[at + 3]), &tokens[at]),
            ("super", true) if supers < depth => {}
            ("crate" | "super", true) => match &tokens[at + 3] {
                TokenTree::Group(list) => {
                    let list: Vec<TokenTree> = list.stream().into_iter().collect();
                    let heads = list.split(|t| t.to_string() == ",").filter_map(<[TokenTree]>::first);
                    heads.for_each(|head| put(head.to_string(), head));
                }
                name => put(name.to_string(), name),
            },
            _ => {}
        }
    }
}

fn faults_of(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let path = source.path.as_str();
        let module = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
        let known = IMPORTS.iter().find(|(name, _)| *name == module);
        if known.is_none() && !["lib", "main"].contains(&module) {
            faults.push(format!("{path}:1: `{module}` is no known module; add it to IMPORTS and ARCHITECTURE.md"));
        }
        for Named { name, line, in_test } in &source.named {
            let of_tests = *in_test && IMPORTS_OF_TESTS.contains(&name.as_str());
            let allowed = of_tests || known.is_none_or(|(_, may)| may.contains(&"*") || may.contains(&name.as_str()));
            if IMPORTS.iter().any(|(known, _)| known == name) && name != module && !allowed {
                faults.push(format!("{path}:{line}: `{module}` must not import `{name}`"));
            }
            if name == "wgpu" && module != "gpu" {
                faults.push(format!("{path}:{line}: only `gpu` names wgpu"));
            }
            if name.starts_with("jurist::") && name != "jurist::run" && module == "main" {
                faults.push(format!("{path}:{line}: `main` only calls `cli`"));
            }
        }
    }
    faults
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

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// Also: only `gpu` names wgpu, and `main` only calls `cli`.
#[test]
fn modules_import_only_what_they_may() {
    let sources: Vec<Source> = files("src", "rs").iter().map(|(path, text)| Source::new(path, text)).collect();
    assert_none(&faults_of(&sources));
}

#[test]
fn no_file_and_no_comment_is_long() {
    let mut faults = Vec::new();
    for (path, text) in [("src", "rs"), ("tests", "rs"), ("shaders", "wgsl")].into_iter().flat_map(|(f, e)| files(f, e)) {
        if text.lines().count() > LONGEST_FILE {
            faults.push(format!("{path}:{LONGEST_FILE}: the file goes on; split it"));
        }
        // A row of a table cannot be wrapped.
        let long = |line: &str| line.starts_with("//") && !line.ends_with('|') && line.chars().count() > LONGEST_COMMENT;
        let long = text.lines().enumerate().filter(|(_, line)| long(line.trim_start()));
        faults.extend(long.map(|(at, _)| format!("{path}:{}: a comment beyond column {LONGEST_COMMENT}", at + 1)));
    }
    assert_none(&faults);
}

/// Every shader on disk is compiled in, and every module has its line in ARCHITECTURE.md.
#[test]
fn every_shader_and_module_is_listed() {
    let listed: BTreeSet<String> = jurist::gpu::SHADERS.iter().map(|(name, _)| format!("shaders/{name}")).collect();
    let on_disk: BTreeSet<String> = files("shaders", "wgsl").into_keys().collect();
    assert_eq!(listed, on_disk, "gpu::SHADERS and shaders/ differ");

    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let absent = IMPORTS.iter().filter(|(module, _)| !text.contains(&format!("`{module}`")));
    assert_none(&absent.map(|(module, _)| format!("ARCHITECTURE.md:1: does not list `{module}`")).collect::<Vec<_>>());
}

/// One name, five files: an operation with a shader has `src/ops/x.rs`, `shaders/x.wgsl`, `src/reference/x.rs`, its checks in
/// `src/selftest/kernels/x.rs`, and `tests/gpu/kernels/x.rs`, which runs these at more shapes. A shader is named after its
/// operation, or is a variant of it: `x_variant.wgsl`.
#[test]
fn an_operation_has_one_name() {
    const EXCEPTIONS: &[(&str, &str)] = &[
        ("src/reference/rows.rs", "gather and scatter are those of embedding.rs"),
        ("src/reference/cached_attention.rs", "a cache changes nothing that attention.rs computes"),
        ("src/reference/ceilings.rs", "kernels of the bench, which no model runs"),
        ("src/selftest/kernels/ceilings.rs", "kernels of the bench, which no model runs"),
        ("tests/gpu/kernels/ceilings.rs", "kernels of the bench, which no model runs"),
        ("src/ops/unpack.rs", "a part of matmul_packed.rs"),
    ];
    let names = |folder: &str, ending: &str| -> BTreeSet<String> {
        let end = format!(".{ending}");
        let direct =
            |path: String| path[folder.len() + 1..].strip_suffix(&end).filter(|name| !name.contains('/')).map(str::to_string);
        files(folder, ending).into_keys().filter_map(direct).collect()
    };
    let (ops, shaders) = (names("src/ops", "rs"), names("shaders", "wgsl"));
    let mut expected = BTreeSet::new();
    for shader in &shaders {
        let of = ops.iter().find(|op| *op == shader || shader.strip_prefix(*op).is_some_and(|rest| rest.starts_with('_')));
        expected.insert(format!("src/ops/{}.rs", of.unwrap_or(shader)));
    }
    for op in shaders.intersection(&ops) {
        expected.extend(["src/reference", "src/selftest/kernels", "tests/gpu/kernels"].map(|folder| format!("{folder}/{op}.rs")));
    }
    let absent = |path: &String| !Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists();
    let absent: BTreeSet<String> = expected.into_iter().filter(absent).collect();
    let excused: BTreeSet<String> = EXCEPTIONS.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(absent, excused, "left: files that are absent; right: the exceptions");
}

/// The rules themselves, on sources with one fault of each kind.
#[test]
fn faults_are_found_where_they_are() {
    let ops = "//! crate::train is only a comment.
        use crate::{gpu::{Gpu, Plan}, judge::Scale};
        fn f() { let s = \"crate::cli wgpu\"; super::train::go(); }
        fn g() { wgpu::init(); format!(\"{}\", crate::cli::NAME); }
        #[cfg(test)] mod tests { use crate::reference::f; use crate::train::g; }";
    let main = "fn main() { jurist::train::run(); jurist::run(vec![]) }";
    let texts =
        [("src/main.rs", main), ("src/ops/mod.rs", ops), ("src/ops/tests.rs", "use crate::reference::f;"), ("src/shed.rs", "")];
    let sources: Vec<Source> = texts.iter().map(|(path, text)| Source::new(path, text)).collect();
    let found = [
        "src/main.rs:1: `main` only calls `cli`",
        "src/ops/mod.rs:2: `ops` must not import `judge`",
        "src/ops/mod.rs:3: `ops` must not import `train`",
        "src/ops/mod.rs:4: only `gpu` names wgpu",
        "src/ops/mod.rs:4: `ops` must not import `cli`",
        "src/ops/mod.rs:5: `ops` must not import `train`",
        "src/shed.rs:1: `shed` is no known module; add it to IMPORTS and ARCHITECTURE.md",
    ];
    assert_eq!(faults_of(&sources), found);
}
