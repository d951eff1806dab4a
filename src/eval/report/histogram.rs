//! Counting human and judge scores into the same bins over the full scale.

use crate::eval::Grid;

/// One bin: what to call it, and the share of people and judge in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// Its centre, written out.
    pub name: String,
    /// Bins that carry a value of the scale are labelled on the axis.
    pub labelled: bool,
    /// Share of the human scores.
    pub human: f64,
    /// Share of the judge's scores.
    pub judge: f64,
}

/// More bins than this are not readable.
const MOST_BINS: usize = 31;

/// Bins that fit the human scores: one per value of the scale if people used its values; finer ones, on the grid that means
/// of two to six people fall on, if those fit; else twenty of equal width.
pub fn histogram(grid: &Grid, scores: &[(f64, f64)]) -> Vec<Bin> {
    let human: Vec<f64> = scores.iter().map(|s| s.0).collect();
    let values = grid.values();
    let (low, high) = (values[0], values[values.len() - 1]);
    let fitting = (1..=6).find_map(|parts| {
        let refined = refine(values, parts)?;
        refined.exact_labels(&human).is_ok().then_some(refined)
    });
    let centres = match fitting {
        Some(refined) => refined.values().to_vec(),
        None => (0..20).map(|k| low + (high - low) * (f64::from(k) + 0.5) / 20.0).collect(),
    };
    count(&centres, values, scores)
}

/// The scale with `parts` equal steps between neighbours; `None` if that is too many bins.
fn refine(values: &[f64], parts: usize) -> Option<Grid> {
    if (values.len() - 1) * parts + 1 > MOST_BINS {
        return None;
    }
    let between =
        |pair: &[f64]| -> Vec<f64> { (0..parts).map(|k| pair[0] + (pair[1] - pair[0]) * k as f64 / parts as f64).collect() };
    let mut refined: Vec<f64> = values.windows(2).flat_map(between).collect();
    refined.extend(values.last());
    Grid::new(&refined).ok()
}

fn count(centres: &[f64], values: &[f64], scores: &[(f64, f64)]) -> Vec<Bin> {
    let Ok(bins) = Grid::new(centres) else { return Vec::new() };
    let decimals = if centres.iter().all(|c| c.fract().abs() < 1e-9) { 0 } else { 2 };
    let labelled = |c: f64| centres.len() == 20 || values.iter().any(|v| (v - c).abs() < 1e-9);
    let trimmed = |c: f64| if c.fract().abs() < 1e-9 { format!("{c:.0}") } else { format!("{c:.decimals$}") };
    let mut found: Vec<Bin> =
        centres.iter().map(|&c| Bin { name: trimmed(c), labelled: labelled(c), human: 0.0, judge: 0.0 }).collect();
    let share = 1.0 / scores.len().max(1) as f64;
    for (human, judge) in scores {
        found[bins.label(*human)].human += share;
        found[bins.label(*judge)].judge += share;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(scores: &[(f64, f64)]) -> Vec<Bin> {
        histogram(&Grid::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap(), scores)
    }

    #[test]
    fn bins_fit_the_people() {
        let labels = bins(&[(1.0, 1.2), (5.0, 3.5)]);
        assert_eq!(labels.len(), 5);
        assert_eq!((labels[0].human, labels[0].judge, labels[3].judge), (0.5, 0.5, 0.5));
        let thirds = bins(&[(1.0 + 1.0 / 3.0, 1.2), (5.0, 3.5)]);
        assert_eq!(thirds.len(), 13);
        assert_eq!((thirds[1].human, thirds[1].judge, thirds[1].labelled), (0.5, 0.5, false));
        assert_eq!(bins(&[(1.234, 1.2)]).len(), 20);
    }
}
