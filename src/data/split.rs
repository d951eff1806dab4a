//! Splits rows into parts, such as training and test rows, so that rows which belong together are in the same part.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::survey::judged_text;
use super::{Dataset, Example, Pairing, Prompt, pairing};

/// One part of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitPart {
    /// Its rows, by their numbers, in the file's order.
    pub rows: Vec<usize>,
    /// The number of clusters in it.
    pub clusters: usize,
}

/// The cluster of each row: rows with the same text in `column` belong together (without a column, rows with the same
/// instruction or prompt), and so do rows that read the same, ignoring case, punctuation and spaces. A cluster with several
/// such texts has the first of them in the order of the alphabet.
pub fn cluster_keys(data: &Dataset, column: Option<&[String]>) -> Vec<String> {
    let rows = data.examples.len();
    // Each row points to an earlier row of its cluster, or to itself.
    let mut first: Vec<usize> = (0..rows).collect();
    fn root(first: &mut [usize], mut row: usize) -> usize {
        while first[row] != row {
            first[row] = first[first[row]];
            row = first[row];
        }
        row
    }
    let name = |row: usize| column.map_or_else(|| asked(&data.examples[row]), |texts| texts[row].clone());
    let texts: [&dyn Fn(usize) -> String; 2] = [&name, &|row| judged_text(&data.examples[row], true)];
    for text in texts {
        let mut seen: HashMap<[u8; 32], usize> = HashMap::new();
        for row in 0..rows {
            let earlier = *seen.entry(Sha256::digest(text(row).as_bytes()).into()).or_insert(row);
            let (a, b) = (root(&mut first, earlier), root(&mut first, row));
            first[a.max(b)] = a.min(b);
        }
    }
    let roots: Vec<usize> = (0..rows).map(|row| root(&mut first, row)).collect();
    let mut keys: HashMap<usize, String> = HashMap::new();
    for (row, root) in roots.iter().enumerate() {
        let own = name(row);
        let key = keys.entry(*root).or_insert_with(|| own.clone());
        if own < *key {
            *key = own;
        }
    }
    roots.iter().map(|root| keys[root].clone()).collect()
}

/// What was asked in a row: the instruction of a graded response or of a pair, else the prompt, else every text.
fn asked(example: &Example) -> String {
    let loosely = |text: &str| {
        let lower = text.to_lowercase();
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    match (&example.record.grading, pairing(&example.row), &example.record.prompt) {
        (Some(parts), _, _) => loosely(&parts.instruction),
        (None, Ok(Some(Pairing { instruction: Some(instruction), .. })), _) => loosely(&instruction),
        (None, _, Some(Prompt::Text(text))) => loosely(text),
        (None, _, _) => judged_text(example, true),
    }
}

/// Distributes whole clusters over parts whose sizes are near these shares of the rows. The clusters are taken in the order of a
/// hash of `seed` and their texts, and each goes to the part that lacks most rows, so equal rows give equal parts, whatever order
/// they have in the file.
pub fn split_clusters(keys: &[String], shares: &[f64], seed: u64) -> Vec<SplitPart> {
    let mut clusters: BTreeMap<([u8; 32], &str), Vec<usize>> = BTreeMap::new();
    for (row, key) in keys.iter().enumerate() {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(key.as_bytes());
        clusters.entry((hash.finalize().into(), key.as_str())).or_default().push(row);
    }
    let total: f64 = shares.iter().sum();
    let mut parts = vec![SplitPart { rows: Vec::new(), clusters: 0 }; shares.len()];
    for rows in clusters.into_values() {
        let lack = |part: usize| shares[part] / total * keys.len() as f64 - parts[part].rows.len() as f64;
        let most = (0..parts.len()).fold(0, |best, part| if lack(part) > lack(best) { part } else { best });
        parts[most].rows.extend(rows);
        parts[most].clusters += 1;
    }
    parts.iter_mut().for_each(|part| part.rows.sort_unstable());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ColumnOptions, Labels, Reader};

    fn read(text: &str) -> Dataset {
        let columns = ColumnOptions { labels: Labels::Ignored, ..ColumnOptions::default() };
        Reader { columns, ..Reader::default() }.read_str("rows.jsonl", text).unwrap()
    }

    #[test]
    fn rows_that_belong_together_have_one_key() {
        let data = read(
            "{\"instruction\":\"Say hi\",\"response\":\"a\"}\n{\"instruction\":\"say HI!\",\"response\":\"b\"}\n\
             {\"instruction\":\"Other\",\"response\":\"c\"}\n",
        );
        let keys = cluster_keys(&data, None);
        assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
        // Named clusters, and a row that reads like one of another name: both names are one cluster.
        let data = read("{\"prompt\":\"p\"}\n{\"prompt\":\"q\"}\n{\"prompt\":\"P.\"}\n{\"prompt\":\"r\"}\n{\"prompt\":\"s\"}");
        let names = ["a", "a", "b", "b", "c"].map(String::from);
        assert_eq!(cluster_keys(&data, Some(&names)), ["a", "a", "a", "a", "c"]);
    }

    #[test]
    fn parts_have_their_shares_and_whole_clusters() {
        let keys: Vec<String> = (0..1000).map(|row| format!("cluster {}", row % 137)).collect();
        let parts = split_clusters(&keys, &[0.8, 0.1, 0.1], 1);
        let sizes: Vec<usize> = parts.iter().map(|part| part.rows.len()).collect();
        assert!(sizes.iter().zip([800, 100, 100]).all(|(found, wanted)| found.abs_diff(wanted) <= 8), "{sizes:?}");
        assert_eq!((sizes.iter().sum::<usize>(), parts.iter().map(|part| part.clusters).sum::<usize>()), (1000, 137));
        for (n, part) in parts.iter().enumerate() {
            assert!(part.rows.windows(2).all(|pair| pair[0] < pair[1]));
            for other in &parts[n + 1..] {
                assert!(part.rows.iter().all(|row| other.rows.iter().all(|elsewhere| keys[*row] != keys[*elsewhere])));
            }
        }
        assert_eq!(parts, split_clusters(&keys, &[8.0, 1.0, 1.0], 1));
        assert_ne!(parts, split_clusters(&keys, &[0.8, 0.1, 0.1], 2));
        // Another order of the rows: the same texts in each part.
        let reversed: Vec<String> = keys.iter().rev().cloned().collect();
        let texts = |keys: &[String], parts: &[SplitPart]| -> Vec<std::collections::BTreeSet<String>> {
            parts.iter().map(|part| part.rows.iter().map(|row| keys[*row].clone()).collect()).collect()
        };
        assert_eq!(texts(&reversed, &split_clusters(&reversed, &[0.8, 0.1, 0.1], 1)), texts(&keys, &parts));
    }
}
