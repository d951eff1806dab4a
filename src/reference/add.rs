//! The sum of two tensors of one shape.

/// `y += x`, entry by entry.
pub fn add(x: &[f64], y: &mut [f64]) {
    assert_eq!(x.len(), y.len(), "add: both have one shape");
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_added() {
        let mut y = [1.0, -2.0];
        add(&[0.5, 2.0], &mut y);
        assert_eq!(y, [1.5, 0.0]);
    }
}
