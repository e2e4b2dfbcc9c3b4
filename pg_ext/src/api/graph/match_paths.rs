//! Paths of money whose wallets have kinds of labels in a given sequence.

use std::collections::HashMap;

use arx_core::graph::match_paths::{
    MatchedHop, MatchedPaths, PathKinds, PathPattern, PathQuestion, match_paths as search,
};
use arx_core::graph::{Graph, Halt, MemoryBudget, U256, WalletId};
use arx_core::label::LabelKind;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::labels::LabelledSearchError;
use super::request::{NO_TRANSACTION, Scope, ScopeArguments, optional_gap};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{Wallet, at_least_one, optional_limit, registered_network, required};
use crate::error::SqlError;
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{TransferHashes, TransferKey, categories_of, label_categories, with_categories};
use crate::time::from_micros;

/// Names of patterns that are no categories: every wallet, and those without a label.
const ANY: usize = 0;
const UNLABELLED: usize = 1;

/// Number of names before those of categories.
const KINDS: usize = 2 + LabelKind::ALL.len();

/// Millionths of a whole.
const WHOLE: f64 = 1e6;

sql_row! {
    #[derive(Default)]
    struct MatchedRow {
        path: Option<i32>,
        step: Option<i32>,
        from_address: Option<String>,
        to_address: Option<String>,
        from_category: Option<String>,
        to_category: Option<String>,
        value: Option<SqlNumeric>,
        sent_at: Option<TimestampWithTimeZone>,
        tx_hash: Option<String>,
        kept: Option<f64>,
        path_kept: Option<f64>,
        hops: Option<i32>,
        order_inferred: Option<bool>,
        complete: bool,
        reason: Option<String>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn match_paths(
    pattern: Option<&str>,
    network: Option<&str>,
    source: default!(Option<&str>, "NULL"),
    max_gap: default!(Option<Interval>, "NULL"),
    min_kept: default!(Option<f64>, 0.0),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    max_paths: default!(Option<i32>, 100),
    max_nodes: default!(Option<i64>, "NULL"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(path, Option<i32>),
            name!(step, Option<i32>),
            name!(from_address, Option<String>),
            name!(to_address, Option<String>),
            name!(from_category, Option<String>),
            name!(to_category, Option<String>),
            name!(value, Option<SqlNumeric>),
            name!(sent_at, Option<TimestampWithTimeZone>),
            name!(tx_hash, Option<String>),
            name!(kept, Option<f64>),
            name!(path_kept, Option<f64>),
            name!(hops, Option<i32>),
            name!(order_inferred, Option<bool>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let registered = registered_network(network)?;
        let source = source.map(|source| Wallet::parse_named("source", Some(source), network)).transpose()?;
        let max_gap = optional_gap(max_gap)?;
        let min_kept = parse_share(min_kept)?;
        let max_paths = at_least_one("max_paths", max_paths)?;
        let max_wallets = optional_limit("max_nodes", max_nodes)?;
        let mut kinds = CategoryCache::load()?;
        let names: Vec<&str> = kinds.names.iter().map(String::as_str).collect();
        let pattern = PathPattern::parse(required("pattern", pattern)?, &names).map_err(SqlError::from)?;
        let first = kinds.first_categories(&pattern, source.is_some())?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let scope = Scope::parse(registered, scope)?;
        if scope.single_asset().is_none() {
            return Err(SqlError::argument("match_paths requires a single asset")
                .detail("Amounts of several assets cannot be compared.")
                .into());
        }
        kinds.network = Some(scope.network.clone());
        let request = MatchRequest { scope, pattern, source, max_gap, min_kept, max_paths, max_wallets };
        Ok(TableIterator::new(request.rows(&mut kinds, &first)?.into_iter().map(MatchedRow::into_row)))
    })
}

/// Returns a share in millionths.
fn parse_share(min_kept: Option<f64>) -> Result<u32, SqlError> {
    let min_kept = required("min_kept", min_kept)?;
    if (0.0..=1.0).contains(&min_kept) {
        Ok((min_kept * WHOLE).round() as u32)
    } else {
        Err(SqlError::argument(format!("min_kept must be between 0 and 1, not {min_kept}")))
    }
}

struct MatchRequest {
    scope: Scope,
    pattern: PathPattern,
    /// Restricts the answer to paths from one wallet.
    source: Option<Wallet>,
    max_gap: Option<i64>,
    min_kept: u32,
    max_paths: u64,
    max_wallets: Option<u64>,
}

impl MatchRequest {
    fn rows(&self, kinds: &mut CategoryCache, first: &[String]) -> Result<Vec<MatchedRow>, SqlError> {
        let no_path = |complete, reason: &str| {
            Ok(vec![MatchedRow { complete, reason: Some(reason.to_owned()), ..MatchedRow::default() }])
        };
        let graph = self.scope.handle.graph();
        let mut starts = Vec::new();
        match &self.source {
            Some(source) => match self.scope.resolve(source)? {
                Some(source) => starts.push(source),
                None => return no_path(true, NO_TRANSACTION),
            },
            None => {
                let categories: Vec<&str> = first.iter().map(String::as_str).collect();
                let network = &self.scope.network;
                with_categories(network, &categories, |address| {
                    starts.extend(graph.wallet(network.name(), address)?);
                    Ok(())
                })?;
            }
        }
        let question = PathQuestion {
            pattern: &self.pattern,
            starts: &starts,
            filter: self.scope.filter,
            max_gap: self.max_gap,
            min_kept: self.min_kept,
            max_paths: usize::try_from(self.max_paths).unwrap_or(usize::MAX),
            max_wallets: self.max_wallets,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        let mut deadline = self.scope.deadline;
        let answer = search(&graph, &question, kinds, &mut deadline)?;
        let reason = reason(&answer);
        if answer.paths.is_empty() {
            return no_path(reason.is_none(), reason.as_deref().unwrap_or("no path"));
        }
        self.path_rows(&answer, kinds, reason.as_deref())
    }

    fn path_rows(
        &self,
        answer: &MatchedPaths,
        kinds: &CategoryCache,
        reason: Option<&str>,
    ) -> Result<Vec<MatchedRow>, SqlError> {
        let graph = self.scope.handle.graph();
        let hops = || answer.paths.iter().flatten();
        let keys = hops().map(|hop| TransferKey::sent(&graph, Some(hop.from), &hop.transfer));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        // A transfer keeps its hash on all of its paths.
        let mut hashes = TransferHashes::new(&self.scope.network).of(&keys)?.into_iter();
        let mut rows = Vec::new();
        for (number, path) in (1..).zip(&answer.paths) {
            let mut before: Option<U256> = None;
            for (step, hop) in (1..).zip(path) {
                rows.push(MatchedRow {
                    path: Some(number),
                    step: Some(step),
                    from_address: Some(graph.address(hop.from)?.to_owned()),
                    to_address: Some(graph.address(hop.to)?.to_owned()),
                    from_category: kinds.heaviest(hop.from),
                    to_category: kinds.heaviest(hop.to),
                    value: self.scope.value(hop.transfer.value),
                    sent_at: Some(from_micros(hop.transfer.time)?),
                    tx_hash: hashes.next().flatten(),
                    kept: before.map(|before| kept(before, hop.transfer.value)),
                    path_kept: Some(path_kept(path)),
                    // A path has at most 32 hops.
                    hops: Some(path.len() as i32),
                    order_inferred: Some(hop.order_inferred),
                    complete: reason.is_none(),
                    reason: reason.map(str::to_owned),
                });
                before = Some(hop.transfer.value);
            }
        }
        Ok(rows)
    }
}

/// Returns the share of an amount that a later amount can be, at most 1.
fn kept(before: U256, after: U256) -> f64 {
    if after >= before { 1.0 } else { after.as_f64() / before.as_f64() }
}

/// Returns the share of the first amount of a path that can have come to its end.
fn path_kept(path: &[MatchedHop]) -> f64 {
    let values = || path.iter().map(|hop| hop.transfer.value);
    values().next().zip(values().min()).map_or(0.0, |(first, least)| kept(first, least))
}

/// Returns the limits that cut the answer short.
fn reason(answer: &MatchedPaths) -> Option<String> {
    let halted = answer.halted.map(Halt::name);
    let more = answer.more.then_some("max_paths reached");
    let reasons: Vec<&str> = halted.into_iter().chain(more).collect();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

/// The categories of wallets, read when a search first meets the wallet.
struct CategoryCache {
    network: Option<arx_core::address::Network>,
    /// Names of patterns: `any`, `unlabelled`, the kinds, the categories.
    names: Vec<String>,
    /// Number of the name of a category's kind, by category.
    kind_of: Vec<usize>,
    by_name: HashMap<String, usize>,
    /// A bit for each wallet whose labels have been read.
    read: Vec<u64>,
    /// Numbers of the categories of each labelled wallet, the heaviest first.
    categories: HashMap<WalletId, Vec<usize>>,
}

impl CategoryCache {
    fn load() -> Result<Self, SqlError> {
        let categories = label_categories()?;
        let words = ["any", "unlabelled"].into_iter().chain(LabelKind::ALL.map(LabelKind::as_str));
        let names = words.map(str::to_owned).chain(categories.iter().map(|category| category.0.clone())).collect();
        let kind_number = |kind: LabelKind| 2 + LabelKind::ALL.iter().position(|one| *one == kind).unwrap_or_default();
        Ok(Self {
            network: None,
            names,
            kind_of: categories.iter().map(|category| kind_number(category.1)).collect(),
            by_name: categories.into_iter().zip(0..).map(|(category, number)| (category.0, number)).collect(),
            read: Vec::new(),
            categories: HashMap::new(),
        })
    }

    /// Returns the categories of the wallets that paths begin with. A source makes them
    /// unnecessary.
    fn first_categories(&self, pattern: &PathPattern, has_source: bool) -> Result<Vec<String>, SqlError> {
        let Some(first) = pattern.elements().first().filter(|_| !has_source) else { return Ok(Vec::new()) };
        if let Some(name) = first.names.iter().find(|name| [ANY, UNLABELLED].contains(*name)) {
            let name = self.names.get(*name).map_or("", String::as_str);
            return Err(SqlError::argument(format!("pattern must not begin with {name} unless source is given"))
                .hint("Begin with a kind of label or a category, or name the wallet that paths begin with."));
        }
        let is_first = |number: &usize| {
            let names = [number + KINDS, self.kind_of.get(*number).copied().unwrap_or_default()];
            names.iter().any(|name| first.names.contains(name))
        };
        let numbers = (0..self.kind_of.len()).filter(is_first);
        Ok(numbers.filter_map(|number| self.names.get(number + KINDS).cloned()).collect())
    }

    /// Returns the heaviest category of a wallet that the search has met.
    fn heaviest(&self, wallet: WalletId) -> Option<String> {
        let heaviest = self.categories.get(&wallet)?.first()?;
        self.names.get(heaviest + KINDS).cloned()
    }
}

impl PathKinds for CategoryCache {
    type Error = LabelledSearchError;

    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), LabelledSearchError> {
        let Some(network) = self.network.clone() else { return Ok(()) };
        self.read.resize((graph.wallets() as usize).div_ceil(64), 0);
        let mut new = Vec::new();
        for wallet in wallets {
            let (word, bit) = (wallet.index() / 64, 1_u64 << (wallet.index() % 64));
            if let Some(word) = self.read.get_mut(word)
                && *word & bit == 0
            {
                *word |= bit;
                new.push(*wallet);
            }
        }
        let addresses = new.iter().map(|wallet| graph.address(*wallet)).collect::<Result<Vec<&str>, _>>();
        let addresses = addresses.map_err(SqlError::from)?;
        categories_of(&network, &addresses, |index, category| {
            // A category that was added since the call began is not in the pattern.
            if let (Some(wallet), Some(number)) = (new.get(index), self.by_name.get(category)) {
                let categories = self.categories.entry(*wallet).or_default();
                if !categories.contains(number) {
                    categories.push(*number);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn has_any(&self, wallet: WalletId, names: &[usize]) -> bool {
        if names.contains(&ANY) {
            return true;
        }
        let Some(categories) = self.categories.get(&wallet) else { return names.contains(&UNLABELLED) };
        let has = |category: &usize| {
            let kind = self.kind_of.get(*category).copied().unwrap_or_default();
            names.contains(&(category + KINDS)) || names.contains(&kind)
        };
        categories.iter().any(has)
    }
}
