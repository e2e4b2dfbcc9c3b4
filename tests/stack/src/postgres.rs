//! A private PostgreSQL cluster: creates, configures and probes it. Owns the contents of the
//! cluster's folder (`data/`, `run/`, `log`). The caller decides how long the server lives.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::account::Account;
use crate::guard::{Ending, Guard};
use crate::process::{run, wait_until};

/// Limit for a server's start. A fresh cluster takes 0.1 s.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// Major version whose programs are used unless `PG_CONFIG` or `PG` names others.
const DEFAULT_VERSION: &str = "15";

/// Longest path of a socket without its final NUL (`sockaddr_un.sun_path`).
const SOCKET_PATH_LIMIT: usize = 107;

/// A cluster in a folder. Its superuser is `postgres`, regardless of the account that runs it.
#[derive(Debug, Clone)]
pub struct Cluster {
    account: Account,
    programs: PathBuf,
    folder: PathBuf,
    sockets: PathBuf,
    /// Port of the loopback address, and number of the socket.
    port: u16,
    listens: bool,
}

/// Port of servers that listen on their socket alone.
const DEFAULT_PORT: u16 = 5432;

impl Cluster {
    /// Describes the cluster with its files in `folder` and its socket in `sockets`. Creates
    /// nothing.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or the socket's path would be too long.
    pub fn at(account: Account, folder: &Path, sockets: &Path) -> Result<Self> {
        Self::of(programs_folder(), account, folder, sockets)
    }

    /// [`Cluster::at`] with the programs of another PostgreSQL.
    ///
    /// # Errors
    /// When the programs do not exist, or the socket's path would be too long.
    pub fn of(programs: PathBuf, account: Account, folder: &Path, sockets: &Path) -> Result<Self> {
        ensure!(
            programs.join("initdb").exists(),
            "no PostgreSQL server programs in {}: run scripts/install-tools, or set PG_CONFIG",
            programs.display()
        );
        let socket = sockets.join(".s.PGSQL.65535.lock");
        ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_LIMIT,
            "the socket path {} is longer than {SOCKET_PATH_LIMIT} bytes: use a folder nearer to /",
            socket.display()
        );
        let (folder, sockets) = (folder.to_owned(), sockets.to_owned());
        Ok(Self { account, programs, folder, sockets, port: DEFAULT_PORT, listens: false })
    }

    /// Makes the server listen on this port of the loopback address, too.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        (self.port, self.listens) = (port, true);
        self
    }

    /// Port of the server, also that of its socket.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Account that the server runs as.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Folder of PostgreSQL's programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Folder of the server's socket, which is the `host` of a connection.
    #[must_use]
    pub fn host(&self) -> &Path {
        &self.sockets
    }

    /// File of the server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Returns a client program of PostgreSQL, such as `psql`, set up for this cluster and run as
    /// this process's account.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(variable);
        }
        command.env("PGHOST", &self.sockets).env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command.env("PGPORT", self.port.to_string());
        command
    }

    /// Creates the cluster unless it exists, and rewrites its configuration.
    ///
    /// # Errors
    /// When `initdb` fails or a file cannot be written.
    pub fn prepare(&self, durable: bool, settings: &[String]) -> Result<()> {
        self.account.create_folder(&self.folder)?;
        self.account.create_folder(&self.sockets)?;
        let data = self.data();
        if !data.exists() {
            // Created under another name, so that an interrupted initdb is never taken for a
            // complete cluster.
            let unfinished = self.folder.join("data.new");
            if unfinished.exists() {
                std::fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
            }
            let mut initdb = self.account.command(self.programs.join("initdb"));
            initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"]);
            initdb.arg(&unfinished);
            if !durable {
                initdb.arg("--no-sync");
            }
            run(&mut initdb)?;
            std::fs::rename(&unfinished, &data).with_context(|| format!("rename to {}", data.display()))?;
        }
        // A later setting overrides an earlier one.
        let mut text = format!(
            "# Rewritten at every start.\nlisten_addresses = '{}'\nunix_socket_directories = '{}'\nport = {}\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\nlc_messages = 'C'\nshared_buffers = '256MB'\nmax_wal_size = '4GB'\n\
             log_line_prefix = '%m [%p] %d '\nmax_prepared_transactions = 8\n",
            if self.listens { "127.0.0.1" } else { "" },
            self.sockets.display().to_string().replace('\'', "''"),
            self.port,
        );
        if !durable {
            text.push_str("fsync = off\nfull_page_writes = off\n");
        }
        for setting in settings {
            writeln!(text, "{setting}")?;
        }
        let auto = data.join("postgresql.auto.conf");
        std::fs::write(&auto, text).with_context(|| format!("write {}", auto.display()))
    }

    /// Starts the server so that it ends with the guard, and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer. The message contains the end of its log.
    pub fn start_guarded(&self, guard: &Guard) -> Result<u32> {
        let mut command = self.account.command(self.programs.join("postgres"));
        command.arg("-D").arg(self.data());
        let pid = guard.start(&command, Ending::Quit, &self.log())?;
        let ready = wait_until(START_LIMIT, || {
            if let Some(status) = guard.ended(pid) {
                bail!("PostgreSQL ended with {status} while it started: {}", self.log_end());
            }
            Ok(self.is_ready())
        })?;
        ensure!(ready, "PostgreSQL did not answer within {START_LIMIT:?}: {}", self.log_end());
        Ok(pid)
    }

    /// Starts the server, unless it runs already, so that it outlives this process, and waits until
    /// it answers.
    ///
    /// # Errors
    /// When it does not start. The message contains the end of its log.
    pub fn start_detached(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = self.control("start");
        command.args(["--wait", "--timeout=60", "--silent", "--log"]).arg(self.folder.join("log"));
        run(&mut command).map(drop).with_context(|| format!("start PostgreSQL: {}", self.log_end()))
    }

    /// Stops a detached server, if it runs.
    ///
    /// # Errors
    /// When it does not stop within a minute.
    pub fn stop_detached(&self) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        run(self.control("stop").args(["--mode=fast", "--wait", "--timeout=60", "--silent"])).map(drop)
    }

    /// Returns true when the cluster's server process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.data().exists() && run(&mut self.control("status")).is_ok()
    }

    /// Returns true when the server accepts connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        run(self.program("pg_isready").arg("--quiet")).is_ok()
    }

    /// Folder of the data and the configuration.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn control(&self, action: &str) -> Command {
        let mut command = self.account.command(self.programs.join("pg_ctl"));
        command.arg(action).arg("--pgdata").arg(self.data());
        command
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Returns the folder of PostgreSQL's programs: the one of `PG_CONFIG` if that is set, else
/// Debian's for the major version `PG`.
#[must_use]
pub fn programs_folder() -> PathBuf {
    let pg_config = std::env::var_os("PG_CONFIG").map(PathBuf::from);
    pg_config.as_deref().and_then(Path::parent).map_or_else(
        || debian_programs(&std::env::var("PG").unwrap_or_else(|_| DEFAULT_VERSION.to_owned())),
        Path::to_owned,
    )
}

/// Returns the folder where Debian installs the programs of a major version.
#[must_use]
pub fn debian_programs(version: &str) -> PathBuf {
    Path::new("/usr/lib/postgresql").join(version).join("bin")
}
