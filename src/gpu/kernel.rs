//! From a WGSL file to a compiled entry point.
//!
//! The constants of a [`KernelSpec`] precede the text, as `const NAME: u32 = value;`. The text is plain WGSL with five additions,
//! which are resolved before the compiler sees them (WGSL has no generics, and register tiles need one variable per element):
//!
//! ```text
//! #include "lib/grid.wgsl"        another file, once
//! #if NAME / #if !NAME … #else … #endif     the constant NAME is not 0; the name of the entry point counts as 1
//! #for I 8 … #end                 the lines 8 times, with {{I}} = 0 … 7: a loop unrolled in the text, so that
//!                                 arrays become registers on every driver; the count may be a constant's name
//! {{NAME}}                        the variable of an enclosing #for, or a constant inside another name (vec{{WIDTH}})
//! {{BROADCAST}}                   the function that shares a lane's value with the others of LANES
//! ```

use super::GpuError;

/// Every shader, by its path below `shaders/`.
pub const SHADERS: &[(&str, &str)] = &[
    ("adamw.wgsl", include_str!("../../shaders/adamw.wgsl")),
    ("add.wgsl", include_str!("../../shaders/add.wgsl")),
    ("attention.wgsl", include_str!("../../shaders/attention.wgsl")),
    ("attention_subgroup.wgsl", include_str!("../../shaders/attention_subgroup.wgsl")),
    ("attention_tiled.wgsl", include_str!("../../shaders/attention_tiled.wgsl")),
    ("cached_attention.wgsl", include_str!("../../shaders/cached_attention.wgsl")),
    ("cached_attention_split.wgsl", include_str!("../../shaders/cached_attention_split.wgsl")),
    ("cached_attention_team.wgsl", include_str!("../../shaders/cached_attention_team.wgsl")),
    ("ceilings.wgsl", include_str!("../../shaders/ceilings.wgsl")),
    ("column_squares.wgsl", include_str!("../../shaders/column_squares.wgsl")),
    ("dropout.wgsl", include_str!("../../shaders/dropout.wgsl")),
    ("embedding.wgsl", include_str!("../../shaders/embedding.wgsl")),
    ("embedding_packed.wgsl", include_str!("../../shaders/embedding_packed.wgsl")),
    ("grad_norm.wgsl", include_str!("../../shaders/grad_norm.wgsl")),
    ("lib/ahead.wgsl", include_str!("../../shaders/lib/ahead.wgsl")),
    ("lib/grid.wgsl", include_str!("../../shaders/lib/grid.wgsl")),
    ("lib/kv_cache.wgsl", include_str!("../../shaders/lib/kv_cache.wgsl")),
    ("lib/kv_slot.wgsl", include_str!("../../shaders/lib/kv_slot.wgsl")),
    ("lib/largest_logit.wgsl", include_str!("../../shaders/lib/largest_logit.wgsl")),
    ("lib/ordinary.wgsl", include_str!("../../shaders/lib/ordinary.wgsl")),
    ("lib/packing.wgsl", include_str!("../../shaders/lib/packing.wgsl")),
    ("lib/product.wgsl", include_str!("../../shaders/lib/product.wgsl")),
    ("lib/row.wgsl", include_str!("../../shaders/lib/row.wgsl")),
    ("lib/spans.wgsl", include_str!("../../shaders/lib/spans.wgsl")),
    ("lib/threefry.wgsl", include_str!("../../shaders/lib/threefry.wgsl")),
    ("lib/unpack8.wgsl", include_str!("../../shaders/lib/unpack8.wgsl")),
    ("lib/vec.wgsl", include_str!("../../shaders/lib/vec.wgsl")),
    ("lib/weight_product.wgsl", include_str!("../../shaders/lib/weight_product.wgsl")),
    ("loss_head.wgsl", include_str!("../../shaders/loss_head.wgsl")),
    ("matmul.wgsl", include_str!("../../shaders/matmul.wgsl")),
    ("matmul_cooperative.wgsl", include_str!("../../shaders/matmul_cooperative.wgsl")),
    ("matmul_packed.wgsl", include_str!("../../shaders/matmul_packed.wgsl")),
    ("matmul_quad.wgsl", include_str!("../../shaders/matmul_quad.wgsl")),
    ("matmul_skinny.wgsl", include_str!("../../shaders/matmul_skinny.wgsl")),
    ("matmul_staged.wgsl", include_str!("../../shaders/matmul_staged.wgsl")),
    ("matmul_subgroup.wgsl", include_str!("../../shaders/matmul_subgroup.wgsl")),
    ("rmsnorm.wgsl", include_str!("../../shaders/rmsnorm.wgsl")),
    ("rope.wgsl", include_str!("../../shaders/rope.wgsl")),
    ("rows.wgsl", include_str!("../../shaders/rows.wgsl")),
    ("sample.wgsl", include_str!("../../shaders/sample.wgsl")),
    ("swiglu.wgsl", include_str!("../../shaders/swiglu.wgsl")),
    ("unpack.wgsl", include_str!("../../shaders/unpack.wgsl")),
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

    /// True for variants that need subgroups.
    pub fn needs_subgroups(&self) -> bool {
        ["_subgroup.wgsl", "_quad.wgsl"].iter().any(|end| self.file.ends_with(end)) || self.needs_matrix_units()
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
/// An unknown file, an unknown constant, an unknown directive, or one without its end. The message names file and line.
pub fn assemble(spec: &KernelSpec) -> Result<String, GpuError> {
    assemble_with(spec, &[])
}

/// As [`assemble`], for browsers, which want directives where subgroups are used. naga knows the functions, but not these.
///
/// # Errors
/// As [`assemble`].
pub fn assemble_for_browsers(spec: &KernelSpec) -> Result<String, GpuError> {
    Ok(for_browsers(spec, assemble(spec)?))
}

fn for_browsers(spec: &KernelSpec, text: String) -> String {
    // Browsers do not see that loops whose ends come from subgroupMax end for all lanes at once.
    let directives = "enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n";
    if spec.needs_subgroups() { format!("{directives}{text}") } else { text }
}

/// As [`assemble`], with other texts for some files.
fn assemble_with(spec: &KernelSpec, substitutes: &[(&'static str, String)]) -> Result<String, GpuError> {
    let mut assembler = Assembler { spec, substitutes, included: Vec::new(), out: String::new() };
    let mut scope: Scope = spec.constants.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    scope.push((spec.entry.to_string(), "1".into()));
    // SwiftShader needs one instruction for the second, and some twenty for the first.
    let broadcast = if lookup(&scope, "LANES") == Some("4") { "quadBroadcast" } else { "subgroupBroadcast" };
    scope.push(("BROADCAST".into(), broadcast.into()));
    assembler.file(spec.file, &mut scope).map_err(|reason| assembler.error(reason))?;
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

/// A line of a shader file.
#[derive(Clone, Copy)]
struct Line<'a> {
    file: &'a str,
    /// From 1.
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    /// What is wrong with this line.
    fn fault(&self, what: &str) -> String {
        format!("{}:{}: {what}", self.file, self.number)
    }
}

type Scope = Vec<(String, String)>;

impl Assembler<'_> {
    fn error(&self, reason: String) -> GpuError {
        GpuError::Shader { kernel: self.spec.to_string(), reason }
    }

    /// Emits a file, unless it has been emitted before.
    fn file(&mut self, file: &str, scope: &mut Scope) -> Result<(), String> {
        if self.included.iter().any(|name| name == file) {
            return Ok(());
        }
        self.included.push(file.to_string());
        let substitute = self.substitutes.iter().find(|(name, _)| *name == file).map(|(_, text)| text.as_str());
        let embedded = || SHADERS.iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
        let text = substitute.or_else(embedded).ok_or_else(|| format!("no shader file {file}"))?;
        let lines: Vec<Line> = text.lines().zip(1..).map(|(text, number)| Line { file, number, text }).collect();
        self.block(&lines, scope)
    }

    /// Emits `lines`, resolving directives; a nested block is cut out and handled by a recursive call.
    fn block(&mut self, lines: &[Line], scope: &mut Scope) -> Result<(), String> {
        let mut i = 0;
        while i < lines.len() {
            let line = lines[i];
            let words: Vec<&str> = line.text.split_whitespace().collect();
            match words.first().copied() {
                Some("#include") => {
                    let name = words.get(1).copied().unwrap_or_default().trim_matches('"');
                    if SHADERS.iter().all(|(known, _)| *known != name) {
                        return Err(line.fault(&format!("no shader file {name}")));
                    }
                    self.file(name, scope)?;
                }
                Some("#if") => {
                    let (end, middle) = extent(lines, i)?;
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
                    self.block(body, scope)?;
                    i = end;
                }
                Some("#for") => {
                    let (end, _) = extent(lines, i)?;
                    let variable = words.get(1).copied().unwrap_or_default().to_string();
                    let count = words.get(2).copied().unwrap_or_default();
                    let count = lookup(scope, count).unwrap_or(count);
                    let count: u32 = count.parse().map_err(|_| line.fault(&format!("#for needs a count, not `{count}`")))?;
                    for n in 0..count {
                        scope.push((variable.clone(), n.to_string()));
                        self.block(&lines[i + 1..end], scope)?;
                        scope.pop();
                    }
                    i = end;
                }
                Some(word) if word.starts_with('#') => return Err(line.fault(&format!("unknown directive {word}"))),
                _ => self.line(line, scope)?,
            }
            i += 1;
        }
        Ok(())
    }

    fn line(&mut self, line: Line, scope: &Scope) -> Result<(), String> {
        let mut rest = line.text;
        while let Some(open) = rest.find("{{") {
            let close = rest[open..].find("}}").ok_or_else(|| line.fault("unclosed {{"))? + open;
            let name = &rest[open + 2..close];
            let value = lookup(scope, name).ok_or_else(|| line.fault(&format!("the constant {name} is not set")))?;
            self.out.push_str(&rest[..open]);
            self.out.push_str(value);
            rest = &rest[close + 2..];
        }
        self.out.push_str(rest);
        self.out.push('\n');
        Ok(())
    }
}

/// Where the block opened at `start` ends, and where its `#else` is.
fn extent(lines: &[Line], start: usize) -> Result<(usize, Option<usize>), String> {
    let (mut depth, mut middle) = (0, None);
    for (i, line) in lines.iter().enumerate().skip(start) {
        match line.text.split_whitespace().next() {
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
    Err(lines[start].fault(&format!("`{}` has no end", lines[start].text.trim())))
}

fn lookup<'s>(scope: &'s Scope, name: &str) -> Option<&'s str> {
    scope.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

fn is_set(scope: &Scope, name: &str) -> bool {
    lookup(scope, name).is_some_and(|v| v != "0")
}

/// What the text of a kernel says about its bindings. Binding 0 is the uniform `Params`; storage bindings start at 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bindings {
    /// Of each storage binding, in order, whether it is read-only.
    pub read_only: Vec<bool>,
    /// 32-bit words of `Params`.
    pub param_words: usize,
}

impl Bindings {
    /// Reads an assembled text, which has one binding per line and one field of `Params` per line, each 32 bits wide. A test
    /// compares the result with naga's for every variant.
    pub fn of(text: &str) -> Self {
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let storages = code.iter().filter(|line| line.contains("var<storage"));
        let params = code.iter().skip_while(|line| !line.contains("struct Params {")).skip(1);
        Bindings {
            read_only: storages.map(|line| !line.contains("read_write")).collect(),
            param_words: params.take_while(|line| !line.contains('}')).filter(|line| line.contains(':')).count(),
        }
    }
}

/// A compiled kernel.
pub(super) struct Kernel {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    /// Number of storage bindings.
    pub storages: usize,
    /// Number of 32-bit words of `Params`.
    pub param_words: usize,
}

impl Kernel {
    pub(super) fn compile(
        device: &wgpu::Device,
        spec: &KernelSpec,
        substitutes: &[(&'static str, String)],
        checked: bool,
    ) -> Result<Self, GpuError> {
        let text = assemble_with(spec, substitutes)?;
        let text = if cfg!(target_arch = "wasm32") { for_browsers(spec, text) } else { text };
        let Bindings { read_only, param_words } = Bindings::of(&text);
        let label = spec.to_string();
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(&label), source: wgpu::ShaderSource::Wgsl(text.as_str().into()) };
        let module = if checked || cfg!(target_arch = "wasm32") {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: the shaders are the crate's own. Each checks its edges against the sizes in `Params`, and its loops are
            // bounded by them. Token ids are checked on the host. The tests run all shaders with the checks on.
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
            read_only.iter().zip(1..).map(|(ro, binding)| entry(binding, wgpu::BufferBindingType::Storage { read_only: *ro })),
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
        Ok(Kernel { pipeline, layout, storages: read_only.len(), param_words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let spec = KernelSpec::new("rope.wgsl", "rotate", &[]);
        match assemble_with(&spec, &[("rope.wgsl", text.into())]) {
            Err(GpuError::Shader { reason, .. }) => reason,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn faults_name_file_and_line() {
        for (text, expected) in [
            ("a\n{{B}}", "rope.wgsl:2: the constant B is not set"),
            ("a\n\n  {{B", "rope.wgsl:3: unclosed {{"),
            ("#if rotate\na\n#for I x\n#end\n#endif", "rope.wgsl:3: #for needs a count, not `x`"),
            ("#for I 2\n#if rotate\n#end", "rope.wgsl:1: `#for I 2` has no end"),
            ("a\n#while", "rope.wgsl:2: unknown directive #while"),
            ("#include \"lib/none.wgsl\"", "rope.wgsl:1: no shader file lib/none.wgsl"),
        ] {
            assert_eq!(fault(text), expected, "{text}");
        }
    }

    #[test]
    fn comments_are_no_bindings() {
        let text = "// var<storage, read> a\nstruct Params { // b: u32\n    c: u32, // d: f32\n    // e: u32,\n}\nvar<storage, read_write> f;";
        assert_eq!(Bindings::of(text), Bindings { read_only: vec![false], param_words: 1 });
    }
}
