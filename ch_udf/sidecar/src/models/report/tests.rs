//! Tests of the page with synthetic reports.

use std::collections::BTreeMap;

use arx_core::risk::default_scorecard;
use arx_core::risk::fit::{BandChange, CalibrationBin, CurvePoint};
use arx_core::risk::scorecard::{Points, Score, Scorecard};
use arx_core::risk::study::{FactorWeight, Mistake, ModelReport};

use super::content::{Histogram, Measured, Model, Report, Sample};
use super::*;

const SCRIPT: &str = "<script>alert(1)</script>";

fn point(x: f64, y: f64) -> CurvePoint {
    CurvePoint { threshold: 50.0, x, y }
}

fn measured(version: &str, out_of_fold: bool) -> Measured {
    let report = ModelReport {
        version: version.to_owned(),
        out_of_fold,
        auc: 0.9876,
        average_precision: 0.8765,
        log_loss: 0.1234,
        brier: 0.0456,
        calibration: vec![
            CalibrationBin { predicted: 0.05, observed: 0.04, rows: 900 },
            CalibrationBin { predicted: 0.9, observed: 0.95, rows: 100 },
        ],
        roc: vec![point(0.0, 0.0), point(0.1, 0.9), point(1.0, 1.0)],
        precision_recall: vec![point(0.2, 1.0), point(1.0, 0.1)],
        mistakes: vec![Mistake {
            address: format!("0xabc{SCRIPT}"),
            illicit: true,
            score: Score::from_tenths(123).unwrap(),
            factors: vec![FactorWeight { factor: "a<b".to_owned(), points: Points::from_tenths(-42) }],
        }],
    };
    let sample = Sample { wallets: 1000, illicit: 130, unknown: 7, conflicting: 0, folds: 5 };
    Measured { report, sample, when: "labelled now".to_owned(), stratum: None }
}

fn model(scorecard: Scorecard, state: &str, out_of_fold: bool) -> Model {
    let scores: Vec<Score> = (0..=1000).filter_map(Score::from_tenths).collect();
    Model {
        measured: Some(measured(scorecard.version(), out_of_fold)),
        histogram: Some(Histogram::new(&scorecard, &scores)),
        scorecard,
        state: state.to_owned(),
        stored: Some("2026-01-02 03:04 UTC".to_owned()),
    }
}

/// Returns the compiled-in scorecard with another version and description.
fn renamed(version: &str, description: &str) -> Scorecard {
    let mut document: serde_json::Value =
        serde_json::from_str(&default_scorecard().unwrap().to_json().unwrap()).unwrap();
    document["version"] = version.into();
    document["description"] = description.into();
    document["training"]["notes"]["remark"] = SCRIPT.into();
    Scorecard::from_json(&document.to_string()).unwrap()
}

fn report() -> Report {
    let step = |from: &str, to: &str, wallets| BandChange { from: from.to_owned(), to: to.to_owned(), wallets };
    Report {
        created_at: "2026-01-02 03:04 UTC".to_owned(),
        source: format!("from {SCRIPT}"),
        network: "ethereum".to_owned(),
        active: model(default_scorecard().unwrap(), "active", false),
        draft: Some(model(renamed("house-2", SCRIPT), "draft", true)),
        drift: Some(vec![step("low", "low", 900), step("low", "severe", 12_345), step("severe", "low", 1)]),
        labels: BTreeMap::from([(format!("0xabc{SCRIPT}"), "phishing: \"><img src=x>".to_owned())]),
        notes: vec!["1 < 2 & 3".to_owned()],
    }
}

/// Returns the page as XML, with its void elements closed.
fn parsed(page: &str) -> String {
    let mut xml = String::new();
    for part in page.strip_prefix("<!DOCTYPE html>").unwrap().split_inclusive('>') {
        let unclosed =
            ["<meta ", "<br"].iter().any(|tag| part.rfind('<').is_some_and(|start| part[start..].starts_with(tag)));
        xml.push_str(part.strip_suffix('>').filter(|_| unclosed).unwrap_or(part));
        if unclosed {
            xml.push_str("/>");
        }
    }
    xml
}

#[test]
fn the_page_is_well_formed_and_loads_and_runs_nothing() {
    let page = page(&report());
    let xml = parsed(&page);
    let document = roxmltree::Document::parse(&xml).unwrap();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        assert!(
            !["script", "link", "img", "iframe", "object", "use", "image"].contains(&node.tag_name().name()),
            "{node:?}"
        );
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{attribute:?}");
            assert!(attribute.name() != "src" && (attribute.name() != "href" || attribute.value().starts_with('#')));
        }
    }
    let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
    for link in document.descendants().filter_map(|node| node.attribute("href")) {
        assert!(ids.contains(&&link[1..]), "{link} leads nowhere");
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
}

#[test]
fn user_text_is_escaped() {
    let page = page(&report());
    assert!(!page.contains("<script") && !page.contains("<img"));
    // These are the source, the description, a note of the document and an address.
    assert!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count() >= 4);
    assert!(page.contains("1 &lt; 2 &amp; 3") && page.contains("a&lt;b"));
}

#[test]
fn curves_go_from_corner_to_corner_once_for_each_model() {
    let page = page(&report());
    // Both models have the same points in the frame of a chart.
    assert_eq!(page.matches("d=\"M58.0 282.0 L94.8 51.6 L426.0 26.0\"").count(), 2);
    for class in ["line one", "line two"] {
        assert!(page.contains(&format!("class=\"{class}\"")), "{class}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "an invalid coordinate");
}

#[test]
fn every_factor_of_every_model_is_shown() {
    let report = report();
    let page = page(&report);
    let pairs = report.active.scorecard.factors().iter().filter(|factor| factor.features.len() == 2).count();
    for factor in report.active.scorecard.factors() {
        assert!(page.contains(&format!("<b>{}</b>", factor.features.join(" × "))), "{}", factor.name);
    }
    assert_eq!(page.matches("points by bin").count(), report.active.scorecard.factors().len() - pairs, "both in one");
    assert_eq!(page.matches(": points by ").count(), 2 * pairs, "a grid each");
}

#[test]
fn moves_between_bands_add_up() {
    let page = page(&report());
    assert!(page.contains("<b>12,346</b> of 13,246 wallets (93.2 %) would change band"), "{page}");
    assert!(page.contains("<td class=\"n moved\">12,345</td>") && page.contains("<td class=\"n same\">900</td>"));
}

#[test]
fn the_page_describes_the_sample_of_the_measures() {
    let page = page(&report());
    assert!(page.contains("1,000 labelled wallets, 130 of them illicit"));
    assert!(page.contains("out of fold") && page.contains("as it stands") && page.contains("were not measured alike"));
    assert!(page.contains("<td class=\"n\">0.9876</td><td class=\"n\">0.9876</td>"));
}

#[test]
fn a_single_unmeasured_model_is_reported_as_such() {
    let mut report = Report { draft: None, drift: None, ..report() };
    report.active.measured = None;
    report.active.histogram = None;
    let page = page(&report);
    roxmltree::Document::parse(&parsed(&page)).unwrap();
    for text in ["no draft to compare", "not measured", "There are no curves", "wallets were not scored"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn a_stored_report_round_trips() {
    let mut report = measured("house-2", true).report;
    report.roc[0].threshold = f64::INFINITY;
    let stored = serde_json::to_string(&report).unwrap();
    assert!(stored.contains("\"threshold\":null"), "JSON has no infinity");
    let read: ModelReport = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, report);
}
