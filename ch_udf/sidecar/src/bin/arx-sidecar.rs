//! Carries ARX data between files, PostgreSQL, ClickHouse and Redis: the daemon and the operator's
//! command line.

fn main() -> std::process::ExitCode {
    arx_sidecar::cli::main()
}
