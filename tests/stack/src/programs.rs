//! Finding the project's own programs and files: what this build made, or what the environment names instead.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// The sidecar's program: `ARX_SIDECAR`, or `arx-sidecar` of this build.
///
/// # Errors
/// When it is not there.
pub fn sidecar() -> Result<PathBuf> {
    find("ARX_SIDECAR", "arx-sidecar")
}

/// The embedded engine's program: `ARX_CLICKHOUSE`, or `arx-clickhouse` of this build.
///
/// # Errors
/// When it is not there.
pub fn clickhouse() -> Result<PathBuf> {
    find("ARX_CLICKHOUSE", "arx-clickhouse")
}

/// The program of ClickHouse's executable functions: `ARX_UDF`, or `arx-udf` of this build.
///
/// # Errors
/// When it is not there.
pub fn udf() -> Result<PathBuf> {
    find("ARX_UDF", "arx-udf")
}

/// The engine's library: `ARX_LIBCHDB`, or the one that `scripts/install-tools` installs.
#[must_use]
pub fn libchdb() -> PathBuf {
    std::env::var_os("ARX_LIBCHDB").map_or_else(
        || workspace().join(".tools/clickhouse/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"),
        PathBuf::from,
    )
}

/// A program of this build is in the folder of our own executable, or above it for a test (`target/debug/deps`).
fn find(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        if path.exists() {
            return Ok(path);
        }
        bail!("{variable} names {}, which does not exist", path.display());
    }
    let own = std::env::current_exe().context("find the own executable")?;
    for folder in own.ancestors().skip(1).take(2) {
        let path = folder.join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!(
        "{name} is not beside {}: run `cargo build -p arx-sidecar` in the same profile, or set {variable}",
        own.display()
    )
}
