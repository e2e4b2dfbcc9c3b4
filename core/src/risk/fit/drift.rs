//! Changes of band between an old and a new scorecard.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::FitError;
use crate::risk::scorecard::{Score, Scorecard};

/// Wallets that change from one band to another, or stay in one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandChange {
    /// Band by the old scorecard.
    pub from: String,
    /// Band by the new scorecard.
    pub to: String,
    /// Number of wallets.
    pub wallets: u64,
}

/// Counts the wallets of each pair of bands, given their scores by both scorecards in the same
/// order. Sorted by the bands of the old scorecard, then of the new one; without empty pairs. O(n
/// log bands).
///
/// # Errors
/// [`FitError::Shape`] when the lists differ in length.
pub fn drift(old: (&Scorecard, &[Score]), new: (&Scorecard, &[Score])) -> Result<Vec<BandChange>, FitError> {
    let (expected, found) = (old.1.len(), new.1.len());
    if expected != found {
        return Err(FitError::Shape { what: "new scores".to_owned(), expected, found });
    }
    let rank = |scorecard: &Scorecard, score: Score| {
        scorecard.bands().partition_point(|band| band.from <= score.points()).saturating_sub(1)
    };
    let mut moves: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for (before, after) in old.1.iter().zip(new.1) {
        *moves.entry((rank(old.0, *before), rank(new.0, *after))).or_default() += 1;
    }
    let name =
        |scorecard: &Scorecard, rank: usize| scorecard.bands().get(rank).map_or(String::new(), |b| b.band.clone());
    let moves = moves.into_iter().map(|((from, to), wallets)| BandChange {
        from: name(old.0, from),
        to: name(new.0, to),
        wallets,
    });
    Ok(moves.collect())
}

/// Counts the wallets that change to another band.
#[must_use]
pub fn changed_bands(moves: &[BandChange]) -> u64 {
    moves.iter().filter(|change| change.from != change.to).map(|change| change.wallets).sum()
}
