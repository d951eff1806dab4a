//! The loops of a kernel, found in the graph of its blocks.

use std::collections::BTreeSet;

use crate::code::{Block, Instruction, Kind};

/// What one turn of a loop consists of; the loops inside it are not counted.
pub struct Loop<'a> {
    pub instructions: Vec<&'a Instruction>,
    /// Whether no loop is inside it.
    pub innermost: bool,
}

impl Loop<'_> {
    pub fn count(&self, wanted: impl Fn(Kind) -> bool) -> u32 {
        self.instructions.iter().filter(|i| wanted(i.kind)).count() as u32
    }

    pub fn multiply_adds(&self) -> u32 {
        self.count(|k| k == Kind::MultiplyAdd)
    }

    pub fn loads(&self) -> u32 {
        self.count(|k| matches!(k, Kind::Load(_)))
    }
}

/// The natural loops: of each edge back to a block that dominates it, the blocks from which that edge is reached without passing
/// the target. Loops with the same first block are one loop.
pub fn loops(blocks: &[Block]) -> Vec<Loop<'_>> {
    let mut previous = vec![Vec::new(); blocks.len()];
    for (i, block) in blocks.iter().enumerate() {
        block.next.iter().for_each(|next| previous[*next].push(i));
    }
    let dominators = dominators(&previous);
    let mut bodies: Vec<(usize, BTreeSet<usize>)> = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        for first in block.next.iter().filter(|next| dominators[i].contains(next)) {
            let at = bodies.iter().position(|(other, _)| other == first).unwrap_or_else(|| {
                bodies.push((*first, [*first].into()));
                bodies.len() - 1
            });
            let body = &mut bodies[at].1;
            let mut open = vec![i];
            while let Some(block) = open.pop() {
                if body.insert(block) {
                    open.extend(&previous[block]);
                }
            }
        }
    }
    let of = |(first, body): &(usize, BTreeSet<usize>)| {
        let inner = bodies.iter().filter(|(other, _)| other != first && body.contains(other));
        let inner: BTreeSet<usize> = inner.flat_map(|(_, blocks)| blocks.iter().copied()).collect();
        let instructions = body.difference(&inner).flat_map(|i| &blocks[*i].instructions).collect();
        Loop { instructions, innermost: inner.is_empty() }
    };
    bodies.iter().map(of).collect()
}

/// The blocks that every way from the first block to a block passes, itself included. A block that is never reached has all.
fn dominators(previous: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let all: BTreeSet<usize> = (0..previous.len()).collect();
    let mut dominators = vec![all; previous.len()];
    if let Some(first) = dominators.first_mut() {
        *first = [0].into();
    }
    loop {
        let mut changed = false;
        for i in 1..previous.len() {
            let common = previous[i].iter().map(|p| dominators[*p].clone()).reduce(|a, b| a.intersection(&b).copied().collect());
            let mut new = common.unwrap_or_default();
            new.insert(i);
            if new != dominators[i] {
                dominators[i] = new;
                changed = true;
            }
        }
        if !changed {
            return dominators;
        }
    }
}

/// The loop that the time goes into: that with the most multiply-adds; without any, the innermost one with the most loads, then
/// with the most instructions.
pub fn hottest<'a>(loops: &'a [Loop<'a>]) -> Option<&'a Loop<'a>> {
    loops
        .iter()
        .max_by_key(|l| (l.multiply_adds() + l.count(|k| k == Kind::Matrix), l.innermost, l.loads(), l.instructions.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kinds: &[Kind], next: &[usize]) -> Block {
        let instructions = kinds.iter().map(|kind| Instruction::of(*kind)).collect();
        Block { instructions, next: next.to_vec() }
    }

    /// 0 → 1 → 2 ⟲, 2 → 3 → 1, 3 → 4 → 5 ⟲ → end.
    #[test]
    fn loops_are_found_without_those_inside_them() {
        use Kind::{Alu, Load, MultiplyAdd, Scalar};
        let blocks = [
            block(&[Scalar], &[1]),
            block(&[Load(16), Alu], &[2]),
            block(&[MultiplyAdd, MultiplyAdd], &[2, 3]),
            block(&[Alu, Scalar], &[1, 4]),
            block(&[Scalar], &[5]),
            block(&[Alu, Load(4), Scalar], &[5]),
        ];
        let found = loops(&blocks);
        let sizes: Vec<(usize, u32, bool)> = found.iter().map(|l| (l.instructions.len(), l.loads(), l.innermost)).collect();
        assert_eq!(sizes, [(2, 0, true), (4, 1, false), (3, 1, true)]);
        assert_eq!(hottest(&found).map(Loop::multiply_adds), Some(2));
        assert!(loops(&[block(&[Scalar], &[])]).is_empty() && hottest(&[]).is_none());
        assert_eq!(hottest(&found[1..]).map(|l| l.instructions.len()), Some(3), "without multiply-adds: the innermost one");
    }
}
