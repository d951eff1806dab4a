//! Maps from a judge's score to the score that people would give. No map falls: a higher score of the judge never means a lower
//! one of people.

use serde::{Deserialize, Serialize};

use crate::eval::{is_constant, mean};

words! {
    /// The kinds of map, the simplest first.
    pub enum MapKind {
        /// The judge's score as it is.
        Identity = "identity",
        /// A straight line.
        Affine = "affine",
        /// Isotonic regression.
        Isotonic = "isotonic",
    }
}

/// A map from the judge's score to people's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ScoreMap {
    /// The judge's score as it is.
    Identity,
    /// `intercept + slope · score`.
    Affine {
        /// The value at a score of 0.
        intercept: f64,
        /// At least 0.
        slope: f64,
    },
    /// Straight lines between knots, and constant beyond the first and the last.
    Isotonic {
        /// The judge's score at each knot, ascending.
        judge: Vec<f64>,
        /// People's score at each knot, not falling.
        human: Vec<f64>,
    },
}

impl ScoreMap {
    /// The map of this kind with the smallest squared error on these rows, of which there is at least one.
    pub fn fit(kind: MapKind, judge: &[f64], human: &[f64]) -> Self {
        match kind {
            MapKind::Identity => ScoreMap::Identity,
            MapKind::Affine => affine(judge, human),
            MapKind::Isotonic => isotonic(judge, human),
        }
    }

    /// People's score where the judge gives `score`. It may lie outside of the scale.
    pub fn at(&self, score: f64) -> f64 {
        match self {
            ScoreMap::Identity => score,
            ScoreMap::Affine { intercept, slope } => intercept + slope * score,
            ScoreMap::Isotonic { judge, human } => {
                let above = judge.partition_point(|knot| *knot < score);
                match (above.checked_sub(1), judge.get(above)) {
                    (None, _) => human[0],
                    (Some(below), None) => human[below],
                    (Some(below), Some(knot)) => {
                        let share = (score - judge[below]) / (knot - judge[below]);
                        human[below] + share * (human[above] - human[below])
                    }
                }
            }
        }
    }

    /// Whether all scores of the judge become one.
    pub fn is_constant(&self) -> bool {
        match self {
            ScoreMap::Identity => false,
            ScoreMap::Affine { slope, .. } => *slope == 0.0,
            ScoreMap::Isotonic { human, .. } => is_constant(human),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> MapKind {
        match self {
            ScoreMap::Identity => MapKind::Identity,
            ScoreMap::Affine { .. } => MapKind::Affine,
            ScoreMap::Isotonic { .. } => MapKind::Isotonic,
        }
    }

    /// What is wrong with a map that somebody else wrote, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        let ascends = |values: &[f64], next: fn(f64, f64) -> bool| values.windows(2).all(|pair| next(pair[0], pair[1]));
        match self {
            ScoreMap::Identity => None,
            ScoreMap::Affine { intercept, slope } => {
                let whole = intercept.is_finite() && slope.is_finite() && *slope >= 0.0;
                (!whole).then_some("its map has no finite intercept, or no slope of at least 0")
            }
            ScoreMap::Isotonic { judge, human } => {
                let pairs = !judge.is_empty() && judge.len() == human.len();
                let finite = judge.iter().chain(human).all(|value| value.is_finite());
                let rises = ascends(judge, |a, b| a < b) && ascends(human, |a, b| a <= b);
                (!(pairs && finite && rises)).then_some("the knots of its map are no ascending pairs")
            }
        }
    }
}

/// Least squares among lines that do not fall: where the best line falls, the mean.
fn affine(judge: &[f64], human: &[f64]) -> ScoreMap {
    let (x, y) = (mean(judge), mean(human));
    let covariance: f64 = judge.iter().zip(human).map(|(j, h)| (j - x) * (h - y)).sum();
    let variance: f64 = judge.iter().map(|j| (j - x).powi(2)).sum();
    let slope = if variance > 0.0 { (covariance / variance).max(0.0) } else { 0.0 };
    ScoreMap::Affine { intercept: y - slope * x, slope }
}

/// A run of knots that have one value.
struct Block {
    first: f64,
    last: f64,
    rows: f64,
    sum: f64,
}

impl Block {
    fn value(&self) -> f64 {
        self.sum / self.rows
    }
}

/// Isotonic regression by pooling adjacent violators. Rows with equal scores of the judge are one knot, as in scikit-learn.
fn isotonic(judge: &[f64], human: &[f64]) -> ScoreMap {
    let mut rows: Vec<(f64, f64)> = judge.iter().copied().zip(human.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut blocks: Vec<Block> = Vec::new();
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        let mut block =
            Block { first: tied[0].0, last: tied[0].0, rows: tied.len() as f64, sum: tied.iter().map(|row| row.1).sum() };
        while let Some(below) = blocks.pop_if(|below| below.value() >= block.value()) {
            block = Block { first: below.first, last: block.last, rows: below.rows + block.rows, sum: below.sum + block.sum };
        }
        blocks.push(block);
    }
    let (mut knots, mut values) = (Vec::new(), Vec::new());
    for block in &blocks {
        knots.push(block.first);
        values.push(block.value());
        if block.last > block.first {
            knots.push(block.last);
            values.push(block.value());
        }
    }
    ScoreMap::Isotonic { judge: knots, human: values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isotonic_pools_what_falls() {
        let map = ScoreMap::fit(MapKind::Isotonic, &[1.0, 2.0, 3.0, 4.0, 4.0], &[1.0, 3.0, 2.0, 4.0, 5.0]);
        let expected = ScoreMap::Isotonic { judge: vec![1.0, 2.0, 3.0, 4.0], human: vec![1.0, 2.5, 2.5, 4.5] };
        assert_eq!(map, expected);
        for (score, value) in [(0.0, 1.0), (1.0, 1.0), (1.5, 1.75), (2.5, 2.5), (3.5, 3.5), (4.0, 4.5), (9.0, 4.5)] {
            assert_eq!(map.at(score), value, "at {score}");
        }
        assert!(!map.is_constant());
        // Judge and people disagree throughout.
        assert!(ScoreMap::fit(MapKind::Isotonic, &[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]).is_constant());
        assert_eq!(ScoreMap::fit(MapKind::Isotonic, &[2.0], &[3.0]).at(7.0), 3.0);
    }

    #[test]
    fn lines_do_not_fall() {
        let map = ScoreMap::fit(MapKind::Affine, &[1.0, 2.0, 3.0], &[3.0, 5.0, 7.0]);
        assert_eq!(map, ScoreMap::Affine { intercept: 1.0, slope: 2.0 });
        let map = ScoreMap::fit(MapKind::Affine, &[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]);
        assert_eq!((map.at(1.0), map.at(3.0), map.is_constant()), (2.0, 2.0, true));
        assert_eq!(ScoreMap::fit(MapKind::Affine, &[2.0, 2.0], &[1.0, 4.0]).at(5.0), 2.5);
        assert_eq!(ScoreMap::fit(MapKind::Identity, &[2.0], &[1.0]).at(5.0), 5.0);
    }

    #[test]
    fn maps_that_are_none_are_told() {
        let isotonic = |judge: &[f64], human: &[f64]| ScoreMap::Isotonic { judge: judge.to_vec(), human: human.to_vec() };
        for (map, good) in [
            (ScoreMap::Identity, true),
            (ScoreMap::Affine { intercept: -1.0, slope: 0.0 }, true),
            (ScoreMap::Affine { intercept: 0.0, slope: -1.0 }, false),
            (ScoreMap::Affine { intercept: f64::NAN, slope: 1.0 }, false),
            (isotonic(&[1.0, 2.0], &[1.0, 1.0]), true),
            (isotonic(&[], &[]), false),
            (isotonic(&[1.0], &[1.0, 2.0]), false),
            (isotonic(&[1.0, 1.0], &[1.0, 2.0]), false),
            (isotonic(&[1.0, 2.0], &[2.0, 1.0]), false),
            (isotonic(&[1.0, f64::INFINITY], &[1.0, 2.0]), false),
        ] {
            assert_eq!(map.fault().is_none(), good, "{map:?}");
        }
        let json = serde_json::to_string(&isotonic(&[1.0, 2.0], &[1.0, 1.5])).unwrap();
        assert_eq!(json, r#"{"kind":"isotonic","judge":[1.0,2.0],"human":[1.0,1.5]}"#);
        assert_eq!(serde_json::to_string(&ScoreMap::Identity).unwrap(), r#"{"kind":"identity"}"#);
    }
}
