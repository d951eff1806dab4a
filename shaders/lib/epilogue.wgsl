// How a product is stored: bias, residual and what is there already, each where the variant says so. The file that includes
// this declares Cell (f32, or vec4 of columns), c, and bias or residual in cells.
fn put(i: u32, column: u32, value: Cell) {
    var v = value;
#if BIAS
    v += bias[column];
#endif
#if RESIDUAL
    v += residual[i];
#endif
#if ACCUMULATE
    v += c[i];
#endif
    c[i] = v;
}
