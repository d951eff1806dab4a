//! Log-probabilities of an answer's tokens, in the two shapes of the API.
//!
//! Tokens that the judge wrote have the log-probability of the model at temperature 1. What a form adds around them is certain:
//! its log-probability is 0. A score that a form writes has the distribution over the texts that could stand there.

use serde_json::{Map, Value, json};

use super::form::{Kind, Segment, written};
use crate::judge::{Alternative, TokenLogProb};
use crate::text::{StreamDecoder, TextError, Tokenizer};

/// What stands for the log-probability of something impossible, as JSON has no infinity.
const IMPOSSIBLE: f64 = -9999.0;

/// A token of an answer, and what could stand in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub text: String,
    pub log_p: f64,
    pub top: Vec<(String, f64)>,
}

impl Entry {
    /// A text that is certain.
    fn fixed(text: String) -> Self {
        Entry { top: vec![(text.clone(), 0.0)], text, log_p: 0.0 }
    }
}

/// The tokens that a judge wrote: `tokens` of its answer, of which the first `chain` are the chain's.
pub struct Written<'a> {
    pub tokenizer: &'a Tokenizer,
    pub tokens: &'a [TokenLogProb],
    /// The tokens of the chain of thought.
    pub chain: usize,
}

impl Written<'_> {
    /// The entries of all segments; their texts make up the answer's.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn entries(&self, segments: &[Segment], top: usize) -> Result<Vec<Entry>, TextError> {
        let mut entries = Vec::new();
        for segment in segments {
            match &segment.kind {
                Kind::Fixed if segment.text.is_empty() => {}
                Kind::Fixed => entries.push(Entry::fixed(segment.text.clone())),
                Kind::Whole => entries.extend(fitted(self.decoded(self.tokens)?, &segment.text, false)),
                Kind::Chain => {
                    let own = self.decoded(&self.tokens[..self.chain.min(self.tokens.len())])?;
                    let quoted =
                        !own.is_empty() && segment.text != own.iter().map(|e| e.text.as_str()).collect::<String>().trim();
                    entries.extend(fitted(own, &segment.text, quoted));
                }
                Kind::Score(alternatives) => {
                    let mut likeliest: Vec<(String, f64)> =
                        alternatives.iter().map(|(text, p)| (text.clone(), p.ln().max(IMPOSSIBLE))).collect();
                    likeliest.sort_by(|a, b| b.1.total_cmp(&a.1));
                    let log_p = likeliest.iter().find(|(text, _)| *text == segment.text).map_or(0.0, |(_, log_p)| *log_p);
                    entries.push(Entry { text: segment.text.clone(), log_p, top: likeliest });
                }
            }
        }
        entries.iter_mut().for_each(|entry| entry.top.truncate(top));
        Ok(entries)
    }

    /// Tokens with their texts.
    fn decoded(&self, tokens: &[TokenLogProb]) -> Result<Vec<Entry>, TextError> {
        let mut stream = StreamDecoder::new(&[], true);
        let mut entries = Vec::with_capacity(tokens.len());
        let mut before = None;
        for token in tokens {
            let text = stream.push(self.tokenizer, token.chosen.token)?;
            let other = |a: &Alternative| Ok((self.text_after(before, a.token)?, a.log_p.max(IMPOSSIBLE)));
            let top = token.top.iter().map(other).collect::<Result<_, TextError>>()?;
            entries.push(Entry { text, log_p: token.chosen.log_p.max(IMPOSSIBLE), top });
            before = Some(token.chosen.token);
        }
        let rest = stream.finish(self.tokenizer)?;
        if let Some(last) = entries.last_mut() {
            last.text += &rest;
        }
        Ok(entries)
    }

    /// The text that a token adds to the one before it; a special token's name.
    fn text_after(&self, before: Option<u32>, token: u32) -> Result<String, TextError> {
        let context: Vec<u32> = before.into_iter().collect();
        let text = StreamDecoder::new(&context, true).push(self.tokenizer, token)?;
        Ok(match text.is_empty() {
            true => self.tokenizer.id_to_token(token).unwrap_or_default(),
            false => text,
        })
    }
}

/// The entries whose texts make up `text`: white space at both ends is cut, and what is quoted in JSON is escaped.
fn fitted(mut entries: Vec<Entry>, text: &str, quoted: bool) -> Vec<Entry> {
    for entry in &mut entries {
        let trimmed = entry.text.trim_start().to_string();
        let blank = trimmed.is_empty();
        entry.text = trimmed;
        if !blank {
            break;
        }
    }
    for entry in entries.iter_mut().rev() {
        entry.text.truncate(entry.text.trim_end().len());
        if !entry.text.is_empty() {
            break;
        }
    }
    // What was cut off by a limit or a stop sequence has no entries.
    let mut left = text;
    let mut kept = Vec::with_capacity(entries.len());
    for mut entry in entries {
        if quoted {
            entry.text = written(&entry.text, true, None);
        }
        if left.is_empty() {
            break;
        }
        match left.strip_prefix(entry.text.as_str()) {
            Some(rest) => left = rest,
            None => entry.text = std::mem::take(&mut left).to_string(),
        }
        kept.push(entry);
    }
    kept
}

fn bytes(text: &str) -> Value {
    text.bytes().map(u64::from).collect::<Vec<_>>().into()
}

/// `logprobs` of a chat completion.
pub fn of_chat(entries: &[Entry]) -> Value {
    let one = |text: &str, log_p: f64| json!({"token": text, "logprob": log_p, "bytes": bytes(text)});
    let content: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut shown = one(&entry.text, entry.log_p);
            shown["top_logprobs"] = entry.top.iter().map(|(text, log_p)| one(text, *log_p)).collect();
            shown
        })
        .collect();
    json!({"content": content, "refusal": null})
}

/// `logprobs` of a completion whose text begins after `start` characters of text before it.
pub fn of_completion(entries: &[Entry], start: usize) -> Value {
    let mut offset = start;
    let mut offsets = Vec::with_capacity(entries.len());
    for entry in entries {
        offsets.push(offset);
        offset += entry.text.chars().count();
    }
    let top = |entry: &Entry| {
        let mut map = Map::new();
        for (text, log_p) in &entry.top {
            map.entry(text.clone()).or_insert(Value::from(*log_p));
        }
        Value::Object(map)
    };
    json!({
        "tokens": entries.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(),
        "token_logprobs": entries.iter().map(|entry| entry.log_p).collect::<Vec<_>>(),
        "top_logprobs": entries.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{SpecialTokens, word_level};

    #[test]
    fn entries_make_up_the_answer() {
        let special = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
        let tokenizer = word_level(&["good", "\"x\"", "score", "4", "5"], &special).unwrap();
        let id = |word: &str| tokenizer.token_to_id(word).unwrap();
        let likely = |word: &str, log_p: f64| Alternative { token: id(word), log_p };
        let token = |word: &str| TokenLogProb { chosen: likely(word, -0.5), top: vec![likely(word, -0.5), likely("5", -1.5)] };
        let tokens = ["good", "\"x\"", "score", "4"].map(token);
        let of = Written { tokenizer: &tokenizer, tokens: &tokens, chain: 2 };
        let texts = |entries: &[Entry]| entries.iter().map(|e| e.text.clone()).collect::<Vec<_>>();
        let whole = [Segment { text: "good \"x\" score 4".into(), kind: Kind::Whole }];
        let entries = of.entries(&whole, 20).unwrap();
        assert_eq!(texts(&entries), ["good", " \"x\"", " score", " 4"]);
        assert_eq!(entries[3].top, [(" 4".to_string(), -0.5), (" 5".to_string(), -1.5)]);
        let json = [
            Segment { text: "{\"reason\": \"".into(), kind: Kind::Fixed },
            Segment { text: "good \\\"x\\\"".into(), kind: Kind::Chain },
            Segment { text: "\", \"score\": ".into(), kind: Kind::Fixed },
            Segment { text: "8".into(), kind: Kind::Score(vec![("7".into(), 0.25), ("8".into(), 0.75), ("9".into(), 0.0)]) },
            Segment { text: "}".into(), kind: Kind::Fixed },
        ];
        let entries = of.entries(&json, 2).unwrap();
        let text: String = json.iter().map(|segment| segment.text.as_str()).collect();
        assert_eq!(texts(&entries).concat(), text);
        let score = entries.iter().find(|entry| entry.text == "8").unwrap();
        assert_eq!((score.log_p, score.top.len(), score.top[1].0.as_str()), (0.75f64.ln(), 2, "7"));
        let shown = of_completion(&entries, 3);
        assert_eq!((shown["text_offset"][0].as_u64(), shown["tokens"][1].as_str()), (Some(3), Some("good")));
        assert_eq!(of_chat(&entries)["content"][0]["bytes"][0], 123);
    }
}
