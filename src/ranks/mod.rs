//! The processes of a run that work together. Each is a rank, numbered from 0 up to the world size, as in MPI.
//!
//! ```text
//! alone      one rank: every call returns at once (the default everywhere)
//! threads    ranks in threads of one process: for tests
//! mpi        ranks that mpirun or srun started (cargo feature `mpi`)
//! ```
//!
//! A [`Link`] sends messages between two ranks. All collective operations are made of those here, so they are the same for every
//! link. Ranks call them in the same order.

mod error;
#[cfg(all(feature = "mpi", not(target_arch = "wasm32")))]
mod mpi;
#[cfg(not(target_arch = "wasm32"))]
mod start;
#[cfg(not(target_arch = "wasm32"))]
pub mod threads;
mod values;

use std::ops::Range;
use std::sync::Arc;

pub use error::RankError;
pub use values::{from_message, to_message};

/// Messages between ranks.
///
/// Calls wait without using the processor. They end with an error once a rank has failed or is gone, so no rank waits for ever.
pub trait Link: Send + Sync {
    /// Sends a message. It returns before the message has arrived; an error of the transport comes out of a later call.
    ///
    /// # Errors
    /// A rank has failed.
    fn send(&self, to: usize, bytes: Vec<u8>) -> Result<(), RankError>;

    /// Waits for the next message of rank `from`. Messages of one rank arrive in the order in which they were sent.
    ///
    /// # Errors
    /// A rank has failed.
    fn receive(&self, from: usize) -> Result<Vec<u8>, RankError>;

    /// Tells all ranks why this one fails, and waits until they have stopped. False if a lower rank failed too: that one tells
    /// the user.
    fn fail(&self, message: &str) -> bool;

    /// Waits until all messages have been sent, and ends the link.
    ///
    /// # Errors
    /// A rank has failed.
    fn leave(&self) -> Result<(), RankError>;
}

/// The ranks of a run, as one of them sees them. Cheap to clone.
#[derive(Clone)]
pub struct Ranks {
    rank: usize,
    size: usize,
    local_rank: usize,
    link: Option<Arc<dyn Link>>,
}

impl std::fmt::Debug for Ranks {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl Ranks {
    /// One process that works alone.
    pub fn alone() -> Self {
        Ranks { rank: 0, size: 1, local_rank: 0, link: None }
    }

    /// The first of `size` ranks that are not there: for a plan of a run, which sends nothing.
    pub fn planned(size: usize) -> Self {
        Ranks { size: size.max(1), ..Ranks::alone() }
    }

    /// Rank `rank` of `size`, the `local_rank`-th of its machine.
    #[cfg(not(target_arch = "wasm32"))]
    fn linked(rank: usize, size: usize, local_rank: usize, link: Arc<dyn Link>) -> Self {
        Ranks { rank, size, local_rank, link: Some(link) }
    }

    /// The number of this rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The world size: how many ranks there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The number of this rank among those of its machine.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Whether this is rank 0, which writes files and talks to the user.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The part of `items` items that `rank` of `size` ranks works on: contiguous blocks in the order of the ranks, whose sizes
    /// differ by one at most. The first item is always that of rank 0.
    pub fn block_of(items: usize, rank: usize, size: usize) -> Range<usize> {
        (rank * items).div_ceil(size)..((rank + 1) * items).div_ceil(size)
    }

    /// The part of `items` items that this rank works on.
    pub fn block(&self, items: usize) -> Range<usize> {
        Ranks::block_of(items, self.rank, self.size)
    }

    /// This rank's entry of a list separated by commas, such as adapters: the ranks of a machine take turns.
    pub fn entry<'a>(&self, list: &'a str) -> &'a str {
        let entries: Vec<&str> = list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
        entries.get(self.local_rank % entries.len().max(1)).copied().unwrap_or(list)
    }

    /// The rank of `size` ranks that works on item `item` of `items`.
    pub fn owner_of(items: usize, item: usize, size: usize) -> usize {
        (0..size).find(|rank| Ranks::block_of(items, *rank, size).contains(&item)).unwrap_or(0)
    }

    /// Sends a message to another rank: see [`Link::send`].
    ///
    /// # Errors
    /// A rank has failed.
    pub fn send(&self, to: usize, bytes: Vec<u8>) -> Result<(), RankError> {
        self.link()?.send(to, bytes)
    }

    /// Waits for a message of another rank.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn receive(&self, from: usize) -> Result<Vec<u8>, RankError> {
        self.link()?.receive(from)
    }

    /// What every rank gives, in the order of the ranks.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RankError> {
        if self.size == 1 {
            return Ok(vec![own]);
        }
        if !self.is_first() {
            self.send(0, own)?;
            return Ok(unframed(&self.broadcast(Vec::new())?));
        }
        let mut all = vec![own];
        for rank in 1..self.size {
            all.push(self.receive(rank)?);
        }
        self.broadcast(framed(&all))?;
        Ok(all)
    }

    /// As [`Ranks::all_gather`], of numbers.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn all_gather_numbers(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, RankError> {
        let all = self.all_gather(bytemuck::cast_slice(own).to_vec())?;
        Ok(all.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect())
    }

    /// The bytes that rank 0 gives. What the others give is ignored.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RankError> {
        // A binomial tree: in each round, every rank that has the bytes sends them to one that lacks them.
        let mut bytes = bytes;
        let rounds = self.size.next_power_of_two().ilog2();
        for round in 0..rounds {
            let have = 1 << round;
            if (have..2 * have).contains(&self.rank) {
                bytes = self.receive(self.rank - have)?;
            } else if self.rank < have && self.rank + have < self.size {
                self.send(self.rank + have, bytes.clone())?;
            }
        }
        Ok(bytes)
    }

    /// Whether the flag of any rank is set. Every rank waits for all of them.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn any(&self, flag: bool) -> Result<bool, RankError> {
        Ok(self.all_gather(vec![u8::from(flag)])?.iter().any(|flag| flag == &[1]))
    }

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn barrier(&self) -> Result<(), RankError> {
        self.any(false).map(|_| ())
    }

    /// Checks that facts, each a name and a value, are the same on all ranks. The names are. All ranks get the same answer.
    ///
    /// # Errors
    /// The first rank with a fact that differs from that of rank 0; a rank that has failed.
    pub fn check_same(&self, facts: &[(String, String)]) -> Result<(), RankError> {
        let values: Vec<Vec<u8>> = facts.iter().map(|(_, value)| value.as_bytes().to_vec()).collect();
        let all: Vec<Vec<Vec<u8>>> = self.all_gather(framed(&values))?.iter().map(|values| unframed(values)).collect();
        let text = |rank: usize, fact: usize| String::from_utf8_lossy(&all[rank][fact]).into_owned();
        for rank in 1..all.len() {
            if let Some(fact) = (0..facts.len()).find(|fact| all[rank].get(*fact) != all[0].get(*fact)) {
                let (what, found, first) = (facts[fact].0.clone(), text(rank, fact), text(0, fact));
                return Err(RankError::Differs { rank, what, found, first });
            }
        }
        Ok(())
    }

    /// Tells all ranks why this one fails, so that they end too. True if this rank is the one that tells the user.
    pub fn fail(&self, message: &str) -> bool {
        self.link.as_ref().is_none_or(|link| link.fail(message))
    }

    /// Ends the work of this rank, once all ranks are here.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn leave(&self) -> Result<(), RankError> {
        match &self.link {
            None => Ok(()),
            Some(link) => self.barrier().and_then(|()| link.leave()),
        }
    }

    fn link(&self) -> Result<&dyn Link, RankError> {
        self.link.as_deref().ok_or(RankError::Alone)
    }
}

/// Messages in one, each after its length.
fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| [&(message.len() as u64).to_le_bytes(), &message[..]].concat()).collect()
}

/// The messages of [`framed`].
fn unframed(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (message, rest) = rest.split_at(rest.len().min(u64::from_le_bytes(*length) as usize));
        messages.push(message.to_vec());
        bytes = rest;
    }
    messages
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    /// What each of `size` ranks makes of `work`, in the order of the ranks.
    fn each<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let handles: Vec<_> = threads::ranks(size).into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        })
    }

    #[test]
    fn collectives_give_every_rank_the_same() {
        for size in 1..=9 {
            let gathered = each(size, |ranks| ranks.all_gather(vec![ranks.rank() as u8; ranks.rank()]).unwrap());
            let expected: Vec<Vec<u8>> = (0..size).map(|rank| vec![rank as u8; rank]).collect();
            assert!(gathered.iter().all(|all| *all == expected), "{size}: {gathered:?}");
            let numbers = each(size, |ranks| ranks.all_gather_numbers(&[ranks.rank() as f64, f64::INFINITY]).unwrap());
            assert!(numbers.iter().all(|all| all.len() == size && all[size - 1] == [size as f64 - 1.0, f64::INFINITY]));
            let shared = each(size, |ranks| ranks.broadcast(vec![7 + ranks.rank() as u8]).unwrap());
            assert!(shared.iter().all(|bytes| *bytes == [7]), "{size}: {shared:?}");
            let any = each(size, |ranks| [ranks.any(ranks.rank() + 1 == size).unwrap(), ranks.any(false).unwrap()]);
            assert!(any.iter().all(|flags| *flags == [true, false]));
        }
    }

    #[test]
    fn blocks_cover_all_items_in_order() {
        for (items, size) in [(8, 3), (3, 3), (2, 4), (7, 1)] {
            let blocks: Vec<usize> = (0..size).flat_map(|rank| Ranks::block_of(items, rank, size)).collect();
            assert_eq!(blocks, (0..items).collect::<Vec<_>>());
            each(size, |ranks| assert!(ranks.block(items).all(|item| Ranks::owner_of(items, item, size) == ranks.rank())));
        }
        assert_eq!((0..3).map(|rank| Ranks::block_of(8, rank, 3)).collect::<Vec<_>>(), [0..3, 3..6, 6..8]);
    }

    #[test]
    fn ranks_of_a_machine_take_turns() {
        assert_eq!(each(3, |ranks| ranks.entry("0, 1").to_string()), ["0", "1", "0"]);
        assert_eq!(each(2, |ranks| ranks.entry("llvmpipe").to_string()), ["llvmpipe"; 2]);
        assert_eq!([Ranks::alone().entry(""), Ranks::alone().entry(",")], ["", ","]);
    }

    #[test]
    fn a_rank_that_differs_is_named_on_all() {
        let facts = |seed: &str| [("version", "1"), ("seed", seed)].map(|(name, value)| (name.to_string(), value.to_string()));
        let found = each(3, |ranks| ranks.check_same(&facts(if ranks.rank() == 2 { "7" } else { "42" })));
        for error in found {
            assert_eq!(error.unwrap_err().to_string(), "seed differs between the ranks: 7 on rank 2, and 42 on rank 0");
        }
    }

    /// The others are in a collective that cannot end.
    #[test]
    fn a_rank_that_fails_ends_all_of_them() {
        let ends = each(4, |ranks| match ranks.rank() {
            2 => Err(ranks.fail("the disk is full")),
            _ => Ok(ranks.barrier().unwrap_err()),
        });
        for (rank, end) in ends.into_iter().enumerate() {
            match end {
                Err(tells) => assert!(rank == 2 && tells),
                Ok(error) => {
                    assert_eq!(error.to_string(), "rank 2: the disk is full");
                    assert!(error.is_told());
                }
            }
        }
        // Of several, the lowest tells the user.
        let tells = each(3, |ranks| ranks.fail("no such file"));
        assert_eq!(tells, [true, false, false]);
    }
}
