// What products with a weight matrix of any dtype on the right share beside product.wgsl: how B is unpacked, and every binding
// but those of A and B. C is written value by value.
//
// B is in f32 (F32), or packed as lib/packing.wgsl says; SCALED: it is quantised. The file that includes this binds A and B
// before it, because the host takes bindings in the order of the text.

alias OutVec = f32;
const OUT_WIDTH: u32 = 1u;

#include "lib/product.wgsl"
#if !F32
#include "lib/packing.wgsl"
#endif

@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [M, N]
#if SCALED
@group(0) @binding(4) var<storage, read> scales: array<ScaleWord>; // one for 32 values of a row of B
#endif
const EPILOGUE: u32 = 4u + SCALED; // the first binding after the scales
#if BIAS
@group(0) @binding(EPILOGUE) var<storage, read> bias: array<f32>; // [N]
#endif
#if RESIDUAL
@group(0) @binding(EPILOGUE) var<storage, read> residual: array<f32>; // [M, N]
#endif
