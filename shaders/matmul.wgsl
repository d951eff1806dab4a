// Matrix products in the three layouts that a linear layer needs:
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ     forward             y = x Wᵀ
//   nn   C[M, N] = A[M, K] · B[K, N]      input gradient      dx = dy W        (forward: y = x Wᵀ)
//   tn   C[M, N] = A[K, M]ᵀ · B[K, N]     weight gradient     dW = dyᵀ x       (forward: y = x Wᵀ)
//
// Reference  src/reference/matmul.rs
// Contract   C = s A·B (+ bias[N]) (+ R[M, N]);  with ACCUMULATE  C += s A·B. Each of A, B, C is a window of a tensor
//            (lib/product.wgsl): rows of a longer matrix, columns of a wider one. R has the window of C.
// Grid       x: tiles of 8 columns, y: tiles of 8 rows; one thread per tile, GROUP_X x GROUP_Y threads per workgroup.
// Why so     Each thread keeps an 8 x 8 tile of C in registers and reads A and B directly: 16 vector loads feed 256
//            multiply-adds. It uses neither workgroup memory nor barriers, which are slow on CPU adapters: on lavapipe a tile
//            staged in workgroup memory reaches 10 GFLOP/s, and this 25. On GPUs the cache serves the repeated loads.
//            The tile is unrolled in the text: indexed arrays would be in memory on some drivers.
//            WIDE = 1 reads four floats at a time. It needs the contiguous sides, starts and strides of A and B to be multiples
//            of 4.
//            Rows and columns out of range are clamped on load, and their products are not stored.
//
// Names      c00 … c77 are the elements of the tile. In WIDE nn and tn, l0 … l7 are the left four columns of its rows, and
//            r0 … r7 the right four; u and v are the left and right four columns of a row of B, p and q the upper and lower four
//            columns of a row of A.

#if WIDE
alias Vec = vec4<f32>;
const VEC_WIDTH: u32 = 4u;
#else
alias Vec = f32;
const VEC_WIDTH: u32 = 1u;
#endif
alias OutVec = f32;
const OUT_WIDTH: u32 = 1u;

#include "lib/product.wgsl"

@group(0) @binding(1) var<storage, read> a: array<Vec>;
@group(0) @binding(2) var<storage, read> b: array<Vec>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [M, N]
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [M, N]
#endif

fn store(row: u32, column: u32, value: f32) {
    if (row >= params.m || column >= params.n) {
        return;
    }
    store_output(row, column, value);
}

#if nt
@compute @workgroup_size(GROUP_X, GROUP_Y)
fn nt(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    let a_start = params.a_start / VEC_WIDTH;
    let a_stride = params.a_stride / VEC_WIDTH;
    let b_start = params.b_start / VEC_WIDTH;
    let b_stride = params.b_stride / VEC_WIDTH;
    let k = params.k / VEC_WIDTH;
#for I 8
    let a{{I}} = a_start + min(row + {{I}}u, params.m - 1u) * a_stride;
    let b{{I}} = b_start + min(column + {{I}}u, params.n - 1u) * b_stride;
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
@compute @workgroup_size(GROUP_X, GROUP_Y)
fn nn(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    let a_start = params.a_start / VEC_WIDTH;
    let a_stride = params.a_stride / VEC_WIDTH;
    let b_start = params.b_start / VEC_WIDTH;
    let b_stride = params.b_stride / VEC_WIDTH;
    let k = params.k / VEC_WIDTH;
#for I 8
    let a{{I}} = a_start + min(row + {{I}}u, params.m - 1u) * a_stride;
#end
#if WIDE
    // Four steps of K at a time: one vec4 of each row of A, and four rows of B.
    let left_columns = b_start + column / 4u;
    let right_columns = b_start + min(column / 4u + 1u, params.n / 4u - 1u);
#for I 8
    var l{{I}} = vec4<f32>();
    var r{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < k; i++) {
#for I 8
        let x{{I}} = a[a{{I}} + i];
#end
#for S 4
        let u{{S}} = b[(i * 4u + {{S}}u) * b_stride + left_columns];
        let v{{S}} = b[(i * 4u + {{S}}u) * b_stride + right_columns];
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
    let b{{I}} = b_start + min(column + {{I}}u, params.n - 1u);
#for J 8
    var c{{I}}{{J}} = 0.0;
#end
#end
    // Four steps of K a turn, one after the other: K may be a vocabulary, and lavapipe ends loops of over 100,000 turns.
    for (var i = 0u; i + 4u <= k; i += 4u) {
#for S 4
        {
#for J 8
            let y{{J}} = b[(i + {{S}}u) * b_stride + b{{J}}];
#end
#for I 8
            let x{{I}} = a[a{{I}} + i + {{S}}u];
#for J 8
            c{{I}}{{J}} += x{{I}} * y{{J}};
#end
#end
        }
#end
    }
    for (var i = k - k % 4u; i < k; i++) {
#for J 8
        let y{{J}} = b[i * b_stride + b{{J}}];
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
@compute @workgroup_size(GROUP_X, GROUP_Y)
fn tn(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    let a_start = params.a_start / VEC_WIDTH;
    let a_stride = params.a_stride / VEC_WIDTH;
    let b_start = params.b_start / VEC_WIDTH;
    let b_stride = params.b_stride / VEC_WIDTH;
#if WIDE
    let upper_rows = a_start + row / 4u;
    let lower_rows = a_start + min(row / 4u + 1u, params.m / 4u - 1u);
    let left_columns = b_start + column / 4u;
    let right_columns = b_start + min(column / 4u + 1u, params.n / 4u - 1u);
#for I 8
    var l{{I}} = vec4<f32>();
    var r{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < params.k; i++) {
        let p = a[i * a_stride + upper_rows];
        let q = a[i * a_stride + lower_rows];
        let u = b[i * b_stride + left_columns];
        let v = b[i * b_stride + right_columns];
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
    let a{{I}} = a_start + min(row + {{I}}u, params.m - 1u);
    let b{{I}} = b_start + min(column + {{I}}u, params.n - 1u);
#for J 8
    var c{{I}}{{J}} = 0.0;
#end
#end
    for (var i = 0u; i < params.k; i++) {
#for J 8
        let y{{J}} = b[i * b_stride + b{{J}}];
#end
#for I 8
        let x{{I}} = a[i * a_stride + a{{I}}];
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
