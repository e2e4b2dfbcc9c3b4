//! `arx-sidecar status`: one screen about the servers and the feed. A server that is down or fails
//! is a line, not an error.

mod sql;

use std::fmt::Write;
use std::process::ExitCode;

use indicatif::HumanBytes;

use super::output::print_line;
use super::{CommandError, exit_code};
use crate::cache::{Lengths, ProfileCache, identity};
use crate::error::{Chain, Doing, SidecarError};
use crate::escape::Inline;
use crate::feed::{Standing, read_standing};
use crate::functions::{Comparer, Comparison};
use crate::servers::clickhouse::{self, Choice};
use crate::servers::postgres::{self, Duty};
use crate::servers::redis::Endpoint;
use crate::servers::{self};
use crate::settings::Settings;
use crate::warehouse::Topology;

pub(super) async fn run(settings: &Settings) -> Result<ExitCode, CommandError> {
    let parts = [
        ("PostgreSQL", postgres_status(settings).await),
        ("ClickHouse", clickhouse_status(settings).await),
        ("Redis", redis_status(settings).await),
    ];
    let mut all_up = true;
    for (name, part) in parts {
        let text = part.unwrap_or_else(|error| {
            all_up = false;
            // A server that answers with an error is not down.
            let state = if is_down(&error) { "DOWN" } else { "FAILS" };
            format!("{state}  {}\n", Chain(&error))
        });
        for (index, line) in text.lines().enumerate() {
            let heading = if index == 0 { name } else { "" };
            print_line(format_args!("{heading:<11} {}", Inline(line)))?;
        }
    }
    Ok(exit_code(all_up))
}

fn is_down(error: &SidecarError) -> bool {
    match error {
        SidecarError::Unreachable { .. } => true,
        SidecarError::Hosts { errors, .. } => errors.iter().all(is_down),
        _ => false,
    }
}

// Writing to a String cannot fail: the results of `writeln!` are ignored below.

async fn postgres_status(settings: &Settings) -> Result<String, SidecarError> {
    let connection = postgres::connect(settings).await?;
    let doing = "read the state of the feed";
    let client = &connection.client;
    let mut text = format!(
        "{} at {}, database {}, arx {}\n",
        connection.version, settings.postgres_url, connection.database, connection.extension
    );
    match client.query_opt(sql::FEED, &[]).await.doing(doing)? {
        None => text.push_str("feed: never ran; start it with `arx-sidecar sync` or `arx-sidecar run`\n"),
        Some(row) => {
            let (position, attempt, rows, age): (Option<String>, i64, i64, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let position = position.unwrap_or_else(|| "none: the first load is not complete".into());
            let _ = writeln!(text, "feed: position {position}, moved {age} s ago, attempt {attempt}, {rows} rows fed");
        }
    }
    if let Some(row) = client.query_opt(sql::LOAD, &[]).await.doing(doing)? {
        let (done, chunks, rows): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let _ = writeln!(text, "first load: {done} of {chunks} chunks loaded, {rows} rows");
    }
    let row = client.query_one(&sql::pending(), &[&Duty::Feed.name()]).await.doing(doing)?;
    let (has_pending, reloads, feeders): (Option<bool>, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let feeder = if feeders > 0 { "a sidecar is feeding" } else { "no sidecar is feeding" };
    let pending = match has_pending {
        None => "",
        Some(true) => "; transactions wait to be fed",
        Some(false) => "; ClickHouse is in sync with PostgreSQL",
    };
    let _ = writeln!(text, "now: {feeder}{pending}");
    if reloads > 0 {
        let _ = writeln!(text, "{reloads} hours wait to be reloaded");
    }
    for row in client.query(sql::SET_ASIDE, &[]).await.doing(doing)? {
        let (rows, reason): (i64, String) = (row.get(0), row.get(1));
        let _ = writeln!(text, "degraded: {rows} rows are set aside in arx.feed_rejects: {reason}");
    }
    let row = client.query_one(sql::VOLUMES, &[]).await.doing(doing)?;
    let (hours, transactions): (i64, i64) = (row.get(0), row.get(1));
    let _ = writeln!(text, "hourly_volume: {hours} hours, {transactions} transactions");
    Ok(text)
}

async fn clickhouse_status(settings: &Settings) -> Result<String, SidecarError> {
    let choice = Choice::new(settings);
    let (kind, server) = match (&choice, choice.running(settings)?) {
        (Choice::Configured(_), Some(server)) => ("server", server),
        (Choice::Embedded(_), Some(server)) => ("embedded engine", server),
        (Choice::Configured(server), None) => ("server", server.clone()),
        (Choice::Embedded(folder), None) => {
            let folder = folder.root().display();
            return Ok(format!("embedded engine in {folder}, not running (it starts with `sync` and `run`)\n"));
        }
    };
    let connection = clickhouse::connect(&server).await?;
    let client = connection.client;
    let mut text = format!("{} at {} ({kind})\n", connection.version, server.url);
    let doing = "read the state of the tables";
    if client.query(sql::TABLE_EXISTS).fetch_one::<u64>().await.doing(doing)? == 0 {
        text.push_str("transaction_events: not created yet\n");
        return Ok(text);
    }
    let events = client.query(sql::EVENTS).with_setting("do_not_merge_across_partitions_select_final", "1");
    let (transactions, internal): (u64, u64) = events.fetch_one().await.doing(doing)?;
    let _ = write!(text, "transaction_events: {transactions} transactions");
    if internal > 0 {
        let _ = write!(text, ", {internal} internal transfers");
    }
    text.push('\n');
    let (hours, days): (u64, u64) = client.query(sql::AGGREGATES).fetch_one().await.doing(doing)?;
    let (generation, parts, bytes): (u64, u64, u64) = client.query(sql::PARTS).fetch_one().await.doing(doing)?;
    let _ = writeln!(text, "aggregates: {hours} hours, {days} days; last repair by attempt {generation}");
    let _ = writeln!(text, "on disk: {parts} parts, {}", HumanBytes(bytes));
    // Without PostgreSQL, the line of PostgreSQL says so. Earlier tables have no owner.
    if let Ok(connection) = postgres::connect(settings).await {
        let topology = Topology::of_server(settings, client, matches!(choice, Choice::Embedded(_)));
        if let Ok(standing) = read_standing(&connection.client, &topology).await {
            text.push_str(&standing_line(&standing));
        }
        match Comparer::default().compare(settings).await {
            Ok(Comparison::Absent) => {}
            Ok(Comparison::Same) => text.push_str("functions: they answer as PostgreSQL does\n"),
            Ok(Comparison::Different) => {
                let _ = writeln!(text, "degraded: {}", Comparison::ADVICE);
            }
            Err(error) => {
                let _ = writeln!(text, "functions: FAIL  {}", Chain(&error));
            }
        }
    }
    Ok(text)
}

/// Says whose the tables are, unless they are this database's own.
fn standing_line(standing: &Standing) -> String {
    match standing {
        Standing::Own | Standing::Upgraded => String::new(),
        Standing::WentBack { seen } => format!(
            "went back: the tables have seen attempt {seen} of this database, which PostgreSQL does not remember; \
             the next pass loads everything again\n"
        ),
        Standing::Replaced { former } => format!(
            "went back: the tables hold the transactions of {}, a database of the same name that this one replaces; \
             the next pass loads everything again\n",
            former.source_id
        ),
        Standing::Foreign { owner } => format!(
            "foreign: the tables hold the transactions of database \"{}\" ({id}); choose another clickhouse_database, \
             or replace them on purpose with clickhouse_take_over_from = \"{id}\"\n",
            owner.database,
            id = owner.source_id
        ),
    }
}

async fn redis_status(settings: &Settings) -> Result<String, SidecarError> {
    let cache = servers::redis::connect(settings, Endpoint::Cache).await?;
    let streams = match &settings.redis_streams_url {
        None => cache.clone(),
        Some(_) => servers::redis::connect(settings, Endpoint::Streams).await?,
    };
    let doing = "read the state of the cache";
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut cache.link.clone()).await.doing(doing)?;
    let mut text = format!("{} at {}\nkeys: {keys}", cache.version, settings.redis_url);
    // Without PostgreSQL, the line of PostgreSQL says so: keys have the identity of its database.
    let Ok(connection) = postgres::connect(settings).await else {
        text.push('\n');
        return Ok(text);
    };
    let (identity, height) = identity(&connection.client).await?;
    let Lengths { queued, dead, first_dead: _, misplaced } =
        Lengths::read(&mut streams.link.clone(), &identity).await?;
    let _ = writeln!(text, "; annotations queued: {queued}, dead letters: {dead}");
    if misplaced > 0 {
        let _ =
            writeln!(text, "{misplaced} streams of writes are keys of a wrong type; `arx-sidecar run` renames them");
    }
    if streams.eviction.starts_with("allkeys") {
        let _ = writeln!(
            text,
            "write-behind is refused: maxmemory-policy {} at {} evicts accepted writes; set volatile-lru or noeviction, \
             or name another Redis in redis_streams_url",
            streams.eviction,
            Endpoint::Streams.url(settings)
        );
    }
    let cache = ProfileCache::connect(settings, identity).await?;
    match cache.watermark().await? {
        Some(watermark) => {
            let behind = height.0.saturating_sub(watermark.height.0);
            let _ =
                writeln!(text, "profiles: in step up to snapshot {}, {behind} transactions ago", watermark.snapshot);
        }
        None => text.push_str("profiles: no sidecar keeps them in step, so PostgreSQL answers\n"),
    }
    Ok(text)
}
