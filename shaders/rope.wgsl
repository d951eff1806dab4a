// Rotary position embedding, in place on the q and k heads of the fused [T, heads, head_dim] tensor.
// Pairs are (i, i + head_dim/2), as in Hugging Face checkpoints:
//     (a, b) -> (a cos - b sin, b cos + a sin)          with angle = position * inv_freq[i]
// The backward pass is the rotation by the opposite angle: SIGN 1 forward, -1 backward.
//
// Contract   in place on heads 0 .. rotated of every token.
// Why so     cos and sin come from a table made on the host in f64: a driver's sin may be off by 2^-11.
#include "lib/grid.wgsl"

// Constants, because CPU adapters divide slowly.
const HEADS: u32 = {{HEADS}}u; // all heads of a token: q, k and v
const ROTATED: u32 = {{ROTATED}}u; // q and k heads
const PAIRS: u32 = {{PAIRS}}u; // head_dim / 2

struct Params {
    size: u32, // tokens * rotated * head_dim / 2
    sign: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [T * POSITION_STRIDE]
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>; // [max_position, pairs]: cos, sin
@group(0) @binding(3) var<storage, read_write> x: array<f32>; // [T, heads, 2 * pairs]

@compute @workgroup_size(64)
fn rotate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    let pair = i % PAIRS;
    let head = (i / PAIRS) % ROTATED;
    let token = i / (PAIRS * ROTATED);
    let turn = table[positions[token * {{POSITION_STRIDE}}u + {{POSITION_OFFSET}}u] * PAIRS + pair];
    let s = turn.y * params.sign;
    let at = (token * HEADS + head) * 2u * PAIRS + pair;
    let p = x[at];
    let q = x[at + PAIRS];
    x[at] = p * turn.x - q * s;
    x[at + PAIRS] = q * turn.x + p * s;
}
