//! Changes of each kind, and the wallets whose scores follow them.

use std::time::Duration;

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};
use arx_tests::history::{PAY, PAY_TOKENS, payment};

use crate::fixture::{MISMATCHES, REFRESH, label, pay_around, permanent_label, prepare, state};

fn prepared(name: &str) -> Database<'static> {
    let database = Stack::shared().unwrap().database(name).unwrap();
    prepare(&database);
    database
}

#[test]
fn labels_take_effect_and_overrides_expire_with_time() {
    let database = prepared("risk_clock");
    database.query(&pay_around(6, 1)).unwrap();
    database.query(REFRESH).unwrap();
    let wait_for = |moment: &str| {
        let has_passed = format!("SELECT clock_timestamp() > {moment}");
        assert!(wait_until(Duration::from_secs(60), || Ok(database.query(&has_passed)? == "t")).unwrap());
    };
    let expect = |wallet: &str, expected: &str| {
        database.query(REFRESH).unwrap();
        assert_eq!(state(&database, wallet), expected, "{wallet}");
        assert_eq!(database.query(MISMATCHES).unwrap(), "");
    };
    let soon = "clock_timestamp() + interval '1500 ms'";
    // A label begins.
    database.query(&label("w1", "scam", soon, "'infinity'")).unwrap();
    expect("w1", "scored");
    wait_for("(SELECT valid_from FROM arx.address_labels)");
    expect("w1", "labelled");
    // It ends.
    database.query(&format!("UPDATE arx.address_labels SET valid_to = {soon}")).unwrap();
    expect("w1", "labelled");
    wait_for("(SELECT valid_to FROM arx.address_labels)");
    expect("w1", "scored");
    // An override expires.
    database.query(&format!("SELECT arx.override_risk('w2', 'testnet', 99.9, 'for a moment', {soon})")).unwrap();
    expect("w2", "overridden");
    wait_for("(SELECT expires_at FROM arx.risk_overrides)");
    expect("w2", "scored");
    assert_eq!(database.query(REFRESH).unwrap(), "0|0");
}

#[tokio::test]
async fn a_change_that_commits_after_a_refresh_is_not_missed() {
    let database = prepared("risk_late");
    database.query(&pay_around(6, 1)).unwrap();
    database.query(REFRESH).unwrap();
    for (sql, wallet, expected) in [
        (permanent_label("w1", "scam"), "w1", "labelled"),
        (
            "SELECT arx.override_risk('w2', 'testnet', 12.5, 'ours', now() + interval '1 day')".to_owned(),
            "w2",
            "overridden",
        ),
        ("SELECT arx.end_risk_override(override_id) FROM arx.current_risk_overrides".to_owned(), "w2", "scored"),
        ("UPDATE arx.address_labels SET address = 'w4'".to_owned(), "w1", "scored"),
        ("DELETE FROM arx.address_labels".to_owned(), "w4", "scored"),
        (PAY.to_owned() + &payment(500, 500, "w1", "new", 1), "new", "partial"),
        ("DELETE FROM arx.transactions WHERE tx_hash = 't500'".to_owned(), "new", "unknown"),
    ] {
        let late = database.connect().await.unwrap();
        late.batch_execute("BEGIN").await.unwrap();
        late.batch_execute(&sql).await.unwrap();
        assert_eq!(database.query(REFRESH).unwrap(), "0|0", "{sql}");
        late.batch_execute("COMMIT").await.unwrap();
        database.query(REFRESH).unwrap();
        assert_eq!(state(&database, wallet), expected, "{sql}");
        assert_eq!(database.query(MISMATCHES).unwrap(), "", "{sql}");
    }
}

#[test]
fn activating_and_rolling_back_a_model_rescores_every_wallet() {
    let database = prepared("risk_models");
    database.query(&pay_around(12, 1)).unwrap();
    database.query(REFRESH).unwrap();
    let scores = "SELECT string_agg(risk_score::text, ',' ORDER BY wallet_address) FROM arx.wallet_profiles";
    let before = database.query(scores).unwrap();
    database.query("SELECT arx.activate_risk_model('house-1')").unwrap();
    assert!(database.query(REFRESH).unwrap().starts_with("12|"));
    assert_ne!(database.query(scores).unwrap(), before);
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
    database.query("SELECT arx.rollback_risk_model()").unwrap();
    database.query(REFRESH).unwrap();
    assert_eq!(database.query(scores).unwrap(), before);
}

#[test]
fn truncated_transactions_leave_no_scores() {
    let database = prepared("risk_truncated");
    database.query(&pay_around(12, 1)).unwrap();
    database.query(REFRESH).unwrap();
    // TRUNCATE fires no row trigger.
    database.query("TRUNCATE arx.transactions").unwrap();
    database.query(REFRESH).unwrap();
    assert_eq!(database.query("SELECT DISTINCT risk_state FROM arx.wallet_profiles ORDER BY 1").unwrap(), "unknown");
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
}

#[test]
fn a_bulk_change_queues_every_wallet_once() {
    let database = prepared("risk_many");
    let pay = |first_hash: u32| {
        format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 'm' || n + {first_hash}, n, '2024-01-05', 'm' || n % 3000, 'n' || n % 7, 1
               FROM generate_series(1, 3000) AS n"
        )
    };
    database.query(&pay(0)).unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_eq!(database.query("SELECT count(*) FROM arx.wallet_profiles").unwrap(), "3007");
    database.query(&pay(100_000)).unwrap();
    let refreshed = database.query("CALL arx.refresh_risk_scores(batch_size => 1000)").unwrap();
    assert!(refreshed.starts_with("3007|"), "{refreshed}");
    assert_eq!(database.query("CALL arx.refresh_risk_scores()").unwrap(), "0|0");
}

/// Returns payments from every wallet `from` to every wallet `to`, which are SQL expressions of n
/// and k.
fn pay_all(prefix: &str, n: u32, k: u32, from: &str, to: &str) -> String {
    format!(
        "{} SELECT 'testnet', format('{prefix}%s.%s', n, k), n, timestamptz '2024-01-03' + n * interval '1 min',
                   {from}, {to}, 1 + n % 3, 'confirmed'
              FROM generate_series(1, {n}) AS n, generate_series(1, {k}) AS k",
        PAY.trim_end_matches("VALUES ")
    )
}

#[test]
fn a_label_affects_wallets_two_hops_away_except_through_hubs() {
    let database = prepared("risk_hubs");
    let refresh_and_compare = |situation: &str| {
        database.query("CALL arx.refresh_risk_scores()").unwrap();
        assert_eq!(database.query(MISMATCHES).unwrap(), "", "{situation}");
    };
    // p has ten counterparties in coins and 2,500 in tokens, q has 1,010 in coins.
    database.query(&pay_all("p", 10, 1, "format('a%s', n)", "'p'")).unwrap();
    database.query(&pay_all("q", 1010, 1, "format('b%s', n)", "'q'")).unwrap();
    database
        .query(&format!(
            "{} SELECT 'testnet', format('x%s', n), 0, n, '2024-01-03', 'coin', 'p', format('t%s', n), 1
                  FROM generate_series(1, 2500) AS n",
            PAY_TOKENS.trim_end_matches("VALUES ")
        ))
        .unwrap();
    refresh_and_compare("at first");
    // Wallets that receive something, so that their histories count as known.
    database.query(&pay_all("fa", 10, 1, "format('ma%s', n)", "format('a%s', n)")).unwrap();
    database.query(&pay_all("fb", 1010, 1, "format('mb%s', n)", "format('b%s', n)")).unwrap();
    let receivers_paid_by_illicit = |wallet: &str| {
        let sql = format!(
            "SELECT coalesce(value, 0) FROM arx.wallet_features('{wallet}', 'testnet')
              WHERE feature = 'receivers_paid_by_illicit'"
        );
        database.query(&sql).unwrap()
    };
    database.query(&permanent_label("a1", "scam")).unwrap();
    database.query(&permanent_label("b1", "scam")).unwrap();
    refresh_and_compare("labels two hops away");
    assert_eq!(receivers_paid_by_illicit("a2"), "1", "p is not a hub");
    assert_eq!(receivers_paid_by_illicit("b2"), "0", "q is a hub");
    // q stops being a hub and becomes one again.
    database.query("DELETE FROM arx.transactions WHERE from_address ~ '^b10[01]'").unwrap();
    refresh_and_compare("no hub any more");
    assert_eq!(receivers_paid_by_illicit("b2"), "1");
    database.query(&pay_all("r", 40, 1, "format('c%s', n)", "'q'")).unwrap();
    refresh_and_compare("a hub again");
    assert_eq!(receivers_paid_by_illicit("b2"), "0");
    // With a hundred labels, zero exposure becomes evidence, and the features of every wallet
    // change.
    let sufficiency = "SELECT arx.risk_basis()";
    assert_eq!(database.query(sufficiency).unwrap(), "");
    database
        .query(
            "INSERT INTO arx.address_labels (network, address, category, severity, source)
             SELECT 'testnet', format('b%s', n), 'scam', 'high'::arx.label_severity_enum, 'list'
               FROM generate_series(2, 120) AS n
             UNION ALL SELECT 'testnet', format('idle%s', n), 'exchange', 'none', 'list' FROM generate_series(1, 30) AS n",
        )
        .unwrap();
    refresh_and_compare("many labels");
    assert_eq!(database.query(sufficiency).unwrap(), "testnet true false", "services without transfers do not count");
    database.query("DELETE FROM arx.address_labels WHERE address > 'b2'").unwrap();
    refresh_and_compare("few labels again");
    assert_eq!(database.query(sufficiency).unwrap(), "");
}

#[test]
fn a_wallet_that_cannot_be_scored_does_not_stop_the_others() {
    let database = prepared("risk_unscorable");
    database.query(&pay_around(40, 1)).unwrap();
    // Rows with an invalid network or address belong to no wallet.
    database
        .query(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('No Such Network!', 'x1', 1, '2024-01-05', 'a', 'b', 1),
                    ('ethereum', 'x2', 1, '2024-01-05', 'not an address', NULL, 1)",
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
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
}
