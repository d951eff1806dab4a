// Matrix products on CPU adapters with subgroups of 8 or 4 lanes: the layouts and the contract of matmul.wgsl, WIDE only.
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ       nn   C[M, N] = A[M, K] · B[K, N]       tn   C[M, N] = A[K, M]ᵀ · B[K, N]
//
// Reference  src/reference/matmul.rs
// Grid       x: tiles of 4 LANES columns, y: tiles of HEIGHT rows; a workgroup is one subgroup, with one tile.
// Why so     On lavapipe a load is done lane by lane, some 40 instructions for the vec4 of one lane. So a tile loads each value
//            once, as part of a vec4, and values that all lanes need are shared by subgroupBroadcast, which is free. A lane owns
//            four columns (one vec4) of all rows of the tile. A is loaded in blocks of LANES rows x 4 of K (nt, nn) or 4 LANES
//            rows x 1 of K (tn), one vec4 per lane. With 4 lanes, nt is matmul_quad.wgsl.
//            Taller tiles need fewer loads per product. But a loop body of 96 rows, or of 64 rows with 8 steps of K, takes 1.3 to
//            1.7 times as long (docs/rejected.md), presumably because its code outgrows the instruction cache.
//            A turn loads everything before it multiplies: a load is branches where LLVM finds gathers slow, and sums that live
//            across them are written to memory and read again. Of four rows, nt lets the other lanes load the next vec4 (SPLIT).
//            src/ops/matmul.rs takes the tallest tile that leaves enough tiles for all cores. The sums are the same for all.
//            Columns and rows past the end are clamped on load and not stored. In tn, steps of K past the end multiply zeros.
// Names      Q is a block of LANES rows of the tile, R a row of it (ROWS of them are computed), S a step of K within a vec4; in
//            tn Q is a quad of rows of group G. x: four values of A of this lane, u: four columns of B at one step of K, c: of C.

#if NARROW
// N, or the window of C, is not a multiple of 4 (nt only): C is written value by value.
alias OutVec = f32;
const OUT_WIDTH: u32 = 1u;
#else
alias OutVec = vec4<f32>;
const OUT_WIDTH: u32 = 4u;
#endif

#include "lib/product.wgsl"

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<OutVec>; // [M, N]
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<OutVec>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<OutVec>; // [M, N]
#endif

fn store(row: u32, column: u32, value: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
#if NARROW
#for J 4
    if (column * 4u + {{J}}u < params.n) {
        store_output(row, column * 4u + {{J}}u, value[{{J}}]);
    }
#end
#else
    if (column < params.n / 4u) {
        store_output(row, column, value);
    }
#endif
}

#if nt
@compute @workgroup_size(LANES)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * HEIGHT;
    let column = group.x * LANES + lane; // in vec4s
    let a_start = params.a_start / 4u;
    let a_stride = params.a_stride / 4u;
    let b_start = params.b_start / 4u;
    let b_stride = params.b_stride / 4u;
    let k4 = params.k / 4u; // K in vec4s
#for J 4
    let b{{J}} = b_start + min(column * 4u + {{J}}u, params.n - 1u) * b_stride;
#end
#for Q BLOCKS
    let a{{Q}} = a_start + min(row + LANES * {{Q}}u + lane % ROWS, params.m - 1u) * a_stride;
#for R ROWS
    var c{{Q}}_{{R}} = vec4<f32>();
#end
#end
    for (var i = 0u; i < k4; i += SPLIT) {
#for Q BLOCKS
        let x{{Q}} = a[a{{Q}} + i + lane / ROWS % SPLIT];
#end
#for T SPLIT
        {
#for J 4
            let p{{J}} = b[b{{J}} + i + {{T}}u];
#end
#for S 4
            let u{{S}} = vec4<f32>(p0[{{S}}], p1[{{S}}], p2[{{S}}], p3[{{S}}]);
#end
#for Q BLOCKS
#for R ROWS
#for S 4
            c{{Q}}_{{R}} += {{BROADCAST}}(x{{Q}}[{{S}}], {{T}}u * ROWS + {{R}}u) * u{{S}};
#end
#end
#end
        }
#end
    }
#for Q BLOCKS
#for R ROWS
    store(row + LANES * {{Q}}u + {{R}}u, column, c{{Q}}_{{R}});
#end
#end
}
#endif

#if nn
@compute @workgroup_size(LANES)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * HEIGHT;
    let column = group.x * LANES + lane; // in vec4s
    let a_start = params.a_start / 4u;
    let a_stride = params.a_stride / 4u;
    let b_start = params.b_start / 4u;
    let b_stride = params.b_stride / 4u;
    let k4 = params.k / 4u; // K in vec4s
    let b_column = b_start + min(column, params.n / 4u - 1u);
#for Q BLOCKS
    let a{{Q}} = a_start + min(row + LANES * {{Q}}u + lane, params.m - 1u) * a_stride;
#for R ROWS
    var c{{Q}}_{{R}} = vec4<f32>();
#end
#end
    for (var i = 0u; i < k4; i++) {
#for Q BLOCKS
        let x{{Q}} = a[a{{Q}} + i];
#end
#for S 4
        let u{{S}} = b[(i * 4u + {{S}}u) * b_stride + b_column];
#end
#for Q BLOCKS
#for R ROWS
#for S 4
        c{{Q}}_{{R}} += {{BROADCAST}}(x{{Q}}[{{S}}], {{R}}u) * u{{S}};
#end
#end
#end
    }
#for Q BLOCKS
#for R ROWS
    store(row + LANES * {{Q}}u + {{R}}u, column, c{{Q}}_{{R}});
#end
#end
}
#endif

#if tn
// A block of A is a quad of rows per lane here: HEIGHT is 4 LANES GROUPS.
@compute @workgroup_size(LANES)
fn tn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * HEIGHT;
    let column = group.x * LANES + lane; // in vec4s
    let a_start = params.a_start / 4u;
    let a_stride = params.a_stride / 4u;
    let b_start = params.b_start / 4u;
    let b_stride = params.b_stride / 4u;
    let b_column = b_start + min(column, params.n / 4u - 1u);
#for G GROUPS
    let r{{G}} = a_start + min(row / 4u + LANES * {{G}}u + lane, params.m / 4u - 1u);
#for Q LANES
#for R 4
    var c{{G}}_{{Q}}_{{R}} = vec4<f32>();
#end
#end
#end
    for (var i = 0u; i < params.k; i += 4u) {
#for S 4
        let t{{S}} = min(i + {{S}}u, params.k - 1u);
        let inside{{S}} = select(0.0, 1.0, i + {{S}}u < params.k);
        let u{{S}} = b[t{{S}} * b_stride + b_column];
#end
#for G GROUPS
#for S 4
        let x{{G}}_{{S}} = a[t{{S}} * a_stride + r{{G}}] * inside{{S}};
#end
#end
#for G GROUPS
#for Q LANES
#for R 4
#for S 4
        c{{G}}_{{Q}}_{{R}} += {{BROADCAST}}(x{{G}}_{{S}}[{{R}}], {{Q}}u) * u{{S}};
#end
#end
#end
#end
    }
#for G GROUPS
#for Q LANES
#for R 4
    store(row + 4u * (LANES * {{G}}u + {{Q}}u) + {{R}}u, column, c{{G}}_{{Q}}_{{R}});
#end
#end
#end
}
#endif
