//! What each factor adds to a score: a step function of one feature as a small chart, a table over two as a grid of colours.
//!
//! Bins are drawn equally wide, whatever values they span: features are spread over many orders of magnitude.

use std::fmt::Write as _;

use arx_core::risk::features::{Unit, spec_of};
use arx_core::risk::scorecard::{Cells, Factor, Points, Scorecard};
use arx_core::risk::shown;
use maud::{Markup, html};

use super::charts::tenth;
use super::content::Report;

/// Size of a small chart.
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 180.0;

/// Room beside the axes. On the right stands what an undefined value adds.
const LEFT: f64 = 46.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 56.0;
const BOTTOM: f64 = 36.0;

/// Room beside a grid: names and cuts of the first feature stand on its left.
const GRID_LEFT: f64 = 74.0;
const GRID_RIGHT: f64 = 8.0;

/// Numbers along an axis need so much room each.
const TICK_WIDTH: f64 = 62.0;
const TICK_HEIGHT: f64 = 13.0;

/// A cell of this size has room for its points.
const READABLE: (f64, f64) = (25.0, 11.0);

/// A factor in the models that have it, in their order.
struct Shared<'r> {
    features: &'r [String],
    factors: Vec<(&'static str, &'r Scorecard, &'r Factor)>,
}

impl Shared<'_> {
    /// In the model where it weighs most; nothing where that is not known.
    fn importance(&self) -> f64 {
        self.factors.iter().filter_map(|(_, _, factor)| factor.importance).fold(0.0, f64::max)
    }

    fn caption(&self) -> Markup {
        let name = self.features.join(" × ");
        let described = self.factors.iter().find_map(|(_, _, factor)| factor.description.as_deref());
        html! {
            figcaption {
                b { (name) }
                @for (_, scorecard, factor) in &self.factors {
                    @if let Some(importance) = factor.importance {
                        " · " (scorecard.version()) " ±" (format!("{importance:.2}"))
                    }
                }
                @if let Some(text) = described { br; (text) }
            }
        }
    }
}

/// The factors over so many features, those that weigh most first.
fn shared(report: &Report, features: usize) -> Vec<Shared<'_>> {
    let mut all: Vec<Shared<'_>> = Vec::new();
    for (class, model) in report.models() {
        for factor in model.scorecard.factors().iter().filter(|factor| factor.features.len() == features) {
            let of_model = (class, &model.scorecard, factor);
            // a model may read a feature twice
            let place = all
                .iter_mut()
                .find(|one| one.features == factor.features && one.factors.iter().all(|(known, _, _)| *known != class));
            match place {
                Some(one) => one.factors.push(of_model),
                None => all.push(Shared { features: &factor.features, factors: vec![of_model] }),
            }
        }
    }
    all.sort_by(|a, b| b.importance().total_cmp(&a.importance()));
    all
}

/// The largest points either way, so that all charts of a kind have one scale.
fn largest(factors: &[Shared<'_>]) -> f64 {
    let all = factors.iter().flat_map(|one| &one.factors);
    let points = all.flat_map(|(_, _, factor)| factor.points.iter().chain([&factor.undefined]));
    points.map(|points| number(*points).abs()).fold(1.0, f64::max)
}

fn number(points: Points) -> f64 {
    f64::from(points.tenths()) / 10.0
}

/// A chart for each factor of one feature.
pub(super) fn steps(report: &Report) -> Markup {
    let factors = shared(report, 1);
    // an even number that all fit under
    let scale = (largest(&factors) / 2.0).ceil() * 2.0;
    html! {
        div class="factors" {
            @for one in &factors {
                figure { (one.caption()) (step_chart(one, scale)) (bins(one)) }
            }
        }
    }
}

fn unit(feature: &str) -> Unit {
    spec_of(feature).map_or(Unit::Ratio, |spec| spec.unit)
}

/// A value beside an axis, where there is little room.
fn tick(value: f64, feature: &str) -> String {
    let text = shown(value, unit(feature));
    match unit(feature) {
        Unit::Coins | Unit::Log2 | Unit::Bits => text.split(' ').next().unwrap_or_default().to_owned(),
        Unit::Count | Unit::Share | Unit::Ratio | Unit::Seconds => text,
    }
}

/// What the numbers beside an axis count, where they do not say so.
fn counted(feature: &str) -> &'static str {
    match unit(feature) {
        Unit::Coins => "coins",
        Unit::Log2 => "on average",
        Unit::Bits => "bits",
        Unit::Count => "count",
        Unit::Share => "share",
        Unit::Ratio => "ratio",
        Unit::Seconds => "time",
    }
}

/// Boundaries between bins that are written beside an axis: as many as there is room for, evenly chosen.
fn written(boundaries: usize, length: f64, room: f64) -> Vec<usize> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few")]
    let most = ((length / room) as usize).max(1);
    let apart = boundaries.div_ceil(most).max(1);
    (0..boundaries).skip((boundaries.saturating_sub(1) % apart) / 2).step_by(apart).collect()
}

#[expect(clippy::cast_precision_loss, reason = "at most some hundred bins")]
fn part(place: usize, of: usize) -> f64 {
    place as f64 / of.max(1) as f64
}

fn step_chart(one: &Shared<'_>, scale: f64) -> Markup {
    let feature = one.features.first().map_or("", String::as_str);
    let mut cuts: Vec<f64> =
        one.factors.iter().flat_map(|(_, _, factor)| factor.cuts.first().into_iter().flatten().copied()).collect();
    cuts.sort_by(f64::total_cmp);
    cuts.dedup();
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |place: usize| LEFT + part(place, cuts.len() + 1) * (right - LEFT);
    let y = |points: f64| TOP + (scale - points) / (2.0 * scale) * (bottom - TOP);
    let path = |factor: &Factor| {
        let mut path = String::new();
        for place in 0..=cuts.len() {
            let height = y(number(points_at(factor, cuts.get(place).copied())));
            // writing to a string cannot fail
            let _ = if place == 0 {
                write!(path, "M{:.1} {height:.1} H{:.1}", x(0), x(1))
            } else {
                write!(path, " V{height:.1} H{:.1}", x(place + 1))
            };
        }
        path
    };
    let label = format!("points by {feature}");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            @for points in [-scale, -scale / 2.0, 0.0, scale / 2.0, scale] {
                line class=(if points == 0.0 { "axis" } else { "grid" }) x1=(tenth(LEFT)) x2=(tenth(WIDTH - 8.0)) y1=(tenth(y(points))) y2=(tenth(y(points))) {}
                text class="tick small" x=(tenth(LEFT - 5.0)) y=(tenth(y(points) + 3.5)) text-anchor="end" { (format!("{points:+}").replace("+0", "0")) }
            }
            @for place in written(cuts.len(), right - LEFT, TICK_WIDTH) {
                @let at = x(place + 1);
                line class="axis" x1=(tenth(at)) x2=(tenth(at)) y1=(tenth(bottom)) y2=(tenth(bottom + 4.0)) {}
                @if let Some(cut) = cuts.get(place) {
                    text class="tick small" x=(tenth(at)) y=(tenth(bottom + 14.0)) text-anchor="middle" { (tick(*cut, feature)) }
                }
            }
            text class="small" x=(tenth(f64::midpoint(LEFT, right))) y=(tenth(HEIGHT - 6.0)) text-anchor="middle" { "value (" (counted(feature)) ")" }
            text class="small" x=(tenth(f64::midpoint(right, WIDTH))) y=(tenth(HEIGHT - 6.0)) text-anchor="middle" { "undefined" }
            text class="small" x="10" y=(tenth(y(0.0))) text-anchor="middle" transform=(format!("rotate(-90 10 {:.1})", y(0.0))) { "points" }
            @for (class, scorecard, factor) in &one.factors {
                @let undefined = y(number(factor.undefined));
                path class={ "line " (class) } d=(path(factor)) { title { (scorecard.version()) } }
                path class={ "line " (class) } d=(format!("M{:.1} {undefined:.1} H{:.1}", right + 14.0, WIDTH - 14.0)) {
                    title { (scorecard.version()) ": " (format!("{:+}", factor.undefined)) " where undefined" }
                }
            }
        }
    }
}

/// Points of the bin that a value falls into; those of the last bin without one.
fn points_at(factor: &Factor, value: Option<f64>) -> Points {
    let cuts = factor.cuts.first().map_or(&[][..], Vec::as_slice);
    let bin = value.map_or(cuts.len(), |value| cuts.partition_point(|cut| *cut < value));
    factor.points.get(&[bin]).copied().unwrap_or(factor.undefined)
}

/// A factor's points as a table.
fn bins(one: &Shared<'_>) -> Markup {
    let feature = one.features.first().map_or("", String::as_str);
    let share = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0));
    html! {
        details {
            summary { "points by bin" }
            @for (_, scorecard, factor) in &one.factors {
                @let cuts = factor.cuts.first().map_or(&[][..], Vec::as_slice);
                table {
                    caption { (scorecard.version()) }
                    thead { tr { th { "value" } th class="n" { "points" } th class="n" { "training wallets" } } }
                    tbody {
                        @for (bin, points) in factor.points.iter().enumerate() {
                            tr {
                                td { (bounds(bin, cuts, feature)) }
                                td class="n" { (format!("{points:+}")) }
                                td class="n" { (share(factor.shares.as_ref().and_then(|shares| shares.get(&[bin])).copied())) }
                            }
                        }
                        tr {
                            td { "undefined" }
                            td class="n" { (format!("{:+}", factor.undefined)) }
                            td class="n" { (share(factor.undefined_share)) }
                        }
                    }
                }
            }
        }
    }
}

fn bounds(bin: usize, cuts: &[f64], feature: &str) -> String {
    let text = |cut: &f64| shown(*cut, unit(feature));
    match (bin.checked_sub(1).and_then(|before| cuts.get(before)), cuts.get(bin)) {
        (None, None) => "any".to_owned(),
        (None, Some(to)) => format!("up to {}", text(to)),
        (Some(from), None) => format!("above {}", text(from)),
        (Some(from), Some(to)) => format!("above {} up to {}", text(from), text(to)),
    }
}

/// A grid for each factor of two features and each model that has it; nothing if no model has any.
pub(super) fn grids(report: &Report) -> Option<Markup> {
    let factors = shared(report, 2);
    let scale = largest(&factors);
    (!factors.is_empty()).then(|| {
        html! {
            div class="factors" {
                @for one in &factors {
                    figure {
                        (one.caption())
                        @for (_, scorecard, factor) in &one.factors {
                            @if let Cells::Table(rows) = &factor.points { (grid(scorecard, factor, rows, scale)) }
                        }
                    }
                }
            }
        }
    })
}

fn grid(scorecard: &Scorecard, factor: &Factor, rows: &[Vec<Points>], scale: f64) -> Markup {
    let ([of_rows, of_columns], [row_cuts, column_cuts]) = (factor.features.as_slice(), factor.cuts.as_slice()) else {
        return html! {};
    };
    let columns = column_cuts.len() + 1;
    let (right, bottom) = (WIDTH - GRID_RIGHT, HEIGHT - BOTTOM);
    let (wide, high) = ((right - GRID_LEFT) * part(1, columns), (bottom - TOP) * part(1, rows.len()));
    let x = |place: usize| GRID_LEFT + part(place, columns) * (right - GRID_LEFT);
    // the first row, of the least values, is at the bottom
    let y = |place: usize| bottom - part(place, rows.len()) * (bottom - TOP);
    let middle = f64::midpoint(TOP, bottom);
    let label = format!("{}: points by {of_rows} and {of_columns}", scorecard.version());
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            @for (row, cells) in rows.iter().enumerate() {
                @for (column, points) in cells.iter().enumerate() {
                    @let class = if points.tenths() < 0 { "cell down" } else { "cell up" };
                    @let opacity = format!("{:.2}", (number(*points).abs() / scale).min(1.0) * 0.85);
                    rect class=(class) x=(tenth(x(column))) y=(tenth(y(row + 1))) width=(tenth(wide)) height=(tenth(high)) fill-opacity=(opacity) {
                        title { (bounds(row, row_cuts, of_rows)) " × " (bounds(column, column_cuts, of_columns)) ": " (format!("{points:+}")) }
                    }
                    @if wide >= READABLE.0 && high >= READABLE.1 {
                        text class="small" x=(tenth(x(column) + wide / 2.0)) y=(tenth(y(row + 1) + high / 2.0 + 3.5)) text-anchor="middle" { (format!("{points:+}")) }
                    }
                }
            }
            @for place in written(column_cuts.len(), right - GRID_LEFT, TICK_WIDTH) {
                @if let Some(cut) = column_cuts.get(place) {
                    text class="tick small" x=(tenth(x(place + 1))) y=(tenth(bottom + 12.0)) text-anchor="middle" { (tick(*cut, of_columns)) }
                }
            }
            @for place in written(row_cuts.len(), bottom - TOP, TICK_HEIGHT) {
                @if let Some(cut) = row_cuts.get(place) {
                    text class="tick small" x=(tenth(GRID_LEFT - 4.0)) y=(tenth(y(place + 1) + 3.5)) text-anchor="end" { (tick(*cut, of_rows)) }
                }
            }
            text class="small" x=(tenth(f64::midpoint(GRID_LEFT, right))) y=(tenth(HEIGHT - 8.0)) text-anchor="middle" { (of_columns) }
            text class="small" x="12" y=(tenth(middle)) text-anchor="middle" transform=(format!("rotate(-90 12 {middle:.1})")) { (fitting(of_rows)) }
        }
        p class="faint" { (scorecard.version()) ", undefined: " (format!("{:+}", factor.undefined)) }
    }
}

/// A name that fits beside a grid.
fn fitting(name: &str) -> String {
    if name.chars().count() <= 26 { name.to_owned() } else { name.chars().take(25).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_cuts_are_written_as_there_is_room_for() {
        assert_eq!(written(0, 236.0, TICK_WIDTH), [0; 0]);
        assert_eq!(written(3, 236.0, TICK_WIDTH), [0, 1, 2]);
        for cuts in 1..60 {
            let chosen = written(cuts, 236.0, TICK_WIDTH);
            assert!((1..=3).contains(&chosen.len()) && chosen.iter().all(|place| *place < cuts), "{cuts}: {chosen:?}");
        }
    }

    #[test]
    fn a_bin_holds_its_upper_cut() {
        let scorecard = arx_core::risk::compiled_in().unwrap();
        let factor = scorecard.factors().iter().find(|factor| factor.features.len() == 1).unwrap();
        let Cells::Line(points) = &factor.points else { panic!("a factor of one feature") };
        for (cut, expected) in factor.cuts[0].iter().zip(points) {
            assert_eq!(points_at(factor, Some(*cut)), *expected);
        }
        assert_eq!(points_at(factor, None), *points.last().unwrap());
    }
}
