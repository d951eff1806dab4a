// Rows are read in pieces: vec4 where the width allows, since a load costs the same CPU adapter half as much a value
// when it brings four, and a GPU half the instructions.
#if VEC4
alias Vec = vec4<f32>;
alias VecBits = vec4<u32>;
const VEC_WIDTH: u32 = 4u;

fn hsum(p: Vec) -> f32 {
    return (p.x + p.y) + (p.z + p.w);
}

// The bits of the largest magnitude: from 0x7f800000 on where one entry is infinite or NaN.
fn max_magnitude_bits(p: Vec) -> u32 {
    let bits = bitcast<VecBits>(p) & VecBits(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}
#else
alias Vec = f32;
alias VecBits = u32;
const VEC_WIDTH: u32 = 1u;

fn hsum(p: Vec) -> f32 {
    return p;
}

fn max_magnitude_bits(p: Vec) -> u32 {
    return bitcast<u32>(p) & 0x7fffffffu;
}
#endif

// NaN, whatever p is. Made of bits, because a compiler may assume that arithmetic makes none.
fn nan_like(p: Vec) -> Vec {
    return bitcast<Vec>(bitcast<VecBits>(p) | VecBits(0x7fc00000u));
}
