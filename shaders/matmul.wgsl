// Matrix products in the three layouts that a linear layer needs:
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ     forward             y = x Wᵀ
//   nn   C[M, N] = A[M, K] · B[K, N]      input gradient      dx = dy W
//   tn   C[M, N] = A[K, M]ᵀ · B[K, N]     weight gradient     dW = dyᵀ x
//
// Contract   C = A·B (+ bias[N]) (+ R[M, N]);  with ACCUMULATE  C += A·B.
//            Rows of A and C start at a_start and c_start, in tn also those of B at b_start: chunks of longer matrices.
// Grid       x: tiles of 8 columns, y: tiles of 8 rows; GROUP_X x GROUP_Y threads a workgroup, one tile a thread.
// Why so     Each thread keeps an 8 x 8 tile of C in registers and reads A and B directly: 16 vector loads feed
//            256 multiply-adds. No workgroup memory and no barriers, which is what CPU adapters want (webgpu study:
//            a staged tile reaches 10 GFLOP/s on lavapipe where this reaches 25), and GPUs serve the reuse from cache.
//            The tile is unrolled in the text: indexed arrays would live in memory on some drivers.
//            WIDE = 1 reads four floats at a time and needs the contiguous sides to be multiples of 4.
//            Out-of-range rows and columns are clamped on load (their products are never stored).

struct Params {
    m: u32,
    n: u32,
    k: u32,
    a_start: u32,
    b_start: u32,
    c_start: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#if WIDE
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
#endif
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [M, N]
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [M, N]
#endif

alias Cell = f32;
#include "lib/epilogue.wgsl"

fn store(row: u32, column: u32, value: f32) {
    if (row >= params.m || column >= params.n) {
        return;
    }
    put((params.c_start + row) * params.n + column, column, value);
}

#if nt
@compute @workgroup_size({{GROUP_X}}, {{GROUP_Y}})
fn nt(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
#if WIDE
    let k = params.k / 4u;
#else
    let k = params.k;
#endif
#for I 8
    let a{{I}} = (params.a_start + min(row + {{I}}u, params.m - 1u)) * k;
    let b{{I}} = min(column + {{I}}u, params.n - 1u) * k;
#for J 8
    var c{{I}}{{J}} = 0.0;
#end
#end
    for (var i = 0u; i < k; i++) {
#for J 8
        let y{{J}} = b[b{{J}} + i];
#end
#for I 8
        let x{{I}} = a[a{{I}} + i];
#for J 8
#if WIDE
        c{{I}}{{J}} += dot(x{{I}}, y{{J}});
#else
        c{{I}}{{J}} += x{{I}} * y{{J}};
#endif
#end
#end
    }
#for I 8
#for J 8
    store(row + {{I}}u, column + {{J}}u, c{{I}}{{J}});
#end
#end
}
#endif

#if nn
@compute @workgroup_size({{GROUP_X}}, {{GROUP_Y}})
fn nn(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
#if WIDE
    // Four steps of K at a time: A gives four of its row, B four of its columns.
    let k = params.k / 4u;
    let width = params.n / 4u;
    let left = column / 4u;
    let right = min(left + 1u, width - 1u);
#for I 8
    let a{{I}} = (params.a_start + min(row + {{I}}u, params.m - 1u)) * k;
    var l{{I}} = vec4<f32>();
    var r{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < k; i++) {
#for I 8
        let x{{I}} = a[a{{I}} + i];
#end
#for S 4
        let u{{S}} = b[(i * 4u + {{S}}u) * width + left];
        let v{{S}} = b[(i * 4u + {{S}}u) * width + right];
#for I 8
        l{{I}} += x{{I}}[{{S}}] * u{{S}};
        r{{I}} += x{{I}}[{{S}}] * v{{S}};
#end
#end
    }
#for I 8
#for J 4
    store(row + {{I}}u, column + {{J}}u, l{{I}}[{{J}}]);
    store(row + {{I}}u, column + 4u + {{J}}u, r{{I}}[{{J}}]);
#end
#end
#else
#for I 8
    let a{{I}} = (params.a_start + min(row + {{I}}u, params.m - 1u)) * params.k;
    let b{{I}} = min(column + {{I}}u, params.n - 1u);
#for J 8
    var c{{I}}{{J}} = 0.0;
#end
#end
    for (var i = 0u; i < params.k; i++) {
#for J 8
        let y{{J}} = b[i * params.n + b{{J}}];
#end
#for I 8
        let x{{I}} = a[a{{I}} + i];
#for J 8
        c{{I}}{{J}} += x{{I}} * y{{J}};
#end
#end
    }
#for I 8
#for J 8
    store(row + {{I}}u, column + {{J}}u, c{{I}}{{J}});
#end
#end
#endif
}
#endif

#if tn
@compute @workgroup_size({{GROUP_X}}, {{GROUP_Y}})
fn tn(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
#if WIDE
    let height = params.m / 4u;
    let width = params.n / 4u;
    let upper = row / 4u;
    let lower = min(upper + 1u, height - 1u);
    let left = column / 4u;
    let right = min(left + 1u, width - 1u);
#for I 8
    var l{{I}} = vec4<f32>();
    var r{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < params.k; i++) {
        let p = a[(params.a_start + i) * height + upper];
        let q = a[(params.a_start + i) * height + lower];
        let u = b[(params.b_start + i) * width + left];
        let v = b[(params.b_start + i) * width + right];
#for I 4
        l{{I}} += p[{{I}}] * u;
        r{{I}} += p[{{I}}] * v;
#end
        l4 += q[0] * u;
        r4 += q[0] * v;
        l5 += q[1] * u;
        r5 += q[1] * v;
        l6 += q[2] * u;
        r6 += q[2] * v;
        l7 += q[3] * u;
        r7 += q[3] * v;
    }
#for I 8
#for J 4
    store(row + {{I}}u, column + {{J}}u, l{{I}}[{{J}}]);
    store(row + {{I}}u, column + 4u + {{J}}u, r{{I}}[{{J}}]);
#end
#end
#else
#for I 8
    let a{{I}} = min(row + {{I}}u, params.m - 1u);
    let b{{I}} = min(column + {{I}}u, params.n - 1u);
#for J 8
    var c{{I}}{{J}} = 0.0;
#end
#end
    for (var i = 0u; i < params.k; i++) {
#for J 8
        let y{{J}} = b[(params.b_start + i) * params.n + b{{J}}];
#end
#for I 8
        let x{{I}} = a[(params.a_start + i) * params.m + a{{I}}];
#for J 8
        c{{I}}{{J}} += x{{I}} * y{{J}};
#end
#end
    }
#for I 8
#for J 8
    store(row + {{I}}u, column + {{J}}u, c{{I}}{{J}});
#end
#end
#endif
}
#endif
