//! Types of single settings.

/// Address of `/metrics` and `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Off,
    /// `host:port`; port 0 takes a free one.
    On(String),
}
