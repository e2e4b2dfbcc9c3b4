//! Refreshes that run concurrently with each other and with writers, and refreshes that are killed.

use arx_stack::Stack;

use crate::fixture::{
    MISMATCHES, REFRESH, backend_pid, block_inserts, pay_around, permanent_label, prepare, refresh,
    start_blocked_refresh, state, two_threads, wait_until_blocked,
};

#[test]
fn concurrent_refreshes_share_the_work_without_deadlocks() {
    let database = Stack::shared().unwrap().database("risk_side_by_side").unwrap();
    prepare(&database);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sessions = Vec::new();
        for _ in 0..5 {
            let client = database.connect().await.unwrap();
            client.batch_execute("SET statement_timeout = '120s'").await.unwrap();
            sessions.push(client);
        }
        let [writer, profiles, first, second, third] = &sessions[..] else { panic!() };
        for round in 0..12_u32 {
            // Small and large steps: new and existing wallets, labels that are added and removed.
            writer.batch_execute(&pay_around(40 + 15 * (round % 3), 1_000 * (round + 1))).await.unwrap();
            writer.batch_execute(&permanent_label(&format!("w{}", round * 3), "scam")).await.unwrap();
            if round % 4 == 3 {
                writer.batch_execute("DELETE FROM arx.address_labels WHERE label_id % 2 = 0").await.unwrap();
                let activate = format!("SELECT arx.activate_risk_model('house-{}')", round / 4 + 1);
                writer.batch_execute(&activate).await.unwrap();
            }
            let more = pay_around(30, 1_000 * (round + 1) + 500);
            let call = "CALL arx.refresh_risk_scores(batch_size => 3)";
            let outcome = tokio::try_join!(
                async { writer.batch_execute(&more).await },
                async { profiles.batch_execute("SELECT arx.refresh_wallet_profiles()").await },
                refresh(first, call),
                refresh(second, call),
                refresh(third, "CALL arx.refresh_risk_scores('testnet', 7)"),
            );
            assert!(outcome.is_ok(), "round {round}: {outcome:?}");
        }
        refresh(first, REFRESH).await.unwrap();
    });
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
    assert_eq!(database.query("SELECT count(*) FROM arx.risk_queue").unwrap(), "0");
    assert_eq!(
        database.query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").unwrap(),
        "0"
    );
    // A computation from the beginning gives the same.
    let scores =
        "SELECT md5(string_agg(format('%s %s %s', wallet_address, risk_score, risk_state), ',' ORDER BY wallet_address))
           FROM arx.wallet_profiles";
    let refreshed = database.query(scores).unwrap();
    database
        .query("DELETE FROM arx.feed_positions; UPDATE arx.wallet_profiles SET risk_score = 1, risk_state = 'partial'")
        .unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_eq!(database.query(scores).unwrap(), refreshed);
}

#[test]
fn scores_and_profiles_are_written_in_one_order() {
    let database = Stack::shared().unwrap().database("risk_order").unwrap();
    prepare(&database);
    database.query(&pay_around(12, 1)).unwrap();
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    database.query(REFRESH).unwrap();
    // Both jobs have to write every row.
    database.query(&pay_around(12, 1_000)).unwrap();
    database.query("SELECT arx.activate_risk_model('house-1')").unwrap();
    two_threads().block_on(async {
        let blocker = database.connect().await.unwrap();
        let update =
            "BEGIN; UPDATE arx.wallet_profiles SET analytics_profile = '{\"case\": 7}' WHERE wallet_address = 'w4'";
        blocker.batch_execute(update).await.unwrap();
        let mut jobs = Vec::new();
        for job in ["CALL arx.refresh_risk_scores()", "SELECT arx.refresh_wallet_profiles()"] {
            let client = database.connect().await.unwrap();
            let pid = backend_pid(&client).await;
            jobs.push(tokio::spawn(async move { client.batch_execute(job).await }));
            wait_until_blocked(&database, pid);
        }
        blocker.batch_execute("COMMIT").await.unwrap();
        for job in jobs {
            job.await.unwrap().unwrap();
        }
    });
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
}

#[test]
fn the_next_refresh_continues_a_killed_one() {
    let database = Stack::shared().unwrap().database("risk_killed").unwrap();
    prepare(&database);
    // Killed while wallets are queued; in the first batch, in a middle one, in the last one.
    let moments = [
        ("risk_queue", "w25"),
        ("risk_score_history", "w0"),
        ("risk_score_history", "w3"),
        ("risk_score_history", "w9"),
    ];
    let runtime = two_threads();
    for (round, (table, wallet)) in (0_u32..).zip(moments) {
        database.query(&pay_around(40, 1_000 * (round + 1))).unwrap();
        // Every score changes.
        database.query(&format!("SELECT arx.activate_risk_model('house-{}')", round % 3 + 1)).unwrap();
        runtime.block_on(async {
            let blocker = block_inserts(&database, table, wallet).await;
            let (pid, call) = start_blocked_refresh(&database).await;
            assert_eq!(database.query(&format!("SELECT pg_terminate_backend({pid}, 60000)")).unwrap(), "t");
            assert!(call.await.unwrap().is_err());
            drop(blocker);
        });
        let queued = format!("SELECT count(*) FROM arx.risk_queue WHERE address = '{wallet}'");
        let is_queued = if table == "risk_queue" { "0" } else { "1" };
        assert_eq!(database.query(&queued).unwrap(), is_queued, "{table} {wallet}");
        assert_ne!(database.query(MISMATCHES).unwrap(), "", "{table} {wallet}");
        assert_ne!(database.query(REFRESH).unwrap(), "0|0");
        assert_eq!(database.query(MISMATCHES).unwrap(), "", "{table} {wallet}");
        assert_eq!(database.query("SELECT count(*) FROM arx.risk_queue").unwrap(), "0");
    }
}

#[test]
fn a_change_during_scoring_is_scored_afterwards() {
    let database = Stack::shared().unwrap().database("risk_requeued").unwrap();
    prepare(&database);
    database.query(&pay_around(20, 1)).unwrap();
    two_threads().block_on(async {
        let blocker = block_inserts(&database, "risk_score_history", "w5").await;
        let mut calls = Vec::new();
        for change in [
            // The first refresh takes w5 and scores it.
            None,
            // The second one has nothing to do, and does not return before w5 is scored.
            None,
            // The third one wants to queue w5 and waits for the first.
            Some(permanent_label("w5", "scam")),
        ] {
            change.map(|sql| database.query(&sql).unwrap());
            calls.push(start_blocked_refresh(&database).await.1);
        }
        blocker.batch_execute("COMMIT").await.unwrap();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert_eq!(state(&database, "w5"), "labelled");
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
    let states = database
        .query("SELECT string_agg(state, ',' ORDER BY scored_at) FROM arx.risk_history('w5', 'testnet')")
        .unwrap();
    assert_eq!(states, "scored,labelled");
}

#[test]
fn an_override_made_while_a_refresh_waits_takes_effect_in_it() {
    let database = Stack::shared().unwrap().database("risk_waiting").unwrap();
    prepare(&database);
    database.query(&pay_around(20, 1)).unwrap();
    two_threads().block_on(async {
        // The first refresh scores w0 to w4 and is blocked. The second one has scored the others
        // and waits for the first.
        let blocker = block_inserts(&database, "risk_score_history", "w1").await;
        let mut calls = Vec::new();
        for _ in 0..2 {
            calls.push(start_blocked_refresh(&database).await.1);
        }
        // The override comes after the second one began to wait. A third one queues the wallet
        // again.
        database.query("SELECT arx.override_risk('w1', 'testnet', 77, 'x', now() + interval '1 day')").unwrap();
        calls.push(start_blocked_refresh(&database).await.1);
        blocker.batch_execute("COMMIT").await.unwrap();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert_eq!(state(&database, "w1"), "overridden");
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
    assert_eq!(database.query("SELECT count(*) FROM arx.risk_queue").unwrap(), "0");
}

#[test]
fn a_model_that_is_rolled_back_during_a_refresh_leaves_no_scores() {
    let database = Stack::shared().unwrap().database("risk_model_race").unwrap();
    prepare(&database);
    database.query(&pay_around(12, 1)).unwrap();
    database.query(REFRESH).unwrap();
    two_threads().block_on(async {
        database.query(&pay_around(12, 1_000)).unwrap();
        let blocker = block_inserts(&database, "risk_queue", "w3").await;
        let (_, call) = start_blocked_refresh(&database).await;
        database.query("SELECT arx.activate_risk_model('house-2')").unwrap();
        blocker.batch_execute("COMMIT").await.unwrap();
        call.await.unwrap().unwrap();
    });
    database.query("SELECT arx.rollback_risk_model()").unwrap();
    assert_ne!(database.query(MISMATCHES).unwrap(), "");
    database.query(REFRESH).unwrap();
    assert_eq!(database.query(MISMATCHES).unwrap(), "");
}
