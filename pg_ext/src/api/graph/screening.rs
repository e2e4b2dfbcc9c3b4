//! The exposure of thousands of wallets at once.

use arx_core::address::Address;
use arx_core::graph::exposure::{Exposed, Part, exposures, whole_units};
use arx_core::graph::trace::Flow;
use arx_core::graph::{SearchError, U256};
use arx_core::label::{LabelKind, SANCTIONS};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::exposure::{Asked, Limits, fewer_hops};
use super::labels::{LookError, Stopping};
use super::question::{Scope, ScopeArguments, or_report};
use crate::error::SqlError;
use crate::numeric::SqlNumeric;
use crate::spi::registered_network;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn screen_wallets(
    addresses: Option<Vec<Option<String>>>,
    network: Option<&str>,
    direction: default!(Option<&str>, "'both'"),
    max_hops: default!(Option<i32>, 3),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    max_fan_out: default!(Option<i64>, 1000),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(address, Option<String>),
            name!(known, bool),
            name!(category, Option<String>),
            name!(kind, Option<String>),
            name!(received, Option<SqlNumeric>),
            name!(sent, Option<SqlNumeric>),
            name!(sanctions_in, Option<SqlNumeric>),
            name!(sanctions_out, Option<SqlNumeric>),
            name!(illicit_direct_in, Option<SqlNumeric>),
            name!(illicit_direct_out, Option<SqlNumeric>),
            name!(illicit_share_in, Option<f64>),
            name!(illicit_share_out, Option<f64>),
            name!(service_share_in, Option<f64>),
            name!(service_share_out, Option<f64>),
            name!(unresolved_share_in, Option<f64>),
            name!(unresolved_share_out, Option<f64>),
            name!(worst_category, Option<String>),
            name!(nearest_hop, Option<i32>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let addresses = addresses.ok_or_else(|| SqlError::null_argument("addresses"))?;
    let network = registered_network(network.ok_or_else(|| SqlError::null_argument("network"))?)?;
    let limits = Limits { direction, max_hops, max_fan_out };
    let scope = ScopeArguments { asset, since, until, min_value: None, include_failed: Some(false), max_time };
    let asked = Asked::parse(network, limits, scope)?;
    let screening = Screening::of(asked, addresses)?;
    let rows = (0..screening.subjects.len()).map(move |place| {
        let Some(Subject { address, outcome }) = screening.subjects.get(place) else {
            or_report(Err(SqlError::corrupt("a wallet was lost")))
        };
        let wallet = match outcome {
            Outcome::Wallet(place) => screening.wallets.get(*place),
            Outcome::Unknown | Outcome::Malformed(_) => None,
        };
        let (received, sent) = (wallet.and_then(|one| one.received.as_ref()), wallet.and_then(|one| one.sent.as_ref()));
        let value =
            |side: Option<&Side>, of: fn(&Side) -> U256| side.and_then(|side| screening.asked.scope.value(of(side)));
        let share = |side: Option<&Side>, of: fn(&Side) -> f64| side.and_then(|side| side.share(of(side)));
        let worst = [received, sent].into_iter().flatten().filter_map(|side| side.worst).max_by(|one, other| {
            // sanctions before all, then by amount
            one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
        });
        let worst = worst.and_then(|(_, _, mark)| screening.labels.category(mark)).map(|one| one.name.clone());
        let nearest = [received, sent].into_iter().flatten().filter_map(|side| side.nearest).min();
        let own = wallet.and_then(|one| one.own).and_then(|mark| screening.labels.category(mark));
        let reason = match outcome {
            Outcome::Wallet(_) => wallet.and_then(|one| one.reason.clone()),
            Outcome::Unknown => Some("wallet has no transaction".to_owned()),
            Outcome::Malformed(what) => Some(what.clone()),
        };
        let complete = match outcome {
            Outcome::Wallet(_) => reason.is_none(),
            Outcome::Unknown => true,
            Outcome::Malformed(_) => false,
        };
        (
            address.clone(),
            wallet.is_some(),
            own.map(|one| one.name.clone()),
            own.map(|one| one.kind.as_str().to_owned()),
            value(received, |side| side.total),
            value(sent, |side| side.total),
            value(received, |side| whole_units(side.sanctions)),
            value(sent, |side| whole_units(side.sanctions)),
            value(received, |side| side.illicit_direct),
            value(sent, |side| side.illicit_direct),
            share(received, |side| side.illicit),
            share(sent, |side| side.illicit),
            share(received, |side| side.services),
            share(sent, |side| side.services),
            share(received, |side| side.unresolved),
            share(sent, |side| side.unresolved),
            worst,
            nearest.map(u32::cast_signed),
            complete,
            reason,
        )
    });
    Ok(TableIterator::new(rows))
}

/// What was asked about, and what it is.
struct Subject {
    address: Option<String>,
    outcome: Outcome,
}

enum Outcome {
    /// The place of a wallet among those that are looked at.
    Wallet(usize),
    /// It has no transaction.
    Unknown,
    /// It is no address of the network.
    Malformed(String),
}

/// A wallet that is looked at.
#[derive(Default)]
struct Screened {
    /// Of its own label.
    own: Option<u32>,
    received: Option<Side>,
    sent: Option<Side>,
    reason: Option<String>,
}

/// What came, or what went.
#[derive(Debug, Clone, Default)]
struct Side {
    total: U256,
    sanctions: f64,
    illicit_direct: U256,
    illicit: f64,
    services: f64,
    /// Came from or went to wallets with too many counterparties to be looked through.
    unresolved: f64,
    /// Whether sanctioned, how much, and of which label.
    worst: Option<(bool, f64, u32)>,
    nearest: Option<u32>,
}

impl Side {
    fn of(exposed: &Exposed, labels: &Stopping, followed: bool) -> Self {
        let mut side = Self { total: exposed.total.value, ..Self::default() };
        let mut by_mark: Vec<f64> = vec![0.0; labels.categories.len()];
        for (part, direct) in &exposed.direct {
            let Part::Mark(mark) = *part else { continue };
            let Some(category) = labels.category(mark) else { continue };
            if category.kind == LabelKind::Illicit {
                // a part of a total that did not overflow
                side.illicit_direct = side.illicit_direct.saturating_add(direct.value);
                side.nearest = Some(1);
            }
            if !followed && let Some(sum) = by_mark.get_mut(mark as usize) {
                *sum += direct.value.as_f64();
            }
        }
        for part in &exposed.parts {
            if part.part == Part::FanOut {
                side.unresolved += part.value;
            }
            let Part::Mark(mark) = part.part else { continue };
            let illicit = labels.category(mark).is_some_and(|category| category.kind == LabelKind::Illicit);
            if illicit && part.value > 0.0 {
                side.nearest = Some(side.nearest.map_or(part.hops, |nearest| nearest.min(part.hops)));
            }
            if let Some(sum) = by_mark.get_mut(mark as usize) {
                *sum += part.value;
            }
        }
        for (mark, value) in (0..).zip(by_mark).filter(|(_, value)| *value > 0.0) {
            let Some(category) = labels.category(mark) else { continue };
            let sanctioned = category.name == SANCTIONS;
            if sanctioned {
                side.sanctions += value;
            }
            if category.kind == LabelKind::Service {
                side.services += value;
                continue;
            }
            side.illicit += value;
            if side.worst.is_none_or(|(known, most, _)| (sanctioned, value) > (known, most)) {
                side.worst = Some((sanctioned, value, mark));
            }
        }
        side
    }

    fn share(&self, part: f64) -> Option<f64> {
        // rounding may make a whole a little more
        (self.total > U256::ZERO).then(|| (part / self.total.as_f64()).min(1.0))
    }
}

/// Wallets that are looked at together.
struct Screening {
    asked: Asked,
    labels: Stopping,
    subjects: Vec<Subject>,
    wallets: Vec<Screened>,
    numbers: Vec<u32>,
}

impl Screening {
    fn of(asked: Asked, addresses: Vec<Option<String>>) -> Result<Self, SqlError> {
        let labels = Stopping::load(&asked.scope.ready.graph(), &asked.scope.network)?;
        let mut screening = Self {
            asked,
            labels,
            subjects: Vec::with_capacity(addresses.len()),
            wallets: Vec::new(),
            numbers: Vec::new(),
        };
        for address in addresses {
            check_for_interrupts!();
            screening.add(address)?;
        }
        let all: Vec<usize> = (0..screening.numbers.len()).collect();
        for (_, flow) in screening.asked.flows() {
            screening.look(&all, flow, screening.asked.max_hops)?;
        }
        Ok(screening)
    }

    fn add(&mut self, address: Option<String>) -> Result<(), SqlError> {
        let Scope { ready, network, .. } = &self.asked.scope;
        let Some(text) = address else {
            let outcome = Outcome::Malformed("address is null".to_owned());
            self.subjects.push(Subject { address, outcome });
            return Ok(());
        };
        let (address, outcome) = match Address::parse(&text, network) {
            Err(error) => (text, Outcome::Malformed(error.to_string())),
            Ok(address) => {
                let graph = ready.graph();
                let number = graph.wallet(network.name(), address.as_str())?.filter(|number| graph.is_active(*number));
                let outcome = match number {
                    None => Outcome::Unknown,
                    Some(number) => {
                        self.numbers.push(number);
                        let own = arx_core::graph::exposure::Marks::mark(&self.labels, number);
                        self.wallets.push(Screened { own, ..Screened::default() });
                        Outcome::Wallet(self.wallets.len() - 1)
                    }
                };
                (address.into_string(), outcome)
            }
        };
        self.subjects.push(Subject { address: Some(address), outcome });
        Ok(())
    }

    /// Looks at wallets together; if memory does not suffice for that, at one half and then the other; at one alone less far.
    fn look(&mut self, places: &[usize], flow: Flow, max_hops: u32) -> Result<(), SqlError> {
        if places.is_empty() {
            return Ok(());
        }
        let wallets: Vec<u32> = places.iter().filter_map(|place| self.numbers.get(*place)).copied().collect();
        let terms = self.asked.terms(flow, max_hops, false);
        let Scope { ready, deadline, .. } = &mut self.asked.scope;
        let found = match exposures(&ready.graph(), &wallets, &terms, &mut self.labels, deadline) {
            Ok(found) => found,
            Err(LookError::Search(SearchError::Memory { .. })) if places.len() > 1 => {
                let (first, second) = places.split_at(places.len() / 2);
                self.look(first, flow, max_hops)?;
                return self.look(second, flow, max_hops);
            }
            Err(LookError::Search(SearchError::Memory { .. })) if max_hops > 0 => {
                return self.look(places, flow, max_hops - 1);
            }
            Err(error) => return Err(error.into()),
        };
        let fewer = (max_hops < self.asked.max_hops).then(|| fewer_hops(max_hops));
        let reason = found.halted.map(|halt| halt.name().to_owned()).or(fewer);
        for (place, exposed) in places.iter().zip(&found.found) {
            let side = Side::of(exposed, &self.labels, found.halted.is_none() && max_hops > 0);
            if let Some(wallet) = self.wallets.get_mut(*place) {
                wallet.reason = wallet.reason.take().or_else(|| reason.clone());
                match flow {
                    Flow::Backward => wallet.received = Some(side),
                    Flow::Forward => wallet.sent = Some(side),
                }
            }
        }
        Ok(())
    }
}
