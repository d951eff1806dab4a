//! The facts of an item, and the prompt that states them.

use super::words::{BLAME, CRITERIA, OFF_TOPIC, PRAISE, TOPICS, WEIGHTS};
use super::{Grammar, Split, Verdict};
use crate::random::Stream;

/// Pairs of criteria that never occur together in training, validation, test and OOD-3.
const HELD_OUT: [(usize, usize); 6] = [(0, 1), (2, 3), (4, 5), (6, 7), (0, 4), (2, 6)];

/// The only such pair where training has rubrics of up to seven criteria: five without one of the six pairs do not exist.
const HELD_OUT_IN_LONG: [(usize, usize); 1] = [(0, 1)];

/// Probability that an unmet criterion is not mentioned at all.
const SILENT: f64 = 0.12;
/// Probability of "not" before the quality word, whose meaning it flips.
const NEGATED: f64 = 0.3;
/// Probability that a criterion is first described wrongly, then corrected after `but`; not in the base version.
const CORRECTED: f64 = 0.35;
/// What a chain that quotes says of a criterion that the response does not mention.
const UNMENTIONED: &str = "not here";

/// The facts behind a prompt.
pub struct GroundTruth {
    /// Rubric order.
    pub verdicts: Vec<Verdict>,
    criteria: Vec<usize>,
    grammar: Grammar,
    split: Split,
}

impl GroundTruth {
    /// Draws a rubric that fits the split, and which of its criteria the response meets.
    pub fn draw(grammar: Grammar, split: Split, stream: &mut Stream) -> Self {
        let criteria =
            if grammar == Grammar::AllLengths { draw_of_any_length(split, stream) } else { draw_criteria(split, stream) };
        // Uniform, one value per item: responses differ in how good they are as a whole.
        let share_met = stream.uniform();
        let verdicts = criteria
            .iter()
            .map(|&c| Verdict {
                criterion: CRITERIA[c],
                weight: 1 + stream.below(WEIGHTS.len()) as u8,
                met: stream.chance(share_met),
            })
            .collect();
        GroundTruth { verdicts, criteria, grammar, split }
    }

    /// The prompt: `rubric <criterion weight> x m response <segment ,> ... judge`, and what it says of each criterion, in
    /// rubric order and word for word.
    pub fn write_prompt(&self, stream: &mut Stream) -> (String, Vec<String>) {
        let mut words = vec!["rubric"];
        for v in &self.verdicts {
            words.extend([v.criterion, v.weight_word()]);
        }
        words.push("response");
        let said: Vec<Option<Vec<&str>>> = self.draw_statements(stream);
        let quotes = said.iter().map(|s| s.as_ref().map_or(UNMENTIONED.to_string(), |words| quote(words))).collect();
        let mut segments: Vec<Vec<&str>> = said.into_iter().flatten().chain(self.distractors(stream)).collect();
        stream.shuffle(&mut segments);
        words.extend(segments.iter().flatten());
        words.push("judge");
        (words.join(" "), quotes)
    }

    /// Probability that a paraphrase is a rare word.
    fn rare(&self) -> f64 {
        if self.split == Split::Ood3 { 0.5 } else { 0.02 }
    }

    /// What the response says of each criterion, in rubric order; none where it does not mention it.
    fn draw_statements(&self, stream: &mut Stream) -> Vec<Option<Vec<&'static str>>> {
        let rare = self.rare();
        let mut said = Vec::new();
        for (verdict, &criterion) in self.verdicts.iter().zip(&self.criteria) {
            if !verdict.met && stream.chance(SILENT) {
                said.push(None);
                continue;
            }
            let mut words = Vec::new();
            if self.grammar.corrects() && stream.chance(CORRECTED) {
                words.extend(segment(topic(criterion, rare, stream), !verdict.met, rare, stream));
                words.push("but");
            }
            words.extend(segment(topic(criterion, rare, stream), verdict.met, rare, stream));
            said.push(Some(words));
        }
        said
    }

    /// Segments about topics that the rubric does not ask for.
    fn distractors(&self, stream: &mut Stream) -> Vec<Vec<&'static str>> {
        let count = if self.split == Split::Ood3 { 3 + stream.below(3) } else { stream.below(3) };
        let distractor = |_| {
            let subject = self.distracting_topic(self.rare(), stream);
            let praise = stream.chance(0.5);
            segment(subject, praise, self.rare(), stream)
        };
        (0..count).map(distractor).collect()
    }

    /// Half of the time a criterion that the rubric does not ask for (if there is one), else an off-topic word.
    fn distracting_topic(&self, rare: f64, stream: &mut Stream) -> &'static str {
        let others: Vec<usize> = (0..CRITERIA.len()).filter(|c| !self.criteria.contains(c)).collect();
        if stream.chance(0.5) && !others.is_empty() {
            topic(others[stream.below(others.len())], rare, stream)
        } else {
            OFF_TOPIC[stream.below(OFF_TOPIC.len())]
        }
    }
}

/// Draws the number of criteria and the criteria until they fit the split. The number is redrawn too: four criteria
/// without a held-out pair are rarer than three, and no five exist, so training rubrics are mostly of length three.
fn draw_criteria(split: Split, stream: &mut Stream) -> Vec<usize> {
    loop {
        let count = if split == Split::Ood2 { 6 + stream.below(2) } else { 3 + stream.below(3) };
        let mut criteria: Vec<usize> = (0..CRITERIA.len()).collect();
        stream.shuffle(&mut criteria);
        criteria.truncate(count);
        let held_out = held_out_pairs(&HELD_OUT, &criteria);
        let fits = match split {
            Split::Ood1 => held_out >= 2,
            Split::Ood2 => true,
            _ => held_out == 0,
        };
        if fits {
            return criteria;
        }
    }
}

/// Draws the criteria of a rubric of three to seven criteria, each length as often as another, until they fit the split.
fn draw_of_any_length(split: Split, stream: &mut Stream) -> Vec<usize> {
    let count = match split {
        Split::Ood1 => 3 + stream.below(3),
        Split::Ood2 => 6 + stream.below(2),
        _ => 3 + stream.below(5),
    };
    loop {
        let mut criteria: Vec<usize> = (0..CRITERIA.len()).collect();
        stream.shuffle(&mut criteria);
        criteria.truncate(count);
        let held_out = held_out_pairs(&HELD_OUT_IN_LONG, &criteria);
        let fits = match split {
            Split::Ood1 => held_out == 1,
            Split::Ood2 => true,
            _ => held_out == 0,
        };
        if fits {
            return criteria;
        }
    }
}

/// How many of these pairs are among the criteria.
fn held_out_pairs(pairs: &[(usize, usize)], criteria: &[usize]) -> usize {
    pairs.iter().filter(|(a, b)| criteria.contains(a) && criteria.contains(b)).count()
}

/// `topic [not] quality ,`
fn segment(topic: &'static str, praised: bool, rare: f64, stream: &mut Stream) -> Vec<&'static str> {
    let negated = stream.chance(NEGATED);
    let list = if praised != negated { &PRAISE } else { &BLAME };
    let quality = list[paraphrase(list.len(), rare, stream)];
    if negated { vec![topic, "not", quality, ","] } else { vec![topic, quality, ","] }
}

/// A segment without the comma that ends it.
fn quote(words: &[&str]) -> String {
    words[..words.len() - 1].join(" ")
}

fn topic(criterion: usize, rare: f64, stream: &mut Stream) -> &'static str {
    TOPICS[criterion][paraphrase(TOPICS[criterion].len(), rare, stream)]
}

/// An index into a word list whose last two words are rare.
fn paraphrase(words: usize, rare: f64, stream: &mut Stream) -> usize {
    let common = words - 2;
    if stream.chance(rare) { common + stream.below(2) } else { stream.below(common) }
}
