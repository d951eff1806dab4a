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
use jurist::judge::{Expectation, Scale, ScoreTokens};
use jurist::model::config::Config;
use jurist::model::decoder::{Draw, PackedInputs, Sampler};
use jurist::model::error::ModelError;
use jurist::model::source::TensorSource;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::RowObjective;
use jurist::random::Stream;
use jurist::reference::{self, Batch, Spec, loss};
use jurist::rollout::{Chain, Ending, Rollout, RolloutSizes, Stop};
use jurist::train::advantage::AdvantageSettings;
use jurist::train::examples::Prompt;
use jurist::train::optimiser::{Optimiser, OptimiserSettings};
use jurist::train::policy::{Aggregation, Closed, PolicySettings, PolicyTrainer, Rewarded, Rolled, Speech, Totals, close};
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

impl Toy {
    /// Seven tokens: two words, a phrase of one token, EOS, three scores. 37 chains.
    fn llama() -> Self {
        let scale: Scale = "a,b,c=0.5,4,1".parse().unwrap();
        // Between two scores: λ log π is split over both.
        let prompts = vec![prompt(&scale, &[1, 0, 5], 2.2, false)];
        let tokens = ScoreTokens { ids: vec![4, 5, 6], stem: vec![2], opening: vec![2], warnings: vec![] };
        let model = Model::new(json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}), 7, 3);
        Toy { model, scale, tokens, eos: vec![3], spaces: vec![], prompts }
    }

    /// Eight tokens, a phrase of two tokens or (behind white space) one, and two prompts of different length. 50 chains.
    fn two_token_phrase(family: Value) -> Self {
        let scale: Scale = "a,b,c=3,0,1".parse().unwrap();
        let prompts = vec![prompt(&scale, &[6, 0], 1.0, false), prompt(&scale, &[1, 0, 7, 1], 1.6, true)];
        let tokens = ScoreTokens { ids: vec![5, 6, 7], stem: vec![2, 3], opening: vec![3], warnings: vec![] };
        Toy { model: Model::new(family, 8, 11), scale, tokens, eos: vec![4], spaces: vec![1], prompts }
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
    /// Its logits: one row an action, then the score's.
    logits: Vec<Vec<f64>>,
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
        let sequences: Vec<Vec<u32>> =
            records.iter().map(|r| [&prompt.ids[..], &closed(r, &[0.0; MAX_TOKENS]).fed].concat()).collect();
        let slices: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let batch = Batch::packed(&slices);
        // Token j of the chain is predicted by the row in front of it, the score by the last row of the sequence.
        let (mut rows, mut start) = (Vec::new(), 0);
        for ((tokens, ..), sequence) in records.iter().zip(&sequences) {
            let first = start + prompt.ids.len() as u32 - 1;
            start += sequence.len() as u32;
            rows.extend(first..first + tokens.len() as u32);
            rows.push(start - 1);
        }
        let spec = &toy.model.spec;
        let trace = reference::forward(spec, model, &batch, &rows).unwrap();
        let mut logits = trace.logits.chunks(spec.vocab).map(<[f64]>::to_vec);
        let known = records.iter().map(|record| {
            let logits: Vec<Vec<f64>> = logits.by_ref().take(record.0.len() + 1).collect();
            let log_ps: Vec<f64> = record.0.iter().zip(&logits).map(|(t, z)| loss::log_softmax(z)[*t as usize]).collect();
            let last = loss::log_softmax(&logits[record.0.len()]);
            Known {
                closed: closed(record, &log_ps),
                log_p: log_ps.iter().sum(),
                scores: toy.tokens.ids.iter().map(|k| last[*k as usize]).collect(),
                logits,
            }
        });
        let known = known.collect();
        World { known, batch, trace }
    }
}

/// The reward's parts, as the reference computes them; all of it is `-Σ` of losses of the score's row.
fn reference_reward(toy: &Toy, reward: &RewardSettings, prompt: &Prompt, logits: &[f64]) -> loss::Loss {
    let scale: Vec<loss::Score> = toy.tokens.ids.iter().copied().zip(toy.scale.values().iter().copied()).collect();
    let squared = match reward.expectation {
        Expectation::Renormalised => loss::squared_error_renormalised(logits, &scale, prompt.value),
        Expectation::FullVocabulary => loss::squared_error_full(logits, &scale, prompt.value),
    };
    let label = loss::soft_target(prompt.value, &scale).unwrap();
    // The chance that the sampled score is the nearest one: what the binary reward is worth before the score is drawn.
    let nearest = [(toy.tokens.ids[prompt.label.nearest], 1.0)];
    squared
        .scaled(-reward.squared)
        .plus(loss::log_probability(logits, &label).scaled(reward.log_prob))
        .plus(loss::probability(logits, &label).scaled(reward.prob))
        .plus(loss::probability(logits, &nearest).scaled(reward.binary))
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
            let (score, actions) = known.logits.split_last().unwrap();
            let reward = reference_reward(toy, &settings.reward, prompt, score);
            let kl = known.log_p - old.log_p;
            let earned = reward.value - settings.kl * kl;
            j += p * earned;
            // d(π r) = π (r - kl) d log π + π dr.
            for (z, token) in actions.iter().zip(&known.closed.actions) {
                dlogits.extend(loss::log_probability(z, &[(*token, p * (earned - settings.kl))]).gradient(z));
            }
            dlogits.extend(reward.scaled(p).gradient(score));
        }
        let g = reference::backward(&toy.model.spec, model, &world.batch, &world.trace, &dlogits).unwrap();
        g.0.iter().for_each(|(name, values)| gradient.add(name, values).unwrap());
    }
    (j, gradient)
}

fn real(expectation: Expectation, log_prob: f64, group: usize) -> PolicySettings {
    PolicySettings {
        reward: RewardSettings { expectation, squared: 1.0, log_prob, prob: 0.0, binary: 0.0 },
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
}

/// An outcome that can be sampled: a chain, and where the reward looks at it, the sampled score.
struct Outcome {
    chain: usize,
    uniform: f64,
    p: f64,
}

fn outcomes(world: &World, samples_score: bool) -> Vec<Outcome> {
    let mut all = Vec::new();
    for (chain, known) in world.known.iter().enumerate() {
        if !samples_score {
            all.push(Outcome { chain, uniform: 0.5, p: known.log_p.exp() });
            continue;
        }
        let mut below = 0.0;
        let rest = 1.0 - known.scores.iter().map(|l| l.exp()).sum::<f64>();
        for p in known.scores.iter().map(|l| l.exp()).chain([rest]) {
            all.push(Outcome { chain, uniform: below + p / 2.0, p: known.log_p.exp() * p });
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
    let optimiser = Optimiser::new(gpu, &weights, adam).unwrap();
    let longest = toy.prompts.iter().map(|p| p.ids.len()).max().unwrap();
    let start = start.map(|s| Weights::upload(gpu, s).unwrap());
    let speech = (&toy.scale, &toy.tokens);
    PolicyTrainer::new(gpu, weights, optimiser, settings, (longest, TUPLES), speech, start).unwrap_or_else(|e| panic!("{e}"))
}

/// The expectation of the trainer's gradient of J, in f64 by tensor.
fn expected_gradient(
    trainer: &PolicyTrainer,
    toy: &Toy,
    settings: &PolicySettings,
    mistake: Mistake,
) -> BTreeMap<String, Vec<f64>> {
    let samples_score = settings.reward.binary != 0.0;
    // A step over all prompts: the tuples of one prompt are independent of the others'.
    let totals = Totals { chains: settings.group * toy.prompts.len(), tokens: 0 };
    trainer.optimiser.gradient.clear(&trainer.gpu);
    let (mut p_all, mut count) = (0.0, 0);
    for prompt in &toy.prompts {
        let world = World::of(toy, &toy.model.weights, prompt);
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
            toy.with_speech(|speech| {
                pollster::block_on(async {
                    let mut rewarded = trainer.rewards(&rolled, speech, |n| uniforms[n as usize]).await.unwrap();
                    plant(mistake, settings.group, &mut rewarded);
                    let mut batch = trainer.objectives(&rolled, &rewarded, speech, &totals);
                    weigh(&mut batch, &rolled, &ps, mistake);
                    trainer.accumulate(&batch).await.unwrap();
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
    if mistake == Mistake::BaselineWithItself {
        let factor = (k - 1) as f64 / k as f64;
        rewarded.iter_mut().flatten().for_each(|r| r.advantage *= factor);
    }
}

/// Multiplies each tuple's objectives by its probability (the gradient is linear in them).
fn weigh(batch: &mut PackedInputs, rolled: &[Rolled], ps: &[f64], mistake: Mistake) {
    let mut row = 0;
    for (group, p) in rolled.iter().zip(ps) {
        for chain in &group.chains {
            let n = chain.actions.len();
            match mistake {
                Mistake::WindowTooEarly => batch.objectives[row + n - 1] = RowObjective::default(),
                Mistake::WindowTooLate => {
                    batch.objectives[row..row + n].rotate_right(1);
                    batch.objectives[row] = RowObjective::default();
                }
                Mistake::None | Mistake::BaselineWithItself => {}
            }
            for o in &mut batch.objectives[row..=row + n] {
                let weights = [&mut o.weight_a, &mut o.weight_b, &mut o.prob_weight_a, &mut o.prob_weight_b, &mut o.score_weight];
                weights.into_iter().for_each(|w| *w = (f64::from(*w) * p) as f32);
            }
            row += n + 1;
        }
    }
    assert_eq!(row, batch.rows.len());
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
    let off = error(&expected_gradient(&trainer, toy, &settings, Mistake::None), &expected);
    assert!(off < UNBIASED, "{name}: the expected gradient is off by {off:.1e}");
    for mistake in mistakes {
        print!("  {mistake:?}: ");
        let off = error(&expected_gradient(&trainer, toy, &settings, *mistake), &expected);
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
                let off = error(&expected_gradient(&trainer, &toy, &settings, Mistake::None), &expected);
                assert!(off > BIASED, "{name} went unseen, off by {off:.1e}");
            }
        }
    }
}

/// The probability of the label as the reward, and each part of a reward with an advantage of its own.
#[test]
fn probability_as_reward() {
    let toy = Toy::llama();
    let prob = RewardSettings { expectation: Expectation::FullVocabulary, squared: 0.0, log_prob: 0.0, prob: 2.0, binary: 0.0 };
    let alone = PolicySettings { reward: prob, ..real(prob.expectation, 0.0, 2) };
    check("prob", &toy, alone, None, &MISTAKES);
    let all = RewardSettings { squared: 1.0, log_prob: 0.5, ..prob };
    // Advantages are linear in the reward as long as they are not divided or clipped.
    check("all parts, separate", &toy, PolicySettings { reward: all, separate_advantages: true, ..alone }, None, &MISTAKES);
}

/// The sampled score is an action, and so is the sampling of something that is no score. Its expectation is the gradient of
/// the label's probability.
#[test]
fn reinforce() {
    let toy = Toy::llama();
    let binary = RewardSettings { expectation: Expectation::Renormalised, squared: 0.0, log_prob: 0.0, prob: 0.0, binary: 1.0 };
    let settings = PolicySettings { reward: binary, refinement: 0.0, ..real(binary.expectation, 0.0, 2) };
    check("reinforce", &toy, settings, None, &MISTAKES);
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
    assert!(error(&expected_gradient(&trainer, &toy, &settings, Mistake::None), &without) > BIASED);
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
    let binary = RewardSettings { expectation: Expectation::FullVocabulary, squared: 0.3, log_prob: 0.5, prob: 1.0, binary: 0.8 };
    for (toy, kl) in [(Toy::llama(), 0.0), (Toy::two_token_phrase(json!({"model_type": "qwen3"})), 0.4)] {
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
