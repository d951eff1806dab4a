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

mod expected;
mod found;
mod toy;

use std::collections::BTreeMap;

use crate::common::{deviation, gpu};
use expected::{Known, World, objective};
use found::{Mistake, expected_gradient, trainer};
use jurist::judge::{Expectation, ScoreReads};
use jurist::model::decoder::Sampler;
use jurist::model::weights::Weights;
use jurist::random::Stream;
use jurist::reference;
use jurist::rollout::{ReadSizes, Rollout, RolloutSizes};
use jurist::train::objective::advantage::AdvantageSettings;
use jurist::train::objective::policy::{Aggregation, PolicySettings, close};
use jurist::train::objective::reward::RewardSettings;
use serde_json::json;
use toy::{MAX_TOKENS, Model, Toy};

const UNBIASED: f64 = 1e-3;
const BIASED: f64 = 1e-2;

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
        json!({"model_type": "smollm3", "no_rope_layers": [1, 0]}),
        json!({"model_type": "gemma3_text", "tie_word_embeddings": true, "sliding_window": 3, "sliding_window_pattern": 2}),
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
        let start = reference::Weights::random(&toy.model.reference_config, 99);
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
                let expected = crate::common::dot(values, &direction);
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
        let sizes = RolloutSizes {
            rows: GROUP * toy.prompts.len(),
            group: GROUP,
            prompt: longest,
            new_tokens: MAX_TOKENS,
            read: ReadSizes::default(),
        };
        let rollout = Rollout::new(&gpu(), &weights, sizes).unwrap();
        let prompts: Vec<Vec<u32>> = toy.prompts.iter().map(|p| p.ids.clone()).collect();
        let sampler = Sampler { temperature: 1.0, top_p: 1.0, top_k: 0, key: [1, 2] };
        let all = pollster::block_on(rollout.run(&prompts, 0, sampler, &toy.stop(), &mut ())).unwrap();
        for (prompt, chains) in toy.prompts.iter().zip(all) {
            let world = World::of(&toy, &toy.model.weights, prompt);
            let mut counts = vec![0.0; world.known.len()];
            let mut off: f64 = 0.0;
            for chain in &chains {
                let closed = toy.with_answer(|s| close(chain, prompt.ends_in_space, s).unwrap());
                let same = |k: &Known| {
                    let k = &k.closed;
                    (&k.actions, k.ending, &k.continuation) == (&closed.actions, closed.ending, &closed.continuation)
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
