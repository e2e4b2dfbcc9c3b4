//! Clusters of wallets, the evidence for them, and labels passed on within them.

use std::collections::HashMap;

use arx_core::graph::clusters::{
    Apart, Basis, Cluster, ClusterMethod, ClusterQuestion, Clusters, MergeEvidence, SourceLabel, Verdict, clusters,
    inherit,
};
use arx_core::graph::{Damaged, MemoryBudget, WalletId};
use pgrx::JsonB;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::request::{Scope, ScopeArguments, notice_if_stopped, reason};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{JsonArgument, Wallet, at_least_one, fraction, registered_network, required};
use crate::error::{SqlError, or_report};
use crate::guc;
use crate::spi::{
    ClusterLabel, Exclusion, TransferKey, cluster_labels as read_labels, exclusions, services as read_services,
    transfer_hashes,
};
use crate::time::from_micros;

/// Largest number of members in a row: an array of this size takes some 10 ms to make, during which
/// nothing can be cancelled.
const MAX_MEMBERS: usize = 20_000;

/// Merges explained at a time.
const MERGES_PER_BATCH: usize = 1_000;

/// Transactions named for a merge.
const TRANSACTIONS_PER_MERGE: usize = 5;

/// Services named for a cluster.
const SERVICES_PER_CLUSTER: usize = 10;

/// Arguments that the functions here share, as given.
struct ClusterArguments<'a> {
    network: Option<&'a str>,
    method: Option<&'a str>,
    scope: ScopeArguments<'a>,
    max_size: Option<i32>,
    options: Option<JsonArgument<'a>>,
}

/// A request for the clusters of a network, with the rules that restrict merging.
struct ClusterRequest {
    scope: Scope,
    method: ClusterMethod,
    max_size: u64,
    exclusions: Vec<Exclusion>,
    services: Vec<WalletId>,
    apart: Vec<Apart>,
    /// Index of the exclusion behind each pair of `apart`.
    exclusion_of: Vec<usize>,
}

impl ClusterRequest {
    /// `explains` requires a method that merges wallets by evidence.
    fn parse(arguments: ClusterArguments<'_>, explains: bool) -> Result<Self, SqlError> {
        let network = registered_network(arguments.network)?;
        let options = required("options", arguments.options)?.parse("options")?;
        let method = ClusterMethod::parse(required("method", arguments.method)?, &options)?;
        if explains {
            method.check_merges()?;
        }
        let max_size = at_least_one("max_size", arguments.max_size)?;
        let scope = Scope::parse(network, arguments.scope)?;
        method.check(&scope.filter)?;
        let mut request = Self {
            scope,
            method,
            max_size,
            exclusions: Vec::new(),
            services: Vec::new(),
            apart: Vec::new(),
            exclusion_of: Vec::new(),
        };
        if method.has_merges() {
            request.read_rules()?;
        }
        Ok(request)
    }

    /// Reads the services and exclusions whose wallets are in the graph.
    fn read_rules(&mut self) -> Result<(), SqlError> {
        let network = &self.scope.network;
        let graph = self.scope.handle.graph();
        let services = &mut self.services;
        read_services(network, |address| {
            services.extend(graph.wallet(network.name(), address)?);
            Ok(())
        })?;
        self.exclusions = exclusions(network)?;
        for (index, exclusion) in self.exclusions.iter().enumerate() {
            let one = graph.wallet(network.name(), &exclusion.wallet_a)?;
            let other = graph.wallet(network.name(), &exclusion.wallet_b)?;
            if let (Some(one), Some(other)) = (one, other) {
                self.apart.push(Apart { one, other });
                self.exclusion_of.push(index);
            }
        }
        Ok(())
    }

    fn answer(&self, min_size: u64) -> Result<Clusters, SqlError> {
        let question = ClusterQuestion {
            network: self.scope.network.name(),
            method: self.method,
            filter: self.scope.filter,
            services: &self.services,
            apart: &self.apart,
            min_size,
            max_size: self.max_size,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        let mut deadline = self.scope.deadline;
        let answer = clusters(&self.scope.handle.graph(), &question, &mut deadline)?;
        notice_if_stopped(answer.halted, answer.found.is_empty());
        Ok(answer)
    }

    fn addresses(&self, wallets: &[WalletId]) -> Result<Vec<String>, Damaged> {
        let graph = self.scope.handle.graph();
        wallets.iter().map(|wallet| Ok(graph.address(*wallet)?.to_owned())).collect()
    }

    /// Returns the reason for which a merge was refused.
    fn refusal(&self, verdict: Verdict) -> Option<String> {
        match verdict {
            Verdict::Accepted { .. } => None,
            Verdict::TooLarge => Some(format!("supercluster guard: more than {} wallets", self.max_size)),
            Verdict::Apart(pair) => {
                let exclusion = self.exclusion_of.get(pair).and_then(|index| self.exclusions.get(*index));
                exclusion.map(|Exclusion { wallet_a, wallet_b, reason, created_by }| {
                    format!("excluded by {created_by}: {reason} ({wallet_a}, {wallet_b})")
                })
            }
        }
    }
}

sql_row! {
    struct ClusterRow {
        cluster: String,
        wallets: i64,
        members: Vec<String>,
        merges: Option<i64>,
        transfers: i64,
        confidence: f64,
        details: JsonB,
        complete: bool,
        reason: Option<String>,
    }
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
    options: default!(Option<JsonArgument<'_>>, "'{}'"),
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
    call(|| {
        let min_size = at_least_one("min_size", min_size)?;
        let max_members = parse_max_members(max_members)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let request = ClusterRequest::parse(ClusterArguments { network, method, scope, max_size, options }, false)?;
        let answer = request.answer(min_size)?;
        let bases = answer.bases(&request.scope.handle.graph());
        // Rows are made one at a time: the members of many clusters together are most of the graph.
        let rows = (0..answer.found.len()).filter_map(move |index| {
            let row = |cluster: &Cluster| request.cluster_row(&answer, cluster, &bases, max_members);
            or_report(answer.found.get(index).map(row).transpose()).map(ClusterRow::into_row)
        });
        Ok(TableIterator::new(rows))
    })
}

pub(super) fn parse_max_members(max_members: Option<i32>) -> Result<usize, SqlError> {
    let max_members = required("max_members", max_members)?;
    usize::try_from(max_members).ok().filter(|members| *members <= MAX_MEMBERS).ok_or_else(|| {
        SqlError::argument(format!("max_members must be between 0 and {MAX_MEMBERS}, not {max_members}"))
    })
}

impl ClusterRequest {
    fn cluster_row(
        &self,
        answer: &Clusters,
        cluster: &Cluster,
        bases: &HashMap<WalletId, Basis>,
        max_members: usize,
    ) -> Result<ClusterRow, SqlError> {
        let (graph, mut deadline) = (self.scope.handle.graph(), self.scope.deadline);
        let members = answer.first_members(&graph, cluster, max_members, &mut deadline);
        let basis = answer.root(cluster.first).and_then(|root| bases.get(&root));
        let reason = reason(answer.halted);
        Ok(ClusterRow {
            cluster: graph.address(cluster.first)?.to_owned(),
            // Counts of wallets, evidence and rows.
            wallets: cluster.wallets.cast_signed(),
            members: self.addresses(&members)?,
            merges: self.method.has_merges().then_some(cluster.merges.cast_signed()),
            transfers: cluster.transfers.cast_signed(),
            confidence: cluster.confidence,
            details: JsonB(self.details(cluster, basis.unwrap_or(&Basis::default()))?),
            complete: reason.is_none(),
            reason,
        })
    }

    /// Returns the evidence that the method found for a cluster.
    fn details(&self, cluster: &Cluster, basis: &Basis) -> Result<Value, SqlError> {
        Ok(match &self.method {
            ClusterMethod::Deposit(_) => json!({
                "deposit_addresses": basis.via.len(),
                "services": self.addresses(basis.services.get(..SERVICES_PER_CLUSTER).unwrap_or(&basis.services))?,
                "refused": cluster.refused,
            }),
            ClusterMethod::Funding(_) => json!({"funders": basis.via.len(), "refused": cluster.refused}),
            ClusterMethod::Weak | ClusterMethod::Strong => json!({}),
        })
    }
}

sql_row! {
    struct MergeRow {
        cluster: String,
        wallet: String,
        merged_with: String,
        evidence: String,
        via: String,
        service: Option<String>,
        tx_hashes: Vec<String>,
        first_seen: TimestampWithTimeZone,
        last_seen: TimestampWithTimeZone,
        confidence: f64,
        accepted: bool,
        reason: Option<String>,
        complete: bool,
    }
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
    options: default!(Option<JsonArgument<'_>>, "'{}'"),
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
    call(|| {
        let wallet = wallet.map(|wallet| Wallet::parse_named("wallet", Some(wallet), network)).transpose()?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let request = ClusterRequest::parse(ClusterArguments { network, method, scope, max_size, options }, true)?;
        let wallet = match &wallet {
            Some(wallet) => match request.scope.resolve(wallet)? {
                Some(wallet) => Some(wallet),
                None => return Ok(TableIterator::empty()),
            },
            None => None,
        };
        let explanation = MergeExplanation::new(request, wallet)?;
        let rows = (0..explanation.merges.len()).step_by(MERGES_PER_BATCH).flat_map(move |start| {
            let end = explanation.merges.len().min(start + MERGES_PER_BATCH);
            let batch = explanation.merges.get(start..end).unwrap_or(&[]);
            or_report(explanation.rows(batch)).into_iter().map(MergeRow::into_row)
        });
        Ok(TableIterator::new(rows))
    })
}

/// Merges with the evidence for them.
struct MergeExplanation {
    request: ClusterRequest,
    /// The wallet to whose cluster the answer is restricted.
    wallet: Option<WalletId>,
    answer: Clusters,
    merges: Vec<MergeEvidence>,
    /// First wallet of each cluster, by root.
    first: HashMap<WalletId, WalletId>,
}

impl MergeExplanation {
    fn new(request: ClusterRequest, wallet: Option<WalletId>) -> Result<Self, SqlError> {
        let answer = request.answer(2)?;
        let merges: Vec<MergeEvidence> = answer.merges_of(wallet).collect();
        let root = |cluster: &Cluster| Some((answer.root(cluster.first)?, cluster.first));
        let first = answer.found.iter().filter_map(root).collect();
        Ok(Self { request, wallet, answer, merges, first })
    }

    fn rows(&self, merges: &[MergeEvidence]) -> Result<Vec<MergeRow>, SqlError> {
        let scope = &self.request.scope;
        let graph = scope.handle.graph();
        let (mut keys, mut counts) = (Vec::new(), Vec::new());
        for merge in merges {
            check_for_interrupts!();
            let transfers = merge.transfers(&graph, &scope.filter, TRANSACTIONS_PER_MERGE)?;
            counts.push(transfers.len());
            for (from, transfer) in &transfers {
                keys.push(TransferKey::sent(&graph, Some(*from), transfer)?);
            }
        }
        let mut hashes = transfer_hashes(&scope.network, &keys)?.into_iter();
        let mut rows = Vec::with_capacity(merges.len());
        for (merge, count) in merges.iter().zip(counts) {
            rows.push(self.row(merge, hashes.by_ref().take(count).flatten().collect())?);
        }
        Ok(rows)
    }

    fn row(&self, merge: &MergeEvidence, tx_hashes: Vec<String>) -> Result<MergeRow, SqlError> {
        let graph = self.request.scope.handle.graph();
        let address = |wallet: WalletId| -> Result<String, SqlError> { Ok(graph.address(wallet)?.to_owned()) };
        let (wallet, merged_with) = (address(merge.wallet)?, address(merge.merged_with)?);
        let (via, service) = (address(merge.via)?, merge.service.map(address).transpose()?);
        let evidence = match &service {
            Some(service) => format!("{wallet} sent to {via}, a deposit address of service {service}"),
            None => format!("both first funded by {via}"),
        };
        // A refused merge joins two clusters: report the one of the requested wallet.
        let inside = self.wallet.unwrap_or(merge.wallet);
        let cluster = self.answer.root(inside).and_then(|root| self.first.get(&root).copied()).unwrap_or(inside);
        Ok(MergeRow {
            cluster: address(cluster)?,
            wallet,
            merged_with,
            evidence,
            via,
            service,
            tx_hashes,
            first_seen: from_micros(merge.first)?,
            last_seen: from_micros(merge.last)?,
            confidence: merge.confidence,
            accepted: merge.verdict.is_accepted(),
            reason: self.request.refusal(merge.verdict),
            complete: self.answer.halted.is_none(),
        })
    }
}

sql_row! {
    struct InheritedLabelRow {
        wallet: String,
        category: String,
        kind: String,
        severity: String,
        label: String,
        confidence: f64,
        hops: i32,
        from_wallet: String,
        path: Vec<String>,
        complete: bool,
        reason: Option<String>,
    }
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
    options: default!(Option<JsonArgument<'_>>, "'{}'"),
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
    call(|| {
        let decay = fraction("decay", decay)?;
        let min_confidence = fraction("min_confidence", min_confidence)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let request = ClusterRequest::parse(ClusterArguments { network, method, scope, max_size, options }, true)?;
        let rows = request.inherited_labels(decay, min_confidence)?;
        Ok(TableIterator::new(rows.into_iter().map(InheritedLabelRow::into_row)))
    })
}

impl ClusterRequest {
    fn inherited_labels(&self, decay: f64, min_confidence: f64) -> Result<Vec<InheritedLabelRow>, SqlError> {
        let answer = self.answer(2)?;
        let (sources, labels) = self.labels()?;
        let reason = reason(answer.halted);
        let (graph, mut deadline) = (self.scope.handle.graph(), self.scope.deadline);
        let memory = MemoryBudget::new(guc::graph_work_mem());
        let inherited = inherit(&graph, &answer.merges, &sources, decay, min_confidence, memory, &mut deadline)?;
        let mut rows = Vec::new();
        for inherited in inherited {
            check_for_interrupts!();
            let Some(label) = labels.get(inherited.label) else { continue };
            rows.push(InheritedLabelRow {
                wallet: graph.address(inherited.wallet)?.to_owned(),
                category: label.category.clone(),
                kind: label.kind.clone(),
                severity: label.severity.clone(),
                label: label.label.clone(),
                confidence: inherited.confidence,
                // A path is no longer than its cluster.
                hops: inherited.path.len() as i32 - 1,
                from_wallet: label.address.clone(),
                path: self.addresses(&inherited.path)?,
                complete: reason.is_none(),
                reason: reason.clone(),
            });
        }
        Ok(rows)
    }

    /// Reads the labels of wallets in the graph, with their categories numbered.
    fn labels(&self) -> Result<(Vec<SourceLabel>, Vec<ClusterLabel>), SqlError> {
        let graph = self.scope.handle.graph();
        let network = &self.scope.network;
        let (mut sources, mut labels): (Vec<SourceLabel>, Vec<ClusterLabel>) = (Vec::new(), Vec::new());
        read_labels(network, |label| {
            let Some(wallet) = graph.wallet(network.name(), &label.address)? else { return Ok(()) };
            // Labels arrive in the order of categories.
            let last = sources.last().zip(labels.last());
            let category =
                last.map_or(0, |(last, before)| last.category + u32::from(before.category != label.category));
            sources.push(SourceLabel { wallet, category, confidence: f64::from(label.confidence) / 1000.0 });
            labels.push(label);
            Ok(())
        })?;
        Ok((sources, labels))
    }
}
