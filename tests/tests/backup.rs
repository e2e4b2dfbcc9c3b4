//! A restored dump contains the dumped rows, partitions and settings. The restore reports no errors
//! except for objects that ATTACH has already made.

use std::process::Command;

use arx_stack::process::run;
use arx_stack::{Database, Stack, StackOptions};

const STATE: [&str; 11] = [
    "SELECT md5(string_agg(t::text, ',' ORDER BY tx_hash)) FROM arx.transactions AS t",
    "SELECT md5(string_agg(w::text, ',' ORDER BY wallet_address)) FROM arx.wallet_profiles AS w",
    "SELECT string_agg(tableoid::regclass || ' ' || tx_hash, ',' ORDER BY tx_hash) FROM arx.transactions",
    "SELECT string_agg(email, ',' ORDER BY email) FROM arx.users",
    "SELECT string_agg(p::text, ',' ORDER BY p) FROM arx.partition_policies AS p",
    "SELECT string_agg(n.network, ',' ORDER BY n.network) FROM arx.networks AS n",
    "SELECT string_agg(m::text, ',' ORDER BY m.version) FROM arx.risk_models AS m WHERE NOT m.builtin",
    "SELECT string_agg(m.version || ' ' || m.state, ',' ORDER BY m.version) || arx.active_risk_model() FROM arx.risk_models AS m",
    "SELECT string_agg(a.version || ' ' || a.activation_id, ',' ORDER BY a.activation_id) FROM arx.risk_model_activations AS a",
    "SELECT string_agg(o::text, ',' ORDER BY o.override_id) FROM arx.risk_overrides AS o",
    "SELECT string_agg(h::text, ',' ORDER BY h.entry_id) FROM arx.risk_score_history AS h",
];

fn state(database: &Database<'_>) -> Vec<String> {
    STATE.iter().map(|sql| database.query(sql).unwrap()).collect()
}

#[test]
fn a_dump_restores_rows_partitions_and_user_settings() {
    let stack = Stack::shared().unwrap();
    let source = stack.database("backup_source").unwrap();
    source
        .query(
            "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
             INSERT INTO arx.users (email) VALUES ('ada@example.org');
             INSERT INTO arx.partition_policies (relation, retention_months) VALUES ('arx.transactions', 1000);
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-02-29');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 day', 'a' || n, 'b', 1.5
               FROM generate_series(1, 100) AS n;
             UPDATE arx.transactions SET value = 2 WHERE tx_hash = 't7';
             SELECT arx.refresh_wallet_profiles();
             SELECT count(*) FROM arx.create_hash_partitions(partitions => 3);
             INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'a1', 'scam', 'high', 'x');
             SELECT arx.override_risk('a2', 'testnet', 12.5, 'ours', now() + interval '1 day')",
        )
        .unwrap();
    source.query("CALL arx.refresh_risk_scores()").unwrap();
    for model in ["house-1", "house-2", "house-3"] {
        let import = "SELECT arx.import_risk_model(jsonb_set(arx.default_risk_model(), '{version}'";
        source.query(&format!("{import}, '\"{model}\"'))")).unwrap();
    }
    source.query("SELECT arx.activate_risk_model('house-1')").unwrap();
    source.query("SELECT arx.activate_risk_model('house-2', 'better')").unwrap();
    assert_eq!(source.query("SELECT arx.rollback_risk_model()").unwrap(), "house-1");
    let target = stack.bare_database("backup_target").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let dump = scratch.path().join("arx.dump");
    let host = source.connection().replace("host=", "").split(' ').next().unwrap().to_owned();
    let program = |name: &str| {
        let mut command = Command::new(name);
        command.args(["-h", &host, "-p", "5432", "-U", "postgres"]);
        command
    };
    run(program("pg_dump").args(["-Fc", "-f"]).arg(&dump).args(["-d", source.name()])).unwrap();
    let restore = program("pg_restore").args(["-d", target.name()]).arg(&dump).output().unwrap();
    let errors = String::from_utf8_lossy(&restore.stderr);
    let unexpected: Vec<&str> = errors
        .lines()
        .filter(|line| line.contains("ERROR"))
        .filter(|line| !line.contains("already exists") && !line.contains("multiple primary keys for table"))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert_eq!(state(&target), state(&source));
    // The triggers work, and no further step is needed.
    target.query("DELETE FROM arx.transactions WHERE tx_hash = 't8'").unwrap();
    assert_eq!(target.query("SELECT count(*) FROM arx.transaction_changes").unwrap(), "2");
    target.query("TRUNCATE arx.transactions_2024_01").unwrap();
    assert_eq!(target.query("SELECT reason FROM arx.graph_epoch ORDER BY epoch_id DESC LIMIT 1").unwrap(), "truncate");
    assert_eq!(target.query("SELECT arx.refresh_wallet_profiles() > 0").unwrap(), "t");
    // The active model, the one before it and the history of scores are restored.
    assert_eq!(target.query("SELECT arx.active_risk_model()").unwrap(), "house-1");
    target.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_eq!(
        target.query("SELECT DISTINCT risk_state FROM arx.wallet_profiles ORDER BY 1").unwrap(),
        "labelled\noverridden\nscored\nunknown"
    );
    let shipped = target.query("SELECT arx.default_risk_model() ->> 'version'").unwrap();
    assert_eq!(target.query("SELECT arx.rollback_risk_model()").unwrap(), shipped);
    assert!(target.query("SELECT arx.rollback_risk_model()").is_err());
    let new = "SELECT arx.override_risk('a3', 'testnet', 1, 'ours', now() + interval '1 day') > max(override_id) FROM arx.risk_overrides";
    assert_eq!(target.query(new).unwrap(), "t");
}

#[test]
fn a_dump_restored_into_another_cluster_answers_and_can_be_restamped() {
    let stack = Stack::shared().unwrap();
    let source = stack.database("cluster_source").unwrap();
    // Use transaction ids that the other cluster has not assigned yet.
    let use_ids = "SELECT 'SELECT pg_current_xact_id()' FROM generate_series(1, 5000) \\gexec";
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), format!("\\o /dev/null\n{use_ids}\n")).unwrap();
    run(source.psql().arg("-f").arg(script.path())).unwrap();
    source
        .query(
            "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-02-29');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 hour', 'w' || n % 17, 'w' || n * 7 % 23, n
               FROM generate_series(1, 1000) AS n;
             DELETE FROM arx.transactions WHERE tx_hash = 't7';
             UPDATE arx.transactions SET value = 2.5 WHERE tx_hash = 't8'",
        )
        .unwrap();
    let elsewhere = Stack::start(&StackOptions::default()).unwrap();
    let target = elsewhere.bare_database("cluster_target").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let dump = scratch.path().join("arx.dump");
    run(stack.cluster().program("pg_dump").args(["-Fc", "-d", source.name(), "-f"]).arg(&dump)).unwrap();
    // The test above checks the errors of a restore.
    elsewhere.cluster().program("pg_restore").args(["-d", target.name()]).arg(&dump).output().unwrap();

    let reach = "SELECT depth, wallets, transfers, total_value FROM arx.wallet_reach('w1', 'testnet', 5)";
    let expected = source.query(reach).unwrap();
    let query = || {
        let output = target.psql().args(["-A", "-t", "-c", reach]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout).trim_end().to_owned(), text(output.stderr))
    };
    let (answer, warning) = query();
    assert_eq!(answer, expected);
    assert!(warning.contains("of another cluster"), "{warning}");
    assert_eq!(target.query("SELECT arx.after_restore()").unwrap(), "999");
    assert_eq!(query(), (expected, String::new()));
    target.query("DELETE FROM arx.transactions WHERE tx_hash = 't9'").unwrap();
    assert_eq!(target.query("SELECT outcome, merged_rows FROM arx.refresh_graph()").unwrap(), "merged|1");
    assert_eq!(target.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
}
