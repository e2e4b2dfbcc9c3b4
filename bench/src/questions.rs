//! `search.fragment.vs_ilike` and `timeseries.year_by_day.vs_raw_group_by`: questions that a desk
//! asks by hand, against the SQL that it would write.

use anyhow::{Context, Result, ensure};
use tokio_postgres::Row;

use crate::graph::side::{Question, StatementSide, ensure_same, session};
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::in_turn_async;

const SEARCH: &str =
    "SELECT network, address FROM arx.search_wallets($1, '{}', 1000) ORDER BY network, address COLLATE \"C\"";

const ILIKE: &str = "SELECT DISTINCT network, address COLLATE \"C\" FROM ( \
         SELECT network, address FROM arx.address_labels \
          WHERE (address ILIKE '%' || $1::text || '%' OR label ILIKE '%' || $1::text || '%') \
            AND valid_from <= now() AND valid_to > now() \
         UNION ALL \
         SELECT network_type, wallet_address FROM arx.wallet_profiles WHERE wallet_address ILIKE '%' || $1::text || '%') AS found \
      ORDER BY network, 2";

/// Digits of a fragment, and fragments.
const FRAGMENT: usize = 10;
const FRAGMENTS: i64 = 10;

const SERIES: &str = "SELECT bucket_start, value::text FROM arx.network_time_series('ethereum', 'volume', '1 day', \
     $1::timestamptz, $1::timestamptz + interval '365 days', 'none')";

const GROUP_BY: &str = "SELECT date_trunc('day', \"timestamp\", 'UTC') AS day, \
         trim_scale(coalesce(sum(value) FILTER (WHERE status <> 'failed'), 0))::text \
       FROM arx.transactions WHERE network = 'ethereum' \
        AND \"timestamp\" >= $1::timestamptz AND \"timestamp\" < $1::timestamptz + interval '365 days' \
      GROUP BY day ORDER BY day";

fn wallet(row: &Row) -> Result<(String, String)> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn day(row: &Row) -> Result<(std::time::SystemTime, String)> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// `search.fragment.vs_ilike`.
///
/// # Errors
/// When a call fails, or the answers differ.
pub async fn search(real: &Real<'_>, runs: usize) -> Result<Measurement> {
    let client = session(&real.database, "SET search_path = public").await?;
    client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_trgm; SELECT arx.create_search_indexes()").await?;
    client.batch_execute("ANALYZE arx.address_labels").await?;
    // The peer reads the table: bitmaps are the only way to read the indexes of pg_trgm.
    let plain = session(&real.database, "SET enable_bitmapscan = off").await?;
    let rows = client
        .query(
            "SELECT lower(substr(address, 15, $1)) FROM arx.address_labels WHERE length(address) = 42 \
              ORDER BY md5(address) LIMIT $2",
            &[&(FRAGMENT as i32), &FRAGMENTS],
        )
        .await
        .context("choose fragments")?;
    let fragments: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(fragments.len() as i64 == FRAGMENTS, "only {} labels have long addresses", fragments.len());
    let questions =
        || fragments.iter().map(|fragment| vec![Box::new(fragment.clone()) as _]).collect::<Vec<Question>>();
    let ours = StatementSide::prepare(&client, SEARCH, questions(), 5).await?;
    let peer = StatementSide::prepare(&plain, ILIKE, questions(), 1).await?;
    let expected = ours.answers(wallet).await?;
    ensure_same(&peer, &expected, wallet).await?;
    let labels: i64 = client.query_one("SELECT count(*) FROM arx.address_labels", &[]).await?.get(0);
    let medians = in_turn_async(runs, async |_| ours.run().await, async |_| peer.run().await).await?;
    let setting = format!(
        "{FRAGMENTS} fragments of {FRAGMENT} digits among {labels} labels; the same wallets on both sides. Ours also \
         ranks, looks for words, and joins scores. {runs} runs."
    );
    Ok(Measurement::new("search.fragment.vs_ilike", medians, "ms a call", false).against("ILIKE", setting))
}

/// `timeseries.year_by_day.vs_raw_group_by`.
///
/// # Errors
/// When a call fails, or the answers differ.
pub async fn year_by_day(real: &Real<'_>, runs: usize) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    client.batch_execute("SELECT arx.refresh_hourly_stats()").await?;
    let row = client
        .query_one(
            "SELECT date_trunc('year', \"timestamp\", 'UTC'), count(*) FROM arx.transactions WHERE network = 'ethereum' \
              GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1",
            &[],
        )
        .await
        .context("find the busiest year")?;
    let (year, rows): (std::time::SystemTime, i64) = (row.get(0), row.get(1));
    let ours = StatementSide::prepare(&client, SERIES, vec![vec![Box::new(year)]], 3).await?;
    let peer = StatementSide::prepare(&client, GROUP_BY, vec![vec![Box::new(year)]], 1).await?;
    let expected = ours.answers(day).await?;
    ensure_same(&peer, &expected, day).await?;
    let days = expected.first().map_or(0, Vec::len);
    let medians = in_turn_async(runs, async |_| ours.run().await, async |_| peer.run().await).await?;
    let setting = format!(
        "the volume of {days} days of the busiest year of {}, {rows} transactions, equal to the last digit. Ours reads the \
         hours that `refresh_hourly_stats()` has kept, and the rows of hours that have changed since: none here. {runs} runs.",
        real.name
    );
    Ok(Measurement::new("timeseries.year_by_day.vs_raw_group_by", medians, "ms a call", false)
        .against("GROUP BY over the rows", setting))
}
