// Adds one tensor to another: y = x + y.
//
// Reference  src/reference/add.rs
// Contract   in place on y.
// Grid       one thread per vector.
// Why so     It is bound by memory, and runs once per micro-batch and trained tensor. All gradients are added by this kernel,
//            also those of other ranks, so that a sum has the same bits wherever it is computed.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

struct Params {
    size: u32, // vectors
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>;
@group(0) @binding(2) var<storage, read_write> y: array<Vec>;

@compute @workgroup_size(64)
fn accumulate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    y[i] = x[i] + y[i];
}
