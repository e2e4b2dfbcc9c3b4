//! Risk of a wallet: an additive scorecard over what the wallet does and whom it deals with.
//!
//! [`features`] turns a wallet's history into numbers, a [`scorecard`] turns numbers into points that add up to a score from 0 (clean) to 100,
//! [`judge`] lets a label or a decision on the wallet itself come first, and [`reasons`] says why. [`training`] makes samples of labelled
//! wallets, [`fit`] makes scorecards of samples, and a [`study`] tells how good they are. [`Dossier`] proves a value by transfers. Nothing here may see the calendar: no absolute
//! time, block number or price of gas is looked at.

mod affected;
mod assessment;
mod evidence;
pub mod features;
pub mod fit;
mod monotone;
pub mod scorecard;
pub mod study;
pub mod training;

pub use affected::affected_wallets;
pub use assessment::{Judgement, Known, Override, OwnLabel, Reason, RiskState, compiled_in, judge, reasons, shown};
pub use evidence::{Dossier, Evidence, MOST_SHOWN};
pub use monotone::Monotone;
