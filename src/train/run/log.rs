//! The log of a run: lines of metrics in `metrics.jsonl`.

use std::io::{self, Write};

use serde_json::{Map, Number, Value};

/// One line of `metrics.jsonl`, under TRL's names, with values in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Map<String, Value>);

impl Metrics {
    /// A line of step `step` after `epoch` epochs.
    pub fn at(step: u64, epoch: f64) -> Self {
        let mut metrics = Metrics::default();
        metrics.0.insert("step".into(), step.into());
        metrics.with("epoch", epoch)
    }

    /// Adds a number. One that is not finite becomes `null`, because JSON cannot represent it.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.put(name, value);
        self
    }

    /// Adds a number, as [`Metrics::with`].
    pub fn put(&mut self, name: &str, value: f64) {
        self.0.insert(name.into(), Number::from_f64(value).map_or(Value::Null, Value::Number));
    }

    /// Adds a whole number.
    pub fn count(mut self, name: &str, value: u64) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    /// The names of the values.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Reads what [`Metrics::to_json`] wrote.
    pub fn from_json(line: &[u8]) -> Self {
        Metrics(serde_json::from_slice(line).unwrap_or_default())
    }

    /// The line as JSON, without a line break.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

/// The metrics of every training step (TRL's SFT names).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    pub step: u64,
    pub epoch: f64,
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    /// Tokens seen since the start of the run.
    pub num_tokens: u64,
    /// Share of target tokens that are the model's most likely ones.
    pub mean_token_accuracy: Option<f64>,
    /// Mean entropy of the next-token distribution, in nats.
    pub entropy: Option<f64>,
    /// Steps skipped so far because their gradient was not finite.
    pub nonfinite_steps: u64,
    /// Duration of the step in seconds.
    pub step_time: f64,
}

impl StepReport {
    /// The report as a line of `metrics.jsonl`.
    pub fn metrics(&self) -> Metrics {
        let mut line = Metrics::at(self.step, self.epoch)
            .with("loss", self.loss)
            .with("grad_norm", self.grad_norm)
            .with("learning_rate", self.learning_rate)
            .count("num_tokens", self.num_tokens);
        for (name, value) in [("mean_token_accuracy", self.mean_token_accuracy), ("entropy", self.entropy)] {
            if let Some(value) = value {
                line.put(name, value);
            }
        }
        if self.nonfinite_steps > 0 {
            line = line.count("nonfinite_steps", self.nonfinite_steps);
        }
        line.with("step_time", self.step_time)
    }
}

/// Writes one JSON line per step, flushes each, and counts the bytes in the file: the offset that a checkpoint stores.
#[derive(Debug)]
pub struct MetricsWriter<W: Write> {
    sink: W,
    bytes: u64,
}

impl<W: Write> MetricsWriter<W> {
    /// Writes to `sink`, which already holds `bytes` bytes.
    pub fn new(sink: W, bytes: u64) -> Self {
        MetricsWriter { sink, bytes }
    }

    /// Writes one line.
    pub fn write(&mut self, metrics: &Metrics) -> io::Result<()> {
        let line = metrics.to_json() + "\n";
        self.sink.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        self.sink.flush()
    }

    /// Bytes in the file, including those of earlier runs.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sink that lines are written to.
    pub fn sink(&self) -> &W {
        &self.sink
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_json_lines() {
        let report = StepReport {
            step: 3,
            epoch: 0.5,
            loss: 1.25,
            grad_norm: f64::NAN,
            learning_rate: 3e-4,
            num_tokens: 12,
            mean_token_accuracy: Some(0.5),
            entropy: None,
            nonfinite_steps: 0,
            step_time: 0.0,
        };
        let mut writer = MetricsWriter::new(Vec::new(), 100);
        writer.write(&report.metrics()).unwrap();
        writer.write(&Metrics::at(3, 0.5).with("eval_loss", 2.0)).unwrap();
        let text = String::from_utf8(writer.sink().clone()).unwrap();
        assert_eq!(
            text,
            "{\"step\":3,\"epoch\":0.5,\"loss\":1.25,\"grad_norm\":null,\"learning_rate\":0.0003,\"num_tokens\":12,\
             \"mean_token_accuracy\":0.5,\"step_time\":0.0}\n{\"step\":3,\"epoch\":0.5,\"eval_loss\":2.0}\n"
        );
        assert_eq!(writer.bytes(), 100 + text.len() as u64);
        assert_eq!(report.metrics().get("loss"), Some(1.25));
    }
}
