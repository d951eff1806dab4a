//! Early stopping, as transformers' `EarlyStoppingCallback` decides it and under its names. Its counter is part of
//! `trainer_state.json`, under the keys that transformers writes.

use serde_json::{Map, Value, json};

use crate::train::config::TrainConfig;

/// Its key in `stateful_callbacks`.
const CALLBACK: &str = "EarlyStoppingCallback";

/// Counts evaluations without an improvement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStopping {
    patience: u64,
    threshold: f64,
    counter: u64,
}

impl EarlyStopping {
    /// The rule of a config; `None` if it has none.
    pub fn new(config: &TrainConfig) -> Option<Self> {
        let patience = config.early_stopping_patience?;
        Some(EarlyStopping { patience, threshold: config.early_stopping_threshold, counter: 0 })
    }

    /// The same rule with the counter of a checkpoint's `stateful_callbacks`.
    pub fn resumed(self, callbacks: &Map<String, Value>) -> Self {
        let counter = callbacks.get(CALLBACK).and_then(|own| own["attributes"]["early_stopping_patience_counter"].as_u64());
        EarlyStopping { counter: counter.unwrap_or(0), ..self }
    }

    /// Counts an evaluation. `best` is the best metric before it. A metric that is not finite is no improvement.
    pub fn observe(&mut self, metric: f64, best: Option<f64>, greater_is_better: bool) {
        let beats = |best: f64| if greater_is_better { metric > best } else { metric < best };
        let improves = best.is_none_or(|best| beats(best) && (metric - best).abs() > self.threshold);
        self.counter = if metric.is_finite() && improves { 0 } else { self.counter + 1 };
    }

    /// Whether training ends.
    pub fn is_over(&self) -> bool {
        self.counter >= self.patience
    }

    /// Evaluations in a row without an improvement.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Writes the rule and its counter into `stateful_callbacks`.
    pub fn put_into(&self, callbacks: &mut Map<String, Value>) {
        let args = json!({"early_stopping_patience": self.patience, "early_stopping_threshold": self.threshold});
        let attributes = json!({"early_stopping_patience_counter": self.counter});
        callbacks.insert(CALLBACK.into(), json!({"args": args, "attributes": attributes}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metrics of evaluations, and after which of them transformers' callback stops. `scripts/make_gate_reference.py` made them.
    #[test]
    fn runs_stop_where_transformers_stops_them() {
        let reference: Value = serde_json::from_str(include_str!("testdata/early_stopping.json")).unwrap();
        let cases = reference["cases"].as_array().unwrap();
        for case in cases {
            let number = |key: &str| case[key].as_f64().unwrap();
            let greater = case["greater_is_better"].as_bool().unwrap();
            let config = TrainConfig {
                early_stopping_patience: case["patience"].as_u64(),
                early_stopping_threshold: number("threshold"),
                ..TrainConfig::default()
            };
            let mut rule = EarlyStopping::new(&config).unwrap();
            let mut best: Option<f64> = None;
            let mut callbacks = Map::new();
            let (mut stopped, mut counters) = (None, Vec::new());
            for (n, metric) in case["metrics"].as_array().unwrap().iter().enumerate() {
                // As if every evaluation were made by a run that was resumed.
                rule = EarlyStopping::new(&config).unwrap().resumed(&callbacks);
                let metric = metric.as_f64().unwrap();
                rule.observe(metric, best, greater);
                rule.put_into(&mut callbacks);
                counters.push(rule.counter());
                if best.is_none_or(|best| if greater { metric > best } else { metric < best }) {
                    best = Some(metric);
                }
                if rule.is_over() {
                    stopped = Some(n as u64);
                    break;
                }
            }
            assert_eq!(stopped, case["stopped_after"].as_u64(), "{case}");
            assert_eq!(json!(counters), case["counters"], "{case}");
            assert_eq!(callbacks[CALLBACK], case["state"], "{case}");
            assert_eq!(rule.is_over(), stopped.is_some());
        }
        assert!(cases.len() >= 100);
    }

    #[test]
    fn an_undefined_metric_is_no_improvement() {
        let config = TrainConfig { early_stopping_patience: Some(2), ..TrainConfig::default() };
        let mut rule = EarlyStopping::new(&config).unwrap();
        rule.observe(f64::NAN, None, true);
        assert_eq!((rule.counter(), rule.is_over()), (1, false));
        rule.observe(f64::NAN, Some(0.5), true);
        assert!(rule.is_over());
        assert_eq!(EarlyStopping::new(&TrainConfig::default()), None);
    }
}
