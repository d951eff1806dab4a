//! Trains a judge with REAL: `cargo run --release --example train -- MODEL ROWS OUTPUT [STEPS]`.
//!
//! MODEL is a Hugging Face folder, or a judge that was trained by imitation; ROWS is a data file with human scores.

use jurist::{Method, Progress, TrainConfig, Trainer};

/// Prints what the run tells.
struct Lines;

impl Progress for Lines {
    fn step(&mut self, done: u64, loss: f64) {
        println!("step {done}: loss {loss:.4}");
    }

    fn note(&mut self, line: &str) {
        println!("{line}");
    }

    fn warn(&mut self, line: &str) {
        eprintln!("{line}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(rows), Some(output)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: train MODEL ROWS OUTPUT [STEPS]".into());
    };
    let steps = args.next().map_or(Ok(100), |steps| steps.parse())?;
    let config = TrainConfig {
        method: Method::Real,
        model_name_or_path: Some(model),
        train_file: rows,
        output_dir: output,
        max_steps: steps,
        ..TrainConfig::default()
    };
    let outcome = Trainer::new(config).progress(Lines).run()?;
    println!("{outcome:?}");
    Ok(())
}
