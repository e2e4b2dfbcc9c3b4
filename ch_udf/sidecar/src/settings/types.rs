//! Types of single settings, and of what documents say about their values.

use serde::{Deserialize, Serialize};

/// Address of `/metrics` and `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Off,
    /// `host:port`; port 0 takes a free one.
    On(String),
}

/// Order in which kept answers leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CachePolicy {
    /// The one that was used longest ago first.
    Lru,
    /// The one that is used least often first.
    Lfu,
    /// In the order of their arrival.
    Fifo,
}

/// Values that a setting can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Text of this kind.
    Text(&'static str),
    /// `true` or `false`.
    Switch,
    Number {
        unit: &'static str,
        least: u64,
        /// `u64::MAX` if there is no limit.
        most: u64,
    },
}

impl Values {
    pub(super) const fn number(unit: &'static str, least: u64, most: u64) -> Self {
        Self::Number { unit, least, most }
    }

    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Text(_) | Self::Switch => "",
            Self::Number { unit, .. } => unit,
        }
    }

    pub(super) fn range(self) -> String {
        match self {
            Self::Text(kind) => kind.to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Number { least, most, .. } if most >= u64::from(u32::MAX) => format!("from {least}"),
            Self::Number { least, most, .. } => format!("from {least} to {most}"),
        }
    }
}
