//! A value's pixel, and ticks at round numbers.

/// A map from values to pixels, linear or logarithmic.
#[derive(Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// Maps `low` to pixel `from` and `high` to pixel `to`. An empty range is widened.
    pub fn new(low: f64, high: f64, from: f64, to: f64) -> Self {
        let pad = if high > low { 0.0 } else { f64::max(low.abs() * 0.1, 0.5) };
        Axis { low: low - pad, high: high + pad, from, to, logarithmic: false }
    }

    /// The same over positive values, with equal lengths for equal ratios.
    pub fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Self {
        Axis { logarithmic: true, ..Axis::new(low.log10(), high.log10(), from, to) }
    }

    /// The linear axis over all `values`, widened outwards to round ticks.
    pub fn around(values: impl Iterator<Item = f64>, ticks: usize, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return Axis::new(0.0, 1.0, from, to);
        }
        let axis = Axis::new(low, high, from, to);
        let step = round_step((axis.high - axis.low) / ticks as f64);
        Axis::new((axis.low / step).floor() * step, (axis.high / step).ceil() * step, from, to)
    }

    /// Pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// About `count` round values inside a linear axis, with their texts.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let step = round_step((self.high - self.low) / count as f64);
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let first = (self.low / step - 1e-6).ceil() as i64;
        let last = (self.high / step + 1e-6).floor() as i64;
        (first..=last).map(|k| k as f64 * step).map(|v| (v, tick_text(v, decimals))).collect()
    }

    /// 1, 2 and 5 times powers of ten inside a logarithmic axis; powers alone where that would be many.
    pub fn decades(&self) -> Vec<f64> {
        let steps: &[f64] = if self.high - self.low > 2.7 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        let inside = |v: &f64| (self.low..=self.high).contains(&v.log10());
        powers.flat_map(|p| steps.iter().map(move |s| s * 10f64.powi(p))).filter(inside).collect()
    }
}

fn tick_text(value: f64, decimals: usize) -> String {
    if value != 0.0 && (value.abs() >= 1e7 || decimals > 6) {
        return format!("{value:.0e}");
    }
    if value.abs() >= 10_000.0 && value % 100.0 == 0.0 {
        return format!("{}k", value / 1000.0);
    }
    format!("{value:.decimals$}")
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits = steps.into_iter().find(|s| s * power >= rough * (1.0 - 1e-9));
    fits.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(low: f64, high: f64, count: usize) -> Vec<String> {
        Axis::new(low, high, 0.0, 100.0).ticks(count).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(texts(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(1.0, 5.0, 4), ["1", "2", "3", "4", "5"]);
        assert_eq!(texts(0.0, 1000.0, 4), ["0", "500", "1000"]);
        assert_eq!(texts(-0.03, 0.03, 4), ["-0.02", "0.00", "0.02"]);
        assert_eq!(texts(0.0, 40_000.0, 4), ["0", "10k", "20k", "30k", "40k"]);
    }

    #[test]
    fn logarithmic_ticks_are_round_and_few() {
        assert_eq!(Axis::logarithmic(0.9, 12.0, 0.0, 100.0).decades(), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(Axis::logarithmic(0.001, 9.0, 0.0, 100.0).decades().len(), 4);
        assert!((Axis::logarithmic(1.0, 100.0, 0.0, 100.0).at(10.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn axes_survive_flat_and_empty_data() {
        assert_eq!(Axis::around([3.0].into_iter(), 4, 0.0, 100.0).at(3.0), 50.0);
        assert!(Axis::around(std::iter::empty(), 4, 0.0, 100.0).at(0.5).is_finite());
        let axis = Axis::around([0.13, 0.87].into_iter(), 4, 0.0, 100.0);
        assert!((axis.at(0.0) - 0.0).abs() < 1e-9 && (axis.at(1.0) - 100.0).abs() < 1e-9);
    }
}
