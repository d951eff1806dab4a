//! SVG elements.

use minijinja::HtmlEscape;
use std::borrow::Cow;
use std::fmt::Write;

/// The text with control characters, which no HTML or XML may hold, as U+FFFD.
pub fn readable(text: &str) -> Cow<'_, str> {
    let unreadable = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.contains(unreadable) { text.replace(unreadable, "\u{FFFD}").into() } else { text.into() }
}

fn escape(text: &str) -> String {
    HtmlEscape(&readable(text)).to_string()
}

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
            r#"<rect class="bar {class}" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="{round:.1}"><title>{title}</title></rect>"#
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

    /// The element, for a page that has the style sheet.
    pub fn finish(self) -> String {
        let Svg { width, height, label, body } = self;
        format!(r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{body}</svg>"#)
    }

    /// A file of its own.
    pub fn into_file(self) -> String {
        let Svg { width, height, label, body } = self;
        let opening = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img""#);
        let alone = "svg { background: var(--card); font-family: system-ui, sans-serif; }";
        format!("{opening} aria-label=\"{label}\"><style>\n{}{alone}\n</style>{body}</svg>\n", super::STYLE)
    }

    fn push(&mut self, element: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(element);
    }
}
