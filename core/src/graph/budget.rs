//! How far a search may go: cancellation, time, depth, wallets, and memory.

use crate::graph::error::SearchError;

/// The deepest search: on real graphs everything that can be reached is reached far earlier.
const MAX_DEPTH: i32 = 32;

/// Edges looked at between two looks at the interrupt: far under a millisecond.
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
    pub(in crate::graph) fn depth(&self) -> Result<u32, SearchError> {
        if (1..=MAX_DEPTH).contains(&self.max_depth) {
            Ok(self.max_depth.unsigned_abs())
        } else {
            Err(SearchError::Depth { depth: self.max_depth, limit: MAX_DEPTH })
        }
    }
}

/// What ends the look at a wallet's edges: a limit, or an error.
pub(in crate::graph) enum Stop {
    Halt(Halt),
    Error(SearchError),
}

impl Stop {
    /// The limit that ended a look, if one did.
    pub(in crate::graph) fn halt(looked: Result<(), Self>) -> Result<Option<Halt>, SearchError> {
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
pub(in crate::graph) struct Pace<'w, W> {
    interrupt: &'w mut W,
    steps: usize,
}

impl<'w, W: Interrupt> Pace<'w, W> {
    pub fn new(interrupt: &'w mut W) -> Self {
        // the first step looks: a search without time ends at once
        Self { interrupt, steps: EDGES }
    }

    /// After so many edges: whether the time is used up.
    #[inline]
    pub fn step(&mut self, edges: usize) -> Option<Halt> {
        self.steps += edges + 1;
        if self.steps < EDGES {
            return None;
        }
        self.steps = 0;
        self.interrupt.should_stop().then_some(Halt::Time)
    }

    pub fn interrupt(&mut self) -> &mut W {
        self.interrupt
    }
}

/// Why a search stopped before it had looked at everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Halt {
    /// As many wallets were found as were allowed.
    Wallets,
    /// The time allowed was used up.
    Time,
}

impl Halt {
    /// Its name in results: that of the limit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wallets => "max_nodes reached",
            Self::Time => "max_time reached",
        }
    }
}

/// Asked every few thousand steps whether to go on.
pub trait Interrupt {
    /// Does what must be done now and then (see to cancellation), and says whether the time allowed is used up.
    fn should_stop(&mut self) -> bool;
}

/// A watch that lets everything run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uninterrupted;

impl Interrupt for Uninterrupted {
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Counts bytes against a limit.
#[derive(Debug, Clone, Copy)]
pub struct MemoryBudget {
    limit: usize,
    used: usize,
}

impl MemoryBudget {
    /// At most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }

    /// Bytes allowed.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    /// Gives back what was booked.
    pub const fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Books bytes. `false` when that is more than allowed.
    pub const fn take(&mut self, bytes: usize) -> bool {
        self.used = self.used.saturating_add(bytes);
        self.used <= self.limit
    }
}
