//! `arx-sidecar risk-report`: a page about the model in use and a draft, for whoever has to answer
//! for them.
//!
//! Owns what is read for it (`database`, `offline`) and how it looks (`page`, `measures`,
//! `factors`, `charts`). What the numbers mean is [`arx_core::risk`]'s. The page is one file that
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

/// When models are judged on labels, and all wallets scored, for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Evaluate {
    /// Where it is not stored with the draft
    #[default]
    Auto,
    /// On the labels of now, whatever is stored
    Always,
    /// Not at all: only what is stored
    Never,
}
