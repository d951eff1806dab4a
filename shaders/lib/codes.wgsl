// Four codes of a word of quantised weights (src/model/quantised.rs) as floats. With FOUR a word has two quads, otherwise one.
// A shift brings each code to the top of the word, another back down, and its sign with it.

#if FOUR
fn quad0(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(28u, 24u, 20u, 16u)) >> vec4<u32>(28u));
}

fn quad1(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(12u, 8u, 4u, 0u)) >> vec4<u32>(28u));
}
#else
fn quad0(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
#endif
