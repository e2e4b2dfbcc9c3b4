//! All SQL text that Rust runs, and the reading of its rows. Statements are constants, except those
//! of `partition`, `statistics` and `tables`; values are parameters.
//!
//! Statements run in the caller's snapshot and with the caller's rights, under the settings that
//! `session` pins.

mod alert;
mod analytics;
mod assets;
mod clusters;
mod composed;
mod evidence;
mod graph;
mod graph_facts;
mod judged;
mod keyed_rows;
mod labels;
mod logs;
mod networks;
mod outcomes;
mod partition;
mod risk;
mod session;
mod statistics;
mod stream;
mod tables;
mod transaction_by_key;
mod transfers_by_hash;

pub(crate) use alert::health_readings;
pub(crate) use analytics::analytics_statement;
pub(crate) use assets::{PRICE_SCALE, StatedToken, TokenKind, prices, stated_tokens, token_kind, wrapped_coins};
pub(crate) use clusters::{ClusterLabel, Exclusion, cluster_labels, exclusions, services};
pub(crate) use evidence::{TransferHashes, TransferKey, transfer_hashes};
pub(crate) use graph::{
    Epoch, Event, Table, changes_before, database_exists, estimated_rows, events_since, every_row, foreign_changes,
    former_rows, is_subscriber, latest_epoch, mark_log, native_asset, new_rows, note_writer_function, read_epoch,
    rows_between,
};
pub(crate) use graph_facts::{StepTimes, TransactionSources, describe_wallets, step_transactions};
pub(crate) use judged::{JudgedRows, read_labels, read_scores, read_watched};
pub(crate) use labels::{WalletLabel, categories_of, label_categories, labels_of, with_categories};
pub(crate) use logs::{LogValue, log_label, log_transaction, restamp_row};
pub(crate) use outcomes::{
    StoredTransaction, TransactionKey, any_awaited, await_transaction, complete_internal_transfers,
    discard_void_transfers, note_failure, present_transaction, restore_token_transfers, set_token_transfer_aside,
    stop_awaiting, stored_transaction, void_token_transfers,
};
pub(crate) use partition::{
    PartitionState, Split, attach, create_partitions, lock_for_archive, lock_holders, lock_partitions, quarantine,
    relation_name, restore_rows, retire, set_tablespace, split_by_hash,
};
pub(crate) use risk::{
    NetworkCoverage, RiskSettings, StoredScorecard, history_coverage, is_covered, label_cases, labels_changed,
    network_coverage, networks, next_label_change, own_labels, require_categories, risk_labels, risk_overrides,
    risk_settings, scorecard_document, store_risk_model,
};
pub(crate) use session::{pin, pin_call, with_words};
pub(crate) use statistics::analyze_stale_tables;
pub(crate) use stream::{type_name, varlena, with_memory_context};
pub(crate) use tables::{create_tables, has_statement_trigger, restamp, restamping, table_names};
pub(crate) use transaction_by_key::{FoundTransaction, find_transaction};
pub(crate) use transfers_by_hash::transfers_of;

use arx_core::address::{Network, NetworkFamily};

use self::composed::{for_each_row, is_true, read_changed, run, value};
use self::networks::{Found, family_of};
use self::stream::{Argument, ColumnType, PreparedQuery};
use crate::error::SqlError;

thread_local! {
    static HAS_NETWORKS: PreparedQuery = const { PreparedQuery::new(c"
SELECT pg_catalog.to_regclass('arx.networks') IS NOT NULL", &[ColumnType::Bool]) };

    static FAMILY: PreparedQuery = const { PreparedQuery::new(c"
SELECT n.family FROM arx.networks AS n WHERE n.network = $1", &[ColumnType::Text]) };
}

/// Returns a network with the family that `arx.networks` states for it, if it has a row there.
fn stated_network(network: &Network) -> Result<Option<Network>, SqlError> {
    match family_of(network.name()) {
        Found::Family(family) => return Ok(Some(network_of_family(network, &family))),
        Found::NoRow => return Ok(None),
        Found::Unknown => {}
    }
    let mut stated = None;
    FAMILY.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| {
            stated = Some(network_of_family(network, slot.text(0)?));
            Ok(())
        })
    })?;
    Ok(stated)
}

/// A family that the network cannot have, which only a change of ARX's own list can bring about, is
/// not believed.
fn network_of_family(network: &Network, family: &str) -> Network {
    let stated = family.parse::<NetworkFamily>().and_then(|family| Network::with_family(network.name(), family));
    stated.unwrap_or_else(|_| network.clone())
}

/// Returns a network that ARX does not list, with the family that `arx.networks` states for it, if
/// that table exists and has a row.
pub(crate) fn unlisted_network(network: Network) -> Result<Network, SqlError> {
    if !HAS_NETWORKS.with(|query| query.is_true(&[]))? {
        return Ok(network);
    }
    Ok(stated_network(&network)?.unwrap_or(network))
}

/// Returns a network of `arx.networks` by its canonical name or an alias.
pub(crate) fn registered_network(name: &str) -> Result<Network, SqlError> {
    stated_network(&Network::parse(name)?)?.ok_or_else(|| SqlError::unregistered_network(name))
}
