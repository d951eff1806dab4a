//! The sum of the gradients of a step's micro-batches, on the GPU and over ranks, in the order of `tree.rs`.
//!
//! Gradients travel between ranks through host memory, in pieces. All additions are on the GPU in f32, also those of received
//! gradients.

use half::bf16;

use crate::gpu::{Buffer, Gpu, MemoryKind, Plan, PlanBuilder};
use crate::model::error::ModelError;
use crate::model::tensors::TensorSet;
use crate::ops::add;
use crate::ranks::Ranks;
use crate::train::TrainError;
use crate::train::config::{GradientSum as Order, GradientTransfer, TrainConfig};
use crate::train::objective::tree::{TreeOp, running_ops, running_stack_size, stack_size, tree_ops};

/// Values of a piece: 4 MiB in f32.
pub const PIECE_WORDS: usize = 1 << 20;

/// The buffers and plans of the sum over the micro-batches of a step, on these ranks.
pub struct GradientSum {
    gpu: Gpu,
    ranks: Ranks,
    order: Order,
    transfer: GradientTransfer,
    /// The accumulator: a set that backward passes add to.
    gradient: TensorSet,
    stack: Vec<StackEntry>,
}

/// A set of the accumulator's shape, and the plan that adds it to the accumulator.
struct StackEntry {
    kept: TensorSet,
    add: Plan,
}

impl GradientSum {
    /// The sum into `gradient` over the micro-batches of a step of `config`. One micro-batch needs no buffer.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn of(gpu: &Gpu, gradient: &TensorSet, config: &TrainConfig, ranks: &Ranks) -> Result<Self, ModelError> {
        let micro_batches = config.gradient_accumulation_steps as usize;
        let sum = GradientSum::new(gpu, gradient, config.gradient_sum, micro_batches, ranks)?;
        Ok(GradientSum { transfer: config.gradient_transfer, ..sum })
    }

    /// The same for at most `micro_batches` in a step, in this order; gradients travel in f32.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn new(gpu: &Gpu, gradient: &TensorSet, order: Order, micro_batches: usize, ranks: &Ranks) -> Result<Self, ModelError> {
        let entries = match order {
            Order::Tree => stack_size(micro_batches),
            Order::Running => running_stack_size(ranks.size()),
        };
        let gpu = &gpu.for_memory(MemoryKind::Gradient);
        let entry = |n: usize| {
            let kept = TensorSet::zeros(gpu, gradient.groups(), &format!("gradient {n}"))?;
            let mut plan = PlanBuilder::new(gpu.tuning());
            let sums = gradient.all(&mut plan);
            for ((_, x), (_, y)) in kept.all(&mut plan).into_iter().zip(sums) {
                add::record(&mut plan, x, y);
            }
            Ok(StackEntry { kept, add: plan.build(gpu)? })
        };
        let stack = (1..=entries).map(entry).collect::<Result<_, ModelError>>()?;
        let (gradient, transfer) = (gradient.clone(), GradientTransfer::F32);
        Ok(GradientSum { gpu: gpu.clone(), ranks: ranks.clone(), order, transfer, gradient, stack })
    }

    /// The ranks that the micro-batches are divided over.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// What this rank does for a step of `micro_batches`, in order: the caller computes gradients, [`GradientSum::apply`] does
    /// the rest.
    pub fn ops(&self, micro_batches: usize) -> Vec<TreeOp> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        match self.order {
            Order::Tree => tree_ops(micro_batches, rank, size),
            Order::Running => running_ops(micro_batches, rank, size),
        }
    }

    /// Does one of the ops that compute nothing. `depth` counts the entries on the stack, from 0 at the start of a step.
    ///
    /// # Errors
    /// A rank that has failed; what the GPU reports.
    pub async fn apply(&self, op: TreeOp, depth: &mut usize) -> Result<(), TrainError> {
        match op {
            TreeOp::Compute(_) => {}
            TreeOp::Push => {
                self.entry(*depth)?.kept.copy_from(&self.gpu, &self.gradient)?;
                self.gradient.clear(&self.gpu);
                *depth += 1;
            }
            TreeOp::Add => {
                *depth = depth.saturating_sub(1);
                self.entry(*depth)?.add.run(&Default::default()).map_err(ModelError::from)?;
            }
            TreeOp::Send(to) => {
                for piece in self.pieces() {
                    self.ranks.send(to, self.read(&piece).await?)?;
                }
                self.gradient.clear(&self.gpu);
            }
            TreeOp::Receive(from) => {
                for piece in self.pieces() {
                    self.write(&piece, &self.ranks.receive(from)?)?;
                }
            }
        }
        Ok(())
    }

    /// Gives the sum, which rank 0 has, to all ranks. In bf16 rank 0 takes the rounded sum too, as all must have the same.
    ///
    /// # Errors
    /// A rank that has failed; what the GPU reports.
    pub async fn share(&self) -> Result<(), TrainError> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        for piece in self.pieces() {
            let own = if self.ranks.is_first() { self.read(&piece).await? } else { Vec::new() };
            let shared = self.ranks.broadcast(own)?;
            if !self.ranks.is_first() || self.transfer == GradientTransfer::Bf16 {
                self.write(&piece, &shared)?;
            }
        }
        Ok(())
    }

    fn entry(&self, depth: usize) -> Result<&StackEntry, TrainError> {
        let (needed, budget) = (1 << (depth + 1), 1 << self.stack.len());
        self.stack.get(depth).ok_or(TrainError::MicroBatches { needed, budget })
    }

    /// The accumulator as one row of words, cut into pieces: the ranges of buffers of each.
    fn pieces(&self) -> Vec<Vec<(&Buffer, usize, usize)>> {
        let (mut pieces, mut room) = (Vec::new(), 0);
        for buffer in self.gradient.buffers() {
            let mut start = 0;
            while start < buffer.words {
                if room == 0 {
                    pieces.push(Vec::new());
                    room = PIECE_WORDS;
                }
                let words = room.min(buffer.words - start);
                pieces.last_mut().into_iter().for_each(|piece: &mut Vec<_>| piece.push((buffer, start, words)));
                (start, room) = (start + words, room - words);
            }
        }
        pieces
    }

    async fn read(&self, piece: &[(&Buffer, usize, usize)]) -> Result<Vec<u8>, TrainError> {
        let words = self.gpu.read_many(piece).await.map_err(ModelError::from)?.concat();
        let values: &[f32] = bytemuck::cast_slice(&words);
        Ok(match self.transfer {
            GradientTransfer::F32 => bytemuck::cast_slice(values).to_vec(),
            GradientTransfer::Bf16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        })
    }

    fn write(&self, piece: &[(&Buffer, usize, usize)], bytes: &[u8]) -> Result<(), TrainError> {
        let words: Vec<u32> = match self.transfer {
            GradientTransfer::F32 => bytemuck::pod_collect_to_vec(bytes),
            GradientTransfer::Bf16 => {
                bytes.as_chunks().0.iter().map(|half| bf16::from_le_bytes(*half).to_f32().to_bits()).collect()
            }
        };
        let mut rest = &words[..];
        for (buffer, start, length) in piece {
            let (own, others) = rest.split_at(rest.len().min(*length));
            self.gpu.write(buffer, *start, own).map_err(ModelError::from)?;
            rest = others;
        }
        Ok(())
    }
}
