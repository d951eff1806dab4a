// Eight packed values as f32.
//
//   unpack8    y[8 to .. 8 to + 8] = the values of words[at], times `factor`
//
// Contract   The file that includes this also includes lib/packing.wgsl, and binds `words`, `y` (as vec4s) and, unless HALF,
//            `scales`, one for four Packed8s.
fn unpack8(at: u32, to: u32, factor: f32) {
    let p = words[at];
#if HALF
    y[to * 2u] = unpack4_0(p) * factor;
    y[to * 2u + 1u] = unpack4_1(p) * factor;
#else
    let scale = scale_of_word(scales[at / 4u]);
    y[to * 2u] = scaled(unpack4_0(p), scale) * factor;
    y[to * 2u + 1u] = scaled(unpack4_1(p), scale) * factor;
#endif
}
