//! Risk of a wallet: an additive scorecard over facts about the wallet and its direct counterparties.
//!
//! [`WalletFacts`] is what is known, [`Model`] is the scorecard (a versioned JSON document, one compiled in), and
//! [`Model::assess`] maps facts to a score from 0 (clean) to 100 whose factors add up to it exactly. Nothing here may see the
//! calendar: no absolute time, block number or price of gas is a fact.

mod assess;
mod facts;
mod model;

pub use assess::{Assessment, FactorPoints, RiskState};
pub use facts::{DirectLabel, Feature, PeerGroup, WalletFacts};
pub use model::{Band, Bin, Factor, Model, ModelError, Score};
