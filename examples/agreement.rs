//! How well a judge agrees with people, from two columns of a data file:
//! `cargo run --release --example agreement -- FILE HUMAN_COLUMN JUDGE_COLUMN`.

use jurist::{Dataset, metrics};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(human), Some(judge)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: agreement FILE HUMAN_COLUMN JUDGE_COLUMN".into());
    };
    let number = |case: &jurist::Case, column: &str| -> Option<f64> {
        let value = case.columns().get(column)?;
        value.as_f64().or_else(|| value.as_str()?.parse().ok())
    };
    let dataset = Dataset::read(file)?;
    let both = dataset.cases().filter_map(|case| Some((number(&case, &human)?, number(&case, &judge)?)));
    let (human, judge): (Vec<f64>, Vec<f64>) = both.unzip();
    println!("{} of {} rows have both scores", human.len(), dataset.len());
    for (name, figure) in [
        ("Pearson", metrics::pearson(&human, &judge)),
        ("Spearman", metrics::spearman(&human, &judge)),
        ("Kendall tau-b", metrics::kendall_tau_b(&human, &judge)),
        ("RMSE", metrics::rmse(&human, &judge)),
        ("Wasserstein-1", metrics::wasserstein_1(&human, &judge)),
    ] {
        match figure {
            Ok(value) => println!("{name:>14} {value:.3}"),
            Err(reason) => println!("{name:>14} undefined: {reason}"),
        }
    }
    Ok(())
}
