//! The 97 words of the synthetic task, in the order of their token ids, and the scores of finer scales behind them.

use super::ScoreScale;

/// Names of the eight criteria a rubric can ask for.
pub const CRITERIA: [&str; 8] = ["accuracy", "clarity", "depth", "tone", "structure", "evidence", "brevity", "safety"];

/// Words for the weights 1, 2, 3 of a criterion.
pub const WEIGHTS: [&str; 3] = ["minor", "plain", "major"];

/// Five words for each criterion: the first three are common, the last two rare.
pub const TOPICS: [[&str; 5]; 8] = [
    ["facts", "figures", "dates", "quotes", "sums"],
    ["wording", "sentences", "phrasing", "syntax", "diction"],
    ["analysis", "detail", "reasoning", "nuance", "insight"],
    ["manner", "voice", "attitude", "register", "warmth"],
    ["layout", "order", "sections", "headings", "outline"],
    ["sources", "citations", "references", "footnotes", "proof"],
    ["length", "pace", "economy", "concision", "size"],
    ["warnings", "advice", "precautions", "disclaimers", "caveats"],
];

/// Topics that belong to no criterion.
pub const OFF_TOPIC: [&str; 6] = ["weather", "lunch", "music", "traffic", "football", "gossip"];

/// Praise: the first six are common, the last two rare.
pub const PRAISE: [&str; 8] = ["good", "strong", "excellent", "solid", "fine", "great", "superb", "stellar"];

/// Blame: the first six are common, the last two rare.
pub const BLAME: [&str; 8] = ["weak", "poor", "wrong", "awful", "sloppy", "faulty", "dismal", "shoddy"];

/// Words without a meaning of their own. Only "here" is used: the chains of the quoting version say "not here" of a criterion
/// that the response does not mention. The others are spare token ids.
const FILLERS: [&str; 8] = ["the", "a", "of", "and", "really", "quite", "here", "also"];

/// The phrase after which a judge writes its score.
pub const SCORE_PHRASE: &str = "score";

/// The scores 1 to 5, which every vocabulary has.
const SCORES: [&str; 5] = ["1", "2", "3", "4", "5"];

/// Padding, the first word of the vocabulary.
pub const PAD: &str = "<pad>";

/// Beginning of a sequence, the second word. The tokenizer adds it; prompts do not contain it.
pub const BOS: &str = "<bos>";

/// All words; the index of a word is its token id. With scores 1 to 5 there are 97; other scores come after them.
pub fn vocabulary(scale: ScoreScale) -> Vec<&'static str> {
    let mut words = vec![PAD, BOS, "rubric", "response", "judge", SCORE_PHRASE, "ok", "bad", "not", ",", "but"];
    words.extend(SCORES);
    words.extend(CRITERIA);
    words.extend(WEIGHTS);
    words.extend(TOPICS.as_flattened());
    words.extend(OFF_TOPIC);
    words.extend(PRAISE);
    words.extend(BLAME);
    words.extend(FILLERS);
    words.extend(scale.texts().iter().filter(|text| !SCORES.contains(text)));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ninety_seven_different_words() {
        let words = vocabulary(ScoreScale::OneToFive);
        assert_eq!(words.len(), 97);
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), 97);
        assert!(words.iter().all(|w| !w.contains(char::is_whitespace)));
        assert_eq!((words[0], words[1]), (PAD, BOS));
    }

    #[test]
    fn finer_scales_add_their_scores_at_the_end() {
        for (scale, added) in [(ScoreScale::OneToTen, 5), (ScoreScale::ZeroToHundred, 20)] {
            let words = vocabulary(scale);
            assert_eq!(words.len(), 97 + added);
            assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
            assert_eq!(words[..97], vocabulary(ScoreScale::OneToFive));
            assert!(scale.texts().iter().all(|text| words.contains(text)));
        }
    }
}
