//! How far a search may go.

use super::error::SearchError;
use super::memory::MemoryBudget;
use super::search::{Halt, Watch};

/// The deepest search: on real graphs everything that can be reached is reached far earlier.
const MAX_DEPTH: i32 = 32;

/// Edges looked at between two looks at the watch: far under a millisecond.
const EDGES: usize = 1 << 13;

/// Limits of a search. Time is the watch's.
#[derive(Debug, Clone, Copy)]
pub struct SearchLimits {
    /// Hops from the source, 1 to 32.
    pub max_depth: i32,
    /// Wallets to be found, the source among them.
    pub max_wallets: Option<u64>,
    /// Memory for what is found.
    pub memory: MemoryBudget,
}

impl SearchLimits {
    /// Whether the depth is in range.
    ///
    /// # Errors
    /// [`SearchError::Depth`].
    pub fn check(&self) -> Result<(), SearchError> {
        self.depth().map(drop)
    }

    /// The depth, if it is in range.
    pub(super) fn depth(&self) -> Result<u32, SearchError> {
        if (1..=MAX_DEPTH).contains(&self.max_depth) {
            Ok(self.max_depth.unsigned_abs())
        } else {
            Err(SearchError::Depth { depth: self.max_depth, limit: MAX_DEPTH })
        }
    }
}

/// What ends the look at a wallet's edges: a limit, or an error.
pub(super) enum Stop {
    Halt(Halt),
    Error(SearchError),
}

impl Stop {
    /// The limit that ended a look, if one did.
    pub(super) fn halt(looked: Result<(), Self>) -> Result<Option<Halt>, SearchError> {
        match looked {
            Ok(()) => Ok(None),
            Err(Self::Halt(halt)) => Ok(Some(halt)),
            Err(Self::Error(error)) => Err(error),
        }
    }
}

impl<E: Into<SearchError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Looks at the watch now and then.
pub(super) struct Pace<'w, W> {
    watch: &'w mut W,
    steps: usize,
}

impl<'w, W: Watch> Pace<'w, W> {
    pub fn new(watch: &'w mut W) -> Self {
        // the first step looks: a search without time ends at once
        Self { watch, steps: EDGES }
    }

    /// After so many edges: whether the time is used up.
    #[inline]
    pub fn step(&mut self, edges: usize) -> Option<Halt> {
        self.steps += edges + 1;
        if self.steps < EDGES {
            return None;
        }
        self.steps = 0;
        self.watch.expired().then_some(Halt::Time)
    }

    pub fn watch(&mut self) -> &mut W {
        self.watch
    }
}
