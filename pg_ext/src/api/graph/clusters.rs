//! Which wallets belong together, why, and what is known of one of them.

use std::collections::HashMap;

use arx_core::graph::clusters::{
    Apart, Basis, Cluster, ClusterQuestion, Clusters, MergeEvidence, Method, SourceLabel, Verdict, clusters, inherit,
};
use arx_core::graph::{Damaged, MemoryBudget, WalletId};
use pgrx::JsonB;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::json;

use super::question::{Scope, ScopeArguments, at_least_one, or_report, reason, time};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::guc;
use crate::spi::{ClusterLabel, Exclusion, Sought, cluster_labels as read_labels, exclusions, registered_network};
use crate::spi::{services as read_services, transfer_hashes};

/// Members named at most: an array of so many takes some 10 ms to make, in which nothing can be cancelled.
const MEMBERS: usize = 20_000;

/// Merges explained at a time.
const ROWS: usize = 1_000;

/// Transactions named for a pair of wallets.
const TRANSACTIONS: usize = 5;

/// Services named for a cluster.
const SERVICES: usize = 10;

/// What all functions here are asked.
struct Arguments<'a> {
    network: Option<&'a str>,
    method: Option<&'a str>,
    scope: ScopeArguments<'a>,
    max_size: Option<i32>,
    options: Option<JsonB>,
}

/// The same, checked, with what the answer needs to know.
struct Request {
    scope: Scope,
    method: Method,
    max_size: u64,
    exclusions: Vec<Exclusion>,
    services: Vec<WalletId>,
    apart: Vec<Apart>,
    /// Of each pair kept apart its exclusion.
    entries: Vec<usize>,
}

impl Request {
    fn parse(arguments: Arguments<'_>, explains: bool) -> Result<Self, SqlError> {
        let required = SqlError::null_argument;
        let network = registered_network(arguments.network.ok_or_else(|| required("network"))?)?;
        let options = arguments.options.ok_or_else(|| required("options"))?;
        let method = Method::parse(arguments.method.ok_or_else(|| required("method"))?, &options.0)?;
        if explains {
            method.check_merges()?;
        }
        let max_size = count("max_size", arguments.max_size)?;
        let scope = Scope::parse(network, arguments.scope)?;
        method.check(&scope.filter)?;
        let mut request = Self {
            scope,
            method,
            max_size,
            exclusions: Vec::new(),
            services: Vec::new(),
            apart: Vec::new(),
            entries: Vec::new(),
        };
        if method.has_merges() {
            request.read_rules()?;
        }
        Ok(request)
    }

    /// Services and exclusions, as far as the graph knows the wallets.
    fn read_rules(&mut self) -> Result<(), SqlError> {
        let network = &self.scope.network;
        let graph = self.scope.ready.graph();
        let services = &mut self.services;
        read_services(network, |address| {
            services.extend(graph.wallet(network.name(), address)?);
            Ok(())
        })?;
        self.exclusions = exclusions(network)?;
        for (entry, exclusion) in self.exclusions.iter().enumerate() {
            let one = graph.wallet(network.name(), &exclusion.wallet_a)?;
            let other = graph.wallet(network.name(), &exclusion.wallet_b)?;
            if let (Some(one), Some(other)) = (one, other) {
                self.apart.push(Apart { one, other });
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    fn answer(&mut self, min_size: u64) -> Result<Clusters, SqlError> {
        let Self { scope: Scope { ready, network, filter, deadline, .. }, .. } = self;
        let question = ClusterQuestion {
            network: network.name(),
            method: self.method,
            filter: *filter,
            services: &self.services,
            apart: &self.apart,
            min_size,
            max_size: self.max_size,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        let answer = clusters(&ready.graph(), &question, deadline)?;
        if let Some(halt) = answer.halted.filter(|_| answer.found.is_empty()) {
            notice!("the search stopped early: {}", halt.name());
        }
        Ok(answer)
    }

    fn addresses(&self, wallets: &[WalletId]) -> Result<Vec<String>, Damaged> {
        let graph = self.scope.ready.graph();
        wallets.iter().map(|wallet| Ok(graph.address(*wallet)?.to_owned())).collect()
    }

    /// Why a merge was refused.
    fn refusal(&self, verdict: Verdict) -> Option<String> {
        match verdict {
            Verdict::Accepted { .. } => None,
            Verdict::TooLarge => Some(format!("supercluster guard: more than {} wallets", self.max_size)),
            Verdict::Apart(place) => {
                let exclusion = self.entries.get(place).and_then(|entry| self.exclusions.get(*entry));
                exclusion.map(|one| {
                    let Exclusion { wallet_a, wallet_b, reason, created_by } = one;
                    format!("excluded by {created_by}: {reason} ({wallet_a}, {wallet_b})")
                })
            }
        }
    }
}

/// A size that makes sense from one up.
fn count(name: &str, size: Option<i32>) -> Result<u64, SqlError> {
    at_least_one(name, i64::from(size.ok_or_else(|| SqlError::null_argument(name))?))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn wallet_clusters(
    network: Option<&str>,
    method: default!(Option<&str>, "'deposit'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    min_size: default!(Option<i32>, 2),
    max_size: default!(Option<i32>, 10000),
    max_members: default!(Option<i32>, 100),
    options: default!(Option<JsonB>, "'{}'"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(cluster, String),
            name!(wallets, i64),
            name!(members, Vec<String>),
            name!(merges, Option<i64>),
            name!(transfers, i64),
            name!(confidence, f64),
            name!(details, JsonB),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let min_size = count("min_size", min_size)?;
    let max_members = max_members.ok_or_else(|| SqlError::null_argument("max_members"))?;
    let max_members = usize::try_from(max_members)
        .ok()
        .filter(|most| *most <= MEMBERS)
        .ok_or_else(|| SqlError::argument(format!("max_members must be between 0 and {MEMBERS}, not {max_members}")))?;
    let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
    let mut request = Request::parse(Arguments { network, method, scope, max_size, options }, false)?;
    let answer = request.answer(min_size)?;
    let bases = answer.bases(&request.scope.ready.graph());
    let nothing = Basis::default();
    let reason = reason(answer.halted);
    // one at a time: members of many clusters together are most of the graph
    let rows = (0..answer.found.len()).filter_map(move |place| {
        let graph = request.scope.ready.graph();
        let row = |one: &Cluster| -> Result<_, SqlError> {
            let members = answer.first_members(&graph, one, max_members, &mut request.scope.deadline.clone());
            let basis = answer.root(one.first).and_then(|root| bases.get(&root)).unwrap_or(&nothing);
            let details = match &request.method {
                Method::Deposit(_) => json!({
                    "deposit_addresses": basis.via.len(),
                    "services": request.addresses(basis.services.get(..SERVICES).unwrap_or(&basis.services))?,
                    "refused": one.refused,
                }),
                Method::Funding(_) => json!({"funders": basis.via.len(), "refused": one.refused}),
                Method::Weak | Method::Strong => json!({}),
            };
            Ok((
                graph.address(one.first)?.to_owned(),
                // counts of wallets, evidence and rows
                one.wallets.cast_signed(),
                request.addresses(&members)?,
                request.method.has_merges().then_some(one.merges.cast_signed()),
                one.transfers.cast_signed(),
                one.confidence,
                JsonB(details),
                reason.is_none(),
                reason.clone(),
            ))
        };
        or_report(answer.found.get(place).map(row).transpose())
    });
    Ok(TableIterator::new(rows))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn cluster_merges(
    network: Option<&str>,
    method: default!(Option<&str>, "'deposit'"),
    wallet: default!(Option<&str>, "NULL"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    max_size: default!(Option<i32>, 10000),
    options: default!(Option<JsonB>, "'{}'"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(cluster, String),
            name!(wallet, String),
            name!(merged_with, String),
            name!(evidence, String),
            name!(via, String),
            name!(service, Option<String>),
            name!(tx_hashes, Vec<String>),
            name!(first_seen, TimestampWithTimeZone),
            name!(last_seen, TimestampWithTimeZone),
            name!(confidence, f64),
            name!(accepted, bool),
            name!(reason, Option<String>),
            name!(complete, bool),
        ),
    >,
    ErrorReport,
> {
    let asked = wallet.map(|wallet| Wallet::parse_argument("wallet", Some(wallet), network)).transpose()?;
    let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
    let mut request = Request::parse(Arguments { network, method, scope, max_size, options }, true)?;
    let of = match &asked {
        Some(wallet) => match request.scope.known(wallet)? {
            Some(wallet) => Some(wallet),
            None => return Ok(TableIterator::empty()),
        },
        None => None,
    };
    let answer = request.answer(2)?;
    let merges: Vec<MergeEvidence> = answer.merges_of(of).collect();
    let first: HashMap<WalletId, WalletId> =
        answer.found.iter().filter_map(|one| Some((answer.root(one.first)?, one.first))).collect();
    let complete = answer.halted.is_none();
    let rows = (0..merges.len()).step_by(ROWS).flat_map(move |start| {
        let end = merges.len().min(start + ROWS);
        let batch = merges.get(start..end).unwrap_or(&[]);
        or_report(explain(&request, &answer, &first, of, batch, complete))
    });
    Ok(TableIterator::new(rows))
}

type MergeRow = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    Vec<String>,
    TimestampWithTimeZone,
    TimestampWithTimeZone,
    f64,
    bool,
    Option<String>,
    bool,
);

/// Merges in words, with the transactions behind them. With the wallet that is asked about, `cluster` is its cluster.
fn explain(
    request: &Request,
    answer: &Clusters,
    first: &HashMap<WalletId, WalletId>,
    of: Option<WalletId>,
    merges: &[MergeEvidence],
    complete: bool,
) -> Result<Vec<MergeRow>, SqlError> {
    let graph = request.scope.ready.graph();
    let (mut sought, mut counts) = (Vec::new(), Vec::new());
    for merge in merges {
        check_for_interrupts!();
        let transfers = merge.transfers(&graph, &request.scope.filter, TRANSACTIONS)?;
        counts.push(transfers.len());
        for (from, transfer) in &transfers {
            sought.push(Sought::sent(&graph, *from, transfer)?);
        }
    }
    let mut hashes = transfer_hashes(&request.scope.network, &sought)?.into_iter();
    let address = |wallet: WalletId| -> Result<String, SqlError> { Ok(graph.address(wallet)?.to_owned()) };
    let mut rows = Vec::with_capacity(merges.len());
    for (merge, count) in merges.iter().zip(counts) {
        let of_merge = hashes.by_ref().take(count).flatten();
        let (wallet, merged_with) = (address(merge.wallet)?, address(merge.merged_with)?);
        let via = address(merge.via)?;
        let service = merge.service.map(address).transpose()?;
        let evidence = match &service {
            Some(service) => format!("{wallet} sent to {via}, a deposit address of service {service}"),
            None => format!("both first funded by {via}"),
        };
        let inside = of.unwrap_or(merge.wallet);
        let cluster = answer.root(inside).and_then(|root| first.get(&root).copied()).unwrap_or(inside);
        rows.push((
            address(cluster)?,
            wallet,
            merged_with,
            evidence,
            via,
            service,
            of_merge.collect(),
            time(merge.first)?,
            time(merge.last)?,
            merge.confidence,
            merge.verdict.is_accepted(),
            request.refusal(merge.verdict),
            complete,
        ));
    }
    Ok(rows)
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn cluster_labels(
    network: Option<&str>,
    method: default!(Option<&str>, "'deposit'"),
    decay: default!(Option<f64>, 0.8),
    min_confidence: default!(Option<f64>, 0.1),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    max_size: default!(Option<i32>, 10000),
    options: default!(Option<JsonB>, "'{}'"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(wallet, String),
            name!(category, String),
            name!(kind, String),
            name!(severity, String),
            name!(label, String),
            name!(confidence, f64),
            name!(hops, i32),
            name!(from_wallet, String),
            name!(path, Vec<String>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let decay = share("decay", decay)?;
    let min_confidence = share("min_confidence", min_confidence)?;
    let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
    let mut request = Request::parse(Arguments { network, method, scope, max_size, options }, true)?;
    let answer = request.answer(2)?;
    let (known, labels) = labels_of(&request)?;
    let reason = reason(answer.halted);
    let graph = request.scope.ready.graph();
    let memory = MemoryBudget::new(guc::graph_work_mem());
    let mut watch = request.scope.deadline;
    let inherited = inherit(&graph, &answer.merges, &known, decay, min_confidence, memory, &mut watch);
    let mut rows = Vec::new();
    for one in inherited.map_err(SqlError::from)? {
        check_for_interrupts!();
        let Some(label) = labels.get(one.label) else { continue };
        rows.push((
            graph.address(one.wallet).map_err(SqlError::from)?.to_owned(),
            label.category.clone(),
            label.kind.clone(),
            label.severity.clone(),
            label.label.clone(),
            one.confidence,
            // no longer than a cluster is large
            one.path.len() as i32 - 1,
            label.address.clone(),
            request.addresses(&one.path).map_err(SqlError::from)?,
            reason.is_none(),
            reason.clone(),
        ));
    }
    Ok(TableIterator::new(rows))
}

/// What is known of wallets in the graph, categories numbered.
fn labels_of(request: &Request) -> Result<(Vec<SourceLabel>, Vec<ClusterLabel>), SqlError> {
    let graph = request.scope.ready.graph();
    let network = &request.scope.network;
    let (mut known, mut labels): (Vec<SourceLabel>, Vec<ClusterLabel>) = (Vec::new(), Vec::new());
    read_labels(network, |label| {
        let Some(wallet) = graph.wallet(network.name(), &label.address)? else { return Ok(()) };
        // they come by category
        let last = known.last().zip(labels.last());
        let category = last.map_or(0, |(known, before)| known.category + u32::from(before.category != label.category));
        known.push(SourceLabel { wallet, category, confidence: f64::from(label.confidence) / 1000.0 });
        labels.push(label);
        Ok(())
    })?;
    Ok((known, labels))
}

/// A share of what there is: more than nothing, up to all.
fn share(name: &str, value: Option<f64>) -> Result<f64, SqlError> {
    let value = value.ok_or_else(|| SqlError::null_argument(name))?;
    if value > 0.0 && value <= 1.0 {
        Ok(value)
    } else {
        Err(SqlError::argument(format!("{name} must be more than 0 and at most 1, not {value}")))
    }
}
