//! Simulated annotators: they misread some criteria and round with noise.

use super::{ScoreScale, Verdict};
use crate::random::Stream;

/// Probability that an annotator misreads a criterion.
const MISREAD: f64 = 0.07;
/// Probability that the teacher flips a verdict of the annotator when writing the chain.
const MISWRITTEN: f64 = 0.08;
/// Standard deviations of two independent noise terms on the score before rounding: one per annotator, one per reading. In
/// quarters of the scale's width, so that a finer scale shows more of the same noise.
const ANNOTATOR_NOISE: f64 = 0.2;
const READING_NOISE: f64 = 0.3;

/// One annotator's reading of an item.
pub struct Annotation {
    perceived: Vec<bool>,
    /// A score of the scale.
    pub score: u8,
}

impl Annotation {
    /// A new annotator reads an item with these true verdicts.
    pub fn draw(verdicts: &[Verdict], scale: ScoreScale, stream: &mut Stream) -> Self {
        let perceived: Vec<bool> = verdicts.iter().map(|v| v.met ^ stream.chance(MISREAD)).collect();
        let noise = ANNOTATOR_NOISE * stream.normal() + READING_NOISE * stream.normal();
        let quarters = 4.0 * quality(verdicts, perceived.iter().copied()) + noise;
        Annotation { perceived, score: scale.nearest(quarters) }
    }

    /// The verdicts that a teacher writes down for this annotation: the perceived ones, some flipped. The training chain therefore
    /// shows its annotator's errors, as rationales written by a labelling model do. Quotes have no errors.
    pub fn written_down(&self, stream: &mut Stream) -> Vec<bool> {
        self.perceived.iter().map(|&p| p ^ stream.chance(MISWRITTEN)).collect()
    }
}

/// Satisfied weight / total weight.
pub fn quality(verdicts: &[Verdict], met: impl Iterator<Item = bool>) -> f64 {
    let total: u32 = verdicts.iter().map(|v| u32::from(v.weight)).sum();
    let satisfied: u32 = verdicts.iter().zip(met).filter(|(_, met)| *met).map(|(v, _)| u32::from(v.weight)).sum();
    f64::from(satisfied) / f64::from(total)
}

/// Mean score of `count` new annotators.
pub fn mean_score(verdicts: &[Verdict], scale: ScoreScale, count: usize, stream: &mut Stream) -> f64 {
    let total: f64 = (0..count).map(|_| f64::from(Annotation::draw(verdicts, scale, stream).score)).sum();
    total / count as f64
}
