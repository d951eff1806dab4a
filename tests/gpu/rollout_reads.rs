//! What is read from a rollout's cache after its chains is what a pass over prompt, chain and phrase finds.

use jurist::gpu::Gpu;
use jurist::model::config::Config;
use jurist::model::decoder::{PackedInputs, Pass, PassSizes, Sampler};
use jurist::model::error::ModelError;
use jurist::model::init::Init;
use jurist::model::source::TensorSource;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::TokenLoss;
use jurist::random::Stream;
use jurist::rollout::{Chain, Ending, ReadChain, ReadSizes, Reader, Rollout, RolloutObserver, RolloutSizes, Stop};
use pollster::block_on;
use serde_json::json;

use crate::score::{Restless, config};

/// Closes every chain with these tokens, unless it ended in the phrase.
struct Close {
    phrase: Vec<u32>,
    most_tokens: usize,
    score_tokens: Vec<u32>,
}

/// The nodes of a tree, with one that is empty not the first and one path fed over another.
const PATHS: [&[u32]; 5] = [&[], &[11], &[11, 12], &[13], &[]];

impl Reader for Close {
    type Error = ModelError;

    fn close(&self, _prompt: usize, chain: &Chain) -> Result<Vec<u32>, ModelError> {
        let chain = chain.clone().within(self.most_tokens);
        let phrase = if chain.ending == Ending::Phrase {
            chain.draws[chain.draws.len() - chain.tail..].iter().map(|d| d.token).collect()
        } else {
            self.phrase.clone()
        };
        Ok([chain.body(), phrase].concat())
    }

    fn paths(&self) -> &[&[u32]] {
        &PATHS
    }

    fn score_tokens(&self) -> &[u32] {
        &self.score_tokens
    }
}

fn reader(phrase: &[u32]) -> Close {
    Close { phrase: phrase.to_vec(), most_tokens: 9, score_tokens: vec![3, 50, 17] }
}

/// Chains of a random model end in all three ways.
fn stop() -> Stop {
    let phrases = (20..28).map(|t| vec![t]).chain([vec![30, 31]]).collect();
    Stop { phrases, eos: (40..46).collect(), max_tokens: 10 }
}

const GREEDY: Sampler = Sampler::GREEDY;
const SAMPLED: Sampler = Sampler { temperature: 1.0, key: [5, 6], ..Sampler::GREEDY };

/// Looks at what was drawn every so many tokens.
struct Every(Option<usize>);

impl RolloutObserver for Every {
    fn sync_interval(&self) -> Option<usize> {
        self.0
    }
}

fn rollout(gpu: &Gpu, weights: &Weights, (rows, group): (usize, usize), phrase: usize) -> Rollout {
    let read = ReadSizes { tokens: 1 + phrase + 2, scores: 3 };
    Rollout::new(gpu, weights, RolloutSizes { rows, group, prompt: 30, new_tokens: 10, read }).unwrap()
}

fn read(rollout: &Rollout, prompts: &[Vec<u32>], sampler: Sampler, every: Option<usize>, reader: &Close) -> Vec<Vec<ReadChain>> {
    block_on(rollout.run_reading(prompts, 0, sampler, &stop(), &mut Every(every), reader)).unwrap()
}

/// Log-probabilities of the score tokens after each of these sequences, by a packed pass.
fn packed(gpu: &Gpu, weights: &Weights, sequences: &[Vec<u32>], score_tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut batch = PackedInputs::default();
    for ids in sequences {
        let start = batch.push(ids);
        batch.push_loss(start + ids.len() as u32 - 1, TokenLoss::default());
    }
    let (tokens, losses) = (batch.ids.len(), batch.loss_positions.len());
    let sizes = PassSizes { tokens, loss_positions: losses, score_tokens: score_tokens.to_vec(), ..PassSizes::default() };
    let pass = Pass::new(gpu, weights, None, sizes).unwrap();
    pass.run(&batch).unwrap();
    block_on(pass.stats(losses)).unwrap().into_iter().map(|s| s.score_log_probs).collect()
}

fn prompts() -> Vec<Vec<u32>> {
    let mut stream = Stream::new(3, 3);
    [1usize, 7, 30, 19, 2, 12, 5, 9, 16].iter().map(|n| (0..*n).map(|_| stream.below(90) as u32).collect()).collect()
}

/// Greedy and sampled chains, one and three per prompt, of every ending, in more KV blocks than prompts and in fewer, and however
/// often the host looks.
#[test]
fn rollout_reads_are_those_of_a_pass() {
    let gpu = crate::common::gpu();
    let cases = [
        ("llama", json!({})),
        ("a window of 5", json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 5})),
        ("q and k norms", json!({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_key_value_heads": 2})),
    ];
    for (name, changes) in cases {
        let weights = Weights::upload(&gpu, &Restless(Init::new(config(changes), 4))).unwrap();
        let (mut worst, mut endings) = (0f32, Vec::new());
        for (group, sampler, phrase) in
            [(1, GREEDY, &[7, 8][..]), (1, SAMPLED, &[7, 8]), (3, SAMPLED, &[7]), (3, GREEDY, &[]), (1, SAMPLED, &[])]
        {
            let (prompts, reader) = (prompts(), reader(phrase));
            let few = rollout(&gpu, &weights, (group * 2, group), phrase.len());
            let read_few = read(&few, &prompts, sampler, None, &reader);
            for every in [1, 3, 8] {
                assert_eq!(read_few, read(&few, &prompts, sampler, Some(every), &reader), "{name}: a look every {every} tokens");
            }
            let many = rollout(&gpu, &weights, (group * 16, group), phrase.len());
            for read in [read_few, read(&many, &prompts, sampler, None, &reader)] {
                let chains = || read.iter().zip(&prompts).flat_map(|(chains, prompt)| chains.iter().map(move |c| (c, prompt)));
                let sequences: Vec<Vec<u32>> =
                    chains().flat_map(|(c, prompt)| PATHS.map(|path| [prompt, &c.closed[..], path].concat())).collect();
                let packed = packed(&gpu, &weights, &sequences, reader.score_tokens());
                let found = chains().flat_map(|(c, _)| &c.stats).map(|s| &s.score_log_probs);
                assert_eq!(found.clone().count(), packed.len());
                for (found, packed) in found.flatten().zip(packed.iter().flatten()) {
                    assert!(packed.is_finite() && found.is_finite());
                    worst = worst.max((found - packed).abs());
                }
                endings.extend(chains().map(|(c, _)| c.chain.ending));
            }
        }
        println!("{name}: {} chains; log-probabilities differ by at most {worst:.1e}", endings.len());
        assert!([Ending::Phrase, Ending::Eos, Ending::Length].iter().all(|ending| endings.contains(ending)));
        assert!(worst < 1e-5, "{name}: {worst}");
    }
}

/// A model whose embedding has a row without numbers.
struct Spoiled(Restless, u32);

impl TensorSource for Spoiled {
    fn config(&self) -> &Config {
        self.0.config()
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.0.read(tensor, start, out)?;
        if tensor == "model.embed_tokens.weight" {
            let row = self.1 as usize * self.config().hidden_size;
            let of_row = |i: &usize| (row..row + self.config().hidden_size).contains(&(start + i));
            (0..out.len()).filter(of_row).for_each(|i| out[i] = f32::NAN);
        }
        Ok(())
    }
}

/// A prompt whose logits are not finite has no log-probabilities. Those of its neighbours stay to the byte.
#[test]
fn rollout_reads_of_a_row_without_numbers_spoil_no_other() {
    let gpu = crate::common::gpu();
    let source = Spoiled(Restless(Init::new(config(json!({"tie_word_embeddings": false})), 4)), 89);
    let weights = Weights::upload(&gpu, &source).unwrap();
    let mut prompts = prompts();
    prompts.iter_mut().flatten().filter(|id| **id == 89).for_each(|id| *id = 88);
    let (reader, rollout) = (reader(&[7, 8]), rollout(&gpu, &weights, (3, 1), 2));
    let good = read(&rollout, &prompts, SAMPLED, None, &reader);
    prompts[2][4] = 89;
    let spoiled = read(&rollout, &prompts, SAMPLED, None, &reader);
    let numbers = |chains: &[ReadChain]| chains[0].stats.iter().flat_map(|s| &s.score_log_probs).all(|p| p.is_finite());
    // A chain that draws the spoiled token has no numbers behind it either.
    let drawn = |chains: &[ReadChain]| chains[0].chain.draws.iter().any(|draw| draw.token == 89);
    let mut compared = 0;
    for (n, (good, spoiled)) in good.iter().zip(&spoiled).enumerate() {
        match n {
            2 => assert!(!numbers(spoiled)),
            _ if drawn(good) => {}
            _ => {
                assert!(numbers(good), "prompt {n}");
                assert_eq!(good, spoiled, "prompt {n}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 2);
}

/// An observer that stops ends a rollout that reads; an error of the reader does, too. The rollout serves the next run.
#[test]
fn a_rollout_that_reads_can_be_stopped() {
    struct Refuse(Close);
    impl Reader for Refuse {
        type Error = ModelError;
        fn close(&self, prompt: usize, chain: &Chain) -> Result<Vec<u32>, ModelError> {
            if prompt == 4 { Err(ModelError::Inconsistent("no such chain".into())) } else { self.0.close(prompt, chain) }
        }
        fn paths(&self) -> &[&[u32]] {
            self.0.paths()
        }
        fn score_tokens(&self) -> &[u32] {
            self.0.score_tokens()
        }
    }
    struct StopAt(usize);
    impl RolloutObserver for StopAt {
        fn done(&mut self, prompts: usize) -> bool {
            prompts < self.0
        }
    }
    let gpu = crate::common::gpu();
    let weights = Weights::upload(&gpu, &Restless(Init::new(config(json!({})), 4))).unwrap();
    let (prompts, rollout) = (prompts(), rollout(&gpu, &weights, (2, 1), 2));
    let whole = read(&rollout, &prompts, SAMPLED, None, &reader(&[7, 8]));
    let stopped = block_on(rollout.run_reading(&prompts, 0, SAMPLED, &stop(), &mut StopAt(3), &reader(&[7, 8])));
    assert!(matches!(stopped, Err(ModelError::Stopped)));
    let refused = block_on(rollout.run_reading(&prompts, 0, SAMPLED, &stop(), &mut (), &Refuse(reader(&[7, 8]))));
    assert!(matches!(refused, Err(ModelError::Inconsistent(_))));
    assert_eq!(whole, read(&rollout, &prompts, SAMPLED, None, &reader(&[7, 8])));
    // Chains are the same with and without a read.
    let chains = block_on(rollout.run(&prompts, 0, SAMPLED, &stop(), &mut ())).unwrap();
    assert_eq!(whole.into_iter().map(|c| c.into_iter().map(|c| c.chain).collect()).collect::<Vec<Vec<Chain>>>(), chains);
}
