//! What is expected: J and its gradient, chain by chain, by the reference decoder in f64.

use jurist::judge::{Expectation, ScoreReads};
use jurist::model::decoder::Draw;
use jurist::reference::{self, Batch, loss_head};
use jurist::rollout::{Chain, Ending};
use jurist::train::data::examples::LabelledPrompt;
use jurist::train::objective::policy::{Completion, PolicySettings, close};
use jurist::train::objective::reward::RewardSettings;

use crate::enumeration::toy::{MAX_TOKENS, Toy};

/// One chain of one prompt, as the reference sees it.
pub struct Known {
    pub closed: Completion,
    /// log π(c|x).
    pub log_p: f64,
    /// Full-vocabulary log-probabilities of the scores.
    pub scores: Vec<f64>,
    /// Logits of the row in front of each action.
    actions: Vec<Vec<f64>>,
    /// Logits of the row in front of each token of each score, `[score][token]`.
    score_rows: Vec<Vec<Vec<f64>>>,
}

/// All chains of a prompt under `model`, and what the backward needs.
pub struct World {
    pub known: Vec<Known>,
    batch: Batch,
    trace: reference::Trace,
}

impl World {
    pub fn of(toy: &Toy, model: &reference::Weights, prompt: &LabelledPrompt) -> Self {
        let records = toy.records();
        let chain = |(tokens, ending, tail): &(Vec<u32>, Ending, usize), log_p: &[f64]| Chain {
            draws: tokens.iter().zip(log_p).map(|(t, l)| Draw { token: *t, log_p: *l as f32 }).collect(),
            ending: *ending,
            tail: *tail,
        };
        let closed = |record, log_p: &[f64]| toy.with_answer(|s| close(&chain(record, log_p), prompt.ends_in_space, s).unwrap());
        // One sequence for the chain itself, and one for every token of every score: nothing is shared here.
        let mut sequences: Vec<Vec<u32>> = Vec::new();
        let mut wanted: Vec<(usize, usize)> = Vec::new(); // (first position, rows) of each sequence
        for record in &records {
            let fed = closed(record, &[0.0; MAX_TOKENS]).continuation;
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
        let config = &toy.model.reference_config;
        let trace = reference::forward(config, model, &batch, &rows).unwrap();
        let mut logits = trace.logits.chunks(config.vocab).map(<[f64]>::to_vec);
        let known = records.iter().map(|record| {
            let actions: Vec<Vec<f64>> = logits.by_ref().take(record.0.len()).collect();
            let log_ps: Vec<f64> = record.0.iter().zip(&actions).map(|(t, z)| loss_head::log_softmax(z)[*t as usize]).collect();
            let paths = (0..toy.scale.len()).map(|score| toy.tokens.path(score));
            let score_rows: Vec<Vec<Vec<f64>>> = paths.clone().map(|p| logits.by_ref().take(p.len()).collect()).collect();
            let of_path = |(path, rows): (&[u32], &Vec<Vec<f64>>)| -> f64 {
                path.iter().zip(rows).map(|(t, z)| loss_head::log_softmax(z)[*t as usize]).sum()
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
fn reference_reward(toy: &Toy, reward: &RewardSettings, prompt: &LabelledPrompt, scores: &[f64]) -> f64 {
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
fn reference_slopes(toy: &Toy, reward: &RewardSettings, prompt: &LabelledPrompt, scores: &[f64]) -> Vec<f64> {
    let h = 1e-5;
    let at = |k: usize, step: f64| {
        let mut moved = scores.to_vec();
        moved[k] += step;
        reference_reward(toy, reward, prompt, &moved)
    };
    (0..scores.len()).map(|k| (at(k, h) - at(k, -h)) / (2.0 * h)).collect()
}

/// J and its gradient: mean over prompts of Σ_c π(c) (r(c) - kl log π(c)/π₀(c)).
pub fn objective(
    toy: &Toy,
    settings: &PolicySettings,
    model: &reference::Weights,
    start: &reference::Weights,
) -> (f64, reference::Gradients) {
    let mut j = 0.0;
    let mut gradient = reference::Weights::zeros(&toy.model.reference_config);
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
                dlogits.extend(loss_head::log_probability(z, &[(*token, p * (earned - settings.kl))]).gradient(z));
            }
            let gradient = reference_slopes(toy, &settings.reward, prompt, &known.scores);
            for (score, (rows, slope)) in known.score_rows.iter().zip(gradient).enumerate() {
                for (z, token) in rows.iter().zip(toy.tokens.path(score)) {
                    dlogits.extend(loss_head::log_probability(z, &[(*token, p * slope)]).gradient(z));
                }
            }
        }
        let g = reference::backward(&toy.model.reference_config, model, &world.batch, &world.trace, &dlogits).unwrap();
        g.0.iter().for_each(|(name, values)| gradient.add(name, values).unwrap());
    }
    (j, gradient)
}
