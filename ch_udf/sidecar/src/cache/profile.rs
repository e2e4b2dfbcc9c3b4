//! The profile of a wallet as it is cached and printed, and annotations that users add to it.

use std::collections::BTreeMap;
use std::fmt;

use arx_core::risk::scorecard::{Points, Score};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_postgres::Client;

use super::keys::WalletKey;
use crate::error::{Doing, SidecarError};
use crate::escape::Inline;

/// The top level of a JSON object, with its values as they were written.
pub(crate) type JsonFields = BTreeMap<String, Box<RawValue>>;

/// Size limit of an annotation in bytes: it passes through a stream, and stays in a row.
const MAX_ANNOTATION: usize = 64 * 1024;

/// Factors that are printed.
const MAX_FACTORS: usize = 12;

/// A wallet's risk: a row of `arx.wallet_risk()`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Risk {
    pub(crate) score: Score,
    /// Name of the score's range.
    pub(crate) band: String,
    /// `scored`, `partial`, `unknown`, `labelled` or `overridden`.
    pub(crate) state: String,
    pub(crate) model_version: Option<String>,
    /// The factors of the score and their points.
    pub(crate) factors: Box<RawValue>,
}

/// A wallet's profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) network: String,
    pub(crate) address: String,
    /// True if PostgreSQL stores a profile of this wallet.
    pub(crate) known: bool,
    /// Increases with every change of the stored profile.
    pub(crate) version: u64,
    /// ISO 8601.
    pub(crate) first_seen: Option<String>,
    /// ISO 8601.
    pub(crate) last_activity: Option<String>,
    pub(crate) transaction_count: i64,
    /// Native coins, exact.
    pub(crate) total_volume: String,
    /// Dollars, exact.
    pub(crate) total_volume_usd: String,
    pub(crate) risk: Risk,
    /// Annotations.
    pub(crate) analytics_profile: JsonFields,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The cache is not trusted: its texts stay on their lines and cannot control a terminal.
        writeln!(f, "wallet        {} ({})", Inline(&self.address), Inline(&self.network))?;
        writeln!(f, "risk          {} {} ({})", self.risk.score, Inline(&self.risk.band), Inline(&self.risk.state))?;
        if self.known {
            let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".into());
            writeln!(f, "first seen    {}", Inline(time(&self.first_seen)))?;
            writeln!(f, "last activity {}", Inline(time(&self.last_activity)))?;
            writeln!(f, "transactions  {}", self.transaction_count)?;
            writeln!(f, "volume        {} ({} USD)", Inline(&self.total_volume), Inline(&self.total_volume_usd))?;
        } else {
            let is_unknown = self.risk.state == "unknown";
            let note = if is_unknown { "this wallet is unknown" } else { "no profile of this wallet is stored yet" };
            writeln!(f, "              {note}")?;
        }
        if let Ok(factors) = serde_json::from_str::<Vec<PrintedFactor>>(self.risk.factors.get()) {
            for factor in factors.iter().take(MAX_FACTORS) {
                let (name, value) = (Inline(&factor.factor), Inline(&factor.value));
                writeln!(f, "  {:>6}  {name}  {value}", format!("{:+}", factor.points))?;
            }
            if factors.len() > MAX_FACTORS {
                writeln!(f, "          and {} lighter factors; --json prints all", factors.len() - MAX_FACTORS)?;
            }
        }
        for (name, value) in &self.analytics_profile {
            writeln!(f, "  {}: {}", Inline(name), Inline(value))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct PrintedFactor {
    factor: String,
    points: Points,
    value: String,
}

const PROFILE: &str = r#"
    SELECT p.wallet_address IS NOT NULL, COALESCE(p.version, 0),
           to_char(p.first_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           to_char(p.last_activity AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           COALESCE(p.transaction_count, 0), COALESCE(p.total_volume, 0)::text, COALESCE(p.total_volume_usd, 0)::text,
           (COALESCE(p.analytics_profile, '{}') || CASE WHEN b.wallet_address IS NULL THEN '{}' ELSE
               jsonb_build_object(
                   'behaviour', jsonb_build_object(
                       'class', b.class, 'period_days', b.period_days, 'until', b.period_until,
                       'transactions', b.period_sent, 'volume', b.period_volume::text, 'recipients', b.period_recipients),
                   'activity', jsonb_build_object(
                       'sent', b.sent_count, 'received', b.received_count, 'total_sent', b.total_sent::text,
                       'total_received', b.total_received::text, 'recipients', b.recipients, 'senders', b.senders,
                       'first', b.first_activity, 'last', b.last_activity)) END)::text,
           (r.score * 10)::int, r.band::text, r.state::text, r.model_version::text, r.factors::text
      FROM arx.wallet_risk($1, $2) AS r
      LEFT JOIN arx.wallet_profiles AS p ON p.wallet_address = $1 AND p.network_type = $2
      LEFT JOIN arx.wallet_behaviour AS b ON b.wallet_address = $1 AND b.network_type = $2"#;

/// Reads a profile from PostgreSQL. A wallet without a stored one gets version 0 and is not
/// `known`.
///
/// # Errors
/// [`SidecarError::Postgres`], [`SidecarError::Json`].
pub(super) async fn load_profile(client: &Client, key: &WalletKey) -> Result<Profile, SidecarError> {
    let doing = "read a wallet's profile";
    let row = client.query_one(PROFILE, &[&key.address, &key.network]).await.doing(doing)?;
    let text = |index: usize| row.try_get::<_, Option<String>>(index).doing(doing);
    let analytics_profile = parse(text(7)?.as_deref().unwrap_or("{}"), "read analytics_profile")?;
    let factors = parse(text(12)?.as_deref().unwrap_or("[]"), "read risk factors")?;
    Ok(Profile {
        network: key.network.clone(),
        address: key.address.clone(),
        known: row.try_get(0).doing(doing)?,
        version: u64::try_from(row.try_get::<_, i64>(1).doing(doing)?).unwrap_or_default(),
        first_seen: text(2)?,
        last_activity: text(3)?,
        transaction_count: row.try_get(4).doing(doing)?,
        total_volume: text(5)?.unwrap_or_default(),
        total_volume_usd: text(6)?.unwrap_or_default(),
        risk: Risk {
            score: row
                .try_get::<_, Option<i32>>(8)
                .doing(doing)?
                .and_then(Score::from_tenths)
                .unwrap_or(Score::UNKNOWN),
            band: text(9)?.unwrap_or_default(),
            state: text(10)?.unwrap_or_default(),
            model_version: text(11)?,
            factors,
        },
        analytics_profile,
    })
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, doing: &'static str) -> Result<T, SidecarError> {
    serde_json::from_str(text).doing(doing)
}

/// A JSON object whose top-level keys go into a wallet's `analytics_profile`.
#[derive(Debug, Clone)]
pub(crate) struct Annotation {
    text: String,
    fields: JsonFields,
}

impl Annotation {
    /// Validates a text.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for anything but a non-empty JSON object of limited size that
    /// `jsonb` can store.
    pub(crate) fn parse(text: &str) -> Result<Self, SidecarError> {
        let invalid = |detail: String| SidecarError::Input { detail };
        if text.len() > MAX_ANNOTATION {
            return Err(invalid(format!("annotation has {} bytes; at most {MAX_ANNOTATION} are allowed", text.len())));
        }
        let fields: JsonFields = serde_json::from_str(text).map_err(|error| {
            let excerpt: String = text.chars().take(80).collect();
            invalid(format!("annotation {excerpt:?} must be a JSON object such as {{\"note\": \"reviewed\"}}: {error}"))
        })?;
        if fields.is_empty() {
            return Err(invalid("annotation {} is empty: give at least one key".into()));
        }
        // This also rejects an escaped backslash followed by `u0000`, which jsonb could store.
        if text.contains("\\u0000") {
            return Err(invalid("annotation contains \\u0000, which jsonb cannot store".into()));
        }
        Ok(Self { text: text.to_owned(), fields })
    }

    /// Returns the object as it was given.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn fields(&self) -> &JsonFields {
        &self.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_annotations() {
        let annotation = Annotation::parse("{\"big\": 123456789012345678901234567890, \"empty\": []}").unwrap();
        assert_eq!(annotation.fields()["big"].get(), "123456789012345678901234567890");
        assert_eq!(annotation.fields()["empty"].get(), "[]");
        for wrong in ["", "[]", "1", "{", "{}", "{\"a\": 1} x", "{\"a\": \"\\u0000\"}"] {
            assert!(matches!(Annotation::parse(wrong), Err(SidecarError::Input { .. })), "{wrong}");
        }
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_ANNOTATION));
        assert!(Annotation::parse(&long).unwrap_err().to_string().contains("65536"));
    }
}
