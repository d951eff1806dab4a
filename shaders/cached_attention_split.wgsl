// Attention of few new tokens over a long cache: `attend` of cached_attention.wgsl in two kernels, for GPUs. (Flash-decoding,
// Dao et al. 2023) That file explains the cache, the slots and the window.
//
// Reference  src/reference/attention.rs
// Contract   part      over the PART positions from part · PART on: sums[t, head, part, D] = Σ p v, stats[t, head, part] =
//                      (largest score, Σ p), p = exp(score - largest score). A part that the token does not see is not written.
//            combine   out[T, heads, D] = the parts of each (token, head), in order
// Grid       part: x: parts, y: tokens · kv_heads; combine: one thread per Vec of out.
// Why so     Decoding has few rows: with one thread per (token, head) a GPU is nearly empty, and each thread reads the whole
//            cache. Here every PART positions have a workgroup, which reads a key once for all query heads of its group. It first
//            has one thread per key, then one thread per Vec of the output, so that both read the cache in whole lines. The
//            scores of a part are in workgroup memory between the two. The values are read AHEAD at a time (lib/ahead.wgsl).
#include "lib/ahead.wgsl"
#include "lib/grid.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // normally 1 / sqrt(head_dim)
    own: u32, // own entries per sequence, after its prefix
    max_length: u32, // positions of a whole sequence
    parts: u32, // max_length / PART, rounded up
}
@group(0) @binding(0) var<uniform> params: Params;

// GROUP_SIZE: query heads per key/value head, set by the host because a #for counts to it
// GROUP_VECS, GROUP_PART, GROUP_THREADS: GROUP_SIZE times VECS, PART and 64
#include "lib/kv_cache.wgsl"

#if part
@group(0) @binding(1) var<storage, read> qkv: array<Vec>; // [T, heads + 2 kv_heads, D]
@group(0) @binding(2) var<storage, read> slots: array<KvSlot>; // [T]
@group(0) @binding(3) var<storage, read> cache: array<Vec>;
@group(0) @binding(4) var<storage, read_write> sums: array<Vec>; // [T, heads, parts, D]
@group(0) @binding(5) var<storage, read_write> stats: array<vec2<f32>>; // [T, heads, parts]

var<workgroup> queries: array<Vec, GROUP_VECS>; // [GROUP_SIZE, VECS]
var<workgroup> scores: array<f32, GROUP_PART>; // [GROUP_SIZE, PART]
var<workgroup> max_scores: array<f32, GROUP_THREADS>; // [GROUP_SIZE, 64]: the largest score of each thread

@compute @workgroup_size(64)
fn part(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t = group.y / KV_HEADS;
    let kv_head = group.y % KV_HEADS;
    let slot = slots[t];
    let seen = seen_by(slot);
    let start = max(group.x * PART, seen.first);
    let end = min(group.x * PART + PART, seen.last + 1u);
    if (start >= end) {
        return; // all threads of the workgroup
    }
    // The scaled queries of the group.
    for (var i = thread; i < GROUP_SIZE * VECS; i += 64u) {
        queries[i] = qkv[t * STRIDE + kv_head * GROUP_SIZE * VECS + i] * params.scale;
    }
    workgroupBarrier();
    // Pass 1, one thread per key: the scores, and the largest score of each thread.
#for G GROUP_SIZE
    var max_score{{G}} = -1e30;
#end
    for (var s = start + thread; s < end; s += 64u) {
        let key = entry_of(slot, s) * CACHED + kv_head * VECS;
#for G GROUP_SIZE
        var score{{G}} = 0.0;
#end
        for (var p = 0u; p < VECS; p++) {
            let k = cache[key + p];
#for G GROUP_SIZE
            score{{G}} += dot(queries[{{G}}u * VECS + p], k);
#end
        }
#for G GROUP_SIZE
        scores[{{G}}u * PART + s - start] = score{{G}};
        max_score{{G}} = max(max_score{{G}}, score{{G}});
#end
    }
#for G GROUP_SIZE
    max_scores[{{G}}u * 64u + thread] = max_score{{G}};
#end
    workgroupBarrier();
    // Pass 2, one thread per Vec of the output: softmax and Σ p v.
    for (var i = thread; i < GROUP_SIZE * VECS; i += 64u) {
        let head = i / VECS; // in the group
        var max_score = -1e30;
        for (var k = 0u; k < 64u; k++) {
            max_score = max(max_score, max_scores[head * 64u + k]);
        }
        var denominator = 0.0;
        var sum = Vec();
        for (var s = start; s < end; s += AHEAD) {
#for A AHEAD
            let s{{A}} = nearest(s + {{A}}u, end);
            let v{{A}} = cache[entry_of(slot, s{{A}}) * CACHED + (KV_HEADS + kv_head) * VECS + i % VECS];
#end
#for A AHEAD
            let p{{A}} = select(0.0, exp(scores[head * PART + s{{A}} - start] - max_score), is_before(s + {{A}}u, end));
            denominator += p{{A}};
            sum += p{{A}} * v{{A}};
#end
        }
        let to = (t * HEADS + kv_head * GROUP_SIZE + head) * params.parts + group.x;
        sums[to * VECS + i % VECS] = sum;
        if (i % VECS == 0u) {
            stats[to] = vec2<f32>(max_score, denominator);
        }
    }
}
#endif

#if combine
@group(0) @binding(1) var<storage, read> slots: array<KvSlot>; // [T]
@group(0) @binding(2) var<storage, read> sums: array<Vec>; // [T, heads, parts, D]
@group(0) @binding(3) var<storage, read> stats: array<vec2<f32>>; // [T, heads, parts]
@group(0) @binding(4) var<storage, read_write> out: array<Vec>; // [T, heads, D]

@compute @workgroup_size(64)
fn combine(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.tokens * HEADS * VECS) {
        return;
    }
    let row = i / VECS;
    let seen = seen_by(slots[row / HEADS]);
    let first = row * params.parts + seen.first / PART;
    let last = row * params.parts + seen.last / PART;
    // Pass 1: the largest score of all parts.
    var max_score = -1e30;
    for (var n = first; n <= last; n++) {
        max_score = max(max_score, stats[n].x);
    }
    // Pass 2: the sums of the parts, each rescaled to that score.
    var denominator = 0.0;
    var sum = Vec();
    for (var n = first; n <= last; n++) {
        let rescale = exp(stats[n].x - max_score);
        denominator += rescale * stats[n].y;
        sum += rescale * sums[n * VECS + i % VECS];
    }
    out[i] = sum / denominator;
}
#endif
