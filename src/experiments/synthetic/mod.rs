//! A synthetic judging task small enough to learn in minutes and rich enough to need reading.
//!
//! A rubric asks for a few weighted criteria. A response praises or blames them in paraphrases, with negations, omissions and
//! distractors. The quality of the response is the satisfied share of the weight:
//!
//! ```text
//! rubric clarity major tone minor safety plain response wording not poor , lunch fine , voice weak , advice good , judge
//!                                               chain:  clarity ok tone bad safety ok   score phrase and score:  score 4
//! ```
//!
//! Simulated annotators read it with errors, so the labels are as noisy as human ones, and the best possible judge (the mean of
//! many annotators) is known. A training row has the score and the chain of one annotator.
//!
//! | what | file |
//! |---|---|
//! | the vocabulary | [`words`] |
//! | the facts of an item, and the prompt that states them | `grammar` |
//! | the versions: what is harder or longer, and on which scale | `version` |
//! | annotations: labels, chains, ceiling | `annotators` |
//! | what a judge reaches without reading | `baselines` |
//!
//! Every item has its own random stream, so item `n` of a split never depends on how many items are made.

mod annotators;
mod baselines;
mod grammar;
mod version;
pub mod words;

pub use baselines::word_count_baseline;
pub use version::{Grammar, ScoreScale, TaskVersion};
pub use words::{SCORE_PHRASE, vocabulary};

use crate::random::Stream;
use serde_json::{Value, json};

/// Errors of the synthetic task.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticTaskError {
    /// A name that is no version of the task.
    #[error(
        "unknown version \"{0}\" of the synthetic task: expected \"e\" (base), \"h\" (hard), \"q\" (quoting) or \"l\" (rubrics of all \
         lengths), with scores 1 to 5, or with \"10\" or \"100\" behind it for scores 1 to 10 or 0 to 100"
    )]
    UnknownVersion(String),
    /// A name that is no split.
    #[error("unknown split \"{0}\" of the synthetic task: expected one of train, validation, test, ood1, ood2, ood3")]
    UnknownSplit(String),
    /// The word-count baseline needs rows to fit on.
    #[error("the word-count baseline is fitted on training items, but none were given: pass the training split")]
    NoTrainingItems,
}

/// One of the six sets of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// One annotator per item. Six pairs of criteria never occur together in it.
    Train,
    /// As `Train`, with three annotators.
    Validation,
    /// As `Train`, with three annotators.
    Test,
    /// At least two of the pairs of criteria that never occur together in training.
    Ood1,
    /// Longer rubrics: six or seven criteria.
    Ood2,
    /// Half of the words rare, and three to five distractors.
    Ood3,
}

impl Split {
    /// All six, training first.
    pub const ALL: [Split; 6] = [Split::Train, Split::Validation, Split::Test, Split::Ood1, Split::Ood2, Split::Ood3];

    /// The four test splits.
    pub const TESTS: [Split; 4] = [Split::Test, Split::Ood1, Split::Ood2, Split::Ood3];

    /// Name in rows and file names.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
            Split::Ood1 => "ood1",
            Split::Ood2 => "ood2",
            Split::Ood3 => "ood3",
        }
    }

    /// How many annotators score an item: a training label is one opinion, a test label the mean of three.
    fn annotators(self) -> usize {
        if self == Split::Train { 1 } else { 3 }
    }
}

impl std::str::FromStr for Split {
    type Err = SyntheticTaskError;

    fn from_str(name: &str) -> Result<Self, SyntheticTaskError> {
        let known = Split::ALL.into_iter().find(|s| s.name() == name);
        known.ok_or_else(|| SyntheticTaskError::UnknownSplit(name.to_string()))
    }
}

/// How many items each split has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitSizes {
    /// Training items.
    pub train: usize,
    /// Validation items.
    pub validation: usize,
    /// Items in each of the four tests.
    pub test: usize,
}

impl SplitSizes {
    /// The sizes of a full experiment.
    pub fn full() -> Self {
        SplitSizes { train: 20_000, validation: 800, test: 800 }
    }

    /// Small enough for a software adapter.
    pub fn demo() -> Self {
        SplitSizes { train: 6_000, validation: 200, test: 300 }
    }

    /// Items of one split.
    pub fn of(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            _ => self.test,
        }
    }
}

/// A criterion of an item's rubric and whether the response meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One of [`words::CRITERIA`].
    pub criterion: &'static str,
    /// 1, 2 or 3.
    pub weight: u8,
    /// True if the response meets the criterion.
    pub met: bool,
}

impl Verdict {
    fn weight_word(&self) -> &'static str {
        words::WEIGHTS[usize::from(self.weight) - 1]
    }
}

/// A prompt to judge, its true verdicts, and what annotators said.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// For example `ood1-17`.
    pub id: String,
    /// The split it belongs to.
    pub split: Split,
    /// Words separated by spaces, from `rubric` to `judge`; the tokenizer adds `<bos>`.
    pub prompt: String,
    /// The first annotator's chain of thought as a teacher wrote it down: `<criterion> ok|bad` in rubric order, in the quoting
    /// version with weight and quote in between. The teacher copies the annotator's errors and adds some.
    pub chain: String,
    /// Mean of `labels`.
    pub score: f64,
    /// True quality: satisfied weight / total weight, in [0, 1].
    pub quality: f64,
    /// The true verdicts in rubric order.
    pub verdicts: Vec<Verdict>,
    /// Each annotator's score; one in training, three elsewhere.
    pub labels: Vec<u8>,
    /// What the response says of each criterion, where chains quote it.
    quotes: Option<Vec<String>>,
}

impl Item {
    /// The item as one JSON row: `{id, prompt, chain, score, quality, verdicts, labels, split}`; `verdicts` maps each
    /// criterion to "ok" or "bad". A training score is an integer.
    pub fn to_row(&self) -> Value {
        let verdicts: serde_json::Map<String, Value> =
            self.verdicts.iter().map(|v| (v.criterion.to_string(), json!(verdict_word(v.met)))).collect();
        let score = match self.labels.as_slice() {
            [only] => json!(only),
            _ => json!(self.score),
        };
        json!({
            "id": self.id,
            "prompt": self.prompt,
            "chain": self.chain,
            "score": score,
            "quality": self.quality,
            "verdicts": verdicts,
            "labels": self.labels,
            "split": self.split.name(),
        })
    }

    /// The chain with every verdict right.
    pub fn true_chain(&self) -> String {
        let met: Vec<bool> = self.verdicts.iter().map(|v| v.met).collect();
        write_chain(&self.verdicts, self.quotes.as_deref(), &met)
    }

    /// Words of the response, from after `response` to before `judge`.
    pub fn response_length(&self) -> usize {
        self.prompt.split_whitespace().skip_while(|w| *w != "response").count().saturating_sub(2)
    }
}

/// The synthetic task of one version and seed, which makes items.
#[derive(Clone, Copy, Debug)]
pub struct SyntheticTask {
    version: TaskVersion,
    seed: u64,
}

impl SyntheticTask {
    /// The task of `version` with all of its items drawn from `seed`.
    pub fn new(version: TaskVersion, seed: u64) -> Self {
        SyntheticTask { version, seed }
    }

    /// Item `n` of `split`. It does not depend on the other items.
    pub fn item(&self, split: Split, n: usize) -> Item {
        let mut stream = self.stream(Purpose::Item, split, n);
        let truth = grammar::GroundTruth::draw(self.version.grammar, split, &mut stream);
        let (prompt, quotes) = truth.write_prompt(&mut stream);
        let quotes = (self.version.grammar == Grammar::Quoting).then_some(quotes);
        let annotate = |_| annotators::Annotation::draw(&truth.verdicts, self.version.scale, &mut stream);
        let annotations: Vec<annotators::Annotation> = (0..split.annotators()).map(annotate).collect();
        let labels: Vec<u8> = annotations.iter().map(|a| a.score).collect();
        let chain = write_chain(&truth.verdicts, quotes.as_deref(), &annotations[0].written_down(&mut stream));
        let score = labels.iter().map(|&l| f64::from(l)).sum::<f64>() / labels.len() as f64;
        let quality = annotators::quality(&truth.verdicts, truth.verdicts.iter().map(|v| v.met));
        let id = format!("{}-{n}", split.name());
        Item { id, split, prompt, chain, score, quality, verdicts: truth.verdicts, labels, quotes }
    }

    /// The first `count` items of `split`.
    pub fn items(&self, split: Split, count: usize) -> Vec<Item> {
        (0..count).map(|n| self.item(split, n)).collect()
    }

    /// The score of the best possible judge for item `n`: the mean of 150 fresh annotators, in units of the scale.
    pub fn ceiling(&self, split: Split, n: usize) -> f64 {
        let item = self.item(split, n);
        let mut stream = self.stream(Purpose::Ceiling, split, n);
        annotators::mean_score(&item.verdicts, self.version.scale, 150, &mut stream)
    }

    fn stream(&self, purpose: Purpose, split: Split, n: usize) -> Stream {
        // "mi" in ASCII separates these streams from all others that a run draws from the same seed.
        let tag = 0x6D69_u64 << 48 | (purpose as u64) << 44 | (split as u64) << 40;
        Stream::new(self.seed, tag | n as u64)
    }
}

#[derive(Clone, Copy)]
enum Purpose {
    Item,
    Ceiling,
}

/// The share of an item's criteria whose verdict in `chain` is right, in [0, 1]. A verdict belongs to the criterion right
/// before it, in the quoting version to the last criterion before it. A criterion without a verdict counts as wrong. Of several
/// verdicts the last one counts.
pub fn verdicts_right(chain: &str, item: &Item) -> f64 {
    let words: Vec<&str> = chain.split_whitespace().collect();
    let is_verdict = |word: &str| matches!(word, "ok" | "bad");
    let verdict_after = |criterion: usize| {
        let rest = &words[criterion + 1..];
        let between = if item.quotes.is_some() { rest.iter().position(|w| is_verdict(w) || is_criterion(w))? } else { 0 };
        rest.get(between).copied().filter(|w| is_verdict(w))
    };
    let said = |criterion: &str| (0..words.len()).rev().filter(|&i| words[i] == criterion).find_map(verdict_after);
    let right = item.verdicts.iter().filter(|v| said(v.criterion) == Some(verdict_word(v.met))).count();
    right as f64 / item.verdicts.len() as f64
}

/// The `config.json` of the decoder this task is sized for: a Llama of about 107,000 parameters.
pub fn config(scale: ScoreScale) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary(scale).len(),
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 256,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": true,
        "initializer_range": 0.125,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": null,
        "torch_dtype": "float32",
    })
}

fn verdict_word(met: bool) -> &'static str {
    if met { "ok" } else { "bad" }
}

fn is_criterion(word: &str) -> bool {
    words::CRITERIA.contains(&word)
}

fn write_chain(verdicts: &[Verdict], quotes: Option<&[String]>, said: &[bool]) -> String {
    let part = |n: usize| {
        let (criterion, verdict) = (verdicts[n].criterion, verdict_word(said[n]));
        match quotes {
            Some(quotes) => format!("{criterion} {} {} {verdict}", verdicts[n].weight_word(), quotes[n]),
            None => format!("{criterion} {verdict}"),
        }
    };
    (0..verdicts.len()).map(part).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
