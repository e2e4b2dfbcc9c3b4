//! The choice of a store: by what it may answer, and by the time that it is expected to take. Owns
//! the measured times.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arx_core::analytics::{Parameter, QueryId, Request, RequestError};
use serde::Serialize;
use utoipa::ToSchema;

/// Weight of a new measurement.
const WEIGHT: f64 = 0.3;

/// Time in which a measurement loses half of its weight against the expectation: a store that was
/// slow is tried again.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// A store that answers queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    PostgreSql,
    ClickHouse,
}

impl Store {
    pub(crate) const ALL: [Self; 2] = [Self::ClickHouse, Self::PostgreSql];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|store| store.name() == name)
    }

    /// Reads the demand for one store.
    ///
    /// # Errors
    /// [`RequestError::Value`] for a name that no store has.
    pub(super) fn wanted(name: &str) -> Result<Self, RequestError> {
        Self::named(name).ok_or_else(|| RequestError::Value {
            name: "store",
            expected: "postgresql or clickhouse",
            value: name.chars().take(60).collect(),
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::ClickHouse => "clickhouse",
        }
    }
}

/// Key of a measured time: ranges of similar length take similar times.
type Key = (QueryId, Store, u32);

#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    at: Instant,
}

/// Measured times.
#[derive(Debug, Default)]
pub(super) struct Latencies(Mutex<HashMap<Key, Measured>>);

fn key(request: &Request, store: Store) -> Key {
    let days = request.arguments.days().unwrap_or(0).unsigned_abs();
    (request.query.id, store, u64::BITS - days.leading_zeros())
}

/// The expectation without measurements, in seconds. PostgreSQL reads the rows of the range, or of
/// a wallet by its index; ClickHouse has the cost of a request, and reads much faster.
fn expectation(request: &Request, store: Store) -> f64 {
    let days = request.arguments.days().unwrap_or(0) as f64;
    let is_of_wallet = request.query.parameters.contains(&Parameter::Address);
    match (store, is_of_wallet) {
        (Store::ClickHouse, _) => 0.015 + days * 5e-5,
        (Store::PostgreSql, true) => 0.005 + days * 1e-5,
        (Store::PostgreSql, false) => 0.005 + days * 5e-3,
    }
}

impl Latencies {
    /// Returns the time that an answer is expected to take.
    pub(super) fn expected(&self, request: &Request, store: Store, now: Instant) -> Duration {
        let expectation = expectation(request, store);
        let measured = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key(request, store)).copied();
        let seconds = measured.map_or(expectation, |measured| {
            let age = now.saturating_duration_since(measured.at).as_secs_f64();
            let weight = 0.5_f64.powf(age / HALF_LIFE.as_secs_f64());
            expectation + (measured.seconds - expectation) * weight
        });
        Duration::from_secs_f64(seconds.max(0.0))
    }

    /// Takes a measurement; that of a store that gave no answer is the time limit.
    pub(super) fn record(&self, request: &Request, store: Store, took: Duration, now: Instant) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = took.as_secs_f64();
        let entry = measured.entry(key(request, store)).or_insert(Measured { seconds, at: now });
        // A bad time counts at once, so that the next request goes elsewhere.
        entry.seconds =
            if seconds > 4.0 * entry.seconds { seconds } else { entry.seconds + WEIGHT * (seconds - entry.seconds) };
        entry.at = now;
    }
}

/// A store as a request sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Candidate {
    pub(crate) store: Store,
    /// The store may answer.
    pub(crate) eligible: bool,
    /// The store is asked first.
    pub(crate) chosen: bool,
    /// Why it may, or may not.
    pub(crate) reason: String,
    /// Exactness of its answer.
    pub(crate) exactness: String,
    /// Snapshot of PostgreSQL that its data has.
    pub(crate) snapshot: Option<String>,
    /// Age of its data; absent if that is not known.
    pub(crate) age_seconds: Option<f64>,
    pub(crate) expected_milliseconds: f64,
}

/// Returns the eligible stores, the one that is expected to be fastest first.
pub(super) fn order(candidates: &mut [Candidate]) -> Vec<Store> {
    let mut eligible: Vec<(Store, f64)> = candidates
        .iter()
        .filter(|candidate| candidate.eligible)
        .map(|candidate| (candidate.store, candidate.expected_milliseconds))
        .collect();
    eligible.sort_by(|one, other| one.1.total_cmp(&other.1));
    let first = eligible.first().map(|(store, _)| *store);
    for candidate in candidates {
        candidate.chosen = Some(candidate.store) == first;
    }
    eligible.into_iter().map(|(store, _)| store).collect()
}

#[cfg(test)]
mod tests {
    use arx_core::address::Network;
    use chrono::NaiveDate;
    use serde_json::Value;

    use super::*;

    fn request(days: u32) -> Request {
        let from = NaiveDate::from_ymd_opt(2020, 1, 1).unwrap();
        let to = from + chrono::Days::new(u64::from(days));
        let parameters = [("network", "ethereum".to_owned()), ("from", from.to_string()), ("to", to.to_string())];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), Value::String(value)));
        Request::parse("network_totals", parameters, to, |text| Ok::<_, RequestError>(Network::parse(text)?)).unwrap()
    }

    fn first(latencies: &Latencies, request: &Request, now: Instant) -> Store {
        *Store::ALL.iter().min_by_key(|store| latencies.expected(request, **store, now)).unwrap()
    }

    #[test]
    fn long_ranges_go_to_clickhouse_until_measurements_say_otherwise() {
        let (latencies, now) = (Latencies::default(), Instant::now());
        assert_eq!(first(&latencies, &request(1), now), Store::PostgreSql);
        let long = request(365);
        assert_eq!(first(&latencies, &long, now), Store::ClickHouse);
        latencies.record(&long, Store::ClickHouse, Duration::from_secs(4), now);
        assert_eq!(first(&latencies, &long, now), Store::PostgreSql, "a slow store is left alone");
        assert_eq!(first(&latencies, &request(3000), now), Store::ClickHouse, "other ranges are not concerned");
        let later = now + 10 * HALF_LIFE;
        assert_eq!(first(&latencies, &long, later), Store::ClickHouse, "and tried again");
    }

    #[test]
    fn a_measurement_moves_the_expectation_a_part_of_the_way() {
        let (latencies, now, request) = (Latencies::default(), Instant::now(), request(10));
        latencies.record(&request, Store::PostgreSql, Duration::from_millis(100), now);
        latencies.record(&request, Store::PostgreSql, Duration::from_millis(200), now);
        assert_eq!(latencies.expected(&request, Store::PostgreSql, now).as_millis(), 130);
        latencies.record(&request, Store::PostgreSql, Duration::from_secs(2), now);
        assert_eq!(latencies.expected(&request, Store::PostgreSql, now).as_millis(), 2000);
    }
}
