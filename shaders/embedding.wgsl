// Token embedding.
//
//   forward    y[t, :] = table[ids[t], :] · scale
//   backward   dtable[id, :] += scale · sum of dy[t, :] over the tokens t with ids[t] = id
//
// The scale is 1, or √H in Gemma.
//
// Reference  src/reference/embedding.rs
// Contract   y = …, dtable += …. With CHUNK the table is the rows first .. first + rows of a longer one, and the tokens of other
//            rows are skipped. The host has checked the ids.
// Grid       forward: one thread per (token, vector); backward: one thread per (distinct id, vector).
// Why so     The host sorts the tokens of a batch by id, so that each element of the table's gradient has one thread: no atomics,
//            and the same bits in every run.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

const ROW_VECS: u32 = WIDTH / VEC_WIDTH; // H in vectors, a constant because CPU adapters divide slowly

#if forward
struct Params {
    size: u32, // T * H in vectors
    scale: f32,
#if CHUNK
    first: u32,
    rows: u32,
#endif
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>; // [T]
@group(0) @binding(2) var<storage, read> table: array<Vec>; // [V, H]
@group(0) @binding(3) var<storage, read_write> y: array<Vec>; // [T, H]

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    var row = ids[i / ROW_VECS];
#if CHUNK
    row -= params.first; // a row before the chunk becomes huge
    if (row >= params.rows) {
        return;
    }
#endif
    y[i] = table[row * ROW_VECS + i % ROW_VECS] * params.scale;
}
#endif

#if backward
struct Params {
    size: u32, // distinct ids * H in vectors
    scale: f32,
#if CHUNK
    first: u32,
    rows: u32,
#endif
}
@group(0) @binding(0) var<uniform> params: Params;
// Per distinct id: x the id, tokens[y .. z] the tokens with that id.
@group(0) @binding(1) var<storage, read> buckets: array<vec4<u32>>; // [distinct ids]
@group(0) @binding(2) var<storage, read> tokens: array<u32>; // [T], sorted by id
@group(0) @binding(3) var<storage, read> dy: array<Vec>; // [T, H]
@group(0) @binding(4) var<storage, read_write> dtable: array<Vec>; // [V, H]

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    let bucket = buckets[i / ROW_VECS];
    var row = bucket.x;
#if CHUNK
    row -= params.first; // a row before the chunk becomes huge
    if (row >= params.rows) {
        return;
    }
#endif
    // forward: y[t] = table[ids[t]] · scale
    let column = i % ROW_VECS;
    var sum = Vec();
    for (var n = bucket.y; n < bucket.z; n++) {
        sum += dy[tokens[n] * ROW_VECS + column];
    }
    dtable[row * ROW_VECS + column] += sum * params.scale;
}
#endif
