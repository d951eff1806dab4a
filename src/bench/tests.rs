use super::clock::median;
use super::row::{Baseline, Group, Measurement, duration, figure};
use super::{Ceilings, Shape, cases};

fn measurement(seconds: f64, flops: u64, bytes: u64) -> Measurement {
    Measurement { group: Group::Matmul, name: "m".into(), seconds, flops, bytes, memory: 0, tokens: 0, timestamps: true }
}

const CEILINGS: Ceilings =
    Ceilings { flops: 100e9, bandwidth: 10e9, kernel_bandwidth: 10e9, dispatch: 0.0, submit: 0.0, round_trip: 0.0 };

/// The share refers to the limiting ceiling: arithmetic for a square product, memory for a product with a single row.
#[test]
fn share_and_bound_follow_the_roofline() {
    let square = measurement(0.1, 5_000_000_000, 100_000_000);
    assert_eq!(square.bound(&CEILINGS), "FMA");
    assert!((square.share(&CEILINGS) - 0.5).abs() < 1e-12);
    let skinny = measurement(0.1, 1_000_000_000, 800_000_000);
    assert_eq!(skinny.bound(&CEILINGS), "copy");
    assert!((skinny.share(&CEILINGS) - 0.8).abs() < 1e-12);
}

/// W1's operations, counted manually.
#[test]
fn operation_counts_of_the_default_step() {
    let shape = Shape::default();
    let layer = 256 * 512 + 256 * 256 + 3 * 256 * 768;
    assert_eq!(shape.layer_weights(), 4 * layer);
    assert_eq!(shape.head_weights(), 256 * 4096);
    let attention = 4 * (256 * 257 / 2) * 256;
    assert_eq!(shape.attention_flops(256), attention);
    assert_eq!(shape.step_flops(), 3 * (2 * 1024 * (4 * layer + 256 * 4096) + 16 * attention));
    // A chain of one token costs as much as the prompt's last token, and the cache is read once.
    let one = Shape { new_tokens: 1, ..Shape::default() };
    assert_eq!(one.decode_flops(), 2 * (4 * layer + 256 * 4096) + 4 * 4 * 129 * 256);
    assert_eq!(one.decode_bytes(), 4 * (4 * layer + 256 * 4096) + 4 * 129 * 2 * 128 * 4);
}

#[test]
fn invalid_model_sizes_are_refused() {
    for shape in [
        Shape { heads: 6, kv_heads: 4, ..Shape::default() },
        Shape { head_dim: 31, ..Shape::default() },
        Shape { layers: 0, ..Shape::default() },
    ] {
        let message = shape.config().unwrap_err().to_string();
        assert!(message.starts_with("these sizes make no model: "), "{message}");
    }
    assert!(Shape::default().config().is_ok());
}

/// Baselines find a measurement by its name.
#[test]
fn case_names_are_unique() {
    let mut names: Vec<String> = cases::all_cases(&Shape::default(), true).into_iter().map(|c| c.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.contains(&"matmul nt 1024x256x1024".to_string()), "{names:?}");
}

#[test]
fn baselines_are_read_and_faults_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("before.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Baseline::read(&path)
    };
    let good = read(r#"{"program": "PyTorch", "first_step": 2.5, "rows": [{"name": "m", "seconds": 0.2}]}"#).unwrap();
    assert_eq!(
        (good.program.as_str(), good.first_step, good.seconds("m"), good.seconds("n")),
        ("PyTorch", Some(2.5), Some(0.2), None)
    );
    for (text, reason) in [
        ("{", "not valid JSON"),
        ("{}", "no list `rows`"),
        (r#"{"rows": [{"name": "m"}]}"#, "lacks"),
        (r#"{"rows": [{"name": "m", "seconds": 0}]}"#, "positive"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(reason) && message.contains("before.json") && message.contains("--json"), "{message}");
    }
}

#[test]
fn figures_and_durations_are_rounded_for_display() {
    assert_eq!(
        ["0", "0.012", "1.23", "12.3", "1234"],
        [0.0, 0.0123, 1.234, 12.34, 1234.4].map(figure).each_ref().map(String::as_str)
    );
    assert_eq!(["2.50 s", "1.50 ms", "20.0 µs"], [2.5, 0.0015, 20e-6].map(duration).each_ref().map(String::as_str));
    assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(vec![4.0, 1.0]), 2.5);
}
