//! Queries before an import reads a line: networks, categories, and the progress of the source.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use arx_core::address::{Network, NetworkFamily};
use arx_core::label::LabelKind;
use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::import::error::ImportError;
use crate::import::labels::Facts;
use crate::import::parse::transfers::TokenRules;
use crate::import::parse::values::Context;
use crate::import::read::input;
use crate::import::read::reader::Content;
use crate::import::request::{ImportSource, NetworkFile};
use crate::servers::postgres::{self, Server, Source};
use crate::settings::Settings;

/// Longest wait for another import of the same source.
const TAKE_LIMIT: Duration = Duration::from_secs(5);
const TAKE_INTERVAL: Duration = Duration::from_millis(100);

/// Starting point of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Lines that are done.
    pub(crate) lines_done: u64,
    pub(crate) finished: bool,
}

/// Returns the identity of a source; none for standard input, which no later run can read again.
///
/// # Errors
/// [`ImportError::Read`], [`ImportError::Empty`], [`ImportError::InvalidNetwork`].
pub(crate) fn source_identity(source: &ImportSource) -> Result<Option<String>, ImportError> {
    let (files, network) = match source {
        ImportSource::Transactions(source) | ImportSource::TokenTransfers(source) => {
            (vec![&source.file], parse_network(&source.network)?.name().to_owned())
        }
        ImportSource::Graph { transactions, nodes, network } => {
            (vec![transactions, nodes], parse_network(network)?.name().to_owned())
        }
    };
    let mut identity = format!("{}:{network}", source.kind());
    // Other options are another import of the file.
    if let ImportSource::Transactions(source) | ImportSource::TokenTransfers(source) = source
        && let Some(options) = source.options.fingerprint()
    {
        identity = format!("{identity}:{options}");
    }
    for file in files {
        match input::identity(file)? {
            Some(part) => identity = format!("{identity}:{part}"),
            None => return Ok(None),
        }
    }
    Ok(Some(identity))
}

/// Connects, and creates the tables that do not exist. Also returns the server.
///
/// # Errors
/// [`ImportError::Connect`], [`ImportError::Database`].
pub(crate) async fn connect(settings: &Settings) -> Result<(Client, Server), ImportError> {
    let connection = postgres::connect_to_extension(&Source::written(settings))
        .await
        .map_err(|source| ImportError::Connect { source: Box::new(source) })?;
    let created = query(&connection.client, "create the tables", "SELECT object_type FROM arx.create_tables()").await?;
    if !created.is_empty() {
        tracing::info!(objects = created.len(), "created the tables of arx");
    }
    Ok((connection.client, connection.server))
}

/// Returns the content of the source, checked against the database, and its network (empty where
/// every line has its own).
///
/// # Errors
/// [`ImportError::InvalidNetwork`], [`ImportError::UnknownNetwork`], [`ImportError::Database`].
pub(crate) async fn content(client: &Client, source: &ImportSource) -> Result<(Content, String), ImportError> {
    let registered = networks(client).await?;
    let context = |name: &str| context(name, &registered);
    let file_context =
        |file: &NetworkFile| context(&file.network).map(|(context, network)| (context, network, file.options.clone()));
    Ok(match source {
        ImportSource::Transactions(file) => {
            let (context, network, options) = file_context(file)?;
            (Content::Transactions(context, options), network.name().to_owned())
        }
        ImportSource::TokenTransfers(file) => {
            let (context, network, mut options) = file_context(file)?;
            state_kinds(client, &network, &mut options.tokens).await?;
            (Content::Transfers(context, options), network.name().to_owned())
        }
        ImportSource::Graph { nodes, network, .. } => {
            let (context, network) = context(network)?;
            let name = network.name().to_owned();
            (Content::Graph(context, network, nodes.clone()), name)
        }
    })
}

/// Adds the kinds of contracts that `arx.tokens` states. The command line takes precedence.
async fn state_kinds(client: &Client, network: &Network, rules: &mut TokenRules) -> Result<(), ImportError> {
    let sql = "SELECT network, token_address, kind FROM arx.tokens WHERE kind IN ('nft', 'fungible')";
    for row in query(client, "read arx.tokens", sql).await? {
        let (of_network, token, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if of_network != network.name() || rules.fungible.contains(&token) || rules.nfts.contains(&token) {
            continue;
        }
        if kind == "nft" {
            rules.nfts.insert(token)
        } else {
            rules.fungible.insert(token)
        };
    }
    Ok(())
}

/// Parses the name of a network.
///
/// # Errors
/// [`ImportError::InvalidNetwork`].
pub(crate) fn parse_network(name: &str) -> Result<Network, ImportError> {
    Network::parse(name).map_err(|error| ImportError::InvalidNetwork { message: error.to_string() })
}

/// Returns the context of a registered network.
fn context(name: &str, registered: &HashMap<String, Registered>) -> Result<(Context, Network), ImportError> {
    let network = parse_network(name)?;
    let Some(Registered { network, decimals, coin }) = registered.get(network.name()).cloned() else {
        return Err(ImportError::UnknownNetwork { network: network.name().to_owned() });
    };
    let now = DateTime::<Utc>::from(SystemTime::now()).timestamp();
    Ok((Context::new(network.clone(), decimals, now).with_coin(coin), network))
}

/// A network of the database, with the family that it states, and the decimals and symbol of its
/// coin.
#[derive(Debug, Clone)]
struct Registered {
    network: Network,
    decimals: u32,
    coin: String,
}

async fn networks(client: &Client) -> Result<HashMap<String, Registered>, ImportError> {
    let sql = "SELECT network, native_decimals, family, native_asset FROM arx.networks";
    let rows = query(client, "read arx.networks", sql).await?;
    let mut registered = HashMap::with_capacity(rows.len());
    for row in rows {
        let (name, family): (String, String) = (row.get(0), row.get(2));
        let stated = family.parse::<NetworkFamily>().and_then(|family| Network::with_family(&name, family));
        let network = stated.map_or_else(|_| parse_network(&name), Ok)?;
        let decimals = u32::try_from(row.get::<_, i16>(1)).unwrap_or_default();
        registered.insert(name, Registered { network, decimals, coin: row.get(3) });
    }
    Ok(registered)
}

/// Reads the networks and the categories of labels.
///
/// # Errors
/// [`ImportError::Database`].
pub(crate) async fn label_facts(client: &Client) -> Result<Facts, ImportError> {
    let networks = networks(client).await?.into_iter().map(|(name, network)| (name, network.network)).collect();
    let sql = "SELECT category, kind, severity::text FROM arx.label_categories";
    let rows = query(client, "read arx.label_categories", sql).await?;
    let words = |row: &tokio_postgres::Row| (row.get::<_, String>(1), row.get::<_, String>(2));
    let categories = rows.iter().map(|row| {
        let (kind, severity) = words(row);
        (row.get(0), kind.parse().unwrap_or(LabelKind::Neutral), severity.parse().unwrap_or_default())
    });
    Ok(Facts { networks, categories: categories.collect() })
}

/// Returns true if a table has a row of a network.
///
/// # Errors
/// [`ImportError::Database`].
pub(crate) async fn has_rows(client: &Client, table: &str, network: &str) -> Result<bool, ImportError> {
    let sql = format!("SELECT EXISTS (SELECT FROM {table} AS t WHERE t.network = $1)");
    let context = || format!("cannot read {table}");
    let row = client
        .query_one(&sql, &[&network])
        .await
        .map_err(|source| ImportError::Database { context: context(), source })?;
    Ok(row.get(0))
}

/// Records that the history of a network is complete between two times, in unix seconds. Returns
/// the number of new statements.
///
/// # Errors
/// [`ImportError::Database`].
pub(crate) async fn cover_network(
    client: &Client,
    network: &str,
    (first, last): (i64, i64),
    source: &str,
) -> Result<u64, ImportError> {
    let sql = "INSERT INTO arx.history_coverage (network, address, from_time, to_time, source) \
               VALUES ($1, NULL, to_timestamp($2::bigint), to_timestamp($3::bigint + 1), $4) ON CONFLICT DO NOTHING";
    cover(client, sql, &[&network, &first, &last, &source]).await
}

/// Records that the history of wallets is complete. Returns the number of new statements.
///
/// # Errors
/// [`ImportError::Database`].
pub(crate) async fn cover_wallets(
    client: &Client,
    network: &str,
    addresses: &[String],
    source: &str,
) -> Result<u64, ImportError> {
    let sql = "INSERT INTO arx.history_coverage (network, address, from_time, to_time, source) \
               SELECT DISTINCT $1, a.address, NULL::timestamptz, NULL::timestamptz, $3 \
                 FROM unnest($2::text[]) AS a (address) ON CONFLICT DO NOTHING";
    cover(client, sql, &[&network, &addresses, &source]).await
}

async fn cover(client: &Client, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, ImportError> {
    let context = || "cannot record the coverage".to_owned();
    client.execute(sql, params).await.map_err(|source| ImportError::Database { context: context(), source })
}

/// Locks a source for this connection and reads its progress.
///
/// # Errors
/// [`ImportError::Busy`], [`ImportError::Database`].
pub(crate) async fn start(
    client: &Client,
    source: &str,
    kind: &str,
    network: &str,
    file: &str,
    again: bool,
) -> Result<Start, ImportError> {
    let failed = |doing: &str, source| ImportError::Database { context: format!("cannot {doing}"), source };
    let begun = Instant::now();
    loop {
        let take = client.query_one("SELECT arx.take_import($1)", &[&source]).await;
        if take.map_err(|source| failed("take the source", source))?.get(0) {
            break;
        }
        // A run that has just ended may still be rolling back.
        if begun.elapsed() > TAKE_LIMIT {
            return Err(ImportError::Busy { file: file.to_owned() });
        }
        tokio::time::sleep(TAKE_INTERVAL).await;
    }
    let sql = "INSERT INTO arx.import_progress AS p (source, kind, network) VALUES ($1, $2, $3) \
               ON CONFLICT (source) DO UPDATE SET \
                   lines_done = CASE WHEN $4 THEN 0 ELSE p.lines_done END, \
                   rows_imported = CASE WHEN $4 THEN 0 ELSE p.rows_imported END, \
                   rows_present = CASE WHEN $4 THEN 0 ELSE p.rows_present END, \
                   rows_rejected = CASE WHEN $4 THEN 0 ELSE p.rows_rejected END, \
                   started_at = CASE WHEN $4 THEN now() ELSE p.started_at END, \
                   finished = p.finished AND NOT $4, updated_at = now() \
               RETURNING lines_done, finished";
    let row = client
        .query_one(sql, &[&source, &kind, &network, &again])
        .await
        .map_err(|source| failed("read the progress of the source", source))?;
    let lines_done = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
    Ok(Start { lines_done, finished: row.get(1) })
}

async fn query(client: &Client, doing: &str, sql: &str) -> Result<Vec<tokio_postgres::Row>, ImportError> {
    let context = || format!("cannot {doing}");
    client.query(sql, &[]).await.map_err(|source| ImportError::Database { context: context(), source })
}
