//! Renders the quality of models on labelled wallets: sample, tables, curves and calibration.

use arx_core::risk::fit::CurvePoint;
use arx_core::risk::scorecard::Training;
use arx_core::risk::study::ModelReport;
use maud::{Markup, html};

use super::charts::{Axis, Chart, Series};
use super::content::{Measured, Model, Report};
use super::numbers::{chartable, count, decimals};

/// Describes the sample that measures were taken on.
fn basis(measured: &Measured) -> String {
    let sample = &measured.sample;
    let left_out = match (sample.unknown, sample.conflicting) {
        (0, 0) => String::new(),
        (unknown, 0) => format!("; {} labelled wallets have no transaction", count(unknown)),
        (unknown, conflicting) => format!(
            "; {} labelled wallets have no transaction, {} are labelled as both and left out",
            count(unknown),
            count(conflicting)
        ),
    };
    let how = if measured.report.out_of_fold {
        format!(
            "out of fold: each wallet was scored by a scorecard that was fitted without it ({} folds), so the measures hold for wallets not seen before",
            sample.folds
        )
    } else {
        "as it stands: one scorecard scored all of them. Where it was fitted on some of these same wallets, its measures are better than they would be on wallets not seen before".to_owned()
    };
    format!(
        "{} labelled wallets, {} of them illicit, {}. Scored {how}. Labels of a wallet's own fold were hidden when its features were extracted{left_out}.",
        count(sample.wallets),
        count(sample.illicit),
        measured.when
    )
}

/// Describes the sample of each model, once if it is the same.
fn bases(measured: &[(&'static str, &Model, &Measured)]) -> Markup {
    let texts: Vec<(&str, String)> =
        measured.iter().map(|(_, model, measured)| (model.scorecard.version(), basis(measured))).collect();
    match texts.as_slice() {
        [(first, text), (second, other)] if text == other => {
            html! { p { b { (first) } " and " b { (second) } " were measured on " (text) } }
        }
        texts => html! { @for (version, basis) in texts { p { b { (version) } " was measured on " (basis) } } },
    }
}

/// A measure, and how to read it from a report and from a document.
struct MeasureRow {
    name: &'static str,
    /// Describes which values are better.
    better: &'static str,
    of_report: fn(&ModelReport) -> f64,
    of_training: fn(&Training) -> f64,
}

const MEASURES: [MeasureRow; 4] = [
    MeasureRow {
        name: "AUC",
        better: "higher is better; 0.5 is chance",
        of_report: |report| report.auc,
        of_training: |training| training.auc,
    },
    MeasureRow {
        name: "Average precision",
        better: "higher is better; the share of illicit wallets is chance",
        of_report: |report| report.average_precision,
        of_training: |training| training.average_precision,
    },
    MeasureRow {
        name: "Log loss",
        better: "lower is better",
        of_report: |report| report.log_loss,
        of_training: |training| training.log_loss,
    },
    MeasureRow {
        name: "Brier score",
        better: "lower is better",
        of_report: |report| report.brier,
        of_training: |training| training.brier,
    },
];

/// Renders tables of measures, curves and calibration of every measured model.
pub(super) fn measures(report: &Report) -> Markup {
    let models: Vec<(&'static str, &Model)> = report.models().collect();
    let measured: Vec<(&'static str, &Model, &Measured)> =
        models.iter().filter_map(|(class, model)| Some((*class, *model, model.measured.as_ref()?))).collect();
    html! {
        (bases(&measured))
        div class="scroll" {
            table {
                caption { "On your labelled wallets" }
                thead { tr { th { "Measure" } @for (_, model) in &models { th class="n" { (model.scorecard.version()) } } th { "" } } }
                tbody {
                    @for MeasureRow { name, better, of_report, .. } in &MEASURES {
                        tr {
                            td { (name) }
                            @for (_, model) in &models {
                                td class="n" { (model.measured.as_ref().map_or_else(|| "not measured".to_owned(), |measured| decimals(of_report(&measured.report)))) }
                            }
                            td class="faint" { (better) }
                        }
                    }
                    @for (_, model, measured) in &measured {
                        @if let Some((name, stratum)) = &measured.stratum {
                            tr {
                                td colspan=(models.len() + 2) {
                                    (model.scorecard.version()) ", where " (name) " (" (count(stratum.rows)) " wallets, " (count(stratum.illicit)) " illicit): AUC " (decimals(stratum.auc))
                                    ", average precision " (decimals(stratum.average_precision)) ", log loss " (decimals(stratum.log_loss)) ", Brier score " (decimals(stratum.brier))
                                }
                            }
                        }
                    }
                }
            }
            @if models.iter().any(|(_, model)| model.scorecard.training().is_some()) {
                table {
                    caption { "From each document, out of fold on the sample it was fitted on; samples differ, so these are not comparable" }
                    thead { tr { th { "Measure" } @for (_, model) in &models { th class="n" { (model.scorecard.version()) } } } }
                    tbody {
                        @for MeasureRow { name, of_training, .. } in &MEASURES {
                            tr {
                                td { (name) }
                                @for (_, model) in &models {
                                    td class="n" { (model.scorecard.training().map_or_else(|| "not stated".to_owned(), |training| decimals(of_training(training)))) }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if measured.is_empty() {
            p { "There are no curves: no model was measured on labelled wallets." }
        } @else {
            div class="charts" {
                figure {
                    figcaption { b { "ROC curve" } ": share of illicit wallets found against the share of others taken for illicit" }
                    (curve(&measured, "Share of other wallets at or above the threshold", "Share of illicit wallets at or above it", "ROC curves", |report| &report.roc, Some([(0.0, 0.0), (1.0, 1.0)])))
                }
                figure {
                    figcaption { b { "Precision and recall" } ": share of illicit wallets among those above a threshold" }
                    (curve(&measured, "Recall: share of illicit wallets found", "Precision: share illicit of those found", "precision-recall curves", |report| &report.precision_recall, None))
                }
                figure {
                    figcaption { b { "Calibration" } ": predicted probability against observed share; a calibrated model is on the diagonal. Larger marks are more wallets." }
                    (calibration(&measured))
                }
                div class="tables" { (calibration_table(&measured)) }
            }
        }
    }
}

fn curve(
    measured: &[(&'static str, &Model, &Measured)],
    x: &'static str,
    y: &'static str,
    title: &'static str,
    points: fn(&ModelReport) -> &Vec<CurvePoint>,
    guide: Option<[(f64, f64); 2]>,
) -> Markup {
    let chart = Chart { title, x: Axis::unit(x), y: Axis::unit(y) };
    let series = measured.iter().map(|(class, model, measured)| Series {
        class,
        name: model.scorecard.version().to_owned(),
        points: points(&measured.report).iter().map(|point| (point.x, point.y)).collect(),
        marks: Vec::new(),
    });
    chart.lines(&series.collect::<Vec<_>>(), guide)
}

fn calibration(measured: &[(&'static str, &Model, &Measured)]) -> Markup {
    let chart =
        Chart { title: "calibration", x: Axis::unit("Probability predicted"), y: Axis::unit("Share that is illicit") };
    let series = measured.iter().map(|(class, model, measured)| {
        let bins = &measured.report.calibration;
        let largest = bins.iter().map(|bin| chartable(bin.rows)).fold(1.0, f64::max);
        Series {
            class,
            name: model.scorecard.version().to_owned(),
            points: bins.iter().map(|bin| (bin.predicted, bin.observed)).collect(),
            // The area of a mark is proportional to its wallets.
            marks: bins
                .iter()
                .map(|bin| (2.5 + 8.0 * (chartable(bin.rows) / largest).sqrt(), format!("{} wallets", count(bin.rows))))
                .collect(),
        }
    });
    chart.lines(&series.collect::<Vec<_>>(), Some([(0.0, 0.0), (1.0, 1.0)]))
}

fn calibration_table(measured: &[(&'static str, &Model, &Measured)]) -> Markup {
    html! {
        @for (_, model, measured) in measured {
            table {
                caption { "Calibration of " (model.scorecard.version()) }
                thead { tr { th class="n" { "predicted" } th class="n" { "illicit" } th class="n" { "wallets" } } }
                tbody {
                    @for bin in &measured.report.calibration {
                        tr {
                            td class="n" { (format!("{:.3}", bin.predicted)) }
                            td class="n" { (format!("{:.3}", bin.observed)) }
                            td class="n" { (count(bin.rows)) }
                        }
                    }
                }
            }
        }
    }
}
