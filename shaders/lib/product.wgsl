// What all matmul kernels share: the parameters, and the store of C. The file that includes this declares OutVec (f32, or a vec4
// of columns), OUT_WIDTH (the values of an OutVec), and the bindings c, bias and residual as arrays of OutVec.

// A, B and C are windows of tensors, counted in values: element (i, j) is at start + i * stride + j.
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

// Scales the product, adds the bias, the residual or the old C, as the variant says, and stores it. `column` counts OutVecs.
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
