// Matrix products whose right side is packed, on any adapter:
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ     forward             y = x Wᵀ
//   nn   C[M, N] = A[M, K] · B[K, N]      input gradient      dx = dy W
//
// B is stored as src/ops/matrix.rs says: its rows are blocks of 32, so K (nn: N) is a multiple of 32.
//
// Contract   C = s A·B (+ bias[N]) (+ R[M, N]);  with ACCUMULATE  C += s A·B. A and C are windows (lib/product.wgsl),
//            B is whole. WIDE = 1 reads four floats of A at a time and needs its start and stride to be multiples of 4,
//            in nn K too.
// Grid       x: tiles of 8 columns, y: tiles of ROWS rows; GROUP_X x GROUP_Y threads a workgroup, one tile a thread.
//            A block has PARTS vec4 of words, each of them EIGHTS times eight values.
// Why so     As matmul.wgsl: a tile in registers, no workgroup memory, no barriers. What is saved is memory: a block of 32
//            weights is read as 64 bytes (halves), 36 (Q8) or 20 (Q4) instead of 128, and becomes floats in registers, once
//            for all rows of the tile. In nn the 8 columns of a tile are one load of each row of B. Generation (nt) writes one
//            row a chain, and a tile of 8 rows would compute one row eight times: ROWS is 1 there. The sums are the same for
//            every ROWS.

#if WIDE
alias Vec = vec4<f32>;
const VEC_WIDTH: u32 = 4u;
#else
alias Vec = f32;
const VEC_WIDTH: u32 = 1u;
#endif
alias OutVec = f32;
const OUT_WIDTH: u32 = 1u;

#include "lib/codes.wgsl"
#include "lib/product.wgsl"

@group(0) @binding(1) var<storage, read> a: array<Vec>;
#if nt
@group(0) @binding(2) var<storage, read> words: array<vec4<u32>>; // [N, K / 32] blocks of PARTS
#else
@group(0) @binding(2) var<storage, read> words: array<Eight>; // [K, N / 8]
#endif
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [M, N]
#if HALF
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [M, N]
#endif
#else
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [N, K / 32], in nn [K, N / 32]
#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(5) var<storage, read> residual: array<f32>; // [M, N]
#endif
#endif

// The scale of a block.
fn scale_of(block: u32) -> f32 {
#if HALF
    return 1.0;
#else
    return scales[block];
#endif
}

fn store(row: u32, column: u32, value: f32) {
    if (row >= params.m || column >= params.n) {
        return;
    }
    store_output(row, column, value);
}

#if nt
@compute @workgroup_size(GROUP_X, GROUP_Y)
fn nt(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * ROWS;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    let blocks = params.k / 32u;
#for J 8
    let b{{J}} = min(column + {{J}}u, params.n - 1u) * blocks;
#end
#for I ROWS
    let a{{I}} = params.a_start / VEC_WIDTH + min(row + {{I}}u, params.m - 1u) * (params.a_stride / VEC_WIDTH);
#for J 8
    var c{{I}}{{J}} = 0.0;
#end
#end
    for (var i = 0u; i < blocks; i++) {
#for J 8
        let s{{J}} = scale_of(b{{J}} + i);
#end
        for (var part = 0u; part < PARTS; part++) {
#for J 8
            let w{{J}} = words[(b{{J}} + i) * PARTS + part];
#end
            let first = (i * PARTS + part) * 2u * EIGHTS; // in quads of A
#for E EIGHTS
#for H 2
            {
                let at = first + 2u * {{E}}u + {{H}}u;
#for J 8
                let y{{J}} = quad{{H}}(eight{{E}}(w{{J}})) * s{{J}};
#end
#for I ROWS
#if WIDE
                let x{{I}} = a[a{{I}} + at];
#else
                let i{{I}} = a{{I}} + at * 4u;
                let x{{I}} = vec4<f32>(a[i{{I}}], a[i{{I}} + 1u], a[i{{I}} + 2u], a[i{{I}} + 3u]);
#endif
#for J 8
                c{{I}}{{J}} += dot(x{{I}}, y{{J}});
#end
#end
            }
#end
#end
        }
    }
#for I ROWS
#for J 8
    store(row + {{I}}u, column + {{J}}u, c{{I}}{{J}});
#end
#end
}
#endif

#if nn
@compute @workgroup_size(GROUP_X, GROUP_Y)
fn nn(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * ROWS;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    let width = params.n / 8u; // of a row of B, in eights
#for I ROWS
    let a{{I}} = params.a_start / VEC_WIDTH + min(row + {{I}}u, params.m - 1u) * (params.a_stride / VEC_WIDTH);
    var l{{I}} = vec4<f32>();
    var r{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < params.k / VEC_WIDTH; i++) {
#for I ROWS
        let x{{I}} = vec4<f32>(a[a{{I}} + i]);
#end
#for S STEPS
        {
            let at = (i * VEC_WIDTH + {{S}}u) * width + id.x;
            let e = words[at];
            let s = scale_of(at / 4u);
            let u = quad0(e) * s;
            let v = quad1(e) * s;
#for I ROWS
            l{{I}} += x{{I}}[{{S}}] * u;
            r{{I}} += x{{I}}[{{S}}] * v;
#end
        }
#end
    }
#for I ROWS
#for J 4
    store(row + {{I}}u, column + {{J}}u, l{{I}}[{{J}}]);
    store(row + {{I}}u, column + 4u + {{J}}u, r{{I}}[{{J}}]);
#end
#end
}
#endif
