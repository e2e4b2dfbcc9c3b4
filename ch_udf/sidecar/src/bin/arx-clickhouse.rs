//! Runs the embedded ClickHouse engine, which serves HTTP, and the native protocol if asked, on the
//! loopback address.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use arx_sidecar::Chain;
use arx_sidecar::engine::{LaunchOptions, run};
use clap::Parser;

/// Runs the embedded ClickHouse engine until SIGTERM or Ctrl-C.
///
/// The engine's folder holds its tables, a private password file for the user `arx`, and, while the
/// engine answers, `endpoint.json` with the process id and the ports.
#[derive(Debug, Parser)]
#[command(name = "arx-clickhouse", version)]
struct EngineArguments {
    /// Folder of the engine; one process at a time may use it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// libchdb.so [env: ARX_LIBCHDB; default: next to this program, then the project's .tools
    /// folder]
    #[arg(long, value_name = "FILE")]
    lib: Option<PathBuf>,
    /// HTTP port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    http_port: u16,
    /// Port of the native protocol, which is off without one; 0 takes a free one
    #[arg(long)]
    tcp_port: Option<u16>,
    /// End together with this process, which must be the parent
    #[arg(long, value_name = "PID")]
    with_parent: Option<i32>,
}

fn main() -> ExitCode {
    let arguments = EngineArguments::parse();
    let options = LaunchOptions {
        folder: arguments.data,
        library: arguments.lib,
        http_port: arguments.http_port,
        tcp_port: arguments.tcp_port,
        parent: arguments.with_parent,
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a reader, the exit code is left.
            let _ = writeln!(std::io::stderr(), "arx-clickhouse: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}
