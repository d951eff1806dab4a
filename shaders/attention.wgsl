// Grouped-query causal attention over packed sequences, forward and backward, with online softmax.        (Dao et al. 2022)
//
//   forward     score = q·k / √D,  p = exp(score - lse),  lse = log Σ exp(score),  out = Σ p v        over the keys a token sees
//   backward    dp = dout·v,  ds = p (dp - delta),  delta = dout·out;   dq = Σ ds k / √D,  dk = Σ ds q / √D,  dv = Σ p dout
//
// The fused tensor qkv is [T, heads + 2 kv_heads, HEAD_DIM]; query head h reads key/value head h / GROUP_SIZE.
// By spans[t], token t sees the keys
//     prefix_start .. prefix_start + prefix_len   (a prompt that several chains share; length 0 if there is none)
//     own_start ..= t                             (its own sequence up to itself)
// and a key s is seen by the queries s .. query_end. A sliding window of WINDOW positions (0: none) hides the keys that are
// WINDOW or more positions before the query.
//
// Reference  src/reference/attention.rs
// Contract   forward      out[T, heads, D] = …, stats[T, heads].x = lse
//            prepare      stats[T, heads].y = delta
//            backward_q   the q heads of dqkv = …
//            backward_kv  the k and v heads of dqkv = …
// Grid       one thread per (token, head), in backward_kv per (token, key/value head); heads are the slow index, so that
//            neighbours read the same keys.
// Why so     No tensor of size T x T exists. Each element of a gradient has one thread, which adds its terms in order (for a key:
//            the later queries of all heads of the group): no atomics.
#include "lib/grid.wgsl"
#include "lib/spans.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // normally 1 / sqrt(head_dim)
}
@group(0) @binding(0) var<uniform> params: Params;

#if forward
@group(0) @binding(1) var<storage, read> qkv: array<Vec>;
@group(0) @binding(2) var<storage, read> spans: array<TokenSpan>; // [T]
@group(0) @binding(3) var<storage, read_write> out: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.tokens * HEADS) {
        return;
    }
    let head = i / params.tokens;
    let t = i % params.tokens;
    let kv_head = head / GROUP_SIZE;
    let span = spans[t];
#for P VECS
    let q{{P}} = qkv[query_at(t, head) + {{P}}u] * params.scale;
    var sum{{P}} = Vec();
#end
    // One pass over the keys, first of the shared prefix, then of the own sequence: online softmax, rescaled when a larger score
    // comes.
    var max_score = -1e30;
    var denominator = 0.0;
    var s = prefix_from(t, span);
    var end = span.prefix_start + span.prefix_len;
    var second = false;
    loop {
        if (s >= end) {
            if (second) {
                break;
            }
            second = true;
            s = own_from(t, span);
            end = t + 1u;
        }
        let key = key_at(s, kv_head);
        var score = 0.0;
#for P VECS
        score += dot(q{{P}}, qkv[key + {{P}}u]);
#end
        // One exponential for both cases: the new score is the largest so far, or it is not.
        let decay = exp(-abs(score - max_score));
        let larger = score > max_score;
        let rescale = select(1.0, decay, larger);
        let p = select(decay, 1.0, larger);
        max_score = max(max_score, score);
        denominator = denominator * rescale + p;
        let value = value_at(s, kv_head);
#for P VECS
        sum{{P}} = sum{{P}} * rescale + p * qkv[value + {{P}}u];
#end
        s++;
    }
    // If a score overflowed, the largest is not known, and the output is NaN.
    denominator = select(denominator, bitcast<f32>(0x7fc00000u | bitcast<u32>(max_score)), bitcast<u32>(max_score) == 0x7f800000u);
    let at = (t * HEADS + head) * VECS;
#for P VECS
    out[at + {{P}}u] = sum{{P}} / denominator;
#end
    stats[t * HEADS + head] = vec2<f32>(max_score + log(denominator), 0.0);
}
#endif

#if prepare
@group(0) @binding(1) var<storage, read> out: array<Vec>; // [T, heads, D]
@group(0) @binding(2) var<storage, read> dout: array<Vec>; // [T, heads, D]
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)

@compute @workgroup_size(64)
fn prepare(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.tokens * HEADS) {
        return;
    }
    // delta = dout · out: the term that all keys of a row share in the gradient of the softmax.
    var sum = 0.0;
    for (var p = i * VECS; p < (i + 1u) * VECS; p++) {
        sum += dot(out[p], dout[p]);
    }
    stats[i].y = sum;
}
#endif

#if backward_q
@group(0) @binding(1) var<storage, read> qkv: array<Vec>;
@group(0) @binding(2) var<storage, read> spans: array<TokenSpan>; // [T]
@group(0) @binding(3) var<storage, read> dout: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)
@group(0) @binding(5) var<storage, read_write> dqkv: array<Vec>;

@compute @workgroup_size(64)
fn backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.tokens * HEADS) {
        return;
    }
    let head = i / params.tokens;
    let t = i % params.tokens;
    let kv_head = head / GROUP_SIZE;
    let span = spans[t];
    let stat = stats[t * HEADS + head];
    let lse = stat.x;
    let delta = stat.y;
#for P VECS
    let q{{P}} = qkv[query_at(t, head) + {{P}}u] * params.scale;
    let do{{P}} = dout[(t * HEADS + head) * VECS + {{P}}u];
    var dq{{P}} = Vec();
#end
    // forward: score = q·k / √D, p = exp(score - lse), out = Σ p v
    // One pass over the keys, of the shared prefix, then of the own sequence.
    var s = prefix_from(t, span);
    var end = span.prefix_start + span.prefix_len;
    var second = false;
    loop {
        if (s >= end) {
            if (second) {
                break;
            }
            second = true;
            s = own_from(t, span);
            end = t + 1u;
        }
        let key = key_at(s, kv_head);
        let value = value_at(s, kv_head);
        var score = 0.0;
        var dp = 0.0;
#for P VECS
        let k{{P}} = qkv[key + {{P}}u];
        score += dot(q{{P}}, k{{P}});
        dp += dot(do{{P}}, qkv[value + {{P}}u]);
#end
        let ds = exp(min(score - lse, 0.0)) * (dp - delta);
#for P VECS
        dq{{P}} += ds * k{{P}};
#end
        s++;
    }
#for P VECS
    dqkv[query_at(t, head) + {{P}}u] = dq{{P}} * params.scale;
#end
}
#endif

#if backward_kv
@group(0) @binding(1) var<storage, read> qkv: array<Vec>;
@group(0) @binding(2) var<storage, read> spans: array<TokenSpan>; // [T]
@group(0) @binding(3) var<storage, read> dout: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)
@group(0) @binding(5) var<storage, read_write> dqkv: array<Vec>;

@compute @workgroup_size(64)
fn backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.tokens * KV_HEADS) {
        return;
    }
    let kv_head = i / params.tokens;
    let s = i % params.tokens;
    let end = spans[s].query_end;
#for P VECS
    let k{{P}} = qkv[key_at(s, kv_head) + {{P}}u] * params.scale;
    let v{{P}} = qkv[value_at(s, kv_head) + {{P}}u];
    var dk{{P}} = Vec();
    var dv{{P}} = Vec();
#end
    // forward: score = q·k / √D, p = exp(score - lse), out = Σ p v
    // One pass over the queries that see this key, and over the heads of the group.
    for (var t = s; t < end; t++) {
#if WINDOWED
        if (hidden(s, t, spans[t])) {
            continue;
        }
#endif
        for (var head = kv_head * GROUP_SIZE; head < (kv_head + 1u) * GROUP_SIZE; head++) {
            let query = query_at(t, head);
            let dout_at = (t * HEADS + head) * VECS;
            let stat = stats[t * HEADS + head];
            let lse = stat.x;
            let delta = stat.y;
            var score = 0.0;
            var dp = 0.0;
#for P VECS
            let q{{P}} = qkv[query + {{P}}u];
            let do{{P}} = dout[dout_at + {{P}}u];
            score += dot(q{{P}}, k{{P}});
            dp += dot(do{{P}}, v{{P}});
#end
            let p = exp(min(score - lse, 0.0));
            let ds = p * (dp - delta);
#for P VECS
            dv{{P}} += p * do{{P}};
            dk{{P}} += ds * q{{P}};
#end
        }
    }
#for P VECS
    dqkv[key_at(s, kv_head) + {{P}}u] = dk{{P}} * params.scale;
    dqkv[value_at(s, kv_head) + {{P}}u] = dv{{P}};
#end
}
#endif
