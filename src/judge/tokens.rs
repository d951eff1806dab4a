//! The tokens of each score in context, as the model's own tokenizer writes them, and the tree that they form.
//!
//! A score's probability is the product of its tokens' probabilities (chain rule). Scores with a common prefix share the start
//! of their path:
//!
//! ```text
//!            ┌ "1" ─┬ end   1        node 0: the next token after the phrase
//! phrase ────┤      └ "0" ─ end  10  node 1: the next token after "1"
//!            └ "2" ── end    2       end: an EOS, needed to tell "1" from the start of "10"
//! ```
//!
//! Most scales have scores of one token: the tree has one node and no end, and the distribution after the phrase is the score
//! distribution.

use super::{JudgeError, Result, Scale};
use crate::text::Tokenizer;

/// Endings of a chain of thought after which the phrase's tokens are checked.
const CHAIN_ENDS: [&str; 6] = [".", "!", ")", "\"", "", "7"];

/// The tokens of each score in context.
///
/// A judge's answer is chain, phrase, score. The tokens before the score are the *stem*: the phrase without a final space if
/// the tokenizer writes that into the score's token. The stem must not depend on which score follows, and no two scores may
/// have the same tokens. Then the model's distribution after the stem is the score distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreTokens {
    /// The tokens of each score, in the scale's order, with the end token if the tree needs one.
    paths: Vec<Vec<u32>>,
    /// The distinct tokens of all paths.
    alphabet: Vec<u32>,
    /// The positions at which a score's next token is chosen; the first is right after the stem.
    nodes: Vec<Node>,
    /// Score prefixes that together contain all nodes. None is a prefix of another. At least one; empty for one-token scores.
    branches: Vec<Vec<u32>>,
    /// The phrase after text: one space (unless the phrase begins with white space), then the phrase.
    pub stem: Vec<u32>,
    /// The phrase at the start of an answer, or after white space.
    pub opening: Vec<u32>,
    /// Endings of chains after which the tokenizer would split the text differently than generation does. Harmless if the
    /// phrase is forced as tokens; relevant if a model is trained on text that was split differently.
    pub warnings: Vec<String>,
}

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    /// It lies after the first `depth` tokens of this branch.
    branch: usize,
    depth: usize,
    /// The tokens to choose from, as indices into the alphabet, each with the scores whose paths contain it.
    children: Vec<(usize, Vec<usize>)>,
}

impl ScoreTokens {
    /// Builds the tree from the tokens of each score, in the scale's order, and both forms of the phrase. If one score is a
    /// prefix of another, `end` is appended to all of them.
    ///
    /// # Errors
    /// A score without tokens, two scores with the same tokens, or a missing `end`: the index of the score and what is wrong.
    pub fn new(
        mut paths: Vec<Vec<u32>>,
        end: Option<u32>,
        stem: Vec<u32>,
        opening: Vec<u32>,
    ) -> std::result::Result<Self, (usize, String)> {
        for (i, path) in paths.iter().enumerate() {
            if path.is_empty() {
                return Err((i, "no tokens at all".into()));
            }
            if let Some(j) = paths[..i].iter().position(|other| other == path) {
                return Err((i, format!("the same tokens as score number {}", j + 1)));
            }
        }
        let begins_another = |path: &[u32]| paths.iter().filter(|other| other.starts_with(path)).count() > 1;
        if let Some(i) = (0..paths.len()).find(|i| begins_another(&paths[*i])) {
            let missing = "it is the beginning of another score, and the tokenizer has no EOS token to end it with";
            let end = end.ok_or((i, missing.to_string()))?;
            paths.iter_mut().for_each(|path| path.push(end));
        }
        let mut alphabet: Vec<u32> = Vec::new();
        for token in paths.iter().flatten() {
            if !alphabet.contains(token) {
                alphabet.push(*token);
            }
        }
        let mut prefixes: Vec<&[u32]> = Vec::new();
        for prefix in paths.iter().flat_map(|path| (0..path.len()).map(|n| &path[..n])) {
            if !prefixes.contains(&prefix) {
                prefixes.push(prefix);
            }
        }
        let is_extended = |a: &[u32]| prefixes.iter().any(|b| b.len() > a.len() && b.starts_with(a));
        let branches: Vec<Vec<u32>> = prefixes.iter().filter(|p| !is_extended(p)).map(|p| p.to_vec()).collect();
        let node = |prefix: &&[u32]| {
            let mut children: Vec<(usize, Vec<usize>)> = Vec::new();
            for (score, path) in
                paths.iter().enumerate().filter(|(_, path)| path.len() > prefix.len() && path.starts_with(prefix))
            {
                let token = alphabet.iter().position(|t| *t == path[prefix.len()]).unwrap_or_default();
                match children.iter_mut().find(|(known, _)| *known == token) {
                    Some((_, scores)) => scores.push(score),
                    None => children.push((token, vec![score])),
                }
            }
            let branch = branches.iter().position(|b| b.starts_with(prefix)).unwrap_or_default();
            Node { branch, depth: prefix.len(), children }
        };
        let nodes = prefixes.iter().map(node).collect();
        Ok(ScoreTokens { paths, alphabet, nodes, branches, stem, opening, warnings: Vec::new() })
    }

    /// Finds the tokens of the scores of `scale` after `phrase`.
    ///
    /// If the phrase ends in a letter or digit, a space separates it from the score ("score" + "3" is not a word "score3").
    ///
    /// # Errors
    /// An unknown token, two scores with the same tokens, scores whose tokens depend on the text before the phrase, a score that
    /// is a prefix of another one although the tokenizer has no EOS.
    pub fn resolve(scale: &Scale, phrase: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let gap = if phrase.ends_with(char::is_alphanumeric) { " " } else { "" };
        let lead = if phrase.starts_with(char::is_whitespace) { "" } else { " " };
        let (stem, paths) = find(scale, &format!("{lead}{phrase}{gap}"), tokenizer)?;
        let (opening, opening_paths) = find(scale, &format!("{phrase}{gap}"), tokenizer)?;
        let fail = |i: usize, found: String, fix: &str| JudgeError::ScoreToken {
            score: scale.texts()[i].clone(),
            phrase: phrase.into(),
            found,
            fix: fix.into(),
        };
        if let Some(i) = (0..paths.len()).find(|&i| paths[i] != opening_paths[i]) {
            let (opening, after_text) = (quote(&opening_paths[i], tokenizer), quote(&paths[i], tokenizer));
            let found = format!("token {opening} at the start of an answer, but {after_text} after a chain of thought");
            return Err(fail(i, found, "use a phrase that stands between them, such as \"So the overall score is \""));
        }
        let end = tokenizer.eos_ids().first().copied();
        let mut tokens = ScoreTokens::new(paths, end, stem, opening).map_err(|(i, found)| {
            fail(i, found, "choose texts with different tokens, or set eos_token in tokenizer_config.json")
        })?;
        for end in CHAIN_ENDS {
            let chain = format!("The answer is good{end}");
            if !tokens.hold_after(&chain, &format!("{lead}{phrase}{gap}"), scale, tokenizer)? {
                tokens
                    .warnings
                    .push(format!("after a chain that ends in {:?}, the phrase {phrase:?} has other tokens", &chain[14..]));
            }
        }
        Ok(tokens)
    }

    /// The form of the phrase for a text that ends in white space (or is empty), or that does not.
    pub fn stem_after(&self, ends_in_space: bool) -> &[u32] {
        if ends_in_space { &self.opening } else { &self.stem }
    }

    /// The tokens of score number `score`, including the end token.
    pub fn path(&self, score: usize) -> &[u32] {
        &self.paths[score]
    }

    /// The distinct tokens of all scores, `[A]`. The statistics of a loss position hold their log-probabilities.
    pub fn alphabet(&self) -> &[u32] {
        &self.alphabet
    }

    /// Prefixes of scores that have to be fed so that all nodes can be read.
    pub fn branches(&self) -> &[Vec<u32>] {
        &self.branches
    }

    /// Where each node lies: (branch, number of its tokens before the node). The first node is right after the stem.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (usize, usize)> + '_ {
        self.nodes.iter().map(|n| (n.branch, n.depth))
    }

    /// For each node, the tokens between the phrase and it.
    pub fn node_paths(&self) -> Vec<&[u32]> {
        self.nodes.iter().map(|n| &self.branches[n.branch][..n.depth]).collect()
    }

    /// The log-probability of each score: the sum over its path. `at_node(node)` are the full-vocabulary log-probabilities of
    /// the alphabet at that node, `[A]`.
    pub fn log_probs<'a>(&self, at_node: impl Fn(usize) -> &'a [f32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.paths.len()];
        for (n, node) in self.nodes.iter().enumerate() {
            let log_probs = at_node(n);
            for (token, scores) in &node.children {
                scores.iter().for_each(|s| sums[*s] += f64::from(log_probs[*token]));
            }
        }
        sums
    }

    /// Converts a loss's coefficients `-∂L/∂log p` of the scores into those of the alphabet at every node, `[nodes][A]`: a
    /// token's coefficient is the sum over all scores whose paths contain it.
    pub fn coefficients(&self, of_scores: &[f64]) -> Vec<Vec<f64>> {
        let at_node = |node: &Node| {
            let mut of_tokens = vec![0.0; self.alphabet.len()];
            for (token, scores) in &node.children {
                of_tokens[*token] = scores.iter().map(|s| of_scores[*s]).sum();
            }
            of_tokens
        };
        self.nodes.iter().map(at_node).collect()
    }

    /// Whether encoding chain, phrase and score as one text gives the chain's tokens, the stem and the score's tokens.
    fn hold_after(&self, chain: &str, phrase: &str, scale: &Scale, tokenizer: &Tokenizer) -> Result<bool> {
        for (text, path) in scale.texts().iter().zip(&self.paths) {
            let mut joined = tokenizer.encode_continuation(chain)?;
            joined.extend(&self.stem);
            joined.extend(path);
            if !joined.starts_with(&tokenizer.encode_continuation(&format!("{chain}{phrase}{text}"))?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Checks that the model's embedding has a row for every token of a sequence.
///
/// # Errors
/// The first token without one.
pub fn check_embedded<'a>(
    ids: impl IntoIterator<Item = &'a u32>,
    rows: usize,
    tokenizer: &Tokenizer,
) -> std::result::Result<(), String> {
    match ids.into_iter().find(|id| **id as usize >= rows) {
        None => Ok(()),
        Some(id) => Err(format!(
            "token {} is beyond the model's embedding of {rows} rows; use the tokenizer that the model was trained with, or leave \
             that text out",
            quote(&[*id], tokenizer)
        )),
    }
}

/// The stem and each score's tokens after exactly this text.
fn find(scale: &Scale, before: &str, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<Vec<u32>>)> {
    let texts = scale.texts();
    let fail = |i: usize, found: String, fix: &str| {
        Err(JudgeError::ScoreToken { score: texts[i].clone(), phrase: before.into(), found, fix: fix.into() })
    };
    let encode = |text: &String| tokenizer.encode_continuation(&format!("{before}{text}"));
    let encodings = texts.iter().map(encode).collect::<std::result::Result<Vec<_>, _>>()?;
    if let Some(i) = encodings.iter().position(|ids| tokenizer.unk_id().is_some_and(|unk| ids.contains(&unk))) {
        return fail(i, "not in the tokenizer's vocabulary".into(), "choose a phrase and texts that the tokenizer knows");
    }
    let common = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let shared = encodings.iter().map(|ids| common(&encodings[0], ids)).min().unwrap_or(0);
    // A first digit that all scores share (10, 11) belongs to them, not to the stem: the tokens after it must spell the score.
    let spells = |ids: &[u32], text: &String| Ok::<bool, JudgeError>(tokenizer.decode(ids, false)?.trim() == text);
    let mut misfit = 0;
    for stem in (0..=shared).rev() {
        let mut fits = true;
        for (i, (ids, text)) in encodings.iter().zip(texts).enumerate() {
            if !spells(&ids[stem..], text)? {
                (misfit, fits) = (i, false);
                break;
            }
        }
        if fits {
            return Ok((encodings[0][..stem].to_vec(), encodings.iter().map(|ids| ids[stem..].to_vec()).collect()));
        }
    }
    let found = format!("no tokens of its own spell it; its text is cut as {}", quote(&encodings[misfit], tokenizer));
    fail(misfit, found, "use a phrase that ends in white space or punctuation")
}

/// Tokens for an error message.
fn quote(ids: &[u32], tokenizer: &Tokenizer) -> String {
    let quoted = |&id: &u32| format!("`{}` ({id})", tokenizer.id_to_token(id).unwrap_or_default());
    ids.iter().map(quoted).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{SpecialTokens, train_bpe, word_level};

    const PHRASE: &str = "So the overall score is ";

    fn scale(spec: &str) -> Scale {
        spec.parse().unwrap()
    }

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

    fn bpe() -> Tokenizer {
        let texts = vec!["So the overall score is 3. So the overall score is 4 of 10"; 50];
        train_bpe(texts.iter(), 400, &SpecialTokens::for_decoder()).unwrap()
    }

    #[test]
    fn scores_of_one_token_make_a_tree_of_one_node() {
        let tokenizer = bpe();
        let tokens = resolve("5,1,3", PHRASE, &tokenizer).unwrap();
        let ids = ["5", "1", "3"].map(|d| tokenizer.token_to_id(d).unwrap());
        assert_eq!(tokens.alphabet(), ids);
        assert_eq!(tokens.branches(), [Vec::<u32>::new()]);
        assert_eq!(tokens.log_probs(|_| &[-1.0, -2.0, -3.0]), [-1.0, -2.0, -3.0]);
        assert_eq!(tokens.coefficients(&[0.5, 0.0, 2.0]), [[0.5, 0.0, 2.0]]);
        check_stem(&tokens, &tokenizer);
    }

    /// `1` and `10`: the end token tells them apart.
    #[test]
    fn a_score_that_is_a_prefix_of_another_gets_an_end_token() {
        let tokenizer = bpe();
        let tokens = resolve("1..10", PHRASE, &tokenizer).unwrap();
        let id = |d: &str| tokenizer.token_to_id(d).unwrap();
        let eos = tokenizer.eos_ids()[0];
        check_stem(&tokens, &tokenizer);
        assert_eq!((tokens.path(0), tokens.path(9)), (&[id("1"), eos][..], &[id("1"), id("0"), eos][..]));
        // The end is read after every digit, and after "10" too: nine branches, the first of which contains "1" and "10".
        assert_eq!(tokens.branches().len(), 9);
        assert_eq!(tokens.nodes().len(), 1 + 9 + 1);
        // Uniform over the eleven tokens of the alphabet everywhere.
        let uniform = vec![-(11f32.ln()); 11];
        let log_probs = tokens.log_probs(|_| &uniform);
        assert!((log_probs[0] + 2.0 * 11f64.ln()).abs() < 1e-6 && (log_probs[9] + 3.0 * 11f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_shared_prefix_belongs_to_the_scores() {
        let tokenizer = bpe();
        let tokens = resolve("10,11", PHRASE, &tokenizer).unwrap();
        let id = |d: &str| tokenizer.token_to_id(d).unwrap();
        assert_eq!((tokens.path(0), tokens.path(1)), (&[id("1"), id("0")][..], &[id("1"), id("1")][..]));
        assert_eq!(tokens.branches(), [vec![id("1")]]);
        // Both paths contain the first "1"; at the second node each has its own token, and "1" is one of them.
        assert_eq!(tokens.coefficients(&[0.25, 0.75]), [[1.0, 0.0], [0.75, 0.25]]);
        check_stem(&tokens, &tokenizer);
    }

    #[test]
    fn decimal_numbers_are_scores() {
        let tokenizer = bpe();
        let tokens = resolve("0,0.25,0.5,0.75,1", PHRASE, &tokenizer).unwrap();
        let text = |i: usize| tokenizer.decode(tokens.path(i), true).unwrap();
        assert_eq!([text(0), text(1), text(4)], ["0", "0.25", "1"]);
        check_stem(&tokens, &tokenizer);
    }

    #[test]
    fn word_level_puts_a_space_before_the_score() {
        let special = SpecialTokens { unk: Some("<unk>".into()), ..Default::default() };
        let tokenizer = word_level(&["score", "1", "2", "3"], &special).unwrap();
        for phrase in ["score", "score "] {
            let tokens = resolve("1..3", phrase, &tokenizer).unwrap();
            assert_eq!((tokens.stem.as_slice(), tokens.alphabet()), (&[1][..], &[2, 3, 4][..]));
            assert_eq!((tokens.stem_after(true), tokens.stem_after(false)), (&[1][..], &[1][..]));
        }
        let error = resolve("1..4", "score", &tokenizer).unwrap_err().to_string();
        assert!(error.contains("score `4`") && error.contains("not in the tokenizer's vocabulary"), "{error}");
        assert!(resolve("7,8", "score", &tokenizer).is_err());
    }

    #[test]
    fn scores_that_cannot_be_told_apart_are_refused() {
        let new = |paths: &[&[u32]], end| ScoreTokens::new(paths.iter().map(|p| p.to_vec()).collect(), end, vec![9], vec![9]);
        assert_eq!(new(&[&[1], &[1]], None).unwrap_err(), (1, "the same tokens as score number 1".into()));
        assert!(new(&[&[1, 2], &[1]], None).unwrap_err().1.contains("beginning of another"));
        assert_eq!(new(&[&[1], &[]], None).unwrap_err().0, 1);
        assert_eq!(new(&[&[1, 2], &[1]], Some(7)).unwrap().path(1), [1, 7]);
    }

    #[test]
    fn qwen3_scores() {
        let Some(tokenizer) = shared("qwen3-tokenizer") else { return };
        let tokens = resolve("0..5", PHRASE, &tokenizer).unwrap();
        assert_eq!(tokens.alphabet(), [15, 16, 17, 18, 19, 20]);
        check_stem(&tokens, &tokenizer);
        assert_ne!(tokens.stem, tokens.opening);
        // Qwen3 writes numbers digit by digit.
        let ten = resolve("1..10", PHRASE, &tokenizer).unwrap();
        assert_eq!(ten.path(9)[..2], [16, 15]);
        let words = resolve("bad,good=0,1", "The answer is ", &tokenizer).unwrap();
        assert_eq!(words.alphabet(), ["Ġbad", "Ġgood"].map(|t| tokenizer.token_to_id(t).unwrap()));
        let error = resolve("bad,good=0,1", "", &tokenizer).unwrap_err().to_string();
        assert!(error.contains("after a chain of thought") && error.contains("use a phrase"), "{error}");
        assert_eq!(resolve("1..5", "", &tokenizer).unwrap().alphabet(), [16, 17, 18, 19, 20]);
    }

    #[test]
    fn stories_scores() {
        let Some(tokenizer) = shared("stories260k") else { return };
        let tokens = resolve("0..5", PHRASE, &tokenizer).unwrap();
        assert_eq!(tokens.alphabet(), [477, 475, 479, 472, 484, 480]);
        check_stem(&tokens, &tokenizer);
    }
}
