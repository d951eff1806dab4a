//! Two axes with a grid, and what is drawn between them. Points are in values, sizes in pixels.

use super::{Anchor, Axis, Svg};

/// Size of an image, and the pixels where its axes end.
#[derive(Clone, Copy)]
pub struct Area {
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Area {
    /// Of a chart in a report.
    pub const REPORT: Area =
        Area { width: super::WIDTH, height: 270.0, left: 42.0, right: super::RIGHT, top: 12.0, bottom: 232.0 };
}

/// A chart with two axes under construction.
pub struct Frame {
    pub svg: Svg,
    pub x: Axis,
    pub y: Axis,
    area: Area,
}

impl Frame {
    /// `label` is what a screen reader says of the image.
    pub fn new(label: &str, area: Area, x: Axis, y: Axis) -> Self {
        Frame { svg: Svg::new(area.width, area.height, label), x, y, area }
    }

    /// Another pair of axes in the same image, in an area of its own.
    pub fn beside(self, area: Area, x: Axis, y: Axis) -> Self {
        Frame { svg: self.svg, x, y, area }
    }

    /// The lower axis with the texts of `x` under it, and a line for each of `y` with its text at the left.
    pub fn grid(&mut self, x: &[(f64, String)], y: &[(f64, String)]) {
        let Area { left, right, bottom, .. } = self.area;
        for (value, text) in y {
            let at = self.y.at(*value);
            self.svg.line((left, at), (right, at), "grid");
            self.svg.text((left - 7.0, at + 4.0), Anchor::End, "tick", text);
        }
        for (value, text) in x {
            self.svg.text((self.x.at(*value), bottom + 16.0), Anchor::Middle, "tick", text);
        }
        self.svg.line((left, bottom), (right, bottom), "axis");
    }

    /// The grid at round ticks of both axes, about `count` each.
    pub fn round_grid(&mut self, count: usize) {
        self.grid(&self.x.ticks(count), &self.y.ticks(count));
    }

    /// What the axes show.
    pub fn titles(&mut self, x: &str, y: &str) {
        let Area { height, left, right, top, .. } = self.area;
        self.svg.text((right, height - 5.0), Anchor::End, "title", x);
        if !y.is_empty() {
            self.svg.text((left + 3.0, top + 10.0), Anchor::Start, "title", y);
        }
    }

    /// Pixels of a point.
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.at(x), self.y.at(y))
    }

    /// Straight lines through the points; one that is not finite breaks them.
    pub fn curve(&mut self, points: &[(f64, f64)], class: &str) {
        let pixel = |p: &(f64, f64)| (p.0.is_finite() && p.1.is_finite()).then(|| self.at(*p));
        let pixels: Vec<_> = points.iter().map(pixel).collect();
        self.svg.polyline(&pixels, class);
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.svg.line(self.at(from), self.at(to), class);
    }

    /// `title` shows on hovering.
    pub fn dot(&mut self, point: (f64, f64), radius: f64, class: &str, title: &str) {
        self.svg.circle(self.at(point), radius, class, title);
    }

    /// A bar from the lower axis up to the point, from `offset` pixels of its x on.
    pub fn bar(&mut self, point: (f64, f64), (offset, width): (f64, f64), class: &str, title: &str) {
        let (x, top) = self.at(point);
        self.svg.bar(x + offset, width, top, self.area.bottom, class, title);
    }
}
