//! Simulated people: they misread some criteria and round with noise.

use super::Verdict;
use crate::random::Stream;

/// An annotator perceives a criterion wrongly with this probability.
const MISREAD: f64 = 0.07;
/// The teacher flips each verdict of the annotator once more with this probability when writing the chain.
const MISWRITTEN: f64 = 0.08;
/// Standard deviations of two independent noises on the score before rounding: the annotator's leniency, and the moment.
const LENIENCY: f64 = 0.2;
const MOMENT: f64 = 0.3;

/// What one annotator makes of an item.
pub struct Opinion {
    perceived: Vec<bool>,
    /// 1..=5.
    pub score: u8,
}

impl Opinion {
    /// A fresh annotator reads an item with these true verdicts.
    pub fn draw(verdicts: &[Verdict], stream: &mut Stream) -> Self {
        let perceived: Vec<bool> = verdicts.iter().map(|v| v.met ^ stream.chance(MISREAD)).collect();
        let noise = LENIENCY * stream.normal() + MOMENT * stream.normal();
        let exact = 1.0 + 4.0 * quality(verdicts, perceived.iter().copied()) + noise;
        Opinion { perceived, score: exact.round().clamp(1.0, 5.0) as u8 }
    }

    /// The verdicts a teacher writes down for this opinion: the perceived ones, some flipped. The training chain therefore
    /// leaks its own annotator's errors, as rationales written by a labelling model do. What a teacher quotes, it quotes
    /// right.
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

/// Mean score of `count` fresh annotators.
pub fn mean_score(verdicts: &[Verdict], count: usize, stream: &mut Stream) -> f64 {
    let total: f64 = (0..count).map(|_| f64::from(Opinion::draw(verdicts, stream).score)).sum();
    total / count as f64
}
