//! Progress of an import: a bar on a terminal, a log line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::loader::Progress;

/// Interval of log lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Redraw interval of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) struct Meter {
    file: String,
    size: Option<u64>,
    bytes_read: Arc<AtomicU64>,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Meter {
    /// `size` is the source's size in bytes, `bytes_read` is advanced by its reader.
    pub(crate) fn new(file: String, size: Option<u64>, bytes_read: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| bar(size));
        Self { file, size, bytes_read, started: now, last_line: now, bar }
    }

    /// Shows a new state.
    pub(crate) fn show(&mut self, total: &Progress) {
        let rows = total.rows();
        let rate = rate(rows, self.started.elapsed());
        let read = self.bytes_read.load(Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(read);
            bar.set_message(format!("{} rows, {}/s", HumanCount(rows), HumanCount(rate)));
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let left = self.size.map_or_else(
                || "unknown".to_owned(),
                |size| format!("{} s", seconds_left(self.started.elapsed(), read, size)),
            );
            tracing::info!(
                file = self.file,
                rows,
                rejected = total.rejected(),
                rows_per_second = rate,
                read = %HumanBytes(read),
                of = %self.size.map_or_else(|| "unknown".to_owned(), |size| HumanBytes(size).to_string()),
                left,
                "importing"
            );
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

pub(crate) fn rate(rows: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    rows.saturating_mul(1000) / millis
}

/// Seconds left at the rate so far.
fn seconds_left(elapsed: Duration, read: u64, size: u64) -> u64 {
    let left = size.saturating_sub(read);
    elapsed.as_secs().saturating_mul(left).checked_div(read).unwrap_or_default()
}

/// Creates the bar. The template is constant; indicatif's default serves if it does not parse.
fn bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{wide_bar} {bytes}/{total_bytes}, {msg}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}, {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(BAR_INTERVAL);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_remaining_times_are_defined_at_the_start() {
        assert_eq!(rate(500, Duration::ZERO), 500_000);
        assert_eq!(rate(500, Duration::from_secs(2)), 250);
        assert_eq!(seconds_left(Duration::from_secs(10), 0, 100), 0);
        assert_eq!(seconds_left(Duration::from_secs(10), 25, 100), 30);
    }
}
