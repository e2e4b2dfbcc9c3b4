//! `risk.*`: quality and speed of scores, compared with gradient boosting, SQL and Python.

pub mod coverage;
pub mod quality;
pub mod scores;
pub mod udf;

use anyhow::Result;

use crate::graph::Runs;
use crate::report::{self, Measurement, Results};
use crate::sets::Sets;

/// Measures the wanted cases.
pub async fn measure(sets: &mut Sets<'_>, runs: Runs, wanted: &dyn Fn(&str) -> bool, results: &mut Results) {
    let quality = [quality::AP, quality::AUC];
    if quality.into_iter().any(wanted) {
        if sets.source.cases().is_none() {
            report::leave_out(quality.into_iter(), "the data set has no labelled wallets");
        } else {
            eprintln!("risk.quality");
            match quality::measure(sets.source, &sets.stack.folder().join("risk")) {
                Ok(measured) => measured.into_iter().for_each(|result| results.add(&result.case.clone(), Ok(result))),
                Err(error) => quality.into_iter().for_each(|case| results.failed(case, &error)),
            }
        }
    }
    let by_coverage = [coverage::AP, coverage::AUC];
    if by_coverage.into_iter().any(wanted) {
        if sets.source.cases().is_none() {
            report::leave_out(by_coverage.into_iter(), "the data set has no labelled wallets");
        } else {
            eprintln!("risk.quality by coverage");
            match coverage::measure(sets.source, &sets.stack.folder().join("coverage")) {
                Ok(measured) => measured.into_iter().for_each(|result| results.add(&result.case.clone(), Ok(result))),
                Err(error) => by_coverage.into_iter().for_each(|case| results.failed(case, &error)),
            }
        }
    }
    let udf: Vec<&str> = [udf::CASE, udf::AMONG_FUNCTIONS].into_iter().filter(|case| wanted(case)).collect();
    if !udf.is_empty() {
        eprintln!("{}", udf::CASE);
        let is_labelled = sets.source.labels().is_some();
        let measured: Result<_> = async {
            let real = if is_labelled { sets.labelled().await? } else { sets.real().await? };
            udf::measure(real, runs).await
        }
        .await;
        // Measured once, and reported under each wanted name.
        for case in udf {
            match &measured {
                Ok(result) => results.add(case, Ok(Measurement { case: case.to_owned(), ..result.clone() })),
                Err(error) => results.failed(case, error),
            }
        }
    }
    if sets.source.labels().is_none() {
        let cases = [scores::ALL, scores::ONE];
        report::leave_out(cases.into_iter().filter(|case| wanted(case)), "the data set has no labels");
        return;
    }
    if wanted(scores::ALL) {
        eprintln!("{}", scores::ALL);
        let measured: Result<_> = async { scores::all(sets.labelled().await?, runs).await }.await;
        results.add(scores::ALL, measured);
    }
    if wanted(scores::ONE) {
        eprintln!("{}", scores::ONE);
        let measured: Result<_> = async { scores::one(sets.labelled().await?).await }.await;
        results.add(scores::ONE, measured);
    }
}
