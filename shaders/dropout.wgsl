// Dropout (Srivastava et al. 2014): each value stays with probability 1 - p, and what stays grows by 1 / (1 - p).
//
//   apply   y = mask · x / (1 - p)
//
// Contract   y is written; with ACCUMULATE  y += ….  The mask is a function of (key, site, index) alone.
// Grid       one thread a value.
// Why so     No mask is stored: the way back, and a forward pass that is computed again, draw the same numbers from the same
//            counter. The kernel is its own backward pass.
#include "lib/grid.wgsl"
#include "lib/threefry.wgsl"

struct Params {
    size: u32,
    p: f32,
    key_x: u32,
    key_y: u32,
    site: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn apply(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    let draw = unit_float(threefry2x32(vec2<u32>(params.key_x, params.key_y), vec2<u32>(i, params.site)).x);
    let value = select(0.0, x[i] / (1.0 - params.p), draw >= params.p);
#if ACCUMULATE
    y[i] += value;
#else
    y[i] = value;
#endif
}
