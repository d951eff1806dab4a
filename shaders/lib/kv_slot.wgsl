// Where the sequence of a token lies in a cache of keys and values, and where in it the token is (KvSlot in
// src/ops/cached_attention.rs). What it means is in kv_cache.wgsl.
struct KvSlot {
    own: u32,
    position: u32,
    prefix_start: u32,
    prefix_len: u32,
}
