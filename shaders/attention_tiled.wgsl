// Packed attention in tiles, for GPUs: mathematics, layout and contract of attention.wgsl (head_dim a multiple of 4).
//
// A *row* is one query head of one token: row r of a key/value head is head r % GROUP_SIZE of its group, token r / GROUP_SIZE.
// A workgroup owns 32 rows of one key/value head (backward_kv: 32 keys), so that all query heads of a group share what it
// loads, and the group's sums of dk and dv stay in its registers: no atomics, the same order in every run.
//
// Grid       x: tiles of 32 rows (backward_kv: of 32 keys), y: key/value heads; 8 x 16 threads, 2 rows by 4 columns each.
// Why so     The two sides of a product are staged in workgroup memory, 32 vectors of 32 values at a time, whatever head_dim
//            is: 2 x 4.5 KiB, and 4.5 KiB for the 32 x 32 weights between two products; 14.5 KiB of the 16 that WebGPU grants.
//            A load from there feeds 5 vec4 multiply-adds, where in attention.wgsl it feeds one; and head_dim values of the
//            sum are spread over 8 threads. Sums lie in an array over chunks of 32 values, in loops of head_dim / 32 rounds,
//            which compilers for GPUs unroll into registers; unrolled in the text they took minutes on SwiftShader.
//            Rows of a tile are padded to PITCH vec4s, and columns lie so that the threads of a product read from
//            different banks: thread x has columns 4x .. 4x + 3, and column 4x + j is kept in place 8j + x.
//            Which keys a tile walks (the union of what its tokens see) is computed from read-only spans by every thread
//            alike: browsers accept a barrier only in a loop whose bounds are provably the same for all.
#include "lib/spans.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // 1 / sqrt(head_dim)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Vec>;
@group(0) @binding(2) var<storage, read> spans: array<TokenSpan>; // [T]
#if forward
@group(0) @binding(3) var<storage, read_write> out: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>; // [T, heads]
#else
@group(0) @binding(3) var<storage, read> dout: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>; // [T, heads]
@group(0) @binding(5) var<storage, read_write> dqkv: array<Vec>;
#endif

const SIDE: u32 = 32u; // rows, and columns, of a tile
const DOWN: u32 = 16u; // thread y has rows y and y + DOWN
const THREADS: u32 = 8u * DOWN;
const WIDTH: u32 = 8u; // pieces of a vector that are staged at a time
const PITCH: u32 = 9u;

var<workgroup> left: array<Vec, 288>; // [SIDE, PITCH]: rows
var<workgroup> right: array<Vec, 288>; // columns
var<workgroup> weights: array<vec4<f32>, 288>; // [SIDE rows, PITCH]: 32 columns in order

// A thread's part of a 32 x 32 tile: of each of its rows, four columns or one piece.
struct Block {
#for I 2
    r{{I}}: vec4<f32>,
#end
}

const QUERY: u32 = 0u;
const KEY: u32 = 1u;
const VALUE: u32 = 2u;
const GIVEN: u32 = 3u; // dout

// A piece of a row's query or dout, or of a key or value; zeros past the end of the vector.
fn fetch(what: u32, index: u32, kv_head: u32, piece: u32) -> Vec {
    if (piece >= VECS) {
        return Vec();
    }
    if (what == KEY) {
        return qkv[key_at(index, kv_head) + piece];
    }
    if (what == VALUE) {
        return qkv[value_at(index, kv_head) + piece];
    }
    let t = index / GROUP_SIZE;
    let head = kv_head * GROUP_SIZE + index % GROUP_SIZE;
#if !forward
    if (what == GIVEN) {
        return dout[(t * HEADS + head) * VECS + piece];
    }
#endif
    return qkv[query_at(t, head) + piece];
}

// Pieces WIDTH · chunk … of the vectors first …; behind `last` comes the last one again, which counts nowhere.
fn stage_left(what: u32, first: u32, last: u32, kv_head: u32, chunk: u32, thread: u32) {
    for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
        let place = i / WIDTH;
        left[place * PITCH + i % WIDTH] = fetch(what, min(first + place, last), kv_head, chunk * WIDTH + i % WIDTH);
    }
}

fn stage_right(what: u32, first: u32, last: u32, kv_head: u32, chunk: u32, thread: u32) {
    for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
        let place = i / WIDTH;
        let column = place % 8u * 4u + place / 8u;
        right[place * PITCH + i % WIDTH] = fetch(what, min(first + column, last), kv_head, chunk * WIDTH + i % WIDTH);
    }
}

// left · rightᵀ over whole vectors.
fn products(rows: u32, row: u32, last_row: u32, columns: u32, column: u32, last_column: u32, kv_head: u32, thread: u32) -> Block {
    let x = thread % 8u;
    let y = thread / 8u;
    var sum = Block();
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        workgroupBarrier();
        stage_left(rows, row, last_row, kv_head, chunk, thread);
        stage_right(columns, column, last_column, kv_head, chunk, thread);
        workgroupBarrier();
        for (var p = 0u; p < WIDTH; p++) {
#for J 4
            let b{{J}} = right[({{J}}u * 8u + x) * PITCH + p];
#end
#for I 2
            let a{{I}} = left[({{I}}u * DOWN + y) * PITCH + p];
            sum.r{{I}} += vec4<f32>(dot(a{{I}}, b0), dot(a{{I}}, b1), dot(a{{I}}, b2), dot(a{{I}}, b3));
#end
        }
    }
    return sum;
}

// weights · columns for one chunk of pieces: of each of the thread's rows, piece x.
fn weighted(columns: u32, column: u32, last_column: u32, kv_head: u32, chunk: u32, thread: u32) -> Block {
    let x = thread % 8u;
    let y = thread / 8u;
    workgroupBarrier();
    stage_right(columns, column, last_column, kv_head, chunk, thread);
    workgroupBarrier();
    var sum = Block();
    for (var j = 0u; j < 8u; j++) {
#for J 4
        let b{{J}} = right[({{J}}u * 8u + j) * PITCH + x];
#end
#for I 2
        let w{{I}} = weights[({{I}}u * DOWN + y) * PITCH + j];
        sum.r{{I}} += w{{I}}.x * b0 + w{{I}}.y * b1 + w{{I}}.z * b2 + w{{I}}.w * b3;
#end
    }
    return sum;
}

#if backward_kv
// One past the last token that sees any of the keys first ..= last.
fn last_query(first: u32, last: u32) -> u32 {
    var end = 0u;
    for (var s = first; s <= last; s++) {
        end = max(end, spans[s].query_end);
    }
    return end;
}

@compute @workgroup_size(8, 16)
fn backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let kv_head = group.y;
    let first = group.x * SIDE;
    let x = thread % 8u;
    let y = thread / 8u;
    let end = last_query(first, min(first + SIDE, params.tokens) - 1u);
#for I 2
    let own{{I}} = first + {{I}}u * DOWN + y;
    let s{{I}} = min(own{{I}}, params.tokens - 1u);
    let end{{I}} = spans[s{{I}}].query_end;
#end
    var dk: array<Block, CHUNKS>;
    var dv: array<Block, CHUNKS>;
    let last = end * GROUP_SIZE - 1u;
    for (var row = first * GROUP_SIZE; row <= last; row += SIDE) {
        let score = products(KEY, first, params.tokens - 1u, QUERY, row, last, kv_head, thread);
        let dp = products(VALUE, first, params.tokens - 1u, GIVEN, row, last, kv_head, thread);
#for J 4
        let r{{J}} = row + 4u * x + {{J}}u;
        let t{{J}} = min(r{{J}}, last) / GROUP_SIZE;
        let stat{{J}} = stats[t{{J}} * HEADS + kv_head * GROUP_SIZE + min(r{{J}}, last) % GROUP_SIZE];
#if WINDOWED
        let span{{J}} = spans[t{{J}}];
#endif
#end
#for I 2
        var p{{I}} = vec4<f32>();
        var ds{{I}} = vec4<f32>();
#for J 4
#if WINDOWED
        let seen{{I}}{{J}} = r{{J}} <= last && t{{J}} >= s{{I}} && t{{J}} < end{{I}} && !hidden(s{{I}}, max(t{{J}}, s{{I}}), span{{J}});
#else
        let seen{{I}}{{J}} = r{{J}} <= last && t{{J}} >= s{{I}} && t{{J}} < end{{I}};
#endif
        p{{I}}[{{J}}] = select(0.0, exp(min(score.r{{I}}[{{J}}] * params.scale - stat{{J}}.x, 0.0)), seen{{I}}{{J}});
        ds{{I}}[{{J}}] = p{{I}}[{{J}}] * (dp.r{{I}}[{{J}}] - stat{{J}}.y);
#end
#end
        // The products above began with barriers: nobody reads the weights of the round before.
#for I 2
        weights[({{I}}u * DOWN + y) * PITCH + x] = p{{I}};
#end
        for (var c = 0u; c < CHUNKS; c++) {
            let more = weighted(GIVEN, row, last, kv_head, c, thread);
#for I 2
            dv[c].r{{I}} += more.r{{I}};
#end
        }
        workgroupBarrier();
#for I 2
        weights[({{I}}u * DOWN + y) * PITCH + x] = ds{{I}};
#end
        for (var c = 0u; c < CHUNKS; c++) {
            let more = weighted(QUERY, row, last, kv_head, c, thread);
#for I 2
            dk[c].r{{I}} += more.r{{I}};
#end
        }
    }
    for (var c = 0u; c * WIDTH + x < VECS; c++) {
#for I 2
        if (own{{I}} < params.tokens) {
            dqkv[key_at(s{{I}}, kv_head) + c * WIDTH + x] = dk[c].r{{I}} * params.scale;
            dqkv[value_at(s{{I}}, kv_head) + c * WIDTH + x] = dv[c].r{{I}};
        }
#end
    }
}
#else
// The union of what tokens first ..= last see of one part.
fn tile_union(first: u32, last: u32, part: u32) -> Run {
    var all = Run(0xffffffffu, 0u);
    for (var t = first; t <= last; t++) {
        let run = visible(t, spans[t], part);
        let empty = run.start >= run.end;
        all.start = min(all.start, select(run.start, 0xffffffffu, empty));
        all.end = max(all.end, select(run.end, 0u, empty));
    }
    return all;
}

// Which of the four keys s … lie in the run.
fn inside(s: u32, run: Run) -> vec4<bool> {
    let keys = vec4<u32>(s, s + 1u, s + 2u, s + 3u);
    return (keys >= vec4<u32>(run.start)) & (keys < vec4<u32>(run.end));
}
#endif

#if forward
// Per row, a number of each of its 8 threads.
var<workgroup> shares: array<f32, 256>;

@compute @workgroup_size(8, 16)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let kv_head = group.y;
    let first = group.x * SIDE;
    let last = params.tokens * GROUP_SIZE - 1u;
    let x = thread % 8u;
    let y = thread / 8u;
#for I 2
    let own{{I}} = first + {{I}}u * DOWN + y;
    let t{{I}} = min(own{{I}}, last) / GROUP_SIZE;
    let span{{I}} = spans[t{{I}}];
    var max_score{{I}} = -1e30;
    var denominator{{I}} = 0.0; // of this thread's columns
#end
    var sum: array<Block, CHUNKS>;
    for (var part = 0u; part < 2u; part++) {
        let all = tile_union(first / GROUP_SIZE, min(first + SIDE - 1u, last) / GROUP_SIZE, part);
#for I 2
        let run{{I}} = visible(t{{I}}, span{{I}}, part);
#end
        for (var s = all.start; s < all.end; s += SIDE) {
            let score = products(QUERY, first, last, KEY, s, all.end - 1u, kv_head, thread);
#for I 2
            let seen{{I}} = inside(s + 4u * x, run{{I}});
            let score{{I}} = select(vec4<f32>(-1e30), score.r{{I}} * params.scale, seen{{I}});
            shares[({{I}}u * DOWN + y) * 8u + x] = max(max(score{{I}}.x, score{{I}}.y), max(score{{I}}.z, score{{I}}.w));
#end
            workgroupBarrier();
#for I 2
            var new_max{{I}} = max_score{{I}};
#for K 8
            new_max{{I}} = max(new_max{{I}}, shares[({{I}}u * DOWN + y) * 8u + {{K}}u]);
#end
            let rescale{{I}} = exp(max_score{{I}} - new_max{{I}});
            max_score{{I}} = new_max{{I}};
            let p{{I}} = select(vec4<f32>(), exp(score{{I}} - new_max{{I}}), seen{{I}});
            denominator{{I}} = denominator{{I}} * rescale{{I}} + (p{{I}}.x + p{{I}}.y) + (p{{I}}.z + p{{I}}.w);
            weights[({{I}}u * DOWN + y) * PITCH + x] = p{{I}};
#end
            for (var c = 0u; c < CHUNKS; c++) {
                let more = weighted(VALUE, s, all.end - 1u, kv_head, c, thread);
#for I 2
                sum[c].r{{I}} = sum[c].r{{I}} * rescale{{I}} + more.r{{I}};
#end
            }
        }
    }
    workgroupBarrier();
#for I 2
    shares[({{I}}u * DOWN + y) * 8u + x] = denominator{{I}};
#end
    workgroupBarrier();
#for I 2
    var total{{I}} = 0.0;
#for K 8
    total{{I}} += shares[({{I}}u * DOWN + y) * 8u + {{K}}u];
#end
    if (own{{I}} <= last) {
        let head = kv_head * GROUP_SIZE + own{{I}} % GROUP_SIZE;
        let at = (t{{I}} * HEADS + head) * VECS;
        for (var c = 0u; c * WIDTH + x < VECS; c++) {
            out[at + c * WIDTH + x] = sum[c].r{{I}} / total{{I}};
        }
        if (x == 0u) {
            stats[t{{I}} * HEADS + head] = vec2<f32>(max_score{{I}} + log(total{{I}}), 0.0);
        }
    }
#end
}
#endif

#if backward_q
@compute @workgroup_size(8, 16)
fn backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let kv_head = group.y;
    let first = group.x * SIDE;
    let last = params.tokens * GROUP_SIZE - 1u;
    let x = thread % 8u;
    let y = thread / 8u;
#for I 2
    let own{{I}} = first + {{I}}u * DOWN + y;
    let t{{I}} = min(own{{I}}, last) / GROUP_SIZE;
    let head{{I}} = kv_head * GROUP_SIZE + min(own{{I}}, last) % GROUP_SIZE;
    let span{{I}} = spans[t{{I}}];
    let stat{{I}} = stats[t{{I}} * HEADS + head{{I}}];
#end
    var sum: array<Block, CHUNKS>;
    for (var part = 0u; part < 2u; part++) {
        let all = tile_union(first / GROUP_SIZE, min(first + SIDE - 1u, last) / GROUP_SIZE, part);
#for I 2
        let run{{I}} = visible(t{{I}}, span{{I}}, part);
#end
        for (var s = all.start; s < all.end; s += SIDE) {
            let score = products(QUERY, first, last, KEY, s, all.end - 1u, kv_head, thread);
            let dp = products(GIVEN, first, last, VALUE, s, all.end - 1u, kv_head, thread);
            // Those began with barriers: nobody reads the weights of the round before.
#for I 2
            let p{{I}} = exp(min(score.r{{I}} * params.scale - stat{{I}}.x, vec4<f32>()));
            let ds{{I}} = select(vec4<f32>(), p{{I}} * (dp.r{{I}} - stat{{I}}.y), inside(s + 4u * x, run{{I}}));
            weights[({{I}}u * DOWN + y) * PITCH + x] = ds{{I}};
#end
            for (var c = 0u; c < CHUNKS; c++) {
                let more = weighted(KEY, s, all.end - 1u, kv_head, c, thread);
#for I 2
                sum[c].r{{I}} += more.r{{I}};
#end
            }
        }
    }
#for I 2
    if (own{{I}} <= last) {
        for (var c = 0u; c * WIDTH + x < VECS; c++) {
            dqkv[query_at(t{{I}}, head{{I}}) + c * WIDTH + x] = sum[c].r{{I}} * params.scale;
        }
    }
#end
}
#endif
