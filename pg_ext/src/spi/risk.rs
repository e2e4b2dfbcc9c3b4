//! Scorecards, labels and overrides.

use std::thread::LocalKey;

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
    // One statement for what every score needs, the override of one wallet, and changes of labels:
    // each statement takes 25 us.
    static SETTINGS: PreparedQuery = const { PreparedQuery::new(c"
SELECT m.version, coalesce(m.created_at, '-infinity'), c.prevalence,
       (c.medium_from * 10)::integer, (c.high_from * 10)::integer, (c.severe_from * 10)::integer,
       EXISTS (SELECT FROM arx.history_coverage AS h WHERE h.network = $1),
       $4 IS NOT NULL
       AND (EXISTS (SELECT FROM arx.address_labels AS l WHERE arx.is_new_since(l.ingest_xid, $4))
            OR EXISTS (SELECT FROM arx.label_changes AS l WHERE arx.is_new_since(l.changed_xid, $4))),
       (o.score * 10)::integer, o.reason, o.created_by::text, o.expires_at::text
  FROM (SELECT 1) AS one
  LEFT JOIN arx.risk_models AS m ON m.state = 'active'
  LEFT JOIN arx.risk_calibration AS c ON c.network = $1
  LEFT JOIN LATERAL (
       SELECT o.score, o.reason, o.created_by, o.expires_at
         FROM arx.risk_overrides AS o
        WHERE o.network = $1 AND o.address = $2
          AND o.valid_from <= coalesce($3, now()) AND o.expires_at > coalesce($3, now())
          AND (o.ended_at IS NULL OR o.ended_at > coalesce($3, now()))
        ORDER BY o.valid_from DESC, o.override_id DESC
        LIMIT 1) AS o ON true",
        &[Text, Time, Double, Integer, Integer, Integer, Bool, Bool, Integer, Text, Text, Text]) };

    static COVERAGE: PreparedQuery = const { PreparedQuery::new(c"
SELECT h.address, coalesce(h.from_time, '-infinity'), coalesce(h.to_time, 'infinity')
  FROM arx.history_coverage AS h
 WHERE h.network = $1", &[Text, Time, Time]) };

    static NETWORK_COVERAGE: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.history_coverage AS h
                WHERE h.network = $1 AND h.address IS NULL
                  AND (h.from_time IS NULL OR h.from_time <= $2) AND (h.to_time IS NULL OR h.to_time >= $3)),
       EXISTS (SELECT FROM arx.history_coverage AS h WHERE h.network = $1 AND h.address IS NOT NULL)",
        &[Bool, Bool]) };

    static IS_COVERED: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.history_coverage AS h
                WHERE h.network = $1 AND h.address = $4
                  AND (h.from_time IS NULL OR h.from_time <= $2) AND (h.to_time IS NULL OR h.to_time >= $3))",
        &[Bool]) };

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
 ORDER BY l.address, arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id",
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
        ORDER BY arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id) AS l",
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
SELECT 1
 WHERE EXISTS (SELECT FROM arx.address_labels AS l WHERE arx.is_new_since(l.ingest_xid, $1))
    OR EXISTS (SELECT FROM arx.label_changes AS l WHERE arx.is_new_since(l.changed_xid, $1))", &[Integer]) };

    static EVERY_LABEL_CHANGED: PreparedQuery = const { PreparedQuery::new(c"
SELECT 1 FROM arx.label_changes AS c WHERE arx.is_new_since(c.changed_xid, $1) AND c.network IS NULL LIMIT 1",
        &[Integer]) };

    static NEXT_CHANGE: PreparedQuery = const { PreparedQuery::new(c"
SELECT coalesce(least((SELECT min(l.valid_from) FROM arx.address_labels AS l WHERE l.valid_from > now() AND l.valid_from > '-infinity'),
                             (SELECT min(l.valid_to) FROM arx.address_labels AS l WHERE l.valid_to > now() AND l.valid_to < 'infinity')), 'infinity')",
        &[Time]) };

    static OVERRIDES: PreparedQuery = const { PreparedQuery::new(c"
SELECT DISTINCT ON (o.address) o.address, (o.score * 10)::integer, o.reason, o.created_by::text, o.expires_at::text
  FROM arx.risk_overrides AS o
 WHERE o.network = $1
   AND o.valid_from <= coalesce($2, now()) AND o.expires_at > coalesce($2, now())
   AND (o.ended_at IS NULL OR o.ended_at > coalesce($2, now()))
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
    /// A label was added, changed or removed since the snapshot that was asked for.
    pub(crate) labels_changed: bool,
    /// The override of the wallet that was asked for.
    pub(crate) override_: Option<Override>,
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

/// Returns the settings of a network, the override of a wallet now or at a given time, and whether
/// labels have changed since a snapshot, all in one statement.
pub(crate) fn risk_settings(
    network: &Network,
    wallet: Option<&str>,
    at: Option<TimestampWithTimeZone>,
    labels_since: Option<&Snapshot>,
) -> Result<RiskSettings, SqlError> {
    let mut settings = RiskSettings {
        active: None,
        calibration: Calibration::default(),
        has_coverage: false,
        labels_changed: false,
        override_: None,
    };
    let wallet = wallet.map_or_else(Argument::null::<String>, Argument::of);
    let since = labels_since.map_or_else(|| Ok(Argument::null_snapshot()), Argument::snapshot)?;
    SETTINGS.with(|query| {
        query.stream(&[Argument::of(network.name()), wallet, optional(at), since], |slot| {
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
            settings.labels_changed = slot.is_true(7)?;
            settings.override_ = override_at(slot, 8)?;
            Ok(())
        })
    })?;
    if labels_since.is_some() && !settings.labels_changed {
        settings.labels_changed = every_label_changed(labels_since)?;
    }
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

/// Statements of `history_coverage` about a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NetworkCoverage {
    /// One says that the whole network was loaded for the time asked for.
    pub(crate) whole: bool,
    /// There are statements about single wallets.
    pub(crate) has_wallets: bool,
}

/// A window of time, open where an end is `None`.
type Window = (Option<TimestampWithTimeZone>, Option<TimestampWithTimeZone>);

/// Returns the statements about a network for a window of time.
pub(crate) fn network_coverage(network: &Network, window: Window) -> Result<NetworkCoverage, SqlError> {
    let mut coverage = NetworkCoverage::default();
    NETWORK_COVERAGE.with(|query| {
        query.stream(&[Argument::of(network.name()), optional(window.0), optional(window.1)], |slot| {
            coverage = NetworkCoverage { whole: slot.is_true(0)?, has_wallets: slot.is_true(1)? };
            Ok(())
        })
    })?;
    Ok(coverage)
}

/// Returns true if a statement says that the history of a wallet was loaded for a window of time.
pub(crate) fn is_covered(network: &Network, address: &str, window: Window) -> Result<bool, SqlError> {
    let arguments = [Argument::of(network.name()), optional(window.0), optional(window.1), Argument::of(address)];
    IS_COVERED.with(|query| query.is_true(&arguments))
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

/// Runs a query with a snapshot, and returns true if it has a row.
fn has_row_since(query: &'static LocalKey<PreparedQuery>, since: &Snapshot) -> Result<bool, SqlError> {
    let mut has_row = false;
    let since = Argument::snapshot(since)?;
    query.with(|query| {
        query.stream(&[since], |_| {
            has_row = true;
            Ok(())
        })
    })?;
    Ok(has_row)
}

/// Returns true if a TRUNCATE or DDL command has changed labels since a snapshot, where that takes
/// effect for all transactions at once: those with an older snapshot do not see its row.
fn every_label_changed(since: Option<&Snapshot>) -> Result<bool, SqlError> {
    match since {
        Some(since) if keeps_snapshot() => with_latest_snapshot(|| has_row_since(&EVERY_LABEL_CHANGED, since)),
        _ => Ok(false),
    }
}

/// Returns true if a label was added, changed or removed since a snapshot.
pub(crate) fn labels_changed(since: Option<&Snapshot>) -> Result<bool, SqlError> {
    let changed = since.map(|since| has_row_since(&LABELS_CHANGED, since)).transpose()?;
    Ok(changed == Some(true) || every_label_changed(since)?)
}

/// Returns the next time at which a label comes into force or expires, in PostgreSQL's
/// microseconds.
pub(crate) fn next_label_change() -> Result<i64, SqlError> {
    let mut next = 0;
    NEXT_CHANGE.with(|query| query.stream(&[], |slot| slot.long(0).map(|time| next = time)))?;
    Ok(next)
}

/// Calls `each` with every override of a network in force now or at a given time.
pub(crate) fn risk_overrides(
    network: &Network,
    at: Option<TimestampWithTimeZone>,
    mut each: impl FnMut(&str, Override) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    OVERRIDES.with(|query| {
        query.stream(&[Argument::of(network.name()), optional(at)], |slot| match override_at(slot, 1)? {
            Some(override_) => each(slot.text(0)?, override_),
            None => Ok(()),
        })
    })
}

/// Reads an override from four columns: tenths of the score, reason, author and end.
fn override_at(slot: Slot<'_>, column: usize) -> Result<Option<Override>, SqlError> {
    let Some(tenths) = slot.integer(column)? else { return Ok(None) };
    Ok(Some(Override {
        score: Score::from_tenths(tenths).ok_or_else(|| SqlError::corrupt("a risk override is not a score"))?,
        reason: slot.text(column + 1)?.to_owned(),
        by: slot.text(column + 2)?.to_owned(),
        until: slot.text(column + 3)?.to_owned(),
    }))
}

fn optional(at: Option<TimestampWithTimeZone>) -> Argument {
    at.map_or_else(Argument::null::<TimestampWithTimeZone>, Argument::of)
}
