//! Whatever happens to transactions, labels, overrides and models, in whatever order, by several sessions: after a refresh the profiles
//! hold the scores that a look at every wallet gives. And a refresh may be killed, and run beside others, at any time.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::time::Duration;

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};
use arx_tests::writers::Writers;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Histories of so many steps.
const HISTORIES: u32 = 8;
const STEPS: usize = 60;

/// Sessions that write; another one refreshes.
const WRITERS: usize = 3;

const REFRESH: &str = "CALL arx.refresh_risk_scores(batch_size => 5)";

/// Wallets whose profile is not what a look at all of them gives, and whose last entry in the history is not their profile. A label alone
/// makes no profile.
const ASTRAY: &str = "
WITH known AS (
    SELECT p.wallet_address AS address FROM arx.wallet_profiles AS p WHERE p.network_type = 'testnet'
    UNION SELECT t.from_address FROM arx.transactions AS t WHERE t.network = 'testnet'
    UNION SELECT t.to_address FROM arx.transactions AS t WHERE t.network = 'testnet' AND t.to_address IS NOT NULL
    UNION SELECT o.address FROM arx.risk_overrides AS o WHERE o.network = 'testnet'
), judged AS (
    SELECT s.* FROM arx.score_wallets(ARRAY(SELECT k.address FROM known AS k), 'testnet') AS s
), told AS (
    SELECT DISTINCT ON (h.address) h.address, h.score, h.state FROM arx.risk_score_history AS h ORDER BY h.address, h.entry_id DESC
)
SELECT string_agg(format('%s is %s %s, not %s %s, told %s %s', k.address, p.risk_score, p.risk_state, s.score, s.state, t.score, t.state),
                  '; ' ORDER BY k.address)
  FROM known AS k
  LEFT JOIN judged AS s USING (address)
  LEFT JOIN told AS t USING (address)
  LEFT JOIN arx.wallet_profiles AS p ON p.wallet_address = k.address AND p.network_type = 'testnet'
 WHERE (coalesce(p.risk_score, 50), coalesce(p.risk_state, 'unknown')) IS DISTINCT FROM (s.score, s.state)
    OR (t.score, t.state) IS DISTINCT FROM (s.score, s.state) AND (t.address IS NOT NULL OR s.state <> 'unknown')";

/// Whether a label or an override began or ended since the last look: then the profiles are allowed to lag.
const CLOCK_HAS_STRUCK: &str = "
SELECT EXISTS (SELECT FROM arx.risk_refresh_state AS s, arx.address_labels AS l
                WHERE l.valid_from > s.looked_at AND l.valid_from <= now() OR l.valid_to > s.looked_at AND l.valid_to <= now())
    OR EXISTS (SELECT FROM arx.risk_refresh_state AS s, arx.risk_overrides AS o
                WHERE o.valid_from > s.looked_at AND o.valid_from <= now() OR o.expires_at > s.looked_at AND o.expires_at <= now())";

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Commit(usize),
    Rollback(usize),
    /// Payments: sender, receiver, value.
    Pay(usize, Vec<(u8, u8, u8)>),
    /// The same in a token.
    PayTokens(usize, Vec<(u8, u8, u8)>),
    Change(usize, &'static str, u8),
    Delete(usize, u8),
    /// A label: wallet, category, from when and until when, in ms from now.
    Label(usize, u8, &'static str, Option<u16>, Option<u16>),
    Relabel(usize, &'static str, u8),
    Unlabel(usize, u8),
    Category(usize, &'static str),
    /// A score for a wallet, until so many ms from now.
    Override(usize, u8, u8, u16),
    EndOverride(usize, u8),
    Activate(usize, u8),
    RollBackModel(usize),
    TruncateTransactions,
    TruncateLabels,
    Merge,
    RefreshProfiles,
    Refresh,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = 0..WRITERS;
    let wallet = 0..14_u8;
    let payment = (wallet.clone(), wallet.clone(), 1..9_u8);
    let tokens = payment.clone();
    let set = prop_oneof![
        Just("value = value + 1"),
        Just("status = 'failed'"),
        Just("\"timestamp\" = \"timestamp\" + interval '20 days'"),
        Just("to_address = 'w7'"),
        Just("to_address = NULL"),
    ];
    let category = prop_oneof![
        3 => Just("scam"), 1 => Just("sanctions"), 1 => Just("exchange"), 1 => Just("miner"), 1 => Just("mixer"),
    ];
    let relabel = prop_oneof![
        Just("category = 'ponzi_scheme'"),
        Just("category = 'gambling', severity = 'low'"),
        Just("severity = 'medium'"),
        Just("address = 'w3'"),
        Just("source = source || 'x'"),
        Just("valid_to = now()"),
    ];
    let meaning =
        prop_oneof![Just("kind = 'illicit'"), Just("kind = 'service'"), Just("description = description || '.'")];
    let soon = prop_oneof![3 => Just(None), 1 => (0..120_u16).prop_map(Some)];
    let until = prop_oneof![3 => Just(None), 1 => (130..300_u16).prop_map(Some)];
    let step = prop_oneof![
        3 => writer.clone().prop_map(Step::Begin),
        4 => writer.clone().prop_map(Step::Commit),
        1 => writer.clone().prop_map(Step::Rollback),
        6 => (writer.clone(), prop::collection::vec(payment, 1..12)).prop_map(|(w, p)| Step::Pay(w, p)),
        1 => (writer.clone(), prop::collection::vec(tokens, 1..6)).prop_map(|(w, p)| Step::PayTokens(w, p)),
        2 => (writer.clone(), set, any::<u8>()).prop_map(|(w, set, row)| Step::Change(w, set, row)),
        2 => (writer.clone(), any::<u8>()).prop_map(|(w, row)| Step::Delete(w, row)),
        4 => (writer.clone(), wallet.clone(), category, soon, until).prop_map(|(w, a, c, f, u)| Step::Label(w, a, c, f, u)),
        2 => (writer.clone(), relabel, any::<u8>()).prop_map(|(w, set, row)| Step::Relabel(w, set, row)),
        2 => (writer.clone(), any::<u8>()).prop_map(|(w, row)| Step::Unlabel(w, row)),
        1 => (writer.clone(), meaning).prop_map(|(w, set)| Step::Category(w, set)),
        2 => (writer.clone(), wallet.clone(), 0..100_u8, 1..200_u16).prop_map(|(w, a, s, t)| Step::Override(w, a, s, t)),
        1 => (writer.clone(), wallet).prop_map(|(w, a)| Step::EndOverride(w, a)),
        1 => (writer.clone(), 1..4_u8).prop_map(|(w, m)| Step::Activate(w, m)),
        1 => writer.prop_map(Step::RollBackModel),
        1 => Just(Step::TruncateTransactions),
        1 => Just(Step::TruncateLabels),
        1 => Just(Step::Merge),
        1 => Just(Step::RefreshProfiles),
        6 => Just(Step::Refresh),
    ];
    prop::collection::vec(step, STEPS)
}

/// A network, months for its transactions, and models that score otherwise than the one shipped.
fn prepare(database: &Database<'_>) {
    database
        .query(
            "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31')",
        )
        .unwrap();
    for (model, base) in [(1, "41.3"), (2, "38"), (3, "44.5")] {
        let document = format!("arx.default_risk_model() || '{{\"version\": \"house-{model}\", \"base\": {base}}}'");
        database.query(&format!("SELECT arx.import_risk_model({document})")).unwrap();
    }
}

fn payment(number: u32, from: &str, to: &str, value: u8) -> String {
    format!(
        "('testnet', 't{number}', {number}, timestamptz '2024-01-02' + {number} * interval '1 hour', '{from}', '{to}', {value}, 'confirmed')"
    )
}

const PAY: &str = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status) VALUES ";

const PAY_TOKENS: &str = "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount) VALUES ";

/// So many payments in a circle with chords, from the number given.
fn pay_around(wallets: u32, first: u32) -> String {
    let payments: Vec<String> = (0..2 * wallets)
        .map(|n| {
            payment(first + n, &format!("w{}", n % wallets), &format!("w{}", (n * 7 + n / wallets + 1) % wallets), 3)
        })
        .collect();
    PAY.to_owned() + &payments.join(", ")
}

fn label(wallet: &str, category: &str, from: &str, until: &str) -> String {
    format!(
        "INSERT INTO arx.address_labels (network, address, category, severity, source, valid_from, valid_to)
         VALUES ('testnet', '{wallet}', '{category}', 'high', 'list' || random(), {from}, {until})"
    )
}

/// Wallets looked at and changed.
async fn refresh(client: &Client, call: &str) -> Result<(i64, i64), tokio_postgres::Error> {
    let messages = client.simple_query(call).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let number = |column| row.unwrap().get(column).unwrap().parse().unwrap();
    Ok((number(0), number(1)))
}

struct History {
    writers: Writers,
    reader: Client,
    rows: u32,
    changed: i64,
}

impl History {
    async fn start(database: &Database<'_>) -> Self {
        prepare(database);
        let writers = Writers::open(database, WRITERS).await.unwrap();
        let reader = database.connect().await.unwrap();
        reader.batch_execute("SET statement_timeout = '60s'").await.unwrap();
        Self { writers, reader, rows: 0, changed: 0 }
    }

    async fn run(&mut self, writer: usize, sql: &str) {
        self.writers.run(writer, sql).await.unwrap();
    }

    async fn end(&mut self, writer: usize, how: &str) {
        self.writers.end(writer, how).await.unwrap();
    }

    async fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let time = |ms: &Option<u16>, else_: &str| match ms {
            Some(ms) => format!("clock_timestamp() + interval '{ms} ms'"),
            None => else_.to_owned(),
        };
        match step {
            Step::Begin(writer) => self.writers.begin(*writer).await.unwrap(),
            Step::Commit(writer) => self.end(*writer, "COMMIT").await,
            Step::Rollback(writer) => self.end(*writer, "ROLLBACK").await,
            Step::Pay(writer, payments) => {
                let mut values = Vec::new();
                for (from, to, value) in payments {
                    self.rows += 1;
                    values.push(payment(self.rows, &format!("w{from}"), &format!("w{to}"), *value));
                }
                self.run(*writer, &(PAY.to_owned() + &values.join(", "))).await;
            }
            Step::PayTokens(writer, payments) => {
                let mut values = Vec::new();
                for (from, to, value) in payments {
                    self.rows += 1;
                    let n = self.rows;
                    values.push(format!(
                        "('testnet', 'k{n}', 0, {n}, timestamptz '2024-01-02' + {n} * interval '1 hour', 'coin', 'w{from}', 'w{to}', {value})"
                    ));
                }
                self.run(*writer, &(PAY_TOKENS.to_owned() + &values.join(", "))).await;
            }
            Step::Change(writer, set, row) => {
                let sql = format!("UPDATE arx.transactions SET {set} WHERE block_number % 23 = {}", row % 23);
                self.run(*writer, &sql).await;
            }
            Step::Delete(writer, row) => {
                let sql = format!("DELETE FROM arx.transactions WHERE block_number % 17 = {}", row % 17);
                self.run(*writer, &sql).await;
            }
            Step::Label(writer, wallet, category, from, until) => {
                let (from, until) = (time(from, "'-infinity'"), time(until, "'infinity'"));
                self.run(*writer, &label(&format!("w{wallet}"), category, &from, &until)).await;
            }
            Step::Relabel(writer, set, row) => {
                let sql = format!("UPDATE arx.address_labels SET {set} WHERE label_id % 5 = {}", row % 5);
                self.run(*writer, &sql).await;
            }
            Step::Unlabel(writer, row) => {
                let sql = format!("DELETE FROM arx.address_labels WHERE label_id % 4 = {}", row % 4);
                self.run(*writer, &sql).await;
            }
            Step::Category(writer, set) => {
                self.run(*writer, &format!("UPDATE arx.label_categories SET {set} WHERE category = 'mixer'")).await;
            }
            Step::Override(writer, wallet, score, ms) => {
                let sql = format!(
                    "SELECT arx.override_risk('w{wallet}', 'testnet', {score}.5, 'x', clock_timestamp() + interval '{ms} ms')"
                );
                self.run(*writer, &sql).await;
            }
            Step::EndOverride(writer, wallet) => {
                let sql = format!(
                    "SELECT arx.end_risk_override(override_id) FROM arx.current_risk_overrides WHERE address = 'w{wallet}'"
                );
                self.run(*writer, &sql).await;
            }
            Step::Activate(writer, model) => {
                self.run(*writer, &format!("SELECT arx.activate_risk_model('house-{model}')")).await;
            }
            Step::RollBackModel(writer) => self.run(*writer, "SELECT arx.rollback_risk_model()").await,
            // the reader would wait for whoever has truncated and not committed
            Step::TruncateTransactions => {
                self.end(0, "COMMIT").await;
                self.run(0, "TRUNCATE arx.transactions_2024_02").await;
            }
            Step::TruncateLabels => {
                self.end(0, "COMMIT").await;
                self.run(0, "TRUNCATE arx.address_labels").await;
            }
            Step::Merge => self.run(1, "SELECT outcome FROM arx.refresh_graph()").await,
            Step::RefreshProfiles => {
                self.writers.told.push_str("refresh_wallet_profiles;\n");
                self.reader.batch_execute("SELECT arx.refresh_wallet_profiles()").await.unwrap();
            }
            Step::Refresh => self.refresh().await?,
        }
        Ok(())
    }

    async fn refresh(&mut self) -> Result<(), TestCaseError> {
        loop {
            self.writers.told.push_str("refresh;\n");
            let done = refresh(&self.reader, REFRESH).await;
            let (_, changed) =
                done.map_err(|error| TestCaseError::fail(format!("{error:?}\n{}", self.writers.told)))?;
            self.changed += changed;
            self.reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
            let struck: bool = self.reader.query_one(CLOCK_HAS_STRUCK, &[]).await.unwrap().get(0);
            let astray: Option<String> = self.reader.query_one(ASTRAY, &[]).await.unwrap().get(0);
            self.reader.batch_execute("COMMIT").await.unwrap();
            if struck {
                continue;
            }
            prop_assert_eq!(astray, None, "{}", self.writers.told);
            return Ok(());
        }
    }
}

async fn play(stack: &Stack, steps: &[Step], changed: &Cell<i64>) -> Result<(), TestCaseError> {
    let database = stack.database("risk_histories").unwrap();
    let mut history = History::start(&database).await;
    for step in steps {
        history.take(step).await?;
    }
    for writer in 0..WRITERS {
        history.end(writer, "COMMIT").await;
    }
    history.refresh().await?;
    changed.set(changed.get() + history.changed);
    Ok(())
}

#[test]
fn profiles_hold_the_scores_of_a_look_at_everything_after_any_history() {
    let stack = Stack::shared().unwrap();
    let runtime = runtime();
    let changed = Cell::new(0);
    // a failure is made smaller by a few tries only: each plays a history on a fresh database
    let config = Config { cases: HISTORIES, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| runtime.block_on(play(stack, &steps, &changed)));
    match result {
        Ok(()) => {}
        // the commands say more than the steps that made them
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    println!("{} scores changed", changed.get());
    assert!(changed.get() >= 400, "{}", changed.get());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn state(database: &Database<'_>, wallet: &str) -> String {
    database.query(&format!("SELECT risk_state FROM arx.wallet_profiles WHERE wallet_address = '{wallet}'")).unwrap()
}

#[test]
fn refreshes_side_by_side_share_the_work_and_never_wait_in_a_circle() {
    let database = Stack::shared().unwrap().database("risk_side_by_side").unwrap();
    prepare(&database);
    let count = |table: &str| database.query(&format!("SELECT count(*) FROM arx.{table}")).unwrap();
    runtime().block_on(async {
        let mut sessions = Vec::new();
        for _ in 0..5 {
            let client = database.connect().await.unwrap();
            client.batch_execute("SET statement_timeout = '120s'").await.unwrap();
            sessions.push(client);
        }
        for round in 0..12_u32 {
            // small and large steps: new wallets, some that are there, labels that come and go
            sessions[0].batch_execute(&pay_around(40 + 15 * (round % 3), 1_000 * (round + 1))).await.unwrap();
            let marked = format!("w{}", round * 3);
            sessions[0].batch_execute(&label(&marked, "scam", "'-infinity'", "'infinity'")).await.unwrap();
            if round % 4 == 3 {
                sessions[0].batch_execute("DELETE FROM arx.address_labels WHERE label_id % 2 = 0").await.unwrap();
                sessions[0]
                    .batch_execute(&format!("SELECT arx.activate_risk_model('house-{}')", round / 4 + 1))
                    .await
                    .unwrap();
            }
            let [writer, profiles, first, second, third] = &sessions[..] else { panic!() };
            let more = pay_around(30, 1_000 * (round + 1) + 500);
            let call = "CALL arx.refresh_risk_scores(batch_size => 3)";
            let done = tokio::try_join!(
                async { writer.batch_execute(&more).await },
                async { profiles.batch_execute("SELECT arx.refresh_wallet_profiles()").await },
                refresh(first, call),
                refresh(second, call),
                refresh(third, "CALL arx.refresh_risk_scores('testnet', 7)"),
            );
            assert!(done.is_ok(), "round {round}: {done:?}");
        }
        refresh(&sessions[2], REFRESH).await.unwrap();
    });
    assert_eq!(database.query(ASTRAY).unwrap(), "");
    assert_eq!(count("risk_queue"), "0");
    assert_eq!(
        database.query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").unwrap(),
        "0"
    );
    // equal to what a run from the beginning gives
    let scores = "SELECT md5(string_agg(format('%s %s %s', wallet_address, risk_score, risk_state), ',' ORDER BY wallet_address)) \
                  FROM arx.wallet_profiles";
    let kept = database.query(scores).unwrap();
    database
        .query("DELETE FROM arx.feed_positions; UPDATE arx.wallet_profiles SET risk_score = 1, risk_state = 'partial'")
        .unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_eq!(database.query(scores).unwrap(), kept);
}

#[test]
fn scores_and_profiles_are_written_in_one_order() {
    let database = Stack::shared().unwrap().database("risk_order").unwrap();
    prepare(&database);
    database.query(&pay_around(12, 1)).unwrap();
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    database.query(REFRESH).unwrap();
    // both jobs have to write every row
    database.query(&pay_around(12, 1_000)).unwrap();
    database.query("SELECT arx.activate_risk_model('house-1')").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let holder = database.connect().await.unwrap();
        let touch =
            "BEGIN; UPDATE arx.wallet_profiles SET analytics_profile = '{\"case\": 7}' WHERE wallet_address = 'w4'";
        holder.batch_execute(touch).await.unwrap();
        let mut jobs = Vec::new();
        for job in ["CALL arx.refresh_risk_scores()", "SELECT arx.refresh_wallet_profiles()"] {
            let client = database.connect().await.unwrap();
            let pid = process_of(&client).await;
            jobs.push(tokio::spawn(async move { client.batch_execute(job).await }));
            wait_until_held_up(&database, pid);
        }
        holder.batch_execute("COMMIT").await.unwrap();
        for job in jobs {
            job.await.unwrap().unwrap();
        }
    });
    assert_eq!(database.query(ASTRAY).unwrap(), "");
}

/// Holds up whoever does something to a wallet until the returned session ends its transaction.
async fn hold_up(database: &Database<'_>, table: &str, wallet: &str) -> Client {
    database
        .query(&format!(
            "CREATE OR REPLACE FUNCTION public.hold_up() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
             DROP TRIGGER IF EXISTS hold_up ON arx.risk_queue;
             DROP TRIGGER IF EXISTS hold_up ON arx.risk_score_history;
             CREATE TRIGGER hold_up BEFORE INSERT ON arx.{table} FOR EACH ROW WHEN (NEW.address = '{wallet}')
                 EXECUTE FUNCTION public.hold_up()"
        ))
        .unwrap();
    let holder = database.connect().await.unwrap();
    holder.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)").await.unwrap();
    holder
}

async fn process_of(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Waits until a session waits for a lock.
fn wait_until_held_up(database: &Database<'_>, pid: i32) {
    let waits = format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}");
    assert!(wait_until(Duration::from_secs(60), || Ok(database.query(&waits)? == "t")).unwrap(), "{pid} does not wait");
}

#[test]
fn a_refresh_that_was_killed_is_continued_by_the_next() {
    let database = Stack::shared().unwrap().database("risk_killed").unwrap();
    prepare(&database);
    // while wallets are queued; in the first batch, in one in the middle, in the last
    let moments = [
        ("risk_queue", "w25"),
        ("risk_score_history", "w0"),
        ("risk_score_history", "w3"),
        ("risk_score_history", "w9"),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (round, (table, wallet)) in (0_u32..).zip(moments) {
        database.query(&pay_around(40, 1_000 * (round + 1))).unwrap();
        // every score changes
        database.query(&format!("SELECT arx.activate_risk_model('house-{}')", round % 3 + 1)).unwrap();
        runtime.block_on(async {
            let holder = hold_up(&database, table, wallet).await;
            let client = database.connect().await.unwrap();
            let pid = process_of(&client).await;
            let call = tokio::spawn(async move { refresh(&client, REFRESH).await });
            wait_until_held_up(&database, pid);
            assert_eq!(database.query(&format!("SELECT pg_terminate_backend({pid}, 60000)")).unwrap(), "t");
            assert!(call.await.unwrap().is_err());
            drop(holder);
        });
        let queued = format!("SELECT count(*) FROM arx.risk_queue WHERE address = '{wallet}'");
        assert_eq!(database.query(&queued).unwrap(), if table == "risk_queue" { "0" } else { "1" }, "{table} {wallet}");
        assert_ne!(database.query(ASTRAY).unwrap(), "", "{table} {wallet}");
        assert_ne!(database.query(REFRESH).unwrap(), "0|0");
        assert_eq!(database.query(ASTRAY).unwrap(), "", "{table} {wallet}");
        assert_eq!(database.query("SELECT count(*) FROM arx.risk_queue").unwrap(), "0");
    }
}

#[test]
fn what_changes_while_a_wallet_is_scored_is_scored_after_it() {
    let database = Stack::shared().unwrap().database("risk_requeued").unwrap();
    prepare(&database);
    database.query(&pay_around(20, 1)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let holder = hold_up(&database, "risk_score_history", "w5").await;
        let mut calls = Vec::new();
        for change in [
            // it takes w5 and scores it
            None,
            // it finds nothing to do, and is not done before w5 is
            None,
            // it wants to queue w5, and waits for the one that took it
            Some(label("w5", "scam", "'-infinity'", "'infinity'")),
        ] {
            change.map(|sql| database.query(&sql).unwrap());
            let client = database.connect().await.unwrap();
            let pid = process_of(&client).await;
            calls.push(tokio::spawn(async move { refresh(&client, REFRESH).await }));
            wait_until_held_up(&database, pid);
        }
        holder.batch_execute("COMMIT").await.unwrap();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert_eq!(state(&database, "w5"), "labelled");
    assert_eq!(database.query(ASTRAY).unwrap(), "");
    let states = database
        .query("SELECT string_agg(state, ',' ORDER BY scored_at) FROM arx.risk_history('w5', 'testnet')")
        .unwrap();
    assert_eq!(states, "scored,labelled");
}

#[test]
fn labels_begin_and_end_and_overrides_expire_by_the_clock() {
    let database = Stack::shared().unwrap().database("risk_clock").unwrap();
    prepare(&database);
    database.query(&pay_around(6, 1)).unwrap();
    database.query(REFRESH).unwrap();
    let pass = |moment: &str| {
        let passed = format!("SELECT clock_timestamp() > {moment}");
        assert!(wait_until(Duration::from_secs(60), || Ok(database.query(&passed)? == "t")).unwrap());
    };
    let expect = |wallet: &str, expected: &str| {
        database.query(REFRESH).unwrap();
        assert_eq!(state(&database, wallet), expected, "{wallet}");
        assert_eq!(database.query(ASTRAY).unwrap(), "");
    };
    let soon = "clock_timestamp() + interval '1500 ms'";
    // begins
    database.query(&label("w1", "scam", soon, "'infinity'")).unwrap();
    expect("w1", "scored");
    pass("(SELECT valid_from FROM arx.address_labels)");
    expect("w1", "labelled");
    // ends
    database.query(&format!("UPDATE arx.address_labels SET valid_to = {soon}")).unwrap();
    expect("w1", "labelled");
    pass("(SELECT valid_to FROM arx.address_labels)");
    expect("w1", "scored");
    // expires
    database.query(&format!("SELECT arx.override_risk('w2', 'testnet', 99.9, 'for a moment', {soon})")).unwrap();
    expect("w2", "overridden");
    pass("(SELECT expires_at FROM arx.risk_overrides)");
    expect("w2", "scored");
    assert_eq!(database.query(REFRESH).unwrap(), "0|0");
}

#[test]
fn what_commits_late_is_not_missed() {
    let database = Stack::shared().unwrap().database("risk_late").unwrap();
    prepare(&database);
    database.query(&pay_around(6, 1)).unwrap();
    database.query(REFRESH).unwrap();
    runtime().block_on(async {
        for (sql, wallet, expected) in [
            (label("w1", "scam", "'-infinity'", "'infinity'"), "w1", "labelled"),
            (
                "SELECT arx.override_risk('w2', 'testnet', 12.5, 'ours', now() + interval '1 day')".to_owned(),
                "w2",
                "overridden",
            ),
            ("SELECT arx.end_risk_override(override_id) FROM arx.current_risk_overrides".to_owned(), "w2", "scored"),
            ("UPDATE arx.address_labels SET address = 'w4'".to_owned(), "w1", "scored"),
            ("DELETE FROM arx.address_labels".to_owned(), "w4", "scored"),
            (PAY.to_owned() + &payment(500, "w1", "new", 1), "new", "scored"),
            ("DELETE FROM arx.transactions WHERE tx_hash = 't500'".to_owned(), "new", "unknown"),
        ] {
            let late = database.connect().await.unwrap();
            late.batch_execute("BEGIN").await.unwrap();
            late.batch_execute(&sql).await.unwrap();
            assert_eq!(database.query(REFRESH).unwrap(), "0|0", "{sql}");
            late.batch_execute("COMMIT").await.unwrap();
            database.query(REFRESH).unwrap();
            assert_eq!(state(&database, wallet), expected, "{sql}");
            assert_eq!(database.query(ASTRAY).unwrap(), "", "{sql}");
        }
    });
}

#[test]
fn another_model_scores_everything_anew_and_so_does_going_back() {
    let database = Stack::shared().unwrap().database("risk_models").unwrap();
    prepare(&database);
    database.query(&pay_around(12, 1)).unwrap();
    database.query(REFRESH).unwrap();
    let scores = "SELECT string_agg(risk_score::text, ',' ORDER BY wallet_address) FROM arx.wallet_profiles";
    let before = database.query(scores).unwrap();
    database.query("SELECT arx.activate_risk_model('house-1')").unwrap();
    assert!(database.query(REFRESH).unwrap().starts_with("12|"));
    assert_ne!(database.query(scores).unwrap(), before);
    assert_eq!(database.query(ASTRAY).unwrap(), "");
    database.query("SELECT arx.rollback_risk_model()").unwrap();
    database.query(REFRESH).unwrap();
    assert_eq!(database.query(scores).unwrap(), before);

    // one that is taken back while a refresh is under way has left scores behind
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        database.query(&pay_around(12, 1_000)).unwrap();
        let holder = hold_up(&database, "risk_queue", "w3").await;
        let client = database.connect().await.unwrap();
        let pid = process_of(&client).await;
        let call = tokio::spawn(async move { refresh(&client, REFRESH).await });
        wait_until_held_up(&database, pid);
        database.query("SELECT arx.activate_risk_model('house-2')").unwrap();
        holder.batch_execute("COMMIT").await.unwrap();
        call.await.unwrap().unwrap();
    });
    database.query("SELECT arx.rollback_risk_model()").unwrap();
    assert_ne!(database.query(ASTRAY).unwrap(), "");
    database.query(REFRESH).unwrap();
    assert_eq!(database.query(ASTRAY).unwrap(), "");

    // TRUNCATE tells no row trigger
    database.query("TRUNCATE arx.transactions").unwrap();
    database.query(REFRESH).unwrap();
    assert_eq!(database.query("SELECT DISTINCT risk_state FROM arx.wallet_profiles ORDER BY 1").unwrap(), "unknown");
    assert_eq!(database.query(ASTRAY).unwrap(), "");
}

#[test]
fn many_changes_are_queued_as_a_whole() {
    let database = Stack::shared().unwrap().database("risk_many").unwrap();
    prepare(&database);
    let pay = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value) \
               SELECT 'testnet', 'm' || n + $1, n, '2024-01-05', 'm' || n % 3000, 'n' || n % 7, 1 FROM generate_series(1, 3000) AS n";
    database.query(&pay.replace("$1", "0")).unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_eq!(database.query("SELECT count(*) FROM arx.wallet_profiles").unwrap(), "3007");
    database.query(&pay.replace("$1", "100000")).unwrap();
    let looked_at = database.query("CALL arx.refresh_risk_scores(batch_size => 1000)").unwrap();
    assert!(looked_at.starts_with("3007|"), "{looked_at}");
    assert_eq!(database.query("CALL arx.refresh_risk_scores()").unwrap(), "0|0");
}

/// Payments of every wallet `from` to every wallet `to` (SQL expressions of n and k), in coins.
fn pay_all(prefix: &str, n: u32, k: u32, from: &str, to: &str) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         SELECT 'testnet', format('{prefix}%s.%s', n, k), n, timestamptz '2024-01-03' + n * interval '1 min', {from}, {to}, 1 + n % 3, 'confirmed'
           FROM generate_series(1, {n}) AS n, generate_series(1, {k}) AS k"
    )
}

#[test]
fn a_label_is_seen_through_counterparties_unless_they_are_hubs_of_coins() {
    let database = Stack::shared().unwrap().database("risk_hubs").unwrap();
    prepare(&database);
    let refreshed = |what: &str| {
        database.query("CALL arx.refresh_risk_scores()").unwrap();
        assert_eq!(database.query(ASTRAY).unwrap(), "", "{what}");
    };
    // p deals with ten wallets in coins, and with 2,500 in tokens; q with 1,010 in coins
    database.query(&pay_all("p", 10, 1, "format('a%s', n)", "'p'")).unwrap();
    database.query(&pay_all("q", 1010, 1, "format('b%s', n)", "'q'")).unwrap();
    database
        .query(&format!(
            "{} SELECT 'testnet', format('x%s', n), 0, n, '2024-01-03', 'coin', 'p', format('t%s', n), 1 FROM generate_series(1, 2500) AS n",
            PAY_TOKENS.trim_end_matches("VALUES ")
        ))
        .unwrap();
    refreshed("at first");
    let paying = |wallet: &str| {
        let sql = format!(
            "SELECT coalesce(value, 0) FROM arx.wallet_features('{wallet}', 'testnet') WHERE feature = 'receivers_paid_by_illicit'"
        );
        database.query(&sql).unwrap()
    };
    database.query(&label("a1", "scam", "'-infinity'", "'infinity'")).unwrap();
    database.query(&label("b1", "scam", "'-infinity'", "'infinity'")).unwrap();
    refreshed("labels two hops away");
    assert_eq!(
        (&*paying("a2"), &*paying("b2")),
        ("1", "0"),
        "through p, which is no hub, and not through q, which is one"
    );
    // q ceases to be a hub, and becomes one again
    database.query("DELETE FROM arx.transactions WHERE from_address ~ '^b10[01]'").unwrap();
    refreshed("no hub any more");
    assert_eq!(paying("b2"), "1");
    database.query(&pay_all("r", 40, 1, "format('c%s', n)", "'q'")).unwrap();
    refreshed("a hub again");
    assert_eq!(paying("b2"), "0");
    // with a hundred labelled it says something that none is met: everybody's features change
    let illicit = "SELECT arx.risk_basis()";
    assert_eq!(database.query(illicit).unwrap(), "");
    database
        .query(
            "INSERT INTO arx.address_labels (network, address, category, severity, source)
             SELECT 'testnet', format('b%s', n), 'scam', 'high'::arx.label_severity_enum, 'list' FROM generate_series(2, 120) AS n
             UNION ALL SELECT 'testnet', format('nobody%s', n), 'exchange', 'none', 'list' FROM generate_series(1, 30) AS n",
        )
        .unwrap();
    refreshed("many labels");
    assert_eq!(
        database.query(illicit).unwrap(),
        "testnet true false",
        "of services that dealt with nobody none is met"
    );
    database.query("DELETE FROM arx.address_labels WHERE address > 'b2'").unwrap();
    refreshed("few labels again");
    assert_eq!(database.query(illicit).unwrap(), "");
}

#[test]
fn what_is_decided_while_a_refresh_waits_counts_when_it_goes_on() {
    let database = Stack::shared().unwrap().database("risk_waiting").unwrap();
    prepare(&database);
    database.query(&pay_around(20, 1)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // the first scores w0 to w4 and is held up, the second has scored the others and waits for it
        let holder = hold_up(&database, "risk_score_history", "w1").await;
        let mut calls = Vec::new();
        for _ in 0..2 {
            let client = database.connect().await.unwrap();
            let pid = process_of(&client).await;
            calls.push(tokio::spawn(async move { refresh(&client, REFRESH).await }));
            wait_until_held_up(&database, pid);
        }
        // decided after the second began to wait, and looked at by a third that queues the wallet anew
        database.query("SELECT arx.override_risk('w1', 'testnet', 77, 'x', now() + interval '1 day')").unwrap();
        let client = database.connect().await.unwrap();
        let pid = process_of(&client).await;
        calls.push(tokio::spawn(async move { refresh(&client, REFRESH).await }));
        wait_until_held_up(&database, pid);
        holder.batch_execute("COMMIT").await.unwrap();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert_eq!(state(&database, "w1"), "overridden");
    assert_eq!(database.query(ASTRAY).unwrap(), "");
    assert_eq!(database.query("SELECT count(*) FROM arx.risk_queue").unwrap(), "0");
}

#[test]
fn one_wallet_that_cannot_be_scored_keeps_no_other_from_it() {
    let database = Stack::shared().unwrap().database("risk_unscorable").unwrap();
    prepare(&database);
    database.query(&pay_around(40, 1)).unwrap();
    // rows that no network and no address is behind are nobody's
    database
        .query(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('No Such Network!', 'x1', 1, '2024-01-05', 'a', 'b', 1), ('ethereum', 'x2', 1, '2024-01-05', 'not an address', NULL, 1)",
        )
        .unwrap();
    database
        .query(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '54000'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON arx.risk_score_history FOR EACH ROW WHEN (NEW.address = 'w7')
                 EXECUTE FUNCTION public.refuse()",
        )
        .unwrap();
    let error = database.query("CALL arx.refresh_risk_scores()").unwrap_err().to_string();
    assert!(error.contains("not this one") && error.contains("Wallet w7 of network testnet stays queued"), "{error}");
    assert_eq!(database.query("SELECT string_agg(address, ',') FROM arx.risk_queue").unwrap(), "w7");
    assert_eq!(database.query("SELECT count(*) FROM arx.wallet_profiles WHERE risk_state = 'scored'").unwrap(), "39");
    database.query("DROP TRIGGER refuse ON arx.risk_score_history").unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_eq!(database.query(ASTRAY).unwrap(), "");
}
