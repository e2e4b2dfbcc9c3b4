//! One screen about the servers and what flows between them. A server that is down is a line, not an error.

use std::fmt::Write;

use crate::cache::{ProfileCache, SHARDS, shard_keys};
use crate::error::{Chain, SidecarError};
use crate::feed::new_since;
use crate::servers::engine::{EngineFolder, USER, Warehouse, answers};
use crate::servers::postgres::{Duty, LOCK_SPACE};
use crate::servers::{clickhouse, postgres};
use crate::settings::{ServerUrl, Settings};

/// The screen, and whether every server answered.
pub async fn report(settings: &Settings) -> (String, bool) {
    let parts = [
        ("PostgreSQL", of_postgres(settings).await),
        ("ClickHouse", of_clickhouse(settings).await),
        ("Redis", of_redis(settings).await),
    ];
    let mut screen = String::new();
    let mut well = true;
    for (name, part) in parts {
        let text = part.unwrap_or_else(|error| {
            well = false;
            format!("DOWN  {}\n", Chain(&error))
        });
        for (index, line) in text.lines().enumerate() {
            let head = if index == 0 { name } else { "" };
            // writing to a String cannot fail
            let _ = writeln!(screen, "{head:<11} {line}");
        }
    }
    (screen, well)
}

/// How far a first load is.
const LOAD: &str = "SELECT count(c.rows_loaded), count(*), COALESCE(sum(c.rows_loaded), 0)::bigint \
       FROM arx.feed_loads AS l JOIN arx.feed_chunks AS c USING (consumer) WHERE l.consumer = 'clickhouse' GROUP BY l.consumer";

/// Whether anything became visible since the feed's position, hours to load again, and who holds the feed's lock.
fn news() -> String {
    let changed =
        [("transactions", "ingest_xid"), ("token_transfers", "ingest_xid"), ("transaction_changes", "changed_xid")];
    let changed = changed.map(|(table, column)| {
        format!("EXISTS (SELECT FROM arx.{table} AS t WHERE {})", new_since(&format!("t.{column}"), "p.position"))
    });
    format!(
        "SELECT (SELECT {} FROM arx.feed_positions AS p WHERE p.consumer = 'clickhouse' AND p.position IS NOT NULL), \
                (SELECT count(*) FROM arx.feed_reloads), \
                (SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database AND d.datname = current_database() \
                  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid::bigint = $1 AND l.objid::bigint = $2)",
        changed.join(" OR ")
    )
}

async fn of_postgres(settings: &Settings) -> Result<String, SidecarError> {
    let connection = postgres::connect(&settings.postgres_url).await?;
    let failed = |source| SidecarError::Postgres { doing: "read the state of the feed", source };
    let client = &connection.client;
    let mut text = format!(
        "{} at {}, database {}, arx {}\n",
        connection.version, settings.postgres_url, connection.database, connection.extension
    );
    let feed = client
        .query_opt(
            "SELECT position::text, attempt, rows_total, extract(epoch FROM now() - updated_at)::bigint \
               FROM arx.feed_positions WHERE consumer = 'clickhouse'",
            &[],
        )
        .await
        .map_err(failed)?;
    match feed {
        None => text.push_str("feed: never run; start it with `arx-sidecar sync` or `arx-sidecar run`\n"),
        Some(row) => {
            let (position, attempt, rows, age): (Option<String>, i64, i64, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let position = position.unwrap_or_else(|| "none: the first load is not complete".into());
            let _ = writeln!(text, "feed: position {position}, moved {age} s ago, attempt {attempt}, {rows} rows fed");
        }
    }
    // compiling a question over many partitions takes longer than answering it
    client.batch_execute("SET jit = off").await.map_err(failed)?;
    if let Some(row) = client.query_opt(LOAD, &[]).await.map_err(failed)? {
        let (done, chunks, rows): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let _ = writeln!(text, "first load: {done} of {chunks} chunks are in, {rows} rows");
    }
    let row = client.query_one(&news(), &[&i64::from(LOCK_SPACE), &(Duty::Feed as i64)]).await.map_err(failed)?;
    let (waiting, reloads, sessions): (Option<bool>, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let feeder = if sessions > 0 { "a sidecar is feeding" } else { "no sidecar is feeding" };
    let waiting = match waiting {
        None => "",
        Some(true) => "; transactions wait to be carried",
        Some(false) => "; ClickHouse is level with PostgreSQL",
    };
    let _ = writeln!(text, "now: {feeder}{waiting}");
    if reloads > 0 {
        let _ = writeln!(text, "{reloads} hours are to be loaded again");
    }
    let row = client
        .query_one("SELECT count(*), COALESCE(sum(transaction_count), 0)::bigint FROM arx.hourly_volume", &[])
        .await
        .map_err(failed)?;
    let (hours, transactions): (i64, i64) = (row.get(0), row.get(1));
    let _ = writeln!(text, "hourly_volume: {hours} hours, {transactions} transactions");
    Ok(text)
}

async fn of_clickhouse(settings: &Settings) -> Result<String, SidecarError> {
    let folder = EngineFolder::new(settings.data_dir.join("clickhouse"));
    let database = settings.clickhouse_database.clone();
    let (kind, place) = match &settings.clickhouse_url {
        Some(url) => {
            let (user, password) = (settings.clickhouse_user.clone(), settings.clickhouse_password.clone());
            ("server", Warehouse { url: url.expose().to_owned(), user, password, database })
        }
        None => match folder.endpoint() {
            Some(endpoint) if answers(endpoint.http_port) => {
                let password = Some(crate::settings::Secret::new(folder.password()?));
                ("embedded engine", Warehouse { url: endpoint.url(), user: USER.into(), password, database })
            }
            Some(_) | None => {
                return Ok(format!(
                    "embedded engine in {}, not running (it starts with `sync` and `run`)\n",
                    folder.root().display()
                ));
            }
        },
    };
    let connection = clickhouse::connect(&place).await?;
    let mut text = format!("{} at {} ({kind})\n", connection.version, ServerUrl::new(place.url));
    let there = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'transaction_events'";
    let failed = |source| SidecarError::ClickHouse { doing: "read the state of the tables", source };
    if connection.client.query(there).fetch_one::<u64>().await.map_err(failed)? == 0 {
        text.push_str("transaction_events: not created yet\n");
        return Ok(text);
    }
    let rows: u64 = connection
        .client
        .query("SELECT count() FROM transaction_events FINAL")
        .with_setting("do_not_merge_across_partitions_select_final", "1")
        .fetch_one()
        .await
        .map_err(failed)?;
    let _ = writeln!(text, "transaction_events: {rows} transactions");
    let (hours, days): (u64, u64) = connection
        .client
        .query("SELECT assumeNotNull((SELECT count() FROM hourly_volume)), assumeNotNull((SELECT count() FROM daily_volume))")
        .fetch_one()
        .await
        .map_err(failed)?;
    let (generation, parts, bytes): (u64, u64, u64) = connection
        .client
        .query(
            "SELECT assumeNotNull((SELECT max(generation) FROM aggregate_generations)), count(), sum(bytes_on_disk) FROM system.parts \
              WHERE active AND database = currentDatabase()",
        )
        .fetch_one()
        .await
        .map_err(failed)?;
    let _ = writeln!(text, "aggregates: {hours} hours, {days} days; last repair by attempt {generation}");
    let _ = writeln!(text, "on disk: {parts} parts, {}", human_bytes(bytes));
    Ok(text)
}

fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

async fn of_redis(settings: &Settings) -> Result<String, SidecarError> {
    let cache = ProfileCache::connect(&settings.redis_url, settings.profile_ttl_seconds).await?;
    let mut redis = cache.connection();
    let failed = |source| SidecarError::Redis { doing: "read the state of the cache", source };
    let (mut queued, mut dead) = (0_u64, 0_u64);
    for shard in 0..SHARDS {
        let keys = shard_keys(shard);
        let lengths: (u64, u64) = redis::pipe()
            .cmd("XLEN")
            .arg(keys.writes)
            .cmd("XLEN")
            .arg(keys.dead)
            .query_async(&mut redis)
            .await
            .map_err(failed)?;
        queued += lengths.0;
        dead += lengths.1;
    }
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut redis).await.map_err(failed)?;
    Ok(format!(
        "{} at {}\nkeys: {keys}; annotations queued: {queued}, put aside: {dead}\n",
        cache.version, settings.redis_url
    ))
}
