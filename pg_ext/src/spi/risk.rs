//! Facts about wallets, and scores written back.

use arx_core::risk::{Assessment, DirectLabel, PeerGroup, WalletFacts};
use pgrx::prelude::*;

use super::{Row, for_each_row};
use crate::convert::{self, Wallet};
use crate::error::SqlError;

/// Scores written in one statement.
const SCORES_PER_UPDATE: usize = 5_000;

/// One wallet's own label, then its counterparties by kind. Failed transactions moved nothing.
const OWN_LABEL: &str = "
SELECT l.category, l.kind, l.severity::text, l.source
  FROM arx.current_labels AS l
 WHERE l.address = $1 AND l.network = $2";

const PEERS: &str = "
WITH flow AS (
    SELECT t.to_address AS peer, 0 AS received, 1 AS sent, 0::numeric AS received_value, t.value AS sent_value
      FROM arx.transactions AS t
     WHERE t.from_address = $1 AND t.network = $2 AND t.to_address <> $1 AND t.status <> 'failed'
    UNION ALL
    SELECT t.from_address, 1, 0, t.value, 0
      FROM arx.transactions AS t
     WHERE t.to_address = $1 AND t.network = $2 AND t.from_address <> $1 AND t.status <> 'failed'
), peers AS (
    SELECT f.peer, sum(f.received) AS received, sum(f.sent) AS sent,
           sum(f.received_value) AS received_value, sum(f.sent_value) AS sent_value
      FROM flow AS f GROUP BY f.peer
)
SELECT l.kind, count(*), sum(p.received)::bigint, sum(p.sent)::bigint, sum(p.received_value)::text, sum(p.sent_value)::text,
       (array_agg(p.peer ORDER BY p.received_value + p.sent_value DESC, p.peer) FILTER (WHERE l.kind IS NOT NULL))[1],
       (array_agg(l.category ORDER BY p.received_value + p.sent_value DESC, p.peer) FILTER (WHERE l.kind IS NOT NULL))[1]
  FROM peers AS p
  LEFT JOIN LATERAL (SELECT c.kind, c.category FROM arx.current_labels AS c WHERE c.address = p.peer AND c.network = $2) AS l
    ON true
 GROUP BY l.kind";

/// The same for every wallet of wallet_profiles, with the score it has, in the order of its key.
const ALL_WALLETS: &str = "
WITH flow AS (
    SELECT t.network, t.from_address AS wallet, t.to_address AS peer, 0 AS received, 1 AS sent, 0::numeric AS received_value,
           t.value AS sent_value
      FROM arx.transactions AS t WHERE t.to_address <> t.from_address AND t.status <> 'failed'
    UNION ALL
    SELECT t.network, t.to_address, t.from_address, 1, 0, t.value, 0
      FROM arx.transactions AS t WHERE t.to_address <> t.from_address AND t.status <> 'failed'
), peers AS (
    SELECT f.network, f.wallet, f.peer, sum(f.received) AS received, sum(f.sent) AS sent,
           sum(f.received_value) AS received_value, sum(f.sent_value) AS sent_value
      FROM flow AS f GROUP BY f.network, f.wallet, f.peer
), groups AS (
    SELECT p.network, p.wallet, l.kind, count(*) AS counterparties, sum(p.received)::bigint AS received,
           sum(p.sent)::bigint AS sent, sum(p.received_value) AS received_value, sum(p.sent_value) AS sent_value
      FROM peers AS p
      LEFT JOIN arx.current_labels AS l ON l.network = p.network AND l.address = p.peer
     GROUP BY p.network, p.wallet, l.kind
)
SELECT g.kind, g.counterparties, g.received, g.sent, g.received_value::text, g.sent_value::text, NULL::text, NULL::text,
       w.network_type, w.wallet_address, w.risk_score, w.risk_state, l.category, l.kind, l.severity::text, l.source
  FROM arx.wallet_profiles AS w
  LEFT JOIN groups AS g ON g.network = w.network_type AND g.wallet = w.wallet_address
  LEFT JOIN arx.current_labels AS l ON l.network = w.network_type AND l.address = w.wallet_address
 ORDER BY w.network_type, w.wallet_address";

const WRITE_SCORES: &str = "
UPDATE arx.wallet_profiles AS p
   SET risk_score = s.score, risk_state = s.state, version = p.version + 1, updated_at = pg_catalog.now()
  FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[]) AS s (network, address, score, state)
 WHERE p.wallet_address = s.address AND p.network_type = s.network";

const BEGIN: &str = "SELECT r.until::text, r.epoch FROM arx.begin_refresh('risk_scores') AS r";
const FINISH: &str = "SELECT arx.finish_refresh('risk_scores', $1::pg_snapshot, $2, $3)";

/// Columns 1 to 8 of the queries above.
fn peer_group(row: &Row<'_, '_>) -> Result<PeerGroup, SqlError> {
    let largest = row.optional::<String>(7)?.zip(row.optional::<String>(8)?);
    Ok(PeerGroup {
        kind: row.optional::<String>(1)?.map(|kind| convert::label_kind(&kind)).transpose()?,
        counterparties: convert::count(row.required(2)?),
        received: convert::count(row.required(3)?),
        sent: convert::count(row.required(4)?),
        received_value: convert::amount(&row.required::<String>(5)?)?,
        sent_value: convert::amount(&row.required::<String>(6)?)?,
        largest,
    })
}

/// Four columns from `first` on: category, kind, severity, source; NULL where the wallet has no label.
fn direct_label(row: &Row<'_, '_>, first: usize) -> Result<Option<DirectLabel>, SqlError> {
    let Some(category) = row.optional::<String>(first)? else { return Ok(None) };
    Ok(Some(DirectLabel {
        category,
        kind: convert::label_kind(&row.required::<String>(first + 1)?)?,
        severity: convert::severity(&row.required::<String>(first + 2)?)?,
        source: row.required(first + 3)?,
    }))
}

/// What is known about a wallet.
pub fn wallet_facts(wallet: &Wallet) -> Result<WalletFacts, SqlError> {
    let mut facts = WalletFacts::default();
    let (address, network) = (wallet.address.as_str(), wallet.network.name());
    for_each_row(OWN_LABEL, &[address.into(), network.into()], |row| {
        facts.label = direct_label(&row, 1)?;
        Ok(())
    })?;
    for_each_row(PEERS, &[address.into(), network.into()], |row| {
        facts.peers.push(peer_group(&row)?);
        Ok(())
    })?;
    Ok(facts)
}

/// A wallet whose rows are being read.
struct Pending {
    network: String,
    address: String,
    score: i32,
    state: String,
    facts: WalletFacts,
}

/// Scores on their way into `wallet_profiles`.
#[derive(Default)]
struct Changes {
    networks: Vec<String>,
    addresses: Vec<String>,
    scores: Vec<i32>,
    states: Vec<String>,
    written: i64,
}

impl Changes {
    fn add(&mut self, wallet: Pending, assessment: &Assessment) -> Result<(), SqlError> {
        let (score, state) = (i32::from(assessment.score.points()), assessment.state.as_str());
        if (wallet.score, wallet.state.as_str()) == (score, state) {
            return Ok(());
        }
        self.networks.push(wallet.network);
        self.addresses.push(wallet.address);
        self.scores.push(score);
        self.states.push(state.to_owned());
        if self.scores.len() == SCORES_PER_UPDATE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), SqlError> {
        let batch = std::mem::take(self);
        let count = batch.scores.len();
        let arguments = [batch.networks.into(), batch.addresses.into(), batch.scores.into(), batch.states.into()];
        Spi::run_with_args(WRITE_SCORES, &arguments)?;
        self.written = batch.written.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// Scores every wallet of `wallet_profiles` and writes the scores that changed; returns how many. One run at a time.
pub fn refresh_scores(assess: impl Fn(&WalletFacts) -> Result<Assessment, SqlError>) -> Result<i64, SqlError> {
    let (until, epoch) = Spi::connect_mut(|client| client.update(BEGIN, None, &[])?.first().get_two::<String, i64>())?;
    let mut changes = Changes::default();
    let mut pending: Option<Pending> = None;
    for_each_row(ALL_WALLETS, &[], |row| {
        let (network, address) = (row.required::<String>(9)?, row.required::<String>(10)?);
        if let Some(done) = pending.take_if(|p| p.network != network || p.address != address) {
            let assessment = assess(&done.facts)?;
            changes.add(done, &assessment)?;
        }
        let wallet = match &mut pending {
            Some(wallet) => wallet,
            none => none.insert(Pending {
                network,
                address,
                score: row.required(11)?,
                state: row.required(12)?,
                facts: WalletFacts { label: direct_label(&row, 13)?, peers: Vec::new() },
            }),
        };
        // no counterparty at all: the outer join found nothing
        if row.optional::<i64>(2)?.is_some() {
            wallet.facts.peers.push(peer_group(&row)?);
        }
        Ok(())
    })?;
    if let Some(last) = pending {
        let assessment = assess(&last.facts)?;
        changes.add(last, &assessment)?;
    }
    changes.write()?;
    Spi::run_with_args(FINISH, &[until.into(), epoch.into(), changes.written.into()])?;
    Ok(changes.written)
}
