//! Embedding: a row of a table for each index. Forward gathers, backward scatters.
//!
//! ```text
//! x_t = E[id_t]         dE[i] = Σ over all t with id_t = i of dx_t
//! ```
//!
//! The decoder uses the same pair to pick the rows of the hidden state that carry loss.

use super::matmul::add_scaled;

/// The rows `indices` of `table` `[N, width]`: `[indices.len(), width]`.
pub fn gather(table: &[f64], indices: &[u32], width: usize) -> Vec<f64> {
    indices.iter().flat_map(|&i| &table[i as usize * width..(i as usize + 1) * width]).copied().collect()
}

/// `table[i] += rows_t` for every t with `indices[t] == i`; an index that occurs twice receives both.
pub fn scatter_add(table: &mut [f64], indices: &[u32], rows: &[f64], width: usize) {
    assert_eq!(rows.len(), indices.len() * width, "scatter_add: one row an index");
    for (&i, row) in indices.iter().zip(rows.chunks_exact(width)) {
        add_scaled(&mut table[i as usize * width..(i as usize + 1) * width], 1.0, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::{assert_gradient, random};
    use crate::reference::matmul::dot;

    #[test]
    fn repeated_ids_add_up() {
        let (vocab, width, ids) = (5, 3, [4, 0, 4, 4, 2]);
        let (table, dx) = (random(vocab * width, 1), random(ids.len() * width, 2));
        let mut dtable = vec![0.0; vocab * width];
        scatter_add(&mut dtable, &ids, &dx, width);
        assert_gradient("dtable", &table, &dtable, |t| dot(&dx, &gather(t, &ids, width)));
        assert_eq!(dtable[3..6], [0.0; 3], "an id that does not occur has no gradient");
    }
}
