//! `jurist data split`: rows into files for training, development and testing, by whole clusters.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::columns::{CLUSTERS, column};
use super::{CliError, Context, DataSplitArgs, print, print_json};
use crate::data::{Chains, ColumnOptions, Dataset, Labels, Reader, SplitPart, cluster_keys, split_clusters};
use crate::eval::table::{Cell, Table};
use crate::files::{FileError, write};
use crate::progress::Progress;
use crate::words::count;

/// Splits a file.
pub fn run(args: &DataSplitArgs, context: &Context) -> Result<(), CliError> {
    let wanted = parts_of(&args.parts)?;
    let places: Vec<PathBuf> = wanted.iter().map(|(name, _)| args.output_dir.join(format!("{name}.jsonl"))).collect();
    if let Some(place) = places.iter().find(|place| place.exists()) {
        let problem = "a split replaces no file; move it away or choose another --output-dir";
        return Err(FileError::in_the_way(place, problem).into());
    }
    let columns = ColumnOptions { labels: Labels::Ignored, chains: Chains::Ignore, ..ColumnOptions::default() };
    let reader = Reader { columns, skip_bad: args.skip_bad, max_decompressed: args.max_decompressed, ..Reader::default() };
    let data = reader.read_path(&args.file)?;
    if let Some(first) = data.bad.first() {
        context.progress().warn(&format!("{}: {} left out, the first: {first}", data.file, count(data.bad.len(), "bad row")));
    }
    let named = column(&data, args.cluster.as_deref(), &CLUSTERS, &mut context.progress())?;
    let keys = cluster_keys(&data, named.as_ref().map(|(_, texts)| texts.as_slice()));
    let clusters = keys.iter().collect::<BTreeSet<_>>().len();
    let shares: Vec<f64> = wanted.iter().map(|(_, share)| *share).collect();
    let parts = split_clusters(&keys, &shares, args.seed);
    if let Some(at) = parts.iter().position(|part| part.rows.is_empty()) {
        return Err(CliError::Failed(format!(
            "{}: {} in {} leave no row for the part `{}`; give fewer parts or larger shares",
            data.file,
            count(data.examples.len(), "row"),
            count(clusters, "cluster"),
            wanted[at].0
        )));
    }
    std::fs::create_dir_all(&args.output_dir).map_err(|e| FileError::io("create", &args.output_dir, e))?;
    for (place, part) in places.iter().zip(&parts) {
        let lines: String = part.rows.iter().map(|row| data.examples[*row].row.to_json() + "\n").collect();
        write(place, lines.as_bytes())?;
    }
    let found = Split { data: &data, places: &places, wanted: &wanted, parts: &parts };
    let by = named.map(|(name, _)| name);
    match args.json {
        true => print_json(&found.to_json(by, clusters)),
        false => print(&found.to_text(by, clusters)),
    }
}

/// The names of the parts and their shares.
fn parts_of(spec: &str) -> Result<Vec<(String, f64)>, CliError> {
    let usage =
        |problem: String| CliError::Usage(format!("--parts {spec}: {problem}; expected NAME=SHARE,... as in train=0.9,dev=0.1"));
    let mut parts: Vec<(String, f64)> = Vec::new();
    for text in spec.split(',').map(str::trim) {
        let Some((name, share)) = text.split_once('=') else { return Err(usage(format!("`{text}` has no share"))) };
        let (name, share) = (name.trim(), share.trim());
        let plain = |c: char| c.is_alphanumeric() || ['-', '_'].contains(&c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(usage(format!("`{name}` is no name of letters, digits, - and _")));
        }
        // Some systems take names that differ in case for one.
        if parts.iter().any(|(other, _)| other.to_lowercase() == name.to_lowercase()) {
            return Err(usage(format!("`{name}` is there twice")));
        }
        match share.parse::<f64>().ok().filter(|share| share.is_finite() && *share > 0.0) {
            Some(share) => parts.push((name.into(), share)),
            None => return Err(usage(format!("the share of `{name}` is `{share}`, which is no number above 0"))),
        }
    }
    let sum: f64 = parts.iter().map(|(_, share)| share).sum();
    // Thirds have no end: three shares of 0.333 are one each of three.
    match (parts.len() > 1, (sum - 1.0).abs() < 0.005) {
        (false, _) => Err(usage("a split has at least two parts".into())),
        (_, false) => Err(usage(format!("the shares sum to {sum}, not to 1"))),
        _ if (sum - 1.0).abs() < 1e-9 => Ok(parts),
        _ => Ok(parts.into_iter().map(|(name, share)| (name, share / sum)).collect()),
    }
}

/// A finished split.
struct Split<'a> {
    data: &'a Dataset,
    places: &'a [PathBuf],
    wanted: &'a [(String, f64)],
    parts: &'a [SplitPart],
}

impl Split<'_> {
    /// Each part with its file, and its share of the rows.
    fn parts(&self) -> impl Iterator<Item = (&str, &Path, &SplitPart, f64)> {
        let rows = self.data.examples.len() as f64;
        let named = self.wanted.iter().zip(self.places).zip(self.parts);
        named.map(move |(((name, _), place), part)| (name.as_str(), place.as_path(), part, part.rows.len() as f64 / rows))
    }

    fn to_text(&self, by: Option<String>, clusters: usize) -> String {
        let mut table = Table::new(["part", "rows", "share", "asked", "clusters", "file"]);
        for ((name, place, part, share), (_, asked)) in self.parts().zip(self.wanted) {
            let percent = |share: f64| Cell::from(format!("{:.1} %", 100.0 * share));
            let [rows, clusters] = [part.rows.len(), part.clusters].map(|n| Cell::from(n.to_string()));
            let file = Cell::from(place.display().to_string());
            table.row([Cell::from(name), rows, percent(share), percent(*asked), clusters, file]);
        }
        let by = by.map_or("instruction or prompt".to_string(), |column| format!("`{column}`"));
        let rows = count(self.data.examples.len(), "row");
        format!("{table}{}: {rows} in {} by {by}, and by equal texts\n", self.data.file, count(clusters, "cluster"))
    }

    fn to_json(&self, by: Option<String>, clusters: usize) -> Value {
        let part = |(name, place, part, share): (&str, &Path, &SplitPart, f64)| json!({"name": name, "file": place.display().to_string(), "rows": part.rows.len(), "share": share, "clusters": part.clusters});
        json!({
            "file": self.data.file,
            "rows": self.data.examples.len(),
            "bad": self.data.bad.len(),
            "cluster": by,
            "clusters": clusters,
            "parts": self.parts().map(part).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_names_with_shares() {
        assert_eq!(parts_of("a=0.75, b=0.25").unwrap(), [("a".to_string(), 0.75), ("b".into(), 0.25)]);
        for (spec, part) in [
            ("train", "`train` has no share"),
            ("train=1", "at least two parts"),
            ("train=0.8,dev=0.1", "the shares sum to 0.9"),
            ("train=0.8,../dev=0.2", "`../dev` is no name"),
            ("a=0.5,a=0.5", "`a` is there twice"),
            ("a=x,b=1", "the share of `a` is `x`"),
            ("a=0,b=1", "no number above 0"),
        ] {
            let found = parts_of(spec).unwrap_err();
            assert!(found.to_string().contains(part) && found.exit_code() == 2, "{found}");
        }
    }
}
