//! Runs the embedded engine in this process. Owns finding the library, choosing ports, the
//! pseudo-terminal on standard input, and the life of the endpoint file; the binary
//! `arx-clickhouse` is a shell around it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::chdb;
use super::files::{Endpoint, EngineFolder};
use crate::error::{Doing, DoingTo, SidecarError};

/// Time limit for the engine to answer. It usually takes 0.3 to 0.7 s, and longer with many tables.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Path of the library in the npm package that the project's scripts install.
const PACKAGED: &str = ".tools/clickhouse/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so";

/// Keeps the engine's own session busy for ever at almost no cost: one row takes three seconds.
const KEEP_LISTENING: &str =
    "SELECT sleepEachRow(3) FROM system.numbers FORMAT Null SETTINGS max_block_size = 1, max_execution_time = 0";

/// Options of [`run`].
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The engine's folder.
    pub folder: PathBuf,
    /// The library; searched for when absent.
    pub library: Option<PathBuf>,
    /// HTTP port; a free one if 0.
    pub http_port: u16,
    /// Native port; a free one if 0. Without it, the engine does not serve the native protocol.
    pub tcp_port: Option<u16>,
    /// Parent process whose end ends the engine.
    pub parent: Option<i32>,
}

/// Runs the engine until SIGTERM or SIGINT, or until it fails.
///
/// # Errors
/// `SidecarError::EngineLibraryMissing`, `SidecarError::EngineBusy` when another engine holds
/// the folder, `SidecarError::EngineFailed` with the engine's message.
pub fn run(options: &LaunchOptions) -> Result<(), SidecarError> {
    if let Some(parent) = options.parent {
        die_with(parent)?;
    }
    let library = find_library(options.library.as_deref())?;
    std::fs::create_dir_all(&options.folder).doing_to("create folder", &options.folder)?;
    let root = options.folder.canonicalize().doing_to("resolve", &options.folder)?;
    let folder = EngineFolder::new(root);
    let guard = lock(&folder)?;
    let pid = nix::unistd::getpid().as_raw();
    let tcp_port = options.tcp_port.map(free_port).transpose()?;
    let endpoint = Endpoint { pid, http_port: free_port(options.http_port)?, tcp_port };
    let statements = own_statements(&endpoint);
    // A supervised engine serves its parent, which reads the password after each start.
    folder.prepare(options.parent.is_none(), statements.len())?;

    // Blocked before any thread starts, so that every thread inherits the mask and only
    // `stop_on_signal` takes these signals.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().doing("block signals")?;
    let terminal = nix::pty::openpty(None, None).doing("open a pseudo-terminal")?;
    nix::unistd::dup2_stdin(&terminal.slave).doing("put the pseudo-terminal on standard input")?;

    stop_on_signal(signals, folder.clone(), pid);
    publish_when_ready(folder.clone(), endpoint.clone());
    let outcome = chdb::run(&library, &arguments(&folder, &endpoint, &statements));
    folder.withdraw(pid);
    drop(guard);
    // The query that the engine runs has no end: it only returns when it could not start or was
    // interrupted.
    match outcome? {
        Some(message) if message.contains("Code: 76") => Err(SidecarError::EngineBusy { folder: folder.root().into() }),
        message => Err(SidecarError::EngineFailed {
            detail: message.unwrap_or_else(|| "it ended without an error; see the messages above".into()),
        }),
    }
}

/// Returns the statements of the engine's own session.
fn own_statements(endpoint: &Endpoint) -> Vec<&'static str> {
    let tcp = endpoint.tcp_port.map(|_| "SYSTEM START LISTEN TCP");
    ["SYSTEM START LISTEN HTTP"].into_iter().chain(tcp).chain([KEEP_LISTENING]).collect()
}

fn arguments(folder: &EngineFolder, endpoint: &Endpoint, statements: &[&str]) -> Vec<String> {
    let mut arguments = vec!["clickhouse".to_owned()];
    let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    add("config-file", folder.config().display().to_string());
    add("path", folder.store().display().to_string());
    add("listen_host", Ipv4Addr::LOCALHOST.to_string());
    add("http_port", endpoint.http_port.to_string());
    if let Some(port) = endpoint.tcp_port {
        add("tcp_port", port.to_string());
    }
    add("log-level", "error".into());
    add("history_file", "/dev/null".into());
    add("query", statements.join("; "));
    arguments.extend(["--interactive".to_owned(), "--disable_suggestion".to_owned()]);
    arguments
}

/// Asks the kernel to end this process when its parent ends. If the parent has ended already, this
/// is an error.
fn die_with(parent: i32) -> Result<(), SidecarError> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).doing("bind the engine's life to its parent")?;
    if nix::unistd::getppid().as_raw() == parent {
        Ok(())
    } else {
        Err(SidecarError::EngineFailed { detail: format!("the parent process {parent} has ended") })
    }
}

/// Locks the folder. The engine's own check comes late, and its only message is `Code: 76`.
fn lock(folder: &EngineFolder) -> Result<nix::fcntl::Flock<std::fs::File>, SidecarError> {
    let path = folder.root().join("engine.lock");
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).doing_to("open", &path)?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|_| SidecarError::EngineBusy { folder: folder.root().into() })
}

fn find_library(given: Option<&Path>) -> Result<PathBuf, SidecarError> {
    let from_environment = std::env::var_os("ARX_LIBCHDB").map(PathBuf::from);
    if let Some(path) = given.map(Path::to_owned).or(from_environment) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(SidecarError::EngineLibraryMissing { searched: vec![path] })
        };
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let mut searched: Vec<PathBuf> = executable.parent().map(|folder| folder.join("libchdb.so")).into_iter().collect();
    searched.extend(std::env::current_dir().ok().map(|folder| folder.join(PACKAGED)));
    searched.extend(executable.ancestors().skip(1).map(|folder| folder.join(PACKAGED)));
    searched.iter().find(|path| path.is_file()).cloned().ok_or(SidecarError::EngineLibraryMissing { searched })
}

/// Returns `wanted`, or a free port for 0. The engine binds it a moment later; if another process
/// was faster, the engine fails to start and its supervisor tries again with another port.
fn free_port(wanted: u16) -> Result<u16, SidecarError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| SidecarError::PortTaken { address: format!("127.0.0.1:{wanted}"), source })
}

/// Waits for a signal, withdraws the endpoint and ends the process. Acknowledged inserts are on
/// disk: the engine writes parts before it acknowledges an insert, and recovers from a crash.
fn stop_on_signal(signals: SigSet, folder: EngineFolder, pid: i32) {
    std::thread::spawn(move || {
        let _ = signals.wait();
        folder.withdraw(pid);
        // The engine's threads still run. Leaving without its destructors is like a crash, which it
        // survives.
        chdb::leave(0);
    });
}

/// Publishes the endpoint once the engine answers, or ends the process after [`START_LIMIT`].
fn publish_when_ready(folder: EngineFolder, endpoint: Endpoint) {
    std::thread::spawn(move || {
        let started = Instant::now();
        while !answers(endpoint.http_port) {
            if started.elapsed() > START_LIMIT {
                report(format_args!("arx-clickhouse: the engine did not answer within {} s", START_LIMIT.as_secs()));
                chdb::leave(1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Err(error) = folder.publish(&endpoint) {
            report(format_args!("arx-clickhouse: {error}"));
            chdb::leave(1);
        }
        let native = endpoint.tcp_port.map(|port| format!(", native {port}")).unwrap_or_default();
        // The engine serves whether or not someone reads this.
        let _ =
            writeln!(std::io::stdout(), "arx-clickhouse: listening on 127.0.0.1, HTTP {}{native}", endpoint.http_port);
    });
}

/// Prints a line on standard error, if someone reads it: a panic would keep the engine running.
fn report(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Returns whether ClickHouse answers `/ping` on this loopback port.
pub(crate) fn answers(http_port: u16) -> bool {
    let limit = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, http_port));
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /ping HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut reply = Vec::new();
        stream.take(4096).read_to_end(&mut reply)?;
        Ok(reply.windows(3).any(|window| window == b"Ok."))
    };
    ping().unwrap_or(false)
}
