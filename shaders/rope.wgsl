// Rotary position embedding, in place on the q and k heads of the fused [T, heads, head_dim] tensor.
// Pairs are (i, i + head_dim/2), as in Hugging Face checkpoints:
//     (a, b) ← (a cos - b sin, b cos + a sin)          with angle = position · inv_freq[i]
// The backward pass is the rotation by the opposite angle: sign is 1 forward, -1 backward.
//
// Reference  src/reference/rope.rs
// Contract   in place on heads 0 .. rotated of every token.
// Grid       one thread per (token, rotated head, vector of pairs).
// Why so     cos and sin come from a table that the host computes in f64: a driver's sin may be off by 2^-11.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

// Constants, because CPU adapters divide slowly.
// HEADS: all heads of a token: q, k and v
// ROTATED: q and k heads
const PAIR_VECS: u32 = PAIRS / VEC_WIDTH; // head_dim / 2, in vectors

struct Params {
    size: u32, // tokens * rotated * head_dim / 2, in vectors
    sign: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [T * POSITION_STRIDE]
@group(0) @binding(2) var<storage, read> table: array<Vec>; // [max_position, 2, pairs]: cos, then sin
@group(0) @binding(3) var<storage, read_write> x: array<Vec>; // [T, heads, 2 * pairs]

@compute @workgroup_size(64)
fn rotate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    let pair = i % PAIR_VECS;
    let head = (i / PAIR_VECS) % ROTATED;
    let token = i / (PAIR_VECS * ROTATED);
    let angle = positions[token * POSITION_STRIDE + POSITION_OFFSET] * 2u * PAIR_VECS + pair;
    let cosine = table[angle];
    let sine = table[angle + PAIR_VECS] * params.sign;
    let at = (token * HEADS + head) * 2u * PAIR_VECS + pair;
    let a = x[at];
    let b = x[at + PAIR_VECS];
    x[at] = a * cosine - b * sine;
    x[at + PAIR_VECS] = b * cosine + a * sine;
}
