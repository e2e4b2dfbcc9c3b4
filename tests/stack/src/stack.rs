//! A private stack that ends with its process: PostgreSQL and Redis from the start, the embedded
//! ClickHouse engine through the sidecar on demand. A test takes a fresh database from it, with the
//! extension, a separate Redis database and a separate folder for the sidecar.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::account::Account;
use crate::guard::{Ending, Guard};
use crate::ports::free_ports;
use crate::postgres::{Cluster, START_LIMIT};
use crate::process::{run, wait_until};
use crate::programs;
use crate::redis_server::RedisServer;
use crate::tls::Pair;

/// Database that fresh ones are copied from.
const TEMPLATE: &str = "arx_template";

/// Options for the start of a stack.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Lines for `postgresql.conf`, for example `shared_preload_libraries = 'pg_cron'`.
    pub settings: Vec<String>,
    /// Keeps `fsync` and full page writes on, for tests that crash the server and check what is
    /// left.
    pub durable: bool,
}

/// The servers. They end, and their folder is removed, with this value or its process.
#[derive(Debug)]
pub struct Stack {
    cluster: Cluster,
    redis: RedisServer,
    databases: AtomicUsize,
    template: Mutex<bool>,
    guard: Guard,
}

impl Stack {
    /// Returns the stack that all tests of one process share. The first call starts it.
    ///
    /// # Errors
    /// When it could not be started. Later calls return the error of the first one.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Stack, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(&StackOptions::default()).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("the shared stack did not start: {error}"))
    }

    /// Starts a stack.
    ///
    /// # Errors
    /// When a server is not installed or does not start.
    pub fn start(options: &StackOptions) -> Result<Self> {
        Self::start_on(options, None)
    }

    /// Starts a stack whose PostgreSQL listens on a free port of the loopback address, too.
    ///
    /// # Errors
    /// The errors of [`Self::start`].
    pub fn start_listening(options: &StackOptions) -> Result<Self> {
        let [port] = free_ports()?;
        Self::start_on(options, Some(port))
    }

    fn start_on(options: &StackOptions, port: Option<u16>) -> Result<Self> {
        let account = Account::current()?;
        let folder = TempDir::with_prefix_in("arx-", account.temporary_root()?).context("create the stack's folder")?;
        // The guard removes the folder from here on.
        let guard = Guard::over(folder.path())?;
        let folder = folder.keep();
        // The servers' own folders in it are closed.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(&folder, mode).with_context(|| format!("open {}", folder.display()))?;
        let mut cluster = Cluster::at(account, &folder.join("pg"), &folder.join("pg/run"))?;
        if let Some(port) = port {
            cluster = cluster.on_port(port);
        }
        let redis_folder = folder.join("redis");
        let redis = RedisServer::at(&redis_folder, &redis_folder);
        cluster.prepare(options.durable, &options.settings)?;
        redis.start_guarded(&guard)?;
        cluster.start_guarded(&guard)?;
        Ok(Self { cluster, redis, databases: AtomicUsize::new(0), template: Mutex::new(false), guard })
    }

    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    #[must_use]
    pub const fn redis(&self) -> &RedisServer {
        &self.redis
    }

    /// Folder of the stack, which is removed with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.guard.folder()
    }

    /// Creates a database with the extension `arx` and its tables. An existing one of this name is
    /// dropped first.
    ///
    /// # Errors
    /// When the extension is not installed or the database cannot be created.
    pub fn database(&self, name: &str) -> Result<Database<'_>> {
        self.prepare_template()?;
        self.create(name, TEMPLATE)
    }

    /// Creates a database without the extension. An existing one of this name is dropped first.
    ///
    /// # Errors
    /// When the database cannot be created.
    pub fn bare_database(&self, name: &str) -> Result<Database<'_>> {
        self.create(name, "template0")
    }

    /// Creates a database of this name with the content of another one, to which nothing may be
    /// connected.
    ///
    /// # Errors
    /// When the database cannot be created.
    pub fn copy_of(&self, original: &Database<'_>, name: &str) -> Result<Database<'_>> {
        self.create(name, &original.name)
    }

    /// Starts another server, with its output in `NAME.log` in the stack's folder. It ends with the
    /// stack. Returns its process id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_server(&self, name: &str, command: &Command) -> Result<u32> {
        self.guard.start(command, Ending::Term, &self.folder().join(format!("{name}.log")))
    }

    /// Returns the exit status of a started server that has ended by itself.
    #[must_use]
    pub fn ended(&self, pid: u32) -> Option<std::process::ExitStatus> {
        self.guard.ended(pid)
    }

    /// Switches TLS on in PostgreSQL, or replaces its certificate.
    ///
    /// # Errors
    /// When the server does not accept it.
    pub fn use_certificate(&self, pair: &Pair) -> Result<()> {
        let cluster = &self.cluster;
        pair.write_for(cluster.account(), &cluster.data(), "server")?;
        for setting in ["ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'", "ssl = on"] {
            self.execute(&format!("ALTER SYSTEM SET {setting}"))?;
        }
        self.reload()
    }

    /// Makes PostgreSQL read its configuration again, and waits until it has.
    ///
    /// # Errors
    /// When it does not.
    pub fn reload(&self) -> Result<()> {
        let loaded = || run(self.psql("postgres").args(["-At", "-c", "SELECT pg_conf_load_time()"]));
        let before = loaded()?;
        self.execute("SELECT FROM pg_reload_conf()")?;
        if wait_until(START_LIMIT, || Ok(loaded()? != before))? {
            return Ok(());
        }
        bail!("PostgreSQL did not read its configuration again")
    }

    fn create(&self, name: &str, template: &str) -> Result<Database<'_>> {
        if !is_plain_name(name) {
            bail!("{name:?} is not a plain database name: use a letter, then at most 62 of a-z, 0-9 and _");
        }
        self.execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"))?;
        let number = self.databases.fetch_add(1, Ordering::Relaxed) + 1;
        let data = self.folder().join(format!("sidecar-{number}"));
        Ok(Database { stack: self, name: name.to_owned(), number, data })
    }

    /// Creates the extension once for the cluster; a copy of the template takes 50 ms.
    fn prepare_template(&self) -> Result<()> {
        let mut ready = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ready {
            self.execute(&format!("DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)"))?;
            self.execute(&format!("CREATE DATABASE {TEMPLATE} TEMPLATE template0"))?;
            let mut psql = self.psql(TEMPLATE);
            run(psql.args([
                "-c",
                "CREATE EXTENSION arx",
                "-o",
                "/dev/null",
                "-c",
                "SELECT * FROM arx.create_tables()",
            ]))
            .context("create the extension arx (scripts/install-extension installs it)")?;
            *ready = true;
        }
        Ok(())
    }

    fn execute(&self, statement: &str) -> Result<()> {
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

/// A database of a stack, with its Redis database and its sidecar folder.
#[derive(Debug)]
pub struct Database<'a> {
    stack: &'a Stack,
    name: String,
    number: usize,
    data: PathBuf,
}

impl Database<'_> {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Connection string of the superuser, for libpq and tokio-postgres.
    #[must_use]
    pub fn connection(&self) -> String {
        self.connection_as("postgres")
    }

    /// Connection string of a role.
    #[must_use]
    pub fn connection_as(&self, role: &str) -> String {
        let cluster = &self.stack.cluster;
        format!("host={} port={} user={role} dbname={}", cluster.host().display(), cluster.port(), self.name)
    }

    /// URL of a Redis database that no other database of the stack uses.
    #[must_use]
    pub fn redis_url(&self) -> String {
        self.stack.redis.url(self.number)
    }

    /// Folder of the sidecar's files.
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

    /// Connects as a role.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn connect_as(&self, role: &str) -> Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::connect(&self.connection_as(role), tokio_postgres::NoTls)
            .await
            .with_context(|| format!("connect to {} as {role}", self.name))?;
        // The task ends when the client is dropped. The client's calls report its errors.
        drop(tokio::spawn(connection));
        Ok(client)
    }

    /// Drops the database before the stack ends, to free its disk space.
    ///
    /// # Errors
    /// When it cannot be dropped.
    pub fn drop_now(&self) -> Result<()> {
        self.stack.execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
    }

    /// Returns `psql` on this database, stopping at the first error. The caller adds commands or
    /// files.
    #[must_use]
    pub fn psql(&self) -> Command {
        self.stack.psql(&self.name)
    }

    /// Runs SQL through psql and returns the rows, with columns separated by `|`.
    ///
    /// # Errors
    /// The first error of the SQL.
    pub fn query(&self, sql: &str) -> Result<String> {
        run(self.psql().args(["-A", "-t", "-c", sql])).map(|text| text.trim_end().to_owned())
    }

    /// Returns the sidecar's command line, set up for this database. The caller adds arguments.
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
    fn database_names_are_plain_identifiers() {
        assert!(is_plain_name("wallet_history_2"));
        for name in ["", "2wallets", "Wallets", "a-b", "a;b", &"a".repeat(64)] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
