// The loss head: one kernel pair for every objective, over chunks of rows, in place on the chunk's logits.
//
// A row is one position whose next token carries loss. Its objective is given by `rows[r]`:
//     tokens a and b with weights (cross-entropy of a soft target; -advantage · log-prob in RL), an entropy weight,
//     a score term: weight, kind and label y for the squared error of the expected score E; weights of p_a and p_b.
// Every such loss has a gradient of one form, with few coefficients c and p = softmax(z):
//     dL/dz_j = -(c_j - p_j Σc) + w_H · dH/dz_j,      c_k = -p_k ∂L/∂p_k,      dH/dz_j = -p_j (log p_j + H)
//     -w log p_a                  c_a = w
//     -w p_a                      c_a = w p_a
//     -w log(1 - Σ p_k)           c_k = -w p_k / (1 - Σ p_k): the action "no score at all"
//     w (E - y)², E = Σ v_k p_k         (full)         c_k = -2w (E - y) p_k v_k
//     w (E - y)², E = Σ v_k p_k / Σ p_k (renormalised) c_k = -2w (E - y) q_k (v_k - E),  q_k = p_k / Σ p_k
// Written so, nothing is divided by a small probability.
//
// Contract   stats       stats[r] = (lse, log p_a, log p_b, entropy, log p(score 1), …, log p(score K))
//            gradient    logits[r, :] = dL/dz, from the logits and their stats
// Grid       rows of the chunk; LANES threads a row (lib/row.wgsl).
#include "lib/row.wgsl"

struct Row {
    a: u32,
    b: u32,
    weight_a: f32,
    weight_b: f32,
    entropy_weight: f32,
    score_kind: u32, // 0: none, 1: squared error of the full expectation, 2: of the renormalised one, 3: no score
    score_weight: f32,
    label: f32,
    prob_weight_a: f32, // weights of -p_a and -p_b
    prob_weight_b: f32,
}

struct Params {
    rows: u32, // rows of this chunk
    start: u32, // first row of this chunk
    vocab: u32,
    scores: u32, // K
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>; // [R]
@group(0) @binding(2) var<storage, read> score_tokens: array<u32>; // [K]

#if stats
@group(0) @binding(3) var<storage, read> logits: array<f32>; // [chunk, V]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [R, 4 + K]

@compute @workgroup_size(GROUP)
fn stats(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let lane = lane_of(thread);
    if (row >= params.rows) {
        return;
    }
    let z = row * params.vocab;
    var top = -1e30;
    for (var j = lane; j < params.vocab; j += LANES) {
        top = max(top, logits[z + j]);
    }
    top = row_max(lane, top);
    var mass = 0.0;
    var moment = 0.0;
    for (var j = lane; j < params.vocab; j += LANES) {
        let gap = logits[z + j] - top;
        let e = exp(gap);
        mass += e;
        moment += e * gap;
    }
    mass = row_sum(lane, mass);
    moment = row_sum(lane, moment);
    let lse = top + log(mass);
    let spec = rows[params.start + row];
    let at = (params.start + row) * (4u + params.scores);
    if (lane == 0u) {
        out[at] = lse;
        out[at + 1u] = logits[z + spec.a] - lse;
        out[at + 2u] = logits[z + spec.b] - lse;
        out[at + 3u] = log(mass) - moment / mass; // H = lse - Σ p z
    }
    for (var k = lane; k < params.scores; k += LANES) {
        out[at + 4u + k] = logits[z + score_tokens[k]] - lse;
    }
}
#endif

#if gradient
@group(0) @binding(3) var<storage, read> score_values: array<f32>; // [K]
@group(0) @binding(4) var<storage, read> stats: array<f32>; // [R, 4 + K]
@group(0) @binding(5) var<storage, read_write> logits: array<f32>; // [chunk, V]: z in, dL/dz out

// The score distribution that a row's score term sees: p of the full vocabulary, or q of the scores alone. q is taken
// relative to the likeliest score, so that it exists however small the scores' mass is.
struct ScoreView {
    shift: f32, // log p of the likeliest score (renormalised), or 0
    mass: f32, // Σ exp(log p - shift), or 1
    expected: f32, // E
    rest: f32, // 1 - Σ p, or 0
}

fn score_share(at: u32, k: u32, view: ScoreView) -> f32 {
    return exp(stats[at + 4u + k] - view.shift) / view.mass;
}

fn score_view(spec: Row, at: u32) -> ScoreView {
    var view = ScoreView(0.0, 1.0, 0.0, 1.0);
    if (spec.score_kind == 2u) {
        view.shift = -1e30;
        view.mass = 0.0;
        for (var k = 0u; k < params.scores; k++) {
            view.shift = max(view.shift, stats[at + 4u + k]);
        }
        for (var k = 0u; k < params.scores; k++) {
            view.mass += exp(stats[at + 4u + k] - view.shift);
        }
    }
    for (var k = 0u; k < params.scores; k++) {
        view.expected += score_share(at, k, view) * score_values[k];
        view.rest -= score_share(at, k, view);
    }
    return view;
}

// The coefficient c_k of score k.
fn score_coefficient(spec: Row, at: u32, k: u32, view: ScoreView) -> f32 {
    if (spec.score_kind == 3u) {
        return -spec.score_weight * score_share(at, k, view) / max(view.rest, 1e-6);
    }
    let slope = -2.0 * spec.score_weight * (view.expected - spec.label) * score_share(at, k, view);
    if (spec.score_kind == 1u) {
        return slope * score_values[k];
    }
    return slope * (score_values[k] - view.expected);
}

@compute @workgroup_size(GROUP)
fn gradient(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let lane = lane_of(thread);
    if (row >= params.rows) {
        return;
    }
    let z = row * params.vocab;
    let spec = rows[params.start + row];
    let at = (params.start + row) * (4u + params.scores);
    let lse = stats[at];
    let entropy = stats[at + 3u];

    let c_a = spec.weight_a + spec.prob_weight_a * exp(stats[at + 1u]);
    let c_b = spec.weight_b + spec.prob_weight_b * exp(stats[at + 2u]);
    var total = c_a + c_b; // Σc
    var view = ScoreView(0.0, 1.0, 0.0, 1.0);
    if (spec.score_kind != 0u) {
        view = score_view(spec, at);
        for (var k = 0u; k < params.scores; k++) {
            total += score_coefficient(spec, at, k, view);
        }
    }
    for (var j = lane; j < params.vocab; j += LANES) {
        let log_p = logits[z + j] - lse;
        logits[z + j] = exp(log_p) * (total - spec.entropy_weight * (log_p + entropy));
    }
#if TEAM
    storageBarrier();
#endif
    if (lane == 0u) {
        logits[z + spec.a] -= c_a;
        logits[z + spec.b] -= c_b;
        if (spec.score_kind != 0u) {
            for (var k = 0u; k < params.scores; k++) {
                logits[z + score_tokens[k]] -= score_coefficient(spec, at, k, view);
            }
        }
    }
}
#endif
