//! The policy gradient, proven by enumeration: for a toy judge all chains of thought can be listed, so that the
//! expectation of the trainer's gradient over every K-tuple of chains can be computed and held against the gradient of
//! the enumerated objective.
//!
//! ```text
//! expected:   J = Σ_c π(c) r(c), its gradient in f64 by the reference decoder (itself held against differences of J)
//! found:      Σ over K-tuples of their probability · what the trainer accumulates for them:
//!             rollout record ─► close ─► rewards ─► advantages ─► objectives ─► packed batch ─► WGSL forward and backward
//! ```
//!
//! An estimator that is wrong must fail here: without the refinement term, with log-probabilities read one token too
//! early or too late, and with a baseline that a chain is part of.

mod common;

use std::collections::BTreeMap;

use common::{deviation, gpu};
use jurist::gpu::Gpu;
use jurist::judge::{Expectation, Placement, Scale, ScoreReads, ScoreTokens};
use jurist::model::config::Config;
use jurist::model::decoder::{Draw, PackedInputs, Sampler};
use jurist::model::error::ModelError;
use jurist::model::source::TensorSource;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::{NO_SCORES, RowObjective};
use jurist::random::Stream;
use jurist::reference::{self, Batch, Spec, loss};
use jurist::rollout::{Chain, Ending, Rollout, RolloutSizes, Stop};
use jurist::train::advantage::AdvantageSettings;
use jurist::train::examples::Prompt;
use jurist::train::optimiser::{Optimiser, OptimiserSettings};
use jurist::train::policy::{
    Aggregation, Closed, PolicySettings, PolicyTrainer, Rewarded, Rolled, Scores, Speech, Totals, close,
};
use jurist::train::reward::RewardSettings;
use serde_json::{Value, json};

const UNBIASED: f64 = 1e-3;
const BIASED: f64 = 1e-2;
const MAX_TOKENS: usize = 2;
/// Tuples that pass through the GPU together.
const TUPLES: usize = 256;

/// A decoder of a few hundred parameters, and a judge who speaks its few tokens.
struct Toy {
    model: Model,
    scale: Scale,
    tokens: ScoreTokens,
    reads: ScoreReads,
    eos: Vec<u32>,
    /// Tokens behind which the phrase has its opening form.
    spaces: Vec<u32>,
    prompts: Vec<Prompt>,
}

/// The same weights for both sides: `f32` numbers.
struct Model {
    config: Config,
    spec: Spec,
    weights: reference::Weights,
}

impl Model {
    fn new(family: Value, vocab: usize, seed: u64) -> Self {
        let mut json = json!({
            "vocab_size": vocab, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 4, "hidden_act": "silu", "max_position_embeddings": 16, "rope_theta": 100.0,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "torch_dtype": "float32",
        });
        json.as_object_mut().unwrap().extend(family.as_object().unwrap().clone());
        let config = Config::from_json(&json.to_string()).unwrap_or_else(|e| panic!("{e}"));
        let spec = Spec {
            vocab,
            hidden: config.hidden_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            intermediate: config.intermediate_size,
            rms_norm_eps: config.rms_norm_eps,
            inv_freq: config.inv_freq(),
            rope_scale: 1.0,
            qk_norm: config.qk_norm,
            qkv_bias: config.qkv_bias,
            sliding_window: config.sliding_window,
            tied: config.tie_word_embeddings,
        };
        let mut weights = reference::Weights::random(&spec, seed);
        for (name, values) in &mut weights.0 {
            // Larger logits: probabilities of very different size.
            let factor = if name == spec.head_name() { 1.5 } else { 1.0 };
            values.iter_mut().for_each(|v| *v = f64::from((*v * factor) as f32));
        }
        Model { config, spec, weights }
    }
}

impl TensorSource for Model {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let values = self.weights.0.get(tensor).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))?;
        out.iter_mut().zip(&values[start..]).for_each(|(o, v)| *o = *v as f32);
        Ok(())
    }
}

fn prompt(scale: &Scale, ids: &[u32], value: f64, ends_in_space: bool) -> Prompt {
    Prompt { ids: ids.to_vec(), ends_in_space, label: scale.split(value).unwrap(), value }
}

/// The tokens of three scores behind a phrase and its opening form; an EOS of 3 ends them where it has to.
fn tokens(paths: &[&[u32]], stem: &[u32], opening: &[u32]) -> ScoreTokens {
    ScoreTokens::new(paths.iter().map(|p| p.to_vec()).collect(), Some(3), stem.to_vec(), opening.to_vec()).unwrap()
}

impl Toy {
    /// Seven tokens: two words, a phrase of one token, EOS, three scores. 37 chains.
    fn llama() -> Self {
        let scale: Scale = "a,b,c=0.5,4,1".parse().unwrap();
        // Between two scores: λ log π is split over both.
        let prompts = vec![prompt(&scale, &[1, 0, 5], 2.2, false)];
        let tokens = tokens(&[&[4], &[5], &[6]], &[2], &[2]);
        let model = Model::new(json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}), 7, 3);
        Toy { model, scale, tokens, reads: ScoreReads::Prompt, eos: vec![3], spaces: vec![], prompts }
    }

    /// Scores of two tokens: one beginning for two of them (4 5, 4 6, 6), or one that begins another and so is ended
    /// (4 end, 4 5 end, 5 end).
    fn scores_of_several_tokens(ended: bool) -> Self {
        let paths: [&[u32]; 3] = if ended { [&[4], &[4, 5], &[5]] } else { [&[4, 5], &[4, 6], &[6]] };
        Toy { tokens: tokens(&paths, &[2], &[2]), ..Toy::llama() }
    }

    /// Eight tokens, a phrase of two tokens or (behind white space) one, and two prompts of different length. 50 chains.
    fn two_token_phrase(family: Value) -> Self {
        let scale: Scale = "a,b,c=3,0,1".parse().unwrap();
        let prompts = vec![prompt(&scale, &[6, 0], 1.0, false), prompt(&scale, &[1, 0, 7, 1], 1.6, true)];
        let tokens = tokens(&[&[5], &[6], &[7]], &[2, 3], &[3]);
        Toy { model: Model::new(family, 8, 11), scale, tokens, reads: ScoreReads::Prompt, eos: vec![4], spaces: vec![1], prompts }
    }

    fn stop(&self) -> Stop {
        let phrases = vec![self.tokens.stem.clone(), self.tokens.opening.clone()];
        Stop { phrases, eos: self.eos.clone(), max_tokens: MAX_TOKENS }
    }

    /// Every chain that can be sampled, as tokens with their ending and the length of its tail.
    fn records(&self) -> Vec<(Vec<u32>, Ending, usize)> {
        let mut open = vec![vec![]];
        let mut records = Vec::new();
        for _ in 0..MAX_TOKENS {
            let grown = open.iter().flat_map(|c: &Vec<u32>| (0..self.model.spec.vocab as u32).map(|t| [&c[..], &[t]].concat()));
            let mut still_open = Vec::new();
            for chain in grown {
                let phrase = [&self.tokens.stem, &self.tokens.opening].into_iter().find(|p| chain.ends_with(p));
                if self.eos.contains(&chain[chain.len() - 1]) {
                    records.push((chain, Ending::Eos, 1));
                } else if let Some(phrase) = phrase {
                    records.push((chain, Ending::Phrase, phrase.len()));
                } else if chain.len() == MAX_TOKENS {
                    records.push((chain, Ending::Length, 0));
                } else {
                    still_open.push(chain);
                }
            }
            open = still_open;
        }
        records
    }

    fn with_speech<T>(&self, then: impl FnOnce(&Speech) -> T) -> T {
        let ends_in_space = |ids: &[u32]| ids.last().is_some_and(|t| self.spaces.contains(t));
        then(&Speech { scale: &self.scale, tokens: &self.tokens, eos: &self.eos, ends_in_space: &ends_in_space })
    }
}

/// One chain of one prompt, as the reference sees it.
struct Known {
    closed: Closed,
    /// log π(c|x).
    log_p: f64,
    /// Full-vocabulary log-probabilities of the scores.
    scores: Vec<f64>,
    /// Logits of the row in front of each action.
    actions: Vec<Vec<f64>>,
    /// Logits of the row in front of each token of each score, `[score][token]`.
    score_rows: Vec<Vec<Vec<f64>>>,
}

/// All chains of a prompt under `model`, and what the backward needs.
struct World {
    known: Vec<Known>,
    batch: Batch,
    trace: reference::Trace,
}

impl World {
    fn of(toy: &Toy, model: &reference::Weights, prompt: &Prompt) -> Self {
        let records = toy.records();
        let chain = |(tokens, ending, tail): &(Vec<u32>, Ending, usize), log_p: &[f64]| Chain {
            draws: tokens.iter().zip(log_p).map(|(t, l)| Draw { token: *t, log_p: *l as f32 }).collect(),
            ending: *ending,
            tail: *tail,
        };
        let closed = |record, log_p: &[f64]| toy.with_speech(|s| close(&chain(record, log_p), prompt.ends_in_space, s));
        // One sequence for the chain itself, and one for every token of every score: nothing is shared here.
        let mut sequences: Vec<Vec<u32>> = Vec::new();
        let mut wanted: Vec<(usize, usize)> = Vec::new(); // (first position, rows) of each sequence
        for record in &records {
            let fed = closed(record, &[0.0; MAX_TOKENS]).fed;
            wanted.push((prompt.ids.len() - 1, record.0.len()));
            sequences.push([&prompt.ids[..], &fed].concat());
            let read = if toy.reads == ScoreReads::Chain { &prompt.ids[..1] } else { &prompt.ids[..] };
            for score in 0..toy.scale.len() {
                let path = toy.tokens.path(score);
                wanted.push((read.len() + fed.len() - 1, path.len()));
                sequences.push([read, &fed, path].concat());
            }
        }
        let slices: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let batch = Batch::packed(&slices);
        let (mut rows, mut start) = (Vec::new(), 0);
        for ((first, count), sequence) in wanted.iter().zip(&sequences) {
            rows.extend((start + first..start + first + count).map(|row| row as u32));
            start += sequence.len();
        }
        let spec = &toy.model.spec;
        let trace = reference::forward(spec, model, &batch, &rows).unwrap();
        let mut logits = trace.logits.chunks(spec.vocab).map(<[f64]>::to_vec);
        let known = records.iter().map(|record| {
            let actions: Vec<Vec<f64>> = logits.by_ref().take(record.0.len()).collect();
            let log_ps: Vec<f64> = record.0.iter().zip(&actions).map(|(t, z)| loss::log_softmax(z)[*t as usize]).collect();
            let paths = (0..toy.scale.len()).map(|score| toy.tokens.path(score));
            let score_rows: Vec<Vec<Vec<f64>>> = paths.clone().map(|p| logits.by_ref().take(p.len()).collect()).collect();
            let of_path = |(path, rows): (&[u32], &Vec<Vec<f64>>)| -> f64 {
                path.iter().zip(rows).map(|(t, z)| loss::log_softmax(z)[*t as usize]).sum()
            };
            Known {
                closed: closed(record, &log_ps),
                log_p: log_ps.iter().sum(),
                scores: paths.zip(&score_rows).map(of_path).collect(),
                actions,
                score_rows,
            }
        });
        let known = known.collect();
        World { known, batch, trace }
    }
}

/// What a chain is worth at these log-probabilities of its scores, before a score is drawn.
fn reference_reward(toy: &Toy, reward: &RewardSettings, prompt: &Prompt, scores: &[f64]) -> f64 {
    let p: Vec<f64> = scores.iter().map(|l| l.exp()).collect();
    let (mass, y, values) = (p.iter().sum::<f64>(), prompt.value, toy.scale.values());
    let q: Vec<f64> = match reward.expectation {
        Expectation::Renormalised => p.iter().map(|p| p / mass).collect(),
        Expectation::FullVocabulary => p.clone(),
    };
    let expected: f64 = q.iter().zip(values).map(|(q, v)| q * v).sum();
    let label: f64 = prompt.label.weights.iter().map(|(k, w)| w * scores[*k]).sum();
    let likely: f64 = prompt.label.weights.iter().map(|(k, w)| w * p[*k]).sum();
    let up_to = |v: f64, of: &dyn Fn(usize) -> f64| (0..q.len()).filter(|k| values[*k] <= v).map(of).sum::<f64>();
    let share = |k: usize| prompt.label.weights.iter().filter(|(l, _)| *l == k).map(|(_, w)| *w).sum::<f64>();
    let ranked: f64 = values.iter().map(|v| (up_to(*v, &|k| q[k]) - up_to(*v, &share)).powi(2)).sum();
    let furthest = values.iter().map(|v| (v - y).powi(2)).fold(0.0, f64::max);
    let sampled: f64 = p.iter().zip(values).map(|(p, v)| p * (v - y).powi(2)).sum::<f64>() + (1.0 - mass) * furthest;
    -reward.squared * (expected - y).powi(2) + reward.log_prob * label + reward.prob * likely - reward.ranked * ranked
        + reward.binary * p[prompt.label.nearest]
        - reward.sampled_squared * sampled
}

/// Its derivative by each log-probability, by differences: nothing of the product is used.
fn reference_slopes(toy: &Toy, reward: &RewardSettings, prompt: &Prompt, scores: &[f64]) -> Vec<f64> {
    let h = 1e-5;
    let at = |k: usize, step: f64| {
        let mut moved = scores.to_vec();
        moved[k] += step;
        reference_reward(toy, reward, prompt, &moved)
    };
    (0..scores.len()).map(|k| (at(k, h) - at(k, -h)) / (2.0 * h)).collect()
}

/// J and its gradient: mean over prompts of Σ_c π(c) (r(c) - kl log π(c)/π₀(c)).
fn objective(
    toy: &Toy,
    settings: &PolicySettings,
    model: &reference::Weights,
    start: &reference::Weights,
) -> (f64, reference::Gradients) {
    let mut j = 0.0;
    let mut gradient = reference::Weights::zeros(&toy.model.spec);
    for prompt in &toy.prompts {
        let world = World::of(toy, model, prompt);
        let before = World::of(toy, start, prompt);
        let mut dlogits = Vec::new();
        for (known, old) in world.known.iter().zip(&before.known) {
            let p = known.log_p.exp() / toy.prompts.len() as f64;
            let kl = known.log_p - old.log_p;
            let earned = reference_reward(toy, &settings.reward, prompt, &known.scores) - settings.kl * kl;
            j += p * earned;
            // d(π r) = π (r - kl) d log π + π dr.
            for (z, token) in known.actions.iter().zip(&known.closed.actions) {
                dlogits.extend(loss::log_probability(z, &[(*token, p * (earned - settings.kl))]).gradient(z));
            }
            let slopes = reference_slopes(toy, &settings.reward, prompt, &known.scores);
            for (score, (rows, slope)) in known.score_rows.iter().zip(slopes).enumerate() {
                for (z, token) in rows.iter().zip(toy.tokens.path(score)) {
                    dlogits.extend(loss::log_probability(z, &[(*token, p * slope)]).gradient(z));
                }
            }
        }
        let g = reference::backward(&toy.model.spec, model, &world.batch, &world.trace, &dlogits).unwrap();
        g.0.iter().for_each(|(name, values)| gradient.add(name, values).unwrap());
    }
    (j, gradient)
}

fn real(expectation: Expectation, log_prob: f64, group: usize) -> PolicySettings {
    PolicySettings {
        reward: RewardSettings { expectation, squared: 1.0, log_prob, ..RewardSettings::NONE },
        advantage: AdvantageSettings { normalize: false, clip: 0.0 },
        separate_advantages: false,
        aggregation: Aggregation::Sum,
        exploration: 1.0,
        refinement: 1.0,
        entropy_bonus: 0.0,
        kl: 0.0,
        group,
        max_tokens: MAX_TOKENS,
        top_p: 1.0,
        iterations: 1,
        ratio_cap: 0.0,
        chains_per_pass: 0,
        recompute: false,
    }
}

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// Log-probabilities one token to the left: a chain's last action is missed. (What is read instead belongs to the
    /// prompt, is the same for all siblings, and so has no expectation.)
    WindowTooEarly,
    /// Each action is looked up in the row behind the one that predicts it.
    WindowTooLate,
    /// The mean of all K as the baseline.
    BaselineWithItself,
    /// Chains of an older policy as if they were of this one.
    NoRatio,
    /// The ratio on the exploration term alone.
    RatioOnOneTerm,
}

/// An outcome that can be sampled: a chain, and where the reward looks at it, the sampled score.
struct Outcome {
    chain: usize,
    uniform: f64,
    p: f64,
    /// The sampled score, and its log-probability.
    sampled: (Option<usize>, f64),
}

fn outcomes(world: &World, samples_score: bool) -> Vec<Outcome> {
    let mut all = Vec::new();
    for (chain, known) in world.known.iter().enumerate() {
        if !samples_score {
            all.push(Outcome { chain, uniform: 0.5, p: known.log_p.exp(), sampled: (None, 0.0) });
            continue;
        }
        let mut below = 0.0;
        let rest = 1.0 - known.scores.iter().map(|l| l.exp()).sum::<f64>();
        for (k, p) in known.scores.iter().map(|l| l.exp()).chain([rest]).enumerate() {
            let sampled = ((k < known.scores.len()).then_some(k), p.ln());
            all.push(Outcome { chain, uniform: below + p / 2.0, p: known.log_p.exp() * p, sampled });
            below += p;
        }
    }
    all
}

/// Every multiset of `k` outcomes, with its number of orders.
fn multisets(n: usize, k: usize) -> Vec<(Vec<usize>, f64)> {
    let mut all: Vec<Vec<usize>> = vec![vec![]];
    for _ in 0..k {
        all = all.iter().flat_map(|m| (m.last().copied().unwrap_or(0)..n).map(|i| [&m[..], &[i]].concat())).collect();
    }
    let factorial = |n: usize| (1..=n).product::<usize>() as f64;
    let orders = |m: &Vec<usize>| {
        let runs = m.chunk_by(|a, b| a == b).map(|run| factorial(run.len()));
        factorial(k) / runs.product::<f64>()
    };
    all.into_iter()
        .map(|m| {
            let o = orders(&m);
            (m, o)
        })
        .collect()
}

fn trainer(gpu: &Gpu, toy: &Toy, settings: PolicySettings, start: Option<&Model>) -> PolicyTrainer {
    let weights = Weights::upload(gpu, &toy.model).unwrap();
    let adam = OptimiserSettings { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 0.0 };
    let optimiser = Optimiser::new(gpu, weights.trainable().unwrap(), adam).unwrap();
    let longest = toy.prompts.iter().map(|p| p.ids.len()).max().unwrap();
    let start = start.map(|s| Weights::upload(gpu, s).unwrap());
    let placement = Placement { tokens: &toy.tokens, reads: toy.reads };
    PolicyTrainer::new(gpu, weights, optimiser, settings, (longest, TUPLES), placement, start).unwrap_or_else(|e| panic!("{e}"))
}

/// The expectation of the trainer's gradient of J, in f64 by tensor; with `sampler`, over chains of those weights instead of
/// the trainer's own.
fn expected_gradient(
    trainer: &PolicyTrainer,
    toy: &Toy,
    settings: &PolicySettings,
    mistake: Mistake,
    sampler: Option<&reference::Weights>,
) -> BTreeMap<String, Vec<f64>> {
    let samples_score = settings.reward.samples_score();
    // A step over all prompts: the tuples of one prompt are independent of the others'.
    let totals = Totals { chains: settings.group * toy.prompts.len(), tokens: 0 };
    trainer.optimiser.gradient.clear(&trainer.gpu);
    let (mut p_all, mut count) = (0.0, 0);
    for prompt in &toy.prompts {
        let world = World::of(toy, sampler.unwrap_or(&toy.model.weights), prompt);
        let outcomes = outcomes(&world, samples_score);
        let tuples = multisets(outcomes.len(), settings.group);
        count += tuples.len();
        for some in tuples.chunks(TUPLES) {
            let rolled: Vec<Rolled> = some
                .iter()
                .map(|(m, _)| Rolled {
                    prompt,
                    chains: m.iter().map(|o| world.known[outcomes[*o].chain].closed.clone()).collect(),
                })
                .collect();
            let ps: Vec<f64> =
                some.iter().map(|(m, orders)| orders * m.iter().map(|o| outcomes[*o].p).product::<f64>()).collect();
            p_all += ps.iter().sum::<f64>();
            let uniforms: Vec<f64> = some.iter().flat_map(|(m, _)| m.iter().map(|o| outcomes[*o].uniform)).collect();
            let uniform = |n: u64| uniforms[n as usize];
            let drawn = |o: &usize| {
                let (sampled, sampled_log_p) = outcomes[*o].sampled;
                Rewarded { sampled, sampled_log_p, ..Rewarded::default() }
            };
            let drawn: Vec<Vec<Rewarded>> = some.iter().map(|(m, _)| m.iter().map(drawn).collect()).collect();
            let scores = if sampler.is_some() { Scores::Drawn(&drawn) } else { Scores::Draw(&uniform) };
            toy.with_speech(|speech| {
                pollster::block_on(async {
                    let mut rewarded = trainer.rewards(&rolled, speech, scores).await.unwrap();
                    plant(mistake, settings.group, &mut rewarded);
                    let mut batch = trainer.objectives(&rolled, &rewarded, speech, &totals);
                    weigh(&mut batch, trainer, &rolled, &ps, mistake);
                    trainer.accumulate(&batch, true).await.unwrap();
                });
            });
        }
    }
    assert!((p_all - toy.prompts.len() as f64).abs() < 1e-9, "not every tuple: {p_all}");
    print!("{count} tuples: ");
    let read = |name: &String| {
        let values = pollster::block_on(trainer.optimiser.gradient.tensor_values(&trainer.gpu, name)).unwrap();
        // The loss is minus the reward.
        (name.clone(), values.iter().map(|v| -f64::from(*v)).collect())
    };
    toy.model.weights.0.keys().map(read).collect()
}

fn plant(mistake: Mistake, k: usize, rewarded: &mut [Vec<Rewarded>]) {
    for r in rewarded.iter_mut().flatten() {
        match mistake {
            Mistake::BaselineWithItself => r.advantage *= (k - 1) as f64 / k as f64,
            Mistake::RatioOnOneTerm => (r.advantage, r.ratio) = (r.advantage * r.ratio, 1.0),
            Mistake::NoRatio => r.ratio = 1.0,
            _ => {}
        }
    }
}

/// Multiplies each tuple's objectives by its probability (the gradient is linear in them).
fn weigh(batch: &mut PackedInputs, trainer: &PolicyTrainer, rolled: &[Rolled], ps: &[f64], mistake: Mistake) {
    let (_, placed) = trainer.lay(rolled);
    let mut seen = 0;
    for ((group, placed), p) in rolled.iter().zip(&placed).zip(ps) {
        for (chain, placed) in group.chains.iter().zip(placed) {
            let n = chain.actions.len();
            let rows: Vec<usize> = placed.before[..n].iter().map(|row| batch.row_at(*row).unwrap()).collect();
            for row in &rows {
                batch.objectives[*row].weight = (f64::from(batch.objectives[*row].weight) * p) as f32;
            }
            match mistake {
                Mistake::WindowTooEarly => batch.objectives[rows[n - 1]] = RowObjective::default(),
                Mistake::WindowTooLate => {
                    (1..n).rev().for_each(|j| batch.objectives[rows[j]] = batch.objectives[rows[j - 1]]);
                    batch.objectives[rows[0]] = RowObjective::default();
                }
                _ => {}
            }
            for node in &placed.nodes {
                let number = batch.objectives[batch.row_at(*node).unwrap()].scores as usize;
                let width = trainer_alphabet(batch);
                batch.coefficients[number * width..(number + 1) * width].iter_mut().for_each(|c| *c = (f64::from(*c) * p) as f32);
            }
            seen += n + placed.nodes.len();
        }
    }
    assert_eq!(seen, batch.rows.len());
}

/// Coefficients a row with scores.
fn trainer_alphabet(batch: &PackedInputs) -> usize {
    batch.coefficients.len() / batch.objectives.iter().filter(|o| o.scores != NO_SCORES).count()
}

/// The worst deviation of any tensor, relative to the tensor's largest entry.
fn error(found: &BTreeMap<String, Vec<f64>>, expected: &reference::Gradients) -> f64 {
    let worst = expected.0.iter().map(|(name, e)| (deviation(&found[name], e), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    let (off, name) = worst.unwrap();
    println!("off by {off:.1e} at most, in {name}");
    off
}

fn check(name: &str, toy: &Toy, settings: PolicySettings, start: Option<&Model>, mistakes: &[Mistake]) {
    let begin = std::time::Instant::now();
    let before = &start.unwrap_or(&toy.model).weights;
    let (_, expected) = objective(toy, &settings, &toy.model.weights, before);
    let trainer = trainer(&gpu(), toy, settings, start);
    print!("{name}, K = {}, ", settings.group);
    let off = error(&expected_gradient(&trainer, toy, &settings, Mistake::None, None), &expected);
    assert!(off < UNBIASED, "{name}: the expected gradient is off by {off:.1e}");
    for mistake in mistakes {
        print!("  {mistake:?}: ");
        let off = error(&expected_gradient(&trainer, toy, &settings, *mistake, None), &expected);
        assert!(off > BIASED, "{name}: {mistake:?} went unseen, off by {off:.1e}");
    }
    println!("  {:.1} s", begin.elapsed().as_secs_f64());
}

const EXPECTATIONS: [Expectation; 2] = [Expectation::Renormalised, Expectation::FullVocabulary];
const MISTAKES: [Mistake; 3] = [Mistake::WindowTooEarly, Mistake::WindowTooLate, Mistake::BaselineWithItself];

#[test]
fn groups_of_two() {
    let toy = Toy::llama();
    for expectation in EXPECTATIONS {
        for log_prob in [0.0, 1.0] {
            check(&format!("{expectation:?}, λ = {log_prob}"), &toy, real(expectation, log_prob, 2), None, &MISTAKES);
        }
    }
}

#[test]
fn groups_of_three() {
    let toy = Toy::llama();
    for expectation in EXPECTATIONS {
        for log_prob in [0.0, 1.0] {
            check(&format!("{expectation:?}, λ = {log_prob}"), &toy, real(expectation, log_prob, 3), None, &[]);
        }
    }
}

/// An estimator that leaves something out, or rescales, is not the objective's gradient, and the test sees it.
#[test]
fn wrong_estimators_are_seen() {
    let toy = Toy::llama();
    for expectation in EXPECTATIONS {
        for log_prob in [0.0, 1.0] {
            let right = real(expectation, log_prob, 2);
            let normalized = AdvantageSettings { normalize: true, clip: 1.0 };
            let wrong = [
                ("no refinement", PolicySettings { refinement: 0.0, ..right }),
                ("no exploration", PolicySettings { exploration: 0.0, ..right }),
                ("divided by the std and clipped", PolicySettings { advantage: normalized, ..right }),
            ];
            let (_, expected) = objective(&toy, &right, &toy.model.weights, &toy.model.weights);
            for (name, settings) in wrong {
                print!("{expectation:?}, λ = {log_prob}, {name}: ");
                let trainer = trainer(&gpu(), &toy, settings, None);
                let off = error(&expected_gradient(&trainer, &toy, &settings, Mistake::None, None), &expected);
                assert!(off > BIASED, "{name} went unseen, off by {off:.1e}");
            }
        }
    }
}

/// Other rewards that depend on the policy, and each part of a reward with an advantage of its own.
#[test]
fn other_parts_of_a_reward() {
    let toy = Toy::llama();
    for expectation in EXPECTATIONS {
        let none = RewardSettings { expectation, ..RewardSettings::NONE };
        let of = |reward| PolicySettings { reward, ..real(expectation, 0.0, 2) };
        check("prob", &toy, of(RewardSettings { prob: 2.0, ..none }), None, &MISTAKES);
        check("ranked", &toy, of(RewardSettings { ranked: 1.5, ..none }), None, &MISTAKES);
        // Advantages are linear in the reward as long as they are not divided or clipped.
        let all = RewardSettings { squared: 1.0, log_prob: 0.5, prob: 2.0, ranked: 1.0, ..none };
        check("all parts, separate", &toy, PolicySettings { separate_advantages: true, ..of(all) }, None, &[]);
    }
}

/// What three annotators said, as a distribution.
#[test]
fn soft_labels() {
    let mut toy = Toy::llama();
    let annotations = [0.5, 1.0, 3.0];
    toy.prompts[0].label = toy.scale.soft(&annotations).unwrap();
    toy.prompts[0].value = 1.5;
    let ranked = RewardSettings { ranked: 1.0, log_prob: 0.5, ..RewardSettings::NONE };
    check("soft label", &toy, PolicySettings { reward: ranked, ..real(ranked.expectation, 0.0, 2) }, None, &[]);
}

/// The sampled score is an action, and so is the sampling of something that is no score. The expectation is the gradient of
/// the label's probability, or of the expected squared error of a draw.
#[test]
fn rewards_of_the_sampled_score() {
    let toy = Toy::llama();
    let none = RewardSettings::NONE;
    for (name, reward) in
        [("binary", RewardSettings { binary: 1.0, ..none }), ("sampled squared", RewardSettings { sampled_squared: 0.3, ..none })]
    {
        let settings = PolicySettings { reward, refinement: 0.0, ..real(none.expectation, 0.0, 2) };
        check(name, &toy, settings, None, &MISTAKES);
    }
}

/// Scores of several tokens, by the chain rule, with and without an end; and scores that cannot see the prompt.
#[test]
fn other_ways_to_a_score() {
    for ended in [false, true] {
        for reads in [ScoreReads::Prompt, ScoreReads::Chain] {
            let toy = Toy { reads, ..Toy::scores_of_several_tokens(ended) };
            let settings = real(Expectation::Renormalised, 1.0, 2);
            check(&format!("several tokens, ended: {ended}, reads the {reads:?}"), &toy, settings, None, &MISTAKES);
        }
    }
    let toy = Toy { reads: ScoreReads::Chain, ..Toy::two_token_phrase(json!({"model_type": "qwen3"})) };
    check("reads the chain, two prompts", &toy, real(Expectation::FullVocabulary, 1.0, 2), None, &MISTAKES);
    let binary = RewardSettings { binary: 1.0, ..RewardSettings::NONE };
    let settings = PolicySettings { reward: binary, refinement: 0.0, ..real(binary.expectation, 0.0, 2) };
    check("several tokens, binary", &Toy::scores_of_several_tokens(true), settings, None, &[]);
}

/// Chains of an older policy: both terms weigh the ratio of the whole chain, or the expectation is another one.
#[test]
fn chains_of_an_older_policy() {
    let mut toy = Toy::llama();
    let old = toy.model.weights.clone();
    for (index, values) in toy.model.weights.0.values_mut().enumerate() {
        let mut stream = Stream::new(6, index as u64);
        values.iter_mut().for_each(|v| *v = f64::from((*v + 0.15 * stream.normal()) as f32));
    }
    let none = RewardSettings::NONE;
    let cases = [
        ("real", real(Expectation::Renormalised, 1.0, 2)),
        ("real, groups of three", real(Expectation::FullVocabulary, 1.0, 3)),
        ("binary", PolicySettings { reward: RewardSettings { binary: 1.0, ..none }, ..real(none.expectation, 0.0, 2) }),
    ];
    for (name, settings) in cases {
        let (_, expected) = objective(&toy, &settings, &toy.model.weights, &toy.model.weights);
        let trainer = trainer(&gpu(), &toy, settings, None);
        print!("older policy, {name}: ");
        let off = error(&expected_gradient(&trainer, &toy, &settings, Mistake::None, Some(&old)), &expected);
        assert!(off < UNBIASED, "{name}: off by {off:.1e}");
        for mistake in [Mistake::NoRatio, Mistake::RatioOnOneTerm] {
            // With nothing to refine there is but one term.
            if mistake == Mistake::RatioOnOneTerm && settings.reward.samples_score() {
                continue;
            }
            print!("  {mistake:?}: ");
            let off = error(&expected_gradient(&trainer, &toy, &settings, mistake, Some(&old)), &expected);
            assert!(off > BIASED, "{name}: {mistake:?} went unseen, off by {off:.1e}");
        }
    }
}

/// With the KL divergence to other weights in the reward.
#[test]
fn divergence_from_a_start_model() {
    let mut toy = Toy::llama();
    let start = Toy::llama().model;
    for (index, values) in toy.model.weights.0.values_mut().enumerate() {
        let mut stream = Stream::new(5, index as u64);
        values.iter_mut().for_each(|v| *v = f64::from((*v + 0.1 * stream.normal()) as f32));
    }
    let settings = PolicySettings { kl: 0.7, ..real(Expectation::Renormalised, 1.0, 2) };
    check("KL", &toy, settings, Some(&start), &[]);
    let (_, without) = objective(&toy, &PolicySettings { kl: 0.0, ..settings }, &toy.model.weights, &start.weights);
    let trainer = trainer(&gpu(), &toy, settings, Some(&start));
    print!("  KL against the objective without it: ");
    assert!(error(&expected_gradient(&trainer, &toy, &settings, Mistake::None, None), &without) > BIASED);
}

/// Other decoders, a phrase of two tokens with a shorter form, two prompts of different length with labels on and
/// between the scores.
#[test]
fn other_families_and_a_longer_phrase() {
    let families = [
        json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}),
        json!({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": true}),
        json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 3}),
    ];
    for family in families {
        let name = family["model_type"].as_str().unwrap().to_string();
        let toy = Toy::two_token_phrase(family);
        check(&name, &toy, real(Expectation::Renormalised, 1.0, 2), None, &MISTAKES);
    }
}

/// The reference's gradient against differences of J: along a random direction in each tensor.
#[test]
fn the_expected_gradient_is_that_of_the_objective() {
    let binary = RewardSettings {
        expectation: Expectation::FullVocabulary,
        squared: 0.3,
        log_prob: 0.5,
        prob: 1.0,
        ranked: 0.6,
        binary: 0.8,
        sampled_squared: 0.2,
    };
    let hidden = Toy { reads: ScoreReads::Chain, ..Toy::scores_of_several_tokens(true) };
    for (toy, kl) in [(Toy::llama(), 0.0), (Toy::two_token_phrase(json!({"model_type": "qwen3"})), 0.4), (hidden, 0.0)] {
        let start = reference::Weights::random(&toy.model.spec, 99);
        for reward in [binary, real(Expectation::Renormalised, 1.0, 2).reward] {
            let settings = PolicySettings { reward, kl, ..real(reward.expectation, 1.0, 2) };
            let (_, gradient) = objective(&toy, &settings, &toy.model.weights, &start);
            let mut worst: f64 = 0.0;
            for (index, (name, values)) in gradient.0.iter().enumerate() {
                let mut stream = Stream::new(17, index as u64);
                let direction: Vec<f64> = values.iter().map(|_| stream.normal()).collect();
                let at = |h: f64| {
                    let mut moved = toy.model.weights.clone();
                    moved.0.get_mut(name).unwrap().iter_mut().zip(&direction).for_each(|(w, d)| *w += h * d);
                    objective(&toy, &settings, &moved, &start).0
                };
                let h = 1e-5;
                let found = (at(h) - at(-h)) / (2.0 * h);
                let expected = common::dot(values, &direction);
                let size = values.iter().map(|v| v * v).sum::<f64>().sqrt();
                worst = worst.max((found - expected).abs() / size);
            }
            println!("differences of J: off by {worst:.1e} at most");
            assert!(worst < 1e-6, "off by {worst:.1e}");
        }
    }
}

/// The sampler writes just the records that were enumerated, as often as their probability says.
#[test]
fn the_sampler_records_what_was_enumerated() {
    const GROUP: usize = 4000;
    for toy in [Toy::llama(), Toy::two_token_phrase(json!({"model_type": "qwen2"}))] {
        let weights = Weights::upload(&gpu(), &toy.model).unwrap();
        let longest = toy.prompts.iter().map(|p| p.ids.len()).max().unwrap();
        let sizes = RolloutSizes { rows: GROUP * toy.prompts.len(), group: GROUP, prompt: longest, new_tokens: MAX_TOKENS };
        let rollout = Rollout::new(&gpu(), &weights, sizes).unwrap();
        let prompts: Vec<Vec<u32>> = toy.prompts.iter().map(|p| p.ids.clone()).collect();
        let sampler = Sampler { temperature: 1.0, top_p: 1.0, top_k: 0, key: [1, 2] };
        let all = pollster::block_on(rollout.run(&prompts, 0, sampler, &toy.stop(), &mut ())).unwrap();
        for (prompt, chains) in toy.prompts.iter().zip(all) {
            let world = World::of(&toy, &toy.model.weights, prompt);
            let mut counts = vec![0.0; world.known.len()];
            let mut off: f64 = 0.0;
            for chain in &chains {
                let closed = toy.with_speech(|s| close(chain, prompt.ends_in_space, s));
                let same = |k: &Known| {
                    let k = &k.closed;
                    (&k.actions, k.ending, &k.fed) == (&closed.actions, closed.ending, &closed.fed)
                };
                let i = world.known.iter().position(same).unwrap_or_else(|| panic!("{closed:?} was not enumerated"));
                counts[i] += 1.0;
                let gaps = closed.log_ps.iter().zip(&world.known[i].closed.log_ps).map(|(a, b)| f64::from((a - b).abs()));
                off = gaps.fold(off, f64::max);
            }
            assert!(off < 1e-4, "recorded log-probabilities are off by {off:.1e}");
            // Chi-square over the chains that are expected at least five times; the others are one class.
            let (mut chi, mut classes, mut rare) = (0.0, 0, (0.0, 0.0));
            for (known, count) in world.known.iter().zip(&counts) {
                let expected = known.log_p.exp() * GROUP as f64;
                if expected < 5.0 {
                    rare = (rare.0 + expected, rare.1 + count);
                } else {
                    chi += (count - expected).powi(2) / expected;
                    classes += 1;
                }
            }
            if rare.0 >= 5.0 {
                chi += (rare.1 - rare.0).powi(2) / rare.0;
                classes += 1;
            }
            // Wilson-Hilferty: the cube root of chi²/df is nearly normal.
            let df = f64::from(classes - 1);
            let z = ((chi / df).cbrt() - (1.0 - 2.0 / (9.0 * df))) / (2.0 / (9.0 * df)).sqrt();
            println!("{GROUP} chains, log p off by {off:.1e} at most, chi-square {chi:.1} for {df} degrees, z = {z:.2}");
            assert!(z < 4.0, "chi-square {chi:.1} for {df} degrees of freedom");
        }
    }
}
