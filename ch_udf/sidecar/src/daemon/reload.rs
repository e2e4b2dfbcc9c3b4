//! Values read from files, which are read again when the files change.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Chain, SidecarError};

/// Device, inode, size and time of a file; different for a file that was changed or replaced.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

type Load<T> = Box<dyn Fn() -> Result<T, SidecarError> + Send + Sync>;

/// A value, and the files that it was read from.
pub(super) struct Reloaded<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// State of the files when they were read last, with success or without.
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

impl<T> Reloaded<T> {
    /// Reads the value for the first time.
    ///
    /// # Errors
    /// Errors of `load`.
    pub(super) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, SidecarError> + Send + Sync + 'static,
    ) -> Result<Self, SidecarError> {
        let stamps = files.iter().map(stamp).collect();
        let state = Mutex::new(State { stamps, value: Arc::new(load()?) });
        Ok(Self { files, load: Box::new(load), state })
    }

    /// Returns the value. If the files have changed, they are read again; what cannot be used, for
    /// example half of a new pair, is reported once, and the former value stays.
    pub(super) fn get(&self) -> Arc<T> {
        let mut state = self.state();
        let stamps: Vec<Stamp> = self.files.iter().map(stamp).collect();
        if stamps != state.stamps {
            state.stamps = stamps;
            let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
            let files = files.join(", ");
            match (self.load)() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    tracing::info!(files, "read again");
                }
                Err(error) => {
                    tracing::error!(files, error = %Chain(&error), "the changed files cannot be used; the former content stays");
                }
            }
        }
        Arc::clone(&state.value)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Whole values: a panic cannot have left one half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(file: &PathBuf) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_at_once_and_one_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        std::fs::write(&file, "1").unwrap();
        let read = file.clone();
        let load = move || {
            let text = std::fs::read_to_string(&read).unwrap_or_default();
            text.parse::<u32>().map_err(|error| SidecarError::Configuration { detail: error.to_string() })
        };
        let value = Reloaded::new(vec![file.clone()], load.clone()).unwrap();
        assert_eq!(*value.get(), 1);
        let replace = |text: &str| {
            let other = folder.path().join("other");
            std::fs::write(&other, text).unwrap();
            std::fs::rename(&other, &file).unwrap();
        };
        replace("2");
        assert_eq!(*value.get(), 2);
        replace("x");
        assert_eq!(*value.get(), 2);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(*value.get(), 2);
        replace("3");
        assert_eq!(*value.get(), 3);
        replace("x");
        assert!(Reloaded::new(vec![file], load).is_err());
    }
}
