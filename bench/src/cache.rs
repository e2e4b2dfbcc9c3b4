//! The cases `cache.*`: Redis as a copy of the profiles, and as the place where writes wait.
//!
//! One database of a million stored profiles, and one daemon that keeps them in step, serve all
//! cases. The peers are what is written without ARX: `GET`, then `SELECT`, then `SETEX`.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arx_sidecar::cache::{Annotation, Origin, WalletKey, WalletReader, WalletWriter};
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};
use futures_util::StreamExt;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::feed::daemon::{Daemon, LIMIT};
use crate::report::{Measurement, Results};

pub const COMMIT: &str = "cache.commit_to_redis_p99";
pub const HOT: &str = "cache.get_hot.vs_postgres_primary_key";
pub const FILL: &str = "cache.fill.vs_naive_set";
pub const STORM: &str = "cache.expiry_storm.db_loads";
pub const BEHIND: &str = "cache.write_behind.vs_direct";
pub const VERIFY: &str = "cache.verify_million";

/// Longest time in seconds that the specification allows.
const TARGET: f64 = 1.0;

/// Longest time of the daemon's work about the loaded transfers.
const SETTLE_LIMIT: Duration = Duration::from_secs(900);

/// Stored profiles.
const WALLETS: u64 = 1_000_000;

/// Profiles of a peer that handles one at a time; its rate does not depend on their number.
const SAMPLE: u64 = 3_000;

/// 5,000 changes a second, in a transaction every 100 ms, for 20 seconds.
const BATCH: u64 = 500;
const BATCHES: u64 = 200;
const EVERY: Duration = Duration::from_millis(100);

const TASKS: usize = 32;
const HOT_WALLETS: u64 = 100;
const HOT_TIME: Duration = Duration::from_secs(3);

/// Clients that read a key that has just expired, half of them in each of two readers.
const CLIENTS: usize = 64;

const WRITE_TIME: Duration = Duration::from_secs(4);

/// The query of a program that shows a profile.
const SELECT: &str = "SELECT p.risk_score::text, p.transaction_count, p.total_volume::text, p.analytics_profile::text
                        FROM arx.wallet_profiles AS p WHERE p.wallet_address = $1 AND p.network_type = $2";

/// The same with score and reasons.
const SELECT_WHOLE: &str =
    "SELECT r.score::text, p.transaction_count, p.total_volume::text, p.analytics_profile::text, r.reasons::text
       FROM arx.explain_wallets(ARRAY[$1], $2) AS r
       JOIN arx.wallet_profiles AS p ON p.wallet_address = $1 AND p.network_type = $2";

const UPSERT: &str = "INSERT INTO arx.wallet_profiles AS p (wallet_address, network_type, analytics_profile)
                      VALUES ($1, 'ethereum', $2::text::jsonb)
                      ON CONFLICT (wallet_address, network_type) DO UPDATE
                         SET analytics_profile = p.analytics_profile || excluded.analytics_profile";

/// Runs the wanted cases.
pub async fn measure(stack: &Stack, wanted: &impl Fn(&str) -> bool, results: &mut Results) {
    let cases = [FILL, VERIFY, HOT, STORM, COMMIT, BEHIND];
    if !cases.iter().any(|case| wanted(case)) {
        return;
    }
    let scene = match Scene::new(stack).await {
        Ok(scene) => scene,
        Err(error) => return results.failed("cache", &error),
    };
    for case in cases.into_iter().filter(|case| wanted(case)) {
        eprintln!("{case}");
        let measured = match case {
            FILL => scene.fill().await,
            VERIFY => scene.verify().await,
            HOT => scene.hot().await,
            STORM => scene.storm().await,
            COMMIT => scene.commit().await,
            _ => scene.write_behind().await,
        };
        results.add(case, measured);
    }
    if let Err(error) = scene.end() {
        results.failed("cache", &error);
    }
}

/// The daemon has judged and profiled the loaded transfers.
const IS_SETTLED: &str = "SELECT EXISTS (SELECT FROM arx.feed_positions WHERE consumer = 'wallet_behaviour')
                             AND NOT (SELECT w.waits FROM arx.wallet_alerts_wait('') AS w)";

/// Redis has what was committed before $1, the end of a snapshot.
const IS_FOLLOWED: &str = "SELECT EXISTS (SELECT FROM arx.feed_positions
                                          WHERE consumer = 'cache' AND pg_snapshot_xmin(position) >= $1::text::xid8)";

struct Scene<'a> {
    database: Database<'a>,
    daemon: Daemon<'a>,
    client: Arc<Client>,
    redis: MultiplexedConnection,
    /// Settings of a reader or writer in this process.
    settings: PathBuf,
    /// Time that the first fill took.
    filled: OnceCell<Duration>,
}

fn address(number: u64) -> String {
    format!("0x{number:040x}")
}

fn wallet(number: u64) -> Result<WalletKey> {
    Ok(WalletKey::parse(&address(number), "ethereum")?)
}

/// Returns how many of `what` happened a second.
#[expect(clippy::cast_precision_loss, reason = "a rate needs fewer than 53 bits")]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

impl<'a> Scene<'a> {
    async fn new(stack: &'a Stack) -> Result<Self> {
        eprintln!("  preparing {WALLETS} profiles");
        let database = stack.database("cache")?;
        database.query(&format!(
            "INSERT INTO arx.wallet_profiles (wallet_address, network_type, transaction_count, total_volume)
             SELECT '0x' || lpad(to_hex(n), 40, '0'), 'ethereum', n % 50, n % 1000 FROM generate_series(1, {WALLETS}) AS n;
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-01-02');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'ethereum', 't' || n, n, timestamptz '2024-01-01' + n * interval '100 milliseconds',
                    '0x' || lpad(to_hex(1 + n % {WALLETS}), 40, '0'), '0x' || lpad(to_hex(1 + n::bigint * 7919 % {WALLETS}), 40, '0'),
                    n % 9 + 1, 'confirmed' FROM generate_series(1, {WALLETS} / 2) AS n;
             ANALYZE arx.wallet_profiles"
        ))?;
        let settings = stack.folder().join("cache.toml");
        let text = format!(
            "postgres_url = \"{}\"\nredis_url = \"{}\"\nlisten = \"none\"\n",
            database.connection(),
            database.redis_url()
        );
        std::fs::write(&settings, text).context("write settings")?;
        let daemon = Daemon::start(stack, &database)?;
        let client = Arc::new(database.connect().await?);
        let redis = redis::Client::open(database.redis_url())?.get_multiplexed_async_connection().await?;
        let scene = Self { database, daemon, client, redis, settings, filled: OnceCell::new() };
        let reader = scene.reader().await?;
        let one = wallet(1)?;
        let started = Instant::now();
        while reader.get(&one, None).await?.1 == Origin::Database {
            ensure!(started.elapsed() < LIMIT, "the daemon does not follow the profiles");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scene.settle().await?;
        Ok(scene)
    }

    /// Waits until the daemon has nothing left to do: what it does about the loaded transfers is no
    /// part of a case.
    async fn settle(&self) -> Result<()> {
        eprintln!("  waiting for the daemon");
        self.wait_for(IS_SETTLED, &[]).await?;
        let end: String =
            self.client.query_one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text", &[]).await?.get(0);
        self.wait_for(IS_FOLLOWED, &[&end]).await
    }

    async fn wait_for(&self, question: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<()> {
        let started = Instant::now();
        while !self.client.query_one(question, parameters).await?.get::<_, bool>(0) {
            ensure!(started.elapsed() < SETTLE_LIMIT, "the daemon does not come to an end: {question}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Fills Redis, unless a case has done so, and returns the time that it took.
    async fn filled(&self) -> Result<Duration> {
        if let Some(time) = self.filled.get() {
            return Ok(*time);
        }
        let started = Instant::now();
        let text = run(self.database.sidecar()?.args(["cache", "warm", "--restart"]))?;
        let time = started.elapsed();
        ensure!(text.contains(&format!("{WALLETS} profiles read")), "not every profile was read: {text}");
        Ok(*self.filled.get_or_init(|| time))
    }

    fn end(self) -> Result<()> {
        self.daemon.stop()?;
        self.database.drop_now()
    }

    async fn reader(&self) -> Result<WalletReader> {
        Ok(WalletReader::from_environment(Some(&self.settings)).await?)
    }

    /// Profiles a second that `cache warm` brings into Redis, and that one `SELECT` and one `SETEX`
    /// after the other do.
    async fn fill(&self) -> Result<Measurement> {
        let ours = rate(WALLETS, self.filled().await?);
        let (statement, mut redis) = (self.client.prepare(SELECT_WHOLE).await?, self.redis.clone());
        let started = Instant::now();
        for number in 1..=SAMPLE {
            let address = address(number);
            let row = self.client.query_one(&statement, &[&address, &"ethereum"]).await?;
            let body = serde_json::json!({ "score": row.get::<_, String>(0), "count": row.get::<_, i64>(1),
                                           "volume": row.get::<_, String>(2), "profile": row.get::<_, String>(3), "reasons": row.get::<_, String>(4) });
            let () = redis.set_ex(format!("naive:{address}"), body.to_string(), 3_600).await?;
        }
        let peer = rate(SAMPLE, started.elapsed());
        let setting = format!(
            "`arx-sidecar cache warm` of {WALLETS} stored profiles with their scores, reasons and labels; the peer reads \
             row, score and reasons of {SAMPLE} of them, and sets them, one after the other."
        );
        Ok(Measurement::new(FILL, (ours, peer), "profiles/s", true)
            .against("one SELECT and one SETEX at a time", setting))
    }

    /// Profiles a second that `cache verify` compares, and that one `GET` and one `SELECT` after
    /// the other do. The peer compares what it would have cached.
    async fn verify(&self) -> Result<Measurement> {
        self.filled().await?;
        let started = Instant::now();
        let text = run(self.database.sidecar()?.args(["cache", "verify"]))?;
        let elapsed = started.elapsed();
        let equal: u64 = text
            .split(": ")
            .nth(1)
            .and_then(|text| text.split(' ').next())
            .and_then(|count| count.parse().ok())
            .with_context(|| format!("the number of equal profiles is missing: {text}"))?;
        ensure!(equal >= WALLETS / 10 * 9, "too few profiles were compared: {text}");
        let ours = rate(equal, elapsed);
        let statement = self.client.prepare(SELECT_WHOLE).await?;
        let mut redis = self.redis.clone();
        let sample = SAMPLE / 10;
        let started = Instant::now();
        for number in 1..=sample {
            let address = address(number);
            let _: Option<String> = redis.get(format!("naive:{address}")).await?;
            self.client.query_one(&statement, &[&address, &"ethereum"]).await?;
        }
        let peer = rate(sample, started.elapsed());
        let setting = format!(
            "`arx-sidecar cache verify` of {equal} cached profiles; the peer gets {sample} of them and reads row and \
             score of each, one after the other."
        );
        Ok(Measurement::new(VERIFY, (ours, peer), "profiles/s", true)
            .against("one GET and one SELECT at a time", setting))
    }

    /// Reads a second of hot wallets by the library, and by the primary key.
    async fn hot(&self) -> Result<Measurement> {
        let reader = self.reader().await?;
        let wallets: Arc<Vec<WalletKey>> = Arc::new((1..=HOT_WALLETS).map(wallet).collect::<Result<_>>()?);
        for wallet in wallets.iter() {
            reader.get(wallet, None).await?;
        }
        let ours = in_tasks(HOT_TIME, |index| {
            let (reader, wallets) = (reader.clone(), Arc::clone(&wallets));
            async move {
                let wallet = wallets.get(index % wallets.len()).context("a wallet")?;
                reader.get(wallet, None).await?;
                Ok(())
            }
        })
        .await?;
        let mut clients = Vec::new();
        for _ in 0..TASKS {
            clients.push(Arc::new(self.database.connect().await?));
        }
        let statements: Vec<_> =
            futures_util::future::try_join_all(clients.iter().map(|client| client.prepare(SELECT))).await?;
        let peer = in_tasks(HOT_TIME, |index| {
            let client = clients.get(index % TASKS).cloned();
            let (statement, wallet) =
                (statements.get(index % TASKS).cloned(), wallets.get(index % wallets.len()).cloned());
            async move {
                let (client, statement, wallet) =
                    (client.context("client")?, statement.context("statement")?, wallet.context("wallet")?);
                client.query_one(&statement, &[&wallet.address, &wallet.network]).await?;
                Ok(())
            }
        })
        .await?;
        let setting = format!(
            "{HOT_WALLETS} hot wallets read by {TASKS} tasks for {} s through the library, whole profiles; the peer \
             reads the stored row by its primary key, each task over a connection of its own.",
            HOT_TIME.as_secs()
        );
        Ok(Measurement::new(HOT, (ours, peer), "reads/s", true).against("SELECT by primary key", setting))
    }

    /// Reads of PostgreSQL when a hot profile has expired under many clients.
    async fn storm(&self) -> Result<Measurement> {
        let readers = [self.reader().await?, self.reader().await?];
        let one = wallet(5)?;
        let mut redis = self.redis.clone();
        let mut loads = Vec::new();
        for _ in 0..5 {
            for reader in &readers {
                reader.get(&one, None).await?;
            }
            let keys: Vec<String> = redis.keys(format!("arx:*{{ethereum:{}}}:profile", one.address)).await?;
            let () = redis.del(keys).await?;
            // An own write has every reader drop its copy.
            self.forget(&one).await?;
            let before: u64 = readers.iter().map(WalletReader::database_reads).sum();
            let clients = (0..CLIENTS).map(|index| {
                let reader = readers.get(index % 2).cloned();
                let one = one.clone();
                async move { reader.context("reader")?.get(&one, None).await.map_err(anyhow::Error::from) }
            });
            futures_util::future::try_join_all(clients).await?;
            let after: u64 = readers.iter().map(WalletReader::database_reads).sum();
            loads.push(after - before);
        }
        loads.sort_unstable();
        let ours = loads.get(loads.len() / 2).copied().unwrap_or_default().max(1);
        // GET, then SELECT, then SETEX.
        let naive = Arc::new(AtomicU64::new(0));
        let statement = self.client.prepare(SELECT).await?;
        let clients = (0..CLIENTS).map(|_| {
            let (mut redis, client, naive) = (self.redis.clone(), Arc::clone(&self.client), Arc::clone(&naive));
            let (statement, one) = (statement.clone(), one.clone());
            async move {
                let found: Option<String> = redis.get("naive:hot").await?;
                if found.is_none() {
                    naive.fetch_add(1, Ordering::Relaxed);
                    client.query_one(&statement, &[&one.address, &one.network]).await?;
                    let () = redis.set_ex("naive:hot", "x", 60).await?;
                }
                Ok::<_, anyhow::Error>(())
            }
        });
        futures_util::future::try_join_all(clients).await?;
        let peer = naive.load(Ordering::Relaxed);
        let setting = format!(
            "One profile is removed from Redis and from two readers with {CLIENTS} clients in all, which then read it at \
             the same time; median of five. The peer gets, selects and sets."
        );
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let medians = (ours as f64, peer as f64);
        Ok(Measurement::new(STORM, medians, "reads of PostgreSQL", false).against("GET, SELECT, SETEX", setting))
    }

    /// Has every reader drop its copy of a profile.
    async fn forget(&self, wallet: &WalletKey) -> Result<()> {
        let mut redis = self.redis.clone();
        let keys: Vec<String> = redis.keys("arx:*:{state}:changes").await?;
        ensure!(keys.is_empty(), "a channel is no key");
        let watermark: Vec<String> = redis.keys("arx:*:{state}:watermark").await?;
        let channel = watermark.first().context("there is no watermark")?.replace(":watermark", ":changes");
        let _: i64 = redis.publish(channel, format!("note {}:{}", wallet.network, wallet.address)).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    /// Time from a commit until the watermark says that its changes are in Redis.
    async fn commit(&self) -> Result<Measurement> {
        let mut subscription = redis::Client::open(self.database.redis_url())?.get_async_pubsub().await?;
        let mut redis = self.redis.clone();
        let keys: Vec<String> = redis.keys("arx:*:{state}:watermark").await?;
        let channel = keys.first().context("there is no watermark")?.replace(":watermark", ":changes");
        subscription.subscribe(channel).await?;
        let (announced, mut sightings) = tokio::sync::mpsc::unbounded_channel();
        let listener = tokio::spawn(async move {
            let mut messages = subscription.into_on_message();
            while let Some(message) = messages.next().await {
                let at = Instant::now();
                let Ok(text) = message.get_payload::<String>() else { continue };
                let Ok(changes) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
                let wallets =
                    changes.get("wallets").and_then(|wallets| wallets.as_array()).cloned().unwrap_or_default();
                if !wallets.is_empty() && announced.send((at, wallets)).is_err() {
                    return;
                }
            }
        });
        let statement = self
            .client
            .prepare("UPDATE arx.wallet_profiles SET analytics_profile = analytics_profile || '{\"n\": 1}' WHERE wallet_address = ANY ($1)")
            .await?;
        let mut committed = std::collections::HashMap::new();
        let started = Instant::now();
        for batch in 0..BATCHES {
            let due = started + EVERY * u32::try_from(batch)?;
            tokio::time::sleep_until(due.into()).await;
            let first = batch * BATCH + 1;
            let addresses: Vec<String> = (first..first + BATCH).map(address).collect();
            self.client.execute(&statement, &[&addresses]).await?;
            let at = Instant::now();
            committed.extend(addresses.into_iter().map(|address| (format!("ethereum:{address}"), at)));
        }
        let reached = rate(BATCH * BATCHES, started.elapsed());
        let mut delays = Vec::with_capacity(committed.len());
        while !committed.is_empty() {
            let received = tokio::time::timeout(LIMIT, sightings.recv()).await.context("changes did not arrive")?;
            let (at, wallets) = received.context("the subscription ended")?;
            for wallet in wallets.iter().filter_map(|wallet| wallet.as_str()) {
                if let Some(commit) = committed.remove(wallet) {
                    delays.push(at.saturating_duration_since(commit).as_secs_f64());
                }
            }
        }
        listener.abort();
        delays.sort_by(f64::total_cmp);
        let percentile = |percent: usize| delays.get((delays.len() * percent / 100).min(delays.len() - 1)).copied();
        let (median, p99) = (percentile(50).unwrap_or_default(), percentile(99).context("there are no delays")?);
        let setting = format!(
            "One connection changes {BATCH} profiles in a transaction every {} ms, {BATCHES} times ({reached:.0} \
             changes/s were reached). The time of a change is from the end of its COMMIT until Redis announces that it is \
             there. Median {median:.3} s, 99th percentile {p99:.3} s.",
            EVERY.as_millis()
        );
        Ok(Measurement::new(COMMIT, (p99, TARGET), "s", false).against("the specification's limit", setting))
    }

    /// Acknowledged writes a second.
    async fn write_behind(&self) -> Result<Measurement> {
        let mut redis = self.redis.clone();
        let set = async |redis: &mut MultiplexedConnection, name: &str, value: &str| {
            redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async::<()>(redis).await
        };
        set(&mut redis, "appendonly", "yes").await?;
        set(&mut redis, "appendfsync", "everysec").await?;
        let ours = self.annotate().await?;
        set(&mut redis, "appendfsync", "always").await?;
        let always = self.annotate().await?;
        set(&mut redis, "appendfsync", "everysec").await?;
        set(&mut redis, "appendonly", "no").await?;
        let mut clients = Vec::new();
        for _ in 0..TASKS {
            let client = self.database.connect().await?;
            let statement = client.prepare(UPSERT).await?;
            clients.push(Arc::new((client, statement)));
        }
        let peer = in_tasks(WRITE_TIME, |index| {
            let client = clients.get(index % TASKS).cloned();
            async move {
                let client = client.context("client")?;
                let note = format!("{{\"note\": {index}}}");
                client.0.execute(&client.1, &[&address(700_000 + index as u64 % 50_000), &note]).await?;
                Ok(())
            }
        })
        .await?;
        let waits = || {
            let text = run(self.database.sidecar()?.args(["cache", "stats"]))?;
            Ok(!text.contains(" 0 queued"))
        };
        ensure!(wait_until(LIMIT, || waits().map(|waits| !waits))?, "writes were not applied within {LIMIT:?}");
        let setting = format!(
            "{TASKS} tasks add a note each, of random wallets, for {} s through the library, with `appendfsync everysec`; \
             with `always` {always:.0} writes/s. The peer upserts the note in a transaction of its own, each task over a \
             connection of its own, `synchronous_commit` on.",
            WRITE_TIME.as_secs()
        );
        Ok(Measurement::new(BEHIND, (ours, peer), "writes/s", true).against("one upsert a transaction", setting))
    }

    async fn annotate(&self) -> Result<f64> {
        let writer = Arc::new(WalletWriter::from_environment(Some(&self.settings)).await?);
        in_tasks(WRITE_TIME, |index| {
            let writer = Arc::clone(&writer);
            async move {
                let note = Annotation::parse(&format!("{{\"note\": {index}}}"))?;
                writer.annotate(&wallet(700_000 + index as u64 % 50_000)?, &note).await?;
                Ok(())
            }
        })
        .await
    }
}

/// Repeats work in tasks for some time. Returns how often a second it was done.
async fn in_tasks<F, W>(time: Duration, work: F) -> Result<f64>
where
    F: Fn(usize) -> W,
    W: Future<Output = Result<()>>,
{
    let (count, started) = (AtomicU64::new(0), Instant::now());
    let tasks = (0..TASKS).map(|task| {
        let (count, work) = (&count, &work);
        async move {
            let mut index = task;
            while started.elapsed() < time {
                work(index).await?;
                count.fetch_add(1, Ordering::Relaxed);
                index += TASKS;
                if index % (TASKS * 64) < TASKS {
                    tokio::task::yield_now().await;
                }
            }
            Ok::<_, anyhow::Error>(())
        }
    });
    futures_util::future::try_join_all(tasks).await?;
    Ok(rate(count.load(Ordering::Relaxed), started.elapsed()))
}
