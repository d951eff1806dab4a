//! The loss head: statistics of each row and gradients of every objective, in chunks with a remainder.

use jurist::gpu::Extent;
use jurist::judge::{Expectation, Scale};
use jurist::ops::loss_head::{self, Logits, LossGradient, LossHead, STATS, TokenLoss};
use jurist::ops::matrix::{FullChunk, Matrix};
use jurist::ops::weight_dtype::WeightDtype;
use jurist::reference::loss_head as reference;
use jurist::selftest::kernels::loss_head::{self as check, CHUNKS, Case, Row, SCALE, VOCAB, WHOLE, objectives, packed};
use jurist::selftest::stored::Stored;
use jurist::train::objective::reward::{Label, RewardSettings};

use crate::common::*;

#[test]
fn every_objective_in_chunks() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        let mut run = |rows: Vec<Row>, planned, chunk, width, steepness| {
            run_check(check::head(&mut checker, Case { rows, planned, chunk, width, steepness, table: WHOLE }));
        };
        for (planned, chunk, width) in [(14, 4, 6), (14, 14, 8), (17, 3, 16), (14, 1, 5)] {
            run(objectives(), planned, chunk, width, 1.0);
        }
        run(objectives(), 14, 8, 16, 6.0);
        run(objectives()[3..4].to_vec(), 9, 4, 8, 1.0);
        run(Vec::new(), 9, 4, 8, 1.0);
        assert_passes(checker);
    }
}

/// Vocabularies that are a little more than a turn of a GPU's threads, and those of more tokens than one thread of lavapipe can
/// loop over, in one chunk and in several.
#[test]
fn large_vocabularies_are_summed_to_their_end() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for cuts in [&[257][..], &[2049], &[40_009], &[49_152], &[70_000], &[151_936], &[50_656, 50_656, 50_624]] {
            let table = Stored { dtype: WeightDtype::F32, cuts };
            run_check(check::head(
                &mut checker,
                Case { rows: objectives(), planned: 14, chunk: 4, width: 8, steepness: 1.0, table },
            ));
        }
        assert_passes(checker);
    }
}

/// Given logits of a number of tokens that no turn divides: the same statistics, to the bit, in every run.
#[test]
fn statistics_of_large_vocabularies_repeat_to_the_bit() {
    let rows = 3;
    for tuning in tunings() {
        for vocab in [1_usize, 63, 151_937] {
            let z: Vec<f64> = random(vocab * rows, 4).iter().map(|z| f64::from(*z as f32)).collect();
            let token = |row: usize| row * 70_000 % vocab;
            let run = || {
                let mut test = TestPlan::new(&tuning);
                let logits = test.floats("logits", &z);
                let losses: Vec<TokenLoss> = (0..rows).map(|row| TokenLoss::token(token(row) as u32, 1.0)).collect();
                let losses = test.words("losses", bytemuck::cast_slice(&losses));
                let (score_tokens, stats) = (test.words("score tokens", &[0]), test.output("stats", rows * (STATS + 1)));
                let (count, vocab) = (Extent::fixed(rows as u32), vocab as u32);
                let tensors = Logits { logits, rows: losses, score_tokens, stats, count, vocab, scores: 1 };
                loss_head::record_statistics(&mut test.plan, &tensors);
                let built = test.run();
                (built.words(stats), built.floats(stats))
            };
            let (words, found) = run();
            assert_eq!(words, run().0);
            for row in 0..rows {
                let log_p = reference::log_softmax(&z[row * vocab..][..vocab]);
                let entropy: f64 = -log_p.iter().map(|l| l.exp() * l).sum::<f64>();
                let expected = [z[row * vocab] - log_p[0], log_p[token(row)], entropy, log_p[0]];
                assert_close("statistics", &found[row * (STATS + 1)..][..STATS + 1], &expected, FORWARD_TOLERANCE);
            }
        }
    }
}

/// Tables in chunks, and packed tables, which the backward pass decodes again. The gradient has the chunks of the table.
#[test]
fn tables_in_chunks_and_packed() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for dtype in [WeightDtype::F32, WeightDtype::Q8, WeightDtype::Q4, WeightDtype::Bf16, WeightDtype::F16] {
            for cuts in [&CHUNKS[..], &[37, 1, 93], WHOLE.cuts] {
                let table = Stored { dtype, cuts };
                run_check(check::head(
                    &mut checker,
                    Case { rows: objectives(), planned: 14, chunk: 4, width: 32, steepness: 1.0, table },
                ));
            }
        }
        let table = Stored { dtype: WeightDtype::F32, cuts: &CHUNKS };
        run_check(check::head(&mut checker, Case { rows: objectives(), planned: 14, chunk: 1, width: 5, steepness: 1.0, table }));
        assert_passes(checker);
    }
}

/// Score tokens of nearly no probability: the full expectation is near 0, and the renormalised one is still precise.
#[test]
fn scores_with_little_mass() {
    for tuning in tunings() {
        let mut table = vec![0.0; VOCAB as usize];
        SCALE.iter().enumerate().for_each(|(k, (token, _))| table[*token as usize] = -30.0 + k as f64 * 0.5);
        table[64] = 8.0;
        // The coefficients of a squared error, as training derives them from the statistics.
        let log_p = reference::log_softmax(&table);
        let scale = Scale::new(SCALE.map(|s| s.0.to_string()).into(), SCALE.map(|s| s.1).into()).unwrap();
        let label = scale.split(2.0).unwrap();
        let row = |expectation| {
            let reward = RewardSettings { expectation, squared: 1.0, ..RewardSettings::NONE };
            let gradient = reward.gradient(&scale, &SCALE.map(|s| log_p[s.0 as usize]), Label { split: &label, value: 2.0 });
            Row { scores: Some(std::array::from_fn(|k| gradient[k] as f32)), ..Row::default() }
        };
        let (rows, coefficients) = packed(&[row(Expectation::Renormalised), row(Expectation::FullVocabulary)]);
        let mut test = TestPlan::new(&tuning);
        let (hidden, gtable) = (test.floats("hidden", &[1.0, 1.0]), test.floats("table", &table));
        let grows = test.words("objectives", bytemuck::cast_slice(&rows));
        let score_tokens = test.words("score tokens", &SCALE.map(|s| s.0));
        let coefficients = test.floats("score coefficients", &coefficients);
        let (stats, dhidden) = (test.output("stats", 2 * (STATS + 5)), test.output("dhidden", 2));
        let count = Extent::fixed(2);
        let dtable = test.floats("dtable", &vec![0.0; VOCAB as usize]);
        let (width, vocab, scores, chunk) = (1, VOCAB, 5, 1);
        let (matrix, dtable) = (Matrix::full(gtable, VOCAB), Some(vec![FullChunk { rows: VOCAB, tensor: dtable }]));
        let head = LossHead { hidden, table: matrix, rows: grows, score_tokens, stats, count, width, vocab, scores, chunk };
        loss_head::record(&mut test.plan, head, Some(LossGradient { coefficients, dhidden, dtable }));
        let built = test.run();
        let expected: Vec<f64> =
            [reference::squared_error_renormalised(&table, &SCALE, 2.0), reference::squared_error_full(&table, &SCALE, 2.0)]
                .iter()
                .map(|loss| dot(&loss.gradient(&table), &table))
                .collect();
        assert_close("loss head, renormalised, little mass", &built.floats(dhidden)[..1], &expected[..1], BACKWARD_TOLERANCE);
        let (found, expected) = (built.floats(dhidden)[1], expected[1]);
        assert!((found - expected).abs() < 1e-9, "full expectation, little mass: {found}, expected {expected}");
    }
}
