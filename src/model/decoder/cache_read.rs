//! Reads from a cache: given tokens run behind cached ones, and the distribution after the last of them is read.
//!
//! The tokens run as those of a prompt do, in the plan of the prefill.

use super::decode::{CachePass, CacheSizes, limit};
use super::train_pass::{TokenStats, check_score_tokens, token_stats};
use crate::gpu::{Buffer, Extent, Gpu, Plan, PlanBuilder, RunParam, Tensor};
use crate::model::error::ModelError;
use crate::ops::cached_attention::KvSlot;
use crate::ops::loss_head::{self, Logits, STATS, TOKEN_LOSS_WORDS, TokenLoss};

/// Tokens that continue a cached sequence, to read the distribution after the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRead {
    /// The slot of the first token. The positions before it are cached.
    pub first: KvSlot,
    pub ids: Vec<u32>,
}

impl CacheRead {
    /// The first position after the tokens.
    fn end(&self) -> usize {
        self.first.position as usize + self.ids.len()
    }
}

impl CachePass {
    /// Runs the tokens of each read, which fill the entries of their positions. Returns the statistics after the last token of
    /// each, with the log-probabilities of `score_tokens`. Waits for them. The rows stay as they are.
    ///
    /// # Errors
    /// More reads, tokens, positions or score tokens than planned; ids outside the vocabulary; a read without tokens, or with a
    /// position in its prefix.
    pub async fn read(&self, reads: &[CacheRead], score_tokens: &[u32]) -> Result<Vec<TokenStats>, ModelError> {
        self.check_reads(reads, score_tokens)?;
        let Some(statistics) = &self.statistics else { return Ok(Vec::new()) };
        let (mut ids, mut slots, mut last_tokens) = (Vec::new(), Vec::new(), Vec::new());
        for read in reads {
            ids.extend_from_slice(&read.ids);
            slots.extend((0..read.ids.len() as u32).map(|n| KvSlot { position: read.first.position + n, ..read.first }));
            last_tokens.push(ids.len() as u32 - 1);
        }
        self.prefill.run(&ids, &slots, &last_tokens)?;
        statistics.plan.write(statistics.score_tokens, score_tokens)?;
        statistics.plan.run(&[(statistics.rows, reads.len() as u32)].into())?;
        let width = STATS + self.sizes.scores;
        let values: Vec<f32> = self.gpu.read(statistics.plan.buffer(statistics.stats)?, 0, reads.len() * width).await?;
        Ok(values.chunks_exact(width).map(token_stats).collect())
    }

    fn check_reads(&self, reads: &[CacheRead], score_tokens: &[u32]) -> Result<(), ModelError> {
        let sizes = &self.sizes;
        check_score_tokens(&self.weights, score_tokens)?;
        limit("reads", sizes.rows, reads.len())?;
        limit("tokens of a read", sizes.prefill, reads.iter().map(|r| r.ids.len()).sum())?;
        limit("positions of a read", sizes.max_length, reads.iter().map(CacheRead::end).max().unwrap_or(0))?;
        let largest = reads.iter().flat_map(|r| &r.ids).copied().max().unwrap_or(0) as usize;
        limit("largest token id", self.weights.config.vocab_size - 1, largest)?;
        if score_tokens.len() != sizes.scores || reads.iter().any(|r| r.ids.is_empty() || r.first.position < r.first.prefix_len) {
            return Err(ModelError::Inconsistent("a read without tokens, in its prefix, or of other score tokens".into()));
        }
        let end = |r: &CacheRead| r.first.own as usize + r.end() - r.first.prefix_len as usize;
        limit("entries of the cache", sizes.entries, reads.iter().map(end).max().unwrap_or(0))
    }
}

/// The statistics of the logits.
pub(super) struct StatisticsPlan {
    plan: Plan,
    rows: RunParam,
    score_tokens: Tensor,
    /// `[rows, 3 + scores]`
    stats: Tensor,
}

impl StatisticsPlan {
    /// Of `logits`, `[rows, vocab]`.
    pub(super) fn new(gpu: &Gpu, logits: &Buffer, vocab: usize, sizes: CacheSizes) -> Result<Self, ModelError> {
        let mut plan = PlanBuilder::new(gpu.tuning());
        let rows = plan.run_param();
        let losses = plan.persistent("losses of the reads", sizes.rows * TOKEN_LOSS_WORDS);
        let score_tokens = plan.persistent("score tokens", sizes.scores);
        let stats = plan.persistent("statistics of the reads", sizes.rows * (STATS + sizes.scores));
        let logits = Logits {
            logits: plan.import(logits),
            rows: losses,
            score_tokens,
            stats,
            count: Extent::dynamic(rows, sizes.rows as u32),
            vocab: vocab as u32,
            scores: sizes.scores as u32,
        };
        loss_head::record_statistics(&mut plan, &logits);
        let plan = plan.build(gpu)?;
        plan.write(losses, &vec![TokenLoss::default(); sizes.rows])?;
        Ok(StatisticsPlan { plan, rows, score_tokens, stats })
    }
}
