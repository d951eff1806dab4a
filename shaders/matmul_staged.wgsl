// Matrix products on GPUs: the layouts and the contract of matmul.wgsl, WIDE only.
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ       nn   C[M, N] = A[M, K] · B[K, N]       tn   C[M, N] = A[K, M]ᵀ · B[K, N]
//   sum  C[M, N] = the sum over K of A[K, M, N], the parts of a product whose K was split
//
// Reference  src/reference/matmul.rs
// Grid       x: tiles of 8 EDGE columns, y: tiles of 8 EDGE rows; one tile per workgroup of EDGE x EDGE threads (8 or 16). With
//            SPLIT the tiles repeat along y, once for each part of K. sum: one thread for four columns of a row.
// Why so     A direct kernel (matmul.wgsl) loads 6.3 vec4s for 100 multiply-adds and waits for them at every turn. Here a
//            workgroup stages a block of 8 steps of K of both sides in workgroup memory: .8 loads (EDGE 8) or .4 (EDGE 16), each
//            value of a tile read once, neighbours by neighbours. The next block is on its way while this one is multiplied, so
//            that 512 multiply-adds hide each wait. Where a driver checks every load (NVK cuts a vec4 in four for that), few
//            loads are few checks.
//            A thread owns 8 x 8 values of C, in quarters of 4 x 4: its vec4s of the staged lines are neighbours of those of its
//            neighbours, so all banks work. A block is staged as lines along a step of K, whatever the layout. PITCH has a vec4
//            of padding: lines that are turned on their way (along K in memory) are then written without bank conflicts.
//            8 steps and not 16: four vec4s on their way beside 64 sums leave no spills on Apple and Adreno. It takes 8.3 KiB at
//            most and 256 threads, the limits of any browser.
//            A product of few tiles leaves most of a GPU idle; weight gradients of small matrices are such, with a long K. SPLIT
//            gives each part of K tiles of its own, which write their sums side by side. `sum` adds them in their order.
//            Every value is summed in the order of K, whatever the tile, so the choice of a tile does not change a bit of it.
//            Rows and columns past the end are clamped on load and not stored. Steps past the end are staged and not multiplied.
//
// Names      H: the upper and lower half of a thread's rows, W: the left and right half of its columns, I: a row of a quarter,
//            S: a step of K in the block, L: a load of this thread, E: an element of a vec4. p: four rows of A, q: four columns
//            of B, c: of C.

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
#if sum
@group(0) @binding(2) var<storage, read_write> c: array<OutVec>; // [M, N]
#if BIAS
@group(0) @binding(3) var<storage, read> bias: array<OutVec>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<OutVec>; // [M, N]
#endif
#else
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<OutVec>; // [M, N]; with SPLIT [parts, M, N]
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<OutVec>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<OutVec>; // [M, N]
#endif
#endif

#if sum
#include "lib/grid.wgsl"

@compute @workgroup_size(64)
fn sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = thread_index(group, groups, thread);
    let width = params.n / 4u;
    if (i >= params.m * width) {
        return;
    }
    var total = vec4<f32>();
    for (var part = 0u; part < params.k; part++) {
        total += a[part * params.m * width + i];
    }
    store_output(i / width, i % width, total);
}
#else
const DEPTH: u32 = 8u; // steps of K of a block
const TILE: u32 = 8u * EDGE; // rows and columns of C
const THREADS: u32 = EDGE * EDGE;
const QUADS: u32 = TILE / 4u;
const PITCH: u32 = QUADS + 1u;
#if SPLIT
const LEAST: u32 = 128u; // steps of K of a part
#endif

// The staged block: [step of K, rows of the tile] and [step of K, columns of the tile]. What is turned on its way is written by
// value. In an array of vec4s two threads would write values of one vector, which WGSL may write as a whole.
#if tn
var<workgroup> left: array<vec4<f32>, DEPTH * PITCH>;
#else
var<workgroup> left: array<f32, 4u * DEPTH * PITCH>;
#endif
#if nt
var<workgroup> right: array<f32, 4u * DEPTH * PITCH>;
#else
var<workgroup> right: array<vec4<f32>, DEPTH * PITCH>;
#endif

// The steps of K that a workgroup multiplies.
struct Steps {
    begin: u32,
    end: u32,
}

// Where vec4 number i of a block is, if K is contiguous: two vec4s of a row or column of C at a time. `steps` of the block exist.
fn along_k(i: u32, first: u32, count: u32, start: u32, stride: u32, k: u32, steps: u32) -> u32 {
    return (start + k) / 4u + min(first + i / 2u, count - 1u) * (stride / 4u) + min(i % 2u, steps / 4u - 1u);
}

// The same if rows or columns of C are contiguous: one step of K at a time.
fn across_k(i: u32, first: u32, count: u32, start: u32, stride: u32, k: u32, steps: u32) -> u32 {
    return start / 4u + (k + min(i / QUADS, steps - 1u)) * (stride / 4u) + min(first / 4u + i % QUADS, count / 4u - 1u);
}

fn at_a(i: u32, row: u32, k: u32, steps: u32) -> u32 {
#if tn
    return across_k(i, row, params.m, params.a_start, params.a_stride, k, steps);
#else
    return along_k(i, row, params.m, params.a_start, params.a_stride, k, steps);
#endif
}

fn at_b(i: u32, column: u32, k: u32, steps: u32) -> u32 {
#if nt
    return along_k(i, column, params.n, params.b_start, params.b_stride, k, steps);
#else
    return across_k(i, column, params.n, params.b_start, params.b_stride, k, steps);
#endif
}

// Where vec4 number i of a block is staged: turned, as the first of four lines, or as it is in memory.
fn turned_at(i: u32) -> u32 {
    return i % 2u * 16u * PITCH + i / 2u;
}

fn straight_at(i: u32) -> u32 {
    return i / QUADS * PITCH + i % QUADS;
}

fn stage_a(at: u32, x: vec4<f32>) {
#if tn
    left[at] = x;
#else
#for E 4
    left[at + {{E}}u * 4u * PITCH] = x[{{E}}];
#end
#endif
}

fn stage_b(at: u32, x: vec4<f32>) {
#if nt
#for E 4
    right[at + {{E}}u * 4u * PITCH] = x[{{E}}];
#end
#else
    right[at] = x;
#endif
}

// vec4 number i of the staged rows of A, and of the staged columns of B.
fn rows_at(i: u32) -> vec4<f32> {
#if tn
    return left[i];
#else
    return vec4<f32>(left[4u * i], left[4u * i + 1u], left[4u * i + 2u], left[4u * i + 3u]);
#endif
}

fn columns_at(i: u32) -> vec4<f32> {
#if nt
    return vec4<f32>(right[4u * i], right[4u * i + 1u], right[4u * i + 2u], right[4u * i + 3u]);
#else
    return right[i];
#endif
}

// Four columns of C: `column` counts vec4s.
fn store(row: u32, column: u32, value: vec4<f32>, part: u32) {
#if SPLIT
    if (column < params.n / 4u) {
        c[(part * params.m + row) * (params.n / 4u) + column] = value;
    }
#else
#if NARROW
#for E 4
    if (column * 4u + {{E}}u < params.n) {
        store_output(row, column * 4u + {{E}}u, value[{{E}}]);
    }
#end
#else
    if (column < params.n / 4u) {
        store_output(row, column, value);
    }
#endif
#endif
}

// The tile of C at (row, column), over these steps of K. `part` is the number of the steps, where there are several.
fn multiply(row: u32, column: u32, steps: Steps, part: u32, thread: u32) {
    let x = thread % EDGE;
    let y = thread / EDGE;
    let blocks = (steps.end - steps.begin) / DEPTH;
    let rest = (steps.end - steps.begin) % DEPTH;
    // From a block to the next, in memory.
#if tn
    let step_a = DEPTH * (params.a_stride / 4u);
#else
    let step_a = DEPTH / 4u;
#endif
#if nt
    let step_b = DEPTH / 4u;
#else
    let step_b = DEPTH * (params.b_stride / 4u);
#endif
#for L LOADS
    let a{{L}} = at_a(thread + {{L}}u * THREADS, row, steps.begin, DEPTH);
    let b{{L}} = at_b(thread + {{L}}u * THREADS, column, steps.begin, DEPTH);
#if tn
    let to_a{{L}} = straight_at(thread + {{L}}u * THREADS);
#else
    let to_a{{L}} = turned_at(thread + {{L}}u * THREADS);
#endif
#if nt
    let to_b{{L}} = turned_at(thread + {{L}}u * THREADS);
#else
    let to_b{{L}} = straight_at(thread + {{L}}u * THREADS);
#endif
    var next_a{{L}} = vec4<f32>();
    var next_b{{L}} = vec4<f32>();
#end
#for H 2
#for I 4
#for W 2
    var c{{H}}{{I}}{{W}} = vec4<f32>();
#end
#end
#end
    if (blocks > 0u) {
#for L LOADS
        next_a{{L}} = a[a{{L}}];
        next_b{{L}} = b[b{{L}}];
#end
    }
    for (var block = 0u; block < blocks; block++) {
        // No thread reads the last block any more.
        workgroupBarrier();
#for L LOADS
        stage_a(to_a{{L}}, next_a{{L}});
        stage_b(to_b{{L}}, next_b{{L}});
#end
        workgroupBarrier();
        let next = min(block + 1u, blocks - 1u);
#for L LOADS
        next_a{{L}} = a[a{{L}} + next * step_a];
        next_b{{L}} = b[b{{L}} + next * step_b];
#end
#for S 8
#for H 2
        let p{{S}}{{H}} = rows_at({{S}}u * PITCH + {{H}}u * EDGE + y);
        let q{{S}}{{H}} = columns_at({{S}}u * PITCH + {{H}}u * EDGE + x);
#end
#for H 2
#for I 4
#for W 2
        c{{H}}{{I}}{{W}} += p{{S}}{{H}}[{{I}}] * q{{S}}{{W}};
#end
#end
#end
#end
    }
    if (rest > 0u) {
        let k = steps.begin + blocks * DEPTH;
        workgroupBarrier();
#for L LOADS
        stage_a(to_a{{L}}, a[at_a(thread + {{L}}u * THREADS, row, k, rest)]);
        stage_b(to_b{{L}}, b[at_b(thread + {{L}}u * THREADS, column, k, rest)]);
#end
        workgroupBarrier();
        for (var s = 0u; s < rest; s++) {
#for H 2
            let p{{H}} = rows_at(s * PITCH + {{H}}u * EDGE + y);
            let q{{H}} = columns_at(s * PITCH + {{H}}u * EDGE + x);
#end
#for H 2
#for I 4
#for W 2
            c{{H}}{{I}}{{W}} += p{{H}}[{{I}}] * q{{W}};
#end
#end
#end
        }
    }
#for H 2
#for I 4
    let row{{H}}{{I}} = row + {{H}}u * (TILE / 2u) + y * 4u + {{I}}u;
    if (row{{H}}{{I}} < params.m) {
#for W 2
        store(row{{H}}{{I}}, column / 4u + {{W}}u * EDGE + x, c{{H}}{{I}}{{W}}, part);
#end
    }
#end
#end
}
#endif

#if nt
@compute @workgroup_size(THREADS)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    multiply(group.y * TILE, group.x * TILE, Steps(0u, params.k), 0u, thread);
}
#endif

#if nn
@compute @workgroup_size(THREADS)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    multiply(group.y * TILE, group.x * TILE, Steps(0u, params.k), 0u, thread);
}
#endif

#if tn
@compute @workgroup_size(THREADS)
fn tn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
#if SPLIT
    let tiles = (params.m + TILE - 1u) / TILE;
    let parts = groups.y / tiles;
    let part = group.y / tiles;
    // A multiple of DEPTH, from the K of this run: the same whatever a plan has room for. Parts past the end add 0.
    let each = max((params.k + parts * DEPTH - 1u) / (parts * DEPTH) * DEPTH, LEAST);
    let steps = Steps(min(part * each, params.k), min((part + 1u) * each, params.k));
    multiply(group.y % tiles * TILE, group.x * TILE, steps, part, thread);
#else
    multiply(group.y * TILE, group.x * TILE, Steps(0u, params.k), 0u, thread);
#endif
}
#endif
