//! Dropout (Srivastava et al. 2014): each value is kept with probability 1 - p and divided by it, so that the expectation of y
//! is x.
//!
//! ```text
//! u_i  = Threefry-2x32 of (key; i, site), uniform in [0, 1)        m_i = 1 if u_i >= p, else 0
//! y_i  = m_i x_i / (1 - p)
//! dx_i = m_i dy_i / (1 - p)
//! ```
//!
//! The mask depends on key, site and index alone, so it is not stored, and the backward is the same function.

use super::sample::uniform;

/// y of x, or dx of dy.
pub fn dropout(x: &[f64], p: f64, key: [u32; 2], site: u32) -> Vec<f64> {
    let kept = |i: usize| uniform(key, [i as u32, site]) >= p;
    x.iter().enumerate().map(|(i, x)| if kept(i) { x / (1.0 - p) } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expectation_stays() {
        let n = 20_000;
        let mean = |p: f64, site: u32| dropout(&vec![1.0; n], p, [3, 4], site).iter().sum::<f64>() / n as f64;
        for p in [0.1, 0.5] {
            // Five standard deviations of the mean.
            let spread = 5.0 * (p / (1.0 - p) / n as f64).sqrt();
            assert!((mean(p, 1) - 1.0).abs() < spread && mean(p, 1) != mean(p, 2), "p {p}: {} and {}", mean(p, 1), mean(p, 2));
        }
        assert_eq!(dropout(&[2.0, -3.0], 0.0, [1, 2], 3), [2.0, -3.0]);
    }
}
