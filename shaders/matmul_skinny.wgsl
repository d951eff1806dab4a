// Matrix products of few rows, for GPUs. Decoding has one row for each chain. B is in f32 or packed:
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ     forward             y = x Wᵀ
//
// A packed B is as in matmul_packed.wgsl. In f32, its start and stride are multiples of 4, as those of A, and K.
//
// Reference  src/reference/matmul.rs, with the values of src/reference/matmul_packed.rs
// Contract   C = s A·B (+ bias[N]) (+ R[M, N]);  with ACCUMULATE  C += s A·B. A, C and a B in f32 are windows (lib/product.wgsl).
// Grid       x: 4 columns, y: tiles of ROWS rows; a workgroup of 64 threads has one tile.
// Why so     Such a product takes as long as reading B, once, from memory. In a kernel with a tile per thread, one row leaves
//            most threads of a group without work, and each of the others reads rows of B far from those of its neighbour.
//            Here the threads share out K: in each turn they read 64 neighbouring words (or vectors of words) of four rows of B,
//            all of them at once, so that many bytes are on their way. A is small and stays in the cache. At the end the sums of
//            the threads are added in workgroup memory, in two levels. Codes are summed before their scale is applied: one
//            multiplication for a thread's 16 codes of a block, and with AFFINE one more, by the sum of its values of A.
//            The sums are the same for every ROWS.
// Names      J is a column of the tile, R a row of it. In one turn a thread has PARTS vec4s of each row: P is eight values (one
//            of PACKED8S), H a vec4 of those (one of QUADS). That makes 16 values if they are quantised, 8 halves, 4 in f32.
//            x: four values of A, y: of B (codes, if they are quantised), w: the words of B.

#if F32
alias Words = vec4<f32>;
#else
#if Q4
alias Words = vec2<u32>;
#else
alias Words = vec4<u32>;
#endif
#endif

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<Words>; // [N, K / 4 PARTS], in f32 a window
#include "lib/weight_product.wgsl"

// The sums of the threads, [ROWS, 4, 64], and of 16 groups of four threads, [ROWS, 4, 16]: ALL_THREADS and ALL_GROUPS of them.
var<workgroup> thread_sums: array<f32, ALL_THREADS>;
var<workgroup> group_sums: array<f32, ALL_GROUPS>;

#for P PACKED8S
#for H QUADS
fn values_{{P}}_{{H}}(w: Words) -> vec4<f32> {
#if F32
    return w;
#else
#if Q4
    return unpack4_{{H}}(w[{{P}}]);
#else
    return unpack4_{{H}}(packed8_{{P}}(w));
#endif
#endif
}
#end
#end

@compute @workgroup_size(64)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y * ROWS;
    let column = group.x * 4u;
    let turns = params.k / (4u * PARTS); // of all threads together
#for J 4
#if F32
    let b{{J}} = params.b_start / 4u + min(column + {{J}}u, params.n - 1u) * (params.b_stride / 4u);
#else
    let b{{J}} = min(column + {{J}}u, params.n - 1u) * turns;
#endif
#end
#for R ROWS
    let a{{R}} = params.a_start / 4u + min(row + {{R}}u, params.m - 1u) * (params.a_stride / 4u);
#for J 4
    var c{{R}}_{{J}} = 0.0;
#end
#end
    for (var i = thread; i < turns; i += 64u) {
#for J 4
        let w{{J}} = b[b{{J}} + i];
#end
#if SCALED
#for J 4
        let s{{J}} = scale_of_word(scales[(b{{J}} + i) / 2u]);
#end
#for R ROWS
#for J 4
        var codes{{R}}_{{J}} = 0.0;
#end
#if AFFINE
        var sum{{R}} = 0.0;
#endif
#end
#endif
#for P PACKED8S
#for H QUADS
        {
#for J 4
            let y{{J}} = values_{{P}}_{{H}}(w{{J}});
#end
#for R ROWS
            let x{{R}} = a[a{{R}} + i * PARTS + {{P}}u * QUADS + {{H}}u];
#for J 4
#if SCALED
            codes{{R}}_{{J}} += dot(x{{R}}, y{{J}});
#else
            c{{R}}_{{J}} += dot(x{{R}}, y{{J}});
#endif
#end
#if AFFINE
            sum{{R}} += dot(x{{R}}, vec4<f32>(1.0));
#endif
#end
        }
#end
#end
#if SCALED
#for R ROWS
#for J 4
#if AFFINE
        c{{R}}_{{J}} += codes{{R}}_{{J}} * s{{J}}.x + sum{{R}} * s{{J}}.y;
#else
        c{{R}}_{{J}} += codes{{R}}_{{J}} * s{{J}};
#endif
#end
#end
#endif
    }
#for R ROWS
#for J 4
    thread_sums[({{R}}u * 4u + {{J}}u) * 64u + thread] = c{{R}}_{{J}};
#end
#end
    workgroupBarrier();
#for R ROWS
    {
        let first = ({{R}}u * 64u + thread) * 4u;
        let left = thread_sums[first] + thread_sums[first + 1u];
        group_sums[{{R}}u * 64u + thread] = left + (thread_sums[first + 2u] + thread_sums[first + 3u]);
    }
#end
    workgroupBarrier();
    let to_row = row + thread / 4u;
    let to_column = column + thread % 4u;
    if (thread < 4u * ROWS && to_row < params.m && to_column < params.n) {
        var sum = 0.0;
#for G 16
        sum += group_sums[thread * 16u + {{G}}u];
#end
        store_output(to_row, to_column, sum);
    }
}
