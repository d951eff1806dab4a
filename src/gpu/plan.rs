//! A plan: the dispatches of one step over planned buffers, built once and run every step.
//!
//! Operations *record* themselves into a [`PlanBuilder`]: which kernel, which tensors, which sizes. Building then
//!
//! 1. assigns a slot to every scratch tensor. Tensors whose lifetimes do not overlap share a slot. Each slot is one wgpu buffer,
//!    because wgpu refuses a dispatch that binds one buffer both as `read` and as `read_write`. A slot reuses the memory of an
//!    aliased buffer ([`Gpu::reusing_memory_of`]) where one is large enough;
//! 2. compiles the kernels and creates the bind groups.
//!
//! Running writes all parameters into one small arena and encodes the dispatches with grids from the *actual* sizes of the step
//! ([`RunParam`] values such as the number of tokens). Nothing is padded, and a run only encodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kernel::{Kernel, KernelSpec};
use super::memory_tracker::AliasOwner;
use super::{Buffer, Gpu, GpuError, MemoryKind, Tuning};

/// Uniform offsets must be multiples of this on every adapter.
const ARENA_STRIDE: u64 = 256;
/// Grids of more workgroups than this are folded into a second dimension (the limit per dimension is 65,535).
const FOLD: u32 = 32_768;

/// A tensor of a plan. The operations know its shape; the plan knows only its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor(usize);

/// A number that each run sets: a count of tokens or rows, or a scalar such as the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunParam(usize);

/// The values of a plan's run parameters in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunParams(Vec<Option<u32>>);

impl RunParams {
    pub fn set(&mut self, param: RunParam, value: u32) {
        if self.0.len() <= param.0 {
            self.0.resize(param.0 + 1, None);
        }
        self.0[param.0] = Some(value);
    }

    /// As [`RunParams::set`], for a number that kernels read as f32.
    pub fn set_float(&mut self, param: RunParam, value: f32) {
        self.set(param, value.to_bits());
    }
}

impl<const N: usize> From<[(RunParam, u32); N]> for RunParams {
    fn from(values: [(RunParam, u32); N]) -> Self {
        let mut params = RunParams::default();
        values.into_iter().for_each(|(param, value)| params.set(param, value));
        params
    }
}

/// A size that is fixed or follows a run parameter: `clamp(param - start, 0, len) * times`.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    param: Option<RunParam>,
    start: u32,
    len: u32,
    times: u32,
}

impl Extent {
    pub const fn fixed(n: u32) -> Self {
        Extent { param: None, start: 0, len: n, times: 1 }
    }

    /// The value of the run parameter, at most `max`.
    pub const fn dynamic(param: RunParam, max: u32) -> Self {
        Extent { param: Some(param), start: 0, len: max, times: 1 }
    }

    /// The part of this size within rows `start .. start + len`: the size of one chunk.
    pub const fn chunk(self, start: u32, len: u32) -> Self {
        let rest = self.len.saturating_sub(start);
        let len = if rest < len { rest } else { len };
        // A dynamic size subtracts `start` when the plan runs; a fixed size is cut now.
        let start = if self.param.is_some() { start } else { 0 };
        Extent { start, len, ..self }
    }

    pub const fn times(self, n: u32) -> Self {
        Extent { times: self.times * n, ..self }
    }

    /// Whether it follows no run parameter.
    pub const fn is_fixed(self) -> bool {
        self.param.is_none()
    }

    /// The largest value, for which buffers are allocated.
    pub const fn max(self) -> u32 {
        self.len * self.times
    }

    /// The run parameter that this size follows, and its largest allowed value.
    fn bound(self) -> Option<(RunParam, u32)> {
        self.param.map(|param| (param, self.start.saturating_add(self.len)))
    }

    pub(super) fn value(self, params: &[u32]) -> u32 {
        let n = match self.param {
            Some(RunParam(i)) => params.get(i).copied().unwrap_or(0).saturating_sub(self.start).min(self.len),
            None => self.len,
        };
        n * self.times
    }
}

/// One 32-bit field of a kernel's `Params`.
#[derive(Clone, Copy, Debug)]
pub enum Param {
    U(u32),
    F(f32),
    Extent(Extent),
    Run(RunParam),
}

/// The number of workgroups of a dispatch.
#[derive(Clone, Copy, Debug)]
pub enum Grid {
    /// Groups of `per` threads for `size` threads, folded into two dimensions where there are many (`group_index` in WGSL).
    Threads { size: Extent, per: u32 },
    /// Tiles of `tile_x` columns and `tile_y` rows that cover `x` columns and `y` rows.
    Tiles { x: Extent, tile_x: u32, y: Extent, tile_y: u32 },
}

impl Grid {
    fn sizes(self) -> [Option<Extent>; 2] {
        match self {
            Grid::Threads { size, .. } => [Some(size), None],
            Grid::Tiles { x, y, .. } => [Some(x), Some(y)],
        }
    }

    pub(super) fn groups(self, params: &[u32]) -> [u32; 2] {
        match self {
            Grid::Threads { size, per } => {
                let n = size.value(params).div_ceil(per);
                if n <= FOLD { [n, 1] } else { [FOLD, n.div_ceil(FOLD)] }
            }
            Grid::Tiles { x, tile_x, y, tile_y } => [x.value(params).div_ceil(tile_x), y.value(params).div_ceil(tile_y)],
        }
    }
}

/// One recorded kernel call. `tensors` are the storage bindings 1, 2, … in order; `params` are the fields of `Params`.
pub struct Dispatch<'a> {
    pub kernel: KernelSpec,
    pub tensors: &'a [Tensor],
    pub params: &'a [Param],
    pub grid: Grid,
    /// Floating point operations per unit of `work`. Long steps are split into submissions by them.
    pub flops: u64,
    pub work: Extent,
}

enum TensorKind {
    /// Written before it is read within one run. Its memory may be shared.
    Scratch,
    /// An input or result with a buffer of its own, whose values stay between runs.
    Persistent,
    /// A buffer that outlives the plan.
    Imported(Buffer),
}

struct PlannedTensor {
    name: String,
    words: usize,
    /// `None`: that of the GPU handle that the plan is built with.
    memory_kind: Option<MemoryKind>,
    kind: TensorKind,
    /// First and last step that uses the tensor; `usize::MAX` and 0 where none does.
    first_step: usize,
    last_step: usize,
}

/// One recorded step. Plans are built once and have a few hundred steps.
#[allow(clippy::large_enum_variant)]
enum Step {
    Dispatch { kernel: KernelSpec, tensors: Vec<Tensor>, params: Vec<Param>, grid: Grid, flops: u64, work: Extent },
    Clear(Tensor),
}

/// Records operations; see the module documentation.
pub struct PlanBuilder {
    tuning: Tuning,
    tensors: Vec<PlannedTensor>,
    steps: Vec<Step>,
    run_params: usize,
}

impl PlanBuilder {
    /// An empty plan for adapters with this tuning.
    pub fn new(tuning: &Tuning) -> Self {
        PlanBuilder { tuning: tuning.clone(), tensors: Vec::new(), steps: Vec::new(), run_params: 0 }
    }

    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// A new run parameter.
    pub fn run_param(&mut self) -> RunParam {
        self.run_params += 1;
        RunParam(self.run_params - 1)
    }

    fn add(&mut self, name: &str, words: usize, kind: TensorKind) -> Tensor {
        self.tensors.push(PlannedTensor {
            name: name.to_string(),
            words,
            memory_kind: None,
            kind,
            first_step: usize::MAX,
            last_step: 0,
        });
        Tensor(self.tensors.len() - 1)
    }

    /// A tensor whose values last from its first to its last use within a run.
    pub fn scratch(&mut self, name: &str, words: usize) -> Tensor {
        self.add(name, words, TensorKind::Scratch)
    }

    /// A scratch tensor whose memory is counted under `memory_kind`.
    pub fn scratch_for(&mut self, memory_kind: MemoryKind, name: &str, words: usize) -> Tensor {
        let tensor = self.scratch(name, words);
        self.tensors[tensor.0].memory_kind = Some(memory_kind);
        tensor
    }

    /// A tensor with a buffer of its own, which the host writes or reads between runs.
    pub fn persistent(&mut self, name: &str, words: usize) -> Tensor {
        self.add(name, words, TensorKind::Persistent)
    }

    /// A weight or another buffer that outlives the plan.
    pub fn import(&mut self, buffer: &Buffer) -> Tensor {
        if let Some(i) = self.tensors.iter().position(|t| matches!(&t.kind, TensorKind::Imported(b) if b.same_memory(buffer))) {
            return Tensor(i);
        }
        self.add(&buffer.name, buffer.words, TensorKind::Imported(buffer.clone()))
    }

    /// The kernels recorded so far, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelSpec> {
        self.steps.iter().filter_map(|step| if let Step::Dispatch { kernel, .. } = step { Some(kernel) } else { None })
    }

    /// Number of steps recorded so far: a position where [`Plan::run_steps`] may stop and resume.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Length in 32-bit words.
    pub fn words(&self, tensor: Tensor) -> usize {
        self.tensors[tensor.0].words
    }

    fn touch(&mut self, tensor: Tensor) {
        let step = self.steps.len();
        let t = &mut self.tensors[tensor.0];
        t.first_step = t.first_step.min(step);
        t.last_step = t.last_step.max(step);
    }

    /// Appends a kernel call.
    pub fn dispatch(&mut self, d: Dispatch<'_>) {
        for t in d.tensors {
            self.touch(*t);
        }
        self.steps.push(Step::Dispatch {
            kernel: d.kernel,
            tensors: d.tensors.to_vec(),
            params: d.params.to_vec(),
            grid: d.grid,
            flops: d.flops,
            work: d.work,
        });
    }

    /// Fills a tensor with zeros.
    pub fn clear(&mut self, tensor: Tensor) {
        self.touch(tensor);
        self.steps.push(Step::Clear(tensor));
    }

    /// The largest value of each run parameter: the largest of the sizes that follow it. `None` where no size follows it, as for
    /// a learning rate.
    fn param_limits(&self) -> Vec<Option<u32>> {
        let mut limits = vec![None; self.run_params];
        for step in &self.steps {
            let Step::Dispatch { params, grid, work, .. } = step else { continue };
            let parameters = params.iter().filter_map(|p| if let Param::Extent(size) = p { Some(*size) } else { None });
            let sizes = parameters.chain(grid.sizes().into_iter().flatten()).chain([*work]);
            for (RunParam(i), bound) in sizes.filter_map(Extent::bound) {
                if let Some(limit) = limits.get_mut(i) {
                    *limit = (*limit).max(Some(bound));
                }
            }
        }
        limits
    }

    /// The slot of each scratch tensor (`None`: not scratch, or unused), and the words of each slot.
    ///
    /// The largest tensors choose first. Each takes the smallest slot that is free during its lifetime (greedy by size, Pisarchyk
    /// and Lee, 2020). In the order of the steps, a long-lived tensor would take the slot of a large short-lived one.
    fn slots(&self) -> (Vec<Option<usize>>, Vec<usize>) {
        let mut slot_of = vec![None; self.tensors.len()];
        let mut slots: Vec<usize> = Vec::new();
        // For each slot, first and last step of the tensors in it.
        let mut lifetimes: Vec<BTreeMap<usize, usize>> = Vec::new();
        let used = |t: &PlannedTensor| t.first_step != usize::MAX;
        let scratch = |i: &usize| matches!(self.tensors[*i].kind, TensorKind::Scratch) && used(&self.tensors[*i]);
        let mut order: Vec<usize> = (0..self.tensors.len()).filter(scratch).collect();
        order.sort_by_key(|i| std::cmp::Reverse(self.tensors[*i].words));
        for i in order {
            let t = &self.tensors[i];
            let free = |slot: &usize| {
                lifetimes[*slot].range(..=t.last_step).next_back().is_none_or(|(_, last_step)| *last_step < t.first_step)
            };
            // Slots are in order of descending size, so the last one is the smallest.
            let slot = (0..slots.len()).rev().find(free).unwrap_or_else(|| {
                slots.push(t.words);
                lifetimes.push(BTreeMap::new());
                slots.len() - 1
            });
            lifetimes[slot].insert(t.first_step, t.last_step);
            slot_of[i] = Some(slot);
        }
        (slot_of, slots)
    }

    /// Bytes that [`PlanBuilder::build`] will allocate without aliasing. Imported buffers do not count.
    pub fn bytes(&self) -> u64 {
        let (_, slots) = self.slots();
        let persistent: usize = self.tensors.iter().filter(|t| matches!(t.kind, TensorKind::Persistent)).map(|t| t.words).sum();
        (slots.iter().sum::<usize>() + persistent) as u64 * 4 + self.steps.len() as u64 * ARENA_STRIDE
    }

    /// Creates buffers, kernels and bind groups. A dry run only counts the buffers.
    ///
    /// # Errors
    /// A tensor above the limit of bindings; out of memory; a shader that does not compile.
    pub fn build(self, gpu: &Gpu) -> Result<Plan, GpuError> {
        let _lock = gpu.lock();
        let param_limits = self.param_limits();
        let (slot_of, slots) = self.slots();
        let alias_of = assign_aliases(&slots, &gpu.aliased);
        let mut slot_buffers = Vec::new();
        for (slot, words) in slots.iter().enumerate() {
            // A slot has the name and kind of its largest tensor, for messages.
            let tensors = self.tensors.iter().zip(&slot_of).filter(|(_, s)| **s == Some(slot));
            let largest = tensors.max_by_key(|(t, _)| t.words).map(|(t, _)| t);
            let name = largest.map_or("scratch", |t| t.name.as_str());
            slot_buffers.push(match alias_of[slot] {
                Some(alias) => {
                    gpu.shared.tracker.add_aliased(*words as u64 * 4);
                    gpu.aliased[alias].view(name, *words)
                }
                None => gpu.for_memory(largest.and_then(|t| t.memory_kind).unwrap_or(gpu.memory_kind)).buffer(name, *words)?,
            });
        }
        let aliased: Vec<Buffer> = alias_of.iter().flatten().map(|alias| gpu.aliased[*alias].clone()).collect();
        aliased.iter().for_each(|b| b.allocation.owner.mark_aliased());
        let mut buffers = Vec::new();
        for (i, t) in self.tensors.iter().enumerate() {
            buffers.push(match (&t.kind, slot_of[i]) {
                (TensorKind::Imported(buffer), _) => Some(buffer.clone()),
                (TensorKind::Persistent, _) => Some(gpu.buffer(&t.name, t.words)?),
                (TensorKind::Scratch, Some(slot)) => Some(slot_buffers[slot].view(&slot_buffers[slot].name, t.words)),
                (TensorKind::Scratch, None) => None,
            });
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let arena_words = (self.steps.len().max(1) as u64 * ARENA_STRIDE / 4) as usize;
        let arena = gpu.allocate("kernel parameters", arena_words, usage)?;
        let mut steps = Vec::new();
        if !gpu.is_dry() {
            for (i, step) in self.steps.into_iter().enumerate() {
                steps.push(prepare(gpu, step, i, &buffers, &arena)?);
            }
        }
        gpu.check()?;
        let import = |t: &PlannedTensor| if let TensorKind::Imported(buffer) = &t.kind { Some(buffer.clone()) } else { None };
        let imported = self.tensors.iter().filter_map(import).collect();
        let id = AliasOwner::new_plan_id();
        Ok(Plan { gpu: gpu.clone(), id, buffers, aliased, imported, arena, arena_words, steps, param_limits })
    }
}

/// The aliased buffer of each slot. In order of descending size, each slot takes the smallest free buffer that it fits.
fn assign_aliases(slots: &[usize], aliased: &[Buffer]) -> Vec<Option<usize>> {
    let mut alias_of = vec![None; slots.len()];
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|slot| std::cmp::Reverse(slots[*slot]));
    let mut free: Vec<usize> = (0..aliased.len()).collect();
    for slot in order {
        let fitting = free.iter().copied().filter(|alias| aliased[*alias].words >= slots[slot]);
        if let Some(alias) = fitting.min_by_key(|alias| aliased[*alias].words) {
            free.retain(|other| *other != alias);
            alias_of[slot] = Some(alias);
        }
    }
    alias_of
}

/// A step with its kernel and bind group.
pub(super) enum PreparedStep {
    Dispatch {
        name: String,
        kernel: Arc<Kernel>,
        bind: wgpu::BindGroup,
        params: Vec<Param>,
        grid: Grid,
        flops: u64,
        work: Extent,
    },
    Clear(Buffer),
}

fn prepare(gpu: &Gpu, step: Step, index: usize, buffers: &[Option<Buffer>], arena: &Buffer) -> Result<PreparedStep, GpuError> {
    let buffer = |t: Tensor| {
        let missing = || GpuError::Validation { reason: format!("tensor {} of the plan has no buffer", t.0) };
        buffers.get(t.0).and_then(Option::as_ref).ok_or_else(missing)
    };
    let (spec, tensors, params, grid, flops, work) = match step {
        Step::Clear(t) => return Ok(PreparedStep::Clear(buffer(t)?.clone())),
        Step::Dispatch { kernel, tensors, params, grid, flops, work } => (kernel, tensors, params, grid, flops, work),
    };
    let kernel = gpu.kernel(&spec)?;
    if kernel.storages != tensors.len() || kernel.param_words != params.len() {
        let reason = format!(
            "is given {} tensors and {} parameters, but declares {} and {}",
            tensors.len(),
            params.len(),
            kernel.storages,
            kernel.param_words
        );
        return Err(GpuError::Shader { kernel: spec.to_string(), reason });
    }
    let param_binding = wgpu::BufferBinding {
        buffer: arena.raw()?,
        offset: index as u64 * ARENA_STRIDE,
        size: std::num::NonZeroU64::new((params.len() as u64 * 4).next_multiple_of(16)),
    };
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(param_binding) }];
    for (i, t) in tensors.iter().enumerate() {
        entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource: buffer(*t)?.raw()?.as_entire_binding() });
    }
    let label = spec.to_string();
    let bind = gpu.device()?.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(&label),
        layout: &kernel.layout,
        entries: &entries,
    });
    Ok(PreparedStep::Dispatch { name: label, kernel, bind, params, grid, flops, work })
}

/// A built plan, which can be run any number of times.
pub struct Plan {
    pub(super) gpu: Gpu,
    /// For [`AliasOwner`].
    id: u64,
    /// The buffer of each tensor; `None` for unused scratch tensors.
    buffers: Vec<Option<Buffer>>,
    /// Buffers of others whose memory the scratch tensors reuse.
    aliased: Vec<Buffer>,
    /// Buffers that outlive the plan. Other plans may reuse their memory.
    imported: Vec<Buffer>,
    arena: Buffer,
    arena_words: usize,
    pub(super) steps: Vec<PreparedStep>,
    /// The largest value of each run parameter; `None`: any value.
    param_limits: Vec<Option<u32>>,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // Bind groups may be the last owners of what they bind, so they are dropped under the lock.
        let _lock = self.gpu.lock();
        self.steps.clear();
    }
}

impl Plan {
    /// The buffer of a persistent or imported tensor.
    ///
    /// # Errors
    /// A scratch tensor that no operation uses has none.
    pub fn buffer(&self, tensor: Tensor) -> Result<&Buffer, GpuError> {
        let missing = || GpuError::Validation { reason: format!("tensor {} of the plan has no buffer", tensor.0) };
        self.buffers.get(tensor.0).and_then(Option::as_ref).ok_or_else(missing)
    }

    /// Writes `data` to the start of a persistent tensor. The data must fit.
    pub fn write<T: bytemuck::Pod>(&self, tensor: Tensor, data: &[T]) -> Result<(), GpuError> {
        self.gpu.write(self.buffer(tensor)?, 0, data)
    }

    /// Reads the first `words` words of a persistent tensor.
    pub async fn read<T: bytemuck::Pod>(&self, tensor: Tensor, words: usize) -> Result<Vec<T>, GpuError> {
        self.gpu.read(self.buffer(tensor)?, 0, words).await
    }

    /// Runs the plan `times` times with these run parameters, without waiting.
    ///
    /// # Errors
    /// An error of the device so far; a run parameter that is missing or above its limit.
    pub fn run_times(&self, params: &RunParams, times: usize) -> Result<(), GpuError> {
        self.submit(params, 0..self.steps.len(), times)
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Runs a range of steps once ([`PlanBuilder::steps`]). Scratch tensors have the values of the earlier steps if these were
    /// run last.
    ///
    /// # Errors
    /// As [`Plan::run_times`]; another plan has used shared memory since the earlier steps ran.
    pub fn run_steps(&self, params: &RunParams, steps: std::ops::Range<usize>) -> Result<(), GpuError> {
        self.submit(params, steps, 1)
    }

    fn submit(&self, params: &RunParams, steps: std::ops::Range<usize>, times: usize) -> Result<(), GpuError> {
        let shared = self.gpu.device()?;
        let ready = self.steps.get(steps.clone()).ok_or_else(|| GpuError::Validation {
            reason: format!("a plan of {} steps was asked to run {steps:?}", self.steps.len()),
        })?;
        let _lock = self.gpu.lock();
        let params = &self.begin(params, steps.start)?;
        let mut encoder = shared.device.create_command_encoder(&Default::default());
        let mut pass = None;
        let mut flops = 0;
        for _ in 0..times {
            for step in ready {
                match step {
                    PreparedStep::Clear(buffer) => {
                        drop(pass.take());
                        encoder.clear_buffer(buffer.raw()?, 0, None);
                    }
                    PreparedStep::Dispatch { kernel, bind, grid, flops: per, work, .. } => {
                        let [x, y] = grid.groups(params);
                        if x == 0 || y == 0 {
                            continue;
                        }
                        if flops > self.gpu.tuning.flops_per_submit {
                            drop(pass.take());
                            shared.queue.submit([std::mem::replace(
                                &mut encoder,
                                shared.device.create_command_encoder(&Default::default()),
                            )
                            .finish()]);
                            flops = 0;
                        }
                        let pass = pass.get_or_insert_with(|| encoder.begin_compute_pass(&Default::default()).forget_lifetime());
                        pass.set_pipeline(&kernel.pipeline);
                        pass.set_bind_group(0, bind, &[]);
                        pass.dispatch_workgroups(x, y, 1);
                        flops += per * u64::from(work.value(params));
                    }
                }
            }
        }
        drop(pass);
        shared.queue.submit([encoder.finish()]);
        self.gpu.check()
    }

    /// Runs the plan once.
    pub fn run(&self, params: &RunParams) -> Result<(), GpuError> {
        self.run_times(params, 1)
    }

    /// Prepares a run from step `start` on: checks the run parameters, claims aliased memory and writes the kernels' parameters.
    /// Returns the values of the run parameters in the order of their handles.
    pub(super) fn begin(&self, params: &RunParams, start: usize) -> Result<Vec<u32>, GpuError> {
        let params = self.check_params(params)?;
        if start > 0 && self.aliased.iter().any(|b| !b.allocation.owner.is(self.id)) {
            let plan = self.aliased.first().map_or_else(String::new, |b| format!("a plan in the memory of `{}`", b.name));
            return Err(GpuError::Overwritten { plan });
        }
        self.aliased.iter().chain(&self.imported).for_each(|b| b.allocation.owner.set(self.id));
        let arena = self.arena_contents(&params);
        self.gpu.device()?.queue.write_buffer(self.arena.raw()?, 0, bytemuck::cast_slice(&arena));
        Ok(params)
    }

    /// Refuses values above the limits: kernels never go past the maximum of a size and would silently ignore the excess.
    fn check_params(&self, params: &RunParams) -> Result<Vec<u32>, GpuError> {
        let given: Vec<u32> = params.0.iter().flatten().copied().collect();
        if given.len() != self.param_limits.len() || params.0.len() != self.param_limits.len() {
            let reason = format!("a plan with {} run parameters was given {}", self.param_limits.len(), given.len());
            return Err(GpuError::Validation { reason });
        }
        for (index, (given, limit)) in given.iter().zip(&self.param_limits).enumerate() {
            if let Some(planned) = limit.filter(|limit| given > limit) {
                return Err(GpuError::OverPlanned { index, given: *given, planned });
            }
        }
        Ok(given)
    }

    /// The `Params` of every dispatch, as the arena holds them.
    fn arena_contents(&self, run_params: &[u32]) -> Vec<u32> {
        let mut arena = vec![0u32; self.arena_words];
        let stride = (ARENA_STRIDE / 4) as usize;
        for (slot, step) in arena.chunks_mut(stride).zip(&self.steps) {
            if let PreparedStep::Dispatch { params, .. } = step {
                for (field, param) in slot.iter_mut().zip(params) {
                    *field = match *param {
                        Param::U(n) => n,
                        Param::F(x) => x.to_bits(),
                        Param::Extent(size) => size.value(run_params),
                        Param::Run(RunParam(i)) => run_params.get(i).copied().unwrap_or(0),
                    };
                }
            }
        }
        arena
    }
}
