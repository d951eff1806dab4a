// Rows are read in pieces: vec4 where the width allows, since a load costs the same CPU adapter half as much a value
// when it brings four, and a GPU half the instructions.
#if QUARTERED
alias Piece = vec4<f32>;
const PIECE: u32 = 4u;

fn total(p: Piece) -> f32 {
    return (p.x + p.y) + (p.z + p.w);
}
#else
alias Piece = f32;
const PIECE: u32 = 1u;

fn total(p: Piece) -> f32 {
    return p;
}
#endif
