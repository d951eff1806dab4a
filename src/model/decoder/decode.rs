//! Cached decoding: prompts of different length are prefilled together, then all rows advance by one token per step.
//!
//! The cache of a layer is an array of entries. An entry holds the keys and values of one position. A prompt fills consecutive
//! entries. A *row* is one sequence being generated: it reads the entries of its prompt, which the chains of one prompt share,
//! and writes to entries of its own (`shaders/lib/kv_slot.wgsl`). The caller chooses the entries of prompts and rows.
//!
//! ```text
//! prefill   prompt tokens ─► caches, logits after the prompts of the new rows
//! draw      logits ─► ids of the new rows
//! step      ids ─► decoder over the caches ─► logits ─► draw ─► ids           (all on the GPU, any number of times)
//! force     ids given by the host instead of drawn
//! read      given tokens behind cached ones ─► caches, statistics after the last
//! ```
//!
//! Between two steps [`RowState`] is the whole state of a row. So the host can renumber rows, and add new prompts after the rows
//! that still run ([`CachePass::set_rows`]).

use super::cache_read::StatisticsPlan;
use super::{Attention, Inputs, Recorder, rope_tables, write_ropes};
use crate::gpu::{Buffer, DispatchTime, Extent, Gpu, MemoryKind, Plan, PlanBuilder, RunParam, RunParams, Tensor};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::cached_attention::{KvSlot, SLOT_WORDS, cache_words};
use crate::ops::rope::Positions;
pub use crate::ops::sample::Sampler;
use crate::ops::sample::{self, SAMPLER_WORDS};

/// The maximum sizes of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheSizes {
    /// Entries of the cache.
    pub entries: usize,
    /// Rows that advance together.
    pub rows: usize,
    /// Tokens per prefill.
    pub prefill: usize,
    /// Entries of a row after its prompt. Tokens that it draws beyond them are not cached.
    pub own: usize,
    /// Positions of the longest sequence, its prompt included.
    pub max_length: usize,
    /// Draws per row that are kept until they are read: the last ones.
    pub history: usize,
    /// Score tokens of a read; 0 if nothing is read.
    pub scores: usize,
}

/// One drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    pub token: u32,
    /// Log-probability under the full softmax at the sampler's temperature (greedy: at temperature 1).
    pub log_p: f32,
}

/// The caches, and the plans that use them.
pub struct CachePass {
    pub(super) gpu: Gpu,
    pub(super) weights: Weights,
    pub(super) sizes: CacheSizes,
    shared: SharedBuffers,
    pub(super) prefill: PrefillPlan,
    draw: FirstDrawPlan,
    step: StepPlan,
    force: StepPlan,
    pub(super) statistics: Option<StatisticsPlan>,
}

/// The buffers that all plans share.
struct SharedBuffers {
    /// One per layer.
    caches: Vec<Buffer>,
    /// `[rows]`: the tokens drawn last.
    ids: Buffer,
    /// `[rows]` of [`KvSlot`].
    slots: Buffer,
    /// `[rows, 2]`: random stream and number of draws.
    streams: Buffer,
    /// `[rows]` of [`Sampler`].
    samplers: Buffer,
    /// `[rows, history, 2]`: the last draws, as token and bits of its log-probability.
    drawn: Buffer,
    /// `[rows, V]`, of the rows that ran last.
    logits: Buffer,
}

pub(super) struct PrefillPlan {
    plan: Plan,
    tokens: RunParam,
    new_rows: RunParam,
    ids: Tensor,
    slots: Tensor,
    /// `[rows]`: the last prompt token of each new row.
    last_tokens: Tensor,
}

impl CachePass {
    /// Plans caches and passes for `weights`.
    ///
    /// # Errors
    /// Out of memory; a cache above the adapter's binding limit ([`ModelError::CacheTooLarge`]).
    pub fn new(gpu: &Gpu, weights: &Weights, sizes: CacheSizes) -> Result<Self, ModelError> {
        let config = &weights.config;
        if sizes.max_length > config.max_position_embeddings {
            let (allowed, found) = (config.max_position_embeddings, sizes.max_length);
            return Err(ModelError::Batch { what: "positions of a cache (max_position_embeddings)", allowed, found });
        }
        let gpu = &gpu.for_memory(MemoryKind::Cache);
        let recorder = Recorder::new(weights);
        let words = cache_words(&recorder.shape.heads, sizes.entries);
        let (needed, allowed) = (words as u64 * 4, gpu.max_binding().min(gpu.max_buffer()));
        if needed > allowed {
            return Err(ModelError::CacheTooLarge { entries: sizes.entries, needed, allowed });
        }
        let cache = |i: usize| gpu.buffer(&format!("cache of layer {i}"), words);
        let shared = SharedBuffers {
            caches: (0..config.num_hidden_layers).map(cache).collect::<Result<_, _>>()?,
            ids: gpu.buffer("next token ids", sizes.rows)?,
            slots: gpu.buffer("KV slots", sizes.rows * SLOT_WORDS)?,
            streams: gpu.buffer("random streams", sizes.rows * 2)?,
            samplers: gpu.buffer("samplers", sizes.rows * SAMPLER_WORDS)?,
            drawn: gpu.buffer("drawn tokens", sizes.rows * sizes.history * 2)?,
            logits: gpu.buffer("next-token logits", sizes.rows * config.vocab_size)?,
        };
        let prefill = PrefillPlan::new(gpu, &recorder, &shared, sizes)?;
        let draw = FirstDrawPlan::new(gpu, &recorder, &shared, sizes)?;
        let step = StepPlan::new(gpu, &recorder, &shared, sizes, true)?;
        let force = StepPlan::new(gpu, &recorder, &shared, sizes, false)?;
        let statistics =
            (sizes.scores > 0).then(|| StatisticsPlan::new(gpu, &shared.logits, config.vocab_size, sizes)).transpose()?;
        Ok(CachePass { gpu: gpu.clone(), weights: weights.clone(), sizes, shared, prefill, draw, step, force, statistics })
    }

    /// The caches. Plans that run while no row is active may reuse their memory.
    pub fn caches(&self) -> &[Buffer] {
        &self.shared.caches
    }

    /// The sizes that this pass was planned for.
    pub fn sizes(&self) -> CacheSizes {
        self.sizes
    }

    /// Runs whole prompts, each into its entries, and sets up rows `first ..` to continue them: row `first + n` as `rows[n]`
    /// says. The entries of prompts and rows that run together must not overlap. Afterwards the logits are those of the new rows.
    ///
    /// # Errors
    /// More rows, tokens or positions than planned; ids outside the vocabulary; an empty prompt.
    pub fn prefill(&self, prompts: &[PrefillPrompt<'_>], first: usize, rows: &[PrefillRow]) -> Result<(), ModelError> {
        if prompts.iter().any(|p| p.ids.is_empty()) || rows.iter().any(|r| r.prompt as usize >= prompts.len()) {
            return Err(ModelError::Inconsistent("a prompt is empty, or a row names a prompt that is not there".into()));
        }
        let of_prompt = |p: &PrefillPrompt<'_>| Span {
            first: KvSlot { own: p.at, prefix_start: p.at, ..KvSlot::default() },
            ids: p.ids.to_vec(),
        };
        let own = |r: &PrefillRow| self.sizes.own.min(self.sizes.max_length.saturating_sub(prompts[r.prompt as usize].ids.len()));
        limit("entries of the cache", self.sizes.entries, rows.iter().map(|r| r.at as usize + own(r)).max().unwrap_or(0))?;
        let spans: Vec<Span> = prompts.iter().map(of_prompt).collect();
        let of_row = |r: &PrefillRow| {
            let prompt = &prompts[r.prompt as usize];
            let len = prompt.ids.len() as u32;
            let slot = KvSlot { own: r.at, position: len - 1, prefix_start: prompt.at, prefix_len: len };
            (r.prompt as usize, RowState { slot, stream: r.stream, drawn: 0, id: 0, sampler: r.sampler })
        };
        self.fill(&spans, first, &rows.iter().map(of_row).collect::<Vec<_>>())
    }

    /// Runs spans of prompts, each into the entries of its positions, and sets up rows `first ..`: each with the span that its
    /// logits follow, and its state. A span may continue entries that an earlier call filled, or an earlier span of this one.
    /// Afterwards the logits are those of the new rows.
    ///
    /// # Errors
    /// More rows, tokens or positions than planned; ids outside the vocabulary; a span without tokens.
    pub fn fill(&self, spans: &[Span], first: usize, rows: &[(usize, RowState)]) -> Result<(), ModelError> {
        self.check_spans(spans, first, rows)?;
        let (mut ids, mut slots, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for span in spans {
            ids.extend_from_slice(&span.ids);
            slots.extend((0..span.ids.len() as u32).map(|n| KvSlot { position: span.first.position + n, ..span.first }));
            ends.push(ids.len() as u32 - 1);
        }
        let last_tokens: Vec<u32> = rows.iter().map(|(span, _)| ends[*span]).collect();
        self.set_rows(first, &rows.iter().map(|(_, state)| *state).collect::<Vec<_>>())?;
        self.prefill.run(&ids, &slots, &last_tokens)
    }

    /// Sets the states of rows `first ..`.
    ///
    /// # Errors
    /// More rows than planned.
    pub fn set_rows(&self, first: usize, states: &[RowState]) -> Result<(), ModelError> {
        let slots: Vec<KvSlot> = states.iter().map(|s| s.slot).collect();
        let streams: Vec<[u32; 2]> = states.iter().map(|s| [s.stream, s.drawn]).collect();
        let ids: Vec<u32> = states.iter().map(|s| s.id).collect();
        let samplers: Vec<Sampler> = states.iter().map(|s| s.sampler).collect();
        self.gpu.write(&self.shared.slots, first * SLOT_WORDS, &slots)?;
        self.gpu.write(&self.shared.streams, first * 2, &streams)?;
        self.gpu.write(&self.shared.samplers, first * SAMPLER_WORDS, &samplers)?;
        Ok(self.gpu.write(&self.shared.ids, first, &ids)?)
    }

    /// Checks a prompt that spans are to be cut from.
    ///
    /// # Errors
    /// No tokens, more than planned, ids outside the vocabulary.
    pub fn check_prompt(&self, ids: &[u32]) -> Result<(), ModelError> {
        limit("tokens of a prompt", self.sizes.max_length, ids.len())?;
        let largest = ids.iter().copied().max().unwrap_or(0) as usize;
        limit("largest token id", self.weights.config.vocab_size - 1, largest)?;
        if ids.is_empty() {
            return Err(ModelError::Inconsistent("a prompt is empty".into()));
        }
        Ok(())
    }

    fn check_spans(&self, spans: &[Span], first: usize, rows: &[(usize, RowState)]) -> Result<(), ModelError> {
        let sizes = &self.sizes;
        limit("rows", sizes.rows, first + rows.len())?;
        limit("tokens of a prefill", sizes.prefill, spans.iter().map(|s| s.ids.len()).sum())?;
        let end = |s: &Span| s.first.position as usize + s.ids.len();
        limit("tokens of a prompt", sizes.max_length, spans.iter().map(end).max().unwrap_or(0))?;
        let largest = spans.iter().flat_map(|s| &s.ids).copied().max().unwrap_or(0) as usize;
        limit("largest token id", self.weights.config.vocab_size - 1, largest)?;
        if spans.iter().any(|s| s.ids.is_empty() || s.first.position < s.first.prefix_len)
            || rows.iter().any(|(span, _)| *span >= spans.len())
        {
            return Err(ModelError::Inconsistent("a span of a prompt is empty or in its prefix, or a row names none".into()));
        }
        let own_end = |slot: &KvSlot, end: usize| slot.own as usize + end.saturating_sub(slot.prefix_len as usize);
        let of_row = |state: &RowState| {
            let slot = &state.slot;
            own_end(slot, (slot.prefix_len as usize + 1).max(slot.position as usize + 1).min(sizes.max_length))
        };
        let ends = spans.iter().map(|s| own_end(&s.first, end(s))).chain(rows.iter().map(|(_, state)| of_row(state)));
        limit("entries of the cache", sizes.entries, ends.max().unwrap_or(0))
    }

    /// Draws the first tokens of rows `first .. first + rows`, directly after their prefill. `truncates`: whether the sampler of
    /// any of them does.
    ///
    /// # Errors
    /// Those of the GPU.
    pub fn draw(&self, first: usize, rows: usize, truncates: bool) -> Result<(), ModelError> {
        let FirstDrawPlan { plan, rows: count, first: start, truncated } = &self.draw;
        let all = if truncates { rows as u32 } else { 0 };
        Ok(plan.run(&[(*count, rows as u32), (*start, first as u32), (*truncated, all)].into())?)
    }

    /// `times` steps of the first `rows` rows. A step feeds the token drawn last and draws the next one. `truncates`: whether the
    /// sampler of any of them does.
    ///
    /// # Errors
    /// Those of the GPU.
    pub fn step(&self, rows: usize, times: usize, truncates: bool) -> Result<(), ModelError> {
        Ok(self.step.plan.run_times(&self.step.params(rows, truncates), times)?)
    }

    /// One step with timestamps around every dispatch.
    ///
    /// # Errors
    /// Those of the GPU.
    pub async fn timeline(&self, rows: usize) -> Result<Vec<DispatchTime>, ModelError> {
        Ok(self.step.plan.timeline(&self.step.params(rows, false)).await?)
    }

    /// One step with tokens given by the host, one per row, at the next position of each row.
    pub async fn force(&self, ids: &[u32]) -> Result<(), ModelError> {
        let largest = ids.iter().copied().max().unwrap_or(0) as usize;
        if largest >= self.weights.config.vocab_size {
            let allowed = self.weights.config.vocab_size - 1;
            return Err(ModelError::Batch { what: "largest token id", allowed, found: largest });
        }
        let mut slots: Vec<KvSlot> = self.gpu.read(&self.shared.slots, 0, ids.len() * SLOT_WORDS).await?;
        slots.iter_mut().for_each(|slot| slot.position += 1);
        self.gpu.write(&self.shared.slots, 0, &slots)?;
        self.gpu.write(&self.shared.ids, 0, ids)?;
        Ok(self.force.plan.run(&self.force.params(ids.len(), false))?)
    }

    /// Next-token logits `[rows, V]` of the rows that ran last.
    pub async fn logits(&self, rows: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.gpu.read(&self.shared.logits, 0, rows * self.weights.config.vocab_size).await?)
    }

    /// For each of the first `rows` rows, the number of tokens that it has drawn, and the last of them in order, as many as are
    /// kept. Waits for them.
    ///
    /// # Errors
    /// Those of the GPU.
    pub async fn drawn(&self, rows: usize) -> Result<Vec<(usize, Vec<Draw>)>, ModelError> {
        let history = self.sizes.history;
        let ranges = [(&self.shared.streams, 0, rows * 2), (&self.shared.drawn, 0, rows * history * 2)];
        let words = self.gpu.read_many(&ranges).await?;
        let counts = words[0].chunks_exact(2).map(|s| s[1] as usize);
        let last_draws = |(count, ring): (usize, &[u32])| {
            let draw = |n: usize| Draw { token: ring[n % history * 2], log_p: f32::from_bits(ring[n % history * 2 + 1]) };
            (count, (count.saturating_sub(history)..count).map(draw).collect())
        };
        Ok(counts.zip(words[1].chunks_exact(history * 2)).map(last_draws).collect())
    }
}

pub(super) fn limit(what: &'static str, allowed: usize, found: usize) -> Result<(), ModelError> {
    if found > allowed { Err(ModelError::Batch { what, allowed, found }) } else { Ok(()) }
}

/// The state of a row between two steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowState {
    /// The slot of its last token in the cache. The prefix is its prompt.
    pub slot: KvSlot,
    /// Random stream.
    pub stream: u32,
    /// Number of tokens that it has drawn.
    pub drawn: u32,
    /// The token drawn last, which is not in the cache yet.
    pub id: u32,
    pub sampler: Sampler,
}

/// Tokens of a prompt that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The slot of the first token. The positions before it are cached, or run before it.
    pub first: KvSlot,
    pub ids: Vec<u32>,
}

/// A prompt of a prefill.
#[derive(Clone, Copy, Debug)]
pub struct PrefillPrompt<'a> {
    pub ids: &'a [u32],
    /// The first of the entries that it fills.
    pub at: u32,
}

/// A row that will continue a prompt of a prefill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrefillRow {
    /// Index of the prompt in the prefill.
    pub prompt: u32,
    /// The first of the entries for the row's own tokens. For the only row of a prompt these may directly follow the prompt's.
    pub at: u32,
    /// Random stream.
    pub stream: u32,
    pub sampler: Sampler,
}

impl PrefillPlan {
    fn new(gpu: &Gpu, recorder: &Recorder, shared: &SharedBuffers, sizes: CacheSizes) -> Result<Self, ModelError> {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let (tokens, new_rows) = (plan.run_param(), plan.run_param());
        let ids = plan.persistent("prompt ids", sizes.prefill);
        let slots = plan.persistent("prompt KV slots", sizes.prefill * SLOT_WORDS);
        let last_tokens = plan.persistent("last prompt tokens", sizes.rows);
        let ropes = rope_tables(&mut plan, &recorder.weights.config, sizes.max_length);
        let token_count = Extent::dynamic(tokens, sizes.prefill as u32);
        let inputs = Inputs { ids, positions: (slots, Positions::Slot), ropes: &ropes, tokens: token_count };
        let caches: Vec<_> = shared.caches.iter().map(|c| plan.import(c)).collect();
        // A span may be as long as its prompt.
        let max_length = sizes.max_length as u32;
        let attention = Attention::Cached { slots, caches: &caches, own: max_length, max_length };
        let trace = recorder.record_forward(&mut plan, inputs, &attention);
        let logits = plan.import(&shared.logits);
        recorder.record_logits(&mut plan, last_tokens, trace.output, logits, Extent::dynamic(new_rows, sizes.rows as u32));
        let plan = plan.build(gpu)?;
        write_ropes(&plan, &recorder.weights.config, &ropes, sizes.max_length)?;
        Ok(PrefillPlan { plan, tokens, new_rows, ids, slots, last_tokens })
    }

    /// Runs tokens at these slots, up to the logits after `last_tokens`.
    pub(super) fn run(&self, ids: &[u32], slots: &[KvSlot], last_tokens: &[u32]) -> Result<(), ModelError> {
        self.plan.write(self.ids, ids)?;
        self.plan.write(self.slots, slots)?;
        self.plan.write(self.last_tokens, last_tokens)?;
        let params = [(self.tokens, ids.len() as u32), (self.new_rows, last_tokens.len() as u32)];
        Ok(self.plan.run(&params.into())?)
    }
}

/// The tensors of a draw from the logits, and the run parameter of the rows that have a threshold.
fn draw_inputs(
    plan: &mut PlanBuilder,
    shared: &SharedBuffers,
    vocab: u32,
    history: usize,
    count: Extent,
) -> (sample::Rows, RunParam) {
    let truncated = plan.run_param();
    let rows = sample::Rows {
        logits: plan.import(&shared.logits),
        start: sample::Start::First,
        samplers: plan.import(&shared.samplers),
        slots: plan.import(&shared.slots),
        ids: plan.import(&shared.ids),
        streams: plan.import(&shared.streams),
        drawn: plan.import(&shared.drawn),
        count,
        vocab,
        history: history as u32,
    };
    (rows, truncated)
}

/// The first draw of new rows.
struct FirstDrawPlan {
    plan: Plan,
    rows: RunParam,
    /// The first of the rows.
    first: RunParam,
    /// The number of rows if any of them truncates, else 0.
    truncated: RunParam,
}

impl FirstDrawPlan {
    fn new(gpu: &Gpu, recorder: &Recorder, shared: &SharedBuffers, sizes: CacheSizes) -> Result<Self, ModelError> {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let rows = plan.run_param();
        let count = Extent::dynamic(rows, sizes.rows as u32);
        let (tensors, truncated) = draw_inputs(&mut plan, shared, recorder.shape.vocab, sizes.history, count);
        let first = plan.run_param();
        sample::record(&mut plan, sample::Rows { start: sample::Start::Row(first), ..tensors }, truncated);
        Ok(FirstDrawPlan { plan: plan.build(gpu)?, rows, first, truncated })
    }
}

/// One step of all rows.
struct StepPlan {
    plan: Plan,
    rows: RunParam,
    /// The number of rows if any of them truncates, else 0. `None` in a step that draws nothing.
    truncated: Option<RunParam>,
}

impl StepPlan {
    /// With `draw`, the step draws the next tokens.
    fn new(gpu: &Gpu, recorder: &Recorder, shared: &SharedBuffers, sizes: CacheSizes, draw: bool) -> Result<Self, ModelError> {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let rows = plan.run_param();
        let count = Extent::dynamic(rows, sizes.rows as u32);
        let (ids, slots) = (plan.import(&shared.ids), plan.import(&shared.slots));
        // A finished row may run past its own entries until the next read. It then uses the rope of the last position, and its
        // result is not used.
        let positions = sizes.max_length + sizes.history + 1;
        let ropes = rope_tables(&mut plan, &recorder.weights.config, positions);
        let inputs = Inputs { ids, positions: (slots, Positions::Slot), ropes: &ropes, tokens: count };
        let caches: Vec<_> = shared.caches.iter().map(|c| plan.import(c)).collect();
        let (own, max_length) = (sizes.own as u32, sizes.max_length as u32);
        let trace = recorder.record_forward(&mut plan, inputs, &Attention::Cached { slots, caches: &caches, own, max_length });
        let all_rows = plan.persistent("all rows", sizes.rows);
        let logits = plan.import(&shared.logits);
        recorder.record_logits(&mut plan, all_rows, trace.output, logits, count);
        let truncated = draw.then(|| {
            let (tensors, truncated) = draw_inputs(&mut plan, shared, recorder.shape.vocab, sizes.history, count);
            sample::record(&mut plan, tensors, truncated);
            truncated
        });
        let plan = plan.build(gpu)?;
        write_ropes(&plan, &recorder.weights.config, &ropes, positions)?;
        plan.write(all_rows, &(0..sizes.rows as u32).collect::<Vec<_>>())?;
        Ok(StepPlan { plan, rows, truncated })
    }

    /// The run parameters of a step of `rows` rows.
    fn params(&self, rows: usize, truncates: bool) -> RunParams {
        let mut params = RunParams::from([(self.rows, rows as u32)]);
        if let Some(truncated) = self.truncated {
            params.set(truncated, if truncates { rows as u32 } else { 0 });
        }
        params
    }
}
