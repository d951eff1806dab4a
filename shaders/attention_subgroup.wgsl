// Packed attention on CPU adapters with subgroups of 8 or 4 lanes: the formulas, the layout and the contract of attention.wgsl.
//
// Reference  src/reference/attention.rs
// Grid       x: LANES tokens, y: heads (key/value heads in backward_kv). A workgroup is one subgroup; a lane has one token.
// Why so     Neighbouring tokens see nearly the same keys, and on lavapipe a load costs the same for every lane, even of one
//            address. So the subgroup goes through the union of the keys that its lanes see, four keys at a time. The lanes load
//            the vectors of the four keys together, each vec4 once, and share them by subgroupBroadcast. A key that a lane does
//            not see has weight 0 there. Per key this takes an eighth of the loads, and the running softmax is rescaled once per
//            four keys.
// Names      J is the number of a key (in backward_kv of a query) among the four, P of a Vec in its vector, L of a load. Vec P of
//            vector J is number J · VECS + P; number n is in load n / LANES of lane n % LANES. LOADS = 4 VECS / LANES.
#include "lib/spans.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // normally 1 / sqrt(head_dim)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Vec>;
@group(0) @binding(2) var<storage, read> spans: array<TokenSpan>; // [T]

// The union of the keys that the lanes see.
fn subgroup_union(run: Run) -> Run {
    let empty = run.start >= run.end;
    return Run(subgroupMin(select(run.start, 0xffffffffu, empty)), subgroupMax(select(run.end, 0u, empty)));
}

#if forward
@group(0) @binding(3) var<storage, read_write> out: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let kv_head = head / GROUP_SIZE;
    let own = group.x * LANES + lane;
    let t = min(own, params.tokens - 1u);
    let span = spans[t];
#for P VECS
    let q{{P}} = qkv[query_at(t, head) + {{P}}u] * params.scale;
    var sum{{P}} = Vec();
#end
    var max_score = -1e30;
    var denominator = 0.0;
    // One pass over the keys, of the shared prefix, then of the own sequence: online softmax.
    for (var part = 0u; part < 2u; part++) {
        let run = visible(t, span, part);
        let all = subgroup_union(run);
        for (var s = all.start; s < all.end; s += 4u) {
            // Load four keys and values, a share per lane.
            var keys: array<Vec, LOADS>;
            var values: array<Vec, LOADS>;
#for L LOADS
            let at{{L}} = min(s + ({{L}}u * LANES + lane) / VECS, all.end - 1u);
            keys[{{L}}] = qkv[key_at(at{{L}}, kv_head) + ({{L}}u * LANES + lane) % VECS];
            values[{{L}}] = qkv[value_at(at{{L}}, kv_head) + ({{L}}u * LANES + lane) % VECS];
#end
#for J 4
            let seen{{J}} = s + {{J}}u >= run.start && s + {{J}}u < run.end;
            var score{{J}} = 0.0;
#for P VECS
            score{{J}} += dot(q{{P}}, {{BROADCAST}}(keys[({{J}}u * VECS + {{P}}u) / LANES], ({{J}}u * VECS + {{P}}u) % LANES));
#end
            score{{J}} = select(-1e30, score{{J}}, seen{{J}});
#end
            // Rescale the sums if a score is the largest so far.
            let new_max = max(max(max_score, max(score0, score1)), max(score2, score3));
            let rescale = exp(max_score - new_max);
            max_score = new_max;
            denominator *= rescale;
#for P VECS
            sum{{P}} *= rescale;
#end
#for J 4
            let p{{J}} = select(0.0, exp(score{{J}} - new_max), seen{{J}});
            denominator += p{{J}};
#for P VECS
            sum{{P}} += p{{J}} * {{BROADCAST}}(values[({{J}}u * VECS + {{P}}u) / LANES], ({{J}}u * VECS + {{P}}u) % LANES);
#end
#end
        }
    }
    if (own < params.tokens) {
        let at = (t * HEADS + head) * VECS;
#for P VECS
        out[at + {{P}}u] = sum{{P}} / denominator;
#end
        stats[t * HEADS + head] = vec2<f32>(max_score + log(denominator), 0.0);
    }
}
#endif

#if backward_q
@group(0) @binding(3) var<storage, read> dout: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)
@group(0) @binding(5) var<storage, read_write> dqkv: array<Vec>;

@compute @workgroup_size(LANES)
fn backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let kv_head = head / GROUP_SIZE;
    let own = group.x * LANES + lane;
    let t = min(own, params.tokens - 1u);
    let span = spans[t];
    let stat = stats[t * HEADS + head];
    let lse = stat.x;
    let delta = stat.y;
#for P VECS
    let q{{P}} = qkv[query_at(t, head) + {{P}}u] * params.scale;
    let do{{P}} = dout[(t * HEADS + head) * VECS + {{P}}u];
    var dq{{P}} = Vec();
#end
    // forward: score = q·k / √D, p = exp(score - lse), out = Σ p v
    // One pass over the keys, of the shared prefix, then of the own sequence.
    for (var part = 0u; part < 2u; part++) {
        let run = visible(t, span, part);
        let all = subgroup_union(run);
        for (var s = all.start; s < all.end; s += 4u) {
            // Load four keys and values, a share per lane.
            var keys: array<Vec, LOADS>;
            var values: array<Vec, LOADS>;
#for L LOADS
            let at{{L}} = min(s + ({{L}}u * LANES + lane) / VECS, all.end - 1u);
            keys[{{L}}] = qkv[key_at(at{{L}}, kv_head) + ({{L}}u * LANES + lane) % VECS];
            values[{{L}}] = qkv[value_at(at{{L}}, kv_head) + ({{L}}u * LANES + lane) % VECS];
#end
#for J 4
            let seen{{J}} = s + {{J}}u >= run.start && s + {{J}}u < run.end;
            var score{{J}} = 0.0;
            var dp{{J}} = 0.0;
#for P VECS
            let k{{J}}_{{P}} = {{BROADCAST}}(keys[({{J}}u * VECS + {{P}}u) / LANES], ({{J}}u * VECS + {{P}}u) % LANES);
            score{{J}} += dot(q{{P}}, k{{J}}_{{P}});
            dp{{J}} += dot(do{{P}}, {{BROADCAST}}(values[({{J}}u * VECS + {{P}}u) / LANES], ({{J}}u * VECS + {{P}}u) % LANES));
#end
            let ds{{J}} = select(0.0, exp(min(score{{J}} - lse, 0.0)) * (dp{{J}} - delta), seen{{J}});
#for P VECS
            dq{{P}} += ds{{J}} * k{{J}}_{{P}};
#end
#end
        }
    }
    if (own < params.tokens) {
#for P VECS
        dqkv[query_at(t, head) + {{P}}u] = dq{{P}} * params.scale;
#end
    }
}
#endif

#if backward_kv
@group(0) @binding(3) var<storage, read> dout: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)
@group(0) @binding(5) var<storage, read_write> dqkv: array<Vec>;

@compute @workgroup_size(LANES)
fn backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv_head = group.y;
    let own = group.x * LANES + lane;
    let s = min(own, params.tokens - 1u);
    let end = spans[s].query_end;
#for P VECS
    let k{{P}} = qkv[key_at(s, kv_head) + {{P}}u] * params.scale;
    let v{{P}} = qkv[value_at(s, kv_head) + {{P}}u];
    var dk{{P}} = Vec();
    var dv{{P}} = Vec();
#end
    // forward: score = q·k / √D, p = exp(score - lse), out = Σ p v
    // One pass over the queries that see any of the lanes' keys, and over the heads of the group.
    let last = subgroupMax(end);
    for (var t = subgroupMin(s); t < last; t += 4u) {
        // Lanes 0 to 3 hold the span and the statistics of the four queries.
        let query = min(t + lane % 4u, last - 1u);
#if WINDOWED
        let span = spans[query];
#endif
#for J 4
#if WINDOWED
        let span{{J}} = TokenSpan(
            {{BROADCAST}}(span.prefix_start, {{J}}u),
            {{BROADCAST}}(span.prefix_len, {{J}}u),
            {{BROADCAST}}(span.own_start, {{J}}u),
            {{BROADCAST}}(span.query_end, {{J}}u),
        );
        let seen{{J}} = t + {{J}}u >= s && t + {{J}}u < end && !hidden(s, max(t + {{J}}u, s), span{{J}});
#else
        let seen{{J}} = t + {{J}}u >= s && t + {{J}}u < end;
#endif
#end
        for (var head = kv_head * GROUP_SIZE; head < (kv_head + 1u) * GROUP_SIZE; head++) {
            let stat = stats[query * HEADS + head];
            // Load four queries and their dout, a share per lane.
            var queries: array<Vec, LOADS>;
            var douts: array<Vec, LOADS>;
#for L LOADS
            let at{{L}} = min(t + ({{L}}u * LANES + lane) / VECS, last - 1u);
            queries[{{L}}] = qkv[query_at(at{{L}}, head) + ({{L}}u * LANES + lane) % VECS];
            douts[{{L}}] = dout[(at{{L}} * HEADS + head) * VECS + ({{L}}u * LANES + lane) % VECS];
#end
#for J 4
            let stat{{J}} = {{BROADCAST}}(stat, {{J}}u);
            var score{{J}} = 0.0;
            var dp{{J}} = 0.0;
#for P VECS
            let q{{J}}_{{P}} = {{BROADCAST}}(queries[({{J}}u * VECS + {{P}}u) / LANES], ({{J}}u * VECS + {{P}}u) % LANES);
            let do{{J}}_{{P}} = {{BROADCAST}}(douts[({{J}}u * VECS + {{P}}u) / LANES], ({{J}}u * VECS + {{P}}u) % LANES);
            score{{J}} += dot(q{{J}}_{{P}}, k{{P}});
            dp{{J}} += dot(do{{J}}_{{P}}, v{{P}});
#end
            let p{{J}} = select(0.0, exp(min(score{{J}} - stat{{J}}.x, 0.0)), seen{{J}});
            let ds{{J}} = p{{J}} * (dp{{J}} - stat{{J}}.y);
#for P VECS
            dv{{P}} += p{{J}} * do{{J}}_{{P}};
            dk{{P}} += ds{{J}} * q{{J}}_{{P}};
#end
#end
        }
    }
    if (own < params.tokens) {
#for P VECS
        dqkv[key_at(s, kv_head) + {{P}}u] = dk{{P}} * params.scale;
        dqkv[value_at(s, kv_head) + {{P}}u] = dv{{P}};
#end
    }
}
#endif
