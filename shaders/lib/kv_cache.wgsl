// Which entries of a cache of keys and values belong to the sequence of a token, and which of them the token sees.
//
// Position p of a sequence is entry prefix_start + p if p is below prefix_len, else entry own + p - prefix_len. The chains of one
// prompt read the prompt's entries in place, and have entries of their own for what they generate. A single chain that continues
// its prompt has own = prefix_start + prefix_len.
//
// The file that includes this has params.own, the number of own entries per sequence, params.max_length, the positions of a
// whole sequence, and the constants of the heads.
#include "lib/kv_slot.wgsl"

alias Vec = vec{{VEC_WIDTH}}<f32>;
// VECS: HEAD_DIM / VEC_WIDTH
const STRIDE: u32 = (HEADS + 2u * KV_HEADS) * VECS; // Vecs of one token in qkv
const CACHED: u32 = 2u * KV_HEADS * VECS; // Vecs of one entry of the cache

// The positions first ..= last.
struct Seen {
    first: u32,
    last: u32,
}

// The first position after the sequence. Its entry would belong to a neighbour.
fn end_of(slot: KvSlot) -> u32 {
    return min(slot.prefix_len + params.own, params.max_length);
}

// The entry of position s. (slot.own - slot.prefix_len may wrap around; adding s wraps it back.)
fn entry_of(slot: KvSlot, s: u32) -> u32 {
    return select(slot.own - slot.prefix_len, slot.prefix_start, s < slot.prefix_len) + s;
}

// The positions that the token sees.
fn seen_by(slot: KvSlot) -> Seen {
    let last = min(slot.position, end_of(slot) - 1u);
#if WINDOWED
    return Seen(max(last + 1u, WINDOW) - WINDOW, last);
#else
    return Seen(0u, last);
#endif
}
