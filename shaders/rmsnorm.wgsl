// RMSNorm over rows [R, W].                                                                        (Zhang & Sennrich 2019)
//
//   forward     y = x · inv · w,  inv = 1 / rms(x) = 1 / sqrt(mean(x²) + eps),  w = stored weight + offset
//   backward    dx = inv · (w·dy - x · inv² · mean(x·w·dy)),  dw = sum over rows of dy · x · inv
//
// The offset is 0, or 1 in Gemma, whose files hold w - 1.
// Plain norms have one weight row. Qwen3's norm of q and k reads the fused [T, heads, head_dim] tensor: head h of a token takes
// weight row 0 (q heads) or row 1 (k heads), or is copied (v heads).
//
// Reference  src/reference/rmsnorm.rs
// Contract   forward           y = …, with RESIDUAL  y = residual + …
//            backward          dx = …, with ACCUMULATE  dx += …; inverse_rms[r] = inv (for weight_partial)
//            weight_partial    partials[b, s, j] = sum over the rows with weight row s of the 64 rows of block b
//            weight_reduce     dw[s, j] += sum over b
// Grid       forward, backward: rows, THREADS_PER_ROW threads per row (lib/row.wgsl); weight_*: one thread per vector of the
//            output.
// Why so     The weight gradient is summed in two fixed stages instead of by atomics: the same bits in every run.
//            Squares overflow from 2^64 on and vanish below 2^-63. A row whose mean square is near either end is computed again,
//            scaled by a power of two that brings its largest entry near 1. That is exact, and all other rows keep their bits.
//            A row that holds an infinity or NaN becomes NaN as a whole, so that it cannot give finite numbers.
#include "lib/ordinary.wgsl"
#include "lib/row.wgsl"
#include "lib/vec.wgsl"

// Constants, because CPU adapters divide slowly.
const ROW_VECS: u32 = WIDTH / VEC_WIDTH; // W in vectors
const COUNT: f32 = f32(WIDTH);
// HEADS: rows per token, 1 for a plain norm
// Q_HEADS: rows of a token with weight row 0
// NORMED: rows of a token that are normed (q and k); the others are copied
// SETS: weight rows, 1, or 2 with Qwen3's q and k norms

#if !weight_reduce
// The power of two, at most 2^60, that brings the largest entry of a row near 1, or 0 if an entry is infinite or NaN.
fn row_scale(start: u32) -> f32 {
    var largest = 0u;
    for (var j = 0u; j < ROW_VECS; j++) {
        largest = max(largest, max_magnitude_bits(x[start + j]));
    }
    if (largest >= 0x7f800000u) {
        return 0.0;
    }
    return bitcast<f32>(clamp(254u - (largest >> 23u), 1u, 187u) << 23u);
}
#endif

#if forward
struct Params {
    rows: u32,
    eps: f32,
    offset: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>; // [R, W]
@group(0) @binding(2) var<storage, read> w: array<Vec>; // [1 or 2, W]
@group(0) @binding(3) var<storage, read_write> y: array<Vec>; // [R, W]
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<Vec>; // [R, W]
#endif

fn store_output(i: u32, value: Vec) {
#if RESIDUAL
    y[i] = residual[i] + value;
#else
    y[i] = value;
#endif
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let row_thread = row_thread_of(thread);
    if (row >= params.rows) {
        return;
    }
    let start = row * ROW_VECS;
    let head = row % HEADS;
    if (head >= NORMED) {
        for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
            store_output(start + j, x[start + j]);
        }
        return;
    }
    let weights = select(0u, ROW_VECS, head >= Q_HEADS);
    // Pass 1: the mean square.
    var squares = Vec();
    for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
        squares += x[start + j] * x[start + j];
    }
    let mean_square = row_sum(row_thread, vec_sum(squares)) / COUNT;
    if (!is_ordinary(mean_square)) {
        forward_scaled(start, weights, row_thread);
        return;
    }
    // Pass 2: the normed row.
    let inv = inverseSqrt(mean_square + params.eps);
    for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
        store_output(start + j, x[start + j] * inv * (w[weights + j] + params.offset));
    }
}

// As forward, on the row times `scale`. Every thread of the row sums the whole row: that is rare, and needs no barriers.
fn forward_scaled(start: u32, weights: u32, row_thread: u32) {
    let scale = row_scale(start);
    if (scale == 0.0) {
        for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
            store_output(start + j, nan_like(x[start + j]));
        }
        return;
    }
    var squares = Vec();
    for (var j = 0u; j < ROW_VECS; j++) {
        let v = x[start + j] * scale;
        squares += v * v;
    }
    let inv = inverseSqrt(vec_sum(squares) / COUNT + params.eps * scale * scale);
    for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
        store_output(start + j, x[start + j] * scale * inv * (w[weights + j] + params.offset));
    }
}
#endif

#if backward
struct Params {
    rows: u32,
    eps: f32,
    offset: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>; // [R, W]
@group(0) @binding(2) var<storage, read> w: array<Vec>; // [1 or 2, W]
@group(0) @binding(3) var<storage, read> dy: array<Vec>; // [R, W]
@group(0) @binding(4) var<storage, read_write> dx: array<Vec>; // [R, W]
@group(0) @binding(5) var<storage, read_write> inverse_rms: array<f32>; // [R]

fn store_output(i: u32, value: Vec) {
#if ACCUMULATE
    dx[i] += value;
#else
    dx[i] = value;
#endif
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let row_thread = row_thread_of(thread);
    if (row >= params.rows) {
        return;
    }
    let start = row * ROW_VECS;
    let head = row % HEADS;
    if (head >= NORMED) {
        for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
            store_output(start + j, dy[start + j]);
        }
        return;
    }
    let weights = select(0u, ROW_VECS, head >= Q_HEADS);
    // forward: y = x · w · inv
    // Pass 1: the mean square again, and the mean of x · w · dy, the gradient that reaches x through inv.
    var squares = Vec();
    var products = Vec();
    for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
        let v = x[start + j];
        squares += v * v;
        products += v * (w[weights + j] + params.offset) * dy[start + j];
    }
    let mean_square = row_sum(row_thread, vec_sum(squares)) / COUNT;
    let mean_product = row_sum(row_thread, vec_sum(products)) / COUNT;
    if (!is_ordinary(mean_square)) {
        backward_scaled(row, weights, row_thread);
        return;
    }
    // Pass 2: the gradient of the row.
    let inv = inverseSqrt(mean_square + params.eps);
    for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
        store_output(start + j, inv * ((w[weights + j] + params.offset) * dy[start + j] - x[start + j] * inv * inv * mean_product));
    }
    if (row_thread == 0u) {
        inverse_rms[row] = inv;
    }
}

// As backward, on the row times a power of two.
fn backward_scaled(row: u32, weights: u32, row_thread: u32) {
    let start = row * ROW_VECS;
    let scale = row_scale(start);
    var squares = Vec();
    var products = Vec();
    for (var j = 0u; j < ROW_VECS; j++) {
        let v = x[start + j] * scale;
        squares += v * v;
        products += v * (w[weights + j] + params.offset) * dy[start + j];
    }
    let inv = inverseSqrt(vec_sum(squares) / COUNT + params.eps * scale * scale);
    let mean_product = vec_sum(products) / COUNT;
    for (var j = row_thread; j < ROW_VECS; j += THREADS_PER_ROW) {
        let value = inv * ((w[weights + j] + params.offset) * dy[start + j] - x[start + j] * scale * inv * inv * mean_product) * scale;
        store_output(start + j, select(value, nan_like(value), scale == 0.0));
    }
    if (row_thread == 0u) {
        // 1 / rms, or NaN if that is too small for f32.
        let reciprocal = inv * scale;
        let representable = scale > 0.0 && reciprocal > 2e-38;
        inverse_rms[row] = bitcast<f32>(select(0x7fc00000u | bitcast<u32>(reciprocal), bitcast<u32>(reciprocal), representable));
    }
}
#endif

#if weight_partial
struct Params {
    rows: u32,
    size: u32, // blocks * sets * width, in vectors
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>; // [R, W]
@group(0) @binding(2) var<storage, read> dy: array<Vec>; // [R, W]
@group(0) @binding(3) var<storage, read> inverse_rms: array<f32>; // [R]
@group(0) @binding(4) var<storage, read_write> partials: array<Vec>; // [blocks, sets, W]

@compute @workgroup_size(64)
fn weight_partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.size) {
        return;
    }
    let j = i % ROW_VECS;
    let s = (i / ROW_VECS) % SETS;
    let block = i / (ROW_VECS * SETS);
    let end = min(params.rows, (block + 1u) * 64u);
    // forward: y = x · w · inv
    var sum = Vec();
    for (var row = block * 64u; row < end; row++) {
        let head = row % HEADS;
        if (head < NORMED && (head >= Q_HEADS) == (s == 1u)) {
            let at = row * ROW_VECS + j;
            sum += dy[at] * x[at] * inverse_rms[row];
        }
    }
    partials[i] = sum;
}
#endif

#if weight_reduce
struct Params {
    blocks: u32,
    size: u32, // sets * width, in vectors
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<Vec>; // [blocks, size]
@group(0) @binding(2) var<storage, read_write> dw: array<Vec>; // [size]

@compute @workgroup_size(64)
fn weight_reduce(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if (i >= params.size) {
        return;
    }
    var sum = Vec();
    for (var b = 0u; b < params.blocks; b++) {
        sum += partials[b * params.size + i];
    }
    dw[i] += sum;
}
#endif
