// Eight neighbouring values of a packed matrix (`Packed` in src/ops/matrix.rs) as floats.
//
//   Packed8               the words of eight values: one (Q4), two (Q8) or four (BF16, F16)
//   packed8_0 … (words)   the Packed8s of a vec4 of words, PACKED8_PER_VEC4 of them
//   unpack4_0, unpack4_1  the first four values, and the last four
//
// Reference  src/reference/matmul_packed.rs
//
//   scaled(codes, s)      the values of four codes, by the Scale of their block of 32
//   scale_of_word(word)   the Scale that is stored as one word per block
//
//   Q8, Q4      Codes, the first in the lowest bits. With AFFINE they are unsigned, and a value is its code times the scale
//               plus the minimum; the word of a block holds both as f16, the scale in the low half. Otherwise they are in
//               two's complement, a value is its code times the scale, and the word is the scale as f32. One shift moves a
//               code to the top of its word, and another moves it back down with its sign: every WGSL has shifts, but
//               unpack4xI8 is an extension. MASKED is for CPU adapters that shift lane by lane: a code is masked, becomes a float
//               where it stands, and is scaled down. The values are the same.
//   BF16, F16   Two values per word, the first in the low half, without scales. A bf16 is the upper half of an f32. The bits of
//               an f16 are moved to where an f32 has sign, exponent and fraction, and the difference of the exponent biases is a
//               factor. A device that flushes subnormal numbers reads those of f16 (below 2^-14) as 0. unpack2x16float would do
//               the same, but llvmpipe has it only where it has 16-bit arithmetic.

#if Q8
alias Packed8 = vec2<u32>;

fn packed8_0(words: vec4<u32>) -> Packed8 {
    return words.xy;
}

fn packed8_1(words: vec4<u32>) -> Packed8 {
    return words.zw;
}

fn four_codes(word: u32) -> vec4<f32> {
#if MASKED
    // The sign bits of the lower three codes are turned, which adds 128 to each.
    let codes = vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word ^ 0x808080u) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u)));
    return codes * vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24) - vec4<f32>(128.0, 128.0, 128.0, 0.0);
#else
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
#endif
}

fn unpack4_0(p: Packed8) -> vec4<f32> {
    return four_codes(p.x);
}

fn unpack4_1(p: Packed8) -> vec4<f32> {
    return four_codes(p.y);
}
#endif

#if Q4
alias Packed8 = u32;

#for E 4
fn packed8_{{E}}(words: vec4<u32>) -> Packed8 {
    return words[{{E}}];
}

#end
#if AFFINE
#if MASKED
fn unpack4_0(p: Packed8) -> vec4<f32> {
    let codes = vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(p) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u)));
    return codes * vec4<f32>(1.0, 0x1p-4, 0x1p-8, 0x1p-12);
}

fn unpack4_1(p: Packed8) -> vec4<f32> {
    return unpack4_0(p >> 16u);
}
#else
fn unpack4_0(p: Packed8) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(p) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

fn unpack4_1(p: Packed8) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(p) >> vec4<u32>(16u, 20u, 24u, 28u)) & vec4<u32>(15u));
}
#endif
#else
fn unpack4_0(p: Packed8) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(p)) << vec4<u32>(28u, 24u, 20u, 16u)) >> vec4<u32>(28u));
}

fn unpack4_1(p: Packed8) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(p)) << vec4<u32>(12u, 8u, 4u, 0u)) >> vec4<u32>(28u));
}
#endif
#endif

#if HALF
alias Packed8 = vec4<u32>;

fn packed8_0(words: vec4<u32>) -> Packed8 {
    return words;
}

fn two_halves(word: u32) -> vec2<f32> {
    let upper = vec2<u32>(word << 16u, word & 0xffff0000u);
#if BF16
    return bitcast<vec2<f32>>(upper);
#else
    let moved = bitcast<vec2<u32>>(bitcast<vec2<i32>>(upper) >> vec2<u32>(3u)) & vec2<u32>(0x8fffffffu);
    return bitcast<vec2<f32>>(moved) * 5.192296858534828e33; // 2^112 = 2^(127 - 15)
#endif
}

fn unpack4_0(p: Packed8) -> vec4<f32> {
    return vec4<f32>(two_halves(p.x), two_halves(p.y));
}

fn unpack4_1(p: Packed8) -> vec4<f32> {
    return vec4<f32>(two_halves(p.z), two_halves(p.w));
}
#endif

#if AFFINE
alias Scale = vec2<f32>; // scale, minimum
alias ScaleWord = u32;

// An f16 in the low half of a word. Subnormal ones, the scales of small weights, are multiples of 2^-24 and never subnormal here.
fn half(bits: u32) -> f32 {
    let magnitude = bits & 0x7fffu;
    let normal = bitcast<f32>((magnitude << 13u) + 0x38000000u);
    let value = select(normal, f32(magnitude) * 5.9604644775390625e-8, magnitude < 0x400u);
    return select(value, -value, (bits & 0x8000u) != 0u);
}

fn scale_of_word(word: u32) -> Scale {
    return vec2<f32>(half(word & 0xffffu), half(word >> 16u));
}

fn scaled(codes: vec4<f32>, s: Scale) -> vec4<f32> {
    return codes * s.x + s.y;
}
#else
alias Scale = f32;
alias ScaleWord = f32;

fn scale_of_word(word: f32) -> Scale {
    return word;
}

fn scaled(codes: vec4<f32>, s: Scale) -> vec4<f32> {
    return codes * s;
}
#endif
