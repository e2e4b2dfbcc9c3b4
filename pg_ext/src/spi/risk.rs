//! Scorecards, labels and overrides.

use arx_core::address::Network;
use arx_core::graph::{Graph, Snapshot};
use arx_core::risk::features::{HistoryCoverage, Period};
use arx_core::risk::scorecard::{Points, Score};
use arx_core::risk::{Calibration, DEFAULT_PREVALENCE, Override, OwnLabel};
use pgrx::datum::TimestampWithTimeZone;

use super::labels::{label_kind, label_severity};
use super::stream::ColumnType::{Bool, Double, Integer, Text, Time};
use super::stream::{Argument, PreparedQuery, Slot, with_memory_context};
use crate::error::SqlError;
use crate::snapshot::{keeps_snapshot, with_latest_snapshot};
use crate::table_owner::{Purpose, as_table_owner};

/// Addresses looked up at a time.
const BATCH: usize = 5_000;

thread_local! {
    // One statement for what every score needs: each statement takes 25 us.
    static SETTINGS: PreparedQuery = const { PreparedQuery::new(c"
SELECT m.version, coalesce(m.created_at, '-infinity'), c.prevalence,
       (c.medium_from * 10)::integer, (c.high_from * 10)::integer, (c.severe_from * 10)::integer,
       EXISTS (SELECT FROM arx.history_coverage AS h WHERE h.network = $1)
  FROM (SELECT arx.active_risk_model()) AS a (version)
  LEFT JOIN arx.risk_models AS m ON m.version = a.version
  LEFT JOIN arx.risk_calibration AS c ON c.network = $1",
        &[Text, Time, Double, Integer, Integer, Integer, Bool]) };

    static COVERAGE: PreparedQuery = const { PreparedQuery::new(c"
SELECT h.address, coalesce(h.from_time, '-infinity'), coalesce(h.to_time, 'infinity')
  FROM arx.history_coverage AS h
 WHERE h.network = $1", &[Text, Time, Time]) };

    static DOCUMENT: PreparedQuery = const { PreparedQuery::new(c"
SELECT m.document::text FROM arx.risk_models AS m WHERE m.version = $1", &[Text]) };

    // The heaviest label of each wallet comes first, as in current_labels. Neutral labels do not
    // count.
    static LABELS: PreparedQuery = const { PreparedQuery::new(c"
SELECT l.address, l.category, c.kind, l.severity::text, l.source
  FROM arx.address_labels AS l
  JOIN arx.label_categories AS c USING (category)
 WHERE l.network = $1 AND c.kind IN ('illicit', 'service')
   AND l.valid_from <= coalesce($2, now()) AND l.valid_to > coalesce($2, now())
 ORDER BY l.address, l.category <> 'sanctions', c.kind <> 'illicit', l.severity DESC, l.confidence DESC, l.source, l.label_id",
        &[Text, Text, Text, Text, Text]) };

    static OWN_LABELS: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, l.category, l.kind, l.severity, l.source
  FROM unnest($1::integer[], $2::text[]) AS s (ordinal, address)
 CROSS JOIN LATERAL (
       SELECT l.category, c.kind, l.severity::text AS severity, l.source
         FROM arx.address_labels AS l
         JOIN arx.label_categories AS c USING (category)
        WHERE l.address = s.address AND l.network = $3 AND c.kind IN ('illicit', 'service')
          AND l.valid_from <= coalesce($4, now()) AND l.valid_to > coalesce($4, now())
        ORDER BY l.category <> 'sanctions', c.kind <> 'illicit', l.severity DESC, l.confidence DESC, l.source, l.label_id) AS l",
        &[Integer, Text, Text, Text, Text]) };

    static CASES: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.address, s.illicit, s.licit
  FROM (SELECT l.address,
               bool_or(CASE WHEN $3 IS NULL THEN c.kind = 'illicit' ELSE l.category = ANY ($3) END)::integer AS illicit,
               bool_or(l.category = ANY ($4))::integer AS licit
          FROM arx.address_labels AS l
          JOIN arx.label_categories AS c USING (category)
         WHERE l.network = $1 AND l.valid_from <= coalesce($2, now()) AND l.valid_to > coalesce($2, now())
         GROUP BY l.address) AS s
 WHERE s.illicit + s.licit > 0", &[Text, Integer, Integer]) };

    static NETWORKS: PreparedQuery = const { PreparedQuery::new(c"
SELECT n.network, n.family FROM arx.networks AS n ORDER BY n.network COLLATE \"C\"", &[Text, Text]) };

    static UNKNOWN_CATEGORIES: PreparedQuery = const { PreparedQuery::new(c"
SELECT n.name FROM unnest($1::text[]) AS n (name)
 WHERE NOT EXISTS (SELECT FROM arx.label_categories AS c WHERE c.category = n.name) LIMIT 1", &[Text]) };

    static LABELS_CHANGED: PreparedQuery = const { PreparedQuery::new(c"
SELECT 1 FROM arx.changed_labels($1) LIMIT 1", &[Integer]) };

    static EVERY_LABEL_CHANGED: PreparedQuery = const { PreparedQuery::new(c"
SELECT 1 FROM arx.label_changes AS c WHERE arx.is_new_since(c.changed_xid, $1) AND c.network IS NULL LIMIT 1",
        &[Integer]) };

    static NOW_AND_NEXT_CHANGE: PreparedQuery = const { PreparedQuery::new(c"
SELECT now(), coalesce(least((SELECT min(l.valid_from) FROM arx.address_labels AS l WHERE l.valid_from > now() AND l.valid_from > '-infinity'),
                             (SELECT min(l.valid_to) FROM arx.address_labels AS l WHERE l.valid_to > now() AND l.valid_to < 'infinity')), 'infinity')",
        &[Time, Time]) };

    static OVERRIDES: PreparedQuery = const { PreparedQuery::new(c"
SELECT DISTINCT ON (o.address) o.address, (o.score * 10)::integer, o.reason, o.created_by::text, o.expires_at::text
  FROM arx.risk_overrides AS o
 WHERE o.network = $1 AND ($2 IS NULL OR o.address = $2)
   AND o.valid_from <= coalesce($3, now()) AND o.expires_at > coalesce($3, now())
   AND (o.ended_at IS NULL OR o.ended_at > coalesce($3, now()))
 ORDER BY o.address, o.valid_from DESC, o.override_id DESC", &[Text, Integer, Text, Text, Text]) };

    static STORE_MODEL: PreparedQuery = const { PreparedQuery::new(c"
INSERT INTO arx.risk_models (version, document, network, report) VALUES ($1, $2::text::jsonb, $3, $4::text::jsonb)", &[]) };
}

/// A stored scorecard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredScorecard {
    pub(crate) version: String,
    /// Distinguishes documents stored one after the other under the same version.
    pub(crate) created_at: i64,
}

/// Settings that the scores of a network depend on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RiskSettings {
    /// The active scorecard, if one is.
    active: Option<StoredScorecard>,
    pub(crate) calibration: Calibration,
    /// There are statements of `history_coverage`.
    pub(crate) has_coverage: bool,
}

impl RiskSettings {
    /// Returns the active scorecard.
    pub(crate) fn active(&self) -> Result<&StoredScorecard, SqlError> {
        self.active.as_ref().ok_or_else(|| {
            SqlError::state("no risk model is active")
                .hint("Activate a version of arx.risk_models with arx.activate_risk_model(version).")
        })
    }
}

/// Returns the settings of a network.
pub(crate) fn risk_settings(network: &Network) -> Result<RiskSettings, SqlError> {
    let mut settings = RiskSettings { active: None, calibration: Calibration::default(), has_coverage: false };
    SETTINGS.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| {
            if let Some(version) = slot.optional_text(0)? {
                settings.active = Some(StoredScorecard { version: version.to_owned(), created_at: slot.long(1)? });
            }
            let threshold = |column| Ok::<_, SqlError>(slot.integer(column)?.map(Points::from_tenths));
            let thresholds = match (threshold(3)?, threshold(4)?, threshold(5)?) {
                (Some(medium), Some(high), Some(severe)) => Some([medium, high, severe]),
                _ => None,
            };
            settings.calibration = Calibration::new(slot.double(2)?.unwrap_or(DEFAULT_PREVALENCE), thresholds)?;
            settings.has_coverage = slot.is_true(6)?;
            Ok(())
        })
    })?;
    Ok(settings)
}

/// Returns the statements about a network and its wallets. Wallets without a transfer are left out.
pub(crate) fn history_coverage(graph: &Graph<'_>, network: &Network) -> Result<HistoryCoverage, SqlError> {
    let mut histories = HistoryCoverage::default();
    COVERAGE.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| {
            // The infinities are the ends of the range of times.
            let period = Period { from: slot.long(1)?, to: slot.long(2)? };
            match slot.optional_text(0)? {
                None => histories.state(None, period),
                Some(address) => {
                    if let Some(wallet) = graph.wallet(network.name(), address)? {
                        histories.state(Some(wallet), period);
                    }
                }
            }
            Ok(())
        })
    })?;
    Ok(histories)
}

/// Returns the document of a scorecard, or `None` if the version does not exist.
pub(crate) fn scorecard_document(version: &str) -> Result<Option<String>, SqlError> {
    let mut document = None;
    with_memory_context(|| {
        DOCUMENT.with(|query| {
            query.stream(&[Argument::of(version)], |slot| {
                document = Some(slot.text(0)?.to_owned());
                Ok(())
            })
        })
    })?;
    Ok(document)
}

/// Calls `each` with every illicit or service label of a network, now or at a given time; the
/// heaviest label of an address comes first.
pub(crate) fn risk_labels(
    network: &Network,
    at: Option<TimestampWithTimeZone>,
    mut each: impl FnMut(&str, OwnLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    LABELS.with(|query| {
        query.stream(&[Argument::of(network.name()), optional(at)], |slot| each(slot.text(0)?, label(slot)?))
    })
}

/// Calls `each` with the index of an address and a label, for every illicit or service label of the
/// addresses; the heaviest label of an address comes first.
pub(crate) fn own_labels(
    network: &Network,
    addresses: &[&str],
    at: Option<TimestampWithTimeZone>,
    mut each: impl FnMut(usize, OwnLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for (number, batch) in addresses.chunks(BATCH).enumerate() {
        // The arguments of a batch are freed with it.
        with_memory_context(|| {
            // Indices are below BATCH.
            let indices: Vec<i32> = (0..batch.len() as i32).collect();
            let arguments =
                [Argument::of(indices), Argument::of(batch.to_vec()), Argument::of(network.name()), optional(at)];
            OWN_LABELS.with(|query| {
                query.stream(&arguments, |slot| {
                    let index = usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default();
                    each(number * BATCH + index, label(slot)?)
                })
            })
        })?;
    }
    Ok(())
}

/// Reads columns 1 to 4 of the label queries.
fn label(slot: Slot<'_>) -> Result<OwnLabel, SqlError> {
    Ok(OwnLabel {
        category: slot.text(1)?.to_owned(),
        kind: label_kind(slot.text(2)?)?,
        severity: label_severity(slot.text(3)?)?,
        source: slot.text(4)?.to_owned(),
    })
}

/// Calls `each` with every address that has an illicit or licit label, now or at a given time, and
/// with the two answers. Illicit are the given categories, by default all of that kind.
pub(crate) fn label_cases(
    network: &Network,
    at: Option<TimestampWithTimeZone>,
    illicit: Option<&[String]>,
    licit: &[String],
    mut each: impl FnMut(&str, bool, bool) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let illicit = illicit.map_or_else(Argument::null::<Vec<String>>, |some| Argument::of(some.to_vec()));
    let arguments = [Argument::of(network.name()), optional(at), illicit, Argument::of(licit.to_vec())];
    CASES.with(|query| {
        query.stream(&arguments, |slot| each(slot.text(0)?, slot.integer(1)? == Some(1), slot.integer(2)? == Some(1)))
    })
}

/// Returns every network by name.
pub(crate) fn networks() -> Result<Vec<Network>, SqlError> {
    let mut names = Vec::new();
    NETWORKS.with(|query| {
        query.stream(&[], |slot| {
            names.push(super::network_of_family(&Network::parse(slot.text(0)?)?, slot.text(1)?));
            Ok(())
        })
    })?;
    Ok(names)
}

/// Rejects names that are not label categories.
pub(crate) fn require_categories(names: &[String]) -> Result<(), SqlError> {
    let mut unknown = None;
    UNKNOWN_CATEGORIES.with(|query| {
        query.stream(&[Argument::of(names.to_vec())], |slot| {
            unknown = Some(slot.text(0)?.to_owned());
            Ok(())
        })
    })?;
    match unknown {
        Some(name) => Err(SqlError::argument(format!("label category \"{name}\" does not exist"))
            .hint("Categories are listed in arx.label_categories.")),
        None => Ok(()),
    }
}

/// Stores a scorecard as a draft.
pub(crate) fn store_risk_model(version: &str, document: &str, network: &str, report: &str) -> Result<(), SqlError> {
    let arguments = [version, document, network, report].map(Argument::of);
    as_table_owner(Purpose::Write, || STORE_MODEL.with(|query| query.execute(&arguments)))
}

/// Returns true if a label was added, changed or removed since a snapshot.
pub(crate) fn labels_changed(since: &Snapshot) -> Result<bool, SqlError> {
    let has_row = |query: &'static std::thread::LocalKey<PreparedQuery>| {
        let mut has_row = false;
        let since = Argument::snapshot(since)?;
        query.with(|query| {
            query.stream(&[since], |_| {
                has_row = true;
                Ok(())
            })
        })?;
        Ok(has_row)
    };
    // TRUNCATE and DDL take effect for all transactions at once, older snapshots included.
    Ok(has_row(&LABELS_CHANGED)? || (keeps_snapshot() && with_latest_snapshot(|| has_row(&EVERY_LABEL_CHANGED))?))
}

/// Returns the time of this transaction, and the next time at which a label comes into force or
/// expires, in PostgreSQL's microseconds.
pub(crate) fn now_and_next_label_change() -> Result<(i64, i64), SqlError> {
    let mut times = (0, 0);
    NOW_AND_NEXT_CHANGE.with(|query| {
        query.stream(&[], |slot| {
            times = (slot.long(0)?, slot.long(1)?);
            Ok(())
        })
    })?;
    Ok(times)
}

/// Calls `each` with every override of a network, or of one address, in force now or at a given
/// time.
pub(crate) fn risk_overrides(
    network: &Network,
    address: Option<&str>,
    at: Option<TimestampWithTimeZone>,
    mut each: impl FnMut(&str, Override) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let address = address.map_or_else(Argument::null::<String>, Argument::of);
    OVERRIDES.with(|query| {
        query.stream(&[Argument::of(network.name()), address, optional(at)], |slot| {
            let tenths = slot.integer(1)?.unwrap_or_default();
            let override_ = Override {
                score: Score::from_tenths(tenths).ok_or_else(|| SqlError::corrupt("a risk override is not a score"))?,
                reason: slot.text(2)?.to_owned(),
                by: slot.text(3)?.to_owned(),
                until: slot.text(4)?.to_owned(),
            };
            each(slot.text(0)?, override_)
        })
    })
}

fn optional(at: Option<TimestampWithTimeZone>) -> Argument {
    at.map_or_else(Argument::null::<TimestampWithTimeZone>, Argument::of)
}
