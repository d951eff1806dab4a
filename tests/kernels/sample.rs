//! Sampling: which tokens are kept, how often each is drawn, which log-probability is reported.

use jurist::gpu::{Live, Size, Tensor, Tuning};
use jurist::ops::sample::{self, Rows, Sampling};
use jurist::random::threefry2x32;
use jurist::reference::loss::log_softmax;
use jurist::reference::sample::{Sampling as Spec, greedy};

use crate::common::*;

const KEY: [u32; 2] = [0x1234_5678, 0x9abc_def0];

/// A sampler of `rows` rows whose settings are given with each run.
struct Sampler {
    ran: Ran,
    place: Tensor,
    ids: Tensor,
    streams: Tensor,
    drawn: Tensor,
    rows: usize,
    history: usize,
}

/// `streams[r]` is the random stream of row r; row r's position is `positions[r]`.
fn sampler(tuning: &Tuning, logits: &[f64], vocab: usize, history: usize, streams: &[u32], positions: &[u32]) -> Sampler {
    let rows = streams.len();
    let mut rig = Rig::new(tuning);
    let live: [Live; 6] = std::array::from_fn(|_| rig.live(0));
    let glogits = rig.floats("logits", logits);
    let places: Vec<u32> = positions.iter().flat_map(|p| [11, *p, 12, 13]).collect();
    let place = rig.words("place", &places);
    let ids = rig.words("ids", &vec![u32::MAX; rows]);
    let gstreams = rig.words("streams", &streams.iter().flat_map(|s| [*s, 0]).collect::<Vec<u32>>());
    let drawn = rig.words("drawn", &vec![u32::MAX; rows * history * 2]);
    let settings = Sampling { temperature: live[0], top_p: live[1], top_k: live[2], key: [live[3], live[4]] };
    let count = Size::live(live[5], rows as u32);
    let tensors =
        Rows { logits: glogits, place, ids, streams: gstreams, drawn, count, vocab: vocab as u32, history: history as u32 };
    sample::next(&mut rig.plan, tensors, settings);
    let ran = rig.build(&gpu()).unwrap_or_else(|e| panic!("{e}"));
    Sampler { ran, place, ids, streams: gstreams, drawn, rows, history }
}

impl Sampler {
    fn step(&self, s: Spec) {
        let live =
            [(s.temperature as f32).to_bits(), (s.top_p as f32).to_bits(), s.top_k as u32, KEY[0], KEY[1], self.rows as u32];
        self.ran.run_with(&live);
    }

    /// Token and log-prob of row `r`'s draws.
    fn history(&self) -> Vec<Vec<(usize, f64)>> {
        let words = self.ran.words(self.drawn);
        let pair = |w: &[u32]| (w[0] as usize, f64::from(f32::from_bits(w[1])));
        words.chunks(2 * self.history).map(|row| row.chunks(2).map(pair).collect()).collect()
    }
}

/// The uniform number of a stream at a position.
fn uniform(stream: u32, position: u32) -> f64 {
    f64::from(threefry2x32(KEY, [stream, position])[0] >> 8) / f64::from(1 << 24)
}

const ALL: Spec = Spec { temperature: 1.0, top_k: 0, top_p: 1.0 };

#[test]
fn greedy_takes_the_first_of_equals() {
    for tuning in tunings() {
        let (vocab, rows) = (131, 6);
        let mut logits = random(vocab * rows, 1);
        for (row, tied) in [(0, vec![130]), (1, vec![0, 130]), (2, vec![63, 64]), (3, vec![2, 3, 128]), (4, vec![129, 130])] {
            tied.iter().for_each(|j| logits[row * vocab + j] = 9.5);
        }
        // All below zero, and equal.
        logits[5 * vocab..].iter_mut().for_each(|z| *z = -3.0);
        let sampler = sampler(&tuning, &logits, vocab, 2, &[0; 6], &[4; 6]);
        let settings = Spec { temperature: 0.0, top_k: 3, top_p: 0.5 };
        sampler.step(settings);
        sampler.step(settings);
        let expected: Vec<usize> = logits.chunks(vocab).map(greedy).collect();
        assert_eq!(expected, [130, 0, 63, 2, 129, 0]);
        for (row, draws) in sampler.history().iter().enumerate() {
            let log_p = log_softmax(&logits[row * vocab..][..vocab])[expected[row]];
            for (token, found) in draws {
                assert_eq!(*token, expected[row], "row {row}");
                assert!((found - log_p).abs() < 2e-5, "row {row}: log-prob {found}, expected {log_p}");
            }
        }
        // The row moved on by two positions; the token is the next step's input; the history holds no third.
        sampler.step(settings);
        assert_eq!(
            sampler.ran.words(sampler.place).chunks(4).map(|p| p.to_vec()).collect::<Vec<_>>(),
            vec![vec![11, 7, 12, 13]; 6]
        );
        assert_eq!(sampler.ran.words(sampler.ids), expected.iter().map(|t| *t as u32).collect::<Vec<_>>());
        assert!(sampler.ran.words(sampler.streams).chunks(2).all(|s| s[1] == 3));
    }
}

/// Each draw is the token that the specification draws with the same uniform number, whatever is kept. At a border of
/// two tokens' shares, rounding may choose the neighbour.
#[test]
fn draws_follow_the_specification() {
    let settings = [
        ALL,
        Spec { temperature: 0.3, ..ALL },
        Spec { temperature: 2.5, ..ALL },
        Spec { top_k: 1, ..ALL },
        Spec { top_k: 7, ..ALL },
        Spec { top_k: 500, ..ALL },
        Spec { top_p: 0.0, ..ALL },
        Spec { top_p: 0.05, ..ALL },
        Spec { top_p: 0.6, ..ALL },
        Spec { top_p: 0.999, temperature: 0.8, ..ALL },
        // Of the mass of the survivors: 0.5 of the mass of the 20 most likely.
        Spec { top_p: 0.5, top_k: 20, temperature: 1.3 },
    ];
    for tuning in tunings() {
        for vocab in [131, 1, 64, 7] {
            let rows = 200;
            let mut one = random(vocab, 7);
            if vocab > 10 {
                one[3] = one[9]; // a tie
            }
            let logits = one.repeat(rows);
            let streams: Vec<u32> = (0..rows as u32).map(|r| r * 3 + 1).collect();
            let positions: Vec<u32> = (0..rows as u32).map(|r| r % 50).collect();
            let sampler = sampler(&tuning, &logits, vocab, settings.len(), &streams, &positions);
            for s in settings {
                sampler.step(s);
            }
            let history = sampler.history();
            let mut neighbours = 0;
            for (n, s) in settings.iter().enumerate() {
                let log_p = log_softmax(&one.iter().map(|z| z / s.temperature).collect::<Vec<_>>());
                for (row, draws) in history.iter().enumerate() {
                    let (token, found) = draws[n];
                    let u = uniform(streams[row], positions[row] + n as u32);
                    let expected = s.draw(&one, u);
                    let near = [-1e-5, 1e-5].map(|by| s.draw(&one, (u + by).clamp(0.0, 1.0 - 1e-9)).token);
                    assert!(
                        token == expected.token || near.contains(&token),
                        "{s:?}, vocab {vocab}, row {row}, u {u}: {token}, expected {}",
                        expected.token
                    );
                    neighbours += usize::from(token != expected.token);
                    assert!((found - log_p[token]).abs() < 2e-5, "{s:?}: log-prob {found}, expected {}", log_p[token]);
                }
            }
            assert!(neighbours <= 2, "{neighbours} draws beside the specification's");
        }
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
        let s = Spec { temperature: 1.2, ..ALL };
        (0..steps).for_each(|_| sampler.step(s));
        let mut counts = vec![0.0; vocab];
        sampler.history().iter().flatten().for_each(|(token, _)| counts[*token] += 1.0);
        let log_p = log_softmax(&one.iter().map(|z| z / s.temperature).collect::<Vec<_>>());
        let draws = (rows * steps) as f64;
        let chi: f64 = counts.iter().zip(&log_p).map(|(n, l)| (n - draws * l.exp()).powi(2) / (draws * l.exp())).sum();
        println!("chi-square {chi:.1} with {} degrees of freedom", vocab - 1);
        // The 1e-4 quantile of chi-square with 16 degrees of freedom.
        assert!(chi < 45.9, "chi-square {chi}");
    }
}

/// What a row draws depends on its own logits, stream and position, not on its place in the batch or on its neighbours.
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
        let s = Spec { temperature: 0.9, top_k: 50, top_p: 0.95 };
        (0..8).for_each(|_| {
            alone.step(s);
            among.step(s);
        });
        let words = |s: &Sampler, row: usize| s.ran.words(s.drawn)[row * 16..(row + 1) * 16].to_vec();
        assert_eq!(words(&alone, 0), words(&among, 70));
        assert_ne!(words(&alone, 0), words(&among, 69));
    }
}
