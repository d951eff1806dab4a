//! One row per name, with points and their intervals over one axis.

use super::{Anchor, Axis, Svg};

/// The chart.
#[derive(Default)]
pub struct Rows<'a> {
    /// What a screen reader says of the image.
    pub label: &'a str,
    /// What the axis shows.
    pub title: &'a str,
    pub width: f64,
    /// Values that the axis reaches in any case.
    pub reach: Vec<f64>,
    /// Lines down through all rows.
    pub marks: Vec<Mark>,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// A value to compare the rows with.
pub struct Mark {
    pub value: f64,
    /// Stands over the line; may be empty.
    pub name: String,
}

/// The points of one name.
pub struct Row {
    pub name: String,
    pub points: Vec<Point>,
}

/// A value with its interval.
pub struct Point {
    pub value: f64,
    /// The ends of its interval.
    pub ends: Option<(f64, f64)>,
    pub radius: f64,
    pub class: String,
    /// Shows on hovering.
    pub title: String,
}

/// Height of a row.
const STEP: f64 = 28.0;
/// Height of a line of the marks' names.
const LEVEL: f64 = 15.0;
/// Width of a letter of a name.
const LETTER: f64 = 6.6;
/// Between a name and the axis.
const GAP: f64 = 12.0;
const TICKS: usize = 5;

impl Rows<'_> {
    /// The SVG image.
    pub fn draw(&self) -> String {
        let (left, right) = (self.left(), self.width - 14.0);
        let x = Axis::around(self.values(), TICKS, left, right);
        let names = levels(&self.marks, &x);
        let top = 4.0 + LEVEL * names.iter().map(|(_, level)| level + 1).max().unwrap_or(0) as f64;
        let bottom = top + STEP * self.rows.len() as f64;
        let mut svg = Svg::new(self.width, bottom + 34.0, self.label);
        for (value, text) in x.ticks(TICKS) {
            svg.line((x.at(value), top), (x.at(value), bottom), "grid");
            svg.text((x.at(value), bottom + 16.0), Anchor::Middle, "tick", &text);
        }
        svg.text((right, bottom + 31.0), Anchor::End, "title", self.title);
        for mark in &self.marks {
            svg.line((x.at(mark.value), top), (x.at(mark.value), bottom), "mark");
        }
        for (mark, level) in names {
            let y = top - 5.0 - LEVEL * level as f64;
            svg.text((x.at(mark.value), y), Anchor::Middle, "tick", &mark.name);
        }
        for (k, row) in self.rows.iter().enumerate() {
            let y = top + STEP * (k as f64 + 0.5);
            svg.text((left - GAP, y + 4.0), Anchor::End, "name", &shortened(&row.name, ((left - GAP) / LETTER) as usize));
            svg.line((left, y), (right, y), "grid");
            row.points.iter().filter(|p| p.value.is_finite()).for_each(|p| p.draw(&mut svg, &x, y));
        }
        svg.finish()
    }

    /// Where the names end: they take what they need, at most a little more than half of the image.
    fn left(&self) -> f64 {
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        (LETTER * longest as f64 + GAP + 1.0).min(0.55 * self.width).ceil()
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let points = self.rows.iter().flat_map(|row| &row.points);
        let ends = points.flat_map(|p| [p.value, p.ends.map_or(p.value, |ends| ends.0), p.ends.map_or(p.value, |ends| ends.1)]);
        ends.chain(self.marks.iter().map(|mark| mark.value)).chain(self.reach.iter().copied()).filter(|v| v.is_finite())
    }
}

impl Point {
    fn draw(&self, svg: &mut Svg, x: &Axis, y: f64) {
        if let Some((low, high)) = self.ends.filter(|(low, high)| low.is_finite() && high.is_finite()) {
            svg.line((x.at(low), y), (x.at(high), y), &format!("whisker {}", self.class));
        }
        svg.circle((x.at(self.value), y), self.radius, &format!("point {}", self.class), &self.title);
    }
}

/// The marks that have names, each with the line over the rows where its name touches no other.
fn levels<'m>(marks: &'m [Mark], x: &Axis) -> Vec<(&'m Mark, usize)> {
    let mut named: Vec<&Mark> = marks.iter().filter(|mark| !mark.name.is_empty()).collect();
    named.sort_by(|a, b| a.value.total_cmp(&b.value));
    let mut ends: Vec<f64> = Vec::new();
    let place = |mark: &'m Mark| {
        let half = LETTER * (mark.name.chars().count() as f64 + 1.0) / 2.0;
        let level = ends.iter().position(|end| *end < x.at(mark.value) - half).unwrap_or(ends.len());
        match ends.get_mut(level) {
            Some(end) => *end = x.at(mark.value) + half,
            None => ends.push(x.at(mark.value) + half),
        }
        (mark, level)
    };
    named.into_iter().map(place).collect()
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: f64) -> Row {
        let point =
            Point { value, ends: Some((value - 0.1, value + 0.2)), radius: 4.0, class: "s0".into(), title: "a < b".into() };
        Row { name: name.into(), points: vec![point] }
    }

    #[test]
    fn names_fit_or_are_cut() {
        let long = "a name that is far longer than half of the image can ever hold, whatever it says";
        let image = |name: &str| Rows { width: 400.0, rows: vec![row(name, 0.5)], ..Rows::default() }.draw();
        assert!(image("short").contains(">short<") && image("short").contains("a &lt; b"));
        assert!(image(long).contains("…<") && !image(long).contains("whatever"));
        assert!(!image("").contains("NaN"));
    }

    #[test]
    fn names_of_marks_do_not_touch() {
        let mark = |value: f64, name: &str| Mark { value, name: name.into() };
        let marks = [mark(0.5, "words"), mark(0.51, "length"), mark(0.0, ""), mark(0.9, "ceiling")];
        let found = levels(&marks, &Axis::new(0.0, 1.0, 0.0, 300.0));
        let found: Vec<(&str, usize)> = found.iter().map(|(mark, level)| (mark.name.as_str(), *level)).collect();
        assert_eq!(found, [("words", 0), ("length", 1), ("ceiling", 0)]);
    }
}
