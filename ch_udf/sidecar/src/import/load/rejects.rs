//! The rejects file: line number, reason and line, tab separated. It belongs to the user, so it may
//! hold values that a log must not. Rejects are written before their chunk is committed and
//! truncated when an import continues, so that no line appears twice.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::import::error::ImportError;
use crate::import::read::chunk::Reject;
use crate::import::read::input;

/// A rejects file, created with its first line.
#[derive(Debug)]
pub(crate) struct RejectsFile {
    path: PathBuf,
    writer: Option<BufWriter<File>>,
}

/// Default rejects file of `file`.
pub(crate) fn default_path(file: &Path) -> PathBuf {
    let name = if input::is_stdin(file) { None } else { file.file_name() };
    let mut path = name.unwrap_or("import".as_ref()).to_owned();
    path.push(".rejects");
    PathBuf::from(path)
}

impl RejectsFile {
    /// Opens the file for an import that continues after `lines_done` lines; entries of later lines
    /// are removed.
    ///
    /// # Errors
    /// [`ImportError::Rejects`].
    pub(crate) fn open(path: PathBuf, lines_done: u64) -> Result<Self, ImportError> {
        match truncate_after(&path, lines_done) {
            Ok(()) => Ok(Self { path, writer: None }),
            Err(source) => Err(ImportError::Rejects { file: path, source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends lines and flushes them.
    ///
    /// # Errors
    /// [`ImportError::Rejects`].
    pub(crate) fn write(&mut self, rejects: &[Reject]) -> Result<(), ImportError> {
        if rejects.is_empty() {
            return Ok(());
        }
        self.append(rejects).map_err(|source| ImportError::Rejects { file: self.path.clone(), source })
    }

    fn append(&mut self, rejects: &[Reject]) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                self.writer.insert(BufWriter::new(file))
            }
        };
        for reject in rejects {
            let reason = reject.reason.replace(['\t', '\n', '\r'], " ");
            writeln!(writer, "{}\t{reason}\t{}", reject.line, reject.text)?;
        }
        writer.flush()
    }
}

/// Truncates a file before the first entry of a line after `lines_done`.
fn truncate_after(path: &Path, lines_done: u64) -> io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    let mut keep = 0;
    let mut reader = BufReader::new(&file);
    let mut entry = Vec::new();
    loop {
        entry.clear();
        let length = reader.read_until(b'\n', &mut entry)?;
        let number: Option<u64> =
            entry.split(|b| *b == b'\t').next().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        match number {
            Some(number) if number <= lines_done && entry.last() == Some(&b'\n') => {
                keep += u64::try_from(length).unwrap_or_default();
            }
            _ => break,
        }
    }
    file.set_len(keep)?;
    file.seek(SeekFrom::End(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(line: u64) -> Reject {
        Reject { line, reason: "tab\there".into(), text: format!("a\tb{line}") }
    }

    #[test]
    fn a_continued_import_writes_no_line_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.rejects");
        RejectsFile::open(path.clone(), 0).unwrap().write(&[reject(3), reject(9), reject(12)]).unwrap();
        RejectsFile::open(path.clone(), 10).unwrap().write(&[reject(12)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "3\ttab here\ta\tb3\n9\ttab here\ta\tb9\n12\ttab here\ta\tb12\n");
        RejectsFile::open(path.clone(), 0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn no_file_is_created_without_rejects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.rejects");
        RejectsFile::open(path.clone(), 0).unwrap().write(&[]).unwrap();
        assert!(!path.exists());
        let nowhere = folder.path().join("no/such/x.rejects");
        let error = RejectsFile::open(nowhere, 0).unwrap().write(&[reject(1)]).unwrap_err();
        assert!(error.to_string().contains("--rejects"), "{error}");
    }

    #[test]
    fn the_default_is_named_after_the_file_in_the_current_directory() {
        assert_eq!(default_path(Path::new("/data/t.csv.gz")), Path::new("t.csv.gz.rejects"));
        assert_eq!(default_path(Path::new("-")), Path::new("import.rejects"));
    }
}
