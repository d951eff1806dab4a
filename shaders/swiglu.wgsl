// SwiGLU on the fused [T, 2F] output of the gate and up projections.                              (Shazeer 2020)
//
//   forward    y = silu(g) · u,  silu(g) = g · sigmoid(g)
//   backward   dg = dy · u · s · (1 + g · (1 - s)),  du = dy · g · s,  s = sigmoid(g)
//
// Reference  src/reference/swiglu.rs
// Contract   y[T, F] = …, dgate_up[T, 2F] = …
// Grid       one thread per (token, vector).
// Why so     gate and up are one product, so their columns lie in one tensor: element j of a row is the gate, and F + j the up
//            that it multiplies. The backward pass computes the sigmoid again, which is cheaper than a tensor that keeps it.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

const ROW_VECS: u32 = WIDTH / VEC_WIDTH; // F in vectors, a constant because CPU adapters divide slowly

struct Params {
    size: u32, // T * F in vectors
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<Vec>; // [T, 2F]
#if forward
@group(0) @binding(2) var<storage, read_write> y: array<Vec>; // [T, F]
#endif
#if backward
@group(0) @binding(2) var<storage, read> dy: array<Vec>; // [T, F]
@group(0) @binding(3) var<storage, read_write> dgate_up: array<Vec>; // [T, 2F]
#endif

// exp of a large argument is infinite on some drivers and undefined on others, so the argument is clamped. Below -80 the sigmoid
// is set to 0: the clamped value, times a gate and an up that are both huge, would not be small.
fn sigmoid(x: Vec) -> Vec {
    let clamped = Vec(1.0) / (Vec(1.0) + exp(-clamp(x, Vec(-80.0), Vec(80.0))));
    return select(clamped, Vec(), x < Vec(-80.0));
}

#if forward
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    let at = (i / ROW_VECS) * 2u * ROW_VECS + i % ROW_VECS;
    let g = gate_up[at];
    y[i] = g * sigmoid(g) * gate_up[at + ROW_VECS];
}
#endif

#if backward
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    let at = (i / ROW_VECS) * 2u * ROW_VECS + i % ROW_VECS;
    let g = gate_up[at];
    let s = sigmoid(g);
    // forward: y = g · sigmoid(g) · u
    dgate_up[at] = dy[i] * gate_up[at + ROW_VECS] * s * (Vec(1.0) + g * (Vec(1.0) - s));
    dgate_up[at + ROW_VECS] = dy[i] * g * s;
}
#endif
