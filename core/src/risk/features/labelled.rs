//! Which wallets are labelled, as far as features look at labels.

use crate::graph::{MemoryBudget, Wallet};
use crate::label::LabelKind;

const ILLICIT: u8 = 1;
const SERVICE: u8 = 2;

/// With fewer illicit wallets known, that none is met says nothing.
pub const ENOUGH_ILLICIT: usize = 100;

/// The same, of services.
pub const ENOUGH_SERVICES: usize = 20;

/// The labels of a graph's wallets.
#[derive(Debug, Clone, Default)]
pub struct Labelled {
    marks: Vec<u8>,
    illicit: Vec<Wallet>,
    services: usize,
}

impl Labelled {
    /// For so many wallets, none labelled yet; `None` beyond the memory allowed.
    #[must_use]
    pub fn new(wallets: u32, memory: &mut MemoryBudget) -> Option<Self> {
        memory.take(wallets as usize).then(|| Self { marks: vec![0; wallets as usize], ..Self::default() })
    }

    /// Makes room for wallets that are new.
    pub fn grow(&mut self, wallets: u32) {
        self.marks.resize(self.marks.len().max(wallets as usize), 0);
    }

    /// Labels a wallet; neutral labels are not looked at.
    pub fn mark(&mut self, wallet: Wallet, kind: LabelKind) {
        let Some(mark) = self.marks.get_mut(wallet as usize) else { return };
        match kind {
            LabelKind::Illicit if *mark & ILLICIT == 0 => {
                *mark |= ILLICIT;
                self.illicit.push(wallet);
            }
            LabelKind::Service if *mark & SERVICE == 0 => {
                *mark |= SERVICE;
                self.services += 1;
            }
            LabelKind::Illicit | LabelKind::Service | LabelKind::Neutral => {}
        }
    }

    /// Whether a wallet is labelled illicit.
    #[inline]
    #[must_use]
    pub fn is_illicit(&self, wallet: Wallet) -> bool {
        self.has(wallet, ILLICIT)
    }

    /// Whether a wallet is labelled as a service.
    #[inline]
    #[must_use]
    pub fn is_service(&self, wallet: Wallet) -> bool {
        self.has(wallet, SERVICE)
    }

    /// Those labelled illicit, in the order in which they were.
    #[must_use]
    pub fn illicit(&self) -> &[Wallet] {
        &self.illicit
    }

    /// Whether so many illicit wallets are known that to meet none says something.
    #[must_use]
    pub const fn illicit_enough(&self) -> bool {
        self.illicit.len() >= ENOUGH_ILLICIT
    }

    /// Whether so many services are known that to meet none says something.
    #[must_use]
    pub const fn services_enough(&self) -> bool {
        self.services >= ENOUGH_SERVICES
    }

    #[inline]
    fn has(&self, wallet: Wallet, mark: u8) -> bool {
        self.marks.get(wallet as usize).is_some_and(|marks| marks & mark != 0)
    }
}
