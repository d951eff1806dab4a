//! What was compared, and how far apart it was.

/// The largest deviation within one group of values.
#[derive(Clone, Debug)]
pub struct Finding {
    /// For example `ce.grad` or `attention backward`.
    pub group: String,
    /// Where the largest deviation is.
    pub worst: String,
    /// Infinite where a value is not a number, or cannot be compared at all.
    pub deviation: f64,
    pub tolerance: f64,
}

impl Finding {
    /// Within tolerance; a deviation that is not a number is not.
    pub fn passes(&self) -> bool {
        self.deviation <= self.tolerance
    }

    /// In units of the tolerance, so that findings of one group with different tolerances can be ranked.
    fn severity(&self) -> f64 {
        match (self.deviation, self.tolerance) {
            (d, _) if d.is_nan() => f64::INFINITY,
            (d, t) if t > 0.0 => d / t,
            // Exact comparisons: any deviation is too much, and the larger the worse.
            (d, _) if d > 0.0 => f64::MAX.min(d * 1e300),
            _ => 0.0,
        }
    }
}

/// All findings of one check: the worst of each group, in the order in which the groups came up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
}

impl Report {
    /// Something was compared, and all of it is within tolerance.
    pub fn passes(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(Finding::passes)
    }

    /// The finding that is furthest off in units of its tolerance; of an empty report, one that fails.
    pub fn worst(self) -> Finding {
        let nothing = || Finding { group: "nothing".into(), worst: "compared".into(), deviation: f64::INFINITY, tolerance: 0.0 };
        self.findings.into_iter().max_by(|a, b| a.severity().total_cmp(&b.severity())).unwrap_or_else(nothing)
    }

    /// Keeps the worst finding of a group.
    pub fn add(&mut self, group: &str, worst: &str, deviation: f64, tolerance: f64) {
        let deviation = if deviation.is_nan() { f64::INFINITY } else { deviation };
        let finding = Finding { group: group.into(), worst: worst.into(), deviation, tolerance };
        match self.findings.iter_mut().find(|f| f.group == group) {
            None => self.findings.push(finding),
            Some(f) if finding.severity() > f.severity() => *f = finding,
            Some(_) => {}
        }
    }

    /// The largest difference, absolute.
    pub fn compare<T: Copy + Into<f64>>(&mut self, group: &str, key: &str, found: &[T], expected: &[T], tolerance: f64) {
        self.compare_scaled(group, key, found, expected, 1.0, tolerance);
    }

    /// The largest difference, relative to the largest entry of `expected`.
    pub fn compare_relative<T: Copy + Into<f64>>(&mut self, group: &str, key: &str, found: &[T], expected: &[T], tolerance: f64) {
        let scale = expected.iter().fold(1e-12, |m: f64, v| m.max((*v).into().abs()));
        self.compare_scaled(group, key, found, expected, scale, tolerance);
    }

    fn compare_scaled<T: Copy + Into<f64>>(
        &mut self,
        group: &str,
        key: &str,
        found: &[T],
        expected: &[T],
        scale: f64,
        tolerance: f64,
    ) {
        if found.len() != expected.len() {
            let worst = format!("{key}: {} values, expected {}", found.len(), expected.len());
            return self.add(group, &worst, f64::INFINITY, tolerance);
        }
        let gap = |(a, b): (&T, &T)| {
            let d = ((*a).into() - (*b).into()).abs();
            // `max` would drop a NaN.
            if d.is_nan() { f64::INFINITY } else { d }
        };
        let worst = found.iter().zip(expected).map(gap).fold(0.0, f64::max);
        self.add(group, key, worst / scale, tolerance);
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.findings.iter().map(|x| x.group.chars().count()).max().unwrap_or(0).max(18);
        for x in &self.findings {
            let verdict = if x.passes() { "ok  " } else { "FAIL" };
            writeln!(f, "  {verdict} {:<width$} {:>9.2e} of {:.0e}   {}", x.group, x.deviation, x.tolerance, x.worst)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(pairs: &[(&[f64], &[f64])]) -> Report {
        let mut report = Report::default();
        pairs.iter().for_each(|(found, expected)| report.compare_relative("matmul", "y", found, expected, 5e-5));
        report
    }

    #[test]
    fn a_right_kernel_passes() {
        assert!(report(&[(&[1.0, -2.0], &[1.0, -2.0]), (&[1e-9], &[0.0; 1])]).findings[0].deviation > 0.0);
        assert!(report(&[(&[1.0, -2.00002], &[1.0, -2.0])]).passes());
        assert!(!Report::default().passes(), "nothing compared is nothing shown");
    }

    #[test]
    fn a_broken_kernel_fails() {
        let right: (&[f64], &[f64]) = (&[3.0, 1.0], &[3.0, 1.0]);
        let broken: [(&[f64], &[f64]); 6] = [
            (&[1.0, -2.001], &[1.0, -2.0]),
            (&[0.0, 0.0], &[1.0, 1.0]),
            (&[f64::NAN, 1.0, 1.0], &[1.0, 1.0, 1.0]),
            (&[1.0, f64::INFINITY], &[1.0, 1.0]),
            (&[1.0], &[1.0, 1.0]),
            (&[1.0], &[f64::NAN]),
        ];
        for pair in broken {
            for pairs in [[pair, right], [right, pair]] {
                let report = report(&pairs);
                assert!(!report.passes(), "{pair:?}: {report}");
                assert!(report.to_string().contains("FAIL"), "{report}");
            }
        }
    }

    /// A NaN is not displaced by what comes after it, and a failure not by a larger deviation that is tolerated.
    #[test]
    fn the_worst_stays() {
        let mut report = Report::default();
        report.add("logits", "first", f64::NAN, 1e-4);
        report.add("logits", "second", 1e9, 1e-4);
        assert_eq!(report.findings[0].worst, "first");
        report.add("adamw", "exact", 1e-9, 0.0);
        report.add("adamw", "tolerated", 1e-6, 1e-4);
        assert_eq!(report.findings[1].worst, "exact");
        assert!(!report.findings[1].passes());
        assert!(Finding { deviation: 0.0, tolerance: 0.0, ..report.findings[1].clone() }.passes());
    }
}
