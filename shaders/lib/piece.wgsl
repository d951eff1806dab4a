// Rows are read in pieces: vec4 where the width allows, since a load costs the same CPU adapter half as much a value
// when it brings four, and a GPU half the instructions.
#if QUARTERED
alias Piece = vec4<f32>;
alias Bits = vec4<u32>;
const PIECE: u32 = 4u;

fn total(p: Piece) -> f32 {
    return (p.x + p.y) + (p.z + p.w);
}

// The bits of the largest magnitude: from 0x7f800000 on where one entry is infinite or NaN.
fn magnitude(p: Piece) -> u32 {
    let bits = bitcast<Bits>(p) & Bits(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}
#else
alias Piece = f32;
alias Bits = u32;
const PIECE: u32 = 1u;

fn total(p: Piece) -> f32 {
    return p;
}

fn magnitude(p: Piece) -> u32 {
    return bitcast<u32>(p) & 0x7fffffffu;
}
#endif

// NaN, whatever p is. Made of bits, because a compiler may assume that arithmetic makes none.
fn undefined(p: Piece) -> Piece {
    return bitcast<Piece>(bitcast<Bits>(p) | Bits(0x7fc00000u));
}
