//! Helpers of the tests of the cache: daemons, commands of the sidecar, servers of Redis, and
//! requests by HTTP. A helper that fails ends the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};

/// Time limit for anything that must happen. A daemon that waits for a lock of one that was killed
/// tries again after up to 25 seconds.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The promise is a second; a loaded machine gets more.
pub const FRESH: Duration = Duration::from_secs(5);

pub fn wallet(number: u32) -> String {
    format!("0x{number:040x}")
}

pub fn sidecar(database: &Database<'_>, variables: &[(&str, &str)], arguments: &[&str]) -> (Output, String) {
    let mut command = database.sidecar().unwrap();
    let output = command.envs(variables.iter().copied()).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    (output, text)
}

/// A running daemon, which is stopped when it goes out of scope.
pub struct Daemon {
    child: Child,
    log: std::path::PathBuf,
}

impl Daemon {
    pub fn start(database: &Database<'_>, variables: &[(&str, &str)], folder: &Path) -> Self {
        let log = folder.join(format!("{}.log", database.name()));
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let mut command = database.sidecar().unwrap();
        command.envs(variables.iter().copied()).arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Self { child: command.spawn().unwrap(), log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        let mut found = None;
        let has_address = || {
            let log = self.log();
            let words = log.split_whitespace().filter_map(|word| word.strip_prefix("address="));
            found = words.filter_map(|word| word.parse().ok()).next_back();
            Ok(found.is_some())
        };
        assert!(wait_until(LIMIT, has_address).unwrap(), "{}", self.log());
        found.unwrap()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let _ = self.child.wait();
    }
}

/// Starts Redis on a free port, and waits until it answers. Returns its URL, port and process.
pub fn start_redis(stack: &Stack, name: &str, port: u16, options: &[&str]) -> (String, u32) {
    let folder = stack.folder().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).arg("--dir").arg(&folder);
    let pid = stack.start_server(name, command.args(options)).unwrap();
    assert!(wait_until(LIMIT, || Ok(redis(port, &["PING"]).contains("PONG"))).unwrap(), "{name} does not answer");
    (format!("redis://127.0.0.1:{port}"), pid)
}

pub fn redis(port: u16, arguments: &[&str]) -> String {
    run(Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments)).unwrap_or_default()
}

pub fn request(address: SocketAddr, text: &str) -> (u16, String, serde_json::Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String, serde_json::Value) {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

pub fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String, serde_json::Value) {
    let length = body.len();
    request(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    )
}

/// Fills a database with transactions in a ring of wallets.
pub fn fill(database: &Database<'_>, wallets: u32) {
    database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'ethereum', 't' || n, n, timestamptz '2024-01-01' + n * interval '1 minute',
                    '0x' || lpad(to_hex(1 + n % {wallets}), 40, '0'), '0x' || lpad(to_hex(1 + (n + 1) % {wallets}), 40, '0'),
                    n % 7 + 1, 'confirmed' FROM generate_series(1, {wallets} * 3) AS n;
             SELECT arx.refresh_wallet_profiles()"
        ))
        .unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
}

/// Waits until the cache gives a profile that contains a text.
pub fn wait_for(database: &Database<'_>, variables: &[(&str, &str)], wallet: &str, texts: &[&str]) {
    let started = Instant::now();
    let mut last = String::new();
    let shown = || {
        last = sidecar(database, variables, &["profile", wallet, "--json"]).1;
        Ok(last.contains("\"source\":\"cache\"") && texts.iter().all(|text| last.contains(text)))
    };
    assert!(wait_until(FRESH, shown).unwrap(), "{texts:?} after {:?}: {last}", started.elapsed());
}
