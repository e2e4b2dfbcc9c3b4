//! Runs the embedded engine in this process. Owns finding the library, choosing ports, the pseudo-terminal on standard input,
//! and the life of the endpoint file; the binary `arx-clickhouse` is a shell around it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::chdb;
use super::files::{Endpoint, EngineFolder};
use crate::error::SidecarError;

/// How long the engine may take until it answers: 0.3 to 0.7 s are usual, a folder with many tables takes longer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where the npm package puts the library, below a folder that the project's scripts fill.
const PACKAGED: &str = ".tools/clickhouse/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so";

/// Starts the listeners, then keeps the engine's own session busy for ever at next to no cost: three seconds a row.
const KEEP_LISTENING: &str = "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; \
    SELECT sleepEachRow(3) FROM system.numbers FORMAT Null SETTINGS max_block_size = 1";

/// What the engine is started with.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The engine's folder.
    pub folder: PathBuf,
    /// The library, when it is not to be searched for.
    pub library: Option<PathBuf>,
    /// HTTP port; a free one if 0.
    pub http_port: u16,
    /// Native port; a free one if 0.
    pub tcp_port: u16,
    /// End when this process ends.
    pub parent: Option<i32>,
}

/// Runs the engine until it is told to stop (SIGTERM, SIGINT) or fails.
///
/// # Errors
/// [`SidecarError::EngineLibraryMissing`], [`SidecarError::EngineBusy`] when another engine holds the folder,
/// [`SidecarError::EngineFailed`] with what the engine said.
pub fn run(options: &LaunchOptions) -> Result<(), SidecarError> {
    if let Some(parent) = options.parent {
        die_with(parent)?;
    }
    let library = find_library(options.library.as_deref())?;
    std::fs::create_dir_all(&options.folder)
        .map_err(|source| SidecarError::io("create folder", &options.folder, source))?;
    let root = options.folder.canonicalize().map_err(|source| SidecarError::io("resolve", &options.folder, source))?;
    let folder = EngineFolder::new(root);
    let guard = lock(&folder)?;
    folder.prepare()?;
    let pid = nix::unistd::getpid().as_raw();
    let endpoint = Endpoint { pid, http_port: free_port(options.http_port)?, tcp_port: free_port(options.tcp_port)? };

    // Blocked before any thread starts, so that every thread inherits it and only `watch` takes these signals.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|errno| SidecarError::system("block signals", errno))?;
    let terminal =
        nix::pty::openpty(None, None).map_err(|errno| SidecarError::system("open a pseudo-terminal", errno))?;
    nix::unistd::dup2_stdin(&terminal.slave)
        .map_err(|errno| SidecarError::system("put the pseudo-terminal on standard input", errno))?;

    watch(signals, folder.clone(), pid);
    announce(folder.clone(), endpoint.clone());
    let outcome = chdb::run(&library, &arguments(&folder, &endpoint));
    folder.withdraw(pid);
    drop(guard);
    // The engine only returns when it could not start or was cut short: the query it runs has no end.
    match outcome? {
        Some(message) if message.contains("Code: 76") => Err(SidecarError::EngineBusy { folder: folder.root().into() }),
        message => Err(SidecarError::EngineFailed {
            detail: message.unwrap_or_else(|| "it ended by itself; see the messages above".into()),
        }),
    }
}

fn arguments(folder: &EngineFolder, endpoint: &Endpoint) -> Vec<String> {
    let mut arguments = vec!["clickhouse".to_owned()];
    let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    add("config-file", folder.config().display().to_string());
    add("path", folder.store().display().to_string());
    add("listen_host", Ipv4Addr::LOCALHOST.to_string());
    add("http_port", endpoint.http_port.to_string());
    add("tcp_port", endpoint.tcp_port.to_string());
    add("log-level", "error".into());
    add("history_file", "/dev/null".into());
    add("query", KEEP_LISTENING.into());
    arguments.extend(["--interactive".to_owned(), "--disable_suggestion".to_owned()]);
    arguments
}

/// Asks the kernel to end this process when its parent ends; a parent that is gone already ends it at once.
fn die_with(parent: i32) -> Result<(), SidecarError> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|errno| SidecarError::system("bind the engine's life to its parent", errno))?;
    if nix::unistd::getppid().as_raw() == parent {
        Ok(())
    } else {
        Err(SidecarError::EngineFailed { detail: format!("the parent process {parent} is gone") })
    }
}

/// An exclusive lock on the folder: the engine's own check comes late and says only `Code: 76`.
fn lock(folder: &EngineFolder) -> Result<nix::fcntl::Flock<std::fs::File>, SidecarError> {
    let path = folder.root().join("engine.lock");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| SidecarError::io("open", &path, source))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|_| SidecarError::EngineBusy { folder: folder.root().into() })
}

fn find_library(given: Option<&Path>) -> Result<PathBuf, SidecarError> {
    let from_environment = std::env::var_os("ARX_LIBCHDB").map(PathBuf::from);
    if let Some(path) = given.map(Path::to_owned).or(from_environment) {
        return if path.is_file() { Ok(path) } else { Err(SidecarError::EngineLibraryMissing { looked: vec![path] }) };
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let mut looked: Vec<PathBuf> = executable.parent().map(|folder| folder.join("libchdb.so")).into_iter().collect();
    looked.extend(std::env::current_dir().ok().map(|folder| folder.join(PACKAGED)));
    looked.extend(executable.ancestors().skip(1).map(|folder| folder.join(PACKAGED)));
    looked.iter().find(|path| path.is_file()).cloned().ok_or(SidecarError::EngineLibraryMissing { looked })
}

/// `wanted`, or a port that is free now. The engine binds it a moment later; if another process was faster, the engine fails
/// to start and its supervisor tries again with another.
fn free_port(wanted: u16) -> Result<u16, SidecarError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| SidecarError::PortTaken { address: format!("127.0.0.1:{wanted}"), source })
}

/// Waits for a signal to stop, withdraws the endpoint and ends the process. What was inserted is on disk: the engine's own
/// parts are written before an insert is acknowledged, and it recovers from any cut.
fn watch(signals: SigSet, folder: EngineFolder, pid: i32) {
    std::thread::spawn(move || {
        let _ = signals.wait();
        folder.withdraw(pid);
        // The engine's threads run on: leaving without its destructors is what a crash does, and that it survives.
        chdb::leave(0);
    });
}

/// Publishes the endpoint once the engine answers, or ends the process if it never does.
fn announce(folder: EngineFolder, endpoint: Endpoint) {
    std::thread::spawn(move || {
        let started = Instant::now();
        while !answers(endpoint.http_port) {
            if started.elapsed() > START_LIMIT {
                eprintln!("arx-clickhouse: the engine did not answer within {} s", START_LIMIT.as_secs());
                chdb::leave(1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Err(error) = folder.publish(&endpoint) {
            eprintln!("arx-clickhouse: {error}");
            chdb::leave(1);
        }
        println!("arx-clickhouse: listening on 127.0.0.1, HTTP {}, native {}", endpoint.http_port, endpoint.tcp_port);
    });
}

/// Whether something answers `/ping` on this loopback port.
#[must_use]
pub fn answers(http_port: u16) -> bool {
    let limit = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, http_port));
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /ping HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut reply = Vec::new();
        stream.take(4096).read_to_end(&mut reply)?;
        Ok(reply.windows(3).any(|window| window == b"Ok."))
    };
    ask().unwrap_or(false)
}
