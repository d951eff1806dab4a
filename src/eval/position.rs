//! Pairwise judges: does the verdict follow the answer or its place? Each pair is judged twice, the second time swapped.

use super::{Measured, Undefined, at_least};

/// What a pairwise judge said of two answers, by the place where they stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer shown first is better.
    First,
    /// The answer shown second is better.
    Second,
    /// Neither.
    Tie,
}

/// How far a judge's verdicts depend on the order of the answers.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionBias {
    /// Pairs judged in both orders.
    pub n: usize,
    /// Share of pairs whose two verdicts name the same answer (or are ties both times).
    pub consistency: Measured,
    /// Share of verdicts for the first answer, among those that are no ties, minus 1/2: positive for a judge that likes
    /// what it reads first.
    pub first_wins: Measured,
    /// Two-sided exact binomial p-value of `first_wins`, over the pairs whose verdict follows the place both times (other
    /// pairs say nothing: one verdict of each).
    pub p: Measured,
    /// Consistency over what the judge reaches when asked twice in the *same* order: 1 for a judge whose inconsistency is
    /// noise alone. Undefined without such repeats.
    pub repetition_corrected: Measured,
}

/// Measures pairs judged as (in the given order, swapped). `repeats` are pairs judged twice in the same order, if any.
pub fn position_bias(pairs: &[(Verdict, Verdict)], repeats: &[(Verdict, Verdict)]) -> PositionBias {
    let share = |part: usize, whole: usize| at_least(1, whole).map(|()| part as f64 / whole as f64);
    let consistent = pairs.iter().filter(|(given, swapped)| *given == turned(*swapped)).count();
    let consistency = share(consistent, pairs.len());
    let of = |verdict: Verdict| pairs.iter().flat_map(|(a, b)| [a, b]).filter(|v| **v == verdict).count();
    let (first, second) = (of(Verdict::First), of(Verdict::Second));
    let both = |verdict: Verdict| pairs.iter().filter(|pair| **pair == (verdict, verdict)).count() as u64;
    let repeated = share(repeats.iter().filter(|(a, b)| a == b).count(), repeats.len());
    let corrected = match (&consistency, repeated) {
        (Ok(_), Ok(0.0)) => Err(Undefined::NoVariance),
        (Ok(consistency), Ok(repeated)) => Ok(consistency / repeated),
        (Err(reason), _) => Err(reason.clone()),
        (_, Err(_)) => Err(Undefined::NoRepeats),
    };
    PositionBias {
        n: pairs.len(),
        consistency,
        first_wins: share(first, first + second).map(|p| p - 0.5),
        p: at_least(1, pairs.len()).map(|()| binomial_two_sided(both(Verdict::First), both(Verdict::Second))),
        repetition_corrected: corrected,
    }
}

fn turned(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::First => Verdict::Second,
        Verdict::Second => Verdict::First,
        Verdict::Tie => Verdict::Tie,
    }
}

/// Probability that a fair coin falls at least as unevenly as `heads` to `tails`; 1 for no throw.
fn binomial_two_sided(heads: u64, tails: u64) -> f64 {
    let (n, rarer) = (heads + tails, heads.min(tails));
    if 2 * rarer == n {
        return 1.0;
    }
    // Each term from the one before in logarithms, so that thousands of throws do not vanish.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log.exp();
    for k in 1..=rarer {
        log += ((n - k + 1) as f64).ln() - (k as f64).ln();
        tail += log.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{First, Second, Tie};

    #[test]
    fn a_judge_of_places_and_a_judge_of_answers() {
        let places = position_bias(&[(First, First); 8], &[]);
        assert_eq!((places.consistency, places.first_wins), (Ok(0.0), Ok(0.5)));
        assert!((places.p.unwrap() - 2.0 / 256.0).abs() < 1e-15);
        assert_eq!(places.repetition_corrected, Err(Undefined::NoRepeats));

        let answers =
            position_bias(&[(First, Second), (Second, First), (Tie, Tie), (First, Tie)], &[(First, First), (First, Second)]);
        assert_eq!(answers.consistency, Ok(0.75));
        assert_eq!(answers.first_wins, Ok(3.0 / 5.0 - 0.5));
        assert_eq!((answers.p, answers.repetition_corrected), (Ok(1.0), Ok(1.5)));
        assert!(position_bias(&[], &[]).consistency.is_err());
        // scipy.stats.binomtest(40, 100).pvalue
        assert!((binomial_two_sided(40, 60) - 0.05688793364098078).abs() < 1e-12);
    }
}
