//! The cases `alerts.*` and `health.check.*`: rules against SQL for each of them, decisions under
//! load, watchlists, delivery, and the health of the server against Prometheus' exporter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arx_stack::ports::free_ports;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Client;

use crate::graph::Runs;
use crate::report::{Measurement, Results, leave_out};
use crate::timing::{in_turn_async, median, millis};

const EVALUATE: &str = "alerts.evaluate.vs_sql_per_rule";
const OVERHEAD: &str = "alerts.insert_overhead";
const WEBHOOK: &str = "alerts.commit_to_webhook_p99";
const SCREEN: &str = "alerts.screen_transfer_p99";
const RESCREEN: &str = "alerts.rescreen_million.vs_all";
const HEALTH: &str = "health.check.vs_postgres_exporter";

const EXPORTER: &str = "prometheus-postgres-exporter";
const EXPORTER_QUERIES: &str = include_str!("exporter_queries.yaml");

/// Wallets of the generated transfers.
const WALLETS: u32 = 50_000;

const LIMIT: Duration = Duration::from_secs(120);

/// Calls a second of `screen_transfer()`, for how long, and over how many connections.
const SCREEN_RATE: u32 = 1_000;
const SCREEN_TIME: u32 = 20;
const SCREEN_CONNECTIONS: u32 = 8;
/// Longest times that the specification allows: of a decision in milliseconds, of an alert in
/// seconds.
const SCREEN_TARGET: f64 = 10.0;
const WEBHOOK_TARGET: f64 = 1.0;

/// Transfers that a webhook reports, one every 50 ms.
const REPORTED: u32 = 200;
const REPORTED_EVERY: Duration = Duration::from_millis(50);

const INSERT_SECONDS: u32 = 10;

/// Transfers that change the members of a watchlist.
const NEWS: u64 = 10_000;

/// Runs the cases. `rows` is the number of new transactions.
pub async fn measure(stack: &Stack, rows: u64, runs: Runs, wanted: &impl Fn(&str) -> bool, results: &mut Results) {
    if wanted(EVALUATE) {
        eprintln!("{EVALUATE}");
        results.add(EVALUATE, evaluate(stack, rows, runs.slow).await);
    }
    if wanted(OVERHEAD) {
        eprintln!("{OVERHEAD}");
        results.add(OVERHEAD, overhead(stack, runs.slow).await);
    }
    if wanted(WEBHOOK) {
        eprintln!("{WEBHOOK}");
        results.add(WEBHOOK, webhook(stack).await);
    }
    if wanted(SCREEN) {
        eprintln!("{SCREEN}");
        results.add(SCREEN, screen(stack, rows).await);
    }
    if wanted(RESCREEN) {
        eprintln!("{RESCREEN}");
        results.add(RESCREEN, rescreen(stack, rows * 2).await);
    }
    if wanted(HEALTH) {
        if std::process::Command::new(EXPORTER).arg("--version").output().is_ok() {
            eprintln!("{HEALTH}");
            results.add(HEALTH, health(stack, runs.fast).await);
        } else {
            leave_out([HEALTH].into_iter(), "prometheus-postgres-exporter is not installed");
        }
    }
}

/// An address with a number, as SQL. The digits of a hash, so that no prefix is common to all.
fn address_of(number: &str) -> String {
    format!("'0x' || md5(({number})::text) || '00000000'")
}

/// Adds transfers among [`WALLETS`] wallets, some of which have many: a value of up to 81 coins,
/// worth 2,000 dollars each.
fn transfers(first: u64, count: u64, start: &str, step: &str) -> String {
    let wallet = address_of(&format!("(random() ^ 2 * {})::integer", WALLETS - 1));
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, value_usd, status)
         SELECT 'ethereum', '0x' || lpad(to_hex(n), 64, '0'), n / 100, timestamptz '{start}' + (n - {first}) * interval '{step}',
                {wallet}, {wallet}, v, round(v * 2000, 2), 'confirmed'
           FROM (SELECT n, round((exp(random() * 9) / 100)::numeric, 6) AS v
                   FROM generate_series({first}, {}) AS n) AS s",
        first + count - 1
    )
}

/// Makes a database with `rows` transfers of the past, labels of 500 wallets, and no active rule.
fn prepared<'a>(stack: &'a Stack, name: &str, rows: u64) -> Result<Database<'a>> {
    let database = stack.database(name)?;
    let load = transfers(1, rows, "2024-01-01", "15 seconds");
    database.query(&format!(
        "SELECT setseed(0.26);
         SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-06-30');
         SELECT arx.ensure_partitions('arx.transactions', now(), now() + interval '1 day');
         INSERT INTO arx.address_labels (network, address, category, severity, source)
         SELECT 'ethereum', {}, (ARRAY['exchange','scam','sanctions','mixer'])[1 + n % 4], 'high', 'bench' FROM generate_series(1, 500) AS n;
         UPDATE arx.wallet_alert_rules SET state = 'retired' WHERE used_for <> 'screening';
         {load}",
        address_of("n * 97")
    ))?;
    database.query("VACUUM ANALYZE")?;
    Ok(database)
}

/// A rule, and the SQL that someone writes for it: transfers with the wallet that is judged.
struct Rule {
    name: &'static str,
    side: &'static str,
    condition: &'static str,
    peer: String,
}

const NEW: &str = "t.network = 'ethereum' AND t.\"timestamp\" >= '2024-05-01' AND t.status <> 'failed'";

fn plain(wallet: &str, condition: &str) -> String {
    format!("SELECT t.tx_hash, t.{wallet} FROM arx.transactions AS t WHERE {NEW} AND {condition}")
}

/// Counts or sums over a period before each transfer, which begins with the period before the
/// first.
fn windowed(wallet: &str, value: &str, period: &str, condition: &str) -> String {
    format!(
        "SELECT t.tx_hash, t.{wallet} FROM (
            SELECT t.*, {value} OVER (PARTITION BY t.{wallet} ORDER BY t.\"timestamp\" RANGE '{period}' PRECEDING) AS found
              FROM arx.transactions AS t
             WHERE t.network = 'ethereum' AND t.status <> 'failed' AND t.\"timestamp\" >= timestamptz '2024-05-01' - interval '{period}') AS t
          WHERE t.\"timestamp\" >= '2024-05-01' AND {condition}"
    )
}

fn labelled(wallet: &str, labelled: &str, label: &str, condition: &str) -> String {
    format!(
        "SELECT t.tx_hash, t.{wallet} FROM arx.transactions AS t
           JOIN arx.address_labels AS l ON l.network = t.network AND l.address = t.{labelled}
           JOIN arx.label_categories AS c ON c.category = l.category
          WHERE {NEW} AND {label} AND {condition}"
    )
}

const UNKNOWN_PAIR: &str = "NOT EXISTS (SELECT FROM arx.transactions AS p
    WHERE p.network = t.network AND p.from_address = t.from_address AND p.to_address = t.to_address AND p.\"timestamp\" < t.\"timestamp\")
    AND NOT EXISTS (SELECT FROM arx.transactions AS p
    WHERE p.network = t.network AND p.from_address = t.to_address AND p.to_address = t.from_address AND p.\"timestamp\" < t.\"timestamp\")";

fn rules() -> Vec<Rule> {
    let rule = |name, side, condition, peer| Rule { name, side, condition, peer };
    vec![
        rule("b01", "sender", r#"{"fact": "amount_usd", "op": ">=", "value": 150000}"#, plain("from_address", "t.value_usd >= 150000")),
        rule("b02", "receiver", r#"{"fact": "amount", "op": ">=", "value": 78}"#, plain("to_address", "t.value >= 78")),
        rule(
            "b03",
            "sender",
            r#"{"fact": "amount_usd", "op": "between", "value": [9900, 10000]}"#,
            plain("from_address", "t.value_usd BETWEEN 9900 AND 10000"),
        ),
        rule(
            "b04",
            "sender",
            r#"{"all": [{"fact": "counterparty_category", "op": "=", "value": "sanctions"}, {"fact": "amount_usd", "op": ">=", "value": 1000}]}"#,
            labelled("from_address", "to_address", "l.category = 'sanctions'", "t.value_usd >= 1000"),
        ),
        rule(
            "b05",
            "receiver",
            r#"{"all": [{"fact": "counterparty_kind", "op": "=", "value": "illicit"}, {"fact": "amount_usd", "op": ">=", "value": 20000}]}"#,
            labelled("to_address", "from_address", "c.kind = 'illicit'", "t.value_usd >= 20000"),
        ),
        rule(
            "b06",
            "sender",
            r#"{"all": [{"fact": "wallet_category", "op": "=", "value": "mixer"}, {"fact": "amount_usd", "op": ">=", "value": 20000}]}"#,
            labelled("from_address", "from_address", "l.category = 'mixer'", "t.value_usd >= 20000"),
        ),
        rule("b07", "sender", r#"{"fact": "count_1h", "op": ">=", "value": 20}"#, windowed("from_address", "count(*)", "1 hour", "t.found >= 20")),
        rule(
            "b08",
            "receiver",
            r#"{"fact": "count_24h", "op": ">=", "value": 220}"#,
            windowed("to_address", "count(*)", "24 hours", "t.found >= 220"),
        ),
        rule(
            "b09",
            "sender",
            r#"{"fact": "count_7d", "op": ">=", "value": 1350}"#,
            windowed("from_address", "count(*)", "168 hours", "t.found >= 1350"),
        ),
        rule(
            "b10",
            "sender",
            r#"{"fact": "sum_24h", "op": ">=", "value": 2200}"#,
            windowed("from_address", "sum(t.value)", "24 hours", "t.found >= 2200"),
        ),
        rule(
            "b11",
            "receiver",
            r#"{"fact": "sum_usd_1h", "op": ">=", "value": 600000}"#,
            windowed("to_address", "sum(t.value_usd)", "1 hour", "t.found >= 600000"),
        ),
        rule(
            "b12",
            "sender",
            r#"{"fact": "sum_usd_24h", "op": ">=", "value": 4500000}"#,
            windowed("from_address", "sum(t.value_usd)", "24 hours", "t.found >= 4500000"),
        ),
        rule(
            "b13",
            "receiver",
            r#"{"fact": "sum_usd_7d", "op": ">=", "value": 25000000}"#,
            windowed("to_address", "sum(t.value_usd)", "168 hours", "t.found >= 25000000"),
        ),
        rule(
            "b14",
            "sender",
            r#"{"fact": "below_10000_usd_24h", "op": ">=", "value": 16}"#,
            windowed(
                "from_address",
                "count(*) FILTER (WHERE t.value_usd >= 8000 AND t.value_usd < 10000)",
                "24 hours",
                "t.found >= 16",
            ),
        ),
        rule(
            "b15",
            "sender",
            r#"{"all": [{"fact": "days_idle", "op": ">=", "value": 20}, {"fact": "amount_usd", "op": ">=", "value": 100000}]}"#,
            plain(
                "from_address",
                "t.value_usd >= 100000 AND greatest(
                    (SELECT max(p.\"timestamp\") FROM arx.transactions AS p
                      WHERE p.network = t.network AND p.from_address = t.from_address AND p.\"timestamp\" < t.\"timestamp\"),
                    (SELECT max(p.\"timestamp\") FROM arx.transactions AS p
                      WHERE p.network = t.network AND p.to_address = t.from_address AND p.\"timestamp\" < t.\"timestamp\"))
                  <= t.\"timestamp\" - interval '480 hours'",
            ),
        ),
        rule(
            "b16",
            "sender",
            r#"{"all": [{"fact": "is_new_counterparty", "op": "=", "value": true}, {"fact": "amount_usd", "op": ">=", "value": 140000}]}"#,
            plain("from_address", &format!("t.value_usd >= 140000 AND {UNKNOWN_PAIR}")),
        ),
        rule(
            "b17",
            "receiver",
            r#"{"all": [{"fact": "is_new_counterparty", "op": "=", "value": true}, {"fact": "counterparty_kind", "op": "=", "value": "illicit"}, {"fact": "amount_usd", "op": ">=", "value": 10000}]}"#,
            labelled("to_address", "from_address", "c.kind = 'illicit'", &format!("t.value_usd >= 10000 AND {UNKNOWN_PAIR}")),
        ),
        rule(
            "b18",
            "sender",
            r#"{"fact": "counterparty_watched", "op": "=", "value": true}"#,
            plain("from_address", "EXISTS (SELECT FROM arx.watchlists AS w WHERE w.network = t.network AND w.address = t.to_address)"),
        ),
        rule(
            "b19",
            "sender",
            r#"{"all": [{"fact": "wallet_watched", "op": "=", "value": true}, {"fact": "amount_usd", "op": ">=", "value": 50000}]}"#,
            plain(
                "from_address",
                "t.value_usd >= 50000 AND EXISTS (SELECT FROM arx.watchlists AS w WHERE w.network = t.network AND w.address = t.from_address)",
            ),
        ),
        rule(
            "b20",
            "sender",
            r#"{"fact": "sum_usd_24h", "op": ">", "than": "amount_usd", "times": 100000}"#,
            windowed("from_address", "sum(t.value_usd)", "24 hours", "t.found > t.value_usd * 100000"),
        ),
    ]
}

/// Adds the rules as active ones. None is paused for its share: both sides store every hit.
fn activate(database: &Database<'_>, rules: &[Rule]) -> Result<()> {
    for rule in rules {
        database.query(&format!(
            "SELECT arx.set_alert_rule('{0}', '{1}', 'bench', side => '{2}', max_share => 1); SELECT arx.set_alert_rule_state('{0}', 1, 'active')",
            rule.name, rule.condition, rule.side
        ))?;
    }
    Ok(())
}

async fn evaluate(stack: &Stack, rows: u64, runs: usize) -> Result<Measurement> {
    let database = prepared(stack, "alerts_evaluate", rows)?;
    database.query(&format!(
        "INSERT INTO arx.watchlists (watchlist, network, address) SELECT 'w', 'ethereum', {} FROM generate_series(1, 150) AS n;
         SELECT count(*) FROM arx.check_wallet_alerts();
         CREATE TABLE public.hits (rule text, tx_hash text, address text, PRIMARY KEY (rule, tx_hash, address))",
        address_of("n * 331")
    ))?;
    let rules = rules();
    activate(&database, &rules)?;
    database.query(&transfers(100_000_001, rows, "2024-05-01", "2 seconds"))?;
    database.query("VACUUM ANALYZE")?;
    let client = database.connect().await?;
    client.batch_execute("SET jit = off; SET work_mem = '256MB'").await?;
    // A run that is rolled back leaves the transactions new for the next one.
    let side = async |statements: &[String], hits: &str| -> Result<(f64, i64, String)> {
        client.batch_execute("BEGIN").await?;
        let start = Instant::now();
        for statement in statements {
            client.batch_execute(statement).await.with_context(|| format!("run {statement}"))?;
        }
        let took = millis(start);
        let digest = format!(
            "SELECT count(*), coalesce(md5(string_agg(h::text, ';' ORDER BY h::text COLLATE \"C\")), '') \
               FROM (SELECT DISTINCT rule, tx_hash, address FROM {hits}) AS h"
        );
        let row = client.query_one(&digest, &[]).await?;
        client.batch_execute("ROLLBACK").await?;
        Ok((took, row.get(0), row.get(1)))
    };
    let ours = ["SELECT count(*) FROM arx.check_wallet_alerts()".to_owned()];
    let theirs: Vec<String> = rules
        .iter()
        .map(|rule| {
            format!(
                "INSERT INTO public.hits (rule, tx_hash, address) SELECT '{}', f.* FROM ({}) AS f ON CONFLICT DO NOTHING",
                rule.name, rule.peer
            )
        })
        .collect();
    let (_, our_hits, our_digest) = side(&ours, "arx.wallet_alert_hits").await?;
    let (_, peer_hits, peer_digest) = side(&theirs, "public.hits").await?;
    ensure!(our_digest == peer_digest, "the sides find different hits: ours {our_hits}, the peer {peer_hits}");
    ensure!(our_hits > 0, "no rule fires");
    let medians = in_turn_async(
        runs,
        async |_| Ok(side(&ours, "arx.wallet_alert_hits").await?.0),
        async |_| Ok(side(&theirs, "public.hits").await?.0),
    )
    .await?;
    let setting = format!(
        "{} rules over {rows} new transactions after {rows} earlier ones of {WALLETS} wallets; the same {our_hits} hits. Ours \
         also groups them into alerts and writes their history. The peer is one INSERT … SELECT a rule, which knows the first \
         new time. {runs} runs.",
        rules.len()
    );
    Ok(Measurement::new(EVALUATE, medians, "ms", false).against("one SQL statement a rule", setting))
}

/// Inserts a second of two clients of pgbench, each in a transaction of its own.
fn inserts(stack: &Stack, database: &Database<'_>, run_number: usize) -> Result<f64> {
    let script = stack.folder().join(format!("insert-{run_number}.sql"));
    let text = format!(
        "\\set a random(1, {WALLETS})\n\\set b random(1, {WALLETS})\n\\set v exp(random(0, 9000) / 1000.0) / 100\n\
         INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, value_usd, status) \
         VALUES ('ethereum', gen_random_uuid()::text, 1, now(), {}, {}, round(:v::numeric, 6), round(:v::numeric * 2000, 2), 'confirmed');\n",
        address_of(":a"),
        address_of(":b")
    );
    std::fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;
    let mut command = stack.cluster().program("pgbench");
    command.args(["-n", "-c", "2", "-T", &INSERT_SECONDS.to_string(), "-f"]).arg(&script).arg(database.name());
    let output = run(&mut command)?;
    let line = output.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench reports no rate")?;
    line.split(' ').next().context("a rate")?.parse().context("read the rate of pgbench")
}

async fn overhead(stack: &Stack, runs: usize) -> Result<Measurement> {
    let database = prepared(stack, "alerts_overhead", 100_000)?;
    database.query("SELECT count(*) FROM arx.check_wallet_alerts()")?;
    activate(&database, &rules())?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    inserts(stack, &database, 0)?;
    for number in 1..=runs {
        let mut judge = database.sidecar()?;
        let log = format!("deliver-{number}");
        let pid = stack.start_server(&log, judge.args(["deliver", "--judge"]))?;
        with.push(inserts(stack, &database, number)?);
        let judged = || {
            Ok(database.query(
                "SELECT coalesce(max(rows_total), 0) > 0 FROM arx.feed_positions WHERE consumer = 'wallet_alerts'",
            )? == "t")
        };
        ensure!(wait_until(LIMIT, judged)?, "the sidecar judged nothing; see {log}.log");
        stop(stack, pid)?;
        database.query("SELECT count(*) FROM arx.check_wallet_alerts()")?;
        without.push(inserts(stack, &database, number)?);
        database.query("SELECT count(*) FROM arx.check_wallet_alerts()")?;
    }
    let share = database.query(
        "SELECT round(100.0 * (SELECT count(*) FROM arx.wallet_alert_hits)
                      / (SELECT count(*) FROM arx.transactions WHERE \"timestamp\" > now() - interval '1 day'), 1)",
    )?;
    let medians = (median(&with)?, median(&without)?);
    let setting = format!(
        "pgbench with two clients, which insert single transactions for {INSERT_SECONDS} s: with {} active rules and \
         `arx-sidecar deliver --judge`, which judges them meanwhile, and without. Values are distributed as in the other \
         cases: there are {share} hits in a hundred transactions. {runs} runs.",
        rules().len()
    );
    Ok(Measurement::new(OVERHEAD, medians, "inserts/s", true).against("no rules", setting))
}

fn stop(stack: &Stack, pid: u32) -> Result<()> {
    run(std::process::Command::new("kill").args(["-s", "TERM", &pid.to_string()]))?;
    ensure!(wait_until(LIMIT, || Ok(stack.ended(pid).is_some()))?, "process {pid} did not end");
    Ok(())
}

fn percentile(sorted: &[f64], percent: usize) -> Result<f64> {
    let last = sorted.len().checked_sub(1).context("nothing was measured")?;
    Ok(sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or_default())
}

/// Accepts webhooks, and sends their bodies with the instants of their arrival.
async fn receive(listener: TcpListener, arrivals: tokio::sync::mpsc::UnboundedSender<(Instant, String)>) {
    while let Ok((stream, _)) = listener.accept().await {
        let arrivals = arrivals.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            while let Some(body) = read_request(&mut stream).await {
                let _ = arrivals.send((Instant::now(), body));
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    String::from_utf8(body).ok()
}

async fn webhook(stack: &Stack) -> Result<Measurement> {
    let database = prepared(stack, "alerts_webhook", 100_000)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let target = format!("http://{}/alerts", listener.local_addr()?);
    let (arrivals, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let receiver = tokio::spawn(receive(listener, arrivals));
    database.query("SELECT count(*) FROM arx.check_wallet_alerts()")?;
    activate(&database, &rules())?;
    database.query(&format!(
        "SELECT arx.set_alert_rule('reported', '{{\"fact\": \"amount\", \"op\": \"=\", \"value\": 5000}}', 'bench', side => 'sender', max_share => 1);
         SELECT arx.set_alert_rule_state('reported', 1, 'active');
         INSERT INTO arx.alert_destinations (destination, kind, target) VALUES ('bench', 'webhook', '{target}')"
    ))?;
    let pid = stack.start_server("deliver-webhook", database.sidecar()?.args(["deliver", "--judge"]))?;
    let client = database.connect().await?;
    let insert = client
        .prepare(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, value_usd, status)
             VALUES ('ethereum', $1, 1, now(), {}, {}, 5000, 1, 'confirmed')",
            address_of("'sender' || $1::text"),
            address_of("'receiver'")
        ))
        .await?;
    let mut committed = HashMap::new();
    let started = Instant::now();
    // The first one waits for the start of the sidecar, and is not counted.
    client.execute(&insert, &[&"reported-first"]).await?;
    let mut delays = Vec::new();
    let first = tokio::time::timeout(LIMIT, arrived.recv()).await.context("no alert arrived")?;
    ensure!(first.is_some_and(|(_, body)| body.contains("reported-first")), "another alert arrived first");
    for number in 0..REPORTED {
        let hash = format!("reported-{number}-end");
        client.execute(&insert, &[&hash]).await?;
        committed.insert(hash, Instant::now());
        tokio::time::sleep(REPORTED_EVERY).await;
    }
    while !committed.is_empty() {
        let next = tokio::time::timeout(LIMIT, arrived.recv()).await;
        let (at, body) =
            next.with_context(|| format!("{} alerts did not arrive", committed.len()))?.context("receiver")?;
        let alert: serde_json::Value = serde_json::from_str(&body)?;
        let evidence = alert.pointer("/data/evidence").and_then(|evidence| evidence.as_array()).cloned();
        for transfer in evidence.unwrap_or_default() {
            let hash = transfer.get("tx_hash").and_then(|hash| hash.as_str()).unwrap_or_default();
            if let Some(commit) = committed.remove(hash) {
                delays.push(at.saturating_duration_since(commit).as_secs_f64());
            }
        }
    }
    receiver.abort();
    stop(stack, pid)?;
    delays.sort_by(f64::total_cmp);
    let (middle, p99) = (percentile(&delays, 50)?, percentile(&delays, 99)?);
    let setting = format!(
        "{REPORTED} transfers of as many wallets, one every {} ms, with {} active rules; `arx-sidecar deliver --judge` judges and \
         sends. From the end of the COMMIT until the receiver has read the request. Median {middle:.3} s, 99th percentile \
         {p99:.3} s, {:.0} s in all.",
        REPORTED_EVERY.as_millis(),
        rules().len() + 1,
        started.elapsed().as_secs_f64()
    );
    Ok(Measurement::new(WEBHOOK, (p99, WEBHOOK_TARGET), "s", false).against("the specification's limit", setting))
}

async fn screen(stack: &Stack, rows: u64) -> Result<Measurement> {
    let database = prepared(stack, "alerts_screen", rows)?;
    database.query("SELECT transfers FROM arx.refresh_graph()")?;
    let text = format!(
        "SELECT decision, complete FROM arx.screen_transfer('ethereum', {}, {}, 'native', $3::float8::numeric, amount_usd => $4::float8::numeric)",
        address_of("$1::integer"),
        address_of("$2::integer")
    );
    let text = text.as_str();
    let mut sessions = Vec::new();
    for number in 0..SCREEN_CONNECTIONS {
        let client = database.connect().await?;
        let statement = client.prepare(text).await?;
        // Plans, labels and the graph of a session are loaded by its first calls.
        for call in 0..10 {
            decide(&client, &statement, number * 10 + call).await?;
        }
        sessions.push(Arc::new((client, statement)));
    }
    // Calls come at their times, whatever the earlier ones do: the time of one is from then on.
    let started = Instant::now() + Duration::from_millis(100);
    let calls = SCREEN_RATE * SCREEN_TIME;
    let workers = sessions.iter().enumerate().map(|(worker, session)| {
        let session = Arc::clone(session);
        async move {
            let mut delays = Vec::new();
            for call in (0..calls).skip(worker).step_by(SCREEN_CONNECTIONS as usize) {
                let due = started + Duration::from_secs(1) * call / SCREEN_RATE;
                tokio::time::sleep_until(due.into()).await;
                decide(&session.0, &session.1, call).await?;
                delays.push(millis(due));
            }
            Ok::<_, anyhow::Error>(delays)
        }
    });
    let mut delays = futures_util::future::try_join_all(workers).await?.concat();
    let took = started.elapsed();
    let stored: i64 = database.query("SELECT count(*) FROM arx.decisions")?.parse()?;
    ensure!(stored >= i64::from(calls), "{stored} of {calls} decisions are stored");
    ensure!(
        database.query("SELECT bool_and(intact) FROM arx.verify_audit_log()")? == "t",
        "the audit log is not intact"
    );
    delays.sort_by(f64::total_cmp);
    let (middle, p99) = (percentile(&delays, 50)?, percentile(&delays, 99)?);
    let setting = format!(
        "{calls} decisions, {SCREEN_RATE} a second over {SCREEN_CONNECTIONS} connections, about random wallets of {rows} \
         transfers, each stored durably ({:.0} a second were reached). A call is late from the time at which it is due. \
         Median {middle:.2} ms, 99th percentile {p99:.2} ms.",
        f64::from(calls) / took.as_secs_f64()
    );
    Ok(Measurement::new(SCREEN, (p99, SCREEN_TARGET), "ms", false).against("the specification's limit", setting))
}

async fn decide(client: &Client, statement: &tokio_postgres::Statement, call: u32) -> Result<()> {
    let wallet = |factor: u32| i32::try_from(call.wrapping_mul(factor) % WALLETS).unwrap_or_default();
    let amount = f64::from(call % 50);
    let row = client.query_one(statement, &[&wallet(7_919), &wallet(104_729), &amount, &(amount * 2_000.0)]).await?;
    let decision: String = row.get(0);
    ensure!(["allow", "review", "block"].contains(&decision.as_str()), "{decision} is no decision");
    Ok(())
}

async fn rescreen(stack: &Stack, members: u64) -> Result<Measurement> {
    let database = stack.database("alerts_rescreen")?;
    let wallet = |number: &str| format!("'0x' || md5(({number})::text) || '00000000'");
    let pairs = |first: u64, count: u64, step: u64, start: &str| {
        format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'ethereum', '0x' || lpad(to_hex(n), 64, '0'), n / 100, timestamptz '{start}' + (n - {first}) * interval '2 seconds',
                    {}, {}, 1 + n % 9, 'confirmed' FROM generate_series({first}, {}) AS n",
            wallet(&format!("n::bigint * {step} % {members}")),
            wallet(&format!("(n::bigint * {step} * 7919 + 13) % {members}")),
            first + count - 1
        )
    };
    let news = NEWS.min(members / 100);
    database.query(&format!(
        "SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31');
         INSERT INTO arx.address_labels (network, address, category, severity, source)
         SELECT 'ethereum', {}, (ARRAY['exchange','scam','sanctions','mixer'])[1 + n % 4], 'high', 'bench' FROM generate_series(1, 500) AS n;
         {};
         INSERT INTO arx.watchlists (watchlist, network, address) SELECT 'all', 'ethereum', {} FROM generate_series(0, {members} - 1) AS n",
        wallet("n * 997"),
        pairs(1, members, 1, "2024-01-01"),
        wallet("n")
    ))?;
    database.query("VACUUM ANALYZE")?;
    database.query("SELECT transfers FROM arx.refresh_graph()")?;
    let client = database.connect().await?;
    let judge = async |everything: bool| -> Result<(f64, i64)> {
        let start = Instant::now();
        let row = client
            .query_one("SELECT coalesce(sum(judged), 0)::bigint FROM arx.rescreen_watchlists($1)", &[&everything])
            .await?;
        Ok((millis(start), row.get(0)))
    };
    judge(false).await?;
    // As autovacuum does after these rows.
    database.query("VACUUM ANALYZE arx.watchlist_results, arx.watchlist_queue")?;
    // An hour's transfers are those of a few thousand wallets.
    let active = members / 500;
    database
        .query(&pairs(100_000_001, news, 17, "2024-03-01").replace(&format!("% {members}"), &format!("% {active}")))?;
    let (ours, judged) = judge(false).await?;
    let differing = database.query("SELECT count(*) FROM arx.verify_watchlists()")?;
    ensure!(differing == "0", "{differing} members have another answer than by judging all of them");
    let (peer, all) = judge(true).await?;
    ensure!(judged > 0 && all == i64::try_from(members)?, "{judged} and {all} of {members} members were judged");
    let setting = format!(
        "{members} members; {news} new transfers among {active} of them, after which {judged} of them are judged again. The answers equal those of \
         judging all. The peer judges all of them."
    );
    Ok(Measurement::new(RESCREEN, (ours, peer), "ms", false).against("judging all members", setting))
}

/// The answer of the exporter.
async fn scrape(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    ensure!(text.starts_with("HTTP/1.0 200"), "the exporter answers {}", text.lines().next().unwrap_or_default());
    Ok(text)
}

/// Returns the largest value of a metric of the exporter.
fn exported(text: &str, metric: &str) -> Result<f64> {
    let values = text.lines().filter(|line| line.starts_with(metric)).filter_map(|line| {
        let is_it = matches!(line.as_bytes().get(metric.len()), Some(b'{' | b' '));
        is_it.then(|| line.rsplit(' ').next()?.parse().ok()).flatten()
    });
    values.reduce(f64::max).with_context(|| format!("the exporter has no {metric}"))
}

async fn health(stack: &Stack, runs: usize) -> Result<Measurement> {
    let database = prepared(stack, "health", 200_000)?;
    database.query(
        "SELECT arx.ensure_partitions('arx.transactions', '2017-01-01', '2024-01-01');
         CREATE SEQUENCE public.numbers MAXVALUE 1000; SELECT setval('public.numbers', 437);
         UPDATE arx.transactions SET block_number = block_number + 1 WHERE \"timestamp\" < '2024-01-20'",
    )?;
    database.query("ANALYZE")?;
    let queries = stack.folder().join("exporter.yaml");
    std::fs::write(&queries, EXPORTER_QUERIES).with_context(|| format!("write {}", queries.display()))?;
    let [port] = free_ports()?;
    let mut exporter = std::process::Command::new(EXPORTER);
    exporter
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--extend.query-path={}", queries.display()))
        .env("DATA_SOURCE_NAME", format!("{} sslmode=disable", database.connection()));
    let pid = stack.start_server("exporter", &exporter)?;
    let started = Instant::now();
    while scrape(port).await.is_err() {
        ensure!(started.elapsed() < LIMIT, "the exporter does not answer; see exporter.log");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let client = database.connect().await?;
    let statement = client.prepare("SELECT * FROM arx.health_check()").await?;
    let text = scrape(port).await?;
    ensure!(exported(&text, "pg_exporter_last_scrape_error")? == 0.0, "the exporter reports an error");
    ensure!(
        exported(&text, "pg_exporter_user_queries_load_error").unwrap_or(0.0) == 0.0,
        "the queries were not loaded"
    );
    for (fact, metric) in [
        ("sequence_used_pct", "arx_bench_sequences_used_pct"),
        ("invalid_indexes", "arx_bench_invalid_indexes_indexes"),
        ("default_partition_rows", "arx_bench_default_rows_transactions"),
        ("slot_retained_bytes", "arx_bench_slots_retained"),
    ] {
        let ours = client
            .query_one("SELECT coalesce(max(value), 0) FROM arx.health_facts() WHERE metric = $1", &[&fact])
            .await?
            .get::<_, f64>(0);
        let peer = if fact == "slot_retained_bytes" {
            exported(&text, metric).unwrap_or(0.0)
        } else {
            exported(&text, metric)?
        };
        ensure!((ours - peer).abs() < 1e-6, "{fact} is {ours}, and {metric} is {peer}");
    }
    let ours = async |_: usize| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            ensure!(!client.query(&statement, &[]).await?.is_empty(), "nothing was checked");
            times.push(millis(start));
        }
        median(&times)
    };
    let peer = async |_: usize| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            scrape(port).await?;
            times.push(millis(start));
        }
        median(&times)
    };
    ours(0).await?;
    let medians = in_turn_async(runs, ours, peer).await?;
    stop(stack, pid)?;
    let tables = database.query(
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'i', 'm') AND relnamespace = 'arx'::regnamespace",
    )?;
    let setting = format!(
        "`health_check()` of a database with {tables} tables and indexes of the schema, in one connection. The peer is Debian's \
         prometheus-postgres-exporter with queries for the facts that it does not collect by itself, one scrape over the \
         loopback; it judges nothing. Some facts were compared. {runs} runs."
    );
    Ok(Measurement::new(HEALTH, medians, "ms", false).against(EXPORTER, setting))
}
