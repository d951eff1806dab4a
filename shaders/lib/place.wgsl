// Where the sequence of a token lies in a cache of keys and values, and what of it the token sees.
//
// A token's place is (own, position, prefix, prefix_len), four words. Position p of its sequence lies at prefix + p if p is
// below prefix_len, else at own + p - prefix_len: the chains of one prompt read its keys and values where they are and have
// room only for what they write themselves; a chain that continues its prompt alone has own = prefix + prefix_len.
//
// Whoever includes this has params.own, the positions that a token's own part holds, params.max_length, the positions of
// a whole sequence, and WINDOW.

// The first position that is not the sequence's any more: what lies behind it in the cache belongs to a neighbour.
fn end_of(at: vec4<u32>) -> u32 {
    return min(at.w + params.own, params.max_length);
}

// The cache's entry for position s. (at.x - at.w may wrap around; adding s wraps it back.)
fn entry_of(at: vec4<u32>, s: u32) -> u32 {
    return select(at.x - at.w, at.z, s < at.w) + s;
}

// The positions that the token sees: x ..= y.
fn seen_by(at: vec4<u32>) -> vec2<u32> {
    let last = min(at.y, end_of(at) - 1u);
#if WINDOWED
    return vec2<u32>(max(last + 1u, WINDOW) - WINDOW, last);
#else
    return vec2<u32>(0u, last);
#endif
}
