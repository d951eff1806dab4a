//! Every seed of `fuzz/corpus` through the function that its target fuzzes, and inputs that are too large to be kept as files.
//!
//! A seed that came out of a finding stays here for good: it is a test of that fault.

#[path = "../../../fuzz/src/memory.rs"]
mod memory;
#[path = "../../../fuzz/src/targets.rs"]
mod targets;

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use targets::TARGETS;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Most seconds for one input, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs each input in a thread of its name, so that a stack overflow says which it was. Returns what went wrong.
fn run(target: &str, inputs: Vec<(String, Vec<u8>)>) -> Vec<String> {
    let (_, body) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    let mut faults = Vec::new();
    for (name, bytes) in inputs {
        let name = format!("{target}/{name}");
        let (done, finished) = channel();
        let thread = std::thread::Builder::new().name(name.clone());
        let worker = thread.spawn(move || {
            body(&bytes);
            let _ = done.send(());
        });
        match (finished.recv_timeout(LIMIT), worker) {
            (Ok(()), Ok(_)) => {}
            (Err(RecvTimeoutError::Timeout), _) => faults.push(format!("{name}: not done after {LIMIT:?}")),
            (_, worker) => {
                let panic = worker.expect("a thread").join().expect_err("it sent nothing");
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                faults.push(format!("{name}: {}", text.unwrap_or("a panic")));
            }
        }
    }
    faults
}

/// The files of a target's folder, in the order of their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), std::fs::read(path).expect("a seed"))
    };
    let mut seeds: Vec<_> = entries.map(|entry| read(entry.expect("an entry").path())).collect();
    seeds.sort();
    seeds
}

fn holds(target: &str) {
    let mut inputs = seeds(target);
    assert!(inputs.len() >= 5, "{target}: {} seeds", inputs.len());
    inputs.extend(large(target));
    let faults = run(target, inputs);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

macro_rules! targets_hold {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name));
        })*

        #[test]
        fn every_target_is_tested() {
            assert_eq!([$(stringify!($name)),*], TARGETS.map(|(name, _)| name));
        }
    };
}

targets_hold!(
    tokenizer,
    template,
    config,
    safetensors,
    gguf,
    bundle,
    adapter,
    rows,
    columns,
    trainer_state,
    arguments,
    settings,
    requests
);

/// Inputs of many thousand bytes, by their names.
fn large(target: &str) -> Vec<(String, Vec<u8>)> {
    let inputs: Vec<(&str, Vec<u8>)> = match target {
        "template" => vec![
            ("minus signs", format!("{{{{ {}1 }}}}", "-".repeat(20_000)).into()),
            ("brackets", format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)).into()),
            ("nots", format!("{{{{ {}true }}}}", "not ".repeat(20_000)).into()),
            ("lists", format!("{{{{ {}{} }}}}", "[".repeat(20_000), "]".repeat(20_000)).into()),
            ("sums", format!("{{{{ 1{} }}}}", "+1".repeat(20_000)).into()),
            ("filters", format!("{{{{ 1{} }}}}", "|string".repeat(20_000)).into()),
            ("attributes", format!("{{{{ n{} }}}}", ".n".repeat(20_000)).into()),
            ("ifs", format!("{}{}", "{% if true %}".repeat(20_000), "{% endif %}".repeat(20_000)).into()),
            ("loops", format!("{}{}", "{% for i in [1] %}".repeat(5_000), "{% endfor %}".repeat(5_000)).into()),
        ],
        "tokenizer" => vec![("brackets", vec![b'['; 100_000])],
        "config" => vec![("brackets", vec![b'['; 100_000]), ("objects", b"{\"a\":".repeat(100_000))],
        "requests" => vec![
            ("brackets", [b"{\"messages\": ".to_vec(), vec![b'['; 100_000]].concat()),
            ("objects", b"{\"a\":".repeat(100_000)),
            ("stops", format!("{{\"stop\": [\"{}\"], \"prompt\": \"1\"}}", "a".repeat(100_000)).into()),
            ("prompts", format!("{{\"n\": 128, \"prompt\": [{}1]}}", "1, ".repeat(20_000)).into()),
        ],
        "rows" => wide().into_iter().chain(packed()).chain(deep()).collect(),
        "columns" => wide().into_iter().chain(packed()).chain(deep()).collect(),
        "settings" => vec![
            ("brackets", [b"a = ".to_vec(), vec![b'['; 100_000]].concat()),
            ("tables", [b"a".to_vec(), b".a".repeat(50_000), b" = 1".to_vec()].concat()),
            ("objects", b"{\"a\":".repeat(100_000)),
            ("scale", b"0..4000000000".to_vec()),
        ],
        "arguments" => vec![
            ("words", b"train\n".repeat(20_000)),
            ("settings", [b"train\n".to_vec(), b"--set\nseed=1\n".repeat(20_000)].concat()),
        ],
        "adapter" => vec![("brackets", vec![b'['; 100_000])],
        "bundle" => vec![("brackets", vec![b'['; 100_000])],
        "trainer_state" => vec![("brackets", vec![b'['; 100_000])],
        "gguf" => vec![
            // A list that says its length, and 4 MB of it.
            ("flags", [&gguf_list(7, 4_000_000)[..], &vec![1; 4_000_000]].concat()),
            ("empty texts", [&gguf_list(8, 500_000)[..], &vec![0; 4_000_000]].concat()),
        ],
        "safetensors" => vec![("brackets", [&100_000_u64.to_le_bytes()[..], &vec![b'['; 100_000]].concat())],
        _ => Vec::new(),
    };
    inputs.into_iter().map(|(name, bytes)| (format!("large: {name}"), bytes)).collect()
}

/// The beginning of a GGUF file without tensors whose one pair is a list of so many values of a type.
fn gguf_list(kind: u32, length: u64) -> Vec<u8> {
    let counts = [3u32.to_le_bytes().to_vec(), [0u64, 1, 1].map(u64::to_le_bytes).concat()].concat();
    [b"GGUF".to_vec(), counts, b"k".to_vec(), [9u32, kind].map(u32::to_le_bytes).concat(), length.to_le_bytes().to_vec()].concat()
}

/// Many columns.
fn wide() -> Vec<(&'static str, Vec<u8>)> {
    let names = (0..200_000).map(|i| format!("c{i}"));
    let header: String = names.clone().collect::<Vec<_>>().join(",");
    let keys: String = names.map(|name| format!("\"{name}\":1")).collect::<Vec<_>>().join(",");
    let cells = vec!["1"; 200_000].join(",");
    vec![
        ("a csv of many columns", format!("csv\nprompt,h,j,{header}\na,1,2,{cells}\n").into()),
        ("a csv of many columns and a short row", format!("csv\nprompt,h,j,{header}\na,1,2\n").into()),
        ("a csv without the column", format!("csv\n{header}\n{cells}\n").into()),
        ("a row of many keys", format!("jsonl\n{{\"prompt\":\"a\",\"h\":1,\"j\":2,{keys}}}\n").into()),
        ("a row without the key", format!("jsonl\n{{{keys}}}\n").into()),
        ("an array with a row of many keys", format!("json\n[{{\"prompt\":\"a\",\"h\":1,\"j\":2,{keys}}}]").into()),
        ("a list of many scores", format!("jsonl\n{{\"prompt\":\"a\",\"score\":[{cells}],\"h\":1,\"j\":2}}\n").into()),
    ]
}

/// Small archives of large files: a megabyte for 32 gigabytes of zstd, a few hundred bytes for each megabyte of gzip.
fn packed() -> Vec<(&'static str, Vec<u8>)> {
    // A frame: no checksum, a window of 1 MiB, then blocks of one repeated byte, 128 KiB each.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let block = (128_u32 << 10 << 3 | 1 << 1).to_le_bytes();
    for _ in 0..(1 << 18) {
        frame.extend([block[0], block[1], block[2], b' ']);
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let megabyte = vec![b' '; 1 << 20];
    (0..64).for_each(|_| gzip.write_all(&megabyte).expect("into memory"));
    let member = gzip.finish().expect("into memory");
    vec![
        ("a zstd of spaces", [b"jsonl.zst\n".to_vec(), frame].concat()),
        ("a gzip of spaces", [b"jsonl.gz\n".to_vec(), member.repeat(512)].concat()),
    ]
}

/// Nested values.
fn deep() -> Vec<(&'static str, Vec<u8>)> {
    let lists = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        ("an array of arrays", format!("json\n{lists}").into()),
        ("a row of arrays", format!("jsonl\n{{\"prompt\":\"a\",\"h\":1,\"j\":{lists}}}\n").into()),
        ("a cell of arrays", format!("csv\nprompt,score,h,j\na,\"{lists}\",1,\"{lists}\"\n").into()),
        ("quotes", [b"csv\nprompt,h,j\n".to_vec(), vec![b'"'; 400_000]].concat()),
        ("line breaks", [b"csv\nprompt,h,j\n".to_vec(), vec![b'\n'; 400_000]].concat()),
        ("returns", [b"csv\nprompt,h,j\n".to_vec(), vec![b'\r'; 400_000]].concat()),
        ("spaces", [b"json\n[".to_vec(), vec![b' '; 400_000]].concat()),
    ]
}
