// What packed attention kernels share: the layout of qkv, and which keys a token sees (see attention.wgsl).
alias Piece = vec{{LANE_WIDTH}}<f32>;
const PIECES: u32 = {{PIECES}}u; // HEAD_DIM / LANE_WIDTH
const HEADS: u32 = {{HEADS}}u;
const KV_HEADS: u32 = {{KV_HEADS}}u;
const GROUP_SIZE: u32 = HEADS / KV_HEADS;
const STRIDE: u32 = (HEADS + 2u * KV_HEADS) * PIECES; // a token of qkv
const WINDOW: u32 = {{WINDOW}}u;

fn query_at(token: u32, head: u32) -> u32 {
    return token * STRIDE + head * PIECES;
}

fn key_at(token: u32, kv_head: u32) -> u32 {
    return token * STRIDE + (HEADS + kv_head) * PIECES;
}

fn value_at(token: u32, kv_head: u32) -> u32 {
    return token * STRIDE + (HEADS + KV_HEADS + kv_head) * PIECES;
}

#if WINDOWED
// First visible own key of token t.
fn own_from(t: u32, span: vec4<u32>) -> u32 {
    return max(span.z, max(t + 1u, WINDOW) - WINDOW);
}

// First visible key of the shared prefix: it lies (t - own_start) + (prefix_end - s) positions behind t.
fn prefix_from(t: u32, span: vec4<u32>) -> u32 {
    let reach = max(t - span.z + span.y + 1u, WINDOW) - WINDOW;
    return span.x + min(reach, span.y);
}

fn hidden(s: u32, t: u32, span: vec4<u32>) -> bool {
    if (s >= span.z) {
        return t - s >= WINDOW;
    }
    return (t - span.z) + span.y - (s - span.x) >= WINDOW;
}
#else
fn own_from(t: u32, span: vec4<u32>) -> u32 {
    return span.z;
}

fn prefix_from(t: u32, span: vec4<u32>) -> u32 {
    return span.x;
}
#endif

struct Run {
    start: u32,
    end: u32,
}

// What token t sees of its prefix (0) or of its own sequence (1).
fn visible(t: u32, span: vec4<u32>, part: u32) -> Run {
    if (part == 0u) {
        return Run(prefix_from(t, span), span.x + span.y);
    }
    return Run(own_from(t, span), t + 1u);
}
