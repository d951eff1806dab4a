//! "Did you mean": finds the known word nearest to a mistyped one.

/// Number of single edits (insert, delete, replace, swap of two neighbours) between two words: the optimal string alignment
/// distance, which is Levenshtein's with a swap counted once.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Three rows are enough: the row being filled, the one above, and the one above that (for swaps).
    let mut two_above = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two_above[j - 2] + 1);
            }
        }
        two_above = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// The candidate nearest to `word`, if it is near enough to be what was meant.
///
/// Case is ignored and hyphens count as underscores. A candidate is near if at most a third of the word's letters
/// (and at least one) would have to change, or if one of the two begins with the other (`lr_scheduler` for
/// `lr_scheduler_type`). Of equally near candidates the first is returned.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let limit = (word.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let prefix = word.len() >= 4 && (candidate.starts_with(&word) || word.starts_with(candidate));
        let distance = edit_distance(&word, candidate).min(if prefix { limit } else { usize::MAX });
        if distance <= limit && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("ab", "ba"), 1);
        assert_eq!(edit_distance("größe", "grösse"), 2);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn mistyped_words_find_the_nearest_one() {
        let known = ["learning_rate", "seed", "lr_scheduler_type", "warmup_steps", "save_steps"];
        assert_eq!(closest("lerning-rate", known), Some("learning_rate"));
        assert_eq!(closest("Learning_Rate", known), Some("learning_rate"));
        assert_eq!(closest("lr_scheduler", known), Some("lr_scheduler_type"));
        assert_eq!(closest("save_step", known), Some("save_steps"));
        assert_eq!(closest("banana", known), None);
        assert_eq!(closest("", known), None);
    }
}
