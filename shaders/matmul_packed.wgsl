// Matrix products whose right side is packed, on any adapter:
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ     forward             y = x Wᵀ
//   nn   C[M, N] = A[M, K] · B[K, N]      input gradient      dx = dy W        (forward: y = x Wᵀ)
//
// B is a `Packed` of src/ops/matrix.rs: its rows are blocks of 32 values, so K (nn: N) is a multiple of 32. A block is
// VEC4S_PER_BLOCK vec4s of words, and a vec4 of words is PACKED8_PER_VEC4 Packed8s of eight values (lib/packing.wgsl).
//
// Reference  src/reference/matmul.rs, with the values of src/reference/matmul_packed.rs
// Contract   C = s A·B (+ bias[N]) (+ R[M, N]);  with ACCUMULATE  C += s A·B. A and C are windows (lib/product.wgsl), B is whole.
//            WIDE = 1 reads four floats of A at a time. It needs the start and stride of A, and in nn K, to be multiples of 4.
// Grid       x: tiles of 8 columns, y: tiles of ROWS rows; one thread per tile, GROUP_X x GROUP_Y threads per workgroup.
// Why so     As in matmul.wgsl: a tile in registers, neither workgroup memory nor barriers. Packing saves memory traffic: a block
//            of 32 weights is read as 64 bytes (halves), 36 (Q8) or 20 (Q4) instead of 128, and becomes floats in registers, once
//            for all rows of the tile. In nn the 8 columns of a tile are one load per row of B. Decoding (nt) often has one row,
//            and a tile of 8 rows would compute it eight times: ROWS is 1 there. The sums are the same for every ROWS.

#if WIDE
alias Vec = vec4<f32>;
const VEC_WIDTH: u32 = 4u;
#else
alias Vec = f32;
const VEC_WIDTH: u32 = 1u;
#endif

@group(0) @binding(1) var<storage, read> a: array<Vec>;
#if nt
@group(0) @binding(2) var<storage, read> words: array<vec4<u32>>; // [N, K / 32, VEC4S_PER_BLOCK]
#else
@group(0) @binding(2) var<storage, read> words: array<Packed8>; // [K, N / 8]
#endif
#include "lib/weight_product.wgsl"

// The scale of a block; halves have none.
fn scale_of(block: u32) -> Scale {
#if HALF
    return 1.0;
#else
    return scale_of_word(scales[block]);
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
        for (var part = 0u; part < VEC4S_PER_BLOCK; part++) {
#for J 8
            let w{{J}} = words[(b{{J}} + i) * VEC4S_PER_BLOCK + part];
#end
            let first = (i * VEC4S_PER_BLOCK + part) * 2u * PACKED8_PER_VEC4; // in vec4s of A
#for E PACKED8_PER_VEC4
#for H 2
            {
                let at = first + 2u * {{E}}u + {{H}}u;
#for J 8
                let y{{J}} = scaled(unpack4_{{H}}(packed8_{{E}}(w{{J}})), s{{J}});
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
    let width = params.n / 8u; // of a row of B, in Packed8s
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
            let packed = words[at];
            let s = scale_of(at / 4u);
            let u = scaled(unpack4_0(packed), s);
            let v = scaled(unpack4_1(packed), s);
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
