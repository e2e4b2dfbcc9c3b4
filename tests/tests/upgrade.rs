//! `pg_upgrade` of a cluster with facts, labels, models, alerts and positions: the answers stay the
//! same, and the feed goes on without a full load.
//!
//! `ARX_UPGRADE_FROM` lists the major versions that the cluster has before the one under test, for
//! example `15 17`; scripts/install-older installs them with the extension. Without it, the cluster
//! is upgraded to its own version.

use std::path::{Path, PathBuf};
use std::process::Command;

use arx_stack::account::Account;
use arx_stack::guard::Guard;
use arx_stack::postgres::{Cluster, debian_programs, programs_folder};
use arx_stack::process::run;
use arx_stack::programs;
use arx_stack::redis_server::RedisServer;
use arx_tests::fixtures;

/// Everything that is stored: tables of users, and the state of the extension that must survive.
const CONTENT: [&str; 16] = [
    "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY network, tx_hash)) FROM arx.transactions AS t",
    "SELECT md5(string_agg(tableoid::regclass || ' ' || tx_hash, ',' ORDER BY network, tx_hash)) FROM arx.transactions",
    "SELECT md5(string_agg(l::text, ',' ORDER BY label_id)) FROM arx.address_labels AS l",
    "SELECT md5(string_agg(w::text, ',' ORDER BY network_type, wallet_address)) FROM arx.wallet_profiles AS w",
    "SELECT string_agg(m.version || ' ' || m.state || ' ' || m.created_at || md5(m.document::text), ',' ORDER BY m.version)
         || arx.active_risk_model() FROM arx.risk_models AS m",
    "SELECT string_agg(a::text, ',' ORDER BY a.activation_id) FROM arx.risk_model_activations AS a",
    "SELECT string_agg(o::text, ',' ORDER BY o.override_id) FROM arx.risk_overrides AS o",
    "SELECT md5(string_agg(h::text, ',' ORDER BY h.entry_id)) FROM arx.risk_score_history AS h",
    "SELECT string_agg(a::text, ',' ORDER BY a.alert_id) FROM arx.alerts AS a",
    "SELECT string_agg(r::text, ',' ORDER BY r.rule, r.builtin) FROM arx.alert_rules AS r",
    "SELECT string_agg(n::text, ',' ORDER BY n.network) FROM arx.networks AS n",
    "SELECT string_agg(p::text, ',' ORDER BY p::text) FROM arx.partition_policies AS p",
    "SELECT string_agg(concat_ws(' ', p.consumer, p.position, p.attempt, p.confirmed, p.epoch), ',' ORDER BY p.consumer)
       FROM arx.feed_positions AS p",
    "SELECT arx.current_graph_epoch(), count(*), md5(string_agg(c::text, ',' ORDER BY c::text)) FROM arx.transaction_changes AS c",
    "SELECT md5(string_agg(f::text, ',' ORDER BY f::text)) FROM arx.pattern_findings AS f",
    "SELECT string_agg(format('%s %s', c.oid::regclass, pg_get_expr(c.relpartbound, c.oid)), ',' ORDER BY c.oid::regclass::text)
       FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind = 'r'",
];

/// Wallets of the sample with a label, and the busiest one.
const WALLETS: &str = "SELECT DISTINCT ON (p.risk_state) p.wallet_address FROM arx.wallet_profiles AS p
    WHERE p.network_type = 'ethereum' ORDER BY p.risk_state, p.transaction_count DESC, p.wallet_address";

/// Questions about a wallet, which stands for `$1`.
const QUESTIONS: [&str; 7] = [
    "SELECT * FROM arx.wallet_risk($1, 'ethereum')",
    "SELECT * FROM arx.risk_factors($1, 'ethereum') ORDER BY 1, 2",
    "SELECT * FROM arx.wallet_exposure($1, 'ethereum', max_hops => 3)",
    "SELECT * FROM arx.trace_summary($1, 'ethereum', method => 'fifo')",
    "SELECT * FROM arx.wallet_reach($1, 'ethereum', 3)",
    "SELECT * FROM arx.wallet_history($1, 'ethereum', NULL, 20)",
    "SELECT arx.normalize_address($1, 'ethereum')",
];

/// Questions about everything.
const OVERVIEWS: [&str; 3] = [
    "SELECT cluster, wallets, merges FROM arx.wallet_clusters('ethereum')",
    "SELECT * FROM arx.detect_patterns('cycle', '7 days', 'ethereum', min_value => 0.01)",
    "SELECT count(*) FROM arx.verify_graph() WHERE NOT equal",
];

/// Rows and volume that ClickHouse wrote back, and those of the transactions.
const VOLUMES: &str = "SELECT (SELECT sum(transaction_count) FROM arx.hourly_volume),
    (SELECT trim_scale(sum(total_volume)) FROM arx.hourly_volume), count(*), trim_scale(sum(value) FILTER (WHERE status <> 'failed')) FROM arx.transactions";

/// The sidecar's other servers: the ClickHouse engine in its folder, and Redis.
struct Peers {
    data: PathBuf,
    redis: RedisServer,
}

/// The cluster of one version.
struct Server {
    account: Account,
    version: String,
    folder: PathBuf,
    cluster: Cluster,
}

impl Server {
    /// Creates an empty cluster in `FOLDER/pgNUMBER`.
    fn create(account: &Account, programs: PathBuf, folder: &Path, number: usize) -> Self {
        let folder = folder.join(format!("pg{number}"));
        account.create_folder(&folder).unwrap();
        // The two clusters of an upgrade must agree on checksums, whose default differs.
        let mut initdb = account.command(programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        run(initdb.args(["--data-checksums", "--pgdata"]).arg(folder.join("data"))).unwrap();
        let version = run(Command::new(programs.join("postgres")).arg("--version")).unwrap().trim_end().to_owned();
        let cluster = Cluster::of(programs, account.clone(), &folder, &folder.join("run")).unwrap();
        cluster.prepare(false, &[]).unwrap();
        Self { account: account.clone(), version, folder, cluster }
    }

    fn start(&self, guard: &Guard) {
        self.cluster.prepare(false, &[]).unwrap();
        self.cluster.start_guarded(guard).unwrap();
    }

    fn stop(&self) {
        self.cluster.stop_detached().unwrap();
    }

    fn query(&self, sql: &str) -> String {
        let mut psql = self.cluster.program("psql");
        psql.env("PGTZ", "UTC").env("PGDATESTYLE", "ISO, YMD").env("PGDATABASE", "arx");
        let rows = run(psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]));
        rows.unwrap_or_else(|error| panic!("{}: {error:#}", self.version)).trim_end().to_owned()
    }

    fn sidecar(&self, peers: &Peers, arguments: &[&str]) -> String {
        let mut command = Command::new(programs::sidecar().unwrap());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ARX_")) {
            command.env_remove(name);
        }
        let url = format!("host={} port=5432 user=postgres dbname=arx", self.cluster.host().display());
        command.env("ARX_POSTGRES_URL", url).env("ARX_REDIS_URL", peers.redis.url(0));
        command.env("ARX_DATA_DIR", &peers.data).env("ARX_LIBCHDB", programs::libchdb());
        run(command.args(arguments)).unwrap_or_else(|error| panic!("{}: {error:#}", self.version))
    }

    /// Moves the stopped cluster into that of another version, which is empty.
    fn upgrade_to(&self, new: &Self) {
        let mut upgrade = self.account.command(new.cluster.programs().join("pg_upgrade"));
        upgrade.args(["--username", "postgres", "--no-sync", "--old-bindir"]).arg(self.cluster.programs());
        upgrade.arg("--new-bindir").arg(new.cluster.programs());
        upgrade.arg("--old-datadir").arg(self.folder.join("data")).arg("--new-datadir").arg(new.folder.join("data"));
        // It writes into the current folder, and its servers have their sockets there.
        upgrade.arg("--socketdir").arg(&new.folder).current_dir(&new.folder);
        if let Err(error) = run(&mut upgrade) {
            let logs = new.folder.join("data/pg_upgrade_output.d");
            let logs = run(Command::new("grep").args(["-rhE", "ERROR|FATAL|could not|error:"]).arg(&logs));
            panic!("{error:#}\n{}", logs.unwrap_or_default());
        }
    }

    fn answers(&self) -> Vec<(String, String)> {
        let wallets = self.query(WALLETS);
        let of_wallets = wallets
            .lines()
            .flat_map(|wallet| QUESTIONS.iter().map(move |question| question.replace("$1", &format!("'{wallet}'"))));
        let all = CONTENT.iter().chain(&OVERVIEWS).map(|sql| (*sql).to_owned()).chain(of_wallets);
        all.map(|sql| (sql.clone(), self.query(&sql))).collect()
    }
}

/// A cluster with everything that must survive.
fn fill(server: &Server, peers: &Peers) {
    std::fs::create_dir_all(&peers.data).unwrap();
    run(server.cluster.program("psql").args(["-X", "-q", "-c", "CREATE DATABASE arx TEMPLATE template0"])).unwrap();
    server.query("CREATE EXTENSION arx");
    server.query("SELECT * FROM arx.create_tables()");
    let rejects = peers.data.join("rejects").display().to_string();
    for (topic, file) in [("transactions", "transactions.csv.gz"), ("labels", "labels.csv.gz")] {
        let file = fixtures::sample(file).display().to_string();
        server.sidecar(peers, &["import", topic, &file, "--rejects", &rejects]);
    }
    server.query(
        "UPDATE arx.transactions SET value = value + 1
          WHERE tx_hash = (SELECT min(tx_hash) FROM arx.transactions);
         INSERT INTO arx.partition_policies (relation, retention_months) VALUES ('arx.transactions', 1000);
         INSERT INTO arx.alert_rules (rule, metric, warning, message) VALUES ('connections', 'connections', 0, 'ours');
         SELECT arx.record_performance_alerts();
         SELECT arx.refresh_wallet_profiles();
         SELECT arx.refresh_daily_stats();
         SELECT arx.override_risk((SELECT min(wallet_address) FROM arx.wallet_profiles), 'ethereum', 12.5, 'ours', now() + interval '30 days');
         SELECT arx.import_risk_model(jsonb_set(arx.default_risk_model(), '{version}', '\"house-1\"'));
         SELECT arx.activate_risk_model('house-1');
         SELECT * FROM arx.refresh_patterns('cycle', network => 'ethereum')",
    );
    server.query("CALL arx.refresh_risk_scores()");
    assert_ne!(server.query("SELECT count(*) FROM arx.alerts"), "0");
    let report = server.sidecar(peers, &["sync"]);
    assert!(report.starts_with("loaded everything: "), "{report}");
    server.query(
        "UPDATE arx.transactions SET value = value + 2 WHERE tx_hash = (SELECT max(tx_hash) FROM arx.transactions)",
    );
    let report = server.sidecar(peers, &["sync"]);
    assert!(report.starts_with("fed: 1 rows, 1 tombstones"), "{report}");
}

fn assert_written_back(server: &Server) {
    let volumes = server.query(VOLUMES);
    let values: Vec<&str> = volumes.split('|').collect();
    assert_eq!(values[..2], values[2..], "{}: written back, and in PostgreSQL", server.version);
}

/// The feed goes on: what changed is carried, and nothing else.
fn assert_feed_goes_on(server: &Server, peers: &Peers) {
    let status = server.sidecar(peers, &["status"]);
    assert!(!status.contains("foreign: ") && !status.contains("went back: "), "{status}");
    assert!(server.sidecar(peers, &["verify"]).contains("both sides are the same"));
    // Before the triggers are back, this leaves no event.
    let before = server.query("SELECT arx.current_graph_epoch()");
    truncate_a_partition(server);
    assert_eq!(server.query("SELECT arx.current_graph_epoch()"), before);
    let report = server.sidecar(peers, &["sync"]);
    let expected = "fed: 0 rows, 0 tombstones, 1 ranges of partitions reloaded";
    assert!(report.starts_with(expected), "{}: {report}", server.version);
    assert_written_back(server);
    server.query(
        "WITH numbered AS (SELECT ctid, tableoid, row_number() OVER (ORDER BY tx_hash) AS n FROM arx.transactions)
         DELETE FROM arx.transactions AS t USING numbered WHERE (t.ctid, t.tableoid) = (numbered.ctid, numbered.tableoid) AND n = 5;
         WITH numbered AS (SELECT ctid, tableoid, row_number() OVER (ORDER BY tx_hash) AS n FROM arx.transactions)
         UPDATE arx.transactions AS t SET value = value + 1 FROM numbered
          WHERE (t.ctid, t.tableoid) = (numbered.ctid, numbered.tableoid) AND n = 9;
         INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
         SELECT network, md5(clock_timestamp()::text), block_number, \"timestamp\", from_address, to_address, 3
           FROM arx.transactions ORDER BY tx_hash LIMIT 1",
    );
    let report = server.sidecar(peers, &["sync"]);
    assert!(report.starts_with("fed: 2 rows, 2 tombstones"), "{}: {report}", server.version);
    assert!(server.sidecar(peers, &["verify"]).contains("both sides are the same"));
    assert_written_back(server);
    assert_eq!(server.query(OVERVIEWS[2]), "0");
}

/// Truncates the smallest partition with rows.
fn truncate_a_partition(server: &Server) {
    let partition = server.query(
        "SELECT t.tableoid::regclass FROM arx.transactions AS t GROUP BY 1 ORDER BY count(*), t.tableoid::regclass::text LIMIT 1",
    );
    server.query(&format!("TRUNCATE {partition}"));
}

/// Jobs start over. The feed has given back the triggers that an upgrade leaves out, so that a
/// TRUNCATE of a partition is seen.
fn assert_jobs_go_on(server: &Server, peers: &Peers) {
    server.query("SELECT arx.refresh_wallet_profiles(), arx.refresh_daily_stats()");
    server.query("CALL arx.refresh_risk_scores()");
    let watched = server.query("SELECT arx.current_graph_epoch()").parse::<i64>().unwrap();
    let unwatched = "SELECT count(*) FROM arx.partitions_now() AS p WHERE NOT p.is_watched OR NOT p.is_complete";
    assert_eq!(server.query(unwatched), "0");
    truncate_a_partition(server);
    assert!(server.query("SELECT arx.current_graph_epoch()").parse::<i64>().unwrap() > watched);
    assert_eq!(server.query(OVERVIEWS[2]), "0");
    let report = server.sidecar(peers, &["sync"]);
    let expected = "fed: 0 rows, 0 tombstones, 1 ranges of partitions reloaded";
    assert!(report.starts_with(expected), "{}: {report}", server.version);
    assert!(server.sidecar(peers, &["verify"]).contains("both sides are the same"));
    assert_written_back(server);
    assert_eq!(server.query("SELECT count(*) FROM arx.create_tables()"), "0");
    assert_eq!(server.query("SELECT arx.rollback_risk_model() <> 'house-1'"), "t");
    server.query("SELECT arx.activate_risk_model('house-1'), arx.refresh_wallet_profiles()");
    server.query("CALL arx.refresh_risk_scores()");
}

#[test]
fn an_upgraded_cluster_gives_the_same_answers_and_its_feed_goes_on() {
    let account = Account::current().unwrap();
    let folder = tempfile::TempDir::with_prefix_in("arx-", account.temporary_root().unwrap()).unwrap();
    let guard = Guard::over(folder.path()).unwrap();
    let folder = folder.keep();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let older = std::env::var("ARX_UPGRADE_FROM").unwrap_or_default();
    let mut chain: Vec<PathBuf> = older.split_whitespace().map(debian_programs).collect();
    if chain.is_empty() {
        // Twice: what an upgrade leaves behind shows in the next.
        chain.extend([programs_folder(), programs_folder()]);
    }
    chain.push(programs_folder());
    let servers = chain.into_iter().enumerate();
    let servers = servers.map(|(number, programs)| Server::create(&account, programs, &folder, number));
    let servers: Vec<Server> = servers.collect();

    let peers =
        Peers { data: folder.join("sidecar"), redis: RedisServer::at(&folder.join("redis"), &folder.join("redis")) };
    peers.redis.start_guarded(&guard).unwrap();
    servers[0].start(&guard);
    fill(&servers[0], &peers);
    for pair in servers.windows(2) {
        let [old, new] = pair else { unreachable!("windows of two") };
        eprintln!("from {} to {}", old.version, new.version);
        let before = old.answers();
        old.stop();
        old.upgrade_to(new);
        new.start(&guard);
        let after = new.answers();
        assert_eq!(after.len(), before.len());
        for ((question, after), (asked, before)) in after.iter().zip(&before) {
            assert_eq!((question, after), (asked, before), "from {} to {}", old.version, new.version);
        }
        assert_feed_goes_on(new, &peers);
        assert_jobs_go_on(new, &peers);
    }
}
