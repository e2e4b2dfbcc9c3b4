//! Daemons and commands of the sidecar, and requests to a daemon by HTTP. A helper that fails ends
//! the test.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use arx_stack::Database;
use arx_stack::process::{run, wait_until};
use serde_json::Value;

/// Time limit for anything that must happen. A daemon that waits for a lock of one that was killed
/// tries again after up to 25 seconds.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Runs a command of the sidecar with these variables. Returns its outputs also as one text.
pub fn sidecar(database: &Database<'_>, variables: &[(&str, &str)], arguments: &[&str]) -> (Output, String) {
    let mut command = database.sidecar().unwrap();
    let output = command.envs(variables.iter().copied()).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    (output, text)
}

/// A running daemon, which is stopped when it goes out of scope.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// Length of the log when it started.
    logged: usize,
}

impl Daemon {
    /// Starts `arx-sidecar run`. The log of one that follows in the same folder is appended.
    pub fn start(database: &Database<'_>, variables: &[(&str, &str)], folder: &Path) -> Self {
        let mut command = database.sidecar().unwrap();
        command.envs(variables.iter().copied()).arg("run");
        Self::spawn(command, folder.join(format!("{}.log", database.name())))
    }

    /// Starts a command whose standard error is the log.
    pub fn spawn(mut command: Command, log: PathBuf) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let logged = std::fs::read_to_string(&log).unwrap().len();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log, logged }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn wait_for_log(&self, text: &str) {
        assert!(wait_until(LIMIT, || Ok(self.log().contains(text))).unwrap(), "no {text:?} in {}", self.log());
    }

    /// Waits until it listens, and returns the address.
    pub fn address(&self) -> SocketAddr {
        let mut address = None;
        let has_address = || {
            let log = self.log();
            let words = log[self.logged..].split_whitespace().filter_map(|word| word.strip_prefix("address="));
            address = words.filter_map(|word| word.parse().ok()).next_back();
            Ok(address.is_some())
        };
        assert!(wait_until(LIMIT, has_address).unwrap(), "{}", self.log());
        address.unwrap()
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        run(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()])).unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The id of one that has ended may be another process's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let _ = self.child.wait();
    }
}

/// Returns the answer to a request, with its head. A server that does not read the rest of a
/// request may reset the connection; what it has sent before is the answer.
pub fn request(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Returns a page, with its head.
pub fn get_text(address: SocketAddr, path: &str) -> String {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// Returns status, head and JSON of an answer; status 0 and null without an answer.
pub fn get(address: SocketAddr, path: &str) -> (u16, String, Value) {
    parsed(get_text(address, path))
}

pub fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String, Value) {
    let length = body.len();
    parsed(request(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    ))
}

fn parsed(answer: String) -> (u16, String, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_owned(), serde_json::from_str(body).unwrap_or_default())
}
