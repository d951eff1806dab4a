//! Compares two judges over several test sets and seeds: the mean difference of their correlations with people, and its interval
//! from paired resamples.
//!
//! A resample repeats some rows and leaves out others, so it is a count for each row, which a prepared [`Sample`] tallies. A
//! comparison has a hundred pairs of judges with thousands of resamples each.

use super::tally::Sample;

/// Scores of two judges on the same rows. The caller chooses the seeds and rows of each resample.
#[derive(Clone, Debug)]
pub struct PairedSets {
    sets: Vec<PairedSet>,
    seeds: usize,
}

/// One test set: people's scores beside those of each judge, by seed.
#[derive(Clone, Debug)]
struct PairedSet {
    rows: usize,
    judge: Vec<Sample>,
    other: Vec<Sample>,
}

/// A resample: the drawn seeds, and the drawn rows of each set, with repetitions.
pub type Resample = (Vec<usize>, Vec<Vec<usize>>);

impl PairedSets {
    /// Human scores as `[set][row]`, those of both judges as `[seed][set][row]`, with the same seeds, sets and rows.
    pub fn new(human: &[Vec<f64>], judge: &[Vec<&[f64]>], other: &[Vec<&[f64]>]) -> Self {
        let set = |(set, human): (usize, &Vec<f64>)| {
            let samples = |judge: &[Vec<&[f64]>]| judge.iter().map(|sets| Sample::of(human, sets[set], None)).collect();
            PairedSet { rows: human.len(), judge: samples(judge), other: samples(other) }
        };
        PairedSets { sets: human.iter().enumerate().map(set).collect(), seeds: judge.len() }
    }

    /// Pearson correlation of the judge minus that of the other, averaged over sets and seeds; `None` where one of them is
    /// undefined.
    pub fn difference(&self, (seeds, rows): &Resample) -> Option<f64> {
        let times_of_seed = counts(seeds, self.seeds);
        let mut sum = 0.0;
        for (set, rows) in self.sets.iter().zip(rows) {
            let times_of_row = counts(rows, set.rows);
            for (seed, times) in times_of_seed.iter().enumerate().filter(|(_, times)| **times > 0) {
                let correlation = |judge: &[Sample]| judge[seed].tally_of(&times_of_row).pearson().ok();
                sum += f64::from(*times) * (correlation(&set.judge)? - correlation(&set.other)?);
            }
        }
        Some(sum / (rows.len() * seeds.len()) as f64)
    }

    /// All seeds and rows, once each.
    pub fn full_sample(&self) -> Resample {
        ((0..self.seeds).collect(), self.sets.iter().map(|set| (0..set.rows).collect()).collect())
    }

    /// The 95 % percentile interval of [`PairedSets::difference`]; `draw(k)` returns resample k. Resamples without a value are
    /// left out.
    pub fn interval(&self, resamples: u64, draw: impl Fn(u64) -> Resample) -> Option<(f64, f64)> {
        let mut differences: Vec<f64> = (0..resamples).filter_map(|k| self.difference(&draw(k))).collect();
        differences.sort_by(f64::total_cmp);
        let at = |share: f64| differences.get((share * differences.len() as f64) as usize).copied();
        Some((at(0.025)?, at(0.975)?))
    }
}

/// How often each index below `n` was drawn.
fn counts(drawn: &[usize], n: usize) -> Vec<u32> {
    let mut times = vec![0; n];
    drawn.iter().for_each(|index| times[*index] += 1);
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::pearson;
    use crate::random::Stream;

    fn slices(scores: &[Vec<Vec<f64>>]) -> Vec<Vec<&[f64]>> {
        scores.iter().map(|sets| sets.iter().map(Vec::as_slice).collect()).collect()
    }

    /// Three judges of two sets of 300 rows, who read human scores with noise: `[seed][set][row]`.
    fn noisy(human: &[Vec<f64>], noise: f64, stream: &mut Stream) -> Vec<Vec<Vec<f64>>> {
        let mut one = |set: &Vec<f64>| set.iter().map(|h| h + noise * stream.normal()).collect::<Vec<f64>>();
        (0..3).map(|_| human.iter().map(&mut one).collect()).collect()
    }

    #[test]
    fn the_interval_detects_a_better_judge_but_not_an_equal_one() {
        let mut stream = Stream::new(1, 1);
        let human: Vec<Vec<f64>> = vec![(0..300).map(|_| stream.normal()).collect(); 2];
        let [good, same, bad] = [0.5, 0.5, 1.5].map(|noise| noisy(&human, noise, &mut stream));
        let sets = |other| PairedSets::new(&human, &slices(&good), &slices(other));
        let draw = |k: u64| {
            let mut stream = Stream::new(k, 7);
            let mut some = |n: usize| (0..n).map(|_| stream.below(n)).collect::<Vec<usize>>();
            (some(3), vec![some(300), some(300)])
        };
        let better = sets(&bad);
        let ((low, high), full_sample) = (better.interval(500, draw).unwrap(), better.difference(&better.full_sample()).unwrap());
        assert!(low > 0.2 && low < full_sample && full_sample < high && high < 0.5, "{low} {full_sample} {high}");
        let (low, high) = sets(&same).interval(500, draw).unwrap();
        assert!(low < 0.0 && high > 0.0, "{low} {high}");
    }

    #[test]
    fn a_resample_is_the_mean_difference_of_the_correlations_of_its_rows() {
        let mut stream = Stream::new(2, 1);
        let human: Vec<Vec<f64>> = vec![(0..40).map(|_| 1e4 + stream.normal()).collect(); 2];
        let [judge, other] = [0.5, 1.5].map(|noise| noisy(&human, noise, &mut stream));
        let (seeds, rows) = (vec![2, 0, 2], vec![vec![3, 3, 7, 12, 39, 0], vec![5, 6, 5, 6, 1]]);
        let mut expected = 0.0;
        for (set, rows) in rows.iter().enumerate() {
            let pick = |column: &[f64]| rows.iter().map(|row| column[*row]).collect::<Vec<f64>>();
            for seed in &seeds {
                let of = |scores: &[Vec<Vec<f64>>]| pearson(&pick(&human[set]), &pick(&scores[*seed][set])).unwrap();
                expected += (of(&judge) - of(&other)) / 6.0;
            }
        }
        let sets = PairedSets::new(&human, &slices(&judge), &slices(&other));
        let found = sets.difference(&(seeds, rows)).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn a_constant_column_has_no_correlation() {
        let human = vec![vec![1.0, 2.0, 2.0, 3.1]];
        let (judge, constant) = ([vec![vec![1.3, 1.0, 2.0, 2.0]]], [vec![vec![0.1; 4]]]);
        let sets = PairedSets::new(&human, &slices(&judge), &slices(&judge));
        assert_eq!(sets.difference(&sets.full_sample()), Some(0.0));
        // One row, twice; two rows that people, then the judge, scored the same.
        for rows in [vec![0, 0], vec![1, 2], vec![2, 3]] {
            assert_eq!(sets.difference(&(vec![0], vec![rows])), None);
        }
        let sets = PairedSets::new(&human, &slices(&judge), &slices(&constant));
        assert_eq!(sets.difference(&sets.full_sample()), None);
    }
}
