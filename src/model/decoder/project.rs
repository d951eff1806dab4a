//! A projection of the decoder with its LoRA adapter, forward and backward.
//!
//! ```text
//! x ──┬───────────── W ──────────────► + ─► y         u = x Aᵀ      y = x Wᵀ + s u Bᵀ
//!     └─ (dropout) ─ A ─► u ─ B, s ────┘
//!
//! dB += s dyᵀ u      du = s dy B      dA += duᵀ x      dx = dy W + du A
//! ```
//!
//! With an adapter only A and B are trained, and the gradient of W is not computed.

use super::{Recorder, words};
use crate::gpu::{Extent, PlanBuilder, Tensor};
use crate::model::lora::{AdaptedGroup, Adapter};
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::column_squares;
use crate::ops::dropout::{self, Dropout};
use crate::ops::matmul::{self, Epilogue, Layout, Product, View, record_product};
use crate::ops::matrix::{FullChunk, placed};

/// Which gradients to compute.
#[derive(Clone, Copy)]
pub(super) enum GradTargets<'a> {
    /// Of all weights.
    All(&'a TensorSet),
    /// Of the adapter.
    Adapter(&'a Adapter, &'a TensorSet),
}

impl<'a> GradTargets<'a> {
    /// The gradients of the trainable tensors of `weights`, added to `gradient`.
    pub(super) fn of(weights: &'a Weights, gradient: &'a TensorSet) -> Self {
        match weights.adapter() {
            Some(adapter) => GradTargets::Adapter(adapter, gradient),
            None => GradTargets::All(gradient),
        }
    }

    /// Whether the model's own weights are frozen.
    pub(super) fn adapter_only(self) -> bool {
        matches!(self, GradTargets::Adapter(..))
    }

    /// The gradient of a norm or a bias, if it is trained.
    pub(super) fn tensor(self, plan: &mut PlanBuilder, group: usize) -> Option<Tensor> {
        match self {
            GradTargets::All(gradient) => Some(gradient.tensor(plan, group)),
            GradTargets::Adapter(..) => None,
        }
    }

    /// The gradient of a matrix, if it is trained.
    pub(super) fn matrix(self, plan: &mut PlanBuilder, group: usize) -> Option<Vec<FullChunk>> {
        match self {
            GradTargets::All(gradient) => Some(gradient.full_chunks(plan, group)),
            GradTargets::Adapter(..) => None,
        }
    }
}

/// The tensors of an adapter that its backward pass needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoraActivations {
    /// `[T, in]`: the input, after dropout if there is any.
    input: Tensor,
    /// `[T, rank]`
    u: Tensor,
}

/// A projection: a group of the weights, its widths, and the number of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection {
    pub group: usize,
    pub tokens: Extent,
    /// Columns of y.
    pub outputs: u32,
    /// Columns of x.
    pub inputs: u32,
}

impl Projection {
    fn sizes(&self) -> [Extent; 3] {
        [self.tokens, Extent::fixed(self.outputs), Extent::fixed(self.inputs)]
    }
}

impl Recorder<'_> {
    fn adapted(&self, group: usize) -> Option<(&Adapter, &AdaptedGroup)> {
        let adapter = self.weights.adapter()?;
        Some((adapter, adapter.layout.adapted(group)?))
    }

    /// `y[T, out] = x Wᵀ`, the epilogue, and the adapter's term. Returns the adapter's activations.
    pub(super) fn record_projection(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        x: Tensor,
        y: Tensor,
        epilogue: Epilogue,
    ) -> Option<LoraActivations> {
        let lora = self.record_lora_activations(plan, p, x);
        self.record_projection_with(plan, p, x, lora, y, epilogue);
        lora
    }

    /// `u = dropout(x) Aᵀ` of an adapted projection.
    pub(super) fn record_lora_activations(&self, plan: &mut PlanBuilder, p: Projection, x: Tensor) -> Option<LoraActivations> {
        let (adapter, group) = self.adapted(p.group)?;
        let input = match self.dropout(p.group) {
            None => x,
            Some(dropout) => {
                let dropped = plan.scratch("adapter input after dropout", words(p.tokens, p.inputs));
                dropout::record(plan, dropout, x, dropped, p.tokens.times(p.inputs), false);
                dropped
            }
        };
        let rank = group.rank as u32;
        let u = plan.scratch("adapter's inner values", words(p.tokens, rank));
        let (a, sizes) = (adapter.set.matrix(plan, group.a), [p.tokens, Extent::fixed(p.inputs)]);
        matmul::record_forward_between(plan, View::of(input, p.inputs), &a, View::of(u, rank), sizes, Epilogue::Write);
        Some(LoraActivations { input, u })
    }

    /// As [`Recorder::record_projection`], with the adapter's activations given.
    pub(super) fn record_projection_with(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        x: Tensor,
        lora: Option<LoraActivations>,
        y: Tensor,
        epilogue: Epilogue,
    ) {
        if let Some(sums) = self.input_squares.get(&p.group) {
            column_squares::record(plan, x, *sums, p.tokens, p.inputs);
        }
        let w = self.weights.matrix(plan, p.group);
        matmul::record_forward(plan, x, &w, y, p.sizes(), epilogue);
        let (Some((adapter, group)), Some(lora)) = (self.adapted(p.group), lora) else { return };
        let u = View::of(lora.u, group.rank as u32);
        for part in &group.parts {
            let r = part.r as u32;
            for (first, b) in placed(&adapter.set.full_chunks(plan, part.b), |chunk| chunk.rows) {
                record_product(
                    plan,
                    Product {
                        layout: Layout::Nt,
                        a: u.at_column(part.first_rank as u32),
                        b: View::of(b.tensor, r),
                        c: View::of(y, p.outputs).at_column(part.first_row as u32 + first),
                        m: p.tokens,
                        n: Extent::fixed(b.rows),
                        k: Extent::fixed(r),
                        scale: part.scale as f32,
                        epilogue: Epilogue::Accumulate,
                    },
                );
            }
        }
    }

    /// The backward pass: the gradients of `targets`, and with `dx` (written) also that of the input.
    pub(super) fn record_projection_backward(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        (x, lora): (Tensor, Option<LoraActivations>),
        dy: Tensor,
        dx: Option<Tensor>,
        targets: GradTargets,
    ) {
        if let Some(dx) = dx {
            let w = self.weights.matrix(plan, p.group);
            matmul::record_backward_input(plan, dy, &w, dx, p.sizes(), Epilogue::Write);
        }
        match targets {
            GradTargets::All(gradient) => {
                let dw = gradient.full_chunks(plan, p.group);
                matmul::record_backward_weight(plan, dy, x, &dw, p.sizes());
            }
            GradTargets::Adapter(adapter, gradient) => {
                let (Some(group), Some(lora)) = (adapter.layout.adapted(p.group), lora) else { return };
                self.record_adapter_backward(plan, p, (adapter, group, gradient), lora, dy, dx);
            }
        }
    }

    fn record_adapter_backward(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        (adapter, group, gradient): (&Adapter, &AdaptedGroup, &TensorSet),
        lora: LoraActivations,
        dy: Tensor,
        dx: Option<Tensor>,
    ) {
        let rank = group.rank as u32;
        let (u, dy) = (View::of(lora.u, rank), View::of(dy, p.outputs));
        let du_tensor = plan.scratch("d adapter's inner values", words(p.tokens, rank));
        let du = View::of(du_tensor, rank);
        for part in &group.parts {
            let (r, scale) = (part.r as u32, part.scale as f32);
            let (u, du) = (u.at_column(part.first_rank as u32), du.at_column(part.first_rank as u32));
            let b = adapter.set.full_chunks(plan, part.b);
            let db = gradient.full_chunks(plan, part.b);
            for ((first, b), db) in placed(&b, |chunk| chunk.rows).zip(db) {
                let dy = dy.at_column(part.first_row as u32 + first);
                let (rows, r, accumulate) = (Extent::fixed(b.rows), Extent::fixed(r), Epilogue::Accumulate);
                let c = View::of(db.tensor, part.r as u32);
                let db_product =
                    Product { layout: Layout::Tn, a: dy, b: u, c, m: rows, n: r, k: p.tokens, scale, epilogue: accumulate };
                record_product(plan, db_product);
                let epilogue = if first == 0 { Epilogue::Write } else { accumulate };
                let b = View::of(b.tensor, part.r as u32);
                record_product(
                    plan,
                    Product { layout: Layout::Nn, a: dy, b, c: du, m: p.tokens, n: r, k: rows, scale, epilogue },
                );
            }
        }
        let da = gradient.full_chunks(plan, group.a);
        let sizes = [p.tokens, Extent::fixed(p.inputs)];
        matmul::record_backward_weight_between(plan, du, View::of(lora.input, p.inputs), &da, sizes);
        let Some(dx) = dx else { return };
        let dropout = self.dropout(p.group);
        let dinput = match dropout {
            None => dx,
            Some(_) => {
                let ddropped = plan.scratch("d adapter input after dropout", words(p.tokens, p.inputs));
                plan.clear(ddropped);
                ddropped
            }
        };
        let a = adapter.set.matrix(plan, group.a);
        matmul::record_backward_input_between(plan, du, &a, View::of(dinput, p.inputs), sizes, Epilogue::Accumulate);
        if let Some(dropout) = dropout {
            dropout::record(plan, dropout, dinput, dx, p.tokens.times(p.inputs), true);
        }
    }

    /// The dropout of the input of a group's adapter, if there is any.
    fn dropout(&self, group: usize) -> Option<Dropout> {
        let key = self.dropout_key?;
        let p = self.weights.adapter()?.settings.dropout as f32;
        (p > 0.0).then_some(Dropout { p, key, site: group as u32 })
    }
}
