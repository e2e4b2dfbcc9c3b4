//! Labels on addresses: the built-in categories, their severities, and the mapping of other
//! vocabularies onto them.
//!
//! Owns the vocabulary, not the labels: rows live in `arx.address_labels`, and users may add
//! categories to `arx.label_categories`, whose built-in rows are [`CATEGORIES`]. A label list
//! describes an address by words: a category (the role of the address) and an abuse (its misuse).
//! A [`Vocabulary`] maps them to one category, and returns the words that it does not know: such a
//! label gets the category [`UNKNOWN`], which neither accuses nor clears.

mod vocabulary;
mod words;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use vocabulary::{Classified, Vocabulary};
pub use words::{category_of_word, fold};

/// Severity of a label. Ordered: `None < Low < Medium < High < Severe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No reason for concern.
    #[default]
    None,
    /// Notable.
    Low,
    /// Hides the origin of funds.
    Medium,
    /// Illicit.
    High,
    /// Illicit, and dealing with it is an offence in most places.
    Severe,
}

impl Severity {
    /// Every severity, in ascending order.
    pub const ALL: [Self; 5] = [Self::None, Self::Low, Self::Medium, Self::High, Self::Severe];

    /// Returns the value of `label_severity_enum`.
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

/// Meaning of a label for tracing and risk.
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

    /// Returns the value of `label_categories.kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Illicit => "illicit",
            Self::Service => "service",
            Self::Neutral => "neutral",
        }
    }
}

/// An unknown severity, kind or category, or an empty word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    /// The text is not a [`Severity`].
    #[error("severity {text:?} is unknown; expected none, low, medium, high or severe")]
    UnknownSeverity {
        /// The text.
        text: String,
    },
    /// The text is not a [`LabelKind`].
    #[error("label kind {text:?} is unknown; expected illicit, service or neutral")]
    UnknownKind {
        /// The text.
        text: String,
    },
    /// The text names no category.
    #[error("category {text:?} is not in arx.label_categories")]
    UnknownCategory {
        /// The text.
        text: String,
    },
    /// The text has neither letters nor digits.
    #[error("word {text:?} has neither letters nor digits")]
    EmptyWord {
        /// The text.
        text: String,
    },
}

impl FromStr for Severity {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let severity = Self::ALL.into_iter().find(|severity| severity.as_str().eq_ignore_ascii_case(text));
        severity.ok_or_else(|| LabelError::UnknownSeverity { text: text.to_owned() })
    }
}

impl FromStr for LabelKind {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text));
        kind.ok_or_else(|| LabelError::UnknownKind { text: text.to_owned() })
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

/// A built-in category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Category {
    /// Name, the key of `arx.label_categories`.
    pub name: &'static str,
    /// Meaning for tracing and risk.
    pub kind: LabelKind,
    /// Severity of labels that state none.
    pub severity: Severity,
}

const fn entry(name: &'static str, kind: LabelKind, severity: Severity) -> Category {
    Category { name, kind, severity }
}

/// Built-in categories, the most severe first: of several words for an address, the first category
/// wins.
pub const CATEGORIES: [Category; 25] = [
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
    entry("bridge", LabelKind::Service, Severity::None),
    entry("defi", LabelKind::Neutral, Severity::None),
    entry("miner", LabelKind::Neutral, Severity::None),
    entry("token", LabelKind::Neutral, Severity::None),
    entry("licit", LabelKind::Neutral, Severity::None),
    entry("other", LabelKind::Neutral, Severity::None),
    entry(UNKNOWN, LabelKind::Neutral, Severity::None),
];

/// Category whose exposure is reported separately, regardless of its amount.
pub const SANCTIONS: &str = "sanctions";

/// Category of labels whose words are unknown.
pub const UNKNOWN: &str = "unknown";

/// Returns the built-in category with a name.
#[must_use]
pub fn category(name: &str) -> Option<&'static Category> {
    CATEGORIES.iter().find(|category| category.name == name)
}

/// Returns the severity of labels of a category that state none; `None` if the category is not
/// built in.
#[must_use]
pub fn default_severity(name: &str) -> Option<Severity> {
    category(name).map(|category| category.severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_match_the_table_label_categories() {
        let sql = include_str!("../../../sql/postgres/tables/11_labels.sql");
        let insert = sql.split("INSERT INTO arx.label_categories").nth(1).unwrap().split(';').next().unwrap();
        let in_sql: Vec<[&str; 3]> = insert
            .split("\n    (")
            .skip(1)
            .map(|row| {
                let quoted: Vec<&str> = row.split('\'').collect();
                [quoted[1], quoted[3], quoted[5]]
            })
            .collect();
        let built_in: Vec<[&str; 3]> =
            CATEGORIES.iter().map(|c| [c.name, c.kind.as_str(), c.severity.as_str()]).collect();
        assert_eq!(built_in, in_sql);
    }

    #[test]
    fn severities_and_kinds_parse_from_their_printed_form() {
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
