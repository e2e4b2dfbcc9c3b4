//! Two-axis charts as inline SVG: lines, marks and bars in the units of the data. Owns the layout;
//! callers own the content.

use std::fmt::Write as _;

use maud::{Markup, html};

/// Size of a chart.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 330.0;

/// Margins for titles and tick labels.
const LEFT: f64 = 58.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 48.0;

#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Title with the unit.
    pub(super) title: &'static str,
    pub(super) range: (f64, f64),
    /// Tick positions with their labels.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis from 0 to 1 with a tick at every fifth.
    pub(super) fn unit(title: &'static str) -> Self {
        let ticks = (0..=5).map(|fifth| f64::from(fifth) / 5.0).map(|value| (value, format!("{value:.1}"))).collect();
        Self { title, range: (0.0, 1.0), ticks }
    }

    fn fraction(&self, value: f64) -> f64 {
        let (from, to) = self.range;
        if to > from { (value - from) / (to - from) } else { 0.0 }
    }
}

pub(super) struct Series {
    pub(super) class: &'static str,
    pub(super) name: String,
    /// Points in the units of the axes.
    pub(super) points: Vec<(f64, f64)>,
    /// Radius and tooltip of the mark at each point. Empty for a plain line.
    pub(super) marks: Vec<(f64, String)>,
}

pub(super) struct Bar {
    pub(super) class: &'static str,
    pub(super) x: (f64, f64),
    pub(super) y: f64,
    pub(super) tooltip: String,
}

pub(super) struct Chart {
    /// Accessible name of the chart.
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Chart {
    fn locate(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let left = LEFT + self.x.fraction(x) * (WIDTH - LEFT - RIGHT);
        (left, HEIGHT - BOTTOM - self.y.fraction(y) * (HEIGHT - TOP - BOTTOM))
    }

    pub(super) fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::with_capacity(points.len() * 14);
        for (number, point) in points.iter().enumerate() {
            let (x, y) = self.locate(*point);
            // Writing to a string cannot fail.
            let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { " L" });
        }
        path
    }

    fn axes(&self) -> Markup {
        let ((left, bottom), (right, top)) =
            (self.locate((self.x.range.0, self.y.range.0)), self.locate((self.x.range.1, self.y.range.1)));
        let middle = f64::midpoint(top, bottom);
        html! {
            @for (value, text) in &self.x.ticks {
                @let (x, _) = self.locate((*value, self.y.range.0));
                line class="grid" x1=(tenth(x)) x2=(tenth(x)) y1=(tenth(top)) y2=(tenth(bottom)) {}
                text class="tick" x=(tenth(x)) y=(tenth(bottom + 16.0)) text-anchor="middle" { (text) }
            }
            @for (value, text) in &self.y.ticks {
                @let (_, y) = self.locate((self.x.range.0, *value));
                line class="grid" x1=(tenth(left)) x2=(tenth(right)) y1=(tenth(y)) y2=(tenth(y)) {}
                text class="tick" x=(tenth(left - 7.0)) y=(tenth(y + 4.0)) text-anchor="end" { (text) }
            }
            path class="axis" d=(format!("M{left:.1} {top:.1} V{bottom:.1} H{right:.1}")) {}
            text x=(tenth(f64::midpoint(left, right))) y=(tenth(HEIGHT - 8.0)) text-anchor="middle" { (self.x.title) }
            text x="14" y=(tenth(middle)) text-anchor="middle" transform=(format!("rotate(-90 14 {middle:.1})")) { (self.y.title) }
        }
    }

    fn legend(&self, names: &[(&'static str, String)]) -> Markup {
        html! {
            @for ((class, name), index) in names.iter().zip(0_u32..) {
                @let x = LEFT + f64::from(index) * (WIDTH - LEFT - RIGHT) / 2.0;
                path class={ "line " (class) } d=(format!("M{x:.1} 12 h26")) {}
                text x=(tenth(x + 32.0)) y="16" { (shortened(name)) }
            }
        }
    }

    /// Draws lines, and a straight guide between two points.
    pub(super) fn lines(&self, series: &[Series], guide: Option<[(f64, f64); 2]>) -> Markup {
        let names: Vec<_> = series.iter().map(|line| (line.class, line.name.clone())).collect();
        let inner = html! {
            @if let Some(ends) = guide { path class="guide" d=(self.path(&ends)) {} }
            @for line in series {
                path class={ "line " (line.class) } d=(self.path(&line.points)) {}
                @for (point, (radius, tooltip)) in line.points.iter().zip(&line.marks) {
                    @let (x, y) = self.locate(*point);
                    circle class={ "mark " (line.class) } cx=(tenth(x)) cy=(tenth(y)) r=(tenth(*radius)) { title { (tooltip) } }
                }
            }
        };
        self.svg(&names, &inner)
    }

    /// Draws bars, and vertical guides with their names.
    pub(super) fn bars(&self, names: &[(&'static str, String)], bars: &[Bar], guides: &[(f64, String)]) -> Markup {
        let inner = html! {
            @for bar in bars {
                @let (left, top) = self.locate((bar.x.0, bar.y));
                @let (right, bottom) = self.locate((bar.x.1, self.y.range.0));
                rect class={ "bar " (bar.class) } x=(tenth(left)) y=(tenth(top)) width=(tenth(right - left)) height=(tenth(bottom - top)) {
                    title { (bar.tooltip) }
                }
            }
            @for (value, name) in guides {
                @let (x, top) = self.locate((*value, self.y.range.1));
                @let (_, bottom) = self.locate((*value, self.y.range.0));
                path class="guide" d=(format!("M{x:.1} {top:.1} V{bottom:.1}")) {}
                text class="tick" x=(tenth(x + 4.0)) y=(tenth(top + 11.0)) { (name) }
            }
        };
        self.svg(names, &inner)
    }

    fn svg(&self, names: &[(&'static str, String)], inner: &Markup) -> Markup {
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                (self.axes())
                (inner)
                (self.legend(names))
            }
        }
    }
}

/// Formats a coordinate, to a tenth of a unit.
pub(super) fn tenth(coordinate: f64) -> String {
    format!("{coordinate:.1}")
}

/// Shortens a name to the width of a legend.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 24 { name.to_owned() } else { name.chars().take(23).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        Chart { title: "t", x: Axis::unit("across"), y: Axis::unit("up") }
    }

    #[test]
    fn curves_span_their_axes() {
        assert_eq!(chart().path(&[(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]), "M58.0 282.0 L242.0 154.0 L426.0 26.0");
        assert_eq!(chart().path(&[]), "");
    }

    #[test]
    fn charts_escape_user_text() {
        let series = Series {
            class: "one",
            name: "<script>&\"'".to_owned(),
            points: vec![(0.0, 0.0), (1.0, 1.0)],
            marks: vec![(2.0, "<b>".to_owned()), (3.0, "]]>".to_owned())],
        };
        let svg = chart().lines(&[series], Some([(0.0, 0.0), (1.0, 1.0)])).into_string();
        let parsed = roxmltree::Document::parse(&svg).unwrap();
        assert_eq!(parsed.descendants().filter(|node| node.tag_name().name() == "circle").count(), 2);
        assert!(!svg.contains("<script") && !svg.contains("<b>"));
    }
}
