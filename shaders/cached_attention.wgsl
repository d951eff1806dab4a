// Attention of new tokens over a cache of keys and values, for the prefill of prompts and for decoding.
//
// The cache is [entries, 2 · kv_heads, HEAD_DIM]: a token's keys, then its values. The slot of a new token says which entries
// belong to its sequence (lib/kv_cache.wgsl).
//
// Reference  src/reference/attention.rs
// Contract   store    the entry of token t's position = k and v of token t
//            attend   out[T, heads, D] = attention of token t over the positions 0 ..= position of its sequence
// Grid       store: one thread per Vec of k and v; attend: one thread per (token, head), heads the slow index.
// Why so     The keys are stored by a kernel of its own, so that all tokens of a prefill find the keys before them. Neighbouring
//            threads of attend have tokens of one head, which read the same keys. For few rows over a long cache see
//            cached_attention_split.wgsl.
#include "lib/grid.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // normally 1 / sqrt(head_dim)
    own: u32, // own entries per sequence, after its prefix
    max_length: u32, // positions of a whole sequence
}
@group(0) @binding(0) var<uniform> params: Params;

const GROUP_SIZE: u32 = HEADS / KV_HEADS; // query heads per key/value head
#include "lib/kv_cache.wgsl"

@group(0) @binding(1) var<storage, read> qkv: array<Vec>; // [T, heads + 2 kv_heads, D]
@group(0) @binding(2) var<storage, read> slots: array<KvSlot>; // [T]

#if store
@group(0) @binding(3) var<storage, read_write> cache: array<Vec>;

@compute @workgroup_size(64)
fn store(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.tokens * CACHED) {
        return;
    }
    let t = i / CACHED;
    let slot = slots[t];
    // A finished row of a batch may continue past its own entries; it must not write the entries of its neighbour.
    if (slot.position >= end_of(slot)) {
        return;
    }
    cache[entry_of(slot, slot.position) * CACHED + i % CACHED] = qkv[t * STRIDE + HEADS * VECS + i % CACHED];
}
#endif

#if attend
@group(0) @binding(3) var<storage, read> cache: array<Vec>;
@group(0) @binding(4) var<storage, read_write> out: array<Vec>; // [T, heads, D]

@compute @workgroup_size(64)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = thread_index(group, groups, thread);
    if (i >= params.tokens * HEADS) {
        return;
    }
    let head = i / params.tokens;
    let t = i % params.tokens;
    let kv_head = head / GROUP_SIZE;
    let slot = slots[t];
    let seen = seen_by(slot);
#for P VECS
    let q{{P}} = qkv[t * STRIDE + head * VECS + {{P}}u] * params.scale;
    var sum{{P}} = Vec();
#end
    // One pass over the keys: online softmax, rescaled when a larger score comes.
    var max_score = -1e30;
    var denominator = 0.0;
    for (var s = seen.first; s <= seen.last; s++) {
        let key = entry_of(slot, s) * CACHED + kv_head * VECS;
        let value = key + KV_HEADS * VECS;
        var score = 0.0;
#for P VECS
        score += dot(q{{P}}, cache[key + {{P}}u]);
#end
        let decay = exp(-abs(score - max_score));
        let larger = score > max_score;
        let rescale = select(1.0, decay, larger);
        let p = select(decay, 1.0, larger);
        max_score = max(max_score, score);
        denominator = denominator * rescale + p;
#for P VECS
        sum{{P}} = sum{{P}} * rescale + p * cache[value + {{P}}u];
#end
    }
    let at = (t * HEADS + head) * VECS;
#for P VECS
    out[at + {{P}}u] = sum{{P}} / denominator;
#end
}
#endif
