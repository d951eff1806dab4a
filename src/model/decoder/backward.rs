//! The backward pass, recorded: it walks the trace of the forward pass from the last layer to the embedding.
//!
//! `dh`, the gradient of the residual stream, is one tensor that every block adds to. Weight gradients accumulate. With
//! recomputation, only the input of each layer is kept, and the layer is recorded a second time just before its backward pass
//! (Chen et al. 2016, arXiv:1604.06174).

use super::project::GradTargets;
use super::{Attention, Inputs, LayerTrace, Recorder, Trace, words};
use crate::gpu::{Extent, PlanBuilder, Tensor};
use crate::model::names::LayerGroups;
use crate::ops::{attention, embedding, matmul, rmsnorm, swiglu};

/// Inputs that only the backward pass needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardInputs {
    /// `[T, 4]`, as in the forward pass.
    pub spans: Tensor,
    /// `[U, 4]` and `[T]`: tokens sorted by id.
    pub buckets: (Tensor, Tensor),
    /// Number of distinct tokens, U.
    pub distinct: Extent,
    /// `[T]` of ones, for bias gradients.
    pub ones: Tensor,
    /// Recompute activations layer by layer instead of keeping them.
    pub recompute: bool,
}

/// One layer of the backward pass.
#[derive(Clone, Copy)]
struct BackwardLayer<'a> {
    trace: LayerTrace,
    index: usize,
    groups: &'a LayerGroups,
    targets: GradTargets<'a>,
    /// No weight below this layer needs a gradient, so that of its input is not computed.
    lowest: bool,
}

impl Recorder<'_> {
    /// Records the backward pass from `dh` (`[T, H]`, the gradient of the trace's output, consumed).
    pub(super) fn record_backward(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
        extra: BackwardInputs,
        trace: &Trace,
        targets: GradTargets,
        dh: Tensor,
    ) {
        let layers = trace.layers.iter().zip(&self.weights.groups.layers).enumerate();
        for (index, (trace, groups)) in layers.rev() {
            let trace = match extra.recompute {
                false => *trace,
                true => self.record_layer_trace(plan, inputs, &Attention::Packed(extra.spans), index, groups, trace.input),
            };
            let layer = BackwardLayer { trace, index, groups, targets, lowest: index == 0 && targets.adapter_only() };
            self.record_mlp_backward(plan, inputs.tokens, layer, dh);
            self.record_attention_backward(plan, inputs, extra, layer, dh);
        }
        if let Some(table) = targets.matrix(plan, self.weights.groups.embed) {
            embedding::record_backward(plan, extra.buckets, dh, &table, extra.distinct, self.shape.embedding);
        }
    }

    fn record_mlp_backward(&self, plan: &mut PlanBuilder, t: Extent, layer: BackwardLayer, dh: Tensor) {
        let BackwardLayer { trace, groups, targets, .. } = layer;
        let shape = &self.shape;
        let dinner = plan.scratch("d MLP inner", words(t, shape.inner));
        let down = self.projection(groups.down, t);
        let ddown = self.record_output_norm_backward(plan, t, layer, (groups.down_norm, trace.raw_down), dh);
        self.record_projection_backward(plan, down, (trace.inner, trace.lora.down), ddown, Some(dinner), targets);

        let dgate_up = plan.scratch("d MLP gate and up", words(t, 2 * shape.inner));
        swiglu::record_backward(plan, trace.gate_up, dinner, dgate_up, t, shape.mlp);
        let dnormed = plan.scratch("d normed MLP input", words(t, shape.hidden));
        let gate_up = self.projection(groups.gate_up, t);
        let x = (trace.middle_normed, trace.lora.gate_up);
        self.record_projection_backward(plan, gate_up, x, dgate_up, Some(dnormed), targets);

        let (w, dw) = self.weight_and_gradient(plan, targets, groups.post_norm);
        let b = rmsnorm::Backward { x: trace.middle, w, dy: dnormed, dx: dh, dw, accumulate: true };
        rmsnorm::record_backward(plan, shape.norm, b, t);
    }

    fn record_attention_backward(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
        extra: BackwardInputs,
        layer: BackwardLayer,
        dh: Tensor,
    ) {
        let BackwardLayer { trace, index, groups, targets, lowest } = layer;
        let (shape, t) = (&self.shape, inputs.tokens);
        let dout = plan.scratch("d attention output", words(t, shape.attended()));
        let o = self.projection(groups.o, t);
        let draw_o = self.record_output_norm_backward(plan, t, layer, (groups.o_norm, trace.raw_o), dh);
        self.record_projection_backward(plan, o, (trace.attended, trace.lora.o), draw_o, Some(dout), targets);

        let mut dqkv = plan.scratch("d q, k, v", words(t, shape.qkv()));
        if let Some(stats) = trace.stats {
            let b = attention::Backward { qkv: trace.qkv, spans: extra.spans, out: trace.attended, stats, dout, dqkv };
            attention::record_backward(plan, &shape.heads_of(self.layer_of(index)), b, t);
        }
        self.record_rotation(plan, inputs, index, dqkv, true);
        if let (Some(group), Some(x)) = (groups.qk_norm, trace.raw_qkv) {
            let draw_qkv = plan.scratch("d raw q, k, v", words(t, shape.qkv()));
            let (w, dw) = self.weight_and_gradient(plan, targets, group);
            let b = rmsnorm::Backward { x, w, dy: dqkv, dx: draw_qkv, dw, accumulate: false };
            rmsnorm::record_backward(plan, shape.head_norm(), b, t.times(shape.heads.total()));
            dqkv = draw_qkv;
        }
        if let Some(db) = groups.qkv_bias.and_then(|bias| targets.tensor(plan, bias)) {
            matmul::record_backward_bias(plan, dqkv, extra.ones, db, t, Extent::fixed(shape.qkv()));
        }
        let qkv = self.projection(groups.qkv, t);
        let x = (trace.input_normed, trace.lora.qkv);
        if lowest {
            return self.record_projection_backward(plan, qkv, x, dqkv, None, targets);
        }
        let dnormed = plan.scratch("d normed layer input", words(t, shape.hidden));
        self.record_projection_backward(plan, qkv, x, dqkv, Some(dnormed), targets);

        let (w, dw) = self.weight_and_gradient(plan, targets, groups.input_norm);
        let b = rmsnorm::Backward { x: trace.input, w, dy: dnormed, dx: dh, dw, accumulate: true };
        rmsnorm::record_backward(plan, shape.norm, b, t);
    }

    /// The gradient of a block's projection from `dh`, that of the residual stream: through the norm of the block's output, if
    /// there is one.
    fn record_output_norm_backward(
        &self,
        plan: &mut PlanBuilder,
        t: Extent,
        layer: BackwardLayer,
        (norm, raw): (Option<usize>, Option<Tensor>),
        dh: Tensor,
    ) -> Tensor {
        let Some((group, x)) = norm.zip(raw) else { return dh };
        let dx = plan.scratch("d block output before its norm", words(t, self.shape.hidden));
        let (w, dw) = self.weight_and_gradient(plan, layer.targets, group);
        rmsnorm::record_backward(plan, self.shape.norm, rmsnorm::Backward { x, w, dy: dh, dx, dw, accumulate: false }, t);
        dx
    }

    /// The weight of a norm, and its gradient if it has one.
    pub(super) fn weight_and_gradient(
        &self,
        plan: &mut PlanBuilder,
        targets: GradTargets,
        group: usize,
    ) -> (Tensor, Option<Tensor>) {
        (self.weights.tensor(plan, group), targets.tensor(plan, group))
    }
}
