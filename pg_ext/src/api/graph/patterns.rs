//! Laundering patterns, and their options.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use arx_core::address::Network;
use arx_core::graph::patterns::{Finding, Member, OptionType, PATTERN_TYPES, Pattern, PatternScope, detect};
use arx_core::graph::{EdgeFilter, Graph, MemoryBudget, Side};
use pgrx::datum::{Interval, JsonB, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::request::{Scope, ScopeArguments, sole_network};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{JsonArgument, Wallet, optional_limit, registered_network, required};
use crate::error::{SqlError, or_report};
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{TransferKey, transfer_hashes};
use crate::time::from_micros;

/// Wallets and transactions named in a row.
const NAMES_PER_ROW: usize = 1_000;

/// Rows made at a time.
const ROWS_PER_BATCH: usize = 50;

/// Decimals with which amounts among the options are read while the asset is not known.
const ANY_SCALE: u32 = 18;

sql_row! {
    struct FindingRow {
        finding_id: String,
        pattern: String,
        strength: f64,
        center: String,
        wallets: Vec<String>,
        tx_hashes: Vec<String>,
        transfers: i32,
        total_value: Option<SqlNumeric>,
        first_seen: TimestampWithTimeZone,
        last_seen: TimestampWithTimeZone,
        details: JsonB,
        complete: bool,
        reason: Option<String>,
    }
}

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
    options: default!(Option<JsonArgument<'_>>, "'{}'"),
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
    call(|| {
        let pattern = PatternArguments { pattern, window, options };
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let detection = match DetectionRequest::parse(&pattern, network, scope, max_findings, wallet)? {
            Some(request) => request.detect()?,
            None => return Ok(TableIterator::empty()),
        };
        let rows = (0..detection.findings.len()).step_by(ROWS_PER_BATCH).flat_map(move |start| {
            let end = detection.findings.len().min(start + ROWS_PER_BATCH);
            let batch = detection.findings.get(start..end).unwrap_or_default();
            or_report(detection.rows(batch)).into_iter().map(FindingRow::into_row)
        });
        Ok(TableIterator::new(rows))
    })
}

/// A pattern and its options, as given.
struct PatternArguments<'a> {
    pattern: Option<&'a str>,
    window: Option<Interval>,
    options: Option<JsonArgument<'a>>,
}

impl PatternArguments<'_> {
    /// Amounts among the options are read in units of 10^-`scale`.
    fn parse(&self, scale: u32) -> Result<Pattern, SqlError> {
        let pattern = required("pattern", self.pattern)?;
        let window = required("window", self.window)?;
        let options = required("options", self.options)?.parse("options")?;
        let window = i64::try_from(window.as_micros()).map_err(|_| SqlError::argument("window is out of range"))?;
        Ok(Pattern::parse(pattern, window, &options, scale)?)
    }
}

struct DetectionRequest {
    scope: Scope,
    pattern: Pattern,
    asset: String,
    scale: u32,
    max_findings: Option<u64>,
    /// Restricts the answer to findings with this wallet.
    wallet: Option<Wallet>,
}

impl DetectionRequest {
    /// Returns `None` if there is no network to search.
    fn parse(
        pattern: &PatternArguments<'_>,
        network: Option<&str>,
        scope: ScopeArguments<'_>,
        max_findings: Option<i32>,
        wallet: Option<&str>,
    ) -> Result<Option<Self>, SqlError> {
        let asset = required("asset", scope.asset)?;
        let max_findings = optional_limit("max_findings", max_findings)?;
        // Invalid options are an error also where there is no network.
        let with_any_scale = pattern.parse(ANY_SCALE)?;
        let Some(network) = network_of(network, asset)? else { return Ok(None) };
        let parse_wallet = |wallet| Wallet::parse_named("wallet", Some(wallet), Some(network.name()));
        let wallet = wallet.map(parse_wallet).transpose()?;
        let scope = Scope::parse(network, scope)?;
        let Some((name, scale)) = scope.single_asset() else {
            return Err(SqlError::argument(format!("asset must be one asset, not \"{asset}\""))
                .detail("Amounts of several assets cannot be compared.")
                .hint("Specify native, or the address of a token."));
        };
        let asset = name.to_owned();
        let pattern = if scale == ANY_SCALE { with_any_scale } else { pattern.parse(scale)? };
        Ok(Some(Self { scope, pattern, asset, scale, max_findings, wallet }))
    }

    fn detect(self) -> Result<Detection, SqlError> {
        let wallet = match &self.wallet {
            Some(wallet) => match self.scope.resolve(wallet)? {
                Some(wallet) => Some(wallet),
                None => return Ok(Detection { request: self, findings: Vec::new(), reason: None }),
            },
            None => None,
        };
        let scope = PatternScope {
            network: self.scope.network.name(),
            asset: &self.asset,
            filter: self.scope.filter,
            scale: self.scale,
            wallet,
            max_findings: self.max_findings.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        let mut deadline = self.scope.deadline;
        let detected = detect(&self.scope.handle.graph(), &self.pattern, &scope, &mut deadline)?;
        let reason = detected.reason();
        if let Some(reason) = reason.as_ref().filter(|_| detected.findings.is_empty()) {
            notice!("the search is not complete: {reason}");
        }
        Ok(Detection { request: self, findings: detected.findings, reason })
    }
}

/// Findings of a request.
struct Detection {
    request: DetectionRequest,
    findings: Vec<Finding>,
    /// Reason for an incomplete search.
    reason: Option<String>,
}

impl Detection {
    fn rows(&self, findings: &[Finding]) -> Result<Vec<FindingRow>, SqlError> {
        let hashes = self.hashes(findings)?;
        findings.iter().zip(hashes).map(|(finding, tx_hashes)| self.row(finding, tx_hashes)).collect()
    }

    fn row(&self, finding: &Finding, tx_hashes: Vec<String>) -> Result<FindingRow, SqlError> {
        let scope = &self.request.scope;
        let graph = scope.handle.graph();
        let mut wallets = Vec::new();
        for wallet in finding.wallets.iter().take(NAMES_PER_ROW) {
            wallets.push(graph.address(*wallet)?.to_owned());
        }
        Ok(FindingRow {
            finding_id: format!("{:032x}", finding.id),
            pattern: self.request.pattern.name().to_owned(),
            strength: finding.strength,
            center: wallets.first().cloned().unwrap_or_default(),
            wallets,
            tx_hashes,
            transfers: i32::try_from(finding.transfers.len()).unwrap_or(i32::MAX),
            total_value: finding.total.and_then(|total| scope.value(total)),
            first_seen: from_micros(finding.first)?,
            last_seen: from_micros(finding.last)?,
            details: JsonB(Value::Object(details(finding))),
            complete: self.reason.is_none(),
            reason: self.reason.clone(),
        })
    }

    /// Returns the hashes of the first transactions of each finding by time, each hash once.
    fn hashes(&self, findings: &[Finding]) -> Result<Vec<Vec<String>>, SqlError> {
        let scope = &self.request.scope;
        let graph = scope.handle.graph();
        // A transfer of several findings is looked up once: twice, it would be taken for two
        // transfers with equal keys.
        let mut indices: HashMap<u64, usize> = HashMap::new();
        let mut keys = Vec::new();
        for member in findings.iter().flat_map(|finding| finding.transfers.iter().take(NAMES_PER_ROW)) {
            check_for_interrupts!();
            if let Entry::Vacant(vacant) = indices.entry(member.number) {
                vacant.insert(keys.len());
                keys.push(key_of(&graph, scope, member)?);
            }
        }
        let hashes = transfer_hashes(&scope.network, &keys)?;
        let hash = |member: &Member| indices.get(&member.number).and_then(|index| hashes.get(*index)?.clone());
        let of_finding = |finding: &Finding| {
            let mut seen = HashSet::new();
            let hashes = finding.transfers.iter().take(NAMES_PER_ROW).filter_map(hash);
            hashes.filter(|hash| seen.insert(hash.clone())).collect()
        };
        Ok(findings.iter().map(of_finding).collect())
    }
}

/// Adds to a finding's details the counts of wallets and transfers, not all of which a row names.
fn details(finding: &Finding) -> Map<String, Value> {
    let mut details = finding.details.clone();
    details.insert("wallet_count".to_owned(), finding.wallets.len().into());
    details.insert("transfer_count".to_owned(), finding.transfers.len().into());
    details
}

/// Returns the key by which the tables have a transfer.
fn key_of(graph: &Graph<'_>, scope: &Scope, member: &Member) -> Result<TransferKey, SqlError> {
    let moment = EdgeFilter { since: Some(member.time), until: member.time.checked_add(1), ..scope.filter };
    let mut key = None;
    graph.counted_transfers(member.from, Side::Out, &moment, |transfer| -> Result<(), SqlError> {
        if transfer.number == member.number {
            key = Some(TransferKey::sent(graph, Some(member.from), &transfer)?);
        }
        Ok(())
    })?;
    key.ok_or_else(|| SqlError::corrupt("a transfer of a finding is not in the graph"))
}

/// Returns the given network, or the only one of the graph.
fn network_of(network: Option<&str>, asset: &str) -> Result<Option<Network>, SqlError> {
    match network {
        Some(network) => registered_network(Some(network)).map(Some),
        None => sole_network(asset),
    }
}

#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn pattern_types() -> TableIterator<
    'static,
    (name!(pattern, String), name!(description, String), name!(options, JsonB), name!(source, String)),
> {
    let option = |option: &OptionType| {
        let (default, values, meaning) = (option.default(), option.expected(), option.meaning);
        (option.name.to_owned(), json!({"default": default, "values": values, "meaning": meaning}))
    };
    TableIterator::new(PATTERN_TYPES.iter().map(move |pattern| {
        let options: Map<String, Value> = pattern.options.iter().map(option).collect();
        let (name, description) = (pattern.name.to_owned(), pattern.description.to_owned());
        (name, description, JsonB(Value::Object(options)), pattern.source.to_owned())
    }))
}

#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn pattern_horizon(
    pattern: Option<&str>,
    window: Option<Interval>,
    options: default!(Option<JsonArgument<'_>>, "'{}'"),
) -> Result<TableIterator<'static, (name!(before, Interval), name!(after, Interval))>, ErrorReport> {
    let (before, after) = PatternArguments { pattern, window, options }.parse(ANY_SCALE)?.horizon();
    let interval = |micros: i64| Interval::new(0, 0, micros).map_err(|_| SqlError::argument("window is out of range"));
    Ok(TableIterator::once((interval(before)?, interval(after)?)))
}

#[pg_extern(stable, parallel_restricted)]
fn pattern_network(
    network: default!(Option<&str>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
) -> Result<Option<String>, ErrorReport> {
    call(|| {
        let network = network_of(network, required("asset", asset)?)?;
        Ok(network.map(|network| network.name().to_owned()))
    })
}
