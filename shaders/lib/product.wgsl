// What every text of a product shares: its parameters, and how C is stored. The file that includes this declares OutVec
// (f32, or vec4 of columns), OUT_WIDTH (values in one), c, and bias or residual in cells.

// Where A, B and C lie in their tensors, counted in values: (i, j) is at start + i * stride + j.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    a_start: u32,
    a_stride: u32,
    b_start: u32,
    b_stride: u32,
    c_start: u32,
    c_stride: u32,
    bias_start: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

// Bias, residual and what is there already, each where the variant says so; `column` counts cells.
fn store_output(row: u32, column: u32, product: OutVec) {
    let i = params.c_start / OUT_WIDTH + row * (params.c_stride / OUT_WIDTH) + column;
    var v = product * params.scale;
#if BIAS
    v += bias[params.bias_start / OUT_WIDTH + column];
#endif
#if RESIDUAL
    v += residual[i];
#endif
#if ACCUMULATE
    v += c[i];
#endif
    c[i] = v;
}
