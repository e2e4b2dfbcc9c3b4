//! Limits of a search: cancellation, time, depth, wallets, and memory.

use crate::graph::error::SearchError;

/// Maximum depth of a search. On real graphs everything that can be reached is reached far earlier.
const MAX_DEPTH: i32 = 32;

/// Edges processed between two cancellation checks; well under a millisecond.
const EDGES_PER_CHECK: usize = 1 << 13;

/// Limits of a search other than time, which is up to its [`Interrupt`].
#[derive(Debug, Clone, Copy)]
pub struct SearchLimits {
    /// Hops from the source, 1 to 32.
    pub max_depth: i32,
    /// Wallets that may be found, including the source.
    pub max_wallets: Option<u64>,
    /// Memory for the result.
    pub memory: MemoryBudget,
}

impl SearchLimits {
    /// Checks that the depth is in range.
    ///
    /// # Errors
    /// [`SearchError::Depth`].
    pub fn check(&self) -> Result<(), SearchError> {
        self.depth().map(drop)
    }

    pub(crate) fn depth(&self) -> Result<u32, SearchError> {
        if (1..=MAX_DEPTH).contains(&self.max_depth) {
            Ok(self.max_depth.unsigned_abs())
        } else {
            Err(SearchError::Depth { depth: self.max_depth, limit: MAX_DEPTH })
        }
    }
}

/// Reason for which a loop over edges ends early: a limit, or an error.
pub(crate) enum Stop {
    Halt(Halt),
    Error(SearchError),
}

impl Stop {
    /// Returns the limit, or the error.
    pub(in crate::graph) fn into_halt(self) -> Result<Halt, SearchError> {
        match self {
            Self::Halt(halt) => Ok(halt),
            Self::Error(error) => Err(error),
        }
    }

    /// Separates limits, which end a search early, from errors, which fail it.
    pub(crate) fn halt(result: Result<(), Self>) -> Result<Option<Halt>, SearchError> {
        match result {
            Ok(()) => Ok(None),
            Err(stop) => stop.into_halt().map(Some),
        }
    }
}

impl<E: Into<SearchError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Calls an [`Interrupt`] at the first step and then once every `STEPS` steps. A search without
/// time ends at once.
pub(crate) struct Pace<'w, W, const STEPS: usize = EDGES_PER_CHECK> {
    interrupt: &'w mut W,
    steps: usize,
}

impl<'w, W: Interrupt> Pace<'w, W> {
    /// Creates a pace that counts edges.
    pub(super) fn new(interrupt: &'w mut W) -> Self {
        Self::every(interrupt)
    }
}

impl<'w, W: Interrupt, const STEPS: usize> Pace<'w, W, STEPS> {
    pub(crate) fn every(interrupt: &'w mut W) -> Self {
        Self { interrupt, steps: STEPS }
    }

    /// Counts `steps` and one more; returns a halt once the time is used up.
    #[inline]
    pub(crate) fn step(&mut self, steps: usize) -> Option<Halt> {
        self.steps += steps + 1;
        if self.steps < STEPS {
            return None;
        }
        self.steps = 0;
        self.interrupt.should_stop().then_some(Halt::Time)
    }

    pub(crate) fn interrupt(&mut self) -> &mut W {
        self.interrupt
    }
}

/// Limit at which a search stopped before it had read everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Halt {
    /// The maximum number of wallets was found.
    Wallets,
    /// The allowed time was used up.
    Time,
}

impl Halt {
    /// Returns the reason that results give, named after the limit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wallets => "max_nodes reached",
            Self::Time => "max_time reached",
        }
    }
}

/// Cancellation and deadline check of a long computation, called every few thousand steps.
pub trait Interrupt {
    /// Handles pending cancellation, and returns whether the allowed time is used up.
    fn should_stop(&mut self) -> bool;
}

/// An interrupt that never stops anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uninterrupted;

impl Interrupt for Uninterrupted {
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Bytes booked against a limit.
#[derive(Debug, Clone, Copy)]
pub struct MemoryBudget {
    limit: usize,
    used: usize,
}

impl MemoryBudget {
    /// Allows `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }

    /// Returns the bytes allowed.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the bytes left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    /// Releases booked bytes.
    pub const fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Books bytes. Returns `false` if the limit is exceeded.
    pub const fn take(&mut self, bytes: usize) -> bool {
        self.used = self.used.saturating_add(bytes);
        self.used <= self.limit
    }
}
