//! Sampling: which tokens are kept, how often each is drawn, which log-probability is reported.

use jurist::gpu::Tuning;
use jurist::reference::loss_head::log_softmax;
use jurist::reference::sample::Sampling as Settings;
use jurist::selftest::kernels::sample::{self, ALL, Sampler};

use crate::common::*;

fn sampler(tuning: &Tuning, logits: &[f64], vocab: usize, history: usize, streams: &[u32], positions: &[u32]) -> Sampler {
    Sampler::new(&checker(tuning.clone()), logits, vocab, history, streams, positions).unwrap_or_else(|e| panic!("{e}"))
}

fn step(sampler: &Sampler, s: Settings) {
    sampler.step(s).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn greedy_takes_the_first_of_equals() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        run_check(sample::greedy(&mut checker));
        assert_passes(checker);
    }
}

#[test]
fn draws_follow_the_reference() {
    for tuning in tunings() {
        for vocab in [131, 1, 63, 64, 257, 7] {
            let mut checker = checker(tuning.clone());
            run_check(sample::draws(&mut checker, vocab, 200));
            assert_passes(checker);
        }
    }
}

/// Vocabularies of fewer and of more tokens than one thread of lavapipe can loop over, and one that no share divides.
#[test]
fn large_vocabularies_are_sampled_to_their_end() {
    for tuning in tunings() {
        for vocab in [4099, 49_152, 70_001, 151_936, 151_937] {
            let mut checker = checker(tuning.clone());
            run_check(sample::draws(&mut checker, vocab, 3));
            assert_passes(checker);
        }
    }
}

/// Equal logits at the borders of the shares of the vocabulary, and in all of it: the first one is taken.
#[test]
fn the_first_of_equals_in_large_vocabularies() {
    for tuning in tunings() {
        for vocab in [49_152_usize, 151_937] {
            // A GPU's first shares are vocab / 16 tokens long, rounded up.
            let share = vocab.div_ceil(16);
            let tied =
                [vec![share - 1, share], vec![share, vocab - 1], vec![vocab - 2, vocab - 1], vec![vocab - 1], vec![0, vocab - 1]];
            let mut logits = random(vocab * (tied.len() + 1), 8);
            tied.iter().enumerate().for_each(|(row, at)| at.iter().for_each(|j| logits[row * vocab + j] = 9.5));
            logits[tied.len() * vocab..].iter_mut().for_each(|z| *z = -3.0);
            let expected: Vec<usize> = tied.iter().map(|at| at[0]).chain([0]).collect();
            let sampler = sampler(&tuning, &logits, vocab, 1, &vec![0; expected.len()], &vec![4; expected.len()]);
            step(&sampler, Settings { temperature: 0.0, ..ALL });
            let history = pollster::block_on(sampler.history()).unwrap_or_else(|e| panic!("{e}"));
            let tokens: Vec<usize> = history.iter().map(|draws| draws[0].0).collect();
            assert_eq!(tokens, expected, "{vocab} tokens");
        }
    }
}

/// All of the mass in two tokens that are far apart: the uniform number decides between them, and nothing else is drawn.
#[test]
fn the_mass_may_lie_in_two_tokens() {
    let (vocab, rows) = (151_937, 24);
    for tuning in tunings() {
        let mut one = vec![-200.0; vocab];
        (one[17], one[vocab - 1]) = (5.0, 5.0);
        let streams: Vec<u32> = (0..rows as u32).collect();
        let make = || {
            let sampler = sampler(&tuning, &one.repeat(rows), vocab, 1, &streams, &vec![3; rows]);
            step(&sampler, ALL);
            sampler
        };
        let first = make();
        let history = pollster::block_on(first.history()).unwrap_or_else(|e| panic!("{e}"));
        for (row, draws) in history.iter().enumerate() {
            let u = jurist::reference::sample::uniform([0x1234_5678, 0x9abc_def0], [streams[row], 3]);
            assert_eq!(draws[0].0, if u < 0.5 { 17 } else { vocab - 1 }, "u = {u}");
        }
        assert_eq!(first.built.words(first.drawn), make().built.words(first.drawn), "a run repeats to the bit");
    }
}

/// Chi-square of the tokens drawn against the softmax, 4,000 draws.
#[test]
fn frequencies_are_the_probabilities() {
    for tuning in tunings() {
        let (vocab, rows, steps) = (17, 200, 20);
        let one = random(vocab, 5);
        let streams: Vec<u32> = (0..rows as u32).collect();
        let sampler = sampler(&tuning, &one.repeat(rows), vocab, steps, &streams, &vec![100; rows]);
        let s = Settings { temperature: 1.2, ..ALL };
        (0..steps).for_each(|_| step(&sampler, s));
        let mut counts = vec![0.0; vocab];
        pollster::block_on(sampler.history())
            .unwrap_or_else(|e| panic!("{e}"))
            .iter()
            .flatten()
            .for_each(|(token, _)| counts[*token] += 1.0);
        let log_p = log_softmax(&one.iter().map(|z| z / s.temperature).collect::<Vec<_>>());
        let draws = (rows * steps) as f64;
        let chi: f64 = counts.iter().zip(&log_p).map(|(n, l)| (n - draws * l.exp()).powi(2) / (draws * l.exp())).sum();
        println!("chi-square {chi:.1} with {} degrees of freedom", vocab - 1);
        // The 1e-4 quantile of chi-square with 16 degrees of freedom.
        assert!(chi < 45.9, "chi-square {chi}");
    }
}

/// Rows of one batch may draw as they like: each draws what it draws where all draw so.
#[test]
fn rows_have_settings_of_their_own() {
    let (vocab, rows) = (131, 40);
    let settings = [
        Settings { temperature: 0.0, ..ALL },
        ALL,
        Settings { temperature: 0.7, top_k: 9, ..ALL },
        Settings { temperature: 1.4, top_p: 0.6, ..ALL },
        Settings { temperature: 0.0, top_k: 3, top_p: 0.5 },
    ];
    for tuning in tunings() {
        let logits = random(vocab * rows, 6);
        let streams: Vec<u32> = (0..rows as u32).collect();
        let make = || sampler(&tuning, &logits, vocab, 1, &streams, &vec![7; rows]);
        let mixed = make();
        let of_rows: Vec<Settings> = (0..rows).map(|row| settings[row % settings.len()]).collect();
        mixed.step_rows(&of_rows).unwrap_or_else(|e| panic!("{e}"));
        let found = mixed.built.words(mixed.drawn);
        for (n, own) in settings.into_iter().enumerate() {
            let same = make();
            step(&same, own);
            let expected = same.built.words(same.drawn);
            for row in (n..rows).step_by(settings.len()) {
                assert_eq!(found[row * 2..][..2], expected[row * 2..][..2], "row {row}: {own:?}");
            }
        }
    }
}

/// A draw depends on the row's own logits, stream and position, not on its index in the batch or on its neighbours.
#[test]
fn neighbours_do_not_matter() {
    let vocab = 131;
    for tuning in tunings() {
        let own = random(vocab, 3);
        let alone = sampler(&tuning, &own, vocab, 8, &[42], &[9]);
        let logits = [random(vocab * 70, 4), own, random(vocab * 3, 5)].concat();
        let mut streams: Vec<u32> = (1000..1074).collect();
        streams[70] = 42;
        let among = sampler(&tuning, &logits, vocab, 8, &streams, &[9; 74]);
        let s = Settings { temperature: 0.9, top_k: 50, top_p: 0.95 };
        (0..8).for_each(|_| {
            step(&alone, s);
            step(&among, s);
        });
        let words = |s: &Sampler, row: usize| s.built.words(s.drawn)[row * 16..(row + 1) * 16].to_vec();
        assert_eq!(words(&alone, 0), words(&among, 70));
        assert_ne!(words(&alone, 0), words(&among, 69));
    }
}
