// The largest logit of a row whose logits begin at z, in kernels with `logits` and
// `params.vocab`, by the loops of lib/row.wgsl and lib/ahead.wgsl.
fn largest_logit(z: u32, row_thread: u32) -> f32 {
    var max_logit = -1e30;
    for (var j = row_thread; j < params.vocab; j += AHEAD * THREADS_PER_ROW) {
#for A AHEAD
        let z{{A}} = logits[z + nearest(j + {{A}}u * THREADS_PER_ROW, params.vocab)];
#end
#for A AHEAD
        max_logit = max(max_logit, z{{A}});
#end
    }
    return row_max(row_thread, max_logit);
}
