//! Sampling: which tokens are kept, which one is drawn, which log-probability is reported.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError, RunParam, Tensor};
use crate::ops::cached_attention::KvSlot;
use crate::ops::sample::{self, Rows, SAMPLER_WORDS};
use crate::reference::loss_head::log_softmax;
use crate::reference::sample::{Sampling as Settings, uniform};
use crate::selftest::test_plan::{BuiltTestPlan, random};

const KEY: [u32; 2] = [0x1234_5678, 0x9abc_def0];
/// No truncation, temperature 1.
pub const ALL: Settings = Settings { temperature: 1.0, top_k: 0, top_p: 1.0 };

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    greedy(checker).await?;
    draws(checker, 131, 40).await?;
    // More than one turn of a GPU's threads.
    draws(checker, 4099, 4).await
}

/// A plan that samples one token per row; each run has settings of its own, and each row may.
pub struct Sampler {
    pub built: BuiltTestPlan,
    pub slots: Tensor,
    pub ids: Tensor,
    pub streams: Tensor,
    pub drawn: Tensor,
    samplers: Tensor,
    truncated: RunParam,
    count: RunParam,
    rows: usize,
    history: usize,
}

impl Sampler {
    /// Row r has the random stream `streams[r]` and begins at `positions[r]`.
    pub fn new(
        checker: &KernelChecker,
        logits: &[f64],
        vocab: usize,
        history: usize,
        streams: &[u32],
        positions: &[u32],
    ) -> Result<Self, GpuError> {
        let rows = streams.len();
        let mut test = checker.test_plan();
        let glogits = test.floats("logits", logits);
        let at = |p: &u32| KvSlot { own: 11, position: *p, prefix_start: 12, prefix_len: 13 };
        let slots = test.words("slots", bytemuck::cast_slice(&positions.iter().map(at).collect::<Vec<_>>()));
        let ids = test.words("ids", &vec![u32::MAX; rows]);
        let gstreams = test.words("streams", &streams.iter().flat_map(|s| [*s, 0]).collect::<Vec<u32>>());
        let drawn = test.words("drawn", &vec![u32::MAX; rows * history * 2]);
        let samplers = test.words("samplers", &vec![0; rows * SAMPLER_WORDS]);
        let mut live = || test.run_param(0);
        let (truncated, count) = (live(), live());
        let tensors = Rows {
            logits: glogits,
            start: sample::Start::First,
            samplers,
            slots,
            ids,
            streams: gstreams,
            drawn,
            count: Extent::dynamic(count, rows as u32),
            vocab: vocab as u32,
            history: history as u32,
        };
        sample::record(&mut test.plan, tensors, truncated);
        let built = test.build(&checker.gpu)?;
        Ok(Sampler { built, slots, ids, streams: gstreams, drawn, samplers, truncated, count, rows, history })
    }

    /// One token per row.
    pub fn step(&self, s: Settings) -> Result<(), GpuError> {
        self.step_rows(&vec![s; self.rows])
    }

    /// One token per row, each with settings of its own.
    pub fn step_rows(&self, settings: &[Settings]) -> Result<(), GpuError> {
        let sampler = |s: &Settings| sample::Sampler {
            temperature: s.temperature as f32,
            top_p: s.top_p as f32,
            top_k: s.top_k as u32,
            key: KEY,
        };
        let samplers: Vec<sample::Sampler> = settings.iter().map(sampler).collect();
        let rows = self.rows as u32;
        let truncated = if samplers.iter().any(sample::Sampler::truncates) { rows } else { 0 };
        self.built.plan.write(self.samplers, &samplers)?;
        self.built.plan.run(&[(self.count, rows), (self.truncated, truncated)].into())
    }

    /// Tokens and log-probabilities of each row's draws.
    pub async fn history(&self) -> Result<Vec<Vec<(usize, f64)>>, GpuError> {
        let words = self.built.read_words(self.drawn).await?;
        let pair = |w: &[u32]| (w[0] as usize, f64::from(f32::from_bits(w[1])));
        Ok(words.chunks(2 * self.history).map(|row| row.chunks(2).map(pair).collect()).collect())
    }
}

/// The first of the largest logits is taken, with its log-probability. The row moves on one position, and the history keeps the
/// last tokens.
pub async fn greedy(checker: &mut KernelChecker) -> Result<(), GpuError> {
    const OPERATION: &str = "greedy";
    let (vocab, rows) = (131, 6);
    let mut logits = random(vocab * rows, 1);
    for (row, tied) in [(0, vec![130]), (1, vec![0, 130]), (2, vec![63, 64]), (3, vec![2, 3, 128]), (4, vec![129, 130])] {
        tied.iter().for_each(|j| logits[row * vocab + j] = 9.5);
    }
    // All below zero, and equal.
    logits[5 * vocab..].iter_mut().for_each(|z| *z = -3.0);
    let expected = [130, 0, 63, 2, 129, 0];
    let sampler = Sampler::new(checker, &logits, vocab, 2, &[0; 6], &[4; 6])?;
    for _ in 0..3 {
        sampler.step(Settings { temperature: 0.0, top_k: 3, top_p: 0.5 })?;
    }
    for (row, draws) in sampler.history().await?.iter().enumerate() {
        let log_p = log_softmax(&logits[row * vocab..][..vocab])[expected[row]];
        for (token, found) in draws {
            checker.check(OPERATION, &format!("row {row}: token {token}, expected {}", expected[row]), *token == expected[row]);
            checker.compare_result(OPERATION, &format!("log-prob, row {row}"), &[*found, 1.0], &[log_p, 1.0]);
        }
    }
    let [slots, ids, streams] = [
        sampler.built.read_words(sampler.slots).await?,
        sampler.built.read_words(sampler.ids).await?,
        sampler.built.read_words(sampler.streams).await?,
    ];
    checker.check(OPERATION, "positions move on", slots.chunks(4).all(|p| p == [11, 7, 12, 13]));
    checker.check(OPERATION, "the token is the next input", ids.iter().zip(expected).all(|(id, t)| *id as usize == t));
    checker.check(OPERATION, "draws are counted", streams.chunks(2).all(|s| s[1] == 3));
    Ok(())
}

/// Each draw is the token that the reference draws with the same uniform number, at every truncation. Where the number lies at
/// the border of two tokens' shares, rounding may choose the neighbour; at most two draws may do so.
pub async fn draws(checker: &mut KernelChecker, vocab: usize, rows: usize) -> Result<(), GpuError> {
    const OPERATION: &str = "sample";
    let settings = [
        ALL,
        Settings { temperature: 0.3, ..ALL },
        Settings { temperature: 2.5, ..ALL },
        Settings { top_k: 1, ..ALL },
        Settings { top_k: 7, ..ALL },
        Settings { top_k: 500, ..ALL },
        Settings { top_p: 0.0, ..ALL },
        Settings { top_p: 0.05, ..ALL },
        Settings { top_p: 0.6, ..ALL },
        Settings { top_p: 0.999, temperature: 0.8, ..ALL },
        // top-p counts the mass that top-k left: 0.5 of the mass of the 20 most likely tokens.
        Settings { top_p: 0.5, top_k: 20, temperature: 1.3 },
    ];
    let mut one = random(vocab, 7);
    if vocab > 10 {
        one[3] = one[9]; // a tie
    }
    let streams: Vec<u32> = (0..rows as u32).map(|r| r * 3 + 1).collect();
    let positions: Vec<u32> = (0..rows as u32).map(|r| r % 50).collect();
    let sampler = Sampler::new(checker, &one.repeat(rows), vocab, settings.len(), &streams, &positions)?;
    for s in settings {
        sampler.step(s)?;
    }
    let history = sampler.history().await?;
    let mut neighbours = 0;
    for (n, s) in settings.iter().enumerate() {
        let log_p = log_softmax(&one.iter().map(|z| z / s.temperature).collect::<Vec<_>>());
        for (row, draws) in history.iter().enumerate() {
            let (token, found) = draws[n];
            let u = uniform(KEY, [streams[row], positions[row] + n as u32]);
            let expected = s.draw(&one, u).token;
            let near = [-1e-5, 1e-5].map(|by| s.draw(&one, (u + by).clamp(0.0, 1.0 - 1e-9)).token);
            let right = token == expected || near.contains(&token);
            checker.check(OPERATION, &format!("{s:?}, {vocab} tokens, row {row}: drew {token}, expected {expected}"), right);
            neighbours += usize::from(token != expected);
            let expected = log_p.get(token).copied().unwrap_or(f64::NAN);
            checker.compare_result(OPERATION, &format!("log-prob, {s:?}, {vocab} tokens"), &[found, 1.0], &[expected, 1.0]);
        }
    }
    checker.check(OPERATION, &format!("{neighbours} draws beside the reference's"), neighbours <= 2);
    Ok(())
}
