//! Blocks of rows divided over ranks, which take turns. Rank 0 gets what the others judged.
//!
//! ```text
//! rank 0   go on: a byte, `AHEAD` turns before it needs the block ──►   other ranks
//!          judgements of a block, or an empty message at the end  ◄──
//! ```
//!
//! Whoever judges a block judges it alone, as one process does, so its scores have the same bytes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cli::CliError;
use crate::judge::ScoreRecord;
use crate::ranks::{Ranks, from_message, to_message};
use crate::words::count;

/// Turns that a rank may be ahead of rank 0: blocks take unequal times.
const AHEAD: usize = 2;

const GO_ON: u8 = 1;
const END: u8 = 0;

/// Judgements of the rows of a block, `SIDES` of each.
pub type Judged<const SIDES: usize> = Vec<[ScoreRecord; SIDES]>;

/// The rows that are judged together, and which of them are left to judge.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Blocks {
    pub rows: usize,
    /// Rows of a block; the last one may have fewer.
    pub size: usize,
    /// The first block to judge.
    pub first: usize,
}

impl Blocks {
    /// The numbers of the blocks to judge.
    pub fn numbers(&self) -> Range<usize> {
        self.first..self.rows.div_ceil(self.size)
    }

    /// The rows of a block.
    pub fn rows_of(&self, block: usize) -> Range<usize> {
        block * self.size..self.rows.min((block + 1) * self.size)
    }

    /// A warning that some of `ranks` ranks have nothing to do.
    pub fn fewer_than(&self, ranks: usize) -> Option<String> {
        let blocks = self.numbers().len();
        let idle = ranks.checked_sub(blocks).filter(|idle| *idle > 0)?;
        Some(format!(
            "{} of {} each for {ranks} ranks: {idle} of them idle; a smaller --batch-size makes smaller blocks",
            count(blocks, "block"),
            count(self.size, "row")
        ))
    }

    /// The rank of `ranks` that judges a block.
    pub fn judge_of(&self, block: usize, ranks: usize) -> usize {
        (block - self.first) % ranks
    }

    /// The blocks that a rank judges, in its turns.
    fn turns(&self, rank: usize, ranks: usize) -> impl Iterator<Item = usize> + use<> {
        self.numbers().skip(rank).step_by(ranks)
    }
}

/// The other ranks, as rank 0 sees them.
pub struct Others<'a> {
    ranks: &'a Ranks,
    blocks: Blocks,
    /// Ranks that will send no more blocks.
    ended: Vec<bool>,
}

impl<'a> Others<'a> {
    pub fn new(ranks: &'a Ranks, blocks: Blocks) -> Self {
        Others { ranks, blocks, ended: vec![false; ranks.size()] }
    }

    /// Lets the others go on, before rank 0 judges a block of its own.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn go_on(&self, own: usize) -> Result<(), CliError> {
        let size = self.ranks.size();
        for rank in 1..size {
            if self.blocks.numbers().contains(&(own + rank + AHEAD * size)) {
                self.ranks.send(rank, vec![GO_ON])?;
            }
        }
        Ok(())
    }

    /// What another rank judged; `None` if it was interrupted.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn judged<const SIDES: usize>(&mut self, rank: usize) -> Result<Option<Judged<SIDES>>, CliError> {
        let message = self.ranks.receive(rank)?;
        self.ended[rank] = message.is_empty();
        if message.is_empty() { Ok(None) } else { judgements(rank, &message).map(Some) }
    }

    /// Ends the work of the others, and waits until they are ready for other work.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn end(self) -> Result<(), CliError> {
        for rank in 1..self.ranks.size() {
            self.ranks.send(rank, vec![END])?;
        }
        for rank in 1..self.ranks.size() {
            while !self.ended[rank] && !self.ranks.receive(rank)?.is_empty() {}
        }
        Ok(())
    }
}

/// What another rank than rank 0 does: judges the blocks of its turns. `judge` gives `None` when interrupted.
///
/// # Errors
/// Those of `judge`; a rank has failed.
pub fn judge_for_first<const SIDES: usize>(
    ranks: &Ranks,
    blocks: Blocks,
    mut judge: impl FnMut(Range<usize>) -> Result<Option<Judged<SIDES>>, CliError>,
) -> Result<(), CliError> {
    let mut goes_on = true;
    for (turn, block) in blocks.turns(ranks.rank(), ranks.size()).enumerate() {
        goes_on = turn < AHEAD || ranks.receive(0)? == [GO_ON];
        if !goes_on {
            break;
        }
        let Some(judged) = judge(blocks.rows_of(block))? else { break };
        ranks.send(0, to_message(&judged.as_flattened())?)?;
    }
    ranks.send(0, Vec::new())?;
    while goes_on {
        goes_on = ranks.receive(0)? == [GO_ON];
    }
    Ok(())
}

/// The judgements of a message.
fn judgements<const SIDES: usize>(rank: usize, message: &[u8]) -> Result<Judged<SIDES>, CliError> {
    let all: Vec<ScoreRecord> = from_message(rank, message)?;
    let (rows, _) = all.as_chunks();
    Ok(rows.to_vec())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ranks::threads;

    /// A judgement that says of which row it is, with a number that has no short form.
    fn record(row: usize) -> [ScoreRecord; 1] {
        [ScoreRecord { expected: Some(row as f64 + 0.1 + 0.2), ..ScoreRecord::default() }]
    }

    /// What rank 0 gets of `blocks`, where rank `stops.0` is interrupted before its `stops.1`-th block; and how many blocks all
    /// ranks judged.
    fn divided(size: usize, blocks: Blocks, stops: Option<(usize, usize)>) -> (Vec<[ScoreRecord; 1]>, usize) {
        let judged_blocks = AtomicUsize::new(0);
        let work = |ranks: Ranks| -> Vec<[ScoreRecord; 1]> {
            let mut own = 0;
            let mut judge = |rows: Range<usize>| {
                own += 1;
                if stops == Some((ranks.rank(), own - 1)) {
                    return Ok(None);
                }
                judged_blocks.fetch_add(1, Ordering::SeqCst);
                Ok(Some(rows.map(record).collect()))
            };
            let mut all = Vec::new();
            if !ranks.is_first() {
                judge_for_first(&ranks, blocks, judge).unwrap();
            } else {
                let mut others = Others::new(&ranks, blocks);
                for block in blocks.numbers() {
                    let judged = match blocks.judge_of(block, size) {
                        0 => {
                            others.go_on(block).unwrap();
                            judge(blocks.rows_of(block)).unwrap()
                        }
                        rank => others.judged(rank).unwrap(),
                    };
                    let Some(judged) = judged else { break };
                    all.extend(judged);
                }
                others.end().unwrap();
            }
            ranks.leave().unwrap();
            all
        };
        let work = &work;
        let all = std::thread::scope(|scope| {
            let handles: Vec<_> = threads::ranks(size).into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).next().unwrap()
        });
        (all, judged_blocks.into_inner())
    }

    #[test]
    fn rank_0_gets_all_rows_in_order() {
        for size in 1..=5 {
            for (rows, of_block, first) in [(1, 4, 0), (23, 3, 0), (24, 3, 5), (100, 1, 99), (40, 2, 1)] {
                let blocks = Blocks { rows, size: of_block, first };
                let expected: Vec<_> = (first * of_block..rows).map(record).collect();
                let (found, judged) = divided(size, blocks, None);
                assert!(found == expected && judged == blocks.numbers().len(), "{size} ranks, {blocks:?}");
            }
        }
    }

    /// The rows before the block of the interruption are there, and nobody judges on.
    #[test]
    fn an_interruption_of_one_rank_ends_all() {
        let blocks = Blocks { rows: 1000, size: 1, first: 0 };
        for size in 1..=4 {
            for rank in 0..size {
                let (found, judged) = divided(size, blocks, Some((rank, 3)));
                assert_eq!(found, (0..3 * size + rank).map(record).collect::<Vec<_>>());
                assert!(judged <= (3 + 2 + AHEAD) * size, "{judged} blocks");
            }
        }
    }

    #[test]
    fn idle_ranks_are_told_of() {
        let line = Blocks { rows: 9, size: 4, first: 1 }.fewer_than(3).unwrap();
        assert_eq!(line, "2 blocks of 4 rows each for 3 ranks: 1 of them idle; a smaller --batch-size makes smaller blocks");
        assert_eq!(Blocks { rows: 9, size: 4, first: 0 }.fewer_than(3), None);
    }

    #[test]
    fn judgements_keep_their_bits() {
        let judged: Judged<2> = vec![[ScoreRecord::failed("too long"), record(7)[0].clone()]];
        assert_eq!(judgements::<2>(1, &to_message(&judged.as_flattened()).unwrap()).unwrap(), judged);
        let error = judgements::<2>(3, b"[{}").unwrap_err().to_string();
        assert!(error.starts_with("what rank 3 sent cannot be read"), "{error}");
    }
}
