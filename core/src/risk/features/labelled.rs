//! Labelled wallets of a graph, as far as features depend on labels.

use super::ExtractError;
use super::contacts::count_contacts;
use crate::graph::{Graph, Interrupt, MemoryBudget, WalletId};
use crate::label::LabelKind;

const ILLICIT: u8 = 1;
const SERVICE: u8 = 2;

/// Illicit wallets that must be known for zero exposure to be evidence.
pub const MIN_ILLICIT: usize = 100;

/// Services that must be known for zero exposure to be evidence.
pub const MIN_SERVICES: usize = 20;

/// The illicit wallets and the services of a graph.
#[derive(Debug, Clone, Default)]
pub struct LabelledWallets {
    /// By wallet id.
    marks: Vec<u8>,
    illicit: Vec<WalletId>,
    services: Vec<WalletId>,
}

impl LabelledWallets {
    /// Makes room for the labels of a number of wallets; `None` beyond the memory allowed.
    #[must_use]
    pub fn new(wallets: u32, memory: &mut MemoryBudget) -> Option<Self> {
        memory.take(wallets as usize).then(|| Self { marks: vec![0; wallets as usize], ..Self::default() })
    }

    /// Makes room for more wallets.
    pub fn grow(&mut self, wallets: u32) {
        self.marks.resize(self.marks.len().max(wallets as usize), 0);
    }

    /// Labels a wallet; neutral labels are ignored.
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

    /// Returns `true` for a wallet labelled illicit.
    #[inline]
    #[must_use]
    pub fn is_illicit(&self, wallet: WalletId) -> bool {
        self.has(wallet, ILLICIT)
    }

    /// Returns `true` for a wallet labelled as a service.
    #[inline]
    #[must_use]
    pub fn is_service(&self, wallet: WalletId) -> bool {
        self.has(wallet, SERVICE)
    }

    /// Returns the wallets labelled illicit, in the order in which they were labelled.
    #[must_use]
    pub fn illicit(&self) -> &[WalletId] {
        &self.illicit
    }

    #[inline]
    fn has(&self, wallet: WalletId, mark: u8) -> bool {
        self.marks.get(wallet.index()).is_some_and(|marks| marks & mark != 0)
    }
}

/// Classes with enough labelled wallets for zero exposure to be evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LabelSufficiency {
    /// At least [`MIN_ILLICIT`] illicit wallets.
    pub illicit: bool,
    /// At least [`MIN_SERVICES`] services.
    pub services: bool,
}

impl LabelSufficiency {
    /// Counts the labelled wallets with a transfer before a time: others cannot be counterparties.
    ///
    /// # Errors
    /// [`ExtractError::Stopped`], [`ExtractError::Damaged`].
    pub fn measure(
        graph: &Graph<'_>,
        until: Option<i64>,
        labelled: &LabelledWallets,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let mut pace = 0;
        let mut suffices = |wallets: &[WalletId], needed: usize| -> Result<bool, ExtractError> {
            let mut active = 0;
            for wallet in wallets {
                let contacts = count_contacts(graph, *wallet, until, interrupt, &mut pace)?;
                active += usize::from(contacts.fan_in + contacts.fan_out > 0);
                if active >= needed {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        Ok(Self {
            illicit: suffices(&labelled.illicit, MIN_ILLICIT)?,
            services: suffices(&labelled.services, MIN_SERVICES)?,
        })
    }
}
