//! Charts of two axes as inline SVG: lines, marks and bars in the units of the data. Owns places on the paper; what is shown in them is
//! the callers'.

use std::fmt::Write as _;

use maud::{Markup, html};

/// Size of a chart.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 330.0;

/// Room for what stands beside the axes: left, top, right, bottom.
const LEFT: f64 = 58.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 48.0;

/// An axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// What it shows, with its unit.
    pub(super) title: &'static str,
    /// Where it begins and ends.
    pub(super) range: (f64, f64),
    /// Values that are written beside it.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to 1, in fifths.
    pub(super) fn unit(title: &'static str) -> Self {
        let ticks = (0..=5).map(|fifth| f64::from(fifth) / 5.0).map(|at| (at, format!("{at:.1}"))).collect();
        Self { title, range: (0.0, 1.0), ticks }
    }

    fn along(&self, value: f64) -> f64 {
        let (from, to) = self.range;
        if to > from { (value - from) / (to - from) } else { 0.0 }
    }
}

/// What is drawn between the axes.
pub(super) struct Series {
    /// Class of the model.
    pub(super) class: &'static str,
    /// What the legend says.
    pub(super) name: String,
    /// Points in the units of the axes.
    pub(super) points: Vec<(f64, f64)>,
    /// Radius of the mark at each point and what it stands for; none without marks.
    pub(super) marks: Vec<(f64, String)>,
}

/// A rectangle.
pub(super) struct Bar {
    /// Class of the model.
    pub(super) class: &'static str,
    /// Where it begins and ends.
    pub(super) x: (f64, f64),
    /// How high it is.
    pub(super) y: f64,
    /// What it stands for.
    pub(super) says: String,
}

/// A chart in the making.
pub(super) struct Chart {
    /// What it shows, for those who cannot see it.
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Chart {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = LEFT + self.x.along(x) * (WIDTH - LEFT - RIGHT);
        (across, HEIGHT - BOTTOM - self.y.along(y) * (HEIGHT - TOP - BOTTOM))
    }

    /// A path through points.
    pub(super) fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::with_capacity(points.len() * 14);
        for (number, point) in points.iter().enumerate() {
            let (x, y) = self.at(*point);
            // writing to a string cannot fail
            let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { " L" });
        }
        path
    }

    fn axes(&self) -> Markup {
        let ((left, bottom), (right, top)) =
            (self.at((self.x.range.0, self.y.range.0)), self.at((self.x.range.1, self.y.range.1)));
        let middle = f64::midpoint(top, bottom);
        html! {
            @for (value, text) in &self.x.ticks {
                @let (x, _) = self.at((*value, self.y.range.0));
                line class="grid" x1=(tenth(x)) x2=(tenth(x)) y1=(tenth(top)) y2=(tenth(bottom)) {}
                text class="tick" x=(tenth(x)) y=(tenth(bottom + 16.0)) text-anchor="middle" { (text) }
            }
            @for (value, text) in &self.y.ticks {
                @let (_, y) = self.at((self.x.range.0, *value));
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
            @for ((class, name), place) in names.iter().zip(0_u32..) {
                @let x = LEFT + f64::from(place) * (WIDTH - LEFT - RIGHT) / 2.0;
                path class={ "line " (class) } d=(format!("M{x:.1} 12 h26")) {}
                text x=(tenth(x + 32.0)) y="16" { (short(name)) }
            }
        }
    }

    /// Lines, and a straight guide between two points.
    pub(super) fn lines(&self, series: &[Series], guide: Option<[(f64, f64); 2]>) -> Markup {
        let names: Vec<_> = series.iter().map(|one| (one.class, one.name.clone())).collect();
        let inner = html! {
            @if let Some(ends) = guide { path class="guide" d=(self.path(&ends)) {} }
            @for one in series {
                path class={ "line " (one.class) } d=(self.path(&one.points)) {}
                @for (point, (radius, says)) in one.points.iter().zip(&one.marks) {
                    @let (x, y) = self.at(*point);
                    circle class={ "mark " (one.class) } cx=(tenth(x)) cy=(tenth(y)) r=(tenth(*radius)) { title { (says) } }
                }
            }
        };
        self.drawn(&names, &inner)
    }

    /// Bars, and upright guides with their names.
    pub(super) fn bars(&self, names: &[(&'static str, String)], bars: &[Bar], guides: &[(f64, String)]) -> Markup {
        let inner = html! {
            @for bar in bars {
                @let (left, top) = self.at((bar.x.0, bar.y));
                @let (right, bottom) = self.at((bar.x.1, self.y.range.0));
                rect class={ "bar " (bar.class) } x=(tenth(left)) y=(tenth(top)) width=(tenth(right - left)) height=(tenth(bottom - top)) {
                    title { (bar.says) }
                }
            }
            @for (at, name) in guides {
                @let (x, top) = self.at((*at, self.y.range.1));
                @let (_, bottom) = self.at((*at, self.y.range.0));
                path class="guide" d=(format!("M{x:.1} {top:.1} V{bottom:.1}")) {}
                text class="tick" x=(tenth(x + 4.0)) y=(tenth(top + 11.0)) { (name) }
            }
        };
        self.drawn(names, &inner)
    }

    fn drawn(&self, names: &[(&'static str, String)], inner: &Markup) -> Markup {
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                (self.axes())
                (inner)
                (self.legend(names))
            }
        }
    }
}

/// A place on the paper, to a tenth of a unit.
pub(super) fn tenth(place: f64) -> String {
    format!("{place:.1}")
}

/// A name that fits into a legend.
fn short(name: &str) -> String {
    if name.chars().count() <= 24 { name.to_owned() } else { name.chars().take(23).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        Chart { title: "t", x: Axis::unit("across"), y: Axis::unit("up") }
    }

    #[test]
    fn a_curve_begins_and_ends_where_its_axes_do() {
        assert_eq!(chart().path(&[(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]), "M58.0 282.0 L242.0 154.0 L426.0 26.0");
        assert_eq!(chart().path(&[]), "");
    }

    #[test]
    fn a_chart_is_well_formed_whatever_its_legend_says() {
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
