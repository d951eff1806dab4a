// Picks the rows that carry loss out of all tokens, and hands their gradients back.
//
// Contract   gather    y[r, :] = x[rows[r], :]
//            scatter   dx[t, :] = dy[row_of[t], :], or 0 where row_of[t] is 0xffffffff
// Why so     Logits are wanted for a few rows only; each token has at most one row, so the way back is a gather too.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

const ROW_VECS: u32 = WIDTH / VEC_WIDTH; // H in pieces, a constant because CPU adapters divide slowly

struct Params {
    size: u32, // rows * H (gather), T * H (scatter), in pieces
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> map: array<u32>; // rows [R] (gather), row_of [T] (scatter)
@group(0) @binding(2) var<storage, read> x: array<Vec>;
@group(0) @binding(3) var<storage, read_write> y: array<Vec>;

#if gather
@compute @workgroup_size(64)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
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
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    let row = map[i / ROW_VECS];
    var value = Vec();
    if (row != 0xffffffffu) {
        value = x[row * ROW_VECS + i % ROW_VECS];
    }
    y[i] = value;
}
#endif
