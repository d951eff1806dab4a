// The squares of each column of a tensor, summed over its rows.
//
//   sums[c] += Σ_t x[t, c]²
//
// Reference  src/reference/column_squares.rs
// Contract   sums += …
// Grid       one thread per vector of a row.
// Why so     Each sum has one thread, which adds the rows in order: no atomics. Neighbours read neighbouring columns. It runs in
//            calibration only, once per projection and batch, beside a product that is hundreds of times as large.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

const ROW_VECS: u32 = WIDTH / VEC_WIDTH;

struct Params {
    tokens: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>; // [T, WIDTH]
@group(0) @binding(2) var<storage, read_write> sums: array<Vec>; // [WIDTH]

@compute @workgroup_size(64)
fn accumulate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= ROW_VECS) {
        return;
    }
    var sum = Vec();
    for (var t = 0u; t < params.tokens; t++) {
        let value = x[t * ROW_VECS + i];
        sum += value * value;
    }
    sums[i] += sum;
}
