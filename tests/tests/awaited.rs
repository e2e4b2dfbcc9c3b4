//! Internal transfers take outcome and block from their transaction, also where other sessions
//! write it at the same time.

use std::time::Duration;

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};
use arx_tests::fixtures::TESTNET;

const LIMIT: Duration = Duration::from_secs(30);

fn transaction(hash: &str, status: &str) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, \
         to_address, value, status) VALUES ('testnet', '{hash}', 7, 3, '2024-01-02', 'a', 'b', 1, '{status}')"
    )
}

fn transfer(hash: &str, position: u32) -> String {
    format!(
        "INSERT INTO arx.internal_transfers (network, tx_hash, position, \"timestamp\", from_address, to_address, value) \
         VALUES ('testnet', '{hash}', {position}, '2024-01-02', 'b', 'c', 1)"
    )
}

/// Returns outcome, block and index of every internal transfer.
fn transfers(database: &Database<'_>) -> String {
    database
        .query("SELECT tx_hash, succeeded, block_number, transaction_index FROM arx.internal_transfers ORDER BY 1, position")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_two_sessions_write_at_the_same_time_meet_at_the_next_refresh() {
    let database = Stack::shared().unwrap().database("awaited_refresh").unwrap();
    database.query(TESTNET).unwrap();
    let [one, other] = [database.connect().await.unwrap(), database.connect().await.unwrap()];
    for client in [&one, &other] {
        client.batch_execute("BEGIN").await.unwrap();
    }
    one.batch_execute(&transaction("t", "failed")).await.unwrap();
    other.batch_execute(&transfer("t", 0)).await.unwrap();
    for client in [&one, &other] {
        client.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!(transfers(&database), "t|||", "neither has seen the other");
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    assert_eq!(transfers(&database), "t|f|7|3");
    assert_eq!(database.query("SELECT count(*) FROM arx.awaited_transactions").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_awaited_waits_for_sessions_that_store_its_transfers() {
    let database = Stack::shared().unwrap().database("awaited_lock").unwrap();
    database.query(TESTNET).unwrap();
    database.query(&transfer("t", 0)).unwrap();
    let [one, other] = [database.connect().await.unwrap(), database.connect().await.unwrap()];
    one.batch_execute(&format!("BEGIN; {}", transfer("t", 1))).await.unwrap();
    let waiting = tokio::spawn(async move { other.batch_execute(&transaction("t", "failed")).await });
    wait_for_a_lock(&database);
    one.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(transfers(&database), "t|f|7|3\nt|f|7|3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_changes_meanwhile_reaches_the_transfer() {
    let database = Stack::shared().unwrap().database("awaited_status").unwrap();
    database.query(TESTNET).unwrap();
    database.query(&transaction("t", "confirmed")).unwrap();
    let [one, other] = [database.connect().await.unwrap(), database.connect().await.unwrap()];
    one.batch_execute(&format!("BEGIN; {}", transfer("t", 0))).await.unwrap();
    let change = "UPDATE arx.transactions SET status = 'failed', transaction_index = 4";
    let waiting = tokio::spawn(async move { other.batch_execute(change).await });
    wait_for_a_lock(&database);
    one.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(transfers(&database), "t|f|7|4");
}

fn stated(hash: &str) -> String {
    format!(
        "INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, \"timestamp\", from_address, \
         to_address, value, succeeded) VALUES ('testnet', '{hash}', 0, 7, '2024-01-02', 'b', 'c', 1, true)"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_stored_meanwhile_reaches_transfers_that_state_their_success() {
    let database = Stack::shared().unwrap().database("awaited_failure").unwrap();
    database.query(TESTNET).unwrap();
    database.query(&transaction("updated", "confirmed")).unwrap();
    let [one, other, third] =
        [database.connect().await.unwrap(), database.connect().await.unwrap(), database.connect().await.unwrap()];
    one.batch_execute(&format!("BEGIN; {}; {}", stated("updated"), stated("inserted"))).await.unwrap();
    third.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM arx.transactions").await.unwrap();
    // Neither session waits for the other.
    other.batch_execute("UPDATE arx.transactions SET status = 'failed'").await.unwrap();
    other.batch_execute(&transaction("inserted", "failed")).await.unwrap();
    other.batch_execute(&transaction("kept", "failed")).await.unwrap();
    database.query("SELECT arx.settle_awaited_transactions()").unwrap();
    assert_ne!(
        database.query("SELECT count(*) FROM arx.awaited_transactions").unwrap(),
        "0",
        "a session that may have missed the failure still runs"
    );
    one.batch_execute("COMMIT").await.unwrap();
    // Its snapshot is older than the failure, and its id is younger than the settlement.
    third.batch_execute(&format!("{}; COMMIT", stated("kept"))).await.unwrap();
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    assert_eq!(transfers(&database), "inserted|f|7|\nkept|f|7|\nupdated|f|7|");
    // Sessions of other databases are counted, too.
    let is_settled = || {
        database.query("SELECT arx.settle_awaited_transactions()")?;
        Ok(database.query("SELECT count(*) FROM arx.awaited_transactions")? == "0")
    };
    assert!(wait_until(LIMIT, is_settled).unwrap(), "failed transactions are awaited for ever");
}

#[test]
fn transfers_of_many_transactions_take_each_its_own_outcome() {
    let database = Stack::shared().unwrap().database("awaited_many").unwrap();
    database.query(TESTNET).unwrap();
    database.query(&format!("{}; {}", transaction("good", "confirmed"), transaction("bad", "failed"))).unwrap();
    // Neighbours that differ in the network, hash, or time alone.
    database
        .query(
            "INSERT INTO arx.internal_transfers
                 (network, tx_hash, position, block_number, \"timestamp\", from_address, to_address, value, succeeded)
             VALUES ('testnet', 'bad', 0, 7, '2024-01-02', 'b', 'c', 1, true),
                    ('testnet', 'bad', 1, 7, '2024-01-02', 'b', 'c', 1, NULL),
                    ('testnet', 'bad', 2, NULL, '2024-01-02', 'b', 'c', 1, true),
                    ('other', 'bad', 3, 7, '2024-01-02', 'b', 'c', 1, true),
                    ('testnet', 'bad', 4, 7, '2024-01-03', 'b', 'c', 1, true),
                    ('testnet', 'good', 5, 7, '2024-01-02', 'b', 'c', 1, true),
                    ('testnet', 'none', 6, 7, '2024-01-02', 'b', 'c', 1, true),
                    ('testnet', 'none', 7, 7, '2024-01-02', 'b', 'c', 1, NULL)",
        )
        .unwrap();
    let outcomes =
        "SELECT string_agg(coalesce(succeeded::text, '?'), ' ' ORDER BY position) FROM arx.internal_transfers";
    assert_eq!(database.query(outcomes).unwrap(), "false false false true true true true ?");
    let awaited = "SELECT string_agg(tx_hash, ' ') FROM arx.awaited_transactions WHERE NOT is_stored";
    assert_eq!(database.query(awaited).unwrap(), "none");
    database
        .query(
            "BEGIN;
             SAVEPOINT s;
             INSERT INTO arx.internal_transfers (network, tx_hash, position, \"timestamp\", from_address, value)
             VALUES ('testnet', 'later', 0, '2024-01-02', 'b', 1);
             ROLLBACK TO s;
             INSERT INTO arx.internal_transfers (network, tx_hash, position, \"timestamp\", from_address, value)
             VALUES ('testnet', 'later', 0, '2024-01-02', 'b', 1);
             COMMIT",
        )
        .unwrap();
    assert_eq!(database.query(awaited).unwrap(), "none later");
}

fn wait_for_a_lock(database: &Database<'_>) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert!(wait_until(LIMIT, || Ok(database.query(waiting)? == "1")).unwrap(), "no session waits for a lock");
}
