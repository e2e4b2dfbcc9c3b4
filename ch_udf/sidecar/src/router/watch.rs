//! The state of the stores, observed at a stated time: the snapshot of PostgreSQL, the position of
//! the feed, and which facts have changed in between. Owns the rule by which an answer that was
//! read at a snapshot is known to be true at a later time, and so how old it is.
//!
//! Snapshots are ordered by their height, see [`Height`]. Facts that have not changed between two
//! observations are the same at both, so an answer is as new as the last observation of an unbroken
//! chain that began no later than the answer's snapshot. No clock of a server takes part.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arx_core::address::{Network, NetworkFamily};
use arx_core::analytics::Topic;
use tokio_postgres::Client;

use super::warehouse::Warehouse;
use crate::cache::{Breaker, Height, Identity, identity};
use crate::error::{Doing, SidecarError};
use crate::feed::{CONSUMER, Standing, identify, unsigned};
use crate::retry::ErrorKind;
use crate::servers::postgres;
use crate::settings::Settings;

/// Time limit for an observation.
const LIMIT: Duration = Duration::from_secs(3);

/// Changes of a topic that are remembered.
const REMEMBERED: usize = 2_048;

/// Rights of a session that answers clients, whatever role the sidecar connects as.
pub(super) const AS_READER: &str = "
    SET ROLE arx_reader;
    SET default_transaction_read_only = on;
    SET enable_seqscan = off;
    SET statement_timeout = '3s'";

/// Reads the state of PostgreSQL: `$1` is the snapshot of the last observation and `$2` its number
/// of events. The last three columns are false for facts that the reader may not read whole.
const OBSERVE: &str = "
    WITH fed AS (SELECT p.position, p.epoch, p.attempt, p.confirmed FROM arx.feed_positions AS p WHERE p.consumer = $3),
    points AS (
        SELECT 'last' AS point, $1::text::pg_snapshot AS position, $2::bigint AS epoch
        UNION ALL SELECT 'fed', f.position, f.epoch FROM fed AS f WHERE f.position IS NOT NULL
    ), changes AS (
        SELECT p.point,
               -- Rows of the log of changes may have been pruned since a position of ours.
               p.epoch IS DISTINCT FROM arx.current_graph_epoch()
               OR pg_snapshot_xmin(p.position) < (SELECT e.changes_before FROM arx.pruned_epochs AS e) AS has_events,
               EXISTS (SELECT FROM arx.transactions AS t WHERE arx.is_new_since(t.ingest_xid, p.position))
               OR EXISTS (SELECT FROM arx.internal_transfers AS t WHERE arx.is_new_since(t.ingest_xid, p.position))
               OR EXISTS (SELECT FROM arx.transaction_changes AS c
                           WHERE arx.is_new_since(c.changed_xid, p.position) AND c.relation <> 'token_transfers')
                   AS has_transfers,
               EXISTS (SELECT FROM arx.token_transfers AS t WHERE arx.is_new_since(t.ingest_xid, p.position))
               OR EXISTS (SELECT FROM arx.transaction_changes AS c
                           WHERE arx.is_new_since(c.changed_xid, p.position) AND c.relation = 'token_transfers')
                   AS has_token_transfers
          FROM points AS p
    )
    SELECT pg_current_snapshot()::text, arx.current_graph_epoch(), f.position::text, f.attempt, f.confirmed,
           EXISTS (SELECT FROM arx.feed_rejects AS r WHERE r.consumer = $3)
           OR EXISTS (SELECT FROM arx.feed_reloads),
           l.has_events OR l.has_transfers, l.has_events OR l.has_token_transfers,
           c.has_events OR c.has_transfers OR c.has_token_transfers,
           coalesce((SELECT max(h.entry_id) FROM arx.risk_score_history AS h), 0),
           has_table_privilege('arx.transactions', 'SELECT') AND has_table_privilege('arx.internal_transfers', 'SELECT')
           AND NOT row_security_active('arx.transactions') AND NOT row_security_active('arx.internal_transfers'),
           has_table_privilege('arx.token_transfers', 'SELECT') AND NOT row_security_active('arx.token_transfers'),
           has_table_privilege('arx.risk_score_history', 'SELECT') AND NOT row_security_active('arx.risk_score_history')
      FROM changes AS l
      LEFT JOIN fed AS f ON true
      LEFT JOIN changes AS c ON c.point = 'fed'
     WHERE l.point = 'last'";

const NETWORKS: &str = "SELECT network, family FROM arx.networks";

/// An observation.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) identity: Identity,
    /// Time before the observation began: what it shows was true then.
    pub(super) at: Instant,
    pub(super) snapshot: String,
    pub(super) height: Height,
    epoch: i64,
    last_score: i64,
    chains: BTreeMap<Topic, Chain>,
    /// Facts that clients may read whole.
    readable: BTreeMap<Topic, bool>,
    pub(super) fed: Result<Fed, String>,
    /// Height of a position of ClickHouse, and the latest time at which it was current.
    fed_known: Option<(Height, Instant)>,
    networks: Arc<HashMap<String, String>>,
}

/// Observations between which facts have not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    /// Height of the first one.
    since: Height,
    /// Earlier chains, the oldest first: the height of the first observation, and the time of the
    /// last one.
    ended: VecDeque<(Height, Instant)>,
}

impl Chain {
    fn begin(height: Height) -> Self {
        Self { since: height, ended: VecDeque::new() }
    }

    /// The facts have changed since the last observation.
    fn break_off(&mut self, last: Instant, height: Height) {
        self.ended.push_back((self.since, last));
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
        self.since = height;
    }

    /// Returns the latest time at which an answer of a height is known to be true; `now` is the
    /// time of the last observation.
    fn true_at(&self, height: Height, now: Instant) -> Option<Instant> {
        if self.since <= height {
            return Some(now);
        }
        self.ended.iter().rev().find(|(since, _)| *since <= height).map(|(_, at)| *at)
    }
}

/// Content of ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) position: String,
    pub(super) height: Height,
    /// Identity of the source, and its latest attempt in ClickHouse.
    pub(super) attempt: (String, u64),
    /// No pass is under way, and no rows are missing.
    pub(super) is_settled: bool,
    /// PostgreSQL has not changed since the position.
    is_current: bool,
}

impl Seen {
    /// Returns the latest time at which an answer of a height is known to be true.
    pub(super) fn true_at(&self, height: Height, topics: &[Topic]) -> Option<Instant> {
        if height >= self.height {
            return Some(self.at);
        }
        let times = topics.iter().map(|topic| self.chains.get(topic)?.true_at(height, self.at));
        times.collect::<Option<Vec<Instant>>>()?.into_iter().min()
    }

    /// Returns the latest time at which ClickHouse is known to hold what PostgreSQL held.
    pub(super) fn fed_at(&self, fed: &Fed) -> Option<Instant> {
        let known = self.fed_known.filter(|(height, _)| *height <= fed.height).map(|(_, at)| at);
        known.max(self.true_at(fed.height, &[Topic::Transfers, Topic::TokenTransfers]))
    }

    /// Returns whether an answer of a height is also true at a later snapshot.
    pub(super) fn reaches(&self, height: Height, wanted: Height, topics: &[Topic]) -> bool {
        height >= wanted || (self.height >= wanted && self.true_at(height, topics) == Some(self.at))
    }

    /// Returns whether clients may read all rows of the facts.
    pub(super) fn is_readable(&self, topics: &[Topic]) -> bool {
        topics.iter().all(|topic| self.readable.get(topic).copied().unwrap_or(false))
    }

    /// Looks a network up as PostgreSQL does.
    pub(super) fn network(&self, text: &str) -> Option<Network> {
        let name = Network::parse(text).ok()?;
        let family = self.networks.get(name.name())?.parse::<NetworkFamily>().ok()?;
        Network::with_family(name.name(), family).ok().or(Some(name))
    }
}

/// Observes the stores.
pub(super) struct Watch {
    settings: Settings,
    latest: RwLock<Option<Arc<Seen>>>,
    /// PostgreSQL answers, and refuses to be observed: nothing may be read until it permits that.
    is_void: AtomicBool,
    session: tokio::sync::Mutex<Option<(Client, Identity)>>,
    breaker: Breaker,
}

impl Watch {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            latest: RwLock::new(None),
            is_void: AtomicBool::new(false),
            session: tokio::sync::Mutex::new(None),
            breaker: Breaker::default(),
        }
    }

    /// Returns the last observation, unless PostgreSQL has refused the one after it.
    pub(super) fn latest(&self) -> Option<Arc<Seen>> {
        if self.is_void.load(Ordering::Relaxed) { None } else { self.last() }
    }

    fn last(&self) -> Option<Arc<Seen>> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns an observation that is no older than `age`, or the latest one if PostgreSQL does not
    /// answer.
    ///
    /// # Errors
    /// Errors of PostgreSQL, if there never was an observation.
    pub(super) async fn seen(&self, age: Duration, warehouse: &Warehouse) -> Result<Arc<Seen>, SidecarError> {
        let asked = Instant::now();
        let is_new = |seen: &Arc<Seen>| seen.at >= asked || asked.duration_since(seen.at) <= age;
        if let Some(seen) = self.latest().filter(is_new) {
            return Ok(seen);
        }
        if let Some(seen) = self.latest().filter(|_| !self.breaker.admits(asked)) {
            return Ok(seen);
        }
        let mut session = self.session.lock().await;
        // Another caller may have observed in the meantime.
        if let Some(seen) = self.latest().filter(is_new) {
            return Ok(seen);
        }
        let observing = tokio::time::timeout(LIMIT, self.observe(&mut session, warehouse));
        let outcome = observing.await.unwrap_or_else(|elapsed| {
            let address = self.settings.postgres_url.to_string();
            Err(SidecarError::Unreachable { server: "PostgreSQL", address, source: Box::new(elapsed) })
        });
        match outcome {
            Ok(seen) => {
                self.breaker.succeeded();
                self.is_void.store(false, Ordering::Relaxed);
                let seen = Arc::new(seen);
                *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&seen));
                Ok(seen)
            }
            Err(error) => {
                *session = None;
                if !matches!(error.kind(), ErrorKind::Transient | ErrorKind::Busy) {
                    // Such as rights that were taken away.
                    self.is_void.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                self.breaker.failed(Instant::now());
                self.latest().ok_or(error)
            }
        }
    }

    async fn observe(
        &self,
        session: &mut Option<(Client, Identity)>,
        warehouse: &Warehouse,
    ) -> Result<Seen, SidecarError> {
        let doing = "observe the state of the stores";
        let (client, identity) = match session.take().filter(|(client, _)| !client.is_closed()) {
            Some(open) => open,
            None => {
                let client = postgres::connect(&self.settings).await?.client;
                let (identity, _) = identity(&client).await?;
                client.batch_execute(AS_READER).await.doing("take the rights of a reader")?;
                (client, identity)
            }
        };
        let last = self.last().filter(|last| last.identity == identity);
        let at = Instant::now();
        let (snapshot, epoch) = last.as_ref().map_or(("1:1:", -1), |last| (last.snapshot.as_str(), last.epoch));
        let row = client.query_one(OBSERVE, &[&snapshot, &epoch, &CONSUMER]).await.doing(doing)?;
        let networks = client.query(NETWORKS, &[]).await.doing("read the networks")?;
        let networks = networks.iter().map(|row| (row.get(0), row.get(1))).collect();
        let snapshot: String = row.get(0);
        let height = Height::of(&snapshot)?;
        let last_score: i64 = row.get(9);
        let changed = [
            (Topic::Transfers, row.get::<_, bool>(6)),
            (Topic::TokenTransfers, row.get(7)),
            (Topic::Scores, last.as_ref().is_none_or(|last| last.last_score != last_score)),
        ];
        let mut chains = last.as_ref().map(|last| last.chains.clone()).unwrap_or_default();
        for (topic, has_changed) in changed {
            let chain = chains.entry(topic).or_insert_with(|| Chain::begin(height));
            if let Some(last) = last.as_ref().filter(|_| has_changed) {
                chain.break_off(last.at, height);
            }
        }
        let readable = [(Topic::Transfers, 10_usize), (Topic::TokenTransfers, 11), (Topic::Scores, 12)];
        let readable = readable.map(|(topic, column)| (topic, row.get(column))).into();
        let fed = match row.get::<_, Option<String>>(2) {
            None => Err("the feed has not loaded ClickHouse".to_owned()),
            Some(position) => {
                let (attempt, confirmed): (Option<i64>, Option<i64>) = (row.get(3), row.get(4));
                let settled = confirmed.filter(|_| attempt == confirmed && !row.get::<_, bool>(5)).map(unsigned);
                let is_current = !row.get::<_, Option<bool>>(8).unwrap_or(true);
                fed(&client, warehouse, position, settled, is_current).await?
            }
        };
        *session = Some((client, identity.clone()));
        let epoch = row.get(1);
        let fed_known = match &fed {
            Ok(fed) if fed.is_current => Some((fed.height, at)),
            Ok(_) | Err(_) => last.as_ref().and_then(|last| last.fed_known),
        };
        let networks = Arc::new(networks);
        Ok(Seen { identity, at, snapshot, height, epoch, last_score, chains, readable, fed, fed_known, networks })
    }
}

/// Asks ClickHouse whether it has a position of this database; the reason if it cannot be used.
/// `settled` is the confirmed attempt, if no later one has begun and no rows are missing.
async fn fed(
    client: &Client,
    warehouse: &Warehouse,
    position: String,
    settled: Option<u64>,
    is_current: bool,
) -> Result<Result<Fed, String>, SidecarError> {
    let (identity, remembered) = identify(client).await?;
    let marks = match warehouse.marks(&identity.source_id(), &position).await {
        Ok(marks) => marks,
        Err(error) => return Ok(Err(error)),
    };
    let mut standing = marks.standing(&identity, &remembered);
    if matches!(standing, Standing::WentBack { .. }) {
        // A pass may have begun between the two questions.
        let (identity, remembered) = identify(client).await?;
        standing = marks.standing(&identity, &remembered);
    }
    Ok(match standing {
        Standing::Own | Standing::Upgraded => {
            let owner = marks.sources.iter().max_by_key(|source| source.attempt);
            match owner.filter(|_| marks.has_position || standing == Standing::Upgraded) {
                Some(owner) => Ok(Fed {
                    height: Height::of(&position)?,
                    position,
                    attempt: (owner.source_id.clone(), owner.attempt),
                    is_settled: settled == Some(owner.attempt),
                    is_current,
                }),
                None => Err("ClickHouse does not have the position that the feed has confirmed".to_owned()),
            }
        }
        Standing::WentBack { .. } => Err("ClickHouse has seen passes that PostgreSQL does not remember".to_owned()),
        Standing::Replaced { .. } => Err("the tables in ClickHouse are those of an earlier database".to_owned()),
        Standing::Foreign { owner } => {
            Err(format!("the tables in ClickHouse hold the transactions of database {:?}", owner.database))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: [Topic; 1] = [Topic::Transfers];

    /// Observations at heights, a second apart, with whether transfers had changed since the one
    /// before.
    fn seen(observations: &[(u64, bool)]) -> (Instant, Seen) {
        let start = Instant::now();
        let at = |index: usize| start + Duration::from_secs(index as u64);
        let last = observations.len() - 1;
        let mut chain = Chain::begin(Height(observations[0].0));
        for (index, (height, has_changed)) in observations.iter().enumerate().skip(1) {
            if *has_changed {
                chain.break_off(at(index - 1), Height(*height));
            }
        }
        let seen = Seen {
            identity: Identity::new(1, 1, 1),
            at: at(last),
            snapshot: String::new(),
            height: Height(observations[last].0),
            epoch: 0,
            last_score: 0,
            chains: [(Topic::Transfers, chain.clone()), (Topic::TokenTransfers, chain)].into(),
            readable: BTreeMap::new(),
            fed: Err(String::new()),
            fed_known: None,
            networks: Arc::default(),
        };
        (start, seen)
    }

    #[test]
    fn an_answer_is_as_new_as_the_last_observation_before_a_change() {
        let (start, seen) = seen(&[(10, true), (12, false), (15, true), (18, false)]);
        let true_at = |height| seen.true_at(Height(height), &TOPICS).map(|at| (at - start).as_secs());
        assert_eq!(true_at(9), None, "older than everything that was observed");
        assert_eq!((true_at(10), true_at(11), true_at(12), true_at(14)), (Some(1), Some(1), Some(1), Some(1)));
        assert_eq!((true_at(15), true_at(16), true_at(18), true_at(99)), (Some(3), Some(3), Some(3), Some(3)));
        assert_eq!(seen.true_at(Height(16), &[Topic::Transfers, Topic::Scores]), None, "scores were not observed");
        assert!(seen.reaches(Height(15), Height(18), &TOPICS) && !seen.reaches(Height(14), Height(15), &TOPICS));
        assert!(!seen.reaches(Height(15), Height(19), &TOPICS), "the wanted snapshot has not been observed");
        assert!(seen.reaches(Height(19), Height(19), &TOPICS));
    }

    #[test]
    fn clickhouse_is_as_new_as_the_last_time_at_which_nothing_was_left_to_feed() {
        let (start, mut seen) = seen(&[(10, true), (12, true), (15, true)]);
        let fed = |height| Fed {
            position: String::new(),
            height: Height(height),
            attempt: (String::new(), 1),
            is_settled: true,
            is_current: false,
        };
        let age = |seen: &Seen, height| seen.fed_at(&fed(height)).map(|at| (at - start).as_secs());
        assert_eq!((age(&seen, 12), age(&seen, 5)), (Some(1), None));
        seen.fed_known = Some((Height(5), seen.at));
        assert_eq!((age(&seen, 5), age(&seen, 12), age(&seen, 4)), (Some(2), Some(2), None));
    }

    #[test]
    fn facts_that_a_reader_may_not_read_are_not_readable() {
        let (_, mut seen) = seen(&[(1, true)]);
        assert!(!seen.is_readable(&TOPICS));
        seen.readable = [(Topic::Transfers, true), (Topic::TokenTransfers, false)].into();
        assert!(seen.is_readable(&TOPICS) && !seen.is_readable(&[Topic::Transfers, Topic::TokenTransfers]));
    }
}
