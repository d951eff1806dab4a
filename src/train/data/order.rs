//! The order of the training rows. Each epoch is a permutation that depends only on seed and epoch, so the state of the order is
//! two numbers.
//!
//! With clusters, rows of one cluster come in runs of four. Rows that begin alike then meet in a batch, where what they share is
//! computed once, and a batch of eight still has two clusters or more.

use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::train::TrainError;

/// Separates the random streams of data orders from all others; the low 32 bits hold the epoch.
const PURPOSE: u64 = 0x0D_DE << 32;

/// Rows of a cluster that come one after the other.
const RUN: usize = 4;

/// A position in the data: all that a checkpoint stores of the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub epoch: u64,
    /// Rows of this epoch already seen; less than the number of rows (the end of an epoch is the start of the next).
    pub position: u64,
    /// Number of rows in the data, to detect that it changed.
    pub rows: u64,
}

impl Cursor {
    /// Epochs seen so far, as a fraction.
    pub(in crate::train) fn epochs(&self) -> f64 {
        self.epoch as f64 + self.position as f64 / self.rows.max(1) as f64
    }
}

/// Yields the rows epoch after epoch, each epoch in its own order.
#[derive(Clone, Debug)]
pub struct DataOrder {
    seed: u64,
    cursor: Cursor,
    /// The cluster of each row; none: every row by itself.
    clusters: Option<Vec<u32>>,
    /// The permutation of the cursor's epoch.
    permutation: Vec<u32>,
}

impl DataOrder {
    /// The order of `seed` over `rows` rows, from the start.
    pub fn new(seed: u64, rows: usize) -> Result<Self, TrainError> {
        Self::resume(seed, rows, None, Cursor { rows: rows as u64, ..Cursor::default() })
    }

    /// The order of `seed` over rows of these clusters, from the start.
    pub fn of_clusters(seed: u64, clusters: Vec<u32>) -> Result<Self, TrainError> {
        let rows = clusters.len();
        Self::resume(seed, rows, Some(clusters), Cursor { rows: rows as u64, ..Cursor::default() })
    }

    /// The same order, from a cursor that [`DataOrder::cursor`] returned. Fails if the data had another length.
    pub fn at(self, cursor: Cursor) -> Result<Self, TrainError> {
        Self::resume(self.seed, self.permutation.len(), self.clusters, cursor)
    }

    fn resume(seed: u64, rows: usize, clusters: Option<Vec<u32>>, cursor: Cursor) -> Result<Self, TrainError> {
        if rows == 0 {
            return Err(TrainError::NoRows { why: "check train_file, and max_length if rows were skipped as too long".into() });
        }
        if u32::try_from(rows).is_err() {
            return Err(TrainError::NoRows { why: format!("{rows} are too many: at most {} can be ordered", u32::MAX) });
        }
        if cursor.rows != rows as u64 {
            let then = cursor.rows;
            return Err(TrainError::ResumeMismatch {
                what: format!("the data has {rows} usable rows and had {then} at the checkpoint"),
            });
        }
        if cursor.position >= cursor.rows {
            let (position, epoch) = (cursor.position, cursor.epoch);
            return Err(TrainError::ResumeMismatch { what: format!("position {position} in epoch {epoch} is past {rows} rows") });
        }
        let permutation = permutation(seed, rows as u32, clusters.as_deref(), cursor.epoch);
        Ok(DataOrder { seed, cursor, clusters, permutation })
    }

    /// Indices of the next `count` rows, or of those left in the epoch. A batch never crosses the end of an epoch.
    pub fn next_rows(&mut self, count: usize) -> Vec<usize> {
        let start = self.cursor.position as usize;
        let end = start.saturating_add(count.max(1)).min(self.permutation.len());
        let batch = self.permutation[start..end].iter().map(|&row| row as usize).collect();
        self.cursor.position = end as u64;
        if end == self.permutation.len() {
            self.cursor.epoch += 1;
            self.cursor.position = 0;
            self.permutation = permutation(self.seed, self.permutation.len() as u32, self.clusters.as_deref(), self.cursor.epoch);
        }
        batch
    }

    /// What all epochs are drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The current position.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Epochs seen, as a fraction: 1.5 in the middle of the second.
    pub fn epochs(&self) -> f64 {
        self.cursor.epochs()
    }
}

/// The permutation of one epoch.
fn permutation(seed: u64, rows: u32, clusters: Option<&[u32]>, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows).collect();
    let mut stream = Stream::new(seed, PURPOSE ^ epoch);
    stream.shuffle(&mut order);
    let Some(clusters) = clusters else { return order };
    // A stable sort: within a cluster the rows stay shuffled.
    order.sort_by_key(|row| clusters[*row as usize]);
    let of_cluster = order.chunk_by(|a, b| clusters[*a as usize] == clusters[*b as usize]);
    let mut runs: Vec<&[u32]> = of_cluster.flat_map(|rows| rows.chunks(RUN)).collect();
    stream.shuffle(&mut runs);
    runs.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_a_permutation_of_its_own() {
        let mut order = DataOrder::new(3, 10).unwrap();
        let epochs: Vec<Vec<usize>> = (0..3).map(|_| (0..3).flat_map(|_| order.next_rows(4)).collect()).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
        assert_ne!(epochs[0], DataOrder::new(4, 10).unwrap().next_rows(10));
        assert_eq!(epochs[0], DataOrder::new(3, 10).unwrap().next_rows(100));
    }

    #[test]
    fn the_last_batch_of_an_epoch_is_short() {
        let mut order = DataOrder::new(3, 10).unwrap();
        let lengths: Vec<usize> = (0..6).map(|_| order.next_rows(4).len()).collect();
        assert_eq!(lengths, [4, 4, 2, 4, 4, 2]);
        assert_eq!(order.cursor(), Cursor { epoch: 2, position: 0, rows: 10 });
        assert_eq!(order.epochs(), 2.0);
    }

    #[test]
    fn resumes_anywhere_exactly() {
        let mut straight = DataOrder::new(9, 7).unwrap();
        let batches: Vec<Vec<usize>> = (0..12).map(|_| straight.next_rows(3)).collect();
        for cut in 0..12 {
            let mut first = DataOrder::new(9, 7).unwrap();
            (0..cut).for_each(|_| drop(first.next_rows(3)));
            let kept: Cursor = serde_json::from_str(&serde_json::to_string(&first.cursor()).unwrap()).unwrap();
            let mut resumed = DataOrder::new(9, 7).unwrap().at(kept).unwrap();
            let rest: Vec<Vec<usize>> = (cut..12).map(|_| resumed.next_rows(3)).collect();
            assert_eq!(rest, batches[cut..], "cut at {cut}");
        }
    }

    #[test]
    fn rows_of_a_cluster_come_in_runs() {
        let clusters: Vec<u32> = (0..40).map(|row| row % 3).collect();
        let order = |seed| DataOrder::of_clusters(seed, clusters.clone()).unwrap();
        let epoch = order(5).next_rows(40);
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..40).collect::<Vec<_>>());
        let changes = epoch.windows(2).filter(|pair| clusters[pair[0]] != clusters[pair[1]]).count();
        assert!(changes <= 12, "{epoch:?}");
        assert_ne!(epoch, order(6).next_rows(40));
        let mut straight = order(5);
        straight.next_rows(16);
        let mut resumed = order(5).at(straight.cursor()).unwrap();
        assert_eq!(straight.next_rows(60), resumed.next_rows(60));
    }

    #[test]
    fn refuses_other_data() {
        let message = |rows, cursor| DataOrder::resume(1, rows, None, cursor).unwrap_err().to_string();
        assert!(message(0, Cursor::default()).starts_with("no training rows are left"));
        let changed = message(5, Cursor { epoch: 0, position: 2, rows: 6 });
        assert!(changed.starts_with("cannot resume: the data has 5 usable rows and had 6 at the checkpoint"), "{changed}");
        assert!(message(5, Cursor { epoch: 0, position: 5, rows: 5 }).contains("past 5 rows"));
    }
}
