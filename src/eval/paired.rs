//! Compares two judges over several test sets and seeds: the mean difference of their correlations with people, and its interval
//! from paired resamples.

use super::pearson;

/// Scores of two judges on the same rows. The caller chooses the seeds and rows of each resample.
#[derive(Clone, Debug)]
pub struct PairedSets<'a> {
    /// Human scores: `[set][row]`.
    pub human: &'a [Vec<f64>],
    /// The judge's scores: `[seed][set][row]`.
    pub judge: Vec<Vec<&'a [f64]>>,
    /// The other judge's scores, with the same seeds, sets and rows.
    pub other: Vec<Vec<&'a [f64]>>,
}

/// A resample: the drawn seeds, and the drawn rows of each set, with repetitions.
pub type Resample = (Vec<usize>, Vec<Vec<usize>>);

impl PairedSets<'_> {
    /// Pearson correlation of the judge minus that of the other, averaged over sets and seeds; `None` where one of them is
    /// undefined.
    pub fn difference(&self, (seeds, rows): &Resample) -> Option<f64> {
        let mut sum = 0.0;
        for (set, rows) in rows.iter().enumerate() {
            let pick = |values: &[f64]| rows.iter().map(|row| values[*row]).collect::<Vec<f64>>();
            let people = pick(&self.human[set]);
            for seed in seeds {
                let correlation = |scores: &[Vec<&[f64]>]| pearson(&people, &pick(scores[*seed][set])).ok();
                sum += correlation(&self.judge)? - correlation(&self.other)?;
            }
        }
        Some(sum / (rows.len() * seeds.len()) as f64)
    }

    /// All seeds and rows, once each.
    pub fn full_sample(&self) -> Resample {
        ((0..self.judge.len()).collect(), self.human.iter().map(|set| (0..set.len()).collect()).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn the_interval_detects_a_better_judge_but_not_an_equal_one() {
        let mut stream = Stream::new(1, 1);
        let human: Vec<Vec<f64>> = vec![(0..300).map(|_| stream.normal()).collect(); 2];
        let mut noisy = |noise: f64| -> Vec<Vec<Vec<f64>>> {
            let one = |set: &Vec<f64>, stream: &mut Stream| set.iter().map(|h| h + noise * stream.normal()).collect::<Vec<f64>>();
            (0..3).map(|_| human.iter().map(|set| one(set, &mut stream)).collect()).collect()
        };
        fn slices(scores: &[Vec<Vec<f64>>]) -> Vec<Vec<&[f64]>> {
            scores.iter().map(|sets| sets.iter().map(Vec::as_slice).collect()).collect()
        }
        let (good, same, bad) = (noisy(0.5), noisy(0.5), noisy(1.5));
        let sets = |other| PairedSets { human: &human, judge: slices(&good), other: slices(other) };
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
        // A single row does not have a correlation.
        assert_eq!(better.difference(&(vec![0], vec![vec![0]])), None);
    }
}
