//! A run in progress: prompts that wait, prompts that are being computed, chains that are being sampled.
//!
//! ```text
//! push ─► waiting ─► filling ─► active ─► unread ─► done
//!          a row and    its tokens   its       what follows it
//!          entries      are computed draws     is read
//! ```
//!
//! A chain has a row and entries of the cache until it is read. With [`Layout::Shared`] a prompt is a root, which others may
//! share, or it continues a part of one: its other tokens are then the first of its chain's own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::pool::Segment;
use super::prefixes::{Found, Prefixes, RootId};
use super::read::Unread;
use super::{Chain, Ending, Layout, MAX_SYNC_INTERVAL, ReadChain, Reader, Rollout, RolloutObserver, Stop};
use crate::model::decoder::{Draw, RowState, Sampler, Span};
use crate::model::error::ModelError;
use crate::ops::cached_attention::KvSlot;

/// Parts of the rows that prompts of many chains take in turn.
const TURNS: usize = 4;

/// Rows that a prompt takes in a turn, of so many.
fn turn(rows: usize) -> usize {
    (rows / TURNS).max(1)
}

/// A prompt to continue.
#[derive(Clone, Debug)]
pub struct Continuation {
    pub ids: Arc<[u32]>,
    /// Chains of the prompt.
    pub chains: usize,
    /// Random stream of its first chain; each further chain has the next one.
    pub first_stream: u32,
    pub sampler: Sampler,
    pub stop: Arc<Stop>,
}

/// A prompt whose chains have not all ended.
struct Pending {
    of: Continuation,
    /// The number of its first chain among all chains of the run.
    first_chain: usize,
    /// Most tokens of a chain.
    max_tokens: usize,
    /// Chains that have a row, or had one.
    started: usize,
    /// Chains that have ended and are read.
    done: usize,
    ended: Vec<Option<ReadChain>>,
}

/// What of the cache a chain has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub root: RootId,
    own: Segment,
}

/// A chain that is being sampled, in the cache row of its index.
pub(super) struct ActiveSequence {
    pub prompt: usize,
    /// Its number among the chains of its prompt.
    pub member: usize,
    /// Its number among all chains of the run.
    number: usize,
    /// The slot of its prompt's last token.
    pub slot: KvSlot,
    pub held: Held,
    stream: u32,
    draws: Vec<Draw>,
    max_tokens: usize,
    sampler: Sampler,
}

impl ActiveSequence {
    /// The state of its row after the draws that were read.
    fn state(&self) -> RowState {
        let drawn = self.draws.len() as u32;
        let id = self.draws.last().map_or(0, |d| d.token);
        let slot = KvSlot { position: self.slot.position + drawn, ..self.slot };
        RowState { slot, stream: self.stream, drawn, id, sampler: self.sampler }
    }
}

/// Tokens of a prompt that are still to be computed, and the chains that start behind them.
struct Fill {
    /// The slot of the first of them.
    first: KvSlot,
    ids: Arc<[u32]>,
    /// How many of `ids` are cached.
    cached: usize,
    chains: Vec<ActiveSequence>,
}

/// A run in progress: [`Rollout::begin`].
pub struct Run {
    prompts: BTreeMap<usize, Pending>,
    next_prompt: usize,
    next_chain: usize,
    /// Prompts of which chains still wait.
    waiting: VecDeque<usize>,
    filling: VecDeque<Fill>,
    pub(super) active: Vec<ActiveSequence>,
    /// The chains that have ended and are still to be read after.
    pub(super) unread: Vec<Unread>,
    prefixes: Prefixes,
    done: Vec<(usize, Vec<ReadChain>)>,
    /// Prompt tokens that were computed.
    computed: usize,
}

impl Run {
    /// The prompts all of whose chains have ended since the last call, with their numbers.
    pub fn take_done(&mut self) -> Vec<(usize, Vec<ReadChain>)> {
        std::mem::take(&mut self.done)
    }

    /// Whether no prompt waits or runs.
    pub fn is_idle(&self) -> bool {
        self.prompts.is_empty()
    }

    /// Rows that a prompt takes, or waits for its turn to take.
    pub fn rows_of(&self, prompt: usize, rows: usize) -> usize {
        let left = self.prompts.get(&prompt).map_or(0, |pending| pending.of.chains - pending.done);
        left.min(turn(rows))
    }

    /// Prompt tokens that were computed so far. What prompts share counts once.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Nobody wants this prompt any more. Its rows are free from the next [`Rollout::advance`] on.
    pub fn abandon(&mut self, prompt: usize) {
        self.prompts.remove(&prompt);
        self.waiting.retain(|waiting| *waiting != prompt);
    }

    /// Whether chains wait for a row or for entries.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes back what a chain has of the cache.
    pub(super) fn free(&mut self, held: Held) {
        self.prefixes.put(held.own);
        self.prefixes.release(held.root);
    }

    /// A chain has been read.
    pub(super) fn finish(&mut self, prompt: usize, member: usize, chain: ReadChain) {
        let Some(pending) = self.prompts.get_mut(&prompt) else { return };
        pending.ended[member] = Some(chain);
        pending.done += 1;
        if pending.done == pending.of.chains
            && let Some(pending) = self.prompts.remove(&prompt)
        {
            self.done.push((prompt, pending.ended.into_iter().flatten().collect()));
        }
    }

    /// Rows that are taken.
    fn rows(&self) -> usize {
        self.active.len() + self.filling.iter().map(|fill| fill.chains.len()).sum::<usize>()
    }

    /// Frees the rows of prompts that nobody wants. Whether there were any.
    fn drop_abandoned(&mut self) -> bool {
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(|chain| self.prompts.contains_key(&chain.prompt));
        self.active = kept;
        let unread = std::mem::take(&mut self.unread);
        let (unread, over): (Vec<_>, Vec<_>) = unread.into_iter().partition(|u| self.prompts.contains_key(&u.prompt));
        self.unread = unread;
        let any = !gone.is_empty();
        let held = gone.iter().map(|chain| chain.held).chain(over.iter().map(|unread| unread.held));
        held.collect::<Vec<_>>().into_iter().for_each(|held| self.free(held));
        any
    }
}

impl Rollout {
    /// A run without prompts. What the cache held before is not used.
    pub fn begin(&self) -> Run {
        Run {
            prompts: BTreeMap::new(),
            next_prompt: 0,
            next_chain: 0,
            waiting: VecDeque::new(),
            filling: VecDeque::new(),
            active: Vec::new(),
            unread: Vec::new(),
            prefixes: Prefixes::new(self.pass.sizes().entries as u32),
            done: Vec::new(),
            computed: 0,
        }
    }

    /// Adds a prompt, behind those that wait. Returns its number: they count from 0.
    ///
    /// # Errors
    /// A prompt without tokens, or longer than planned; ids outside the vocabulary.
    pub fn push(&self, run: &mut Run, of: Continuation) -> Result<usize, ModelError> {
        self.pass.check_prompt(&of.ids)?;
        let number = run.next_prompt;
        // A chain ends at the latest with the context, at a length that depends on its prompt. A row that runs on until the next
        // read is kept by the kernels from writing to the entries of others.
        let context = self.pass.sizes().max_length.saturating_sub(of.ids.len());
        let room = if self.layout == Layout::Shared {
            context.saturating_sub(self.sizes.read.tokens.saturating_sub(1))
        } else {
            context
        };
        let max_tokens = of.stop.max_tokens.min(self.sizes.new_tokens).min(room);
        let ended = vec![None; of.chains];
        let first_chain = run.next_chain;
        run.next_prompt += 1;
        run.next_chain += of.chains;
        run.waiting.push_back(number);
        run.prompts.insert(number, Pending { of, first_chain, max_tokens, started: 0, done: 0, ended });
        Ok(number)
    }

    /// Starts what has room, draws some tokens of all chains that run, and reads after those that have ended.
    ///
    /// # Errors
    /// An error of the GPU or of `reader`; [`ModelError::Stopped`] if `observer` stops the rollout.
    pub async fn advance<R: Reader>(
        &self,
        run: &mut Run,
        observer: &mut impl RolloutObserver,
        reader: &R,
    ) -> Result<(), R::Error> {
        if run.drop_abandoned() {
            self.set_rows(run)?;
        }
        while run.rows() < self.sizes.rows && self.start_next(run) {}
        let first = run.active.len();
        let (spans, rows) = self.next_spans(run);
        let mut steps = self.steps_to_next_read(run, observer);
        if !spans.is_empty() {
            self.pass.fill(&spans, first, &rows)?;
            run.computed += spans.iter().map(|span| span.ids.len()).sum::<usize>();
        }
        let truncates = |chains: &[ActiveSequence]| chains.iter().any(|chain| chain.sampler.truncates());
        if !rows.is_empty() {
            self.pass.draw(first, rows.len(), truncates(&run.active[first..]))?;
            // Where all rows are new, their first draw counts as a step.
            steps -= usize::from(first == 0);
        }
        if !run.active.is_empty() {
            self.pass.step(run.active.len(), steps, truncates(&run.active))?;
            self.collect_ended(run, observer, reader).await?;
        }
        self.read_ended(run, reader).await
    }

    fn set_rows(&self, run: &Run) -> Result<(), ModelError> {
        self.pass.set_rows(0, &run.active.iter().map(ActiveSequence::state).collect::<Vec<_>>())
    }

    /// Gives the next chains that wait rows and entries. False where there are none, or no room. Of a shared cache a prompt of
    /// many chains takes a part of the rows at a time, and then waits behind the others.
    fn start_next(&self, run: &mut Run) -> bool {
        let Some(&number) = run.waiting.front() else { return false };
        let free_rows = self.sizes.rows - run.rows();
        let Some(pending) = run.prompts.get_mut(&number) else {
            run.waiting.pop_front();
            return true;
        };
        let left = pending.of.chains - pending.started;
        let len = pending.of.ids.len();
        let (root, found, sizes) = match self.layout {
            Layout::Blocks(entries) => (run.prefixes.take(entries as u32), None, vec![0; left]),
            Layout::Shared => {
                let chains = left.min(free_rows).min(turn(self.sizes.rows));
                let found = run.prefixes.find(&pending.of.ids, chains);
                // What is read behind a chain, or what its row runs on for.
                let behind = MAX_SYNC_INTERVAL.max(self.sizes.read.tokens);
                let own = (pending.max_tokens + behind).min(self.pass.sizes().max_length - len);
                let prompt = found.map_or(0, |found| len - found.len);
                let root = found.is_none().then(|| run.prefixes.take(len as u32)).flatten();
                (root, found, vec![(prompt + own) as u32; chains])
            }
        };
        if let Some(found) = found {
            run.prefixes.hold(found.root);
        }
        if found.is_none() && root.is_none() {
            return false;
        }
        let mut segments = Vec::new();
        for size in sizes {
            // A root that this call has made is in use.
            match run.prefixes.take(size) {
                Some(segment) => segments.push(segment),
                None => break,
            }
        }
        if segments.is_empty() {
            found.into_iter().for_each(|found| run.prefixes.release(found.root));
            root.into_iter().for_each(|root| run.prefixes.put(root));
            // Nothing will make room but the root that the prompt would have shared.
            let alone = run.active.is_empty() && run.filling.is_empty() && run.unread.is_empty();
            return alone && found.is_some() && {
                run.prefixes.clear();
                true
            };
        }
        self.start(run, number, (root, found), &segments);
        true
    }

    /// Starts chains of a prompt, one in each of these segments.
    fn start(&self, run: &mut Run, number: usize, (root, found): (Option<Segment>, Option<Found>), segments: &[Segment]) {
        let Some(pending) = run.prompts.get_mut(&number) else { return };
        let (ids, len) = (pending.of.ids.clone(), pending.of.ids.len());
        let shared = self.layout == Layout::Shared;
        if shared && pending.started == 0 {
            run.prefixes.remember(&ids);
        }
        let (id, prefix_start, prefix_len) = match (found, root) {
            (Some(found), _) => (found.root, found.start, found.len),
            (None, root) => {
                let root = root.unwrap_or(Segment { start: 0, len: 0 });
                (run.prefixes.add(root, shared.then(|| ids.clone())), root.start, len)
            }
        };
        let mut chains = Vec::new();
        for (n, segment) in segments.iter().enumerate() {
            if n > 0 {
                run.prefixes.hold(id);
            }
            let member = pending.started + n;
            let own = match self.layout {
                Layout::Shared => segment.start,
                Layout::Blocks(_) => prefix_start + (len + member * self.pass.sizes().own) as u32,
            };
            let slot = KvSlot { own, position: len as u32 - 1, prefix_start, prefix_len: prefix_len as u32 };
            chains.push(ActiveSequence {
                prompt: number,
                member,
                number: pending.first_chain + member,
                slot,
                held: Held { root: id, own: *segment },
                stream: pending.of.first_stream.wrapping_add(member as u32),
                draws: Vec::new(),
                max_tokens: pending.max_tokens,
                sampler: pending.of.sampler,
            });
        }
        pending.started += segments.len();
        let waits = pending.started < pending.of.chains;
        run.waiting.pop_front();
        run.waiting.extend(waits.then_some(number));
        match found {
            Some(_) => run.filling.extend(chains.into_iter().map(|chain| Fill {
                first: KvSlot { position: prefix_len as u32, ..chain.slot },
                ids: ids[prefix_len..].into(),
                cached: 0,
                chains: vec![chain],
            })),
            None => {
                let first = KvSlot { own: prefix_start, prefix_start, ..KvSlot::default() };
                run.filling.push_back(Fill { first, ids, cached: 0, chains });
            }
        }
    }

    /// The next tokens to compute, as many as one prefill takes. Chains all of whose prompt is then computed become active:
    /// the rows for them, each with its span.
    fn next_spans(&self, run: &mut Run) -> (Vec<Span>, Vec<(usize, RowState)>) {
        let most = self.pass.sizes().prefill;
        let (mut room, mut spans, mut rows) = (most, Vec::new(), Vec::new());
        while let Some(fill) = run.filling.front_mut() {
            let left = fill.ids.len() - fill.cached;
            // A prompt is only cut where it is longer than a prefill.
            if left > room && room < most {
                break;
            }
            let (start, end) = (fill.cached, fill.cached + left.min(room));
            let first = KvSlot { position: fill.first.position + start as u32, ..fill.first };
            spans.push(Span { first, ids: fill.ids[start..end].to_vec() });
            room -= end - start;
            fill.cached = end;
            if end < fill.ids.len() {
                break;
            }
            if let Some(fill) = run.filling.pop_front() {
                rows.extend(fill.chains.iter().map(|chain| (spans.len() - 1, chain.state())));
                run.active.extend(fill.chains);
            }
        }
        (spans, rows)
    }

    /// Steps until the next read of the draws: no more than the longest chain still needs.
    fn steps_to_next_read(&self, run: &Run, observer: &impl RolloutObserver) -> usize {
        let longest = run.active.iter().map(|chain| chain.max_tokens.saturating_sub(chain.draws.len())).max().unwrap_or(0);
        observer.sync_interval().unwrap_or(self.sync_interval).clamp(1, longest.clamp(1, MAX_SYNC_INTERVAL))
    }

    /// Reads the draws, moves the chains that have ended on to be read, and closes the gaps between the rows of the others.
    async fn collect_ended<R: Reader>(
        &self,
        run: &mut Run,
        observer: &mut impl RolloutObserver,
        reader: &R,
    ) -> Result<(), R::Error> {
        let drawn = self.pass.drawn(run.active.len()).await?;
        let active_before = run.active.len();
        let mut running = Vec::with_capacity(active_before);
        for (mut chain, (count, draws)) in std::mem::take(&mut run.active).into_iter().zip(drawn) {
            let before = chain.draws.len();
            let new = count.saturating_sub(before);
            chain.draws.extend(&draws[draws.len().saturating_sub(new)..]);
            let Some(pending) = run.prompts.get(&chain.prompt) else {
                run.free(chain.held);
                continue;
            };
            let stop = &pending.of.stop;
            let abandoned = || observer.abandons(chain.number).then_some((chain.draws.len(), Ending::Length, 0));
            let end = stop.find(&chain.draws, before, chain.max_tokens).or_else(abandoned);
            let stable = end.map_or_else(|| stop.stable_len(&chain.draws), |(end, _, tail)| end - tail);
            if !observer.stable_tokens(chain.number, &chain.draws[..stable]) {
                return Err(ModelError::Stopped.into());
            }
            match end {
                None => running.push(chain),
                Some((end, ending, tail)) => {
                    chain.draws.truncate(end);
                    let ended = Chain { draws: std::mem::take(&mut chain.draws), ending, tail };
                    let closed = reader.close(chain.prompt, &ended)?;
                    if reader.paths().is_empty() {
                        run.free(chain.held);
                        run.finish(chain.prompt, chain.member, ReadChain { chain: ended, closed, stats: Vec::new() });
                    } else {
                        run.unread.push(Unread::new(&chain, &pending.of.ids, ended, closed));
                    }
                }
            }
        }
        run.active = running;
        if run.active.len() < active_before { Ok(self.set_rows(run)?) } else { Ok(()) }
    }
}
