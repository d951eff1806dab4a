//! Clusters: rows that belong together (answers to one prompt, rows of one rubric) and may be alike. Each is a number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Numbers the names of clusters as they come.
#[derive(Clone, Debug, Default)]
pub struct ClusterNumbers(HashMap<String, usize>);

impl ClusterNumbers {
    /// The number of the cluster with this name.
    pub fn number(&mut self, name: &str) -> usize {
        let next = self.0.len();
        match self.0.get(name) {
            Some(number) => *number,
            None => *self.0.entry(name.into()).or_insert(next),
        }
    }
}

/// The cluster of each row, by its text. Clusters are numbered in the order of their texts.
pub fn clusters_of(texts: &[String]) -> Vec<usize> {
    let mut known: Vec<&String> = texts.iter().collect();
    known.sort_unstable();
    known.dedup();
    texts.iter().map(|text| known.partition_point(|k| *k < text)).collect()
}

/// The rows of each cluster, in the order of the clusters' numbers. Without clusters, each of `rows` rows is one.
pub fn rows_by_cluster(rows: usize, clusters: Option<&[usize]>) -> Vec<Vec<usize>> {
    let Some(clusters) = clusters else { return (0..rows).map(|row| vec![row]).collect() };
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    clusters.iter().enumerate().for_each(|(row, cluster)| members.entry(*cluster).or_default().push(row));
    members.into_values().collect()
}

/// How many clusters there are among these.
pub fn distinct(clusters: impl IntoIterator<Item = usize>) -> usize {
    clusters.into_iter().collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_find_their_cluster() {
        let names = ["b", "a", "b"].map(String::from);
        let mut numbers = ClusterNumbers::default();
        assert_eq!(names.each_ref().map(|name| numbers.number(name)), [0, 1, 0]);
        assert_eq!(clusters_of(&names), [1, 0, 1]);
        assert_eq!(rows_by_cluster(3, Some(&[7, 2, 7])), [vec![1], vec![0, 2]]);
        assert_eq!(rows_by_cluster(2, None), [[0], [1]]);
        assert_eq!((distinct([7, 2, 7]), distinct([])), (2, 0));
    }
}
