// Rows of a packed matrix as f32.
//
//   unpack    y = the rows of W from the eighth `first` on      W packed as src/ops/matrix.rs says, its rows whole blocks of 32
//
// Contract   y is written.
// Grid       one thread eight values.
// Why so     Where products in f32 have a much faster text than packed ones (matmul_subgroup.wgsl on CPU adapters), many rows of
//            x pay for decoding a piece of W once, into a small scratch tensor, and multiplying with that.
#include "lib/grid.wgsl"
#include "lib/codes.wgsl"
#include "lib/decode.wgsl"

struct Params {
    size: u32, // in eights
    first: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> words: array<Eight>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
#if !HALF
@group(0) @binding(3) var<storage, read> scales: array<f32>; // one for four eights
#endif

@compute @workgroup_size(64)
fn unpack(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    decode(params.first + i, i);
}
