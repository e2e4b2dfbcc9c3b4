//! Embedded ClickHouse engines: beside a database, where its sidecar finds it; with files of one's own; three as the shards of a cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::process::wait_until;
use crate::programs;
use crate::stack::{Database, Stack};

/// The password of engines that have to know one another's.
const PASSWORD: &str = "known-to-all-shards";

/// How long the engine may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running engine.
#[derive(Debug)]
pub struct ClickHouse {
    http_port: u16,
    tcp_port: u16,
    password: String,
}

/// Where an engine listens and what it is told, where that must be known before it starts.
#[derive(Debug, Clone)]
struct Setup {
    http_port: u16,
    tcp_port: u16,
    password: String,
    /// Files of its folder: name and text.
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

    /// Starts an engine in the folder `NAME` of the stack, with these files (path in its folder, text), such as
    /// `config.d/*.xml`, which the engine adds to its configuration.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(stack: &Stack, name: &str, files: &[(&str, &str)]) -> Result<Self> {
        let [http_port, tcp_port] = free_ports::<2>()?;
        let files = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
        let setup = Setup { http_port, tcp_port, password: PASSWORD.into(), files };
        Starting::launch(stack, name, &stack.folder().join(name), Some(&setup))?.wait(stack)
    }

    /// Starts three engines that are the shards of one cluster, in folders `CLUSTER-1` to `CLUSTER-3` of the stack.
    ///
    /// # Errors
    /// As [`Self::start`].
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

    /// Its HTTP interface.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The port of its native protocol.
    #[must_use]
    pub const fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// The password of the user `arx`.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Opens a connection for many queries: what a query takes on it is the query's own time.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn connect(&self) -> Result<Session> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port)).context("connect to ClickHouse")?;
        stream.set_nodelay(true).context("set up a connection to ClickHouse")?;
        Ok(Session { stream: BufReader::new(stream), password: self.password.clone() })
    }

    /// Runs a query and returns its rows, as its FORMAT says: separated by tabs, if it says nothing.
    ///
    /// # Errors
    /// What ClickHouse says is wrong.
    pub fn query(&self, sql: &str) -> Result<String> {
        self.query_with("", sql)
    }

    /// [`Self::query`] with settings that no statement can make, as they stand in an URL: `NAME=VALUE&NAME=VALUE`.
    ///
    /// # Errors
    /// What ClickHouse says is wrong.
    pub fn query_with(&self, settings: &str, sql: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port)).context("connect to ClickHouse")?;
        // version 1.0: the answer ends with the connection
        let head = format!(
            "POST /?{settings} HTTP/1.0\r\nX-ClickHouse-User: arx\r\nX-ClickHouse-Key: {}\r\nContent-Length: {}\r\n\r\n",
            self.password,
            sql.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sql.as_bytes())).context("ask ClickHouse")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("read what ClickHouse says")?;
        let answer = String::from_utf8(answer).context("ClickHouse does not answer in UTF-8")?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no HTTP answer: {answer}"))?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        // an error in the middle of an answer comes after the status
        if status != "200" || body.contains("DB::Exception") {
            bail!("{}", body.trim_end());
        }
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
            write(&folder.join("password"), &setup.password)?;
            for (path, text) in &setup.files {
                write(&folder.join(path), text)?;
            }
            command.args(["--http-port", &setup.http_port.to_string(), "--tcp-port", &setup.tcp_port.to_string()]);
        }
        let pid = stack.start_beside(name, &command)?;
        Ok(Self { name: name.to_owned(), folder: folder.to_owned(), pid })
    }

    fn wait(self, stack: &Stack) -> Result<ClickHouse> {
        let endpoint = self.folder.join("endpoint.json");
        let is_up = wait_until(START_LIMIT, || match stack.ended(self.pid) {
            Some(status) => bail!("the engine ended with {status}; see {}.log", self.name),
            None => Ok(endpoint.exists()),
        })?;
        ensure!(is_up, "the engine did not answer within {} s", START_LIMIT.as_secs());
        let listening: serde_json::Value =
            serde_json::from_str(&read(&endpoint)?).context("read where the engine listens")?;
        let port = |name: &str| {
            let port = listening[name].as_u64().and_then(|port| u16::try_from(port).ok());
            port.with_context(|| format!("the engine does not say its {name}"))
        };
        let password = read(&self.folder.join("password"))?.trim().to_owned();
        Ok(ClickHouse { http_port: port("http_port")?, tcp_port: port("tcp_port")?, password })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// For nobody else to read: it may hold a password.
fn write(path: &Path, text: &str) -> Result<()> {
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

/// Ports that are free now, all different. An engine binds them a moment later; if another process was faster, it does not start.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let mut held = Vec::with_capacity(COUNT);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("take a free port")?;
        *port = listener.local_addr().context("look which port is free")?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A connection that stays open between queries.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<TcpStream>,
    password: String,
}

impl Session {
    /// As [`ClickHouse::query`]. After an error the connection is of no more use.
    ///
    /// # Errors
    /// What ClickHouse says is wrong.
    pub fn query(&mut self, sql: &str) -> Result<String> {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\nX-ClickHouse-User: arx\r\nX-ClickHouse-Key: {}\r\n\
             Content-Length: {}\r\n\r\n{sql}",
            self.password,
            sql.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).context("ask ClickHouse")?;
        let status = self.line()?;
        let mut length = None;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = Some(text.trim().parse().context("read the length of an answer")?);
            }
        }
        let body = match length {
            Some(length) => self.bytes(length)?,
            None => self.pieces()?,
        };
        let body = String::from_utf8(body).context("ClickHouse does not answer in UTF-8")?;
        if status.split_whitespace().nth(1) != Some("200") || body.contains("DB::Exception") {
            bail!("{}", body.trim_end());
        }
        Ok(body.trim_end().to_owned())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line).context("read what ClickHouse says")? > 0, "ClickHouse hung up");
        Ok(line.trim_end().to_owned())
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).context("read what ClickHouse says")?;
        Ok(bytes)
    }

    /// A body of which nobody knew the length (RFC 9112, chunked): pieces, each after its length in hexadecimal, the last one empty.
    fn pieces(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(&line, 16).with_context(|| format!("read the length {line:?}"))?;
            body.extend(self.bytes(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
}
