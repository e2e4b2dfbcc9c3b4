//! A private stack that ends with its process: PostgreSQL and Redis at once, the embedded ClickHouse engine through the sidecar
//! when something asks for it. A test takes a database of its own from it: fresh, with the extension, and with a Redis database
//! and a sidecar folder that nobody else uses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::account::Account;
use crate::guard::{Ending, Guard};
use crate::postgres::Cluster;
use crate::process::run;
use crate::programs;
use crate::redis_server::RedisServer;

/// The database that fresh ones are copied from.
const TEMPLATE: &str = "arx_template";

/// What a stack may be started with.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Lines for `postgresql.conf`, for example `shared_preload_libraries = 'pg_cron'`.
    pub settings: Vec<String>,
    /// Keep `fsync` and full page writes on: for tests that crash the server and look what is left.
    pub durable: bool,
}

/// The servers. They end, and their folder goes, when this value or its process does.
#[derive(Debug)]
pub struct Stack {
    cluster: Cluster,
    redis: RedisServer,
    databases: AtomicUsize,
    template: Mutex<bool>,
    guard: Guard,
}

impl Stack {
    /// The stack that all tests of one process share, started by whoever asks first.
    ///
    /// # Errors
    /// When it could not be started: the first caller's error, as text for the others.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Stack, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(&StackOptions::default()).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("the shared stack did not start: {error}"))
    }

    /// Starts a stack of its own.
    ///
    /// # Errors
    /// When a server is not installed or does not start.
    pub fn start(options: &StackOptions) -> Result<Self> {
        let account = Account::current()?;
        let folder = TempDir::with_prefix_in("arx-", account.temporary_root()?).context("create the stack's folder")?;
        // The guard removes the folder from here on.
        let guard = Guard::over(folder.path())?;
        let folder = folder.keep();
        // The servers' own folders in it are closed.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(&folder, mode).with_context(|| format!("open {}", folder.display()))?;
        let cluster = Cluster::at(account, &folder.join("pg"), &folder.join("pg/run"))?;
        let redis_folder = folder.join("redis");
        let redis = RedisServer::at(&redis_folder, &redis_folder);
        cluster.prepare(options.durable, &options.settings)?;
        redis.start_guarded(&guard)?;
        cluster.start_guarded(&guard)?;
        Ok(Self { cluster, redis, databases: AtomicUsize::new(0), template: Mutex::new(false), guard })
    }

    /// The PostgreSQL cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The Redis server.
    #[must_use]
    pub const fn redis(&self) -> &RedisServer {
        &self.redis
    }

    /// The folder of the stack; it goes with the stack.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.guard.folder()
    }

    /// A fresh database of this name with the extension `arx`. One that is there is dropped first.
    ///
    /// # Errors
    /// When the extension is not installed or the database cannot be created.
    pub fn database(&self, name: &str) -> Result<Database<'_>> {
        self.prepare_template()?;
        self.create(name, TEMPLATE)
    }

    /// A fresh database of this name without the extension.
    ///
    /// # Errors
    /// When the database cannot be created.
    pub fn bare_database(&self, name: &str) -> Result<Database<'_>> {
        self.create(name, "template0")
    }

    /// Starts a server or daemon that ends with the stack, its output in `NAME.log` in the stack's folder. Returns its process id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_beside(&self, name: &str, command: &Command) -> Result<u32> {
        self.guard.start(command, Ending::Term, &self.folder().join(format!("{name}.log")))
    }

    /// Whether something started beside has ended by itself, and how.
    #[must_use]
    pub fn ended(&self, pid: u32) -> Option<std::process::ExitStatus> {
        self.guard.ended(pid)
    }

    fn create(&self, name: &str, template: &str) -> Result<Database<'_>> {
        if !is_plain_name(name) {
            bail!("{name:?} is no plain database name: use a-z, 0-9 and _, at most 63, a letter first");
        }
        self.maintain(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        self.maintain(&format!("CREATE DATABASE {name} TEMPLATE {template}"))?;
        let number = self.databases.fetch_add(1, Ordering::Relaxed) + 1;
        let data = self.folder().join(format!("sidecar-{number}"));
        Ok(Database { stack: self, name: name.to_owned(), number, data })
    }

    /// The extension is created once a cluster; a copy of the template takes 50 ms.
    fn prepare_template(&self) -> Result<()> {
        let mut ready = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ready {
            self.maintain(&format!("DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)"))?;
            self.maintain(&format!("CREATE DATABASE {TEMPLATE} TEMPLATE template0"))?;
            let mut psql = self.psql(TEMPLATE);
            run(psql.args(["-c", "CREATE EXTENSION arx"]))
                .context("create the extension arx (scripts/install-extension installs it)")?;
            *ready = true;
        }
        Ok(())
    }

    fn maintain(&self, statement: &str) -> Result<()> {
        run(self.psql("postgres").args(["-c", statement])).map(drop)
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = self.cluster.program("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database]);
        psql.env("PGTZ", "UTC").env("PGDATESTYLE", "ISO, YMD").env("PGCLIENTENCODING", "UTF8");
        psql
    }
}

fn is_plain_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A database of a stack, and what goes with it.
#[derive(Debug)]
pub struct Database<'a> {
    stack: &'a Stack,
    name: String,
    number: usize,
    data: PathBuf,
}

impl Database<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How to connect as the superuser, as libpq and tokio-postgres read it.
    #[must_use]
    pub fn connection(&self) -> String {
        self.connection_as("postgres")
    }

    /// How to connect as this role.
    #[must_use]
    pub fn connection_as(&self, role: &str) -> String {
        format!("host={} port=5432 user={role} dbname={}", self.stack.cluster.host().display(), self.name)
    }

    /// The URL of a Redis database that no other database of the stack uses.
    #[must_use]
    pub fn redis_url(&self) -> String {
        self.stack.redis.url(self.number)
    }

    /// The folder that the sidecar keeps its files in.
    #[must_use]
    pub fn data_folder(&self) -> &Path {
        &self.data
    }

    /// Connects as the superuser.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn connect(&self) -> Result<tokio_postgres::Client> {
        self.connect_as("postgres").await
    }

    /// Connects as this role.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn connect_as(&self, role: &str) -> Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::connect(&self.connection_as(role), tokio_postgres::NoTls)
            .await
            .with_context(|| format!("connect to {} as {role}", self.name))?;
        // It ends when the client is dropped; what goes wrong in it, the client's calls report.
        drop(tokio::spawn(connection));
        Ok(client)
    }

    /// Drops the database before the stack ends, for the room it takes.
    ///
    /// # Errors
    /// When it cannot be dropped.
    pub fn drop_now(&self) -> Result<()> {
        self.stack.maintain(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
    }

    /// `psql` on this database, stopping at the first error; the caller adds what to run.
    #[must_use]
    pub fn psql(&self) -> Command {
        self.stack.psql(&self.name)
    }

    /// Runs SQL through psql and returns the rows, unaligned, columns separated by `|`.
    ///
    /// # Errors
    /// The first error of the SQL.
    pub fn query(&self, sql: &str) -> Result<String> {
        run(self.psql().args(["-A", "-t", "-c", sql])).map(|text| text.trim_end().to_owned())
    }

    /// The sidecar, set up for this database; the caller adds its arguments.
    ///
    /// # Errors
    /// When the sidecar has not been built.
    pub fn sidecar(&self) -> Result<Command> {
        let mut command = Command::new(programs::sidecar()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ARX_")) {
            command.env_remove(name);
        }
        command
            .env("ARX_POSTGRES_URL", self.connection())
            .env("ARX_REDIS_URL", self.redis_url())
            .env("ARX_DATA_DIR", &self.data)
            .env("ARX_LIBCHDB", programs::libchdb())
            .env("ARX_LISTEN", "127.0.0.1:0");
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn only_plain_names_become_databases() {
        assert!(is_plain_name("wallet_history_2"));
        for name in ["", "2wallets", "Wallets", "a-b", "a;b", &"a".repeat(64)] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
