//! Alerts about wallets under load: a transfer is judged once and only once, whatever commits late,
//! however many runs there are, and whichever of them is killed. Decisions of concurrent sessions
//! keep the audit log intact.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};

const WRITERS: usize = 4;
const ROUNDS: usize = 12;

const SETUP: &str = "
    INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
    INSERT INTO arx.address_labels (network, address, category, severity, source)
    VALUES ('testnet', 'bad', 'sanctions', 'severe', 'list');
    UPDATE arx.wallet_alert_rules SET state = 'retired' WHERE rule <> 'sanctions_hit';
    UPDATE arx.wallet_alert_rules SET state = 'active' WHERE rule = 'sanctions_hit'";

/// Rows of a round: three transfers to a sanctioned wallet and one to another.
fn rows(writer: usize, round: usize) -> String {
    let row = |number: usize, receiver: &str| {
        format!(
            "('testnet', 'h{writer}-{round}-{number}', {round}, '2024-01-01', 'w{writer}', '{receiver}', 1, 'confirmed')"
        )
    };
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         VALUES {}, {}, {}, {}",
        row(1, "bad"),
        row(2, "bad"),
        row(3, "bad"),
        row(4, "good")
    )
}

/// Writes rounds of rows that are committed some time after they were written.
fn write(database: &Database<'_>, writer: usize) {
    for round in 0..ROUNDS {
        let delay = (writer * 7 + round * 3) % 10;
        let sql = format!("BEGIN; {}; SELECT pg_sleep(0.0{delay}); COMMIT", rows(writer, round));
        database.query(&sql).unwrap();
    }
}

#[test]
fn every_transfer_is_judged_once_and_only_once() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("wallet_alerts").unwrap();
    database.query(SETUP).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let database = &database;
                    move || write(database, writer)
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    database.query("SELECT count(*) FROM arx.check_wallet_alerts()").unwrap();
                }
            });
        }
        // Runs that are killed leave nothing behind.
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let run = "SELECT count(*) FROM arx.check_wallet_alerts(); SELECT pg_sleep(0.01) /* victim */";
                let mut victim = database.psql();
                let victim = victim.args(["-1", "-c", run]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                thread::sleep(Duration::from_millis(40));
                let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                             WHERE datname = current_database() AND query LIKE '%/* vic' || 'tim */%' AND pid <> pg_backend_pid()";
                database.query(kill).unwrap();
                victim.unwrap().wait().unwrap();
            }
        });
        let outcomes: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok), "a writer failed");
    });
    database.query("SELECT count(*) FROM arx.check_wallet_alerts()").unwrap();
    // Both sides of each transfer to the sanctioned wallet, once.
    let hits = WRITERS * ROUNDS * 3 * 2;
    let found = "SELECT count(*), count(DISTINCT (tx_hash, direction)), count(*) FILTER (WHERE alert_id IS NULL) FROM arx.wallet_alert_hits";
    assert_eq!(database.query(found).unwrap(), format!("{hits}|{hits}|0"));
    let sums = "SELECT sum(hits), count(*), count(DISTINCT address) FROM arx.wallet_alerts";
    assert_eq!(database.query(sums).unwrap(), format!("{hits}|{}|{}", WRITERS + 1, WRITERS + 1));
    assert_eq!(database.query("SELECT bool_and(intact) FROM arx.verify_audit_log()").unwrap(), "t");
}

#[test]
fn decisions_of_concurrent_sessions_do_not_wait_and_keep_the_log_intact() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("decisions").unwrap();
    database.query(SETUP).unwrap();
    // A session that stays open has screened, and holds its chain.
    let mut open = database.psql();
    let screen = "SELECT decision FROM arx.screen_transfer('testnet', 'a', 'bad', 'native', 1)";
    let held = format!("BEGIN; {screen}; SELECT pg_sleep(600)");
    let mut open = open.args(["-c", &held]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    assert!(wait_until(Duration::from_secs(60), || Ok(database.query(sleeping)? == "1")).unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let answer = database.query(&format!("SET statement_timeout = '20s'; {screen}")).unwrap();
                    assert!(answer.ends_with("block"), "{answer}");
                }
            });
        }
        // The same transfer of two sessions is decided once.
        for _ in 0..2 {
            scope.spawn(|| {
                let once = "SELECT decision FROM arx.screen_transfer('testnet', 'a', 'bad', 'native', 1, external_id => 'same')";
                assert_eq!(database.query(once).unwrap(), "block");
            });
        }
    });
    database.query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").unwrap();
    open.wait().unwrap();
    let log = "SELECT entries, problems, intact FROM arx.verify_audit_log() WHERE log = 'decisions'";
    assert_eq!(database.query(log).unwrap(), "21|0|t");
    assert_eq!(database.query("SELECT count(*) FROM arx.decisions WHERE external_id = 'same'").unwrap(), "1");
}

/// A random change of what the members' answers depend on.
fn random_change(random: &mut fastrand::Rng, number: usize) -> String {
    let mut wallet = || format!("w{}", random.u8(0..30));
    let (a, b) = (wallet(), wallet());
    match random.u8(0..10) {
        0..=4 => format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             VALUES ('testnet', 'r{number}', {number}, '2024-01-01'::timestamptz + {number} * interval '1 hour', '{a}', '{b}', {}, 'confirmed')",
            random.u32(1..100)
        ),
        5 => format!("DELETE FROM arx.transactions WHERE from_address = '{a}'"),
        6 => format!("UPDATE arx.transactions SET value = value * 2, to_address = '{b}' WHERE to_address = '{a}'"),
        7 => format!(
            "INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', '{a}', '{}', 'high', 'x')
             ON CONFLICT DO NOTHING",
            ["scam", "exchange", "sanctions"][random.usize(0..3)]
        ),
        8 => format!("DELETE FROM arx.address_labels WHERE address = '{a}'"),
        _ => format!(
            "INSERT INTO arx.watchlists (watchlist, network, address) VALUES ('more', 'testnet', '{a}') ON CONFLICT DO NOTHING;
             DELETE FROM arx.watchlists WHERE address = '{b}' AND watchlist = 'more'"
        ),
    }
}

#[test]
fn members_judged_where_they_may_have_changed_equal_all_members_judged() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("watchlists").unwrap();
    database.query(SETUP).unwrap();
    database
        .query("INSERT INTO arx.watchlists (watchlist, network, address) SELECT 'all', 'testnet', 'w' || n FROM generate_series(0, 19) AS n")
        .unwrap();
    let mut random = fastrand::Rng::with_seed(26);
    let mut judged = 0;
    for step in 0..30 {
        let changes: Vec<String> =
            (0..random.usize(1..4)).map(|change| random_change(&mut random, step * 10 + change)).collect();
        database.query(&changes.join(";\n")).unwrap();
        let answer = database.query("SELECT coalesce(sum(judged), 0) FROM arx.rescreen_watchlists()").unwrap();
        judged += answer.parse::<usize>().unwrap();
        let differing = database.query("SELECT string_agg(v::text, ', ') FROM arx.verify_watchlists() AS v").unwrap();
        assert_eq!(differing, "", "after step {step}: {}", changes.join(";\n"));
    }
    // Fewer than judging about 22 members each time.
    assert!((1..30 * 20).contains(&judged), "{judged}");
}

/// A rule, the side that it judges, its condition, and the same in plain SQL over `public.facts`.
const RULES: [(&str, &str, &str, &str); 15] = [
    ("amount", "any", r#"{"fact": "amount", "op": ">=", "value": 95}"#, "amount >= 95"),
    (
        "dollars",
        "sender",
        r#"{"fact": "amount_usd", "op": "between", "value": [9900, 9990]}"#,
        "amount_usd BETWEEN 9900 AND 9990",
    ),
    (
        "unpriced",
        "receiver",
        r#"{"all": [{"fact": "amount_usd", "op": "unknown"}, {"fact": "amount", "op": ">", "value": 80}]}"#,
        "amount_usd IS NULL AND amount > 80",
    ),
    ("hour", "any", r#"{"fact": "count_1h", "op": ">=", "value": 4}"#, "count_1h >= 4"),
    (
        "week",
        "sender",
        r#"{"all": [{"fact": "count_7d", "op": ">=", "value": 12}, {"not": {"fact": "count_24h", "op": ">", "value": 5}}]}"#,
        "count_7d >= 12 AND NOT count_24h > 5",
    ),
    ("sum", "any", r#"{"fact": "sum_24h", "op": ">", "than": "amount", "times": 5.5}"#, "sum_24h > amount * 5.5"),
    // No single amount is above 1.16e77.
    ("beyond", "any", r#"{"fact": "sum_24h", "op": ">", "value": 2e77}"#, "sum_24h > 2e77"),
    (
        "sum_usd",
        "receiver",
        r#"{"any": [{"fact": "sum_usd_1h", "op": ">=", "value": 25000}, {"fact": "sum_usd_7d", "op": ">=", "value": 110000}]}"#,
        "sum_usd_1h >= 25000 OR sum_usd_7d >= 110000",
    ),
    (
        "below",
        "sender",
        r#"{"all": [{"fact": "below_10000_usd_24h", "op": ">=", "value": 4}, {"fact": "sum_usd_24h", "op": "<>", "value": 1}]}"#,
        "below_10000_usd_24h >= 4 AND sum_usd_24h <> 1",
    ),
    (
        "bad",
        "any",
        r#"{"all": [{"fact": "counterparty_kind", "op": "=", "value": "illicit"}, {"fact": "asset", "op": "in", "value": ["native", "t1"]}, {"fact": "amount", "op": ">", "value": 50}]}"#,
        "counterparty_kind = 'illicit' AND asset IN ('native', 't1') AND amount > 50",
    ),
    (
        "unlabelled",
        "sender",
        r#"{"all": [{"fact": "wallet_category", "op": "unknown"}, {"fact": "relation", "op": "=", "value": "internal_transfers"}, {"fact": "amount", "op": ">", "value": 60}]}"#,
        "wallet_category IS NULL AND relation = 'internal_transfers' AND amount > 60",
    ),
    (
        "watched",
        "receiver",
        r#"{"all": [{"fact": "counterparty_watched", "op": "=", "value": true}, {"fact": "wallet_watched", "op": "=", "value": false}]}"#,
        "counterparty_watched AND NOT wallet_watched",
    ),
    ("idle", "any", r#"{"fact": "days_idle", "op": ">=", "value": 9}"#, "days_idle >= 9"),
    (
        "stranger",
        "any",
        r#"{"all": [{"fact": "is_new_counterparty", "op": "=", "value": true}, {"fact": "amount", "op": ">", "value": 40}]}"#,
        "is_new_counterparty AND amount > 40",
    ),
    (
        "everything",
        "any",
        r#"{"any": [
        {"all": [{"fact": "amount", "op": "between", "value": [20, 24]}, {"fact": "days_idle", "op": ">=", "value": 0}, {"fact": "is_new_counterparty", "op": "known"}]},
        {"all": [{"fact": "amount", "op": "=", "value": 25}, {"fact": "count_1h", "op": ">", "value": 0}, {"fact": "count_24h", "op": ">", "value": 0},
                 {"fact": "count_7d", "op": ">", "value": 0}, {"fact": "sum_24h", "op": ">=", "value": 0}, {"fact": "below_10000_usd_24h", "op": ">=", "value": 0}]},
        {"all": [{"fact": "amount", "op": "=", "value": 26}, {"any": [{"fact": "sum_usd_1h", "op": ">", "value": 0}, {"fact": "sum_usd_24h", "op": ">", "value": 0}, {"fact": "sum_usd_7d", "op": "unknown"}]}]}]}"#,
        "amount BETWEEN 20 AND 24 AND days_idle >= 0 AND is_new_counterparty IS NOT NULL OR amount IN (25) AND true
         OR amount = 26 AND (sum_usd_1h > 0 OR sum_usd_24h > 0 OR sum_usd_7d IS NULL)",
    ),
];

/// Facts of all sides, each by comparing it with the others.
const PLAIN: &str = "
    DROP TABLE IF EXISTS public.sides CASCADE;
    CREATE TABLE public.sides AS
    SELECT s.*, row_number() OVER () AS id FROM (
        SELECT l.from_address AS wallet, l.to_address AS counterparty, 'out' AS direction, l.* FROM public.legs AS l WHERE l.from_address IS NOT NULL
        UNION ALL
        SELECT l.to_address, l.from_address, 'in', l.* FROM public.legs AS l WHERE l.to_address IS NOT NULL) AS s;
    CREATE INDEX ON public.sides (wallet, direction, \"timestamp\");
    CREATE INDEX ON public.sides (wallet, counterparty, \"timestamp\");
    ANALYZE public.sides;
    CREATE TABLE IF NOT EXISTS public.judged (relation text, tx_hash text, log_index integer);
    DROP TABLE IF EXISTS public.facts;
    CREATE TABLE public.facts AS
    SELECT s.id, s.relation, s.tx_hash, s.log_index, s.wallet AS address, s.counterparty, s.direction, s.asset, s.amount, s.amount_usd, w.*, d.*,
           (SELECT l.category FROM arx.address_labels AS l WHERE l.address = s.wallet) AS wallet_category,
           (SELECT c.kind FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category) WHERE l.address = s.counterparty) AS counterparty_kind,
           EXISTS (SELECT FROM arx.watchlists AS m WHERE m.address = s.wallet) AS wallet_watched,
           EXISTS (SELECT FROM arx.watchlists AS m WHERE m.address = s.counterparty) AS counterparty_watched,
           (SELECT (extract(epoch FROM s.\"timestamp\" - max(p.\"timestamp\")) / 86400)::numeric FROM public.sides AS p
             WHERE p.wallet = s.wallet AND p.\"timestamp\" < s.\"timestamp\") AS days_idle,
           CASE WHEN s.counterparty IS NOT NULL THEN NOT EXISTS (SELECT FROM public.sides AS p
             WHERE p.wallet = s.wallet AND p.counterparty = s.counterparty AND p.\"timestamp\" < s.\"timestamp\") END AS is_new_counterparty
      FROM public.sides AS s
     CROSS JOIN LATERAL (
        SELECT count(*) AS count_7d, sum(p.amount_usd) AS sum_usd_7d FROM public.sides AS p
         WHERE p.wallet = s.wallet AND p.direction = s.direction AND p.\"timestamp\" BETWEEN s.\"timestamp\" - interval '168 hours' AND s.\"timestamp\") AS w
     CROSS JOIN LATERAL (
        SELECT count(*) AS count_24h, sum(p.amount) FILTER (WHERE p.asset = s.asset) AS sum_24h, sum(p.amount_usd) AS sum_usd_24h,
               count(*) FILTER (WHERE p.amount_usd >= 8000 AND p.amount_usd < 10000) AS below_10000_usd_24h,
               count(*) FILTER (WHERE p.\"timestamp\" >= s.\"timestamp\" - interval '1 hour') AS count_1h,
               sum(p.amount_usd) FILTER (WHERE p.\"timestamp\" >= s.\"timestamp\" - interval '1 hour') AS sum_usd_1h
          FROM public.sides AS p
         WHERE p.wallet = s.wallet AND p.direction = s.direction AND p.\"timestamp\" BETWEEN s.\"timestamp\" - interval '24 hours' AND s.\"timestamp\") AS d
     WHERE NOT EXISTS (SELECT FROM public.judged AS j
                        WHERE j.relation = s.relation AND j.tx_hash = s.tx_hash AND j.log_index IS NOT DISTINCT FROM s.log_index);
    INSERT INTO public.judged SELECT DISTINCT f.relation, f.tx_hash, f.log_index FROM public.facts AS f";

/// Random transfers of all three tables, with ties of time, within some days from a start.
fn random_transfers(round: usize, count: usize, start: &str, days: usize) -> String {
    let wallet = "'w' || floor(random() ^ 2 * 400)";
    let time = format!("timestamptz '{start}' + floor(random() * {days} * 144) * interval '10 minutes'");
    let usd = "CASE WHEN random() < 0.8 THEN round((6000 + random() * 5000)::numeric, 2) END";
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, value_usd, status)
         SELECT 'testnet', 'r{round}-' || n, n, {time}, {wallet}, CASE WHEN random() < 0.98 THEN {wallet} END, floor(random() * 1000) / 10, {usd},
                (CASE WHEN random() < 0.05 THEN 'failed' ELSE 'confirmed' END)::arx.tx_status_enum
           FROM generate_series(1, {count}) AS n;
         INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, \"timestamp\", from_address, to_address, value, value_usd, succeeded)
         SELECT 'testnet', 'i{round}-' || n, n % 3, n, {time}, {wallet}, CASE WHEN random() < 0.9 THEN {wallet} END, floor(random() * 100), {usd}, random() < 0.9
           FROM generate_series(1, {count} / 4) AS n;
         INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount, value_usd)
         SELECT 'testnet', 't{round}-' || n, n % 2, n, {time}, 't' || floor(random() * 3), {wallet}, {wallet}, floor(random() * 100), {usd}
           FROM generate_series(1, {count} / 4) AS n;
         INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount)
         SELECT 'testnet', 'm{round}-' || n, 0, n, {time}, 'largest', 'w' || n % 3, 'w' || (n + 1) % 3, 2::numeric ^ 256 - n
           FROM generate_series(1, {count} / 20) AS n"
    )
}

#[test]
fn hits_of_random_histories_equal_one_sql_statement_a_rule() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("alert_histories").unwrap();
    database
        .query(
            "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
             UPDATE arx.wallet_alert_rules SET state = 'retired';
             INSERT INTO arx.address_labels (network, address, category, severity, source)
             SELECT 'testnet', 'w' || n * 3, (ARRAY['exchange','scam','sanctions','mixer'])[1 + n % 4], 'high', 'x' FROM generate_series(1, 60) AS n;
             INSERT INTO arx.watchlists (watchlist, network, address) SELECT 'w', 'testnet', 'w' || n * 17 FROM generate_series(1, 9) AS n;
             CREATE VIEW public.legs AS
             SELECT 'transactions' AS relation, t.tx_hash, NULL::integer AS log_index, t.\"timestamp\", t.from_address, t.to_address, 'native' AS asset,
                    t.value AS amount, t.value_usd AS amount_usd
               FROM arx.transactions AS t WHERE t.status <> 'failed' AND t.to_address IS NOT NULL
             UNION ALL
             SELECT 'internal_transfers', t.tx_hash, t.position, t.\"timestamp\", t.from_address, t.to_address, 'native', t.value, t.value_usd
               FROM arx.internal_transfers AS t WHERE t.succeeded IS NOT FALSE
             UNION ALL
             SELECT 'token_transfers', t.tx_hash, t.log_index, t.\"timestamp\", t.from_address, t.to_address, t.token_address, t.amount, t.value_usd
               FROM arx.token_transfers AS t",
        )
        .unwrap();
    for (rule, side, condition, _) in RULES {
        database
            .query(&format!(
                "SELECT arx.set_alert_rule('{rule}', '{condition}', 'test', side => '{side}', max_share => 1);
                 SELECT arx.set_alert_rule_state('{rule}', 1, 'active')"
            ))
            .unwrap();
    }
    // Transfers are filtered, unless memory is short: then SQL judges them alone. Few ask the
    // tables wallet by wallet. Later rounds have rows between and before the earlier ones, and rows
    // that are gone.
    let gone = "DELETE FROM arx.transactions WHERE tx_hash LIKE 'r1-%7';";
    let rounds = [
        ("256MB", "", 4_000, "2024-03-01", 20),
        ("256MB", "", 300, "2024-02-20", 40),
        ("256MB", gone, 4_000, "2024-03-05", 40),
        ("64kB", "", 3_700, "2024-03-01", 50),
        ("64kB", "", 200, "2024-03-10", 60),
        ("256MB", "", 12, "2024-04-25", 30),
    ];
    for (round, (memory, change, count, start, days)) in rounds.into_iter().enumerate() {
        let seed = format!("SELECT setseed(0.{round}26)");
        database.query(&format!("{seed}; {change} {}", random_transfers(round, count, start, days))).unwrap();
        let before = database.query("SELECT coalesce(max(hit_id), 0) FROM arx.wallet_alert_hits").unwrap();
        database
            .query(&format!("SET arx.graph_work_mem = '{memory}'; SELECT count(*) FROM arx.check_wallet_alerts()"))
            .unwrap();
        database.query(PLAIN).unwrap();
        for (rule, side, _, condition) in RULES {
            let side = match side {
                "sender" => "direction = 'out'",
                "receiver" => "direction = 'in'",
                _ => "true",
            };
            let key = "relation, tx_hash, log_index, address, direction";
            let ours = format!(
                "SELECT {key}, h.facts FROM arx.wallet_alert_hits AS h WHERE h.rule = '{rule}' AND h.hit_id > {before} AND NOT h.is_retracted"
            );
            let plain = format!(
                "SELECT {key}, (SELECT jsonb_object_agg(n, to_jsonb(f) -> n) FROM arx.wallet_alert_rules AS r,
                                       unnest(arx.check_alert_condition(r.condition)) AS n WHERE r.rule = '{rule}')
                   FROM public.facts AS f WHERE {side} AND ({condition})"
            );
            // Facts that cost much are gathered only where a rule may need them.
            let facts = if rule == "everything" { "" } else { ", facts" };
            let differing = database
                .query(&format!(
                    "WITH ours ({key}, facts) AS ({ours}), plain ({key}, facts) AS ({plain})
                     SELECT count(*) FILTER (WHERE side = 1), count(*) FILTER (WHERE side = 2), (array_agg(d::text))[1],
                            (SELECT count(*) > 0 FROM plain)
                       FROM (SELECT 1 AS side, * FROM (SELECT {key}{facts} FROM ours EXCEPT ALL SELECT {key}{facts} FROM plain) AS a
                             UNION ALL
                             SELECT 2, * FROM (SELECT {key}{facts} FROM plain EXCEPT ALL SELECT {key}{facts} FROM ours) AS b) AS d"
                ))
                .unwrap();
            assert!(differing.starts_with("0|0||"), "rule {rule} in round {round}: {differing}");
            // Every rule fires on some of many transfers.
            assert!(count < 1_000 || differing.ends_with('t'), "rule {rule} in round {round}: {differing}");
        }
    }
    let judged = database
        .query(
            r#"SELECT max(c.judged) FROM arx.alert_candidates(
                   NULL, '{}', '{}', '[{"side": "any", "condition": {"fact": "sum_24h", "op": ">", "value": 2e77}}]') AS c"#,
        )
        .unwrap();
    assert_ne!(judged, "", "sums beyond 256 bits are judged by SQL");
    // Each hit is of one alert, and each alert has its hits.
    let wrong = "SELECT count(*) FROM (SELECT h.alert_id, count(*) AS hits FROM arx.wallet_alert_hits AS h WHERE NOT h.is_retracted GROUP BY 1) AS h
                   FULL JOIN (SELECT a.alert_id, a.hits FROM arx.wallet_alerts AS a WHERE a.state <> 'retracted') AS a USING (alert_id)
                  WHERE h.hits IS DISTINCT FROM a.hits";
    assert_eq!(database.query(wrong).unwrap(), "0");
}

/// Rules about the past of a wallet, each of which asks the tables for older transfers.
const ABOUT_THE_PAST: [&str; 3] = [
    r#"{"fact": "is_new_counterparty", "op": "=", "value": true}"#,
    r#"{"fact": "days_idle", "op": ">=", "value": 20}"#,
    r#"{"fact": "count_7d", "op": ">=", "value": 3}"#,
];

#[test]
fn few_transfers_are_judged_without_reading_the_tables() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("alert_reads").unwrap();
    let transfers = |hash: &str, count: u32, start: &str| {
        format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'testnet', '{hash}' || n, n, timestamptz '{start}' + n * interval '1 minute', 'w' || n * 7 % 4000, 'w' || n * 13 % 4001,
                    1, 'confirmed' FROM generate_series(1, {count}) AS n"
        )
    };
    database
        .query(&format!(
            "{SETUP}; UPDATE arx.wallet_alert_rules SET state = 'retired';
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31'); {}",
            transfers("old", 30_000, "2024-01-05")
        ))
        .unwrap();
    database.query("SELECT count(*) FROM arx.check_wallet_alerts()").unwrap();
    for (number, condition) in ABOUT_THE_PAST.iter().enumerate() {
        database
            .query(&format!(
                "SELECT arx.set_alert_rule('r{number}', '{condition}', 'test', max_share => 1);
                 SELECT arx.set_alert_rule_state('r{number}', 1, 'active')"
            ))
            .unwrap();
    }
    // Without statistics, and with them.
    for (round, prepare) in ["SELECT 1", "VACUUM ANALYZE"].into_iter().enumerate() {
        database.query(prepare).unwrap();
        for memory in ["256MB", "64kB"] {
            database.query(&transfers(&format!("{memory}{round}"), 20, "2024-03-20")).unwrap();
            let answer = database
                .query(&format!(
                    "SET arx.graph_work_mem = '{memory}'; BEGIN; SELECT sum(hits) > 0 FROM arx.check_wallet_alerts();
                     SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) < 10000
                       FROM pg_stat_xact_user_tables WHERE relid IN (SELECT relid FROM pg_partition_tree('arx.transactions')); COMMIT"
                ))
                .unwrap();
            assert_eq!(answer.lines().collect::<Vec<_>>(), ["t", "t"], "with {memory} after {prepare}");
        }
    }
}
