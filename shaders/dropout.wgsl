// Dropout (Srivastava et al. 2014): each value is kept with probability 1 - p, and a kept value is divided by 1 - p.
//
//   apply   y = mask · x / (1 - p)
//
// Reference  src/reference/dropout.rs
// Contract   y = …, with ACCUMULATE  y += …. The mask depends on (key, site, index) alone.
// Grid       one thread per value.
// Why so     The mask is not stored: the backward pass, and a forward pass that is computed again, draw the same numbers from the
//            same counter. The kernel is its own backward pass, on the gradient of y instead of x.
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
    let i = thread_index(group, groups, thread);
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
