// AdamW with decoupled weight decay (Loshchilov & Hutter 2019), as torch.optim.AdamW:
//     p ← p (1 - lr·decay)
//     m ← β1 m + (1 - β1) g        v ← β2 v + (1 - β2) g²
//     p ← p - lr / (1 - β1ᵗ) · m / (sqrt(v) / sqrt(1 - β2ᵗ) + eps)
// g is the gradient times the clip factor of grad_norm.wgsl, which stays on the GPU. If the gradient is not finite, p, m and v
// keep their values.
//
// Reference  src/reference/adamw.rs
// Contract   in place on p, m and v.
// Grid       one thread per vector.
// Why so     An update reads and writes each value once and is bound by memory, so the kernel is as simple as the formula. The
//            host never waits for the norm: the kernel itself reads the clip factor, and whether to update at all.
#include "lib/grid.wgsl"
#include "lib/vec.wgsl"

struct Params {
    size: u32, // vectors
    lr: f32,
    decay: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    correction1: f32, // 1 - β1ᵗ
    correction2: f32, // sqrt(1 - β2ᵗ)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<Vec>;
@group(0) @binding(2) var<storage, read> norm: array<f32>; // [4]: norm, clip factor, finite (1 or 0)
@group(0) @binding(3) var<storage, read_write> p: array<Vec>;
@group(0) @binding(4) var<storage, read_write> m: array<Vec>;
@group(0) @binding(5) var<storage, read_write> v: array<Vec>;

@compute @workgroup_size(64)
fn advance(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size || norm[2] == 0.0) {
        return;
    }
    let g = gradient[i] * norm[1];
    let new_m = params.beta1 * m[i] + (1.0 - params.beta1) * g;
    let new_v = params.beta2 * v[i] + (1.0 - params.beta2) * g * g;
    m[i] = new_m;
    v[i] = new_v;
    p[i] = p[i] * (1.0 - params.lr * params.decay)
         - params.lr / params.correction1 * new_m / (sqrt(new_v) / params.correction2 + Vec(params.eps));
}
