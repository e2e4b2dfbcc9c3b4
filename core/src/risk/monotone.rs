//! The direction in which the points of a factor may change: a ground type of features, scorecards
//! and fits.

use serde::{Deserialize, Serialize};

/// Direction in which the points of a factor may change as its feature rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Monotone {
    /// Any direction.
    #[default]
    Free,
    /// Points never fall.
    Rising,
    /// Points never rise.
    Falling,
}

impl Monotone {
    /// Returns `true` when a step from one value to the next is allowed.
    #[must_use]
    pub fn allows<T: PartialOrd>(self, before: T, after: T) -> bool {
        match self {
            Self::Free => true,
            Self::Rising => before <= after,
            Self::Falling => before >= after,
        }
    }
}
