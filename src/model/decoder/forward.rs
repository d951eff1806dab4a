//! The forward pass, recorded.

use super::{Attention, Inputs, LayerLoraActivations, LayerTrace, LoraActivations, Projection, Recorder, Trace, words};
use crate::gpu::{PlanBuilder, Tensor};
use crate::model::names::LayerGroups;
use crate::ops::cached_attention::Cache;
use crate::ops::matmul::{Epilogue, View};
use crate::ops::rope::Rotation;
use crate::ops::{attention, cached_attention, embedding, rmsnorm, rope, swiglu};

impl Recorder<'_> {
    /// Records the embedding and all layers. The final norm is not included, because only some rows need it.
    pub(super) fn record_forward(&self, plan: &mut PlanBuilder, inputs: Inputs, attention: &Attention) -> Trace {
        let mut hidden = plan.scratch("embedded tokens", words(inputs.tokens, self.shape.hidden));
        let table = self.weights.matrix(plan, self.weights.groups.embed);
        embedding::record_forward(plan, inputs.ids, &table, hidden, inputs.tokens, self.shape.embedding);
        let mut layers = Vec::new();
        for (index, groups) in self.weights.groups.layers.iter().enumerate() {
            let (trace, output) = self.record_layer(plan, inputs, attention, index, groups, hidden);
            layers.push(trace);
            hidden = output;
        }
        Trace { layers, output: hidden }
    }

    /// One layer; returns its trace and its output `[T, H]`.
    fn record_layer(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
        attention: &Attention,
        index: usize,
        groups: &LayerGroups,
        input: Tensor,
    ) -> (LayerTrace, Tensor) {
        let trace = self.record_layer_trace(plan, inputs, attention, index, groups, input);
        let output = plan.scratch("layer output", words(inputs.tokens, self.shape.hidden));
        let block = Block { projection: self.projection(groups.down, inputs.tokens), norm: groups.down_norm, x: trace.inner };
        self.record_block_sum(plan, block, (trace.raw_down, trace.lora.down), trace.middle, output);
        (trace, output)
    }

    /// A layer up to its last projection: all that the backward pass needs. Where activations are recomputed instead of kept, it
    /// is recorded a second time.
    pub(super) fn record_layer_trace(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
        attention: &Attention,
        index: usize,
        groups: &LayerGroups,
        input: Tensor,
    ) -> LayerTrace {
        let (shape, t) = (&self.shape, inputs.tokens);
        let scratch = |plan: &mut PlanBuilder, name: &str, width: u32| plan.scratch(name, words(t, width));
        let weight = |plan: &mut PlanBuilder, group: usize| self.weights.tensor(plan, group);

        let input_normed = scratch(plan, "normed layer input", shape.hidden);
        let w = weight(plan, groups.input_norm);
        rmsnorm::record_forward(plan, shape.norm, input, w, input_normed, t);
        let (raw_qkv, qkv, lora_qkv) = self.record_qkv(plan, inputs, index, groups, input_normed);

        let attended = scratch(plan, "attention output", shape.attended());
        let heads = shape.heads_of(self.layer_of(index));
        let stats = match *attention {
            Attention::Packed(spans) => {
                let stats = scratch(plan, "attention log-sums", shape.heads.heads * 2);
                attention::record_forward(plan, &heads, qkv, spans, attended, stats, t);
                Some(stats)
            }
            Attention::Cached { slots, caches, own, max_length } => {
                let cache = Cache { tensor: caches[index], own, max_length };
                cached_attention::record_forward(plan, &heads, (qkv, slots), cache, attended, t);
                None
            }
        };

        let block = Block { projection: self.projection(groups.o, t), norm: groups.o_norm, x: attended };
        let (raw_o, lora_o) = self.record_block(plan, block);
        let middle = scratch(plan, "residual after attention", shape.hidden);
        self.record_block_sum(plan, block, (raw_o, lora_o), input, middle);

        let middle_normed = scratch(plan, "normed MLP input", shape.hidden);
        let w = weight(plan, groups.post_norm);
        rmsnorm::record_forward(plan, shape.norm, middle, w, middle_normed, t);
        let gate_up = scratch(plan, "MLP gate and up", 2 * shape.inner);
        let lora_gate_up =
            self.record_projection(plan, self.projection(groups.gate_up, t), middle_normed, gate_up, Epilogue::Write);
        let inner = scratch(plan, "MLP inner", shape.inner);
        swiglu::record_forward(plan, gate_up, inner, t, shape.mlp);
        let block = Block { projection: self.projection(groups.down, t), norm: groups.down_norm, x: inner };
        let (raw_down, lora_down) = self.record_block(plan, block);
        let lora = LayerLoraActivations { qkv: lora_qkv, o: lora_o, gate_up: lora_gate_up, down: lora_down };
        LayerTrace {
            input,
            input_normed,
            raw_qkv,
            qkv,
            attended,
            stats,
            raw_o,
            middle,
            middle_normed,
            gate_up,
            inner,
            raw_down,
            lora,
        }
    }

    /// What the backward pass needs of a block's last projection: its output, if that is normed, and the activations of its
    /// adapter.
    fn record_block(&self, plan: &mut PlanBuilder, block: Block) -> (Option<Tensor>, Option<LoraActivations>) {
        let Block { projection: p, norm, x } = block;
        let lora = self.record_lora_activations(plan, p, x);
        let raw = norm.map(|_| plan.scratch("block output before its norm", words(p.tokens, p.outputs)));
        if let Some(raw) = raw {
            self.record_projection_with(plan, p, x, lora, raw, Epilogue::Write);
        }
        (raw, lora)
    }

    /// `sum = residual + block`, of what [`Recorder::record_block`] returned.
    fn record_block_sum(
        &self,
        plan: &mut PlanBuilder,
        block: Block,
        (raw, lora): (Option<Tensor>, Option<LoraActivations>),
        residual: Tensor,
        sum: Tensor,
    ) {
        let Block { projection: p, norm, x } = block;
        match norm.zip(raw) {
            None => self.record_projection_with(plan, p, x, lora, sum, Epilogue::Residual(residual)),
            Some((norm, raw)) => {
                let w = self.weights.tensor(plan, norm);
                rmsnorm::record_forward_onto(plan, self.shape.norm, raw, w, residual, sum, p.tokens);
            }
        }
    }

    /// Fused q, k, v of the normed input: projected, normed per head if the model does that, and rotated if the layer does that.
    /// Also returns the values before the norm, and the activations of the adapter.
    fn record_qkv(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
        index: usize,
        groups: &LayerGroups,
        normed: Tensor,
    ) -> (Option<Tensor>, Tensor, Option<LoraActivations>) {
        let (shape, t) = (&self.shape, inputs.tokens);
        let projected = plan.scratch("q, k, v", words(t, shape.qkv()));
        let epilogue = match groups.qkv_bias {
            Some(bias) => Epilogue::Bias(View::of(self.weights.tensor(plan, bias), shape.qkv())),
            None => Epilogue::Write,
        };
        let lora = self.record_projection(plan, self.projection(groups.qkv, t), normed, projected, epilogue);
        let (raw, qkv) = match groups.qk_norm {
            None => (None, projected),
            Some(group) => {
                let qkv = plan.scratch("normed q, k, v", words(t, shape.qkv()));
                let w = self.weights.tensor(plan, group);
                rmsnorm::record_forward(plan, shape.head_norm(), projected, w, qkv, t.times(shape.heads.total()));
                (Some(projected), qkv)
            }
        };
        self.record_rotation(plan, inputs, index, qkv, false);
        (raw, qkv, lora)
    }

    /// Rotates q and k in place, if layer `index` does that.
    pub(super) fn record_rotation(&self, plan: &mut PlanBuilder, inputs: Inputs, index: usize, qkv: Tensor, backward: bool) {
        let Some(table) = self.layer_of(index).rope else { return };
        let h = &self.shape.heads;
        let rotation = Rotation { heads: h.total(), rotated: h.heads + h.kv_heads, head_dim: h.head_dim, backward };
        rope::record(plan, rotation, qkv, inputs.ropes[table], inputs.positions, inputs.tokens);
    }
}

/// What attention or the MLP adds to the residual stream: the projection of `x`, normed if there is a norm.
#[derive(Clone, Copy)]
struct Block {
    projection: Projection,
    /// The group of its norm.
    norm: Option<usize>,
    x: Tensor,
}
