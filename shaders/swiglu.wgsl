// The gated activation of the MLP on the fused [T, 2F] output of the gate and up projections.       (Shazeer 2020)
//
//   forward    y = g · s · u,  s = sigmoid(a(g))
//   backward   dg = dy · u · s · (1 + g · a'(g) · (1 - s)),  du = dy · g · s
//
//   SwiGLU           a(g) = g, so that g · s = silu(g)
//   GeGLU, with GELU a(g) = 2 √(2/π) (g + 0.044715 g³), so that g · s = gelu(g) in its tanh form: (1 + tanh(x)) / 2 = sigmoid(2x)
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

#if GELU
const GELU_SCALE: f32 = 1.5957691216057308; // 2 √(2/π)
const GELU_CUBIC: f32 = 0.044715;

// Far from zero, where the sigmoid is 0 or 1, the powers of the gate would leave f32.
fn near(g: Vec) -> Vec {
    return clamp(g, Vec(-64.0), Vec(64.0));
}

fn gate_of(g: Vec) -> Vec {
    let x = near(g);
    return sigmoid(GELU_SCALE * x * (Vec(1.0) + GELU_CUBIC * x * x));
}

// g · a'(g)
fn sloped(g: Vec) -> Vec {
    let x = near(g);
    return GELU_SCALE * x * (Vec(1.0) + 3.0 * GELU_CUBIC * x * x);
}
#else
fn gate_of(g: Vec) -> Vec {
    return sigmoid(g);
}

fn sloped(g: Vec) -> Vec {
    return g;
}
#endif

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
    y[i] = g * gate_of(g) * gate_up[at + ROW_VECS];
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
    let s = gate_of(g);
    // forward: y = g · s · u
    dgate_up[at] = dy[i] * gate_up[at + ROW_VECS] * s * (Vec(1.0) + sloped(g) * (Vec(1.0) - s));
    dgate_up[at + ROW_VECS] = dy[i] * g * s;
}
#endif
