// Threefry-2x32, 20 rounds (Salmon et al., SC 2011): the same function, with the same known answers, as on the host.
//
// Reference  src/random.rs

fn rotate_left(x: u32, n: u32) -> u32 {
    return (x << n) | (x >> (32u - n));
}

fn threefry2x32(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    let parity = 0x1BD11BDAu ^ key.x ^ key.y;
    var x = counter + key;
    x = four_rounds(x, vec4<u32>(13u, 15u, 26u, 6u)) + vec2<u32>(key.y, parity + 1u);
    x = four_rounds(x, vec4<u32>(17u, 29u, 16u, 24u)) + vec2<u32>(parity, key.x + 2u);
    x = four_rounds(x, vec4<u32>(13u, 15u, 26u, 6u)) + vec2<u32>(key.x, key.y + 3u);
    x = four_rounds(x, vec4<u32>(17u, 29u, 16u, 24u)) + vec2<u32>(key.y, parity + 4u);
    x = four_rounds(x, vec4<u32>(13u, 15u, 26u, 6u)) + vec2<u32>(parity, key.x + 5u);
    return x;
}

fn four_rounds(start: vec2<u32>, by: vec4<u32>) -> vec2<u32> {
    var x = start;
    x.x += x.y;
    x.y = rotate_left(x.y, by.x) ^ x.x;
    x.x += x.y;
    x.y = rotate_left(x.y, by.y) ^ x.x;
    x.x += x.y;
    x.y = rotate_left(x.y, by.z) ^ x.x;
    x.x += x.y;
    x.y = rotate_left(x.y, by.w) ^ x.x;
    return x;
}

// A uniform number in [0, 1) with 24 bits.
fn unit_float(bits: u32) -> f32 {
    return f32(bits >> 8u) * 5.9604644775390625e-8;
}

// For the tests only: one call per thread.
#if answers
struct Params {
    size: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> questions: array<vec4<u32>>; // key, counter
@group(0) @binding(2) var<storage, read_write> replies: array<vec2<u32>>;

@compute @workgroup_size(64)
fn answers(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.size) {
        replies[id.x] = threefry2x32(questions[id.x].xy, questions[id.x].zw);
    }
}
#endif
