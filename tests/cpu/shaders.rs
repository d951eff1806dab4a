//! Every shader variant assembles, validates, translates to every back end that wgpu has, and stays within WebGPU's default
//! limits. Every shader names its reference and says why it is shaped so. Needs no GPU.

use std::collections::BTreeSet;

use jurist::gpu::{Bindings, KernelSpec, SHADERS, assemble};
use jurist::ops::catalogue;
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner};

const STORAGE_BUFFERS: usize = 8;
const INVOCATIONS: u32 = 256;
const WORKGROUP_MEMORY: u32 = 16 << 10;

fn validated(spec: &KernelSpec) -> (Module, ModuleInfo) {
    let text = assemble(spec).unwrap_or_else(|e| panic!("{e}"));
    let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{spec}:\n{}", e.emit_to_string(&text)));
    let mut capabilities = Capabilities::default();
    capabilities.set(Capabilities::SUBGROUP, spec.needs_subgroups());
    capabilities.set(Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16, spec.needs_matrix_units());
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{spec}:\n{}", e.emit_to_string(&text)));
    (module, info)
}

#[test]
fn every_variant_validates_within_the_default_limits() {
    for spec in catalogue() {
        let (module, _) = validated(&spec);
        let entries: Vec<&str> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(entries, [spec.entry], "{spec}: only its own entry point is left in the text");

        let size: u32 = module.entry_points[0].workgroup_size.iter().product();
        assert!(size <= INVOCATIONS, "{spec}: {size} threads per workgroup");

        let of = |space: fn(&AddressSpace) -> bool| module.global_variables.iter().filter(move |(_, v)| space(&v.space));
        let storages = of(|s| matches!(s, AddressSpace::Storage { .. })).count();
        assert!(storages <= STORAGE_BUFFERS, "{spec}: {storages} storage bindings");

        let memory: u32 =
            of(|s| *s == AddressSpace::WorkGroup).map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
        assert!(memory <= WORKGROUP_MEMORY, "{spec}: {memory} bytes of workgroup memory");
    }
}

#[test]
fn every_variant_translates_to_every_back_end() {
    for spec in catalogue() {
        let (module, info) = validated(&spec);
        let entry_point = Some((ShaderStage::Compute, spec.entry.to_string()));

        let options = naga::back::spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: spec.entry.into() };
        let mut target = naga::back::spv::Options::default();
        if spec.needs_subgroups() {
            target.lang_version = (1, 3);
        }
        if spec.needs_matrix_units() {
            target.lang_version = (1, 6);
        }
        let words = naga::back::spv::write_vec(&module, &info, &target, Some(&options));
        assert!(words.is_ok_and(|w| !w.is_empty()), "{spec}: SPIR-V");

        let options = naga::back::msl::PipelineOptions { entry_point: entry_point.clone(), ..Default::default() };
        let mut dialect = naga::back::msl::Options::default();
        if spec.needs_matrix_units() {
            dialect.lang_version = (2, 3);
        }
        let (text, _) =
            naga::back::msl::write_string(&module, &info, &dialect, &options).unwrap_or_else(|e| panic!("{spec}: MSL: {e}"));
        assert!(text.contains("kernel void"), "{spec}: MSL");

        if spec.needs_matrix_units() {
            continue; // neither DirectX nor OpenGL has them in wgpu
        }
        let mut text = String::new();
        let options = naga::back::hlsl::PipelineOptions { entry_point };
        naga::back::hlsl::Writer::new(&mut text, &Default::default(), &options)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{spec}: HLSL: {e}"));
        assert!(text.contains("numthreads"), "{spec}: HLSL");

        if spec.needs_subgroups() {
            continue; // OpenGL adapters have no subgroups
        }
        let mut text = String::new();
        let options = naga::back::glsl::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: spec.entry.into(),
            multiview: None,
        };
        let base = naga::back::glsl::Options::default(); // GLSL ES 3.10
        naga::back::glsl::Writer::new(&mut text, &module, &info, &base, &options, BoundsCheckPolicies::default())
            .and_then(|mut w| w.write())
            .unwrap_or_else(|e| panic!("{spec}: GLSL: {e}"));
        assert!(text.contains("local_size_x"), "{spec}: GLSL");
    }
}

/// The bindings that `gpu` finds in the text are those that naga finds: binding 0 is `Params`, of 32-bit words without padding,
/// and the storage bindings follow without a gap.
#[test]
fn bindings_are_those_of_naga() {
    for spec in catalogue() {
        let (module, _) = validated(&spec);
        let mut bindings: Vec<_> = module.global_variables.iter().filter_map(|(_, v)| Some((v.binding?, v))).collect();
        bindings.sort_by_key(|(at, _)| (at.group, at.binding));
        let mut found = Bindings { read_only: Vec::new(), param_words: 0 };
        for (expected, (at, variable)) in bindings.iter().enumerate() {
            assert_eq!((at.group, at.binding), (0, expected as u32), "{spec}: bindings have a gap");
            let inner = &module.types[variable.ty].inner;
            match (variable.space, inner) {
                (AddressSpace::Uniform, TypeInner::Struct { members, span }) => {
                    assert_eq!((expected, *span), (0, 4 * members.len() as u32), "{spec}: Params");
                    found.param_words = members.len();
                }
                (AddressSpace::Storage { access }, _) => found.read_only.push(!access.contains(StorageAccess::STORE)),
                other => panic!("{spec}: binding {expected} is {other:?}"),
            }
        }
        assert_eq!(assemble(&spec).map(|text| Bindings::of(&text)).unwrap_or_else(|e| panic!("{e}")), found, "{spec}");
    }
}

/// A kernel outside the catalogue would be compiled by no test.
#[test]
fn the_catalogue_holds_every_entry_point() {
    let known: BTreeSet<(&str, &str)> = catalogue().iter().map(|s| (s.file, s.entry)).collect();
    for (file, text) in SHADERS {
        let entries: Vec<&str> = entry_points(text);
        assert!(!entries.is_empty() || file.starts_with("lib/"), "{file} has no entry point");
        for entry in entries {
            assert!(known.contains(&(file, entry)), "{file}: {entry} is in no variant of ops::catalogue()");
        }
    }
}

/// The header of a shader names its plain loops in Rust, `// Reference  src/reference/x.rs`, its contract and its grid, and says
/// why it is shaped so.
#[test]
fn every_shader_has_a_full_header() {
    for (file, text) in SHADERS.iter().filter(|(file, _)| !file.starts_with("lib/")) {
        for part in ["Contract   ", "Grid       ", "Why so     "] {
            // A variant of another kernel has that kernel's contract, and says so.
            let of_another = part.starts_with("Contract") && text.contains("the contract of ");
            let has_part = text.lines().any(|line| line.strip_prefix("// ").is_some_and(|line| line.starts_with(part)));
            assert!(has_part || of_another, "shaders/{file} has no line `// {part}…`");
        }
        if *file == "ceilings.wgsl" {
            continue; // the kernels of `jurist bench` compute nothing that a model needs
        }
        let reference = text.lines().find_map(|line| line.strip_prefix("// Reference  "));
        let reference = reference.unwrap_or_else(|| panic!("shaders/{file} has no line `// Reference  src/reference/…`"));
        for path in reference.split([' ', ',']).filter(|word| word.ends_with(".rs")) {
            let exists = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file();
            assert!(exists, "shaders/{file} names {path}, which is not a file");
        }
        assert!(reference.contains(".rs"), "shaders/{file}: {reference}");
    }
}

#[test]
fn every_shader_file_is_embedded() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut found = BTreeSet::new();
    for folder in [root.clone(), root.join("lib")] {
        for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).flatten() {
            let path = file.path();
            if path.extension().is_some_and(|e| e == "wgsl") {
                let name = path.strip_prefix(&root).map(|p| p.to_string_lossy().replace('\\', "/"));
                found.insert(name.unwrap_or_default());
            }
        }
    }
    let embedded: BTreeSet<String> = SHADERS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(embedded, found, "SHADERS in src/gpu/kernel.rs lists the files of shaders/");
}

/// Names of the functions that follow `@compute`.
fn entry_points(text: &str) -> Vec<&str> {
    let after_fn = |rest: &'_ str| rest.find("fn ").map(|at| at + 3);
    text.split("@compute")
        .skip(1)
        .filter_map(|rest| after_fn(rest).and_then(|at| rest[at..].split('(').next()).map(str::trim))
        .collect()
}
