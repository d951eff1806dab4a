//! Scores one response: `cargo run --release --example score -- JUDGE INSTRUCTION RESPONSE [RUBRIC]`.

use jurist::{Case, Judge};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(judge), Some(instruction), Some(response)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: score JUDGE INSTRUCTION RESPONSE [RUBRIC]".into());
    };
    let judge = Judge::load(judge)?;
    let mut case = Case::new(instruction, response);
    if let Some(rubric) = args.next() {
        case = case.rubric(rubric);
    }
    let score = judge.score(&case)?;
    if let Some(chain) = &score.chain {
        println!("{chain}");
    }
    println!("expected {:.3}, decoded {}", score.expected, score.decoded);
    for (value, p) in &score.distribution {
        println!("{value:>5} {p:.3} {}", "#".repeat((p * 40.0).round() as usize));
    }
    Ok(())
}
