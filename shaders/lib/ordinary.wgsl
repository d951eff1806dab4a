// Sums of squares near the ends of f32. Squares overflow from 2^64 on and vanish below 2^-63, so a kernel whose sum is not
// ordinary sums again, scaled by a power of two.

// Whether a sum or mean of squares is far from both ends of f32. It compares bits, so that NaN is not ordinary.
fn is_ordinary(squares: f32) -> bool {
    return bitcast<u32>(squares) - 0x0d800000u < 0x7b800000u - 0x0d800000u; // from 2^-100 to 2^120
}
