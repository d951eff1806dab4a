// Token embedding.
//
// Contract   forward    y[t, :] = table[ids[t], :]
//            backward   dtable[id, :] += sum of dy[t, :] over the tokens t that carry id
//            With CHUNK the table is the rows first .. first + rows of a longer one, and tokens of other rows are left alone.
// Why so     The host sorts the tokens of a batch by id, so that each row of the table is owned by one thread a
//            column: no atomics, the same bits every run. Ids are checked on the host; here they are trusted.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

const ROW_VECS: u32 = WIDTH / VEC_WIDTH; // H in pieces, a constant because CPU adapters divide slowly

#if forward
struct Params {
    size: u32, // T * H in pieces
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
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    var row = ids[i / ROW_VECS];
#if CHUNK
    row -= params.first; // rows in front of the chunk become huge
    if (row >= params.rows) {
        return;
    }
#endif
    y[i] = table[row * ROW_VECS + i % ROW_VECS];
}
#endif

#if backward
struct Params {
    size: u32, // distinct ids * H in pieces
#if CHUNK
    first: u32,
    rows: u32,
#endif
}
@group(0) @binding(0) var<uniform> params: Params;
// Per distinct id: the id, and where its tokens lie in `tokens`.
@group(0) @binding(1) var<storage, read> buckets: array<vec4<u32>>; // [U]: id, start, end, -
@group(0) @binding(2) var<storage, read> tokens: array<u32>; // [T]
@group(0) @binding(3) var<storage, read> dy: array<Vec>; // [T, H]
@group(0) @binding(4) var<storage, read_write> dtable: array<Vec>; // [V, H]

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    let bucket = buckets[i / ROW_VECS];
    var row = bucket.x;
#if CHUNK
    row -= params.first; // rows in front of the chunk become huge
    if (row >= params.rows) {
        return;
    }
#endif
    let column = i % ROW_VECS;
    var sum = Vec();
    for (var n = bucket.y; n < bucket.z; n++) {
        sum += dy[tokens[n] * ROW_VECS + column];
    }
    dtable[row * ROW_VECS + column] += sum;
}
#endif
