//! Peers in Python: a child process that reads a graph, then times itself and says what it found.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use arx_stack::process::run;
use arx_stack::programs::workspace;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What a peer writes to standard output, as JSON.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Timed<T> {
    /// The library's version.
    pub version: String,
    /// Of each run.
    pub milliseconds: Vec<f64>,
    /// The answer.
    pub answer: T,
}

/// The interpreter: `ARX_BENCH_PYTHON`, or the one that `scripts/install-tools --bench` sets up.
///
/// # Errors
/// When it is not there.
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

/// Runs a program with a file of edges, a sender and a receiver a line, and a number of runs.
///
/// # Errors
/// When it fails, or says something else than was expected.
pub fn timed<T: DeserializeOwned>(program: &str, edges: &Path, runs: usize) -> Result<Timed<T>> {
    let mut command = Command::new(interpreter()?);
    let text = run(command.args(["-c", program]).arg(edges).arg(runs.to_string()))?;
    serde_json::from_str(&text).context("read what the Python peer found")
}
