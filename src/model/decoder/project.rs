//! A projection of the decoder, with what LoRA adds to it, in both directions.
//!
//! ```text
//! x ──┬───────────── W ──────────────► + ─► y         u = x Aᵀ      y = x Wᵀ + s u Bᵀ
//!     └─ (dropout) ─ A ─► u ─ B, s ────┘
//!
//! dB += s dyᵀ u      du = s dy B      dA += duᵀ x      dx = dy W + du A
//! ```
//!
//! With an adapter only A and B learn: no product for W's gradient exists, in particular.

use super::{Recorder, words};
use crate::gpu::{Extent, PlanBuilder, Tensor};
use crate::model::lora::{AdaptedGroup, Adapter};
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::dropout::{self, Dropout};
use crate::ops::matmul::{self, Epilogue, Layout, Product, View, product};
use crate::ops::matrix::{FullChunk, placed};

/// What gradients are wanted.
#[derive(Clone, Copy)]
pub(super) enum GradTargets<'a> {
    /// Of all weights.
    All(&'a TensorSet),
    /// Of the adapter.
    Adapter(&'a Adapter, &'a TensorSet),
}

impl<'a> GradTargets<'a> {
    /// What `weights` learn, with `gradient` as its place.
    pub(super) fn of(weights: &'a Weights, gradient: &'a TensorSet) -> Self {
        match weights.adapter() {
            Some(adapter) => GradTargets::Adapter(adapter, gradient),
            None => GradTargets::All(gradient),
        }
    }

    /// Whether the frozen weights' own gradients are left out.
    pub(super) fn adapter_only(self) -> bool {
        matches!(self, GradTargets::Adapter(..))
    }

    /// Gradient of a norm or a bias.
    pub(super) fn tensor(self, plan: &mut PlanBuilder, group: usize) -> Option<Tensor> {
        match self {
            GradTargets::All(gradient) => Some(gradient.tensor(plan, group)),
            GradTargets::Adapter(..) => None,
        }
    }

    /// Gradient of a matrix.
    pub(super) fn matrix(self, plan: &mut PlanBuilder, group: usize) -> Option<Vec<FullChunk>> {
        match self {
            GradTargets::All(gradient) => Some(gradient.written(plan, group)),
            GradTargets::Adapter(..) => None,
        }
    }
}

/// What the way back through an adapted projection needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoraActivations {
    /// `[T, in]`: the input, thinned where there is dropout.
    input: Tensor,
    /// `[T, rank]`
    u: Tensor,
}

/// A projection: a group of the weights, its widths, and how many tokens go through it.
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
        Some((adapter, adapter.layout.of(group)?))
    }

    /// `y[T, out] = x Wᵀ`, the epilogue, and the adapter's part. Returns what the way back needs of the latter.
    pub(super) fn project(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        x: Tensor,
        y: Tensor,
        epilogue: Epilogue,
    ) -> Option<LoraActivations> {
        let low = self.low(plan, p, x);
        self.project_with(plan, p, x, low, y, epilogue);
        low
    }

    /// u of an adapted projection.
    pub(super) fn low(&self, plan: &mut PlanBuilder, p: Projection, x: Tensor) -> Option<LoraActivations> {
        let (adapter, group) = self.adapted(p.group)?;
        let input = match self.dropout(p.group) {
            None => x,
            Some(d) => {
                let thinned = plan.scratch("thinned input of an adapter", words(p.tokens, p.inputs));
                dropout::apply(plan, d, x, thinned, p.tokens.times(p.inputs), false);
                thinned
            }
        };
        let rank = group.rank as u32;
        let u = plan.scratch("adapter's inner values", words(p.tokens, rank));
        let (a, sizes) = (adapter.set.matrix(plan, group.a), [p.tokens, Extent::fixed(p.inputs)]);
        matmul::forward_between(plan, View::of(input, p.inputs), &a, View::of(u, rank), sizes, Epilogue::Write);
        Some(LoraActivations { input, u })
    }

    /// As [`Recorder::project`], where u is known.
    pub(super) fn project_with(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        x: Tensor,
        low: Option<LoraActivations>,
        y: Tensor,
        epilogue: Epilogue,
    ) {
        let w = self.weights.matrix(plan, p.group);
        matmul::forward(plan, x, &w, y, p.sizes(), epilogue);
        let (Some((adapter, group)), Some(low)) = (self.adapted(p.group), low) else { return };
        let u = View::of(low.u, group.rank as u32);
        for part in &group.parts {
            let r = part.r as u32;
            for (first, b) in placed(&adapter.set.written(plan, part.b), |chunk| chunk.rows) {
                product(
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

    /// The way back: gradients of what targets, and with `dx` (written) also that of the input.
    pub(super) fn project_backward(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        (x, low): (Tensor, Option<LoraActivations>),
        dy: Tensor,
        dx: Option<Tensor>,
        targets: GradTargets,
    ) {
        if let Some(dx) = dx {
            let w = self.weights.matrix(plan, p.group);
            matmul::backward_input(plan, dy, &w, dx, p.sizes(), Epilogue::Write);
        }
        match targets {
            GradTargets::All(gradient) => {
                let dw = gradient.written(plan, p.group);
                matmul::backward_weight(plan, dy, x, &dw, p.sizes());
            }
            GradTargets::Adapter(adapter, gradient) => {
                let (Some(group), Some(low)) = (adapter.layout.of(p.group), low) else { return };
                self.adapter_backward(plan, p, (adapter, group, gradient), low, dy, dx);
            }
        }
    }

    fn adapter_backward(
        &self,
        plan: &mut PlanBuilder,
        p: Projection,
        (adapter, group, gradient): (&Adapter, &AdaptedGroup, &TensorSet),
        low: LoraActivations,
        dy: Tensor,
        dx: Option<Tensor>,
    ) {
        let rank = group.rank as u32;
        let (u, dy) = (View::of(low.u, rank), View::of(dy, p.outputs));
        let du_tensor = plan.scratch("d adapter's inner values", words(p.tokens, rank));
        let du = View::of(du_tensor, rank);
        for part in &group.parts {
            let (r, scale) = (part.r as u32, part.scale as f32);
            let (u, du) = (u.at_column(part.first_rank as u32), du.at_column(part.first_rank as u32));
            let b = adapter.set.written(plan, part.b);
            let db = gradient.written(plan, part.b);
            for ((first, b), db) in placed(&b, |chunk| chunk.rows).zip(db) {
                let dy = dy.at_column(part.first_row as u32 + first);
                let (rows, r, accumulate) = (Extent::fixed(b.rows), Extent::fixed(r), Epilogue::Accumulate);
                let c = View::of(db.tensor, part.r as u32);
                let of_b =
                    Product { layout: Layout::Tn, a: dy, b: u, c, m: rows, n: r, k: p.tokens, scale, epilogue: accumulate };
                product(plan, of_b);
                let epilogue = if first == 0 { Epilogue::Write } else { accumulate };
                let b = View::of(b.tensor, part.r as u32);
                product(plan, Product { layout: Layout::Nn, a: dy, b, c: du, m: p.tokens, n: r, k: rows, scale, epilogue });
            }
        }
        let da = gradient.written(plan, group.a);
        let sizes = [p.tokens, Extent::fixed(p.inputs)];
        matmul::backward_weight_between(plan, du, View::of(low.input, p.inputs), &da, sizes);
        let Some(dx) = dx else { return };
        let dropout = self.dropout(p.group);
        let target = match dropout {
            None => dx,
            Some(_) => {
                let thinned = plan.scratch("d thinned input of an adapter", words(p.tokens, p.inputs));
                plan.clear(thinned);
                thinned
            }
        };
        let a = adapter.set.matrix(plan, group.a);
        matmul::backward_input_between(plan, du, &a, View::of(target, p.inputs), sizes, Epilogue::Accumulate);
        if let Some(d) = dropout {
            dropout::apply(plan, d, target, dx, p.tokens.times(p.inputs), true);
        }
    }

    /// How the input of a group's adapter is thinned, if it is.
    fn dropout(&self, group: usize) -> Option<Dropout> {
        let key = self.noise?;
        let p = self.weights.adapter()?.settings.dropout as f32;
        (p > 0.0).then_some(Dropout { p, key, site: group as u32 })
    }
}
