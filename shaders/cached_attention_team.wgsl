// Attention of new tokens over a cache of keys and values, on GPUs: the formulas, the cache and the contract of `attend` in
// cached_attention.wgsl.
//
// Reference  src/reference/attention.rs
// Contract   attend   out[T, heads, D] = attention of token t over the positions 0 ..= position of its sequence
// Grid       x: 8 tokens, y: heads; a workgroup is 8 teams of 8 threads, and a team has one (token, head).
// Why so     A thread with a whole query and its sum needs 2 · HEAD_DIM registers: with 64 it spills on some GPUs, with 256 on
//            all (docs/gpu-compilers.md). A thread of a team has every eighth Vec of both, and neighbours read neighbours. Eight
//            keys are scored at a time: each thread multiplies its part of all eight, and adds the parts of one. All teams walk
//            over the union of the positions that they see, because barriers are for all. The eights begin at multiples of 8, so
//            that no sum depends on another team.
//
// Names      P is the number of a Vec among those of the thread, J of a key among the eight, L of a thread in its team.

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
@group(0) @binding(3) var<storage, read> cache: array<Vec>;
@group(0) @binding(4) var<storage, read_write> out: array<Vec>; // [T, heads, D]

var<workgroup> parts: array<f32, 512>; // [team, key, thread of the team]
var<workgroup> scores: array<f32, 64>; // [team, key]

@compute @workgroup_size(64)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.y;
    let kv_head = head / GROUP_SIZE;
    let team = thread / 8u;
    let own = group.x * 8u + team;
    let t = min(own, params.tokens - 1u);
    let slot = slots[t];
    let seen = seen_by(slot);
#for P OWN_VECS
    let own{{P}} = {{P}}u * 8u + thread % 8u;
#if WHOLE
    let at{{P}} = own{{P}};
    let q{{P}} = qkv[t * STRIDE + head * VECS + at{{P}}] * params.scale;
#else
    // Past the end of the vector a thread multiplies by zeros.
    let at{{P}} = min(own{{P}}, VECS - 1u);
    let q{{P}} = select(Vec(), qkv[t * STRIDE + head * VECS + at{{P}}] * params.scale, own{{P}} < VECS);
#endif
    var sum{{P}} = Vec();
#end
    var begin = 0xffffffffu;
    var end = 0u;
    for (var i = group.x * 8u; i < min(group.x * 8u + 8u, params.tokens); i++) {
        let of_team = seen_by(slots[i]);
        begin = min(begin, of_team.first);
        end = max(end, of_team.last + 1u);
    }
    // One pass over the keys: online softmax, rescaled when a larger score comes.
    var max_score = -1e30;
    var denominator = 0.0;
    for (var s = begin / 8u * 8u; s < end; s += 8u) {
#for J 8
        let key{{J}} = entry_of(slot, clamp(s + {{J}}u, seen.first, seen.last)) * CACHED + kv_head * VECS;
        var part{{J}} = 0.0;
#for P OWN_VECS
        part{{J}} += dot(q{{P}}, cache[key{{J}} + at{{P}}]);
#end
        parts[(team * 8u + {{J}}u) * 8u + thread % 8u] = part{{J}};
#end
        workgroupBarrier();
        let own_key = s + thread % 8u;
        var score = 0.0;
#for L 8
        score += parts[thread * 8u + {{L}}u];
#end
        scores[thread] = select(-1e30, score, own_key >= seen.first && own_key <= seen.last);
        workgroupBarrier();
        var new_max = max_score;
#for J 8
        let score{{J}} = scores[team * 8u + {{J}}u];
        new_max = max(new_max, score{{J}});
#end
        let rescale = exp(max_score - new_max);
        max_score = new_max;
        denominator *= rescale;
#for P OWN_VECS
        sum{{P}} *= rescale;
#end
#for J 8
        let p{{J}} = select(0.0, exp(score{{J}} - new_max), s + {{J}}u >= seen.first && s + {{J}}u <= seen.last);
        denominator += p{{J}};
#for P OWN_VECS
        sum{{P}} += p{{J}} * cache[key{{J}} + KV_HEADS * VECS + at{{P}}];
#end
#end
    }
    if (own < params.tokens) {
#for P OWN_VECS
        if (own{{P}} < VECS) {
            out[(t * HEADS + head) * VECS + own{{P}}] = sum{{P}} / denominator;
        }
#end
    }
}
