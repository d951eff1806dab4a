//! A growth curve as an SVG image that stands alone, in light and dark: both axes logarithmic, a dashed line for cost in
//! proportion to size.

use super::growth::{Curve, Point};
use super::row::{duration, figure};
use crate::charts::{Anchor, Area, Axis, Frame, Svg};

const AREA: Area = Area { width: 460.0, height: 280.0, left: 64.0, right: 442.0, top: 30.0, bottom: 238.0 };

/// Whether an image is one of these.
pub fn is_plot(svg: &str) -> bool {
    let Area { width, height, .. } = AREA;
    svg.starts_with("<svg ") && svg.contains(&format!(r#"viewBox="0 0 {width} {height}" role="img""#))
}

/// Seconds per run against size, or tokens per second for a rollout.
pub fn plot(curve: &Curve) -> String {
    let rate = curve.key == "samples";
    let value = |p: &Point| if rate { p.tokens_per_second } else { p.seconds };
    let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (p.size as f64, value(p))).filter(|p| p.1 > 0.0).collect();
    let title = format!("{}: {}", curve.title, if rate { "tokens per second" } else { "time" });
    let Some((&first, &last)) = points.first().zip(points.last()) else {
        return Svg::new(AREA.width, AREA.height, &title).into_file();
    };
    let (low, high) = points.iter().fold((first.1, first.1), |(l, h), p| (l.min(p.1), h.max(p.1)));
    let (low, high) = (low / 1.25, high * 1.25);
    let x = Axis::logarithmic(first.0, last.0, AREA.left, AREA.right);
    let y = Axis::logarithmic(low, high, AREA.bottom, AREA.top);
    let mut frame = Frame::new(&title, AREA, x, y);
    frame.svg.text((AREA.left, 18.0), Anchor::Start, "name", &title);
    frame.titles(curve.unit, "");
    let text = |v: f64| if rate { figure(v) } else { duration(v) };
    let sizes: Vec<_> = points.iter().map(|p| (p.0, p.0.to_string())).collect();
    let levels: Vec<_> = y.decades().into_iter().map(|v| (v, text(v))).collect();
    frame.grid(&sizes, &levels);
    // In proportion, as far as the frame goes.
    let end = (last.0 / first.0).min(high / first.1).max(1.0);
    frame.line(first, (first.0 * end, first.1 * end), "guide");
    frame.curve(&points, "line judge");
    for p in &points {
        let unit = if rate { " tokens/s" } else { "" };
        frame.dot(*p, 3.0, "dot judge", &format!("{} {}: {}{unit}", p.0, curve.unit, text(p.1)));
    }
    frame.svg.into_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_stands_alone() {
        let point = |size: usize| Point { size, seconds: size as f64 * 1e-3, tokens_per_second: 5.0, memory: 0 };
        let points = vec![point(128), point(256), point(1024)];
        let mut curve = Curve { key: "tokens", title: "a < b".into(), unit: "tokens", points, stopped: None };
        let image = plot(&curve);
        assert!(image.starts_with("<svg xmlns=") && image.ends_with("</svg>\n") && image.contains("<style>") && is_plot(&image));
        assert!(image.contains("a &lt; b") && image.contains(">1024</text>") && !image.contains("NaN"));
        curve.points.clear();
        assert!(!plot(&curve).contains("NaN"), "nothing measured is nothing drawn");
    }
}
