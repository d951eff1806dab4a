//! The grid of scores, and the token of each score as the model's own tokenizer writes it in context.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{JudgeError, Result};
use crate::text::Tokenizer;

/// Labels this much outside the scale, as a share of its width, are rounding and count as its end.
const ROUNDING: f64 = 1e-9;
/// More scores than any tokenizer has sensible single tokens for.
const LARGEST: usize = 1000;

/// A list of scores: the text generated for each, and the number it stands for. In any order.
///
/// Written as texts, or as texts and values: `1..5`; `0,1,2,3,4=0,0.25,0.5,0.75,1`; `0..4=0..1` (values evenly spaced from
/// 0 to 1); `bad,fair,good=0,1,2`. Texts that are numbers are their own values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scale {
    texts: Vec<String>,
    values: Vec<f64>,
    /// Indices of the scores by rising value.
    order: Vec<usize>,
}

/// A label on the scale: the scores next to it, and how much of it belongs to each (linear in the distance).
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// One score with weight 1 on a grid point, two between grid points; `(index, weight)`, weights sum to 1.
    pub weights: Vec<(usize, f64)>,
    /// The nearest score; half way, the one of larger value.
    pub nearest: usize,
}

impl Scale {
    /// A scale from its texts and values.
    ///
    /// # Errors
    /// Fewer than two scores, lists of different length, texts that are blank or equal, values that are not finite or equal.
    pub fn new(texts: Vec<String>, values: Vec<f64>) -> Result<Self> {
        let spec = || render(&texts, &values);
        let fail = |found: String, fix: &str| Err(JudgeError::Scale { spec: spec(), found, fix: fix.into() });
        if texts.len() != values.len() {
            return fail(format!("{} texts and {} values", texts.len(), values.len()), "give one value for each text");
        }
        if texts.len() < 2 {
            return fail(format!("{} score", texts.len()), "a scale needs at least two, such as 1..5");
        }
        for (i, (text, value)) in texts.iter().zip(&values).enumerate() {
            if text.trim().is_empty() || text.trim() != text {
                return fail(format!("the text {text:?}"), "a score's text has no white space around it and is not empty");
            }
            if !value.is_finite() {
                return fail(format!("the value {value} of `{text}`"), "values must be finite");
            }
            if texts[..i].contains(text) {
                return fail(format!("`{text}` is there twice"), "texts must differ");
            }
            if let Some(j) = values[..i].iter().position(|other| other == value) {
                return fail(format!("`{}` and `{text}` both stand for {value}", texts[j]), "values must differ");
            }
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        Ok(Scale { texts, values, order })
    }

    /// What is generated for each score.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// What each score stands for.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// How many scores there are; at least two.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Indices of the scores by rising value.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.values[self.order[0]]
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.values[self.order[self.len() - 1]]
    }

    /// Where a label lies (`algorithm.md` section 9): on a grid point, or between two, shared linearly.
    ///
    /// # Errors
    /// NaN and labels outside `[min, max]`.
    pub fn split(&self, label: f64) -> Result<Split> {
        let (min, max) = (self.min(), self.max());
        let slack = (max - min) * ROUNDING;
        // NaN is in no range.
        if !(min - slack..=max + slack).contains(&label) {
            return Err(JudgeError::Label { label, min, max });
        }
        let label = label.clamp(min, max);
        // The first score at or above the label; never the first of all unless the label is on it.
        let above = self.order.iter().position(|&i| self.values[i] >= label).unwrap_or(self.len() - 1);
        let upper = self.order[above];
        if above == 0 || self.values[upper] == label {
            return Ok(Split { weights: vec![(upper, 1.0)], nearest: upper });
        }
        let lower = self.order[above - 1];
        let share = (label - self.values[lower]) / (self.values[upper] - self.values[lower]);
        let nearest = if share >= 0.5 { upper } else { lower };
        Ok(Split { weights: vec![(lower, 1.0 - share), (upper, share)], nearest })
    }
}

impl FromStr for Scale {
    type Err = JudgeError;

    fn from_str(spec: &str) -> Result<Self> {
        let fail = |found: String, fix: &str| JudgeError::Scale { spec: spec.into(), found, fix: fix.into() };
        let (texts, values) = match spec.split_once('=') {
            Some((texts, values)) => (texts, Some(values)),
            None => (spec, None),
        };
        let texts = match texts.split_once("..") {
            Some((first, last)) => {
                let whole = |text: &str| {
                    let fix = "a range goes from one whole number to another, such as 1..5";
                    text.trim().parse::<i64>().map_err(|_| fail(format!("`{}` is no whole number", text.trim()), fix))
                };
                let (first, last) = (whole(first)?, whole(last)?);
                let count = last.checked_sub(first).and_then(|d| d.checked_add(1)).filter(|&n| n >= 2);
                match count {
                    Some(count) if count as u64 <= LARGEST as u64 => (first..=last).map(|n| n.to_string()).collect(),
                    Some(count) => return Err(fail(format!("{count} scores"), "a scale has at most 1000")),
                    None => {
                        return Err(fail(format!("{last} is not above {first}"), "write the smaller number first, as in 1..5"));
                    }
                }
            }
            None => texts.split(',').map(|text| text.trim().to_string()).collect::<Vec<_>>(),
        };
        let number =
            |text: &str, fix: &str| text.trim().parse::<f64>().map_err(|_| fail(format!("`{}` is no number", text.trim()), fix));
        let values = match values {
            None => {
                let fix = "give the values behind `=`, as in bad,fair,good=0,1,2";
                texts.iter().map(|text| number(text, fix)).collect::<Result<Vec<_>>>()?
            }
            Some(values) => match values.split_once("..") {
                Some((first, last)) => {
                    let fix = "values behind `=` are numbers: a list, or a range to space them evenly, as in 0..4=0..1";
                    let (first, last) = (number(first, fix)?, number(last, fix)?);
                    let steps = texts.len().max(2) - 1;
                    (0..texts.len()).map(|i| first + (last - first) * i as f64 / steps as f64).collect()
                }
                None => values.split(',').map(|v| number(v, "values behind `=` are numbers")).collect::<Result<_>>()?,
            },
        };
        // Say it with the words the user wrote.
        Scale::new(texts, values).map_err(|error| match error {
            JudgeError::Scale { found, fix, .. } => JudgeError::Scale { spec: spec.into(), found, fix },
            other => other,
        })
    }
}

impl TryFrom<String> for Scale {
    type Error = JudgeError;

    fn try_from(spec: String) -> Result<Self> {
        spec.parse()
    }
}

impl From<Scale> for String {
    fn from(scale: Scale) -> String {
        scale.to_string()
    }
}

/// In full, so that it parses back to the same scale: `1,2,3=1,2,3`.
impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.texts, &self.values))
    }
}

fn render(texts: &[String], values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(f64::to_string).collect();
    format!("{}={}", texts.join(","), values.join(","))
}

/// Ends of a chain of thought, for trying out whether the phrase keeps its tokens behind it.
const CHAIN_ENDS: [&str; 6] = [".", "!", ")", "\"", "", "7"];

/// The tokens that a score takes in context.
///
/// A judge's answer is chain, phrase, score. The score must be exactly one token, a different one for each score, and the
/// tokens before it (the *stem*: all of the phrase but a final space that the tokenizer writes into the score's token) must
/// not depend on which score follows. Then the model's next-token distribution behind the stem is the score distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreTokens {
    /// The token of each score, in the scale's order.
    pub ids: Vec<u32>,
    /// The phrase behind text: one space (unless the phrase brings its own white space), then the phrase.
    pub stem: Vec<u32>,
    /// The phrase at the start of an answer, or behind white space.
    pub opening: Vec<u32>,
    /// Ends of chains behind which the tokenizer would cut the text at other places than generation does. Harmless where
    /// the phrase is forced as tokens; worth knowing where a model is trained on text that was cut elsewhere.
    pub warnings: Vec<String>,
}

impl ScoreTokens {
    /// Finds the score tokens of `scale` behind `phrase`.
    ///
    /// A phrase that ends in a letter or digit gets a space before the score ("score" + "3" is not a word "score3").
    ///
    /// # Errors
    /// A score of several tokens (not supported yet), an unknown one, one whose token says something else, two scores with
    /// one token, scores whose token depends on what stands before the phrase.
    pub fn resolve(scale: &Scale, phrase: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let gap = if phrase.ends_with(char::is_alphanumeric) { " " } else { "" };
        let lead = if phrase.starts_with(char::is_whitespace) { "" } else { " " };
        let (stem, ids) = find(scale, &format!("{lead}{phrase}{gap}"), tokenizer)?;
        let (opening, opening_ids) = find(scale, &format!("{phrase}{gap}"), tokenizer)?;
        if let Some(i) = (0..ids.len()).find(|&i| ids[i] != opening_ids[i]) {
            return Err(JudgeError::ScoreToken {
                score: scale.texts[i].clone(),
                phrase: phrase.into(),
                found: format!(
                    "token {} at the start of an answer, but {} behind a chain of thought",
                    quote(&opening_ids[i..=i], tokenizer),
                    quote(&ids[i..=i], tokenizer)
                ),
                fix: "use a phrase that stands between them, such as \"So the overall score is \"".into(),
            });
        }
        let mut tokens = ScoreTokens { ids, stem, opening, warnings: Vec::new() };
        for end in CHAIN_ENDS {
            let chain = format!("The answer is good{end}");
            if !tokens.holds_behind(&chain, &format!("{lead}{phrase}{gap}"), scale, tokenizer)? {
                tokens
                    .warnings
                    .push(format!("behind a chain that ends in {:?}, the phrase {phrase:?} has other tokens", &chain[14..]));
            }
        }
        Ok(tokens)
    }

    /// The tokens to put before the score, by whether the text so far ends in white space (or is empty).
    pub fn stem_after(&self, ends_in_space: bool) -> &[u32] {
        if ends_in_space { &self.opening } else { &self.stem }
    }

    /// The index of the score whose token this is.
    pub fn index_of(&self, id: u32) -> Option<usize> {
        self.ids.iter().position(|&score| score == id)
    }

    /// Whether encoding chain, phrase and score as one text gives the chain's tokens, the stem and the score's token.
    fn holds_behind(&self, chain: &str, phrase: &str, scale: &Scale, tokenizer: &Tokenizer) -> Result<bool> {
        for (text, &id) in scale.texts.iter().zip(&self.ids) {
            let mut parts = tokenizer.encode_continuation(chain)?;
            parts.extend(&self.stem);
            parts.push(id);
            if tokenizer.encode_continuation(&format!("{chain}{phrase}{text}"))? != parts {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The stem and the score tokens behind exactly this text.
fn find(scale: &Scale, before: &str, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let fail = |i: usize, found: String, fix: &str| {
        Err(JudgeError::ScoreToken { score: scale.texts[i].clone(), phrase: before.into(), found, fix: fix.into() })
    };
    let encode = |text: &String| tokenizer.encode_continuation(&format!("{before}{text}"));
    let encodings = scale.texts.iter().map(encode).collect::<std::result::Result<Vec<_>, _>>()?;
    let common = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let first = &encodings[0];
    let stem_len = encodings.iter().map(|ids| common(first, ids)).min().unwrap_or(0);
    let bare = tokenizer.encode_continuation(before.trim_end())?;
    let mut ids = Vec::with_capacity(encodings.len());
    for (i, encoding) in encodings.iter().enumerate() {
        let id = match encoding[stem_len..] {
            [id] => id,
            _ => {
                let own = &encoding[common(&bare, encoding)..];
                let found = format!("{} tokens: {}", own.len(), quote(own, tokenizer));
                return fail(
                    i,
                    found,
                    "scores of several tokens are not supported yet; choose a scale whose scores are single tokens, such as 1..5",
                );
            }
        };
        if tokenizer.unk_id() == Some(id) {
            return fail(i, "not in the tokenizer's vocabulary".into(), "choose texts that the tokenizer knows");
        }
        // A shared first digit would have ended up in the stem: 10 and 11 as \"1\" + \"0\" and \"1\" + \"1\".
        if tokenizer.decode(&[id], false)?.trim() != scale.texts[i] {
            let own = &encoding[common(&bare, encoding)..];
            let found = format!("no single token spells it; its text ends in {}", quote(own, tokenizer));
            return fail(
                i,
                found,
                "scores of several tokens are not supported yet; choose a scale whose scores are single tokens, such as 1..5",
            );
        }
        if let Some(j) = ids.iter().position(|&other| other == id) {
            let found = format!("the same token as `{}`: {}", scale.texts[j], quote(&[id], tokenizer));
            return fail(i, found, "choose texts with different tokens");
        }
        ids.push(id);
    }
    Ok((first[..stem_len].to_vec(), ids))
}

/// Tokens as a message shows them.
fn quote(ids: &[u32], tokenizer: &Tokenizer) -> String {
    let one = |&id: &u32| format!("`{}` ({id})", tokenizer.id_to_token(id).unwrap_or_default());
    ids.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{SpecialTokens, train_bpe, word_level};

    const PHRASE: &str = "So the overall score is ";

    fn resolve(spec: &str, phrase: &str, tokenizer: &Tokenizer) -> Result<ScoreTokens> {
        ScoreTokens::resolve(&scale(spec), phrase, tokenizer)
    }

    fn shared(name: &str) -> Option<Tokenizer> {
        crate::text::test_files::shared_tokenizer(name)
    }

    fn check_stem(tokens: &ScoreTokens, tokenizer: &Tokenizer) {
        let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap().trim().to_string();
        assert_eq!((text(&tokens.stem).as_str(), text(&tokens.opening).as_str()), (PHRASE.trim(), PHRASE.trim()));
        assert_eq!(tokens.warnings, Vec::<String>::new());
    }

    #[test]
    fn learned_bpe_has_single_digits() {
        let texts = vec!["So the overall score is 3. So the overall score is 4 of 10"; 50];
        let tokenizer = train_bpe(texts.iter(), 400, &SpecialTokens::for_decoder()).unwrap();
        let tokens = resolve("5,1,3", PHRASE, &tokenizer).unwrap();
        assert_eq!(tokens.ids, ["5", "1", "3"].map(|d| tokenizer.token_to_id(d).unwrap()));
        assert_eq!((tokens.index_of(tokens.ids[2]), tokens.index_of(0)), (Some(2), None));
        check_stem(&tokens, &tokenizer);
        let cases = [
            ("1..10", "score `10` after \" So the overall score is \": "),
            ("10,11", "score `10` after"),
            ("10,11", "no single token spells it"),
            ("7.5,8", "scores of several tokens are not supported yet"),
        ];
        for (spec, message) in cases {
            let error = resolve(spec, PHRASE, &tokenizer).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
    }

    #[test]
    fn word_level_puts_a_space_before_the_score() {
        let special = SpecialTokens { unk: Some("<unk>".into()), ..Default::default() };
        let tokenizer = word_level(&["score", "1", "2", "3"], &special).unwrap();
        for phrase in ["score", "score "] {
            let tokens = resolve("1..3", phrase, &tokenizer).unwrap();
            assert_eq!((tokens.stem.as_slice(), tokens.ids.as_slice()), (&[1][..], &[2, 3, 4][..]));
            assert_eq!((tokens.stem_after(true), tokens.stem_after(false)), (&[1][..], &[1][..]));
        }
        let error = resolve("1..4", "score", &tokenizer).unwrap_err().to_string();
        assert!(error.contains("score `4`") && error.contains("not in the tokenizer's vocabulary"), "{error}");
        assert!(resolve("7,8", "score", &tokenizer).is_err());
    }

    #[test]
    fn qwen3_scores() {
        let Some(tokenizer) = shared("qwen3-tokenizer") else { return };
        let tokens = resolve("0..5", PHRASE, &tokenizer).unwrap();
        assert_eq!(tokens.ids, [15, 16, 17, 18, 19, 20]);
        check_stem(&tokens, &tokenizer);
        assert_ne!(tokens.stem, tokens.opening);
        let error = resolve("1..10", PHRASE, &tokenizer).unwrap_err().to_string();
        assert!(error.contains("score `10`") && error.contains("`1` (16), `0` (15)"), "{error}");
        let words = resolve("bad,good=0,1", "The answer is ", &tokenizer).unwrap();
        assert_eq!(words.ids, ["Ġbad", "Ġgood"].map(|t| tokenizer.token_to_id(t).unwrap()));
        let error = resolve("bad,good=0,1", "", &tokenizer).unwrap_err().to_string();
        assert!(error.contains("behind a chain of thought") && error.contains("use a phrase"), "{error}");
        assert_eq!(resolve("1..5", "", &tokenizer).unwrap().ids, [16, 17, 18, 19, 20]);
    }

    #[test]
    fn stories_scores() {
        let Some(tokenizer) = shared("stories260k") else { return };
        let tokens = resolve("0..5", PHRASE, &tokenizer).unwrap();
        assert_eq!(tokens.ids, [477, 475, 479, 472, 484, 480]);
        check_stem(&tokens, &tokenizer);
    }

    fn scale(spec: &str) -> Scale {
        spec.parse().unwrap()
    }

    #[test]
    fn specs_parse_and_print() {
        assert_eq!(scale("1..5").values(), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(scale(" 0..4=0..1").values(), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(scale("0,1,2,3,4=0,0.25,0.5,0.75,1"), scale("0..4=0..1"));
        assert_eq!(scale("-1..1").texts(), ["-1", "0", "1"]);
        let words = scale("good, bad =2,-1.5");
        assert_eq!((words.min(), words.max(), words.order()), (-1.5, 2.0, &[1, 0][..]));
        for spec in ["1..5", "0..4=0..1", "a,b,c=0.1,0.2,0.30000000000000004"] {
            let first = scale(spec);
            assert_eq!(scale(&first.to_string()), first);
            let json = serde_json::to_string(&first).unwrap();
            assert_eq!(serde_json::from_str::<Scale>(&json).unwrap(), first);
        }
    }

    #[test]
    fn labels_split_linearly() {
        let scale = scale("5,1,4,2,3");
        assert_eq!(scale.split(4.0).unwrap(), Split { weights: vec![(2, 1.0)], nearest: 2 });
        let between = scale.split(4.25).unwrap();
        assert_eq!(between, Split { weights: vec![(2, 0.75), (0, 0.25)], nearest: 2 });
        assert_eq!(scale.split(2.5).unwrap().nearest, 4);
        assert_eq!(scale.split(5.0 + 1e-10).unwrap().nearest, 0);
        assert_eq!(scale.split(1.0).unwrap().weights, [(1, 1.0)]);
        for label in [0.9, 5.1, f64::NAN, f64::INFINITY] {
            let error = scale.split(label).unwrap_err().to_string();
            assert!(error.contains("outside the scale's 1 to 5"), "{error}");
        }
    }

    #[test]
    fn impossible_scales_are_refused() {
        let cases = [
            ("", "`` is no number"),
            ("5", "1 score"),
            ("5..1", "1 is not above 5"),
            ("3..3", "3 is not above 3"),
            ("1..x", "`x` is no whole number"),
            ("0.5..2", "`0.5` is no whole number"),
            ("0..99999", "100000 scores"),
            ("-9223372036854775808..9223372036854775807", "is not above"),
            ("bad,good", "give the values behind `=`"),
            ("1,1", "`1` is there twice"),
            ("1,,3", "`` is no number"),
            ("a,,c=1,2,3", "the text \"\""),
            ("a,b=1", "2 texts and 1 values"),
            ("a,b=1,1", "`a` and `b` both stand for 1"),
            ("a,b,c=1..1", "`a` and `b` both stand for 1"),
            ("1,nan", "the value NaN of `nan`"),
            ("a,b=0,inf", "the value inf of `b`"),
            ("a,b=0,x", "`x` is no number"),
            ("a,b=x..1", "`x` is no number"),
        ];
        for (spec, message) in cases {
            let error = spec.parse::<Scale>().unwrap_err().to_string();
            assert!(error.contains(message) && error.starts_with(&format!("scale `{spec}`: ")), "{error}\nexpected {message}");
        }
    }
}
