//! The growth as an SVG chart for the report.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use crate::growth::{Point, SMALLEST};

const SIZE: (u32, u32) = (820, 460);

/// Space before the first and after the last point, in doublings.
const MARGIN: f64 = 0.15;

/// Name, colour and value of a line.
type PlotSeries = (&'static str, RGBColor, fn(&Point) -> f64);

const LINES: [PlotSeries; 3] = [
    ("full build", RGBColor(0xd9, 0x5f, 0x02), |point| point.build_ms),
    ("refresh after 10,000 new rows", RGBColor(0x75, 0x70, 0xb3), |point| point.refresh_ms),
    ("wallet_reach, depth 3, from a hub", RGBColor(0x1b, 0x9e, 0x77), |point| point.reach_ms),
];

/// Draws the points with logarithmic axes, so that a straight line of slope 1 is linear growth.
///
/// # Errors
/// When there are no points, or the file cannot be written.
pub fn write_svg(path: &Path, points: &[Point]) -> Result<()> {
    std::fs::write(path, svg(points)?).with_context(|| format!("write {}", path.display()))
}

fn svg(points: &[Point]) -> Result<String> {
    let (first, last) = points.first().zip(points.last()).ok_or_else(|| anyhow!("nothing was measured"))?;
    let values = || points.iter().flat_map(|point| LINES.iter().map(|(.., value)| value(point)));
    let x = (doublings(first) - MARGIN, doublings(last) + MARGIN);
    let mut text = String::new();
    draw(&mut text, points, x, decades(values())?).map_err(|error| anyhow!("draw the growth: {error}"))?;
    Ok(text)
}

/// Returns the number of doublings from the smallest size.
fn doublings(point: &Point) -> f64 {
    (point.transfers as f64 / SMALLEST as f64).log2()
}

/// Returns the powers of ten around the values.
fn decades(values: impl Iterator<Item = f64>) -> Result<(f64, f64)> {
    let logarithms: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
    let least = logarithms.iter().copied().reduce(f64::min).ok_or_else(|| anyhow!("nothing was measured"))?;
    let most = logarithms.iter().copied().fold(least, f64::max);
    Ok((10_f64.powf(least.floor()), 10_f64.powf(most.ceil())))
}

fn draw(text: &mut String, points: &[Point], x: (f64, f64), y: (f64, f64)) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Time over size of the dense graph", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(x.0..x.1, (y.0..y.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("transfers, millions")
        .y_desc("milliseconds")
        .light_line_style(BLACK.mix(0.05))
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .x_labels(points.len())
        .x_label_formatter(&|doublings| format!("{}", doublings.exp2() * SMALLEST as f64 / 1e6))
        .y_label_formatter(&|value| format!("{value}"))
        .draw()?;
    for (name, colour, value) in LINES {
        let line = || points.iter().map(|point| (doublings(point), value(point)));
        chart
            .draw_series(LineSeries::new(line(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(2)));
        chart.draw_series(line().map(|at| Circle::new(at, 4, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(transfers: u64, factor: f64) -> Point {
        Point {
            transfers,
            wallets: 1,
            reach_ms: 2.0 * factor,
            reached: 1,
            build_ms: 300.0 * factor,
            refresh_ms: 40.0 * factor,
            file_bytes: 1,
        }
    }

    #[test]
    fn every_line_has_points_and_a_name() {
        let text = svg(&[point(250_000, 1.0), point(500_000, 2.0), point(1_000_000, 4.0)]).unwrap();
        assert!(text.starts_with("<svg"), "{text}");
        for (name, ..) in LINES {
            assert!(text.contains(name), "{name} is missing");
        }
        assert_eq!(text.matches("<circle").count(), 9);
        assert!(svg(&[]).is_err());
    }

    #[test]
    fn axes_end_at_powers_of_ten() {
        let (least, most) = decades([3.0, 40.0, 900.0].into_iter()).unwrap();
        assert!((least - 1.0).abs() < 1e-9 && (most - 1_000.0).abs() < 1e-9, "{least} to {most}");
    }
}
