//! Labels on addresses: the categories that ARX ships, how severe each is, and how other vocabularies map onto them.
//!
//! Owns the vocabulary, not the labels: rows live in `arx.address_labels`, and users may add categories of their own to
//! `arx.label_categories`, whose shipped rows are [`CATEGORIES`]. Lists of labels come with two words a row, a category (what
//! the address is) and an abuse (what it did), in GraphSense's, Etherscan's or a sanctions list's vocabulary; [`categorize`]
//! turns them into one category. What it does not know becomes `other`, never something it might not be: the words it knows
//! are those that mean one thing in the public lists (GraphSense TagPacks and their INTERPOL-based taxonomy, Etherscan's label
//! cloud, OFAC's list).

mod vocabulary;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use vocabulary::{categorize, categorize_with_label};

/// How grave a label is. Ordered: `None < Low < Medium < High < Severe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No reason for concern.
    #[default]
    None,
    /// Worth knowing.
    Low,
    /// Hides where funds come from.
    Medium,
    /// Illicit.
    High,
    /// Illicit, and dealing with it is an offence in most places.
    Severe,
}

impl Severity {
    /// Every severity, rising.
    pub const ALL: [Self; 5] = [Self::None, Self::Low, Self::Medium, Self::High, Self::Severe];

    /// The value of `label_severity_enum`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Severe => "severe",
        }
    }
}

/// What a label says about tracing and risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// Raises risk.
    Illicit,
    /// Holds funds for others, so tracing stops here.
    Service,
    /// Neither.
    Neutral,
}

impl LabelKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Illicit, Self::Service, Self::Neutral];

    /// The value of `label_categories.kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Illicit => "illicit",
            Self::Service => "service",
            Self::Neutral => "neutral",
        }
    }
}

/// A word that is no severity or no kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    /// Not a [`Severity`].
    #[error("severity {text:?} is unknown; expected none, low, medium, high or severe")]
    UnknownSeverity {
        /// What was given.
        text: String,
    },
    /// Not a [`LabelKind`].
    #[error("label kind {text:?} is unknown; expected illicit, service or neutral")]
    UnknownKind {
        /// What was given.
        text: String,
    },
}

impl FromStr for Severity {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|severity| severity.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| LabelError::UnknownSeverity { text: text.to_owned() })
    }
}

impl FromStr for LabelKind {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| LabelError::UnknownKind { text: text.to_owned() })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for LabelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A category as shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Category {
    /// The name, the key of `arx.label_categories`.
    pub name: &'static str,
    /// What it says about tracing and risk.
    pub kind: LabelKind,
    /// The severity of a label that states none.
    pub severity: Severity,
}

const fn entry(name: &'static str, kind: LabelKind, severity: Severity) -> Category {
    Category { name, kind, severity }
}

/// The shipped categories, the gravest first: where a list gives an address several words, the first here wins.
pub const CATEGORIES: [Category; 23] = [
    entry("sanctions", LabelKind::Illicit, Severity::Severe),
    entry("terrorism", LabelKind::Illicit, Severity::Severe),
    entry("child_abuse", LabelKind::Illicit, Severity::Severe),
    entry("ransomware", LabelKind::Illicit, Severity::Severe),
    entry("hack", LabelKind::Illicit, Severity::Severe),
    entry("darknet_market", LabelKind::Illicit, Severity::High),
    entry("extremism", LabelKind::Illicit, Severity::High),
    entry("phishing", LabelKind::Illicit, Severity::High),
    entry("scam", LabelKind::Illicit, Severity::High),
    entry("sextortion", LabelKind::Illicit, Severity::High),
    entry("ponzi_scheme", LabelKind::Illicit, Severity::High),
    entry("blocked", LabelKind::Illicit, Severity::High),
    entry("illicit", LabelKind::Illicit, Severity::High),
    entry("mixer", LabelKind::Service, Severity::Medium),
    entry("gambling", LabelKind::Service, Severity::Low),
    entry("exchange", LabelKind::Service, Severity::None),
    entry("wallet_service", LabelKind::Service, Severity::None),
    entry("payment_processor", LabelKind::Service, Severity::None),
    entry("defi", LabelKind::Neutral, Severity::None),
    entry("miner", LabelKind::Neutral, Severity::None),
    entry("token", LabelKind::Neutral, Severity::None),
    entry("licit", LabelKind::Neutral, Severity::None),
    entry("other", LabelKind::Neutral, Severity::None),
];

/// The category whose exposure is told apart, of whatever amount.
pub const SANCTIONS: &str = "sanctions";

/// The shipped category of that name.
#[must_use]
pub fn category(name: &str) -> Option<&'static Category> {
    CATEGORIES.iter().find(|category| category.name == name)
}

/// The severity of a label of this category that states none; `None` (the option) for a category that ARX does not ship.
#[must_use]
pub fn default_severity(name: &str) -> Option<Severity> {
    category(name).map(|category| category.severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_those_of_the_table_label_categories() {
        let sql = include_str!("../../../sql/postgres/13_labels.sql");
        let insert = sql.split("INSERT INTO label_categories").nth(1).unwrap().split(';').next().unwrap();
        let in_sql: Vec<[&str; 3]> = insert
            .split("\n    (")
            .skip(1)
            .map(|row| {
                let quoted: Vec<&str> = row.split('\'').collect();
                [quoted[1], quoted[3], quoted[5]]
            })
            .collect();
        let shipped: Vec<[&str; 3]> =
            CATEGORIES.iter().map(|c| [c.name, c.kind.as_str(), c.severity.as_str()]).collect();
        assert_eq!(shipped, in_sql);
    }

    #[test]
    fn severities_and_kinds_are_read_back_as_written() {
        for severity in Severity::ALL {
            assert_eq!(severity.as_str().parse(), Ok(severity));
            assert_eq!(serde_json::to_string(&severity).unwrap(), format!("\"{severity}\""));
        }
        for kind in LabelKind::ALL {
            assert_eq!(kind.as_str().to_uppercase().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert_eq!("grave".parse::<Severity>(), Err(LabelError::UnknownSeverity { text: "grave".into() }));
        assert_eq!("".parse::<LabelKind>(), Err(LabelError::UnknownKind { text: String::new() }));
        assert!(Severity::Severe > Severity::High && Severity::None < Severity::Low);
    }

    #[test]
    fn default_severities_come_from_the_categories() {
        assert_eq!(default_severity("mixer"), Some(Severity::Medium));
        assert_eq!(default_severity("of our own"), None);
    }
}
