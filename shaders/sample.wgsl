// The next token of each row, on the GPU: greedy, or sampled with temperature, top-k and top-p.
//
// Sampling is by inverse CDF in vocabulary order: u · (mass of the kept tokens) falls into one token's share. Kept are the
// tokens whose logit is at least a threshold: of the k largest (top-k), then of the smallest set of the largest that
// holds top_p of their mass; ties are kept. The threshold is found by bisection over the bits of the logits, so no
// sorting and no list of any length is needed. u comes from Threefry-2x32 keyed by the run and counted by
// (row, position): what a row draws does not depend on its neighbours.
//
// Contract   threshold: thresholds[r] of the rows that are truncated, as ordered bits
//            next: token[r], and log p(token) under the softmax at this temperature of *all* tokens (greedy: temperature 1),
//            appended to row r's history; the row's place moves on by one position. With `truncated` it reads thresholds.
// Grid       rows; THREADS_PER_ROW threads a row (lib/row.wgsl).
// Why so     The bisection walks the vocabulary once a bit, some 70 times in all: as a kernel of its own it is run only where it
//            is asked for, and by more threads a row, since lavapipe ends the loops of a thread after 65,535 turns.
#include "lib/kv_slot.wgsl"
#include "lib/row.wgsl"
#include "lib/threefry.wgsl"

struct Params {
    rows: u32,
    start: u32, // the batch's row that the first row of logits belongs to
    vocab: u32,
    history: u32, // tokens a row's history holds: the last ones
    temperature: f32, // 0: greedy
    top_p: f32,
    top_k: u32, // 0: off
    key_low: u32,
    key_high: u32,
    truncated: u32, // rows that have a threshold: all, or 0
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [rows, V]

// VecBits of a float, reordered so that unsigned comparison is float comparison.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// The largest logit of a row.
fn largest(z: u32, lane: u32) -> f32 {
    var max_logit = -1e30;
    for (var j = lane; j < params.vocab; j += THREADS_PER_ROW) {
        max_logit = max(max_logit, logits[z + j]);
    }
    return row_max(lane, max_logit);
}

#if threshold
@group(0) @binding(2) var<storage, read_write> thresholds: array<u32>; // [rows]

@compute @workgroup_size(GROUP)
fn threshold(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
             @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let lane = lane_of(thread);
    if (row >= params.truncated) {
        return;
    }
    let z = row * params.vocab;
    let inverse = 1.0 / params.temperature;
    let max_logit = largest(z, lane);
    var threshold = 0u;
    if (params.top_k > 0u && params.top_k < params.vocab) {
        threshold = largest_threshold(z, lane, max_logit, 0.0, 0u, f32(params.top_k));
    }
    if (params.top_p < 1.0) {
        let kept = mass_above(z, lane, max_logit, inverse, threshold);
        threshold = max(threshold, largest_threshold(z, lane, max_logit, inverse, threshold, params.top_p * kept));
        threshold = min(threshold, ordered(max_logit)); // top_p 0 keeps the largest, not nothing
    }
    if (lane == 0u) {
        thresholds[row] = threshold;
    }
}

// Mass (or, with inverse 0, number) of the tokens at or above a threshold.
fn mass_above(z: u32, lane: u32, max_logit: f32, inverse: f32, threshold: u32) -> f32 {
    var sum = 0.0;
    for (var j = lane; j < params.vocab; j += THREADS_PER_ROW) {
        if (ordered(logits[z + j]) >= threshold) {
            sum += exp((logits[z + j] - max_logit) * inverse);
        }
    }
    return row_sum(lane, sum);
}

// The largest threshold, not below `least`, that still keeps `wanted` mass: one bit after the other.
fn largest_threshold(z: u32, lane: u32, max_logit: f32, inverse: f32, least: u32, wanted: f32) -> u32 {
    var found = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let trial = found | (0x80000000u >> bit);
        if (mass_above(z, lane, max_logit, inverse, max(trial, least)) >= wanted) {
            found = trial;
        }
    }
    return max(found, least);
}

#endif

#if next
@group(0) @binding(2) var<storage, read> thresholds: array<u32>; // [rows]
@group(0) @binding(3) var<storage, read_write> slots: array<KvSlot>; // [B]: the row's in the cache
@group(0) @binding(4) var<storage, read_write> ids: array<u32>; // [B]: the input of the next step
@group(0) @binding(5) var<storage, read_write> streams: array<vec2<u32>>; // [B]: random stream of the row, tokens drawn
@group(0) @binding(6) var<storage, read_write> drawn: array<vec2<u32>>; // [B, history]: token, bits of its log-prob

@compute @workgroup_size(GROUP)
fn next(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let lane = lane_of(thread);
    if (row >= params.rows) {
        return;
    }
    let z = row * params.vocab;
    let greedy = params.temperature <= 0.0;
    let inverse = select(1.0 / params.temperature, 1.0, greedy);
    let max_logit = largest(z, lane);
    var denominator = 0.0;
    for (var j = lane; j < params.vocab; j += THREADS_PER_ROW) {
        denominator += exp((logits[z + j] - max_logit) * inverse);
    }
    denominator = row_sum(lane, denominator);

    var threshold = 0u;
    if (greedy) {
        threshold = ordered(max_logit);
    } else if (row < params.truncated) {
        threshold = thresholds[row];
    }

    // Each lane owns a contiguous share of the vocabulary; the lane in whose share u falls finds the token.
    let share = (params.vocab + THREADS_PER_ROW - 1u) / THREADS_PER_ROW;
    let first = min(lane * share, params.vocab);
    let last = min(first + share, params.vocab);
    var own = 0.0;
    for (var j = first; j < last; j++) {
        if (ordered(logits[z + j]) >= threshold) {
            own += exp((logits[z + j] - max_logit) * inverse);
        }
    }
    let at = params.start + row;
    let stream = streams[at];
    let bits = threefry2x32(vec2<u32>(params.key_low, params.key_high), vec2<u32>(stream.x, slots[at].position)).x;
    let u = select(unit_float(bits), 0.0, greedy); // greedy: the first of equal logits
    let token = find(z, lane, first, last, own, u, max_logit, inverse, threshold);
    if (lane == 0u) {
        let log_p = (logits[z + token] - max_logit) * inverse - log(denominator);
        drawn[at * params.history + stream.y % params.history] = vec2<u32>(token, bitcast<u32>(log_p));
        ids[at] = token;
        streams[at].y = stream.y + 1u;
        slots[at].position += 1u;
    }
}

#if ROW_PER_WORKGROUP
var<workgroup> chosen: u32;

fn find(z: u32, lane: u32, first: u32, last: u32, own: f32, u: f32, max_logit: f32, inverse: f32, threshold: u32) -> u32 {
    workgroupBarrier();
    shared_values[lane] = own;
    if (lane == 0u) {
        chosen = 0u;
    }
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    var owner = 0u; // the lane whose share holds the goal; the last lane with any mass if rounding overshoots
    for (var l = 0u; l < THREADS_PER_ROW; l++) {
        total += shared_values[l];
    }
    let goal = u * total;
    var sum = 0.0;
    for (var l = 0u; l < THREADS_PER_ROW; l++) {
        if (shared_values[l] > 0.0 && sum <= goal) {
            owner = l;
            before = sum;
        }
        sum += shared_values[l];
    }
    if (lane == owner) {
        chosen = walk(z, first, last, before, goal, max_logit, inverse, threshold);
    }
    workgroupBarrier();
    return chosen;
}
#else
fn find(z: u32, lane: u32, first: u32, last: u32, own: f32, u: f32, max_logit: f32, inverse: f32, threshold: u32) -> u32 {
    return walk(z, first, last, 0.0, u * own, max_logit, inverse, threshold);
}
#endif

// The first kept token at which the running mass exceeds the goal; the last kept one if none does.
fn walk(z: u32, first: u32, last: u32, before: f32, goal: f32, max_logit: f32, inverse: f32, threshold: u32) -> u32 {
    var sum = before;
    var token = first;
    for (var j = first; j < last; j++) {
        if (ordered(logits[z + j]) >= threshold) {
            token = j;
            sum += exp((logits[z + j] - max_logit) * inverse);
            if (sum > goal) {
                break;
            }
        }
    }
    return token;
}
#endif
