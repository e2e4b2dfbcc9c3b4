//! Health where it is hard to see: an idle primary, a standby that does not replay, one that is
//! gone; what the sidecar measures in Redis; and the exit codes of `arx-sidecar check`.

use std::process::Command;

use arx_stack::{Database, Stack, StackOptions};
use arx_tests::daemon::{Daemon, sidecar};
use arx_tests::redis::{redis_of, wallet};
use arx_tests::replica::{Replica, wait_for};

#[test]
fn replication_is_measured_where_it_can_be() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let primary = stack.database("health").unwrap();
    primary
        .query(
            "INSERT INTO arx.alert_thresholds (rule, warning)
             VALUES ('replication_lag', 0.3), ('standby_lag', 0.3), ('standby_missing', 0), ('standby_bytes', 1e15)",
        )
        .unwrap();
    let standby = Replica::copy(&stack, "health", &primary, &["-R", "--no-sync"]).unwrap();
    standby.start(&["wal_receiver_status_interval=1s".into(), "wal_retrieve_retry_interval=500ms".into()]).unwrap();
    let received = "SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()";
    wait_for(|sql| standby.query(sql), received, "t");

    // An idle primary is no lag: the last transaction is older than the threshold by now.
    let of = |names: &str| {
        format!(
            "SELECT string_agg(name || ' ' || severity, ', ' ORDER BY name) FROM arx.health_check() WHERE name IN ({names})"
        )
    };
    let is_old = "SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) > 1";
    wait_for(|sql| standby.query(sql), is_old, "t");
    let seen = of("'replication_lag', 'replay_paused', 'wal_receiver'");
    wait_for(|sql| standby.query(sql), &seen, "replay_paused ok, replication_lag ok, wal_receiver ok");
    let dashboard = "SELECT replication_lag_seconds FROM arx.performance_dashboard";
    assert_eq!(standby.query(dashboard).unwrap(), "0.000");
    let seen = of("'replication_lag', 'standby_lag', 'standby_missing'");
    wait_for(|sql| primary.query(sql), &seen, "replication_lag ok, standby_lag ok, standby_missing ok");

    // A standby that does not replay lags behind, as seen from both servers.
    standby.query("SELECT pg_wal_replay_pause()").unwrap();
    primary.query("CREATE TABLE public.news AS SELECT 1").unwrap();
    wait_for(|sql| primary.query(sql), &seen, "replication_lag warning, standby_lag warning, standby_missing ok");
    let alerts = "SELECT count(*) FROM arx.check_performance_alerts() WHERE alert_type = 'standby_lag'";
    assert_eq!(primary.query(alerts).unwrap(), "1");
    wait_for(
        |sql| standby.query(sql),
        &of("'replay_paused', 'replication_lag'"),
        "replay_paused warning, replication_lag warning",
    );
    standby.query("SELECT pg_wal_replay_resume()").unwrap();
    wait_for(|sql| standby.query(sql), received, "t");

    // One that was seen and is gone is missed, until it is forgotten.
    primary.query("SELECT arx.record_performance_alerts()").unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    primary.query("ALTER SYSTEM SET max_wal_senders = 0").unwrap();
    standby.query("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'").unwrap();
    standby.query("SELECT pg_reload_conf()").unwrap();
    primary.query(end).unwrap();
    let missing = "SELECT severity || ' ' || statement FROM arx.health_check() WHERE name = 'standby_missing'";
    wait_for(|sql| primary.query(sql), missing, "warning SELECT arx.forget_standby('walreceiver');");
    wait_for(|sql| standby.query(sql), &of("'wal_receiver'"), "wal_receiver critical");
    assert_eq!(primary.query("SELECT arx.forget_standby('walreceiver')").unwrap(), "t");
    assert_eq!(primary.query(missing).unwrap(), "");
    let restart = "SELECT severity FROM arx.health_check() WHERE name = 'pending_restart'";
    primary.query("SELECT pg_reload_conf()").unwrap();
    wait_for(|sql| primary.query(sql), restart, "info");
}

#[test]
fn the_sidecar_reports_what_waits_in_redis_and_how_old_the_profiles_are() {
    let database = Stack::shared().unwrap().database("health_redis").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let seen = "SELECT string_agg(name || ' ' || severity, ', ' ORDER BY name) FROM arx.health_check()
                 WHERE name IN ('cache_lag', 'dead_letters', 'queued_writes')";
    let unused = "cache_lag ok, dead_letters ok, queued_writes ok";
    assert_eq!(database.query(seen).unwrap(), unused);
    let label = r#"{"category": "no_such_category", "source": "test"}"#;
    let (output, text) = sidecar(&database, &[], &["label", &wallet(1), label]);
    assert!(output.status.success(), "{text}");
    let mut daemon = Daemon::start(&database, &[], scratch.path());
    let rejected = "cache_lag ok, dead_letters warning, queued_writes ok";
    wait_for(|sql| database.query(sql), seen, rejected);
    let values = "SELECT string_agg(name || ' ' || value, ', ' ORDER BY name) FROM arx.health_check()
                   WHERE name IN ('dead_letters', 'queued_writes')";
    wait_for(|sql| database.query(sql), values, "dead_letters 1, queued_writes 0");
    // The cause names the stream, which has the reason.
    let stream = "SELECT substring(cause FROM 'the stream (arx:\\S+:dead) has') FROM arx.health_check()
                   WHERE name = 'dead_letters'";
    let stream = database.query(stream).unwrap();
    let letter = redis_of(&database, &["XRANGE", &stream, "-", "+"]);
    assert!(letter.contains("no_such_category"), "{stream}: {letter}");
    redis_of(&database, &["DEL", &stream]);
    wait_for(|sql| database.query(sql), seen, unused);
    // Without a sidecar, the age of the profiles grows from the last snapshot.
    daemon.kill();
    database.query("INSERT INTO arx.alert_thresholds (rule, warning) VALUES ('cache_lag', 0)").unwrap();
    wait_for(|sql| database.query(sql), seen, "cache_lag warning, dead_letters ok, queued_writes ok");
    let cause = "SELECT cause ~ '^the profiles in Redis are not kept in step: .* [(][0-9]+ transactions behind[)]$'
                   FROM arx.health_check() WHERE name = 'cache_lag'";
    assert_eq!(database.query(cause).unwrap(), "t");
}

/// Runs `arx-sidecar check` and returns its exit code and its output.
fn check(database: &Database<'_>, arguments: &[&str], change: impl FnOnce(&mut Command)) -> (i32, String) {
    let mut command = database.sidecar().unwrap();
    command.arg("check").args(arguments);
    change(&mut command);
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_sidecar_answers_as_a_nagios_plugin_does() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("health_check").unwrap();
    let connections = |arguments: &[&str]| check(&database, arguments, |_| {});
    let (code, text) = connections(&["connections", "xid_age"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("ARX OK - 2 checks are well | connections="), "{text}");
    let thresholds = |warning: &str, critical: &str| {
        let sql = format!(
            "DELETE FROM arx.alert_thresholds; INSERT INTO arx.alert_thresholds (rule, warning, critical) \
             VALUES ('connections', {warning}, {critical})"
        );
        database.query(&sql).unwrap();
    };
    thresholds("-1", "NULL");
    let (code, text) = connections(&["connections", "xid_age"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("\nwarning connections: high connection usage: "), "{text}");
    thresholds("-2", "-1");
    assert_eq!(connections(&["connections"]).0, 2);
    let rule = "INSERT INTO arx.alert_rules (rule, metric, warning, message) VALUES ('odd', 'nothing', 1, 'x')";
    database.query(rule).unwrap();
    let (code, text) = connections(&["odd"]);
    assert_eq!((code, text.contains("metric \"nothing\" does not exist")), (3, true), "{text}");
    assert_eq!(connections(&["no_such_check"]).0, 3);
    // A server that does not answer is critical.
    let (code, text) = check(&database, &[], |command| {
        command.env("ARX_POSTGRES_URL", "host=/nowhere");
    });
    assert_eq!((code, text.starts_with("ARX CRITICAL - ")), (2, true), "{text}");
    let (code, text) = connections(&["--format", "prometheus", "connections"]);
    assert_eq!((code, text.contains("arx_health_severity{name=\"connections\",object=\"\"} 4\n")), (0, true), "{text}");
    let (code, text) = connections(&["--format", "json", "connections"]);
    assert_eq!((code, text.contains("\"severity\": \"critical\"")), (2, true), "{text}");
    // A role with pg_monitor alone may check.
    database
        .query("DO $$ BEGIN CREATE ROLE health_monitor LOGIN IN ROLE pg_monitor; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        .unwrap();
    let (code, text) = check(&database, &["xid_age", "connections"], |command| {
        command.env("ARX_POSTGRES_URL", database.connection_as("health_monitor"));
    });
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("high connection usage"), "{text}");
}
