//! `patterns.*` and `clusters.*`: shapes of the graph, against networkx and against SQL.

pub mod amlsim;
pub mod components;
pub mod cycles;
pub mod python;

use anyhow::Result;

use crate::graph::Runs;
use crate::report::{self, Results};
use crate::sets::Sets;

/// Measures the wanted cases. Those for which there is no data are left out.
pub async fn measure(sets: &mut Sets<'_>, runs: Runs, wanted: &dyn Fn(&str) -> bool, results: &mut Results) {
    macro_rules! case {
        ($name:expr, $measured:expr) => {
            if wanted($name) {
                eprintln!("{}", $name);
                let measured: Result<_> = async { $measured }.await;
                results.add($name, measured);
            }
        };
    }
    if sets.source.amlsim().is_some() {
        case!(cycles::CASE, cycles::vs_networkx(sets.amlsim().await?, runs).await);
        case!(cycles::F1, cycles::f1(sets.amlsim().await?).await);
    } else {
        report::leave_out(
            [cycles::CASE, cycles::F1].into_iter().filter(|case| wanted(case)),
            "the data set has no AMLSim files",
        );
    }
    case!(components::VS_NETWORKX, components::vs_networkx(sets.real().await?, runs).await);
    case!(components::VS_SQL, components::vs_sql(sets.real().await?, runs).await);
}
