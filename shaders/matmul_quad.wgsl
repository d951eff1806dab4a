// Matrix products on CPU adapters with subgroups of 4 lanes (SwiftShader); B is in f32 or packed:
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ     forward             y = x Wᵀ
//
// A packed B is as in matmul_packed.wgsl. In f32, its start and stride are multiples of 4, as those of A, and K.
//
// Reference  src/reference/matmul.rs, with the values of src/reference/matmul_packed.rs
// Contract   C = s A·B (+ bias[N]) (+ R[M, N]);  with ACCUMULATE  C += s A·B. A, C and a B in f32 are windows (lib/product.wgsl).
// Grid       x: tiles of 32 columns, y: tiles of HEIGHT rows; one subgroup of 4 lanes per workgroup, one tile per workgroup.
// Why so     SwiftShader loads lane by lane, also where all lanes load one value, and a load takes as long as several
//            multiply-adds. An exchange within four lanes is cheap. So a lane loads one of four rows of A, which quadBroadcast
//            shares, and 8 of the tile's columns of B for itself. The sums are the same for every HEIGHT, and in the order of
//            matmul.wgsl and matmul_packed.wgsl. Without scales there is no inner loop: one of a single turn halves the speed.
//            What else was tried: docs/rejected.md.
// Names      Q is a block of four rows of the tile, R a row of it (ROWS of 4 are computed), J a column of the lane. x: four
//            values of A, y: of B.

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
#if F32
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
#else
#if HALF
@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>; // [N, K / 4]
#else
@group(0) @binding(2) var<storage, read> b: array<u32>; // [N, K / 4], in Q4 [N, K / 8]
#endif
#endif
#include "lib/weight_product.wgsl"

#if !F32
// The codes of vec4 number i of a packed row that begins at vec4 number `row`, or its values if it has no scales.
fn unpack4(row: u32, i: u32) -> vec4<f32> {
#if Q8
    return unpack4_0(Packed8(b[row + i], 0u));
#endif
#if Q4
    return unpack4_0(b[(row + i) / 2u] >> (i % 2u * 16u));
#endif
#if HALF
    return unpack4_0(Packed8(b[row + i], 0u, 0u));
#endif
}
#endif

@compute @workgroup_size(4)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * HEIGHT;
    let column = group.x * 32u + lane;
#for J 8
#if F32
    let b{{J}} = params.b_start / 4u + min(column + 4u * {{J}}u, params.n - 1u) * (params.b_stride / 4u);
#else
    let b{{J}} = min(column + 4u * {{J}}u, params.n - 1u) * (params.k / 4u);
#endif
#end
#for Q BLOCKS
    let a{{Q}} = params.a_start / 4u + min(row + 4u * {{Q}}u + lane, params.m - 1u) * (params.a_stride / 4u);
#for R ROWS
#for J 8
    var c{{Q}}_{{R}}_{{J}} = 0.0;
#end
#end
#end
    let k4 = params.k / 4u;
#if SCALED
    for (var first = 0u; first < k4; first += 8u) {
#for J 8
        let s{{J}} = scale_of_word(scales[(b{{J}} + first) / 8u]);
#end
        for (var n = 0u; n < 8u; n++) {
            let i = first + n;
#else
    for (var i = 0u; i < k4; i++) {
        {
#endif
#for J 8
#if F32
            let y{{J}} = b[b{{J}} + i];
#else
#if SCALED
            let y{{J}} = scaled(unpack4(b{{J}}, i), s{{J}});
#else
            let y{{J}} = unpack4(b{{J}}, i);
#endif
#endif
#end
#for Q BLOCKS
            let x{{Q}} = a[a{{Q}} + i];
#for R ROWS
            let x{{Q}}_{{R}} = quadBroadcast(x{{Q}}, {{R}}u);
#for J 8
            c{{Q}}_{{R}}_{{J}} += dot(x{{Q}}_{{R}}, y{{J}});
#end
#end
#end
        }
    }
#for Q BLOCKS
#for R ROWS
#for J 8
    if (row + 4u * {{Q}}u + {{R}}u < params.m && column + 4u * {{J}}u < params.n) {
        store_output(row + 4u * {{Q}}u + {{R}}u, column + 4u * {{J}}u, c{{Q}}_{{R}}_{{J}});
    }
#end
#end
#end
}
