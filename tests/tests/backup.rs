//! Dumps, copies and the removal of the extension: what users made of the tables survives.

use std::path::Path;
use std::process::{Command, Output};

use arx_stack::process::run;
use arx_stack::{Database, Stack, StackOptions};

/// Rows and states that a restored database must have.
const CONTENT: [&str; 15] = [
    "SELECT md5(string_agg(t::text, ',' ORDER BY tx_hash)) FROM arx.transactions AS t",
    "SELECT md5(string_agg(w::text, ',' ORDER BY wallet_address)) FROM arx.wallet_profiles AS w",
    "SELECT string_agg(tableoid::regclass || ' ' || tx_hash, ',' ORDER BY tx_hash) FROM arx.transactions",
    "SELECT string_agg(l::text, ',' ORDER BY label_id) FROM arx.address_labels AS l",
    "SELECT string_agg(email, ',' ORDER BY email) FROM arx.users",
    "SELECT string_agg(p::text, ',' ORDER BY p::text) FROM arx.partition_policies AS p",
    "SELECT string_agg(n::text, ',' ORDER BY n.network) FROM arx.networks AS n",
    "SELECT string_agg(m.version || ' ' || m.state || ' ' || m.created_at, ',' ORDER BY m.version) || arx.active_risk_model()
       FROM arx.risk_models AS m",
    "SELECT string_agg(a::text, ',' ORDER BY a.activation_id) FROM arx.risk_model_activations AS a",
    "SELECT string_agg(o::text, ',' ORDER BY o.override_id) FROM arx.risk_overrides AS o",
    "SELECT string_agg(h::text, ',' ORDER BY h.entry_id) FROM arx.risk_score_history AS h",
    "SELECT string_agg(c::text, ',' ORDER BY c.address NULLS FIRST) FROM arx.history_coverage AS c",
    "SELECT string_agg(k::text, ',' ORDER BY k.token_address) FROM arx.tokens AS k",
    "SELECT string_agg(r::text, ',' ORDER BY r.rule, r.builtin) FROM arx.alert_rules AS r",
    "SELECT string_agg(s::text, ',' ORDER BY s.job) FROM arx.schedules AS s",
];

/// Catalog queries for all that users may change of the tables. Names of constraints and indexes
/// that the server chose are left out.
const SHAPE: [&str; 13] = [
    "SELECT string_agg(format('%s.%s %s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated,
                              pg_get_expr(d.adbin, d.adrelid)), E'\\n' ORDER BY a.attrelid::regclass::text, a.attname)
       FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
      WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped",
    "SELECT string_agg(format('%s %s %s %s', c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity, c.reloptions), E'\\n' ORDER BY c.relname)
       FROM pg_class AS c WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v')",
    "SELECT string_agg(p::text, E'\\n' ORDER BY p.tablename, p.policyname) FROM pg_policies AS p",
    "SELECT string_agg(format('%s %s', c.oid::regclass, (SELECT string_agg(i::text, ',' ORDER BY i::text) FROM unnest(c.relacl) AS i)), E'\\n'
                       ORDER BY c.relname)
       FROM pg_class AS c WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')",
    "SELECT string_agg(format('%s %s', i.indrelid::regclass, regexp_replace(pg_get_indexdef(i.indexrelid), 'INDEX \\w+ ON', 'INDEX ON')), E'\\n'
                       ORDER BY i.indrelid::regclass::text, regexp_replace(pg_get_indexdef(i.indexrelid), 'INDEX \\w+ ON', 'INDEX ON'))
       FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid WHERE c.relnamespace = 'arx'::regnamespace",
    "SELECT string_agg(format('%s %s %s', t.tgrelid::regclass, t.tgenabled, pg_get_triggerdef(t.oid)), E'\\n' ORDER BY t.tgrelid::regclass::text, t.tgname)
       FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = 'arx'::regnamespace AND NOT t.tgisinternal",
    "SELECT string_agg(format('%s %s', t.tgrelid::regclass, t.tgenabled), E'\\n' ORDER BY t.tgrelid::regclass::text)
       FROM pg_trigger AS t WHERE t.tgfoid = 'arx.raise_graph_epoch'::regproc",
    "SELECT string_agg(format('%s %s', c.conrelid::regclass, pg_get_constraintdef(c.oid)), E'\\n' ORDER BY c.conrelid::regclass::text, pg_get_constraintdef(c.oid))
       FROM pg_constraint AS c WHERE c.connamespace IN ('arx'::regnamespace, 'public'::regnamespace) AND c.conrelid <> 0",
    "SELECT string_agg(format('%s %s', c.oid::regclass, pg_get_viewdef(c.oid)), E'\\n' ORDER BY c.oid::regclass::text)
       FROM pg_class AS c WHERE c.relkind = 'v' AND c.relnamespace IN ('arx'::regnamespace, 'public'::regnamespace)",
    "SELECT string_agg(format('%s %s', p.pubname, p.tablename), ',' ORDER BY p.pubname, p.tablename) FROM pg_publication_tables AS p",
    "SELECT string_agg(format('%s %s %s', d.objoid::regclass, d.objsubid, d.description), E'\\n' ORDER BY d.objoid::regclass::text, d.objsubid)
       FROM pg_description AS d JOIN pg_class AS c ON c.oid = d.objoid WHERE d.classoid = 'pg_class'::regclass AND c.relnamespace = 'arx'::regnamespace",
    "SELECT string_agg(format('%s %s %s', c.oid::regclass, pg_get_expr(c.relpartbound, c.oid), i.inhparent::regclass), E'\\n' ORDER BY c.oid::regclass::text)
       FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind IN ('r', 'p')",
    "SELECT (SELECT string_agg(format('%s %s', e.enumtypid::regtype, e.enumlabel), ',' ORDER BY e.enumtypid::regtype::text, e.enumsortorder) FROM pg_enum AS e)
         || (SELECT string_agg(format('%s.%s %s', s.stxnamespace::regnamespace, s.stxname, s.stxkind), ',') FROM pg_statistic_ext AS s)
         || (SELECT string_agg(format('%s %s', a.attrelid::regclass, a.attname), ',' ORDER BY a.attrelid::regclass::text) FROM pg_attribute AS a WHERE a.attstattarget > 0)
         || (SELECT string_agg(r.tablename || r.definition, ',' ORDER BY r.tablename) FROM pg_rules AS r)",
];

/// Changes that users make.
const CHANGES: &str = "
    CREATE ROLE backup_auditor;
    ALTER TABLE arx.transactions ADD COLUMN case_id text;
    ALTER TABLE arx.transactions ADD COLUMN tenant integer NOT NULL DEFAULT 7;
    ALTER TABLE arx.transactions ADD COLUMN fee numeric GENERATED ALWAYS AS (gas_used::numeric * gas_price) STORED;
    ALTER TABLE arx.asset_prices ADD COLUMN line bigint GENERATED ALWAYS AS IDENTITY;
    UPDATE arx.transactions SET case_id = 'C-' || block_number;
    ALTER TABLE arx.users ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own_row ON arx.users USING (email = current_user);
    ALTER TABLE arx.transactions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own_tenant ON arx.transactions TO backup_auditor USING (tenant = 7);
    GRANT SELECT, INSERT ON arx.transactions TO backup_auditor;
    GRANT SELECT (network, address) ON arx.address_labels TO backup_auditor;
    CREATE INDEX ON arx.transactions (case_id);
    CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER own_trigger AFTER INSERT ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.note();
    CREATE VIEW public.big AS SELECT tx_hash, value FROM arx.transactions WHERE value > 10;
    CREATE TABLE public.case_notes (network text, tx_hash text, at timestamptz, note text,
        FOREIGN KEY (network, tx_hash, at) REFERENCES arx.transactions);
    INSERT INTO public.case_notes SELECT network, tx_hash, timestamp, 'seen' FROM arx.transactions WHERE tx_hash = 't3';
    CREATE PUBLICATION ours FOR TABLE arx.transactions, arx.address_labels;
    COMMENT ON TABLE arx.transactions IS 'our transactions';
    COMMENT ON COLUMN arx.transactions.case_id IS 'case of the investigation';
    ALTER TABLE arx.transactions ALTER COLUMN from_address SET STATISTICS 500;
    ALTER TABLE arx.transactions_2024_01 SET (fillfactor = 90);
    ALTER TABLE arx.transactions_2024_02 RENAME TO february;
    CREATE STATISTICS arx.pairs (ndistinct) ON from_address, to_address FROM arx.transactions;
    ALTER TYPE arx.tx_status_enum ADD VALUE 'orphaned';
    CREATE RULE keep_prices AS ON DELETE TO arx.asset_prices DO INSTEAD NOTHING;
    INSERT INTO arx.schedules (job, schedule, command) VALUES ('own-job', '7 7 * * *', 'SELECT 1');
    UPDATE arx.schedules SET schedule = '1 1 * * *' WHERE job = 'update-stats';
    INSERT INTO arx.alert_rules (rule, metric, warning, message) VALUES ('connections', 'connections', 5, 'ours');
    UPDATE arx.networks SET native_decimals = 9 WHERE network = 'ethereum';";

fn answers(database: &Database<'_>, queries: &[&str]) -> Vec<String> {
    queries.iter().map(|sql| database.query(sql).unwrap()).collect()
}

/// A database with every kind of content.
fn filled<'a>(stack: &'a Stack, name: &str) -> Database<'a> {
    let source = stack.database(name).unwrap();
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
             INSERT INTO arx.history_coverage (network, address, from_time, source)
             VALUES ('testnet', NULL, '2024-01-01', 'x'), ('testnet', 'a1', NULL, 'x');
             INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES ('TST', '2024-01-01', 3);
             INSERT INTO arx.tokens (network, token_address, symbol, decimals, kind, wraps)
             VALUES ('ethereum', '0x00000000000000000000000000000000000000aa', 'WTST', 18, 'fungible', 'native');
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
    source
}

/// Compares line by line, so that a failure names the difference.
fn assert_lines(name: &str, actual: &[String], expected: &[String]) {
    for (actual, expected) in actual.iter().zip(expected) {
        let missing: Vec<&str> = expected.lines().filter(|line| !actual.lines().any(|other| other == *line)).collect();
        let added: Vec<&str> = actual.lines().filter(|line| !expected.lines().any(|other| other == *line)).collect();
        assert!(missing.is_empty() && added.is_empty(), "{name}: missing {missing:#?}, added {added:#?}");
        assert_eq!(actual, expected, "{name}");
    }
}

/// Runs a client program of PostgreSQL on a database of the stack.
fn program(stack: &Stack, name: &str, database: &Database<'_>) -> Command {
    let mut command = stack.cluster().program(name);
    command.args(["-d", database.name()]);
    command
}

fn assert_quiet(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("error:") && !errors.contains("ERROR:"), "{errors}");
}

fn dump(stack: &Stack, source: &Database<'_>, options: &[&str], target: &Path) {
    assert_quiet(&program(stack, "pg_dump", source).args(options).arg("-f").arg(target).output().unwrap());
}

fn restore(stack: &Stack, target: &Database<'_>, options: &[&str], dump: &Path) {
    assert_quiet(&program(stack, "pg_restore", target).args(options).arg(dump).output().unwrap());
}

/// The tables of the database work: changes are noticed, jobs run, and nothing more is to be done.
fn assert_works(target: &Database<'_>) {
    assert_eq!(target.query("SELECT count(*) FROM arx.create_tables()").unwrap(), "0");
    let before = target.query("SELECT count(*) FROM arx.transaction_changes").unwrap().parse::<u64>().unwrap();
    target.query("DELETE FROM arx.transactions WHERE tx_hash = 't8'").unwrap();
    let after = target.query("SELECT count(*) FROM arx.transaction_changes").unwrap().parse::<u64>().unwrap();
    assert_eq!(after, before + 1);
    assert_eq!(target.query("SELECT arx.refresh_wallet_profiles() > 0").unwrap(), "t");
    target.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_eq!(
        target.query("SELECT DISTINCT risk_state FROM arx.wallet_profiles ORDER BY 1").unwrap(),
        "labelled\noverridden\npartial\nscored\nunknown"
    );
    assert_eq!(target.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    target.query("TRUNCATE arx.transactions_2024_01 CASCADE").unwrap();
    assert_eq!(target.query("SELECT reason FROM arx.graph_epoch ORDER BY epoch_id DESC LIMIT 1").unwrap(), "truncate");
    // The active model, the one before it and the history of activations are restored.
    assert_eq!(target.query("SELECT arx.active_risk_model()").unwrap(), "house-1");
    let shipped = target.query("SELECT arx.default_risk_model() ->> 'version'").unwrap();
    assert_eq!(target.query("SELECT arx.rollback_risk_model()").unwrap(), shipped);
    assert!(target.query("SELECT arx.rollback_risk_model()").is_err());
    let new = "SELECT arx.override_risk('a3', 'testnet', 1, 'ours', now() + interval '1 day') > max(override_id) FROM arx.risk_overrides";
    assert_eq!(target.query(new).unwrap(), "t");
}

#[test]
fn what_users_changed_survives_every_kind_of_dump_and_a_copy() {
    let stack = Stack::shared().unwrap();
    let source = filled(stack, "backup_source");
    source.query(CHANGES).unwrap();
    let (content, shape) = (answers(&source, &CONTENT), answers(&source, &SHAPE));
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let assert_same = |target: &Database<'_>| {
        assert_lines(target.name(), &answers(target, &SHAPE), &shape);
        assert_lines(target.name(), &answers(target, &CONTENT), &content);
        assert_works(target);
    };

    dump(stack, &source, &["-Fc"], &path("custom"));
    let target = stack.bare_database("backup_custom").unwrap();
    restore(stack, &target, &[], &path("custom"));
    assert_same(&target);

    dump(stack, &source, &["-Fd", "-j2"], &path("directory"));
    let target = stack.bare_database("backup_directory").unwrap();
    restore(stack, &target, &["-j2"], &path("directory"));
    assert_same(&target);

    dump(stack, &source, &[], &path("plain"));
    let target = stack.bare_database("backup_plain").unwrap();
    assert_quiet(&program(stack, "psql", &target).args(["-X", "-q", "-f"]).arg(path("plain")).output().unwrap());
    assert_same(&target);

    // The schemas alone: the extension comes first, and the schema arx exists then.
    dump(stack, &source, &["-Fc", "-n", "arx", "-n", "public"], &path("schemas"));
    let target = stack.bare_database("backup_schemas").unwrap();
    target.query("CREATE EXTENSION arx; DROP SCHEMA public CASCADE").unwrap();
    let output = program(stack, "pg_restore", &target).arg(path("schemas")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("error:").count(), 1, "{errors}");
    assert!(errors.contains("schema \"arx\" already exists"), "{errors}");
    // Publications belong to no schema.
    target.query("CREATE PUBLICATION ours FOR TABLE arx.transactions, arx.address_labels").unwrap();
    assert_same(&target);

    // The schema first, the rows later.
    dump(stack, &source, &["-Fc", "-s"], &path("schema_only"));
    dump(stack, &source, &["-Fc", "-a"], &path("data_only"));
    let target = stack.bare_database("backup_halves").unwrap();
    restore(stack, &target, &[], &path("schema_only"));
    restore(stack, &target, &["--disable-triggers"], &path("data_only"));
    assert_lines(target.name(), &answers(&target, &SHAPE), &shape);
    assert_lines(target.name(), &answers(&target, &CONTENT), &content);

    let target = stack.copy_of(&source, "backup_copy").unwrap();
    assert_same(&target);
}

/// Rows that a dump of the data alone must bring. They are stamped when they arrive, and models
/// that exist already keep the time of their creation.
const ROWS: [&str; 11] = [
    "SELECT string_agg((to_jsonb(t) - 'ingest_xid')::text, E'\\n' ORDER BY tx_hash) FROM arx.transactions AS t",
    "SELECT string_agg((to_jsonb(l) - 'ingest_xid')::text, E'\\n' ORDER BY label_id) FROM arx.address_labels AS l",
    "SELECT string_agg((to_jsonb(o) - 'ingest_xid')::text, E'\\n' ORDER BY override_id) FROM arx.risk_overrides AS o",
    "SELECT string_agg(w::text, E'\\n' ORDER BY wallet_address) FROM arx.wallet_profiles AS w",
    "SELECT string_agg(c::text, E'\\n' ORDER BY category) FROM arx.label_categories AS c",
    "SELECT string_agg(n::text, E'\\n' ORDER BY network) FROM arx.networks AS n",
    "SELECT string_agg(p::text, E'\\n' ORDER BY p::text) FROM arx.partition_policies AS p",
    "SELECT string_agg(m.version || ' ' || m.state, E'\\n' ORDER BY m.version) || arx.active_risk_model() FROM arx.risk_models AS m",
    "SELECT string_agg(r::text, E'\\n' ORDER BY r.rule, r.builtin) FROM arx.alert_rules AS r",
    "SELECT string_agg(s::text, E'\\n' ORDER BY s.job) FROM arx.schedules AS s",
    "SELECT string_agg(h::text, E'\\n' ORDER BY h.entry_id) FROM arx.risk_score_history AS h",
];

/// Changes of rows that ARX ships, to which labels refer.
const SHIPPED: &str = "
    UPDATE arx.networks SET native_decimals = 9 WHERE network = 'ethereum';
    UPDATE arx.label_categories SET severity = 'low', description = 'ours' WHERE category = 'scam';
    UPDATE arx.schedules SET schedule = '1 1 * * *' WHERE job = 'update-stats';
    UPDATE arx.alert_rules SET warning = 7 WHERE rule = 'connections';
    ALTER TABLE arx.label_categories ADD COLUMN length integer GENERATED ALWAYS AS (length(category)) STORED;
    INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES
        ('ethereum', '0x52908400098527886e0f7030069857d2e4169ee7', 'scam', 'high', 'x'),
        ('bitcoin', '1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2', 'exchange', 'none', 'x');";

#[test]
fn a_dump_of_the_data_goes_into_new_tables() {
    let stack = Stack::shared().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let length =
        "ALTER TABLE arx.label_categories ADD COLUMN length integer GENERATED ALWAYS AS (length(category)) STORED";

    // Labels of shipped and of own categories and networks, and months that do not exist.
    let source = filled(stack, "backup_rows");
    source.query(SHIPPED).unwrap();
    source
        .query(
            "INSERT INTO arx.label_categories (category, kind, severity, description) VALUES ('mule', 'illicit', 'high', 'ours');
             INSERT INTO arx.address_labels (network, address, category, severity, source)
             VALUES ('testnet', 'a4', 'mule', 'high', 'x')",
        )
        .unwrap();
    dump(stack, &source, &["-Fc", "-a", "--load-via-partition-root"], &path("rows"));
    let target = stack.database("backup_rows_target").unwrap();
    target.query(length).unwrap();
    restore(stack, &target, &["-a"], &path("rows"));
    assert_lines("rows", &answers(&target, &ROWS), &answers(&source, &ROWS));
    target.query("SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-04-30')").unwrap();
    assert_eq!(target.query("SELECT count(*) FROM arx.transactions_default").unwrap(), "0");
    assert_works(&target);

    // The data of a complete archive, in which labels come before their categories.
    let source = stack.database("backup_archive").unwrap();
    source.query(SHIPPED).unwrap();
    dump(stack, &source, &["-Fc"], &path("archive"));
    let target = stack.database("backup_archive_target").unwrap();
    target.query(length).unwrap();
    restore(stack, &target, &["-a"], &path("archive"));
    assert_lines("archive", &answers(&target, &ROWS), &answers(&source, &ROWS));
}

#[test]
fn a_dump_restored_into_another_cluster_is_stamped_again() {
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
    let file = scratch.path().join("arx.dump");
    dump(stack, &source, &["-Fc"], &file);
    restore(&elsewhere, &target, &[], &file);

    let future = "SELECT count(*) FROM arx.transactions WHERE ingest_xid >= pg_snapshot_xmax(pg_current_snapshot())";
    assert_eq!(target.query(future).unwrap(), "0");
    assert_eq!(target.query("SELECT count(*) FROM arx.transaction_changes").unwrap(), "0");
    let reach = "SELECT depth, wallets, transfers, total_value FROM arx.wallet_reach('w1', 'testnet', 5)";
    let output = target.psql().args(["-A", "-t", "-c", reach]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), source.query(reach).unwrap());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    target.query("DELETE FROM arx.transactions WHERE tx_hash = 't9'").unwrap();
    assert_eq!(target.query("SELECT outcome, merged_rows FROM arx.refresh_graph()").unwrap(), "appended|1");
    assert_eq!(target.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
}

#[test]
fn dropping_the_extension_leaves_every_row_and_it_can_come_back() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "backup_dropped");
    let (content, shape) = (answers(&database, &CONTENT), answers(&database, &SHAPE));
    let refused = database.query("DROP EXTENSION arx").unwrap_err().to_string();
    assert!(refused.contains("other objects depend on it"), "{refused}");
    // While the extension is away, nothing logs what changes.
    database
        .query(
            "SELECT arx.wallet_reach('a1', 'testnet', 1);
             DROP EXTENSION arx CASCADE;
             UPDATE arx.transactions SET value = 3 WHERE tx_hash = 't5';
             CREATE EXTENSION arx",
        )
        .unwrap();
    assert_ne!(database.query("SELECT count(*) FROM arx.create_tables()").unwrap(), "0");
    assert_eq!(
        database.query("SELECT total_value FROM arx.wallet_reach('a5', 'testnet', 1) WHERE depth = 1").unwrap(),
        "3.000000000000000000"
    );
    database.query("UPDATE arx.transactions SET value = 1.5 WHERE tx_hash = 't5'").unwrap();
    assert_lines(database.name(), &answers(&database, &SHAPE), &shape);
    assert_lines(database.name(), &answers(&database, &CONTENT)[2..], &content[2..]);
    assert_works(&database);
}
