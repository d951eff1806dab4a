//! The decoder against PyTorch: logits, losses, the gradient of every parameter, a greedy continuation.
//!
//! The fixtures in `tests/fixtures/golden` are committed, so this needs nothing but an adapter; a missing one is a
//! failure. `scripts/make_golden.py` makes them. On machines that have them, the larger models of the folder that
//! `JURIST_SHARED` names are compared as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{gpu_tuning_from, skip};
use jurist::doctor::{DoctorError, against};
use jurist::gpu::{Gpu, GpuOptions, Limits};
use jurist::selftest::Report;

const FIXTURES: [&str; 6] = ["qwen3_gqa7_tied", "qwen2_biases", "mistral_window5", "llama3_rope", "gemma3_local", "smollm3_nope"];
/// Those of the fixtures that have a LoRA adapter.
const ADAPTED: [&str; 4] = ["qwen3_gqa7_tied", "qwen2_biases", "gemma3_local", "smollm3_nope"];
const SHARED: [&str; 7] = ["qwen3_tied", "qwen3_untied", "qwen2", "llama", "llama3_rope", "mistral", "mistral_window"];

/// What `against` compares, in its words.
const GROUPS: [&str; 9] = [
    "logits",
    "losses",
    "expected score",
    "ce.grad",
    "rail.full.grad",
    "rail.renorm.grad",
    "real.all.grad",
    "real.cot.grad",
    "greedy",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    let dir = root().join("tests/fixtures/golden").join(name);
    for file in ["reference.safetensors", "checkpoint/config.json", "checkpoint/model.safetensors"] {
        let path = dir.join(file);
        assert!(path.is_file(), "{} is missing; `git checkout` it, or make it with scripts/make_golden.py", path.display());
    }
    dir
}

/// The adapter that `JURIST_ADAPTER` names, or the best one. No adapter is a failure: nothing would be proven.
fn open(limits: Limits, checked: bool) -> Gpu {
    let adapter = std::env::var("JURIST_ADAPTER").ok();
    let gpu = pollster::block_on(Gpu::open_untested(&GpuOptions { adapter, limits, checked, ..Default::default() }));
    gpu.unwrap_or_else(|e| panic!("{e}"))
}

fn compare(gpu: &Gpu, dir: &Path) -> Result<Report, DoctorError> {
    pollster::block_on(against(gpu, dir))
}

fn assert_agrees(gpu: &Gpu, dir: &Path) {
    let report = compare(gpu, dir).unwrap_or_else(|e| panic!("{e}"));
    println!("{} on {}\n{report}", dir.display(), gpu.facts());
    for group in GROUPS {
        assert!(report.findings.iter().any(|f| f.group == group), "{group} was not compared in {}", dir.display());
    }
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if ADAPTED.contains(&name) {
        for group in ["lora.logits", "lora.loss", "lora.grad", "lora.recompute"] {
            assert!(report.findings.iter().any(|f| f.group == group), "{group} was not compared in {}", dir.display());
        }
    }
    assert!(report.passes(), "{} on {}:\n{report}", dir.display(), gpu.facts());
}

/// With the limits of every browser and the compiler's bounds checks on.
#[test]
fn fixtures_agree_with_pytorch() {
    let gpu = open(Limits::Portable, true);
    FIXTURES.iter().for_each(|name| assert_agrees(&gpu, &fixture(name)));
}

/// As users run it.
#[test]
fn fixtures_agree_with_pytorch_without_bounds_checks() {
    let gpu = open(Limits::Adapter, false);
    FIXTURES.iter().for_each(|name| assert_agrees(&gpu, &fixture(name)));
}

/// With the kernels of GPUs: rows by teams, attention in tiles, caches read in parts.
#[test]
fn fixtures_agree_with_pytorch_with_the_kernels_of_gpus() {
    let gpu = open(Limits::Portable, true);
    let gpu = gpu.tuned(gpu_tuning_from(gpu.tuning().clone(), 3));
    FIXTURES.iter().for_each(|name| assert_agrees(&gpu, &fixture(name)));
}

/// Chromium brings a second software driver, whose compiler and rounding are its own.
#[test]
fn fixtures_agree_with_pytorch_on_swiftshader() {
    let Some(icd) = swiftshader() else {
        skip("no SwiftShader here (it comes with Chromium; or set JURIST_SWIFTSHADER to its ICD file)");
        return;
    };
    // The driver is chosen when a process loads Vulkan: this test program runs once more, for three of its tests.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "golden::fixtures_agree_with_pytorch", "golden::fixtures_agree_with_pytorch_with_the_kernels_of_gpus"])
        .args(["golden::shared_models_agree_with_pytorch", "--nocapture"])
        .env("VK_DRIVER_FILES", &icd)
        .env("VK_ICD_FILENAMES", &icd)
        .env("JURIST_ADAPTER", "SwiftShader")
        .env_remove("SKIPPED_TESTS")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    if !child.status.success() && said.contains("no adapter matches `SwiftShader`") && !vulkan_is_there() {
        return skip(format!("no Vulkan loader (libvulkan1) finds SwiftShader's driver {}", icd.display()));
    }
    assert!(child.status.success(), "with {}:\n{said}", icd.display());
    assert!(said.contains("3 passed") && said.contains("SwiftShader"), "the child built something else:\n{said}");
    println!("{said}");
}

/// Whether any driver answers over Vulkan: then the loader is there.
fn vulkan_is_there() -> bool {
    pollster::block_on(Gpu::adapters()).iter().any(|a| a.backend == "Vulkan")
}

fn swiftshader() -> Option<PathBuf> {
    let named = std::env::var_os("JURIST_SWIFTSHADER").map(PathBuf::from);
    let known = ["/usr/lib/chromium", "/usr/lib64/chromium-browser", "/usr/lib/chromium-browser", "/opt/google/chrome"];
    let usual = known.iter().map(|dir| Path::new(dir).join("vk_swiftshader_icd.json")).find(|p| p.is_file());
    named.or(usual)
}

#[test]
fn shared_models_agree_with_pytorch() {
    let shared = std::env::var_os("JURIST_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let golden = shared.join("reference/golden");
    if !golden.is_dir() {
        skip(format!("{} does not exist; set JURIST_SHARED to the folder that holds reference/golden", golden.display()));
        return;
    }
    let gpu = open(Limits::Portable, false);
    SHARED.iter().for_each(|name| assert_agrees(&gpu, &golden.join(name)));
}

/// The golden values would prove little if a wrong one passed.
#[test]
fn one_wrong_value_fails_its_group() {
    let gpu = open(Limits::Adapter, false);
    let cases = [
        ("logits", "logits"),
        ("ce.loss", "losses"),
        ("rail.renorm.expected", "expected score"),
        ("real.cot.pg_loss", "losses"),
        ("ce.grad.model.layers.0.self_attn.k_proj.bias", "ce.grad"),
        ("rail.full.grad.model.norm.weight", "rail.full.grad"),
        ("rail.renorm.grad.model.layers.1.self_attn.q_proj.weight", "rail.renorm.grad"),
        ("real.all.grad.model.embed_tokens.weight", "real.all.grad"),
        ("real.cot.grad.model.layers.1.mlp.down_proj.weight", "real.cot.grad"),
    ];
    for (key, group) in cases {
        let copy = Copy::of("qwen2_biases");
        copy.edit(key, |bytes| {
            let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let (at, largest) = values.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
            bytes[at * 4..at * 4 + 4].copy_from_slice(&(largest * 1.01).to_le_bytes());
        });
        copy.assert_only_fails(&gpu, key, group);
    }
    let nan = Copy::of("qwen2_biases");
    let key = "ce.grad.model.layers.1.mlp.up_proj.weight";
    nan.edit(key, |bytes| bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    nan.assert_only_fails(&gpu, key, "ce.grad");

    let token = Copy::of("qwen2_biases");
    token.edit("gen.output_ids", |bytes| bytes[8 * 5] ^= 1);
    token.assert_only_fails(&gpu, "token 5 differs", "greedy");
}

#[test]
fn a_damaged_fixture_is_named() {
    let gpu = open(Limits::Adapter, false);
    let path = |copy: &Copy| copy.dir().join("reference.safetensors");

    let truncated = Copy::of("llama3_rope");
    let bytes = std::fs::read(path(&truncated)).unwrap();
    std::fs::write(path(&truncated), &bytes[..bytes.len() / 2]).unwrap();
    truncated.assert_refused(&gpu, &["reference.safetensors is damaged or no safetensors file"]);

    let weights = Copy::of("llama3_rope");
    let file = weights.dir().join("checkpoint/model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 4]).unwrap();
    weights.assert_refused(&gpu, &["model.safetensors"]);

    let gone = Copy::of("llama3_rope");
    std::fs::remove_file(path(&gone)).unwrap();
    gone.assert_refused(&gpu, &["cannot read", "reference.safetensors"]);

    let renamed = Copy::of("llama3_rope");
    let text = std::fs::read(path(&renamed)).unwrap();
    let at = text.windows(9).position(|w| w == b"\"ce.loss\"").unwrap();
    let mut changed = text.clone();
    changed[at + 1] = b'x';
    std::fs::write(path(&renamed), changed).unwrap();
    renamed.assert_refused(&gpu, &["ce.loss", "is missing"]);
}

/// The fixtures see what they are there to see.
#[test]
fn a_wrong_setting_shows() {
    let gpu = open(Limits::Adapter, false);
    let cases = [
        ("mistral_window5", "\"sliding_window\": 5", "\"sliding_window\": 6"),
        ("llama3_rope", "\"factor\": 4.0", "\"factor\": 4.5"),
        ("llama3_rope", "\"rope_theta\": 500.0", "\"rope_theta\": 510.0"),
        ("qwen3_gqa7_tied", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-03"),
        ("gemma3_local", "\"sliding_window\": 5", "\"sliding_window\": 6"),
        ("gemma3_local", "\"query_pre_attn_scalar\": 7", "\"query_pre_attn_scalar\": 8"),
        ("gemma3_local", "\"factor\": 8.0", "\"factor\": 7.0"),
        ("gemma3_local", "\"rope_theta\": 100.0", "\"rope_theta\": 110.0"),
        ("smollm3_nope", "    0,\n    1\n", "    1,\n    1\n"),
    ];
    for (name, right, wrong) in cases {
        let copy = Copy::of(name);
        let path = copy.dir().join("checkpoint/config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(right), "{name} has no {right}");
        std::fs::write(path, text.replace(right, wrong)).unwrap();
        let report = compare(&gpu, copy.dir()).unwrap_or_else(|e| panic!("{e}"));
        assert!(!report.passes(), "{name} with {wrong} passed:\n{report}");
    }
}

/// `jurist doctor --against` as a user runs it: verdict on stdout, exit code.
#[test]
fn the_command_tells_right_from_wrong() {
    let run = |dir: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_jurist")).args(["doctor", "--against"]).arg(dir).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said, _) = run(&fixture("llama3_rope"));
    assert!(code == Some(0) && said.contains("ok") && !said.contains("FAIL"), "{code:?}: {said}");

    let wrong = Copy::of("llama3_rope");
    wrong.edit("logits", |bytes| bytes[..4].copy_from_slice(&9f32.to_le_bytes()));
    let (code, said, errors) = run(wrong.dir());
    assert!(code == Some(1) && said.contains("FAIL logits"), "{code:?}: {said}{errors}");

    let (code, _, errors) = run(&root().join("tests/fixtures/no_such_folder"));
    assert!(code == Some(1) && errors.contains("no_such_folder"), "{code:?}: {errors}");
}

/// What is committed stays small.
#[test]
fn fixtures_take_less_than_two_megabytes() {
    fn bytes(path: &Path) -> u64 {
        if path.is_file() {
            return path.metadata().unwrap().len();
        }
        std::fs::read_dir(path).unwrap().map(|entry| bytes(&entry.unwrap().path())).sum()
    }
    let total = bytes(&root().join("tests/fixtures/golden"));
    assert!(total <= 2_000_000, "tests/fixtures/golden takes {total} bytes");
}

/// A fixture copied to a temporary folder, to be damaged there.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(name: &str) -> Self {
        let (from, to) = (fixture(name), tempfile::tempdir().unwrap());
        std::fs::create_dir(to.path().join("checkpoint")).unwrap();
        for file in ["reference.safetensors", "checkpoint/config.json", "checkpoint/model.safetensors"] {
            std::fs::write(to.path().join(file), std::fs::read(from.join(file)).unwrap()).unwrap();
        }
        Copy(to)
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Changes the bytes of one tensor of the reference file.
    fn edit(&self, key: &str, change: impl FnOnce(&mut [u8])) {
        let path = self.dir().join("reference.safetensors");
        let mut file = std::fs::read(&path).unwrap();
        // safetensors: length of the header, header (JSON), data.
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let keys: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&file[8..8 + header]).unwrap();
        let place = keys.get(key).unwrap_or_else(|| panic!("the fixture has no {key}"));
        let at = |i: usize| 8 + header + place["data_offsets"][i].as_u64().unwrap() as usize;
        change(&mut file[at(0)..at(1)]);
        std::fs::write(path, file).unwrap();
    }

    fn assert_only_fails(&self, gpu: &Gpu, worst: &str, group: &str) {
        let report = compare(gpu, self.dir()).unwrap_or_else(|e| panic!("{e}"));
        assert!(!report.passes(), "a wrong {worst} passed:\n{report}");
        let failed: Vec<_> = report.findings.iter().filter(|f| !f.passes()).collect();
        assert!(failed.len() == 1 && failed[0].group == group && failed[0].worst == worst, "{worst}:\n{report}");
        assert!(report.to_string().contains("FAIL"), "{report}");
    }

    fn assert_refused(&self, gpu: &Gpu, parts: &[&str]) {
        let message = match compare(gpu, self.dir()) {
            Ok(report) => panic!("accepted:\n{report}"),
            Err(error) => error.to_string(),
        };
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?} not in: {message}");
    }
}
