//! Embedded ClickHouse engines: in the folder where a database's sidecar finds it, with given
//! configuration files, or three as the shards of a cluster.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::ports::free_ports;
use crate::process::wait_until;
use crate::programs;
use crate::stack::{Database, Stack};

/// Password of engines whose configuration must contain it before they start.
const PASSWORD: &str = "known-to-all-shards";

/// An engine usually answers within two seconds; a busy machine takes longer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running engine. Clones share its pool of HTTP connections, so that consecutive queries reuse a
/// connection.
#[derive(Debug, Clone)]
pub struct ClickHouse {
    agent: ureq::Agent,
    http_port: u16,
    password: String,
}

/// Ports, password and configuration that must be known before an engine starts.
#[derive(Debug, Clone)]
struct Setup {
    http_port: u16,
    tcp_port: u16,
    password: String,
    /// Paths within the engine's folder, and contents.
    files: Vec<(String, String)>,
}

impl ClickHouse {
    /// Starts the engine in the folder of a database's sidecar. It ends with the stack.
    ///
    /// # Errors
    /// When it cannot be started or does not answer in time.
    pub fn start(stack: &Stack, database: &Database<'_>) -> Result<Self> {
        let folder = database.data_folder().join("clickhouse");
        Starting::launch(stack, &format!("clickhouse-{}", database.name()), &folder, None)?.wait(stack)
    }

    /// Starts an engine in the folder `NAME` of the stack. `files` are pairs of a path in its
    /// folder and a text, such as `config.d/*.xml`, which the engine adds to its configuration.
    ///
    /// # Errors
    /// The errors of [`Self::start`].
    pub fn start_with(stack: &Stack, name: &str, files: &[(&str, &str)]) -> Result<Self> {
        let [http_port, tcp_port] = free_ports::<2>()?;
        let files = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
        let setup = Setup { http_port, tcp_port, password: PASSWORD.into(), files };
        Starting::launch(stack, name, &stack.folder().join(name), Some(&setup))?.wait(stack)
    }

    /// Starts three engines that are the shards of one cluster, in the folders `CLUSTER-1` to
    /// `CLUSTER-3` of the stack.
    ///
    /// # Errors
    /// The errors of [`Self::start`].
    pub fn start_shards(stack: &Stack, cluster: &str) -> Result<[Self; 3]> {
        let [a, b, c, d, e, f] = free_ports::<6>()?;
        let ports = [(a, b), (c, d), (e, f)];
        let mut servers = format!("<clickhouse>\n  <remote_servers>\n    <{cluster}>\n");
        for (_, tcp_port) in ports {
            servers.push_str(&format!(
                "      <shard><replica><host>127.0.0.1</host><port>{tcp_port}</port><user>arx</user>\
                 <password>{PASSWORD}</password></replica></shard>\n"
            ));
        }
        servers.push_str(&format!("    </{cluster}>\n  </remote_servers>\n</clickhouse>\n"));
        let mut number = 0;
        let starting = ports.map(|(http_port, tcp_port)| {
            number += 1;
            let files = vec![("config.d/cluster.xml".to_owned(), servers.clone())];
            let setup = Setup { http_port, tcp_port, password: PASSWORD.into(), files };
            let name = format!("{cluster}-{number}");
            Starting::launch(stack, &name, &stack.folder().join(&name), Some(&setup))
        });
        let [first, second, third] = starting;
        let (first, second, third) = (first?, second?, third?);
        Ok([first.wait(stack)?, second.wait(stack)?, third.wait(stack)?])
    }

    /// URL of the HTTP interface.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Port of the HTTP interface.
    #[must_use]
    pub const fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Password of the user `arx`.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Runs a query and returns its rows in the query's `FORMAT`, by default separated by tabs.
    ///
    /// # Errors
    /// When the engine does not answer, or reports an error, which is then the message.
    pub fn query(&self, sql: &str) -> Result<String> {
        self.query_with("", sql)
    }

    /// [`Self::query`] with settings that no statement can make, in the form of a URL's query:
    /// `NAME=VALUE&NAME=VALUE`.
    ///
    /// # Errors
    /// The errors of [`Self::query`].
    pub fn query_with(&self, settings: &str, sql: &str) -> Result<String> {
        let mut response = self
            .agent
            .post(format!("{}/?{settings}", self.url()))
            .header("X-ClickHouse-User", "arx")
            .header("X-ClickHouse-Key", &self.password)
            .send(sql)
            .context("send a query to ClickHouse")?;
        let status = response.status();
        let mut body = Vec::new();
        let outcome = response.body_mut().with_config().limit(u64::MAX).reader().read_to_end(&mut body);
        let body = String::from_utf8(body).context("ClickHouse's response is not UTF-8")?;
        // An error after the first rows comes with a status that reports success, and without the
        // end of the body.
        if !status.is_success() || body.contains("DB::Exception") {
            bail!("{}", body.trim_end());
        }
        outcome.context("read ClickHouse's response")?;
        Ok(body.trim_end().to_owned())
    }
}

/// An engine that does not answer yet.
struct Starting {
    name: String,
    folder: PathBuf,
    pid: u32,
}

impl Starting {
    fn launch(stack: &Stack, name: &str, folder: &Path, setup: Option<&Setup>) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let mut command = Command::new(programs::clickhouse()?);
        command.arg("--data").arg(folder).arg("--lib").arg(programs::libchdb());
        if let Some(setup) = setup {
            write_private(&folder.join("password"), &setup.password)?;
            for (path, text) in &setup.files {
                write_private(&folder.join(path), text)?;
            }
            command.args(["--http-port", &setup.http_port.to_string(), "--tcp-port", &setup.tcp_port.to_string()]);
        }
        let pid = stack.start_server(name, &command)?;
        Ok(Self { name: name.to_owned(), folder: folder.to_owned(), pid })
    }

    fn wait(self, stack: &Stack) -> Result<ClickHouse> {
        let endpoint = self.folder.join("endpoint.json");
        let is_up = wait_until(START_LIMIT, || match stack.ended(self.pid) {
            Some(status) => bail!("the engine ended with {status}; see {}.log", self.name),
            None => Ok(endpoint.exists()),
        })?;
        ensure!(is_up, "the engine did not answer within {} s", START_LIMIT.as_secs());
        let endpoint: serde_json::Value =
            serde_json::from_str(&read(&endpoint)?).with_context(|| format!("parse {}", endpoint.display()))?;
        let http_port = endpoint["http_port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let http_port = http_port.context("endpoint.json contains no http_port")?;
        let password = read(&self.folder.join("password"))?.trim().to_owned();
        Ok(ClickHouse { agent: agent(), http_port, password })
    }
}

/// Errors of ClickHouse arrive with a body that says more than their status. A proxy of the
/// environment is not for servers on this machine.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Writes a file that other accounts cannot read: it may contain a password.
fn write_private(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}
