//! Prompts that join a running rollout: what a chain and its scores are depends on its own prompt, sampler and stream alone, to
//! the byte, whatever is beside it and whatever the cache has.

use std::sync::Arc;

use jurist::gpu::Gpu;
use jurist::model::decoder::Sampler;
use jurist::model::error::ModelError;
use jurist::model::init::Init;
use jurist::model::weights::Weights;
use jurist::random::Stream;
use jurist::rollout::{Chain, Continuation, ReadChain, ReadSizes, Reader, Rollout, RolloutSizes, Run, SharedSizes, Stop};
use pollster::block_on;
use serde_json::{Value, json};

use crate::score::{Restless, config};

/// Closes every chain with a phrase, and reads three tokens behind it and behind a token more.
struct Close;

const PATHS: [&[u32]; 2] = [&[], &[11]];

impl Reader for Close {
    type Error = ModelError;

    fn close(&self, _prompt: usize, chain: &Chain) -> Result<Vec<u32>, ModelError> {
        Ok([chain.body(), vec![7, 8]].concat())
    }

    fn paths(&self) -> &[&[u32]] {
        &PATHS
    }

    fn score_tokens(&self) -> &[u32] {
        &[3, 50, 17]
    }
}

const READ: ReadSizes = ReadSizes { tokens: 4, scores: 3 };

/// A prompt of so many tokens of beginning `of`, and some of its own.
fn prompt(of: u64, shared: usize, own: u64) -> Vec<u32> {
    let (mut beginning, mut end) = (Stream::new(of, 7), Stream::new(own, 8));
    let beginning = (0..shared).map(|_| beginning.below(90) as u32).collect::<Vec<_>>();
    [beginning, (0..4 + own as usize % 9).map(|_| end.below(90) as u32).collect()].concat()
}

/// Requests as a server gets them: three rubrics and prompts of none, of every temperature, length and number of chains.
fn requests(count: usize) -> Vec<Continuation> {
    let mut stream = Stream::new(1, 2);
    let mut request = |n: u64| {
        let ids = match n % 5 {
            0 | 1 => prompt(1, 40, n),
            2 => prompt(2, 25, n),
            // The same again.
            3 => prompt(2, 25, 7),
            _ => prompt(100 + n, 0, n),
        };
        let sampler = Sampler {
            temperature: [0.0, 0.7, 1.0, 2.0][stream.below(4)],
            top_p: [1.0, 0.9][stream.below(2)],
            top_k: [0, 0, 5][stream.below(3)],
            key: [n as u32, 9],
        };
        let stop = Stop {
            phrases: (20..24).map(|t| vec![t]).chain([vec![30, 31]]).collect(),
            eos: if n.is_multiple_of(2) { (40..43).collect() } else { Vec::new() },
            max_tokens: 1 + stream.below(20),
        };
        let chains = [1, 1, 1, 3][stream.below(4)];
        Continuation { ids: ids.into(), chains, first_stream: n as u32 * 3, sampler, stop: Arc::new(stop) }
    };
    (0..count as u64).map(&mut request).collect()
}

fn shared(gpu: &Gpu, weights: &Weights, rows: usize, entries: usize, max_length: usize) -> Rollout {
    Rollout::shared(gpu, weights, SharedSizes { rows, entries, max_length, read: READ }).unwrap()
}

/// Runs until no prompt is left; by number.
fn finish(rollout: &Rollout, run: &mut Run) -> Vec<(usize, Vec<ReadChain>)> {
    let mut done = run.take_done();
    for _ in 0..10_000 {
        if run.is_idle() {
            done.extend(run.take_done());
            done.sort_by_key(|(number, _)| *number);
            return done;
        }
        block_on(rollout.advance(run, &mut (), &Close)).unwrap();
        done.extend(run.take_done());
    }
    panic!("the rollout does not end");
}

fn weights(gpu: &Gpu, changes: Value) -> Weights {
    Weights::upload(gpu, &Restless(Init::new(config(changes), 4))).unwrap()
}

/// Alone in an empty cache, and among 63 others that came at different times, in caches with room for all and for few.
#[test]
fn rollout_company_changes_no_bit() {
    let gpu = crate::common::gpu();
    let cases = [
        ("llama", json!({})),
        ("a window of 5", json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 5})),
        ("q and k norms", json!({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_key_value_heads": 2})),
    ];
    let requests = requests(64);
    for (name, changes) in cases {
        let weights = weights(&gpu, changes);
        // A row, or a request, is planned for as in the large one: the sizes decide on the kernels.
        let mut alone = Vec::new();
        let rollout = shared(&gpu, &weights, 16, 4000, 128);
        for request in &requests {
            let mut run = rollout.begin();
            rollout.push(&mut run, request.clone()).unwrap();
            alone.push(finish(&rollout, &mut run).remove(0).1);
        }
        let tokens: usize = requests.iter().map(|request| request.ids.len()).sum();
        for entries in [4000, 300] {
            let rollout = shared(&gpu, &weights, 16, entries, 128);
            let mut run = rollout.begin();
            for (n, request) in requests.iter().enumerate() {
                assert_eq!(rollout.push(&mut run, request.clone()).unwrap(), n);
                if n % 7 == 6 {
                    block_on(rollout.advance(&mut run, &mut (), &Close)).unwrap();
                }
            }
            let together = finish(&rollout, &mut run);
            assert_eq!(together.len(), 64);
            for ((n, together), alone) in together.iter().zip(&alone) {
                assert_eq!(together, alone, "{name}: request {n}, {entries} entries");
            }
            println!("{name}, {entries} entries: {} of {tokens} prompt tokens computed", run.computed());
            assert!(run.computed() < tokens * if entries > 1000 { 2 } else { 3 } / 3);
            // The same again finds what it needs.
            let before = run.computed();
            rollout.push(&mut run, requests[0].clone()).unwrap();
            assert_eq!(finish(&rollout, &mut run)[0].1, alone[0]);
            assert!(run.computed() - before <= requests[0].ids.len());
        }
    }
}

/// What a rollout that knows all its prompts from the start finds: the same chains, the same scores to rounding.
#[test]
fn rollout_that_is_joined_finds_what_another_finds() {
    let gpu = crate::common::gpu();
    let weights = weights(&gpu, json!({}));
    let prompts: Vec<Vec<u32>> = (0..20).map(|n| prompt(1, 20 * (n as usize % 2), n)).collect();
    let sampler = Sampler { temperature: 1.0, key: [5, 6], ..Sampler::GREEDY };
    let stop = Stop { phrases: (20..28).map(|t| vec![t]).collect(), eos: (40..46).collect(), max_tokens: 10 };
    let sizes = RolloutSizes { rows: 6, group: 2, prompt: 40, new_tokens: 10, read: READ };
    let known = Rollout::new(&gpu, &weights, sizes).unwrap();
    let known = block_on(known.run_reading(&prompts, 0, sampler, &stop, &mut (), &Close)).unwrap();
    let rollout = shared(&gpu, &weights, 6, 1000, 128);
    let mut run = rollout.begin();
    for (n, ids) in prompts.iter().enumerate() {
        let first_stream = 2 * n as u32;
        let of = Continuation { ids: ids[..].into(), chains: 2, first_stream, sampler, stop: Arc::new(stop.clone()) };
        rollout.push(&mut run, of).unwrap();
    }
    let mut worst = 0f32;
    for ((_, joined), known) in finish(&rollout, &mut run).iter().zip(&known) {
        for (joined, known) in joined.iter().zip(known) {
            let tokens = |chain: &ReadChain| chain.chain.draws.iter().map(|draw| draw.token).collect::<Vec<_>>();
            assert_eq!((tokens(joined), joined.chain.ending), (tokens(known), known.chain.ending));
            let gaps = joined.stats.iter().zip(&known.stats).flat_map(|(a, b)| a.score_log_probs.iter().zip(&b.score_log_probs));
            worst = gaps.map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
        }
    }
    println!("log-probabilities differ by at most {worst:.1e}");
    assert!(worst < 1e-6);
}

/// A prompt that nobody wants any more frees its row and its entries at once, in whatever state it is.
#[test]
fn rollout_rows_that_are_abandoned_are_free() {
    let gpu = crate::common::gpu();
    let weights = weights(&gpu, json!({}));
    let rollout = shared(&gpu, &weights, 2, 300, 128);
    let endless = |n: u64, chains: usize| Continuation {
        ids: prompt(1, 30, n).into(),
        chains,
        first_stream: 0,
        sampler: Sampler::GREEDY,
        stop: Arc::new(Stop { phrases: Vec::new(), eos: Vec::new(), max_tokens: 60 }),
    };
    let mut wanted = requests(8);
    wanted.truncate(3);
    let expected: Vec<Vec<ReadChain>> = (wanted.iter())
        .map(|request| {
            let mut run = rollout.begin();
            rollout.push(&mut run, request.clone()).unwrap();
            finish(&rollout, &mut run).remove(0).1
        })
        .collect();
    let mut run = rollout.begin();
    // One runs, one waits with its second chain, one waits for a row.
    let gone: Vec<usize> =
        [(1, 1), (2, 3), (3, 1)].map(|(n, chains)| rollout.push(&mut run, endless(n, chains)).unwrap()).to_vec();
    let numbers: Vec<usize> = wanted.iter().map(|request| rollout.push(&mut run, request.clone()).unwrap()).collect();
    for _ in 0..3 {
        block_on(rollout.advance(&mut run, &mut (), &Close)).unwrap();
    }
    assert!(run.take_done().is_empty());
    gone.iter().for_each(|number| run.abandon(*number));
    let done = finish(&rollout, &mut run);
    assert_eq!(done.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers);
    assert_eq!(done.into_iter().map(|(_, chains)| chains).collect::<Vec<_>>(), expected);
    // Nothing is held any more: a prompt that needs the whole cache finds room.
    let whole = Continuation { ids: prompt(9, 100, 1).into(), ..endless(1, 2) };
    rollout.push(&mut run, whole).unwrap();
    assert_eq!(finish(&rollout, &mut run)[0].1.len(), 2);
}

/// A prompt of several prefills advances beside the chains of others, and comes to the same bytes.
#[test]
fn rollout_prompts_longer_than_a_prefill_are_cut() {
    let gpu = crate::common::gpu();
    let weights = weights(&gpu, json!({"max_position_embeddings": 4096}));
    let rollout = shared(&gpu, &weights, 4, 9000, 4096);
    let long = |n: u64| Continuation { ids: prompt(3, 2500, n).into(), ..requests(1).remove(0) };
    let alone = |of: &Continuation| {
        let mut run = rollout.begin();
        rollout.push(&mut run, of.clone()).unwrap();
        finish(&rollout, &mut run).remove(0).1
    };
    let all = [requests(2).remove(1), long(5), requests(3).remove(2), long(14)];
    let mut run = rollout.begin();
    for of in &all {
        rollout.push(&mut run, of.clone()).unwrap();
    }
    for ((n, together), of) in finish(&rollout, &mut run).iter().zip(&all) {
        assert_eq!(together, &alone(of), "{n}");
    }
    assert!(run.computed() < 2 * 2500, "{}", run.computed());
    let too_long = Continuation { ids: prompt(3, 4100, 1).into(), ..long(1) };
    assert!(matches!(rollout.push(&mut run, too_long), Err(ModelError::Batch { what: "tokens of a prompt", .. })));
    let unknown = Continuation { ids: [5, 97][..].into(), ..long(1) };
    assert!(
        rollout.push(&mut run, unknown).is_err()
            && rollout.push(&mut run, Continuation { ids: [][..].into(), ..long(1) }).is_err()
    );
}
