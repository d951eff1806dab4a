//! Passes over packed batches: plans that are made once and run on batch after batch.

use std::iter::repeat_n;
use std::sync::{Mutex, PoisonError};

use super::backward::BackwardInputs;
use super::project::Learns;
use super::{Attention, Inputs, Recorder, rope_table, rope_values, words};
use crate::gpu::{Gpu, KernelTime, Plan, PlanBuilder, Role, Size, Span, Tensor};
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::attention::{SPAN_WORDS, TokenSpan};
use crate::ops::loss_head::{self, LossGradient, LossHead, NO_SCORES, OBJECTIVE_WORDS, RowObjective, STATS};
use crate::ops::matmul::Epilogue;
use crate::ops::rope::Positions;
use crate::ops::rows::NO_ROW;
use crate::ops::{embedding, matmul, rmsnorm, rows};

/// Bytes that the logits of one chunk may take.
const LOGITS_BYTES: u64 = 32 << 20;

/// What a pass is planned for; batches may be smaller.
#[derive(Clone, Debug, Default)]
pub struct PassSizes {
    /// Most tokens of a batch, T.
    pub tokens: usize,
    /// Most rows that carry loss, R.
    pub rows: usize,
    /// Token ids that scores are made of, K; may be empty.
    pub score_tokens: Vec<u32>,
    /// With a gradient: compute activations again on the way back, instead of keeping them.
    pub recompute: bool,
    /// With a gradient: thin the inputs of adapters as their settings say.
    pub dropout: bool,
}

/// A packed batch as the decoder reads it: sequences of different length laid end to end, with no padding.
///
/// Every token has a *span* that says what it sees ([`TokenSpan`]). A plain sequence has no prefix; the chains of one prompt
/// share it:
///
/// ```text
/// prompt   a b c          prefix     chain 1      chain 2
/// chain 1  x y            a b        c x y        c z
/// chain 2  z     tokens   0 1        2 3 4        5 6      positions 0 1 | 2 3 4 | 2 3
/// ```
#[derive(Clone, Debug, Default)]
pub struct PackedInputs {
    /// `[T]`
    pub ids: Vec<u32>,
    /// `[T]`
    pub positions: Vec<u32>,
    /// `[T]`
    pub spans: Vec<TokenSpan>,
    /// `[R]`: tokens whose logits are wanted, strictly increasing.
    pub rows: Vec<u32>,
    /// `[R]`
    pub objectives: Vec<RowObjective>,
    /// `[rows with scores, K]`: `-∂loss/∂log p` of each score token, see [`RowObjective::scores`].
    pub coefficients: Vec<f32>,
    /// Key of dropout, another for every batch that is learned from.
    pub noise: [u32; 2],
}

impl PackedInputs {
    /// Appends a plain sequence; returns the index of its first token in the batch.
    pub fn push(&mut self, ids: &[u32]) -> u32 {
        let start = self.ids.len() as u32;
        let end = start + ids.len() as u32;
        self.ids.extend_from_slice(ids);
        self.positions.extend(0..ids.len() as u32);
        let span = TokenSpan { prefix_start: start, prefix_len: 0, own_start: start, query_end: end };
        self.spans.extend(repeat_n(span, ids.len()));
        start
    }

    /// Appends a prompt and its continuations, which share it: the prompt's tokens are computed once. The prompt's last
    /// token is repeated at the head of each continuation, because its next token differs there. Returns the index of
    /// each continuation's first token (that repeated one).
    ///
    /// An empty prompt has nothing to repeat: it returns no indices and appends nothing.
    pub fn push_shared(&mut self, prompt: &[u32], continuations: &[&[u32]]) -> Vec<u32> {
        let Some((last, prefix)) = prompt.split_last() else { return Vec::new() };
        let start = self.ids.len() as u32;
        let prefix_len = prefix.len() as u32;
        let total: usize = continuations.iter().map(|c| c.len() + 1).sum();
        let end = start + prefix_len + total as u32;
        self.ids.extend_from_slice(prefix);
        self.positions.extend(0..prefix_len);
        let span = TokenSpan { prefix_start: start, prefix_len: 0, own_start: start, query_end: end };
        self.spans.extend(repeat_n(span, prefix.len()));
        let mut heads = Vec::new();
        for continuation in continuations {
            let own = self.ids.len() as u32;
            let own_end = own + 1 + continuation.len() as u32;
            self.ids.push(*last);
            self.ids.extend_from_slice(continuation);
            self.positions.extend(prefix_len..prefix_len + 1 + continuation.len() as u32);
            let span = TokenSpan { prefix_start: start, prefix_len, own_start: own, query_end: own_end };
            self.spans.extend(repeat_n(span, continuation.len() + 1));
            heads.push(own);
        }
        heads
    }

    /// Appends a row that carries loss; rows must come in increasing order, or be brought into it by
    /// [`PackedInputs::sort_rows`].
    pub fn push_row(&mut self, token: u32, objective: RowObjective) {
        self.rows.push(token);
        self.objectives.push(objective);
    }

    /// Appends a row whose loss looks at the score tokens: `coefficients` are `-∂loss/∂log p` of each, `[K]`.
    pub fn push_scores(&mut self, token: u32, coefficients: &[f64]) {
        let scores = (self.coefficients.len() / coefficients.len().max(1)) as u32;
        self.coefficients.extend(coefficients.iter().map(|c| *c as f32));
        self.push_row(token, RowObjective { scores, ..RowObjective::default() });
    }

    /// Brings the rows into increasing order.
    pub fn sort_rows(&mut self) {
        let mut both: Vec<(u32, RowObjective)> = self.rows.drain(..).zip(self.objectives.drain(..)).collect();
        both.sort_by_key(|(row, _)| *row);
        (self.rows, self.objectives) = both.into_iter().unzip();
    }

    /// Which row reads token number `token` of the batch.
    pub fn row_at(&self, token: u32) -> Option<usize> {
        self.rows.binary_search(&token).ok()
    }
}

/// From here on the steps of f32 are larger than 1/128, and the errors of a logit, which sums many products, larger still.
const LARGEST_LOGIT: f32 = 65_536.0;

/// What the loss head knows about one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowStats {
    pub log_sum_exp: f32,
    /// Log-probability of the objective's token.
    pub log_p: f32,
    /// Of the whole softmax, in nats.
    pub entropy: f32,
    /// Full-vocabulary log-probability of each score token. NaN where the logits are not finite, or so large (beyond 2^16) that
    /// the rounding of f32 hides how far they are apart.
    pub score_log_probs: Vec<f32>,
}

/// The parts that every packed pass shares.
struct Front {
    ids: Tensor,
    positions: Tensor,
    spans: Tensor,
    rows: Tensor,
    rope: Tensor,
    tokens: Size,
    count: Size,
}

impl Front {
    fn new(plan: &mut PlanBuilder, weights: &Weights, tokens: usize, rows: usize) -> Self {
        let (live_tokens, live_rows) = (plan.live(), plan.live());
        Front {
            ids: plan.kept("token ids", tokens),
            positions: plan.kept("positions", tokens),
            spans: plan.kept("spans", tokens * SPAN_WORDS),
            rows: plan.kept("loss rows", rows),
            rope: rope_table(plan, &weights.config, positions(&weights.config, tokens)),
            tokens: Size::live(live_tokens, tokens as u32),
            count: Size::live(live_rows, rows as u32),
        }
    }

    fn inputs(&self) -> Inputs {
        let positions = (self.positions, Positions::Plain);
        Inputs { ids: self.ids, positions, rope: self.rope, tokens: self.tokens }
    }

    fn write(&self, plan: &Plan, batch: &PackedInputs) -> Result<(), ModelError> {
        plan.write(self.ids, &batch.ids)?;
        plan.write(self.positions, &batch.positions)?;
        plan.write(self.spans, &batch.spans)?;
        plan.write(self.rows, &batch.rows)?;
        Ok(())
    }
}

/// Positions that a batch of so many tokens can have: no sequence is longer than the batch.
fn positions(config: &Config, tokens: usize) -> usize {
    config.max_position_embeddings.min(tokens)
}

/// Everything that a shader would trust is checked here.
fn check(weights: &Weights, (tokens, rows, scores): (usize, usize, usize), batch: &PackedInputs) -> Result<(), ModelError> {
    let config = &weights.config;
    let limit = |what, allowed: usize, found: usize| match found > allowed {
        true => Err(ModelError::Batch { what, allowed, found }),
        false => Ok(()),
    };
    let t = batch.ids.len();
    limit("tokens in a batch", tokens, t)?;
    limit("rows that carry loss", rows, batch.rows.len())?;
    limit("largest token id", config.vocab_size - 1, batch.ids.iter().copied().max().unwrap_or(0) as usize)?;
    let furthest = batch.positions.iter().copied().max().unwrap_or(0) as usize;
    limit("last position (max_position_embeddings - 1)", config.max_position_embeddings - 1, furthest)?;
    limit("last position (of the pass)", tokens.saturating_sub(1), furthest)?;
    limit("largest row of the batch", t.saturating_sub(1), batch.rows.iter().copied().max().unwrap_or(0) as usize)?;
    let targets = batch.objectives.iter().map(|o| o.token).max().unwrap_or(0);
    limit("largest token of an objective", config.vocab_size - 1, targets as usize)?;
    let with_scores = |o: &&RowObjective| o.scores != NO_SCORES;
    let needed = batch.objectives.iter().filter(with_scores).map(|o| (o.scores as usize + 1) * scores).max();
    limit("coefficients of scores", batch.coefficients.len(), needed.unwrap_or(0))?;
    limit("rows whose loss looks at scores", rows * scores, batch.coefficients.len())?;
    let spans_fit = batch.spans.iter().enumerate().all(|(i, s)| {
        let i = i as u32;
        s.prefix_start.checked_add(s.prefix_len).is_some_and(|end| end <= s.own_start)
            && s.own_start <= i
            && i < s.query_end
            && s.query_end as usize <= t
    });
    let lengths_fit = batch.positions.len() == t
        && batch.spans.len() == t
        && batch.objectives.len() == batch.rows.len()
        && batch.rows.windows(2).all(|w| w[0] < w[1]);
    if spans_fit && lengths_fit {
        return Ok(());
    }
    Err(ModelError::Inconsistent("a packed batch whose spans, positions, rows and objectives do not fit together".into()))
}

/// Forward over a packed batch, statistics of its rows, and with a gradient also backward.
///
/// A reward may have to be read from the model before there is an objective to learn. So a pass with a gradient can also
/// be run in two halves that share one forward pass: [`Pass::read`], then [`Pass::learn`] with other rows and objectives.
pub struct Pass {
    gpu: Gpu,
    weights: Weights,
    plan: Plan,
    front: Front,
    sizes: PassSizes,
    objectives: Tensor,
    stats: Tensor,
    way_back: Option<WayBack>,
}

/// The inputs of the way back.
struct WayBack {
    row_of: Tensor,
    coefficients: Tensor,
    buckets: (Tensor, Tensor),
    /// Whether the key of dropout is a live value.
    noisy: bool,
    /// Steps of the plan before it: forward, and statistics of the rows that are only read.
    mark: usize,
    /// Tokens of the batch that was read last, while its activations are there.
    read: Mutex<Option<Vec<u32>>>,
}

/// Which live value says how many rows are read and not learned from.
const TO_READ: usize = 2;

impl WayBack {
    fn last(&self) -> std::sync::MutexGuard<'_, Option<Vec<u32>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Plans a pass; with `gradient`, it adds the weight gradients of each batch to it.
    ///
    /// # Errors
    /// Out of memory, a tensor over the adapter's limits, score tokens outside the vocabulary, or a gradient of quantised
    /// weights.
    pub fn new(gpu: &Gpu, weights: &Weights, gradient: Option<&TensorSet>, sizes: PassSizes) -> Result<Self, ModelError> {
        let largest = sizes.score_tokens.iter().copied().max().unwrap_or(0) as usize;
        if largest >= weights.config.vocab_size {
            return Err(ModelError::Batch {
                what: "largest score token",
                allowed: weights.config.vocab_size - 1,
                found: largest,
            });
        }
        let learns = match gradient {
            None => None,
            Some(gradient) => {
                weights.trainable()?;
                Some(Learns::of(weights, gradient))
            }
        };
        let gpu = &gpu.for_role(Role::Activations);
        let mut recorder = Recorder::new(weights);
        let (hidden, vocab) = (recorder.shape.hidden, recorder.shape.vocab);
        let mut plan = PlanBuilder::new(gpu.tuning());
        let front = Front::new(&mut plan, weights, sizes.tokens, sizes.rows);
        let inputs = front.inputs();
        // The live values of the way back, in the order in which `write` gives them.
        let back = learns.map(|learns| (learns, plan.live(), plan.live()));
        let noisy = sizes.dropout && back.is_some() && weights.adapter().is_some_and(|a| a.settings.dropout > 0.0);
        recorder.noise = noisy.then(|| [plan.live(), plan.live()]);
        let trace = recorder.forward(&mut plan, inputs, &Attention::Packed(front.spans));

        let scores = sizes.score_tokens.len();
        let groups = &weights.groups;
        let objectives = plan.kept("row objectives", sizes.rows * OBJECTIVE_WORDS);
        let score_tokens = plan.kept("score tokens", scores);
        let stats = plan.kept("row statistics", sizes.rows * (STATS + scores));
        let head = |normed, count, plan: &mut PlanBuilder| LossHead {
            hidden: normed,
            table: weights.matrix(plan, groups.output()),
            rows: objectives,
            score_tokens,
            stats,
            count,
            width: hidden,
            vocab,
            scores: scores as u32,
            chunk: loss_head::chunk_rows(vocab, sizes.rows as u32, LOGITS_BYTES.min(gpu.max_binding())),
        };
        let mut ones = None;
        let way_back = match back {
            None => {
                let (_, normed) = recorder.chosen(&mut plan, front.rows, trace.output, front.count);
                let head = head(normed, front.count, &mut plan);
                loss_head::record(&mut plan, head, None);
                None
            }
            Some((learns, to_read, distinct)) => {
                let to_read = Size::live(to_read, sizes.rows as u32);
                let (_, normed) = recorder.chosen(&mut plan, front.rows, trace.output, to_read);
                let reading = head(normed, to_read, &mut plan);
                loss_head::record(&mut plan, reading, None);
                let mark = plan.mark();

                let (chosen, normed) = recorder.chosen(&mut plan, front.rows, trace.output, front.count);
                let head = head(normed, front.count, &mut plan);
                let dnormed = plan.scratch("d normed rows", words(front.count, hidden));
                let dtable = learns.matrix(&mut plan, groups.output());
                let coefficients = plan.kept("score coefficients", sizes.rows * scores);
                let ways = LossGradient { coefficients, dhidden: dnormed, dtable };
                loss_head::record(&mut plan, head, Some(ways));
                let dchosen = plan.scratch("d rows", words(front.count, hidden));
                let (w, dw) = recorder.pair(&mut plan, learns, groups.final_norm);
                let b = rmsnorm::Backward { x: chosen, w, dy: dnormed, dx: dchosen, dw, accumulate: false };
                rmsnorm::backward(&mut plan, recorder.shape.norm(), b, front.count);
                let row_of = plan.kept("row of each token", sizes.tokens);
                let dh = plan.scratch("d residual stream", words(front.tokens, hidden));
                rows::scatter(&mut plan, row_of, dchosen, dh, front.tokens, hidden);
                let most = sizes.tokens.min(weights.config.vocab_size);
                let buckets = (plan.kept("token buckets", most * 4), plan.kept("tokens by id", sizes.tokens));
                let all_ones = plan.kept("ones", sizes.tokens);
                ones = weights.config.qkv_bias.then_some(all_ones);
                let (spans, recompute) = (front.spans, sizes.recompute);
                let extra =
                    BackwardInputs { spans, buckets, distinct: Size::live(distinct, most as u32), ones: all_ones, recompute };
                recorder.backward(&mut plan, inputs, extra, &trace, learns, dh);
                Some(WayBack { row_of, coefficients, buckets, noisy, mark, read: Mutex::new(None) })
            }
        };
        let plan = plan.build(gpu)?;
        plan.write(front.rope, &rope_values(&weights.config, positions(&weights.config, sizes.tokens)))?;
        plan.write(score_tokens, &sizes.score_tokens)?;
        if let Some(ones) = ones {
            plan.write(ones, &vec![1f32; sizes.tokens])?;
        }
        Ok(Pass { gpu: gpu.clone(), weights: weights.clone(), plan, front, sizes, objectives, stats, way_back })
    }

    /// What this pass was planned for.
    pub fn sizes(&self) -> &PassSizes {
        &self.sizes
    }

    /// Runs one batch, without waiting. With a gradient, it is *added* to.
    ///
    /// # Errors
    /// A batch over the planned sizes, an id outside the vocabulary, a position past the model's context.
    pub fn run(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let live = self.write(batch)?;
        Ok(self.plan.run(&live)?)
    }

    /// Runs one batch forward up to the statistics of its rows, without waiting and without a gradient.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn read(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let mut live = self.write(batch)?;
        let Some(way_back) = &self.way_back else { return Ok(self.plan.run(&live)?) };
        live[TO_READ] = batch.rows.len() as u32;
        self.plan.run_steps(&live, 0..way_back.mark)?;
        *way_back.last() = Some(batch.ids.clone());
        Ok(())
    }

    /// Adds the gradient of the batch that was read last: the same tokens, with rows and objectives of its own. Without
    /// waiting. The weights must not have changed in between.
    ///
    /// # Errors
    /// As [`Pass::run`]; tokens that are not those of a batch that was just read; a pass without a gradient.
    pub fn learn(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let inconsistent = || ModelError::Inconsistent("a batch to learn from that was not read before".into());
        let way_back = self.way_back.as_ref().ok_or_else(inconsistent)?;
        if way_back.last().take().is_none_or(|ids| ids != batch.ids) {
            return Err(inconsistent());
        }
        let live = self.write(batch)?;
        Ok(self.plan.run_steps(&live, way_back.mark..self.plan.steps())?)
    }

    /// Runs one batch with a timestamp around every kernel; slowest first.
    pub async fn profile(&self, batch: &PackedInputs) -> Result<Vec<KernelTime>, ModelError> {
        let live = self.write(batch)?;
        Ok(self.plan.profile(&live).await?)
    }

    /// As [`Pass::profile`], each dispatch by itself, in order.
    pub async fn timeline(&self, batch: &PackedInputs) -> Result<Vec<Span>, ModelError> {
        let live = self.write(batch)?;
        Ok(self.plan.timeline(&live).await?)
    }

    /// Checks and uploads a batch; returns its live sizes.
    fn write(&self, batch: &PackedInputs) -> Result<Vec<u32>, ModelError> {
        check(&self.weights, (self.sizes.tokens, self.sizes.rows, self.sizes.score_tokens.len()), batch)?;
        self.front.write(&self.plan, batch)?;
        self.plan.write(self.objectives, &batch.objectives)?;
        let mut live = vec![batch.ids.len() as u32, batch.rows.len() as u32];
        if let Some(way_back) = &self.way_back {
            // Whatever runs now takes the place of a batch that was read.
            *way_back.last() = None;
            let sorted = embedding::buckets(&batch.ids);
            let mut row_of = vec![NO_ROW; batch.ids.len()];
            for (r, t) in batch.rows.iter().enumerate() {
                row_of[*t as usize] = r as u32;
            }
            self.plan.write(way_back.row_of, &row_of)?;
            self.plan.write(way_back.coefficients, &batch.coefficients)?;
            self.plan.write(way_back.buckets.0, &sorted.buckets)?;
            self.plan.write(way_back.buckets.1, &sorted.tokens)?;
            live.extend([0, sorted.buckets.len() as u32]);
            live.extend(batch.noise.iter().filter(|_| way_back.noisy));
        }
        Ok(live)
    }

    /// Statistics of the last batch's rows. Waits for it.
    pub async fn stats(&self, rows: usize) -> Result<Vec<RowStats>, ModelError> {
        let width = STATS + self.sizes.score_tokens.len();
        let values: Vec<f32> = self.gpu.read(self.plan.buffer(self.stats)?, 0, rows * width).await?;
        let row = |v: &[f32]| {
            let known = v[0].abs() <= LARGEST_LOGIT;
            let score_log_probs = v[STATS..].iter().map(|log_p| if known { *log_p } else { f32::NAN }).collect();
            RowStats { log_sum_exp: v[0], log_p: v[1], entropy: v[2], score_log_probs }
        };
        Ok(values.chunks_exact(width).map(row).collect())
    }
}

/// Forward over a packed batch, and all logits of the chosen rows: for checks and small models.
pub struct LogitsPass {
    weights: Weights,
    plan: Plan,
    front: Front,
    logits: Tensor,
    sizes: [usize; 2],
}

impl LogitsPass {
    /// Plans for at most `tokens` tokens and `rows` rows. The logits `[rows, V]` exist as a whole.
    pub fn new(gpu: &Gpu, weights: &Weights, tokens: usize, rows: usize) -> Result<Self, ModelError> {
        let recorder = Recorder::new(weights);
        let mut plan = PlanBuilder::new(gpu.tuning());
        let front = Front::new(&mut plan, weights, tokens, rows);
        let trace = recorder.forward(&mut plan, front.inputs(), &Attention::Packed(front.spans));
        let logits = plan.kept("logits", rows * weights.config.vocab_size);
        recorder.logits(&mut plan, front.rows, trace.output, logits, front.count);
        let plan = plan.build(gpu)?;
        plan.write(front.rope, &rope_values(&weights.config, positions(&weights.config, tokens)))?;
        Ok(LogitsPass { weights: weights.clone(), plan, front, logits, sizes: [tokens, rows] })
    }

    /// Logits `[R, V]` of the batch's rows; its objectives are not used.
    pub async fn run(&self, batch: &PackedInputs) -> Result<Vec<f32>, ModelError> {
        let objectives = vec![RowObjective::default(); batch.rows.len()];
        let batch = PackedInputs { objectives, coefficients: Vec::new(), ..batch.clone() };
        check(&self.weights, (self.sizes[0], self.sizes[1], 0), &batch)?;
        self.front.write(&self.plan, &batch)?;
        self.plan.run(&[batch.ids.len() as u32, batch.rows.len() as u32])?;
        Ok(self.plan.read(self.logits, batch.rows.len() * self.weights.config.vocab_size).await?)
    }
}

impl Recorder<'_> {
    /// Picks `rows` of the residual stream and norms them: both as `[rows, H]`.
    fn chosen(&self, plan: &mut PlanBuilder, rows: Tensor, hidden: Tensor, count: Size) -> (Tensor, Tensor) {
        let width = self.shape.hidden;
        let chosen = plan.scratch("chosen rows", words(count, width));
        rows::gather(plan, rows, hidden, chosen, count, width);
        let normed = plan.scratch("normed rows", words(count, width));
        let w = self.weights.tensor(plan, self.weights.groups.final_norm);
        rmsnorm::forward(plan, self.shape.norm(), chosen, w, normed, count);
        (chosen, normed)
    }

    /// `logits[R, V]` of `rows` of the last hidden states: gather, final norm, head.
    pub(super) fn logits(&self, plan: &mut PlanBuilder, rows: Tensor, hidden: Tensor, logits: Tensor, count: Size) {
        let width = self.shape.hidden;
        let (_, normed) = self.chosen(plan, rows, hidden, count);
        let table = self.weights.matrix(plan, self.weights.groups.output());
        let sizes = [count, Size::fixed(self.shape.vocab), Size::fixed(width)];
        matmul::forward(plan, normed, &table, logits, sizes, Epilogue::Write);
    }
}

#[cfg(test)]
mod tests {
    use super::PackedInputs;

    /// Keys that token `t` attends to.
    fn keys(batch: &PackedInputs, t: usize) -> Vec<usize> {
        let span = batch.spans[t];
        let prefix = span.prefix_start..span.prefix_start + span.prefix_len;
        prefix.chain(span.own_start..=t as u32).map(|s| s as usize).collect()
    }

    /// `query_end` says the same as the rest of the span, seen from the key.
    fn check_both_directions(batch: &PackedInputs) {
        for t in 0..batch.ids.len() {
            for s in 0..batch.ids.len() {
                let in_reach = (s..batch.spans[s].query_end as usize).contains(&t);
                assert_eq!(keys(batch, t).contains(&s), in_reach, "query {t}, key {s}");
            }
        }
    }

    /// Chains that share their prompt see and are placed exactly as when each is packed with the prompt.
    #[test]
    fn shared_prompts_mean_the_same_as_repeated_ones() {
        for prompt in [vec![1], vec![1, 2, 3]] {
            let chains: [&[u32]; 3] = [&[10, 11], &[], &[12, 13, 14]];
            let (mut shared, mut repeated) = (PackedInputs::default(), PackedInputs::default());
            shared.push(&[4, 5, 6]);
            let heads = shared.push_shared(&prompt, &chains);
            check_both_directions(&shared);
            let view = |batch: &PackedInputs, t: usize| -> Vec<(u32, u32)> {
                keys(batch, t).into_iter().map(|s| (batch.ids[s], batch.positions[s])).collect()
            };
            for (chain, head) in chains.iter().zip(heads) {
                let start = repeated.push(&[&prompt[..], chain].concat()) as usize + prompt.len() - 1;
                for j in 0..=chain.len() {
                    assert_eq!(view(&shared, head as usize + j), view(&repeated, start + j));
                }
            }
            check_both_directions(&repeated);
        }
        assert!(PackedInputs::default().push_shared(&[], &[&[1]]).is_empty());
    }
}
