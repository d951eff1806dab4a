// KvSlot of src/ops/cached_attention.rs: where the sequence of a token lies in the cache of keys and values, and the token's
// position in it. lib/kv_cache.wgsl explains the fields.
struct KvSlot {
    own: u32,
    position: u32,
    prefix_start: u32,
    prefix_len: u32,
}
