//! Random histories.

use std::cell::Cell;

use arx_stack::{Database, Stack};
use arx_tests::history::{self, History, Payment, Step, WRITERS};
use proptest::prelude::*;

use crate::fixture::{MISMATCHES, REFRESH, import_models, label, refresh};

const HISTORIES: u32 = 8;
const STEPS: usize = 60;

/// True when a label or an override began or ended since the last refresh. Profiles may lag then.
const VALIDITY_CHANGED: &str = "
SELECT EXISTS (SELECT FROM arx.risk_refresh_state AS s, arx.address_labels AS l
                WHERE l.valid_from > s.looked_at AND l.valid_from <= now()
                   OR l.valid_to > s.looked_at AND l.valid_to <= now())
    OR EXISTS (SELECT FROM arx.risk_refresh_state AS s, arx.risk_overrides AS o
                WHERE o.valid_from > s.looked_at AND o.valid_from <= now()
                   OR o.expires_at > s.looked_at AND o.expires_at <= now())";

fn payments(count: usize) -> impl Strategy<Value = Vec<Payment>> {
    let payment = (0..14_u8, 0..14_u8, 1..9_u8);
    let payment = payment.prop_map(|(from, to, value)| Payment { from, to, value, hour: None });
    prop::collection::vec(payment, 1..count)
}

/// Statements on a few rows.
fn statements() -> impl Strategy<Value = String> {
    let wallet = || 0..14_u8;
    let row = any::<u8>;
    let change = prop_oneof![
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
    let begin = prop_oneof![3 => Just(None), 1 => (0..120_u16).prop_map(Some)];
    let end = prop_oneof![3 => Just(None), 1 => (130..300_u16).prop_map(Some)];
    let after = |milliseconds: Option<u16>, default: &str| {
        milliseconds.map_or(default.to_owned(), |ms| format!("clock_timestamp() + interval '{ms} ms'"))
    };
    prop_oneof![
        2 => (change, row()).prop_map(|(change, row)| {
            format!("UPDATE arx.transactions SET {change} WHERE block_number % 23 = {}", row % 23)
        }),
        2 => row().prop_map(|row| format!("DELETE FROM arx.transactions WHERE block_number % 17 = {}", row % 17)),
        4 => (wallet(), category, begin, end).prop_map(move |(wallet, category, begin, end)| {
            label(&format!("w{wallet}"), category, &after(begin, "'-infinity'"), &after(end, "'infinity'"))
        }),
        2 => (relabel, row()).prop_map(|(change, row)| {
            format!("UPDATE arx.address_labels SET {change} WHERE label_id % 5 = {}", row % 5)
        }),
        2 => row().prop_map(|row| format!("DELETE FROM arx.address_labels WHERE label_id % 4 = {}", row % 4)),
        1 => meaning.prop_map(|change| {
            format!("UPDATE arx.label_categories SET {change} WHERE category = 'mixer'")
        }),
        2 => (wallet(), 0..100_u8, 1..200_u16).prop_map(|(wallet, score, ms)| format!(
            "SELECT arx.override_risk('w{wallet}', 'testnet', {score}.5, 'x', clock_timestamp() + interval '{ms} ms')"
        )),
        1 => wallet().prop_map(|wallet| format!(
            "SELECT arx.end_risk_override(override_id) FROM arx.current_risk_overrides WHERE address = 'w{wallet}'"
        )),
        1 => (1..4_u8).prop_map(|model| format!("SELECT arx.activate_risk_model('house-{model}')")),
        1 => Just("SELECT arx.rollback_risk_model()".to_owned()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = || 0..WRITERS;
    let step = prop_oneof![
        3 => writer().prop_map(Step::Begin),
        4 => writer().prop_map(Step::Commit),
        1 => writer().prop_map(Step::Rollback),
        6 => (writer(), payments(12)).prop_map(|(writer, payments)| Step::Pay(writer, payments)),
        1 => (writer(), payments(6)).prop_map(|(writer, payments)| Step::PayTokens(writer, payments)),
        18 => (writer(), statements()).prop_map(|(writer, sql)| Step::Run(writer, sql)),
        1 => Just(Step::Truncate("transactions_2024_02")),
        1 => Just(Step::Truncate("address_labels")),
        1 => Just(Step::Merge),
        1 => Just(Step::RunReader("SELECT arx.refresh_wallet_profiles()")),
        6 => Just(Step::Refresh),
    ];
    prop::collection::vec(step, STEPS)
}

/// Refreshes and compares. Returns how many scores changed.
async fn refresh_and_compare(history: &mut History) -> Result<i64, TestCaseError> {
    let mut changed_in_all = 0;
    loop {
        history.log("refresh");
        let refreshed = refresh(&history.reader, REFRESH).await;
        let (_, changed) =
            refreshed.map_err(|error| TestCaseError::fail(format!("{error:?}\n{}", history.writers.log)))?;
        changed_in_all += changed;
        let reader = &history.reader;
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
        let may_lag: bool = reader.query_one(VALIDITY_CHANGED, &[]).await.unwrap().get(0);
        let mismatches: Option<String> = reader.query_one(MISMATCHES, &[]).await.unwrap().get(0);
        reader.batch_execute("COMMIT").await.unwrap();
        if !may_lag {
            prop_assert_eq!(mismatches, None, "{}", history.writers.log);
            return Ok(changed_in_all);
        }
    }
}

async fn play(database: &Database<'_>, steps: &[Step], changed: &Cell<i64>) -> Result<(), TestCaseError> {
    let mut history = History::start(database).await;
    import_models(database);
    let refresh = async |history: &mut History| {
        changed.set(changed.get() + refresh_and_compare(history).await?);
        Ok(())
    };
    history.play(steps, refresh).await
}

#[test]
fn after_any_history_profiles_hold_the_scores_of_a_full_computation() {
    let stack = Stack::shared().unwrap();
    let changed = Cell::new(0);
    let play = async |steps: &[Step]| play(&stack.database("risk_histories").unwrap(), steps, &changed).await;
    history::check(HISTORIES, 20, &steps(), play, || changed.get() >= 400);
    println!("{} scores changed", changed.get());
}
