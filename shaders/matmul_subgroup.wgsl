// Matrix products on CPU adapters with subgroups of 8: the layouts and the contract of matmul.wgsl, WIDE only.
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ       nn   C[M, N] = A[M, K] · B[K, N]       tn   C[M, N] = A[K, M]ᵀ · B[K, N]
//
// Grid       x: tiles of 32 columns, y: tiles of 4 QUADS rows; one workgroup is one subgroup of 8 threads, one tile a workgroup.
// Why so     On lavapipe a load serves each lane by itself: eight lanes cost 9 ns for an f32 and 4.5 ns for each part of a
//            vec4, as much as five to ten multiply-adds. So nothing is loaded twice in a tile, everything as vec4, and
//            values that all lanes share go round by subgroupBroadcast, which is free. A thread owns four columns (one
//            vec4) of all rows; A comes in blocks of 4 rows x 8 of K (nt, nn) or 32 rows x 1 of K (tn), a vec4 a lane.
//            Taller tiles load less a product: QUADS 4, 8, 16 reach 39, 48, 56 GFLOP/s where plain arithmetic has 120;
//            `ops/matmul.rs` takes the tallest that leaves enough tiles for all cores. The sums are the same in all of them.
//            Runs of K past the end multiply zeros; columns and rows past the end are clamped on load and not stored.

#if NARROW
// N, or where C lies, is no multiple of 4 (nt only): C is written value by value.
alias OutVec = f32;
const OUT_WIDTH: u32 = 1u;
#else
alias OutVec = vec4<f32>;
const OUT_WIDTH: u32 = 4u;
#endif

#include "lib/product.wgsl"

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<OutVec>; // [M, N] in cells
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
@compute @workgroup_size(8)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * 4u * QUADS;
    let column = group.x * 8u + lane; // in vec4
    let a_start = params.a_start / 4u;
    let a_stride = params.a_stride / 4u;
    let b_start = params.b_start / 4u;
    let b_stride = params.b_stride / 4u;
    let wide = params.k / 4u;
#for J 4
    let b{{J}} = b_start + min(column * 4u + {{J}}u, params.n - 1u) * b_stride;
#end
#for Q QUADS
    let a{{Q}} = a_start + min(row + 4u * {{Q}}u + lane / 2u, params.m - 1u) * a_stride;
#for R 4
    var c{{Q}}_{{R}} = vec4<f32>();
#end
#end
    for (var i = 0u; i < wide; i += 2u) {
        // K is a multiple of 4, so the second half of a run of 8 may lie past the end.
        let second = min(i + 1u, wide - 1u);
        let own = i + lane % 2u;
        let at = min(own, wide - 1u);
        let inside = select(0.0, 1.0, own < wide);
#for J 4
        let p{{J}} = b[b{{J}} + i];
        let q{{J}} = b[b{{J}} + second];
#end
#for S 4
        let u{{S}} = vec4<f32>(p0[{{S}}], p1[{{S}}], p2[{{S}}], p3[{{S}}]);
        let v{{S}} = vec4<f32>(q0[{{S}}], q1[{{S}}], q2[{{S}}], q3[{{S}}]);
#end
#for Q QUADS
        let x{{Q}} = a[a{{Q}} + at] * inside;
#for R 4
#for S 4
        c{{Q}}_{{R}} += subgroupBroadcast(x{{Q}}[{{S}}], 2u * {{R}}u) * u{{S}};
#end
#for S 4
        c{{Q}}_{{R}} += subgroupBroadcast(x{{Q}}[{{S}}], 2u * {{R}}u + 1u) * v{{S}};
#end
#end
#end
    }
#for Q QUADS
#for R 4
    store(row + 4u * {{Q}}u + {{R}}u, column, c{{Q}}_{{R}});
#end
#end
}
#endif

#if nn
@compute @workgroup_size(8)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * 4u * QUADS;
    let column = group.x * 8u + lane; // in vec4
    let a_start = params.a_start / 4u;
    let a_stride = params.a_stride / 4u;
    let b_start = params.b_start / 4u;
    let b_stride = params.b_stride / 4u;
    let wide = params.k / 4u;
    let shown = b_start + min(column, params.n / 4u - 1u);
#for Q QUADS
    let a{{Q}} = a_start + min(row + 4u * {{Q}}u + lane / 2u, params.m - 1u) * a_stride;
#for R 4
    var c{{Q}}_{{R}} = vec4<f32>();
#end
#end
    for (var i = 0u; i < wide; i += 2u) {
        let second = min(i + 1u, wide - 1u);
        let own = i + lane % 2u;
        let at = min(own, wide - 1u);
        let inside = select(0.0, 1.0, own < wide);
#for S 4
        let u{{S}} = b[(i * 4u + {{S}}u) * b_stride + shown];
        let v{{S}} = b[(second * 4u + {{S}}u) * b_stride + shown];
#end
#for Q QUADS
        let x{{Q}} = a[a{{Q}} + at] * inside;
#for R 4
#for S 4
        c{{Q}}_{{R}} += subgroupBroadcast(x{{Q}}[{{S}}], 2u * {{R}}u) * u{{S}};
#end
#for S 4
        c{{Q}}_{{R}} += subgroupBroadcast(x{{Q}}[{{S}}], 2u * {{R}}u + 1u) * v{{S}};
#end
#end
#end
    }
#for Q QUADS
#for R 4
    store(row + 4u * {{Q}}u + {{R}}u, column, c{{Q}}_{{R}});
#end
#end
}
#endif

#if tn
// QUADS is a multiple of 8 here: a block of A is 8 quads of rows, one a lane.
@compute @workgroup_size(8)
fn tn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * 4u * QUADS;
    let column = group.x * 8u + lane; // in vec4
    let a_start = params.a_start / 4u;
    let a_stride = params.a_stride / 4u;
    let b_start = params.b_start / 4u;
    let b_stride = params.b_stride / 4u;
    let shown = b_start + min(column, params.n / 4u - 1u);
#for G GROUPS
    let r{{G}} = a_start + min(row / 4u + 8u * {{G}}u + lane, params.m / 4u - 1u);
#for Q 8
#for R 4
    var c{{G}}_{{Q}}_{{R}} = vec4<f32>();
#end
#end
#end
    for (var i = 0u; i < params.k; i += 4u) {
#for S 4
        let t{{S}} = min(i + {{S}}u, params.k - 1u);
        let inside{{S}} = select(0.0, 1.0, i + {{S}}u < params.k);
        let u{{S}} = b[t{{S}} * b_stride + shown];
#end
#for G GROUPS
#for S 4
        let x{{G}}_{{S}} = a[t{{S}} * a_stride + r{{G}}] * inside{{S}};
#end
#for Q 8
#for R 4
#for S 4
        c{{G}}_{{Q}}_{{R}} += subgroupBroadcast(x{{G}}_{{S}}[{{R}}], {{Q}}u) * u{{S}};
#end
#end
#end
#end
    }
#for G GROUPS
#for Q 8
#for R 4
    store(row + 4u * (8u * {{G}}u + {{Q}}u) + {{R}}u, column, c{{G}}_{{Q}}_{{R}});
#end
#end
#end
}
#endif
