//! Carries ARX data between files, PostgreSQL, ClickHouse and Redis: the daemon and the operator's command line.

use std::process::ExitCode;

use arx_sidecar::cli::{Cli, GlobalArgs, LogFormat, execute};
use arx_sidecar::error::Chain;
use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.global);
    let settings = match cli.global.settings() {
        Ok(settings) => settings,
        Err(error) => return fail(&error, 2),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    // On a worker, beside the tasks of its connections: from here every wake-up would cross threads.
    let work = runtime.spawn(async move { execute(cli.command, &settings).await });
    match runtime.block_on(work) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => fail(&*error, 1),
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    eprintln!("arx-sidecar: {}", Chain(error));
    ExitCode::from(code)
}

/// The log goes to standard error; `ARX_LOG` takes a filter such as `arx_sidecar=debug`.
fn start_log(global: &GlobalArgs) {
    let level = match global.verbose {
        0 => "warn,arx_sidecar=info",
        1 => "info,arx_sidecar=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("ARX_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr);
    match global.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
