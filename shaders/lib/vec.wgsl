// Rows are read by Vec: a vec4 where the width is a multiple of 4, else a single value. Per value, a load of a vec4 costs half as
// much on CPU adapters, and takes half the instructions on GPUs.
#if VEC4
alias Vec = vec4<f32>;
alias VecBits = vec4<u32>;
const VEC_WIDTH: u32 = 4u;

// The sum of the values of a vector.
fn vec_sum(v: Vec) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// The bits of the largest magnitude. They are 0x7f800000 or more if a value is infinite or NaN.
fn max_magnitude_bits(v: Vec) -> u32 {
    let bits = bitcast<VecBits>(v) & VecBits(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}
#else
alias Vec = f32;
alias VecBits = u32;
const VEC_WIDTH: u32 = 1u;

fn vec_sum(v: Vec) -> f32 {
    return v;
}

fn max_magnitude_bits(v: Vec) -> u32 {
    return bitcast<u32>(v) & 0x7fffffffu;
}
#endif

// NaN, whatever v is. It is made of bits, because a compiler may assume that arithmetic gives no NaN.
fn nan_like(v: Vec) -> Vec {
    return bitcast<Vec>(bitcast<VecBits>(v) | VecBits(0x7fc00000u));
}
