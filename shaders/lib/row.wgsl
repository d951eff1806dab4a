// Row-wise kernels (norms, softmax, sampling) come in two shapes from one text:
//   ROW_PER_WORKGROUP = 0   one thread owns a row, 64 rows a workgroup. No barriers: right for CPU adapters, where a barrier
//              costs more than the row.
//   ROW_PER_WORKGROUP = 1   THREADS_PER_ROW threads share a row, one row a workgroup. Right for GPUs, where one thread would read
//              memory in strides.
// A kernel loops `for (var j = lane; j < width; j += THREADS_PER_ROW)` and closes with row_sum / row_max: with one lane
// these return their argument.
#include "lib/grid.wgsl"


#if ROW_PER_WORKGROUP
const GROUP: u32 = THREADS_PER_ROW;
var<workgroup> shared_values: array<f32, THREADS_PER_ROW>;

fn row_of(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
    return group_index(group, groups);
}

fn lane_of(thread: u32) -> u32 {
    return thread;
}

fn row_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier(); // the last reduction may still be read
    shared_values[lane] = value;
    for (var half = THREADS_PER_ROW / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            shared_values[lane] += shared_values[lane + half];
        }
    }
    workgroupBarrier();
    return shared_values[0];
}

fn row_max(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    shared_values[lane] = value;
    for (var half = THREADS_PER_ROW / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            shared_values[lane] = max(shared_values[lane], shared_values[lane + half]);
        }
    }
    workgroupBarrier();
    return shared_values[0];
}
#else
const GROUP: u32 = 64u;

fn row_of(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
    return group_index(group, groups) * GROUP + thread;
}

fn lane_of(thread: u32) -> u32 {
    return 0u;
}

fn row_sum(lane: u32, value: f32) -> f32 {
    return value;
}

fn row_max(lane: u32, value: f32) -> f32 {
    return value;
}
#endif
