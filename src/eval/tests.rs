//! Compares all metrics with scipy, scikit-learn and krippendorff: 13 cases with ties, constants, one row and missing scores. The
//! reference values were computed once, see `testdata/README.md`.

use super::*;
use serde_json::Value;

/// Checks every case of a reference file. Panics with the name of the case and metric. Returns the number of figures that agreed.
fn check_reference(text: &str) -> usize {
    let reference: Value = serde_json::from_str(text).unwrap();
    let grid = Grid::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let mut agreed = 0;
    for (name, case) in reference["cases"].as_object().unwrap() {
        let column = |key: &str| case[key].as_array().unwrap().iter().map(Value::as_f64).collect::<Vec<_>>();
        let human: Vec<f64> = column("human").into_iter().map(Option::unwrap).collect();
        let found = Agreement::measure(&human, &column("judge"), &grid).unwrap();
        let json = found.to_json();
        for (key, expected) in case["expect"].as_object().unwrap() {
            let value = json.get(key).unwrap_or_else(|| panic!("{key} is missing"));
            match (value.as_f64(), expected.as_f64()) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-9, "{name} {key}: {a}, expected {b}"),
                (None, None) => assert!(json["undefined"].get(key).is_some(), "{name} {key}: no reason"),
                _ => panic!("{name} {key}: {value}, expected {expected}"),
            }
            agreed += 1;
        }
    }
    agreed
}

#[test]
fn metrics_match_the_python_libraries() {
    assert_eq!(check_reference(include_str!("testdata/metrics_reference.json")), 13 * 22);
    // Further files: METRICS_REFERENCE=a.json:b.json cargo test metrics_match
    for path in std::env::var("METRICS_REFERENCE").iter().flat_map(|paths| paths.split(':')) {
        check_reference(&std::fs::read_to_string(path).unwrap());
    }
}

#[test]
fn unparsed_rows_are_counted_and_do_not_flatter() {
    let grid = Grid::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let human = [1.0, 2.0, 3.0, 4.0, 5.0];
    let judge = [Some(1.0), None, Some(3.0), None, Some(5.0)];
    let found = Agreement::measure(&human, &judge, &grid).unwrap();
    assert_eq!((found.n, found.n_unparsed, found.coverage()), (3, 2, 0.6));
    assert_eq!(found.get("pearson"), Some(&Ok(1.0)));
    assert!(found.get("pearson_midpoint").unwrap().clone().unwrap() < 0.95);
    assert_eq!(found.get("no such metric"), None);
    assert_eq!(found.iter().next().unwrap().0, "pearson");
}

#[test]
fn figures_are_undefined_without_rows() {
    let grid = Grid::new(&[0.0, 1.0]).unwrap();
    let found = Agreement::measure(&[1.0], &[None], &grid).unwrap();
    assert_eq!((found.n, found.n_unparsed), (0, 1));
    for (name, value) in found.iter().filter(|(name, _)| !name.ends_with("_midpoint")) {
        assert!(matches!(value, Err(Undefined::TooFewRows { .. })), "{name}: {value:?}");
    }
}

/// The functions over two columns are the same metrics, summed in another order.
#[test]
fn functions_match_the_table() {
    let mut stream = crate::random::Stream::new(6, 6);
    let human: Vec<f64> = (0..300).map(|_| 1.0 + stream.below(5) as f64).collect();
    let judge: Vec<f64> = human.iter().map(|h| h + stream.normal()).collect();
    let grid = Grid::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let table = Agreement::measure(&human, &judge.iter().copied().map(Some).collect::<Vec<_>>(), &grid).unwrap();
    let near = |key: &str, found: Measured| {
        let gap = table.get(key).unwrap().clone().unwrap() - found.unwrap();
        assert!(gap.abs() < 1e-13, "{key}: {gap}");
    };
    near("pearson", pearson(&human, &judge));
    near("spearman", spearman(&human, &judge));
    near("mae", mae(&human, &judge));
    near("rmse", rmse(&human, &judge));
    near("bias", bias(&human, &judge));
    assert_eq!(rmse(&[], &[]), Err(Undefined::TooFewRows { found: 0, needed: 1 }));
}

#[test]
fn labels_follow_uneven_scales() {
    let grid = Grid::new(&[0.0, 0.25, 1.0]).unwrap();
    let labels: Vec<usize> = [-3.0, 0.1, 0.125, 0.6, 0.625, 9.0].map(|s| grid.label(s)).to_vec();
    assert_eq!(labels, [0, 0, 1, 1, 2, 2]);
    assert_eq!(grid.exact_labels(&[0.25, 0.5]), Err(Undefined::BetweenLabels(0.5)));
    // Means of annotators have correlations and errors, but no kappa.
    let found = Agreement::measure(&[0.5, 1.0], &[Some(0.4), Some(0.8)], &grid).unwrap();
    assert!(found.get("pearson").unwrap().is_ok() && found.get("kappa_linear").unwrap().is_err());
    assert!(found.to_json()["undefined"]["kappa_linear"].as_str().unwrap().contains("0.5"));
}

#[test]
fn bad_columns_are_errors() {
    let grid = Grid::new(&[0.0, 1.0]).unwrap();
    let message = |human: &[f64], judge: &[Option<f64>]| Agreement::measure(human, judge, &grid).unwrap_err().to_string();
    assert!(message(&[1.0], &[]).contains("1 rows") && message(&[1.0], &[]).contains("0"));
    assert!(message(&[f64::NAN], &[None]).contains("row 0 of the human column"));
    assert!(message(&[1.0, 1.0], &[None, Some(f64::INFINITY)]).contains("row 1 of the judge column"));
    for scale in [vec![], vec![1.0], vec![1.0, 1.0], vec![2.0, 1.0, 2.0], vec![0.0, f64::NAN]] {
        assert!(matches!(Grid::new(&scale), Err(EvalError::Scale(_))), "{scale:?}");
    }
    assert_eq!(Grid::new(&[3.0, 1.0, 2.0]).unwrap(), Grid::new(&[1.0, 2.0, 3.0]).unwrap());
}
