//! SVG charts, for the reports of `eval`, the page of `compare` and the plots of `bench`. An element has classes; their colours,
//! in light and dark, are those of `charts.css`.
//!
//! | part | file |
//! |---|---|
//! | elements | `svg` |
//! | values to pixels, round ticks | `axis` |
//! | two axes with a grid, and what is drawn between them | `frame` |
//! | one row per name, points with intervals on it | `rows` |

mod axis;
mod frame;
mod rows;
mod svg;

pub use axis::Axis;
pub use frame::{Area, Frame};
pub use rows::{Mark, Point, Row, Rows};
pub use svg::{Anchor, Svg, readable};

/// The colours, and what each class of an element looks like.
pub const STYLE: &str = include_str!("charts.css");

/// A chart with what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    pub title: String,
    pub caption: String,
    /// Class of the swatch and name.
    pub legend: Vec<(String, String)>,
    pub svg: String,
    /// The table of its data; no rows, no table.
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Width of a chart in a report.
pub const WIDTH: f64 = 400.0;
/// Where its drawing ends.
pub const RIGHT: f64 = WIDTH - 14.0;
