//! From a WGSL file to a compiled entry point.
//!
//! The constants of a [`KernelSpec`] stand in front of the text, as `const NAME: u32 = value;`. The text is plain WGSL with
//! four additions, which are resolved before the compiler sees them (WGSL has no generics, and register tiles need one
//! variable per element):
//!
//! ```text
//! #include "lib/grid.wgsl"        another file, once
//! #if NAME / #if !NAME … #else … #endif     the constant NAME is not 0; the name of the entry point counts as 1
//! #for I 8 … #end                 the lines 8 times, with {{I}} = 0 … 7: a loop unrolled in the text, so that
//!                                 arrays become registers on every driver; the count may be a constant's name
//! {{NAME}}                        the variable of an enclosing #for, or a constant inside another name (vec{{WIDTH}})
//! ```

use super::GpuError;

/// Every shader, by its path below `shaders/`.
pub const SHADERS: &[(&str, &str)] = &[
    ("lib/codes.wgsl", include_str!("../../shaders/lib/codes.wgsl")),
    ("lib/decode.wgsl", include_str!("../../shaders/lib/decode.wgsl")),
    ("lib/grid.wgsl", include_str!("../../shaders/lib/grid.wgsl")),
    ("lib/kv_slot.wgsl", include_str!("../../shaders/lib/kv_slot.wgsl")),
    ("lib/vec.wgsl", include_str!("../../shaders/lib/vec.wgsl")),
    ("lib/kv_cache.wgsl", include_str!("../../shaders/lib/kv_cache.wgsl")),
    ("lib/product.wgsl", include_str!("../../shaders/lib/product.wgsl")),
    ("lib/row.wgsl", include_str!("../../shaders/lib/row.wgsl")),
    ("lib/threefry.wgsl", include_str!("../../shaders/lib/threefry.wgsl")),
    ("lib/spans.wgsl", include_str!("../../shaders/lib/spans.wgsl")),
    ("adamw.wgsl", include_str!("../../shaders/adamw.wgsl")),
    ("attention.wgsl", include_str!("../../shaders/attention.wgsl")),
    ("attention_subgroup.wgsl", include_str!("../../shaders/attention_subgroup.wgsl")),
    ("attention_tiled.wgsl", include_str!("../../shaders/attention_tiled.wgsl")),
    ("cached_attention.wgsl", include_str!("../../shaders/cached_attention.wgsl")),
    ("cached_attention_split.wgsl", include_str!("../../shaders/cached_attention_split.wgsl")),
    ("ceilings.wgsl", include_str!("../../shaders/ceilings.wgsl")),
    ("dropout.wgsl", include_str!("../../shaders/dropout.wgsl")),
    ("embedding.wgsl", include_str!("../../shaders/embedding.wgsl")),
    ("embedding_packed.wgsl", include_str!("../../shaders/embedding_packed.wgsl")),
    ("grad_norm.wgsl", include_str!("../../shaders/grad_norm.wgsl")),
    ("loss_head.wgsl", include_str!("../../shaders/loss_head.wgsl")),
    ("matmul.wgsl", include_str!("../../shaders/matmul.wgsl")),
    ("matmul_cooperative.wgsl", include_str!("../../shaders/matmul_cooperative.wgsl")),
    ("matmul_packed.wgsl", include_str!("../../shaders/matmul_packed.wgsl")),
    ("matmul_subgroup.wgsl", include_str!("../../shaders/matmul_subgroup.wgsl")),
    ("rmsnorm.wgsl", include_str!("../../shaders/rmsnorm.wgsl")),
    ("rope.wgsl", include_str!("../../shaders/rope.wgsl")),
    ("rows.wgsl", include_str!("../../shaders/rows.wgsl")),
    ("sample.wgsl", include_str!("../../shaders/sample.wgsl")),
    ("unpack.wgsl", include_str!("../../shaders/unpack.wgsl")),
    ("swiglu.wgsl", include_str!("../../shaders/swiglu.wgsl")),
];

/// One variant of one kernel: file, entry point and the constants its text is assembled with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelSpec {
    pub file: &'static str,
    pub entry: &'static str,
    pub constants: Vec<(&'static str, u32)>,
}

impl KernelSpec {
    pub fn new(file: &'static str, entry: &'static str, constants: &[(&'static str, u32)]) -> Self {
        KernelSpec { file, entry, constants: constants.to_vec() }
    }

    /// True for variants that need subgroups: native adapters only, never what a browser runs (naga does not know the
    /// `enable` directive that browsers ask for, and wgpu does not map the feature there).
    pub fn needs_subgroups(&self) -> bool {
        self.file.ends_with("_subgroup.wgsl") || self.needs_matrix_units()
    }

    /// True for variants that need cooperative matrices of f16: Vulkan and Metal only.
    pub fn needs_matrix_units(&self) -> bool {
        self.file.ends_with("_cooperative.wgsl")
    }
}

impl std::fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.trim_end_matches(".wgsl"), self.entry)?;
        for (name, value) in &self.constants {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// The complete WGSL of a variant.
///
/// # Errors
/// An unknown file or constant, or a directive without its end: defects of a shader, named with file and line.
pub fn assemble(spec: &KernelSpec) -> Result<String, GpuError> {
    assemble_with(spec, &[])
}

/// As [`assemble`], with other texts for some files.
fn assemble_with(spec: &KernelSpec, substitutes: &[(&'static str, String)]) -> Result<String, GpuError> {
    let mut assembler = Assembler { spec, substitutes, included: Vec::new(), out: String::new() };
    let mut scope: Vec<(String, String)> = spec.constants.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    scope.push((spec.entry.to_string(), "1".into()));
    assembler.file(spec.file, &mut scope)?;
    let mut text = assembler.out;
    text.insert_str(end_of_directives(&text), &prologue(spec));
    Ok(text)
}

/// The constants of a variant as WGSL: `const NAME: u32 = value;` each.
fn prologue(spec: &KernelSpec) -> String {
    spec.constants.iter().map(|(name, value)| format!("const {name}: u32 = {value}u;\n")).collect()
}

/// Where declarations may begin: after the last `enable` line, because WGSL wants those first.
fn end_of_directives(text: &str) -> usize {
    let Some(last) = text.rfind("\nenable ") else { return 0 };
    let line = last + 1;
    text[line..].find('\n').map_or(text.len(), |end| line + end + 1)
}

struct Assembler<'a> {
    spec: &'a KernelSpec,
    substitutes: &'a [(&'static str, String)],
    included: Vec<String>,
    out: String,
}

type Scope = Vec<(String, String)>;

impl Assembler<'_> {
    fn error(&self, reason: String) -> GpuError {
        GpuError::Shader { kernel: self.spec.to_string(), reason }
    }

    fn file(&mut self, name: &str, scope: &mut Scope) -> Result<(), GpuError> {
        if self.included.iter().any(|n| n == name) {
            return Ok(());
        }
        self.included.push(name.to_string());
        let substitute = self.substitutes.iter().find(|(n, _)| *n == name).map(|(_, text)| text.as_str());
        let own = || SHADERS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
        let text = substitute.or_else(own).ok_or_else(|| self.error(format!("no shader file {name}")))?;
        let lines: Vec<&str> = text.lines().collect();
        self.block(name, &lines, scope)
    }

    /// Emits `lines`, resolving directives; a nested block is cut out and handled by a recursive call.
    fn block(&mut self, file: &str, lines: &[&str], scope: &mut Scope) -> Result<(), GpuError> {
        let mut i = 0;
        while i < lines.len() {
            let words: Vec<&str> = lines[i].split_whitespace().collect();
            match words.first().copied() {
                Some("#include") => {
                    let name = words.get(1).copied().unwrap_or_default().trim_matches('"').to_string();
                    self.file(&name, scope)?;
                }
                Some("#if") => {
                    let (end, middle) = self.extent(file, lines, i)?;
                    let name = words.get(1).copied().unwrap_or_default();
                    let on = match name.strip_prefix('!') {
                        Some(name) => !is_set(scope, name),
                        None => is_set(scope, name),
                    };
                    let body = match (on, middle) {
                        (true, Some(m)) => &lines[i + 1..m],
                        (true, None) => &lines[i + 1..end],
                        (false, Some(m)) => &lines[m + 1..end],
                        (false, None) => &[],
                    };
                    self.block(file, body, scope)?;
                    i = end;
                }
                Some("#for") => {
                    let (end, _) = self.extent(file, lines, i)?;
                    let variable = words.get(1).copied().unwrap_or_default().to_string();
                    let count = words.get(2).copied().unwrap_or_default();
                    let count = lookup(scope, count).unwrap_or(count);
                    let count: u32 = count.parse().map_err(|_| self.error(format!("{file}: #for needs a count, not {count}")))?;
                    for n in 0..count {
                        scope.push((variable.clone(), n.to_string()));
                        self.block(file, &lines[i + 1..end], scope)?;
                        scope.pop();
                    }
                    i = end;
                }
                Some(word) if word.starts_with('#') => return Err(self.error(format!("{file}: unknown directive {word}"))),
                _ => self.line(file, lines[i], scope)?,
            }
            i += 1;
        }
        Ok(())
    }

    /// Where the block opened at `start` ends, and where its `#else` is.
    fn extent(&self, file: &str, lines: &[&str], start: usize) -> Result<(usize, Option<usize>), GpuError> {
        let (mut depth, mut middle) = (0, None);
        for (i, line) in lines.iter().enumerate().skip(start) {
            match line.split_whitespace().next() {
                Some("#if" | "#for") => depth += 1,
                Some("#else") if depth == 1 => middle = Some(i),
                Some("#endif" | "#end") => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok((i, middle));
                    }
                }
                _ => {}
            }
        }
        Err(self.error(format!("{file}: `{}` has no end", lines[start].trim())))
    }

    fn line(&mut self, file: &str, line: &str, scope: &Scope) -> Result<(), GpuError> {
        let mut rest = line;
        while let Some(open) = rest.find("{{") {
            let close = rest[open..].find("}}").ok_or_else(|| self.error(format!("{file}: unclosed {{{{ in `{line}`")))? + open;
            let name = &rest[open + 2..close];
            let value = lookup(scope, name).ok_or_else(|| self.error(format!("{file}: the constant {name} is not set")))?;
            self.out.push_str(&rest[..open]);
            self.out.push_str(value);
            rest = &rest[close + 2..];
        }
        self.out.push_str(rest);
        self.out.push('\n');
        Ok(())
    }
}

fn lookup<'s>(scope: &'s Scope, name: &str) -> Option<&'s str> {
    scope.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

fn is_set(scope: &Scope, name: &str) -> bool {
    lookup(scope, name).is_some_and(|v| v != "0")
}

/// A compiled kernel and what its text says about its bindings.
pub(super) struct Kernel {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    /// Number of storage bindings; binding 0 is the uniform `Params`, storage starts at 1.
    pub storages: usize,
    /// Number of 32-bit words of `Params`.
    pub words: usize,
}

impl Kernel {
    pub(super) fn compile(
        device: &wgpu::Device,
        spec: &KernelSpec,
        substitutes: &[(&'static str, String)],
        checked: bool,
    ) -> Result<Self, GpuError> {
        let text = assemble_with(spec, substitutes)?;
        let storages = storages(&text);
        let words = param_words(&text);
        let label = spec.to_string();
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(&label), source: wgpu::ShaderSource::Wgsl(text.as_str().into()) };
        let module = if checked || cfg!(target_arch = "wasm32") {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: the shaders are the crate's own. Each guards its edges against the sizes in `Params`, its loops are
            // bounded by them, and token ids are checked on the host; the tests run all of them with the checks on.
            unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let entry = |binding: u32, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
        entries.extend(
            storages.iter().enumerate().map(|(i, ro)| entry(i as u32 + 1, wgpu::BufferBindingType::Storage { read_only: *ro })),
        );
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(spec.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Workgroup memory is always written before it is read.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Ok(Kernel { pipeline, layout, storages: storages.len(), words })
    }
}

/// For each storage binding in order: is it read-only?
fn storages(text: &str) -> Vec<bool> {
    text.lines().filter(|l| l.contains("var<storage")).map(|l| !l.contains("read_write")).collect()
}

/// Fields of `struct Params`, which are all 32 bits wide, one a line.
fn param_words(text: &str) -> usize {
    let body = text.split("struct Params {").nth(1).and_then(|t| t.split('}').next()).unwrap_or("");
    body.lines().filter(|l| l.split("//").next().unwrap_or("").contains(':')).count()
}
