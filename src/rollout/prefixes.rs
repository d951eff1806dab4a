//! Cached prompts: which of them begin as a new one does, and which may go.
//!
//! A *root* is a segment of the cache with the tokens of a whole prompt. Sequences read its first entries, as many as their own
//! prompts share with it. Where prompts of several beginnings meet (the rubrics of a judge), one that has been seen before should
//! become a root, though another root shares less with it: so the tokens of recent prompts are remembered, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pool::{Pool, Segment};

/// Tokens that a prompt must share with a root to use it.
const LEAST_SHARED: usize = 16;
/// Recent prompts that are remembered.
const MOST_REMEMBERED: usize = 256;

/// The number of a root.
pub(super) type RootId = u64;

struct Root {
    segment: Segment,
    /// None of a root that no other prompt may use.
    ids: Option<Arc<[u32]>>,
    /// Sequences that read it.
    users: usize,
    /// When it was used last.
    used: u64,
}

/// The roots of a cache.
pub(super) struct Prefixes {
    pool: Pool,
    roots: BTreeMap<RootId, Root>,
    by_tokens: BTreeSet<(Arc<[u32]>, RootId)>,
    /// When each recent prompt came.
    recent: BTreeMap<Arc<[u32]>, u64>,
    clock: u64,
}

/// What of a prompt is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub root: RootId,
    pub start: u32,
    /// Tokens, from the first on.
    pub len: usize,
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

impl Prefixes {
    pub fn new(entries: u32) -> Self {
        Prefixes {
            pool: Pool::new(entries),
            roots: BTreeMap::new(),
            by_tokens: BTreeSet::new(),
            recent: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The root whose beginning a prompt should use, if computing the prompt as a root of its own is not better. Its last token
    /// is never used: the first draw needs it. `sequences`: how many continue the prompt.
    pub fn find(&self, ids: &Arc<[u32]>, sequences: usize) -> Option<Found> {
        // Of prompts in the order of their tokens, the neighbours share most.
        let key = (ids.clone(), 0);
        let neighbours = self.by_tokens.range(..key.clone()).next_back().into_iter().chain(self.by_tokens.range(key..).next());
        let shared = |of: &(Arc<[u32]>, RootId)| common(&of.0, ids).min(ids.len().saturating_sub(1));
        let best = neighbours.max_by_key(|of| shared(of))?;
        let len = shared(best);
        let recent = self.recent.range(..ids.clone()).next_back().into_iter().chain(self.recent.range(ids.clone()..).next());
        let seen = recent.map(|(of, _)| common(of, ids)).max().unwrap_or(0);
        // One that came a second time as a whole is found as a root, or was found with less than this to compute.
        let returns = seen >= len + LEAST_SHARED && seen - len > (ids.len() - len) / 4;
        let costs = sequences * (ids.len() - len) > ids.len();
        if len < LEAST_SHARED || returns || costs {
            return None;
        }
        Some(Found { root: best.1, start: self.roots.get(&best.1)?.segment.start, len })
    }

    /// Remembers a prompt that came.
    pub fn remember(&mut self, ids: &Arc<[u32]>) {
        self.clock += 1;
        self.recent.insert(ids.clone(), self.clock);
        if self.recent.len() > MOST_REMEMBERED
            && let Some(oldest) = self.recent.iter().min_by_key(|(_, came)| **came).map(|(ids, _)| ids.clone())
        {
            self.recent.remove(&oldest);
        }
    }

    /// Entries, for which roots that nobody reads may have to go: those that were used longest ago first.
    pub fn take(&mut self, len: u32) -> Option<Segment> {
        loop {
            if let Some(segment) = self.pool.take(len) {
                return Some(segment);
            }
            let unused = self.roots.iter().filter(|(_, root)| root.users == 0);
            let oldest = unused.min_by_key(|(_, root)| root.used).map(|(id, _)| *id)?;
            self.forget(oldest);
        }
    }

    /// Takes entries back.
    pub fn put(&mut self, segment: Segment) {
        self.pool.put(segment);
    }

    /// Makes a root of a segment, with one user. Without `ids` it goes with its last user.
    pub fn add(&mut self, segment: Segment, ids: Option<Arc<[u32]>>) -> RootId {
        self.clock += 1;
        let id = self.clock;
        if let Some(ids) = &ids {
            self.by_tokens.insert((ids.clone(), id));
        }
        self.roots.insert(id, Root { segment, ids, users: 1, used: id });
        id
    }

    /// One user more.
    pub fn hold(&mut self, id: RootId) {
        self.clock += 1;
        if let Some(root) = self.roots.get_mut(&id) {
            (root.users, root.used) = (root.users + 1, self.clock);
        }
    }

    /// One user less.
    pub fn release(&mut self, id: RootId) {
        let Some(root) = self.roots.get_mut(&id) else { return };
        root.users = root.users.saturating_sub(1);
        if root.users == 0 && root.ids.is_none() {
            self.forget(id);
        }
    }

    /// Lets all roots go that nobody reads.
    pub fn clear(&mut self) {
        let unused: Vec<RootId> = self.roots.iter().filter(|(_, root)| root.users == 0).map(|(id, _)| *id).collect();
        unused.into_iter().for_each(|id| self.forget(id));
    }

    fn forget(&mut self, id: RootId) {
        if let Some(root) = self.roots.remove(&id) {
            self.pool.put(root.segment);
            if let Some(ids) = root.ids {
                self.by_tokens.remove(&(ids, id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A beginning of this length, then tokens of its own.
    fn prompt(beginning: u32, length: u32, own: u32) -> Arc<[u32]> {
        (0..length).map(|n| beginning + n).chain((0..8).map(|n| own + n)).collect()
    }

    fn come(prefixes: &mut Prefixes, ids: &Arc<[u32]>) -> usize {
        let found = prefixes.find(ids, 1);
        prefixes.remember(ids);
        if found.is_none() {
            let segment = prefixes.take(ids.len() as u32).unwrap();
            let root = prefixes.add(segment, Some(ids.clone()));
            prefixes.release(root);
        }
        found.map_or(0, |found| found.len)
    }

    #[test]
    fn beginnings_are_found() {
        let mut prefixes = Prefixes::new(1000);
        let (a, b) = (|own| prompt(1000, 40, own), |own| [&prompt(1000, 20, 0)[..20], &prompt(3000, 40, own)].concat().into());
        assert_eq!([1, 11, 1, 21].map(|own| come(&mut prefixes, &a(own))), [0, 40, 47, 40]);
        // Another rubric behind the same system prompt: it shares 20 at first; the second time it becomes a root.
        assert_eq!([1, 11, 21, 31].map(|own| come(&mut prefixes, &b(own))), [20, 0, 60, 60]);
        // Too little in common; and a prompt of many chains is rather computed once as a whole.
        assert_eq!(come(&mut prefixes, &prompt(1000, 15, 9000)), 0);
        assert_eq!(prefixes.find(&a(5), 10), None);
    }

    #[test]
    fn what_was_used_longest_ago_goes_and_what_is_read_stays() {
        let mut prefixes = Prefixes::new(100);
        let add = |prefixes: &mut Prefixes, beginning: u32| {
            let ids = prompt(beginning, 32, 1);
            let segment = prefixes.take(40).unwrap();
            prefixes.add(segment, Some(ids))
        };
        let (first, second) = (add(&mut prefixes, 1000), add(&mut prefixes, 2000));
        assert_eq!(prefixes.take(30), None);
        prefixes.release(second);
        prefixes.release(first);
        prefixes.hold(second);
        prefixes.release(second);
        let taken = prefixes.take(30).unwrap();
        assert!(prefixes.find(&prompt(1000, 32, 9), 1).is_none() && prefixes.find(&prompt(2000, 32, 9), 1).is_some());
        prefixes.put(taken);
        assert_eq!(prefixes.take(100).map(|s| s.len), Some(100));
        assert!(prefixes.roots.is_empty() && prefixes.by_tokens.is_empty());
    }
}
