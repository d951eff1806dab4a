// The global gradient norm and the clip factor (torch.nn.utils.clip_grad_norm_). Both stay on the GPU.
//     norm = sqrt(Σ g² over all tensors),   factor = min(1, max_norm / (norm + 1e-6))
//
// Reference  src/reference/grad_norm.rs
// Contract   squares   partials[start + i] = sum of g² over the Vecs RUN i .. RUN (i + 1) of one tensor
//            reduce    sums[i] = sum of partials[j] with j % 256 == i
//            finish    result = (norm, factor, 1 if the clipped gradient can be applied, else 0)
// Grid       squares: a run is a row of lib/row.wgsl: one thread sums it for CPU adapters, a workgroup for GPUs; reduce: 256
//            threads; finish: one thread. Each thread has AHEAD loads on their way (lib/ahead.wgsl).
// Why so     Three fixed stages instead of atomics: the same bits in every run. Bits tell whether a float is finite: a compiler
//            may assume that NaN does not exist, and drop `x != x`.
//            On a GPU a thread that reads its own run would have a cache line to itself, and as many partial sums as there are
//            cache lines would be left for the 256 threads of reduce. So there the threads of a workgroup share a run.
//            Squares overflow from 2^64 on and vanish below 2^-63, where the norm is still a number. So a sum is a pair (s, k)
//            that stands for s · 4^k. k is 0 except for runs of elements whose sum is near either end of f32; these are summed
//            again, scaled by 2^-k. Scaling by powers of two is exact, so ordinary gradients keep their bits.
//            A clipped gradient beyond 2^63 is not applied: its square would make AdamW's second moment infinite for ever.
#include "lib/ahead.wgsl"
#include "lib/grid.wgsl"
#include "lib/ordinary.wgsl"

alias Sum = vec2<f32>; // (s, k): s · 4^k

// 2^k, or 0 where that is below the normal numbers.
fn power_of_two(k: f32) -> f32 {
    return bitcast<f32>(u32(clamp(k + 127.0, 0.0, 254.0)) << 23u);
}

// a + b.
fn add(a: Sum, b: Sum) -> Sum {
    if (a.y == b.y || b.x == 0.0) {
        return Sum(a.x + b.x, a.y);
    }
    if (a.x == 0.0) {
        return b;
    }
    let k = max(a.y, b.y);
    return Sum(a.x * power_of_two(2.0 * (a.y - k)) + b.x * power_of_two(2.0 * (b.y - k)), k);
}

#if squares
#include "lib/row.wgsl"
#include "lib/vec.wgsl"

struct Params {
    size: u32, // Vecs
    start: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<Vec>;
@group(0) @binding(2) var<storage, read_write> partials: array<Sum>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let run = row_of(group, groups, thread);
    let run_thread = row_thread_of(thread);
    if (run * RUN >= params.size) {
        return;
    }
    let sum = run_sum(run_thread, thread_sum(run * RUN + run_thread, min(params.size, (run + 1u) * RUN)));
    if (run_thread == 0u) {
        partials[params.start + run] = sum;
    }
}

// The sum over the threads of a run.
#if ROW_PER_WORKGROUP
var<workgroup> thread_sums: array<Sum, THREADS_PER_ROW>;

fn run_sum(run_thread: u32, sum: Sum) -> Sum {
    thread_sums[run_thread] = sum;
    for (var half = THREADS_PER_ROW / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (run_thread < half) {
            thread_sums[run_thread] = add(thread_sums[run_thread], thread_sums[run_thread + half]);
        }
    }
    return thread_sums[0]; // thread 0 wrote it
}
#else
fn run_sum(run_thread: u32, sum: Sum) -> Sum {
    return sum;
}
#endif

// Element j, or 0 beyond the end.
fn element(j: u32, end: u32) -> Vec {
    return select(Vec(), gradient[nearest(j, end)], is_before(j, end));
}

// The sum of g² over every THREADS_PER_ROW-th Vec of first .. end.
fn thread_sum(first: u32, end: u32) -> Sum {
    // Pass 1: the sum of squares, and the bits of all elements together.
    var sum = Vec();
    var all_bits = VecBits();
    for (var j = first; j < end; j += AHEAD * THREADS_PER_ROW) {
#for A AHEAD
        let g{{A}} = element(j + {{A}}u * THREADS_PER_ROW, end);
#end
#for A AHEAD
        sum += g{{A}} * g{{A}};
        all_bits |= bitcast<VecBits>(g{{A}});
#end
    }
    let total = vec_sum(sum);
    if (is_ordinary(total) || max_magnitude_bits(bitcast<Vec>(all_bits)) == 0u) {
        return Sum(total, 0.0);
    }
    // Pass 2, only where the sum is near an end of f32: the bits of the largest magnitude.
    var largest = 0u;
    for (var j = first; j < end; j += THREADS_PER_ROW) {
        largest = max(largest, max_magnitude_bits(gradient[j]));
    }
    if (largest >= 0x7f800000u) {
        return Sum(bitcast<f32>(largest), 0.0);
    }
    // Pass 3: the sum of the squares, scaled so that the largest is near 1.
    let k = clamp(f32(largest >> 23u) - 127.0, -126.0, 126.0);
    let scale = power_of_two(-k);
    sum = Vec();
    for (var j = first; j < end; j += THREADS_PER_ROW) {
        let g = gradient[j] * scale;
        sum += g * g;
    }
    return Sum(vec_sum(sum), k);
}
#endif

#if reduce
struct Params {
    size: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<Sum>;
@group(0) @binding(2) var<storage, read_write> sums: array<Sum>; // [256]

@compute @workgroup_size(64)
fn reduce(@builtin(global_invocation_id) id: vec3<u32>) {
    var sum = Sum();
    for (var j = id.x; j < params.size; j += AHEAD * 256u) {
#for A AHEAD
        let partial{{A}} = partials[nearest(j + {{A}}u * 256u, params.size)];
#end
#for A AHEAD
        sum = add(sum, select(Sum(), partial{{A}}, is_before(j + {{A}}u * 256u, params.size)));
#end
    }
    sums[id.x] = sum;
}
#endif

#if finish
struct Params {
    max_norm: f32, // 0: no clipping
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<Sum>; // [256]
@group(0) @binding(2) var<storage, read_write> result: array<f32>; // [4]

@compute @workgroup_size(1)
fn finish() {
    var sum = Sum();
    for (var j = 0u; j < 256u; j += AHEAD) {
#for A AHEAD
        let part{{A}} = sums[j + {{A}}u];
#end
#for A AHEAD
        sum = add(sum, part{{A}});
#end
    }
    let norm = sqrt(sum.x) * power_of_two(sum.y);
    let factor = select(1.0, min(1.0, params.max_norm / (norm + 1e-6)), params.max_norm > 0.0);
    // The norm must be below 2^120, and the clipped norm below 2^63. Both are positive, or NaN, whose bits are larger than those
    // of any number.
    let usable = bitcast<u32>(norm) < 0x7b800000u && bitcast<u32>(norm * factor) < 0x5f000000u;
    result[0] = norm;
    result[1] = factor;
    result[2] = select(0.0, 1.0, usable);
    result[3] = 0.0;
}
#endif
