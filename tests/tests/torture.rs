//! The feed under kill -9, crashes of ClickHouse and PostgreSQL, cut connections and a full disk,
//! while sessions keep writing. Afterwards ClickHouse holds every row exactly once, and aggregates
//! equal a recomputation.
//!
//! `make test` runs the short form, `make torture` (`ARX_TORTURE=long`) the long one: 200 kills of
//! the sidecar, 20 of ClickHouse, 20 crashes of PostgreSQL.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions, programs};
use arx_tests::fixtures;
use arx_tests::proxy::Proxy;

/// Number of failures of each kind.
struct Failures {
    kills_in_load: u32,
    kills: u32,
    engine_kills: u32,
    crashes: u32,
    cuts: u32,
    full_disks: u32,
}

const SHORT: Failures = Failures { kills_in_load: 4, kills: 8, engine_kills: 2, crashes: 2, cuts: 6, full_disks: 1 };
const LONG: Failures =
    Failures { kills_in_load: 60, kills: 140, engine_kills: 20, crashes: 20, cuts: 60, full_disks: 3 };

/// Sleeps for a random number of milliseconds below the limit.
fn pause(random: &mut fastrand::Rng, limit: u64) {
    std::thread::sleep(Duration::from_millis(random.u64(..limit)));
}

/// A sidecar that ends with the test, even when the test fails.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails when the sidecar has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The servers under test.
struct Servers<'a> {
    stack: &'a Stack,
    database: Database<'a>,
    folder: PathBuf,
    ports: (u16, u16),
    proxy: Proxy,
    engine: u32,
    starts: u32,
    random: fastrand::Rng,
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Returns a ClickHouse configuration that leaves no free space on any of its disks.
fn full_disks() -> String {
    let disk =
        |name: &str| format!("<{name}><keep_free_space_bytes>{}</keep_free_space_bytes></{name}>", u64::MAX >> 2);
    let disks: String = ["default", "arx_warm", "arx_cold"].map(disk).concat();
    format!("<clickhouse><storage_configuration><disks>{disks}</disks></storage_configuration></clickhouse>")
}

impl<'a> Servers<'a> {
    fn new(stack: &'a Stack, name: &str, seed: u64) -> Self {
        let database = stack.database(name).unwrap();
        // The owner may drop the constraint that keeps NaN out.
        database.query("ALTER TABLE arx.transactions DROP CONSTRAINT transactions_value_usd_check").unwrap();
        let folder = database.data_folder().join("clickhouse");
        std::fs::create_dir_all(&folder).unwrap();
        let ports = (free_port(), free_port());
        let proxy = Proxy::to(ports.0).unwrap();
        let mut servers = Self {
            stack,
            database,
            folder,
            ports,
            proxy,
            engine: 0,
            starts: 0,
            random: fastrand::Rng::with_seed(seed),
        };
        servers.start_engine();
        servers
    }

    fn start_engine(&mut self) {
        let mut command = Command::new(programs::clickhouse().unwrap());
        command.arg("--data").arg(&self.folder).arg("--lib").arg(programs::libchdb());
        command.args(["--http-port", &self.ports.0.to_string(), "--tcp-port", &self.ports.1.to_string()]);
        self.starts += 1;
        let endpoint = self.folder.join("endpoint.json");
        // A killed engine leaves the file behind.
        let _ = std::fs::remove_file(&endpoint);
        self.engine = self.stack.start_server(&format!("torture-engine-{}", self.starts), &command).unwrap();
        assert!(wait_until(Duration::from_secs(60), || Ok(endpoint.exists())).unwrap(), "the engine did not start");
    }

    fn kill(&self, pid: u32) {
        run(Command::new("kill").args(["-KILL", &pid.to_string()])).unwrap();
    }

    fn kill_engine(&mut self) {
        self.kill(self.engine);
        let ended = wait_until(Duration::from_secs(20), || Ok(self.stack.ended(self.engine).is_some()));
        assert!(ended.unwrap(), "the engine did not end");
    }

    /// Kills a server process. PostgreSQL then ends all sessions and recovers.
    fn crash_postgres(&self) {
        let checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        let victim = self.database.query(checkpointer).unwrap();
        self.kill(victim.parse().unwrap());
        let is_new = |pid: &str| !pid.is_empty() && pid != victim;
        let back =
            wait_until(Duration::from_secs(60), || Ok(self.database.query(checkpointer).is_ok_and(|pid| is_new(&pid))));
        assert!(back.unwrap(), "PostgreSQL did not come back");
    }

    fn sidecar(&self, arguments: &[&str]) -> Command {
        let mut command = self.database.sidecar().unwrap();
        let password = std::fs::read_to_string(self.folder.join("password")).unwrap();
        command
            .env("ARX_CLICKHOUSE_URL", format!("http://127.0.0.1:{}", self.proxy.port()))
            .env("ARX_CLICKHOUSE_USER", "arx")
            .env("ARX_CLICKHOUSE_PASSWORD", password.trim())
            .args(arguments);
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.sidecar(arguments);
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Log of all sidecars.
    fn log(&self) -> PathBuf {
        self.folder.join("sidecar.log")
    }

    /// Lets the sidecar run for a random time and kills it.
    fn run_and_kill(&mut self, arguments: &[&str], limit: u64) {
        let mut child = self.start(arguments);
        pause(&mut self.random, limit);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Takes a step several times while a daemon runs, which must survive it.
    fn with_daemon(&mut self, times: u32, limit: u64, mut step: impl FnMut(&mut Self)) {
        // Servers that are down when the daemon starts are an error by design, so the steps begin
        // once it runs.
        let starts = || std::fs::read_to_string(self.log()).unwrap_or_default().matches("running; ").count();
        let before = starts();
        let mut daemon = Daemon(self.start(&["run"]));
        assert!(wait_until(Duration::from_secs(60), || Ok(starts() > before)).unwrap(), "the daemon did not start");
        for _ in 0..times {
            pause(&mut self.random, limit);
            step(self);
        }
        let log = std::fs::read_to_string(self.log()).unwrap();
        assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ended by itself: {log}");
        run(Command::new("kill").args(["-TERM", &daemon.0.id().to_string()])).unwrap();
        assert!(daemon.0.wait().unwrap().success(), "the daemon did not stop gracefully");
    }

    /// Checks that both sides are the same, and that the volumes written back equal PostgreSQL's
    /// own.
    fn check(&self) {
        run(&mut self.sidecar(&["sync"])).unwrap();
        let verified = self.sidecar(&["verify"]).output().unwrap();
        let report = String::from_utf8_lossy(&verified.stdout);
        assert!(verified.status.success() && report.contains("both sides are the same"), "{verified:?}");
        assert!(!report.contains("left out"), "{report}");
        let different = self.database.query(
            "WITH truth AS (SELECT network, date_trunc('hour', \"timestamp\", 'UTC') AS hour, count(*) AS n, \
                    coalesce(sum(value) FILTER (WHERE status <> 'failed'), 0) AS volume, count(DISTINCT from_address) AS senders \
               FROM arx.transactions AS t \
              WHERE NOT EXISTS (SELECT FROM arx.feed_rejects AS r WHERE r.relation = 'transactions' AND r.network = t.network \
                                   AND r.tx_hash = t.tx_hash AND r.\"timestamp\" = t.\"timestamp\" AND r.stamp = t.ingest_xid) \
              GROUP BY 1, 2) \
             SELECT count(*) FROM truth AS t FULL JOIN arx.hourly_volume AS v USING (network, hour) \
              WHERE (t.n, t.volume, t.senders) IS DISTINCT FROM (v.transaction_count, v.total_volume, v.unique_senders)",
        );
        assert_eq!(different.unwrap(), "0");
        let unfit = "SELECT network, tx_hash, \"timestamp\", ingest_xid FROM arx.transactions \
                      WHERE value_usd = 'NaN' OR \"timestamp\" > '2106-02-07 06:00'";
        let set_aside = "SELECT network, tx_hash, \"timestamp\", stamp FROM arx.feed_rejects";
        let different = self.database.query(&format!(
            "SELECT (SELECT count(*) FROM (({unfit} EXCEPT {set_aside}) UNION ALL ({set_aside} EXCEPT {unfit})) AS d), \
                    EXISTS ({set_aside})"
        ));
        assert_eq!(different.unwrap(), "0|t", "rows that ClickHouse cannot hold, and those that are set aside");
    }
}

/// Inserts, updates and deletes transactions and token transfers until `stop` is set. Some
/// transactions are long, some are rolled back.
fn write(connection: String, stop: &AtomicBool, written: &AtomicU64, seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        // A crash of the server ends the session, and the next one continues.
        let _ = runtime.block_on(async {
            let (client, session) = tokio_postgres::connect(&connection, tokio_postgres::NoTls).await?;
            let session = tokio::spawn(session);
            while !stop.load(Ordering::Relaxed) {
                let (from, count) = (number, 1 + random.u64(..40));
                number += count;
                let pick = random.u64(..97);
                // Rows of gnosis are never changed again, so that no later change repairs them by
                // chance.
                let network = if random.u64(..2) == 0 { "polygon" } else { "gnosis" };
                let statement = match random.u64(..13) {
                    0 => format!("UPDATE arx.transactions SET value = value + 1 WHERE block_number % 97 = {pick} AND network = 'polygon'"),
                    1 => format!("UPDATE arx.transactions SET status = 'failed' WHERE block_number % 197 = {pick} AND network = 'polygon'"),
                    2 => format!("DELETE FROM arx.transactions WHERE block_number % 101 = {pick} AND network = 'polygon'"),
                    3 => format!(
                        "UPDATE arx.transactions SET to_address = 'other', \"timestamp\" = \"timestamp\" + interval '3 hours' \
                          WHERE block_number % 211 = {pick} AND network = 'polygon'"
                    ),
                    4 => format!(
                        "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, \
                             from_address, to_address, amount) \
                         SELECT network, tx_hash, 7, block_number, \"timestamp\", 'token', from_address, 'x', 1e30 \
                           FROM arx.transactions WHERE block_number % 89 = {pick} AND network = 'polygon' ON CONFLICT DO NOTHING"
                    ),
                    5 => format!("DELETE FROM arx.token_transfers WHERE block_number % 61 = {pick}"),
                    // Rows that ClickHouse cannot hold, some of which are corrected later.
                    6 => format!("UPDATE arx.transactions SET value_usd = 'NaN' WHERE block_number % 89 = {pick} AND network = 'polygon'"),
                    7 => format!(
                        "UPDATE arx.transactions SET \"timestamp\" = timestamptz '2150-01-01' + block_number * interval '1 minute' \
                          WHERE block_number % 103 = {pick} AND network = 'polygon'"
                    ),
                    8 => format!(
                        "UPDATE arx.transactions SET value_usd = NULL, \"timestamp\" = timestamptz '2024-01-01' + block_number * interval '7 minutes' \
                          WHERE (value_usd = 'NaN' OR \"timestamp\" > '2106-01-01') AND block_number % 5 = {pick} % 5"
                    ),
                    _ => format!(
                        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status) \
                         SELECT '{network}', 'w{seed}-' || n, n, timestamptz '2024-01-01' + n * interval '7 minutes', 'a' || n % 13, \
                                nullif('b' || n % 17, 'b3'), 0.5, 'confirmed' FROM generate_series({from}, {from} + {count} - 1) AS n"
                    ),
                };
                let (end, pause) = match random.u64(..8) {
                    0 => ("ROLLBACK", 0),
                    1 => ("COMMIT", random.u64(..400)),
                    _ => ("COMMIT", 0),
                };
                client.batch_execute(&format!("BEGIN; {statement}; SELECT pg_sleep({pause} / 1000.0); {end}")).await?;
                written.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(random.u64(..20))).await;
            }
            drop(client);
            session.await.ok();
            Ok::<_, tokio_postgres::Error>(())
        });
    }
}

#[test]
fn after_any_kill_crash_or_cut_every_row_is_there_exactly_once() {
    let is_long = std::env::var("ARX_TORTURE").is_ok_and(|form| form == "long");
    let failures = if is_long { LONG } else { SHORT };
    let seed = std::env::var("ARX_TORTURE_SEED").ok().and_then(|seed| seed.parse().ok());
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = seed.unwrap_or(u64::from(since_1970.subsec_nanos()));
    println!("ARX_TORTURE_SEED={seed}");

    let stack = Stack::start(&StackOptions { durable: true, ..StackOptions::default() }).unwrap();
    let mut servers = Servers::new(&stack, "torture", seed);
    fixtures::import(&servers.database, &["transactions"], &fixtures::sample("transactions.csv.gz"));

    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (connection, stop, written) = (servers.database.connection(), Arc::clone(&stop), Arc::clone(&written));
            std::thread::spawn(move || write(connection, &stop, &written, seed ^ (writer + 1)))
        })
        .collect();

    for _ in 0..failures.kills_in_load {
        servers.run_and_kill(&["sync"], 900);
    }
    run(&mut servers.sidecar(&["sync"])).unwrap();
    for _ in 0..failures.kills {
        servers.run_and_kill(&["run"], 1_500);
    }
    servers.with_daemon(failures.engine_kills, 1_500, |servers| {
        servers.kill_engine();
        pause(&mut servers.random, 300);
        servers.start_engine();
    });
    servers.with_daemon(failures.crashes, 1_500, |servers| servers.crash_postgres());
    servers.with_daemon(failures.cuts, 600, |servers| {
        servers.proxy.cut();
        servers
            .database
            .query(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'arx-sidecar'",
            )
            .unwrap();
    });
    servers.with_daemon(failures.full_disks, 500, |servers| {
        servers.kill_engine();
        let full = servers.folder.join("config.d/full.xml");
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(&full, full_disks()).unwrap();
        servers.start_engine();
        std::fs::write(servers.log(), "").unwrap();
        let refused = wait_until(Duration::from_secs(60), || {
            Ok(std::fs::read_to_string(servers.log())?.contains("NOT_ENOUGH_SPACE"))
        });
        assert!(refused.unwrap(), "the disk was not full");
        servers.kill_engine();
        std::fs::remove_file(full).unwrap();
        servers.start_engine();
    });
    let written = written.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert!(written > 50, "only {written} transactions were written");
    servers.check();
}
