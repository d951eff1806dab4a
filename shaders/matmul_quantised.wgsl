// A matrix product whose right side is quantised, on any adapter:
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ     forward     y = x Wᵀ
//
// B is codes and scales in the form of src/model/quantised.rs: a row of B is K / 32 blocks, each with one scale and 32
// codes in two's complement, the first in the lowest bits (8 bits, with FOUR 4). K is a multiple of 32.
//
// Contract   C = s A·B (+ bias[N]) (+ R[M, N]);  with ACCUMULATE  C += s A·B. A and C are windows (lib/product.wgsl),
//            B is whole. WIDE = 1 reads four floats of A at a time and needs its start and stride to be multiples of 4.
// Grid       x: tiles of 8 columns, y: tiles of ROWS rows; GROUP_X x GROUP_Y threads a workgroup, one tile a thread.
//            PARTS vec4 of codes a block, QUADS quads of codes a word: 2 and 1, with FOUR 1 and 2.
// Why so     As matmul.wgsl: a tile in registers, no workgroup memory, no barriers. What is saved is memory: a block of 32
//            weights is read as two vec4 of codes (one with FOUR) and a scale, 36 (20) bytes instead of 128, and becomes
//            floats in registers, once for all rows of the tile. Shifts bring a code to the top of its word and back down,
//            with its sign: every WGSL has them, where unpack4xI8 is an extension. Decoding writes one row a chain, and a
//            tile of 8 rows would compute one row eight times: ROWS is 1 there. The sums are the same for every ROWS.

#include "lib/codes.wgsl"

#if WIDE
alias Piece = vec4<f32>;
const PIECE: u32 = 4u;
#else
alias Piece = f32;
const PIECE: u32 = 1u;
#endif
alias Cell = f32;
const CELL: u32 = 1u;

#include "lib/product.wgsl"

@group(0) @binding(1) var<storage, read> a: array<Piece>;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>; // [N, K / 32] blocks of 2 (FOUR: 1)
@group(0) @binding(3) var<storage, read> scales: array<f32>; // [N, K / 32]
@group(0) @binding(4) var<storage, read_write> c: array<f32>; // [M, N]
#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(5) var<storage, read> residual: array<f32>; // [M, N]
#endif

fn store(row: u32, column: u32, value: f32) {
    if (row >= params.m || column >= params.n) {
        return;
    }
    put(row, column, value);
}

@compute @workgroup_size({{GROUP_X}}, {{GROUP_Y}})
fn nt(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * {{ROWS}}u;
    let column = id.x * 8u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    let blocks = params.k / 32u;
#for J 8
    let b{{J}} = min(column + {{J}}u, params.n - 1u) * blocks;
#end
#for I ROWS
    let a{{I}} = params.a_start / PIECE + min(row + {{I}}u, params.m - 1u) * (params.a_stride / PIECE);
#for J 8
    var c{{I}}{{J}} = 0.0;
#end
#end
    for (var i = 0u; i < blocks; i++) {
#for J 8
        let s{{J}} = scales[b{{J}} + i];
#end
        for (var part = 0u; part < {{PARTS}}u; part++) {
#for J 8
            let w{{J}} = codes[(b{{J}} + i) * {{PARTS}}u + part];
#end
            let first = (i * {{PARTS}}u + part) * 4u * {{QUADS}}u;
#for V 4
#for Q QUADS
            {
                let at = first + {{V}}u * {{QUADS}}u + {{Q}}u;
#for J 8
                let y{{J}} = quad{{Q}}(w{{J}}[{{V}}]) * s{{J}};
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
