// Attention of few new tokens over a long cache: `attend` of cached_attention.wgsl in two passes, for GPUs. (Flash-decoding,
// Dao et al. 2023) Cache, slots and window are explained there.
//
// Contract   part     sums[t, head, part, D], stats[t, head, part] = (largest score, sum of exponentials) over the PART
//                     positions from part · PART on; a part of which the token sees nothing is not written
//            combine  out[T, heads, D] = the parts of each (token, head), in order
// Grid       part: x: parts, y: tokens · kv_heads; combine: a thread a Vec of out.
// Why so     Decoding has few rows: a thread a (token, head) leaves a GPU nearly empty, and each walks the whole cache alone.
//            Here every PART positions have a workgroup, which reads a key once for all query heads of its group: first a
//            thread a key, then a thread a piece of the output, so that both read the cache in whole lines. The scores of a
//            part lie in workgroup memory between the two.
#include "lib/grid.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // 1 / sqrt(head_dim)
    own: u32, // positions that a token's own part of its sequence holds
    max_length: u32, // positions of a whole sequence
    parts: u32, // max_length / PART, rounded up
}
@group(0) @binding(0) var<uniform> params: Params;

alias Vec = vec{{VEC_WIDTH}}<f32>;
const STRIDE: u32 = (HEADS + 2u * KV_HEADS) * VECS; // a token of qkv
const CACHED: u32 = 2u * KV_HEADS * VECS; // a token of the cache
#include "lib/kv_cache.wgsl"

#if part
@group(0) @binding(1) var<storage, read> qkv: array<Vec>; // [T, heads + 2 kv_heads, D]
@group(0) @binding(2) var<storage, read> slots: array<KvSlot>; // [T]
@group(0) @binding(3) var<storage, read> cache: array<Vec>;
@group(0) @binding(4) var<storage, read_write> sums: array<Vec>; // [T, heads, parts, D]
@group(0) @binding(5) var<storage, read_write> stats: array<vec2<f32>>; // [T, heads, parts]

var<workgroup> queries: array<Vec, GROUP_VECS>; // [GROUP_SIZE, VECS]
var<workgroup> scores: array<f32, GROUP_PART>; // [GROUP_SIZE, PART]
var<workgroup> peaks: array<f32, GROUP_THREADS>; // [GROUP_SIZE, 64]: the largest score of each thread

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
    for (var i = thread; i < GROUP_SIZE * VECS; i += 64u) {
        queries[i] = qkv[t * STRIDE + kv_head * GROUP_SIZE * VECS + i] * params.scale;
    }
    workgroupBarrier();
#for G GROUP_SIZE
    var peak{{G}} = -1e30;
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
        peak{{G}} = max(peak{{G}}, score{{G}});
#end
    }
#for G GROUP_SIZE
    peaks[{{G}}u * 64u + thread] = peak{{G}};
#end
    workgroupBarrier();
    for (var i = thread; i < GROUP_SIZE * VECS; i += 64u) {
        let member = i / VECS;
        var max_score = -1e30;
        for (var k = 0u; k < 64u; k++) {
            max_score = max(max_score, peaks[member * 64u + k]);
        }
        var denominator = 0.0;
        var sum = Vec();
        for (var s = start; s < end; s++) {
            let value = entry_of(slot, s) * CACHED + (KV_HEADS + kv_head) * VECS;
            let p = exp(scores[member * PART + s - start] - max_score);
            denominator += p;
            sum += p * cache[value + i % VECS];
        }
        let to = (t * HEADS + kv_head * GROUP_SIZE + member) * params.parts + group.x;
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
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.tokens * HEADS * VECS) {
        return;
    }
    let row = i / VECS;
    let seen = seen_by(slots[row / HEADS]);
    let first = row * params.parts + seen.first / PART;
    let last = row * params.parts + seen.last / PART;
    var max_score = -1e30;
    for (var n = first; n <= last; n++) {
        max_score = max(max_score, stats[n].x);
    }
    var denominator = 0.0;
    var sum = Vec();
    for (var n = first; n <= last; n++) {
        let share = exp(stats[n].x - max_score);
        denominator += share * stats[n].y;
        sum += share * sums[n * VECS + i % VECS];
    }
    out[i] = sum / denominator;
}
#endif
