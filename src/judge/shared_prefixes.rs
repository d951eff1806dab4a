//! Which rows begin alike, so that what they share is computed once: rows of a call that scores, rows of a training batch.
//!
//! Of rows in the order of their tokens, those that begin alike are neighbours. So the groups are found by dynamic programming
//! over that order: the cut into runs that computes the fewest tokens.

/// What a row must save to share a beginning, in tokens. Measured: `docs/performance.md`, Rows that begin alike.
const LEAST_SAVED: usize = 8;

/// Rows that are laid into a batch together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alike {
    /// Their indices, in the order of the call.
    pub rows: Vec<usize>,
    /// The tokens that they share: those of the beginning; 0 for a single row.
    pub shared: usize,
    /// Batch tokens of all of them.
    pub tokens: usize,
}

/// Groups rows by the beginnings of `sequences`, one a row. `sizes` are the batch tokens of each row alone, and `size(shared,
/// rows)` those of rows that share `shared` tokens. A group has at most `most_tokens`. Groups come in the order of their first
/// rows, so where nothing is shared, the order is that of the call.
pub fn rows_alike(
    sequences: &[impl AsRef<[u32]>],
    sizes: &[usize],
    most_tokens: usize,
    size: impl Fn(usize, &[usize]) -> usize,
) -> Vec<Alike> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    let sequence = |row: usize| sequences[row].as_ref();
    order.sort_by(|a, b| sequence(*a).cmp(sequence(*b)));
    let lengths: Vec<usize> = order.iter().map(|row| sequence(*row).len()).collect();
    let common = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(x, y)| x == y).count();
    // The tokens that each sequence shares with the one before it in this order. Its last one stays its own.
    let with_previous: Vec<usize> = order.windows(2).map(|pair| common(sequence(pair[0]), sequence(pair[1]))).collect();
    // Of the first n sequences: the fewest tokens, and the last run of that cut, as its first sequence and what it shares.
    let mut best: Vec<(usize, usize, usize)> = vec![(0, 0, 0)];
    for end in 1..=order.len() {
        let last = end - 1;
        let mut found = (best[last].0 + sizes[order[last]], last, 0);
        let mut shared = lengths[last].saturating_sub(1);
        for first in (0..last).rev() {
            shared = shared.min(with_previous[first]).min(lengths[first].saturating_sub(1));
            let tokens = size(shared, &order[first..end]);
            if shared < LEAST_SAVED || tokens > most_tokens {
                break;
            }
            // What a group costs beside its tokens, so that a row joins only where it saves enough.
            let cost = best[first].0 + tokens + LEAST_SAVED * (last - first);
            if cost < found.0 {
                found = (cost, first, shared);
            }
        }
        best.push(found);
    }
    let mut groups = Vec::new();
    let mut end = order.len();
    while end > 0 {
        let (_, first, shared) = best[end];
        let mut rows = order[first..end].to_vec();
        rows.sort_unstable();
        let tokens = match rows[..] {
            [row] => sizes[row],
            _ => size(shared, &order[first..end]),
        };
        groups.push(Alike { rows, shared, tokens });
        end = first;
    }
    groups.sort_by_key(|group| group.rows[0]);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(sequences: &[Vec<u32>], most_tokens: usize) -> Vec<(Vec<usize>, usize)> {
        let sizes: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let size = |shared: usize, rows: &[usize]| shared + rows.iter().map(|row| sizes[*row] - shared).sum::<usize>();
        let found = rows_alike(sequences, &sizes, most_tokens, size);
        assert!(found.iter().all(|group| group.tokens <= group.rows.iter().map(|row| sizes[*row]).sum()));
        found.into_iter().map(|group| (group.rows, group.shared)).collect()
    }

    /// A row of a beginning of this length, and tokens of its own.
    fn row(beginning: u32, length: u32, own: &[u32]) -> Vec<u32> {
        (0..length).map(|n| beginning + n).chain(own.iter().copied()).collect()
    }

    #[test]
    fn rows_are_grouped_by_their_beginnings() {
        let (a, b) = (1000, 2000);
        let rows = [row(a, 30, &[5]), row(b, 40, &[6, 7]), row(a, 30, &[1]), row(b, 40, &[1]), row(3000, 50, &[])];
        assert_eq!(groups(&rows, 4096), [(vec![0, 2], 30), (vec![1, 3], 40), (vec![4], 0)]);
        // Where nothing is shared, or too little, every row stays alone and in its place.
        let rows = [row(b, 20, &[1]), row(a, 20, &[2]), row(a, LEAST_SAVED as u32 - 1, &[3])];
        assert_eq!(groups(&rows, 4096), [(vec![0], 0), (vec![1], 0), (vec![2], 0)]);
        assert_eq!(groups(&[], 4096), []);
    }

    #[test]
    fn the_beginning_that_saves_most_is_shared() {
        // All rows share 20 tokens; pairs of them share 100.
        let of = |question: u32, own: u32| [row(1000, 20, &[]), row(question, 80, &[own])].concat();
        let rows = [of(2000, 1), of(3000, 2), of(2000, 3), of(3000, 4)];
        assert_eq!(groups(&rows, 4096), [(vec![0, 2], 100), (vec![1, 3], 100)]);
        // Rows of questions of their own share the 20.
        let rows = [of(2000, 1), of(3000, 2), of(4000, 3)];
        assert_eq!(groups(&rows, 4096), [(vec![0, 1, 2], 20)]);
    }

    #[test]
    fn equal_rows_keep_a_token_and_groups_fit_a_pass() {
        let rows = vec![row(1000, 30, &[]); 3];
        assert_eq!(groups(&rows, 4096), [(vec![0, 1, 2], 29)]);
        assert_eq!(groups(&rows, 31), [(vec![0, 1], 29), (vec![2], 0)]);
    }
}
