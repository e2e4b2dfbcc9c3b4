//! Servers that outlive the process that started them, for the demo. Everything is under one
//! folder, so that `down` needs only the folder's name and a repeated `up` changes nothing. The
//! folder contains `env` (connection settings for a shell) and the files of PostgreSQL, Redis and
//! the sidecar.
//!
//! PostgreSQL's account may be unable to enter the folder (root's home is closed), or the folder's
//! path may be too long for a socket. PostgreSQL's files and the sockets are then in a folder under
//! `/var/tmp`, and the link `away` points to it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::account::Account;
use crate::postgres::Cluster;
use crate::process::run;
use crate::redis_server::RedisServer;

/// Longest path of a folder whose sockets have valid paths.
const PATH_LIMIT: usize = 70;

/// Name of the database that `up` creates.
/// Role that the sidecar connects as.
const SIDECAR_ROLE: &str = "arx_sidecar";
pub const DATABASE: &str = "arx";

/// The detached servers of one folder, running or not.
#[derive(Debug)]
pub struct Detached {
    folder: PathBuf,
    account: Account,
    cluster: Cluster,
    redis: RedisServer,
}

/// Servers that answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub postgres: bool,
    pub redis: bool,
}

impl Detached {
    /// Creates the folder unless it exists, and the link `away` if it is needed. Starts nothing.
    ///
    /// # Errors
    /// When the folder cannot be created or a server is not installed.
    pub fn at(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("resolve {}", folder.display()))?;
        let account = Account::current()?;
        let home = home(&folder, &account)?;
        let cluster = Cluster::at(account.clone(), &home.join("postgres"), &home.join("postgres/run"))?;
        let redis = RedisServer::at(&folder.join("redis"), &home.join("redis"));
        std::fs::create_dir_all(home.join("redis")).with_context(|| format!("create {}/redis", home.display()))?;
        Ok(Self { folder, account, cluster, redis })
    }

    /// Starts the servers that do not run, creates the database `arx` unless it exists, with the
    /// extension unless `bare`, and writes `env`.
    ///
    /// # Errors
    /// When a server does not start or the extension is not installed. Servers that this call
    /// started are stopped again.
    pub fn up(&self, settings: &[String], bare: bool) -> Result<()> {
        let before = self.status();
        self.start(settings, bare).inspect_err(|_| {
            // The first error is the one to report.
            if !before.postgres {
                let _ = self.cluster.stop_detached();
            }
            if !before.redis {
                let _ = self.redis.stop_detached();
            }
        })
    }

    /// Stops the servers and keeps their data.
    ///
    /// # Errors
    /// When a server does not stop.
    pub fn down(&self) -> Result<()> {
        let redis = self.redis.stop_detached();
        self.cluster.stop_detached()?;
        redis
    }

    /// Stops the servers and removes the folder with all data.
    ///
    /// # Errors
    /// When a server does not stop or a file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.down()?;
        let away = self.folder.join("away");
        if let Ok(target) = away.read_link() {
            std::fs::remove_dir_all(&target).with_context(|| format!("remove {}", target.display()))?;
        }
        std::fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))
    }

    /// Asks each server whether it answers.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { postgres: self.cluster.is_running() && self.cluster.is_ready(), redis: self.redis.is_ready() }
    }

    /// Returns connection settings for a shell, as lines of the form `export NAME='value'`.
    #[must_use]
    pub fn environment(&self) -> String {
        let host = self.cluster.host().display();
        let lines = [
            ("PGHOST", host.to_string()),
            ("PGPORT", "5432".to_owned()),
            ("PGUSER", "postgres".to_owned()),
            ("PGDATABASE", DATABASE.to_owned()),
            ("ARX_POSTGRES_URL", format!("host={host} port=5432 user={SIDECAR_ROLE} dbname={DATABASE}")),
            ("ARX_REDIS_URL", self.redis.url(0)),
            ("ARX_REDIS_SOCKET", self.redis.socket().display().to_string()),
            ("ARX_DATA_DIR", self.folder.join("sidecar").display().to_string()),
        ];
        lines.iter().fold(String::new(), |text, (name, value)| {
            text + &format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
        })
    }

    fn start(&self, settings: &[String], bare: bool) -> Result<()> {
        if !self.cluster.is_running() {
            self.cluster.prepare(true, settings)?;
        }
        self.cluster.start_detached()?;
        self.redis.start_detached()?;
        self.create_database(bare)?;
        let file = self.folder.join("env");
        std::fs::write(&file, self.environment()).with_context(|| format!("write {}", file.display()))?;
        ensure!(self.account.reaches(self.cluster.host()), "{} became unreachable", self.cluster.host().display());
        Ok(())
    }

    fn create_database(&self, bare: bool) -> Result<()> {
        let psql = |database: &str, sql: &str| {
            run(self.cluster.program("psql").args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database,
                "-c",
                sql,
            ]))
        };
        if psql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"))?.trim().is_empty() {
            psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        }
        if bare {
            return Ok(());
        }
        let set = "SET client_min_messages = warning;";
        psql(DATABASE, &format!("{set} CREATE EXTENSION IF NOT EXISTS arx"))
            .context("create the extension arx (scripts/install-extension installs it)")?;
        // The sidecar is no superuser: it owns the tables, which its first import creates.
        if psql(DATABASE, &format!("SELECT 1 FROM pg_roles WHERE rolname = '{SIDECAR_ROLE}'"))?.trim().is_empty() {
            psql(DATABASE, &format!("CREATE ROLE {SIDECAR_ROLE} LOGIN IN ROLE arx_feeder"))?;
        }
        psql(DATABASE, &format!("GRANT CREATE ON SCHEMA arx TO {SIDECAR_ROLE}")).map(drop)
    }
}

/// Returns the folder of PostgreSQL's files and the sockets: `folder` itself, or the target of
/// `away`.
fn home(folder: &Path, account: &Account) -> Result<PathBuf> {
    let away = folder.join("away");
    if let Ok(target) = away.read_link() {
        return Ok(target);
    }
    if folder.as_os_str().len() <= PATH_LIMIT && account.reaches(folder) {
        return Ok(folder.to_owned());
    }
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    let target = PathBuf::from(format!("/var/tmp/arx-{:016x}", hasher.finish()));
    std::fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
    // The name is predictable, and every account may create folders there.
    let own = std::fs::metadata("/proc/self")?.uid();
    let owner = std::fs::symlink_metadata(&target)?;
    if owner.uid() != own || !owner.is_dir() {
        bail!(
            "{} belongs to another account: remove it, or use another folder than {}",
            target.display(),
            folder.display()
        );
    }
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o711))?;
    symlink(&target, &away).with_context(|| format!("link {}", away.display()))?;
    Ok(target)
}
