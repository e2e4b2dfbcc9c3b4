//! Communities: groups of wallets that transact more among themselves than with others.

use arx_core::graph::MemoryBudget;
use arx_core::graph::communities::{Communities, Community, CommunityOptions, CommunityQuestion, communities};
use pgrx::JsonB;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::json;

use super::clusters::parse_max_members;
use super::request::{Scope, ScopeArguments, notice_if_stopped, reason};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{JsonArgument, Wallet, at_least_one, registered_network, required};
use crate::error::{SqlError, or_report};
use crate::guc;

sql_row! {
    struct CommunityRow {
        community: String,
        wallets: i64,
        members: Vec<String>,
        transfers: i64,
        outside_transfers: i64,
        modularity: f64,
        details: JsonB,
        complete: bool,
        reason: Option<String>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn wallet_communities(
    network: Option<&str>,
    wallet: default!(Option<&str>, "NULL"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    min_size: default!(Option<i32>, 2),
    max_members: default!(Option<i32>, 100),
    options: default!(Option<JsonArgument<'_>>, "'{}'"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(community, String),
            name!(wallets, i64),
            name!(members, Vec<String>),
            name!(transfers, i64),
            name!(outside_transfers, i64),
            name!(modularity, f64),
            name!(details, JsonB),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let registered = registered_network(network)?;
        let wallet = wallet.map(|wallet| Wallet::parse_named("wallet", Some(wallet), network)).transpose()?;
        let min_size = at_least_one("min_size", min_size)?;
        let max_members = parse_max_members(max_members)?;
        let options = parse_options(options)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let request = CommunityRequest { scope: Scope::parse(registered, scope)?, options, max_members };
        let answer = request.answer()?;
        let listed = request.listed(&answer, wallet.as_ref(), min_size)?;
        // Rows are made one at a time: the members of many communities together are most of the
        // graph.
        let rows = listed.into_iter().map(move |one| or_report(request.row(&answer, &one)).into_row());
        Ok(TableIterator::new(rows))
    })
}

fn parse_options(options: Option<JsonArgument<'_>>) -> Result<CommunityOptions, SqlError> {
    Ok(CommunityOptions::parse(&required("options", options)?.parse("options")?)?)
}

struct CommunityRequest {
    scope: Scope,
    options: CommunityOptions,
    max_members: usize,
}

impl CommunityRequest {
    fn answer(&self) -> Result<Communities, SqlError> {
        let question = CommunityQuestion {
            network: self.scope.network.name(),
            options: self.options,
            filter: self.scope.filter,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        let mut deadline = self.scope.deadline;
        let answer = communities(&self.scope.handle.graph(), &question, &mut deadline)?;
        notice_if_stopped(answer.halted, answer.found.is_empty());
        Ok(answer)
    }

    /// Returns the communities of the answer: that of a wallet, or all of the size.
    fn listed(&self, answer: &Communities, wallet: Option<&Wallet>, min_size: u64) -> Result<Vec<Community>, SqlError> {
        let Some(wallet) = wallet else {
            let is_listed = |one: &&Community| one.wallets >= min_size;
            return Ok(answer.found.iter().filter(is_listed).copied().collect());
        };
        let Some(id) = self.scope.resolve(wallet)? else { return Ok(Vec::new()) };
        let own = answer.of(id);
        if own.is_none() && answer.halted.is_none() {
            notice!("wallet {} has no transfer that counts", wallet.address.as_str());
        }
        Ok(own.into_iter().copied().collect())
    }

    fn row(&self, answer: &Communities, community: &Community) -> Result<CommunityRow, SqlError> {
        let graph = self.scope.handle.graph();
        let members = answer.members(community).take(self.max_members);
        let members = members.map(|wallet| Ok(graph.address(wallet)?.to_owned())).collect::<Result<_, SqlError>>()?;
        let reason = reason(answer.halted);
        Ok(CommunityRow {
            community: graph.address(community.first)?.to_owned(),
            // Counts of wallets and rows.
            wallets: community.wallets.cast_signed(),
            members,
            transfers: community.inside.cast_signed(),
            outside_transfers: community.outside.cast_signed(),
            modularity: answer.modularity,
            details: JsonB(json!({"communities": answer.found.len(), "seed": self.options.seed})),
            complete: reason.is_none(),
            reason,
        })
    }
}
