//! Scores every wallet of a graph read from files. The results equal those of `arx.score_wallets`
//! in a database that holds the same rows, bit for bit.

use std::io::Write;

use arx_core::graph::{Graph, MemoryBudget, Uninterrupted, WalletId};
use arx_core::label::LabelKind;
use arx_core::risk::features::{
    ContactCounts, Coverage, ExtractContext, ExtractError, Extractor, FeatureRow, HistoryCoverage, LabelSufficiency,
    LabelledWallets, NAMES,
};
use arx_core::risk::scorecard::{BoundScorecard, is_not_covered};
use arx_core::risk::{Calibration, WalletFacts, judge};

use super::output::OutputError;
use super::{FileLabels, MEMORY, RiskError};

/// Columns before the features.
const COLUMNS: [&str; 6] = ["address", "score", "probability", "band", "state", "coverage"];

/// Column after the features: the part that a partial score does not cover.
const REASON: &str = "reason";

/// Writes a CSV with the scores of wallets, and with their features if asked to. An undefined value
/// is an empty field, NaN if it is not covered.
pub(crate) struct ScoreWriter<'a> {
    pub(crate) scorecard: &'a BoundScorecard,
    pub(crate) labels: &'a FileLabels,
    pub(crate) calibration: Calibration,
    pub(crate) with_features: bool,
}

impl ScoreWriter<'_> {
    /// # Errors
    /// Errors of writing, of the graph, and of extracting features.
    pub(crate) fn write(
        &self,
        scoring: &mut Scoring<'_>,
        wallets: &[(&str, WalletId)],
        out: &mut dyn Write,
    ) -> Result<(), OutputError> {
        let mut csv = csv::Writer::from_writer(out);
        let features = if self.with_features { NAMES.as_slice() } else { &[] };
        csv.write_record(COLUMNS.iter().chain(features).chain([&REASON]))?;
        for (address, wallet) in wallets {
            let features = scoring.extract(*wallet)?;
            csv.write_record(self.record(address, *wallet, features.as_ref()))?;
        }
        Ok(csv.flush()?)
    }

    fn record(&self, address: &str, wallet: WalletId, features: Option<&(FeatureRow, Coverage)>) -> Vec<String> {
        let known = WalletFacts {
            label: self.labels.own.get(&wallet),
            override_: None,
            features: features.map(|(row, coverage)| (row, *coverage)),
        };
        let judged = judge(self.scorecard, &known, &self.calibration);
        let mut record = vec![
            address.to_owned(),
            judged.score.to_string(),
            judged.probability.map_or_else(String::new, |probability| probability.to_string()),
            judged.band.to_string(),
            judged.state.as_str().to_owned(),
            judged.coverage.to_string(),
        ];
        if self.with_features {
            record.extend((0..NAMES.len()).map(|index| {
                let value = features
                    .and_then(|(row, _)| row.get(index))
                    .filter(|value| !value.is_nan() || is_not_covered(**value));
                value.map_or_else(String::new, f64::to_string)
            }));
        }
        record.push(judged.missing.unwrap_or_default());
        record
    }
}

/// Returns the wallets that have a transaction with their addresses, ordered by address.
///
/// # Errors
/// [`RiskError::Damaged`].
pub(crate) fn wallets<'g>(graph: &'g Graph<'_>) -> Result<Vec<(&'g str, WalletId)>, RiskError> {
    let mut wallets = Vec::new();
    for wallet in graph.wallet_ids().filter(|wallet| graph.is_active(*wallet)) {
        let address = graph.address(wallet)?;
        wallets.push((address, wallet));
    }
    wallets.sort_unstable();
    Ok(wallets)
}

/// Extracts the features of one wallet at a time.
pub(crate) struct Scoring<'g> {
    graph: Graph<'g>,
    labelled: LabelledWallets,
    sufficiency: LabelSufficiency,
    contacts: ContactCounts,
    histories: HistoryCoverage,
    extractor: Extractor,
}

impl<'g> Scoring<'g> {
    /// Prepares extraction with these labels and statements of coverage. O(pairs of wallets).
    ///
    /// # Errors
    /// [`RiskError::Training`].
    pub(crate) fn new(
        graph: Graph<'g>,
        labels: &[(WalletId, LabelKind)],
        histories: HistoryCoverage,
    ) -> Result<Self, RiskError> {
        let mut memory = MemoryBudget::new(MEMORY);
        let mut labelled =
            LabelledWallets::new(graph.wallets(), &mut memory).ok_or(ExtractError::Memory { budget: MEMORY })?;
        for (wallet, kind) in labels {
            labelled.mark(*wallet, *kind);
        }
        let context = ExtractContext::new(&graph, None, &labelled, &histories, &mut Uninterrupted)?;
        let sufficiency = context.sufficiency;
        let contacts = ContactCounts::precompute(&context, &mut memory, &mut Uninterrupted)?;
        Ok(Self { graph, labelled, sufficiency, contacts, histories, extractor: Extractor::default() })
    }

    /// Returns the features of a wallet, or `None` if it has no counterparty.
    ///
    /// # Errors
    /// [`RiskError::Training`].
    pub(crate) fn extract(&mut self, wallet: WalletId) -> Result<Option<(FeatureRow, Coverage)>, RiskError> {
        let context = ExtractContext {
            graph: &self.graph,
            until: None,
            labelled: &self.labelled,
            sufficiency: self.sufficiency,
            histories: &self.histories,
        };
        Ok(self.extractor.extract(&context, wallet, &self.contacts, &mut Uninterrupted)?)
    }
}
