//! Statements and queries of the tests, and sessions that wait for each other.

use std::time::Duration;

use arx_stack::Database;
use arx_stack::process::wait_until;
use arx_tests::fixtures::TESTNET;
use arx_tests::history::{PAY, payment};
use tokio_postgres::{Client, SimpleQueryMessage};

pub(crate) const REFRESH: &str = "CALL arx.refresh_risk_scores(batch_size => 5)";

/// Wallets whose profile differs from their score, or from the last entry of their history. A label
/// alone makes no profile.
pub(crate) const MISMATCHES: &str = "
WITH known AS (
    SELECT p.wallet_address AS address FROM arx.wallet_profiles AS p WHERE p.network_type = 'testnet'
    UNION SELECT t.from_address FROM arx.transactions AS t WHERE t.network = 'testnet'
    UNION SELECT t.to_address FROM arx.transactions AS t WHERE t.network = 'testnet' AND t.to_address IS NOT NULL
    UNION SELECT o.address FROM arx.risk_overrides AS o WHERE o.network = 'testnet'
), computed AS (
    SELECT s.* FROM arx.score_wallets(ARRAY(SELECT k.address FROM known AS k), 'testnet') AS s
), latest AS (
    SELECT DISTINCT ON (h.address) h.address, h.score, h.state
      FROM arx.risk_score_history AS h ORDER BY h.address, h.entry_id DESC
)
SELECT string_agg(format('%s is %s %s, not %s %s, latest entry %s %s',
                         k.address, p.risk_score, p.risk_state, s.score, s.state, e.score, e.state),
                  '; ' ORDER BY k.address)
  FROM known AS k
  LEFT JOIN computed AS s USING (address)
  LEFT JOIN latest AS e USING (address)
  LEFT JOIN arx.wallet_profiles AS p ON p.wallet_address = k.address AND p.network_type = 'testnet'
 WHERE (coalesce(p.risk_score, 50), coalesce(p.risk_state, 'unknown')) IS DISTINCT FROM (s.score, s.state)
    OR (e.score, e.state) IS DISTINCT FROM (s.score, s.state) AND (e.address IS NOT NULL OR s.state <> 'unknown')";

/// Registers `testnet`, makes partitions for three months, and imports models whose scores differ
/// from the shipped one's.
pub(crate) fn prepare(database: &Database<'_>) {
    database
        .query(&format!("{TESTNET} SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31')"))
        .unwrap();
    import_models(database);
}

pub(crate) fn import_models(database: &Database<'_>) {
    for (model, base) in [(1, "41.3"), (2, "38"), (3, "44.5")] {
        let document = format!("arx.default_risk_model() || '{{\"version\": \"house-{model}\", \"base\": {base}}}'");
        database.query(&format!("SELECT arx.import_risk_model({document})")).unwrap();
    }
}

/// Returns two payments per wallet, in a circle with chords. Their numbers begin with `first`.
pub(crate) fn pay_around(wallets: u32, first: u32) -> String {
    let payments: Vec<String> = (0..2 * wallets)
        .map(|n| {
            let (from, to) = (n % wallets, (n * 7 + n / wallets + 1) % wallets);
            payment(first + n, first + n, &format!("w{from}"), &format!("w{to}"), 3)
        })
        .collect();
    PAY.to_owned() + &payments.join(", ")
}

pub(crate) fn label(wallet: &str, category: &str, from: &str, until: &str) -> String {
    format!(
        "INSERT INTO arx.address_labels (network, address, category, severity, source, valid_from, valid_to)
         VALUES ('testnet', '{wallet}', '{category}', 'high', 'list' || random(), {from}, {until})"
    )
}

/// Returns a label that is always valid.
pub(crate) fn permanent_label(wallet: &str, category: &str) -> String {
    label(wallet, category, "'-infinity'", "'infinity'")
}

/// Calls a refresh and returns how many wallets it scored and how many scores changed.
pub(crate) async fn refresh(client: &Client, call: &str) -> Result<(i64, i64), tokio_postgres::Error> {
    let messages = client.simple_query(call).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let number = |column| row.unwrap().get(column).unwrap().parse().unwrap();
    Ok((number(0), number(1)))
}

pub(crate) fn state(database: &Database<'_>, wallet: &str) -> String {
    database.query(&format!("SELECT risk_state FROM arx.wallet_profiles WHERE wallet_address = '{wallet}'")).unwrap()
}

/// A runtime on which calls go on while the test waits.
pub(crate) fn two_threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Blocks every session that inserts a row of the wallet into the table, until the returned session
/// ends its transaction.
pub(crate) async fn block_inserts(database: &Database<'_>, table: &str, wallet: &str) -> Client {
    database
        .query(&format!(
            "CREATE OR REPLACE FUNCTION public.block() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
             DROP TRIGGER IF EXISTS block ON arx.risk_queue;
             DROP TRIGGER IF EXISTS block ON arx.risk_score_history;
             CREATE TRIGGER block BEFORE INSERT ON arx.{table} FOR EACH ROW WHEN (NEW.address = '{wallet}')
                 EXECUTE FUNCTION public.block()"
        ))
        .unwrap();
    let blocker = database.connect().await.unwrap();
    blocker.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)").await.unwrap();
    blocker
}

pub(crate) async fn backend_pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Waits until a session waits for a lock.
pub(crate) fn wait_until_blocked(database: &Database<'_>, pid: i32) {
    let is_blocked = format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}");
    let blocked = wait_until(Duration::from_secs(60), || Ok(database.query(&is_blocked)? == "t"));
    assert!(blocked.unwrap(), "{pid} does not wait");
}

/// Starts a refresh in a session of its own and waits until it waits for a lock.
pub(crate) async fn start_blocked_refresh(
    database: &Database<'_>,
) -> (i32, tokio::task::JoinHandle<Result<(i64, i64), tokio_postgres::Error>>) {
    let client = database.connect().await.unwrap();
    let pid = backend_pid(&client).await;
    let call = tokio::spawn(async move { refresh(&client, REFRESH).await });
    wait_until_blocked(database, pid);
    (pid, call)
}
