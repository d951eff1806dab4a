// Eight packed values as f32.
//
//   decode    y[to * 8 ..] = eight values of words[at]
//
// Contract  Who includes this has lib/codes.wgsl and binds `words`, `y` (in quads) and, unless HALF, `scales`: one for four
//           eights.
fn decode(at: u32, to: u32) {
    let e = words[at];
#if HALF
    y[to * 2u] = quad0(e);
    y[to * 2u + 1u] = quad1(e);
#else
    let s = scales[at / 4u];
    y[to * 2u] = quad0(e) * s;
    y[to * 2u + 1u] = quad1(e) * s;
#endif
}
