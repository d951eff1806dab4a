// Token embedding with a packed table.
//
//   forward    y[t, :] = table[ids[t], :] · scale      table [V, H] is a `Packed` of src/ops/matrix.rs; H is a multiple of 32
//
// Reference  src/reference/embedding.rs, of the values of src/reference/matmul_packed.rs
// Contract   y = …. With CHUNK the table is the rows first .. first + rows of a longer one, and the tokens of other rows are
//            skipped. The host has checked the ids.
// Grid       one thread per Packed8 of eight values, T * H / 8 threads.
// Why so     Eight values are one load of words in every packing, and two stores of a vec4.
#include "lib/grid.wgsl"
#include "lib/packing.wgsl"
#include "lib/unpack8.wgsl"

const ROW_PACKED8: u32 = WIDTH / 8u; // H in Packed8s, a constant because CPU adapters divide slowly

struct Params {
    size: u32, // T * H in Packed8s
    scale: f32, // 1, or √H in Gemma
#if CHUNK
    first: u32,
    rows: u32,
#endif
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>; // [T]
@group(0) @binding(2) var<storage, read> words: array<Packed8>; // [V, H / 8]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // [T, H]
#if !HALF
@group(0) @binding(4) var<storage, read> scales: array<ScaleWord>; // [V, H / 32]
#endif

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    var row = ids[i / ROW_PACKED8];
#if CHUNK
    row -= params.first; // a row before the chunk becomes huge
    if (row >= params.rows) {
        return;
    }
#endif
    unpack8(row * ROW_PACKED8 + i % ROW_PACKED8, i, params.scale);
}
