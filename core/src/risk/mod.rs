//! Risk of a wallet: an additive scorecard over its behaviour and its counterparties.
//!
//! [`features`] turns a wallet's history into numbers, and a [`scorecard`] turns numbers into
//! points that add up to a score from 0 (clean) to 100. [`judge`] gives precedence to labels and
//! overrides of the wallet itself, by the [`Calibration`] of its network; [`reasons`] explains a
//! score factor by factor and [`topic_reasons`] topic by topic, and [`EvidenceIndex`] finds the
//! transfers that prove a value. [`training`] makes samples of labelled wallets, [`fit`] fits
//! scorecards to samples, and a [`study`] drafts and measures scorecards. [`affected_wallets`] is
//! the rule by which stored scores are refreshed.
//!
//! Nothing here may depend on the calendar: no absolute time, block number or gas price is read.

mod affected;
mod assessment;
mod calibration;
mod conflicts;
mod evidence;
pub mod features;
pub mod fit;
mod monotone;
pub mod scorecard;
pub mod study;
mod topics;
pub mod training;

pub use affected::affected_wallets;
pub use assessment::{
    Judgement, Override, OwnLabel, Reason, RiskState, WalletFacts, default_scorecard, format_value, heaviest_reasons,
    judge, reasons,
};
pub use calibration::{Calibration, CalibrationError, Calibrations, DEFAULT_PREVALENCE};
pub use conflicts::{CoverageConflict, coverage_conflicts};
pub use evidence::{Evidence, EvidenceIndex, MAX_EVIDENCE};
pub use monotone::Monotone;
pub use topics::{TopicReason, topic_reasons};
