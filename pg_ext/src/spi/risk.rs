//! Scorecards, and what is known of wallets beside their transfers.

use arx_core::address::Network;
use arx_core::graph::Snapshot;
use arx_core::risk::scorecard::Score;
use arx_core::risk::{Override, OwnLabel};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::stream::{Argument, KeptQuery, Slot, in_memory_of_its_own};
use crate::convert;
use crate::error::SqlError;

/// Addresses asked about at a time.
const BATCH: usize = 5_000;

thread_local! {
    static ACTIVE: KeptQuery = const { KeptQuery::new(c"
SELECT m.version, m.created_at
  FROM arx.risk_models AS m
 WHERE m.version = (SELECT arx.active_risk_model())") };

    static DOCUMENT: KeptQuery = const { KeptQuery::new(c"
SELECT m.document::text FROM arx.risk_models AS m WHERE m.version = $1") };

    // the label that weighs most of each wallet first, as current_labels has it; neutral labels do not weigh
    static LABELS: KeptQuery = const { KeptQuery::new(c"
SELECT l.address, l.category, c.kind, l.severity::text, l.source
  FROM arx.address_labels AS l
  JOIN arx.label_categories AS c USING (category)
 WHERE l.network = $1 AND c.kind IN ('illicit', 'service')
   AND l.valid_from <= coalesce($2, now()) AND l.valid_to > coalesce($2, now())
 ORDER BY l.address, l.category <> 'sanctions', c.kind <> 'illicit', l.severity DESC, l.confidence DESC, l.source, l.label_id") };

    static OWN_LABELS: KeptQuery = const { KeptQuery::new(c"
SELECT s.place, l.category, l.kind, l.severity, l.source
  FROM unnest($1::integer[], $2::text[]) AS s (place, address)
 CROSS JOIN LATERAL (
       SELECT l.category, c.kind, l.severity::text AS severity, l.source
         FROM arx.address_labels AS l
         JOIN arx.label_categories AS c USING (category)
        WHERE l.address = s.address AND l.network = $3 AND c.kind IN ('illicit', 'service')
          AND l.valid_from <= coalesce($4, now()) AND l.valid_to > coalesce($4, now())
        ORDER BY l.category <> 'sanctions', c.kind <> 'illicit', l.severity DESC, l.confidence DESC, l.source, l.label_id) AS l") };

    static CASES: KeptQuery = const { KeptQuery::new(c"
SELECT s.address, s.illicit, s.licit
  FROM (SELECT l.address,
               bool_or(CASE WHEN $3 IS NULL THEN c.kind = 'illicit' ELSE l.category = ANY ($3) END)::integer AS illicit,
               bool_or(l.category = ANY ($4))::integer AS licit
          FROM arx.address_labels AS l
          JOIN arx.label_categories AS c USING (category)
         WHERE l.network = $1 AND l.valid_from <= coalesce($2, now()) AND l.valid_to > coalesce($2, now())
         GROUP BY l.address) AS s
 WHERE s.illicit + s.licit > 0") };

    static NETWORKS: KeptQuery = const { KeptQuery::new(c"
SELECT n.network FROM arx.networks AS n ORDER BY n.network COLLATE \"C\"") };

    static UNKNOWN_CATEGORIES: KeptQuery = const { KeptQuery::new(c"
SELECT n.name FROM unnest($1::text[]) AS n (name)
 WHERE NOT EXISTS (SELECT FROM arx.label_categories AS c WHERE c.category = n.name) LIMIT 1") };

    static LABELS_CHANGED: KeptQuery = const { KeptQuery::new(c"SELECT 1 FROM arx.changed_labels($1) LIMIT 1") };

    static NOW_AND_NEXT_CHANGE: KeptQuery = const { KeptQuery::new(c"
SELECT now(), coalesce(least((SELECT min(l.valid_from) FROM arx.address_labels AS l WHERE l.valid_from > now() AND l.valid_from > '-infinity'),
                             (SELECT min(l.valid_to) FROM arx.address_labels AS l WHERE l.valid_to > now() AND l.valid_to < 'infinity')), 'infinity')") };

    static OVERRIDES: KeptQuery = const { KeptQuery::new(c"
SELECT DISTINCT ON (o.address) o.address, (o.score * 10)::integer, o.reason, o.created_by::text, o.expires_at::text
  FROM arx.risk_overrides AS o
 WHERE o.network = $1 AND ($2 IS NULL OR o.address = $2)
   AND o.valid_from <= coalesce($3, now()) AND o.expires_at > coalesce($3, now())
   AND (o.ended_at IS NULL OR o.ended_at > coalesce($3, now()))
 ORDER BY o.address, o.valid_from DESC, o.override_id DESC") };
}

/// A scorecard as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub version: String,
    /// Documents are not changed, but one of the same version may be stored again.
    pub created_at: i64,
}

/// Which scorecard is active.
pub fn active_scorecard() -> Result<Stored, SqlError> {
    let mut stored = None;
    ACTIVE.with(|query| {
        query.stream(&[], |slot| {
            stored = Some(Stored { version: slot.text(0)?.to_owned(), created_at: slot.long(1)? });
            Ok(())
        })
    })?;
    stored.ok_or_else(|| {
        SqlError::state("no risk model is active").hint("SELECT arx.activate_risk_model(version); see arx.risk_models.")
    })
}

/// The document of a scorecard; `None` if there is none of this version.
pub fn scorecard_document(version: &str) -> Result<Option<String>, SqlError> {
    let mut document = None;
    in_memory_of_its_own(|| {
        DOCUMENT.with(|query| {
            query.stream(&[Argument::of(version)], |slot| {
                document = Some(slot.text(0)?.to_owned());
                Ok(())
            })
        })
    })?;
    Ok(document)
}

/// Every label of a network that is illicit or a service, at a time or now, the one that weighs most of each address first.
pub fn risk_labels(
    network: &Network,
    at: Option<TimestampWithTimeZone>,
    mut each: impl FnMut(&str, OwnLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    LABELS.with(|query| {
        query.stream(&[Argument::of(network.name()), optional(at)], |slot| each(slot.text(0)?, label(slot)?))
    })
}

/// The labels of addresses that are illicit or a service, with their place among the addresses, the one that weighs most of each first.
pub fn own_labels(
    network: &Network,
    addresses: &[&str],
    at: Option<TimestampWithTimeZone>,
    mut each: impl FnMut(usize, OwnLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for (number, batch) in addresses.chunks(BATCH).enumerate() {
        // what a batch is asked with goes with it
        in_memory_of_its_own(|| {
            // a batch has few places
            let places: Vec<i32> = (0..batch.len() as i32).collect();
            let arguments =
                [Argument::of(places), Argument::of(batch.to_vec()), Argument::of(network.name()), optional(at)];
            OWN_LABELS.with(|query| {
                query.stream(&arguments, |slot| {
                    let place = usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default();
                    each(number * BATCH + place, label(slot)?)
                })
            })
        })?;
    }
    Ok(())
}

/// Columns 1 to 4 of the queries above.
fn label(slot: Slot<'_>) -> Result<OwnLabel, SqlError> {
    Ok(OwnLabel {
        category: slot.text(1)?.to_owned(),
        kind: convert::label_kind(slot.text(2)?)?,
        severity: convert::severity(slot.text(3)?)?,
        source: slot.text(4)?.to_owned(),
    })
}

/// Addresses with a label that says what they are, at a time or now: whether it says illicit (any category of that kind, or one of
/// those given), and whether it says licit.
pub fn label_cases(
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

/// Every network, by name.
pub fn networks() -> Result<Vec<Network>, SqlError> {
    let mut names = Vec::new();
    NETWORKS.with(|query| {
        query.stream(&[], |slot| {
            names.push(Network::parse(slot.text(0)?)?);
            Ok(())
        })
    })?;
    Ok(names)
}

/// Refuses what is no category of labels.
pub fn require_categories(names: &[String]) -> Result<(), SqlError> {
    let mut unknown = None;
    UNKNOWN_CATEGORIES.with(|query| {
        query.stream(&[Argument::of(names.to_vec())], |slot| {
            unknown = Some(slot.text(0)?.to_owned());
            Ok(())
        })
    })?;
    match unknown {
        Some(name) => Err(SqlError::argument(format!("there is no label category \"{name}\""))
            .hint("Categories are listed in arx.label_categories.")),
        None => Ok(()),
    }
}

const STORE_MODEL: &str =
    "INSERT INTO arx.risk_models (version, document, network, report) VALUES ($1, $2::jsonb, $3, $4::jsonb)";

/// Stores a scorecard as a draft.
pub fn store_risk_model(version: &str, document: &str, network: &str, report: &str) -> Result<(), SqlError> {
    Spi::run_with_args(STORE_MODEL, &[version.into(), document.into(), network.into(), report.into()])?;
    Ok(())
}

/// Whether any label came, went or changed since a snapshot.
pub fn labels_changed(since: &Snapshot) -> Result<bool, SqlError> {
    let mut changed = false;
    let since = Argument::snapshot(since)?;
    LABELS_CHANGED.with(|query| {
        query.stream(&[since], |_| {
            changed = true;
            Ok(())
        })
    })?;
    Ok(changed)
}

/// The time of this transaction, and the next at which a label begins or ends to be in force, in the server's microseconds.
pub fn now_and_next_label_change() -> Result<(i64, i64), SqlError> {
    let mut times = (0, 0);
    NOW_AND_NEXT_CHANGE.with(|query| {
        query.stream(&[], |slot| {
            times = (slot.long(0)?, slot.long(1)?);
            Ok(())
        })
    })?;
    Ok(times)
}

/// What was decided about the wallets of a network, or one of them, at a time or now.
pub fn risk_overrides(
    network: &Network,
    address: Option<&str>,
    at: Option<TimestampWithTimeZone>,
    mut each: impl FnMut(&str, Override) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let address = address.map_or_else(Argument::null::<String>, Argument::of);
    OVERRIDES.with(|query| {
        query.stream(&[Argument::of(network.name()), address, optional(at)], |slot| {
            let tenths = slot.integer(1)?.unwrap_or_default();
            let decided = Override {
                score: Score::from_tenths(tenths).ok_or_else(|| SqlError::corrupt("a risk override is no score"))?,
                reason: slot.text(2)?.to_owned(),
                by: slot.text(3)?.to_owned(),
                until: slot.text(4)?.to_owned(),
            };
            each(slot.text(0)?, decided)
        })
    })
}

fn optional(at: Option<TimestampWithTimeZone>) -> Argument {
    at.map_or_else(Argument::null::<TimestampWithTimeZone>, Argument::of)
}
