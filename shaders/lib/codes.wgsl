// Eight neighbours in a row of a packed matrix (src/ops/matrix.rs) as floats: quad0 has the first four, quad1 the others.
//
//   Q8, Q4      codes in two's complement, the first in the lowest bits; what is meant is the code times its block's scale.
//               A shift brings a code to the top of its word, another back down, and its sign with it: every WGSL has
//               shifts, where unpack4xI8 is an extension.
//   BF16, F16   two values a word, the first in the low half, without scales. A bf16 is the upper half of an f32. An f16
//               is moved to where an f32 has its sign, exponent and fraction, and scaled by the difference of the biases;
//               a device that flushes subnormal numbers reads those of f16 (below 2^-14) as 0. unpack2x16float would do
//               the same, but llvmpipe has it only where it has 16-bit arithmetic.
//
// Eight is how they lie, eight0 … the EIGHTS of them that a vec4 of words holds.

#if Q8
alias Eight = vec2<u32>;

fn eight0(words: vec4<u32>) -> Eight {
    return words.xy;
}

fn eight1(words: vec4<u32>) -> Eight {
    return words.zw;
}

fn codes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

fn quad0(e: Eight) -> vec4<f32> {
    return codes(e.x);
}

fn quad1(e: Eight) -> vec4<f32> {
    return codes(e.y);
}
#endif

#if Q4
alias Eight = u32;

#for E 4
fn eight{{E}}(words: vec4<u32>) -> Eight {
    return words[{{E}}];
}

#end
fn quad0(e: Eight) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(e)) << vec4<u32>(28u, 24u, 20u, 16u)) >> vec4<u32>(28u));
}

fn quad1(e: Eight) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(e)) << vec4<u32>(12u, 8u, 4u, 0u)) >> vec4<u32>(28u));
}
#endif

#if HALF
alias Eight = vec4<u32>;

fn eight0(words: vec4<u32>) -> Eight {
    return words;
}

fn pair(word: u32) -> vec2<f32> {
    let upper = vec2<u32>(word << 16u, word & 0xffff0000u);
#if BF16
    return bitcast<vec2<f32>>(upper);
#else
    let moved = bitcast<vec2<u32>>(bitcast<vec2<i32>>(upper) >> vec2<u32>(3u)) & vec2<u32>(0x8fffffffu);
    return bitcast<vec2<f32>>(moved) * 5.192296858534828e33; // 2^112 = 2^(127 - 15)
#endif
}

fn quad0(e: Eight) -> vec4<f32> {
    return vec4<f32>(pair(e.x), pair(e.y));
}

fn quad1(e: Eight) -> vec4<f32> {
    return vec4<f32>(pair(e.z), pair(e.w));
}
#endif
