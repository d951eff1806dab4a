//! The backward pass, recorded: the trace of the forward pass walked from the last layer to the embedding.
//!
//! `dh`, the gradient of the residual stream, is one tensor that every block adds to; weight gradients accumulate.

use super::{Inputs, LayerTrace, Recorder, Trace, words};
use crate::gpu::{PlanBuilder, Size, Tensor};
use crate::model::names::LayerGroups;
use crate::model::weights::Weights;
use crate::ops::matmul::Epilogue;
use crate::ops::matrix::{FullSlab, Matrix};
use crate::ops::{attention, embedding, matmul, rmsnorm, rope, swiglu};

/// Inputs that only the way back needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardInputs {
    /// `[T, 4]`, as in the forward pass.
    pub spans: Tensor,
    /// `[U, 4]` and `[T]`: tokens sorted by id.
    pub buckets: (Tensor, Tensor),
    pub distinct: Size,
    /// `[T]` of ones, for bias gradients.
    pub ones: Tensor,
}

impl Recorder<'_> {
    /// Records the way back from `dh` (`[T, H]`, gradient of the trace's output, consumed) into `gradient`.
    pub(super) fn backward(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
        extra: BackwardInputs,
        trace: &Trace,
        gradient: &Weights,
        dh: Tensor,
    ) {
        for (layer, groups) in trace.layers.iter().zip(&self.weights.groups.layers).rev() {
            self.mlp_backward(plan, inputs.tokens, layer, groups, gradient, dh);
            self.attention_backward(plan, inputs, extra, layer, groups, gradient, dh);
        }
        let table = gradient.slabs(plan, self.weights.groups.embed);
        embedding::backward(plan, extra.buckets, dh, &table, extra.distinct, self.shape.hidden);
    }

    fn mlp_backward(
        &self,
        plan: &mut PlanBuilder,
        t: Size,
        layer: &LayerTrace,
        groups: &LayerGroups,
        gradient: &Weights,
        dh: Tensor,
    ) {
        let shape = &self.shape;
        let (hidden, inner) = (Size::fixed(shape.hidden), Size::fixed(shape.inner));
        let dinner = plan.scratch("d MLP inner", words(t, shape.inner));
        let (w, dw) = self.matrices(plan, gradient, groups.down);
        matmul::backward_input(plan, dh, &w, dinner, [t, hidden, inner], Epilogue::Write);
        matmul::backward_weight(plan, dh, layer.inner, &dw, [t, hidden, inner]);

        let dgate_up = plan.scratch("d MLP gate and up", words(t, 2 * shape.inner));
        swiglu::backward(plan, layer.gate_up, dinner, dgate_up, t, shape.inner);
        let dnormed = plan.scratch("d normed MLP input", words(t, shape.hidden));
        let (w, dw) = self.matrices(plan, gradient, groups.gate_up);
        let sizes = [t, Size::fixed(2 * shape.inner), hidden];
        matmul::backward_input(plan, dgate_up, &w, dnormed, sizes, Epilogue::Write);
        matmul::backward_weight(plan, dgate_up, layer.middle_normed, &dw, sizes);

        let (w, dw) = self.pair(plan, gradient, groups.post_norm);
        let b = rmsnorm::Backward { x: layer.middle, w, dy: dnormed, dx: dh, dw: Some(dw), accumulate: true };
        rmsnorm::backward(plan, shape.norm(), b, t);
    }

    #[allow(clippy::too_many_arguments)] // one station of the way back: all of it is needed, none of it belongs together
    fn attention_backward(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
        extra: BackwardInputs,
        layer: &LayerTrace,
        groups: &LayerGroups,
        gradient: &Weights,
        dh: Tensor,
    ) {
        let (shape, t) = (&self.shape, inputs.tokens);
        let (hidden, qkv) = (Size::fixed(shape.hidden), Size::fixed(shape.qkv()));
        let dout = plan.scratch("d attention output", words(t, shape.attended()));
        let (w, dw) = self.matrices(plan, gradient, groups.o);
        let sizes = [t, hidden, Size::fixed(shape.attended())];
        matmul::backward_input(plan, dh, &w, dout, sizes, Epilogue::Write);
        matmul::backward_weight(plan, dh, layer.attended, &dw, sizes);

        let mut dqkv = plan.scratch("d q, k, v", words(t, shape.qkv()));
        if let Some(stats) = layer.stats {
            let b = attention::Backward { qkv: layer.qkv, spans: extra.spans, out: layer.attended, stats, dout, dqkv };
            attention::backward(plan, &shape.heads, b, t);
        }
        rope::rotate(plan, self.rotation(true), dqkv, inputs.rope, inputs.positions, t);
        if let (Some(group), Some(x)) = (groups.qk_norm, layer.raw_qkv) {
            let draw = plan.scratch("d raw q, k, v", words(t, shape.qkv()));
            let (w, dw) = self.pair(plan, gradient, group);
            let b = rmsnorm::Backward { x, w, dy: dqkv, dx: draw, dw: Some(dw), accumulate: false };
            rmsnorm::backward(plan, shape.head_norm(), b, t.times(shape.heads.total()));
            dqkv = draw;
        }
        if let Some(bias) = groups.qkv_bias {
            let db = gradient.tensor(plan, bias);
            matmul::backward_bias(plan, dqkv, extra.ones, db, t, qkv);
        }
        let dnormed = plan.scratch("d normed layer input", words(t, shape.hidden));
        let (w, dw) = self.matrices(plan, gradient, groups.qkv);
        matmul::backward_input(plan, dqkv, &w, dnormed, [t, qkv, hidden], Epilogue::Write);
        matmul::backward_weight(plan, dqkv, layer.input_normed, &dw, [t, qkv, hidden]);

        let (w, dw) = self.pair(plan, gradient, groups.input_norm);
        let b = rmsnorm::Backward { x: layer.input, w, dy: dnormed, dx: dh, dw: Some(dw), accumulate: true };
        rmsnorm::backward(plan, shape.norm(), b, t);
    }

    /// Weight matrix and gradient of one group.
    fn matrices(&self, plan: &mut PlanBuilder, gradient: &Weights, group: usize) -> (Matrix, Vec<FullSlab>) {
        (self.weights.matrix(plan, group), gradient.slabs(plan, group))
    }

    /// Weight and gradient of one group of norms.
    pub(super) fn pair(&self, plan: &mut PlanBuilder, gradient: &Weights, group: usize) -> (Tensor, Tensor) {
        (self.weights.tensor(plan, group), gradient.tensor(plan, group))
    }
}
