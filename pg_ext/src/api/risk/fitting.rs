//! Fitting of scorecards to the user's labels, and evaluation of any scorecard on them.

use arx_core::address::Network;
use arx_core::graph::{MemoryBudget, WalletId};
use arx_core::label::LabelKind;
use arx_core::risk::features::NAMES;
use arx_core::risk::fit::{BandChange, changed_bands, drift};
use arx_core::risk::scorecard::{Score, Scorecard};
use arx_core::risk::study::{DraftRequest, ModelDraft, ModelReport, evaluate, fit_draft, out_of_fold_rows};
use arx_core::risk::training::{Cases, Split};
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::json;

use super::scorer::{Scorer, scorecard_or_active};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{TextArray, registered_network, required};
use crate::error::SqlError;
use crate::graph_store::Interrupts;
use crate::guc;
use crate::spi::{label_cases, require_categories, scorecard_document, store_risk_model};

/// Wallets of each class that a fit requires: a fold with fewer than ten has no statistical
/// meaning.
const MIN_WALLETS: usize = 50;

/// Categories of a class.
const MAX_CATEGORIES: usize = 1_000;

/// Labelled wallets as training data.
struct TrainingSet {
    scorer: Scorer,
    cases: Cases,
    /// Labelled wallets without a transaction.
    unknown: usize,
    /// Wallets labelled both illicit and licit.
    conflicting: usize,
    folds: u32,
    seed: u64,
}

/// Arguments that select training data, as given.
struct TrainingArguments<'a> {
    illicit: Option<TextArray<'a>>,
    licit: Option<TextArray<'a>>,
    folds: Option<i32>,
    seed: Option<i64>,
    as_of: Option<TimestampWithTimeZone>,
}

fn categories(name: &str, given: TextArray<'_>) -> Result<Vec<String>, SqlError> {
    let given: Option<Vec<String>> = given.elements(name)?.into_iter().map(|name| name.map(str::to_owned)).collect();
    let given = required(&format!("an element of {name}"), given)?;
    if given.len() > MAX_CATEGORIES {
        return Err(SqlError::limit(format!(
            "{name} must name at most {MAX_CATEGORIES} categories, not {}",
            given.len()
        )));
    }
    if given.is_empty() {
        return Err(
            SqlError::argument(format!("{name} must name at least one category")).hint("See arx.label_categories.")
        );
    }
    require_categories(&given)?;
    Ok(given)
}

impl TrainingSet {
    fn new(network: Network, arguments: TrainingArguments<'_>) -> Result<Self, SqlError> {
        let folds = required("folds", arguments.folds)?;
        if !(2..=20).contains(&folds) {
            return Err(SqlError::argument(format!("folds must be between 2 and 20, not {folds}")));
        }
        let seed = required("seed", arguments.seed)?.cast_unsigned();
        let illicit = arguments.illicit.map(|given| categories("illicit", given)).transpose()?;
        let licit = categories("licit", required("licit", arguments.licit)?)?;
        let both = licit.iter().find(|category| illicit.iter().flatten().any(|other| other == *category));
        if let Some(category) = both {
            return Err(SqlError::argument(format!("category \"{category}\" is both illicit and licit")));
        }
        let scorer = Scorer::new(network, arguments.as_of)?;
        let (mut wallets, mut unknown, mut conflicting): (Vec<(WalletId, bool)>, _, _) = (Vec::new(), 0, 0);
        let mut labelled = [0_usize; 2];
        {
            let graph = scorer.handle.graph();
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
        let graph = scorer.handle.graph();
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
        let count = |illicit: bool| cases.list().iter().filter(|case| case.illicit == illicit).count();
        let classes = [("licit", count(false), labelled[0]), ("illicit", count(true), labelled[1])];
        for (class, usable, labelled) in classes {
            if labelled == 0 {
                return Err(SqlError::argument(format!(
                    "network {} has no wallet that is labelled {class}",
                    scorer.network.name()
                ))
                .detail("A scorecard is fitted to wallets of both classes.")
                .hint("The arguments illicit and licit name the categories of each class."));
            }
            if usable < MIN_WALLETS {
                return Err(SqlError::argument(format!(
                    "a fit requires at least {MIN_WALLETS} {class} wallets with transactions, not {usable}"
                ))
                .detail(format!("{} of {labelled} wallets labelled {class} have no transaction.", labelled - usable))
                .hint("Label more wallets, or import their transactions."));
            }
        }
        Ok(Self { cases, scorer, unknown, conflicting, folds, seed })
    }

    fn memory() -> MemoryBudget {
        MemoryBudget::new(guc::graph_work_mem())
    }

    fn report(&self, draft: Option<&ModelReport>, current: &ModelReport, moves: &[BandChange]) -> serde_json::Value {
        let move_json = |band: &BandChange| json!({"from": band.from, "to": band.to, "wallets": band.wallets});
        let moves: Vec<_> = moves.iter().map(move_json).collect();
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

    /// Scores all wallets of the network by two scorecards.
    fn scores(&mut self, old: &Scorecard, new: &Scorecard) -> Result<(Vec<Score>, Vec<Score>), SqlError> {
        let (old, new) = (old.bind(&NAMES)?, new.bind(&NAMES)?);
        let of_threads = self.scorer.fold_all(|scores: &mut Vec<(Score, Score)>, _, seen| {
            scores.extend(seen.map(|(row, _)| (old.score(row).score, new.score(row).score)));
        })?;
        Ok(of_threads.into_iter().flatten().unzip())
    }
}

/// Returns all illicit and service labels, to which cases may be exposed.
fn others(scorer: &Scorer) -> Vec<(WalletId, LabelKind)> {
    let labelled = scorer.labels.labelled();
    let graph = scorer.handle.graph();
    graph
        .wallet_ids()
        .flat_map(|wallet| {
            let illicit = labelled.is_illicit(wallet).then_some((wallet, LabelKind::Illicit));
            illicit.into_iter().chain(labelled.is_service(wallet).then_some((wallet, LabelKind::Service)))
        })
        .collect()
}

sql_row! {
    struct FitRow {
        version: String,
        wallets: i64,
        illicit_wallets: i64,
        unknown_wallets: i64,
        factors: i64,
        auc: f64,
        average_precision: f64,
        log_loss: f64,
        brier: f64,
        current_version: String,
        current_auc: f64,
        current_average_precision: f64,
        wallets_scored: i64,
        change_band: i64,
    }
}

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn fit_risk_model(
    version: Option<&str>,
    network: default!(Option<&str>, "'ethereum'"),
    description: default!(Option<&str>, "''"),
    illicit: default!(Option<TextArray<'_>>, "NULL"),
    licit: default!(Option<TextArray<'_>>, "'{licit}'"),
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
    call(|| {
        let version = required("version", version)?;
        let description = required("description", description)?;
        let network = registered_network(network)?;
        let arguments = TrainingArguments { illicit, licit, folds, seed, as_of };
        Ok(TableIterator::once(fit(version, description, network, arguments)?.into_row()))
    })
}

fn fit(
    version: &str,
    description: &str,
    network: Network,
    arguments: TrainingArguments<'_>,
) -> Result<FitRow, SqlError> {
    let in_use = scorecard_or_active(None, &network)?;
    let current = in_use.scorecard();
    // Reject an invalid or duplicate version before the fit, which takes a minute.
    Scorecard::check_version(version)?;
    if scorecard_document(version)?.is_some() {
        return Err(SqlError::duplicate(format!("risk model \"{version}\" already exists"))
            .hint("Choose another version, or remove a draft with arx.discard_risk_model(version)."));
    }
    let mut set = TrainingSet::new(network, arguments)?;
    let (draft, comparison) = {
        let graph = set.scorer.handle.graph();
        let request = DraftRequest { version, description, subset: None };
        let draft = fit_draft(&graph, &set.cases, &request, TrainingSet::memory(), &mut Interrupts)?;
        let comparison = draft.compare(current, &graph, &set.cases, TrainingSet::memory(), &mut Interrupts)?;
        (draft, comparison)
    };
    let ModelDraft { scorecard, measures, .. } = draft;
    let (old, new) = set.scores(current, &scorecard)?;
    let moves = drift((current, &old), (&scorecard, &new))?;
    let report = set.report(Some(&comparison.draft), &comparison.current, &moves);
    store_risk_model(version, &scorecard.to_json()?, set.scorer.network.name(), &report.to_string())?;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(FitRow {
        version: version.to_owned(),
        wallets: count(measures.rows),
        illicit_wallets: count(measures.illicit),
        unknown_wallets: count(set.unknown as u64),
        factors: count(scorecard.factors().len() as u64),
        auc: measures.auc,
        average_precision: measures.average_precision,
        log_loss: measures.log_loss,
        brier: measures.brier,
        current_version: current.version().to_owned(),
        current_auc: comparison.current.auc,
        current_average_precision: comparison.current.average_precision,
        wallets_scored: count(old.len() as u64),
        change_band: count(changed_bands(&moves)),
    })
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::too_many_arguments)]
fn evaluate_risk_model(
    version: default!(Option<&str>, "NULL"),
    network: default!(Option<&str>, "'ethereum'"),
    illicit: default!(Option<TextArray<'_>>, "NULL"),
    licit: default!(Option<TextArray<'_>>, "'{licit}'"),
    folds: default!(Option<i32>, 5),
    seed: default!(Option<i64>, 1),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<JsonB, ErrorReport> {
    call(|| {
        let network = registered_network(network)?;
        let arguments = TrainingArguments { illicit, licit, folds, seed, as_of };
        Ok(JsonB(evaluation(version, network, arguments)?))
    })
}

fn evaluation(
    version: Option<&str>,
    network: Network,
    arguments: TrainingArguments<'_>,
) -> Result<serde_json::Value, SqlError> {
    let scorecard = scorecard_or_active(version, &network)?;
    let set = TrainingSet::new(network, arguments)?;
    let graph = set.scorer.handle.graph();
    let rows = out_of_fold_rows(&graph, &set.cases, TrainingSet::memory(), &mut Interrupts)?;
    let report = evaluate(&graph, &set.cases, &rows, scorecard.scorecard())?;
    Ok(set.report(None, &report, &[]))
}
