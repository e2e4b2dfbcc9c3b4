//! The profile of a wallet as it is cached and printed, and annotations that users add to it.

use std::collections::BTreeMap;
use std::fmt;

use arx_core::risk::scorecard::{Points, Score};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_postgres::{Client, Row, Statement};
use utoipa::ToSchema;

use super::keys::WalletKey;
use super::writes::PendingWrites;
use crate::error::{Doing, SidecarError};
use crate::escape::Inline;

/// The top level of a JSON object, with its values as they were written.
pub type JsonFields = BTreeMap<String, Box<RawValue>>;

/// Size limit of an annotation in bytes: it passes through a stream, and stays in a row.
const MAX_ANNOTATION: usize = 64 * 1024;

/// Names of factors of each family.
const MAX_FAMILY_FACTORS: usize = 3;

/// A wallet's risk: a row of `arx.wallet_explanations()`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Risk {
    #[schema(value_type = f64)]
    pub score: Score,
    /// Probability of being illicit, if the score is from the scorecard.
    pub probability: Option<f64>,
    /// Name of the score's range.
    pub band: String,
    /// `scored`, `partial`, `unknown`, `labelled` or `overridden`.
    pub state: String,
    /// Share of what the score depends on that is covered.
    pub coverage: f64,
    pub model_version: Option<String>,
    /// The part of the score of each family, with one sentence.
    #[schema(value_type = Vec<Object>)]
    pub reasons: Box<RawValue>,
    /// The factors of the score that weigh most, and their points.
    #[schema(value_type = Vec<Object>)]
    pub factors: Box<RawValue>,
}

/// A wallet's profile.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    pub network: String,
    pub address: String,
    /// True if PostgreSQL stores a profile of this wallet.
    pub known: bool,
    /// Increases with every change of the stored profile.
    pub version: u64,
    /// ISO 8601.
    pub first_seen: Option<String>,
    /// ISO 8601.
    pub last_activity: Option<String>,
    pub transaction_count: i64,
    /// Native coins, exact.
    pub total_volume: String,
    /// Dollars, exact.
    pub total_volume_usd: String,
    pub risk: Risk,
    /// Labels that are valid now, with category, kind, severity, source and confidence.
    #[schema(value_type = Vec<Object>)]
    pub labels: Box<RawValue>,
    /// Annotations, behaviour, activity and balance.
    #[schema(value_type = Object)]
    pub analytics_profile: JsonFields,
}

impl Profile {
    /// Returns whether the database knows nothing about the wallet.
    pub(super) fn is_unknown(&self) -> bool {
        !self.known && self.risk.state == "unknown"
    }

    /// Adds what PostgreSQL has not applied yet. A label has no kind before, and the score does not
    /// know it.
    ///
    /// # Errors
    /// [`SidecarError::Json`].
    pub(super) fn add(&mut self, pending: PendingWrites) -> Result<(), SidecarError> {
        let doing = "add pending writes to a profile";
        self.analytics_profile.extend(pending.annotations);
        if pending.labels.is_empty() {
            return Ok(());
        }
        let mut labels: Vec<serde_json::Value> = serde_json::from_str(self.labels.get()).doing(doing)?;
        for label in &pending.labels {
            let is_applied = |stored: &serde_json::Value| {
                let (category, source, text) = label.key();
                stored["category"] == category && stored["source"] == source && stored["label"] == text
            };
            labels.retain(|stored| !is_applied(stored));
            let mut shown = serde_json::to_value(label).doing(doing)?;
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("pending".into(), true.into());
            }
            labels.push(shown);
        }
        self.labels = serde_json::value::to_raw_value(&labels).doing(doing)?;
        Ok(())
    }

    /// Returns the wallet.
    pub(super) fn key(&self) -> WalletKey {
        WalletKey { network: self.network.clone(), address: self.address.clone() }
    }
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
            for factor in &factors {
                let (name, value) = (Inline(&factor.factor), Inline(&factor.value));
                writeln!(f, "  {:>6}  {name}  {value}", format!("{:+}", factor.points))?;
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

/// Profiles of the wallets `$2` of the network `$1`, all true at one snapshot, with the twelve
/// factors that weigh most: a scorecard has a hundred, and a cache of a million profiles would need
/// ten times the memory.
const PROFILES: &str = r#"
    SELECT r.address, p.wallet_address IS NOT NULL, COALESCE(p.version, 0),
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
                       'total_received', b.total_received::text,
                       'balance', (b.total_received - b.total_sent)::text, 'recipients', b.recipients,
                       'senders', b.senders, 'first', b.first_activity, 'last', b.last_activity)) END)::text,
           (r.score * 10)::int, r.band::text, r.state::text, r.model_version::text, r.factors, r.reasons,
           r.probability, r.coverage,
           COALESCE((SELECT jsonb_agg(jsonb_build_object(
                                'category', l.category, 'kind', c.kind, 'severity', l.severity, 'label', l.label,
                                'source', l.source, 'confidence', l.confidence)
                            ORDER BY l.severity DESC, l.category, l.source, l.label_id)
                       FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)
                      WHERE l.address = r.address AND l.network = $1 AND l.valid_from <= now() AND l.valid_to > now()),
                    '[]')::text,
           pg_current_snapshot()::text
      FROM arx.wallet_explanations($2, $1, max_factors => 12) AS r
      LEFT JOIN arx.wallet_profiles AS p ON p.wallet_address = r.address AND p.network_type = $1
      LEFT JOIN arx.wallet_behaviour AS b ON b.wallet_address = r.address AND b.network_type = $1"#;

/// Profiles with the snapshot that they are true at.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) snapshot: String,
    pub(super) profiles: Vec<Profile>,
}

/// A session that reads profiles.
pub(super) struct ProfileLoader {
    pub(super) client: Client,
    statement: Statement,
}

impl ProfileLoader {
    /// Prepares a session. Scores are those of the present, whatever the role's default is.
    ///
    /// # Errors
    /// [`SidecarError::Postgres`].
    pub(super) async fn new(client: Client) -> Result<Self, SidecarError> {
        let doing = "prepare to read profiles";
        client.batch_execute("SET arx.graph_freshness = 'exact'").await.doing(doing)?;
        let statement = client.prepare(PROFILES).await.doing(doing)?;
        Ok(Self { client, statement })
    }

    /// Reads the profiles of wallets of one network. A wallet without a stored one has version 0
    /// and is not `known`.
    ///
    /// # Errors
    /// [`SidecarError::Postgres`], [`SidecarError::Json`].
    pub(super) async fn load(&self, network: &str, addresses: &[&str]) -> Result<Loaded, SidecarError> {
        let rows = self.client.query(&self.statement, &[&network, &addresses]).await.doing(READING)?;
        let snapshot = match rows.first() {
            Some(row) => row.try_get(18).doing(READING)?,
            None => String::new(),
        };
        let profiles = rows.iter().map(|row| read_row(row, network)).collect::<Result<_, _>>()?;
        Ok(Loaded { snapshot, profiles })
    }
}

const READING: &str = "read profiles of wallets";

fn read_row(row: &Row, network: &str) -> Result<Profile, SidecarError> {
    let text = |index: usize| row.try_get::<_, Option<String>>(index).doing(READING);
    let json = |index: usize, default: &str| {
        let text = text(index)?.unwrap_or_else(|| default.to_owned());
        RawValue::from_string(text).doing(READING)
    };
    Ok(Profile {
        network: network.to_owned(),
        address: text(0)?.unwrap_or_default(),
        known: row.try_get(1).doing(READING)?,
        version: u64::try_from(row.try_get::<_, i64>(2).doing(READING)?).unwrap_or_default(),
        first_seen: text(3)?,
        last_activity: text(4)?,
        transaction_count: row.try_get(5).doing(READING)?,
        total_volume: text(6)?.unwrap_or_default(),
        total_volume_usd: text(7)?.unwrap_or_default(),
        risk: Risk {
            score: row
                .try_get::<_, Option<i32>>(9)
                .doing(READING)?
                .and_then(Score::from_tenths)
                .unwrap_or(Score::UNKNOWN),
            probability: row.try_get(15).doing(READING)?,
            band: text(10)?.unwrap_or_default(),
            state: text(11)?.unwrap_or_default(),
            coverage: row.try_get(16).doing(READING)?,
            model_version: text(12)?,
            factors: json(13, "[]")?,
            reasons: shortened(text(14)?.as_deref().unwrap_or("[]"))?,
        },
        labels: json(17, "[]")?,
        analytics_profile: serde_json::from_str(text(8)?.as_deref().unwrap_or("{}")).doing(READING)?,
    })
}

/// A reason of a family of factors.
#[derive(Serialize, Deserialize)]
struct FamilyReason {
    family: String,
    points: Points,
    reason: String,
    factors: Vec<String>,
}

/// Keeps the names of the factors of each family that weigh most.
fn shortened(reasons: &str) -> Result<Box<RawValue>, SidecarError> {
    let mut reasons: Vec<FamilyReason> = serde_json::from_str(reasons).doing(READING)?;
    for reason in &mut reasons {
        reason.factors.truncate(MAX_FAMILY_FACTORS);
    }
    serde_json::value::to_raw_value(&reasons).doing(READING)
}

/// A JSON object whose top-level keys go into a wallet's `analytics_profile`.
#[derive(Debug, Clone)]
pub struct Annotation {
    text: String,
    fields: JsonFields,
}

impl Annotation {
    /// Validates a text.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for anything but a non-empty JSON object of limited size that
    /// `jsonb` can store.
    pub fn parse(text: &str) -> Result<Self, SidecarError> {
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
