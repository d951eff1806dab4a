//! Position bias of pairwise judges: does the verdict follow the answer or its position? Each pair is judged twice, the second
//! time with the answers swapped.

use super::{Measured, Undefined, at_least};

/// The better of two responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// The first.
    First,
    /// The second.
    Second,
    /// Neither.
    Tie,
}

impl Winner {
    /// Its word: the first response is called A.
    pub fn word(self) -> &'static str {
        match self {
            Winner::First => "A",
            Winner::Second => "B",
            Winner::Tie => "tie",
        }
    }

    /// The same response where the two have changed places.
    pub fn swapped(self) -> Self {
        match self {
            Winner::First => Winner::Second,
            Winner::Second => Winner::First,
            Winner::Tie => Winner::Tie,
        }
    }
}

/// How far a judge's verdicts depend on the order of the answers.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionBias {
    /// Pairs judged in both orders.
    pub n: usize,
    /// Share of pairs whose two verdicts name the same answer (or are ties both times).
    pub consistency: Measured,
    /// Share of verdicts for the first answer among those that are not ties, minus 1/2. Positive for a judge that prefers the
    /// answer it reads first.
    pub first_wins: Measured,
    /// Two-sided exact binomial p-value of `first_wins`, over the pairs whose verdict follows the position both times. The other
    /// pairs contribute one verdict each way.
    pub p: Measured,
    /// Consistency divided by the judge's consistency in the *same* order. 1 for a judge whose inconsistency is only noise.
    /// Undefined without such repeats.
    pub repetition_corrected: Measured,
}

/// Measures pairs of verdicts (in the given order, swapped). `repeats` are pairs judged twice in the same order, if any.
pub fn position_bias(pairs: &[(Winner, Winner)], repeats: &[(Winner, Winner)]) -> PositionBias {
    let share = |part: usize, whole: usize| at_least(1, whole).map(|()| part as f64 / whole as f64);
    let consistent = pairs.iter().filter(|(given, swapped)| *given == swapped.swapped()).count();
    let consistency = share(consistent, pairs.len());
    let of = |verdict: Winner| pairs.iter().flat_map(|(a, b)| [a, b]).filter(|v| **v == verdict).count();
    let (first, second) = (of(Winner::First), of(Winner::Second));
    let both = |verdict: Winner| pairs.iter().filter(|pair| **pair == (verdict, verdict)).count() as u64;
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
        p: at_least(1, pairs.len()).map(|()| binomial_two_sided(both(Winner::First), both(Winner::Second))),
        repetition_corrected: corrected,
    }
}

/// Probability that a fair coin falls at least as unevenly as `heads` to `tails`; 1 without throws.
fn binomial_two_sided(heads: u64, tails: u64) -> f64 {
    let (n, rarer) = (heads + tails, heads.min(tails));
    if 2 * rarer == n {
        return 1.0;
    }
    // Each term is computed from the previous one in logarithms, so that thousands of throws do not underflow.
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
    use Winner::{First, Second, Tie};

    #[test]
    fn position_bias_separates_position_from_answer() {
        let by_position = position_bias(&[(First, First); 8], &[]);
        assert_eq!((by_position.consistency, by_position.first_wins), (Ok(0.0), Ok(0.5)));
        assert!((by_position.p.unwrap() - 2.0 / 256.0).abs() < 1e-15);
        assert_eq!(by_position.repetition_corrected, Err(Undefined::NoRepeats));

        let by_answer =
            position_bias(&[(First, Second), (Second, First), (Tie, Tie), (First, Tie)], &[(First, First), (First, Second)]);
        assert_eq!(by_answer.consistency, Ok(0.75));
        assert_eq!(by_answer.first_wins, Ok(3.0 / 5.0 - 0.5));
        assert_eq!((by_answer.p, by_answer.repetition_corrected), (Ok(1.0), Ok(1.5)));
        assert!(position_bias(&[], &[]).consistency.is_err());
        // scipy.stats.binomtest(40, 100).pvalue
        assert!((binomial_two_sided(40, 60) - 0.05688793364098078).abs() < 1e-12);
    }
}
