//! Backups: a cluster that has lost its data folder comes back to a point in time, and the feed
//! goes on from there; logical backups are proved to restore.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use arx_stack::account::Account;
use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions, programs};
use arx_tests::fixtures::TESTNET;

const REACH: &str = "SELECT sum(wallets), trim_scale(sum(total_value)) FROM arx.wallet_reach('a0', 'testnet', 5)";

const SCORES: &str = "SELECT score, state FROM arx.wallet_risk('a0', 'testnet')";

const FACTS: &str = "SELECT count(*), trim_scale(sum(value)) FROM arx.transactions";

fn insert(prefix: &str, from: &str, count: u32) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         SELECT 'testnet', '{prefix}' || n, n, timestamptz '{from}' + n * interval '1 hour', 'a' || n % 3, 'b' || n % 5, 1,
                'confirmed' FROM generate_series(1, {count}) AS n;"
    )
}

/// A repository, and the shipped configuration with the paths of this test.
struct Repository {
    account: Account,
    folder: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let account = Account::current().unwrap();
        let folder = tempfile::tempdir_in(account.temporary_root().unwrap()).unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        for name in ["repository", "log", "lock"] {
            account.create_folder(&folder.path().join(name)).unwrap();
        }
        Self { account, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn configure(&self, stack: &Stack, passphrase: &str) {
        let shipped = std::fs::read_to_string(programs::workspace().join("config/pgbackrest/pgbackrest.conf")).unwrap();
        let cluster = stack.cluster();
        let values = [
            ("/var/lib/pgbackrest", self.path("repository")),
            ("/var/log/pgbackrest", self.path("log")),
            ("/tmp/pgbackrest", self.path("lock")),
            ("/var/lib/postgresql/15/main", cluster.data().display().to_string()),
            ("/var/run/postgresql", cluster.host().display().to_string()),
            ("<passphrase>", passphrase.to_owned()),
            ("pg1-port=5432", format!("pg1-port={}", cluster.port())),
        ];
        let text = values.iter().fold(shipped, |text, (name, value)| {
            assert!(text.contains(name), "the configuration has no {name}");
            text.replace(name, value)
        });
        let file = self.folder.path().join("pgbackrest.conf");
        std::fs::write(&file, text).unwrap();
        self.account.own(&file).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.account.command("pgbackrest");
        command.arg(format!("--config={}", self.path("pgbackrest.conf"))).arg("--stanza=arx").args(arguments);
        command.env_remove("PGHOST").stdin(Stdio::null());
        command
    }

    fn pgbackrest(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments)).unwrap()
    }

    /// Runs `arx-sidecar backup check` as the user of the backups, who may not reach the workspace.
    /// No file may be larger than `blocks` KB. Returns the report, or the message.
    fn check(&self, database: &Database<'_>, stack: &Stack, blocks: &str) -> Result<serde_json::Value, String> {
        let sidecar = self.folder.path().join("arx-sidecar");
        if !sidecar.exists() {
            std::fs::copy(programs::sidecar().unwrap(), &sidecar).unwrap();
            self.account.create_folder(&self.folder.path().join("scratch")).unwrap();
        }
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = self.account.command("bash");
        command.arg("-c").arg(script).arg(sidecar).args([
            "backup",
            "check",
            "--json",
            "--record",
            "--pgbackrest-config",
        ]);
        command.env("ARX_POSTGRES_URL", database.connection());
        command.arg(self.path("pgbackrest.conf")).args(["--folder", &self.path("scratch")]);
        command.arg("--programs").arg(stack.cluster().programs());
        let output = command.env_remove("PGHOST").stdin(Stdio::null()).output().unwrap();
        let left = std::fs::read_dir(self.folder.path().join("scratch")).unwrap().count();
        assert_eq!(left, 0, "the scratch folder is removed");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(serde_json::from_slice(&output.stdout).unwrap()) } else { Err(errors) }
    }

    /// The file of an archived segment of WAL.
    fn segment(&self, name: &str) -> PathBuf {
        let pattern = format!("{name}-*");
        let found = run(Command::new("find").arg(self.path("repository/archive")).args(["-name", &pattern])).unwrap();
        PathBuf::from(found.trim())
    }
}

#[test]
fn a_lost_cluster_comes_back_to_a_point_in_time_and_the_feed_goes_on() {
    let repository = Repository::new();
    let archive = format!(
        "archive_command = 'pgbackrest --config={} --stanza=arx archive-push %p'",
        repository.path("pgbackrest.conf")
    );
    let settings = vec!["archive_mode = on".to_owned(), archive];
    let stack = Stack::start(&StackOptions { durable: true, settings }).unwrap();
    repository.configure(&stack, "a passphrase");
    let database = stack.database("drill").unwrap();
    let _engine = ClickHouse::start(&stack, &database).unwrap();
    let sidecar = |arguments: &[&str]| run(database.sidecar().unwrap().args(arguments)).unwrap();

    repository.pgbackrest(&["stanza-create"]);
    repository.pgbackrest(&["check"]);
    database.query(TESTNET).unwrap();
    database.query(&insert("a", "2024-01-01", 100)).unwrap();
    sidecar(&["sync"]);
    repository.pgbackrest(&["--type=full", "backup"]);
    // After the full backup, before and after the differential one.
    database.query(&insert("kept", "2024-02-01", 30)).unwrap();
    repository.pgbackrest(&["--type=diff", "backup"]);
    database.query(&insert("late", "2024-03-01", 7)).unwrap();
    let late = database.query("SELECT pg_walfile_name(pg_switch_wal())").unwrap();
    sidecar(&["sync"]);
    let expected = [REACH, SCORES, FACTS].map(|sql| database.query(sql).unwrap());
    let point = database.query("SELECT clock_timestamp()").unwrap();
    database.query(&insert("lost", "2024-04-01", 11)).unwrap();
    sidecar(&["sync"]);
    let last = database.query("SELECT pg_walfile_name(pg_switch_wal())").unwrap();
    let archived = wait_until(Duration::from_secs(60), || {
        Ok(database.query(&format!("SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver"))? == "t")
    });
    assert!(archived.unwrap(), "{last} was not archived");

    let health = || {
        let sql = "SELECT string_agg(name || ' ' || severity, ', ' ORDER BY name) FROM arx.health_check()
                    WHERE name IN ('archive', 'archive_age', 'backup_age', 'backup_check')";
        database.query(sql).unwrap()
    };
    assert_eq!(health(), "archive ok, archive_age ok, backup_age unknown, backup_check unknown");
    // Log that is written and not archived grows old; an idle server has none.
    database.query("INSERT INTO arx.alert_thresholds (rule, warning) VALUES ('archive_age', 0)").unwrap();
    database.query("CREATE TABLE public.news AS SELECT repeat('x', 100) FROM generate_series(1, 1000)").unwrap();
    let waits = "SELECT severity || ' ' || (statement LIKE 'ALTER SYSTEM SET archive_timeout%') FROM arx.health_check()
                  WHERE name = 'archive_age'";
    assert_eq!(database.query(waits).unwrap(), "warning true");
    database.query("DELETE FROM arx.alert_thresholds").unwrap();
    // The backup restores as a whole: all 148 transactions come back from it and from the WAL.
    let report = repository.check(&database, &stack, "unlimited").unwrap();
    assert_eq!((report["type"].as_str(), report["last_wal"].as_str()), (Some("diff"), Some(last.as_str())), "{report}");
    let checked = report["databases"].as_array().unwrap().iter().find(|checked| checked["name"] == database.name());
    let checked = checked.unwrap();
    assert_eq!(checked["transactions"], 148, "{checked}");
    assert!(checked["relations_checked"].as_u64().unwrap() > 50 && checked["graph_comparisons"].as_u64().unwrap() > 0);
    assert_eq!(health(), "archive ok, archive_age ok, backup_age ok, backup_check ok");
    // A gap in the archive, no room, a wrong passphrase.
    let segment = repository.segment(&late);
    let aside = segment.with_extension("aside");
    std::fs::rename(&segment, &aside).unwrap();
    let gap = repository.check(&database, &stack, "unlimited").unwrap_err();
    assert!(gap.contains("the archive has a gap") && gap.contains(&late) && gap.contains(&last), "{gap}");
    assert_eq!(health(), "archive ok, archive_age ok, backup_age ok, backup_check critical");
    let cause = "SELECT cause FROM arx.health_check() WHERE name = 'backup_check'";
    assert!(database.query(cause).unwrap().contains("the archive has a gap"));
    std::fs::rename(&aside, &segment).unwrap();
    let full = repository.check(&database, &stack, "64").unwrap_err();
    assert!(full.contains("pgbackrest restore failed") && full.contains("unable to write"), "{full}");
    repository.configure(&stack, "another passphrase");
    let refused = repository.check(&database, &stack, "unlimited").unwrap_err();
    assert!(refused.contains("unable to load info file") && refused.contains("check the passphrase"), "{refused}");
    repository.configure(&stack, "a passphrase");

    let cluster = stack.cluster();
    let control = |arguments: &[&str]| {
        let mut control = cluster.account().command(cluster.program("pg_ctl").get_program());
        run(control.args(arguments).arg("-D").arg(cluster.data())).unwrap()
    };
    control(&["stop", "-m", "immediate"]);
    run(cluster.account().command("find").arg(cluster.data()).args(["-mindepth", "1", "-delete"])).unwrap();

    // A wrong passphrase restores nothing, and says so.
    repository.configure(&stack, "another passphrase");
    let refused = repository.command(&["restore"]).output().unwrap();
    assert!(!refused.status.success());
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains("unable to load info file"), "{message}");
    assert!(!cluster.data().join("PG_VERSION").exists());
    repository.configure(&stack, "a passphrase");
    let target = format!("--target={point}");
    repository.pgbackrest(&["--type=time", &target, "--target-action=promote", "restore"]);
    let log = repository.path("log/postgres");
    control(&["start", "--wait", "--timeout=60", "--silent", "-l", &log]);
    let promoted = wait_until(Duration::from_secs(60), || {
        Ok(database.query("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f"))
    });
    assert!(promoted.unwrap(), "the restored server was not promoted: {}", log_of(Path::new(&log)));

    let restored = [REACH, SCORES, FACTS].map(|sql| database.query(sql).unwrap());
    assert_eq!(restored, expected);
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    // ClickHouse holds rows of the lost future.
    sidecar(&["sync"]);
    assert!(sidecar(&["verify"]).contains("both sides are the same"));
    database.query(&insert("next", "2024-05-01", 3)).unwrap();
    assert!(sidecar(&["sync"]).starts_with("fed: 3 rows"));
    assert!(sidecar(&["verify"]).contains("both sides are the same"));
    repository.pgbackrest(&["check"]);
    control(&["stop", "-m", "immediate"]);
}

fn log_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_logical_backup_is_whole_restores_and_is_kept_long_enough() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("logical").unwrap();
    database.query(&insert("a", "2024-01-01", 50)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let backup = |arguments: &[&str]| {
        let mut command = Command::new(programs::workspace().join("scripts/backup"));
        let path = std::env::var("PATH").unwrap();
        let programs = PathBuf::from(stack.cluster().program("pg_dump").get_program());
        command.env("PATH", format!("{}:{path}", programs.parent().unwrap().display()));
        command.env("PGHOST", stack.cluster().host()).env("PGUSER", "postgres").env("PGDATABASE", database.name());
        command.env("PGPORT", stack.cluster().port().to_string());
        command.env("BACKUP_DIR", folder.path()).args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Old ones: three days' retention is less than what is always kept.
    for day in ["20200101", "20200102", "20200103", "20200104"] {
        std::fs::write(folder.path().join(format!("logical_{day}T000000Z.dump")), "").unwrap();
    }
    let (succeeded, messages) = backup(&["create"]);
    assert!(succeeded, "{messages}");
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "dump"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    let newest = folder.path().join(&names[2]);
    let (succeeded, messages) = backup(&["restore-check"]);
    assert!(succeeded && messages.contains("restores"), "{messages}");
    assert!(!messages.contains("has changed since"), "{messages}");

    // A backup that was cut short or changed is not whole.
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() - 100]).unwrap();
    let (succeeded, messages) = backup(&["restore-check"]);
    assert!(!succeeded && messages.contains("checksum differs"), "{messages}");
    let (succeeded, messages) = backup(&["verify", "/nowhere.dump"]);
    assert!(!succeeded && messages.contains("does not exist"), "{messages}");
    assert!(!backup(&["drop"]).0);
}
