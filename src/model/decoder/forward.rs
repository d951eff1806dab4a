//! The forward pass, recorded.

use super::{Attention, Inputs, LayerLoraActivations, LayerTrace, LoraActivations, Recorder, Trace, words};
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
        embedding::record_forward(plan, inputs.ids, &table, hidden, inputs.tokens, self.shape.hidden);
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
        let down = self.projection(groups.down, inputs.tokens);
        self.record_projection_with(plan, down, trace.inner, trace.lora.down, output, Epilogue::Residual(trace.middle));
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
        rmsnorm::record_forward(plan, shape.norm(), input, w, input_normed, t);
        let (raw_qkv, qkv, lora_qkv) = self.record_qkv(plan, inputs, groups, input_normed);

        let attended = scratch(plan, "attention output", shape.attended());
        let stats = match *attention {
            Attention::Packed(spans) => {
                let stats = scratch(plan, "attention log-sums", shape.heads.heads * 2);
                attention::record_forward(plan, &shape.heads, qkv, spans, attended, stats, t);
                Some(stats)
            }
            Attention::Cached { slots, caches, own, max_length } => {
                let cache = Cache { tensor: caches[index], own, max_length };
                cached_attention::record_forward(plan, &shape.heads, (qkv, slots), cache, attended, t);
                None
            }
        };

        let middle = scratch(plan, "residual after attention", shape.hidden);
        let lora_o = self.record_projection(plan, self.projection(groups.o, t), attended, middle, Epilogue::Residual(input));

        let middle_normed = scratch(plan, "normed MLP input", shape.hidden);
        let w = weight(plan, groups.post_norm);
        rmsnorm::record_forward(plan, shape.norm(), middle, w, middle_normed, t);
        let gate_up = scratch(plan, "MLP gate and up", 2 * shape.inner);
        let lora_gate_up =
            self.record_projection(plan, self.projection(groups.gate_up, t), middle_normed, gate_up, Epilogue::Write);
        let inner = scratch(plan, "MLP inner", shape.inner);
        swiglu::record_forward(plan, gate_up, inner, t, shape.inner);
        let lora = LayerLoraActivations {
            qkv: lora_qkv,
            o: lora_o,
            gate_up: lora_gate_up,
            down: self.record_lora_activations(plan, self.projection(groups.down, t), inner),
        };
        LayerTrace { input, input_normed, raw_qkv, qkv, attended, stats, middle, middle_normed, gate_up, inner, lora }
    }

    /// Fused q, k, v of the normed input: projected, normed per head if the model does that, and rotated. Also returns the
    /// values before the norm, and the activations of the adapter.
    fn record_qkv(
        &self,
        plan: &mut PlanBuilder,
        inputs: Inputs,
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
        rope::record(plan, self.rotation(false), qkv, inputs.rope, inputs.positions, t);
        (raw, qkv, lora)
    }

    pub(super) fn rotation(&self, backward: bool) -> Rotation {
        let h = &self.shape.heads;
        Rotation { heads: h.total(), rotated: h.heads + h.kv_heads, head_dim: h.head_dim, backward }
    }
}
