//! Peers in Python: a child process that reads a graph, measures itself and reports its result.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use arx_stack::process::run;
use arx_stack::programs::workspace;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// JSON that a peer writes to standard output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Timed<T> {
    /// Version of the library.
    pub version: String,
    /// Duration of each run.
    pub milliseconds: Vec<f64>,
    pub answer: T,
}

/// Returns the interpreter: `ARX_BENCH_PYTHON`, or the one that `scripts/install-tools --bench`
/// installs.
///
/// # Errors
/// When it does not exist.
pub fn interpreter() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ARX_BENCH_PYTHON") {
        return Ok(path.into());
    }
    let path = workspace().join(".tools/python/bin/python3");
    if !path.exists() {
        bail!("{} is missing: run scripts/install-tools --bench, or set ARX_BENCH_PYTHON", path.display());
    }
    Ok(path)
}

/// Runs a program with a file of edges, one pair of sender and receiver a line, and a number of
/// runs.
///
/// # Errors
/// When it fails, or writes anything else than the expected JSON.
pub fn timed<T: DeserializeOwned>(program: &str, edges: &Path, runs: usize) -> Result<Timed<T>> {
    let mut command = Command::new(interpreter()?);
    let text = run(command.args(["-c", program]).arg(edges).arg(runs.to_string()))?;
    serde_json::from_str(&text).context("parse the output of the Python peer")
}
