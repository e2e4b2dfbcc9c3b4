//! `arx-sidecar risk-report`: a page about the active model and a draft, for the people who are
//! accountable for them.
//!
//! Owns the data (`database`, `offline`) and the presentation (`page`, `measures`, `factors`,
//! `charts`). The meaning of the numbers belongs to [`arx_core::risk`]. The page is one file that
//! loads nothing and runs nothing.

mod charts;
mod content;
pub(crate) mod database;
mod factors;
mod measures;
mod numbers;
pub(crate) mod offline;
mod page;
#[cfg(test)]
mod tests;

use clap::ValueEnum;

pub(crate) use page::page;

/// When models are judged on labels and all wallets are scored for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Evaluate {
    /// When no measures are stored with the draft
    #[default]
    Auto,
    /// Always, on the current labels
    Always,
    /// Never: report only stored measures
    Never,
}
