//! A small SVG writer: elements with classes (colours live in the style sheet), axes, ticks at round numbers.

use super::html::escape;
use std::fmt::Write;

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG image under construction, in units of its view box.
pub struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Svg {
    /// `label` is what a screen reader says of the image.
    pub fn new(width: f64, height: f64, label: &str) -> Self {
        Svg { width, height, label: escape(label), body: String::new() }
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    /// A bar from `top` down to `bottom`; `title` shows on hovering.
    pub fn bar(&mut self, x: f64, width: f64, top: f64, bottom: f64, class: &str, title: &str) {
        let (height, title) = ((bottom - top).max(0.0), escape(title));
        let round = (width / 4.0).min(2.0);
        self.push(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="{round:.1}"><title>{title}</title></rect>"#
        ));
    }

    /// A square of a table, darker for a larger `share` of the darkest; `title` shows on hovering.
    pub fn square(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), share: f64, class: &str, title: &str) {
        let title = escape(title);
        self.push(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill-opacity="{share:.3}"><title>{title}</title></rect>"#
        ));
    }

    pub fn circle(&mut self, (x, y): (f64, f64), radius: f64, class: &str, title: &str) {
        let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        self.push(format_args!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}">{title}</circle>"#));
    }

    /// Straight lines through the points; `None` starts a new piece.
    pub fn polyline(&mut self, points: &[Option<(f64, f64)>], class: &str) {
        let mut d = String::new();
        let mut pen_down = false;
        for point in points {
            if let Some((x, y)) = point {
                let _ = write!(d, "{}{x:.1} {y:.1}", if pen_down { "L" } else { "M" });
            }
            pen_down = point.is_some();
        }
        self.push(format_args!(r#"<path class="{class}" d="{d}"/>"#));
    }

    /// A triangle whose tip points up at `tip`.
    pub fn triangle(&mut self, (x, y): (f64, f64), size: f64, class: &str, title: &str) {
        let (left, right, base, title) = (x - size, x + size, y + 1.6 * size, escape(title));
        self.push(format_args!(
            r#"<path class="{class}" d="M{x:.1} {y:.1}L{right:.1} {base:.1}L{left:.1} {base:.1}Z"><title>{title}</title></path>"#
        ));
    }

    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.push(format_args!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// The whole element.
    pub fn finish(self) -> String {
        let Svg { width, height, label, body } = self;
        format!(r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{body}</svg>"#)
    }

    fn push(&mut self, element: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(element);
    }
}

/// A linear map from values to pixels.
#[derive(Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Maps `low` to pixel `from` and `high` to pixel `to`. An empty range is widened.
    pub fn new(low: f64, high: f64, from: f64, to: f64) -> Self {
        let pad = if high > low { 0.0 } else { f64::max(low.abs() * 0.1, 0.5) };
        Axis { low: low - pad, high: high + pad, from, to }
    }

    /// The axis over all `values`, widened outwards to round ticks.
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
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// About `count` round values inside the axis, with their texts.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let step = round_step((self.high - self.low) / count as f64);
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let first = (self.low / step - 1e-6).ceil() as i64;
        let last = (self.high / step + 1e-6).floor() as i64;
        (first..=last).map(|k| k as f64 * step).map(|v| (v, tick_text(v, decimals))).collect()
    }
}

fn tick_text(value: f64, decimals: usize) -> String {
    if value != 0.0 && (value.abs() >= 1e7 || decimals > 6) {
        return format!("{value:.0e}");
    }
    if value.abs() >= 10_000.0 && value % 100.0 == 0.0 {
        return format!("{}k", value / 1000.0);
    }
    crate::eval::table::fixed(value, decimals)
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
    fn axes_survive_flat_and_empty_data() {
        assert_eq!(Axis::around([3.0].into_iter(), 4, 0.0, 100.0).at(3.0), 50.0);
        assert!(Axis::around(std::iter::empty(), 4, 0.0, 100.0).at(0.5).is_finite());
        let axis = Axis::around([0.13, 0.87].into_iter(), 4, 0.0, 100.0);
        assert!((axis.at(0.0) - 0.0).abs() < 1e-9 && (axis.at(1.0) - 100.0).abs() < 1e-9);
    }
}
