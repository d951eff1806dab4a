// Attention of new tokens over a cache of keys and values: prefill of prompts and decoding, one code path.
//
// The cache is [entries, 2 · kv_heads, HEAD_DIM]: a token's keys, then its values. Each new token says which entries are its
// sequence's: its slot (lib/place.wgsl).
//
// Contract   store    writes k and v of token t into the entry of its position
//            attend   out[T, heads, D] = attention of token t over positions 0 ..= position of its sequence
// Grid       store: one thread a Piece of k and v; attend: one thread a (token, head), heads the slow index.
#include "lib/grid.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // 1 / sqrt(head_dim)
    own: u32, // positions that a token's own part of its sequence holds
    max_length: u32, // positions of a whole sequence
}
@group(0) @binding(0) var<uniform> params: Params;

alias Piece = vec{{LANE_WIDTH}}<f32>;
const PIECES: u32 = {{PIECES}}u;
const HEADS: u32 = {{HEADS}}u;
const KV_HEADS: u32 = {{KV_HEADS}}u;
const GROUP_SIZE: u32 = HEADS / KV_HEADS;
const STRIDE: u32 = (HEADS + 2u * KV_HEADS) * PIECES; // a token of qkv
const CACHED: u32 = 2u * KV_HEADS * PIECES; // a token of the cache
const WINDOW: u32 = {{WINDOW}}u;
#include "lib/place.wgsl"

@group(0) @binding(1) var<storage, read> qkv: array<Piece>; // [T, heads + 2 kv_heads, D]
@group(0) @binding(2) var<storage, read> slots: array<KvSlot>; // [T]

#if store
@group(0) @binding(3) var<storage, read_write> cache: array<Piece>;

@compute @workgroup_size(64)
fn store(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.tokens * CACHED) {
        return;
    }
    let t = i / CACHED;
    let slot = slots[t];
    // A finished row of a batch may run on past the end of its own part; it must not touch its neighbour's.
    if (slot.position >= end_of(slot)) {
        return;
    }
    cache[entry_of(slot, slot.position) * CACHED + i % CACHED] = qkv[t * STRIDE + HEADS * PIECES + i % CACHED];
}
#endif

#if attend
@group(0) @binding(3) var<storage, read> cache: array<Piece>;
@group(0) @binding(4) var<storage, read_write> out: array<Piece>; // [T, heads, D]

@compute @workgroup_size(64)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = group_index(group, groups) * 64u + thread;
    if (i >= params.tokens * HEADS) {
        return;
    }
    let head = i / params.tokens;
    let t = i % params.tokens;
    let kv_head = head / GROUP_SIZE;
    let slot = slots[t];
    let seen = seen_by(slot);
#for P PIECES
    let q{{P}} = qkv[t * STRIDE + head * PIECES + {{P}}u] * params.scale;
    var sum{{P}} = Piece();
#end
    var top = -1e30;
    var mass = 0.0;
    for (var s = seen.first; s <= seen.last; s++) {
        let key = entry_of(slot, s) * CACHED + kv_head * PIECES;
        let value = key + KV_HEADS * PIECES;
        var score = 0.0;
#for P PIECES
        score += dot(q{{P}}, cache[key + {{P}}u]);
#end
        let gap = exp(-abs(score - top));
        let larger = score > top;
        let shrink = select(1.0, gap, larger);
        let p = select(gap, 1.0, larger);
        top = max(top, score);
        mass = mass * shrink + p;
#for P PIECES
        sum{{P}} = sum{{P}} * shrink + p * cache[value + {{P}}u];
#end
    }
    let at = (t * HEADS + head) * PIECES;
#for P PIECES
    out[at + {{P}}u] = sum{{P}} / mass;
#end
}
#endif
