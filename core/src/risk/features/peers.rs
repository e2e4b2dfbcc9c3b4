//! Counterparties: how many there are, how much each counts, and who they deal with.

use super::ExtractError;
use super::contacts::Contacts;
use super::own::Dealing;
use super::surroundings::{Scene, Surroundings};
use super::values::ratio;
use crate::graph::{Graph, Interrupt, WalletId};

/// Counterparties whose surroundings are looked at on each side: with more, the first by address.
pub const MOST_PEERS: usize = 20_000;

/// Logarithms are added up as whole numbers of this fraction, so that their order does not matter.
const FRACTION: f64 = 1_048_576.0;

/// Logarithms kept.
const KEPT: usize = 2048;

/// One counterparty on one side.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub wallet: WalletId,
    /// Units.
    pub value: u128,
    pub transfers: u32,
}

/// The counterparties of one side, by number.
#[derive(Debug, Default)]
pub struct Peers {
    keys: Vec<u64>,
    pub list: Vec<Peer>,
    chosen: Vec<(u64, WalletId)>,
}

/// What is told about the counterparties of one side; NaN where there are none.
#[derive(Debug, Clone, Copy)]
pub struct Concentration {
    pub distinct: f64,
    /// By transfers.
    pub per_transfer: f64,
    /// The largest by value, of all value.
    pub top_share: f64,
    /// The largest by transfers, of all transfers.
    pub top_count_share: f64,
}

/// What is told about who they deal with; NaN where there are none.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    pub fan_in: f64,
    pub fan_out: f64,
    pub largest_fan_in: f64,
    pub single_share: f64,
    pub source_share: f64,
    pub hub_share: f64,
    pub hub_value_share: f64,
    pub illicit: f64,
    pub illicit_value_share: f64,
    pub service_value_share: f64,
    pub paying_illicit: f64,
    pub paid_by_illicit: f64,
    /// Counterparties that were not looked at.
    pub left_out: usize,
}

impl Peers {
    /// Gathers those of one side. O(n log n).
    pub fn gather(&mut self, dealings: &[Dealing]) {
        self.keys.clear();
        // there are at most half a million
        self.keys.extend((0_u64..).zip(dealings).map(|(place, one)| (u64::from(one.peer) << 32) | place));
        self.keys.sort_unstable();
        self.list.clear();
        for run in self.keys.chunk_by(|a, b| a >> 32 == b >> 32) {
            let value = run.iter().filter_map(|key| dealings.get((key & u64::from(u32::MAX)) as usize));
            let value = value.fold(0_u128, |sum, one| sum.saturating_add(one.value));
            if let Some(key) = run.first() {
                self.list.push(Peer { wallet: (key >> 32) as WalletId, value, transfers: run.len() as u32 });
            }
        }
    }

    /// How much each counts.
    pub fn concentration(&self, total: f64) -> Concentration {
        let transfers: u64 = self.list.iter().map(|one| u64::from(one.transfers)).sum();
        let (mut top, mut most) = (0_u128, 0_u32);
        for one in &self.list {
            top = top.max(one.value);
            most = most.max(one.transfers);
        }
        let n = self.list.len() as f64;
        Concentration {
            distinct: n,
            per_transfer: ratio(n, transfers as f64),
            top_share: ratio(top as f64, total),
            top_count_share: ratio(f64::from(most), transfers as f64),
        }
    }

    /// How many are among those of the other side, too. O(n).
    pub fn shared(&self, other: &Self) -> usize {
        let mut others = other.list.iter().peekable();
        let is_shared = |one: &&Peer| {
            while others.next_if(|other| other.wallet < one.wallet).is_some() {}
            others.next_if(|other| other.wallet == one.wallet).is_some()
        };
        self.list.iter().filter(is_shared).count()
    }

    /// Who they deal with. What is illicit or a service is told of all of them, what is around them of [`MOST_PEERS`].
    pub fn around(
        &mut self,
        scene: &Scene<'_>,
        asking: WalletId,
        total: f64,
        surroundings: &Surroundings,
        logarithms: &Logarithms,
        (interrupt, pace): (&mut impl Interrupt, &mut usize),
    ) -> Result<Around, ExtractError> {
        let Scene { graph, labelled, .. } = *scene;
        let last = self.last_of_most(graph);
        let (mut seen, mut fan_in, mut fan_out, mut largest) = (0_u64, 0_u64, 0_u64, 0_u32);
        let (mut single, mut source, mut hubs, mut paying, mut paid) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
        let (mut hub_value, mut illicit_value, mut service_value, mut illicit) = (0_u128, 0_u128, 0_u128, 0_u64);
        for one in &self.list {
            if labelled.is_illicit(one.wallet) {
                illicit += 1;
                illicit_value = illicit_value.saturating_add(one.value);
            }
            if labelled.is_service(one.wallet) {
                service_value = service_value.saturating_add(one.value);
            }
            if last.is_some_and(|last| graph.order(one.wallet) > last) {
                continue;
            }
            let contacts: Contacts = surroundings.of(scene, one.wallet, asking, interrupt, pace)?;
            seen += 1;
            fan_in += logarithms.of(contacts.fan_in);
            fan_out += logarithms.of(contacts.fan_out);
            largest = largest.max(contacts.fan_in);
            single += u64::from(contacts.fan_in.saturating_add(contacts.fan_out) <= 1);
            source += u64::from(contacts.fan_in == 0);
            if contacts.is_hub() {
                hubs += 1;
                hub_value = hub_value.saturating_add(one.value);
            }
            paying += u64::from(contacts.illicit_receivers > 0);
            paid += u64::from(contacts.illicit_senders > 0);
        }
        let n = seen as f64;
        let share = |part: u64| ratio(part as f64, n);
        Ok(Around {
            fan_in: ratio(fan_in as f64 / FRACTION, n),
            fan_out: ratio(fan_out as f64 / FRACTION, n),
            largest_fan_in: if seen == 0 { f64::NAN } else { f64::from(largest) },
            single_share: share(single),
            source_share: share(source),
            hub_share: share(hubs),
            hub_value_share: ratio(hub_value as f64, total),
            illicit: if seen == 0 { f64::NAN } else { illicit as f64 },
            illicit_value_share: ratio(illicit_value as f64, total),
            service_value_share: ratio(service_value as f64, total),
            paying_illicit: share(paying),
            paid_by_illicit: share(paid),
            left_out: self.list.len() - seen as usize,
        })
    }

    /// The order of the last counterparty that is looked at, where there are too many.
    fn last_of_most(&mut self, graph: &Graph<'_>) -> Option<u64> {
        if self.list.len() <= MOST_PEERS {
            return None;
        }
        self.chosen.clear();
        self.chosen.extend(self.list.iter().map(|one| (graph.order(one.wallet), one.wallet)));
        Some(self.chosen.select_nth_unstable(MOST_PEERS - 1).1.0)
    }
}

/// Logarithms of counts, as whole numbers.
#[derive(Debug)]
pub struct Logarithms(Vec<u64>);

impl Default for Logarithms {
    fn default() -> Self {
        Self((0..KEPT as u32).map(logarithm).collect())
    }
}

impl Logarithms {
    /// `log2(1 + count)`.
    #[inline]
    fn of(&self, count: u32) -> u64 {
        self.0.get(count as usize).copied().unwrap_or_else(|| logarithm(count))
    }
}

fn logarithm(count: u32) -> u64 {
    libm::round(libm::log2(1.0 + f64::from(count)) * FRACTION) as u64
}
