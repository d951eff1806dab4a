// Rows of a packed embedding table.
//
//   forward    y[t, :] = table[ids[t], :]      table [V, H], packed as src/ops/matrix.rs says; H a multiple of 32
//
// Contract   y is written. Ids are checked on the host; here they are trusted. With CHUNK the table is the rows first ..
//            first + rows of a longer one, and tokens of other rows are left alone.
// Grid       one thread eight values, T * H / 8 of them.
// Why so     Eight values are one load of words in every packing, and two vec4 to store.
#include "lib/grid.wgsl"
#include "lib/codes.wgsl"
#include "lib/decode.wgsl"

const ROW_EIGHTS: u32 = WIDTH / 8u; // H in eights, a constant because CPU adapters divide slowly

struct Params {
    size: u32, // T * H in eights
#if CHUNK
    first: u32,
    rows: u32,
#endif
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>; // [T]
@group(0) @binding(2) var<storage, read> words: array<Eight>; // [V, H / 8]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // [T, H] in quads
#if !HALF
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [V, H / 32]
#endif

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    var row = ids[i / ROW_EIGHTS];
#if CHUNK
    row -= params.first; // rows in front of the chunk become huge
    if (row >= params.rows) {
        return;
    }
#endif
    decode(row * ROW_EIGHTS + i % ROW_EIGHTS, i);
}
