//! Transfers that rules of wallet alerts judge, and what is known about their wallets.

use std::ffi::CStr;

use arx_core::alert::transfers::{Relation, Transfer, TransferSet, USD_DECIMALS, Unfit};

use super::logs::LogValue;
use super::stream::ColumnType::{Double, Integer, Long, Numeric, Text, Time};
use super::stream::{Argument, Layout, Slot, stream_once_with, with_memory_context};
use crate::error::SqlError;

/// Transfers of a run up to which older ones are read by wallet, through the indexes: beyond, each
/// partition that matters is read once.
const MOST_BY_WALLET: usize = 5_000;

/// Wallets asked about at a time. pgrx does not survive that the server lacks memory for the array
/// of an argument that is much larger.
const BATCH: usize = 20_000;

const LAYOUT: Layout = &[Text, Text, Integer, Time, Text, Text, Text, Numeric, Numeric];

/// A text of SQL, made of literals.
macro_rules! sql {
    ($($part:expr),+) => {
        match CStr::from_bytes_with_nul(concat!($($part,)+ "\0").as_bytes()) {
            Ok(text) => text,
            Err(_) => c"",
        }
    };
}

/// A query about the transfers of a table that move value: $1 is the snapshot since which rows are
/// new, and $2 the times of rows that are to be judged although they are not.
macro_rules! transfers {
    ($place:literal, $asset:literal, $amount:literal, $from:literal, $condition:expr) => {
        concat!(
            "SELECT t.network, t.tx_hash, ",
            $place,
            "::integer, t.\"timestamp\", t.from_address, t.to_address, ",
            $asset,
            ", t.",
            $amount,
            "::numeric, t.value_usd::numeric FROM arx.",
            $from,
            " AND ",
            $condition
        )
    };
}

/// Transfers from $3 to $4 that are not judged.
macro_rules! past {
    () => {
        "t.\"timestamp\" >= $3 AND t.\"timestamp\" <= $4 AND NOT ($1 IS NULL OR arx.is_new_since(t.ingest_xid, $1)) \
         AND NOT t.\"timestamp\" <@ $2"
    };
}

/// Transfers of the wallets of $5 and $6, one wallet after the other.
macro_rules! of_wallets {
    ($place:literal, $asset:literal, $amount:literal, $from:literal, $wallet:literal) => {
        sql!(
            "SELECT m.* FROM unnest($5::text[], $6::text[]) AS w (network, address) CROSS JOIN LATERAL (",
            transfers!($place, $asset, $amount, $from, past!()),
            " AND t.network = w.network AND t.",
            $wallet,
            // With it, the subquery is not joined in another way.
            " = w.address OFFSET 0) AS m"
        )
    };
}

/// The queries about a table: new rows, those at given times, and older ones of a period, all or
/// those that wallets have sent or received.
struct Queries {
    relation: Relation,
    new: &'static CStr,
    at_times: &'static CStr,
    past: &'static CStr,
    sent: &'static CStr,
    received: &'static CStr,
}

macro_rules! queries {
    ($relation:ident, $place:literal, $asset:literal, $amount:literal, $from:literal) => {
        Queries {
            relation: Relation::$relation,
            new: sql!(transfers!($place, $asset, $amount, $from, "($1 IS NULL OR arx.is_new_since(t.ingest_xid, $1))")),
            at_times: sql!(transfers!(
                $place,
                $asset,
                $amount,
                $from,
                "NOT isempty($2) AND t.\"timestamp\" <@ $2 AND NOT ($1 IS NULL OR arx.is_new_since(t.ingest_xid, $1))"
            )),
            past: sql!(transfers!($place, $asset, $amount, $from, past!())),
            sent: of_wallets!($place, $asset, $amount, $from, "from_address"),
            received: of_wallets!($place, $asset, $amount, $from, "to_address"),
        }
    };
}

const QUERIES: [Queries; 3] = [
    queries!(
        Transactions,
        "NULL",
        "'native'::text",
        "value",
        "transactions AS t WHERE t.to_address IS NOT NULL AND t.status <> 'failed'"
    ),
    queries!(
        InternalTransfers,
        "t.position",
        "'native'::text",
        "value",
        "internal_transfers AS t WHERE t.succeeded IS NOT FALSE"
    ),
    queries!(TokenTransfers, "t.log_index", "t.token_address", "amount", "token_transfers AS t WHERE true"),
];

/// The rows that are judged: those that are new since a snapshot (NULL: all), and those at other
/// times, of the native coin and of tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JudgedRows {
    pub(crate) since: LogValue,
    pub(crate) native: LogValue,
    pub(crate) tokens: LogValue,
}

impl JudgedRows {
    fn arguments(&self, relation: Relation) -> [Argument; 2] {
        let times = if relation == Relation::TokenTransfers { self.tokens } else { self.native };
        [self.since.into(), times.into()]
    }

    /// Adds the transfers that are judged to a set, and the older ones that it needs. The inner
    /// error says that the set does not fit.
    pub(crate) fn read(&self, set: &mut TransferSet) -> Result<Result<(), Unfit>, SqlError> {
        for queries in &QUERIES {
            for query in [queries.new, queries.at_times] {
                let arguments = self.arguments(queries.relation);
                if let Err(unfit) = read(query, &arguments, queries.relation, |transfer| set.add_new(transfer))? {
                    return Ok(Err(unfit));
                }
            }
        }
        let periods = match set.periods() {
            Ok(periods) => periods,
            Err(unfit) => return Ok(Err(unfit)),
        };
        let by_wallet = set.len() <= MOST_BY_WALLET;
        for (start, end) in periods {
            for queries in &QUERIES {
                let [since, times] = self.arguments(queries.relation);
                let arguments = [since, times, Argument::time(start), Argument::time(end)];
                let past = if by_wallet {
                    read_of_wallets(queries, arguments, set)?
                } else {
                    read(queries.past, &arguments, queries.relation, |transfer| set.add_past(transfer))?
                };
                if past.is_err() {
                    return Ok(past);
                }
            }
        }
        Ok(Ok(()))
    }
}

/// Adds the transfers of the wallets of a set within a period. One between two of them is found by
/// both queries, and added by the first one.
fn read_of_wallets(
    queries: &Queries,
    [since, times, start, end]: [Argument; 4],
    set: &mut TransferSet,
) -> Result<Result<(), Unfit>, SqlError> {
    with_memory_context(|| {
        let (networks, addresses): (Vec<&str>, Vec<&str>) = set.wallets().unzip();
        let arguments = [since, times, start, end, Argument::of(networks), Argument::of(addresses)];
        let sent = read(queries.sent, &arguments, queries.relation, |transfer| set.add_past(transfer))?;
        if sent.is_err() {
            return Ok(sent);
        }
        read(queries.received, &arguments, queries.relation, |transfer| set.add_received(transfer))
    })
}

/// Adds the rows of a query, up to the first one that does not fit.
fn read(
    query: &'static CStr,
    arguments: &[Argument],
    relation: Relation,
    mut each: impl FnMut(&Transfer<'_>) -> Result<(), Unfit>,
) -> Result<Result<(), Unfit>, SqlError> {
    let mut unfit = None;
    let end = stream_once_with(query, LAYOUT, arguments, |slot| {
        unfit = add(slot, relation, &mut each)?.err();
        // An error ends the query.
        unfit.map_or(Ok(()), |unfit| Err(SqlError::limit(unfit.to_string())))
    });
    match unfit {
        Some(unfit) => Ok(Err(unfit)),
        None => end.map(Ok),
    }
}

fn add(
    slot: Slot<'_>,
    relation: Relation,
    add: impl FnOnce(&Transfer<'_>) -> Result<(), Unfit>,
) -> Result<Result<(), Unfit>, SqlError> {
    let amount = slot.stated_amount(7, relation.decimals())?;
    let usd = slot.stated_amount(8, USD_DECIMALS)?;
    let (Ok(Some(amount)), Ok(usd)) = (amount, usd) else { return Ok(Err(Unfit::Value)) };
    let transfer = Transfer {
        relation,
        network: slot.text(0)?,
        tx_hash: slot.text(1)?,
        log_index: slot.integer(2)?,
        time: slot.long(3)?,
        from: slot.optional_text(4)?,
        to: slot.optional_text(5)?,
        asset: slot.text(6)?,
        amount,
        usd,
    };
    Ok(add(&transfer))
}

const LABELS: &CStr = c"
SELECT DISTINCT ON (w.number) w.number, l.category, c.kind
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (network, address, number)
  JOIN arx.address_labels AS l ON l.network = w.network AND l.address = w.address
  LEFT JOIN arx.label_categories AS c ON c.category = l.category
 WHERE l.valid_from <= now() AND l.valid_to > now()
 ORDER BY w.number, arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id";

const WATCHED: &CStr = c"
SELECT w.number
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (network, address, number)
 WHERE EXISTS (SELECT FROM arx.watchlists AS m WHERE m.network = w.network AND m.address = w.address)";

const SCORES: &CStr = c"
SELECT w.number, CASE WHEN f.risk_state <> 'unknown' THEN f.risk_score END::float8,
       (f.risk_score - (SELECT h.score FROM arx.risk_score_history AS h
                         WHERE h.address = w.address AND h.network = w.network AND h.scored_at > now() - interval '168 hours'
                           AND h.state <> 'unknown'
                         ORDER BY h.scored_at, h.entry_id LIMIT 1))::float8
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (network, address, number)
  JOIN arx.wallet_profiles AS f ON f.network_type = w.network AND f.wallet_address = w.address";

/// Sets the labels of the wallets of a set.
pub(crate) fn read_labels(set: &mut TransferSet) -> Result<Result<(), Unfit>, SqlError> {
    let mut unfit = None;
    about_wallets(set, LABELS, &[Long, Text, Text], |set, wallet, slot| {
        if unfit.is_none() {
            unfit = set.set_label(wallet, slot.text(1)?, slot.optional_text(2)?).err();
        }
        Ok(())
    })?;
    Ok(unfit.map_or(Ok(()), Err))
}

/// Sets the members of watchlists.
pub(crate) fn read_watched(set: &mut TransferSet) -> Result<(), SqlError> {
    about_wallets(set, WATCHED, &[Long], |set, wallet, _| {
        set.set_watched(wallet);
        Ok(())
    })
}

/// Sets the scores of the wallets of a set.
pub(crate) fn read_scores(set: &mut TransferSet) -> Result<(), SqlError> {
    about_wallets(set, SCORES, &[Long, Double, Double], |set, wallet, slot| {
        set.set_score(wallet, slot.double(1)?, slot.double(2)?);
        Ok(())
    })
}

/// Asks about all wallets of a set, and calls `each` with their numbers and rows.
fn about_wallets(
    set: &mut TransferSet,
    query: &'static CStr,
    layout: Layout,
    mut each: impl FnMut(&mut TransferSet, usize, Slot<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let mut first = 0;
    while first < set.wallets().len() {
        // The arguments of a batch are freed with it.
        with_memory_context(|| {
            let (networks, addresses): (Vec<&str>, Vec<&str>) = set.wallets().skip(first).take(BATCH).unzip();
            let arguments = [Argument::of(networks), Argument::of(addresses)];
            stream_once_with(query, layout, &arguments, |slot| {
                let number = usize::try_from(slot.long(0)? - 1).unwrap_or(usize::MAX);
                each(set, first.saturating_add(number), slot)
            })
        })?;
        first += BATCH;
    }
    Ok(())
}
