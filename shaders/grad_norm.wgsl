// The global gradient norm and the clip factor (torch.nn.utils.clip_grad_norm_). Both stay on the GPU.
//     norm = sqrt(Σ g² over all tensors),   factor = min(1, max_norm / (norm + 1e-6))
//
// Reference  src/reference/grad_norm.rs
// Contract   squares   partials[start + i] = sum of g² over elements 256 i .. 256 (i + 1) of one tensor
//            reduce    sums[i] = sum of partials[j] with j % 256 == i
//            finish    result = (norm, factor, 1 if the clipped gradient can be applied, else 0)
// Grid       squares: one thread per 256 elements; reduce: 256 threads; finish: one thread.
// Why so     Three fixed stages instead of atomics: the same bits in every run. Bits tell whether a float is finite: a compiler
//            may assume that NaN does not exist, and drop `x != x`.
//            Squares overflow from 2^64 on and vanish below 2^-63, where the norm is still a number. So a sum is a pair (s, k)
//            that stands for s · 4^k. k is 0 except for runs of elements whose sum is near either end of f32; these are summed
//            again, scaled by 2^-k. Scaling by powers of two is exact, so ordinary gradients keep their bits.
//            A clipped gradient beyond 2^63 is not applied: its square would make AdamW's second moment infinite for ever.
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
struct Params {
    size: u32,
    start: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<Sum>;

@compute @workgroup_size(64)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i * 256u >= params.size) {
        return;
    }
    let end = min(params.size, (i + 1u) * 256u);
    // Pass 1: the sum of squares, and the bits of all elements together.
    var sum = 0.0;
    var bits = 0u;
    for (var j = i * 256u; j < end; j++) {
        let g = gradient[j];
        sum += g * g;
        bits |= bitcast<u32>(g);
    }
    if (is_ordinary(sum) || (bits & 0x7fffffffu) == 0u) {
        partials[params.start + i] = Sum(sum, 0.0);
        return;
    }
    // Pass 2, only where the sum is near an end of f32: the bits of the largest magnitude.
    var largest = 0u;
    for (var j = i * 256u; j < end; j++) {
        largest = max(largest, bitcast<u32>(gradient[j]) & 0x7fffffffu);
    }
    if (largest >= 0x7f800000u) {
        partials[params.start + i] = Sum(bitcast<f32>(largest), 0.0);
        return;
    }
    // Pass 3: the sum of the squares, scaled so that the largest is near 1.
    let k = clamp(f32(largest >> 23u) - 127.0, -126.0, 126.0);
    let scale = power_of_two(-k);
    sum = 0.0;
    for (var j = i * 256u; j < end; j++) {
        let g = gradient[j] * scale;
        sum += g * g;
    }
    partials[params.start + i] = Sum(sum, k);
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
    for (var j = id.x; j < params.size; j += 256u) {
        sum = add(sum, partials[j]);
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
    for (var j = 0u; j < 256u; j++) {
        sum = add(sum, sums[j]);
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
