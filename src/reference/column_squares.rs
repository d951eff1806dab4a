//! The squares of each column of a tensor `[T, W]`, summed over its rows: what enters a projection, by input column.

/// `sums[c] += Σ_t x[t, c]²`.
pub fn add(sums: &mut [f64], x: &[f64]) {
    for row in x.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_of_a_column_are_added() {
        let mut sums = vec![1.0, 0.0];
        add(&mut sums, &[2.0, -1.0, 3.0, 0.5]);
        assert_eq!(sums, [14.0, 1.25]);
    }
}
