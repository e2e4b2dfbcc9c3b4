//! `trace.*` and `exposure.*`: following money, compared with the best SQL found for the same
//! answers.

pub mod exposure;
pub mod trace;

use anyhow::Result;

use crate::graph::Runs;
use crate::report::{self, Results};
use crate::sets::Sets;

/// Measures the wanted cases.
pub async fn measure(sets: &mut Sets<'_>, runs: Runs, wanted: &dyn Fn(&str) -> bool, results: &mut Results) {
    if wanted(trace::CASE) {
        eprintln!("{}", trace::CASE);
        let measured: Result<_> = async { trace::measure(sets.real().await?, runs).await }.await;
        results.add(trace::CASE, measured);
    }
    if wanted(exposure::CASE) && sets.source.labels().is_none() {
        report::leave_out(std::iter::once(exposure::CASE), "the data set has no labels");
    } else if wanted(exposure::CASE) {
        eprintln!("{}", exposure::CASE);
        let measured: Result<_> = async { exposure::measure(sets.labelled().await?, runs).await }.await;
        results.add(exposure::CASE, measured);
    }
}
