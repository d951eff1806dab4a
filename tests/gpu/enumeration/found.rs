//! What is found: the expectation of what the trainer accumulates, over every tuple of chains; right, or with a mistake
//! planted in it.

use std::collections::BTreeMap;

use jurist::gpu::Gpu;
use jurist::judge::BatchLayout;
use jurist::model::decoder::PackedInputs;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::{NO_SCORES, TokenLoss};
use jurist::ranks::Ranks;
use jurist::reference;
use jurist::train::config::GradientSum as Order;
use jurist::train::objective::gradient_sum::GradientSum;
use jurist::train::objective::optimiser::{Optimiser, OptimiserSettings};
use jurist::train::objective::policy::{
    PolicySettings, PolicyTrainer, PromptGroup, PromptSizes, ScoreSource, ScoredCompletion, Totals,
};

use crate::enumeration::expected::World;
use crate::enumeration::toy::{Model, Toy};

/// Tuples that pass through the GPU together.
const TUPLES: usize = 256;

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mistake {
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

pub fn trainer(gpu: &Gpu, toy: &Toy, settings: PolicySettings, start: Option<&Model>) -> PolicyTrainer {
    let weights = Weights::upload(gpu, &toy.model).unwrap();
    let adam = OptimiserSettings { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 0.0 };
    let optimiser = Optimiser::new(gpu, weights.trainable().unwrap(), adam).unwrap();
    let sum = GradientSum::new(gpu, &optimiser.gradient, Order::Tree, 1, &Ranks::alone()).unwrap();
    let longest = toy.prompts.iter().map(|p| p.ids.len()).max().unwrap();
    let start = start.map(|s| Weights::upload(gpu, s).unwrap());
    let layout = BatchLayout { tokens: &toy.tokens, reads: toy.reads };
    let sizes = PromptSizes { longest, micro_batch: TUPLES };
    PolicyTrainer::new(gpu, weights, (optimiser, sum), settings, sizes, layout, start).unwrap_or_else(|e| panic!("{e}"))
}

/// The expectation of the trainer's gradient of J, in f64 by tensor; with `sampler`, over chains of those weights instead of
/// the trainer's own.
pub fn expected_gradient(
    trainer: &PolicyTrainer,
    toy: &Toy,
    settings: &PolicySettings,
    mistake: Mistake,
    sampler: Option<&reference::Weights>,
) -> BTreeMap<String, Vec<f64>> {
    let samples_score = settings.reward.samples_score();
    // A step over all prompts: the tuples of one prompt are independent of the others'.
    let totals = Totals { completions: settings.group * toy.prompts.len(), tokens: 0 };
    trainer.optimiser.gradient.clear(&trainer.gpu);
    let (mut p_all, mut count) = (0.0, 0);
    for prompt in &toy.prompts {
        let world = World::of(toy, sampler.unwrap_or(&toy.model.weights), prompt);
        let outcomes = outcomes(&world, samples_score);
        let tuples = multisets(outcomes.len(), settings.group);
        count += tuples.len();
        for some in tuples.chunks(TUPLES) {
            let groups: Vec<PromptGroup> = some
                .iter()
                .map(|(m, _)| PromptGroup {
                    prompt,
                    completions: m.iter().map(|o| world.known[outcomes[*o].chain].closed.clone()).collect(),
                })
                .collect();
            let ps: Vec<f64> =
                some.iter().map(|(m, orders)| orders * m.iter().map(|o| outcomes[*o].p).product::<f64>()).collect();
            p_all += ps.iter().sum::<f64>();
            let uniforms: Vec<f64> = some.iter().flat_map(|(m, _)| m.iter().map(|o| outcomes[*o].uniform)).collect();
            let uniform = |n: u64| uniforms[n as usize];
            let drawn = |o: &usize| {
                let (sampled, sampled_log_p) = outcomes[*o].sampled;
                ScoredCompletion { sampled, sampled_log_p, ..ScoredCompletion::default() }
            };
            let drawn: Vec<Vec<ScoredCompletion>> = some.iter().map(|(m, _)| m.iter().map(drawn).collect()).collect();
            let scores = if sampler.is_some() { ScoreSource::Drawn(&drawn) } else { ScoreSource::Draw(&uniform) };
            toy.with_answer(|answer| {
                pollster::block_on(async {
                    let mut scored = trainer.rewards(&groups, answer, scores).await.unwrap();
                    trainer.advantages(&mut scored);
                    plant(mistake, settings.group, &mut scored);
                    let mut batch = trainer.losses(&groups, &scored, answer, &totals);
                    weigh(&mut batch, trainer, &groups, &ps, mistake);
                    trainer.accumulate_gradient(&batch, true).await.unwrap();
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

fn plant(mistake: Mistake, k: usize, scored: &mut [Vec<ScoredCompletion>]) {
    for r in scored.iter_mut().flatten() {
        match mistake {
            Mistake::BaselineWithItself => r.advantage *= (k - 1) as f64 / k as f64,
            Mistake::RatioOnOneTerm => (r.advantage, r.ratio) = (r.advantage * r.ratio, 1.0),
            Mistake::NoRatio => r.ratio = 1.0,
            _ => {}
        }
    }
}

/// Multiplies each tuple's objectives by its probability (the gradient is linear in them).
fn weigh(batch: &mut PackedInputs, trainer: &PolicyTrainer, groups: &[PromptGroup], ps: &[f64], mistake: Mistake) {
    let (_, spans) = trainer.pack(groups);
    let mut seen = 0;
    for ((group, spans), p) in groups.iter().zip(&spans).zip(ps) {
        for (chain, spans) in group.completions.iter().zip(spans) {
            let n = chain.actions.len();
            let rows: Vec<usize> = spans.predictors[..n].iter().map(|row| batch.loss_at(*row).unwrap()).collect();
            for row in &rows {
                batch.losses[*row].weight = (f64::from(batch.losses[*row].weight) * p) as f32;
            }
            match mistake {
                Mistake::WindowTooEarly => batch.losses[rows[n - 1]] = TokenLoss::default(),
                Mistake::WindowTooLate => {
                    (1..n).rev().for_each(|j| batch.losses[rows[j]] = batch.losses[rows[j - 1]]);
                    batch.losses[rows[0]] = TokenLoss::default();
                }
                _ => {}
            }
            for node in &spans.score_nodes {
                let number = batch.losses[batch.loss_at(*node).unwrap()].scores as usize;
                let width = trainer_alphabet(batch);
                batch.coefficients[number * width..(number + 1) * width].iter_mut().for_each(|c| *c = (f64::from(*c) * p) as f32);
            }
            seen += n + spans.score_nodes.len();
        }
    }
    assert_eq!(seen, batch.loss_positions.len());
}

/// Coefficients a row with scores.
fn trainer_alphabet(batch: &PackedInputs) -> usize {
    batch.coefficients.len() / batch.losses.iter().filter(|o| o.scores != NO_SCORES).count()
}
