// Rows of a quantised embedding table.
//
//   forward    y[t, :] = table[ids[t], :]      table [V, H] as codes and scales (src/model/quantised.rs), H a multiple of 32
//
// Contract   y is written. Ids are checked on the host; here they are trusted.
// Grid       one thread a quad of four values, T * H / 4 of them.
// Why so     A quad is one word of codes, with FOUR half a word, and one vec4 to store.
#include "lib/grid.wgsl"
#include "lib/codes.wgsl"

const WIDTH: u32 = {{WIDTH}}u / 4u; // H in quads, a constant because CPU adapters divide slowly

struct Params {
    size: u32, // T * H in quads
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>; // [T]
@group(0) @binding(2) var<storage, read> codes: array<u32>; // [V, H / 4], with FOUR [V, H / 8]
@group(0) @binding(3) var<storage, read> scales: array<f32>; // [V, H / 32]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [T, H] in quads

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    let quad = ids[i / WIDTH] * WIDTH + i % WIDTH;
#if FOUR
    let word = codes[quad / 2u];
    let values = select(quad0(word), quad1(word), quad % 2u == 1u);
#else
    let values = quad0(codes[quad]);
#endif
    y[i] = values * scales[quad / 8u];
}
