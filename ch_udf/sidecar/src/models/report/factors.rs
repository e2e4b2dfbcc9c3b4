//! Draws what each factor adds to a score: a step function of one feature as a small chart, a table
//! over two as a coloured grid.
//!
//! Bins are equally wide, regardless of the values they span: features spread over many orders of
//! magnitude.

use std::fmt::Write as _;

use arx_core::risk::features::{FeatureSpec, FeatureUnit};
use arx_core::risk::format_value;
use arx_core::risk::scorecard::{Cells, Factor, Points, Scorecard};
use maud::{Markup, html};

use super::charts::tenth;
use super::content::Report;

/// Size of a small chart.
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 180.0;

/// Margins. The points of an undefined value stand in the right one.
const LEFT: f64 = 46.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 56.0;
const BOTTOM: f64 = 36.0;

/// Margins of a grid. Name and cuts of the first feature stand in the left one.
const GRID_LEFT: f64 = 74.0;
const GRID_RIGHT: f64 = 8.0;

/// Space that a tick label takes along its axis.
const TICK_WIDTH: f64 = 62.0;
const TICK_HEIGHT: f64 = 13.0;

/// Cells of at least this size show their points.
const READABLE: (f64, f64) = (25.0, 11.0);

/// A factor and the models that contain it, in their order.
struct Shared<'r> {
    features: &'r [String],
    factors: Vec<(&'static str, &'r Scorecard, &'r Factor)>,
}

impl Shared<'_> {
    /// Returns the importance in the model where the factor weighs most; 0 where it is unknown.
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

/// Returns the factors over `features` features, the most important first.
fn shared_factors(report: &Report, features: usize) -> Vec<Shared<'_>> {
    let mut all: Vec<Shared<'_>> = Vec::new();
    for (class, model) in report.models() {
        for factor in model.scorecard.factors().iter().filter(|factor| factor.features.len() == features) {
            let of_model = (class, &model.scorecard, factor);
            // A model may read a feature twice.
            let existing = all.iter_mut().find(|shared| {
                shared.features == factor.features && shared.factors.iter().all(|(other, _, _)| *other != class)
            });
            match existing {
                Some(shared) => shared.factors.push(of_model),
                None => all.push(Shared { features: &factor.features, factors: vec![of_model] }),
            }
        }
    }
    all.sort_by(|a, b| b.importance().total_cmp(&a.importance()));
    all
}

/// Returns the largest absolute points, so that all charts of a kind share one scale.
fn largest(factors: &[Shared<'_>]) -> f64 {
    let all = factors.iter().flat_map(|shared| &shared.factors);
    let points = all.flat_map(|(_, _, factor)| factor.points.iter().chain([&factor.undefined]));
    points.map(|points| number(*points).abs()).fold(1.0, f64::max)
}

fn number(points: Points) -> f64 {
    f64::from(points.tenths()) / 10.0
}

/// Draws a chart for each factor of one feature.
pub(super) fn steps(report: &Report) -> Markup {
    let factors = shared_factors(report, 1);
    // The smallest even number that no factor exceeds.
    let scale = (largest(&factors) / 2.0).ceil() * 2.0;
    html! {
        div class="factors" {
            @for shared in &factors {
                figure { (shared.caption()) (step_chart(shared, scale)) (bins(shared)) }
            }
        }
    }
}

fn unit(feature: &str) -> FeatureUnit {
    FeatureSpec::named(feature).map_or(FeatureUnit::Ratio, |spec| spec.unit)
}

/// Formats a value for a tick label, where there is little room.
fn tick(value: f64, feature: &str) -> String {
    let text = format_value(value, unit(feature));
    match unit(feature) {
        FeatureUnit::Coins | FeatureUnit::Log2 | FeatureUnit::Bits => {
            text.split(' ').next().unwrap_or_default().to_owned()
        }
        FeatureUnit::Count | FeatureUnit::Share | FeatureUnit::Ratio | FeatureUnit::Seconds => text,
    }
}

/// Names the unit of an axis whose tick labels do not show it.
fn unit_name(feature: &str) -> &'static str {
    match unit(feature) {
        FeatureUnit::Coins => "coins",
        FeatureUnit::Log2 => "on average",
        FeatureUnit::Bits => "bits",
        FeatureUnit::Count => "count",
        FeatureUnit::Share => "share",
        FeatureUnit::Ratio => "ratio",
        FeatureUnit::Seconds => "time",
    }
}

/// Returns the boundaries between bins that get a tick label: evenly chosen, as many as fit.
fn labelled_cuts(boundaries: usize, length: f64, label_length: f64) -> Vec<usize> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a few")]
    let max_labels = ((length / label_length) as usize).max(1);
    let step = boundaries.div_ceil(max_labels).max(1);
    (0..boundaries).skip((boundaries.saturating_sub(1) % step) / 2).step_by(step).collect()
}

#[expect(clippy::cast_precision_loss, reason = "at most a few hundred bins")]
fn fraction(index: usize, count: usize) -> f64 {
    index as f64 / count.max(1) as f64
}

fn step_chart(shared: &Shared<'_>, scale: f64) -> Markup {
    let feature = shared.features.first().map_or("", String::as_str);
    let mut cuts: Vec<f64> =
        shared.factors.iter().flat_map(|(_, _, factor)| factor.cuts.first().into_iter().flatten().copied()).collect();
    cuts.sort_by(f64::total_cmp);
    cuts.dedup();
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |index: usize| LEFT + fraction(index, cuts.len() + 1) * (right - LEFT);
    let y = |points: f64| TOP + (scale - points) / (2.0 * scale) * (bottom - TOP);
    let path = |factor: &Factor| {
        let mut path = String::new();
        for index in 0..=cuts.len() {
            let height = y(number(points_at(factor, cuts.get(index).copied())));
            // Writing to a string cannot fail.
            let _ = if index == 0 {
                write!(path, "M{:.1} {height:.1} H{:.1}", x(0), x(1))
            } else {
                write!(path, " V{height:.1} H{:.1}", x(index + 1))
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
            @for index in labelled_cuts(cuts.len(), right - LEFT, TICK_WIDTH) {
                @let at = x(index + 1);
                line class="axis" x1=(tenth(at)) x2=(tenth(at)) y1=(tenth(bottom)) y2=(tenth(bottom + 4.0)) {}
                @if let Some(cut) = cuts.get(index) {
                    text class="tick small" x=(tenth(at)) y=(tenth(bottom + 14.0)) text-anchor="middle" { (tick(*cut, feature)) }
                }
            }
            text class="small" x=(tenth(f64::midpoint(LEFT, right))) y=(tenth(HEIGHT - 6.0)) text-anchor="middle" { "value (" (unit_name(feature)) ")" }
            text class="small" x=(tenth(f64::midpoint(right, WIDTH))) y=(tenth(HEIGHT - 6.0)) text-anchor="middle" { "undefined" }
            text class="small" x="10" y=(tenth(y(0.0))) text-anchor="middle" transform=(format!("rotate(-90 10 {:.1})", y(0.0))) { "points" }
            @for (class, scorecard, factor) in &shared.factors {
                @let undefined = y(number(factor.undefined));
                path class={ "line " (class) } d=(path(factor)) { title { (scorecard.version()) } }
                path class={ "line " (class) } d=(format!("M{:.1} {undefined:.1} H{:.1}", right + 14.0, WIDTH - 14.0)) {
                    title { (scorecard.version()) ": " (format!("{:+}", factor.undefined)) " where undefined" }
                }
            }
        }
    }
}

/// Returns the points of the bin of a value; without a value, those of the last bin.
fn points_at(factor: &Factor, value: Option<f64>) -> Points {
    let cuts = factor.cuts.first().map_or(&[][..], Vec::as_slice);
    let bin = value.map_or(cuts.len(), |value| cuts.partition_point(|cut| *cut < value));
    factor.points.get(&[bin]).copied().unwrap_or(factor.undefined)
}

/// Renders the points of a factor as a table.
fn bins(shared: &Shared<'_>) -> Markup {
    let feature = shared.features.first().map_or("", String::as_str);
    let share = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0));
    html! {
        details {
            summary { "points by bin" }
            @for (_, scorecard, factor) in &shared.factors {
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
    let text = |cut: &f64| format_value(*cut, unit(feature));
    match (bin.checked_sub(1).and_then(|before| cuts.get(before)), cuts.get(bin)) {
        (None, None) => "any".to_owned(),
        (None, Some(to)) => format!("up to {}", text(to)),
        (Some(from), None) => format!("above {}", text(from)),
        (Some(from), Some(to)) => format!("above {} up to {}", text(from), text(to)),
    }
}

/// Draws a grid for each factor of two features and each model that has it.
pub(super) fn grids(report: &Report) -> Option<Markup> {
    let factors = shared_factors(report, 2);
    let scale = largest(&factors);
    (!factors.is_empty()).then(|| {
        html! {
            div class="factors" {
                @for shared in &factors {
                    figure {
                        (shared.caption())
                        @for (_, scorecard, factor) in &shared.factors {
                            @if let Cells::Table(rows) = &factor.points { (grid(scorecard, factor, rows, scale)) }
                        }
                    }
                }
            }
        }
    })
}

fn grid(scorecard: &Scorecard, factor: &Factor, rows: &[Vec<Points>], scale: f64) -> Markup {
    let ([row_feature, column_feature], [row_cuts, column_cuts]) = (factor.features.as_slice(), factor.cuts.as_slice())
    else {
        return html! {};
    };
    let columns = column_cuts.len() + 1;
    let (right, bottom) = (WIDTH - GRID_RIGHT, HEIGHT - BOTTOM);
    let (wide, high) = ((right - GRID_LEFT) * fraction(1, columns), (bottom - TOP) * fraction(1, rows.len()));
    let x = |index: usize| GRID_LEFT + fraction(index, columns) * (right - GRID_LEFT);
    // The first row, that of the least values, is at the bottom.
    let y = |index: usize| bottom - fraction(index, rows.len()) * (bottom - TOP);
    let middle = f64::midpoint(TOP, bottom);
    let label = format!("{}: points by {row_feature} and {column_feature}", scorecard.version());
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            @for (row, cells) in rows.iter().enumerate() {
                @for (column, points) in cells.iter().enumerate() {
                    @let class = if points.tenths() < 0 { "cell down" } else { "cell up" };
                    @let opacity = format!("{:.2}", (number(*points).abs() / scale).min(1.0) * 0.85);
                    rect class=(class) x=(tenth(x(column))) y=(tenth(y(row + 1))) width=(tenth(wide)) height=(tenth(high)) fill-opacity=(opacity) {
                        title { (bounds(row, row_cuts, row_feature)) " × " (bounds(column, column_cuts, column_feature)) ": " (format!("{points:+}")) }
                    }
                    @if wide >= READABLE.0 && high >= READABLE.1 {
                        text class="small" x=(tenth(x(column) + wide / 2.0)) y=(tenth(y(row + 1) + high / 2.0 + 3.5)) text-anchor="middle" { (format!("{points:+}")) }
                    }
                }
            }
            @for index in labelled_cuts(column_cuts.len(), right - GRID_LEFT, TICK_WIDTH) {
                @if let Some(cut) = column_cuts.get(index) {
                    text class="tick small" x=(tenth(x(index + 1))) y=(tenth(bottom + 12.0)) text-anchor="middle" { (tick(*cut, column_feature)) }
                }
            }
            @for index in labelled_cuts(row_cuts.len(), bottom - TOP, TICK_HEIGHT) {
                @if let Some(cut) = row_cuts.get(index) {
                    text class="tick small" x=(tenth(GRID_LEFT - 4.0)) y=(tenth(y(index + 1) + 3.5)) text-anchor="end" { (tick(*cut, row_feature)) }
                }
            }
            text class="small" x=(tenth(f64::midpoint(GRID_LEFT, right))) y=(tenth(HEIGHT - 8.0)) text-anchor="middle" { (column_feature) }
            text class="small" x="12" y=(tenth(middle)) text-anchor="middle" transform=(format!("rotate(-90 12 {middle:.1})")) { (shortened(row_feature)) }
        }
        p class="faint" { (scorecard.version()) ", undefined: " (format!("{:+}", factor.undefined)) }
    }
}

/// Shortens a name to the height of a grid.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 26 { name.to_owned() } else { name.chars().take(25).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_cuts_are_labelled_as_fit() {
        assert_eq!(labelled_cuts(0, 236.0, TICK_WIDTH), [0; 0]);
        assert_eq!(labelled_cuts(3, 236.0, TICK_WIDTH), [0, 1, 2]);
        for cuts in 1..60 {
            let chosen = labelled_cuts(cuts, 236.0, TICK_WIDTH);
            assert!((1..=3).contains(&chosen.len()) && chosen.iter().all(|index| *index < cuts), "{cuts}: {chosen:?}");
        }
    }

    #[test]
    fn a_bin_includes_its_upper_cut() {
        let scorecard = arx_core::risk::default_scorecard().unwrap();
        let factor = scorecard.factors().iter().find(|factor| factor.features.len() == 1).unwrap();
        let Cells::Line(points) = &factor.points else { panic!("a factor of one feature") };
        for (cut, expected) in factor.cuts[0].iter().zip(points) {
            assert_eq!(points_at(factor, Some(*cut)), *expected);
        }
        assert_eq!(points_at(factor, None), *points.last().unwrap());
    }
}
