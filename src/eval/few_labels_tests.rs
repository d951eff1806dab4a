//! Compares calibrations and estimates with scikit-learn, MAPIE and ppi-python. `scripts/make_few_labels_reference.py` computed
//! the reference values.

use super::estimate::{self, Estimate, EstimateOptions, Quantiles, ScoredRows};
use super::recalibration::conformal::{half_width, interval};
use super::recalibration::{MapKind, ScoreMap};
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("testdata/few_labels_reference.json")).unwrap()
}

fn column(case: &Value, key: &str) -> Vec<f64> {
    case[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
}

#[test]
fn maps_match_scikit_learn_and_numpy() {
    for case in reference()["maps"].as_array().unwrap() {
        let (judge, human, at) = (column(case, "judge"), column(case, "human"), column(case, "at"));
        for (key, kind) in [("isotonic", MapKind::Isotonic), ("affine", MapKind::Affine)] {
            let map = ScoreMap::fit(kind, &judge, &human);
            // numpy's line falls where ours is flat.
            assert_eq!(case[key].is_null(), map.is_constant(), "{key}");
            let expected = if case[key].is_null() { vec![super::mean(&human); at.len()] } else { column(case, key) };
            at.iter().zip(expected).for_each(|(score, expected)| near(map.at(*score), expected));
        }
    }
}

#[test]
fn intervals_match_mapie() {
    for case in reference()["conformal"].as_array().unwrap() {
        let (judge, human) = (column(case, "judge"), column(case, "human"));
        let map = ScoreMap::Affine { intercept: 0.5, slope: 0.8 };
        let residuals: Vec<f64> = judge.iter().zip(&human).map(|(j, h)| (h - map.at(*j)).abs()).collect();
        let half = half_width(&residuals, None, case["level"].as_f64().unwrap()).unwrap();
        for ((score, low), high) in column(case, "at").iter().zip(column(case, "low")).zip(column(case, "high")) {
            // On a scale that cuts nothing off, and on that of the labels.
            let found = interval(map.at(*score), Some(half), &[-50.0, 50.0], false);
            near(found.0, low);
            near(found.1, high);
            let found = interval(map.at(*score), Some(half), &[1.0, 5.0], false);
            near(found.0, low.max(1.0));
            near(found.1, high.min(5.0));
        }
    }
}

#[test]
fn estimates_match_ppi_python() {
    for case in reference()["ppi"].as_array().unwrap() {
        let (labels, unlabelled) = (column(case, "human"), column(case, "unlabelled"));
        let human: Vec<Option<f64>> = labels.iter().map(|score| Some(*score)).chain(unlabelled.iter().map(|_| None)).collect();
        let (judge, weights) = ([column(case, "judge"), unlabelled].concat(), column(case, "weights"));
        let level = case["level"].as_f64().unwrap();
        let rows = ScoredRows { human: &human, judge: &judge, clusters: None, weights: None };
        let plain = EstimateOptions { level, quantiles: Quantiles::Normal, weight: None, scale: None };
        let given = EstimateOptions { weight: case["given"].as_f64(), ..plain };
        let ends = |found: &Estimate, key: &str| {
            let expected = column(case, key);
            near(found.low, expected[0]);
            near(found.high, expected[1]);
        };
        let found = estimate::mean(&rows, &plain).unwrap();
        ends(found.labels.as_ref().unwrap(), "labels");
        ends(found.ppi.as_ref().unwrap(), "ppi");
        ends(found.tuned.as_ref().unwrap(), "tuned");
        ends(&estimate::mean(&rows, &given).unwrap().tuned.unwrap(), "of_given");
        ends(&estimate::mean(&ScoredRows { weights: Some(&weights), ..rows }, &given).unwrap().tuned.unwrap(), "weighted");
    }
}
