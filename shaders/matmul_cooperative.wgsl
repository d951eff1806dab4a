// Matrix products on matrix units (cooperative matrices): the layouts and the contract of matmul.wgsl, WIDE only.
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ       nn   C[M, N] = A[M, K] · B[K, N]       tn   C[M, N] = A[K, M]ᵀ · B[K, N]
//
// Grid       x: tiles of 64 columns, y: tiles of 64 rows; a workgroup is four subgroups, each of which makes 32 x 32 of the
//            tile in squares of SIZE x SIZE.
// Why so     Matrix units multiply f16 and add in f32. One f16 keeps 11 bits of a number, too few for gradients, so each number
//            is split into two, x = hi + lo, which keep 22, and a product is hi·hi + hi·lo + lo·hi: three products of the
//            unit for one of f32 (after Ootomo and Yokota, 2022; lo·lo is below what f32 would keep). hi is rounded by its
//            bits: a compiler may take f32(f16(x)) for x, and lavapipe does.
//            f16 also ends at 65504 and loses bits below 6e-5, where gradients live. So both sides are scaled by a power of
//            two that brings the largest value met so far to 2^14: as in an online softmax, the sums are rescaled when a
//            larger one comes. What is small beside the largest keeps 2^-39 of it; no input is too large or too small.
//            A block of 16 along K is staged in workgroup memory in the order in which it lies in its tensor, hi and lo of
//            a line side by side with 8 values of padding, so that the lines of a square begin in different banks; the
//            next block is on its way from memory while the units work. What is out of range is staged as 0.

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
const DEPTH: u32 = 16u; // of K, staged at a time
const PADDING: u32 = 8u;
const SQUARE: u32 = SIZE * SIZE;

// A staged block: lines of hi, lo and padding. Along K (a row or column of C a line), or across it (one of K a line).
const ALONG: u32 = 2u * DEPTH + PADDING;
const ACROSS: u32 = 2u * TILE + PADDING;
const LONGEST: u32 = TILE * ALONG; // a block across K is smaller

var<workgroup> left: array<f16, LONGEST>;
var<workgroup> right: array<f16, LONGEST>;
var<workgroup> peaks: array<atomic<u32>, 2>; // largest |a| and |b| so far, as bits: they order as their values do
var<workgroup> spill: array<f32, 4u * SQUARE>;

// The power of two that brings a value of these bits to 2^14 .. 2^15; the largest one there is for values below 2^-113.
fn scale_of(peak: u32) -> f32 {
    return bitcast<f32>((268u - max(peak >> 23u, 14u)) << 23u);
}

fn largest(x: vec4<f32>) -> u32 {
    let y = abs(x);
    return bitcast<u32>(max(max(y.x, y.y), max(y.z, y.w)));
}

// To the 11 bits that f16 has.
fn rounded(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((bitcast<vec4<u32>>(x) + 0x1000u) & vec4<u32>(0xffffe000u));
}

// Quarter `i` of a block's 256 vec4, by line and place in it.
fn line_along(i: u32) -> vec2<u32> {
    return vec2<u32>(i / (DEPTH / 4u), i % (DEPTH / 4u));
}

fn line_across(i: u32) -> vec2<u32> {
    return vec2<u32>(i / (TILE / 4u), i % (TILE / 4u));
}

fn fetch_a(i: u32, first: u32, k: u32) -> vec4<f32> {
#if tn
    let at = line_across(i);
    let line = k + at.x;
    let quad = first / 4u + at.y;
    let inside = line < params.k && quad < params.m / 4u;
#else
    let at = line_along(i);
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
    let at = line_along(i);
    let line = first + at.x;
    let quad = k / 4u + at.y;
    let inside = line < params.n && quad < params.k / 4u;
#else
    let at = line_across(i);
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

// Where the four values of quarter `i` begin in a staged block, and the distance from hi to lo.
#if tn
fn place_a(i: u32) -> vec2<u32> {
    let at = line_across(i);
    return vec2<u32>(at.x * ACROSS + at.y * 4u, TILE);
}
#else
fn place_a(i: u32) -> vec2<u32> {
    let at = line_along(i);
    return vec2<u32>(at.x * ALONG + at.y * 4u, DEPTH);
}
#endif

#if nt
fn place_b(i: u32) -> vec2<u32> {
    let at = line_along(i);
    return vec2<u32>(at.x * ALONG + at.y * 4u, DEPTH);
}
#else
fn place_b(i: u32) -> vec2<u32> {
    let at = line_across(i);
    return vec2<u32>(at.x * ACROSS + at.y * 4u, TILE);
}
#endif

fn stage_a(i: u32, x: vec4<f32>) {
    let at = place_a(i);
    let whole = rounded(x);
    let hi = vec4<f16>(whole);
    let lo = vec4<f16>(x - whole);
#for J 4
    left[at.x + {{J}}u] = hi[{{J}}];
    left[at.x + at.y + {{J}}u] = lo[{{J}}];
#end
}

fn stage_b(i: u32, x: vec4<f32>) {
    let at = place_b(i);
    let whole = rounded(x);
    let hi = vec4<f16>(whole);
    let lo = vec4<f16>(x - whole);
#for J 4
    right[at.x + {{J}}u] = hi[{{J}}];
    right[at.x + at.y + {{J}}u] = lo[{{J}}];
#end
}

fn multiply(group: vec2<u32>, thread: u32, team: u32, lane: u32) {
    let first_row = group.y * TILE;
    let first_column = group.x * TILE;
    let team_row = team / 2u * 32u;
    let team_column = team % 2u * 32u;
    if (thread < 2u) {
        atomicStore(&peaks[thread], 0u);
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
        var peak_a = 0u;
        var peak_b = 0u;
#for L LOADS
        peak_a = max(peak_a, largest(x{{L}}));
        peak_b = max(peak_b, largest(y{{L}}));
#end
        atomicMax(&peaks[0], peak_a);
        atomicMax(&peaks[1], peak_b);
        // All peaks are known, and nobody reads the block before any more.
        workgroupBarrier();
        let new_a = scale_of(atomicLoad(&peaks[0]));
        let new_b = scale_of(atomicLoad(&peaks[1]));
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
            let a{{I}} = s * ACROSS + team_row + {{I}}u * SIZE;
            let ah{{I}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}}], ACROSS);
            let al{{I}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}} + TILE], ACROSS);
#else
            let a{{I}} = (team_row + {{I}}u * SIZE) * ALONG + s;
            let ah{{I}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}}], ALONG);
            let al{{I}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, A>>(&left[a{{I}} + DEPTH], ALONG);
#endif
#end
#for J TILES
#if nt
            let b{{J}} = (team_column + {{J}}u * SIZE) * ALONG + s;
            let bh{{J}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}}], ALONG);
            let bl{{J}} = coopLoad<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}} + DEPTH], ALONG);
#else
            let b{{J}} = s * ACROSS + team_column + {{J}}u * SIZE;
            let bh{{J}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}}], ACROSS);
            let bl{{J}} = coopLoadT<coop_mat{{SIZE}}x{{SIZE}}<f16, B>>(&right[b{{J}} + TILE], ACROSS);
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
    // The larger one first: what is in between is then no larger than the product or the sums.
    let first_scale = max(scale_a, scale_b);
    let second_scale = min(scale_a, scale_b);
#for I TILES
#for J TILES
    // A square goes through workgroup memory, where its values have places that a thread knows.
    coopStoreT(c{{I}}_{{J}}, &spill[team * SQUARE], SIZE);
    workgroupBarrier();
    for (var s = lane; s < SQUARE; s += SUBGROUP) {
        let row = first_row + team_row + {{I}}u * SIZE + s / SIZE;
        let column = first_column + team_column + {{J}}u * SIZE + s % SIZE;
        if (row < params.m && column < params.n) {
            store_output(row, column, spill[team * SQUARE + s] / first_scale / second_scale);
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
    @builtin(subgroup_id) team: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    multiply(group.xy, thread, team, lane);
}
#endif

#if nn
@compute @workgroup_size(THREADS)
fn nn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) team: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    multiply(group.xy, thread, team, lane);
}
#endif

#if tn
@compute @workgroup_size(THREADS)
fn tn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) team: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    multiply(group.xy, thread, team, lane);
}
#endif
