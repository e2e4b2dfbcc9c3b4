//! SQL files and their expected output. A file runs in psql, which echoes it; every error shows its
//! SQLSTATE. Source lines of PostgreSQL (`LOCATION`) are left out, because they change with minor
//! versions.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use arx_stack::Database;

/// Variable that makes [`check`] write the actual output as the expected one.
pub const UPDATE: &str = "UPDATE_GOLDEN";

/// Returns the `.sql` files of a folder, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Runs a file in psql and returns rows and errors in their order. Errors do not stop it.
///
/// # Errors
/// When psql cannot be run to its end.
pub fn output(database: &Database<'_>, sql: &Path) -> Result<String> {
    let input = File::open(sql).with_context(|| format!("open {}", sql.display()))?;
    let capture = tempfile::NamedTempFile::new().context("create a file for psql's output")?;
    let stream = capture.reopen().context("open the file for psql's output")?;
    // Both streams go into one file, as psql flushes them: only so do rows and errors keep their
    // order.
    let status = database
        .psql()
        .args(["-a", "-v", "ON_ERROR_STOP=0", "-v", "VERBOSITY=verbose", "-P", "pager=off"])
        .stdin(input)
        .stdout(stream.try_clone()?)
        .stderr(stream)
        .status()
        .context("start psql")?;
    ensure!(status.success(), "psql ended with {status} in {}", sql.display());
    let text = std::fs::read_to_string(capture.path()).context("read psql's output")?;
    Ok(text.lines().filter(|line| !line.starts_with("LOCATION:  ")).fold(String::new(), |all, line| all + line + "\n"))
}

/// Runs a file and compares its output with the `.out` next to it, or writes that when
/// `UPDATE_GOLDEN` is set.
///
/// # Errors
/// When the output differs. The error contains the difference.
pub fn check(database: &Database<'_>, sql: &Path) -> Result<()> {
    let expected = sql.with_extension("out");
    let actual = output(database, sql)?;
    if std::env::var_os(UPDATE).is_some() {
        return std::fs::write(&expected, actual).with_context(|| format!("write {}", expected.display()));
    }
    let wanted = std::fs::read_to_string(&expected)
        .with_context(|| format!("read {} ({UPDATE}=1 writes it)", expected.display()))?;
    if actual == wanted {
        return Ok(());
    }
    bail!("the output of {} differs from {}:\n{}", sql.display(), expected.display(), difference(&expected, &actual)?)
}

fn difference(expected: &Path, actual: &str) -> Result<String> {
    let mut diff = Command::new("diff")
        .args(["-u", "--label", "expected", "--label", "actual"])
        .arg(expected)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start diff")?;
    if let Some(mut input) = diff.stdin.take() {
        input.write_all(actual.as_bytes()).context("feed diff")?;
    }
    let output = diff.wait_with_output().context("wait for diff")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
