// The next token of each row, on the GPU: greedy, or sampled with temperature, top-k and top-p.
//
// Sampling is by inverse CDF in vocabulary order: the token is the first at which the running mass of the kept tokens exceeds u
// times their mass. A token is kept if its logit is at least a threshold. top-k keeps the k largest; top-p then keeps the
// smallest set of the largest that holds top_p of their mass; ties are kept. The threshold is found by bisection over the bits of
// the logits, so that neither sorting nor a list is needed. u comes from Threefry-2x32, with the run's key and the counter (row's
// stream, position): a draw does not depend on the neighbours of a row.
//
// Reference  src/reference/sample.rs
// Contract   threshold   thresholds[r] of all rows as ordered bits, if any of them is truncated; 0 for those that are not
//            next        token[r], and log p(token) under the softmax of *all* tokens at this temperature (greedy: at 1),
//                        appended to row r's history; the row's position += 1. Rows below `truncated` have a threshold.
// Grid       rows, THREADS_PER_ROW threads per row (lib/row.wgsl), each with AHEAD loads on their way (lib/ahead.wgsl).
// Why so     The bisection reads the vocabulary once per bit, about 70 times. It is a kernel of its own, so that it runs only
//            where top-k or top-p is set, and has more threads per row: lavapipe ends the loops of a thread after 65,535
//            iterations.
//            The running mass needs shares of the vocabulary that are contiguous. Where LANES_PER_SHARE is 0, for CPU adapters, a
//            thread has a share of its own, and the one whose share holds the goal walks through it alone. On a GPU that is a
//            cache line per thread and load, and then one load at a time. So there LANES_PER_SHARE threads walk through a share
//            together, neighbours at neighbouring logits, and the share that holds the goal is divided in the same way until it
//            is a single token: five times for 151,936.
#include "lib/ahead.wgsl"
#include "lib/kv_slot.wgsl"
#include "lib/largest_logit.wgsl"
#include "lib/row.wgsl"
#include "lib/threefry.wgsl"

struct Params {
    rows: u32,
    start: u32, // the row of the batch that the first row of logits belongs to
    vocab: u32,
    history: u32, // how many of its last tokens a row keeps
    truncated: u32, // rows that have a threshold, all or 0
}

// Sampler of src/ops/sample.rs: how a row draws.
struct Sampler {
    temperature: f32, // 0: greedy
    top_p: f32,
    top_k: u32, // 0: off
    key_low: u32,
    key_high: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [rows, V]
@group(0) @binding(2) var<storage, read> samplers: array<Sampler>; // [B]

// The bits of a float, reordered so that they compare as unsigned numbers as the floats do.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

#if threshold
@group(0) @binding(3) var<storage, read_write> thresholds: array<u32>; // [rows]

@compute @workgroup_size(WORKGROUP_SIZE)
fn threshold(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
             @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let row_thread = row_thread_of(thread);
    if (row >= params.truncated) {
        return;
    }
    let z = row * params.vocab;
    let sampler = samplers[params.start + row];
    if (sampler.temperature <= 0.0 || (sampler.top_k == 0u && sampler.top_p >= 1.0)) {
        if (row_thread == 0u) {
            thresholds[row] = 0u;
        }
        return;
    }
    let inv_temperature = 1.0 / sampler.temperature;
    // Pass 1: the largest logit.
    let max_logit = largest_logit(z, row_thread);
    // Pass 2, once per bit: the k-th largest logit.
    var threshold = 0u;
    if (sampler.top_k > 0u && sampler.top_k < params.vocab) {
        threshold = largest_threshold(z, row_thread, max_logit, 0.0, 0u, f32(sampler.top_k));
    }
    // Pass 3, once per bit: the largest threshold that keeps top_p of the mass that top-k left.
    if (sampler.top_p < 1.0) {
        let kept_mass = mass_above(z, row_thread, max_logit, inv_temperature, threshold);
        threshold = max(threshold, largest_threshold(z, row_thread, max_logit, inv_temperature, threshold, sampler.top_p * kept_mass));
        threshold = min(threshold, ordered(max_logit)); // top_p 0 keeps the largest logit
    }
    if (row_thread == 0u) {
        thresholds[row] = threshold;
    }
}

// The mass of the tokens at or above a threshold, unnormalised. With inv_temperature 0 it is their number.
fn mass_above(z: u32, row_thread: u32, max_logit: f32, inv_temperature: f32, threshold: u32) -> f32 {
    var sum = 0.0;
    for (var j = row_thread; j < params.vocab; j += AHEAD * THREADS_PER_ROW) {
#for A AHEAD
        let z{{A}} = logits[z + nearest(j + {{A}}u * THREADS_PER_ROW, params.vocab)];
#end
#for A AHEAD
        if (is_before(j + {{A}}u * THREADS_PER_ROW, params.vocab) && ordered(z{{A}}) >= threshold) {
            sum += exp((z{{A}} - max_logit) * inv_temperature);
        }
#end
    }
    return row_sum(row_thread, sum);
}

// The largest threshold, at least `least`, that keeps `wanted` mass. It is found bit by bit.
fn largest_threshold(z: u32, row_thread: u32, max_logit: f32, inv_temperature: f32, least: u32, wanted: f32) -> u32 {
    var found = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let trial = found | (0x80000000u >> bit);
        if (mass_above(z, row_thread, max_logit, inv_temperature, max(trial, least)) >= wanted) {
            found = trial;
        }
    }
    return max(found, least);
}
#endif

#if next
@group(0) @binding(3) var<storage, read> thresholds: array<u32>; // [rows]
@group(0) @binding(4) var<storage, read_write> slots: array<KvSlot>; // [B]
@group(0) @binding(5) var<storage, read_write> ids: array<u32>; // [B]: the input of the next step
@group(0) @binding(6) var<storage, read_write> streams: array<vec2<u32>>; // [B]: x: random stream of the row, y: tokens drawn
@group(0) @binding(7) var<storage, read_write> drawn: array<vec2<u32>>; // [B, history]: token, bits of its log-probability

@compute @workgroup_size(WORKGROUP_SIZE)
fn next(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let row_thread = row_thread_of(thread);
    if (row >= params.rows) {
        return;
    }
    let z = row * params.vocab;
    let at = params.start + row;
    let sampler = samplers[at];
    let greedy = sampler.temperature <= 0.0;
    let inv_temperature = select(1.0 / sampler.temperature, 1.0, greedy);
    // Pass 1: the largest logit.
    let max_logit = largest_logit(z, row_thread);
    var threshold = 0u;
    if (greedy) {
        threshold = ordered(max_logit);
    } else if (row < params.truncated) {
        threshold = thresholds[row];
    }
    let stream = streams[at];
    let bits = threefry2x32(vec2<u32>(sampler.key_low, sampler.key_high), vec2<u32>(stream.x, slots[at].position)).x;
    let u = select(unit_float(bits), 0.0, greedy); // greedy: the first of equal logits
    let found = draw(z, row_thread, u, Kept(max_logit, inv_temperature, threshold));
    if (row_thread == 0u) {
        let log_p = (logits[z + found.token] - max_logit) * inv_temperature - log(found.denominator);
        drawn[at * params.history + stream.y % params.history] = vec2<u32>(found.token, bitcast<u32>(log_p));
        ids[at] = found.token;
        streams[at].y = stream.y + 1u;
        slots[at].position += 1u;
    }
}

// What a token's mass is, and which tokens are kept.
struct Kept {
    max_logit: f32,
    inv_temperature: f32,
    threshold: u32,
}

// The mass of a logit, unnormalised.
fn mass(logit: f32, kept: Kept) -> f32 {
    return exp((logit - kept.max_logit) * kept.inv_temperature);
}

struct Drawn {
    token: u32,
    denominator: f32, // of the softmax over all tokens
}

#if LANES_PER_SHARE
const SHARES: u32 = THREADS_PER_ROW / LANES_PER_SHARE;

fn draw(z: u32, row_thread: u32, u: f32, kept: Kept) -> Drawn {
    let lane = row_thread % LANES_PER_SHARE;
    // The tokens that are left: the goal lies in first .. last, `before` is the mass before them. Their number is at most `size`,
    // which all threads know to be the same: they meet at barriers.
    var first = 0u;
    var last = params.vocab;
    var size = params.vocab;
    var before = 0.0;
    var goal = 0.0;
    var denominator = 0.0;
    loop {
        let share = (size + SHARES - 1u) / SHARES;
        // Pass 2, and in shorter shares again: the masses of this thread's part of its share.
        let begin = first + row_thread / LANES_PER_SHARE * share;
        let sums = masses(z, begin + lane, min(begin + share, last), kept);
        if (size == params.vocab) {
            denominator = row_sum(row_thread, sums.x);
        }
        workgroupBarrier(); // other threads may still read the last sums
        shared_values[row_thread] = sums.y;
        for (var half = LANES_PER_SHARE / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half) {
                shared_values[row_thread] += shared_values[row_thread + half];
            }
        }
        workgroupBarrier();
        if (size == params.vocab) {
            for (var s = 0u; s < SHARES; s++) {
                goal += shared_values[s * LANES_PER_SHARE];
            }
            goal *= u;
        }
        // The share that holds the goal, or the last one with mass if rounding overshoots.
        var owner = 0u;
        var sum = before;
        for (var s = 0u; s < SHARES; s++) {
            let of_share = shared_values[s * LANES_PER_SHARE];
            if (of_share > 0.0 && sum <= goal) {
                owner = s;
                before = sum;
            }
            sum += of_share;
        }
        first += owner * share;
        last = min(first + share, last);
        size = share;
        if (size == 1u) {
            break;
        }
    }
    return Drawn(first, denominator);
}

// The masses of every LANES_PER_SHARE-th token of first .. last: of all of them, and of those that are kept.
fn masses(z: u32, first: u32, last: u32, kept: Kept) -> vec2<f32> {
    var sums = vec2<f32>();
    for (var j = first; j < last; j += AHEAD * LANES_PER_SHARE) {
#for A AHEAD
        let z{{A}} = logits[z + nearest(j + {{A}}u * LANES_PER_SHARE, last)];
#end
#for A AHEAD
        let mass{{A}} = select(0.0, mass(z{{A}}, kept), is_before(j + {{A}}u * LANES_PER_SHARE, last));
        sums += vec2<f32>(mass{{A}}, select(0.0, mass{{A}}, ordered(z{{A}}) >= kept.threshold));
#end
    }
    return sums;
}
#else
fn draw(z: u32, row_thread: u32, u: f32, kept: Kept) -> Drawn {
    // Pass 2: the denominator of the softmax over all tokens.
    var denominator = 0.0;
    for (var j = row_thread; j < params.vocab; j += THREADS_PER_ROW) {
        denominator += mass(logits[z + j], kept);
    }
    denominator = row_sum(row_thread, denominator);
    // Pass 3: the mass of the kept tokens in this thread's share of the vocabulary.
    let share = (params.vocab + THREADS_PER_ROW - 1u) / THREADS_PER_ROW;
    let first = min(row_thread * share, params.vocab);
    let last = min(first + share, params.vocab);
    var own_mass = 0.0;
    for (var j = first; j < last; j++) {
        if (ordered(logits[z + j]) >= kept.threshold) {
            own_mass += mass(logits[z + j], kept);
        }
    }
    // Pass 4: the thread in whose share the goal lies finds the token.
    return Drawn(find(z, row_thread, first, last, own_mass, u, kept), denominator);
}

#if ROW_PER_WORKGROUP
var<workgroup> chosen: u32;

// The token of the row. The goal is u times the mass of all kept tokens; a thread knows its own share.
fn find(z: u32, row_thread: u32, first: u32, last: u32, own_mass: f32, u: f32, kept: Kept) -> u32 {
    workgroupBarrier();
    shared_values[row_thread] = own_mass;
    if (row_thread == 0u) {
        chosen = 0u;
    }
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    var owner = 0u; // the thread whose share holds the goal, or the last thread with mass if rounding overshoots
    for (var t = 0u; t < THREADS_PER_ROW; t++) {
        total += shared_values[t];
    }
    let goal = u * total;
    var sum = 0.0;
    for (var t = 0u; t < THREADS_PER_ROW; t++) {
        if (shared_values[t] > 0.0 && sum <= goal) {
            owner = t;
            before = sum;
        }
        sum += shared_values[t];
    }
    if (row_thread == owner) {
        chosen = token_at(z, first, last, before, goal, kept);
    }
    workgroupBarrier();
    return chosen;
}
#else
fn find(z: u32, row_thread: u32, first: u32, last: u32, own_mass: f32, u: f32, kept: Kept) -> u32 {
    return token_at(z, first, last, 0.0, u * own_mass, kept);
}
#endif

// The first kept token of a share at which the running mass exceeds the goal, or the last kept token if rounding prevents that.
// `before` is the mass of the shares before.
fn token_at(z: u32, first: u32, last: u32, before: f32, goal: f32, kept: Kept) -> u32 {
    var sum = before;
    var token = first;
    for (var j = first; j < last; j++) {
        if (ordered(logits[z + j]) >= kept.threshold) {
            token = j;
            sum += mass(logits[z + j], kept);
            if (sum > goal) {
                break;
            }
        }
    }
    return token;
}
#endif
#endif
