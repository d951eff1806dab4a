//! Agreement as a share of variance: intraclass correlation, Lin's concordance, Krippendorff's alpha.

use super::tally::{LabelTable, Tally};
use super::{Measured, Undefined};

impl Tally<'_> {
    /// ICC(2,1) of Shrout & Fleiss (1979): single ratings of people and judge as two raters, absolute agreement.
    ///
    /// # Errors
    /// Undefined for fewer than two rows or if nothing varies.
    pub fn icc_2_1(&self) -> Measured {
        self.icc(|rows, columns, residual, n| rows + residual + 2.0 * (columns - residual) / n)
    }

    /// ICC(3,1) of Shrout & Fleiss (1979): consistency, which ignores a constant offset of the judge.
    ///
    /// # Errors
    /// As [`Tally::icc_2_1`].
    pub fn icc_3_1(&self) -> Measured {
        self.icc(|rows, _, residual, _| rows + residual)
    }

    /// Two-way analysis of variance of an n x 2 table, from the moments of its columns.
    fn icc(&self, total: fn(f64, f64, f64, f64) -> f64) -> Measured {
        self.at_least(2)?;
        let (n, moments) = (self.n() as f64, self.moments());
        let (squares, products) = (moments.human.squares() + moments.judge.squares(), moments.products());
        let gap = moments.human.mean() - moments.judge.mean();
        let rows = (squares + 2.0 * products).max(0.0) / 2.0 / (n - 1.0);
        let residual = (squares - 2.0 * products).max(0.0) / 2.0 / (n - 1.0);
        let total = total(rows, n * gap * gap / 2.0, residual, n);
        if total == 0.0 { Err(Undefined::NoVariance) } else { Ok((rows - residual) / total) }
    }

    /// Lin's concordance correlation, 2 cov / (var + var + gap²) with population moments.
    ///
    /// # Errors
    /// Undefined without rows or if both columns are one and the same constant.
    pub fn ccc(&self) -> Measured {
        self.at_least(1)?;
        let (n, moments) = (self.n() as f64, self.moments());
        let gap = moments.human.mean() - moments.judge.mean();
        let total = (moments.human.squares() + moments.judge.squares()) / n + gap * gap;
        if total == 0.0 { Err(Undefined::OneLabel) } else { Ok(2.0 * moments.products() / n / total) }
    }

    /// Krippendorff's alpha of people and judge; every disagreement costs the same.
    ///
    /// # Errors
    /// Undefined without rows, without labels, or if one label is used throughout.
    pub fn krippendorff_nominal(&self) -> Measured {
        self.table()?.alpha(Level::Nominal)
    }

    /// Krippendorff's alpha; a disagreement costs by the number of ratings between the two labels.
    ///
    /// # Errors
    /// As [`Tally::krippendorff_nominal`].
    pub fn krippendorff_ordinal(&self) -> Measured {
        self.table()?.alpha(Level::Ordinal)
    }

    /// Krippendorff's alpha; a disagreement costs the squared difference of the scale's values.
    ///
    /// # Errors
    /// As [`Tally::krippendorff_nominal`].
    pub fn krippendorff_interval(&self) -> Measured {
        self.table()?.alpha(Level::Interval)
    }
}

/// The level of measurement of Krippendorff's alpha: the cost of a disagreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every disagreement costs the same.
    Nominal,
    /// The number of ratings between the two labels.
    Ordinal,
    /// The squared difference of the values.
    Interval,
}

impl LabelTable {
    fn alpha(&self, level: Level) -> Measured {
        // Each row of two ratings gives the pairs (h, s) and (s, h).
        let pairs = self.nonempty().flat_map(|(h, s, rows)| [(h, s, rows), (s, h, rows)]);
        alpha_of_pairs(pairs, &self.scale, level)
    }
}

/// Krippendorff's alpha of units with any number of ratings each; `None` for a missing rating. Units with fewer than two ratings
/// contain no information about agreement and are left out.
///
/// # Errors
/// Undefined without a unit of two ratings, or if all ratings are equal.
pub fn krippendorff_alpha(units: &[Vec<Option<f64>>], level: Level) -> Measured {
    let mut values: Vec<f64> = units.iter().flatten().filter_map(|x| x.map(|x| x + 0.0)).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let mut pairs = Vec::new();
    for unit in units {
        let ratings: Vec<usize> = unit.iter().filter_map(|x| x.map(|x| values.partition_point(|v| *v < x))).collect();
        for (i, &a) in ratings.iter().enumerate() {
            let others = ratings.iter().enumerate().filter(|(j, _)| *j != i);
            pairs.extend(others.map(|(_, &b)| (a, b, 1.0 / (ratings.len() - 1) as f64)));
        }
    }
    super::at_least(1, pairs.len())?;
    alpha_of_pairs(pairs.into_iter(), &values, level)
}

/// 1 - D_o / D_e from the coincidence table, given as (value, value, weight) in both directions.
fn alpha_of_pairs(pairs: impl Iterator<Item = (usize, usize, f64)> + Clone, values: &[f64], level: Level) -> Measured {
    let mut counts = vec![0.0; values.len()];
    pairs.clone().for_each(|(a, _, weight)| counts[a] += weight);
    // The number of ratings below the middle of each value's own ratings. The ordinal distance is the difference of two such
    // positions.
    let mut below = 0.0;
    let ordinal = |count: &f64| {
        below += count;
        below - count / 2.0
    };
    let positions: Vec<f64> = match level {
        Level::Ordinal => counts.iter().map(ordinal).collect(),
        Level::Nominal | Level::Interval => values.to_vec(),
    };
    let observed: f64 = pairs
        .filter(|(a, b, _)| a != b)
        .map(|(a, b, weight)| weight * if level == Level::Nominal { 1.0 } else { (positions[a] - positions[b]).powi(2) })
        .sum();
    let n: f64 = counts.iter().sum();
    // Σ_ab n_a n_b δ_ab without the double loop: for squared distances it is 2 n Σ n_a (x_a - mean)².
    let expected = match level {
        Level::Nominal => n * n - counts.iter().map(|c| c * c).sum::<f64>(),
        Level::Ordinal | Level::Interval => {
            let mean = counts.iter().zip(&positions).map(|(c, x)| c * x).sum::<f64>() / n;
            2.0 * n * counts.iter().zip(&positions).map(|(c, x)| c * (x - mean).powi(2)).sum::<f64>()
        }
    };
    let used = counts.iter().filter(|c| **c > 0.0).count();
    if used < 2 { Err(Undefined::OneLabel) } else { Ok(1.0 - (n - 1.0) * observed / expected) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of Krippendorff's "Computing Krippendorff's alpha-reliability" (2011), part C: four observers,
    /// twelve units, some missing; nominal 0.743, ordinal 0.815, interval 0.849.
    #[test]
    fn alpha_matches_the_textbook() {
        // 0: missing.
        let a = [1., 2., 3., 3., 2., 1., 4., 1., 2., 0., 0., 0.];
        let b = [1., 2., 3., 3., 2., 2., 4., 1., 2., 5., 0., 3.];
        let c = [0., 3., 3., 3., 2., 3., 4., 2., 2., 5., 1., 0.];
        let d = [1., 2., 3., 3., 2., 4., 4., 1., 2., 5., 1., 0.];
        let rating = |x: f64| (x > 0.0).then_some(x);
        let units: Vec<Vec<Option<f64>>> = (0..12).map(|u| [a[u], b[u], c[u], d[u]].map(rating).to_vec()).collect();
        for (level, expected) in [(Level::Nominal, 0.743), (Level::Ordinal, 0.815), (Level::Interval, 0.849)] {
            let found = krippendorff_alpha(&units, level).unwrap();
            assert!((found - expected).abs() < 5e-4, "{level:?}: {found}");
        }
        assert_eq!(
            krippendorff_alpha(&[vec![Some(1.0), None]], Level::Nominal),
            Err(Undefined::TooFewRows { found: 0, needed: 1 })
        );
        assert_eq!(krippendorff_alpha(&[vec![Some(1.0); 3]], Level::Interval), Err(Undefined::OneLabel));
    }
}
