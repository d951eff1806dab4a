//! Writes a trained judge as a bundle for a web page: `cargo run --release --example export -- JUDGE OUTPUT [f32|f16|bf16|q8|q4]`.

use jurist::{ExportOptions, export};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(judge), Some(output)) = (args.next(), args.next()) else {
        return Err("usage: export JUDGE OUTPUT [f32|f16|bf16|q8|q4]".into());
    };
    let weights = args.next().unwrap_or("f16".into()).parse()?;
    let bundle = export(judge, &output, &ExportOptions { weights, ..ExportOptions::default() })?;
    println!("{output}: {} parameters in {} files, {} bytes", bundle.parameters, bundle.shards, bundle.bytes);
    Ok(())
}
