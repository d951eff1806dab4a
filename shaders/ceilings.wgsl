// The highest speeds that an adapter reaches: `jurist bench` compares the other kernels with them. Models do not run these.
//
//   multiply_add   CHAINS independent accumulators per thread, ROUNDS · CHAINS multiply-adds per iteration
//   copy           EACH vec4s per thread, neighbouring threads at neighbouring addresses
//   nothing        the smallest dispatch: one store
//
// Reference  none: only their times count.
// Contract   every thread stores something, so that a compiler cannot drop its work.
// Grid       multiply_add: one thread per element of out; copy: one thread per EACH vec4s; nothing: one thread.
// Why so     The multiply-adds are unrolled in the text: on CPU adapters the loop itself costs as much as tens of them. More
//            chains hide the latency of a multiply-add, fewer stay in registers, so the bench tries several and takes the best.
#include "lib/grid.wgsl"

#if multiply_add
struct Params {
    iterations: u32,
    factor: f32, // below 1, so that the sums stay finite
    term: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [threads]

@compute @workgroup_size(64)
fn multiply_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    // Different in every thread, so that they stay in registers: NVK copies a uniform operand before each multiply-add.
    let factor = params.factor - f32(thread) * 1e-6;
    let term = params.term + f32(thread) * 1e-6;
#for C CHAINS
    var x{{C}} = f32(thread) + {{C}}.0;
#end
    for (var n = 0u; n < params.iterations; n++) {
#for R ROUNDS
#for C CHAINS
        x{{C}} = fma(x{{C}}, factor, term);
#end
#end
    }
    var sum = 0.0;
#for C CHAINS
    sum += x{{C}};
#end
    if (i < arrayLength(&out)) {
        out[i] = sum;
    }
}
#endif

#if copy
struct Params {
    size: u32, // vec4s
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>; // [size]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [size]

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let first = group_index(group, groups) * EACH * 64u + thread;
#for E EACH
    {
        let i = first + {{E}}u * 64u;
        if (i < params.size) {
            out[i] = source[i];
        }
    }
#end
}
#endif

#if nothing
struct Params {
    value: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>; // [1]

@compute @workgroup_size(1)
fn nothing() {
    out[0] = params.value;
}
#endif
