// Packed attention in tiles, for GPUs: the formulas, the layout and the contract of attention.wgsl. head_dim is a multiple of 4.
//
// A *row* is one query head of one token: row r of a key/value head is head r % GROUP_SIZE of its group, token r / GROUP_SIZE.
// A workgroup owns 16 ROWS rows of one key/value head (in backward_kv keys), so that all query heads of a group share what it
// loads, and the sums of dk and dv over the group stay in its registers: no atomics, and the same order in every run.
//
// Reference  src/reference/attention.rs
// Grid       x: tiles of 16 ROWS rows (backward_kv: keys), y: key/value heads; 8 x 16 threads, each with ROWS rows, 4 columns.
// Why so     The two sides of a product are staged in workgroup memory, 32 vectors of 32 values at a time, whatever head_dim is.
//            With two rows a thread that takes 2 x 4.5 KiB, and the 32 x 32 weights between two products take 4.5 KiB and 1 KiB
//            more: 14.5 KiB of the 16 that WebGPU grants. A load from workgroup memory feeds 5 vec4 multiply-adds, where in
//            attention.wgsl it feeds one, and the head_dim values of a sum are spread over 8 threads.
//            A thread keeps head_dim / 8 sums of each row, in backward_kv twice that. Where Adreno and Apple M1 have no registers
//            for two rows, it takes one: 1.7 times as many loads for a multiply-add, and no spills (src/ops/attention.rs).
//            Sums are arrays over chunks of 32 values, in loops of head_dim / 32 iterations, which compilers for GPUs unroll into
//            registers. Unrolled in the text they took SwiftShader minutes to compile.
//            Rows of a staged tile are padded to PITCH vec4s, and columns are staged in an order in which the threads of a
//            product read from different banks: thread x has columns 4x .. 4x + 3, and column 4x + j is staged as number 8j + x.
//            Every thread computes from read-only spans which keys a tile needs (the union of what its tokens see): browsers
//            accept a barrier in a loop only if its bounds are provably the same for all threads.
#include "lib/spans.wgsl"

struct Params {
    tokens: u32,
    scale: f32, // normally 1 / sqrt(head_dim)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Vec>;
@group(0) @binding(2) var<storage, read> spans: array<TokenSpan>; // [T]
#if forward
@group(0) @binding(3) var<storage, read_write> out: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)
#else
@group(0) @binding(3) var<storage, read> dout: array<Vec>; // [T, heads, D]
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>; // [T, heads]: (lse, delta)
@group(0) @binding(5) var<storage, read_write> dqkv: array<Vec>;
#endif

const THREADS_Y: u32 = 16u; // thread (x, y) has row y and, with ROWS = 2, row y + THREADS_Y
const THREADS: u32 = 8u * THREADS_Y;
const TILE: u32 = ROWS * THREADS_Y; // rows of a tile
const COLUMNS: u32 = 32u; // of a tile
const CHUNK_VECS: u32 = 8u; // vec4s of a vector that are staged at a time
const PITCH: u32 = 9u;

var<workgroup> left: array<Vec, TILE * PITCH>; // [TILE, PITCH]: rows
var<workgroup> right: array<Vec, COLUMNS * PITCH>; // [COLUMNS, PITCH]: columns
var<workgroup> weights: array<vec4<f32>, TILE * PITCH>; // [TILE, PITCH]: of each row, 32 columns in order

// A thread's part of a tile: of each of its rows, four columns (of a product) or one vec4 (of a weighted sum).
struct Block {
#for I ROWS
    r{{I}}: vec4<f32>,
#end
}

const QUERY: u32 = 0u;
const KEY: u32 = 1u;
const VALUE: u32 = 2u;
const DOUT: u32 = 3u;

// The vectors of one side of a product, of this kind, from number `first` on. The number of a query or dout is its row, the
// number of a key or value its token. Vectors past `last` repeat vector `last`, and their results are discarded.
struct Vectors {
    kind: u32,
    first: u32,
    last: u32,
}

// Vec number `v` of a vector; zeros past its end.
fn fetch(kind: u32, index: u32, kv_head: u32, v: u32) -> Vec {
    if (v >= VECS) {
        return Vec();
    }
    if (kind == KEY) {
        return qkv[key_at(index, kv_head) + v];
    }
    if (kind == VALUE) {
        return qkv[value_at(index, kv_head) + v];
    }
    let t = index / GROUP_SIZE;
    let head = kv_head * GROUP_SIZE + index % GROUP_SIZE;
#if !forward
    if (kind == DOUT) {
        return dout[(t * HEADS + head) * VECS + v];
    }
#endif
    return qkv[query_at(t, head) + v];
}

// Stages one chunk of each of the vectors: vec4s [CHUNK_VECS · chunk, CHUNK_VECS · (chunk + 1)).
fn stage_left(rows: Vectors, kv_head: u32, chunk: u32, thread: u32) {
    for (var i = thread; i < TILE * CHUNK_VECS; i += THREADS) {
        let row = i / CHUNK_VECS;
        let v = chunk * CHUNK_VECS + i % CHUNK_VECS;
        left[row * PITCH + i % CHUNK_VECS] = fetch(rows.kind, min(rows.first + row, rows.last), kv_head, v);
    }
}

fn stage_right(columns: Vectors, kv_head: u32, chunk: u32, thread: u32) {
    for (var i = thread; i < COLUMNS * CHUNK_VECS; i += THREADS) {
        let number = i / CHUNK_VECS;
        let column = number % 8u * 4u + number / 8u;
        let v = chunk * CHUNK_VECS + i % CHUNK_VECS;
        right[number * PITCH + i % CHUNK_VECS] = fetch(columns.kind, min(columns.first + column, columns.last), kv_head, v);
    }
}

// The dot product of each row with each column.
fn products(rows: Vectors, columns: Vectors, kv_head: u32, thread: u32) -> Block {
    let x = thread % 8u;
    let y = thread / 8u;
    var sum = Block();
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        workgroupBarrier();
        stage_left(rows, kv_head, chunk, thread);
        stage_right(columns, kv_head, chunk, thread);
        workgroupBarrier();
        for (var p = 0u; p < CHUNK_VECS; p++) {
#for J 4
            let b{{J}} = right[({{J}}u * 8u + x) * PITCH + p];
#end
#for I ROWS
            let a{{I}} = left[({{I}}u * THREADS_Y + y) * PITCH + p];
            sum.r{{I}} += vec4<f32>(dot(a{{I}}, b0), dot(a{{I}}, b1), dot(a{{I}}, b2), dot(a{{I}}, b3));
#end
        }
    }
    return sum;
}

// One chunk of weights · columns: of each of the thread's rows, vec4 x.
fn weighted_sum(columns: Vectors, kv_head: u32, chunk: u32, thread: u32) -> Block {
    let x = thread % 8u;
    let y = thread / 8u;
    workgroupBarrier();
    stage_right(columns, kv_head, chunk, thread);
    workgroupBarrier();
    var sum = Block();
    for (var j = 0u; j < 8u; j++) {
#for J 4
        let b{{J}} = right[({{J}}u * 8u + j) * PITCH + x];
#end
#for I ROWS
        let w{{I}} = weights[({{I}}u * THREADS_Y + y) * PITCH + j];
        sum.r{{I}} += w{{I}}.x * b0 + w{{I}}.y * b1 + w{{I}}.z * b2 + w{{I}}.w * b3;
#end
    }
    return sum;
}

#if backward_kv
// The end of the tokens that see any of the keys first ..= last.
fn query_end_of(first: u32, last: u32) -> u32 {
    var end = 0u;
    for (var s = first; s <= last; s++) {
        end = max(end, spans[s].query_end);
    }
    return end;
}

@compute @workgroup_size(8, 16)
fn backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let kv_head = group.y;
    let first = group.x * TILE;
    let x = thread % 8u;
    let y = thread / 8u;
    let end = query_end_of(first, min(first + TILE, params.tokens) - 1u);
#for I ROWS
    let own{{I}} = first + {{I}}u * THREADS_Y + y;
    let s{{I}} = min(own{{I}}, params.tokens - 1u);
    let end{{I}} = spans[s{{I}}].query_end;
#end
    var dk: array<Block, CHUNKS>;
    var dv: array<Block, CHUNKS>;
    // forward: score = q·k / √D, p = exp(score - lse), out = Σ p v
    // One pass over the queries that see any of the keys, 32 rows at a time.
    let last = end * GROUP_SIZE - 1u;
    for (var row = first * GROUP_SIZE; row <= last; row += COLUMNS) {
        let queries = Vectors(QUERY, row, last);
        let douts = Vectors(DOUT, row, last);
        let score = products(Vectors(KEY, first, params.tokens - 1u), queries, kv_head, thread);
        let dp = products(Vectors(VALUE, first, params.tokens - 1u), douts, kv_head, thread);
#for J 4
        let r{{J}} = row + 4u * x + {{J}}u;
        let t{{J}} = min(r{{J}}, last) / GROUP_SIZE;
        let stat{{J}} = stats[t{{J}} * HEADS + kv_head * GROUP_SIZE + min(r{{J}}, last) % GROUP_SIZE];
        let lse{{J}} = stat{{J}}.x;
        let delta{{J}} = stat{{J}}.y;
#if WINDOWED
        let span{{J}} = spans[t{{J}}];
#endif
#end
#for I ROWS
        var p{{I}} = vec4<f32>();
        var ds{{I}} = vec4<f32>();
#for J 4
#if WINDOWED
        let seen{{I}}{{J}} = r{{J}} <= last && t{{J}} >= s{{I}} && t{{J}} < end{{I}} && !hidden(s{{I}}, max(t{{J}}, s{{I}}), span{{J}});
#else
        let seen{{I}}{{J}} = r{{J}} <= last && t{{J}} >= s{{I}} && t{{J}} < end{{I}};
#endif
        p{{I}}[{{J}}] = select(0.0, exp(min(score.r{{I}}[{{J}}] * params.scale - lse{{J}}, 0.0)), seen{{I}}{{J}});
        ds{{I}}[{{J}}] = p{{I}}[{{J}}] * (dp.r{{I}}[{{J}}] - delta{{J}});
#end
#end
        // The products above began with barriers: no thread reads the weights of the last iteration any more.
#for I ROWS
        weights[({{I}}u * THREADS_Y + y) * PITCH + x] = p{{I}};
#end
        for (var c = 0u; c < CHUNKS; c++) {
            let product = weighted_sum(douts, kv_head, c, thread);
#for I ROWS
            dv[c].r{{I}} += product.r{{I}};
#end
        }
        workgroupBarrier();
#for I ROWS
        weights[({{I}}u * THREADS_Y + y) * PITCH + x] = ds{{I}};
#end
        for (var c = 0u; c < CHUNKS; c++) {
            let product = weighted_sum(queries, kv_head, c, thread);
#for I ROWS
            dk[c].r{{I}} += product.r{{I}};
#end
        }
    }
    for (var c = 0u; c * CHUNK_VECS + x < VECS; c++) {
#for I ROWS
        if (own{{I}} < params.tokens) {
            dqkv[key_at(s{{I}}, kv_head) + c * CHUNK_VECS + x] = dk[c].r{{I}} * params.scale;
            dqkv[value_at(s{{I}}, kv_head) + c * CHUNK_VECS + x] = dv[c].r{{I}};
        }
#end
    }
}
#else
// The union of the keys that the tokens first ..= last see in one part.
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

// Which of the keys s .. s + 4 are in the run.
fn inside(s: u32, run: Run) -> vec4<bool> {
    let keys = vec4<u32>(s, s + 1u, s + 2u, s + 3u);
    return (keys >= vec4<u32>(run.start)) & (keys < vec4<u32>(run.end));
}
#endif

#if forward
// [TILE, 8]: of each row, a number of each of its 8 threads.
var<workgroup> row_values: array<f32, TILE * 8u>;

@compute @workgroup_size(8, 16)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let kv_head = group.y;
    let first = group.x * TILE;
    let last = params.tokens * GROUP_SIZE - 1u;
    let x = thread % 8u;
    let y = thread / 8u;
#for I ROWS
    let own{{I}} = first + {{I}}u * THREADS_Y + y;
    let t{{I}} = min(own{{I}}, last) / GROUP_SIZE;
    let span{{I}} = spans[t{{I}}];
    var max_score{{I}} = -1e30;
    var denominator{{I}} = 0.0; // of this thread's columns
#end
    // One pass over the keys, of the shared prefix, then of the own sequences, 32 at a time: online softmax.
    var sum: array<Block, CHUNKS>;
    for (var part = 0u; part < 2u; part++) {
        let all = tile_union(first / GROUP_SIZE, min(first + TILE - 1u, last) / GROUP_SIZE, part);
#for I ROWS
        let run{{I}} = visible(t{{I}}, span{{I}}, part);
#end
        for (var s = all.start; s < all.end; s += COLUMNS) {
            let score = products(Vectors(QUERY, first, last), Vectors(KEY, s, all.end - 1u), kv_head, thread);
#for I ROWS
            let seen{{I}} = inside(s + 4u * x, run{{I}});
            let score{{I}} = select(vec4<f32>(-1e30), score.r{{I}} * params.scale, seen{{I}});
            row_values[({{I}}u * THREADS_Y + y) * 8u + x] = max(max(score{{I}}.x, score{{I}}.y), max(score{{I}}.z, score{{I}}.w));
#end
            workgroupBarrier();
#for I ROWS
            var new_max{{I}} = max_score{{I}};
#for K 8
            new_max{{I}} = max(new_max{{I}}, row_values[({{I}}u * THREADS_Y + y) * 8u + {{K}}u]);
#end
            let rescale{{I}} = exp(max_score{{I}} - new_max{{I}});
            max_score{{I}} = new_max{{I}};
            let p{{I}} = select(vec4<f32>(), exp(score{{I}} - new_max{{I}}), seen{{I}});
            denominator{{I}} = denominator{{I}} * rescale{{I}} + (p{{I}}.x + p{{I}}.y) + (p{{I}}.z + p{{I}}.w);
            weights[({{I}}u * THREADS_Y + y) * PITCH + x] = p{{I}};
#end
            for (var c = 0u; c < CHUNKS; c++) {
                let product = weighted_sum(Vectors(VALUE, s, all.end - 1u), kv_head, c, thread);
#for I ROWS
                sum[c].r{{I}} = sum[c].r{{I}} * rescale{{I}} + product.r{{I}};
#end
            }
        }
    }
    // The denominators of the rows, from those of their threads.
    workgroupBarrier();
#for I ROWS
    row_values[({{I}}u * THREADS_Y + y) * 8u + x] = denominator{{I}};
#end
    workgroupBarrier();
#for I ROWS
    var row_denominator{{I}} = 0.0;
#for K 8
    row_denominator{{I}} += row_values[({{I}}u * THREADS_Y + y) * 8u + {{K}}u];
#end
    if (own{{I}} <= last) {
        let head = kv_head * GROUP_SIZE + own{{I}} % GROUP_SIZE;
        let at = (t{{I}} * HEADS + head) * VECS;
        for (var c = 0u; c * CHUNK_VECS + x < VECS; c++) {
            out[at + c * CHUNK_VECS + x] = sum[c].r{{I}} / row_denominator{{I}};
        }
        if (x == 0u) {
            stats[t{{I}} * HEADS + head] = vec2<f32>(max_score{{I}} + log(row_denominator{{I}}), 0.0);
        }
    }
#end
}
#endif

#if backward_q
@compute @workgroup_size(8, 16)
fn backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let kv_head = group.y;
    let first = group.x * TILE;
    let last = params.tokens * GROUP_SIZE - 1u;
    let x = thread % 8u;
    let y = thread / 8u;
#for I ROWS
    let own{{I}} = first + {{I}}u * THREADS_Y + y;
    let t{{I}} = min(own{{I}}, last) / GROUP_SIZE;
    let head{{I}} = kv_head * GROUP_SIZE + min(own{{I}}, last) % GROUP_SIZE;
    let span{{I}} = spans[t{{I}}];
    let stat{{I}} = stats[t{{I}} * HEADS + head{{I}}];
    let lse{{I}} = stat{{I}}.x;
    let delta{{I}} = stat{{I}}.y;
#end
    // forward: score = q·k / √D, p = exp(score - lse), out = Σ p v
    // One pass over the keys, of the shared prefix, then of the own sequences, 32 at a time.
    var dq: array<Block, CHUNKS>;
    for (var part = 0u; part < 2u; part++) {
        let all = tile_union(first / GROUP_SIZE, min(first + TILE - 1u, last) / GROUP_SIZE, part);
#for I ROWS
        let run{{I}} = visible(t{{I}}, span{{I}}, part);
#end
        for (var s = all.start; s < all.end; s += COLUMNS) {
            let keys = Vectors(KEY, s, all.end - 1u);
            let score = products(Vectors(QUERY, first, last), keys, kv_head, thread);
            let dp = products(Vectors(DOUT, first, last), Vectors(VALUE, s, all.end - 1u), kv_head, thread);
            // The products above began with barriers: no thread reads the weights of the last iteration any more.
#for I ROWS
            let p{{I}} = exp(min(score.r{{I}} * params.scale - lse{{I}}, vec4<f32>()));
            let ds{{I}} = select(vec4<f32>(), p{{I}} * (dp.r{{I}} - delta{{I}}), inside(s + 4u * x, run{{I}}));
            weights[({{I}}u * THREADS_Y + y) * PITCH + x] = ds{{I}};
#end
            for (var c = 0u; c < CHUNKS; c++) {
                let product = weighted_sum(keys, kv_head, c, thread);
#for I ROWS
                dq[c].r{{I}} += product.r{{I}};
#end
            }
        }
    }
#for I ROWS
    if (own{{I}} <= last) {
        for (var c = 0u; c * CHUNK_VECS + x < VECS; c++) {
            dqkv[query_at(t{{I}}, head{{I}}) + c * CHUNK_VECS + x] = dq[c].r{{I}} * params.scale;
        }
    }
#end
}
#endif
