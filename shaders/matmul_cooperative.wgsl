// Matrix products on matrix units (cooperative matrices): the layouts and the contract of matmul.wgsl, WIDE only.
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ       nn   C[M, N] = A[M, K] · B[K, N]       tn   C[M, N] = A[K, M]ᵀ · B[K, N]
//
// Reference  src/reference/matmul.rs
// Grid       x: tiles of 64 columns, y: tiles of 64 rows. A workgroup is four subgroups; each computes 32 x 32 of the tile in
//            squares of SIZE x SIZE.
// Why so     Matrix units multiply f16 and add in f32. One f16 keeps 11 bits of a number, too few for gradients. So each number
//            is split into two, x = hi + lo, which keep 22 bits, and a product is hi·hi + hi·lo + lo·hi: three products of the
//            unit for one of f32 (after Ootomo and Yokota, 2022; lo·lo is below the precision of f32). hi is rounded by its bits:
//            a compiler may replace f32(f16(x)) by x, and lavapipe does.
//            f16 also ends at 65504 and loses bits below 6e-5, where gradients are. So both sides are scaled by a power of two
//            that brings the largest magnitude so far to 2^14. As in an online softmax, the sums are rescaled when a larger one
//            comes. Small values keep an absolute precision of 2^-39 of the largest; no input is too large or too small.
//            A block of 16 steps of K is staged in workgroup memory in the order of its tensor. hi and lo of a line are side by
//            side, with 8 values of padding, so that the lines of a square begin in different banks. The next block is loaded
//            while the units work. Values out of range are staged as 0.
// Names      I, J: row and column of squares of this subgroup; L: a load. c: sums; ah, al, bh, bl: hi and lo of A and B.

enable f16;
enable wgpu_cooperative_matrix;

alias OutVec = f32;
const OUT_WIDTH: u32 = 1u;

#include "lib/product.wgsl"

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [M, N]
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [M, N]
#endif

const TILE: u32 = 64u; // rows and columns of C
const DEPTH: u32 = 16u; // steps of K that are staged at a time
const PADDING: u32 = 8u;
const SQUARE: u32 = SIZE * SIZE;

// A staged block is lines of hi, lo and padding. A line runs along K (one line per row or column of C) or across K (one line per
// step of K).
const PITCH_ALONG_K: u32 = 2u * DEPTH + PADDING;
const PITCH_ACROSS_K: u32 = 2u * TILE + PADDING;
const BLOCK: u32 = TILE * PITCH_ALONG_K; // values of a block; a block across K is smaller

var<workgroup> left: array<f16, BLOCK>;
var<workgroup> right: array<f16, BLOCK>;
var<workgroup> max_bits: array<atomic<u32>, 2>; // the bits of the largest |a| and |b| so far, ordered as their values
var<workgroup> squares: array<f32, 4u * SQUARE>; // one per subgroup

// The power of two that brings a value with these bits to 2^14 .. 2^15. Below 2^-113 it is the largest power of two.
fn scale_of(bits: u32) -> f32 {
    return bitcast<f32>((268u - max(bits >> 23u, 14u)) << 23u);
}

fn max_magnitude_bits(x: vec4<f32>) -> u32 {
    let y = abs(x);
    return bitcast<u32>(max(max(y.x, y.y), max(y.z, y.w)));
}

// Rounded to the 11 bits of f16.
fn rounded(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((bitcast<vec4<u32>>(x) + 0x1000u) & vec4<u32>(0xffffe000u));
}

// Line, and vec4 within the line, of vec4 number `i` of a block.
fn line_along_k(i: u32) -> vec2<u32> {
    return vec2<u32>(i / (DEPTH / 4u), i % (DEPTH / 4u));
}

fn line_across_k(i: u32) -> vec2<u32> {
    return vec2<u32>(i / (TILE / 4u), i % (TILE / 4u));
}

fn fetch_a(i: u32, first: u32, k: u32) -> vec4<f32> {
#if tn
    let at = line_across_k(i);
    let line = k + at.x;
    let quad = first / 4u + at.y;
    let inside = line < params.k && quad < params.m / 4u;
#else
    let at = line_along_k(i);
    let line = first + at.x;
    let quad = k / 4u + at.y;
    let inside = line < params.m && quad < params.k / 4u;
#endif
    var x = vec4<f32>();
    if (inside) {
        x = a[(params.a_start + line * params.a_stride) / 4u + quad];
    }
    return x;
}

fn fetch_b(i: u32, first: u32, k: u32) -> vec4<f32> {
#if nt
    let at = line_along_k(i);
    let line = first + at.x;
    let quad = k / 4u + at.y;
    let inside = line < params.n && quad < params.k / 4u;
#else
    let at = line_across_k(i);
    let line = k + at.x;
    let quad = first / 4u + at.y;
    let inside = line < params.k && quad < params.n / 4u;
#endif
    var x = vec4<f32>();
    if (inside) {
        x = b[(params.b_start + line * params.b_stride) / 4u + quad];
    }
    return x;
}

// The index of the first value of vec4 number `i` in a staged block, and the distance from hi to lo.
#if tn
fn left_at(i: u32) -> vec2<u32> {
    let at = line_across_k(i);
    return vec2<u32>(at.x * PITCH_ACROSS_K + at.y * 4u, TILE);
}
#else
fn left_at(i: u32) -> vec2<u32> {
    let at = line_along_k(i);
    return vec2<u32>(at.x * PITCH_ALONG_K + at.y * 4u, DEPTH);
}
#endif

#if nt
fn right_at(i: u32) -> vec2<u32> {
    let at = line_along_k(i);
    return vec2<u32>(at.x * PITCH_ALONG_K + at.y * 4u, DEPTH);
}
#else
fn right_at(i: u32) -> vec2<u32> {
    let at = line_across_k(i);
    return vec2<u32>(at.x * PITCH_ACROSS_K + at.y * 4u, TILE);
}
#endif

fn stage_a(i: u32, x: vec4<f32>) {
    let at = left_at(i);
    let rounded_x = rounded(x);
    let hi = vec4<f16>(rounded_x);
    let lo = vec4<f16>(x - rounded_x);
#for J 4
    left[at.x + {{J}}u] = hi[{{J}}];
    left[at.x + at.y + {{J}}u] = lo[{{J}}];
#end
}

fn stage_b(i: u32, x: vec4<f32>) {
    let at = right_at(i);
    let rounded_x = rounded(x);
    let hi = vec4<f16>(rounded_x);
    let lo = vec4<f16>(x - rounded_x);
#for J 4
    right[at.x + {{J}}u] = hi[{{J}}];
    right[at.x + at.y + {{J}}u] = lo[{{J}}];
#end
}

fn multiply(group: vec2<u32>, thread: u32, subgroup: u32, lane: u32) {
    let first_row = group.y * TILE;
    let first_column = group.x * TILE;
    let subgroup_row = subgroup / 2u * 32u;
    let subgroup_column = subgroup % 2u * 32u;
    if (thread < 2u) {
        atomicStore(&max_bits[thread], 0u);
    }
    workgroupBarrier();
    var scale_a = scale_of(0u);
    var scale_b = scale_of(0u);
#for I TILES
#for J TILES
    var c{{I}}_{{J}} = coop_mat{{SIZE}}x{{SIZE}}<f32, C>();
#end
#end
#for L LOADS
    var x{{L}} = fetch_a(thread + {{L}}u * THREADS, first_row, 0u);
    var y{{L}} = fetch_b(thread + {{L}}u * THREADS, first_column, 0u);
#end
    for (var k = 0u; k < params.k; k += DEPTH) {
        var max_bits_a = 0u;
        var max_bits_b = 0u;
#for L LOADS
        max_bits_a = max(max_bits_a, max_magnitude_bits(x{{L}}));
        max_bits_b = max(max_bits_b, max_magnitude_bits(y{{L}}));
#end
        atomicMax(&max_bits[0], max_bits_a);
        atomicMax(&max_bits[1], max_bits_b);
        // The largest magnitudes are known, and no thread reads the last block any more.
        workgroupBarrier();
        let new_a = scale_of(atomicLoad(&max_bits[0]));
        let new_b = scale_of(atomicLoad(&max_bits[1]));
        let rescale = (new_a / scale_a) * (new_b / scale_b);
        scale_a = new_a;
        scale_b = new_b;
#for L LOADS
        stage_a(thread + {{L}}u * THREADS, x{{L}} * scale_a);
        stage_b(thread + {{L}}u * THREADS, y{{L}} * scale_b);
#end
        workgroupBarrier();
#for L LOADS
        x{{L}} = fetch_a(thread + {{L}}u * THREADS, first_row, k + DEPTH);
        y{{L}} = fetch_b(thread + {{L}}u * THREADS, first_column, k + DEPTH);
#end
#for I TILES
#for J TILES
        c{{I}}_{{J}} = c{{I}}_{{J}} * rescale;
#end
#end
        for (var s = 0u; s < DEPTH; s += SIZE) {
#for I TILES
#if tn
            let a{{I}} = s * PITCH_ACROSS_K + subgroup_row + {{I}}u * SIZE;
            let ah{{I}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}}], PITCH_ACROSS_K);
            let al{{I}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}} + TILE], PITCH_ACROSS_K);
#else
            let a{{I}} = (subgroup_row + {{I}}u * SIZE) * PITCH_ALONG_K + s;
            let ah{{I}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}}], PITCH_ALONG_K);
            let al{{I}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}} + DEPTH], PITCH_ALONG_K);
#endif
#end
#for J TILES
#if nt
            let b{{J}} = (subgroup_column + {{J}}u * SIZE) * PITCH_ALONG_K + s;
            let bh{{J}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}}], PITCH_ALONG_K);
            let bl{{J}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}} + DEPTH], PITCH_ALONG_K);
#else
            let b{{J}} = s * PITCH_ACROSS_K + subgroup_column + {{J}}u * SIZE;
            let bh{{J}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}}], PITCH_ACROSS_K);
            let bl{{J}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}} + TILE], PITCH_ACROSS_K);
#endif
#end
#for I TILES
#for J TILES
            c{{I}}_{{J}} = coopMultiplyAdd(al{{I}}, bh{{J}}, c{{I}}_{{J}});
            c{{I}}_{{J}} = coopMultiplyAdd(ah{{I}}, bl{{J}}, c{{I}}_{{J}});
            c{{I}}_{{J}} = coopMultiplyAdd(ah{{I}}, bh{{J}}, c{{I}}_{{J}});
#end
#end
        }
    }
    // The larger scale first: the intermediate value is then not larger than the sum or the result.
    let first_scale = max(scale_a, scale_b);
    let second_scale = min(scale_a, scale_b);
#for I TILES
#for J TILES
    // A square goes through workgroup memory, where a thread knows the index of each value.
    coopStoreT(c{{I}}_{{J}}, &squares[subgroup * SQUARE], SIZE);
    workgroupBarrier();
    for (var s = lane; s < SQUARE; s += SUBGROUP) {
        let row = first_row + subgroup_row + {{I}}u * SIZE + s / SIZE;
        let column = first_column + subgroup_column + {{J}}u * SIZE + s % SIZE;
        if (row < params.m && column < params.n) {
            store_output(row, column, squares[subgroup * SQUARE + s] / first_scale / second_scale);
        }
    }
    workgroupBarrier();
#end
#end
}

#if nt
@compute @workgroup_size(THREADS)
fn nt(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    multiply(group.xy, thread, subgroup, lane);
}
#endif

#if nn
@compute @workgroup_size(THREADS)
fn nn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    multiply(group.xy, thread, subgroup, lane);
}
#endif

#if tn
@compute @workgroup_size(THREADS)
fn tn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    multiply(group.xy, thread, subgroup, lane);
}
#endif
