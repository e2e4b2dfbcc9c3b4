//! Renders a report as one HTML document without scripts and external resources. Text is escaped
//! where it is inserted.

use arx_core::risk::fit::BandChange;
use arx_core::risk::scorecard::Training;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{Axis, Bar, Chart};
use super::content::{BARS, Model, Report};
use super::factors;
use super::measures::measures;
use super::numbers::{chartable, count, decimals, percent};

/// Colours and layout for screens, light and dark, and for paper.
const STYLE: &str = include_str!("page.css");

/// Content security policy: nothing may be loaded.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

#[must_use]
pub(crate) fn page(report: &Report) -> String {
    let title = match &report.draft {
        Some(draft) => format!("Risk models {} and {}", report.active.scorecard.version(), draft.scorecard.version()),
        None => format!("Risk model {}", report.active.scorecard.version()),
    };
    let grids = factors::grids(report);
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p class="faint" { "Network " (report.network) " · " (report.source) " · made " (report.created_at) }
                @for note in &report.notes { p class="note" { (note) } }
                (summary(report))
                nav {
                    p {
                        a href="#models" { "Models" } " · " a href="#measures" { "How good they are" } " · " a href="#scores" { "Scores and bands" }
                        " · " a href="#factors" { "What adds to a score" } " · " a href="#mistakes" { "Worst mistakes" } " · " a href="#reading" { "How to read this page" }
                    }
                }
                h2 id="models" { "Models" }
                div class="models" { @for (class, model) in report.models() { (model_header(class, model)) } }
                h2 id="measures" { "How good they are" }
                (measures(report))
                h2 id="scores" { "Scores and bands" }
                (scores(report))
                h2 id="factors" { "What adds to a score" }
                p {
                    "A score starts from the base (" @for (_, model) in report.models() { (model.scorecard.version()) ": " (model.scorecard.base()) "; " }
                    "the scale ends at 0 and 100), and each factor adds or takes points by the bin that the wallet's value falls into. "
                    "Factors that weigh most come first; ± is the mean size of their points over the training wallets. All charts have the same scale of points. Bins are drawn equally wide."
                }
                (factors::steps(report))
                @if let Some(grids) = grids {
                    h3 { "Factors of two features" }
                    p { "Columns are bins of the feature below, rows those of the feature on the left, the least values at the bottom left. Orange raises the score, blue lowers it." }
                    (grids)
                }
                h2 id="mistakes" { "Worst mistakes" }
                (mistakes(report))
                h2 id="reading" { "How to read this page" }
                (reading())
            }
        }
    };
    whole.into_string()
}

/// Summarises the comparison in one sentence.
fn summary(report: &Report) -> Markup {
    let Some(draft) = &report.draft else {
        return html! { p { "There is no draft to compare: this page shows the model in use alone." } };
    };
    let moved = report.drift.as_deref().map(moved);
    html! {
        p {
            @if let (Some(active), Some(draft)) = (&report.active.measured, &draft.measured) {
                "On the labelled wallets the draft's AUC is " b { (decimals(draft.report.auc)) } ", that of the model in use " b { (decimals(active.report.auc)) }
                "; average precision " b { (decimals(draft.report.average_precision)) } " and " b { (decimals(active.report.average_precision)) } ". "
                @if active.report.out_of_fold != draft.report.out_of_fold {
                    "The two were not measured alike: see the basis of each below. "
                }
            }
            @if let Some((moved, all)) = moved {
                "If the draft were activated, " b { (count(moved)) } " of " (count(all)) " wallets (" (percent(moved, all)) ") would change band."
            }
        }
    }
}

/// Returns the number of wallets that change band, and of all wallets.
fn moved(drift: &[BandChange]) -> (u64, u64) {
    let moved = drift.iter().filter(|step| step.from != step.to).map(|step| step.wallets).sum();
    (moved, drift.iter().map(|step| step.wallets).sum())
}

fn model_header(class: &str, model: &Model) -> Markup {
    let training = model.scorecard.training();
    let pairs = model.scorecard.factors().iter().filter(|factor| factor.features.len() == 2).count();
    html! {
        div class={ "model " (class) } {
            h3 { (model.scorecard.version()) }
            p { (model.scorecard.description()) }
            dl {
                dt { "State" } dd { (model.state) }
                @if let Some(stored) = &model.stored { dt { "Stored" } dd { (stored) } }
                @if let Some(Training { rows, illicit, folds, .. }) = training {
                    dt { "Fitted on" } dd { (count(*rows)) " wallets, " (count(*illicit)) " of them illicit (" (percent(*illicit, *rows)) ")" }
                    dt { "Folds" } dd { (folds) }
                } @else {
                    dt { "Fitted on" } dd { "not stated in its document" }
                }
                dt { "Factors" } dd { (model.scorecard.factors().len() - pairs) " of one feature, " (pairs) " of two" }
                @for (name, value) in training.iter().flat_map(|training| &training.notes) {
                    dt { (name.replace('_', " ")) } dd { (value) }
                }
            }
        }
    }
}

fn scores(report: &Report) -> Markup {
    let has_histogram = report.models().any(|(_, model)| model.histogram.is_some());
    html! {
        p { "All wallets with transactions to or from others, by the scorecard alone: a label on the wallet itself, or a decision, is ignored here." }
        @if has_histogram {
            div class="charts" {
                figure { figcaption { b { "Scores" } ": how wallets spread over the scale" } (histogram(report)) }
                div class="tables" { (band_table(report)) }
            }
        }
        @if let Some(drift) = &report.drift { (drift_table(report, drift)) }
        @if !has_histogram && report.drift.is_none() {
            p class="faint" { "Not counted: wallets were not scored for this page." }
        }
    }
}

fn histogram(report: &Report) -> Markup {
    let models: Vec<_> =
        report.models().filter_map(|(class, model)| Some((class, model, model.histogram.as_ref()?))).collect();
    let share = |wallets: u64, all: u64| if all == 0 { 0.0 } else { 100.0 * chartable(wallets) / chartable(all) };
    let highest = models
        .iter()
        .flat_map(|(_, _, histogram)| histogram.bars.iter().map(|bar| share(*bar, histogram.wallets())))
        .fold(0.0, f64::max);
    // Names of bands stand above the bars.
    let top = (highest * 1.1 / 10.0).ceil().max(1.0) * 10.0;
    let chart = Chart {
        title: "scores of all wallets",
        x: Axis {
            title: "Score",
            range: (0.0, 100.0),
            ticks: (0..=5).map(|fifth| f64::from(fifth) * 20.0).map(|value| (value, value.to_string())).collect(),
        },
        y: Axis {
            title: "Share of wallets, %",
            range: (0.0, top),
            ticks: (0..=5).map(|fifth| f64::from(fifth) * top / 5.0).map(|value| (value, value.to_string())).collect(),
        },
    };
    let wide = 100.0 / chartable(BARS as u64);
    let part = wide / chartable(models.len() as u64 + 1).max(1.0);
    let mut bars = Vec::new();
    for ((class, model, histogram), index) in models.iter().zip(0_u32..) {
        for (wallets, bar) in histogram.bars.iter().zip(0_u32..) {
            let from = f64::from(bar) * wide + part * (f64::from(index) + 0.5);
            let tooltip = format!(
                "{}: {} wallets from {} to {}",
                model.scorecard.version(),
                count(*wallets),
                f64::from(bar) * wide,
                f64::from(bar + 1) * wide
            );
            bars.push(Bar { class, x: (from, from + part), y: share(*wallets, histogram.wallets()), tooltip });
        }
    }
    let names: Vec<_> = models.iter().map(|(class, model, _)| (*class, model.scorecard.version().to_owned())).collect();
    let bands = report.active.scorecard.bands();
    let guides: Vec<_> = bands.iter().map(|band| (f64::from(band.from.tenths()) / 10.0, band.band.clone())).collect();
    chart.bars(&names, &bars, &guides)
}

fn band_table(report: &Report) -> Markup {
    html! {
        @for (_, model) in report.models() {
            @if let Some(histogram) = &model.histogram {
                table {
                    caption { "Bands of " (model.scorecard.version()) }
                    thead { tr { th { "band" } th class="n" { "from score" } th class="n" { "wallets" } th class="n" { "share" } } }
                    tbody {
                        @for (band, wallets) in model.scorecard.bands().iter().zip(&histogram.bands) {
                            tr {
                                td { (band.band) } td class="n" { (band.from) }
                                td class="n" { (count(*wallets)) } td class="n" { (percent(*wallets, histogram.wallets())) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn drift_table(report: &Report, drift: &[BandChange]) -> Markup {
    let Some(draft) = &report.draft else { return html! {} };
    let wallets_between = |from: Option<&str>, to: Option<&str>| -> u64 {
        let fits = |band: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| wanted == band);
        drift.iter().filter(|step| fits(&step.from, from) && fits(&step.to, to)).map(|step| step.wallets).sum()
    };
    let (moved, all) = moved(drift);
    let (before, after) = (report.active.scorecard.bands(), draft.scorecard.bands());
    html! {
        h3 { "What the draft changes" }
        p { (count(moved)) " of " (count(all)) " wallets (" (percent(moved, all)) ") change band." }
        div class="scroll" {
            table {
                caption { "Wallets by band: rows with " (report.active.scorecard.version()) ", columns with " (draft.scorecard.version()) }
                thead { tr { th { "" } @for band in after { th class="n" { (band.band) } } th class="n" { "all" } } }
                tbody {
                    @for from in before {
                        tr {
                            th { (from.band) }
                            @for to in after {
                                @let wallets = wallets_between(Some(&from.band), Some(&to.band));
                                @let class = if from.band == to.band { "n same" } else if wallets > 0 { "n moved" } else { "n faint" };
                                td class=(class) { (count(wallets)) }
                            }
                            td class="n" { (count(wallets_between(Some(&from.band), None))) }
                        }
                    }
                    tr {
                        th { "all" }
                        @for to in after { td class="n" { (count(wallets_between(None, Some(&to.band)))) } }
                        td class="n" { (count(all)) }
                    }
                }
            }
        }
    }
}

fn mistakes(report: &Report) -> Markup {
    html! {
        p {
            "Illicit wallets with the lowest scores, then the others with the highest. A mistake may be the model's, or the label's: a wallet labelled licit that scores high should be checked."
        }
        @for (_, model) in report.models() {
            @if let Some(measured) = &model.measured {
                div class="scroll" {
                    table {
                        caption { (model.scorecard.version()) }
                        thead { tr { th { "address" } th { "labelled" } th class="n" { "score" } th { "factors that weigh most" } } }
                        tbody {
                            @for mistake in &measured.report.mistakes {
                                tr {
                                    td { code { (mistake.address) } }
                                    td {
                                        (if mistake.illicit { "illicit" } else { "not illicit" })
                                        @if let Some(label) = report.labels.get(&mistake.address) { br; span class="faint" { (label) } }
                                    }
                                    td class="n" { (mistake.score) }
                                    td {
                                        @for factor in &mistake.factors { div { (format!("{:+}", factor.points)) " " (factor.factor) } }
                                    }
                                }
                            }
                        }
                    }
                }
                @if measured.report.out_of_fold {
                    p class="faint" { "The score of " (model.scorecard.version()) " is the one out of fold; the points are those of the scorecard itself, so they need not add up to it." }
                }
            } @else {
                p class="faint" { (model.scorecard.version()) " was not measured, so its mistakes are not known." }
            }
        }
    }
}

fn reading() -> Markup {
    html! {
        dl {
            dt { "AUC" } dd { "How often an illicit wallet scores higher than another one, ties counting half." }
            dt { "Average precision" } dd { "The share of illicit wallets among those above a threshold, averaged over the thresholds at which illicit wallets are found." }
            dt { "Log loss" } dd { "How surprised the probabilities are by what is true; a confident mistake costs most." }
            dt { "Brier score" } dd { "Mean squared difference of the probability and the truth." }
            dt { "Out of fold" } dd { "The labelled wallets are dealt out to folds; each fold is scored by a scorecard fitted on the others." }
            dt { "Labels chosen" } dd { "Labelled wallets are not drawn by lot, and the share of illicit ones among them is not that of the network: probabilities hold for wallets like those labelled." }
        }
    }
}
