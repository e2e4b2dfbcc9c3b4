//! Which wallets are labelled, as far as features look at labels.

use super::ExtractError;
use super::contacts::contacts_of;
use crate::graph::{Graph, Interrupt, MemoryBudget, WalletId};
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
    illicit: Vec<WalletId>,
    services: Vec<WalletId>,
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
    pub fn mark(&mut self, wallet: WalletId, kind: LabelKind) {
        let Some(mark) = self.marks.get_mut(wallet.index()) else { return };
        match kind {
            LabelKind::Illicit if *mark & ILLICIT == 0 => {
                *mark |= ILLICIT;
                self.illicit.push(wallet);
            }
            LabelKind::Service if *mark & SERVICE == 0 => {
                *mark |= SERVICE;
                self.services.push(wallet);
            }
            LabelKind::Illicit | LabelKind::Service | LabelKind::Neutral => {}
        }
    }

    /// Whether a wallet is labelled illicit.
    #[inline]
    #[must_use]
    pub fn is_illicit(&self, wallet: WalletId) -> bool {
        self.has(wallet, ILLICIT)
    }

    /// Whether a wallet is labelled as a service.
    #[inline]
    #[must_use]
    pub fn is_service(&self, wallet: WalletId) -> bool {
        self.has(wallet, SERVICE)
    }

    /// Those labelled illicit, in the order in which they were.
    #[must_use]
    pub fn illicit(&self) -> &[WalletId] {
        &self.illicit
    }

    #[inline]
    fn has(&self, wallet: WalletId, mark: u8) -> bool {
        self.marks.get(wallet.index()).is_some_and(|marks| marks & mark != 0)
    }
}

/// Whether so many wallets are labelled that to meet none of them says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enough {
    /// Illicit ones: [`ENOUGH_ILLICIT`].
    pub illicit: bool,
    /// Services: [`ENOUGH_SERVICES`].
    pub services: bool,
}

impl Enough {
    /// Counts those that dealt with somebody before a time: no other is ever met.
    ///
    /// # Errors
    /// [`ExtractError::Stopped`], [`ExtractError::Damaged`].
    pub fn of(
        graph: &Graph<'_>,
        until: Option<i64>,
        labelled: &Labelled,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let mut pace = 0;
        let mut reached = |wallets: &[WalletId], enough: usize| -> Result<bool, ExtractError> {
            let mut found = 0;
            for wallet in wallets {
                let contacts = contacts_of(graph, *wallet, until, interrupt, &mut pace)?;
                found += usize::from(contacts.fan_in + contacts.fan_out > 0);
                if found >= enough {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        Ok(Self {
            illicit: reached(&labelled.illicit, ENOUGH_ILLICIT)?,
            services: reached(&labelled.services, ENOUGH_SERVICES)?,
        })
    }
}
