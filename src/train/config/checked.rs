//! Checks a config made by a program with the rules of config files.

use serde_json::Value;

use super::{Layers, Raw, SettingError, SettingSource, TrainConfig};

impl TrainConfig {
    /// The config, if a config file could contain the same: every value is in its range, and all required settings are given.
    ///
    /// # Errors
    /// The first setting that cannot be used, or a conflict between settings.
    pub(crate) fn checked(&self) -> Result<TrainConfig, SettingError> {
        let as_json = |config: &TrainConfig| serde_json::to_value(config).map_err(|e| SettingError::Conflict(e.to_string()));
        let (values, default) = (as_json(self)?, as_json(&TrainConfig::default())?);
        let mut layers = Layers::default();
        for (name, value) in values.as_object().into_iter().flatten().filter(|(name, value)| default.get(name) != Some(value)) {
            layers.put(name, &raw_of_json(value), SettingSource::File("TrainConfig".into()))?;
        }
        layers.resolve()
    }
}

fn raw_of_json(value: &Value) -> Raw {
    match value {
        Value::String(text) => Raw::Quoted(text.clone()),
        Value::Bool(flag) => Raw::Flag(*flag),
        Value::Number(number) => number.as_i64().map_or(Raw::Number(number.as_f64().unwrap_or(f64::NAN)), Raw::Int),
        // serde_json writes NaN and infinities as null.
        _ => Raw::Number(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TrainConfig {
        let (model, file, output) = (Some("base".into()), "train.jsonl".into(), "judge".into());
        TrainConfig { model_name_or_path: model, train_file: file, output_dir: output, ..TrainConfig::default() }
    }

    #[test]
    fn a_config_made_by_a_program_obeys_the_rules() {
        assert_eq!(config().checked().unwrap(), config());
        let cases: [(TrainConfig, &str); 3] = [
            (TrainConfig { learning_rate: f64::NAN, ..config() }, "TrainConfig: learning_rate = NaN: expected"),
            (TrainConfig { num_generations: 0, ..config() }, "TrainConfig: num_generations = 0: expected"),
            (TrainConfig { train_file: String::new(), ..config() }, "train_file is not set"),
        ];
        for (config, message) in cases {
            let error = config.checked().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
