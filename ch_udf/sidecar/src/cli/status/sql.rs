//! The statements of `arx-sidecar status`.

use crate::feed::new_since;

pub(super) const FEED: &str = "
    SELECT position::text, attempt, rows_total, extract(epoch FROM now() - updated_at)::bigint
      FROM arx.feed_positions WHERE consumer = 'clickhouse'";

/// Progress of a first load.
pub(super) const LOAD: &str = "
    SELECT count(c.rows_loaded), count(*), COALESCE(sum(c.rows_loaded), 0)::bigint
      FROM arx.feed_loads AS l JOIN arx.feed_chunks AS c USING (consumer)
     WHERE l.consumer = 'clickhouse' GROUP BY l.consumer";

/// Rows that ClickHouse cannot hold, by the reasons that most of them share.
pub(super) const SET_ASIDE: &str = "
    SELECT count(*), reason FROM arx.feed_rejects WHERE consumer = 'clickhouse'
     GROUP BY reason ORDER BY count(*) DESC, reason LIMIT 5";

pub(super) const VOLUMES: &str = "SELECT count(*), COALESCE(sum(transaction_count), 0)::bigint FROM arx.hourly_volume";

/// Returns the query for whether anything became visible since the feed's position, the hours to
/// reload, and the sessions that have the duty `$1`.
pub(super) fn pending() -> String {
    let tables = [
        ("transactions", "ingest_xid"),
        ("internal_transfers", "ingest_xid"),
        ("token_transfers", "ingest_xid"),
        ("transaction_changes", "changed_xid"),
    ];
    let changed = tables.map(|(table, column)| {
        format!("EXISTS (SELECT FROM arx.{table} AS t WHERE {})", new_since(&format!("t.{column}"), "p.position"))
    });
    format!(
        "SELECT (SELECT {} FROM arx.feed_positions AS p
                  WHERE p.consumer = 'clickhouse' AND p.position IS NOT NULL),
                (SELECT count(*) FROM arx.feed_reloads),
                (SELECT count(*) FROM arx.held_duties() AS h WHERE h.duty = $1)",
        changed.join(" OR ")
    )
}

pub(super) const TABLE_EXISTS: &str =
    "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'transaction_events'";

pub(super) const EVENTS: &str = "SELECT countIf(leg = 0), countIf(leg > 0) FROM transaction_events FINAL";

pub(super) const AGGREGATES: &str = "
    SELECT assumeNotNull((SELECT count() FROM hourly_volume)), assumeNotNull((SELECT count() FROM daily_volume))";

pub(super) const PARTS: &str = "
    SELECT assumeNotNull((SELECT max(generation) FROM aggregate_generations)), count(), sum(bytes_on_disk)
      FROM system.parts
     WHERE active AND database = currentDatabase()";
