// Rows of a packed matrix as f32: the first half of a product that is faster unpacked (src/ops/matmul_packed.rs).
//
//   unpack    y = values of W, from Packed8 number `first` on      W is a `Packed` of src/ops/matrix.rs, its rows whole blocks
//
// Reference  src/reference/matmul_packed.rs
// Contract   y = …
// Grid       one thread per Packed8 of eight values.
// Why so     Where a product in f32 has a much faster kernel than a packed one (matmul_subgroup.wgsl on CPU adapters), and x has
//            many rows, it is faster to decode some rows of W into a small scratch tensor and to multiply with that.
#include "lib/grid.wgsl"
#include "lib/packing.wgsl"
#include "lib/unpack8.wgsl"

struct Params {
    size: u32, // in Packed8s
    first: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> words: array<Packed8>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
#if !HALF
@group(0) @binding(3) var<storage, read> scales: array<ScaleWord>; // one for four Packed8s
#endif

@compute @workgroup_size(64)
fn unpack(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    unpack8(params.first + i, i, 1.0);
}
