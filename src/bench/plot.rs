//! A growth curve as an SVG image that stands alone, in light and dark: both axes logarithmic, a dashed line for cost in
//! proportion to size.

use super::growth::{Curve, Point};
use super::row::{duration, figure};
use crate::eval::report::svg::{Anchor, Axis, Svg};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 18.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = HEIGHT - 42.0;

const STYLE: &str = "<style>\
svg{font-family:system-ui,sans-serif;--ink:#1d2025;--muted:#5f6670;--line:#e4e2da;--curve:#c9541d;background:#fff}\
@media(prefers-color-scheme:dark){svg{--ink:#e7e9ec;--muted:#9ea6b1;--line:#2c313a;--curve:#f28c58;background:#1b1e24}}\
text{fill:var(--muted);font-size:12px}.name{fill:var(--ink);font-weight:600}\
.grid,.axis{stroke:var(--line)}.axis{stroke:var(--muted)}\
.line{fill:none;stroke:var(--curve);stroke-width:2}.guide{fill:none;stroke:var(--muted);stroke-dasharray:4 4}\
.dot{fill:var(--curve)}</style>";

/// Whether an image is one of these.
pub fn is_plot(svg: &str) -> bool {
    svg.starts_with("<svg ") && svg.contains(&format!(r#"viewBox="0 0 {WIDTH} {HEIGHT}" role="img""#))
}

/// Seconds a run against size, or tokens a second for a rollout.
pub fn plot(curve: &Curve) -> String {
    let rate = curve.key == "samples";
    let value = |p: &Point| if rate { p.tokens_per_second } else { p.seconds };
    let title = format!("{}: {}", curve.title, if rate { "tokens a second" } else { "time" });
    let mut svg = Svg::new(WIDTH, HEIGHT, &title);
    svg.text((LEFT, 18.0), Anchor::Start, "name", &title);
    svg.text((RIGHT, HEIGHT - 8.0), Anchor::End, "title", curve.unit);
    let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (p.size as f64, value(p))).filter(|p| p.1 > 0.0).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return finish(svg);
    };
    let (low, high) = points.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), p| (l.min(p.1), h.max(p.1)));
    let x = Axis::new(first.0.log10(), last.0.log10(), LEFT, RIGHT);
    let y = Axis::new(low.log10() - 0.1, high.log10() + 0.1, BOTTOM, TOP);
    for tick in round_values(low / 1.25, high * 1.25) {
        let at = y.at(tick.log10());
        svg.line((LEFT, at), (RIGHT, at), "grid");
        svg.text((LEFT - 7.0, at + 4.0), Anchor::End, "tick", &if rate { figure(tick) } else { duration(tick) });
    }
    for p in &curve.points {
        svg.text((x.at((p.size as f64).log10()), BOTTOM + 17.0), Anchor::Middle, "tick", &p.size.to_string());
    }
    svg.line((LEFT, BOTTOM), (RIGHT, BOTTOM), "axis");
    let place = |p: &(f64, f64)| (x.at(p.0.log10()), y.at(p.1.log10()));
    // In proportion, as far as the frame goes.
    let end = (last.0 / first.0).min(high * 1.25 / first.1).max(1.0);
    let guide = [Some(place(first)), Some(place(&(first.0 * end, first.1 * end)))];
    svg.polyline(&guide, "guide");
    svg.polyline(&points.iter().map(|p| Some(place(p))).collect::<Vec<_>>(), "line");
    for p in &points {
        let text = if rate { format!("{} tokens/s", figure(p.1)) } else { duration(p.1) };
        svg.circle(place(p), 3.0, "dot", &format!("{} {}: {text}", p.0, curve.unit));
    }
    finish(svg)
}

/// 1, 2 and 5 times powers of ten within the range; powers alone where that would be many.
fn round_values(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let steps: &[f64] = if (high / low).log10() > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d))).filter(|v| (low..=high).contains(v)).collect()
}

/// With what an image needs outside of a page.
fn finish(svg: Svg) -> String {
    let text = svg.finish().replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
    text.replacen('>', &format!(">{STYLE}"), 1) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(round_values(0.9, 12.0), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(round_values(0.001, 9.0).len(), 4);
    }

    #[test]
    fn a_plot_stands_alone() {
        let point = |size: usize| Point { size, seconds: size as f64 * 1e-3, tokens_per_second: 5.0, memory: 0 };
        let points = vec![point(128), point(256), point(1024)];
        let mut curve = Curve { key: "tokens", title: "a < b".into(), unit: "tokens", points, stopped: None };
        let image = plot(&curve);
        assert!(image.starts_with("<svg xmlns=") && image.ends_with("</svg>\n") && image.contains("<style>"));
        assert!(image.contains("a &lt; b") && image.contains(">1024</text>") && !image.contains("NaN"));
        curve.points.clear();
        assert!(!plot(&curve).contains("NaN"), "nothing measured is nothing drawn");
    }
}
