// The loss head: two kernels for every loss, over chunks of rows, in place on the chunk's logits.
//
// A row is one position whose next token carries loss. Every loss L of a row, that of a reward too, depends on the probabilities
// of a few tokens only. So its gradient has one form, with coefficients c_k = -∂L/∂log p_k and p = softmax(z):
//     dL/dz_j = -(c_j - p_j Σc) + w_H · dH/dz_j,      dH/dz_j = -p_j (log p_j + H)
// Cross-entropy and the policy gradient's -advantage · log p have one token and c = weight, which rows[r] holds. A loss on the
// scores (squared error of the expected score, log p of a soft label, scoring rules, …) has one c per score token: the host
// reads the statistics, derives c in f64 (src/train/objective/reward.rs) and uploads it.
//
// Reference  src/reference/loss_head.rs
// Contract   stats       stats[r] = (lse, log p_token, entropy, log p(score token 1), …, log p(score token K))
//            gradient    logits[r, :] = dL/dz, from the logits and their stats
// Grid       rows of the chunk, THREADS_PER_ROW threads per row (lib/row.wgsl), each with AHEAD loads on their way
//            (lib/ahead.wgsl).
// Why so     The kernels do not know the loss, so that a new loss changes nothing here, and they never divide by a small
//            probability. A tensor [T, V] would be the largest of a training step: the logits of a chunk of rows are computed,
//            become their own gradient in place, and are overwritten by the next chunk's.
#include "lib/ahead.wgsl"
#include "lib/largest_logit.wgsl"
#include "lib/row.wgsl"

// TokenLoss of src/ops/loss_head.rs.
struct TokenLoss {
    token: u32,
    weight: f32, // c of `token`
    entropy_weight: f32,
    scores: u32, // the index of this row's K coefficients, or NO_SCORES
}

const NO_SCORES = 0xffffffffu;

struct Params {
    rows: u32, // rows of this chunk
    start: u32, // first row of this chunk
    vocab: u32,
    scores: u32, // K
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<TokenLoss>; // [R]
@group(0) @binding(2) var<storage, read> score_tokens: array<u32>; // [K]

#if stats
@group(0) @binding(3) var<storage, read> logits: array<f32>; // [chunk, V]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [R, 3 + K]

@compute @workgroup_size(WORKGROUP_SIZE)
fn stats(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let row_thread = row_thread_of(thread);
    if (row >= params.rows) {
        return;
    }
    let z = row * params.vocab;
    // Pass 1: the largest logit.
    let max_logit = largest_logit(z, row_thread);
    // Pass 2: the denominator of the softmax, Σ exp(z - max), and Σ exp(z - max) (z - max) for the entropy.
    var denominator = 0.0;
    var moment = 0.0;
    for (var j = row_thread; j < params.vocab; j += AHEAD * THREADS_PER_ROW) {
#for A AHEAD
        let shifted{{A}} = logits[z + nearest(j + {{A}}u * THREADS_PER_ROW, params.vocab)] - max_logit;
#end
#for A AHEAD
        let e{{A}} = select(0.0, exp(shifted{{A}}), is_before(j + {{A}}u * THREADS_PER_ROW, params.vocab));
        denominator += e{{A}};
        moment += e{{A}} * shifted{{A}};
#end
    }
    denominator = row_sum(row_thread, denominator);
    moment = row_sum(row_thread, moment);
    let lse = max_logit + log(denominator);
    let token_loss = rows[params.start + row];
    let at = (params.start + row) * (3u + params.scores);
    if (row_thread == 0u) {
        out[at] = lse;
        out[at + 1u] = logits[z + token_loss.token] - lse;
        out[at + 2u] = log(denominator) - moment / denominator; // H = lse - Σ p z
    }
    for (var k = row_thread; k < params.scores; k += THREADS_PER_ROW) {
        out[at + 3u + k] = logits[z + score_tokens[k]] - lse;
    }
}
#endif

#if gradient
@group(0) @binding(3) var<storage, read> coefficients: array<f32>; // [rows with scores, K]
@group(0) @binding(4) var<storage, read> stats: array<f32>; // [R, 3 + K]
@group(0) @binding(5) var<storage, read_write> logits: array<f32>; // [chunk, V]: z in, dL/dz out

@compute @workgroup_size(WORKGROUP_SIZE)
fn gradient(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let row = row_of(group, groups, thread);
    let row_thread = row_thread_of(thread);
    if (row >= params.rows) {
        return;
    }
    let z = row * params.vocab;
    let token_loss = rows[params.start + row];
    let at = (params.start + row) * (3u + params.scores);
    let lse = stats[at];
    let entropy = stats[at + 2u];

    // forward: L = f(log p_1, …, log p_K) + w_H · H, log p = z - lse
    var count = params.scores; // coefficients of this row
    if (token_loss.scores == NO_SCORES) {
        count = 0u;
    }
    let first = select(token_loss.scores, 0u, count == 0u) * params.scores;
    // Pass 1: Σc.
    var sum_c = token_loss.weight;
    for (var k = 0u; k < count; k++) {
        sum_c += coefficients[first + k];
    }
    // Pass 2: the terms that every token has, p_j Σc and the entropy's.
    for (var j = row_thread; j < params.vocab; j += AHEAD * THREADS_PER_ROW) {
#for A AHEAD
        let log_p{{A}} = logits[z + nearest(j + {{A}}u * THREADS_PER_ROW, params.vocab)] - lse;
#end
#for A AHEAD
        if (is_before(j + {{A}}u * THREADS_PER_ROW, params.vocab)) {
            let share{{A}} = sum_c - token_loss.entropy_weight * (log_p{{A}} + entropy);
            logits[z + j + {{A}}u * THREADS_PER_ROW] = exp(log_p{{A}}) * share{{A}};
        }
#end
    }
    // Pass 3: -c_j of the few tokens that have a coefficient.
#if ROW_PER_WORKGROUP
    storageBarrier();
#endif
    if (row_thread == 0u) {
        logits[z + token_loss.token] -= token_loss.weight;
        for (var k = 0u; k < count; k++) {
            logits[z + score_tokens[k]] -= coefficients[first + k];
        }
    }
}
#endif
