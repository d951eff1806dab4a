// What the kernels of packed attention share: the layout of qkv, and the keys that a token sees (see attention.wgsl).
alias Vec = vec{{VEC_WIDTH}}<f32>;
// VECS: HEAD_DIM / VEC_WIDTH
const GROUP_SIZE: u32 = HEADS / KV_HEADS; // query heads per key/value head
const STRIDE: u32 = (HEADS + 2u * KV_HEADS) * VECS; // Vecs of one token in qkv

// TokenSpan of src/ops/attention.rs: the keys that a token sees, and the end of the queries that see it.
struct TokenSpan {
    prefix_start: u32,
    prefix_len: u32,
    own_start: u32,
    query_end: u32,
}

fn query_at(token: u32, head: u32) -> u32 {
    return token * STRIDE + head * VECS;
}

fn key_at(token: u32, kv_head: u32) -> u32 {
    return token * STRIDE + (HEADS + kv_head) * VECS;
}

fn value_at(token: u32, kv_head: u32) -> u32 {
    return token * STRIDE + (HEADS + KV_HEADS + kv_head) * VECS;
}

#if WINDOWED
// The first key of its own sequence that token t sees.
fn own_from(t: u32, span: TokenSpan) -> u32 {
    return max(span.own_start, max(t + 1u, WINDOW) - WINDOW);
}

// The first key of the shared prefix that token t sees. Key s of the prefix is (t - own_start) + (prefix_end - s) positions
// before t.
fn prefix_from(t: u32, span: TokenSpan) -> u32 {
    let reach = max(t - span.own_start + span.prefix_len + 1u, WINDOW) - WINDOW;
    return span.prefix_start + min(reach, span.prefix_len);
}

// Whether the window hides key s from token t.
fn hidden(s: u32, t: u32, span: TokenSpan) -> bool {
    if (s >= span.own_start) {
        return t - s >= WINDOW;
    }
    return (t - span.own_start) + span.prefix_len - (s - span.prefix_start) >= WINDOW;
}
#else
fn own_from(t: u32, span: TokenSpan) -> u32 {
    return span.own_start;
}

fn prefix_from(t: u32, span: TokenSpan) -> u32 {
    return span.prefix_start;
}
#endif

// The keys start .. end.
struct Run {
    start: u32,
    end: u32,
}

// The keys that token t sees in its prefix (part 0) or in its own sequence (part 1).
fn visible(t: u32, span: TokenSpan, part: u32) -> Run {
    if (part == 0u) {
        return Run(prefix_from(t, span), span.prefix_start + span.prefix_len);
    }
    return Run(own_from(t, span), t + 1u);
}
