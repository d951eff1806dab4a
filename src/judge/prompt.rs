//! Turns rows into prompts, and labelled rows into supervised sequences.
//!
//! A judge's sequence is always prompt, chain of thought (optional), stem, score:
//!
//! ```text
//! ids      p p p p p p p  c c c c c  s s s s s  y
//!          prompt         chain      stem       score (the last token)
//! ```
//!
//! Each part is encoded separately and the parts are joined as tokens, because generation does the same: the prompt is given,
//! the chain is sampled token by token, the stem is forced. As text, two parts are joined by one space unless the left one ends
//! in white space.

use std::ops::Range;
use std::sync::Arc;

use super::template::{JUDGE, PAIR, Template};
use super::{AnswerFormat, JudgeError, Result, Scale, ScoreTokens, Split};
use crate::data::{DataError, Example, Message, Prompt, contradicts, pairing};
use crate::text::{ChatOptions, ChatTemplate, JinjaTemplate, Tokenizer, caught, concatenate, json_to_template, template_failure};

/// The phrase before the score in Prometheus' training data and in TRACT.
pub const DEFAULT_PHRASE: &str = "So the overall score is ";

/// Most bytes of a phrase. It is encoded after many endings of chains; a phrase of a megabyte would take a minute.
pub(super) const LONGEST_PHRASE: usize = 4096;

/// How rows become prompts: the template, the phrase before the score, the scale, and the chat template if any.
#[derive(Clone, Debug)]
pub struct JudgePrompt {
    pub(super) template: Template,
    pub(super) compiled: Arc<JinjaTemplate>,
    phrase: String,
    scale: Scale,
    chat: Option<ChatTemplate>,
    /// Options of the chat template.
    pub chat_options: ChatOptions,
}

/// A labelled row as tokens, with the positions of its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// All tokens: prompt, chain, stem, score, and EOS if requested.
    pub ids: Vec<u32>,
    /// Number of prompt tokens, which come first.
    pub prompt_len: usize,
    /// The chain of thought; empty if the row has none.
    pub chain: Range<usize>,
    /// The phrase before the score.
    pub stem: Range<usize>,
    /// Where the score begins: the logits one position earlier are the distribution of its first token. The score's tokens are
    /// those of the score nearest to the label.
    pub score: usize,
    /// Where the score ends.
    pub score_end: usize,
    /// The label as a distribution over the scores.
    pub split: Split,
    /// The label as a number.
    pub label: f64,
}

impl JudgePrompt {
    /// A prompt for this tokenizer. With `chat`, the text is one user message (or the row's own messages) in the tokenizer's
    /// chat template; without, it is encoded as plain text with the tokenizer's special tokens (BOS).
    ///
    /// # Errors
    /// A template that is not valid Jinja; a phrase of more than 4 KiB; `chat` with a tokenizer that has no chat template.
    pub fn new(template: Template, phrase: &str, scale: Scale, chat: bool, tokenizer: &Tokenizer) -> Result<Self> {
        if phrase.len() > LONGEST_PHRASE {
            return Err(JudgeError::Phrase { bytes: phrase.len() });
        }
        let name = template.name();
        let source = match &template {
            Template::Plain => "",
            Template::Judge => JUDGE,
            Template::Pair => PAIR,
            Template::Own { source, .. } => source,
        };
        let broken = |found: String| JudgeError::Template { name: name.into(), found, fix: "correct the Jinja there".into() };
        let compiled = caught(|| JinjaTemplate::new(name, source.to_string(), true)).map_err(broken)?;
        let compiled = Arc::new(compiled.map_err(|error| broken(template_failure(&error)))?);
        let chat = if chat { Some(chat_template(tokenizer)?) } else { None };
        Ok(JudgePrompt { template, compiled, phrase: phrase.into(), scale, chat, chat_options: ChatOptions::default() })
    }

    /// The scale of this judge.
    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    /// The phrase before the score.
    pub fn phrase(&self) -> &str {
        &self.phrase
    }

    /// The score tokens after this prompt's phrase.
    ///
    /// # Errors
    /// As [`ScoreTokens::resolve`].
    pub fn score_tokens(&self, tokenizer: &Tokenizer) -> Result<ScoreTokens> {
        ScoreTokens::resolve(&self.scale, &self.phrase, tokenizer)
    }

    /// The whole prompt as text, in the chat template if there is one.
    ///
    /// # Errors
    /// A row without the columns that the template needs; an error raised by the template; an empty prompt.
    pub fn text(&self, example: &Example) -> Result<String> {
        let offered = &example.record.chat_variables;
        let text = match (&self.template, &example.record.prompt, &self.chat) {
            (Template::Plain, Some(_), _) if !example.record.beside_prompt.is_empty() => {
                return Err(unread_beside_prompt(example));
            }
            (Template::Plain, Some(Prompt::Messages(messages)), Some(chat)) => {
                chat.render_with(messages, offered, &self.chat_options)?
            }
            (Template::Plain, Some(Prompt::Messages(messages)), None) => concatenate_texts(example, messages)?,
            (Template::Plain, Some(Prompt::Text(text)), Some(chat)) => {
                chat.render_with(&[user_message(text)], offered, &self.chat_options)?
            }
            (Template::Plain, Some(Prompt::Text(text)), None) => text.clone(),
            (Template::Plain, None, _) => {
                let layout = &example.record.layout;
                let fix = if layout.instruction == Some("prompt") {
                    "its `prompt` is an instruction whose `response` is to be judged: use the template `judge`, or, if the \
                     prompt says it all, a template file with {{ prompt }}"
                } else if example.record.grading.is_some() {
                    "it has `instruction` and `response`: use the template `judge`"
                } else {
                    "give it one, or write a template of your own over its columns"
                };
                let found = match layout.instruction {
                    Some("prompt") => "the template `plain` would not read its `response`",
                    _ => "the row has no `prompt` and no `messages`",
                };
                return Err(row_error(example, found.into(), fix));
            }
            // A template file usually ends in newlines, which a chat message does not need.
            (_, _, Some(_)) => self.in_chat(self.rendered(example)?.trim_end())?,
            (_, _, None) => self.rendered(example)?,
        };
        if let Some(unread) = self.unread_column(example) {
            return Err(unread);
        }
        if text.trim().is_empty() {
            return Err(row_error(example, "the prompt is empty".into(), "check the template and the row's columns"));
        }
        Ok(text)
    }

    /// The error of a row that offers tools or documents which its template would not read. A template of the user's reads the
    /// columns that it names.
    fn unread_column(&self, example: &Example) -> Option<JudgeError> {
        let offered = &example.record.chat_variables;
        let (column, reader) = match (&self.template, &self.chat) {
            (Template::Own { .. }, _) => return None,
            (Template::Judge | Template::Pair, _) => (
                offered.keys().next()?.as_str(),
                if self.template == Template::Pair { "the template `pair`" } else { "the template `judge`" },
            ),
            (Template::Plain, Some(chat)) => (chat.unread(offered)?, "the model's chat template"),
            (Template::Plain, None) => {
                return Some(unread_without_chat(example, &format!("the column `{}`", offered.keys().next()?)));
            }
        };
        let fix = "name a template file over the row's columns that reads it, or drop the column";
        Some(row_error(example, format!("{reader} would not read the column `{column}`"), fix))
    }

    /// The prompt's tokens. A chat template writes its own special tokens, BOS included; plain text gets the tokenizer's.
    ///
    /// # Errors
    /// As [`JudgePrompt::text`]; text that the tokenizer rejects.
    pub fn prompt_ids(&self, example: &Example, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        self.encode_prompt(&self.text(example)?, tokenizer)
    }

    /// The prompt's tokens, and whether its text ends in white space (which decides the form of the phrase after it).
    ///
    /// # Errors
    /// As [`JudgePrompt::prompt_ids`].
    pub fn prompt(&self, example: &Example, tokenizer: &Tokenizer) -> Result<(Vec<u32>, bool)> {
        let text = self.text(example)?;
        Ok((self.encode_prompt(&text, tokenizer)?, text.ends_with(char::is_whitespace)))
    }

    fn encode_prompt(&self, text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        // Text that already begins with BOS must not get a second one.
        let has_bos = tokenizer.special_text("bos_token").is_some_and(|bos| !bos.is_empty() && text.starts_with(bos));
        Ok(tokenizer.encode(text, self.chat.is_none() && !has_bos)?)
    }

    /// A labelled row as one sequence: prompt, chain (if the row has one), stem, score, and with `eos` the tokenizer's first
    /// EOS.
    ///
    /// If the chain already ends in the phrase and a score, both are removed from it, so that they do not occur twice.
    ///
    /// # Errors
    /// As [`JudgePrompt::prompt_ids`]; a row without a label, with a label outside the scale, or with a chain that ends in
    /// another score; `eos` without an EOS token.
    pub fn sequence(&self, example: &Example, tokens: &ScoreTokens, tokenizer: &Tokenizer, eos: bool) -> Result<Sequence> {
        let Some(label) = example.record.score else {
            return Err(row_error(example, "the row has no label".into(), "give it a score, or drop it"));
        };
        // What the template does not find in the row says more than a label that is off the scale.
        let text = self.text(example)?;
        let split = match example.record.annotations() {
            [] | [_] => self.scale.split(label),
            several => self.scale.soft(several),
        };
        let split = split.map_err(|error| row_error(example, error.to_string(), "or skip such rows with --skip-bad"))?;
        self.check_conclusion(example, &split, label)?;
        let mut ids = self.encode_prompt(&text, tokenizer)?;
        let prompt_len = ids.len();
        let ends_in_space = text.ends_with(char::is_whitespace);
        let (chain_ids, _) = self.chain_ids(example.record.chain.as_deref().unwrap_or_default(), ends_in_space, tokenizer)?;
        let chain = prompt_len..prompt_len + chain_ids.len();
        ids.extend(AnswerFormat { tokens, decode: tokenizer }.close(&chain_ids, ends_in_space)?);
        let stem = chain.end..ids.len();
        let score = ids.len();
        let path = tokens.path(split.nearest);
        ids.extend(path);
        let score_end = ids.len();
        // A score with an end token already has its EOS.
        if eos && path.last() != tokenizer.eos_ids().first() {
            let fix = "set eos_token in tokenizer_config.json, or train without EOS";
            let id =
                tokenizer.eos_ids().first().ok_or_else(|| row_error(example, "the tokenizer has no EOS token".into(), fix))?;
            ids.push(*id);
        }
        Ok(Sequence { ids, prompt_len, chain, stem, score, score_end, split, label })
    }

    /// A given chain after a prompt, as tokens and as text, without the phrase and score that it may end in.
    ///
    /// # Errors
    /// Text that the tokenizer rejects.
    pub fn chain_ids(&self, chain: &str, prompt_ends_in_space: bool, tokenizer: &Tokenizer) -> Result<(Vec<u32>, String)> {
        let chain = self.without_conclusion(chain);
        if chain.is_empty() {
            return Ok((Vec::new(), String::new()));
        }
        let lead = if prompt_ends_in_space { "" } else { " " };
        Ok((tokenizer.encode_continuation(&format!("{lead}{chain}"))?, chain.to_string()))
    }

    /// The chain without surrounding white space and without a final "phrase score.".
    fn without_conclusion<'a>(&self, chain: &'a str) -> &'a str {
        let chain = chain.trim();
        self.conclusion(chain).map_or(chain, |(at, _)| chain[..at].trim_end())
    }

    /// Where a final "phrase score." begins in a chain, and the score's value.
    fn conclusion(&self, chain: &str) -> Option<(usize, f64)> {
        let phrase = self.phrase.trim();
        let at = if phrase.is_empty() { None } else { chain.rfind(phrase) }?;
        let stated = chain[at + phrase.len()..].trim_matches(|c: char| c.is_whitespace() || ".!:*\"'()".contains(c));
        let score = self.scale.texts().iter().position(|text| text == stated).map(|index| self.scale.values()[index]);
        Some((at, score.or_else(|| stated.parse().ok())?))
    }

    /// Refuses a chain that ends in a score other than the label: such a row contradicts itself.
    fn check_conclusion(&self, example: &Example, split: &Split, label: f64) -> Result<()> {
        let chain = example.record.chain.as_deref().unwrap_or_default().trim();
        let Some((_, stated)) = self.conclusion(chain) else { return Ok(()) };
        let near = split.weights.iter().any(|(index, _)| self.scale.values()[*index] == stated);
        if near || !contradicts(stated, label, example.record.annotations()) {
            return Ok(());
        }
        let found = format!("the chain of thought ends in the score {stated}, and the label is {label}");
        Err(row_error(example, found, "correct one of the two, or drop the row"))
    }

    /// The text as the only user message in the chat template, or unchanged if there is no chat template.
    fn in_chat(&self, text: &str) -> Result<String> {
        match &self.chat {
            None => Ok(text.to_string()),
            Some(chat) => Ok(chat.render(&[user_message(text)], &self.chat_options)?),
        }
    }

    /// The template rendered with the row's columns.
    fn rendered(&self, example: &Example) -> Result<String> {
        let mut columns = match &self.template {
            Template::Judge => {
                let Some(parts) = &example.record.grading else {
                    let fix = "give it both, or use the template `plain` with a column `prompt`";
                    return Err(row_error(example, "the row has no `instruction` with a `response`".into(), fix));
                };
                let parts = serde_json::to_value(parts).unwrap_or_default();
                parts.as_object().cloned().unwrap_or_default()
            }
            Template::Pair => match pairing(&example.row) {
                Ok(Some(pair)) => pair.parts(),
                Ok(None) => {
                    let fix = "give it `response_a` and `response_b`, or use the template `judge`";
                    return Err(row_error(example, "the row has no pair of responses".into(), fix));
                }
                Err(error) => return Err(unreadable(example, error)),
            },
            // Null counts as absent, so that no prompt says "none".
            _ => example.row.fields.clone().into_iter().filter(|(_, value)| !value.is_null()).collect(),
        };
        columns.insert("phrase".into(), self.phrase.clone().into());
        columns.insert("scores".into(), self.scale.texts().to_vec().into());
        let context = json_to_template(&serde_json::Value::Object(columns));
        let rendered = caught(|| self.compiled.render(context)).and_then(|text| text.map_err(|error| template_failure(&error)));
        rendered.map_err(|found| {
            let names: Vec<&str> = example.row.fields.keys().map(String::as_str).take(MOST_COLUMNS).collect();
            let fix = match names.is_empty() {
                true => "the row has no columns".into(),
                false => format!("the row's columns are {}", names.join(", ")),
            };
            let template = self.template.name();
            let is_there = |name: &str| example.row.fields.get(name).is_some_and(|value| !value.is_null());
            let absent = self.columns().into_iter().find(|column| !column.optional && !is_there(&column.name));
            let found = match absent {
                Some(column) => format!("the prompt template {template} reads `{}`, which is absent or null", column.name),
                None => format!("prompt template {template}: {found}"),
            };
            row_error(example, found, &fix)
        })
    }
}

/// Most columns that an error message lists.
const MOST_COLUMNS: usize = 20;

fn user_message(text: &str) -> serde_json::Value {
    serde_json::json!({"role": "user", "content": text})
}

/// A conversation for a model without a chat template: only the texts of its messages can be written.
fn concatenate_texts(example: &Example, messages: &[Message]) -> Result<String> {
    let unread = messages.iter().enumerate().find_map(|(index, message)| Some((index + 1, message.beside_text()?)));
    match unread {
        None => Ok(concatenate(messages.iter().map(Message::content))),
        Some((number, field)) => Err(unread_without_chat(example, &format!("`{field}` of message {number}"))),
    }
}

fn unread_without_chat(example: &Example, unread: &str) -> JudgeError {
    let fix = "use a model with a chat template and --chat always, or a template file over the row's columns";
    row_error(example, format!("without a chat template, {unread} would not be read"), fix)
}

/// The error of a row whose other columns the template `plain` would not read.
fn unread_beside_prompt(example: &Example) -> JudgeError {
    let columns: Vec<String> = example.record.beside_prompt.iter().map(|column| format!("`{column}`")).collect();
    let found = format!("the template `plain` reads the prompt alone, and would not read {}", columns.join(", "));
    let judge = if example.record.grading.is_some() { "use the template `judge`, or " } else { "" };
    let fix =
        format!("{judge}name a template file that reads them (with {{{{ prompt }}}} alone if it says it all), or drop them");
    row_error(example, found, &fix)
}

fn chat_template(tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    ChatTemplate::of(tokenizer)?.ok_or_else(|| JudgeError::Template {
        name: "of the chat".into(),
        found: "the tokenizer has none (no `chat_template.jinja`, no `chat_template` in tokenizer_config.json)".into(),
        fix: "turn the chat frame off, or use a chat model".into(),
    })
}

/// The error of a column that cannot be read.
fn unreadable(example: &Example, error: DataError) -> JudgeError {
    match error {
        DataError::Field { field, found, fix, .. } => row_error(example, format!("field `{field}`: {found}"), &fix),
        DataError::File { found, fix, .. } | DataError::Line { found, fix, .. } => row_error(example, found, &fix),
    }
}

fn row_error(example: &Example, found: String, fix: &str) -> JudgeError {
    JudgeError::Row { place: example.row.location(), found, fix: fix.into() }
}

/// Number of tokens shown at each end of a long part.
const SHOWN_TOKENS: usize = 12;

/// A sequence as a table: position, token id, whether a supervised step learns the token (by default all but the prompt), the
/// token as the vocabulary spells it, and its part. The middle of a long part is left out.
pub fn preview(sequence: &Sequence, tokenizer: &Tokenizer) -> String {
    let end = sequence.ids.len();
    let parts = [
        ("prompt", 0..sequence.prompt_len),
        ("chain", sequence.chain.clone()),
        ("phrase", sequence.stem.clone()),
        ("score", sequence.score..sequence.score_end),
        ("end", sequence.score_end..end),
    ];
    let mut table = format!("{:>6} {:>7} {:>5}  {:<24} part\n", "pos", "id", "loss", "token");
    for (name, range) in parts {
        let long = range.len() > 2 * SHOWN_TOKENS + 1;
        let hidden = if long { range.start + SHOWN_TOKENS..range.end - SHOWN_TOKENS } else { range.end..range.end };
        for position in range {
            if hidden.contains(&position) {
                if position == hidden.start {
                    table += &format!("{:>6} {:>7} {:>5}  {:<24} {name}\n", "...", "", "", format!("({} more)", hidden.len()));
                }
                continue;
            }
            let id = sequence.ids[position];
            let token = tokenizer.id_to_token(id).unwrap_or_else(|| "(not in the vocabulary)".into());
            let loss = if position < sequence.prompt_len { "-" } else { "yes" };
            table += &format!("{position:>6} {id:>7} {loss:>5}  {:<24} {name}\n", token.escape_debug().to_string());
        }
    }
    table + &format!("label {}, nearest score at position {}\n", sequence.label, sequence.score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ColumnOptions, Reader};
    use crate::text::{SpecialTokens, test_files::shared_tokenizer, train_bpe, word_level};

    fn row(json: &str) -> Example {
        let columns = ColumnOptions { labels: crate::data::Labels::Optional, ..ColumnOptions::default() };
        Reader { columns, ..Reader::default() }.read_str("rows.jsonl", json).unwrap().examples.remove(0)
    }

    fn bpe() -> Tokenizer {
        let texts =
            ["Good answer, it is right. So the overall score is 4. ## Instruction Say hi. ## Response Hi. ## Assessment"; 20];
        train_bpe(texts.iter(), 500, &SpecialTokens::for_decoder()).unwrap()
    }

    fn prompt(template: Template, tokenizer: &Tokenizer) -> JudgePrompt {
        JudgePrompt::new(template, DEFAULT_PHRASE, "1..5".parse().unwrap(), false, tokenizer).unwrap()
    }

    fn template(source: &str) -> Template {
        Template::Own { name: "mine.jinja".into(), source: source.into() }
    }

    #[test]
    fn a_labelled_row_becomes_prompt_chain_phrase_and_score() {
        let tokenizer = bpe();
        let prompt = prompt(Template::Plain, &tokenizer);
        let tokens = prompt.score_tokens(&tokenizer).unwrap();
        let example = row(r#"{"prompt": "Say hi.", "chain": " Good answer.\n So the overall score is **4**.", "score": 4.25}"#);
        let s = prompt.sequence(&example, &tokens, &tokenizer, false).unwrap();
        assert_eq!(tokenizer.decode(&s.ids, true).unwrap(), "Say hi. Good answer. So the overall score is 4");
        assert_eq!((s.ids[0], s.score, s.chain.start, s.stem.start), (1, s.ids.len() - 1, s.prompt_len, s.chain.end));
        assert_eq!(tokenizer.decode(&s.ids[s.chain.clone()], false).unwrap(), " Good answer.");
        assert_eq!((s.split.weights.as_slice(), s.label), (&[(3, 0.75), (4, 0.25)][..], 4.25));
        assert_eq!(s.ids, tokenizer.encode("Say hi. Good answer. So the overall score is 4", true).unwrap());
        let with_eos = prompt.sequence(&example, &tokens, &tokenizer, true).unwrap();
        assert_eq!((with_eos.score, with_eos.ids.last()), (s.score, tokenizer.eos_ids().first()));
    }

    #[test]
    fn the_phrase_follows_the_prompt_if_the_row_has_no_chain() {
        let tokenizer = bpe();
        let prompt = prompt(Template::Plain, &tokenizer);
        let tokens = prompt.score_tokens(&tokenizer).unwrap();
        for (json, text) in [
            (r#"{"prompt": "Say hi.", "score": 1}"#, "Say hi. So the overall score is 1"),
            (r#"{"prompt": "Say hi.\n", "score": 5}"#, "Say hi.\nSo the overall score is 5"),
            (
                r#"{"messages": [{"role":"system","content":"S"},{"role":"user","content":"U\n"}], "score": 5}"#,
                "S\n\nU\nSo the overall score is 5",
            ),
        ] {
            let s = prompt.sequence(&row(json), &tokens, &tokenizer, false).unwrap();
            assert_eq!(tokenizer.decode(&s.ids, true).unwrap(), text);
            assert!(s.chain.is_empty());
        }
    }

    #[test]
    fn a_prompt_that_begins_with_bos_gets_no_second_one() {
        let tokenizer = bpe();
        let ids = prompt(Template::Plain, &tokenizer).prompt_ids(&row(r#"{"prompt": "<|bos|>Say"}"#), &tokenizer).unwrap();
        assert_eq!(ids.iter().filter(|&&id| Some(id) == tokenizer.bos_id()).count(), 1);
    }

    #[test]
    fn the_grading_prompt_shows_what_the_row_has() {
        let tokenizer = bpe();
        let prompt = prompt(Template::Judge, &tokenizer);
        let short = prompt.text(&row(r#"{"instruction": "I {{ x }}", "response": "R"}"#)).unwrap();
        assert!(short.contains("## Instruction\nI {{ x }}\n\n## Response\nR\n\n## Assessment\n"), "{short}");
        assert!(short.contains("these scores: 1, 2, 3, 4, 5.") && !short.contains("Rubric") && !short.contains("best score"));
        let long = prompt.text(&row(r#"{"instruction": "I", "response": "R", "reference": "A", "rubric": "clear?"}"#)).unwrap();
        assert!(long.contains("best score\nA\n\n## Rubric\nclear?\n\n## Assessment\n"), "{long}");
        assert!(long.contains("misses, measured by the rubric and by nothing else.\nClose"), "{long}");
    }

    #[test]
    fn a_users_template_reads_any_column() {
        let tokenizer = bpe();
        let example = row(r#"{"sentence1": "A", "refs": ["x", "y"], "score": 3}"#);
        let prompt = prompt(template("{{ sentence1 }}/{{ refs[1] }}/{{ scores | last }}{% if extra %}!{% endif %}"), &tokenizer);
        assert_eq!(prompt.text(&example).unwrap(), "A/y/5");
    }

    #[test]
    fn a_word_level_tokenizer_gives_one_token_per_word() {
        let special = SpecialTokens { unk: Some("<unk>".into()), ..Default::default() };
        let tokenizer = word_level(&["bos", "judge", "ok", "bad", "score", "1", "2"], &special).unwrap();
        let prompt = JudgePrompt::new(Template::Plain, "score", "1..2".parse().unwrap(), false, &tokenizer).unwrap();
        let tokens = prompt.score_tokens(&tokenizer).unwrap();
        let example = row(r#"{"prompt": "bos judge", "chain": "ok bad", "score": 2}"#);
        let s = prompt.sequence(&example, &tokens, &tokenizer, false).unwrap();
        assert_eq!((s.ids.as_slice(), s.prompt_len, s.chain, s.stem, s.score), (&[1, 2, 3, 4, 5, 7][..], 2, 2..4, 4..5, 5));
    }

    #[test]
    fn rows_that_do_not_fit_say_why() {
        let tokenizer = bpe();
        let cases = [
            (Template::Plain, r#"{"instruction": "I", "response": "R"}"#, "rows.jsonl:1: the row has no `prompt`"),
            (Template::Plain, r#"{"instruction": "I", "response": "R"}"#, "use the template `judge`"),
            (Template::Plain, r#"{"a": 1}"#, "write a template of your own"),
            (Template::Judge, r#"{"prompt": "p"}"#, "no `instruction` with a `response`"),
            (template("{{ missing }}"), r#"{"prompt": "p", "q": 1}"#, "the row's columns are prompt, q"),
            (
                template("{{ raise_exception('no') }}"),
                r#"{"prompt": "p"}"#,
                "rows.jsonl:1: prompt template mine.jinja: no (line 1",
            ),
            (template(" \n"), r#"{"prompt": "p"}"#, "the prompt is empty"),
        ];
        for (template, json, message) in cases {
            let error = prompt(template, &tokenizer).text(&row(json)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
        let plain = prompt(Template::Plain, &tokenizer);
        let tokens = plain.score_tokens(&tokenizer).unwrap();
        for (json, message) in [
            (r#"{"prompt": "p"}"#, "rows.jsonl:1: the row has no label"),
            (r#"{"prompt": "p", "score": 6}"#, "label 6 is outside the scale's 1 to 5"),
        ] {
            let error = plain.sequence(&row(json), &tokens, &tokenizer, false).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
        let scale: Scale = "1..5".parse().unwrap();
        let new =
            |template, chat| JudgePrompt::new(template, DEFAULT_PHRASE, scale.clone(), chat, &tokenizer).unwrap_err().to_string();
        assert!(new(template("{% for %}"), false).starts_with("prompt template mine.jinja: syntax error"));
        assert!(new(Template::Plain, true).contains("turn the chat frame off"));
        let long =
            JudgePrompt::new(Template::Plain, &"x".repeat(4097), scale.clone(), false, &tokenizer).unwrap_err().to_string();
        assert!(long.contains("has 4097 bytes, and 4096 is the most allowed; shorten --phrase"), "{long}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b' '; (1 << 20) + 1]).unwrap();
        let long = Template::named(file.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(long.contains("more than 1048576 bytes"), "{long}");
        assert!(
            Template::named("/nowhere.jinja").unwrap_err().to_string().contains("name `plain`, `judge`, `pair`, or a Jinja file")
        );
    }

    #[test]
    fn preview_shows_every_part() {
        let tokenizer = bpe();
        let prompt = prompt(Template::Judge, &tokenizer);
        let tokens = prompt.score_tokens(&tokenizer).unwrap();
        let example = row(r#"{"instruction": "I", "response": "R", "feedback": "Good.", "score": 2}"#);
        let table = preview(&prompt.sequence(&example, &tokens, &tokenizer, true).unwrap(), &tokenizer);
        for part in ["prompt", "chain", "phrase", "score", "end", "more)", "label 2, nearest score at position"] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
    }

    #[test]
    fn qwen3s_chat_template_frames_the_prompt() {
        let Some(tokenizer) = shared_tokenizer("qwen3-tokenizer") else { return };
        let prompt = JudgePrompt::new(Template::Judge, DEFAULT_PHRASE, "1..5".parse().unwrap(), true, &tokenizer).unwrap();
        let tokens = prompt.score_tokens(&tokenizer).unwrap();
        let example = row(r#"{"instruction": "I", "response": "R", "feedback": "Good.", "score": 2}"#);
        let s = prompt.sequence(&example, &tokens, &tokenizer, false).unwrap();
        let text = tokenizer.decode(&s.ids, false).unwrap();
        assert!(text.starts_with("<|im_start|>user\nYou judge"), "{text}");
        let end = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nGood. So the overall score is 2";
        assert!(text.ends_with(end), "{text}");
        assert_eq!(tokenizer.encode(&text, false).unwrap(), s.ids);
    }
}
