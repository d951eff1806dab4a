//! "Did you mean": finds the known word nearest to a mistyped one.

use strsim::osa_distance;

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
        let distance = osa_distance(&word, candidate).min(if prefix { limit } else { usize::MAX });
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
    fn mistyped_words_find_the_nearest_one() {
        let known = ["learning_rate", "seed", "lr_scheduler_type", "warmup_steps", "save_steps"];
        assert_eq!(closest("lerning-rate", known), Some("learning_rate"));
        assert_eq!(closest("Learning_Rate", known), Some("learning_rate"));
        assert_eq!(closest("lr_scheduler", known), Some("lr_scheduler_type"));
        assert_eq!(closest("save_step", known), Some("save_steps"));
        // Two neighbours swapped are one edit.
        assert_eq!(closest("sede", known), Some("seed"));
        assert_eq!(closest("banana", known), None);
        assert_eq!(closest("", known), None);
    }
}
