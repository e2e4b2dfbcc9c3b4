//! `backup.restore.vs_pg_basebackup`: the time of `pgbackrest restore` of a full backup by the
//! shipped configuration, and of `pg_basebackup` of the running cluster, each into an empty folder.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::account::Account;
use arx_stack::process::run;
use arx_stack::{Database, Stack, StackOptions, programs};

use crate::data::{DataSource, TABLE_COLUMNS, prepare};
use crate::report::Measurement;
use crate::timing::in_turn;

/// Name of the case.
pub const CASE: &str = "backup.restore.vs_pg_basebackup";

/// Runs the measurement in a cluster of its own, which archives its WAL.
///
/// # Errors
/// When a program fails, or a restored cluster has other rows.
pub fn measure(source: &DataSource, settings: &[&str], rows: u64, runs: usize) -> Result<Measurement> {
    let account = Account::current()?;
    // The place of the configuration is known before that of the cluster.
    let folder = account.temporary_root()?.join(format!("arx-bench-backup-{}", std::process::id()));
    account.create_folder(&folder)?;
    let measured = measure_in(&account, &folder, source, settings, rows, runs);
    let removed = run(account.command("rm").arg("-rf").arg(&folder));
    let measured = measured?;
    removed?;
    Ok(measured)
}

fn measure_in(
    account: &Account,
    folder: &Path,
    source: &DataSource,
    settings: &[&str],
    rows: u64,
    runs: usize,
) -> Result<Measurement> {
    let config = folder.join("pgbackrest.conf");
    let archive = format!("archive_command = 'pgbackrest --config={} --stanza=arx archive-push %p'", config.display());
    let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    settings.extend(["archive_mode = on".to_owned(), archive]);
    let stack = Stack::start(&StackOptions { durable: true, settings })?;
    configure(&stack, account, folder, &config)?;
    let pgbackrest = || {
        let mut command = account.command("pgbackrest");
        command.arg(format!("--config={}", config.display())).arg("--stanza=arx").env_remove("PGHOST");
        command
    };
    run(pgbackrest().arg("stanza-create"))?;
    let (database, rows) = load(&stack, source, rows)?;
    run(pgbackrest().args(["--type=full", "backup"]))?;
    let bytes: f64 = database.query("SELECT sum(pg_database_size(oid)) FROM pg_database")?.parse()?;
    let (restored, copied) = (folder.join("restored"), folder.join("copied"));
    let timed = |target: &Path, mut command: Command| -> Result<f64> {
        run(account.command("rm").arg("-rf").arg(target))?;
        account.create_folder(target)?;
        // What was written before does not delay this run.
        run(&mut Command::new("sync"))?;
        let start = Instant::now();
        run(&mut command)?;
        let seconds = start.elapsed().as_secs_f64();
        run(account.command("test").arg("-e").arg(target.join("PG_VERSION")))?;
        Ok(seconds)
    };
    let medians = in_turn(
        runs,
        |_| {
            let mut command = pgbackrest();
            command.arg(format!("--pg1-path={}", restored.display()));
            command.args(["--type=immediate", "--target-action=promote", "--archive-mode=off", "restore"]);
            timed(&restored, command)
        },
        |_| {
            let mut command = account.command(stack.cluster().programs().join("pg_basebackup"));
            command.args(["--username=postgres", "--checkpoint=fast", "--wal-method=stream", "--pgdata"]).arg(&copied);
            command.arg("--host").arg(stack.cluster().host()).arg("--port").arg(stack.cluster().port().to_string());
            timed(&copied, command)
        },
    )?;
    let counted = count(&stack, account, &restored, database.name())?;
    ensure!(counted == rows.to_string(), "the restored cluster has {counted} rows of {rows}");
    let setting = format!(
        "a cluster of {:.0} MB with {rows} transactions of {}, in a month a partition. The backup is that of the shipped \
         configuration: compressed by LZ4, encrypted, small files in bundles. `pg_basebackup` copies the running server. \
         Both make the files durable. {runs} runs each; the restored cluster is started at the end, and its rows are counted.",
        bytes / (1024.0 * 1024.0),
        source.name()
    );
    Ok(Measurement::new(CASE, medians, "s", false).against("pg_basebackup", setting))
}

/// Writes the shipped configuration with the paths of this cluster.
fn configure(stack: &Stack, account: &Account, folder: &Path, config: &Path) -> Result<()> {
    let shipped = programs::workspace().join("config/pgbackrest/pgbackrest.conf");
    let mut text = std::fs::read_to_string(&shipped).with_context(|| format!("read {}", shipped.display()))?;
    let cluster = stack.cluster();
    for (default, name) in
        [("/var/lib/pgbackrest", "repository"), ("/var/log/pgbackrest", "log"), ("/tmp/pgbackrest", "lock")]
    {
        account.create_folder(&folder.join(name))?;
        text = text.replace(default, &folder.join(name).display().to_string());
    }
    for (default, value) in [
        ("/var/lib/postgresql/15/main", cluster.data().display().to_string()),
        ("/var/run/postgresql", cluster.host().display().to_string()),
        ("<passphrase>", "a passphrase of the benchmark".to_owned()),
        ("pg1-port=5432", format!("pg1-port={}", cluster.port())),
    ] {
        ensure!(text.contains(default), "{} has no {default}", shipped.display());
        text = text.replace(default, &value);
    }
    std::fs::write(config, text).with_context(|| format!("write {}", config.display()))?;
    account.own(config)
}

fn load<'a>(stack: &'a Stack, source: &DataSource, rows: u64) -> Result<(Database<'a>, u64)> {
    let folder = stack.folder().join("data");
    std::fs::create_dir_all(&folder)?;
    let data = prepare(source, rows, &folder)?;
    let database = stack.database("backup")?;
    let (first, last) = data.times;
    database.query(&format!(
        "SELECT arx.ensure_partitions('arx.transactions', to_timestamp({first}), to_timestamp({last}))"
    ))?;
    let file = data.table.display().to_string().replace('\'', "''");
    run(database
        .psql()
        .args(["-c", &format!("\\copy arx.transactions ({TABLE_COLUMNS}) FROM '{file}' WITH (FORMAT csv)")]))?;
    database.query("SELECT arx.refresh_wallet_profiles()")?;
    Ok((database, data.rows))
}

/// Starts a restored cluster on a socket of its own, and returns the number of its transactions.
fn count(stack: &Stack, account: &Account, data: &Path, database: &str) -> Result<String> {
    let programs = stack.cluster().programs();
    let folder = data.parent().context("the cluster has no folder")?;
    let options = format!(
        "-c listen_addresses='' -c port=5432 -c archive_mode=off -c unix_socket_directories='{}'",
        folder.display()
    );
    let control = |arguments: &[&str]| {
        let mut command = account.command(programs.join("pg_ctl"));
        command.arg("-D").arg(data).args(["--wait", "--silent", "-l"]).arg(folder.join("server.log"));
        run(command.args(arguments))
    };
    control(&["start", "--timeout=300", "-o", &options])?;
    let mut psql = account.command(programs.join("psql"));
    psql.args(["-X", "-A", "-t", "-U", "postgres", "-p", "5432", "-d", database, "-h"]).arg(folder);
    let counted = run(psql.args(["-c", "SELECT count(*) FROM arx.transactions"]));
    control(&["stop", "-m", "immediate"])?;
    Ok(counted?.trim().to_owned())
}
