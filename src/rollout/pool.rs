//! The entries of a cache, handed out in runs of consecutive ones.

use std::collections::BTreeMap;

/// Consecutive entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub start: u32,
    pub len: u32,
}

/// The entries that nobody has.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Length by start. No two of them touch.
    free: BTreeMap<u32, u32>,
}

impl Pool {
    pub fn new(entries: u32) -> Self {
        Pool { free: [(0, entries)].into_iter().filter(|(_, len)| *len > 0).collect() }
    }

    /// The first `len` consecutive entries that are free; `None` if there are none.
    pub fn take(&mut self, len: u32) -> Option<Segment> {
        if len == 0 {
            return Some(Segment { start: 0, len });
        }
        let (&start, &found) = self.free.iter().find(|(_, free)| **free >= len)?;
        self.free.remove(&start);
        if found > len {
            self.free.insert(start + len, found - len);
        }
        Some(Segment { start, len })
    }

    /// Takes a segment back.
    pub fn put(&mut self, Segment { mut start, mut len }: Segment) {
        if len == 0 {
            return;
        }
        if let Some(after) = self.free.remove(&(start + len)) {
            len += after;
        }
        if let Some((&before, &free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            self.free.remove(&before);
            (start, len) = (before, free + len);
        }
        self.free.insert(start, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn segments_never_overlap_and_all_come_back() {
        let mut pool = Pool::new(100);
        let (mut held, mut stream) = (Vec::<Segment>::new(), Stream::new(1, 1));
        for _ in 0..2000 {
            if stream.chance(0.5) {
                held.extend(pool.take(stream.below(20) as u32));
            } else if !held.is_empty() {
                pool.put(held.swap_remove(stream.below(held.len())));
            }
            let mut owned: Vec<u32> = held.iter().flat_map(|s| s.start..s.start + s.len).collect();
            owned.extend(pool.free.iter().flat_map(|(start, len)| *start..start + len));
            owned.sort_unstable();
            assert_eq!(owned, (0..100).collect::<Vec<_>>());
        }
        held.into_iter().for_each(|segment| pool.put(segment));
        assert_eq!(pool.free, BTreeMap::from([(0, 100)]));
        assert_eq!((pool.take(101), pool.take(100)), (None, Some(Segment { start: 0, len: 100 })));
    }
}
