// Row-wise kernels (norms, softmax, sampling) have two shapes:
//   ROW_PER_WORKGROUP = 0   One thread owns a row, and a workgroup has 64 rows. Without barriers: right for CPU adapters, where a
//                           barrier costs more than the row.
//   ROW_PER_WORKGROUP = 1   THREADS_PER_ROW threads share a row, and a workgroup has one row. Right for GPUs, where a single
//                           thread would read memory in strides.
// A kernel loops `for (var j = row_thread; j < width; j += THREADS_PER_ROW)` and ends with row_sum or row_max over the threads
// of the row. With one thread per row these return their argument.
#include "lib/grid.wgsl"

#if ROW_PER_WORKGROUP
const WORKGROUP_SIZE: u32 = THREADS_PER_ROW;
var<workgroup> shared_values: array<f32, THREADS_PER_ROW>;

fn row_of(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
    return group_index(group, groups);
}

// The number of this thread among the threads of its row.
fn row_thread_of(thread: u32) -> u32 {
    return thread;
}

fn row_sum(row_thread: u32, value: f32) -> f32 {
    workgroupBarrier(); // other threads may still read the result of the last reduction
    shared_values[row_thread] = value;
    for (var half = THREADS_PER_ROW / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (row_thread < half) {
            shared_values[row_thread] += shared_values[row_thread + half];
        }
    }
    workgroupBarrier();
    return shared_values[0];
}

fn row_max(row_thread: u32, value: f32) -> f32 {
    workgroupBarrier();
    shared_values[row_thread] = value;
    for (var half = THREADS_PER_ROW / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (row_thread < half) {
            shared_values[row_thread] = max(shared_values[row_thread], shared_values[row_thread + half]);
        }
    }
    workgroupBarrier();
    return shared_values[0];
}
#else
const WORKGROUP_SIZE: u32 = 64u;

fn row_of(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
    return group_index(group, groups) * WORKGROUP_SIZE + thread;
}

fn row_thread_of(thread: u32) -> u32 {
    return 0u;
}

fn row_sum(row_thread: u32, value: f32) -> f32 {
    return value;
}

fn row_max(row_thread: u32, value: f32) -> f32 {
    return value;
}
#endif
