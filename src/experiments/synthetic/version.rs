//! The versions of the task: how prompts and chains are written, and on which scale annotators score.

use super::SyntheticTaskError;

/// A version of the task. A finer scale has the items of the same grammar, prompt for prompt: only the scores differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskVersion {
    /// How prompts and chains are written.
    pub grammar: Grammar,
    /// What annotators score on.
    pub scale: ScoreScale,
}

/// How prompts and chains are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// One segment says whether a criterion is met. `E` in files.
    Base,
    /// A third of the criteria are first described the wrong way round, then corrected after `but`. `H` in files.
    Hard,
    /// The items of `Hard` with the same labels, and chains that are 3.3 times as long. For each criterion the teacher writes its
    /// weight, what the response says of it, and then the verdict. `Q` in files.
    ///
    /// For example:
    ///
    /// ```text
    /// clarity major wording weak , but phrasing not poor ok tone minor voice weak bad safety plain not here bad
    /// ```
    Quoting,
    /// As `Base`, but training, validation, test and OOD-3 have rubrics of three to seven criteria, each length as often as
    /// another. So the chains of OOD-2 are no longer than those seen in training. `L` in files.
    AllLengths,
}

/// The scores that annotators choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreScale {
    /// 1, 2, 3, 4, 5.
    OneToFive,
    /// 1, 2, … 10.
    OneToTen,
    /// 0, 5, 10, … 100: 21 scores.
    ZeroToHundred,
}

impl TaskVersion {
    /// Version `E`.
    pub const BASE: TaskVersion = TaskVersion { grammar: Grammar::Base, scale: ScoreScale::OneToFive };
    /// Version `H`.
    pub const HARD: TaskVersion = TaskVersion { grammar: Grammar::Hard, scale: ScoreScale::OneToFive };
    /// Version `Q`.
    pub const QUOTING: TaskVersion = TaskVersion { grammar: Grammar::Quoting, scale: ScoreScale::OneToFive };

    /// Most tokens of a chain: more than the longest chain of a good judge.
    pub fn chain_limit(self) -> usize {
        match self.grammar {
            Grammar::Base | Grammar::Hard | Grammar::AllLengths => 20,
            Grammar::Quoting => 80,
        }
    }
}

impl std::str::FromStr for TaskVersion {
    type Err = SyntheticTaskError;

    fn from_str(name: &str) -> Result<Self, SyntheticTaskError> {
        let unknown = || SyntheticTaskError::UnknownVersion(name.to_string());
        let scale_at = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
        let grammar = match &name[..scale_at] {
            "e" | "E" => Grammar::Base,
            "h" | "H" => Grammar::Hard,
            "q" | "Q" => Grammar::Quoting,
            "l" | "L" => Grammar::AllLengths,
            _ => return Err(unknown()),
        };
        let scale = match &name[scale_at..] {
            "" => ScoreScale::OneToFive,
            "10" => ScoreScale::OneToTen,
            "100" => ScoreScale::ZeroToHundred,
            _ => return Err(unknown()),
        };
        Ok(TaskVersion { grammar, scale })
    }
}

impl Grammar {
    /// True if a response may describe a criterion wrongly first and correct itself.
    pub(super) fn corrects(self) -> bool {
        matches!(self, Grammar::Hard | Grammar::Quoting)
    }
}

impl ScoreScale {
    /// The lowest and highest score and the step between two.
    fn range(self) -> (u8, u8, u8) {
        match self {
            ScoreScale::OneToFive => (1, 5, 1),
            ScoreScale::OneToTen => (1, 10, 1),
            ScoreScale::ZeroToHundred => (0, 100, 5),
        }
    }

    /// The score texts, lowest first.
    pub fn texts(self) -> &'static [&'static str] {
        match self {
            ScoreScale::OneToFive => &["1", "2", "3", "4", "5"],
            ScoreScale::OneToTen => &["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
            ScoreScale::ZeroToHundred => &[
                "0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50", "55", "60", "65", "70", "75", "80", "85", "90",
                "95", "100",
            ],
        }
    }

    /// The difference of the highest and the lowest score.
    pub fn width(self) -> f64 {
        let (low, high, _) = self.range();
        f64::from(high - low)
    }

    /// The setting `scale` of a judge that scores so, for example `0..100:5`.
    pub fn setting(self) -> String {
        let (low, high, step) = self.range();
        if step == 1 { format!("{low}..{high}") } else { format!("{low}..{high}:{step}") }
    }

    /// The score nearest to a position above the lowest score, given in quarters of the width.
    pub(super) fn nearest(self, quarters: f64) -> u8 {
        let (low, high, step) = self.range();
        let steps = quarters * self.width() / 4.0 / f64::from(step);
        let most = f64::from((high - low) / step);
        low + steps.round().clamp(0.0, most) as u8 * step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_grammar_and_scale() {
        assert_eq!("E".parse::<TaskVersion>().unwrap(), TaskVersion::BASE);
        assert_eq!("h".parse::<TaskVersion>().unwrap(), TaskVersion::HARD);
        let fine = TaskVersion { grammar: Grammar::Hard, scale: ScoreScale::ZeroToHundred };
        assert_eq!("H100".parse::<TaskVersion>().unwrap(), fine);
        for unknown in ["", "X", "E7", "10", "E10x", "HH"] {
            assert!(unknown.parse::<TaskVersion>().is_err(), "{unknown}");
        }
    }

    #[test]
    fn settings_give_the_scores() {
        for scale in [ScoreScale::OneToFive, ScoreScale::OneToTen, ScoreScale::ZeroToHundred] {
            let parsed: crate::judge::Scale = scale.setting().parse().unwrap();
            assert_eq!(parsed.texts(), scale.texts());
            assert_eq!((scale.nearest(-9.0), scale.nearest(9.0)), (scale.range().0, scale.range().1));
        }
        // Halves round away from zero, as they always did on 1..5.
        assert_eq!([0.4, 0.5, 3.49].map(|q| ScoreScale::OneToFive.nearest(q)), [1, 2, 4]);
        assert_eq!([0.4, 2.0, 3.5].map(|q| ScoreScale::ZeroToHundred.nearest(q)), [10, 50, 90]);
    }
}
