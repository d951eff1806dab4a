// The loss head: one kernel pair for every objective, over chunks of rows, in place on the chunk's logits.
//
// A row is one position whose next token carries loss. Every loss L of a row, a reward's included, depends on the
// probabilities of a few tokens only, so its gradient has one form, with coefficients c_k = -∂L/∂log p_k and p = softmax(z):
//     dL/dz_j = -(c_j - p_j Σc) + w_H · dH/dz_j,      dH/dz_j = -p_j (log p_j + H)
// Cross-entropy and the policy gradient's -advantage · log p have one token and c = weight: `rows[r]` holds them. What
// looks at the scores (squared error of the expected score, log p of a soft label, scoring rules, …) has one c for each
// score token: the host reads the statistics, derives c in f64 (`train/reward.rs`) and sends it. Knowing no loss, the
// kernel needs no change for a new one, and nothing is ever divided by a small probability.
//
// Contract   stats       stats[r] = (lse, log p_token, entropy, log p(score token 1), …, log p(score token K))
//            gradient    logits[r, :] = dL/dz, from the logits and their stats
// Grid       rows of the chunk; THREADS_PER_ROW threads a row (lib/row.wgsl).
#include "lib/row.wgsl"

struct Row {
    token: u32,
    weight: f32, // c of `token`
    entropy_weight: f32,
    scores: u32, // which K coefficients are this row's, or NO_SCORES
}

const NO_SCORES = 0xffffffffu;

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
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [R, 3 + K]

@compute @workgroup_size(GROUP)
fn stats(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let lane = lane_of(thread);
    if (row >= params.rows) {
        return;
    }
    let z = row * params.vocab;
    var max_logit = -1e30;
    for (var j = lane; j < params.vocab; j += THREADS_PER_ROW) {
        max_logit = max(max_logit, logits[z + j]);
    }
    max_logit = row_max(lane, max_logit);
    var denominator = 0.0;
    var moment = 0.0;
    for (var j = lane; j < params.vocab; j += THREADS_PER_ROW) {
        let shifted = logits[z + j] - max_logit;
        let e = exp(shifted);
        denominator += e;
        moment += e * shifted;
    }
    denominator = row_sum(lane, denominator);
    moment = row_sum(lane, moment);
    let lse = max_logit + log(denominator);
    let spec = rows[params.start + row];
    let at = (params.start + row) * (3u + params.scores);
    if (lane == 0u) {
        out[at] = lse;
        out[at + 1u] = logits[z + spec.token] - lse;
        out[at + 2u] = log(denominator) - moment / denominator; // H = lse - Σ p z
    }
    for (var k = lane; k < params.scores; k += THREADS_PER_ROW) {
        out[at + 3u + k] = logits[z + score_tokens[k]] - lse;
    }
}
#endif

#if gradient
@group(0) @binding(3) var<storage, read> coefficients: array<f32>; // [rows with scores, K]
@group(0) @binding(4) var<storage, read> stats: array<f32>; // [R, 3 + K]
@group(0) @binding(5) var<storage, read_write> logits: array<f32>; // [chunk, V]: z in, dL/dz out

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
    let at = (params.start + row) * (3u + params.scores);
    let lse = stats[at];
    let entropy = stats[at + 2u];

    var count = params.scores; // coefficients of this row
    if (spec.scores == NO_SCORES) {
        count = 0u;
    }
    let own = select(spec.scores, 0u, count == 0u) * params.scores;
    var total = spec.weight; // Σc
    for (var k = 0u; k < count; k++) {
        total += coefficients[own + k];
    }
    for (var j = lane; j < params.vocab; j += THREADS_PER_ROW) {
        let log_p = logits[z + j] - lse;
        logits[z + j] = exp(log_p) * (total - spec.entropy_weight * (log_p + entropy));
    }
#if ROW_PER_WORKGROUP
    storageBarrier();
#endif
    if (lane == 0u) {
        logits[z + spec.token] -= spec.weight;
        for (var k = 0u; k < count; k++) {
            logits[z + score_tokens[k]] -= coefficients[own + k];
        }
    }
}
#endif
