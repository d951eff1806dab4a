// The rows that carry loss: gathered from all tokens, and their gradients scattered.
//
//   gather    y[r, :] = x[rows[r], :]
//   scatter   dx[t, :] = dy[row_of[t], :], or 0 where row_of[t] is NO_ROW
//
// Reference  src/reference/embedding.rs
// Contract   y = …, dx = …
// Grid       one thread per (row, vector), or (token, vector).
// Why so     Logits are needed for a few tokens only. Each token has at most one row, so the backward pass is a gather too.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

const ROW_VECS: u32 = WIDTH / VEC_WIDTH; // H in vectors, a constant because CPU adapters divide slowly
const NO_ROW: u32 = 0xffffffffu;

struct Params {
    size: u32, // rows * H (gather), T * H (scatter), in vectors
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> map: array<u32>; // rows [R] (gather), row_of [T] (scatter)
@group(0) @binding(2) var<storage, read> x: array<Vec>; // [T, H]; in scatter dy [R, H]
@group(0) @binding(3) var<storage, read_write> y: array<Vec>; // [R, H]; in scatter dx [T, H]

#if gather
@compute @workgroup_size(64)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    y[i] = x[map[i / ROW_VECS] * ROW_VECS + i % ROW_VECS];
}
#endif

#if scatter
@compute @workgroup_size(64)
fn scatter(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    // forward: y[r] = x[rows[r]]
    let row = map[i / ROW_VECS];
    var value = Vec();
    if (row != NO_ROW) {
        value = x[row * ROW_VECS + i % ROW_VECS];
    }
    y[i] = value;
}
#endif
