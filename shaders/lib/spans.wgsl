// What packed attention kernels share: the layout of qkv, and which keys a token sees (see attention.wgsl).
alias Vec = vec{{VEC_WIDTH}}<f32>;
// VECS: HEAD_DIM / VEC_WIDTH
const GROUP_SIZE: u32 = HEADS / KV_HEADS;
const STRIDE: u32 = (HEADS + 2u * KV_HEADS) * VECS; // a token of qkv

// What a token sees, and until where it is seen (TokenSpan in src/ops/attention.rs).
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
// First visible own key of token t.
fn own_from(t: u32, span: TokenSpan) -> u32 {
    return max(span.own_start, max(t + 1u, WINDOW) - WINDOW);
}

// First visible key of the shared prefix: it lies (t - own_start) + (prefix_end - s) positions behind t.
fn prefix_from(t: u32, span: TokenSpan) -> u32 {
    let reach = max(t - span.own_start + span.prefix_len + 1u, WINDOW) - WINDOW;
    return span.prefix_start + min(reach, span.prefix_len);
}

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

struct Run {
    start: u32,
    end: u32,
}

// What token t sees of its prefix (0) or of its own sequence (1).
fn visible(t: u32, span: TokenSpan, part: u32) -> Run {
    if (part == 0u) {
        return Run(prefix_from(t, span), span.prefix_start + span.prefix_len);
    }
    return Run(own_from(t, span), t + 1u);
}
