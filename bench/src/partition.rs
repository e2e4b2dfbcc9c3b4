//! Partitions against pg_partman as Debian has it: creating, keeping, retiring and converting, on
//! the same rows in the same server; and daily statistics against a materialized view.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arx_stack::{Database, Stack};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::graph::Runs;
use crate::report::{Measurement, Results, leave_out};
use crate::timing::{in_turn_async, median, millis};

const MAINTAIN: &str = "partition.maintain_432.vs_pg_partman";
const CREATE: &str = "partition.create_400.vs_pg_partman";
const RETENTION: &str = "partition.retention_writer_stall.vs_pg_partman";
const CONVERT: &str = "partition.convert_2m.vs_pg_partman_offline";
const DAILY: &str = "upkeep.daily_stats.vs_refresh_concurrently";

const PEER: &str = "pg_partman 4.7";
const WRITERS: usize = 8;
/// Months that the retention retires.
const EXPIRED: i32 = 24;
const CONVERTED_ROWS: i64 = 2_000_000;
const DAYS: i64 = 3 * 365;
const ROWS_A_DAY: i64 = 1_000;

/// A table like that of an ordinary application.
const TABLE: &str =
    "(id bigint NOT NULL, at timestamptz NOT NULL, payload text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)";

/// Runs the cases.
pub async fn measure(stack: &Stack, runs: Runs, wanted: &impl Fn(&str) -> bool, results: &mut Results) {
    let peers = [MAINTAIN, CREATE, RETENTION, CONVERT];
    let is_installed = partman_is_installed(stack);
    if !is_installed {
        leave_out(peers.into_iter().filter(|case| wanted(case)), "pg_partman is not installed");
    }
    let wanted_peer = |case: &str| is_installed && wanted(case);
    if wanted_peer(MAINTAIN) {
        eprintln!("{MAINTAIN}");
        results.add(MAINTAIN, maintain(stack, runs.fast).await);
    }
    if wanted_peer(CREATE) {
        eprintln!("{CREATE}");
        results.add(CREATE, create(stack, runs.slow).await);
    }
    if wanted_peer(RETENTION) {
        eprintln!("{RETENTION}");
        results.add(RETENTION, retention(stack, runs.slow).await);
    }
    if wanted_peer(CONVERT) {
        eprintln!("{CONVERT}");
        results.add(CONVERT, convert(stack).await);
    }
    if wanted(DAILY) {
        eprintln!("{DAILY}");
        results.add(DAILY, daily(stack, runs.slow).await);
    }
}

fn partman_is_installed(stack: &Stack) -> bool {
    let available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_partman'";
    stack
        .bare_database("partman_available")
        .and_then(|database| database.query(available))
        .is_ok_and(|count| count == "1")
}

/// Makes a database with both extensions.
fn prepared<'a>(stack: &'a Stack, name: &str) -> Result<Database<'a>> {
    let database = stack.database(name)?;
    database.query("CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman")?;
    Ok(database)
}

fn partitions(database: &Database<'_>, table: &str) -> Result<i64> {
    let count = format!("SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass");
    Ok(database.query(&count)?.trim().parse()?)
}

async fn timed(client: &Client, statement: &str) -> Result<f64> {
    let start = Instant::now();
    client.batch_execute(statement).await.with_context(|| format!("run {statement}"))?;
    Ok(millis(start))
}

fn create_parent(table: &str, months: i32) -> String {
    format!(
        "SELECT partman.create_parent('{table}', 'at', 'native', 'monthly', p_premake => 4, \
                p_start_partition => (date_trunc('month', now()) - interval '{months} months')::text)"
    )
}

fn ensure_months(table: &str, months: i32) -> String {
    format!("SELECT arx.ensure_partitions('{table}', now() - interval '{months} months', now() + interval '4 months')")
}

async fn maintain(stack: &Stack, runs: usize) -> Result<Measurement> {
    let database = prepared(stack, "partition_maintain")?;
    database.query(&format!("CREATE TABLE public.ours {TABLE}; CREATE TABLE public.theirs {TABLE}"))?;
    database.query("SELECT * FROM arx.manage_partitions('public.ours', '1 month', premake => 4)")?;
    database.query(&ensure_months("public.ours", 427))?;
    database.query(&create_parent("public.theirs", 427))?;
    ensure!(partitions(&database, "public.ours")? == 432, "ours has other than 432 partitions");
    ensure!(partitions(&database, "public.theirs")? >= 432, "theirs has fewer than 432 partitions");
    let client = database.connect().await?;
    let ours = "SELECT count(*) FROM arx.run_partition_maintenance('public.ours')";
    let theirs = "SELECT partman.run_maintenance('public.theirs')";
    timed(&client, ours).await?;
    timed(&client, theirs).await?;
    let medians =
        in_turn_async(runs, async |_| timed(&client, ours).await, async |_| timed(&client, theirs).await).await?;
    let setting = format!("A table with 432 monthly partitions that needs nothing, {runs} runs.");
    Ok(Measurement::new(MAINTAIN, medians, "ms", false).against(PEER, setting))
}

async fn create(stack: &Stack, runs: usize) -> Result<Measurement> {
    let database = prepared(stack, "partition_create")?;
    let client = database.connect().await?;
    let ours = async |run: usize| {
        let table = format!("public.ours_{run}");
        client.batch_execute(&format!("CREATE TABLE {table} {TABLE}")).await?;
        client
            .batch_execute(&format!("SELECT * FROM arx.manage_partitions('{table}', '1 month', premake => 4)"))
            .await?;
        let took = timed(&client, &ensure_months(&table, 395)).await?;
        ensure!(partitions(&database, &table)? == 400, "ours has other than 400 partitions");
        Ok(took)
    };
    let theirs = async |run: usize| {
        let table = format!("public.theirs_{run}");
        client.batch_execute(&format!("CREATE TABLE {table} {TABLE}")).await?;
        let took = timed(&client, &create_parent(&table, 395)).await?;
        ensure!(partitions(&database, &table)? >= 400, "theirs has fewer than 400 partitions");
        Ok(took)
    };
    let medians = in_turn_async(runs, ours, theirs).await?;
    let setting = format!("400 monthly partitions of an empty table with a primary key, {runs} runs.");
    Ok(Measurement::new(CREATE, medians, "ms", false).against(PEER, setting))
}

/// Sessions that insert rows of the current month until they are stopped, each with its longest
/// wait.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Duration>>>,
}

impl Writers {
    async fn start(database: &Database<'_>, table: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::with_capacity(WRITERS);
        for writer in 0..WRITERS {
            let (client, stop) = (database.connect().await?, Arc::clone(&stop));
            let insert =
                format!("INSERT INTO {table} (id, at, payload) VALUES (nextval('public.numbers'), now(), 'w{writer}')");
            tasks.push(tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    client.batch_execute(&insert).await?;
                    longest = longest.max(start.elapsed());
                }
                Ok(longest)
            }));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Self { stop, tasks })
    }

    /// Returns the longest wait of all, in milliseconds.
    async fn stop(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for task in self.tasks {
            longest = longest.max(task.await??);
        }
        Ok(longest.as_secs_f64() * 1000.0)
    }
}

async fn retention(stack: &Stack, runs: usize) -> Result<Measurement> {
    let database = prepared(stack, "partition_retention")?;
    database.query("CREATE SEQUENCE public.numbers")?;
    let side = async |table: String, job: &str| {
        let writers = Writers::start(&database, &table).await?;
        // A report that reads the table for two seconds when maintenance begins.
        let (reader, report) = (database.connect().await?, format!("SELECT count(*), pg_sleep(2) FROM {table}"));
        let reading = tokio::spawn(async move { reader.batch_execute(&report).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let client = database.connect().await?;
        timed(&client, job).await?;
        reading.await??;
        let longest = writers.stop().await?;
        let left = partitions(&database, &table)?;
        ensure!(left <= 20, "{left} partitions are left in {table}");
        Ok(longest)
    };
    let ours = async |run: usize| {
        let table = format!("public.ours_{run}");
        database.query(&format!("CREATE TABLE {table} {TABLE}"))?;
        database
            .query(&format!("SELECT * FROM arx.manage_partitions('{table}', '1 month', 4, '12 months', 'drop')"))?;
        database.query(&ensure_months(&table, 12 + EXPIRED))?;
        side(table.clone(), &format!("CALL arx.maintain_partitions('{table}')")).await
    };
    let theirs = async |run: usize| {
        let table = format!("public.theirs_{run}");
        database.query(&format!("CREATE TABLE {table} {TABLE}"))?;
        database.query(&create_parent(&table, 12 + EXPIRED))?;
        database.query(&format!(
            "UPDATE partman.part_config SET retention = '12 months', retention_keep_table = false WHERE parent_table = '{table}'"
        ))?;
        side(table.clone(), &format!("SELECT partman.run_maintenance('{table}')")).await
    };
    let medians = in_turn_async(runs, ours, theirs).await?;
    let setting = format!(
        "Longest wait of {WRITERS} sessions that insert single rows of the current month, while {EXPIRED} months are dropped \
         and a report reads the table for 2 s; {runs} runs."
    );
    Ok(Measurement::new(RETENTION, medians, "ms", false).against(PEER, setting))
}

async fn convert(stack: &Stack) -> Result<Measurement> {
    let database = prepared(stack, "partition_convert")?;
    let plain = "(id bigint NOT NULL, at timestamptz NOT NULL, payload text, PRIMARY KEY (id, at))";
    let fill = format!(
        "SELECT n, now() - n * interval '31 seconds', 'row ' || n FROM generate_series(1, {CONVERTED_ROWS}) AS n"
    );
    database.query(&format!(
        "CREATE SEQUENCE public.numbers START {};
         CREATE TABLE public.ours {plain}; INSERT INTO public.ours {fill};
         CREATE TABLE public.theirs_old {plain}; INSERT INTO public.theirs_old {fill}",
        CONVERTED_ROWS + 1
    ))?;
    let client = database.connect().await?;
    let writers = Writers::start(&database, "public.ours").await?;
    client.batch_execute("SELECT arx.convert_table('public.ours', 'at', '1 month', premake => 4)").await?;
    client.batch_execute("CALL arx.drain_default_partitions('public.ours')").await?;
    let ours = writers.stop().await?;
    let left = database.query("SELECT count(*) FROM ONLY public.ours_default")?;
    ensure!(left == "0", "{left} rows are left in the default partition");
    // Its guide: the application stands still while rows move into the new table.
    database.query(&format!("CREATE TABLE public.theirs {TABLE}"))?;
    let start = Instant::now();
    client.batch_execute(&create_parent("public.theirs", 25)).await?;
    client
        .batch_execute(
            "CALL partman.partition_data_proc('public.theirs', p_source_table => 'public.theirs_old', p_wait => 0)",
        )
        .await?;
    let theirs = millis(start);
    let moved: i64 = database.query("SELECT count(*) FROM public.theirs")?.trim().parse()?;
    ensure!(moved == CONVERTED_ROWS, "theirs moved {moved} rows");
    let setting = format!(
        "{CONVERTED_ROWS} rows of two years, one run. Ours: the longest wait of {WRITERS} sessions that insert single rows, from \
         `convert_table()` to the end of `drain_default_partitions()`. The peer's guide lets the application stand still: the \
         time of `partition_data_proc()`."
    );
    Ok(Measurement::new(CONVERT, (ours, theirs), "ms", false).against("pg_partman 4.7, offline", setting))
}

/// Both sides count distinct senders; ours counts internal transfers as well, but
/// the data has no such rows.
const VIEW: &str = "
CREATE MATERIALIZED VIEW public.daily AS
SELECT (t.\"timestamp\" AT TIME ZONE 'UTC')::date AS date, t.network, count(*) AS tx_count, sum(t.value) AS volume,
       avg(t.gas_price) AS avg_gas, count(DISTINCT t.from_address) AS unique_senders
  FROM arx.transactions AS t
 GROUP BY 1, 2;
CREATE UNIQUE INDEX ON public.daily (date, network)";

async fn daily(stack: &Stack, runs: usize) -> Result<Measurement> {
    let database = stack.database("upkeep_daily")?;
    database.query("SELECT arx.ensure_partitions('arx.transactions', '2021-01-01', '2024-01-31')")?;
    database.query(&format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         SELECT 'ethereum', '0x' || n, n, '2021-01-01'::timestamptz + n * interval '{} milliseconds',
                '0x' || md5((n % 5000)::text), '0x' || md5((n % 7000)::text), 1, 'confirmed'
           FROM generate_series(0, {}) AS n",
        86_400_000 / ROWS_A_DAY,
        DAYS * ROWS_A_DAY - 1
    ))?;
    database.query(VIEW)?;
    database.query("SELECT arx.refresh_daily_stats()")?;
    database.query("ANALYZE arx.transactions")?;
    let client = database.connect().await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let change = format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'ethereum', '0xnew{run}_' || n, n, '2022-06-01 12:00+00', 'new' || n, 'b', 1, 'confirmed' FROM generate_series(1, 100) AS n"
        );
        client.batch_execute(&change).await?;
        ours.push(timed(&client, "SELECT arx.refresh_daily_stats()").await?);
        theirs.push(timed(&client, "REFRESH MATERIALIZED VIEW CONCURRENTLY public.daily").await?);
    }
    let differences =
        "SELECT count(*) FROM public.daily AS v FULL JOIN arx.daily_transaction_stats AS s USING (date, network)
                        WHERE (v.tx_count, v.unique_senders) IS DISTINCT FROM (s.tx_count, s.unique_senders)";
    ensure!(database.query(differences)? == "0", "the statistics differ");
    let setting = format!(
        "{DAYS} days of {ROWS_A_DAY} transactions, of which one day changes; {runs} runs. Both count distinct senders, and were \
         compared after the last run."
    );
    let medians = (median(&ours)?, median(&theirs)?);
    Ok(Measurement::new(DAILY, medians, "ms", false).against("`REFRESH MATERIALIZED VIEW CONCURRENTLY`", setting))
}
