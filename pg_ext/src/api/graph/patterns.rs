//! Laundering patterns, and what of them may be set.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use arx_core::graph::patterns::{Detected, Finding, Member, PATTERN_TYPES, Pattern, PatternScope, detect};
use arx_core::graph::{EdgeFilter, Graph, MemoryBudget, Side, WalletId};
use pgrx::datum::{Interval, JsonB, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::question::{Scope, ScopeArguments, at_least_one, or_report, sole_network, time};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{Sought, registered_network, transfer_hashes};

/// Wallets and transactions that a row names.
const NAMED: usize = 1_000;

/// Rows made at a time.
const ROWS: usize = 50;

/// Decimal places with which amounts among the options are read where it is not known of what they are.
const ANY_SCALE: u32 = 18;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn detect_patterns(
    pattern: Option<&str>,
    window: Option<Interval>,
    network: default!(Option<&str>, "NULL"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    options: default!(Option<JsonB>, "'{}'"),
    max_findings: default!(Option<i32>, 1000),
    max_time: default!(Option<Interval>, "NULL"),
    wallet: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(finding_id, String),
            name!(pattern, String),
            name!(strength, f64),
            name!(center, String),
            name!(wallets, Vec<String>),
            name!(tx_hashes, Vec<String>),
            name!(transfers, i32),
            name!(total_value, Option<SqlNumeric>),
            name!(first_seen, TimestampWithTimeZone),
            name!(last_seen, TimestampWithTimeZone),
            name!(details, JsonB),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let asset = asset.ok_or_else(|| SqlError::null_argument("asset"))?;
    let max_findings = max_findings.map(|most| at_least_one("max_findings", i64::from(most))).transpose()?;
    // what does not depend on the network is wrong without one, too
    let checked = parse(pattern, window, options.as_ref(), ANY_SCALE)?;
    let network = match network {
        Some(network) => Some(registered_network(network)?),
        None => sole_network(asset)?,
    };
    let Some(network) = network else { return Ok(TableIterator::new(Vec::new())) };
    let wallet =
        wallet.map(|wallet| Wallet::parse_argument("wallet", Some(wallet), Some(network.name()))).transpose()?;
    let scope = ScopeArguments { asset: Some(asset), since, until, min_value, include_failed: Some(false), max_time };
    let mut scope = Scope::parse(network, scope)?;
    let Some((asset, scale)) = scope.single_asset() else {
        return Err(SqlError::argument(format!("asset must be one asset, not \"{asset}\""))
            .hint("Amounts of several assets cannot be compared: name native or the address of a token.")
            .into());
    };
    let (asset, pattern) =
        (asset.to_owned(), if scale == ANY_SCALE { checked } else { parse(pattern, window, options.as_ref(), scale)? });
    let wallet = match wallet {
        Some(wallet) => match scope.known(&wallet)? {
            Some(known) => Some(known),
            None => return Ok(TableIterator::new(Vec::new())),
        },
        None => None,
    };
    let found = {
        let Scope { ready, network, filter, deadline, .. } = &mut scope;
        let within = PatternScope {
            network: network.name(),
            asset: &asset,
            filter: *filter,
            scale,
            wallet,
            max_findings: max_findings.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        detect(&ready.graph(), &pattern, &within, deadline).map_err(SqlError::from)?
    };
    let reason = found.reason();
    if let Some(reason) = reason.as_ref().filter(|_| found.findings.is_empty()) {
        notice!("the search is not complete: {reason}");
    }
    let (name, Detected { findings, .. }) = (pattern.name(), found);
    let rows = (0..findings.len()).step_by(ROWS).flat_map(move |start| {
        let some = &findings[start..findings.len().min(start + ROWS)];
        let row = |(one, tx_hashes): (&Finding, Vec<String>)| -> Result<_, SqlError> {
            let graph = scope.ready.graph();
            let address = |wallet: &WalletId| Ok::<_, SqlError>(graph.address(*wallet)?.to_owned());
            let wallets = one.wallets.iter().take(NAMED).map(address).collect::<Result<Vec<_>, _>>()?;
            Ok((
                format!("{:032x}", one.id),
                name.to_owned(),
                one.strength,
                wallets.first().cloned().unwrap_or_default(),
                wallets,
                tx_hashes,
                i32::try_from(one.transfers.len()).unwrap_or(i32::MAX),
                one.total.and_then(|total| scope.value(total)),
                time(one.first)?,
                time(one.last)?,
                JsonB(Value::Object(details(one))),
                reason.is_none(),
                reason.clone(),
            ))
        };
        let rows =
            hashes(&scope, some).and_then(|hashes| some.iter().zip(hashes).map(row).collect::<Result<Vec<_>, _>>());
        or_report(rows)
    });
    Ok(TableIterator::new(rows))
}

fn parse(
    pattern: Option<&str>,
    window: Option<Interval>,
    options: Option<&JsonB>,
    scale: u32,
) -> Result<Pattern, SqlError> {
    let pattern = pattern.ok_or_else(|| SqlError::null_argument("pattern"))?;
    let window = window.ok_or_else(|| SqlError::null_argument("window"))?;
    let options = options.ok_or_else(|| SqlError::null_argument("options"))?;
    let window = i64::try_from(window.as_micros()).map_err(|_| SqlError::argument("window is out of range"))?;
    Ok(Pattern::parse(pattern, window, &options.0, scale)?)
}

/// What the pattern has to say, and how many wallets and transfers there are, of which a row does not name all.
fn details(finding: &Finding) -> Map<String, Value> {
    let mut details = finding.details.clone();
    details.insert("wallet_count".to_owned(), finding.wallets.len().into());
    details.insert("transfer_count".to_owned(), finding.transfers.len().into());
    details
}

/// Of each finding, the hashes of its first transactions by time, each once.
fn hashes(scope: &Scope, findings: &[Finding]) -> Result<Vec<Vec<String>>, SqlError> {
    let graph = scope.ready.graph();
    // a transfer that is part of several findings is asked about once: twice, it would be taken for two that look the same
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut sought = Vec::new();
    for one in findings.iter().flat_map(|one| one.transfers.iter().take(NAMED)) {
        check_for_interrupts!();
        if let Entry::Vacant(vacant) = places.entry(one.number) {
            vacant.insert(sought.len());
            sought.push(seek(&graph, scope, one)?);
        }
    }
    let found = transfer_hashes(&scope.network, &sought)?;
    let hash = |one: &Member| places.get(&one.number).and_then(|place| found.get(*place)?.clone());
    let of_one = |one: &Finding| {
        let mut seen = HashSet::new();
        let hashes = one.transfers.iter().take(NAMED).filter_map(hash);
        hashes.filter(|hash| seen.insert(hash.clone())).collect()
    };
    Ok(findings.iter().map(of_one).collect())
}

/// A transfer as the tables have it.
fn seek(graph: &Graph<'_>, scope: &Scope, member: &Member) -> Result<Sought, SqlError> {
    let at_once = EdgeFilter { since: Some(member.time), until: member.time.checked_add(1), ..scope.filter };
    let mut found = None;
    graph.counted_transfers(member.from, Side::Out, &at_once, |transfer| -> Result<(), SqlError> {
        if transfer.number == member.number {
            found = Some(Sought::sent(graph, member.from, &transfer)?);
        }
        Ok(())
    })?;
    found.ok_or_else(|| SqlError::corrupt("a transfer that was found is not there"))
}

#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn pattern_types() -> TableIterator<
    'static,
    (name!(pattern, String), name!(description, String), name!(options, JsonB), name!(source, String)),
> {
    TableIterator::new(PATTERN_TYPES.iter().map(|one| {
        let option = |option: &arx_core::graph::patterns::OptionType| {
            let described = serde_json::json!({
                "default": option.default(), "values": option.expected(), "meaning": option.meaning,
            });
            (option.name.to_owned(), described)
        };
        let options: Map<String, Value> = one.options.iter().map(option).collect();
        (one.name.to_owned(), one.description.to_owned(), JsonB(Value::Object(options)), one.source.to_owned())
    }))
}

#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn pattern_horizon(
    pattern: Option<&str>,
    window: Option<Interval>,
    options: default!(Option<JsonB>, "'{}'"),
) -> Result<TableIterator<'static, (name!(before, Interval), name!(after, Interval))>, ErrorReport> {
    let (before, after) = parse(pattern, window, options.as_ref(), ANY_SCALE)?.horizon();
    let interval = |micros: i64| Interval::new(0, 0, micros).map_err(|_| SqlError::argument("window is out of range"));
    Ok(TableIterator::once((interval(before)?, interval(after)?)))
}

#[pg_extern(stable, parallel_restricted)]
fn pattern_network(
    network: default!(Option<&str>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
) -> Result<Option<String>, ErrorReport> {
    let asset = asset.ok_or_else(|| SqlError::null_argument("asset"))?;
    let network = match network {
        Some(network) => Some(registered_network(network)?),
        None => sole_network(asset)?,
    };
    Ok(network.map(|network| network.name().to_owned()))
}
