// The global gradient norm and the clip factor, which never leave the GPU (torch.nn.utils.clip_grad_norm_):
//     norm = sqrt(sum of all squares),   factor = min(1, max_norm / (norm + 1e-6))
//
// Contract   squares   partials[start + i] = sum of g² over elements 256 i .. 256 (i + 1) of one tensor
//            shorten   out[i] = sum of partials[j] with j % 256 == i
//            finish    result = (norm, factor, 1 if finite else 0)
// Why so     Three fixed stages, no atomics. A float that is not finite is told by its bits: a compiler may assume
//            that NaN does not exist and drop `x != x`.
#include "lib/grid.wgsl"

#if squares
struct Params {
    size: u32,
    start: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i * 256u >= params.size) {
        return;
    }
    var sum = 0.0;
    for (var j = i * 256u; j < min(params.size, (i + 1u) * 256u); j++) {
        sum += gradient[j] * gradient[j];
    }
    partials[params.start + i] = sum;
}
#endif

#if shorten
struct Params {
    size: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> short: array<f32>; // [256]

@compute @workgroup_size(64)
fn shorten(@builtin(global_invocation_id) id: vec3<u32>) {
    var sum = 0.0;
    for (var j = id.x; j < params.size; j += 256u) {
        sum += partials[j];
    }
    short[id.x] = sum;
}
#endif

#if finish
struct Params {
    max_norm: f32, // 0: no clipping
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> short: array<f32>; // [256]
@group(0) @binding(2) var<storage, read_write> result: array<f32>; // [4]

@compute @workgroup_size(1)
fn finish() {
    var sum = 0.0;
    for (var j = 0u; j < 256u; j++) {
        sum += short[j];
    }
    let finite = (bitcast<u32>(sum) & 0x7f800000u) != 0x7f800000u;
    let norm = sqrt(sum);
    result[0] = norm;
    result[1] = select(1.0, min(1.0, params.max_norm / (norm + 1e-6)), params.max_norm > 0.0);
    result[2] = select(0.0, 1.0, finite);
    result[3] = 0.0;
}
#endif
