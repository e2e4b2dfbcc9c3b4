//! A second PostgreSQL server that starts from a base backup of the stack's cluster: a standby, or
//! a restored copy.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use arx_stack::account::Account;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};

use crate::daemon::LIMIT;

/// The server's folders, and the database that it is asked about.
#[derive(Debug)]
pub struct Replica<'a> {
    stack: &'a Stack,
    account: Account,
    name: &'static str,
    database: String,
}

impl<'a> Replica<'a> {
    /// Takes a base backup into the folder `NAME` of the stack. `options` are further arguments of
    /// `pg_basebackup`.
    ///
    /// # Errors
    /// When the backup fails.
    pub fn copy(stack: &'a Stack, name: &'static str, database: &Database<'_>, options: &[&str]) -> Result<Self> {
        let replica = Self { stack, account: Account::current()?, name, database: database.name().to_owned() };
        replica.account.create_folder(&replica.data())?;
        replica.account.create_folder(&replica.socket())?;
        let mut backup = replica.program("pg_basebackup");
        backup.arg("-h").arg(stack.cluster().host()).args(["-U", "postgres", "-c", "fast"]).args(options);
        run(backup.arg("-D").arg(replica.data()))?;
        Ok(replica)
    }

    /// Data folder of the server.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.stack.folder().join(self.name)
    }

    /// Folder of the server's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.stack.folder().join(format!("{}-run", self.name))
    }

    /// Starts the server with these settings. Returns its process id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, settings: &[String]) -> Result<u32> {
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data());
        server.args(["-c", &format!("unix_socket_directories={}", self.socket().display())]);
        for setting in settings {
            server.args(["-c", setting]);
        }
        self.stack.start_server(self.name, &server)
    }

    /// Runs SQL on the replica and returns the rows, with columns separated by `|`.
    ///
    /// # Errors
    /// The first error of the SQL.
    pub fn query(&self, sql: &str) -> Result<String> {
        let mut psql = self.stack.cluster().program("psql");
        psql.env("PGHOST", self.socket()).env("PGDATABASE", &self.database);
        run(psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])).map(|text| text.trim_end().to_owned())
    }

    /// Connection string of the superuser.
    #[must_use]
    pub fn connection(&self) -> String {
        format!("host={} port=5432 user=postgres dbname={}", self.socket().display(), self.database)
    }

    fn program(&self, name: &str) -> Command {
        self.account.command(Path::new(self.stack.cluster().program(name).get_program()))
    }
}

/// Waits until a query of a server gives an answer.
pub fn wait_for(query: impl Fn(&str) -> Result<String>, sql: &str, answer: &str) {
    let mut last = String::new();
    let is_there = wait_until(LIMIT, || {
        last = query(sql).unwrap_or_else(|error| format!("{error:#}"));
        Ok(last == answer)
    });
    assert!(is_there.unwrap(), "{sql}: {last}, not {answer}");
}
