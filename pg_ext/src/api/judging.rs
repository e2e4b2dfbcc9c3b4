//! Sides of transfers that rules of wallet alerts may fire on.

use arx_core::alert::condition::Condition;
use arx_core::alert::filter::{ConditionFilter, Texts};
use arx_core::alert::transfers::{
    Candidate, CandidateView, Gathered, RuleFilter, TransferSet, USD_DECIMALS, Unfit, Windows,
};
use arx_core::graph::U256;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::Value;

use super::call::call;
use super::row::sql_row;
use crate::arguments::{JsonArgument, SnapshotArgument, TimesArgument, required};
use crate::error::{SqlError, or_report};
use crate::graph_store::Interrupts;
use crate::guc;
use crate::numeric::{SqlNumeric, sum};
use crate::spi::{JudgedRows, read_labels, read_scores, read_watched};
use crate::time::from_micros;

/// Returns the sides of transfers that rules may fire on, with the facts that were gathered on the
/// way. The first row has the number of judged sides alone: NULL if they do not fit into
/// `arx.graph_work_mem`, or a value is no amount; the transfers must then be judged by SQL.
///
/// `rules` is a list of objects with the keys `condition` and `side`. Each transfer is read once,
/// and each side passed over once, whatever the number of rules.
#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
pub(crate) fn alert_candidates(
    since: Option<SnapshotArgument<'_>>,
    native: Option<TimesArgument<'_>>,
    tokens: Option<TimesArgument<'_>>,
    rules: Option<JsonArgument<'_>>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(judged, Option<i64>),
            name!(relation, Option<String>),
            name!(tx_hash, Option<String>),
            name!(log_index, Option<i32>),
            name!(timestamp, Option<TimestampWithTimeZone>),
            name!(network, Option<String>),
            name!(address, Option<String>),
            name!(counterparty, Option<String>),
            name!(asset, Option<String>),
            name!(direction, Option<String>),
            name!(amount, Option<SqlNumeric>),
            name!(amount_usd, Option<SqlNumeric>),
            name!(wallet_category, Option<String>),
            name!(wallet_kind, Option<String>),
            name!(counterparty_category, Option<String>),
            name!(counterparty_kind, Option<String>),
            name!(wallet_watched, Option<bool>),
            name!(counterparty_watched, Option<bool>),
            name!(count_1h, Option<i64>),
            name!(count_24h, Option<i64>),
            name!(count_7d, Option<i64>),
            name!(sum_24h, Option<AnyNumeric>),
            name!(sum_usd_1h, Option<SqlNumeric>),
            name!(sum_usd_24h, Option<SqlNumeric>),
            name!(sum_usd_7d, Option<SqlNumeric>),
            name!(below_10000_usd_24h, Option<i64>),
            name!(previous_at, Option<TimestampWithTimeZone>),
            name!(is_previous_certain, Option<bool>),
            name!(pair_first_at, Option<TimestampWithTimeZone>),
            name!(is_less_active, Option<bool>),
            name!(rules, Option<Vec<i32>>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = JudgedRows {
            since: since.map_or(SnapshotArgument::null(), SnapshotArgument::value),
            native: required("native", native)?.value(),
            tokens: required("tokens", tokens)?.value(),
        };
        let mut texts = Texts::default();
        let (rules, gathered) = parse_rules(&required("rules", rules)?.parse("rules")?, &mut texts)?;
        let mut set = TransferSet::new(gathered, since.is_none(), texts, guc::graph_work_mem());
        let answer = candidates(&rows, gathered, &rules, &mut set)?;
        let judged = match answer {
            Ok(_) => i64::try_from(set.new_sides()).ok(),
            Err(unfit) => {
                ereport!(
                    PgLogLevel::DEBUG1,
                    PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                    format!("transfers are judged by SQL: {unfit}")
                );
                None
            }
        };
        let found = answer.unwrap_or_default();
        let first = CandidateRow { judged, ..CandidateRow::default() };
        let others = found.into_iter().map(move |candidate| {
            let view = set.view(&candidate).ok_or_else(|| SqlError::corrupt("a candidate has no transfer"));
            or_report(view.and_then(|view| CandidateRow::new(&candidate, &view, gathered)))
        });
        Ok(TableIterator::new(std::iter::once(first).chain(others).map(CandidateRow::into_row)))
    })
}

/// Reads what the rules need, and judges it. The inner error says that it does not fit.
fn candidates(
    rows: &JudgedRows,
    gathered: Gathered,
    rules: &[RuleFilter],
    set: &mut TransferSet,
) -> Result<Result<Vec<Candidate>, Unfit>, SqlError> {
    if let Err(unfit) = rows.read(set)? {
        return Ok(Err(unfit));
    }
    if gathered.labels()
        && let Err(unfit) = read_labels(set)?
    {
        return Ok(Err(unfit));
    }
    if gathered.watchlists() {
        read_watched(set)?;
    }
    if gathered.scores() {
        read_scores(set)?;
    }
    Ok(set.candidates(rules, &mut Interrupts))
}

fn parse_rules(document: &Value, texts: &mut Texts) -> Result<(Vec<RuleFilter>, Gathered), SqlError> {
    let list = document.as_array().ok_or_else(|| SqlError::argument("rules must be a list"))?;
    let mut gathered = Gathered::default();
    let mut rules = Vec::new();
    for rule in list {
        let condition = Condition::parse(&rule["condition"], "condition")?;
        condition.groups().into_iter().for_each(|group| gathered.add(group));
        let side = rule["side"].as_str().unwrap_or_default();
        if !["sender", "receiver", "any"].contains(&side) {
            return Err(SqlError::argument(format!("side must be sender, receiver or any, not \"{side}\"")));
        }
        rules.push(RuleFilter {
            senders: side != "receiver",
            receivers: side != "sender",
            condition: ConditionFilter::new(&condition, texts),
        });
    }
    Ok((rules, gathered))
}

sql_row! {
    #[derive(Default)]
    struct CandidateRow {
        judged: Option<i64>,
        relation: Option<String>,
        tx_hash: Option<String>,
        log_index: Option<i32>,
        timestamp: Option<TimestampWithTimeZone>,
        network: Option<String>,
        address: Option<String>,
        counterparty: Option<String>,
        asset: Option<String>,
        direction: Option<String>,
        amount: Option<SqlNumeric>,
        amount_usd: Option<SqlNumeric>,
        wallet_category: Option<String>,
        wallet_kind: Option<String>,
        counterparty_category: Option<String>,
        counterparty_kind: Option<String>,
        wallet_watched: Option<bool>,
        counterparty_watched: Option<bool>,
        count_1h: Option<i64>,
        count_24h: Option<i64>,
        count_7d: Option<i64>,
        sum_24h: Option<AnyNumeric>,
        sum_usd_1h: Option<SqlNumeric>,
        sum_usd_24h: Option<SqlNumeric>,
        sum_usd_7d: Option<SqlNumeric>,
        below_10000_usd_24h: Option<i64>,
        previous_at: Option<TimestampWithTimeZone>,
        is_previous_certain: Option<bool>,
        pair_first_at: Option<TimestampWithTimeZone>,
        is_less_active: Option<bool>,
        rules: Option<Vec<i32>>,
    }
}

impl CandidateRow {
    /// Facts of groups that no rule uses are NULL.
    fn new(candidate: &Candidate, view: &CandidateView<'_>, gathered: Gathered) -> Result<Self, SqlError> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let usd = |cents: Option<u128>| cents.map(|cents| SqlNumeric { value: U256::from(cents), scale: USD_DECIMALS });
        let amount = |value: U256| SqlNumeric { value, scale: view.relation.decimals() };
        let time = |time: Option<i64>| time.map(from_micros).transpose();
        let windows = gathered.windows().then_some(candidate.windows);
        let count = |count: fn(&Windows) -> u64| windows.as_ref().and_then(|found| i64::try_from(count(found)).ok());
        let labels = |text: Option<&str>| if gathered.labels() { owned(text) } else { None };
        let other = view.counterparty;
        Ok(Self {
            judged: None,
            relation: Some(view.relation.as_str().to_owned()),
            tx_hash: Some(view.tx_hash.to_owned()),
            log_index: view.log_index,
            timestamp: Some(from_micros(view.time)?),
            network: Some(view.network.to_owned()),
            address: Some(view.wallet.address.to_owned()),
            counterparty: owned(other.map(|party| party.address)),
            asset: Some(view.asset.to_owned()),
            direction: Some(if view.is_in { "in" } else { "out" }.to_owned()),
            amount: Some(amount(view.amount)),
            amount_usd: usd(view.usd.map(u128::from)),
            wallet_category: labels(view.wallet.category),
            wallet_kind: labels(view.wallet.kind),
            counterparty_category: labels(other.and_then(|party| party.category)),
            counterparty_kind: labels(other.and_then(|party| party.kind)),
            wallet_watched: gathered.watchlists().then_some(view.wallet.is_watched),
            counterparty_watched: gathered.watchlists().then_some(other.is_some_and(|party| party.is_watched)),
            count_1h: count(|windows| windows.count_1h),
            count_24h: count(|windows| windows.count_24h),
            count_7d: count(|windows| windows.count_7d),
            sum_24h: windows.map(|windows| sum(windows.sum_24h, view.relation.decimals())),
            sum_usd_1h: usd(windows.and_then(|windows| windows.sum_usd_1h)),
            sum_usd_24h: usd(windows.and_then(|windows| windows.sum_usd_24h)),
            sum_usd_7d: usd(windows.and_then(|windows| windows.sum_usd_7d)),
            below_10000_usd_24h: count(|windows| windows.below_10000_usd_24h),
            previous_at: time(candidate.previous)?,
            is_previous_certain: Some(candidate.is_previous_certain),
            pair_first_at: time(candidate.pair_first)?,
            // The same for both sides of a pair.
            is_less_active: Some(
                other.is_none_or(|party| {
                    (view.wallet.transfers, view.wallet.address) <= (party.transfers, party.address)
                }),
            ),
            rules: Some(view.rules.iter().map(|rule| i32::from(*rule)).collect()),
        })
    }
}
