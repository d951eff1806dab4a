// Where the sequence of a token lies in a cache of keys and values, and what of it the token sees.
//
// Position p of a token's sequence lies at prefix_start + p if p is below prefix_len, else at own + p - prefix_len: the
// chains of one prompt read its keys and values where they are and have room only for what they write themselves. A chain that
// continues its prompt alone has own = prefix_start + prefix_len.
//
// Whoever includes this has params.own, the positions that a token's own part holds, params.max_length, the positions of
// a whole sequence, and WINDOW.
#include "lib/kv_slot.wgsl"

struct Seen {
    first: u32,
    last: u32,
}

// The first position that is not the sequence's any more: what lies behind it in the cache belongs to a neighbour.
fn end_of(slot: KvSlot) -> u32 {
    return min(slot.prefix_len + params.own, params.max_length);
}

// The cache's entry for position s. (slot.own - slot.prefix_len may wrap around; adding s wraps it back.)
fn entry_of(slot: KvSlot, s: u32) -> u32 {
    return select(slot.own - slot.prefix_len, slot.prefix_start, s < slot.prefix_len) + s;
}

// The positions that the token sees: first ..= last.
fn seen_by(slot: KvSlot) -> Seen {
    let last = min(slot.position, end_of(slot) - 1u);
#if WINDOWED
    return Seen(max(last + 1u, WINDOW) - WINDOW, last);
#else
    return Seen(0u, last);
#endif
}
