//! Split conformal intervals: how far people's score lies from the calibrated one, by the residuals of rows that did not fit the
//! map.
//!
//! Rows of one cluster are alike, so it is clusters that must be exchangeable. Each of the K clusters, and the one of the row to
//! come, weighs 1 / (K + 1), shared evenly by its rows; the row to come may be infinitely far. The half width is the residual at
//! which the weights reach the level (HCP: Lee, Barber and Willett 2023, "Distribution-free inference with hierarchical data").
//! A row of a new cluster then lies inside with at least the level's probability, whatever the judge and the distribution are.
//! Where every row is a cluster of its own, this is the usual split conformal quantile, the ⌈level · (n + 1)⌉-th residual.

use std::collections::HashMap;

use crate::eval::special::beta_quantile;

/// The fewest clusters (rows, where each is its own) that give an interval shorter than the scale: 1/α − 1.
pub fn units_needed(level: f64) -> usize {
    (level / (1.0 - level) - 1e-9).ceil().max(1.0) as usize
}

/// The half width of intervals with this level, from residuals |people − calibrated|. `None` where there are too few clusters:
/// the interval is then the whole scale.
pub fn half_width(residuals: &[f64], clusters: Option<&[usize]>, level: f64) -> Option<f64> {
    let mut sizes: HashMap<usize, f64> = HashMap::new();
    let cluster = |row: usize| clusters.map_or(row, |clusters| clusters[row]);
    (0..residuals.len()).for_each(|row| *sizes.entry(cluster(row)).or_default() += 1.0);
    let mut order: Vec<usize> = (0..residuals.len()).collect();
    order.sort_by(|&a, &b| residuals[a].total_cmp(&residuals[b]));
    // In units of a cluster's weight; the slack is for the rounding of the sum.
    let enough = level * (sizes.len() + 1) as f64 - 1e-9;
    let mut reached = 0.0;
    order.into_iter().find_map(|row| {
        reached += 1.0 / sizes[&cluster(row)];
        (reached >= enough).then_some(residuals[row])
    })
}

/// The range in which the coverage of one such interval lies, in 95 of 100 calibrations with as many rows, each a cluster of its
/// own: it is beta distributed (Vovk 2012). Residuals with ties cover more.
pub fn coverage_range(rows: usize, level: f64) -> Option<(f64, f64)> {
    let rank = (level * (rows + 1) as f64 - 1e-9).ceil();
    let (a, b) = (rank, (rows + 1) as f64 - rank);
    (b >= 1.0).then(|| (beta_quantile(0.025, a, b), beta_quantile(0.975, a, b)))
}

/// The interval around `centre`, which lies on the scale. `scale` has the scale's values in ascending order. Where people only
/// give values of the scale, the ends are values of it, as long as any of them is inside.
pub fn interval(centre: f64, half_width: Option<f64>, scale: &[f64], only_values: bool) -> (f64, f64) {
    let (min, max) = (scale[0], scale[scale.len() - 1]);
    let Some(half_width) = half_width else { return (min, max) };
    if !only_values {
        return ((centre - half_width).max(min), (centre + half_width).min(max));
    }
    let distance = |value: &f64| (value - centre).abs();
    let nearest = scale.iter().map(distance).fold(f64::INFINITY, f64::min);
    let mut inside = scale.iter().copied().filter(|value| distance(value) <= half_width.max(nearest));
    let low = inside.next().unwrap_or(min);
    (low, inside.next_back().unwrap_or(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn as_many_clusters_as_the_level_needs() {
        assert_eq!([0.5, 0.8, 0.9, 0.95, 0.99, 0.999].map(units_needed), [1, 4, 9, 19, 99, 999]);
        let residuals: Vec<f64> = (1..=9).map(f64::from).collect();
        assert_eq!((half_width(&residuals, None, 0.9), half_width(&residuals[1..], None, 0.9)), (Some(9.0), None));
        assert_eq!((half_width(&residuals, None, 0.8), half_width(&[], None, 0.1)), (Some(8.0), None));
        for level in [0.5, 0.8, 0.9, 0.95, 0.99, 0.999] {
            let needed = units_needed(level);
            let residuals = vec![1.0; needed];
            assert_eq!(half_width(&residuals, None, level), Some(1.0), "{level}");
            assert_eq!(half_width(&residuals[1..], None, level), None, "{level}");
        }
    }

    #[test]
    fn rows_share_the_weight_of_their_cluster() {
        // Clusters of one row each change nothing, however they are numbered.
        let residuals = [3.0, 1.0, 2.0, 5.0];
        assert_eq!(half_width(&residuals, Some(&[7, 3, 9, 1]), 0.6), half_width(&residuals, None, 0.6));
        // Four clusters at level 0.6 need the weight of three. One of 100 good rows counts once.
        let many: Vec<f64> = [vec![0.1; 100], vec![2.0, 3.0, 4.0]].concat();
        let clusters: Vec<usize> = [vec![0; 100], vec![1, 2, 3]].concat();
        assert_eq!(half_width(&many, Some(&clusters), 0.6), Some(3.0));
        assert_eq!(half_width(&many, None, 0.6), Some(0.1));
    }

    #[test]
    fn intervals_keep_to_the_scale() {
        let scale = [1.0, 2.0, 3.0, 4.0, 5.0];
        for (centre, half, only_values, expected) in [
            (3.2, None, true, (1.0, 5.0)),
            (3.2, Some(1.0), false, (2.2, 4.2)),
            (1.5, Some(1.0), false, (1.0, 2.5)),
            (3.25, Some(0.75), true, (3.0, 4.0)),
            (3.25, Some(0.7), true, (3.0, 3.0)),
            // Nothing is inside: the nearest values.
            (3.25, Some(0.1), true, (3.0, 3.0)),
            (3.5, Some(0.1), true, (3.0, 4.0)),
            (3.0, Some(0.0), true, (3.0, 3.0)),
            (5.0, Some(9.0), true, (1.0, 5.0)),
        ] {
            assert_eq!(interval(centre, half, &scale, only_values), expected, "{centre} ± {half:?}");
        }
    }

    /// The share of new rows inside, over many calibrations.
    fn coverage(draws: usize, level: f64, draw: impl Fn(&mut Stream) -> (Vec<f64>, Vec<usize>, f64)) -> f64 {
        let inside = |k: usize| {
            let (residuals, clusters, new) = draw(&mut Stream::new(5, k as u64));
            half_width(&residuals, Some(&clusters), level).is_none_or(|half| new <= half)
        };
        (0..draws).filter(|&k| inside(k)).count() as f64 / draws as f64
    }

    #[test]
    fn a_new_row_is_inside_as_often_as_promised() {
        let draws = 4000;
        let slack = 4.0 * (0.9_f64 * 0.1 / draws as f64).sqrt();
        for n in [9, 19, 30, 99] {
            let rows = |stream: &mut Stream| {
                let mut residuals: Vec<f64> = (0..=n).map(|_| stream.normal().abs()).collect();
                let new = residuals.pop().unwrap_or_default();
                (residuals, (0..n).collect(), new)
            };
            // At most 1 / (n + 1) more than the level, without ties.
            let found = coverage(draws, 0.9, rows);
            assert!(found > 0.9 - slack && found < 0.9 + 1.0 / (n + 1) as f64 + slack, "{n}: {found}");
        }
        // Rows of a cluster share most of their residual, and clusters differ in size.
        let clustered = |stream: &mut Stream| {
            let (mut residuals, mut clusters) = (Vec::new(), Vec::new());
            for cluster in 0..15 {
                let shared = 2.0 * stream.normal();
                for _ in 0..1 + stream.below(20) {
                    residuals.push((shared + 0.3 * stream.normal()).abs());
                    clusters.push(cluster);
                }
            }
            let new = (2.0 * stream.normal() + 0.3 * stream.normal()).abs();
            (residuals, clusters, new)
        };
        let found = coverage(draws, 0.9, clustered);
        assert!(found > 0.9 - slack && found < 0.99, "{found}");
        // The same rows taken for independent promise too much.
        let apart = |stream: &mut Stream| {
            let (residuals, _, new) = clustered(stream);
            let rows = (0..residuals.len()).collect();
            (residuals, rows, new)
        };
        assert!(coverage(draws, 0.9, apart) < found - 0.02);
    }

    /// `scipy.stats.beta.ppf` of rank 27 of 29: a = 27, b = 3.
    #[test]
    fn coverage_of_one_calibration_is_beta_distributed() {
        let (low, high) = coverage_range(29, 0.9).unwrap();
        assert!((low - 0.7723381100555138).abs() < 1e-12 && (high - 0.9781362631701463).abs() < 1e-12, "{low} {high}");
        assert_eq!(coverage_range(8, 0.9), None);
    }
}
