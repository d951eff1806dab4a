//! A plan: the dispatches of one step over planned buffers, made once and run every step.
//!
//! Operations *record* themselves into a [`PlanBuilder`]: which kernel, which tensors, which sizes. Building then
//!
//! 1. gives every scratch tensor a buffer; two tensors whose lifetimes do not touch share one (one wgpu buffer per shared
//!    slot, because wgpu refuses a dispatch that binds one buffer both as `read` and as `read_write`); a slot run_params in a
//!    buffer that was aliased ([`Gpu::reusing_memory_of`]) where one is large enough;
//! 2. compiles the kernels and makes the bind groups.
//!
//! Running writes all parameters into one small arena and encodes the dispatches with grids from the step's *real* sizes
//! ([`RunParam`] values: how many tokens, how many rows): nothing is padded, and nothing but encoding happens per step.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kernel::{Kernel, KernelSpec};
use super::memory_tracker::AliasOwner;
use super::{Buffer, Gpu, GpuError, MemoryKind, Tuning};

/// Uniform offsets must be multiples of this on every adapter.
const ARENA_STRIDE: u64 = 256;
/// More workgroups than this in a row are folded into a second dimension (the limit is 65,535).
const FOLD: u32 = 32_768;

/// A tensor of a plan. Its shape is known to the operations; the plan knows its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor(usize);

/// A number that each run sets anew: a count of tokens or rows, or a scalar such as the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunParam(usize);

/// What one run gives for the run parameters of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunParams(Vec<Option<u32>>);

impl RunParams {
    pub fn set(&mut self, params: RunParam, value: u32) {
        if self.0.len() <= params.0 {
            self.0.resize(params.0 + 1, None);
        }
        self.0[params.0] = Some(value);
    }

    /// As [`RunParams::set`], of a number that kernels read as f32.
    pub fn set_float(&mut self, params: RunParam, value: f32) {
        self.set(params, value.to_bits());
    }
}

impl<const N: usize> From<[(RunParam, u32); N]> for RunParams {
    fn from(values: [(RunParam, u32); N]) -> Self {
        let mut all = RunParams::default();
        values.into_iter().for_each(|(params, value)| all.set(params, value));
        all
    }
}

/// A size that is fixed or follows a run parameter: `clamp(live - start, 0, len) * times`.
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

    /// The run parameter, at most `max`.
    pub const fn dynamic(param: RunParam, max: u32) -> Self {
        Extent { param: Some(param), start: 0, len: max, times: 1 }
    }

    /// How much of rows `start .. start + len` this size covers: the size of one chunk of it.
    pub const fn chunk(self, start: u32, len: u32) -> Self {
        let rest = self.len.saturating_sub(start);
        let len = if rest < len { rest } else { len };
        // A live size is counted from `start` when it runs; a fixed one is cut now.
        let start = if self.param.is_some() { start } else { 0 };
        Extent { start, len, ..self }
    }

    pub const fn times(self, n: u32) -> Self {
        Extent { times: self.times * n, ..self }
    }

    /// The largest value it can take: what buffers are made for.
    pub const fn max(self) -> u32 {
        self.len * self.times
    }

    /// The run parameter this size follows, and the most it may be.
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

/// How many workgroups.
#[derive(Clone, Copy, Debug)]
pub enum Grid {
    /// Enough groups of `per` for `size` threads, folded into two dimensions when many (`group_index` in WGSL).
    Threads { size: Extent, per: u32 },
    /// A rectangle of tiles: `x` columns by `y` rows of tiles.
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

/// One recorded kernel call. `tensors` are the storage bindings 1, 2, … in order; `words` the fields of `Params`.
pub struct Dispatch<'a> {
    pub kernel: KernelSpec,
    pub tensors: &'a [Tensor],
    pub words: &'a [Param],
    pub grid: Grid,
    /// Floating point operations per unit of `work`: splits long steps into submissions.
    pub flops: u64,
    pub work: Extent,
}

enum Kind {
    /// Written before it is read within one run; its buffer may be shared.
    Scratch,
    /// Inputs and results: one buffer of its own, kept between runs.
    Kept,
    /// A buffer that outrun_params the plan.
    Imported(Buffer),
}

struct Planned {
    name: String,
    words: usize,
    /// `None`: that of the GPU handle that the plan is built with.
    memory_kind: Option<MemoryKind>,
    kind: Kind,
    first: usize,
    last: usize,
}

/// One recorded step; plans are built once and hold a few hundred of them.
#[allow(clippy::large_enum_variant)]
enum Step {
    Dispatch { kernel: KernelSpec, tensors: Vec<Tensor>, words: Vec<Param>, grid: Grid, flops: u64, work: Extent },
    Clear(Tensor),
}

/// Records operations; see the module's page.
pub struct PlanBuilder {
    tuning: Tuning,
    tensors: Vec<Planned>,
    steps: Vec<Step>,
    run_params: usize,
}

impl PlanBuilder {
    /// An empty plan for adapters that want `tuning`.
    pub fn new(tuning: &Tuning) -> Self {
        PlanBuilder { tuning: tuning.clone(), tensors: Vec::new(), steps: Vec::new(), run_params: 0 }
    }

    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// A number that each run gives.
    pub fn run_param(&mut self) -> RunParam {
        self.run_params += 1;
        RunParam(self.run_params - 1)
    }

    fn add(&mut self, name: &str, words: usize, kind: Kind) -> Tensor {
        self.tensors.push(Planned { name: name.to_string(), words, memory_kind: None, kind, first: usize::MAX, last: 0 });
        Tensor(self.tensors.len() - 1)
    }

    /// A tensor that run_params from its first to its last use within a run.
    pub fn scratch(&mut self, name: &str, words: usize) -> Tensor {
        self.add(name, words, Kind::Scratch)
    }

    /// The same, counted under a memory_kind of its own.
    pub fn scratch_for(&mut self, memory_kind: MemoryKind, name: &str, words: usize) -> Tensor {
        let tensor = self.scratch(name, words);
        self.tensors[tensor.0].memory_kind = Some(memory_kind);
        tensor
    }

    /// A tensor with a buffer of its own, written or read by the host between runs.
    pub fn persistent(&mut self, name: &str, words: usize) -> Tensor {
        self.add(name, words, Kind::Kept)
    }

    /// A weight or another buffer that outrun_params the plan.
    pub fn import(&mut self, buffer: &Buffer) -> Tensor {
        if let Some(i) = self.tensors.iter().position(|t| matches!(&t.kind, Kind::Imported(b) if b.is(buffer))) {
            return Tensor(i);
        }
        self.add(&buffer.name, buffer.words, Kind::Imported(buffer.clone()))
    }

    /// Number of steps recorded so far: where [`Plan::run_steps`] may stop and go on.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Length in 32-bit words.
    pub fn words(&self, tensor: Tensor) -> usize {
        self.tensors[tensor.0].words
    }

    fn touch(&mut self, tensor: Tensor) {
        let now = self.steps.len();
        let t = &mut self.tensors[tensor.0];
        t.first = t.first.min(now);
        t.last = t.last.max(now);
    }

    /// Appends a kernel call.
    pub fn dispatch(&mut self, d: Dispatch<'_>) {
        for t in d.tensors {
            self.touch(*t);
        }
        self.steps.push(Step::Dispatch {
            kernel: d.kernel,
            tensors: d.tensors.to_vec(),
            words: d.words.to_vec(),
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

    /// The largest value each run parameter was planned for: the largest of the sizes that follow it. `None` where none does,
    /// as for a learning rate.
    fn planned(&self) -> Vec<Option<u32>> {
        let mut planned = vec![None; self.run_params];
        for step in &self.steps {
            let Step::Dispatch { words, grid, work, .. } = step else { continue };
            let parameters = words.iter().filter_map(|w| if let Param::Extent(size) = w { Some(*size) } else { None });
            let sizes = parameters.chain(grid.sizes().into_iter().flatten()).chain([*work]);
            for (RunParam(i), bound) in sizes.filter_map(Extent::bound) {
                if let Some(most) = planned.get_mut(i) {
                    *most = (*most).max(Some(bound));
                }
            }
        }
        planned
    }

    /// Which shared slot each scratch tensor gets (`None`: not scratch, or unused), and the words of each slot.
    ///
    /// The largest tensors choose first, each the smallest slot that is free as long as it run_params (greedy by size, Pisarchyk and
    /// Lee, 2020). In the order of the steps a tensor that run_params long would take what a large one, gone at once, has left.
    fn slots(&self) -> (Vec<Option<usize>>, Vec<usize>) {
        let mut slot_of = vec![None; self.tensors.len()];
        let mut slots: Vec<usize> = Vec::new();
        // First and last step of each tenant.
        let mut tenants: Vec<BTreeMap<usize, usize>> = Vec::new();
        let scratch = |i: &usize| matches!(self.tensors[*i].kind, Kind::Scratch) && self.tensors[*i].first != usize::MAX;
        let mut order: Vec<usize> = (0..self.tensors.len()).filter(scratch).collect();
        order.sort_by_key(|i| std::cmp::Reverse(self.tensors[*i].words));
        for i in order {
            let t = &self.tensors[i];
            let free = |slot: &usize| tenants[*slot].range(..=t.last).next_back().is_none_or(|(_, last)| *last < t.first);
            // Slots come in descending size, so the last is the smallest.
            let slot = (0..slots.len()).rev().find(free).unwrap_or_else(|| {
                slots.push(t.words);
                tenants.push(BTreeMap::new());
                slots.len() - 1
            });
            tenants[slot].insert(t.first, t.last);
            slot_of[i] = Some(slot);
        }
        (slot_of, slots)
    }

    /// Bytes that [`PlanBuilder::build`] will allocate, imported buffers not counted and nothing aliased.
    pub fn bytes(&self) -> u64 {
        let (_, slots) = self.slots();
        let kept: usize = self.tensors.iter().filter(|t| matches!(t.kind, Kind::Kept)).map(|t| t.words).sum();
        (slots.iter().sum::<usize>() + kept) as u64 * 4 + self.steps.len() as u64 * ARENA_STRIDE
    }

    /// Makes buffers, kernels and bind groups; in a dry run, buffers that are counted only.
    ///
    /// # Errors
    /// A tensor larger than a binding may be, out of memory, or a shader that does not compile.
    pub fn build(self, gpu: &Gpu) -> Result<Plan, GpuError> {
        let _turn = gpu.turn();
        let planned = self.planned();
        let (slot_of, slots) = self.slots();
        // A slot carries name and memory_kind of its largest tenant, so that a message about it says something.
        let aliased = add_aliased(&slots, &gpu.aliased);
        let mut shared = Vec::new();
        for (slot, words) in slots.iter().enumerate() {
            let tenants = self.tensors.iter().zip(&slot_of).filter(|(_, s)| **s == Some(slot));
            let largest = tenants.max_by_key(|(t, _)| t.words).map(|(t, _)| t);
            let name = largest.map_or("scratch", |t| t.name.as_str());
            shared.push(match aliased[slot] {
                Some(place) => {
                    gpu.shared.tracker.add_aliased(*words as u64 * 4);
                    gpu.aliased[place].part(name, *words)
                }
                None => gpu.for_memory(largest.and_then(|t| t.memory_kind).unwrap_or(gpu.memory_kind)).buffer(name, *words)?,
            });
        }
        let borrowed: Vec<Buffer> = aliased.iter().flatten().map(|place| gpu.aliased[*place].clone()).collect();
        borrowed.iter().for_each(|b| b.share.owner.lend());
        let mut buffers = Vec::new();
        for (i, t) in self.tensors.iter().enumerate() {
            buffers.push(match (&t.kind, slot_of[i]) {
                (Kind::Imported(buffer), _) => Some(buffer.clone()),
                (Kind::Kept, _) => Some(gpu.buffer(&t.name, t.words)?),
                (Kind::Scratch, Some(slot)) => Some(shared[slot].part(&shared[slot].name, t.words)),
                (Kind::Scratch, None) => None,
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
        let of_others = |t: &Planned| if let Kind::Imported(buffer) = &t.kind { Some(buffer.clone()) } else { None };
        let imported = self.tensors.iter().filter_map(of_others).collect();
        let number = AliasOwner::number();
        Ok(Plan { gpu: gpu.clone(), number, buffers, borrowed, imported, arena, arena_words, steps, planned })
    }
}

/// Which aliased buffer each slot run_params in: the largest slot that fits any takes the smallest that it fits, and so on down.
fn add_aliased(slots: &[usize], aliased: &[Buffer]) -> Vec<Option<usize>> {
    let mut places = vec![None; slots.len()];
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|slot| std::cmp::Reverse(slots[*slot]));
    let mut vacant: Vec<usize> = (0..aliased.len()).collect();
    for slot in order {
        let fitting = vacant.iter().copied().filter(|place| aliased[*place].words >= slots[slot]);
        if let Some(place) = fitting.min_by_key(|place| aliased[*place].words) {
            vacant.retain(|other| *other != place);
            places[slot] = Some(place);
        }
    }
    places
}

pub(super) enum Ready {
    Dispatch { name: String, kernel: Arc<Kernel>, bind: wgpu::BindGroup, words: Vec<Param>, grid: Grid, flops: u64, work: Extent },
    Clear(Buffer),
}

fn prepare(gpu: &Gpu, step: Step, index: usize, buffers: &[Option<Buffer>], arena: &Buffer) -> Result<Ready, GpuError> {
    let buffer = |t: Tensor| {
        let missing = || GpuError::Validation { reason: format!("tensor {} of the plan has no buffer", t.0) };
        buffers.get(t.0).and_then(Option::as_ref).ok_or_else(missing)
    };
    let (spec, tensors, words, grid, flops, work) = match step {
        Step::Clear(t) => return Ok(Ready::Clear(buffer(t)?.clone())),
        Step::Dispatch { kernel, tensors, words, grid, flops, work } => (kernel, tensors, words, grid, flops, work),
    };
    let kernel = gpu.kernel(&spec)?;
    if kernel.storages != tensors.len() || kernel.words != words.len() {
        let reason = format!(
            "is given {} tensors and {} parameters, but declares {} and {}",
            tensors.len(),
            words.len(),
            kernel.storages,
            kernel.words
        );
        return Err(GpuError::Shader { kernel: spec.to_string(), reason });
    }
    let params = wgpu::BufferBinding {
        buffer: arena.raw()?,
        offset: index as u64 * ARENA_STRIDE,
        size: std::num::NonZeroU64::new((words.len() as u64 * 4).next_multiple_of(16)),
    };
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params) }];
    for (i, t) in tensors.iter().enumerate() {
        entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource: buffer(*t)?.raw()?.as_entire_binding() });
    }
    let label = spec.to_string();
    let bind = gpu.device()?.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(&label),
        layout: &kernel.layout,
        entries: &entries,
    });
    Ok(Ready::Dispatch { name: label, kernel, bind, words, grid, flops, work })
}

/// A step that can be run again and again.
pub struct Plan {
    pub(super) gpu: Gpu,
    number: u64,
    buffers: Vec<Option<Buffer>>,
    /// Lent buffers that scratch tensors live in, and buffers of others, which these may have aliased.
    borrowed: Vec<Buffer>,
    imported: Vec<Buffer>,
    arena: Buffer,
    arena_words: usize,
    pub(super) steps: Vec<Ready>,
    /// The largest value of each run parameter; `None`: any.
    planned: Vec<Option<u32>>,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // What a step binds may be gone with it.
        let _turn = self.gpu.turn();
        self.steps.clear();
    }
}

impl Plan {
    /// The buffer behind a kept or imported tensor.
    ///
    /// # Errors
    /// A scratch tensor that no operation uses has none.
    pub fn buffer(&self, tensor: Tensor) -> Result<&Buffer, GpuError> {
        let missing = || GpuError::Validation { reason: format!("tensor {} of the plan has no buffer", tensor.0) };
        self.buffers.get(tensor.0).and_then(Option::as_ref).ok_or_else(missing)
    }

    /// Writes the start of a kept tensor. The data must fit.
    pub fn write<T: bytemuck::Pod>(&self, tensor: Tensor, data: &[T]) -> Result<(), GpuError> {
        self.gpu.write(self.buffer(tensor)?, 0, data)
    }

    /// Reads the first `words` of a kept tensor.
    pub async fn read<T: bytemuck::Pod>(&self, tensor: Tensor, words: usize) -> Result<Vec<T>, GpuError> {
        self.gpu.read(self.buffer(tensor)?, 0, words).await
    }

    /// Runs the plan `times` times with these run parameters, without waiting.
    ///
    /// # Errors
    /// What the device reported up to now; a run parameter that is missing, or one above what the plan was made for.
    pub fn run_times(&self, params: &RunParams, times: usize) -> Result<(), GpuError> {
        self.submit(params, 0..self.steps.len(), times)
    }

    /// Number of steps: the last mark.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Runs the steps between two steps of the builder, once. What earlier steps left in scratch tensors is still there if
    /// the plan was run up to the first mark before.
    ///
    /// # Errors
    /// As [`Plan::run_times`]; another plan was in memory that was aliased to this one since its first steps ran.
    pub fn run_steps(&self, params: &RunParams, steps: std::ops::Range<usize>) -> Result<(), GpuError> {
        self.submit(params, steps, 1)
    }

    fn submit(&self, params: &RunParams, steps: std::ops::Range<usize>, times: usize) -> Result<(), GpuError> {
        let shared = self.gpu.device()?;
        let ready = self.steps.get(steps.clone()).ok_or_else(|| GpuError::Validation {
            reason: format!("a plan of {} steps was asked to run {steps:?}", self.steps.len()),
        })?;
        let _turn = self.gpu.turn();
        let params = &self.begin(params, steps.start)?;
        let mut encoder = shared.device.create_command_encoder(&Default::default());
        let mut pass = None;
        let mut flops = 0;
        for _ in 0..times {
            for step in ready {
                match step {
                    Ready::Clear(buffer) => {
                        drop(pass.take());
                        encoder.clear_buffer(buffer.raw()?, 0, None);
                    }
                    Ready::Dispatch { kernel, bind, grid, flops: per, work, .. } => {
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

    /// Readies a run from step `start` on: checks run parameters, takes possession of aliased memory, writes parameters. The live
    /// values in the order of their handles.
    pub(super) fn begin(&self, params: &RunParams, start: usize) -> Result<Vec<u32>, GpuError> {
        let params = self.checked(params)?;
        if start > 0 && self.borrowed.iter().any(|b| !b.share.owner.is_of(self.number)) {
            let plan = self.borrowed.first().map_or_else(String::new, |b| format!("a pass that was aliased `{}`", b.name));
            return Err(GpuError::Overwritten { plan });
        }
        self.borrowed.iter().chain(&self.imported).for_each(|b| b.share.owner.take(self.number));
        let parameters = self.parameters(&params);
        self.gpu.device()?.queue.write_buffer(self.arena.raw()?, 0, bytemuck::cast_slice(&parameters));
        Ok(params)
    }

    /// More than planned would be cut in silence, by kernels that never go past a size's maximum.
    fn checked(&self, params: &RunParams) -> Result<Vec<u32>, GpuError> {
        let given: Vec<u32> = params.0.iter().flatten().copied().collect();
        if given.len() != self.planned.len() || params.0.len() != self.planned.len() {
            let reason = format!("a plan with {} params values was given {}", self.planned.len(), given.len());
            return Err(GpuError::Validation { reason });
        }
        for (index, (given, planned)) in given.iter().zip(&self.planned).enumerate() {
            if let Some(planned) = planned.filter(|most| given > most) {
                return Err(GpuError::OverPlanned { index, given: *given, planned });
            }
        }
        Ok(given)
    }

    fn parameters(&self, params: &[u32]) -> Vec<u32> {
        let mut arena = vec![0u32; self.arena_words];
        let stride = (ARENA_STRIDE / 4) as usize;
        for (slot, step) in arena.chunks_mut(stride).zip(&self.steps) {
            if let Ready::Dispatch { words, .. } = step {
                for (field, word) in slot.iter_mut().zip(words) {
                    *field = match *word {
                        Param::U(n) => n,
                        Param::F(x) => x.to_bits(),
                        Param::Extent(size) => size.value(params),
                        Param::Run(RunParam(i)) => params.get(i).copied().unwrap_or(0),
                    };
                }
            }
        }
        arena
    }
}
