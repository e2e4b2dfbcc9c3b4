//! What is known about a wallet, as it is shown and cached, and an annotation that somebody adds to it.

use std::collections::BTreeMap;
use std::fmt;

use arx_core::risk::scorecard::{Points, Score};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_postgres::Client;

use super::keys::WalletKey;
use crate::error::SidecarError;

/// A JSON object taken apart at its top level, values as they were written.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// Largest annotation in bytes: it travels through a stream and stays in a row.
const MAX_ANNOTATION: usize = 64 * 1024;

/// Factors that a person is shown.
const SHOWN: usize = 12;

/// A wallet's risk as `arx.wallet_risk()` gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Risk {
    /// 0.0 to 100.0.
    pub score: Score,
    /// Name of the range the score is in.
    pub band: String,
    /// `scored`, `partial`, `unknown`, `labelled` or `overridden`.
    pub state: String,
    /// Model that gave the score.
    pub model_version: Option<String>,
    /// What the score is made of.
    pub factors: Box<RawValue>,
}

/// A wallet's profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// Network.
    pub network: String,
    /// Normalised address.
    pub address: String,
    /// Whether PostgreSQL has a profile of this wallet.
    pub known: bool,
    /// Rises with every change of the stored profile.
    pub version: u64,
    /// First transaction, ISO 8601.
    pub first_seen: Option<String>,
    /// Last transaction, ISO 8601.
    pub last_activity: Option<String>,
    /// Transactions.
    pub transaction_count: i64,
    /// Native coins moved, exact.
    pub total_volume: String,
    /// Dollars moved, exact.
    pub total_volume_usd: String,
    /// Risk.
    pub risk: Risk,
    /// Annotations.
    pub analytics_profile: Fields,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "wallet        {} ({})", self.address, self.network)?;
        writeln!(f, "risk          {} {} ({})", self.risk.score, self.risk.band, self.risk.state)?;
        if self.known {
            let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".into());
            writeln!(f, "first seen    {}", time(&self.first_seen))?;
            writeln!(f, "last activity {}", time(&self.last_activity))?;
            writeln!(f, "transactions  {}", self.transaction_count)?;
            writeln!(f, "volume        {} ({} USD)", self.total_volume, self.total_volume_usd)?;
        } else {
            let unknown = self.risk.state == "unknown";
            let what = if unknown { "this wallet is unknown: nothing is" } else { "no profile of this wallet is" };
            writeln!(f, "              {what} stored yet")?;
        }
        if let Ok(factors) = serde_json::from_str::<Vec<Factor>>(self.risk.factors.get()) {
            for factor in factors.iter().take(SHOWN) {
                writeln!(f, "  {:>6}  {}  {}", format!("{:+}", factor.points), factor.factor, factor.value)?;
            }
            if factors.len() > SHOWN {
                writeln!(f, "          and {} factors of less weight: --json tells all", factors.len() - SHOWN)?;
            }
        }
        for (name, value) in &self.analytics_profile {
            writeln!(f, "  {name}: {value}")?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Factor {
    factor: String,
    points: Points,
    value: String,
}

/// Reads a profile from PostgreSQL. A wallet without a stored profile has one too: version 0, not `known`.
///
/// # Errors
/// [`SidecarError::Postgres`], [`SidecarError::Json`].
pub async fn load_profile(client: &Client, key: &WalletKey) -> Result<Profile, SidecarError> {
    const QUERY: &str = "\
        SELECT p.wallet_address IS NOT NULL, COALESCE(p.version, 0), \
               to_char(p.first_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
               to_char(p.last_activity AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
               COALESCE(p.transaction_count, 0), COALESCE(p.total_volume, 0)::text, COALESCE(p.total_volume_usd, 0)::text, \
               COALESCE(p.analytics_profile, '{}')::text, \
               (r.score * 10)::int, r.band::text, r.state::text, r.model_version::text, r.factors::text \
          FROM arx.wallet_risk($1, $2) AS r \
          LEFT JOIN arx.wallet_profiles AS p ON p.wallet_address = $1 AND p.network_type = $2";
    let failed = |source| SidecarError::Postgres { doing: "read a wallet's profile", source };
    let row = client.query_one(QUERY, &[&key.address, &key.network]).await.map_err(failed)?;
    let text = |index: usize| row.try_get::<_, Option<String>>(index).map_err(failed);
    let analytics_profile = parse(text(7)?.as_deref().unwrap_or("{}"), "read analytics_profile")?;
    let factors = parse(text(12)?.as_deref().unwrap_or("[]"), "read risk factors")?;
    Ok(Profile {
        network: key.network.clone(),
        address: key.address.clone(),
        known: row.try_get(0).map_err(failed)?,
        version: u64::try_from(row.try_get::<_, i64>(1).map_err(failed)?).unwrap_or_default(),
        first_seen: text(2)?,
        last_activity: text(3)?,
        transaction_count: row.try_get(4).map_err(failed)?,
        total_volume: text(5)?.unwrap_or_default(),
        total_volume_usd: text(6)?.unwrap_or_default(),
        risk: Risk {
            score: row
                .try_get::<_, Option<i32>>(8)
                .map_err(failed)?
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
    serde_json::from_str(text).map_err(|source| SidecarError::Json { doing, source })
}

/// A JSON object whose top-level keys are put into a wallet's `analytics_profile`.
#[derive(Debug, Clone)]
pub struct Annotation {
    text: String,
    fields: Fields,
}

impl Annotation {
    /// Checks a text.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for anything but a non-empty JSON object of bounded size that `jsonb` can hold.
    pub fn parse(text: &str) -> Result<Self, SidecarError> {
        let wrong = |detail: String| SidecarError::Input { detail };
        if text.len() > MAX_ANNOTATION {
            return Err(wrong(format!("annotation has {} bytes; at most {MAX_ANNOTATION} are allowed", text.len())));
        }
        let fields: Fields = serde_json::from_str(text).map_err(|error| {
            let shown: String = text.chars().take(80).collect();
            wrong(format!("annotation {shown:?} must be a JSON object such as {{\"note\": \"reviewed\"}}: {error}"))
        })?;
        if fields.is_empty() {
            return Err(wrong("annotation {} is empty: give at least one key".into()));
        }
        // an escaped backslash before `u0000` makes this refuse more than it must: never a value that jsonb would take badly
        if text.contains("\\u0000") {
            return Err(wrong("annotation holds \\u0000, which jsonb cannot store".into()));
        }
        Ok(Self { text: text.to_owned(), fields })
    }

    /// The object as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The object's keys and values.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_annotate() {
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
