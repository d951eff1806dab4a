//! Cached decoding: prompts of different length are prefilled together, then all rows advance one token a step.
//!
//! A layer's cache is a list of entries, the keys and values of one position each. A prompt fills entries one behind another;
//! a *row* is one sequence being written: it reads its prompt's entries where they are, so that the chains of one prompt
//! share them, and has room of its own for what it writes (`shaders/lib/place.wgsl`). Who lies where, the caller says.
//!
//! ```text
//! prefill   prompt tokens ─► caches, logits of new rows' last tokens
//! draw      logits ─► ids of the new rows
//! step      ids ─► decoder over the caches ─► logits ─► draw ─► ids           (all on the GPU, any number of times)
//! force     ids given by the host instead of drawn
//! ```
//!
//! Between two steps a row is what [`RowState`] says and nothing else, so that the host can give rows new numbers and put
//! new prompts behind those that still run ([`CachePass::arrange`]).

use super::{Attention, Inputs, Recorder, rope_table, rope_values};
use crate::gpu::{Buffer, Extent, Gpu, MemoryKind, Plan, PlanBuilder, RunParam, RunParams, Span, Tensor};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::cached_attention::{KvSlot, SLOT_WORDS, cache_words};
use crate::ops::rope::Positions;
use crate::ops::sample::{self, Sampling};

/// What a cache is planned for.
#[derive(Clone, Copy, Debug)]
pub struct CacheSizes {
    /// Positions that the cache holds in all.
    pub entries: usize,
    /// Rows that advance together.
    pub rows: usize,
    /// Tokens of one prefill.
    pub prefill: usize,
    /// Positions that a row may write behind its prompt; what it draws beyond is not kept.
    pub own: usize,
    /// Positions of the longest sequence, prompt and what follows.
    pub max_length: usize,
    /// Draws of a row that are kept until they are read: the last ones.
    pub history: usize,
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// 0 is greedy.
    pub temperature: f32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub top_k: u32,
    /// The run's random key; with a row's stream and position it fixes each draw.
    pub key: [u32; 2],
}

impl Sampler {
    /// The most probable token, always.
    pub const GREEDY: Sampler = Sampler { temperature: 0.0, top_p: 1.0, top_k: 0, key: [0, 0] };

    /// Sets what a draw of `rows` rows needs to know.
    fn set(&self, params: &mut RunParams, of: &Sampling, rows: u32) {
        let cut = self.temperature > 0.0 && (self.top_p < 1.0 || self.top_k > 0);
        params.set_float(of.temperature, self.temperature);
        params.set_float(of.top_p, self.top_p);
        params.set(of.top_k, self.top_k);
        of.key.iter().zip(self.key).for_each(|(word, key)| params.set(*word, key));
        params.set(of.truncated, if cut { rows } else { 0 });
    }
}

/// One drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    pub token: u32,
    /// Under the softmax of all tokens at the sampler's temperature (greedy: at temperature 1).
    pub log_p: f32,
}

/// The caches, and the plans over them.
pub struct CachePass {
    gpu: Gpu,
    weights: Weights,
    sizes: CacheSizes,
    state: State,
    prefill: Prefill,
    draw: FirstDraw,
    step: Advance,
    force: Advance,
}

/// Buffers that the plans share.
struct State {
    caches: Vec<Buffer>,
    /// `[rows]`, `[rows]` of [`KvSlot`], `[rows, 2]`, `[rows, history, 2]`; `[rows, V]` of the rows that ran last
    ids: Buffer,
    slots: Buffer,
    streams: Buffer,
    drawn: Buffer,
    logits: Buffer,
}

struct Prefill {
    plan: Plan,
    tokens: RunParam,
    wanted: RunParam,
    ids: Tensor,
    slots: Tensor,
    rows: Tensor,
}

impl CachePass {
    /// Plans caches and passes for `weights`.
    ///
    /// # Errors
    /// Out of memory, or a cache over the adapter's binding limit ([`ModelError::CacheTooLarge`]).
    pub fn new(gpu: &Gpu, weights: &Weights, sizes: CacheSizes) -> Result<Self, ModelError> {
        let config = &weights.config;
        if sizes.max_length > config.max_position_embeddings {
            let (allowed, found) = (config.max_position_embeddings, sizes.max_length);
            return Err(ModelError::Batch { what: "positions of a cache (max_position_embeddings)", allowed, found });
        }
        let gpu = &gpu.for_memory(MemoryKind::Cache);
        let recorder = Recorder::new(weights);
        let cache = cache_words(&recorder.shape.heads, sizes.entries);
        let (needed, allowed) = (cache as u64 * 4, gpu.max_binding().min(gpu.max_buffer()));
        if needed > allowed {
            return Err(ModelError::CacheTooLarge { entries: sizes.entries, needed, allowed });
        }
        let make = |i: usize| gpu.buffer(&format!("cache of layer {i}"), cache);
        let state = State {
            caches: (0..config.num_hidden_layers).map(make).collect::<Result<_, _>>()?,
            ids: gpu.buffer("next token ids", sizes.rows)?,
            slots: gpu.buffer("places", sizes.rows * SLOT_WORDS)?,
            streams: gpu.buffer("random streams", sizes.rows * 2)?,
            drawn: gpu.buffer("drawn tokens", sizes.rows * sizes.history * 2)?,
            logits: gpu.buffer("next-token logits", sizes.rows * config.vocab_size)?,
        };
        let prefill = Prefill::new(gpu, &recorder, &state, sizes)?;
        let draw = FirstDraw::new(gpu, &recorder, &state, sizes)?;
        let step = Advance::new(gpu, &recorder, &state, sizes, true)?;
        let force = Advance::new(gpu, &recorder, &state, sizes, false)?;
        Ok(CachePass { gpu: gpu.clone(), weights: weights.clone(), sizes, state, prefill, draw, step, force })
    }

    /// The caches: what may be aliased to plans that run while no row is under way.
    pub fn caches(&self) -> &[Buffer] {
        &self.state.caches
    }

    /// What this pass was planned for.
    pub fn sizes(&self) -> CacheSizes {
        self.sizes
    }

    /// Runs whole prompts, each into its entries, and readies rows `first ..` to continue them, the n-th as `rows[n]` says.
    /// Entries of prompts and rows that run together must not overlap. The logits are those of the new rows.
    ///
    /// # Errors
    /// More rows, tokens or positions than planned; ids outside the vocabulary; an empty prompt.
    pub fn prefill(&self, prompts: &[PrefillPrompt<'_>], first: usize, rows: &[PrefillRow]) -> Result<(), ModelError> {
        self.check_prompts(prompts, first, rows)?;
        let (mut ids, mut slots, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in prompts {
            ids.extend_from_slice(prompt.ids);
            let slot = KvSlot { own: prompt.at, prefix_start: prompt.at, ..KvSlot::default() };
            slots.extend((0..prompt.ids.len()).map(|p| KvSlot { position: p as u32, ..slot }));
            last.push(ids.len() as u32 - 1);
        }
        let wanted: Vec<u32> = rows.iter().map(|r| last[r.prompt as usize]).collect();
        let states: Vec<RowState> = rows
            .iter()
            .map(|r| {
                let prompt = &prompts[r.prompt as usize];
                let len = prompt.ids.len() as u32;
                let slot = KvSlot { own: r.at, position: len - 1, prefix_start: prompt.at, prefix_len: len };
                RowState { slot, stream: r.stream, drawn: 0, id: 0 }
            })
            .collect();
        self.arrange(first, &states)?;
        self.prefill.plan.write(self.prefill.ids, &ids)?;
        self.prefill.plan.write(self.prefill.slots, &slots)?;
        self.prefill.plan.write(self.prefill.rows, &wanted)?;
        let Prefill { plan, tokens, wanted, .. } = &self.prefill;
        Ok(plan.run(&[(*tokens, ids.len() as u32), (*wanted, rows.len() as u32)].into())?)
    }

    /// Makes rows `first ..` what `states` say.
    ///
    /// # Errors
    /// More rows than planned.
    pub fn arrange(&self, first: usize, states: &[RowState]) -> Result<(), ModelError> {
        let slots: Vec<KvSlot> = states.iter().map(|s| s.slot).collect();
        let streams: Vec<[u32; 2]> = states.iter().map(|s| [s.stream, s.drawn]).collect();
        let ids: Vec<u32> = states.iter().map(|s| s.id).collect();
        self.gpu.write(&self.state.slots, first * SLOT_WORDS, &slots)?;
        self.gpu.write(&self.state.streams, first * 2, &streams)?;
        Ok(self.gpu.write(&self.state.ids, first, &ids)?)
    }

    fn check_prompts(&self, prompts: &[PrefillPrompt<'_>], first: usize, rows: &[PrefillRow]) -> Result<(), ModelError> {
        let sizes = &self.sizes;
        let limit = |what, allowed: usize, found: usize| match found > allowed {
            true => Err(ModelError::Batch { what, allowed, found }),
            false => Ok(()),
        };
        limit("rows", sizes.rows, first + rows.len())?;
        limit("tokens of a prefill", sizes.prefill, prompts.iter().map(|p| p.ids.len()).sum())?;
        limit("tokens of a prompt", sizes.max_length, prompts.iter().map(|p| p.ids.len()).max().unwrap_or(0))?;
        let largest = prompts.iter().flat_map(|p| p.ids.iter()).copied().max().unwrap_or(0) as usize;
        limit("largest token id", self.weights.config.vocab_size - 1, largest)?;
        if prompts.iter().any(|p| p.ids.is_empty()) || rows.iter().any(|r| r.prompt as usize >= prompts.len()) {
            return Err(ModelError::Inconsistent("a prompt is empty, or a row names a prompt that is not there".into()));
        }
        let behind = |r: &PrefillRow| sizes.own.min(sizes.max_length - prompts[r.prompt as usize].ids.len());
        let ends = prompts.iter().map(|p| p.at as usize + p.ids.len()).chain(rows.iter().map(|r| r.at as usize + behind(r)));
        limit("entries of the cache", sizes.entries, ends.max().unwrap_or(0))
    }

    /// Draws the first tokens of the `rows` rows from `first` on, which a prefill has just readied.
    ///
    /// # Errors
    /// What the GPU reports.
    pub fn draw(&self, first: usize, rows: usize, sampler: Sampler) -> Result<(), ModelError> {
        let FirstDraw { plan, rows: count, first: start, sampling } = &self.draw;
        let mut params = RunParams::from([(*count, rows as u32), (*start, first as u32)]);
        sampler.set(&mut params, sampling, rows as u32);
        Ok(plan.run(&params)?)
    }

    /// `times` steps of the first `rows` rows: feed what was drawn, draw from the logits.
    ///
    /// # Errors
    /// What the GPU reports.
    pub fn step(&self, rows: usize, times: usize, sampler: Sampler) -> Result<(), ModelError> {
        Ok(self.step.plan.run_times(&self.step.params(rows, sampler), times)?)
    }

    /// One step, every dispatch timed.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn timeline(&self, rows: usize, sampler: Sampler) -> Result<Vec<Span>, ModelError> {
        Ok(self.step.plan.timeline(&self.step.params(rows, sampler)).await?)
    }

    /// One step with tokens given by the host, one a row, at the next position of each.
    pub async fn force(&self, ids: &[u32]) -> Result<(), ModelError> {
        let largest = ids.iter().copied().max().unwrap_or(0) as usize;
        if largest >= self.weights.config.vocab_size {
            let allowed = self.weights.config.vocab_size - 1;
            return Err(ModelError::Batch { what: "largest token id", allowed, found: largest });
        }
        let mut slots: Vec<KvSlot> = self.gpu.read(&self.state.slots, 0, ids.len() * SLOT_WORDS).await?;
        slots.iter_mut().for_each(|slot| slot.position += 1);
        self.gpu.write(&self.state.slots, 0, &slots)?;
        self.gpu.write(&self.state.ids, 0, ids)?;
        Ok(self.force.plan.run(&self.force.params(ids.len(), Sampler::GREEDY))?)
    }

    /// Next-token logits `[rows, V]` of the rows that ran last.
    pub async fn logits(&self, rows: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.gpu.read(&self.state.logits, 0, rows * self.weights.config.vocab_size).await?)
    }

    /// How many tokens each of the first `rows` rows has drawn, and the last of them in order, as many as are kept. Waits for
    /// them.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn drawn(&self, rows: usize) -> Result<Vec<(usize, Vec<Draw>)>, ModelError> {
        let history = self.sizes.history;
        let parts = [(&self.state.streams, 0, rows * 2), (&self.state.drawn, 0, rows * history * 2)];
        let read = self.gpu.read_many(&parts).await?;
        let counts = read[0].chunks_exact(2).map(|s| s[1] as usize);
        let row = |(count, row): (usize, &[u32])| {
            let draw = |n: usize| Draw { token: row[n % history * 2], log_p: f32::from_bits(row[n % history * 2 + 1]) };
            (count, (count.saturating_sub(history)..count).map(draw).collect())
        };
        Ok(counts.zip(read[1].chunks_exact(history * 2)).map(row).collect())
    }
}

/// All that the GPU knows about a row between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowState {
    /// Of its last token in the cache; the prefix is its prompt.
    pub slot: KvSlot,
    /// Random stream.
    pub stream: u32,
    /// How many tokens it has drawn.
    pub drawn: u32,
    /// The token drawn last, which is not in the cache yet.
    pub id: u32,
}

/// A prompt and the entries that it fills.
#[derive(Clone, Copy, Debug)]
pub struct PrefillPrompt<'a> {
    pub ids: &'a [u32],
    /// The first of them.
    pub at: u32,
}

/// A row that is about to continue a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefillRow {
    /// Index of the prompt in the prefill.
    pub prompt: u32,
    /// First of the entries that the row writes its own tokens to: for a row alone, those behind its prompt will do.
    pub at: u32,
    /// Random stream.
    pub stream: u32,
}

impl Prefill {
    fn new(gpu: &Gpu, recorder: &Recorder, state: &State, sizes: CacheSizes) -> Result<Self, ModelError> {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let (run_tokens, wanted) = (plan.run_param(), plan.run_param());
        let ids = plan.persistent("prompt ids", sizes.prefill);
        let slots = plan.persistent("prompt places", sizes.prefill * SLOT_WORDS);
        let rows = plan.persistent("prompt rows", sizes.rows);
        let rope = rope_table(&mut plan, &recorder.weights.config, sizes.max_length);
        let tokens = Extent::dynamic(run_tokens, sizes.prefill as u32);
        let inputs = Inputs { ids, positions: (slots, Positions::Slot), rope, tokens };
        let caches: Vec<_> = state.caches.iter().map(|c| plan.import(c)).collect();
        // A prompt is all its own.
        let max_length = sizes.max_length as u32;
        let attention = Attention::Cached { slots, caches: &caches, own: max_length, max_length };
        let trace = recorder.forward(&mut plan, inputs, &attention);
        let logits = plan.import(&state.logits);
        recorder.logits(&mut plan, rows, trace.output, logits, Extent::dynamic(wanted, sizes.rows as u32));
        let plan = plan.build(gpu)?;
        plan.write(rope, &rope_values(&recorder.weights.config, sizes.max_length))?;
        Ok(Prefill { plan, tokens: run_tokens, wanted, ids, slots, rows })
    }
}

/// The tensors and run parameters of a draw from `logits`.
fn sampling(plan: &mut PlanBuilder, state: &State, vocab: u32, history: usize, count: Extent) -> (sample::Rows, Sampling) {
    let (temperature, top_p, top_k, key) =
        (plan.run_param(), plan.run_param(), plan.run_param(), [plan.run_param(), plan.run_param()]);
    let sampling = Sampling { temperature, top_p, top_k, key, truncated: plan.run_param() };
    let rows = sample::Rows {
        logits: plan.import(&state.logits),
        start: sample::Start::First,
        slots: plan.import(&state.slots),
        ids: plan.import(&state.ids),
        streams: plan.import(&state.streams),
        drawn: plan.import(&state.drawn),
        count,
        vocab,
        history: history as u32,
    };
    (rows, sampling)
}

/// The first draw of new rows.
struct FirstDraw {
    plan: Plan,
    rows: RunParam,
    /// The first of the rows.
    first: RunParam,
    sampling: Sampling,
}

impl FirstDraw {
    fn new(gpu: &Gpu, recorder: &Recorder, state: &State, sizes: CacheSizes) -> Result<Self, ModelError> {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let rows = plan.run_param();
        let count = Extent::dynamic(rows, sizes.rows as u32);
        let (tensors, sampling) = sampling(&mut plan, state, recorder.shape.vocab, sizes.history, count);
        let first = plan.run_param();
        sample::next(&mut plan, sample::Rows { start: sample::Start::Row(first), ..tensors }, sampling);
        Ok(FirstDraw { plan: plan.build(gpu)?, rows, first, sampling })
    }
}

/// One step of all rows.
struct Advance {
    plan: Plan,
    rows: RunParam,
    /// Of the draw from the logits, where there is one.
    sampling: Option<Sampling>,
}

impl Advance {
    /// With `draw`, the next tokens are drawn from the logits.
    fn new(gpu: &Gpu, recorder: &Recorder, state: &State, sizes: CacheSizes, draw: bool) -> Result<Self, ModelError> {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let rows = plan.run_param();
        let count = Extent::dynamic(rows, sizes.rows as u32);
        let (ids, slots) = (plan.import(&state.ids), plan.import(&state.slots));
        // A row that runs past its own entries (it finished long ago) keeps its last position's rope: nobody reads the result.
        let positions = sizes.max_length + sizes.history + 1;
        let rope = rope_table(&mut plan, &recorder.weights.config, positions);
        let inputs = Inputs { ids, positions: (slots, Positions::Slot), rope, tokens: count };
        let caches: Vec<_> = state.caches.iter().map(|c| plan.import(c)).collect();
        let (own, max_length) = (sizes.own as u32, sizes.max_length as u32);
        let trace = recorder.forward(&mut plan, inputs, &Attention::Cached { slots, caches: &caches, own, max_length });
        let every = plan.persistent("every row", sizes.rows);
        let logits = plan.import(&state.logits);
        recorder.logits(&mut plan, every, trace.output, logits, count);
        let sampling = draw.then(|| {
            let (tensors, sampling) = sampling(&mut plan, state, recorder.shape.vocab, sizes.history, count);
            sample::next(&mut plan, tensors, sampling);
            sampling
        });
        let plan = plan.build(gpu)?;
        plan.write(rope, &rope_values(&recorder.weights.config, positions))?;
        plan.write(every, &(0..sizes.rows as u32).collect::<Vec<_>>())?;
        Ok(Advance { plan, rows, sampling })
    }

    /// The run parameters of a step of `rows` rows; a step that draws nothing does not ask the sampler.
    fn params(&self, rows: usize, sampler: Sampler) -> RunParams {
        let mut params = RunParams::from([(self.rows, rows as u32)]);
        if let Some(sampling) = &self.sampling {
            sampler.set(&mut params, sampling, rows as u32);
        }
        params
    }
}
