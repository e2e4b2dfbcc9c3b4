//! Writes that may reach PostgreSQL a little later: notes and labels of wallets, and logins. Owns
//! the form of their entries in a stream, and of the pending writes by which readers see them at
//! once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use uuid::Uuid;

use super::keys::{Identity, ShardKeys, WalletKey};
use super::profile::{Annotation, JsonFields};
use crate::error::SidecarError;

/// Longest text of a label and of its source, in characters.
const MAX_LABEL: usize = 500;

/// A label that a user gives to an address: a row of `arx.address_labels` that is valid from now
/// on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomLabel {
    /// One of `arx.label_categories`.
    pub category: String,
    /// `none`, `low`, `medium`, `high` or `severe`; without it, that of the category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Text of the label.
    #[serde(default)]
    pub label: String,
    /// Person or team that gives it.
    pub source: String,
    /// From 0.001 to 1.
    #[serde(default = "certain")]
    pub confidence: Number,
}

fn certain() -> Number {
    Number::from(1)
}

impl CustomLabel {
    /// Parses and checks the JSON of a label.
    ///
    /// # Errors
    /// [`SidecarError::Input`] naming the value.
    pub fn parse(text: &str) -> Result<Self, SidecarError> {
        let invalid = |detail: String| SidecarError::Input { detail };
        let label: Self = serde_json::from_str(text).map_err(|error| {
            let excerpt: String = text.chars().take(80).collect();
            invalid(format!(
                "label {excerpt:?} must be a JSON object such as {{\"category\": \"exchange\", \"source\": \"desk\"}}: {error}"
            ))
        })?;
        label.check()?;
        Ok(label)
    }

    /// Checks what PostgreSQL would reject. Only PostgreSQL knows the categories.
    ///
    /// # Errors
    /// [`SidecarError::Input`] naming the value.
    pub fn check(&self) -> Result<(), SidecarError> {
        let invalid = |detail: String| Err(SidecarError::Input { detail });
        let severities = ["none", "low", "medium", "high", "severe"];
        if let Some(severity) = &self.severity
            && !severities.contains(&severity.as_str())
        {
            return invalid(format!("severity {severity:?} must be one of {}", severities.join(", ")));
        }
        let is_word = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if self.category.is_empty() || !is_word(&self.category) {
            return invalid(format!("category {:?} must be a name of arx.label_categories", self.category));
        }
        if self.source.is_empty() {
            return invalid("source is empty: name the person or team that gives the label".into());
        }
        for (name, text) in [("source", &self.source), ("label", &self.label)] {
            if text.chars().count() > MAX_LABEL || text.contains('\0') {
                return invalid(format!("{name} must have at most {MAX_LABEL} characters, and no NUL"));
            }
        }
        if !self.confidence.as_f64().is_some_and(|confidence| confidence > 0.0005 && confidence <= 1.0) {
            return invalid(format!("confidence {} must be at least 0.001 and at most 1", self.confidence));
        }
        Ok(())
    }

    /// Labels of one address with the same one are one row.
    pub(super) fn key(&self) -> (&str, &str, &str) {
        (&self.category, &self.source, &self.label)
    }
}

/// A write that PostgreSQL gets from a stream.
#[derive(Debug, Clone)]
pub(crate) enum QueuedWrite {
    Annotation(WalletKey, Annotation),
    Label(WalletKey, CustomLabel),
    /// A user logged in, at a time of Redis: microseconds since 1970.
    Login {
        user: Uuid,
        at: i64,
    },
}

impl QueuedWrite {
    /// Returns the keys of the stream that takes the write.
    pub(super) fn shard(&self, identity: &Identity) -> ShardKeys {
        match self {
            Self::Annotation(wallet, _) | Self::Label(wallet, _) => identity.shard_of(wallet),
            Self::Login { user, .. } => identity.shard_of_user(*user),
        }
    }

    /// Returns the wallet that the write is about.
    pub(super) fn wallet(&self) -> Option<&WalletKey> {
        match self {
            Self::Annotation(wallet, _) | Self::Label(wallet, _) => Some(wallet),
            Self::Login { .. } => None,
        }
    }

    /// Returns names and values of the entry in the stream, apart from its key.
    pub(super) fn fields(&self) -> Result<Vec<(&'static str, String)>, serde_json::Error> {
        let of_wallet = |wallet: &WalletKey, name, value| {
            vec![("network", wallet.network.clone()), ("address", wallet.address.clone()), (name, value)]
        };
        Ok(match self {
            Self::Annotation(wallet, annotation) => of_wallet(wallet, "annotation", annotation.text().to_owned()),
            Self::Label(wallet, label) => of_wallet(wallet, "label", serde_json::to_string(label)?),
            Self::Login { user, at } => vec![("user", user.to_string()), ("at", at.to_string())],
        })
    }

    /// Returns names and values of the pending writes by which readers see it.
    pub(super) fn shown(&self) -> Result<Vec<(String, String)>, serde_json::Error> {
        Ok(match self {
            Self::Annotation(_, annotation) => {
                let fields = annotation.fields().iter();
                fields.map(|(name, value)| (format!("a:{name}"), value.get().to_owned())).collect()
            }
            Self::Label(_, label) => {
                vec![(format!("l:{}", serde_json::to_string(&label.key())?), serde_json::to_string(label)?)]
            }
            Self::Login { .. } => Vec::new(),
        })
    }

    /// Parses an entry of a stream, or returns the reason why it is malformed.
    pub(super) fn parse(field: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let part = |name: &str| field(name).ok_or_else(|| format!("field {name} is missing"));
        let invalid = |error: SidecarError| error.to_string();
        if let Some(user) = field("user") {
            let user = user.parse().map_err(|error| format!("user {user:?}: {error}"))?;
            let at = part("at")?;
            let at = at.parse().map_err(|error| format!("at {at:?}: {error}"))?;
            return Ok(Self::Login { user, at });
        }
        let wallet = WalletKey::parse(&part("address")?, &part("network")?).map_err(invalid)?;
        match field("label") {
            Some(label) => Ok(Self::Label(wallet, CustomLabel::parse(&label).map_err(invalid)?)),
            None => Ok(Self::Annotation(wallet, Annotation::parse(&part("annotation")?).map_err(invalid)?)),
        }
    }
}

/// The writes of a wallet that PostgreSQL has not applied yet.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingWrites {
    pub(super) annotations: JsonFields,
    pub(super) labels: Vec<CustomLabel>,
}

impl PendingWrites {
    /// Reads the hash of pending writes. Anything else in it is left out.
    pub(super) fn read(fields: Vec<(String, String)>) -> Self {
        let mut pending = Self::default();
        for (name, value) in fields {
            if let Some(name) = name.strip_prefix("a:") {
                if let Ok(value) = serde_json::from_str(&value) {
                    pending.annotations.insert(name.to_owned(), value);
                }
            } else if name.starts_with("l:")
                && let Ok(label) = CustomLabel::parse(&value)
            {
                pending.labels.push(label);
            }
        }
        pending.labels.sort_by(|left, right| left.key().cmp(&right.key()));
        pending
    }
}

/// Keeps of labels with the same key of the same wallet the last one.
pub(super) fn latest_labels<'a>(
    writes: impl Iterator<Item = (&'a WalletKey, &'a CustomLabel)>,
) -> Vec<(&'a WalletKey, &'a CustomLabel)> {
    let latest: BTreeMap<_, _> = writes.map(|(wallet, label)| ((wallet, label.key()), label)).collect();
    latest.into_iter().map(|((wallet, _), label)| (wallet, label)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(fields: &[(&str, &str)]) -> String {
        let field = |name: &str| fields.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned());
        QueuedWrite::parse(field).unwrap_err()
    }

    #[test]
    fn a_malformed_entry_is_rejected_with_its_reason() {
        let address = ("address", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed");
        let network = ("network", "ethereum");
        assert!(reason(&[address, network]).contains("annotation is missing"));
        assert!(reason(&[address, network, ("annotation", "[1]")]).contains("[1]"));
        assert!(reason(&[("address", "0xzz"), network, ("annotation", "{\"a\": 1}")]).contains("0xzz"));
        assert!(reason(&[address, network, ("label", "{\"category\": \"x\"}")]).contains("source"));
        assert!(reason(&[("user", "ann"), ("at", "1")]).contains("ann"));
        assert!(reason(&[("user", "00000000-0000-0000-0000-000000000001"), ("at", "noon")]).contains("noon"));
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let wallet = WalletKey::parse("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "ethereum").unwrap();
        let label = CustomLabel::parse(r#"{"category": "exchange", "source": "desk", "confidence": 0.5}"#).unwrap();
        let writes = [
            QueuedWrite::Annotation(wallet.clone(), Annotation::parse(r#"{"note": [1]}"#).unwrap()),
            QueuedWrite::Label(wallet, label.clone()),
            QueuedWrite::Login { user: Uuid::from_u128(7), at: 17 },
        ];
        for write in writes {
            let fields = write.fields().unwrap();
            let field = |name: &str| fields.iter().find(|(found, _)| *found == name).map(|(_, value)| value.clone());
            assert_eq!(QueuedWrite::parse(field).unwrap().fields().unwrap(), fields);
            let pending = PendingWrites::read(write.shown().unwrap());
            match write {
                QueuedWrite::Annotation(..) => assert_eq!(pending.annotations["note"].get(), "[1]"),
                QueuedWrite::Label(..) => assert_eq!(pending.labels, std::slice::from_ref(&label)),
                QueuedWrite::Login { .. } => assert!(pending.labels.is_empty() && pending.annotations.is_empty()),
            }
        }
    }

    #[test]
    fn a_wrong_label_names_the_value() {
        let wrong = |text: &str| CustomLabel::parse(text).unwrap_err().to_string();
        assert!(wrong("[]").contains("category"));
        assert!(wrong(r#"{"category": "Big one", "source": "s"}"#).contains("Big one"));
        assert!(wrong(r#"{"category": "c", "source": ""}"#).contains("source"));
        assert!(wrong(r#"{"category": "c", "source": "s", "severity": "bad"}"#).contains("bad"));
        assert!(wrong(r#"{"category": "c", "source": "s", "confidence": 1.5}"#).contains("1.5"));
        assert!(wrong(r#"{"category": "c", "source": "s", "colour": 1}"#).contains("colour"));
    }

    #[test]
    fn of_labels_with_one_key_the_last_one_counts() {
        let wallet = WalletKey { network: "n".into(), address: "a".into() };
        let label = |severity: &str, source: &str| {
            CustomLabel::parse(&format!(r#"{{"category": "c", "source": "{source}", "severity": "{severity}"}}"#))
                .unwrap()
        };
        let labels = [label("low", "s"), label("high", "s"), label("none", "t")];
        let latest = latest_labels(labels.iter().map(|label| (&wallet, label)));
        assert_eq!(latest, [(&wallet, &labels[1]), (&wallet, &labels[2])]);
    }
}
