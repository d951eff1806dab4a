// RMSNorm:  y = x · w / rms(x),  rms(x) = sqrt(mean(x²) + eps)                         (Zhang & Sennrich 2019)
//
// Rows are [R, W]. Plain norms have one weight row. Qwen3's norm of q and k sees the fused [T, heads, head_dim]
// tensor: head h of a token takes weight row 0 (q heads), row 1 (k heads), or is copied (v heads).
//
// Contract   forward           y = …
//            backward          dx = …, with ACCUMULATE dx += …; inverse[r] = 1 / rms (for weight_partial)
//            weight_partial    partial[b, s, j] = sum over the 64 rows of block b whose weight row is s
//            weight_reduce     dw[s, j] += sum over b
//            dx = (w·dy - x · mean(w·dy·x) / rms²) / rms,   dw = sum over rows of dy · x / rms
// Why so     The weight gradient is summed in two fixed stages instead of by atomics: same bits every run.
//            Squares overflow from 2^64 on and vanish below 2^-63. A row whose mean square is near either end is done again,
//            scaled by a power of two that brings its largest entry near 1: exact, and all other rows keep their bits.
//            A row that holds an infinity or NaN becomes NaN as a whole, so that no finite number can come of it.
#include "lib/row.wgsl"
#include "lib/vec.wgsl"

// Constants, because CPU adapters divide slowly.
const ROW_VECS: u32 = WIDTH / VEC_WIDTH; // W in pieces
const COUNT: f32 = f32(WIDTH);
// HEADS: rows a token: 1 for a plain norm
// Q_HEADS: rows of a token with weight row 0
// NORMED: rows of a token that are normed at all (q and k)
// SETS: weight rows: 1, or 2 with Qwen3's q and k norms

// Whether a mean square is far from both ends of f32. Told by bits, NaN included.
fn is_ordinary(mean_square: f32) -> bool {
    return bitcast<u32>(mean_square) - 0x0d800000u < 0x7b800000u - 0x0d800000u; // from 2^-100 to 2^120
}

#if !weight_reduce
// The power of two, at most 2^60, that brings the largest entry of a row near 1; 0 where an entry is infinite or NaN.
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
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>; // [R, W]
@group(0) @binding(2) var<storage, read> w: array<Vec>; // [1 or 2, W]
@group(0) @binding(3) var<storage, read_write> y: array<Vec>; // [R, W]

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let lane = lane_of(thread);
    if (row >= params.rows) {
        return;
    }
    let start = row * ROW_VECS;
    let head = row % HEADS;
    if (head >= NORMED) {
        for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
            y[start + j] = x[start + j];
        }
        return;
    }
    let weights = select(0u, ROW_VECS, head >= Q_HEADS);
    var squares = Vec();
    for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
        squares += x[start + j] * x[start + j];
    }
    let mean_square = row_sum(lane, hsum(squares)) / COUNT;
    if (!is_ordinary(mean_square)) {
        forward_scaled(start, weights, lane);
        return;
    }
    let inv = inverseSqrt(mean_square + params.eps);
    for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
        y[start + j] = x[start + j] * inv * w[weights + j];
    }
}

// Every lane sums the whole row: rare, and without barriers.
fn forward_scaled(start: u32, weights: u32, lane: u32) {
    let scale = row_scale(start);
    if (scale == 0.0) {
        for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
            y[start + j] = nan_like(x[start + j]);
        }
        return;
    }
    var squares = Vec();
    for (var j = 0u; j < ROW_VECS; j++) {
        let v = x[start + j] * scale;
        squares += v * v;
    }
    let inv = inverseSqrt(hsum(squares) / COUNT + params.eps * scale * scale);
    for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
        y[start + j] = x[start + j] * scale * inv * w[weights + j];
    }
}
#endif

#if backward
struct Params {
    rows: u32,
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>; // [R, W]
@group(0) @binding(2) var<storage, read> w: array<Vec>; // [1 or 2, W]
@group(0) @binding(3) var<storage, read> dy: array<Vec>; // [R, W]
@group(0) @binding(4) var<storage, read_write> dx: array<Vec>; // [R, W]
@group(0) @binding(5) var<storage, read_write> inverse: array<f32>; // [R]

fn store_output(i: u32, value: Vec) {
#if ACCUMULATE
    dx[i] += value;
#else
    dx[i] = value;
#endif
}

@compute @workgroup_size(GROUP)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let lane = lane_of(thread);
    if (row >= params.rows) {
        return;
    }
    let start = row * ROW_VECS;
    let head = row % HEADS;
    if (head >= NORMED) {
        for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
            store_output(start + j, dy[start + j]);
        }
        return;
    }
    let weights = select(0u, ROW_VECS, head >= Q_HEADS);
    var squares = Vec();
    var along = Vec();
    for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
        let v = x[start + j];
        squares += v * v;
        along += v * w[weights + j] * dy[start + j];
    }
    let mean_square = row_sum(lane, hsum(squares)) / COUNT;
    let mean = row_sum(lane, hsum(along)) / COUNT;
    if (!is_ordinary(mean_square)) {
        backward_scaled(row, weights, lane);
        return;
    }
    let inv = inverseSqrt(mean_square + params.eps);
    for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
        store_output(start + j, inv * (w[weights + j] * dy[start + j] - x[start + j] * inv * inv * mean));
    }
    if (lane == 0u) {
        inverse[row] = inv;
    }
}

fn backward_scaled(row: u32, weights: u32, lane: u32) {
    let start = row * ROW_VECS;
    let scale = row_scale(start);
    var squares = Vec();
    var along = Vec();
    for (var j = 0u; j < ROW_VECS; j++) {
        let v = x[start + j] * scale;
        squares += v * v;
        along += v * w[weights + j] * dy[start + j];
    }
    let inv = inverseSqrt(hsum(squares) / COUNT + params.eps * scale * scale);
    let mean = hsum(along) / COUNT;
    for (var j = lane; j < ROW_VECS; j += THREADS_PER_ROW) {
        let given = inv * (w[weights + j] * dy[start + j] - x[start + j] * scale * inv * inv * mean) * scale;
        store_output(start + j, select(given, nan_like(given), scale == 0.0));
    }
    if (lane == 0u) {
        // 1 / rms, unless that is too small for f32.
        let reciprocal = inv * scale;
        let kept = scale > 0.0 && reciprocal > 2e-38;
        inverse[row] = bitcast<f32>(select(0x7fc00000u | bitcast<u32>(reciprocal), bitcast<u32>(reciprocal), kept));
    }
}
#endif

#if weight_partial
struct Params {
    rows: u32,
    size: u32, // blocks * sets * width, in pieces
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vec>; // [R, W]
@group(0) @binding(2) var<storage, read> dy: array<Vec>; // [R, W]
@group(0) @binding(3) var<storage, read> inverse: array<f32>; // [R]
@group(0) @binding(4) var<storage, read_write> partials: array<Vec>; // [blocks, sets, W]

@compute @workgroup_size(64)
fn weight_partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.size) {
        return;
    }
    let j = i % ROW_VECS;
    let s = (i / ROW_VECS) % SETS;
    let block = i / (ROW_VECS * SETS);
    let end = min(params.rows, (block + 1u) * 64u);
    var sum = Vec();
    for (var row = block * 64u; row < end; row++) {
        let head = row % HEADS;
        if (head < NORMED && (head >= Q_HEADS) == (s == 1u)) {
            let at = row * ROW_VECS + j;
            sum += dy[at] * x[at] * inverse[row];
        }
    }
    partials[i] = sum;
}
#endif

#if weight_reduce
struct Params {
    blocks: u32,
    size: u32, // sets * width, in pieces
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
