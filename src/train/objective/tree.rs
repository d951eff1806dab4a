//! The order in which the gradients of a step are added: one fixed binary tree over its micro-batches.
//!
//! ```text
//! level 2          0-4             a node of level l covers 2^l micro-batches, cut at the last one;
//! level 1     0-1       2-3        its value is left + right, or left where there is no right
//! level 0    0   1     2   3   4
//! ```
//!
//! f32 sums depend on their order. This one does not depend on which rank computes which micro-batch, so a run has the same bytes
//! on any number of ranks. Each rank computes a contiguous block. A node belongs to the rank that computes its first micro-batch;
//! where its right half belongs to another rank, that one sends it.

use std::ops::Range;

use crate::ranks::Ranks;

/// One step of a rank's part of the sum. The accumulator is empty at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeOp {
    /// Add the gradient of this micro-batch to the accumulator, which is empty in the order of the tree.
    Compute(usize),
    /// Put the accumulator on the stack; it is empty then.
    Push,
    /// Take the top of the stack and add the accumulator to it, into the accumulator.
    Add,
    /// Send the accumulator to this rank; it is empty then.
    Send(usize),
    /// Receive what this rank sends into the accumulator, which is empty.
    Receive(usize),
}

/// The most entries on the stack, on any number of ranks.
pub fn stack_size(micro_batches: usize) -> usize {
    micro_batches.max(1).ilog2() as usize
}

/// The same for the order in which each rank adds its own gradients as they come: only what other ranks send needs room.
pub fn running_stack_size(ranks: usize) -> usize {
    usize::from(ranks > 1)
}

/// As [`tree_ops`], where each rank computes all of its micro-batches into the accumulator, and the tree is over ranks.
pub fn running_ops(micro_batches: usize, rank: usize, size: usize) -> Vec<TreeOp> {
    let block = |rank| Ranks::block_of(micro_batches, rank, size);
    let owners: Vec<usize> = (0..size).filter(|rank| !block(*rank).is_empty()).collect();
    let place = owners.iter().position(|owner| *owner == rank);
    let tree = Tree { own: place.map_or(0..0, |place| place..place + 1), owners, rank };
    let compute = |op| match op {
        TreeOp::Compute(_) => block(rank).map(TreeOp::Compute).collect(),
        op => vec![op],
    };
    tree.ops().into_iter().flat_map(compute).collect()
}

/// The part of `rank` of `size` ranks in the sum over `micro_batches`. At the end the accumulator of rank 0 holds the sum, and
/// that of the others is empty.
///
/// A rank receives only after it has computed all of its own, so nobody waits for a sum while there is work.
pub fn tree_ops(micro_batches: usize, rank: usize, size: usize) -> Vec<TreeOp> {
    let owners = (0..micro_batches).map(|item| Ranks::owner_of(micro_batches, item, size)).collect();
    Tree { owners, rank, own: Ranks::block_of(micro_batches, rank, size) }.ops()
}

struct Tree {
    /// The rank of each leaf.
    owners: Vec<usize>,
    rank: usize,
    /// The leaves of this rank.
    own: Range<usize>,
}

impl Tree {
    fn ops(&self) -> Vec<TreeOp> {
        let mut ops = Vec::new();
        if !self.owners.is_empty() {
            self.visit(self.owners.len().next_power_of_two().ilog2(), 0, &mut ops);
        }
        ops
    }

    /// Appends what this rank does for node `index` of a level.
    fn visit(&self, level: u32, index: usize, ops: &mut Vec<TreeOp>) {
        let (start, end) = (index << level, (index + 1) << level);
        if self.own.start >= end || self.own.end <= start {
            return;
        }
        if level == 0 {
            return ops.push(TreeOp::Compute(index));
        }
        let middle = start + (1 << (level - 1));
        self.visit(level - 1, 2 * index, ops);
        let Some(right) = self.owners.get(middle) else { return };
        let left = self.owners[start];
        if left == self.rank {
            ops.push(TreeOp::Push);
        }
        self.visit(level - 1, 2 * index + 1, ops);
        if left != *right && *right == self.rank {
            ops.push(TreeOp::Send(left));
        }
        if left == self.rank {
            ops.extend((*right != self.rank).then_some(TreeOp::Receive(*right)));
            ops.push(TreeOp::Add);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use super::*;

    /// The sum over these values by the ops of `size` ranks, and the deepest stack.
    fn sum(values: &[f32], size: usize) -> (f32, usize) {
        sum_by(values, size, tree_ops)
    }

    fn sum_by(values: &[f32], size: usize, ops: fn(usize, usize, usize) -> Vec<TreeOp>) -> (f32, usize) {
        let mut lists: Vec<VecDeque<TreeOp>> = (0..size).map(|rank| ops(values.len(), rank, size).into()).collect();
        let mut accumulators = vec![None; size];
        let mut stacks = vec![Vec::new(); size];
        let mut messages: HashMap<(usize, usize), VecDeque<f32>> = HashMap::new();
        let mut deepest = 0;
        while lists.iter().any(|ops| !ops.is_empty()) {
            let mut moved = false;
            for rank in 0..size {
                let Some(op) = lists[rank].front().copied() else { continue };
                let accumulator = &mut accumulators[rank];
                match op {
                    TreeOp::Compute(item) => *accumulator = Some(accumulator.map_or(values[item], |sum| sum + values[item])),
                    TreeOp::Push => stacks[rank].push(accumulator.take().unwrap()),
                    TreeOp::Add => *accumulator = Some(stacks[rank].pop().unwrap() + accumulator.unwrap()),
                    TreeOp::Send(to) => messages.entry((rank, to)).or_default().push_back(accumulator.take().unwrap()),
                    TreeOp::Receive(from) => {
                        let Some(value) = messages.entry((from, rank)).or_default().pop_front() else { continue };
                        assert_eq!(accumulator.replace(value), None);
                    }
                }
                deepest = deepest.max(stacks[rank].len());
                lists[rank].pop_front();
                moved = true;
            }
            assert!(moved, "all ranks wait");
        }
        assert!(accumulators[1..].iter().all(Option::is_none) && stacks.iter().all(Vec::is_empty));
        assert!(messages.values().all(VecDeque::is_empty));
        (accumulators[0].unwrap(), deepest)
    }

    /// Values whose sum depends on the order.
    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| [1e8, 1.0, -1e8, 3.0, 0.125, 1e-3, 7.7][i % 7] * (1.0 + i as f32)).collect()
    }

    #[test]
    fn trees_written_by_hand() {
        let v = values(7);
        let by_hand = [
            v[0],
            v[0] + v[1],
            (v[0] + v[1]) + v[2],
            (v[0] + v[1]) + (v[2] + v[3]),
            ((v[0] + v[1]) + (v[2] + v[3])) + v[4],
            ((v[0] + v[1]) + (v[2] + v[3])) + (v[4] + v[5]),
            ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + v[6]),
        ];
        for (n, expected) in by_hand.iter().enumerate() {
            assert_eq!(sum(&v[..=n], 1).0.to_bits(), expected.to_bits(), "{}", n + 1);
        }
        let running = v.iter().fold(0.0, |sum, x| sum + x);
        assert_ne!(running.to_bits(), by_hand[6].to_bits(), "these values do not tell the orders apart");
    }

    /// Also more ranks than micro-batches, as in the last step of an epoch.
    #[test]
    fn any_number_of_ranks_gives_the_same_bits() {
        for n in 1..=40 {
            let v = values(n);
            let (alone, deepest) = sum(&v, 1);
            assert_eq!(deepest, stack_size(n), "{n}");
            for size in 2..=12 {
                let (together, deepest) = sum(&v, size);
                assert_eq!(together.to_bits(), alone.to_bits(), "{n} micro-batches on {size} ranks");
                assert!(deepest <= stack_size(n), "{n} on {size}: {deepest}");
            }
        }
    }

    /// Each rank adds its own as they come, and the ranks are added in a tree.
    #[test]
    fn running_sums_of_ranks() {
        let v = values(7);
        let running = |part: &[f32]| part[1..].iter().fold(part[0], |sum, x| sum + x);
        assert_eq!(sum_by(&v, 1, running_ops), (running(&v), 0));
        let three = (running(&v[..3]) + running(&v[3..5])) + running(&v[5..]);
        assert_eq!(sum_by(&v, 3, running_ops).0.to_bits(), three.to_bits());
        for n in 1..=20 {
            for size in 1..=12 {
                let (found, deepest) = sum_by(&vec![1.0; n], size, running_ops);
                assert!(found == n as f32 && deepest <= running_stack_size(size), "{n} on {size}: {found}, {deepest}");
            }
        }
    }

    #[test]
    fn one_micro_batch_needs_nothing() {
        assert_eq!(tree_ops(1, 0, 1), [TreeOp::Compute(0)]);
        assert_eq!((tree_ops(0, 0, 1), stack_size(1)), (Vec::new(), 0));
    }
}
