//! Paths of the project's own programs and files: those of this build, or those that the
//! environment names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Returns the folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// Returns the sidecar's program: `ARX_SIDECAR`, or `arx-sidecar` of this build.
///
/// # Errors
/// When it does not exist.
pub fn sidecar() -> Result<PathBuf> {
    find("ARX_SIDECAR", "arx-sidecar")
}

/// Returns the embedded engine's program: `ARX_CLICKHOUSE`, or `arx-clickhouse` of this build.
///
/// # Errors
/// When it does not exist.
pub fn clickhouse() -> Result<PathBuf> {
    find("ARX_CLICKHOUSE", "arx-clickhouse")
}

/// Returns the program of ClickHouse's executable functions: `ARX_UDF`, or `arx-udf` of this build.
///
/// # Errors
/// When it does not exist.
pub fn udf() -> Result<PathBuf> {
    find("ARX_UDF", "arx-udf")
}

/// Returns the engine's library: `ARX_LIBCHDB`, or the one that `scripts/install-tools` installs.
#[must_use]
pub fn libchdb() -> PathBuf {
    std::env::var_os("ARX_LIBCHDB").map_or_else(
        || workspace().join(".tools/clickhouse/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"),
        PathBuf::from,
    )
}

/// A program of this build is in the folder of the current executable, or above it for a test
/// (`target/debug/deps`).
fn find(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        if path.exists() {
            return Ok(path);
        }
        bail!("{variable} names {}, which does not exist", path.display());
    }
    let executable = std::env::current_exe().context("read the path of the current executable")?;
    for folder in executable.ancestors().skip(1).take(2) {
        let path = folder.join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!(
        "{name} is not in the folder of {}: run `cargo build -p arx-udf -p arx-sidecar --bins` in the same profile, or set {variable}",
        executable.display()
    )
}
