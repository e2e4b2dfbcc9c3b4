//! The embedded ClickHouse engine beside a database: where the sidecar of that database finds it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::process::wait_until;
use crate::programs;
use crate::stack::{Database, Stack};

/// How long the engine may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running engine.
#[derive(Debug)]
pub struct ClickHouse {
    port: u16,
    password: String,
}

impl ClickHouse {
    /// Starts the engine in the folder of a database's sidecar. It ends with the stack.
    ///
    /// # Errors
    /// When it cannot be started or does not answer in time.
    pub fn start(stack: &Stack, database: &Database<'_>) -> Result<Self> {
        let folder = database.data_folder().join("clickhouse");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let mut command = Command::new(programs::clickhouse()?);
        command.arg("--data").arg(&folder).arg("--lib").arg(programs::libchdb());
        let name = format!("clickhouse-{}", database.name());
        let pid = stack.start_beside(&name, &command)?;
        let endpoint = folder.join("endpoint.json");
        let is_up = wait_until(START_LIMIT, || match stack.ended(pid) {
            Some(status) => bail!("the engine ended with {status}; see {name}.log"),
            None => Ok(endpoint.exists()),
        })?;
        ensure!(is_up, "the engine did not answer within {} s", START_LIMIT.as_secs());
        let read =
            |path: &std::path::Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        let listening: serde_json::Value = serde_json::from_str(&read(&endpoint)?).context("read where it listens")?;
        let port = listening["http_port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let password = read(&folder.join("password"))?.trim().to_owned();
        Ok(Self { port: port.context("the engine does not say where it listens")?, password })
    }

    /// Runs a query and returns its rows, as its FORMAT says: separated by tabs, if it says nothing.
    ///
    /// # Errors
    /// What ClickHouse says is wrong.
    pub fn query(&self, sql: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("connect to ClickHouse")?;
        // version 1.0: the answer ends with the connection
        let head = format!(
            "POST / HTTP/1.0\r\nX-ClickHouse-User: arx\r\nX-ClickHouse-Key: {}\r\nContent-Length: {}\r\n\r\n",
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
