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
