//! Scorecards fitted on the user's own labels, and how good any scorecard is on them.

use arx_core::address::Network;
use arx_core::graph::{MemoryBudget, WalletId};
use arx_core::label::LabelKind;
use arx_core::risk::features::NAMES;
use arx_core::risk::fit::{Move, changed_bands, drift};
use arx_core::risk::scorecard::{Score, Scorecard};
use arx_core::risk::study::{Draft, DraftRequest, ModelReport, evaluate, fit_draft, out_of_fold_rows};
use arx_core::risk::training::{Cases, Split};
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::json;

use super::scorer::{Scorer, scorecard_in_use, scorecard_of};
use crate::error::SqlError;
use crate::graph_store::Interrupts;
use crate::guc;
use crate::spi::{label_cases, registered_network, require_categories, store_risk_model};

/// Wallets of each class that a fit needs: a fold of fewer than ten tells nothing.
const LEAST: usize = 50;

/// Labelled wallets, ready to be learned from.
struct Lesson {
    scorer: Scorer,
    cases: Cases,
    /// Labelled, without a transaction.
    unknown: usize,
    /// Labelled as both.
    conflicting: usize,
    folds: u32,
    seed: u64,
}

/// Which labels are learned from, as it comes.
struct LessonArguments {
    illicit: Option<Vec<Option<String>>>,
    licit: Option<Vec<Option<String>>>,
    folds: Option<i32>,
    seed: Option<i64>,
    as_of: Option<TimestampWithTimeZone>,
}

fn categories(name: &str, given: Vec<Option<String>>) -> Result<Vec<String>, SqlError> {
    let given: Option<Vec<String>> = given.into_iter().collect();
    let given = given.ok_or_else(|| SqlError::null_argument(&format!("an element of {name}")))?;
    if given.is_empty() {
        return Err(
            SqlError::argument(format!("{name} must name at least one category")).hint("See arx.label_categories.")
        );
    }
    require_categories(&given)?;
    Ok(given)
}

impl Lesson {
    fn new(network: Network, arguments: LessonArguments) -> Result<Self, SqlError> {
        let folds = arguments.folds.ok_or_else(|| SqlError::null_argument("folds"))?;
        if !(2..=20).contains(&folds) {
            return Err(SqlError::argument(format!("folds must be between 2 and 20, not {folds}")));
        }
        let seed = arguments.seed.ok_or_else(|| SqlError::null_argument("seed"))?.cast_unsigned();
        let illicit = arguments.illicit.map(|given| categories("illicit", given)).transpose()?;
        let licit = categories("licit", arguments.licit.ok_or_else(|| SqlError::null_argument("licit"))?)?;
        let both: Vec<&String> =
            licit.iter().filter(|one| illicit.iter().flatten().any(|other| other == *one)).collect();
        if let Some(one) = both.first() {
            return Err(SqlError::argument(format!("category \"{one}\" is named as illicit and as licit")));
        }
        let scorer = Scorer::new(network, arguments.as_of)?;
        let (mut wallets, mut unknown, mut conflicting): (Vec<(WalletId, bool)>, _, _) = (Vec::new(), 0, 0);
        let mut labelled = [0_usize; 2];
        {
            let graph = scorer.ready.graph();
            label_cases(&scorer.network, scorer.at, illicit.as_deref(), &licit, |address, is_illicit, is_licit| {
                if is_illicit && is_licit {
                    conflicting += 1;
                    return Ok(());
                }
                labelled[usize::from(is_illicit)] += 1;
                match graph.wallet(scorer.network.name(), address)? {
                    Some(wallet) => wallets.push((wallet, is_illicit)),
                    None => unknown += 1,
                }
                Ok(())
            })?;
        }
        let folds = folds.unsigned_abs();
        let graph = scorer.ready.graph();
        let others = others(&scorer);
        let until = scorer.until();
        let cases = Cases::new(
            &graph,
            scorer.network.name(),
            &wallets,
            &others,
            until,
            Split { folds, seed },
            &mut Interrupts,
        )?;
        unknown += wallets.len() - cases.list().len();
        let found = |illicit: bool| cases.list().iter().filter(|case| case.illicit == illicit).count();
        let classes = [("licit", found(false), labelled[0]), ("illicit", found(true), labelled[1])];
        for (class, found, labelled) in classes {
            if labelled == 0 {
                return Err(SqlError::argument(format!("no wallet of network {} is labelled {class}", scorer.network.name()))
                    .hint("A scorecard learns from both classes; which categories they are is said by the arguments illicit and licit."));
            }
            if found < LEAST {
                return Err(SqlError::argument(format!(
                    "a fit needs at least {LEAST} {class} wallets with transactions, not {found} ({} of {labelled} labelled {class} have none)",
                    labelled - found
                ))
                .hint("Label more wallets, or import their transactions."));
            }
        }
        Ok(Self { cases, scorer, unknown, conflicting, folds, seed })
    }

    fn memory() -> MemoryBudget {
        MemoryBudget::new(guc::graph_work_mem())
    }

    fn report(&self, draft: Option<&ModelReport>, current: &ModelReport, moves: &[Move]) -> serde_json::Value {
        let moves: Vec<_> =
            moves.iter().map(|one| json!({"from": one.from, "to": one.to, "wallets": one.wallets})).collect();
        json!({
            "network": self.scorer.network.name(),
            "cases": {
                "wallets": self.cases.list().len(),
                "illicit": self.cases.list().iter().filter(|case| case.illicit).count(),
                "unknown": self.unknown,
                "conflicting": self.conflicting,
                "folds": self.folds,
                "seed": self.seed,
            },
            "draft": draft,
            "current": current,
            "drift": moves,
        })
    }

    /// The scores of all wallets of the network by two scorecards.
    fn scores(&mut self, old: &Scorecard, new: &Scorecard) -> Result<(Vec<Score>, Vec<Score>), SqlError> {
        let (old, new) = (old.bind(&NAMES)?, new.bind(&NAMES)?);
        let found = self.scorer.look_at_all(|scores: &mut Vec<(Score, Score)>, _, seen| {
            scores.extend(seen.map(|(row, _)| (old.score(row).score, new.score(row).score)));
        })?;
        Ok(found.into_iter().flatten().unzip())
    }
}

/// Other labelled wallets, for exposure.
fn others(scorer: &Scorer) -> Vec<(WalletId, LabelKind)> {
    let labelled = scorer.book.labelled();
    let graph = scorer.ready.graph();
    graph
        .wallet_ids()
        .flat_map(|wallet| {
            let illicit = labelled.is_illicit(wallet).then_some((wallet, LabelKind::Illicit));
            illicit.into_iter().chain(labelled.is_service(wallet).then_some((wallet, LabelKind::Service)))
        })
        .collect()
}

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn fit_risk_model(
    version: Option<&str>,
    network: default!(Option<&str>, "'ethereum'"),
    description: default!(Option<&str>, "''"),
    illicit: default!(Option<Vec<Option<String>>>, "NULL"),
    licit: default!(Option<Vec<Option<String>>>, "'{licit}'"),
    folds: default!(Option<i32>, 5),
    seed: default!(Option<i64>, 1),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(version, String),
            name!(wallets, i64),
            name!(illicit_wallets, i64),
            name!(unknown_wallets, i64),
            name!(factors, i64),
            name!(auc, f64),
            name!(average_precision, f64),
            name!(log_loss, f64),
            name!(brier, f64),
            name!(current_version, String),
            name!(current_auc, f64),
            name!(current_average_precision, f64),
            name!(wallets_scored, i64),
            name!(change_band, i64),
        ),
    >,
    ErrorReport,
> {
    let version = version.ok_or_else(|| SqlError::null_argument("version"))?;
    let description = description.ok_or_else(|| SqlError::null_argument("description"))?;
    let network = registered_network(network.ok_or_else(|| SqlError::null_argument("network"))?)?;
    let in_use = scorecard_in_use()?;
    let current = in_use.scorecard();
    // a name that is none, or is taken, is told before a minute has passed
    Scorecard::check_version(version).map_err(SqlError::from)?;
    if crate::spi::scorecard_document(version)?.is_some() {
        return Err(SqlError::duplicate(format!("there is a risk model \"{version}\" already"))
            .hint("Give the new one another version, or SELECT arx.discard_risk_model(version) of a draft.")
            .into());
    }
    let mut lesson = Lesson::new(network, LessonArguments { illicit, licit, folds, seed, as_of })?;
    let (draft, comparison) = {
        let graph = lesson.scorer.ready.graph();
        let request = DraftRequest { version, description, subset: None };
        let draft = fit_draft(&graph, &lesson.cases, &request, Lesson::memory(), &mut Interrupts);
        let draft = draft.map_err(SqlError::from)?;
        let comparison = draft.compare(current, &graph, &lesson.cases, Lesson::memory(), &mut Interrupts);
        (draft, comparison.map_err(SqlError::from)?)
    };
    let Draft { scorecard, measures, .. } = draft;
    let (old, new) = lesson.scores(current, &scorecard)?;
    let moves = drift((current, &old), (&scorecard, &new)).map_err(SqlError::from)?;
    let report = lesson.report(Some(&comparison.draft), &comparison.current, &moves);
    let document = scorecard.to_json().map_err(SqlError::from)?;
    store_risk_model(version, &document, lesson.scorer.network.name(), &report.to_string())?;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(TableIterator::once((
        version.to_owned(),
        count(measures.rows),
        count(measures.illicit),
        count(lesson.unknown as u64),
        count(scorecard.factors().len() as u64),
        measures.auc,
        measures.average_precision,
        measures.log_loss,
        measures.brier,
        current.version().to_owned(),
        comparison.current.auc,
        comparison.current.average_precision,
        count(old.len() as u64),
        count(changed_bands(&moves)),
    )))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::too_many_arguments)]
fn evaluate_risk_model(
    version: default!(Option<&str>, "NULL"),
    network: default!(Option<&str>, "'ethereum'"),
    illicit: default!(Option<Vec<Option<String>>>, "NULL"),
    licit: default!(Option<Vec<Option<String>>>, "'{licit}'"),
    folds: default!(Option<i32>, 5),
    seed: default!(Option<i64>, 1),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<JsonB, ErrorReport> {
    let network = registered_network(network.ok_or_else(|| SqlError::null_argument("network"))?)?;
    let scorecard = match version {
        Some(version) => std::rc::Rc::new(scorecard_of(version)?),
        None => scorecard_in_use()?,
    };
    let lesson = Lesson::new(network, LessonArguments { illicit, licit, folds, seed, as_of })?;
    let graph = lesson.scorer.ready.graph();
    let rows = out_of_fold_rows(&graph, &lesson.cases, Lesson::memory(), &mut Interrupts).map_err(SqlError::from)?;
    let report = evaluate(&graph, &lesson.cases, &rows, scorecard.scorecard()).map_err(SqlError::from)?;
    Ok(JsonB(lesson.report(None, &report, &[])))
}
